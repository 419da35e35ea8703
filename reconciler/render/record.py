"""What is recorded, and what a person did to it: the rows, the journal, open operations, a rebuild and its doubts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from reconciler.adoption import IMPORT
from reconciler.engine import Restored
from reconciler.rebuild import Found, Undecided
from reconciler.render.data import yaml_text
from reconciler.render.plan_json import plain
from reconciler.render.state import pause_text
from reconciler.render.words import Line, brief, clean, count, listed, money, page, table
from reconciler.resource import Collection, Observed, whole
from reconciler.state import PERSON, Event, Intent, IntentPhase, Owned, Pause, Resumed, State
from reconciler.surgery import MOVE, REMOVE, UNLOCK, Candidate

WHOLE_STATE = "the state"

# Rows ---------------------------------------------------------------------------------------------------------------


def rows_text(state: State, width: int | None) -> str:
    """A line for each recorded object, by address."""
    rows = [
        [*map(clean, (row.slot.address, row.slot.part, row.role, row.collection, row.id, row.applied_at))]
        for row in ordered(state)
    ]
    return table(("ADDRESS", "PART", "ROLE", "COLLECTION", "ID", "SINCE"), rows, width) if rows else "nothing recorded"


def rows_json(state: State) -> dict[str, Any]:
    stamp = state.stamp
    return {
        "stamp": asdict(stamp) if stamp else None,
        "lineage": state.lineage,
        "serial": state.serial,
        "objects": [
            {
                "address": row.slot.address,
                "part": row.slot.part,
                "role": row.role.value,
                "collection": row.collection,
                "id": row.id,
                "since": row.applied_at,
            }
            for row in ordered(state)
        ],
    }


def ordered(state: State) -> list[Owned]:
    return sorted(state.owned.values(), key=lambda row: (row.slot, row.role, row.applied_at, row.key))


def row_text(rows: Iterable[Owned], width: int | None) -> str:
    """Every field of these rows."""
    lines = []
    for row in rows:
        lines.append(Line(f"{clean(row.slot)}  {row.role}  {clean(row.key)}", {"bold": True}))
        lines += [Line(clean(text, 400), indent=2, whole=True) for text in yaml_text(row_json(row)).splitlines()]
    return page(lines, width)


def row_json(row: Owned) -> dict[str, Any]:
    return {"address": row.slot.address, "part": row.slot.part} | _without_slot(row)


def _without_slot(value: Owned | Intent) -> dict[str, Any]:
    facts = {name: fact for name, fact in asdict(value).items() if name != "slot"}
    return {name: fact.value if isinstance(fact, StrEnum) else plain(fact) for name, fact in facts.items()}


# The journal --------------------------------------------------------------------------------------------------------


def journal_text(entries: Sequence[Intent], width: int | None) -> str:
    """One line an entry: when, what, how it ended, by whom, why."""
    return page((Line(_entry_text(entry)) for entry in entries), width) if entries else "the journal is empty"


def _entry_text(entry: Intent) -> str:
    whole = WHOLE_STATE if entry.verb == UNLOCK else "the stack"
    words = [entry.at, f"{entry.verb} {entry.slot if entry.slot.address else whole}"]
    words.append(_about(entry))
    words += ["by a person" if entry.by == PERSON else "", entry.reason]
    return "  ".join(clean(word) for word in words if word)


def _about(entry: Intent) -> str:
    if entry.verb == MOVE:
        return f"was {_former(entry)}"
    about = entry.result_id or ("" if entry.verb == "create" else listed(entry.known_before))
    return f"{entry.phase} {about}".strip()


def _former(entry: Intent) -> str:
    return ":".join(filter(None, entry.fields.get("from", ())))


def operations_text(entries: Sequence[Intent], width: int | None) -> str:
    rows = [
        [*map(clean, (one.op_id, one.at, f"{one.verb} {one.slot}".strip(), one.phase, one.result_id))]
        for one in entries
    ]
    return table(("OPERATION", "AT", "WHAT", "OUTCOME", "MADE"), rows, width) if rows else "no open operations"


def entry_json(entry: Intent) -> dict[str, Any]:
    """Everything of a journal row."""
    body = _without_slot(entry)
    return {"operation": body.pop("op_id"), "address": entry.slot.address, "part": entry.slot.part, **body}


# One operation ------------------------------------------------------------------------------------------------------


_FACTS = (
    "phase", "by", "reason", "at", "deadline", "collection", "tag", "attempt", "generation", "result_id", "request_id",
    "status", "account", "epoch", "deletion", "base",
)  # fmt: skip


def operation_text(
    entry: Intent, found: Sequence[Candidate] | None, unseen: str, collection: Collection | None, width: int | None
) -> str:
    """One journal row, what may be its effect, and the two commands that decide it. `unseen`: why nobody looked."""
    lines = [Line(f"operation {clean(entry.op_id)}: {entry.verb} {clean(entry.slot)}", {"bold": True})]
    facts = entry_json(entry)
    said = (name for name in _FACTS if facts[name] not in ("", 0))
    lines += [Line(f"{name.replace('_', ' ')}: {clean(facts[name], 400)}", indent=2) for name in said]
    lines += [Line(f"made from {clean(key)}", indent=2) for key in entry.uses]
    lines += [Line(f"there before: {clean(key)}", indent=2) for key in entry.known_before]
    lines += [Line(f"{clean(name)}: {brief(value)}", {"dim": True}, indent=4) for name, value in entry.fields.items()]
    if entry.is_open:
        lines += _open(entry, found, unseen, collection)
    return page(lines, width)


def _open(
    entry: Intent, found: Sequence[Candidate] | None, unseen: str, collection: Collection | None
) -> Iterator[Line]:
    if found is None:
        yield Line(f"the service was not asked: {clean(unseen, 400)}")
    elif not found:
        yield Line(f"nothing in {clean(entry.collection)} looks like it")
    else:
        yield Line(f"looked for in {clean(entry.collection)}: the tag, and what was sent")
        assert collection is not None
        for one in found:
            sign = "carries the mark" if one.match.value == "strong" else "looks alike"
            yield Line(f"{candidate_text(one.seen, entry, collection)}; {sign}", indent=2)
    name = clean(entry.op_id)
    if entry.verb == "create":
        yield Line(f"reconciler ops resolve {name} --adopt ID", {"bold": True})
    yield Line(f"reconciler ops resolve {name} --absent --reason TEXT", {"bold": True})


def candidate_text(seen: Observed, entry: Intent, collection: Collection) -> str:
    """Id, time, status and cost."""
    words = [seen.id, seen.status, str(seen.outputs.get("created", "")), _cost(seen, entry, collection)]
    return ", ".join(clean(word) for word in words if word)


def _cost(seen: Observed, entry: Intent, collection: Collection) -> str:
    fields = {**entry.fields, **seen.fields}
    price = collection.price(fields, base=entry.base, tokens=whole(seen.outputs.get("tokens")))
    once = f"{money(price.once)} CNY once" if price.once != 0 else ""
    return once or (f"{money(price.hour)} CNY/h" if price.hour != 0 else "")


def operation_json(
    entry: Intent, found: Sequence[Candidate] | None, unseen: str, collection: Collection | None
) -> dict[str, Any]:
    """The same for programs; `candidates` is null where the service was not asked."""
    listing = None
    if found is not None and collection is not None:
        listing = [{**seen_json(one.seen), "match": one.match.value} for one in found]
    return {**entry_json(entry), "open": entry.is_open, "candidates": listing, "not_asked": unseen}


def seen_json(seen: Observed) -> dict[str, Any]:
    created = seen.outputs.get("created")
    return {"id": seen.id, "status": seen.status, "phase": seen.phase.value, "created": created}


# What was done ------------------------------------------------------------------------------------------------------


def done_text(events: Iterable[Event], width: int | None) -> str:
    """What a person changed in the record, a line for each journal row."""
    return page((Line(_done(event)) for event in events if isinstance(event, Intent)), width)


def _done(entry: Intent) -> str:
    slot, ids = clean(entry.slot), listed([clean(key) for key in entry.known_before])
    if entry.verb == MOVE:
        return f"{clean(_former(entry))} is {slot} from now on: {ids}"
    if entry.verb == REMOVE:
        return f"{slot}: {clean(entry.collection)}/{ids} is forgotten; it stays on the service"
    if entry.verb == IMPORT:
        return f"{slot}: {clean(entry.collection)}/{clean(entry.result_id)} is recorded; nothing changed on the service"
    if entry.phase is IntentPhase.ADOPTED:
        made = f"operation {clean(entry.op_id)} made {clean(entry.result_id)}"
        return f"{slot}: {made}; the next apply waits for it and puts it in use"
    return f"{slot}: operation {clean(entry.op_id)} made nothing; the next apply may create it"


def done_json(events: Iterable[Event]) -> dict[str, Any]:
    return {"done": [entry_json(event) for event in events if isinstance(event, Intent)]}


def inferred_text(events: Iterable[Event]) -> str:
    """A warning for what was taken for ours without our mark, or ""."""
    ids = [clean(event.id) for event in events if isinstance(event, Owned) and event.inferred]
    return f"warning: {listed(ids)} does not show our mark: it is ours by your word alone" if ids else ""


def forget_text(rows: Sequence[Owned]) -> str:
    """What is about to be forgotten."""
    head = f"to be forgotten: {count(len(rows), 'object')}, which stay on the service and cost what they cost"
    return "\n".join([head, *(f"  {clean(row.slot)}  {row.role}  {clean(row.key)}" for row in rows)])


def holder_text(holder: str, since: str, epoch: int) -> str:
    return f"{clean(holder)} holds the state since {clean(since) or 'an unknown time'}, epoch {epoch}"


# Holding back ---------------------------------------------------------------------------------------------------------


def paused_text(held: Iterable[Pause], events: Iterable[Event], going: Sequence[Owned], width: int | None) -> str:
    """What is paused from now on or was so already, and what goes on all the same."""
    fresh = [event for event in events if isinstance(event, Pause)]
    lines = [pause_text(one, "" if one in fresh else "already") for one in held]
    lines += [f"{clean(row.slot)}: {clean(row.id)} is under way: it goes on, and is billed" for row in going]
    lines.append("what runs goes on, and costs what it costs; an apply leaves it as it is")
    return page(map(Line, lines), width)


def resumed_text(events: Iterable[Event], after: State, width: int | None) -> str:
    """What is paused no more, and what still is."""
    ended = [event for event in events if isinstance(event, Resumed)]
    lines = [
        f"{clean(event.address) or 'the stack'} is paused no more: reconciler plan shows what is due" for event in ended
    ]
    lines += [pause_text(one, "still") for _, one in sorted(after.pauses.items())]
    return page(map(Line, lines), width)


def pauses_json(events: Iterable[Event], after: State, going: Sequence[Owned] = ()) -> dict[str, Any]:
    """For programs: what was decided, and everything that is paused after it; an empty address is the whole stack."""
    return {
        **done_json(events),
        "paused": [asdict(one) for _, one in sorted(after.pauses.items())],
        "going_on": [{"address": row.slot.address, "part": row.slot.part, "id": row.id} for row in going],
    }


# A rebuild ----------------------------------------------------------------------------------------------------------


def rebuild_text(restored: Restored, collections: Mapping[str, Collection], width: int | None) -> str:
    """What would be recorded or, once it is done, what was; and everything that is left to a person."""
    rebuilt = restored.rebuilt
    lines = [Line(f"damaged: {clean(restored.damaged, 600)}", {"fg": "red"})] if restored.damaged else []
    lines += [Line(f"put away: {clean(path, 400)}") for path in restored.aside]
    if rebuilt.found:
        lines.append(Line("recorded, by their marks" if restored.done else "found by their marks", {"bold": True}))
        lines += [Line(_found_text(one), {"fg": "green"}, indent=2, head=1) for one in rebuilt.found]
    lines += [Line(f"o {clean(row.slot)}  {clean(row.key)} is gone from the service", indent=2) for row in rebuilt.lost]
    if rebuilt.undecided:
        lines.append(Line("undecided: nothing is made there until a person has decided", {"bold": True}))
        for one in rebuilt.undecided:
            lines += _undecided(one, collections, done=restored.done)
    if rebuilt.missing:
        lines.append(Line("not on the service: an apply makes it", {"bold": True}))
        lines += [Line(clean(slot), indent=2) for slot in rebuilt.missing]
    if rebuilt.strays:
        lines.append(Line("a mark like ours, but of nothing that is declared here", {"bold": True}))
        strays = (f"{name}/{seen.id}  {seen.outputs.get('mark', '')}" for name, seen in rebuilt.strays)
        lines += [Line(clean(text), indent=2) for text in strays]
    if not (rebuilt.found or rebuilt.undecided or rebuilt.lost):
        lines.append(Line("nothing to rebuild"))
    return page(lines, width)


def _found_text(found: Found) -> str:
    row = found.row
    text = f"= {clean(row.slot)}  {clean(row.key)}  {row.role}"
    text += f"  failed: {clean(row.failure)}" if row.failure else ""
    return text if found.declared else f"{text}  made from something else than is declared now"


def _undecided(one: Undecided, collections: Mapping[str, Collection], *, done: bool) -> Iterator[Line]:
    yield Line(f"! {clean(one.slot)}  {clean(one.why)}", {"fg": "red"}, indent=2, head=1)
    for seen in one.candidates:
        text = candidate_text(seen, one.intent, collections[one.intent.collection]) if one.intent else clean(seen.id)
        yield Line(text, indent=6)
    if done and one.intent:
        yield Line(f"reconciler ops show {clean(one.intent.op_id)}", indent=6)


def rebuild_json(restored: Restored) -> dict[str, Any]:
    rebuilt = restored.rebuilt
    return {
        "done": restored.done,
        "damaged": restored.damaged,
        "put_away": list(restored.aside),
        "found": [{**row_json(one.row), "as_declared": one.declared} for one in rebuilt.found],
        "gone": [row.key for row in rebuilt.lost],
        "undecided": [
            {
                "address": one.slot.address,
                "part": one.slot.part,
                "why": one.why,
                "operation": one.intent.op_id if one.intent and restored.done else None,
                "candidates": [seen_json(seen) for seen in one.candidates],
            }
            for one in rebuilt.undecided
        ],
        "missing": [{"address": slot.address, "part": slot.part} for slot in rebuilt.missing],
        "strays": [{"collection": name, **seen_json(seen)} for name, seen in rebuilt.strays],
    }
