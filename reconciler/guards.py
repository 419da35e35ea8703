"""What stops an apply although its plan is right: budgets and limits, each with the word that overrides it. Pure.

A guard never stops a plan. Of several limits for one thing the stricter holds, wherever it was set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from reconciler.plan import SPENDING, SUPERSEDED, Choices, Operation, Plan, Verb
from reconciler.quotas import Need, amount
from reconciler.resource import Budget


class Breach(NamedTuple):
    """One limit that the plan goes over: the rule, what was found, the limit, and the override."""

    rule: str
    value: str
    limit: str
    override: str

    def __str__(self) -> str:
        return f"{self.value}, and the limit is {self.limit}" if self.limit else self.value


@dataclass(frozen=True)
class Limits:
    """The strictest of all budgets; None is no limit. Money in CNY, the share in percent."""

    once: Decimal | None = None
    hour: Decimal | None = None
    deletes: int | None = None
    share: Decimal | None = None
    known_prices_only: bool = False

    @property
    def any(self) -> bool:
        return self != NO_LIMITS


NO_LIMITS = Limits()


def strictest(budgets: Iterable[Budget | None]) -> Limits:
    """One set of limits out of the Stack's, the operator's and the command line's."""
    given = [budget for budget in budgets if budget is not None]
    return Limits(
        once=_least(budget.once_cny for budget in given),
        hour=_least(budget.hourly_cny for budget in given),
        deletes=min((b.deletes for b in given if b.deletes is not None), default=None),
        share=_least(b.delete_share.rstrip("%") for b in given if b.delete_share is not None),
        known_prices_only=any(budget.unknown_price == "Refuse" for budget in given),
    )


def breaches(
    plan: Plan, limits: Limits, choices: Choices, *, owned: int, needs: Sequence[Need] = ()
) -> tuple[Breach, ...]:
    """Every limit that carrying out this plan would go over and that nobody lifted; `owned` counts our objects.

    How much may be deleted is no question to a destroy, which is asked for by that name.
    """
    allowed = dict(choices.allow)
    found = (
        _cost(plan, limits.once, _number(allowed.get("cost"))),
        _rate(plan, limits.hour, _number(allowed.get("rate"))),
        None if choices.destroy else _deletes(plan, limits.deletes, _number(allowed.get("deletes"))),
        None if choices.destroy else _share(plan, limits.share, _number(allowed.get("share")), owned),
        _unknown(plan) if limits.known_prices_only and allowed.get("unknown-price") != "yes" else None,
    )
    beyond = _quotas(needs) if allowed.get("quota") != "yes" else ()
    return (*(breach for breach in found if breach), *beyond)


def _quotas(needs: Sequence[Need]) -> Iterator[Breach]:
    """A limit of the account that all pages agree on, or that lies above all of them."""
    for need in needs:
        if need.certain:
            value, limit = (amount(number, of_bytes=need.of_bytes) for number in (need.least, need.limits[-1]))
            yield Breach("quota", f"{value} {need.what}", f"{limit} an account", "--allow quota=yes")


def _cost(plan: Plan, limit: Decimal | None, allowed: Decimal | None) -> Breach | None:
    spending = [op.price.once for op in plan.operations if op.verb in SPENDING]
    known = sum((cny or Decimal(0) for cny in spending), Decimal(0))
    return _over("cost", known, limit, allowed, lambda cny: f"{cny:,.2f} CNY once")


def _rate(plan: Plan, limit: Decimal | None, allowed: Decimal | None) -> Breach | None:
    """A run rate that the plan does not raise is nothing that stopping it would help."""
    before, after = plan.totals.hour_before, plan.totals.hour_after
    if after is None or (before is not None and after <= before):
        return None
    return _over("rate", after, limit, allowed, lambda cny: f"{cny:,.2f} CNY/h afterwards")


def _deletes(plan: Plan, limit: int | None, allowed: Decimal | None) -> Breach | None:
    count, most = Decimal(len(_deleted(plan))), None if limit is None else Decimal(limit)
    return _over("deletes", count, most, allowed, lambda number: f"{number} deletions")


def _share(plan: Plan, limit: Decimal | None, allowed: Decimal | None, owned: int) -> Breach | None:
    share = Decimal(100 * len(_deleted(plan))) / owned if owned else Decimal(0)
    return _over("share", share, limit, allowed, lambda percent: f"{percent:.0f} % of what is owned deleted")


def _unknown(plan: Plan) -> Breach | None:
    bought = [op for op in _bought(plan) if op.price.once is None or op.price.hour is None]
    slots = ", ".join(str(op.slot) for op in bought)
    return (
        Breach("unknown-price", f"nobody knows what {slots} costs", "", "--allow unknown-price=yes") if bought else None
    )


def _over(
    rule: str, value: Decimal, limit: Decimal | None, allowed: Decimal | None, words: Callable[[Decimal], str]
) -> Breach | None:
    if limit is None or value <= limit or (allowed is not None and value <= allowed):
        return None
    return Breach(
        rule, words(value), words(limit), f"--allow {rule}={value.to_integral_value(rounding='ROUND_CEILING')}"
    )


def _bought(plan: Plan) -> list[Operation]:
    return [op for op in plan.operations if op.verb is Verb.CREATE]


def _deleted(plan: Plan) -> list[Operation]:
    """What goes for good; the old side of a change goes with that change."""
    return [op for op in plan.operations if op.verb is Verb.DELETE and op.why != SUPERSEDED]


def _least(values: Iterable[float | int | str | None]) -> Decimal | None:
    return min((Decimal(str(value)) for value in values if value is not None), default=None)


def _number(text: str | None) -> Decimal | None:
    return Decimal(text) if text is not None else None
