"""The state on disk: one SQLite file, a lease, and transactions. Decides nothing about what the rows mean.

Rollback journal, `synchronous=EXTRA`: what `commit` returned from survives a power cut. Reading never creates, migrates
or writes a file, so that a plan leaves everything byte for byte as it was; only what a killed process left half done is
undone by whoever comes next.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from reconciler.errors import StateCorrupt, StateError, StateLocked, StateMismatch
from reconciler.state import Event, Gone, Intent, Owned, Stamp, State, intent_from, owned_from, to_json

SCHEMA = 1
_TABLES = (
    "create table meta (key text primary key, value text not null) strict",
    "create table owned (key text primary key, body text not null) strict",
    "create table intents (op_id text primary key, body text not null) strict",
)
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"})  # the last: a table is missing


class SqliteStore:
    """A state file for one stack and environment of one account."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self.path, self.stamp = path, stamp
        self._state: State | None = None

    def load(self) -> State:
        """What is recorded; an empty State where there is no file yet. Writes nothing.

        Raises StateMismatch when it belongs to another endpoint, workspace or stack; StateCorrupt when it is no state.
        """
        with self._usable():
            if not self.path.exists():
                return State(self.stamp)
            with self._opened() as db:
                owned = [owned_from(body) for (body,) in db.execute("select body from owned order by key")]
                intents = [intent_from(body) for (body,) in db.execute("select body from intents order by op_id")]
        return State(self.stamp, {row.key: row for row in owned}, {row.op_id: row for row in intents})

    @contextmanager
    def lease(self, *, wait_s: float = 0, sleep: Callable[[float], None] = time.sleep) -> Iterator[int]:
        """The right to write, as an epoch that grows with every holder. A dead holder's lease ends with its process.

        Raises StateLocked when another holder keeps it longer than `wait_s` seconds.
        """
        with self._locked(wait_s, sleep):
            with self._usable():
                epoch = self._next_epoch()
            yield epoch

    def commit(self, epoch: int, *events: Event) -> State:
        """Record events in one durable transaction and return the state after them.

        Raises StateError when `epoch` is no longer the newest (somebody else holds the lease now), or when the file
        cannot be written. Then nothing is recorded.
        """
        state = (self._state or self.load()).fold(events)
        with self._usable(), self._opened() as db, _transaction(db):
            self._fence(db, epoch)
            for event in events:
                _write(db, event)
        self._state = state
        return state

    # Files and connections --------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, wait_s: float, sleep: Callable[[float], None]) -> Iterator[None]:
        with self._usable():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _acquire(lock, wait_s, sleep)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Whatever the disk or SQLite has against the file is an error of the state."""
        try:
            yield
        except OSError as error:
            raise StateError(f"the state file {self.path} cannot be used: {error.strerror}") from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in _DAMAGED:
                raise self._corrupt() from error
            raise StateError(f"the state file {self.path} cannot be used: {error}") from error

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The existing file, known to be ours.

        Readers open it for writing too: what a killed process left half done can only then be undone by SQLite.
        """
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)) as db:
            self._check(db)
            yield db

    def _corrupt(self) -> StateCorrupt:
        return StateCorrupt(
            f"{self.path} is not a state file, or it is damaged",
            hint="put a backup in its place; never delete it while objects it records are live",
        )

    def _create(self) -> None:
        """A new file in one step: one without content is never ours, so that it cannot pass for an empty state."""
        unfinished = self.path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as db, _transaction(db):
            for statement in _TABLES:
                db.execute(statement)
            db.execute(f"pragma user_version={SCHEMA}")
            db.execute("insert into meta values ('stamp', ?), ('epoch', '0')", (json.dumps(asdict(self.stamp)),))
        unfinished.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _check(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("pragma user_version").fetchone()
        if version == 0:
            raise self._corrupt()
        if version != SCHEMA:
            raise StateError(
                f"{self.path} has state version {version}, this program reads {SCHEMA}",
                hint="use the newer program" if version > SCHEMA else "",
            )
        row = db.execute("select value from meta where key = 'stamp'").fetchone()
        try:
            recorded = Stamp(**json.loads(row[0]))
        except (ValueError, TypeError):
            raise StateCorrupt(f"{self.path} does not say whose state it is") from None
        for name, was, now in zip(
            asdict(recorded), asdict(recorded).values(), asdict(self.stamp).values(), strict=True
        ):
            if was != now:
                raise StateMismatch(
                    f"the state in {self.path} belongs to {name} {was or '(none)'}, not to {now or '(none)'}",
                    hint="point at that one again, or give the stack another state path",
                )

    def _next_epoch(self) -> int:
        self._state = None
        if not self.path.exists():
            self._create()
        with self._opened() as db, _transaction(db):
            db.execute("update meta set value = cast(value as integer) + 1 where key = 'epoch'")
            return int(db.execute("select value from meta where key = 'epoch'").fetchone()[0])

    def _fence(self, db: sqlite3.Connection, epoch: int) -> None:
        (newest,) = db.execute("select value from meta where key = 'epoch'").fetchone()
        if int(newest) != epoch:
            raise StateError(
                f"another run took over the state (epoch {newest}, ours was {epoch}); nothing was recorded"
            )


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block, durably, or nothing of it: a connection that is closed before the commit forgets."""
    db.execute("pragma journal_mode=delete")
    db.execute("pragma synchronous=extra")
    db.execute("begin immediate")
    yield
    db.execute("commit")


def _write(db: sqlite3.Connection, event: Event) -> None:
    match event:
        case Owned():
            db.execute("insert or replace into owned values (?, ?)", (event.key, to_json(event)))
        case Intent():
            db.execute("insert or replace into intents values (?, ?)", (event.op_id, to_json(event)))
        case Gone():
            db.execute("delete from owned where key = ?", (event.key,))


def _acquire(lock: int, wait_s: float, sleep: Callable[[float], None]) -> None:
    """Take the lock, which ends with this process, and leave our name in its file."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StateLocked(*_holder(lock)) from None
            sleep(0.2)
    os.ftruncate(lock, 0)
    os.pwrite(lock, _myself().encode(), 0)


def _myself() -> str:
    return json.dumps({"owner": f"process {os.getpid()} on {socket.gethostname()}", "since": _now()})


def _holder(fd: int) -> tuple[str, str]:
    try:
        body = json.loads(os.pread(fd, 1000, 0))
        return str(body["owner"]), str(body["since"])
    except (ValueError, KeyError, TypeError):
        return "a process that left no name", "an unknown time"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
