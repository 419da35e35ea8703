"""What is remembered of files: never wrong, never a row, and never needed. Time is a number here."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from reconciler import cache as module
from reconciler.cache import GRAIN_NS, Cache, Found
from reconciler.catalogue import load
from reconciler.data import describe
from reconciler.errors import Position
from reconciler.files import Tree
from reconciler.lengths import Lengths
from reconciler.resource import Checks, Content, Source

PROFILE = load().for_profile("2026")
LONG_AFTER = 1 << 62  # nanoseconds: every file was written long before


class Reads:
    """Counts how often files are opened by their author's names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[str] = []
        true = Tree.open

        def noted(tree: Tree, relative: str, *, limit_bytes: int):  # type: ignore[no-untyped-def]
            self.opened.append(relative)
            return true(tree, relative, limit_bytes=limit_bytes)

        monkeypatch.setattr(Tree, "open", noted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@dataclass
class Run:
    """One command after the other over the same files, each with a memory of its own."""

    root: Path
    now: int = LONG_AFTER
    said: list[str] = field(default_factory=list)

    def __call__(self, *patterns: str, validation: float | None = None, seed: int = 0) -> tuple[Content, ...]:
        cache = Cache(self.root, clock=lambda: self.now)
        source = Source(patterns or ("*.jsonl",), "cpt", ("source",), validation, seed)
        contents, problems, *_ = describe(Tree(self.root), source, PROFILE, cache=cache)
        cache.save()
        self.said = [str(problem) for problem in problems]
        return contents

    def write(self, name: str, *texts: str) -> None:
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
        (self.root / name).write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    one = Run(tmp_path)
    one.write("a.jsonl", *(f"row {number}" for number in range(40)))
    one.write("b.jsonl", *(f"row {number}" for number in range(20, 60)))
    return one


@pytest.mark.parametrize("validation", [None, 0.3])
def test_files_that_look_the_same_are_not_read_again(run: Run, reads: Reads, validation: float | None) -> None:
    first = run(validation=validation)
    assert reads.opened == ["a.jsonl", "b.jsonl"]
    assert run(validation=validation) == first
    assert reads.opened == ["a.jsonl", "b.jsonl"]


def touched(path: Path) -> None:
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))


def changed_in_place(path: Path) -> None:
    """The size stays, the time is set back: only the time of the inode's own change tells."""
    facts = path.stat()
    path.write_bytes(path.read_bytes().replace(b"row 3", b"row 4"))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def put_in_its_place(path: Path) -> None:
    facts = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().replace(b"row 3", b"row 4"))
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(path)


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"text": "one more"}\n')


@pytest.mark.parametrize("change", [touched, changed_in_place, put_in_its_place, grown], ids=lambda one: one.__name__)
@pytest.mark.parametrize("validation", [None, 0.3])
def test_whatever_was_done_to_a_file_it_is_read_again(
    run: Run, reads: Reads, change: Callable[[Path], None], validation: float | None
) -> None:
    before = run(validation=validation)
    change(run.root / "a.jsonl")
    reads.opened.clear()
    after = run(validation=validation)
    assert "a.jsonl" in reads.opened
    assert (after == before) == (change is touched)
    assert after == describe_anew(run.root, validation)


def describe_anew(root: Path, validation: float | None) -> tuple[Content, ...]:
    contents, problems, *_ = describe(Tree(root), Source(("*.jsonl",), "cpt", ("source",), validation, 0), PROFILE)
    assert problems == ()
    return contents


def test_another_way_to_read_them_reads_them_again(run: Run, reads: Reads) -> None:
    run(validation=0.3)
    for again in ({"validation": 0.3, "seed": 8}, {"validation": 0.31}, {"validation": None}):
        reads.opened.clear()
        run(**again)  # type: ignore[arg-type]
        assert reads.opened == ["a.jsonl", "b.jsonl"]


def test_a_file_more_is_no_longer_the_same_files(run: Run, reads: Reads) -> None:
    run()
    run.write("c.jsonl", "new")
    assert len(run()) == 3
    (run.root / "c.jsonl").unlink()
    reads.opened.clear()
    assert len(run()) == 2
    assert reads.opened == []


@pytest.mark.parametrize("set_back", [False, True])
def test_a_file_written_in_the_same_breath_is_read_again(run: Run, reads: Reads, set_back: bool) -> None:
    """Git's rule: within the grain of the clock one more change could leave it looking the same."""
    for name in ("a.jsonl", "b.jsonl") if set_back else ():
        os.utime(run.root / name, ns=(0, 0))
    written = max((run.root / name).stat().st_ctime_ns for name in ("a.jsonl", "b.jsonl"))
    for now, reads_again in ((written, True), (written + GRAIN_NS, True), (written + GRAIN_NS + 1, False)):
        run.now = now
        run()
        reads.opened.clear()
        run()
        assert bool(reads.opened) == reads_again


def test_a_file_that_changes_while_it_is_read_is_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Tree.open
    left = [b'{"text": "meanwhile"}\n']

    def meddled(tree: Tree, relative: str, *, limit_bytes: int):  # type: ignore[no-untyped-def]
        file = true(tree, relative, limit_bytes=limit_bytes)
        if left:
            with (run.root / "a.jsonl").open("ab") as other:
                other.write(left.pop())
        return file

    monkeypatch.setattr(Tree, "open", meddled)
    run()
    assert run() == describe_anew(run.root, None)


def test_the_clock_is_the_disks_own(tmp_path: Path) -> None:
    """Another machine's disk may be ahead or behind; a file made now is as new as any."""
    cache, path = Cache(tmp_path), tmp_path / "now"
    first = cache._disk_clock()
    path.touch()
    assert first <= path.stat().st_mtime_ns <= cache._disk_clock()
    assert [one.name for one in cache.folder.iterdir()] == [".gitignore"]


def test_a_mistake_is_told_until_it_is_mended(run: Run, reads: Reads) -> None:
    (run.root / "b.jsonl").write_text('{"text": "fine"}\n{"text": ""}\n')
    for _ in range(3):
        reads.opened.clear()
        assert [content.filename for content in run()] == ["a.jsonl"]
        assert len(run.said) == 1
        assert "b.jsonl" in reads.opened
    run.write("b.jsonl", "fine")
    assert len(run()) == 2
    assert run.said == []


def test_what_was_complete_and_not_sound_is_read_again(run: Run) -> None:
    """A mistake may be one that makes no upload impossible."""
    cache, asked = Cache(run.root, clock=lambda: LONG_AFTER), list[bool]()
    for sound in (False, True, True):

        def read(sound: bool = sound) -> Found:
            asked.append(sound)
            return Found((CONTENT,))

        cache.files(Tree(run.root), ["a.jsonl"], "way", read, sound=lambda sound=sound: sound)  # type: ignore[misc]
    assert asked == [False, True]


def test_what_is_unwise_is_told_again_without_reading(run: Run, reads: Reads) -> None:
    """Rows of `b` repeat those of `a`, at a place in a file; that they are few is said where the source is written."""
    source = Source(("*.jsonl",), "cpt", ("source",))
    told = []
    for line in (3, 3, 9):
        cache = Cache(run.root, clock=lambda: LONG_AFTER)
        found = describe(Tree(run.root), source, PROFILE, at=Position("stack.yaml", line, 1), cache=cache)
        cache.save()
        told.append(found.warnings)
    assert reads.opened == ["a.jsonl", "b.jsonl"]
    assert told[0] == told[1]
    assert [(one.rule, str(one.at)) for one in told[2]] == [
        ("duplicates", f"{run.root}/b.jsonl:1:1"),
        ("few-rows", "stack.yaml:9:1"),
    ]


def test_whatever_decides_what_is_said_of_rows_reads_them_again(
    run: Run, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.root)
    plain, limits = Source(("*.jsonl",), "cpt", ("source",)), replace(PROFILE.limits, file_bytes=1 << 20)
    ways = [
        (run.root, plain, PROFILE),
        (Path("."), plain, PROFILE),
        (run.root, plain._replace(checks=Checks(duplicates="ignore")), PROFILE),
        (run.root, plain, load().for_profile("dec-2024")),
        (run.root, plain, replace(PROFILE, limits=limits)),
    ]
    for again in (False, True):
        for root, source, profile in ways:
            reads.opened.clear()
            cache = Cache(run.root, clock=lambda: LONG_AFTER)
            found = describe(Tree(root), source, profile, cache=cache)
            cache.save()
            assert bool(reads.opened) != again
            assert found.warnings == describe(Tree(root), source, profile).warnings


def test_a_share_that_is_empty_is_told_again(run: Run) -> None:
    run.write("one.jsonl", "same", "same")
    for _ in range(2):
        assert run("one.jsonl", validation=0.5) == ()
        assert "leaves a share empty" in run.said[0]


def test_only_numbers_are_kept_and_only_for_the_owner(run: Run) -> None:
    run.write("a.jsonl", "a secret 厄洛替尼")
    run()
    lengths(Cache(run.root), [])
    folder = run.root / ".reconciler/cache"
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    kept = {path.name: path for path in folder.iterdir()}
    assert kept.pop(".gitignore").read_text() == "*\n"
    assert len(kept) == 2
    for path in kept.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"secret" not in path.read_bytes()
        assert "厄" not in path.read_text(encoding="utf-8")


CONTENT = Content("a.jsonl", ("a.jsonl",), 9, "0" * 32, rows=3)
COUNTED = Lengths(((2, 1), (5, 2)), 12, True)


def lengths(cache: Cache, asked: list[str], name: str = "qwen-1", content: Content = CONTENT) -> Lengths:
    def count() -> Lengths:
        asked.append(name)
        return COUNTED

    return cache.lengths(name, content, count)


def test_the_same_bytes_are_counted_once_by_each_vocabulary(tmp_path: Path) -> None:
    asked: list[str] = []
    for _ in range(2):
        for name in ("qwen-1", "qwen3.5-1"):
            assert lengths(Cache(tmp_path), asked, name) == COUNTED
    assert asked == ["qwen-1", "qwen3.5-1"]
    elsewhere = Content("b.jsonl", ("x/b.jsonl",), 9, "0" * 32, rows=3)
    assert lengths(Cache(tmp_path), asked, content=elsewhere) == COUNTED
    assert len(asked) == 2


def test_rows_in_common_are_counted_once_for_the_same_bytes(tmp_path: Path) -> None:
    asked: list[str] = []
    others = [Content(f"{name}.jsonl", (f"{name}.jsonl",), 9, name * 32, rows=3) for name in "12"]

    def in_common(others: list[Content]) -> int:
        def count() -> int:
            asked.append("")
            return 2

        return Cache(tmp_path).in_common(CONTENT, others, count)

    assert [in_common(others), in_common(others[::-1]), in_common(others[:1])] == [2, 2, 2]
    assert len(asked) == 2
    for path in Cache(tmp_path).folder.glob("common-*"):
        path.write_bytes(signed(b"4"))  # of three rows
    assert [in_common(others), in_common(others)] == [2, 2]
    assert len(asked) == 3


def signed(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


LIES = [
    b"",
    b"\0" * 200,
    b"not what it was\n{}",
    signed(b"{}"),
    signed(b'{"counts": [[2, 3]], "tokens": "6", "counted": true}'),
    signed(b'{"counts": [[2, 3]], "tokens": 6}'),
    signed(b'{"counts": [[2, 4]], "tokens": 8, "counted": true}'),  # of four rows, and the upload has three
    signed(b'{"counts": [[2, 4], [3, -1]], "tokens": 5, "counted": true}'),
    signed(b'{"counts": [[5, 1], [2, 2]], "tokens": 5, "counted": true}'),
    signed(b"[" * 100_000),
]


@pytest.mark.parametrize("lie", LIES)
def test_what_reads_oddly_is_counted_anew_and_mended(tmp_path: Path, lie: bytes) -> None:
    asked: list[str] = []
    lengths(Cache(tmp_path), asked)
    (path,) = (path for path in Cache(tmp_path).folder.iterdir() if path.name.startswith("qwen"))
    path.write_bytes(lie)
    assert lengths(Cache(tmp_path), asked) == COUNTED
    assert lengths(Cache(tmp_path), asked) == COUNTED
    assert len(asked) == 2


@pytest.mark.parametrize("lie", [*LIES, signed(b'{"edition": "another", "seen": {}}')])
def test_a_memory_that_reads_oddly_is_made_anew(run: Run, reads: Reads, lie: bytes) -> None:
    first = run()
    (run.root / ".reconciler/cache/files").write_bytes(lie)
    reads.opened.clear()
    assert run() == first
    assert reads.opened == ["a.jsonl", "b.jsonl"]
    assert run() == first
    assert len(reads.opened) == 2


def test_one_flipped_bit_is_noticed(run: Run, reads: Reads) -> None:
    """It could be a digit of a hash, and every upload would then be refused as changed."""
    first = run()
    path = run.root / ".reconciler/cache/files"
    data = bytearray(path.read_bytes())
    data[data.index(first[0].md5.encode())] ^= 1
    path.write_bytes(data)
    assert run() == first
    assert len(reads.opened) == 4


def test_another_edition_of_the_program_judges_for_itself(
    run: Run, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(module, "_edition", lambda: "the next one")
    run()
    assert len(reads.opened) == 4


def test_a_file_that_others_could_have_written_is_not_believed(tmp_path: Path) -> None:
    asked: list[str] = []
    lengths(Cache(tmp_path), asked)
    (path,) = (path for path in Cache(tmp_path).folder.iterdir() if path.name.startswith("qwen"))
    path.chmod(0o644)
    lengths(Cache(tmp_path), asked)
    assert len(asked) == 2
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    lengths(Cache(tmp_path), asked)
    assert len(asked) == 3
    assert not path.is_symlink()


def blocked_by_a_link(root: Path) -> None:
    (root / "away").mkdir()
    (root / ".reconciler").symlink_to(root / "away")


def blocked_by_a_file(root: Path) -> None:
    (root / ".reconciler").write_text("")


def open_to_all(root: Path) -> None:
    (root / ".reconciler").mkdir()
    (root / ".reconciler").chmod(0o777)


@pytest.mark.parametrize("block", [blocked_by_a_link, blocked_by_a_file, open_to_all], ids=lambda one: one.__name__)
def test_where_nothing_can_be_kept_it_is_only_slower(run: Run, reads: Reads, block: Callable[[Path], None]) -> None:
    block(run.root)
    before = sorted(run.root.rglob("*"))
    source, asked = Source(("*.jsonl",), "cpt", ("source",), None, 0), list[str]()
    for _ in range(2):
        cache = Cache(run.root)
        contents, problems, *_ = describe(Tree(run.root), source, PROFILE, cache=cache)
        lengths(cache, asked)
        cache.save()
        assert (len(contents), problems) == (2, ())
    assert len(asked) == 2
    assert sorted(run.root.rglob("*")) == before


def test_of_two_commands_at_once_neither_harms_the_other(run: Run, reads: Reads) -> None:
    """The later one wins; what the other had learnt is learnt again."""
    caches = [Cache(run.root, clock=lambda: LONG_AFTER) for _ in range(2)]
    for cache, name in zip(caches, ("a.jsonl", "b.jsonl"), strict=True):
        describe(Tree(run.root), Source((name,), "cpt", ("source",), None, 0), PROFILE, cache=cache)
    for cache in caches:
        cache.save()
    reads.opened.clear()
    run("b.jsonl")
    assert reads.opened == []
    run("a.jsonl")
    assert reads.opened == ["a.jsonl"]
    run("b.jsonl")
    assert reads.opened == ["a.jsonl"]


def test_what_is_kept_has_an_end(run: Run, monkeypatch: pytest.MonkeyPatch, reads: Reads) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    run("a.jsonl")
    run("b.jsonl")
    reads.opened.clear()
    run("b.jsonl")
    run("a.jsonl")
    assert reads.opened == ["a.jsonl"]
