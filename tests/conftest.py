"""The few fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import tally
from tests.desk import Desk, Emulator, emulator

# A machine that is busy with something else is no fault of the code: nothing here is judged by a clock.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    for counting in (tally.CONFORMANCE, tally.CRASH):
        config.pluginmanager.register(counting)


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
