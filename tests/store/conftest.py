"""A PostgreSQL server of our own, started when the first test asks for one, and a fresh place for every test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
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

    def new_database(self) -> str:
        name = f"t{next(_NUMBERS)}"
        with psycopg.connect(self.dsn(), autocommit=True) as db:
            db.execute(f"create database {name}".encode())
        return name


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
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


@pytest.fixture
def file(tmp_path: Path) -> File:
    """A state file that does not exist yet, nor does its folder."""
    return File(str(tmp_path / "project" / "state.db"))


@pytest.fixture
def new_base(server: Server, tmp_path: Path) -> Callable[[], Base]:
    """Makes empty databases."""
    return lambda: Base(f"{server.dsn(server.new_database())}|{tmp_path / 'project'}")


@pytest.fixture
def base(new_base: Callable[[], Base]) -> Base:
    """An empty database."""
    return new_base()


@pytest.fixture(params=["sqlite", "postgres"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Makes places of one backend that hold nothing yet."""
    if request.param == "postgres":
        return request.getfixturevalue("new_base")
    return lambda: File(str(tmp_path / f"project{next(_NUMBERS)}" / "state.db"))


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()
