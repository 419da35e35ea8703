"""A trial: a copy of a scene, something that goes wrong, and then nothing that does; and which points to try."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from zlib import crc32

from tests.crash import invariants
from tests.crash.lab import Aim, World, Zygote, world
from tests.crash.points import READ
from tests.crash.scenes import Scene
from tests.tally import LONG

SEED = 20261126
Trial = Callable[[Zygote], str]
Together = Callable[[list[Trial]], list[str]]
_numbers = count()


def trial(
    scene: Scene,
    yard: Path,
    goes_wrong: Callable[[World], Iterable[str] | None],
    *,
    looked_at: bool = True,
    patch: str = "",
    only: tuple[str, ...] = (),
) -> Trial:
    """What does not hold after something went wrong in a copy of a scene, with all that was said; "" if all does.

    `only` names the invariants that can hold at all, where it is not all of them.
    """

    def tried(zygote: Zygote) -> str:
        root = yard / f"trial-{next(_numbers)}"
        with world(zygote, root, like=scene.folder) as copy:
            copy.patch = patch
            problems = [*(goes_wrong(copy) or ())]
            problems += invariants.survived(copy) if looked_at else []
            if not problems or not looked_at:
                problems += [*invariants.converged(copy, scene), *invariants.broken(copy, scene)]
            problems = [line for line in problems if not only or line.partition(":")[0] in only]
            told = "\n".join([*problems, str(copy)]) if problems else ""
        shutil.rmtree(root)
        return told

    return tried


def killed(scene: Scene, *points: str) -> Callable[[World], None]:
    """The command of a scene is killed at a point, and the one after it at the next."""

    def go_wrong(copy: World) -> None:
        for point in points:
            copy.run(*scene.command, aim=Aim("kill", point))

    return go_wrong


def after_a_kill(scene: Scene, point: str, zygote: Zygote, yard: Path) -> Scene:
    """The scene of the run that recovers from a kill, with a recording of it."""
    folder, recorded = (yard / f"{what}-{next(_numbers)}" for what in ("left", "recorded"))
    with world(zygote, folder, like=scene.folder) as copy:
        copy.run(*scene.command, aim=Aim("kill", point))
    with world(zygote, recorded, like=folder) as copy:
        points = copy.run(*scene.command).points
    shutil.rmtree(recorded)
    return replace(scene, folder=folder, points=points)


def hash_of(text: str) -> int:
    """A seed that is the same in every process."""
    return crc32(text.encode())


def chosen(points: tuple[str, ...], sample: int, *, seed: int = SEED) -> list[str]:
    """All points in the long run; else the critical ones, and some of the others.

    After one use of a door and before the next nothing has happened outside, so of the two a sample takes the second.
    """
    if LONG:
        return list(points)
    must = [point for point in critical(points) if ": before " in point]
    return [*must, *some([point for point in points if point not in must], sample, seed=seed)]


def some(points: Iterable[str], sample: int, *, seed: int = SEED) -> list[str]:
    """All of them in the long run, else so many."""
    all_points = list(points)
    return all_points if LONG else random.Random(seed).sample(all_points, min(sample, len(all_points)))


def critical(points: tuple[str, ...]) -> list[str]:
    """Every point from the commit of an intent to the end of the exchange it was for, and the one after."""
    commits = [number for number, point in enumerate(points) if point.endswith("after commit")]
    found: list[str] = []
    for here, then in pairwise([*commits, len(points)]):
        ends = [number for number in range(here, then) if _writes(points[number])]
        if ends:
            found += points[here : ends[-1] + 2]  # the next use of a door: until then nothing else happens
    return found


def _writes(point: str) -> bool:
    return point.startswith("exchange") and " of GET " not in point and not point.endswith(READ)


def report(failures: Iterable[str], tried: int) -> None:
    """Fails with the first of the failures, if there are any."""
    bad = list(filter(None, failures))
    starts = "\n".join(f"{_struck(one)}: {one.partition(chr(10))[0]}" for one in bad)
    assert not bad, f"{len(bad)} of {tried}\n{starts}\n\n" + "\n\n".join(bad[:3])


def _struck(told: str) -> str:
    return " then ".join(re.findall(r"struck at '(.*?)'", told)) or "nowhere"
