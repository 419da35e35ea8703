"""The only opener of the author's files: a path that a manifest names becomes an open file here, or a refusal.

Promises that nothing outside the project root is ever opened, whatever a name, a link or a race tries, and that nothing
but a regular file of a bounded size is read. It knows nothing of what the files hold. POSIX only: it walks by folder
descriptors.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from reconciler.errors import ReconcilerError
from reconciler.wording import shown

MAX_ENTRIES = 200_000
MAX_DEPTH = 32
MAX_PATH_LENGTH = 1_000
MANIFEST_SUFFIXES = (".yaml", ".yml")
OVERLAYS = "envs"  # a folder of this name holds overlays of environments, never manifests of its own

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not hold us up before fstat names it


class FileRefused(ReconcilerError):
    """A file that will not be read. `reason` never quotes what the file holds."""

    def __init__(self, path: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{shown(path)}: {reason}", hint=hint)
        self.path, self.reason = path, reason


class FileMissing(FileRefused):
    """There is no such file."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "there is no such file")


class Stamp(NamedTuple):
    """How a file looks from outside. It is the same for the same bytes, and for those of one moment."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Stamp:
        return cls(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


Stamps = Mapping[str, Stamp]
"""By path; that of a folder, whose stamp moves with every name in it, ends in `/`."""

_NOTES: ContextVar[dict[str, Stamp] | None] = ContextVar("notes", default=None)


@contextmanager
def noting() -> Iterator[Stamps]:
    """How each file and folder looked, before it was read, that this thread reads inside the block."""
    notes: dict[str, Stamp] = {}
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def still_look(stamps: Stamps) -> bool:
    """Whether all these look as they were noted: what was read of them would then be found again."""
    try:
        return all(Stamp.of(os.lstat(path)) == stamp for path, stamp in stamps.items())
    except OSError:
        return False


def _note(facts: Callable[[], os.stat_result], root: Path, *names: str) -> None:
    """Keeps the first look of a path, where somebody notes them: `facts` are asked for only then."""
    notes = _NOTES.get()
    if notes is not None and (path := os.path.join(root, *names)) not in notes:
        notes[path] = Stamp.of(facts())


@dataclass(frozen=True)
class Tree:
    """All the files below one folder, by paths relative to it and written with `/`.

    Links are refused, also those that would stay inside.
    """

    root: Path

    def display(self, relative: str) -> str:
        """The path as the user would type it."""
        return str(self.root / relative)

    def open(self, relative: str, *, limit_bytes: int) -> BinaryIO:
        """A regular file of at most `limit_bytes`, or FileRefused. The file that was checked is the one returned."""
        *folders, name = _components(relative)
        folder = self._open_folder(folders, relative)
        try:
            descriptor = _open_at(folder, name, _FILE, relative)
        finally:
            os.close(folder)
        file = _regular(descriptor, relative, limit_bytes)
        _note(partial(os.fstat, descriptor), self.root, relative)
        return file

    def stamp(self, relative: str) -> Stamp:
        """How a regular file looks, without opening it, or FileRefused."""
        *folders, name = _components(relative)
        folder = self._open_folder(folders, relative)
        try:
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError as error:
            raise FileMissing(relative) from error
        except OSError as error:
            raise FileRefused(relative, _says(error)) from error
        finally:
            os.close(folder)
        if not stat.S_ISREG(facts.st_mode):
            raise FileRefused(relative, "is not a regular file")
        _note(lambda: facts, self.root, relative)
        return Stamp.of(facts)

    def read(self, relative: str, *, limit_bytes: int) -> bytes:
        """The whole of a small file; one that grows while it is read is refused too."""
        with self.open(relative, limit_bytes=limit_bytes) as file:
            data = file.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise _too_big(relative, len(data), limit_bytes)
        return data

    def create(self, relative: str, chunks: Iterable[bytes], *, mode: int = 0o600) -> None:
        """A new file, with the folders on the way to it; what is there already is never written over.

        Where the chunks do not come to their end, nothing is left of it.
        """
        *folders, name = _components(relative)
        folder = self._make_folders(folders, relative)
        try:
            try:
                descriptor = os.open(name, _NEW, mode, dir_fd=folder)
            except FileExistsError as error:
                raise FileRefused(relative, "is there already, and nothing is written over") from error
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.writelines(chunks)
            except BaseException:
                os.unlink(name, dir_fd=folder)
                raise
        except OSError as error:
            raise FileRefused(relative, f"cannot be written: {error.strerror or type(error).__name__}") from error
        finally:
            os.close(folder)

    def remove(self, relative: str) -> None:
        """Takes away a file that `create` made; one that is gone already is no mistake."""
        *folders, name = _components(relative)
        with suppress(FileNotFoundError, FileMissing):
            folder = self._open_folder(folders, relative)
            try:
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(folder)

    def _make_folders(self, folders: Iterable[str], relative: str) -> int:
        """The descriptor of a folder below the root that is made where it is not there."""
        descriptor = self._open_folder((), relative)
        for name in folders:
            outer = descriptor
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=outer)
                descriptor = _open_at(outer, name, _FOLDER, relative)
            except OSError as error:
                raise FileRefused(relative, f"cannot be written: {error.strerror or 'OSError'}") from error
            finally:
                os.close(outer)
        return descriptor

    def glob(self, pattern: str) -> tuple[str, ...]:
        """The paths that match, sorted. Nothing is opened but folders, and no link to one is followed.

        `*` and `?` stay within a name and never match a leading dot; `**` alone stands for any number of folders.
        Links, pipes and the like are listed: opening them then says what is wrong, where silence would leave data out.
        """
        return tuple(sorted(self._walk(_selector(_components(pattern)), pattern)))

    def manifests(self) -> tuple[str, ...]:
        """The paths of all YAML files, sorted; folders that begin with a dot and those named `envs` are left out."""
        return tuple(sorted(self._walk(_MANIFESTS, str(self.root))))

    def environments(self) -> tuple[str, ...]:
        """The names of the folders in `envs`, sorted."""
        with suppress(FileMissing):
            entries = self._entries((OVERLAYS,))
            return tuple(sorted(name for name, is_folder in entries if is_folder and not name.startswith(".")))
        return ()

    def overlays(self, environment: str) -> tuple[str, ...]:
        """The paths of all YAML files of an environment, sorted."""
        start = (OVERLAYS, environment)
        return tuple(sorted(self._walk(_MANIFESTS, self.display("/".join(start)), start)))

    def _walk(self, wanted: _Selector, pattern: str, start: tuple[str, ...] = ()) -> Iterator[str]:
        """Every wanted file, folder by folder; each folder is opened anew from the root, so few are open at a time."""
        budget = MAX_ENTRIES
        pending = [start]
        while pending:
            parts = pending.pop()
            for name, is_folder in self._entries(parts):
                budget -= 1
                if budget < 0:
                    raise FileRefused(pattern, f"more than {MAX_ENTRIES:,} files and folders to look through")
                path = (*parts, name)
                if not is_folder:
                    if wanted.file(path):
                        yield "/".join(path)
                elif wanted.folder(path):
                    if len(path) > MAX_DEPTH:
                        raise FileRefused(pattern, f"more than {MAX_DEPTH} folders deep")
                    pending.append(path)

    def _entries(self, folders: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
        """The names in a folder, each with whether it is itself a folder; a link is not one, whatever it leads to."""
        descriptor = self._open_folder(folders, "/".join(folders))
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield entry.name, entry.is_dir(follow_symlinks=False)
        finally:
            os.close(descriptor)

    def _open_folder(self, folders: Iterable[str], relative: str) -> int:
        """The descriptor of a folder below the root, reached name by name."""
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FileRefused(str(self.root), _says(error)) from error
        reached = ""
        _note(partial(os.fstat, descriptor), self.root, reached)
        for name in folders:
            outer, reached = descriptor, f"{reached}{name}/"
            try:
                descriptor = _open_at(outer, name, _FOLDER, relative)
            finally:
                os.close(outer)
            _note(partial(os.fstat, descriptor), self.root, reached)
        return descriptor


def check_pattern(pattern: str) -> None:
    """FileRefused for what `Tree.glob` refuses wherever it looks."""
    _selector(_components(pattern))


class Manifest(NamedTuple):
    """One manifest file found under a `-f` path: where it lies, and how the user would type it."""

    tree: Tree
    relative: str

    @property
    def display(self) -> str:
        return self.tree.display(self.relative)

    @property
    def folder(self) -> Path:
        return (self.tree.root / self.relative).parent


def find_manifests(path: str) -> tuple[Manifest, ...]:
    """The manifests a `-f` path stands for: the file itself, or every YAML file below the folder.

    The path itself is the operator's own word and may lead through links up to its last name.
    """
    given = Path(path)
    if given.is_dir():
        tree = Tree(given)
        return tuple(Manifest(tree, name) for name in tree.manifests())
    if not given.exists():
        raise FileMissing(path)
    return (Manifest(Tree(given.parent), given.name),)


# Opening ------------------------------------------------------------------------------------------------------------


def _components(relative: str) -> tuple[str, ...]:
    """The names a path consists of; anything that could lead out of the root, or look as if, is refused."""
    refused = partial(FileRefused, relative)
    if len(relative) > MAX_PATH_LENGTH:
        raise refused(f"a path of more than {MAX_PATH_LENGTH:,} characters")
    if not _is_name(relative):
        encoding = sys.getfilesystemencoding()
        way_out = "rename it" if encoding == "utf-8" else "PYTHONUTF8=1 makes them UTF-8, and so does a locale of UTF-8"
        raise refused(f"file names are {encoding} here, and this is none", hint=way_out)
    if not relative.isprintable() or not relative:
        raise refused("a path is empty or holds invisible characters")
    if "://" in relative:
        raise refused("a URL: only files below the project root are read")
    if relative.startswith(("/", "~")) or "\\" in relative or re.match(r"[A-Za-z]:", relative):
        raise refused("a path must be relative to the project root, and written with /")
    parts = tuple(relative.split("/"))
    if ".." in parts:
        raise refused("a path must stay below the project root, without ..")
    if "" in parts or "." in parts:
        raise refused("a path is written without // and ./ and does not end with /")
    if len(parts) > MAX_DEPTH:
        raise refused(f"more than {MAX_DEPTH} folders deep")
    return parts


def _is_name(path: str) -> bool:
    """Whether it is text that the encoding of file names can hold."""
    try:
        os.fsencode(path)
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open_at(folder: int, name: str, flags: int, relative: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError as error:
        raise FileMissing(relative) from error
    except OSError as error:
        if _is_link(folder, name):
            raise FileRefused(relative, "is or passes through a link, and links are not followed") from error
        raise FileRefused(relative, _says(error)) from error


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _regular(descriptor: int, relative: str, limit_bytes: int) -> BinaryIO:
    """An open file over the descriptor, once `fstat` on that very descriptor agrees."""
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            raise FileRefused(relative, "is a folder", hint=f"{relative}/* names the files in it")
        if not stat.S_ISREG(facts.st_mode):
            raise FileRefused(relative, "is not a regular file")
        if facts.st_size > limit_bytes:
            raise _too_big(relative, facts.st_size, limit_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _too_big(relative: str, size: int, limit_bytes: int) -> FileRefused:
    return FileRefused(relative, f"is too big: {size:,} bytes, and the limit is {limit_bytes:,}")


def _says(error: OSError) -> str:
    """The operating system's reason, without the paths it would repeat."""
    return f"cannot be read: {error.strerror or type(error).__name__}"


# Matching -----------------------------------------------------------------------------------------------------------


class _Selector(NamedTuple):
    """Which files a walk returns and which folders it enters, each given as the names on its path."""

    file: Callable[[tuple[str, ...]], bool]
    folder: Callable[[tuple[str, ...]], bool]


def _selector(pattern: tuple[str, ...]) -> _Selector:
    """A walk that enters only folders that can still lead to a match."""
    if any("**" in part and part != "**" for part in pattern):
        raise FileRefused("/".join(pattern), "** stands alone between two /")
    anchored = pattern.index("**") if "**" in pattern else len(pattern) - 1
    name = pattern[-1] if pattern[-1] != "**" else "*"

    def is_wanted(path: tuple[str, ...]) -> bool:
        return _name_fits(path[-1], name) and _fits(path, pattern, "**", _name_fits)

    def leads_on(path: tuple[str, ...]) -> bool:
        if len(path) <= anchored:
            return _name_fits(path[-1], pattern[len(path) - 1])
        return "**" in pattern and not path[-1].startswith(".")

    return _Selector(is_wanted, leads_on)


def _name_fits(name: str, pattern: str) -> bool:
    hidden = name.startswith(".") and not pattern.startswith(".")
    return not hidden and _fits(name, pattern, "*", lambda letter, wanted: wanted in ("?", letter))


def _fits(items: Sequence[str], pattern: Sequence[str], star: str, fits_one: Callable[[str, str], bool]) -> bool:
    """Whether items match a pattern in which `star` stands for any number of them.

    Only the last star is ever reconsidered, so that no pattern takes more than len(items) x len(pattern) steps; the
    regular expressions usually made of such patterns can take exponentially many.
    """
    item = wanted = 0
    last_star, resume = -1, 0
    while item < len(items):
        if wanted < len(pattern) and pattern[wanted] == star:
            last_star, resume = wanted, item
            wanted += 1
        elif wanted < len(pattern) and fits_one(items[item], pattern[wanted]):
            item, wanted = item + 1, wanted + 1
        elif last_star >= 0:
            resume += 1
            item, wanted = resume, last_star + 1
        else:
            return False
    return all(rest == star for rest in pattern[wanted:])


def _is_manifest(path: tuple[str, ...]) -> bool:
    return path[-1].endswith(MANIFEST_SUFFIXES) and not path[-1].startswith(".")


def _holds_manifests(path: tuple[str, ...]) -> bool:
    return path[-1] != OVERLAYS and not path[-1].startswith(".")


_MANIFESTS = _Selector(_is_manifest, _holds_manifests)
