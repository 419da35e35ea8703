"""A process that is killed at any point leaves a state that the next command opens, and nothing is bought twice."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import pytest

from tests.crash import invariants
from tests.crash.conftest import LONG, Tally
from tests.crash.lab import Aim, Zygote, world
from tests.crash.scenes import SCENES, Scene

SAMPLE = 12  # of the points of a scene that are not critical
SEED = 20261126
Trial = Callable[[Zygote], str]
Together = Callable[[list[Trial]], list[str]]
_numbers = count()


def critical(points: tuple[str, ...]) -> list[str]:
    """Every point from the commit of an intent to the end of the exchange it was for."""
    commits = [number for number, point in enumerate(points) if point.endswith("after commit")]
    found: dict[str, None] = {}
    for here, then in pairwise([*commits, len(points)]):
        ends = [n for n in range(here, then) if _writes(points[n])]
        if ends:
            found |= dict.fromkeys(points[here : ends[-1] + 1])
    return list(found)


def _writes(point: str) -> bool:
    return any(f" of {method} " in point for method in ("POST", "PUT", "DELETE"))


def chosen(points: tuple[str, ...], seed: int, sample: int) -> list[str]:
    """All points in the long run; else the critical ones and some of the others."""
    if LONG:
        return list(points)
    must = critical(points)
    others = sorted(set(points) - set(must), key=points.index)
    return [*must, *random.Random(seed).sample(others, min(sample, len(others)))]


def trial(scene: Scene, yard: Path, *aims: Aim, thorough: bool = True) -> Trial:
    """Runs the command of a scene into each aim in turn, then without; what does not hold, with all that was said."""

    def tried(zygote: Zygote) -> str:
        root = yard / f"trial-{next(_numbers)}"
        with world(zygote, root, like=scene.folder) as copy:
            for aim in aims:
                copy.run(*scene.command, aim=aim)
            problems = invariants.survived(copy) if thorough else []
            problems += invariants.converged(copy, scene) or invariants.broken(copy, scene)
            told = "\n".join([*problems, *(f"at {aim}" for aim in aims), str(copy)]) if problems else ""
        shutil.rmtree(root)
        return told

    return tried


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENES)
def test_killed_once(name: str, scene: Callable[[str], Scene], yard: Path, together: Together, tally: Tally) -> None:
    made = scene(name)
    points = chosen(made.points, SEED, SAMPLE)
    work = [trial(made, yard, Aim("kill", point), thorough=LONG or not n % 4) for n, point in enumerate(points)]
    failures = list(filter(None, together(work)))
    tally["points found", name] += len(made.points)
    tally["killed once", name] += len(work)
    assert not failures, f"{len(failures)} of {len(work)}\n\n" + "\n\n".join(failures[:3])
