"""Where trials happen, who forks for them, and what they came to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from tests.crash import scenes
from tests.crash.lab import Zygote
from tests.crash.scenes import Scene

Tally = Counter[tuple[str, str]]
LONG = os.environ.get("RECONCILER_LONG") == "1"
HANDS = 2  # trials at a time; each has a zygote of its own
_TALLY = pytest.StashKey[Tally]()
_MEMORY = Path("/dev/shm")
T = TypeVar("T")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "crash: the proof by kills, pauses, cuts and simulation")
    config.stash[_TALLY] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.crash)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash[_TALLY]
    if tally:
        terminalreporter.section("crash: " + ("everything" if LONG else "a sample; RECONCILER_LONG=1 runs everything"))
        for (what, scene), number in sorted(tally.items()):
            terminalreporter.line(f"{number:6}  {what:<24} {scene}")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """Counts what was tried, by kind and scene."""
    return pytestconfig.stash[_TALLY]


@pytest.fixture(scope="session")
def yard() -> Iterator[Path]:
    """A folder for worlds: in memory where there is such a place, since no power is cut here."""
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="crash-", dir=where))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def zygotes() -> Iterator[tuple[Zygote, ...]]:
    started = tuple(Zygote() for _ in range(HANDS))
    yield started
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def zygote(zygotes: tuple[Zygote, ...]) -> Zygote:
    return zygotes[0]


@pytest.fixture(scope="session")
def scene(zygote: Zygote, yard: Path) -> Callable[[str], Scene]:
    """The scene of a name, made when it is first asked for."""
    return cache(lambda name: scenes.make(zygote, yard, name))


@pytest.fixture
def together(zygotes: tuple[Zygote, ...]) -> Callable[[list[Callable[[Zygote], T]]], list[T]]:
    """Does pieces of work, as many at a time as there are zygotes."""

    def done(work: list[Callable[[Zygote], T]]) -> list[T]:
        def share(number: int) -> list[T]:
            return [piece(zygotes[number]) for piece in work[number::HANDS]]

        with ThreadPoolExecutor(HANDS) as pool:
            return [result for results in pool.map(share, range(HANDS)) for result in results]

    return done
