"""What earlier commands learnt of the author's files: what manifests say, what data that has not changed comes to, and
what was counted by content.

Manifests as JSON; of data numbers, hashes, paths and warnings, never a row. Losing any of it costs time and nothing
else: what cannot be read, or reads oddly, is as if it were not there, and what cannot be written is left out. Commands
may share it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache as once
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from reconciler.errors import Problem
from reconciler.files import FileRefused, Stamp, Tree
from reconciler.lengths import Lengths
from reconciler.resource import Content
from reconciler.yamltext import Piece, Pieces

MAX_ENTRIES = 20_000
MAX_BYTES = 64 << 20
GRAIN_NS = 2 * 10**9  # the coarsest clock of a file system still in use

_Read = TypeVar("_Read")


class Found(NamedTuple):
    """What some files come to, and what is unwise in them."""

    contents: tuple[Content, ...]
    warnings: tuple[Problem, ...] = ()


class Seen(NamedTuple):
    """What some files came to, and how they looked at the time."""

    stamps: tuple[Stamp, ...]
    found: Found

    @property
    def paths(self) -> set[str]:
        return {path for content in self.found.contents for path in content.paths}


@dataclass(frozen=True)
class Memory:
    """All that is kept of files. Another edition of this program might judge them otherwise, so it begins anew."""

    edition: str
    seen: dict[str, Seen]


@dataclass(frozen=True)
class Said:
    """What documents of manifests say, in the order of their use; by an edition that might read them otherwise."""

    edition: str
    pieces: dict[str, Piece]


class Cache:
    """The folder `.reconciler/cache` of a project. `clock` gives the time of its disk, in nanoseconds."""

    def __init__(self, root: Path, *, clock: Callable[[], int] | None = None) -> None:
        self.folder = root / ".reconciler" / "cache"
        self._clock = clock or self._disk_clock
        self._known: dict[str, Seen] | None = None
        self._fresh: dict[str, Seen] = {}
        self._began: int | None = None
        self._lengths: dict[str, Lengths] = {}  # many jobs may learn from the same

    # Files that have not changed --------------------------------------------------------------------------------

    def files(
        self, tree: Tree, paths: Sequence[str], way: str, read: Callable[[], Found], *, sound: Callable[[], bool]
    ) -> Found:
        """What `read` makes of these files; not asked again while they all look the same. `way` is all else it asks.

        What was then not `sound` is never remembered, so that a mistake is told until it is mended. Nor is what changed
        so lately that one more change could leave it looking the same: git's rule for its index.
        """
        before, key = _stamps(tree, paths), hashlib.sha256(repr((way, *paths)).encode()).hexdigest()
        known = self._seen.get(key)
        if before and known and known.stamps == before and known.paths == set(paths):
            return known.found
        began = self._start()
        found = read()
        if before and began and sound() and _settled(before, began):
            self._seen[key] = self._fresh[key] = Seen(before, found)
        return found

    def save(self) -> None:
        """Writes what was learnt of files, unless nothing was. Of two commands that end together, one is forgotten."""
        if self._fresh:
            kept = {key: seen for key, seen in self._seen.items() if key not in self._fresh} | self._fresh
            newest = dict([*kept.items()][-MAX_ENTRIES:])
            self._write("files", _memories().dump_json(Memory(_edition(), newest)))
            self._fresh = {}

    @property
    def _seen(self) -> dict[str, Seen]:
        if self._known is None:
            memory = self._read("files", _memories())
            self._known = memory.seen if memory and memory.edition == _edition() else {}
        return self._known

    def _start(self) -> int | None:
        """The time before anything is read, None where nothing could be kept anyway."""
        if self._began is None:
            with contextlib.suppress(OSError):
                self._began = self._clock()
        return self._began

    def _disk_clock(self) -> int:
        """By a file made now: only the disk's own clock can be compared with the times it gives to files."""
        self._make()
        with self._new() as (path, descriptor):
            made = os.fstat(descriptor).st_mtime_ns
            path.unlink()
        return made

    # Manifests by content ---------------------------------------------------------------------------------------

    @cached_property
    def pieces(self) -> Pieces:
        """What is known of documents of manifests, by the digest of their bytes."""
        said = self._read("manifests", _said())
        return said.pieces if said and said.edition == _edition() else {}

    def keep(self, read: Pieces) -> None:
        """Writes what a project consists of, unless it is known. Some that was, and was not read now, is kept too: it
        may be that of an environment, or of another commit.
        """
        if not read.keys() <= self.pieces.keys():
            others = [digest for digest in self.pieces if digest not in read][-len(read) :]
            kept = {digest: self.pieces[digest] for digest in others} | read
            self._write("manifests", _said().dump_json(Said(_edition(), kept)))

    # Counts by content ------------------------------------------------------------------------------------------

    def lengths(self, name: str, content: Content, count: Callable[[], Lengths]) -> Lengths:
        """The lengths of an upload; `name` says who counted. The same bytes are counted once, wherever they lie."""
        name = f"{name}-{content.digest}"
        if name not in self._lengths:
            found = self._read(name, _lengths())
            if not found or not found.is_sound or found.rows != content.rows:
                found = count()
                self._write(name, _lengths().dump_json(found))
            self._lengths[name] = found
        return self._lengths[name]

    def in_common(self, content: Content, others: Iterable[Content], count: Callable[[], int]) -> int:
        """How many rows of an upload are also in the others; counted once for the same bytes."""
        which = repr((content.digest, sorted({other.digest for other in others})))
        name = f"common-{hashlib.sha256(which.encode()).hexdigest()}"
        found = self._read(name, _numbers())
        if found is None or not 0 <= found <= (content.rows or 0):
            found = count()
            self._write(name, _numbers().dump_json(found))
        return found

    # The folder -------------------------------------------------------------------------------------------------

    def _read(self, name: str, shape: TypeAdapter[_Read]) -> _Read | None:
        """None where there is no such file, somebody else could have written it, or it is not as it was written."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode) or not _is_private(facts) or facts.st_size > MAX_BYTES:
                    return None
                digest, _, data = file.read(MAX_BYTES).partition(b"\n")
            return shape.validate_json(data, strict=True) if digest == _digest(data) else None
        except (OSError, ValidationError):
            return None

    def _write(self, name: str, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._make()
            with self._new() as (path, descriptor):
                with os.fdopen(os.dup(descriptor), "wb") as file:
                    file.write(_digest(data) + b"\n" + data)
                path.replace(self.folder / name)

    def _make(self) -> None:
        """For its owner alone, and never committed; OSError where it is another's."""
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            facts = folder.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_mode & 0o022 or facts.st_uid != os.geteuid():
                raise PermissionError(f"{folder} is a link, or others may write to it")
        ignore = self.folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    @contextlib.contextmanager
    def _new(self) -> Iterator[tuple[Path, int]]:
        """A file of a name that nobody else has; whatever happens, none of that name stays."""
        path = self.folder / f"new-{os.urandom(8).hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)


def _stamps(tree: Tree, paths: Sequence[str]) -> tuple[Stamp, ...]:
    """How all the files look; none of them where one has no look."""
    try:
        return tuple(tree.stamp(path) for path in paths)
    except FileRefused:
        return ()


def _settled(stamps: Sequence[Stamp], began: int) -> bool:
    """Whether any change since would show in the times of the files."""
    return all(max(one.mtime_ns, one.ctime_ns) + GRAIN_NS < began for one in stamps)


def _is_private(facts: os.stat_result) -> bool:
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o077


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


@once
def _memories() -> TypeAdapter[Memory]:
    return TypeAdapter(Memory)


@once
def _said() -> TypeAdapter[Said]:
    return TypeAdapter(Said)


@once
def _lengths() -> TypeAdapter[Lengths]:
    return TypeAdapter(Lengths)


@once
def _numbers() -> TypeAdapter[int]:
    return TypeAdapter(int)


@once
def _edition() -> str:
    """This very build of the program: its modules, as they lie on the disk."""
    looks = sorted((path.name, facts.st_size, facts.st_mtime_ns) for path, facts in _modules())
    return hashlib.sha256(repr(looks).encode()).hexdigest()


def _modules() -> Iterator[tuple[Path, os.stat_result]]:
    return ((path, path.stat()) for path in Path(__file__).parent.glob("*.py"))
