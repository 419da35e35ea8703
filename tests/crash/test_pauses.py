"""A run that is stopped at any point, passed by, and woken when another has done the work, buys and deletes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.conftest import Tally
from tests.crash.lab import TERM_S, Aim, World
from tests.crash.points import READ
from tests.crash.scenes import Scene
from tests.crash.trials import Together, critical, report, some, trial

SAMPLE = 10


def passed_by(scene: Scene, point: str) -> Callable[[World], list[str]]:
    """Stopped at the point; another run waits out the lease and takes over; then the first goes on."""

    def go_wrong(copy: World) -> list[str]:
        first = copy.run(*scene.command, aim=Aim("pause", point))
        if first.code is not None:
            return []  # it took another way and never came to this point
        copy.run(*scene.command, "--lock-timeout", "3m")
        woken = copy.go_on(first, after_s=TERM_S)
        return [] if woken.code is not None else ["it stopped once more"]

    return go_wrong


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["create", "swap"])
def test_stopped_and_passed_by(
    name: str, scene: Callable[[str], Scene], yard: Path, together: Together, tally: Tally
) -> None:
    made = scene(name)
    points = some([point for point in critical(made.points) if " before write " not in point], SAMPLE)
    failures = together([trial(made, yard, passed_by(made, point), looked_at=False) for point in points])
    tally["paused", name] += len(points)
    report(failures, len(points))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["create", "swap"])
def test_stopped_with_the_request_on_its_way(
    name: str, scene: Callable[[str], Scene], yard: Path, together: Together, tally: Tally
) -> None:
    """Between the last look at the clock and the call that sends lies an instant that no client can close.

    What leaves then arrives late, and unknown to whoever took over. Nothing is paid twice all the same: it carries the
    mark that the other run used, and the service takes a mark once. What costs nothing and was made twice is told.
    """
    made = scene(name)
    points = some([point for point in critical(made.points) if " before write " in point], SAMPLE)
    work = [trial(made, yard, passed_by(made, point), looked_at=False, only=("I1", "I10")) for point in points]
    tally["paused while sending", name] += len(points)
    report(together(work), len(points))


def test_a_deletion_that_was_passed_by_is_not_sent(
    scene: Callable[[str], Scene], together: Together, yard: Path
) -> None:
    """Stopped between intent and request; the lease ran out after 60 s, and another did the same in less than 120 s."""
    made = scene("destroy")
    leaves = next(n for n, p in enumerate(made.points) if "write 2 of POST" in p and not p.endswith(READ))
    point = next(p for p in reversed(made.points[:leaves]) if p.endswith("after commit"))
    report(together([trial(made, yard, passed_by(made, point), looked_at=False)]), 1)
