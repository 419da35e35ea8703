"""Where a controller's stacks come from: a folder that somebody else keeps up to date, or a branch in Git.

A checkout is there only while it is used, and only to be read. Nothing in a repository is run or obeyed: its files are
written here, straight from its objects, so that no hook, filter, attribute, submodule or link of it takes part.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

from reconciler.errors import ReconcilerError, SourceError, UsageError
from reconciler.files import MANIFEST_SUFFIXES, OVERLAYS, FileRefused, Tree
from reconciler.wording import shown

FRESH_S = 2.0  # looks within so long of each other ask the repository once
BYTES_MAX = 2 << 30
FILES_MAX = 50_000
SHORT = 12  # digits of a commit, where a person reads it

_RETRY_S = 30.0  # a repository that could not be reached is asked again after so long
_ASK_WITHIN_S, _FETCH_WITHIN_S = 30.0, 600.0
_PIECE = 1 << 20
_TRIES = 5  # somebody else may let go of a checkout that was made just now


@dataclass(frozen=True)
class Checkout:
    """What was declared at one moment: a folder, and the name of what it holds ("" where it has none)."""

    root: Path
    revision: str = ""


class Source(Protocol):
    """Raises SourceError where nothing can be had: that is never the same as an empty folder."""

    def checkout(self, revision: str = "", *, age_s: float = FRESH_S) -> AbstractContextManager[Checkout]:
        """What is declared now, as somebody saw it at most `age_s` ago; or what a revision declared."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder on this machine, as it is."""

    root: Path

    @contextmanager
    def checkout(self, revision: str = "", *, age_s: float = FRESH_S) -> Iterator[Checkout]:
        if not self.root.is_dir():
            raise SourceError(f"there is no folder {shown(str(self.root))}", hint="nothing is deleted because of that")
        yield Checkout(self.root)


# Which stacks there are ---------------------------------------------------------------------------------------------


def stacks(root: Path, patterns: Sequence[str], environments: Collection[str] = ()) -> tuple[str, ...]:
    """The folders that match a pattern and hold a manifest; with `environments` as FOLDER@NAME for each one it has.

    Never one outside the root, one behind a link, one that begins with a dot, or overlays. Raises FileRefused.
    """
    tree = Tree(root)
    beside = [f"{_below(pattern)}*{suffix}" for pattern in patterns for suffix in MANIFEST_SUFFIXES]
    folders = {PurePosixPath(path).parent for pattern in beside for path in tree.glob(pattern)}
    named = sorted(str(one) for one in folders if not any(_is_no_stack(part) for part in one.parts))
    if not environments:
        return tuple(named)
    return tuple(
        f"{folder}@{name}" for folder in named for name in _environments(root / folder) if name in environments
    )


def split(name: str, *, by_environment: bool) -> tuple[str, str]:
    """The folder and the environment that a name of `stacks` means."""
    folder, _, environment = name.rpartition("@") if by_environment else (name, "", "")
    return folder, environment


def _below(pattern: str) -> str:
    return "" if pattern == "." else f"{pattern.removesuffix('/')}/"


def _is_no_stack(name: str) -> bool:
    return name.startswith(".") or name == OVERLAYS


def _environments(folder: Path) -> tuple[str, ...]:
    try:
        return Tree(folder).environments()
    except FileRefused:  # a link: none that counts
        return ()


# Git ----------------------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"(?:[A-Za-z0-9._~-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!//)[^\s-][^\s]*")  # [USER@]HOST:PATH, by ssh
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")  # a program that git would run to speak to the far side
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_BRANCH = re.compile(r"^[-/.]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|/\.|[/.]$|\.lock(/|$)|^@$")
_SECRETS = ("DASHSCOPE_", "RECONCILER_", "ALIBABA_CLOUD_", "PGPASS")
_INHERITED = ("GIT_SSH", "GIT_SSL_", "GIT_ASKPASS", "GIT_CONFIG_", "GIT_EXEC_PATH", "GIT_HTTP_", "GIT_PROXY_")
_QUIET = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "fetch.unpackLimit=1",
)


def is_git(place: str) -> bool:
    """Whether a place means a repository, not a folder: it is a URL, or HOST:PATH where there is no such folder."""
    return "://" in place or bool(_HELPER.match(place)) or bool(_ADDRESS.fullmatch(place) and not Path(place).exists())


def shown_url(url: str) -> str:
    """A URL without what may be a secret in it."""
    return re.sub(r"(https?://)[^/\s@]*@", r"\1", url)


class _Polled(NamedTuple):
    """What the repository said last, and when: a commit, or why there is none."""

    at_s: float
    commit: str
    trouble: tuple[str, str] = ("", "")


class _File(NamedTuple):
    mode: bytes
    id: bytes
    size: int
    path: str


@dataclass
class Git:
    """A branch of a repository ("" for its own choice), whose checkouts lie in `folder`, one for each commit.

    `folder` is private to its owner; several processes may share it. `in_force` are the commits that stacks rest on:
    their checkouts stay, and the newest. git itself is run with the user's own access and settings, and never asks.
    """

    url: str
    branch: str
    folder: Path
    in_force: Callable[[], Collection[str]] = tuple
    stopped: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    bytes_max: int = BYTES_MAX
    files_max: int = FILES_MAX
    _polled: _Polled | None = None
    _polling: threading.Lock = field(default_factory=threading.Lock)
    _fetching: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """UsageError for a URL or a branch that git shall never see."""
        if problem := _problem(self.url):
            raise UsageError(f"the repository cannot be used: {problem}", hint="write https://HOST/PATH or ssh://…")
        if self.branch and _NO_BRANCH.search(self.branch):
            raise UsageError(f"{shown(self.branch)} is not the name of a branch")
        self.folder = self.folder.resolve()
        self.name = shown_url(self.url)

    @contextmanager
    def checkout(self, revision: str = "", *, age_s: float = FRESH_S) -> Iterator[Checkout]:
        try:
            commit = revision or self._newest(age_s)
            held = self._held(commit)
        except OSError as error:
            raise SourceError(f"{self.folder} cannot hold a checkout: {error.strerror}") from error
        try:
            yield Checkout(self.folder / commit, commit)
        finally:
            os.close(held)

    def _held(self, commit: str) -> int:
        """A lock on the checkout of a commit, made first where there is none."""
        if not _COMMIT.fullmatch(commit):
            raise SourceError(f"{shown(commit)} is no commit")
        root = self.folder / commit
        for _ in range(_TRIES):
            if (held := _hold(root, fcntl.LOCK_SH)) is not None:
                return held
            with self._fetching:
                if not root.is_dir():
                    self._fetch(commit)
        raise SourceError(f"the checkout {root} cannot be used: it cannot be locked")

    def _newest(self, age_s: float) -> str:
        """The commit that the branch names; why there is none is remembered for a while, so that nobody queues up."""
        with self._polling:
            known, now_s = self._polled, self.clock()
            if known is None or now_s - known.at_s > (age_s if known.commit else _RETRY_S):
                try:
                    known = _Polled(now_s, self._ask())
                except SourceError as error:
                    known = _Polled(now_s, "", (str(error), error.hint))
                self._polled = known
        if not known.commit:
            raise SourceError(known.trouble[0], hint=known.trouble[1])
        return known.commit

    def _ask(self) -> str:
        ref = f"refs/heads/{self.branch}" if self.branch else "HEAD"
        answer = self._git(["ls-remote", "--", self.url, ref], within_s=_ASK_WITHIN_S)
        for line in answer.decode("utf-8", "replace").splitlines():
            commit, _, name = line.partition("\t")
            if name == ref and _COMMIT.fullmatch(commit):
                return commit
        what = f"has no branch {shown(self.branch)}" if self.branch else "has no commit on its default branch"
        raise SourceError(f"{self.name} {what}", hint="nothing is deleted because of that")

    # A checkout of one commit ------------------------------------------------------------------------------------

    def _fetch(self, commit: str) -> None:
        """Make the folder of a commit, whole or not at all."""
        new = Path(tempfile.mkdtemp(prefix="new-", dir=self.folder))
        held = _hold(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            objects, root = ["--git-dir", str(new / "git")], new / "tree"
            kind = ["--object-format=sha256"] if len(commit) == 64 else []
            self._git(["init", "--quiet", "--bare", "--template=", *kind, "--", str(new / "git")])
            shallow = ["--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", self.url, commit]
            self._git([*objects, "fetch", *shallow], within_s=_FETCH_WITHIN_S, growing=new)
            root.mkdir(mode=0o700)
            self._write(objects, self._files(objects, commit, new), root)
            _appear(root, self.folder / commit)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            if held is not None:
                os.close(held)
        self._sweep(commit)

    def _files(self, objects: Sequence[str], commit: str, new: Path) -> list[_File]:
        """What the commit holds, submodules left out. Sizes are known here before a byte of it is written."""
        listing = ["ls-tree", "-r", "-l", "-z", "--full-tree", commit]
        found: list[_File] = []
        for entry in self._git([*objects, *listing], growing=new).split(b"\0")[:-1]:
            facts, _, path = entry.partition(b"\t")
            mode, kind, name, size = facts.split()
            if kind == b"blob":
                found.append(_File(mode, name, int(size), _checked(os.fsdecode(path))))
        total = sum(one.size for one in found)
        if len(found) > self.files_max or total > self.bytes_max:
            raise self._too_much(f"{len(found):,} files of {total:,} bytes")
        return found

    def _write(self, objects: Sequence[str], files: Sequence[_File], root: Path) -> None:
        """The files as the repository holds them, byte for byte, whatever its attributes ask for."""
        with tempfile.TemporaryFile(dir=root.parent) as asked, tempfile.TemporaryFile(dir=root.parent) as said:
            asked.write(b"".join(one.id + b"\n" for one in files))
            asked.seek(0)
            command = _command([*objects, "cat-file", "--batch"])
            with self._started(command, stdin=asked, stdout=subprocess.PIPE, stderr=said) as process:
                assert process.stdout is not None
                limit = threading.Timer(_FETCH_WITHIN_S, process.kill)
                limit.start()
                try:
                    for one in files:
                        self._write_one(one, root, process.stdout)  # type: ignore[arg-type]  # a buffered reader
                finally:
                    limit.cancel()
                    process.kill()

    def _write_one(self, one: _File, root: Path, contents: BinaryIO) -> None:
        if self.stopped():
            raise SourceError("stopped before the checkout was whole")
        path = root / one.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not contents.readline().endswith(b" blob %d\n" % one.size):
            raise SourceError(f"{self.name} cannot be read: {shown(one.path)} is missing from it")
        with _opened(path, one.mode) as file:
            left = one.size
            while left:
                piece = contents.read(min(left, _PIECE))
                if not piece:
                    raise SourceError(f"{self.name} cannot be read: {shown(one.path)} ends too early")
                file.write(piece)
                left -= len(piece)
        contents.read(1)

    def _sweep(self, commit: str) -> None:
        """Let go of every checkout that nobody uses, no stack rests on, and is not the newest."""
        try:
            kept = {commit, self._polled.commit if self._polled else "", *self.in_force()}
            old = [path for path in self.folder.iterdir() if path.name not in kept]
        except (OSError, ReconcilerError):
            return  # another time
        for path in old:
            _discard(path)

    # git ---------------------------------------------------------------------------------------------------------

    def _git(self, arguments: Sequence[str], *, within_s: float = _ASK_WITHIN_S, growing: Path | None = None) -> bytes:
        """What git says. SourceError where it fails, takes too long, or lets `growing` grow too big."""
        with tempfile.TemporaryFile(dir=self.folder) as out, tempfile.TemporaryFile(dir=self.folder) as err:
            with self._started(_command(arguments), stdin=subprocess.DEVNULL, stdout=out, stderr=err) as process:
                try:
                    self._watch(process, out, within_s, growing)
                finally:
                    _end(process)
            err.seek(0)
            if process.returncode:
                raise self._failed(err.read(10_000).decode("utf-8", "replace"))
            out.seek(0)
            return out.read()

    def _watch(self, process: subprocess.Popen[bytes], out: BinaryIO, within_s: float, growing: Path | None) -> None:
        until_s = time.monotonic() + within_s
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                return
            if self.stopped():
                raise SourceError(f"stopped while {self.name} was read")
            if time.monotonic() > until_s:
                raise SourceError(f"{self.name} gave no answer within {within_s:.0f} s")
            if growing and _size(growing) > self.bytes_max:
                raise self._too_much(f"more than {self.bytes_max:,} bytes")
            if os.fstat(out.fileno()).st_size > self.files_max * 400:
                raise self._too_much(f"more than {self.files_max:,} files")

    def _started(self, command: Sequence[str], **streams: object) -> subprocess.Popen[bytes]:
        """In a session of its own: it finds no terminal to ask at, and ends with all that it started."""
        try:
            return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # streams are Popen's own keywords
                command, cwd=self.folder, env=self._environment(), start_new_session=True, **streams
            )
        except FileNotFoundError as error:
            raise SourceError("git cannot be started", hint="install git, 2.30 or later") from error

    def _environment(self) -> dict[str, str]:
        """The user's, for ssh and credentials, without our secrets and without what names another repository."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_SECRETS) and (not name.startswith("GIT_") or name.startswith(_INHERITED))
        }
        return kept | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": _scheme(self.url) if _scheme(self.url) in ("file", "http") else "https:ssh",
            "GIT_CEILING_DIRECTORIES": str(self.folder.parent),  # no repository around us counts
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "LC_ALL": "C",
        }

    def _failed(self, said: str) -> SourceError:
        lines = [line.strip() for line in shown_url(said).splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
        why = (fatal or lines or ["git gave no reason"])[0].replace("fatal: ", "", 1)
        return SourceError(f"{self.name} cannot be read: {why[:300]}")

    def _too_much(self, found: str) -> SourceError:
        limits = f"{self.files_max:,} files of {self.bytes_max:,} bytes"
        return SourceError(
            f"{self.name} is too big: {found}, and the limit is {limits}", hint="a repository of its own"
        )


def _problem(url: str) -> str:
    """Why git shall not see this URL."""
    if url.startswith("-"):
        return "it begins with a dash"
    if not url.isprintable() or any(letter.isspace() for letter in url):
        return "it holds blanks or invisible characters"
    if _HELPER.match(url):
        return "it names a program to run"
    if "://" not in url:
        return "" if _ADDRESS.fullmatch(url) else "it is no URL"
    try:
        scheme, host = _scheme(url), urlsplit(url).hostname or ""
    except ValueError:
        return "it is no URL"
    if scheme not in ("https", "ssh", "file", "http"):
        return f"{shown(scheme)} is no protocol to trust"
    if scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
        return "http is for this computer only"
    if host.startswith("-") or (scheme != "file" and not host):
        return "it names no host"
    return ""


def _scheme(url: str) -> str:
    return url.partition("://")[0] if "://" in url else "ssh"


def _command(arguments: Sequence[str]) -> list[str]:
    return ["git", *(word for setting in _QUIET for word in ("-c", setting)), *arguments]


def _end(process: subprocess.Popen[bytes]) -> None:
    """With everything that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)


def _checked(path: str) -> str:
    """A path as git itself would take it; a tree can be made by hand that names others."""
    if any(part.lower() in ("", ".", "..", ".git") for part in path.split("/")):
        raise SourceError(f"the repository holds a path that no file may have: {shown(path)}")
    return path


def _opened(path: Path, mode: bytes) -> BinaryIO:
    """A new file; for a link one that leads nowhere, so that whoever opens it is told what it is."""
    if stat.S_ISLNK(int(mode, 8)):
        path.symlink_to("/dev/null/a link in the repository")
        return open(os.devnull, "wb")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb")


def _appear(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():  # else another process was faster
            raise


def _hold(folder: Path, how: int) -> int | None:
    """A lock on a folder, by its descriptor; None where it is gone, or somebody else's."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, how)
        if os.path.samestat(os.fstat(descriptor), os.stat(folder, follow_symlinks=False)):
            return descriptor
    os.close(descriptor)
    return None


def _discard(folder: Path) -> None:
    """Remove a checkout unless somebody uses it; nobody ever sees half of it."""
    held = _hold(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if held is not None:
        with suppress(OSError):
            old = folder.with_name(f"old-{uuid4().hex}")
            folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        os.close(held)


def _size(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total
