"""A process that is killed at any point leaves a state that the next command opens, and nothing is bought twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import invariants
from tests.crash.lab import Aim, World, Zygote
from tests.crash.scenes import SCENES, Scene
from tests.crash.trials import Together, Trial, after_a_kill, chosen, critical, hash_of, killed, report, some, trial
from tests.tally import LONG, Tally

SAMPLE, FIRSTS = 4, 8


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", SCENES)
def test_killed_once(name: str, scene: Callable[[str], Scene], yard: Path, together: Together, tally: Tally) -> None:
    made = scene(name)
    points = chosen(made.points, SAMPLE)
    work = [trial(made, yard, killed(made, point), looked_at=LONG or not n % 8) for n, point in enumerate(points)]
    failures = together(work)
    tally["points found", name] += len(made.points)
    tally["killed once", name] += len(work)
    report(failures, len(work))


@pytest.mark.timeout(100_000)
@pytest.mark.parametrize("name", ["create", "swap"])
def test_killed_and_then_its_recovery_killed(
    name: str, scene: Callable[[str], Scene], yard: Path, together: Together, tally: Tally
) -> None:
    """All pairs in the long run: for each first kill, the points of the run that recovers from it."""
    made = scene(name)

    def work(first: str) -> Trial:
        def tried(zygote: Zygote) -> str:
            left = after_a_kill(made, first, zygote, yard)
            seconds = some(left.points, 1, seed=hash_of(first))
            tally["killed twice", name] += len(seconds)
            return "\n".join(trial(left, yard, killed(left, then), looked_at=LONG)(zygote) for then in seconds).strip()

        return tried

    firsts = list(made.points) if LONG else some(critical(made.points), FIRSTS)
    report(together([work(first) for first in firsts]), len(firsts))


def test_the_same_run_has_the_same_points(scene: Callable[[str], Scene], zygote: Zygote, yard: Path) -> None:
    """Otherwise a point that is aimed at would be missed, and a trial that tries nothing passes.

    How many reads an answer takes is the network's affair; everything else repeats.
    """
    made = scene("update")
    problem = trial(made, yard, lambda copy: _differs(made, copy.run(*made.command).points))(zygote)
    assert not problem


def _differs(made: Scene, points: tuple[str, ...]) -> list[str]:
    again, before = ({p for p in some if " read " not in p} for some in (points, made.points))
    return sorted(again ^ before)


@pytest.mark.parametrize("where", ["before read 1 of PUT /scale", "before write 1 of PUT /update"])
def test_a_killed_update_is_recorded_once_it_is_seen(
    where: str, scene: Callable[[str], Scene], zygote: Zygote, yard: Path
) -> None:
    """I6: the service holds what the manifest says, so a plan is empty; the state must not go on saying otherwise.

    Killed when the scale had left, and when it was acknowledged and the limits had not left yet.
    """
    made = scene("update")
    moment, call = where.split(" of PUT ")
    point = next(p for p in made.points if moment in p and "PUT" in p and call in p)

    def capacity(copy: World) -> list[str]:
        copy.run(*made.command, aim=Aim("kill", point))
        copy.run(*made.command)
        rows = [row for row in invariants.kept(copy.state).owned if row.collection == "deployments"]
        return [f"I6: recorded is {row.last_applied['capacity']}" for row in rows if row.last_applied["capacity"] != 8]

    problem = trial(made, yard, capacity)(zygote)
    assert not problem, problem
