"""The state in one SQLite file: for one machine, and for everybody who starts.

Rollback journal and `synchronous=EXTRA`. A new file appears in one step, so that one without content is never ours and
cannot pass for an empty state. What a killed process left half done is undone by whoever comes next.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.clock import boottime
from reconciler.errors import StateCorrupt, StateError, StateLocked, StateMismatch
from reconciler.state import Stamp
from reconciler.store import SCHEMA, TABLES, Database, Header, Lock, Store

BALLAST_BYTES = 256 * 1024
OVERRIDE = "RECONCILER_STATE_ON_NETWORK_DRIVE"
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"})  # the last: a table is missing
_NETWORK = frozenset(
    "9p afs afp ceph cifs davfs fuse.rclone fuse.s3fs fuse.sshfs glusterfs lustre nfs nfs4 smb2 smb3 smbfs".split()
)
_STAMP_TO_NAME = "json_extract(value, '$.stack') || '/' || json_extract(value, '$.environment')"
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        *(f"{table} strict" for table in TABLES),
        f"insert into states select {_STAMP_TO_NAME}, value, lower(hex(randomblob(16))),"
        " (select cast(value as integer) from meta where key = 'epoch'), 0, '', '', 0 from meta where key = 'stamp'",
        "insert into records select (select name from states), 'owned', key, body, '' from owned",
        "insert into records select (select name from states), 'intent', op_id, body, '' from intents",
        "drop table meta",
        "drop table owned",
        "drop table intents",
    )
}
"""From each version to the next."""


class SqliteStore(Store):
    """A state file. Its folder also holds the lock of the newest lease, a copy of the state before it, and ballast."""

    def __init__(
        self, path: Path, stamp: Stamp, *, clock: Callable[[], float] = boottime, mounts: Path = Path("/proc/mounts")
    ) -> None:
        super().__init__(stamp, clock=clock)
        self.path, self.where, self.rescue, self._mounts = path, str(path), path.with_suffix(".rescue"), mounts
        self.backup, self.ballast = path.with_suffix(".backup"), path.with_suffix(".ballast")

    # Reading and writing ----------------------------------------------------------------------------------------

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(f"the state file {self.path} cannot be used: {error.strerror}") from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in _DAMAGED:
                raise self._corrupt() from error
            raise StateError(f"the state file {self.path} cannot be used: {error}") from error

    @contextmanager
    def _reading(self) -> Iterator[Database | None]:
        if not self.path.exists():
            yield None
            return
        with self._opened() as db:
            db.execute("begin")
            if self._version(db) == SCHEMA:
                yield _statements(db)
                return
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
                db.backup(copy)
                _migrate(copy, self._version(copy))
                yield _statements(copy)

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        with self._opened() as db, _transaction(db):
            yield _statements(db)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The existing file, known to be ours.

        Readers open it for writing too: what a killed process left half done can only then be undone by SQLite.
        """
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)) as db:
            self._version(db)
            yield db

    def _version(self, db: sqlite3.Connection) -> int:
        (version,) = db.execute("pragma user_version").fetchone()
        if version == 0:
            raise self._corrupt()
        if version > SCHEMA:
            raise StateError(
                f"{self.path} has state version {version}, this program reads {SCHEMA}",
                hint="use the program that wrote it, or a newer one",
            )
        return int(version)

    def _header(self, db: Database) -> Header | None:
        """A file holds one state: a line of another name is another stack's, and no line at all is no state."""
        rows = db("select * from states")
        if len(rows) != 1:
            raise self._corrupt()
        header = Header(*rows[0])
        self._check_stamp(header.stamp)
        if header.name != self.name:
            raise StateMismatch(f"the state in {self.path} belongs to stack {header.name}")
        return header

    # Making -----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._refuse_network_drive()
        if not self.path.exists():
            self._create()
        else:
            self._keep_copy()
        with self._opened() as db:
            if self._version(db) < SCHEMA:
                with _transaction(db):
                    _migrate(db, self._version(db))
        self._keep_ballast()

    def _create(self) -> None:
        unfinished = self.path.with_suffix(f".new-{os.getpid()}")
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as db, _transaction(db):
            for table in TABLES:
                db.execute(f"{table} strict")
            self._begin(_statements(db))
            db.execute(f"pragma user_version={SCHEMA}")
        with suppress(FileExistsError):  # somebody else was as new here, and quicker
            os.link(unfinished, self.path)
        unfinished.unlink()
        _sync(self.path.parent)

    def _keep_copy(self) -> None:
        """The state as it was before this lease, taken by SQLite: a file that is copied while it changes is none."""
        unfinished = self.backup.with_suffix(f".backup-{os.getpid()}")
        os.close(os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            with self._opened() as db, closing(sqlite3.connect(unfinished)) as copy:
                db.backup(copy)
            if not _good(unfinished):
                raise self._corrupt()
            unfinished.replace(self.backup)
        finally:
            unfinished.unlink(missing_ok=True)

    def copied_at(self) -> datetime | None:
        try:
            return datetime.fromtimestamp(self.backup.stat().st_mtime, UTC)
        except OSError:
            return None

    def _keep_ballast(self) -> None:
        if not self.ballast.exists():
            with suppress(OSError):  # a disk that is full already has no room to keep aside
                file = os.open(self.ballast, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                try:
                    os.write(file, b"\0" * BALLAST_BYTES)
                finally:
                    os.close(file)

    def _make_room(self) -> None:
        with suppress(OSError):
            self.ballast.unlink(missing_ok=True)

    def _refuse_network_drive(self) -> None:
        kind = _file_system(self.path.parent.resolve(), self._mounts)
        if kind in _NETWORK and os.environ.get(OVERRIDE) != "1":
            raise StateError(
                f"{self.path} lies on a network drive ({kind}), where locks and writes cannot be relied on",
                hint=f"keep it on a local disk or in PostgreSQL; {OVERRIDE}=1 uses it all the same",
            )

    def set_aside(self) -> tuple[str, ...]:
        """The file with what SQLite keeps beside it: a journal left behind would be played into the next file."""
        for lock in self.path.parent.glob(f"{self.path.stem}.lock-*"):
            epoch = lock.suffix.removeprefix(".lock-")
            with self._usable(), ExitStack() as tried:
                if epoch.isdecimal() and not self._locked(tried, int(epoch)):
                    raise StateLocked("a process that still runs", "before the state was damaged")
        label = f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        moved = []
        with self._usable():
            for path in (self.path, Path(f"{self.path}-journal"), self.rescue):
                with suppress(FileNotFoundError):
                    path.rename(aside := Path(f"{path}{label}"))
                    moved.append(str(aside))
            _sync(self.path.parent)
        return tuple(moved)

    def _corrupt(self) -> StateCorrupt:
        good = f"{self.backup} is a good one, from before the last run: " if _good(self.backup) else ""
        return StateCorrupt(
            f"{self.path} is not a state file, or it is damaged",
            hint=f"{good}put a backup in its place, or run `reconciler state rebuild` without it; never delete it"
            " while objects it records are live",
        )

    # Locks ------------------------------------------------------------------------------------------------------

    def _grab(self, epoch: int) -> Lock | None:
        """An OS lock on a file of that epoch's own, so that a holder which is merely asleep can be passed by."""
        path = self.path.with_suffix(f".lock-{epoch}")
        while True:
            lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return None
            if _is_at(lock, path):
                return _FileLock(lock, path)
            os.close(lock)  # its last holder removed it while we waited for it


class _FileLock:
    """Removed by whoever holds it, and by nobody else: no other process then takes it for free."""

    def __init__(self, lock: int, path: Path) -> None:
        self._lock, self._path = lock, path

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._lock)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block, durably, or nothing of it: a connection that is closed before the commit forgets."""
    db.execute("pragma journal_mode=delete")
    db.execute("pragma synchronous=extra")
    db.execute("begin immediate")
    yield
    db.execute("commit")


def _statements(db: sqlite3.Connection) -> Database:
    def execute(statement: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        return db.execute(statement, values).fetchall()

    return execute


def _migrate(db: sqlite3.Connection, version: int) -> None:
    for step in range(version, SCHEMA):
        for statement in _MIGRATIONS[step]:
            db.execute(statement)
    db.execute(f"pragma user_version={SCHEMA}")


def _good(path: Path) -> bool:
    """Whether a file can be used as a state, as far as SQLite can tell."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            (version,) = db.execute("pragma user_version").fetchone()
            return 0 < int(version) <= SCHEMA and bool(db.execute("pragma integrity_check").fetchone() == ("ok",))
    except (sqlite3.Error, OSError):
        return False


def stamped(path: Path) -> SqliteStore | None:
    """A state file as the one that it says it is, for looking at it; None where there is none."""
    anybodys = SqliteStore(path, Stamp("", "", ""))
    with anybodys._usable(), anybodys._reading() as db:
        if db is None:
            return None
        rows = db("select stamp from states")
    try:
        return SqliteStore(path, Stamp(**json.loads(rows[0][0])))
    except (IndexError, ValueError, TypeError):
        raise anybodys._corrupt() from None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_system(folder: Path, mounts: Path) -> str:
    """The type of the file system that a folder is on; "" where the platform does not say."""
    try:
        entries = [line.split(" ")[1:3] for line in mounts.read_text().splitlines()]
    except (OSError, IndexError):
        return ""
    over = [(point, kind) for point, kind in entries if folder.is_relative_to(point.replace("\\040", " "))]
    return max(over, key=lambda entry: len(entry[0]), default=("", ""))[1]
