"""What a command costs, and what costs amount to: medians of paired ratios, exponents of growth.

Loads nothing but the standard library: the peak memory of a child begins with that of the process it was forked from.
"""

from __future__ import annotations

import math
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


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
    said = os.memfd_create("said")  # not a file: what is printed is not what is written to the disk
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(one) for one in command],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
    )
    _await(process, timeout_s)
    wall_s = time.perf_counter() - began
    written = disk_written(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    with open(said, "rb") as file:
        file.seek(0)
        text = file.read().decode(errors="replace")
    if process.returncode not in exits:
        raise Failed(f"{named(command)} exits with {process.returncode}: {text[-600:].strip()}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, written, text)


def named(command: Sequence[str | Path]) -> str:
    """A command as it is told of: whose, and to do what; where it lies is nobody's concern."""
    words = [Path(str(command[0])).name, *map(str, command[1:3])]
    return " ".join(words)[:80].replace("\n", " ")


def _await(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Until it has ended and has not been reaped: what it wrote can be read until then."""
    fd = os.pidfd_open(process.pid)
    try:
        if not select.select([fd], [], [], timeout_s)[0]:
            raise Failed(f"it has not ended after {timeout_s:.0f} s")
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        os.close(fd)


def disk_written(pid: int) -> int:
    """Bytes a process, and those it waited for, caused to be written. 0 on a file system in memory."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


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
