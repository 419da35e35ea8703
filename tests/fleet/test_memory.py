"""A loop that runs for months must not grow with every look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.fleet import grown
from tests.fleet.yard import Yard
from tests.tally import LONG

MARKS = [1000, 10_000] if LONG else [60, 160]


@pytest.mark.timeout(3600)
def test_looks_leave_nothing_behind(fleet: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At rest, on an error of the author's and on a mistake of ours; in objects of Python's, as a leak would show."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-test")
    monkeypatch.setenv("RECONCILER_STATE_DSN", fleet.dsn)
    (early, first), (late, last) = grown(fleet, tmp_path, MARKS)
    assert (late - early) / (last - first) < 2, f"{early} objects after {first} looks, {late} after {last}"
