"""A PostgreSQL server of our own, started when the first test asks for one, and a fresh place for every test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.store.places import Base, File, Place

_NUMBERS = count()


@dataclass
class Server:
    """A server without a port: its only door is a socket in its folder."""

    bin: Path
    folder: Path
    user: dict[str, Any]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, tool: str, *arguments: str) -> None:
        command = [str(self.bin / tool), "-D", str(self.data), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.user)

    def start(self) -> None:
        settings = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=200"
        self.run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", settings, "start")

    def stop(self) -> None:
        """As a power cut would."""
        self.run("pg_ctl", "-w", "-m", "immediate", "stop")

    def dsn(self, database: str = "postgres") -> str:
        return f"host={self.folder} user=postgres dbname={database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """An empty database for as long as the block runs; the way to it."""
        name = f"t{next(_NUMBERS)}"
        with psycopg.connect(self.dsn(), autocommit=True) as db:
            db.execute(f"create database {name}".encode())
        yield self.dsn(name)
        with psycopg.connect(self.dsn(), autocommit=True) as db:
            db.execute(f"drop database {name} with (force)".encode())


@contextmanager
def started() -> Iterator[Server]:
    """A new server for as long as the block runs."""
    tools = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        Path(shutil.which("initdb") or "/").parent,
    ]
    found = next((folder for folder in tools if (folder / "initdb").exists()), None)
    if found is None:
        missing = "PostgreSQL is not installed here: apt-get install postgresql"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # the path of a socket has to be short
        user: dict[str, Any] = {}
        if os.geteuid() == 0:  # which the server refuses to run as
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres")
        os.chmod(folder, 0o755)
        made = Server(found, Path(folder), user)
        made.run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync")
        made.start()
        yield made
        made.stop()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with started() as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> File:
    """A state file that does not exist yet, nor does its folder."""
    return File(str(tmp_path / "project" / "state.db"))


@pytest.fixture
def base(server: Server, tmp_path: Path) -> Iterator[Base]:
    """An empty database."""
    with server.database() as dsn:
        yield Base(f"{dsn}|{tmp_path / 'project'}")


@pytest.fixture(params=["file", "base"])
def place(request: pytest.FixtureRequest) -> Place:
    """A place of either backend that holds nothing yet."""
    return request.getfixturevalue(request.param)
