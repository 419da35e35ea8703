"""The state in PostgreSQL: for a team, many stacks in one database; and the list of who looks at which stack next.

A transaction on a state has a connection of its own, a lease keeps one more: the server frees its lock with the
session. The schema makes itself and moves on in one transaction; whoever meets a newer one goes no further.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from reconciler.clock import boottime
from reconciler.errors import StateError
from reconciler.state import Stamp
from reconciler.store import SCHEMA, TABLES, Database, Lock, Store
from reconciler.store.fleet import CLAIM_S, FLEET_TABLES, Fleet
from reconciler.wording import shown

DSN = "RECONCILER_STATE_DSN"
_PATIENCE: Mapping[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "reconciler",
}
"""A server that went away is noticed within half a minute, unless the connection string says otherwise."""
_BEGIN = (
    b"begin isolation level %b; set local search_path = reconciler; set local synchronous_commit = on;"
    b" set local lock_timeout = '20s'; set local statement_timeout = '30s';"
    b" set local idle_in_transaction_session_timeout = '10s'"
)
"""Whoever stops in the middle of a transaction is thrown out before those who wait for it give up."""
_KEEP = b"set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3"
_TABLES = ("create table version (number integer not null)", *TABLES)
_MIGRATIONS: dict[int, tuple[str, ...]] = {}
"""From each version to the next."""
_GONE = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName)


class _Server:
    """A way to a server, and what it has against us, without the password."""

    def __init__(self, dsn: str) -> None:
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.Error:  # its message would quote the string, and with it the password
            raise StateError(
                f"{DSN} is not a connection string of PostgreSQL", hint="as in postgresql://user@host/database"
            ) from None
        self._parameters: dict[str, Any] = {**_PATIENCE, **given}
        self._secrets = [word for word in (given.get("password"), os.environ.get("PGPASSWORD")) if word]
        self.where = _where(given)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(autocommit=True, prepare_threshold=None, **self._parameters)

    @contextmanager
    def usable(self, what: str) -> Iterator[None]:
        """Turns what the driver raises inside the block into errors of the state."""
        try:
            yield
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            for secret in self._secrets:
                reason = reason.replace(str(secret), "***")
            raise StateError(
                f"{what} in {self.where} cannot be used: {reason or type(error).__name__}",
                hint=f"{DSN}, or libpq's own variables, say where it is (docs/state.md)",
            ) from error


class PostgresStore(Store):
    """Rows of one state among those of others. `dsn` may be empty: libpq then takes its own variables."""

    shared = True

    def __init__(self, dsn: str, stamp: Stamp, *, folder: Path, clock: Callable[[], float] = boottime) -> None:
        super().__init__(stamp, clock=clock)
        self._server = _Server(dsn)
        self._keeps_sessions = False
        self.where = self._server.where
        self.rescue = folder / f"{self.name.replace('/', '@').rstrip('@')}.rescue"

    # Reading and writing ----------------------------------------------------------------------------------------

    @contextmanager
    def _usable(self) -> Iterator[None]:
        with self._server.usable("the state"):
            try:
                yield
            except _GONE as error:
                raise self._damaged() from error

    @contextmanager
    def _reading(self) -> Iterator[Database | None]:
        with self._begun(b"repeatable read") as db:
            version = self._version(db)
            if 0 < version < SCHEMA:
                self._migrate(db)  # for our eyes only: nothing of this transaction is ever committed
            yield _statements(db) if version else None

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        with self._begun(b"read committed") as db:
            if self._version(db) < SCHEMA:
                self._migrate(db)
            yield _statements(db)
            db.execute("commit")

    @contextmanager
    def _begun(self, isolation: bytes) -> Iterator[psycopg.Connection]:
        """A transaction that ends with its connection: what was not committed by then is undone."""
        with closing(self._server.connect()) as db:
            db.execute(_BEGIN % isolation)
            yield db

    def _version(self, db: psycopg.Connection) -> int:
        if _one(db, "select to_regclass('reconciler.version')") is None:
            return 0
        numbers = db.execute("select number from version").fetchall()
        if len(numbers) != 1:
            raise self._damaged()
        version = int(numbers[0][0])
        if version > SCHEMA:
            raise StateError(
                f"{self.where} has state version {version}, this program reads {SCHEMA}",
                hint="use the program that wrote it, or a newer one",
            )
        return version

    def _migrate(self, db: psycopg.Connection) -> None:
        """One program at a time: those of other stacks may be as new here as this one."""
        _make_schema(db)
        version = self._version(db)
        steps = (_MIGRATIONS[step] for step in range(version, SCHEMA)) if version else (_TABLES,)
        for statement in chain.from_iterable(steps):
            db.execute(statement.encode())
        db.execute("delete from version")
        db.execute("insert into version values (%s)", [SCHEMA])

    # Locks ------------------------------------------------------------------------------------------------------

    def _grab(self, epoch: int) -> Lock | None:
        """A lock of the session's. Where sessions are not kept it would fail open, so such a way there is refused."""
        if not self._keeps_sessions:
            self._prove_sessions()
        lock = _SessionLock(self._server.connect, _number(f"{self.name}/{epoch}"))
        if lock.held:
            return lock
        lock.close()
        return None

    def _prove_sessions(self) -> None:
        """Two connections are two sessions, each stays the same one, and a lock of one keeps the other out.

        A pooler in transaction mode fails the first or the second, several servers behind one name the third.
        """
        key = _number(f"{self.name}/{os.urandom(8).hex()}")
        with closing(self._server.connect()) as one, closing(self._server.connect()) as other:
            pairs = {(_backend(one), _backend(other)) for _ in range(3)}
            kept = len(pairs) == 1 and len(set(*pairs)) == 2
            if not kept or not _lock(one, key) or _lock(other, key):
                raise StateError(
                    f"{self.where} does not keep sessions apart, as behind a connection pooler in transaction mode:"
                    " a lock would keep nobody out",
                    hint="connect to the server itself, or to a pooler in session mode",
                )
        self._keeps_sessions = True


class _SessionLock:
    """An advisory lock, which the server frees as soon as the session ends, however it ends."""

    def __init__(self, connect: Callable[[], psycopg.Connection], key: int) -> None:
        self._connect, self._key, self._over = connect, key, False
        self._db = connect()
        self.held = self._take()

    def keep(self) -> None:
        """After a restart of the server, or a cut line, be there again before anybody takes us for dead."""
        try:
            self._db.execute("select 1")
        except psycopg.OperationalError:
            self._db.close()
            self._db = self._connect()
            self._take()
            if self._over:
                self._db.close()

    def close(self) -> None:
        self._over = True
        with suppress(psycopg.Error):
            self._db.execute("select pg_advisory_unlock_all()")  # a closed session ends a moment later
        self._db.close()

    def _take(self) -> bool:
        self._db.execute(_KEEP)
        return _lock(self._db, self._key)


class PostgresFleet(Fleet):
    """A table that any number of controllers share, on any number of machines.

    One connection for all threads of a process, made again when it breaks. It carries nothing from one transaction to
    the next, so any pooler will do.
    """

    _skipping = "for update skip locked"

    def __init__(self, dsn: str, holder: str, *, scope: str = "", term_s: float = CLAIM_S) -> None:
        super().__init__(holder, scope=scope, term_s=term_s)
        self._server, self._turn = _Server(dsn), threading.Lock()
        self._db: psycopg.Connection | None = None

    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[Database]:
        with self._server.usable("the list of stacks"), self._turn:
            db = self._begun()
            try:
                yield _statements(db)
                db.execute("commit")
            except BaseException:
                self._drop()  # and with it what was not committed
                raise

    def _begun(self) -> psycopg.Connection:
        """The kept connection in a new transaction; another one where the server closed that meanwhile."""
        begin = _BEGIN % b"read committed"
        if self._db is not None:
            try:
                self._db.execute(begin)
                return self._db
            except psycopg.OperationalError:
                self._drop()
        self._db = self._server.connect()
        try:
            self._db.execute(begin)
            there = "to_regclass('reconciler.fleet') is not null and to_regclass('reconciler.fleet_lists') is not null"
            if not _one(self._db, f"select {there}"):
                _make_schema(self._db)
                for table in FLEET_TABLES:
                    self._db.execute(table.encode())
        except BaseException:
            self._drop()
            raise
        return self._db

    def _drop(self) -> None:
        if self._db is not None:
            with suppress(psycopg.Error):
                self._db.close()
            self._db = None

    def _now(self, db: Database) -> float:
        ((now,),) = db("select extract(epoch from clock_timestamp())::double precision")
        return float(now)


def _make_schema(db: psycopg.Connection) -> None:
    """One program at a time from here to the end of the transaction."""
    db.execute("select pg_advisory_xact_lock(%s)", [_number("schema")])
    if _one(db, "select to_regnamespace('reconciler')") is None:
        db.execute("create schema reconciler")


def _where(given: Mapping[str, Any]) -> str:
    database = given.get("dbname") or os.environ.get("PGDATABASE") or given.get("user") or os.environ.get("PGUSER")
    host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST")
    named = f"the PostgreSQL database {shown(str(database))}" if database else "a PostgreSQL database"
    return f"{named} on {shown(str(host))}" if host else named


def _statements(db: psycopg.Connection) -> Database:
    def execute(statement: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        cursor = db.execute(statement.replace("?", "%s").encode(), values)
        return cursor.fetchall() if cursor.description else []

    return execute


def _one(db: psycopg.Connection, statement: str, *values: Any) -> Any:
    row = db.execute(statement.encode(), values).fetchone()
    return row[0] if row else None


def _backend(db: psycopg.Connection) -> int:
    return int(_one(db, "select pg_backend_pid()"))


def _lock(db: psycopg.Connection, key: int) -> bool:
    return bool(_one(db, "select pg_try_advisory_lock(%s)", key))


def _number(name: str) -> int:
    """The number under which the database knows a lock."""
    return int.from_bytes(hashlib.sha256(f"reconciler/{name}".encode()).digest()[:8], "big", signed=True)
