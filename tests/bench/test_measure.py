"""A figure that is computed wrongly looks like any other."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest

from tests.bench.measure import Failed, exponent, in_turn, ratio, run


def test_an_exponent_is_that_of_what_comes_above_the_start() -> None:
    sizes = [100, 1_000, 10_000]
    assert exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [7 + size for size in sizes], start=7) == pytest.approx(1)
    assert exponent(sizes, [7 + size for size in sizes]) < 1


def test_no_exponent_is_made_up() -> None:
    """Of one size, or of a cost that is lost in the start, nothing can be said."""
    assert math.isnan(exponent([100], [1.0]))
    assert math.isnan(exponent([100, 1_000], [1.0, 2.0], start=1.0))


def test_a_ratio_is_taken_pair_by_pair() -> None:
    """Else one disturbed pair would shift the figure: the medians of these are 4 and 2."""
    found = ratio([1, 10, 4], [1, 2, 8])
    assert (found.middle, found.least, found.most, found.runs) == (1, 0.5, 5, 3)


def test_rivals_are_measured_in_turn(tmp_path: Path) -> None:
    order: list[str] = []
    cost = run([sys.executable, "-c", "pass"], folder=tmp_path, environment=os.environ)

    def deed(name: str) -> object:
        order.append(name)
        return cost

    taken = in_turn({name: lambda name=name: deed(name) for name in "ab"}, 2)  # type: ignore[misc,return-value]
    assert order == ["a", "b", "a", "b"]
    assert taken == {"a": [cost, cost], "b": [cost, cost]}


def test_a_cost_counts_what_the_child_touches(tmp_path: Path) -> None:
    touch = "data = bytearray(200_000_000)\nfor place in range(0, len(data), 4096): data[place] = 1\nprint('done')"
    large = run([sys.executable, "-c", touch], folder=tmp_path, environment={})
    assert large.rss_mb > 190
    assert large.said == "done\n"


def test_a_command_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"python.* exits with 3: what went wrong"):
        run([sys.executable, "-c", "print('what went wrong'); exit(3)"], folder=tmp_path, environment={})
    with pytest.raises(Failed, match="has not ended after 0 s"):
        run([sys.executable, "-c", "input()"], folder=tmp_path, environment={}, timeout_s=0)


def test_a_cost_does_not_count_what_the_benchmark_holds(tmp_path: Path) -> None:
    """The peak of a process begins with the memory of the one it was forked from."""
    held = bytearray(os.urandom(200_000_000))
    assert run([sys.executable, "-c", "pass"], folder=tmp_path, environment={}).rss_mb < 100 < len(held) / 2**20
