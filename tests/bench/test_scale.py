"""What must hold of the simulated fleet, or its table says nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest

from tests.bench import scale
from tests.bench.scale import Fleet, Scenario, figures

PAGE = Path(__file__).parents[2] / "docs/scale.md"
SPARE = Scenario(1_000, 100, 50, 4, rounds=6, limiter="account")
CROWDED = Scenario(40_000, 400, 10, 8, rounds=6)


def fastest(fleet: Fleet, account: int) -> float:
    """The most requests beyond a steady rate that an account was ever ahead by."""
    seconds = [fleet.asked[account, second] for second in range(int(fleet.end_s) + 1)]
    ahead = accumulate(seconds, lambda before, asked: max(0.0, before + asked - scale.OUR_RATE), initial=0.0)
    return max(ahead)


def test_with_one_limiter_an_account_is_asked_no_faster_than_its_rate() -> None:
    fleet = Fleet(replace(CROWDED, limiter="account")).run()
    assert fleet.refused == 0
    asked = sum(many for (account, _), many in fleet.asked.items() if account == 0)
    assert asked > 0.9 * scale.OUR_RATE * fleet.end_s, "that is all the largest one gets, though"
    assert max(fastest(fleet, one.name) for one in fleet.accounts) <= 2 * scale.OUR_RATE, "a burst, across two seconds"


def test_without_it_the_service_refuses_and_never_answers_more() -> None:
    fleet = Fleet(CROWDED).run()
    assert fleet.refused > 0
    assert fleet.requests - fleet.refused <= (scale.RATE * fleet.end_s + scale.RATE) * len(fleet.accounts)


@pytest.mark.parametrize("limiter", ["look", "process", "account"])
def test_every_stack_is_looked_at_and_none_by_two(limiter: str) -> None:
    fleet = Fleet(replace(SPARE, limiter=limiter)).run()
    assert all(one.seen for one in fleet.stacks)
    assert all(one.objects >= 0 and 0 <= one.hands <= SPARE.workers for one in fleet.processes)
    under_way = sum(SPARE.workers - one.hands for one in fleet.processes)
    assert len(fleet.due) + under_way == len(fleet.stacks) == len({*(number for _, number in fleet.due)}) + under_way


def test_with_capacity_to_spare_the_interval_is_kept() -> None:
    fleet = Fleet(SPARE).run()
    assert SPARE.interval_s <= fleet.intervals()[0] <= fleet.intervals()[-1] < scale.KEPT * SPARE.interval_s
    assert fleet.first == "kept"
    assert max(fleet.full().values()) < 0.5


def test_one_that_cannot_keep_it_says_so() -> None:
    fleet = Fleet(replace(CROWDED, processes=1)).run()
    assert fleet.first != "kept"
    assert fleet.intervals()[-1] > scale.KEPT * CROWDED.interval_s


def test_what_is_busy_is_looked_at_more_often() -> None:
    fleet = Fleet(SPARE).run()
    looks = {busy: [len(one.seen) for one in fleet.stacks if one.busy is busy] for busy in (True, False)}
    assert min(looks[True]) > 2 * max(looks[False])


def test_a_seed_gives_the_same_figures_and_another_one_others() -> None:
    first, again, other = (figures(Fleet(replace(CROWDED, seed=seed)).run()) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("scenario", scale.SCENARIOS[:3], ids=str)
def test_the_page_shows_what_is_simulated_now(scenario: Scenario) -> None:
    """The quick rows stand for all: `python -m tests.bench.scale` prints them anew."""
    assert scale.line(scale.sized(scenario)) in PAGE.read_text("utf-8").splitlines()
