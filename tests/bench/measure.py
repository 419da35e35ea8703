"""What a command costs, and what costs amount to: medians of paired ratios, exponents of growth."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import forker


class Failed(Exception):
    """A command that should have succeeded did not; its last words."""


@dataclass(frozen=True)
class Cost:
    """Of one process with all it waited for. `written` is what it caused to be written to the disk."""

    wall_s: float
    cpu_s: float
    rss_mb: float
    written: int
    said: str = ""


@dataclass(frozen=True)
class Ratio:
    """Of ours to a rival's, pair by pair of one run."""

    middle: float
    least: float
    most: float
    runs: int


def run(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    exits: Sequence[int] = (0,),
    timeout_s: float = 3600,
) -> Cost:
    """One command to its end. Raises Failed where it exits otherwise than it should."""
    with open(os.memfd_create("said"), "rb") as file:
        order = {
            "command": [str(one) for one in command],
            "folder": str(folder),
            "environment": dict(environment),
            "said": f"/proc/{os.getpid()}/fd/{file.fileno()}",
            "timeout_s": timeout_s,
        }
        code, *cost = _asked(order)
        text = file.read().decode(errors="replace")
    if code is None:
        raise Failed(f"{named(command)} has not ended after {timeout_s:.0f} s")
    if code not in exits:
        raise Failed(f"{named(command)} exits with {code}: {text[-600:].strip()}")
    wall_s, cpu_s, rss_mb, written = cost
    return Cost(wall_s, cpu_s, rss_mb, int(written), text)


def _asked(order: Mapping[str, object]) -> list[Any]:
    starting = _forker()
    assert starting.stdin
    assert starting.stdout
    starting.stdin.write(json.dumps(order) + "\n")
    starting.stdin.flush()
    answer: list[Any] = json.loads(starting.stdout.readline())
    return answer


@cache
def _forker() -> subprocess.Popen[str]:
    """Ends with us: nobody orders anything then."""
    line = [sys.executable, "-S", "-E", str(Path(forker.__file__))]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def named(command: Sequence[str | Path]) -> str:
    """A command as it is told of: whose, and to do what; where it lies is nobody's concern."""
    words = [Path(str(command[0])).name, *map(str, command[1:3])]
    return " ".join(words)[:80].replace("\n", " ")


def in_turn(deeds: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """A B A B: what disturbs the machine disturbs all of them alike."""
    taken: dict[str, list[Cost]] = {name: [] for name in deeds}
    for _ in range(rounds):
        for name, deed in deeds.items():
            taken[name].append(deed())
    return taken


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The median of the ratios of each pair, not the ratio of the medians."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Ratio(median(pairs), min(pairs), max(pairs), len(pairs))


def exponent(sizes: Sequence[float], costs: Sequence[float], start: float = 0.0) -> float:
    """How a cost above that of a start grows: 1 is in proportion, 2 the square. Least squares of the logarithms.

    Not a number where there are fewer than two sizes, or where a cost is not above the start.
    """
    above = [cost - start for cost in costs]
    if len(sizes) < 2 or min(above) <= 0:
        return math.nan
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in above]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def middle(costs: Sequence[Cost], what: str) -> float:
    """The median of one figure of several costs."""
    return median(getattr(one, what) for one in costs)
