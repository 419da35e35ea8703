"""Files to uploads: nothing lost, nothing twice, the same bytes for ever, and a changed file never sent."""

import hashlib
import json
import shutil
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.catalogue import load
from reconciler.data import Described, are_apart, describe, guess_format, rows_in_common, stream
from reconciler.errors import Position
from reconciler.files import FileRefused, Tree
from reconciler.resource import Checks, Content, Share, Source

PROFILE = load().for_profile("2026")
LIMITS = PROFILE.limits
AT = Position("stack.yaml", 7, 3)


def row(text: str) -> bytes:
    return json.dumps({"text": text}, ensure_ascii=False).encode()


def source(*patterns: str, format: str = "cpt", validation: float | None = None, seed: int = 0) -> Source:
    return Source(patterns, format, ("source",), validation, seed)


def contents(root: Path, wanted: Source) -> list[Content]:
    found = describe(Tree(root), wanted, PROFILE, at=AT)
    assert found.problems == ()
    return list(found.contents)


def problems(root: Path, wanted: Source) -> list[str]:
    said = describe(Tree(root), wanted, PROFILE, at=AT).problems
    assert said
    return [str(problem) for problem in said]


def sent(root: Path, content: Content) -> bytes:
    return b"".join(stream(Tree(root), content))


def test_unsplit_each_file_is_one_upload_of_its_own_bytes(tmp_path: Path) -> None:
    data = row("a" * 8) + b"\r\n" + row("你好")  # no line end at the end: nothing is added to it
    (tmp_path / "b.jsonl").write_bytes(data)
    (tmp_path / "a.jsonl").write_bytes(row("x") + b"\n")
    first, second = contents(tmp_path, source("*.jsonl", "b.jsonl"))
    assert (first.filename, first.paths, first.rows) == ("a.jsonl", ("a.jsonl",), 1)
    assert second == Content("b.jsonl", ("b.jsonl",), len(data), hashlib.md5(data).hexdigest(), rows=2, tokens=4)
    assert sent(tmp_path, second) == data


def test_files_of_one_name_are_uploaded_under_different_ones(tmp_path: Path) -> None:
    for name in ("x/a.jsonl", "y/a.jsonl", "x-a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(row(name))
    names = [content.filename for content in contents(tmp_path, source("**/*.jsonl"))]
    assert len(set(names)) == 3
    assert "x-a.jsonl" in names


lines = st.lists(st.sampled_from([row(str(number)) for number in range(60)]), min_size=1, max_size=120)


@settings(max_examples=60, deadline=None)
@given(lines, st.floats(0.05, 0.95), st.integers(0, 2**31 - 1), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_a_split_loses_nothing_and_keeps_identical_rows_together(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], validation: float, seed: int, end: bytes, closed: bool
) -> None:
    root = tmp_path_factory.mktemp("split")
    (root / "b.jsonl").write_bytes(end.join(rows[::2]) + (end if closed else b""))
    (root / "a.jsonl").write_bytes(end.join(rows[1::2] or rows[:1]) + end)
    found, said, *_ = describe(Tree(root), source("*.jsonl", validation=validation, seed=seed), PROFILE)
    if said:
        assert "empty" in str(said[0])
        return
    train, rest = (sent(root, content).splitlines(keepends=True) for content in found)
    everything = [line.rstrip(b"\r\n") + b"\n" for name in ("a", "b") for line in (root / f"{name}.jsonl").open("rb")]
    assert Counter(train) + Counter(rest) == Counter(everything)
    assert not set(train) & set(rest)
    assert train == [line for line in everything if line in set(train)]  # in path order
    for content, part in zip(found, (train, rest), strict=True):
        assert content.rows == len(part)
        assert content.size == sum(map(len, part))


def test_a_split_is_named_and_marked_so_that_it_can_be_cut_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(row(str(number)) + b"\n" for number in range(1000)))
    train, rest = contents(tmp_path, source("a.jsonl", validation=0.2, seed=7))
    assert (train.filename, rest.filename) == ("a.train.jsonl", "a.validation.jsonl")
    assert rest.share == Share("validation", 0.2, 7)
    assert 150 < (rest.rows or 0) < 250


def test_the_hash_behind_a_split_is_published_behaviour(tmp_path: Path) -> None:
    """Another hash would turn every split data set in the world into a new one, and every job into a new purchase."""
    (tmp_path / "a.jsonl").write_bytes(b"".join(row(str(number)) + b"\n" for number in range(20)))
    rest = contents(tmp_path, source("a.jsonl", validation=0.25, seed=7))[1]
    assert [int(json.loads(line)["text"]) for line in sent(tmp_path, rest).splitlines()] == [2, 6, 9, 10, 11, 15, 16]
    other = contents(tmp_path, source("a.jsonl", validation=0.25, seed=8))[1]
    assert other.md5 != rest.md5


def test_an_added_row_moves_no_other(tmp_path: Path) -> None:
    rows = [row(str(number)) + b"\n" for number in range(200)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(rows))
    before = [
        set(sent(tmp_path, content).splitlines()) for content in contents(tmp_path, source("a.jsonl", validation=0.3))
    ]
    (tmp_path / "a.jsonl").write_bytes(row("new") + b"\n" + b"".join(rows))
    after = [
        set(sent(tmp_path, content).splitlines()) for content in contents(tmp_path, source("a.jsonl", validation=0.3))
    ]
    assert all(old <= new for old, new in zip(before, after, strict=True))


def test_an_empty_share_is_refused_and_explained(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes((row("same") + b"\n") * 1050)
    said = problems(tmp_path, source("a.jsonl", validation=0.2))
    assert len(said) == 1
    assert "leaves a share empty" in said[0]
    assert "1,050 rows hold 1 different" in said[0]


def is_whole(root: Path, content: Content) -> bool:
    """Whether the upload is still what was described; if not, that it stops short of being complete."""
    passed, refusal = b"", ""
    try:
        for chunk in stream(Tree(root), content):
            passed += chunk
    except FileRefused as error:
        refusal = str(error)
    assert (len(passed) < content.size) == ("changed since the plan" in refusal)
    assert refusal or hashlib.md5(passed).hexdigest() == content.md5
    return not refusal


@pytest.mark.parametrize("validation", [None, 0.5])
def test_what_changed_since_it_was_described_never_becomes_a_whole_upload(
    tmp_path: Path, validation: float | None
) -> None:
    rows = [row(str(number)) for number in range(50)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(rows))
    planned = contents(tmp_path, source("a.jsonl", validation=validation))
    for changed in (rows[:-1], [*rows, *rows], rows[::-1], [row(str(number)) for number in range(1, 51)], []):
        path.write_bytes(b"\n".join(changed))
        assert not all(is_whole(tmp_path, content) for content in planned)
    path.unlink()
    with pytest.raises(FileRefused):
        sent(tmp_path, planned[0])


def test_large_files_come_in_chunks(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(row(f"{number}" * 200) + b"\n" for number in range(6000)))
    for wanted in (source("a.jsonl"), source("a.jsonl", validation=0.2)):
        content = contents(tmp_path, wanted)[0]
        chunks = list(stream(Tree(tmp_path), content))
        assert len(chunks) > 2
        assert max(map(len, chunks)) < 2 << 20
        assert hashlib.md5(b"".join(chunks)).hexdigest() == content.md5


def test_a_pattern_without_a_file_and_a_misspelt_name_are_told_at_the_place_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "support.jsonl").write_bytes(row("a"))
    assert problems(tmp_path, source("data/suport.jsonl")) == [
        "stack.yaml:7:3  'data/suport.jsonl': there is no such file (did you mean data/support.jsonl?)"
    ]
    assert problems(tmp_path, source("*.jsonl", "../x.jsonl", "data/*.txt")) == [
        "stack.yaml:7:3  '*.jsonl' names no file",
        "stack.yaml:7:3  'data/*.txt' names no file",
        "stack.yaml:7:3  '../x.jsonl': a path must stay below the project root, without ..",
    ]


def test_mistakes_in_rows_are_told_at_their_own_place_and_all_files_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(row("a") + b"\n\n")
    (tmp_path / "b.jsonl").write_bytes(b"{}\n")
    (tmp_path / "c.jsonl").write_bytes(row("c"))
    found, said, *_ = describe(Tree(tmp_path), source("*.jsonl"), PROFILE, at=AT)
    assert [content.filename for content in found] == ["c.jsonl"]
    assert [str(problem.at) for problem in said] == [f"{tmp_path}/a.jsonl:2:1", f"{tmp_path}/b.jsonl:1:1"]
    assert describe(Tree(tmp_path), source("*.jsonl", validation=0.5), PROFILE).contents == ()


def test_limits_and_suffixes_of_the_service_hold(tmp_path: Path) -> None:
    with (tmp_path / "big.jsonl").open("wb") as file:
        file.truncate(LIMITS.file_bytes + 1)
    (tmp_path / "a.json").write_bytes(row("a"))
    assert "too big: 314,572,801 bytes" in problems(tmp_path, source("big.jsonl"))[0]
    assert "is a .jsonl file" in problems(tmp_path, source("a.json"))[0]
    assert "is a .zip file" in problems(tmp_path, source("big.jsonl", format="sft-image"))[0]


def test_an_archive_is_not_split(tmp_path: Path) -> None:
    assert "cannot be split" in problems(tmp_path, source("a.zip", format="sft-image", validation=0.5))[0]


def chat(question: str, answer: str) -> bytes:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False).encode() + b"\n"


def linted(root: Path, rows: list[bytes], checks: Checks = Checks(), format: str = "sft") -> Described:  # noqa: B008
    (root / "a.jsonl").write_bytes(b"".join(rows))
    return describe(Tree(root), Source(("a.jsonl",), format, ("source",), checks=checks), PROFILE, at=AT)


def test_rows_that_repeat_others_are_told_with_the_first_and_what_it_repeats(tmp_path: Path) -> None:
    rows = [chat(f"q{number}", "a") for number in range(1000)]
    found = linted(tmp_path, [*rows, rows[4], rows[4]])
    assert [str(warning) for warning in found.warnings] == [
        f"{tmp_path}/a.jsonl:1001:1  2 of 1,002 rows repeat an earlier one, here line 5: 1,000 are different"
        " (each is paid for, and learnt by heart)"
    ]
    assert found.contents
    assert linted(tmp_path, [*rows, rows[4]], Checks(duplicates="ignore")).warnings == ()
    refused = linted(tmp_path, [*rows, rows[4]], Checks(duplicates="error"))
    assert [problem.rule for problem in refused.problems] == ["duplicates"]


def test_rows_of_other_files_are_compared_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(row("x") + b"\n")
    repeated = describe(Tree(tmp_path), source("*.jsonl"), PROFILE).lint.repeated
    assert repeated.places == ((f"{tmp_path}/b.jsonl", 1, 1), (f"{tmp_path}/a.jsonl", 1, 1))


@pytest.mark.parametrize(
    ("one", "other"), [("Hello, you!", "hello you"), ("你好，世界。", "你好世界!"), ("a b", "a  b")]
)
def test_case_spaces_and_marks_make_no_other_row(tmp_path: Path, one: str, other: str) -> None:
    rows = [chat(f"q{number}", "a") for number in range(98)]
    found = linted(tmp_path, [*rows, chat(one, "a"), chat(other, "a")], Checks(min_rows=1))
    assert [warning.rule for warning in found.warnings] == ["near-duplicates"]
    assert (found.lint.repeated.rows, found.lint.alike.rows) == (0, 1)
    assert linted(tmp_path, [*rows, chat(one, "a"), chat(one + "x", "a")], Checks(min_rows=1)).warnings == ()


def test_one_near_duplicate_in_more_than_a_hundred_rows_is_chance_unless_it_is_called_an_error(tmp_path: Path) -> None:
    rows = [*(chat(f"q{number}", "a") for number in range(1100)), chat("Q1", "a")]
    assert linted(tmp_path, rows).warnings == ()
    assert len(linted(tmp_path, rows, Checks(near_duplicates="error")).problems) == 1
    assert linted(tmp_path, rows[:3] + rows[-1:], Checks(near_duplicates="ignore", min_rows=1)).warnings == ()


@pytest.mark.parametrize(("format", "least"), [("sft", 1000), ("dpo", 100)])
def test_fewer_rows_than_advised_are_a_warning_and_fewer_than_wanted_an_error(
    tmp_path: Path, format: str, least: int
) -> None:
    rows = [chat(f"q{number}", "a") for number in range(least)]
    if format == "dpo":
        answers = '"chosen": {"role": "assistant", "content": "a"}, "rejected": {"role": "assistant", "content": "b"}'
        rows = [f'{{"messages": [{{"role": "user", "content": "q{n}"}}], {answers}}}\n'.encode() for n in range(least)]
    assert linted(tmp_path, rows, format=format).warnings == ()
    warning = linted(tmp_path, rows[1:], format=format).warnings[0]
    assert (warning.rule, warning.at) == ("few-rows", AT)
    assert f"{least - 1:,} rows, and {least:,} or more are advised" in str(warning)
    assert linted(tmp_path, rows[1:], Checks(min_rows=least - 1), format).warnings == ()
    wanted = linted(tmp_path, rows, Checks(min_rows=least + 1), format)
    assert "lint.minRows wants" in str(wanted.problems[0])


def test_a_census_counts_lengths_scripts_thoughts_and_labels(tmp_path: Path) -> None:
    rows = [chat(f"this is review {number}", "好" if number % 4 else "bad") for number in range(100)]
    lint = linted(tmp_path, rows).lint
    assert (lint.rows, lint.scripts, lint.labels) == (100, {"Chinese": 75, "Latin": 25}, {"好": 75, "bad": 25})
    assert lint.characters.total == 10 * 16 + 90 * 17 + 75 + 25 * 3
    assert lint.characters.longest == 20
    assert lint.characters.below == {32: 100}
    thought = linted(
        tmp_path, [chat("q", "<think>\nx\n</think>\n\ny" + "long" * 20), chat("q", "ひらがな"), chat("q", "한글")]
    )
    assert (thought.lint.thoughts, thought.lint.labels) == (1, {})
    assert thought.lint.scripts == {"Latin": 1, "Japanese": 1, "Korean": 1}


def test_no_more_rows_are_remembered_than_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays the same for a file of any length; repeats of the rows remembered are still found."""
    monkeypatch.setattr("reconciler.lint.MAX_REMEMBERED", 10)
    rows = [chat(f"q{number}", "a") for number in range(30)]
    lint = linted(tmp_path, rows + rows).lint
    assert (lint.complete, lint.repeated.rows) == (False, 10)
    assert "at least 10 of 60 rows" in str(linted(tmp_path, rows + rows).warnings[0])


def test_an_archive_counts_its_rows_and_not_its_tokens(tmp_path: Path) -> None:
    """What a picture costs nobody knows, so the price stays unknown rather than too low."""
    shutil.copy(Path(__file__).parent.parent / "manifests/quickstart/data/shapes.zip", tmp_path / "a.zip")
    content = contents(tmp_path, source("a.zip", format="sft-image"))[0]
    data = (tmp_path / "a.zip").read_bytes()
    assert (content.rows, content.tokens, content.size) == (40, None, len(data))
    assert content.md5 == hashlib.md5(data).hexdigest()


def test_rows_in_common_are_counted_and_shares_of_one_split_have_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(row(str(number)) + b"\r\n" for number in range(200)))
    (tmp_path / "b.jsonl").write_bytes(b"".join(row(str(number)) + b"\n" for number in range(190, 300)))
    train, rest = contents(tmp_path, source("a.jsonl", validation=0.3))
    (whole,) = contents(tmp_path, source("b.jsonl"))
    assert (are_apart(rest, train), are_apart(rest, rest), are_apart(rest, whole)) == (True, False, False)
    assert rows_in_common(Tree(tmp_path), rest, [train]) == 0
    assert sum(rows_in_common(Tree(tmp_path), share, [whole]) for share in (train, rest)) == 10


def test_rows_of_archives_are_compared_too(tmp_path: Path) -> None:
    """An archive that was packed anew is another upload of the same rows."""
    shapes = (Path(__file__).parent.parent / "manifests/quickstart/data/shapes.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(shapes)
    with zipfile.ZipFile(tmp_path / "a.zip") as old, zipfile.ZipFile(tmp_path / "b.zip", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    one, other = contents(tmp_path, source("*.zip", format="sft-image"))
    assert one.digest != other.digest
    assert rows_in_common(Tree(tmp_path), one, [other]) == 40
    (tmp_path / "b.zip").write_bytes(shapes[:-1])
    with pytest.raises(FileRefused, match="changed since the plan"):
        rows_in_common(Tree(tmp_path), one, [other])


def test_rows_that_changed_since_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(row("a") + b"\n")
    (content,) = contents(tmp_path, source("a.jsonl"))
    (tmp_path / "a.jsonl").write_bytes(row("b") + b"\n")
    with pytest.raises(FileRefused, match="changed since the plan"):
        rows_in_common(Tree(tmp_path), content, [content])


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (chat("q", "a"), "sft"),
        (b"x\n" + row("a"), "cpt"),
        (b'{"messages": [], "rejected": 4}', "dpo"),
        (b"{}", None),
        (b"", None),
    ],
)
def test_a_format_is_guessed_from_the_first_rows_that_tell_one(tmp_path: Path, data: bytes, format: str | None) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    assert guess_format(Tree(tmp_path), "a.jsonl", PROFILE) == format


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        for number in range(1000, 1400):
            file.write(row(f"{number}" * 12_000) + b"\n")
    wanted = source("a.jsonl", validation=0.2)
    tracemalloc.start()
    found = contents(tmp_path, wanted)
    for content in found:
        for _ in stream(Tree(tmp_path), content):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(content.size for content in found) > 18_000_000
    assert peak < 8_000_000
