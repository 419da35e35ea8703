"""A figure and what it is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.measure import Cost, Ratio, middle, ratio

UNITS = {"wall_s": "s", "cpu_s": "s cpu", "rss_mb": "MB", "written": "B"}


@dataclass(frozen=True)
class Figure:
    """What was measured for a goal (its number in docs/performance.md), at a size.

    `most` is what the ratio to the rival, or without a rival the figure itself, may be; None where the goal is about
    another size and the figure only told.
    """

    goal: int
    what: str
    size: int
    ours: float
    unit: str
    most: float | None = None
    rival: str = ""
    theirs: float | None = None
    ratio: Ratio | None = None
    runs: int = 1

    @property
    def value(self) -> float:
        return self.ratio.middle if self.ratio else self.ours

    @property
    def met(self) -> bool | None:
        return None if self.most is None else self.value <= self.most


@dataclass(frozen=True)
class Skipped:
    """What was not measured, and why."""

    goal: int
    what: str
    why: str


@dataclass(frozen=True)
class Point:
    """One place on a curve of the charts."""

    line: str
    size: int
    wall_s: float
    cpu_s: float
    rss_mb: float


Told = Figure | Skipped | Point


def against(
    goal: int,
    what: str,
    size: int,
    aspect: str,
    ours: Sequence[Cost],
    rival: str,
    theirs: Sequence[Cost],
    most: float | None,
) -> Figure:
    """One aspect of both, taken in turn."""
    pairs = ratio([getattr(one, aspect) for one in ours], [getattr(one, aspect) for one in theirs])
    unit, runs = UNITS[aspect], len(ours)
    return Figure(goal, what, size, middle(ours, aspect), unit, most, rival, middle(theirs, aspect), pairs, runs)


def point(line: str, size: int, costs: Sequence[Cost]) -> Point:
    return Point(line, size, *(middle(costs, aspect) for aspect in ("wall_s", "cpu_s", "rss_mb")))
