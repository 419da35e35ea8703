"""Archives of images: what they claim is checked against what they hold, without unpacking anything."""

import io
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.archive import MAX_ENTRIES, archive_findings

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
ROW = {
    "messages": [
        {"role": "user", "content": [{"image": "a.png"}, {"text": "q"}]},
        {"role": "assistant", "content": [{"text": "a"}]},
    ]
}
ROWS = json.dumps(ROW).encode() + b"\n"
Files = dict[str, bytes]


def archive(files: Files, edit: Callable[[zipfile.ZipInfo], None] = lambda entry: None, comment: bytes = b"") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.comment = comment
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            edit(entry)
            made.writestr(entry, data)
    return target.getvalue()


GOOD = archive({"data.jsonl": ROWS, "images/a.png": PNG})


def found(data: bytes) -> list[str]:
    return [str(problem) for problem in archive_findings(io.BytesIO(data), "p.zip")]


def test_a_good_archive_passes_with_folders_stored_or_deflated() -> None:
    assert found(GOOD) == []
    assert found(archive({"data.jsonl": ROWS, "images/": b"", "images/a.png": PNG})) == []

    def store(entry: zipfile.ZipInfo) -> None:
        entry.compress_type = zipfile.ZIP_STORED

    assert found(archive({"a.png": PNG, "data.jsonl": ROWS}, store)) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.png": PNG}, "data.jsonl is missing"),
        ({"folder/data.jsonl": ROWS, "a.png": PNG}, "is neither data.jsonl at the top nor an image"),
        ({"data.jsonl": ROWS, "a.png": PNG, "run.sh": b"x"}, "'run.sh' is neither"),
        ({"data.jsonl": ROWS, "a.png": PNG, "x/a.png": PNG}, "2 files are called 'a.png'"),
        ({"data.jsonl": ROWS, "a.png": PNG, "x/A.PNG": PNG}, "2 files are called 'a.png'"),
        ({"data.jsonl": ROWS, "../a.png": PNG}, "'../a.png': names are of"),
        ({"data.jsonl": ROWS, "/a.png": PNG}, "'/a.png': names are of"),
        ({"data.jsonl": ROWS, "a.png": PNG, "图.png": PNG}, "names are of"),
        ({"data.jsonl": ROWS, "a.png": PNG, "__MACOSX/._a.png": PNG}, "names are of"),
        ({"data.jsonl": ROWS, "a.png": b"GIF89a"}, "'a.png' is not an image of that type"),
        ({"data.jsonl": ROWS, "b.png": PNG}, "names an image that is not in the archive"),
        ({"data.jsonl": ROWS + b"{}", "a.png": PNG}, "p.zip/data.jsonl:2:1  messages must be"),
        ({"data.jsonl": b"", "a.png": PNG}, "p.zip/data.jsonl:1:1  the file is empty"),
        ({"data.jsonl": ROWS, "a.png": PNG + b"x" * (10 << 20)}, "and the limit is 10,485,760"),
    ],
)
def test_layout_names_and_contents_are_checked(files: Files, said: str) -> None:
    assert any(said in finding for finding in found(archive(files))), found(archive(files))


def test_an_image_that_no_row_can_mean_is_placed_in_its_row() -> None:
    rows = ROWS + ROWS.replace(b"a.png", b"images/a.png")
    assert found(archive({"data.jsonl": rows, "images/a.png": PNG})) == [
        "p.zip/data.jsonl:2:1  messages[0].content[0] names an image that is not in the archive"
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a zip archive"),
        (b"x" * 100, "not a zip archive"),
        (GOOD + b"tail", "other data at its end"),
        (archive({"data.jsonl": ROWS, "a.png": PNG}, comment=b"hello"), "with a comment"),
        (b"#!/bin/sh\n" + GOOD, "other data before the archive"),
        (GOOD[: len(GOOD) // 2], "not a zip archive"),
    ],
)
def test_nothing_may_stand_around_the_archive(data: bytes, said: str) -> None:
    """What is two things at once is read as one by us and as the other by somebody else."""
    assert len(found(data)) == 1
    assert said in found(data)[0]


def test_links_encryption_and_rare_compression_are_refused() -> None:
    def link(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16

    def rare(entry: zipfile.ZipInfo) -> None:
        entry.compress_type = zipfile.ZIP_BZIP2

    encrypted = bytearray(GOOD)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.find(signature) + offset] |= 1
    assert "is a link" in found(archive({"data.jsonl": ROWS, "a.png": PNG}, link))[0]
    assert "use deflate" in found(archive({"data.jsonl": ROWS, "a.png": PNG}, rare))[0]
    assert "is encrypted" in found(bytes(encrypted))[0]


def test_a_local_header_that_says_something_else_is_refused() -> None:
    assert "two different things" in found(GOOD.replace(b"data.jsonl", b"evil.jsonl", 1))[0]


@pytest.mark.parametrize("claim", [1, -1, 1000])
def test_an_entry_that_lies_about_its_size_both_ways_is_refused(claim: int) -> None:
    """zipfile itself accepts an entry that is shorter than it says."""
    assert not found(_claiming(len(PNG)))
    assert found(_claiming(len(PNG) + claim))


def _claiming(size: int) -> bytes:
    """An archive whose picture claims `size` bytes, in both of its headers."""
    data = bytearray(archive({"data.jsonl": ROWS, "a.png": PNG}))
    local, central = data.rfind(b"PK\x03\x04"), data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, local + 22, size)
    struct.pack_into("<I", data, central + 24, size)
    return bytes(data)


def test_overlapping_entries_are_refused() -> None:
    """The quine-like bombs share one compressed stream among thousands of names."""
    data = bytearray(GOOD)
    first, second = data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    assert found(bytes(data))


def test_a_bomb_is_refused_by_what_it_claims_before_it_is_inflated() -> None:
    squeezed = zlib.compress(b"\0" * (11 << 20))
    assert len(squeezed) < 20_000
    bomb = archive(
        {"data.jsonl": ROWS, "a.png": PNG, **{f"b{number}.png": PNG + b"\0" * (11 << 20) for number in range(2)}}
    )
    assert all("and the limit is" in finding for finding in found(bomb))


def test_the_number_of_entries_is_bounded_before_the_directory_is_read() -> None:
    data = bytearray(GOOD)
    struct.pack_into("<HH", data, len(data) - 14, MAX_ENTRIES + 1, MAX_ENTRIES + 1)
    assert "files, and the limit is 50,000" in found(bytes(data))[0]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_damage_makes_it_raise(edits: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in edits:
        data[place] = value
    assert all(finding.isprintable() for finding in found(bytes(data)))
