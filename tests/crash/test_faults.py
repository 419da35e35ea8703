"""A full or broken disk, a signal, no memory: at any point the run ends in words, and the next one goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.crash.conftest import Tally
from tests.crash.lab import Aim, World
from tests.crash.scenes import Scene
from tests.crash.trials import Together, critical, report, some, trial

SAMPLE = 5
DISK = ("full", "full on", "broken")
ENDS: Mapping[str, frozenset[int]] = {
    "full": frozenset({0, 1, 4, 6, 7}),
    "full on": frozenset({0, 1, 4, 6, 7}),
    "broken": frozenset({0, 1, 4, 6, 7}),
    "interrupt": frozenset({130, 0}),
    "interrupt twice": frozenset({130, 0}),
    "terminate": frozenset({130, 0, -15}),
    "memory": frozenset({0, 1, 7}),
}
"""The exit codes each may have; 0 where the point lay behind everything that counts."""


def strikes(scene: Scene, mode: str, point: str) -> Callable[[World], list[str]]:
    def go_wrong(copy: World) -> list[str]:
        run = copy.run(*scene.command, aim=Aim(mode, point))
        if run.code not in ENDS[mode] | ({1} if mode == "memory" else set()):
            return [f"{mode} ended with {run.code}"]
        if mode in DISK and "internal error" in run.text:
            return ["a disk that does not write is no internal error"]
        if mode == "memory":
            copy.runs.remove(run)  # it may well say "internal error"
        return []

    return go_wrong


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", ENDS)
def test_struck(mode: str, scene: Callable[[str], Scene], yard: Path, together: Together, tally: Tally) -> None:
    made = scene("create")
    where = [p for p in made.points if not p.startswith(("exchange", "connection"))] if mode in DISK else made.points
    points = dict.fromkeys([*some([p for p in critical(made.points) if p in where], SAMPLE), *some(where, SAMPLE)])
    failures = together([trial(made, yard, strikes(made, mode, point), looked_at=False) for point in points])
    tally[mode, "create"] += len(points)
    report(failures, len(points))
