"""The state in one SQLite file: for one machine, and for everybody who starts.

Rollback journal and `synchronous=EXTRA`. A new file appears in one step, so that one without content is never ours and
cannot pass for an empty state. What a killed process left half done is undone by whoever comes next.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.clock import boottime
from reconciler.errors import StateCorrupt, StateError, StateMismatch
from reconciler.state import Stamp
from reconciler.store import HEADER, SCHEMA, TABLES, Database, Header, Lock, Store
from reconciler.store.disk import beside, place

BALLAST_BYTES = 256 * 1024
OVERRIDE = "RECONCILER_STATE_ON_NETWORK_DRIVE"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})  # the last: no such table
_NETWORK = frozenset(
    "9p afs afp ceph cifs davfs fuse.gcsfuse fuse.juicefs fuse.ossfs fuse.rclone fuse.s3fs fuse.sshfs glusterfs lustre"
    " nfs nfs4 smb2 smb3 smbfs vboxsf".split()
)
_SYNCHRONISED = re.compile(r"(dropbox|google ?drive|icloud drive|mobile documents|onedrive)( [-(].*)?", re.IGNORECASE)
_STAMP_TO_NAME = "json_extract(value, '$.stack') || '/' || json_extract(value, '$.environment')"
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        *(f"{table} strict" for table in TABLES),
        f"insert into states ({HEADER}) select {_STAMP_TO_NAME}, value, lower(hex(randomblob(16))),"
        " (select cast(value as integer) from meta where key = 'epoch'), 0, '', '', '', 0"
        " from meta where key = 'stamp'",
        "insert into records select (select name from states), 'owned', key, body from owned",
        "insert into records select (select name from states), 'intent', op_id, body from intents",
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
        self.path, self.where, self._mounts = path, str(path), mounts
        self.rescue, self.backup, self.ballast = (beside(path, f".{name}") for name in ("rescue", "backup", "ballast"))

    # Reading and writing ----------------------------------------------------------------------------------------

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(f"the state file {self.path} cannot be used: {error.strerror}") from error
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            # No code: it is the sqlite3 module that cannot make text of what the file holds.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGED:
                raise self._damaged() from error
            raise StateError(f"the state file {self.path} cannot be used: {error}") from error

    @contextmanager
    def _reading(self) -> Iterator[Database | None]:
        if self._is_new():
            yield None
            return
        with self._opened() as db:
            db.execute("begin")
            if self._version(db) == SCHEMA:
                yield _statements(db)
                return
            with _in_memory() as copy:
                db.backup(copy)
                self._migrate(copy)
                yield _statements(copy)

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        with self._opened() as db, _transaction(db):
            if self._version(db) < SCHEMA:
                self._migrate(db)
            yield _statements(db)

    def _is_new(self) -> bool:
        """Whether there never was a state here; a file that went away is another matter."""
        if self.path.exists():
            return False
        remains = [path for path in (self.backup, beside(self.path, "-journal")) if path.exists()]
        if remains:
            raise StateCorrupt(
                f"{self.path} is missing, and {remains[0].name} beside it says that there was one",
                hint=f"{self._way_back()}; to begin anew all the same, move {remains[0].name} away",
            )
        return True

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
        if version <= 0:
            raise self._damaged()
        if version > SCHEMA:
            raise StateError(
                f"{self.path} has state version {version}, this program reads {SCHEMA}",
                hint="use the program that wrote it, or a newer one",
            )
        return int(version)

    def _header(self, db: Database) -> Header | None:
        """A file holds one state: a line of another name is another stack's, and no line at all is no state."""
        rows = db(f"select {HEADER} from states")
        if len(rows) != 1:
            raise self._damaged()
        header = self._checked(rows[0])
        if header.name != self.name:
            raise StateMismatch(f"the state in {self.path} belongs to stack {header.name}")
        return header

    def _damaged(self) -> StateCorrupt:
        return StateCorrupt(f"{self.path} is not a state file, or it is damaged", hint=self._way_back())

    def _way_back(self) -> str:
        try:
            good = bool(SqliteStore(self.backup, self.stamp).load().lineage)
        except StateError:
            good = False
        backup = f"{self.backup}, which is good and from before the last run," if good else "a backup"
        return f"put {backup} in its place, without a {self.path.name}-journal beside it (docs/state.md)"

    # Making -----------------------------------------------------------------------------------------------------

    def _secure(self) -> None:
        if self._is_new():
            place(self.path, self._blank())
        else:
            place(self.backup, self._copy())
        self._keep_ballast()

    def _blank(self) -> bytes:
        with _in_memory() as db:
            for table in TABLES:
                db.execute(f"{table} strict")
            self._begin(_statements(db))
            db.execute(f"pragma user_version={SCHEMA}")
            return db.serialize()

    def _copy(self) -> bytes:
        """The state as it is before this lease, taken by SQLite: a file that is copied while it changes is none.

        Proved first, so that a damaged state never takes the place of a good copy.
        """
        self.load()
        with self._opened() as db, _in_memory() as copy:
            db.backup(copy)
            if copy.execute("pragma integrity_check(1)").fetchone() != ("ok",):
                raise self._damaged()
            return copy.serialize()

    def _migrate(self, db: sqlite3.Connection) -> None:
        for step in range(self._version(db), SCHEMA):
            for statement in _MIGRATIONS[step]:
                db.execute(statement)
        self._reseal(_statements(db))
        db.execute(f"pragma user_version={SCHEMA}")

    def copied_at(self) -> datetime | None:
        try:
            return datetime.fromtimestamp(self.backup.stat().st_mtime, UTC)
        except OSError:
            return None

    def _keep_ballast(self) -> None:
        if not self.ballast.exists():
            with suppress(OSError):  # a disk that is full already has no room to keep aside
                place(self.ballast, os.urandom(BALLAST_BYTES))  # noise, which no file system can make smaller

    def _make_room(self) -> None:
        with suppress(OSError):
            self.ballast.unlink(missing_ok=True)

    # Locks ------------------------------------------------------------------------------------------------------

    def _grab(self, epoch: int) -> Lock | None:
        """An OS lock on a file of that epoch's own, so that a holder which is merely asleep can be passed by."""
        self._refuse_shared_folder()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = beside(self.path, f".lock-{epoch}")
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

    def _refuse_shared_folder(self) -> None:
        folder = self.path.parent.resolve()
        kind = _file_system(folder, self._mounts)
        if kind in _NETWORK:
            lies = f"on a network drive ({kind})"
        elif any(_SYNCHRONISED.fullmatch(part) for part in folder.parts):
            lies = "in a folder that another program synchronises"
        else:
            return
        if os.environ.get(OVERRIDE) != "1":
            raise StateError(
                f"{self.path} lies {lies}, where locks and writes cannot be relied on",
                hint=f"keep it on a local disk or in PostgreSQL; {OVERRIDE}=1 uses it all the same",
            )


class _FileLock:
    """Removed by whoever holds it, and by nobody else: no other process then takes it for free."""

    def __init__(self, lock: int, path: Path) -> None:
        self._lock, self._path = lock, path

    def keep(self) -> None:
        """The system keeps it as long as this process lives."""

    def close(self) -> None:
        with suppress(OSError):
            self._path.unlink()
        os.close(self._lock)


def _in_memory() -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(":memory:", isolation_level=None))


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


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _file_system(folder: Path, mounts: Path) -> str:
    """The type of the file system that a folder is on; "" where the platform does not say."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    entries = [entry[1:3] for line in lines if len(entry := line.split(" ")) > 2]
    over = [(point, kind) for point, kind in entries if folder.is_relative_to(point.replace("\\040", " "))]
    return max(reversed(over), key=lambda entry: len(entry[0]), default=("", ""))[1]
