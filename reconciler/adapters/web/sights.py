"""What each page shows, as values: chosen, ordered and bounded here, worded by the templates and `texts`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reconciler.adapters import inventory
from reconciler.adapters.web import chain
from reconciler.adapters.web.chain import Card
from reconciler.adapters.web.live import Run, Seen
from reconciler.conditions import Condition, Happened, Report, rate, to_data
from reconciler.lineage import Lineage
from reconciler.lineage import lineage as all_of
from reconciler.money import a_month, spent, total
from reconciler.plan import Operation, Verb
from reconciler.render import changes, chart
from reconciler.render.changes import ACTION_WORDS
from reconciler.render.data import yaml_text
from reconciler.render.lineage import lineage_json, steps
from reconciler.render.plan import entries
from reconciler.render.plan_json import plan_json
from reconciler.render.state import Item, describe_json
from reconciler.render.words import place, value_text
from reconciler.resource import Action, Document, Part, authored
from reconciler.state import Approval, Held, Intent, Owned, Role

EVENTS_MAX, LINES_MAX, STACKS_MAX, ENTRIES_MAX, LINEAGE_MAX = 50, 60, 500, 200, 200


@dataclass(frozen=True)
class StackRow:
    """One stack of the overview."""

    report: Report
    due_in_s: float | None


def overview(reports: Mapping[str, Report], due_in_s: Mapping[str, float]) -> dict[str, Any]:
    """Every stack there is, what needs somebody first."""
    rows = [StackRow(report, due_in_s.get(name)) for name, report in reports.items()]
    rows.sort(key=_urgency)
    hour = rate(reports.values())
    limits = [None if report.limit is None else Decimal(report.limit) for report in reports.values()]
    return {
        "stacks": rows[:STACKS_MAX],
        "hidden": max(0, len(rows) - STACKS_MAX),
        "hour": hour,
        "month": a_month(hour),
        "known": rate(report for report in reports.values() if report.hour is not None),
        "limit": sum((one for one in limits if one is not None), Decimal(0)) if limits and None not in limits else None,
    }


def _urgency(row: StackRow) -> tuple[bool, bool, str]:
    return not row.report.error, not row.report.proposal, row.report.stack


def stack(seen: Seen, cards: Sequence[Card]) -> dict[str, Any]:
    drawn = chain.columns(cards)
    return {
        "name": seen.name,
        "report": seen.report,
        "heading": seen.opened.heading,
        "seen_at": seen.at,
        "columns": drawn,
        "lines": chain.lines(drawn),
        "height": f"{chain.height(drawn):g}",
        "events": newest(seen.report),
        "trouble": [],
        "changes": len(seen.snapshot.plan.changes),
        "proposals": bool(seen.proposals),
        "hour": seen.costs.hour,
        "limit": seen.opened.session.limits.hour,
        "spent": seen.costs.spent,
    }


def unseen(report: Report) -> dict[str, Any]:
    """A stack of which nothing but its last report is known."""
    return {
        "name": report.stack,
        "report": report,
        "heading": None,
        "seen_at": report.looked_at,
        "columns": (),
        "lines": (),
        "height": "0",
        "events": newest(report),
        "changes": 0,
        "proposals": False,
        "hour": None if report.hour is None else Decimal(report.hour),
        "limit": None if report.limit is None else Decimal(report.limit),
        "spent": None,
    }


def newest(report: Report, address: str = "") -> tuple[Happened, ...]:
    """The newest events first, of one address if one is given."""
    found = [one for one in report.events if not address or chain.address_of(one.slot) == address]
    return tuple(reversed(found[-EVENTS_MAX:]))


# One object ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldRow:
    """One field of a slot: as it is declared, and as the service shows it; `moved` where an apply would change it."""

    name: str
    declared: str
    observed: str
    moved: bool


@dataclass(frozen=True)
class SlotRow:
    """One slot of an address, with the object it holds."""

    slot: str
    item: Item
    condition: Condition | None
    fields: tuple[FieldRow, ...]
    outputs: tuple[tuple[str, str], ...]


def logged(seen: Seen, address: str) -> Owned | None:
    """The object of an address that may keep a log: the one under way, else the one in use."""
    rows = [row for row in seen.snapshot.state.owned.values() if row.slot.address == address]
    for role in (Role.NEXT, Role.CURRENT):
        for row in rows:
            if row.role is role and seen.opened.session.collections[row.collection].logs(row.id, 0) is not None:
                return row
    return None


def object_(seen: Seen, address: str, run: Run | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values for the page, and the same for programs."""
    session, snapshot = seen.opened.session, seen.snapshot
    document = next((one for one in session.project.documents if one.address == address), None)
    items = [one for one in seen.items if one.slot.address == address]
    conditions = {one.slot: one for one in seen.report.conditions if chain.address_of(one.slot) == address}
    known = all_of(snapshot.state)
    runs = [one for one in seen.costs.runs if one.slot.address == address]
    bought = [(one, spent(one, seen.costs.runs)) for one in runs]
    curves = chart.curves(run.measured) if run else ()
    journal = sorted(_journal(seen, address), key=lambda intent: (intent.at, intent.op_id), reverse=True)
    values = {
        "name": seen.name,
        "address": address,
        "card": next(card for card in chain.cards(seen) if card.address == address),
        "declared_at": _here(seen, place(document.position())) if document else "",
        "description": document.metadata.description if document else "",
        "manifest": yaml_text(authored(document.spec)).splitlines() if document else (),
        "slots": [_slot(one, conditions.get(str(one.slot)), seen) for one in items],
        "events": newest(seen.report, address),
        "entries": _entries(seen, address),
        "journal": journal[:EVENTS_MAX],
        "log": run.lines[-LINES_MAX:] if run else None,
        "curve": bool(curves),
        "curve_says": [_curve_text(curve) for curve in curves],
        "lineage": [_lineage(known, one.row.key) for one in items if one.row and one.row.key in known.nodes],
        "hour": total(one.hour for one in items),
        "bought": bought,
        "spent": total(amount for _, amount in bought),
    }
    return values, _object_json(seen, address, document, items, run, known)


def _journal(seen: Seen, address: str) -> list[Intent]:
    return [intent for intent in seen.snapshot.state.intents.values() if intent.slot.address == address]


def _slot(one: Item, condition: Condition | None, seen: Seen) -> SlotRow:
    part = _part(seen, one)
    declared: Mapping[str, Any] = part.fields if part else {}
    observed: Mapping[str, Any] = one.seen.fields if one.seen else {}
    moved = {
        change.path[0] for op in seen.snapshot.plan.operations if op.slot == one.slot for change in op.reasons if change
    }
    names = [*declared, *(name for name in observed if name not in declared)]
    rows = tuple(
        FieldRow(
            name,
            value_text(declared[name]) if name in declared else "",
            value_text(observed[name]) if name in observed else "",
            name in moved,
        )
        for name in names
    )
    outputs = one.seen.outputs if one.seen else one.row.outputs if one.row else {}
    told = tuple((name, value_text(value)) for name, value in outputs.items())
    return SlotRow(str(one.slot), one, condition, rows, told)


def _part(seen: Seen, one: Item) -> Part | None:
    parts = seen.opened.session.project.parts.get(one.slot.address, ())
    return next((part for part in parts if part.slot == one.slot), None)


def _curve_text(curve: chart.Curve) -> str:
    (_, first), (step, last) = curve.points[0], curve.points[-1]
    return f"{curve.name}: {chart.number(first)} -> {chart.number(last)} ({step:g})"


def _lineage(known: Lineage, key: str) -> dict[str, Any]:
    return {
        "id": known.nodes[key].id,
        "before": list(steps(known, key, known.before, {key}))[:LINEAGE_MAX],
        "after": list(steps(known, key, known.after, {key}))[:LINEAGE_MAX],
    }


def _object_json(
    seen: Seen, address: str, document: Document | None, items: Sequence[Item], run: Run | None, known: Lineage
) -> dict[str, Any]:
    session, snapshot = seen.opened.session, seen.snapshot
    planned = plan_json(seen.opened.heading, snapshot.plan, session.collections)["operations"]
    told = to_data(seen.report)
    retired = inventory.retired(session, snapshot, address)
    nodes = [known.nodes[one.row.key] for one in items if one.row and one.row.key in known.nodes]
    runs = [one for one in seen.costs.runs if one.slot.address == address]
    amounts = [spent(one, seen.costs.runs) for one in runs]
    return {
        "stack": seen.name,
        **describe_json(
            address,
            document,
            [*items, *retired],
            snapshot.state,
            [one for one in planned if one["address"] == address],
        ),
        "conditions": [one for one in told["conditions"] if chain.address_of(one["slot"]) == address],
        "events": [one for one in told["events"] if chain.address_of(one["slot"]) == address][-EVENTS_MAX:],
        "log": list(run.lines) if run else None,
        "measurements": chart.measured_json(address, run.row.id, run.measured)["measurements"] if run else None,
        "lineage": lineage_json(known, nodes) if nodes else None,
        "cost": {
            "hour_cny": _text(total(one.hour for one in items)),
            "bought_cny": _text(total(amounts)),
        },
    }


# A plan -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What happens to one slot."""

    action: str
    glyph: str
    slot: str
    address: str
    summary: str
    details: tuple[str, ...]
    price: str
    stage: str


@dataclass(frozen=True)
class Asked:
    """What waits for a yes under one digest, with the sums of all of it."""

    approval: Approval
    held: tuple[tuple[str, str, Held], ...]
    once: Decimal | None
    hour: Decimal | None


def _asked(approval: Approval) -> Asked:
    """With the word and the glyph of what each operation does."""
    held = tuple((ACTION_WORDS[Action(one.action)], one.action, one) for one in approval.held)
    return Asked(approval, held, _sum(one.once for one in approval.held), _sum(one.hour for one in approval.held))


def _sum(amounts: Iterable[str | None]) -> Decimal | None:
    return total(None if one is None else Decimal(one) for one in amounts)


def plan(seen: Seen) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values for the page, and the same for programs."""
    session, snapshot = seen.opened.session, seen.snapshot
    told = _entries(seen)
    totals = snapshot.plan.totals
    proposals = seen.proposals
    values = {
        "name": seen.name,
        "heading": seen.opened.heading,
        "seen_at": seen.at,
        "entries": told[:ENTRIES_MAX],
        "hidden": max(0, len(told) - ENTRIES_MAX),
        "totals": totals,
        "notes": snapshot.plan.notes,
        "breaches": [(one.rule, str(one), one.override) for one in snapshot.breaches],
        "limits": session.limits,
        "proposals": [_asked(one) for one in proposals],
    }
    asked = [
        {
            "digest": one.digest,
            "proposed_at": one.proposed_at,
            "revision": one.revision,
            "operations": [
                {"slot": held.slot, "action": held.action, "once_cny": held.once, "hour_cny": held.hour}
                for held in one.held
            ],
        }
        for one in proposals
    ]
    data = {**plan_json(seen.opened.heading, snapshot.plan, session.collections), "proposals": asked}
    return values, data


def _entries(seen: Seen, address: str = "") -> tuple[Step, ...]:
    staged = entries(seen.snapshot.plan, seen.opened.session.collections)
    return tuple(
        _step(seen, entry.operations, entry.stage)
        for entry in staged
        if not address or entry.lead.slot.address == address
    )


def _step(seen: Seen, operations: Sequence[Operation], stage: str) -> Step:
    lead = operations[0]
    details = list(changes.reasons(operations))
    if lead.verb is Verb.CREATE and lead.part:
        details += lead.part.remarks
    details += [lead.hint] if lead.hint else []
    return Step(
        ACTION_WORDS[lead.action],
        lead.action.value,
        str(lead.slot),
        lead.slot.address,
        changes.summary(operations),
        tuple(_here(seen, one) for one in details),
        changes.cost(operations),
        stage,
    )


def _here(seen: Seen, text: str) -> str:
    """Paths as the project has them: where it lies on the controller's machine says nothing to whoever reads."""
    return text.replace(f"{seen.opened.session.project.root}/", "")


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)
