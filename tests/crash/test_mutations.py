"""The suite is itself tested: each promise holds, and is broken under the mistakes that are known to break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.conftest import Tally
from tests.crash.lab import Zygote
from tests.crash.patches import PATCHES
from tests.crash.promises import PROMISES
from tests.crash.scenes import Scene
from tests.crash.trials import trial


@pytest.mark.parametrize("promise", PROMISES)
def test_promise(promise: str, scene: Callable[[str], Scene], zygote: Zygote, yard: Path, tally: Tally) -> None:
    name, goes_wrong = PROMISES[promise]
    problem = trial(scene(name), yard, goes_wrong)(zygote)
    tally["promises kept", ""] += 1
    assert not problem, problem


@pytest.mark.parametrize("mistake", PATCHES)
def test_the_promise_is_broken_under(
    mistake: str, scene: Callable[[str], Scene], zygote: Zygote, yard: Path, tally: Tally
) -> None:
    patch = PATCHES[mistake]
    name, goes_wrong = PROMISES[patch.promise]
    problem = trial(scene(name), yard, goes_wrong, patch=mistake)(zygote)
    broken = problem.partition("$ reconciler")[0]
    assert any(line.startswith(patch.words) or patch.words in line for line in broken.splitlines()), problem or "held"
    tally["mistakes caught", ""] += 1


def test_every_promise_has_its_mistake() -> None:
    """A promise that nothing can break is no test."""
    assert {patch.promise for patch in PATCHES.values()} == set(PROMISES)
