"""A table is read by people: what is said of a figure must follow from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import tables
from tests.bench.figures import Figure, Skipped
from tests.bench.measure import Ratio

BESIDE = Figure(1, "no-op plan", 1_000, 0.5, "s", 0.12, "terraform plan", 5.0, Ratio(0.1, 0.09, 0.11, 3), 3)
MISSED = Figure(18, "imports", 1, 2, "", 0)
TOLD = Figure(10, "apply", 100, 1.5, "s")


def test_a_figure_is_judged_by_its_ratio_where_it_has_one_and_only_where_a_goal_is_about_it() -> None:
    assert [one.met for one in (BESIDE, MISSED, TOLD)] == [True, False, None]
    text = tables.table([MISSED, BESIDE, TOLD, Skipped(9, "refresh", "no rate")])
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["1", "10", "18"]
    assert "goal 9: skipped refresh: no rate" in text
    assert text.endswith("1 of 2 figures that a goal is about are as it wants them")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0123456, "0.0123"), (1.5, "1.50"), (123.4, "123"), (1781760, "1,781,760")]
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert tables.number(value) == text
    assert tables.number(float("nan")) == "?"


def test_a_page_is_renewed_between_its_marks_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        tables.document([BESIDE], 1.0, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{tables.BEGIN}\n")
    assert text.endswith(f"{tables.END}\nafter\n")
    assert "old" not in text
    assert text.count("| 1 | no-op plan | 1,000 | ≤ 0.120 | 0.500 s | terraform plan | 5.00 s | 0.100 |") == 1
