"""A server, a database in it and a yard for every test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.yard import Gate, Yard, gated, yard
from tests.store.conftest import Server, server  # noqa: F401  # a fixture


@pytest.fixture
def fleet(server: Server, tmp_path: Path) -> Iterator[Yard]:  # noqa: F811
    with server.database() as dsn, yard(tmp_path / "yard", dsn) as made:
        yield made


@pytest.fixture
def gate(server: Server) -> Iterator[tuple[Gate, Path]]:  # noqa: F811
    with tempfile.TemporaryDirectory(prefix="gate-") as folder, gated(Path(folder), server.folder) as made:
        yield made
