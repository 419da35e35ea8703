"""One operation in words: what it does, why, from where in which file, and what it costs.

Works from fields, marks and prices alone; it knows no kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.diff import Change
from reconciler.money import OVERLAP, a_month
from reconciler.plan import Operation, Verb
from reconciler.render.words import clean, count, listed, money, place, size_text, value_text
from reconciler.resource import FREE, Action, Content, Known, Price

ACTION_WORDS: Mapping[Action, str] = {
    Action.CREATE: "create",
    Action.UPDATE: "update",
    Action.RUN: "run",
    Action.SWAP: "swap",
    Action.DELETE: "delete",
    Action.FORGET: "forget",
    Action.ADOPT: "adopt",
    Action.WAIT: "wait",
    Action.BLOCKED: "blocked",
}


# What is done -------------------------------------------------------------------------------------------------------


def summary(operations: Sequence[Operation]) -> str:
    """What happens to one slot. `operations` are the steps of it; the first says what they are for."""
    lead = operations[0]
    match lead.verb:
        case Verb.CREATE:
            return _creation(lead)
        case Verb.UPDATE:
            return update_text([change for op in operations for change in op.reasons])
        case Verb.DELETE:
            return f"delete {clean(lead.target_id)}" + (f" ({clean(lead.why)})" if lead.why else "")
        case Verb.FORGET:
            return f"{clean(lead.target_id)} {clean(lead.why)}"
        case Verb.WAIT | Verb.NOTHING | Verb.ADOPT | Verb.DISCARD | Verb.CANCEL:
            return clean(lead.why, 400)


def _creation(op: Operation) -> str:
    if op.action is Action.SWAP:
        return f"swap: {listed([_swapped(change) for change in op.reasons]) or clean(op.why)}"
    if op.part and op.part.content:
        return f"upload {content_text(op.part.content)}"
    what = "new paid run" if op.action is Action.RUN else "new"
    return f"{what}: {listed(list(_plain_fields(op)))}"


def _swapped(change: Change) -> str:
    return f"{'.'.join(map(clean, change.path))} {value_text(change.before)} -> {value_text(change.after)}"


def content_text(content: Content) -> str:
    """How much is uploaded."""
    rows = f"{count(content.rows, 'row')}, " if content.rows is not None else ""
    about = "" if content.counted else "about "
    tokens = f", {about}{count(content.tokens, 'token')}" if content.tokens is not None else ""
    files = f" of {len(content.paths)} files" if len(content.paths) > 1 else ""
    return f"{rows}{size_text(content.size)}{tokens}{files}"


def _plain_fields(op: Operation) -> Iterator[str]:
    """The fields that say what it is: plain values, references by what they refer to, large mappings by their size."""
    for name, value in op.fields.items():
        if isinstance(value, str):
            yield value_text(value)
        elif isinstance(value, Known):
            base = f" ({clean(op.part.base)})" if op.part and op.part.base else ""
            yield f"{clean(value.output)} of {clean(value.slot)}{base}"
        elif isinstance(value, Mapping) and any(isinstance(item, Mapping) for item in value.values()):
            yield f"{len(value):,} {clean(name)}"
        elif isinstance(value, Mapping):
            yield value_text(value)
        elif not isinstance(value, list | tuple):
            yield f"{clean(name)} {value_text(value)}"


def update_text(changes: Sequence[Change]) -> str:
    """What changes in place, entry by entry: `+ new (4)   ~ changed 3 -> 5   - gone`."""
    return "   ".join(_shortened([_entry(change) for change in changes]))


def _entry(change: Change) -> str:
    name = " ".join(map(clean, change.path[1:] or change.path))
    if len(change.path) > 1 and change.before is None:
        return f"+ {name} ({_values(change.after)})"
    if len(change.path) > 1 and change.after is None:
        return f"- {name}"
    name = name.removesuffix(f" {clean(change.path[-1])}") if len(change.path) > 2 else name
    sign = "~ " if len(change.path) > 1 else ""
    before = "set again" if change.before is None else f"{value_text(change.before)} ->"
    after = f"{len(change.after)} entries" if isinstance(change.after, Mapping) else value_text(change.after)
    return f"{sign}{name} {before} {after}"


def _values(value: Any) -> str:
    return ", ".join(map(value_text, value.values())) if isinstance(value, Mapping) else value_text(value)


def _shortened(entries: list[str], most: int = 12) -> list[str]:
    return entries if len(entries) <= most else [*entries[:most], f"and {len(entries) - most} more"]


# Why ----------------------------------------------------------------------------------------------------------------


def reasons(operations: Sequence[Operation]) -> tuple[str, ...]:
    """One line for each field that caused it, with its place. What the summary shows already is only named."""
    told: dict[str, str] = {}
    for op in operations:
        for change in op.reasons:
            shown = op.verb is Verb.UPDATE or op.action is Action.SWAP
            field = clean(change.path[0]) if shown else ".".join(map(clean, change.path))
            told.setdefault(field, _reason(op, change, field, shown))
    lead = operations[0]
    if lead.why and lead.verb is Verb.CREATE:
        told[""] = f"because {clean(lead.why)}"
    return tuple(told.values())


def _reason(op: Operation, change: Change, field: str, shown: bool) -> str:
    what = "changed" if shown else f"{value_text(change.before)} -> {value_text(change.after)}"
    inputs = _inputs(op, change)
    where = f"   {place(change.at)}" if change.at else ""
    return f"because {field}{':' if inputs or not shown else ''} {inputs or what}{where}"


def _inputs(op: Operation, change: Change) -> str:
    """Which of the things it is made from are others than before, where that is what changed."""
    wanted = op.part.fields.get(change.path[0]) if op.part else None
    if not isinstance(wanted, tuple) or not isinstance(change.before, list | tuple | None):
        return ""
    before = set(map(str, change.before or ()))
    names = {item.digest if isinstance(item, Known) else item: item for item in wanted}
    fresh = [clean(item.slot if isinstance(item, Known) else item) for key, item in names.items() if key not in before]
    gone = len(before - {str(key) for key in names})
    told = [f"{listed(fresh)} {'changed' if gone >= len(fresh) else 'added'}"] if fresh else []
    return ", ".join(told + ([f"{gone - len(fresh)} taken away"] if gone > len(fresh) else []))


# Money --------------------------------------------------------------------------------------------------------------


def cost(operations: Sequence[Operation]) -> str:
    """What one slot's steps cost, with the sum behind it; "" where there is nothing to say."""
    lead, last = operations[0], operations[-1]
    if lead.verb is Verb.CREATE:
        parts = [_once(lead.price), _hourly(lead.price)]
        beside = next((op.price.once for op in operations[1:]), FREE)
        if lead.action is Action.SWAP and beside != 0:
            parts.append(f"both sides are billed for about {_OVERLAP} min ({money(beside)} CNY)")
        return "; ".join(filter(None, parts))
    before, after = lead.was, last.price
    if lead.verb is Verb.UPDATE and before.hour != after.hour:
        return f"{money(before.hour)} -> {money(after.hour)} CNY/h: {clean(after.basis)}"
    if lead.verb is Verb.ADOPT and after.hour != 0:
        return f"{money(after.hour)} CNY/h, as before: nothing is bought"
    if lead.verb is Verb.DELETE and before.hour != 0:
        until = f", after about {money(lead.price.once)} CNY beside the new side" if lead.price.once != 0 else ""
        return f"{money(before.hour)} CNY/h less{until}"
    return ""


_OVERLAP = int(OVERLAP.total_seconds()) // 60


def _once(price: Price) -> str:
    if price.once is None:
        return f"price unknown: {clean(price.basis)}"
    return f"{money(price.once)} CNY once: {clean(price.basis)}" if price.once else ""


def _hourly(price: Price) -> str:
    if price.hour is None:
        return f"hourly price unknown: {clean(price.basis)}"
    if not price.hour:
        return clean(price.basis) if price.basis and price.once == 0 else ""
    return f"{money(price.hour)} CNY/h, {money(a_month(price.hour))} a month: {clean(price.basis)}"
