"""The few fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desk import Desk, Emulator, emulator


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator of its own for one test."""
    with emulator(tmp_path / "service") as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, service: Emulator) -> Desk:
    """A user with an empty project folder."""
    root = tmp_path / "project"
    root.mkdir()
    return Desk(root, service)
