"""The state on disk: one SQLite file, a lease, and transactions. Decides nothing about what the rows mean.

Rollback journal, `synchronous=EXTRA`: what `commit` returned from survives a power cut. Reading never creates, migrates
or writes a file, so that a plan leaves everything byte for byte as it was.
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
_TABLES = """
create table meta (key text primary key, value text not null) strict;
create table owned (key text primary key, body text not null) strict;
create table intents (op_id text primary key, body text not null) strict;
"""


class SqliteStore:
    """A state file for one stack and environment of one account."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self.path, self.stamp = path, stamp
        self._state: State | None = None

    def load(self) -> State:
        """What is recorded; an empty State where there is no file yet. Writes nothing.

        Raises StateMismatch when it belongs to another endpoint, workspace or stack; StateCorrupt when it is no state.
        """
        if not self.path.exists():
            return State(self.stamp)
        with self._reading() as db:
            self._check(db)
            owned = [owned_from(body) for (body,) in db.execute("select body from owned order by key")]
            intents = [intent_from(body) for (body,) in db.execute("select body from intents order by op_id")]
        return State(self.stamp, {row.key: row for row in owned}, {row.op_id: row for row in intents})

    @contextmanager
    def lease(self, *, wait_s: float = 0, sleep: Callable[[float], None] = time.sleep) -> Iterator[int]:
        """The right to write, as an epoch that grows with every holder. A dead holder's lease ends with its process.

        Raises StateLocked when another holder keeps it longer than `wait_s` seconds.
        """
        self._prepare_folder()
        with open(self.path.with_suffix(".lock"), "a+", opener=_private) as lock:
            _acquire(lock.fileno(), wait_s, sleep, lambda: _holder(lock.fileno()))
            os.ftruncate(lock.fileno(), 0)
            os.pwrite(lock.fileno(), _myself().encode(), 0)
            self._state = None
            with closing(self._connect()) as db:
                yield self._next_epoch(db)

    def commit(self, epoch: int, *events: Event) -> State:
        """Record events in one durable transaction and return the state after them.

        Raises StateError when `epoch` is no longer the newest: somebody else holds the lease now.
        """
        state = (self._state or self.load()).fold(events)
        with closing(self._connect()) as db:
            db.execute("begin immediate")
            try:
                self._fence(db, epoch)
                for event in events:
                    _write(db, event)
                db.execute("commit")
            except BaseException:
                db.execute("rollback")
                raise
        self._state = state
        return state

    # Files and connections --------------------------------------------------------------------------------------

    def _prepare_folder(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=10)
            db.execute("pragma journal_mode=delete")
            db.execute("pragma synchronous=extra")
            if db.execute("select count(*) from sqlite_master").fetchone()[0] == 0:
                self._create(db)
            self._check(db)
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from error
        return db

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
                yield db
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error: sqlite3.DatabaseError) -> StateError:
        if isinstance(error, sqlite3.OperationalError):
            return StateError(f"the state file {self.path} cannot be used: {error}")
        return StateCorrupt(
            f"{self.path} is not a state file, or it is damaged",
            hint="put a backup in its place; never delete it while objects it records are live",
        )

    def _create(self, db: sqlite3.Connection) -> None:
        stamp = json.dumps(asdict(self.stamp))
        db.executescript(f"begin immediate; {_TABLES} pragma user_version={SCHEMA}; commit;")
        db.execute("insert into meta values ('stamp', ?), ('epoch', '0')", (stamp,))

    def _check(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("pragma user_version").fetchone()
        if version != SCHEMA:
            raise StateError(
                f"{self.path} has state version {version}, this program reads {SCHEMA}",
                hint="use the newer program" if version > SCHEMA else "",
            )
        row = db.execute("select value from meta where key = 'stamp'").fetchone()
        if row is None:
            raise StateCorrupt(f"{self.path} does not say whose state it is")
        recorded = Stamp(**json.loads(row[0]))
        for name, was, now in zip(
            asdict(recorded), asdict(recorded).values(), asdict(self.stamp).values(), strict=True
        ):
            if was != now:
                raise StateMismatch(
                    f"the state in {self.path} belongs to {name} {was or '(none)'}, not to {now or '(none)'}",
                    hint="point at that one again, or give the stack another state path",
                )

    def _next_epoch(self, db: sqlite3.Connection) -> int:
        db.execute("update meta set value = cast(value as integer) + 1 where key = 'epoch'")
        return int(db.execute("select value from meta where key = 'epoch'").fetchone()[0])

    def _fence(self, db: sqlite3.Connection, epoch: int) -> None:
        (newest,) = db.execute("select value from meta where key = 'epoch'").fetchone()
        if int(newest) != epoch:
            raise StateError(
                f"another run took over the state (epoch {newest}, ours was {epoch}); nothing was recorded"
            )


def _write(db: sqlite3.Connection, event: Event) -> None:
    match event:
        case Owned():
            db.execute("insert or replace into owned values (?, ?)", (event.key, to_json(event)))
        case Intent():
            db.execute("insert or replace into intents values (?, ?)", (event.op_id, to_json(event)))
        case Gone():
            db.execute("delete from owned where key = ?", (event.key,))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _acquire(fd: int, wait_s: float, sleep: Callable[[float], None], holder: Callable[[], tuple[str, str]]) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StateLocked(*holder()) from None
            sleep(0.2)


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
