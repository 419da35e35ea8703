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

from reconciler.archive import MAX_ENTRIES, read_archive
from reconciler.findings import Findings


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"picture"


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, -height) + bytes(24)


def jpeg(width: int, height: int) -> bytes:
    start = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(10)
    return start + b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + bytes(20)


def tiff(width: int, height: int) -> bytes:
    entries = struct.pack("<HHHIIHHII", 2, 256, 4, 1, width, 257, 4, 1, height)
    return b"II*\0" + struct.pack("<I", 8) + entries + bytes(4)


def webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + size + bytes(8)


IMAGES = {"bmp": bmp, "jpeg": jpeg, "jpg": jpeg, "png": png, "tif": tiff, "tiff": tiff, "webp": webp}
PNG = png(4, 4)
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


def looked_at(data: bytes, profile: str = "2026") -> tuple[Findings, Findings]:
    archive, rows = Findings("p.zip", profile), Findings("p.zip/data.jsonl", profile)
    for _ in read_archive(io.BytesIO(data), archive, rows):
        pass
    return archive, rows


def found(data: bytes) -> list[str]:
    return [str(problem) for findings in looked_at(data) for problem in findings.problems]


def warned(data: bytes, profile: str = "2026") -> list[str]:
    return [str(problem) for findings in looked_at(data, profile) for problem in findings.warnings]


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
        ({"data.jsonl": ROWS, "../a.png": PNG}, "'../a.png' leads out of the archive"),
        ({"data.jsonl": ROWS, "/a.png": PNG}, "'/a.png' leads out of the archive"),
        ({"data.jsonl": ROWS, "a.png": PNG, "图.png": PNG}, "names are of"),
        ({"data.jsonl": ROWS, "a.png": PNG, "__MACOSX/._a.png": PNG}, "names are of"),
        ({"data.jsonl": ROWS, "a.png": b"GIF89a"}, "'a.png' is not an image of that type"),
        ({"data.jsonl": ROWS, "b.png": PNG}, "'a.png' is not in the archive"),
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
        "p.zip/data.jsonl:2:54  'images/a.png' is not in the archive (without its folder: 'a.png')"
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


@pytest.mark.parametrize("suffix", IMAGES)
def test_pixels_are_read_from_the_header_of_each_type(suffix: str) -> None:
    """The service takes 1,024 a side (contract §7.2), and nobody decodes a picture to find out."""
    rows = ROWS.replace(b"a.png", f"a.{suffix}".encode())
    picture = IMAGES[suffix]
    assert found(archive({"data.jsonl": rows, f"a.{suffix}": picture(1024, 1024)})) == []
    for width, height in ((1025, 4), (4, 1025)):
        said = found(archive({"data.jsonl": rows, f"a.{suffix}": picture(width, height)}))
        assert said == [
            f"p.zip:1:1  'a.{suffix}' has {width:,} x {height:,} pixels, and the limit is 1,024 a side"
            " (make it smaller)"
        ]
    other = IMAGES["png" if suffix != "png" else "bmp"]
    assert "is not an image of that type" in found(archive({"data.jsonl": rows, f"a.{suffix}": other(4, 4)}))[0]
    assert "is not an image of that type" in found(archive({"data.jsonl": rows, f"a.{suffix}": picture(4, 4)[:12]}))[0]


def test_an_image_that_no_row_names_is_a_warning() -> None:
    files = {"data.jsonl": ROWS, "a.png": PNG, "b.png": PNG, "c.png": PNG}
    assert found(archive(files)) == []
    assert warned(archive(files)) == ["p.zip:1:1  'b.png' is named by no row, and 1 more like it"]


def test_what_the_pages_of_2024_do_not_say_is_a_warning_there() -> None:
    files = {"data.jsonl": ROWS, "images/a.png": png(2000, 4), "b c.png": PNG}
    archive_of_2024, rows = looked_at(archive(files), "dec-2024")
    assert (archive_of_2024.problems, rows.problems) == ((), ())
    assert [problem.rule for problem in archive_of_2024.warnings] == [
        "zip-name", "zip-folder", "image-pixels", "image-unused"
    ]  # fmt: skip
    assert any("names are of" in finding for finding in found(archive(files)))


def test_a_wrapper_folder_is_named_for_what_it_is() -> None:
    said = found(archive({"x/data.jsonl": ROWS, "x/a.png": PNG}))
    assert any("missing at the top of the archive (pack without the folder)" in finding for finding in said)


def test_names_in_the_old_code_page_are_compared_as_they_are_spelt() -> None:
    """Programs on Windows write names without the mark of UTF-8; that is a name to be changed, not a lie."""
    data = archive({"data.jsonl": ROWS, "a.png": PNG, "é.png": PNG})
    old = bytearray(data.replace("é".encode(), b"\x82x"))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", old, old.rfind(signature) + offset, 0)
    assert ["two different things" in finding for finding in found(bytes(old))] == [False]


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


def test_a_bomb_of_many_small_files_is_refused_by_its_ratio() -> None:
    files = {f"b{number}.png": PNG + bytes(9 << 20) for number in range(9)}
    said = found(archive({"data.jsonl": ROWS, "a.png": PNG, **files}))
    assert len(said) == 1
    assert "more than 200 to one" in said[0]


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
