"""Emulators that stop with their test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.stand import Emulator, Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an emulator; switches as keywords with `__` for the dot: `start(jobs__parallel=2)`."""
    running: list[Emulator] = []

    def begin(data: Path | None = None, **options: Any) -> Emulator:
        running.append(Emulator(data or tmp_path / "emulator", **options))
        return running[-1]

    yield begin
    for emulator in running:
        emulator.backend.close()


@pytest.fixture
def emulator(start: Start) -> Emulator:
    return start()


@pytest.fixture
def old(start: Start) -> Emulator:
    """The service of December 2024."""
    return start(profile="dec-2024")
