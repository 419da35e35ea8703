"""Which plans are stopped, by which limit, and what lifts it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from reconciler import engine
from reconciler.api import Key
from reconciler.apply import Terms
from reconciler.errors import Refused
from reconciler.guards import NO_LIMITS, Limits, breaches, strictest
from reconciler.plan import SUPERSEDED, Choices, Operation, Plan, Totals, Verb
from reconciler.resource import Action, Budget, Price, Slot
from tests.desk import KEY, Desk, document


def op(verb: Verb, once: Any = 0, hour: Any = 0, why: str = "") -> Operation:
    price = Price(*(None if value is None else Decimal(value) for value in (once, hour)))
    return Operation(f"{verb} {why}", Action.CREATE, verb, Slot("X/x"), "files", price=price, why=why)


def plan(*operations: Operation, before: Any = 0, after: Any = 0) -> Plan:
    hours = (None if value is None else Decimal(value) for value in (before, after))
    return Plan(operations, (), Totals(Decimal(0), *hours))


def found(made: Plan, limits: Limits, owned: int = 10, **allow: str) -> list[str]:
    choices = Choices(allow=frozenset((rule.replace("_", "-"), value) for rule, value in allow.items()))
    return [breach.rule for breach in breaches(made, limits, choices, owned=owned)]


def test_without_limits_nothing_is_stopped() -> None:
    expensive = plan(op(Verb.CREATE, 10**9, None), *[op(Verb.DELETE)] * 10, after=None)
    assert found(expensive, NO_LIMITS) == []


@pytest.mark.parametrize(("cost", "wanted"), [(99, []), (100, []), ("100.01", ["cost"])])
def test_the_cost_of_an_apply(cost: Any, wanted: list[str]) -> None:
    assert found(plan(op(Verb.CREATE, cost)), Limits(once=Decimal(100))) == wanted


def test_what_waits_or_is_updated_costs_nothing_once() -> None:
    assert found(plan(op(Verb.WAIT, 500), op(Verb.UPDATE, 500)), Limits(once=Decimal(100))) == []


def test_the_overlap_of_a_swap_is_spent_too() -> None:
    swap = plan(op(Verb.CREATE, 90), op(Verb.DELETE, 36, why=SUPERSEDED))
    assert found(swap, Limits(once=Decimal(100))) == ["cost"]


def test_an_unknown_price_does_not_hide_the_known_ones() -> None:
    assert found(plan(op(Verb.CREATE, None), op(Verb.CREATE, 101)), Limits(once=Decimal(100))) == ["cost"]


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [(0, 100, []), (0, 101, ["rate"]), (300, 200, []), (300, 300, []), (None, 200, ["rate"]), (0, None, [])],
)
def test_the_run_rate_where_the_plan_raises_it(before: Any, after: Any, wanted: list[str]) -> None:
    """Bringing it down, or leaving it, is nothing to stop even above the limit."""
    assert found(plan(op(Verb.CREATE), before=before, after=after), Limits(hour=Decimal(100))) == wanted


def test_deletions_by_number_and_by_share() -> None:
    two = plan(op(Verb.DELETE), op(Verb.DELETE))
    assert found(two, Limits(deletes=2)) == []
    assert found(two, Limits(deletes=1)) == ["deletes"]
    assert found(two, Limits(share=Decimal(20)), owned=10) == []
    assert found(two, Limits(share=Decimal(20)), owned=9) == ["share"]


def test_the_old_side_of_a_change_is_no_deletion() -> None:
    assert found(plan(op(Verb.DELETE, why=SUPERSEDED)), Limits(deletes=0, share=Decimal(0))) == []


def test_a_destroy_is_asked_for_by_its_name() -> None:
    assert breaches(plan(op(Verb.DELETE)), Limits(deletes=0), Choices(destroy=True), owned=1) == ()


def test_an_unknown_price_where_only_known_ones_may_be_bought() -> None:
    unknown = plan(op(Verb.CREATE, None))
    assert found(unknown, Limits(known_prices_only=True)) == ["unknown-price"]
    assert found(unknown, Limits(known_prices_only=True), unknown_price="yes") == []


@pytest.mark.parametrize(("allowed", "wanted"), [("101", []), ("500", []), ("100", ["cost"])])
def test_the_override_that_is_told_lifts_it_and_no_more(allowed: str, wanted: list[str]) -> None:
    made = plan(op(Verb.CREATE, "100.5"))
    (breach,) = breaches(made, Limits(once=Decimal(50)), Choices(), owned=1)
    assert breach.override == "--allow cost=101"
    assert found(made, Limits(once=Decimal(50)), cost=allowed) == wanted


def test_the_stricter_of_several_budgets_holds() -> None:
    stack = Budget.model_validate({"onceCny": 500.0, "deletes": 3, "deleteShare": "50%"})
    more = {"onceCny": 100.5, "hourlyCny": 10.0, "deleteShare": "62.5%", "unknownPrice": "Refuse"}
    operator = Budget.model_validate(more)
    assert strictest([stack, None, operator]) == Limits(Decimal("100.5"), Decimal(10), 3, Decimal(50), True)
    assert strictest([]) == NO_LIMITS
    assert not NO_LIMITS.any


@pytest.fixture
def costly(desk: Desk) -> Desk:
    """A deployment of 216 CNY/h in a stack that allows 100."""
    spec = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    desk.declare(document("Deployment", "p", spec), stack={"budget": {"hourlyCny": 100}})
    return desk


def test_an_apply_over_the_limit_sends_nothing_and_names_rule_value_limit_and_override(costly: Desk) -> None:
    with pytest.raises(Refused, match=r"rate: 216\.00 CNY/h afterwards, and the limit is 100\.00") as caught:
        costly.apply()
    assert caught.value.hint == "--allow rate=216"
    assert costly.emulator.operations() == []
    costly.apply(allow=frozenset({("rate", "216")}))
    assert costly.emulator.operations() == ["deployments.create"]


def test_the_operators_limit_holds_whatever_the_project_says(costly: Desk) -> None:
    costly.declare(
        document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": [{"text": "a", "weight": 1}]})
    )
    strict = [Budget(deletes=0)]
    costly.apply()
    costly.declare()
    with engine.session(costly.project(), costly.emulator.origin, Key(KEY), budgets=strict) as session:
        with pytest.raises(Refused, match="deletes"):
            engine.apply(
                session, Choices(prune=True), Terms(), approve=lambda snapshot: True, report=lambda progress: None
            )
        assert engine.plan(session, Choices(prune=True)).breaches
    assert costly.emulator.operations() == ["vocabularies.create"]
