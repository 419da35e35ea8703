"""What a stack costs: what runs by the hour and the month, what was bought so far, what is declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reconciler.money import HOURS_A_MONTH, Run, a_month, spent, total
from reconciler.plan import Desired, Plan
from reconciler.render import markdown
from reconciler.render.data import cny
from reconciler.render.plan import Heading, heading_text, money_texts, prices_text
from reconciler.render.state import Item, hourly_price
from reconciler.render.words import Line, clean, money, page, table
from reconciler.resource import Collection, Price


@dataclass(frozen=True)
class Costs:
    """Everything the page tells. `standing` are our objects with their price while they run."""

    standing: tuple[tuple[Item, Price], ...]
    runs: tuple[Run, ...]
    declared: tuple[Price, ...]
    plan: Plan

    @property
    def hour(self) -> Decimal | None:
        return self.plan.totals.hour_before

    @property
    def declared_hour(self) -> Decimal | None:
        return total(price.hour for price in self.declared)

    @property
    def spent(self) -> Decimal | None:
        return total(spent(run, self.runs) for run in self.runs)


def costs(
    items: Sequence[Item], runs: Sequence[Run], desired: Desired, plan: Plan, collections: Mapping[str, Collection]
) -> Costs:
    standing = tuple((one, hourly_price(one.row, one.seen, collections)) for one in items if one.row)
    parts = [
        (part, part.collection or document.spec.collection)  # type: ignore[attr-defined]  # a kind in `parts` has one
        for document in desired.documents
        for part in desired.parts.get(document.address, ())
    ]
    declared = tuple(collections[name].price(part.fields, base=part.base) for part, name in parts)
    return Costs(standing, tuple(runs), declared, plan)


def costs_text(heading: Heading, told: Costs, width: int | None) -> str:
    blocks = [page([Line(heading_text(heading)), Line("")], width)]
    for headers, rows in _tables(told):
        blocks += [table(headers, rows, width), ""]
    return "\n".join([*blocks, page(_sums(heading, told), width)])


def costs_markdown(heading: Heading, told: Costs) -> str:
    tables = [markdown.table(headers, rows) for headers, rows in _tables(told)]
    sums = markdown.points(line.text for line in _sums(heading, told))
    return "\n\n".join([markdown.escaped(heading_text(heading)), *tables, sums])


def _tables(told: Costs) -> Iterator[tuple[tuple[str, ...], list[list[str]]]]:
    if told.standing:
        rows = [_standing(one, price) for one, price in told.standing]
        yield ("OBJECT", "STATUS", "CNY/H", "CNY/MONTH", "HOW"), rows
    if told.runs:
        yield ("BOUGHT", "RUN", "AT", "TOKENS", "CNY"), [_bought(run, told.runs) for run in told.runs]


def _standing(one: Item, price: Price) -> list[str]:
    assert one.row
    how = clean(price.basis) if one.hour != 0 else ""
    how += f"; {money(price.prepaid)} CNY for a month prepaid" if how and price.prepaid else ""
    hour, month = ("", "") if one.hour == price.hour == 0 else (money(one.hour), money(a_month(one.hour)))
    return [f"{clean(one.slot)} {clean(one.row.id)}", clean(one.status), hour, month, how]


def _bought(run: Run, runs: Sequence[Run]) -> list[str]:
    return [clean(run.slot), clean(run.id), clean(run.at), _tokens(run), money(spent(run, runs))]


def billed_text(remote_id: str, runs: Sequence[Run]) -> str:
    """What a run that is over was billed for."""
    run = next((run for run in runs if run.id == remote_id), None)
    if run is None or run.used is None:
        return f"{clean(remote_id)}: the service does not say what is billed"
    return f"{clean(remote_id)}: {run.used:,} tokens are billed, {money(spent(run, runs))} CNY"


def _tokens(run: Run) -> str:
    """What was counted is said plainly, what is foreseen by `about`."""
    if run.used is not None:
        return f"{run.used:,} used"
    if run.failed:
        return "none billed"
    return "unknown" if run.tokens is None else f"about {run.tokens:,} x {run.passes}"


def _sums(heading: Heading, told: Costs) -> Iterator[Line]:
    yield Line(f"now       {_rate(told.hour)}", {"bold": True}, hang=10)
    once, _ = money_texts(told.plan)
    yield Line(f"declared  {_rate(told.declared_hour)}; an apply would cost {once}", {"bold": True}, hang=10)
    estimates = sum(1 for run in told.runs if run.used is None and not run.failed)
    of_these = f", {estimates} of {len(told.runs)} by estimate" if estimates else ""
    yield Line(f"bought    {money(told.spent)} CNY so far{of_these}", {"bold": True}, hang=10)
    yield Line(
        f"{prices_text(heading)}; a month is {HOURS_A_MONTH} hours; calls that are billed by token are not in it"
    )
    yield Line("reconciler explain MODEL has the sources of a price", {"dim": True})


def _rate(hour: Decimal | None) -> str:
    return f"{money(hour)} CNY/h, {money(a_month(hour))} a month"


def costs_json(heading: Heading, told: Costs) -> dict[str, Any]:
    """The same for programs; null is unknown."""
    return {
        "stack": heading.stack,
        "environment": heading.environment,
        "endpoint": heading.endpoint,
        "emulated": heading.emulated,
        "prices_of": str(heading.prices_of),
        "own_prices": heading.own_prices,
        "objects": [
            {
                "address": one.slot.address,
                "part": one.slot.part,
                "id": one.row.id if one.row else None,
                "status": one.status,
                "hour_cny": cny(one.hour),
                "month_cny": cny(a_month(one.hour)),
                "month_prepaid_cny": cny(price.prepaid),
                "basis": price.basis,
            }
            for one, price in told.standing
        ],
        "bought": [
            {
                "address": run.slot.address,
                "id": run.id,
                "at": run.at,
                "tokens_foreseen": run.tokens,
                "passes": run.passes,
                "tokens_used": run.used,
                "cny": cny(spent(run, told.runs)),
            }
            for run in told.runs
        ],
        "now": _rate_json(told.hour),
        "declared": _rate_json(told.declared_hour) | {"once_cny": cny(told.plan.totals.once)},
        "bought_cny": cny(told.spent),
    }


def _rate_json(hour: Decimal | None) -> dict[str, Any]:
    return {"hour_cny": cny(hour), "month_cny": cny(a_month(hour))}
