"""Places that keep a state, of either backend, and what a test does there: open it, look at it, tamper with it.

A place is described by a word that another process can be given.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.clock import boottime
from reconciler.resource import Slot
from reconciler.state import Intent, Owned, Role, Stamp
from reconciler.store.postgres import PostgresStore
from reconciler.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
STAMP = Stamp("emulator:1f", "llm-1", "support")


def row(remote_id: str = "p-1", role: Role = Role.CURRENT, **facts: Any) -> Owned:
    return Owned(Slot("Deployment/p"), "deployments", remote_id, role, "g", {"capacity": 4, "词": "x"}, **facts)


def intent(op_id: str = "1", **facts: Any) -> Intent:
    sent = Intent(op_id, Slot("Deployment/p"), "deployments", "create", "g", "t", 0, 1, "2026-11-02 14:05:00", {})
    return replace(sent, **facts)


def pages(path: Path) -> list[bytes]:
    """A file as a database writes it."""
    data = path.read_bytes()
    return [data[start : start + 4096] for start in range(0, len(data), 4096)]


@dataclass
class Ticks:
    """A clock that moves only when somebody sleeps; `meanwhile` happens during each sleep."""

    now_s: float = 0.0
    meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.meanwhile()


@dataclass(frozen=True)
class File:
    """A state file, in a folder that need not exist."""

    word: str

    @property
    def path(self) -> Path:
        return Path(self.word)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def store(self, clock: Callable[[], float] = boottime, **stamp: str) -> SqliteStore:
        """As another process would open it."""
        return SqliteStore(self.path, replace(STAMP, **stamp), clock=clock)

    def contents(self) -> object:
        """All there is, down to the last byte and the time of its last change."""
        around = sorted(path for path in self.folder.parent.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in around}

    def clear(self) -> None:
        """As if nothing had ever been here."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def edit(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    def claim_version(self, version: int) -> None:
        self.edit(f"pragma user_version={version}")


@dataclass(frozen=True)
class Base:
    """A database on the tests' server, and a folder of the user's."""

    word: str

    @property
    def dsn(self) -> str:
        return self.word.split("|")[0]

    @property
    def folder(self) -> Path:
        return Path(self.word.split("|")[1])

    def store(self, clock: Callable[[], float] = boottime, **stamp: str) -> PostgresStore:
        return PostgresStore(self.dsn, replace(STAMP, **stamp), folder=self.folder, clock=clock)

    def contents(self) -> object:
        """All there is, down to the transaction that wrote each row last."""
        schemas = self.ask("select nspname from pg_namespace where nspname !~ '^pg_' order by 1")
        tables = self.ask("select schemaname, tablename from pg_tables where schemaname !~ '^(pg_|info)' order by 1, 2")
        rows = [self.ask(f'select xmin::text, * from "{schema}"."{table}" order by 1, 2') for schema, table in tables]
        return schemas, tables, rows, sorted(self.folder.rglob("*"))

    def clear(self) -> None:
        self.edit("drop schema if exists reconciler cascade")
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as db:
            db.execute("set search_path = reconciler")
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def edit(self, *statements: str) -> None:
        for statement in statements:
            self.ask(statement)

    def claim_version(self, version: int) -> None:
        self.edit(f"update version set number = {version}")


Place = File | Base


def at(word: str) -> Place:
    return Base(word) if "|" in word else File(word)


# Other processes ----------------------------------------------------------------------------------------------------

HOLD = """
import sys
from reconciler.errors import StateError
from tests.store.places import at, row
store = at(sys.argv[1]).store()
with store.lease() as epoch:
    print(epoch, flush=True)
    for line in sys.stdin:
        try:
            store.commit(epoch, row(line.strip()))
            print("recorded", flush=True)
        except StateError as error:
            print(type(error).__name__, flush=True)
"""


@dataclass(frozen=True)
class Holder:
    """Another process that holds the lease until it is killed."""

    process: subprocess.Popen[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def commit(self, remote_id: str) -> str:
        """What became of recording an object."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{remote_id}\n")
        self.process.stdin.flush()
        return self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def holder(place: Place) -> Iterator[Holder]:
    with python(HOLD, place.word) as process:
        held = Holder(process)
        try:
            assert held.line().isdigit()
            yield held
        finally:
            process.kill()


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def fork(run: Callable[[], object]) -> int:
    """A copy of this process that does nothing but this."""
    pid = os.fork()
    if not pid:
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def child(run: Callable[[], object]) -> int:
    """How a copy of this process ended: 0, or what killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(run), 0)[1])


@contextmanager
def every_statement(then: Callable[[int], object]) -> Iterator[None]:
    """Call `then` with its number before each statement that either database is sent."""
    numbers = count(1)
    connect, execute = sqlite3.connect, psycopg.Connection.execute

    class Watched(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            then(next(numbers))
            return super().execute(*args)

    def watched(db: psycopg.Connection, *args: Any, **options: Any) -> Any:
        then(next(numbers))
        return execute(db, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(connect, factory=Watched))
        patch.setattr(psycopg.Connection, "execute", watched)
        yield


def dying_at(number: int, run: Callable[[], object]) -> int:
    """How a process ended that was to run this, and to be killed at this statement if it came so far."""

    def die(reached: int) -> None:
        if reached == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        with every_statement(die):
            run()

    return child(watched)
