"""What is there now: the objects of a stack as lines, as a table, as data, and one of them with all that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from reconciler.conditions import Condition, Health, Sync
from reconciler.lengths import Lengths
from reconciler.money import a_month
from reconciler.plan import Plan, World, bills
from reconciler.render import markdown
from reconciler.render.data import cny, yaml_text
from reconciler.render.lengths import lengths_json, lengths_lines
from reconciler.render.plan import Heading, entries, entry_lines, heading_text, money_texts, prices_text
from reconciler.render.plan_json import plain
from reconciler.render.words import Line, brief, clean, listed, money, page, place, table
from reconciler.resource import Collection, Document, Observed, Price, Slot, authored
from reconciler.state import Intent, Owned, Pause, State
from reconciler.surgery import paused_since, resuming

NOT_CREATED, GONE, NOTHING = "not created", "gone", "no objects"
_HEADER = ("OBJECT", "SYNC", "HEALTH", "STATUS", "ID", "SINCE", "CNY/H")


@dataclass(frozen=True)
class Item:
    """One slot with what it holds: `row` is None where nothing was made yet, `seen` where the service has it no more.

    `hour` is what it costs an hour now, None where that is not known; `paused` what holds it back; `condition` that of
    its slot, where one is told.
    """

    slot: Slot
    row: Owned | None = None
    seen: Observed | None = None
    hour: Decimal | None = Decimal(0)
    paused: Pause | None = None
    condition: Condition | None = None

    @property
    def status(self) -> str:
        """The service's own word, or ours where it has none."""
        if self.row is None:
            return NOT_CREATED
        if self.seen is None:
            return GONE
        return f"{self.seen.status} (failed)" if self.row.failure else self.seen.status

    @property
    def since(self) -> str:
        created = self.seen.outputs.get("created", "") if self.seen else ""
        return str(created or (self.row.applied_at if self.row else "")).replace("T", " ")


def item(slot: Slot, row: Owned | None, state: State, world: World, collections: Mapping[str, Collection]) -> Item:
    """A slot's row beside what the service shows of it."""
    paused = state.paused(slot.address)
    if row is None:
        return Item(slot, paused=paused)
    seen = world.get(row)
    costs = seen is not None and bills(seen)
    hour = hourly_price(row, seen, collections).hour if costs else Decimal(0)
    return Item(slot, row, seen, hour, paused)


def hourly_price(row: Owned, seen: Observed | None, collections: Mapping[str, Collection]) -> Price:
    """What an object costs while it runs, as the service has it."""
    fields = {**row.last_applied, **(seen.fields if seen else {})}
    return collections[row.collection].price(fields, base=row.base)


# All of them --------------------------------------------------------------------------------------------------------


def status_text(heading: Heading, items: Sequence[Item], state: State, plan: Plan, width: int | None) -> str:
    """A line for each slot, then the run rate and whatever is not settled."""
    objects = table(_HEADER, list(map(_status_row, items)), width) if items else NOTHING
    settled = page(_settled(heading, items, state, plan), width)
    return "\n".join([page([Line(heading_text(heading))], width), "", objects, "", settled])


def status_markdown(heading: Heading, items: Sequence[Item], state: State, plan: Plan) -> str:
    objects = markdown.table(_HEADER, map(_status_row, items)) if items else NOTHING
    settled = markdown.points(line.text for line in _settled(heading, items, state, plan))
    return "\n\n".join([markdown.escaped(heading_text(heading)), objects, settled])


def _status_row(one: Item) -> list[str]:
    return [clean(one.slot), *_words(one), _status(one), _id(one), clean(one.since), _rate(one)]


def _settled(heading: Heading, items: Sequence[Item], state: State, plan: Plan) -> Iterator[Line]:
    rate = plan.totals.hour_before
    yield Line(f"run rate {money(rate)} CNY/h ({money(a_month(rate))} a month)", {"bold": True})
    yield Line(f"an apply would cost {', '.join(money_texts(plan))}; {prices_text(heading)}")
    failures = [(one.slot, one.row.failure) for one in items if one.row and one.row.failure]
    yield from (Line(f"failed: {clean(slot)}: {clean(failure, 400)}", {"fg": "red"}) for slot, failure in failures)
    yield from (Line(_open_text(intent), {"fg": "red"}) for intent in state.open_intents())
    told = {one.slot: one.condition for one in items if one.condition and not (one.row and one.row.failure)}
    yield from (Line(f"{clean(slot)}: {reason_text(one)}") for slot, one in told.items() if _is_odd(one))
    yield from (Line(pause_text(one), {"fg": "yellow"}) for _, one in sorted(state.pauses.items()))


def status_json(heading: Heading, items: Sequence[Item], state: State, plan: Plan) -> dict[str, Any]:
    """The same for programs; null is unknown."""
    rate = plan.totals.hour_before
    return {
        "stack": heading.stack,
        "environment": heading.environment,
        "endpoint": heading.endpoint,
        "objects": [item_json(one) for one in items],
        "hour_cny": cny(rate),
        "open_operations": [intent.op_id for intent in state.open_intents()],
    }


def table_text(items: Sequence[Item], width: int | None) -> str:
    rows = [[clean(one.slot), _role(one), *_words(one), _status(one), _id(one), clean(one.since)] for one in items]
    return (
        table(("OBJECT", "ROLE", "SYNC", "HEALTH", "STATUS", "ID", "SINCE"), rows, width) if rows else "nothing found"
    )


def _words(one: Item) -> tuple[str, str]:
    return (one.condition.sync.value, one.condition.health.value) if one.condition else ("", "")


def _is_odd(one: Condition) -> bool:
    """Whether there is something to say of it beyond its two words."""
    return bool(one.message) and (one.sync is not Sync.SYNCED or one.health is not Health.READY)


def reason_text(one: Condition) -> str:
    """Why an object is as it is."""
    return ": ".join(filter(None, (one.reason.value, clean(one.message, 400))))


def _status(one: Item) -> str:
    return f"{clean(one.status)} (paused)" if one.paused else clean(one.status)


def pause_text(one: Pause, how: str = "") -> str:
    """What is held back, since when and why, and what ends it. `how`: already, still."""
    what, command = clean(one.address) or "the stack", clean(resuming(one.address))
    return f"{what} is {f'{how} paused'.strip()} {clean(paused_since(one), 400)}: {command}"


def _id(one: Item) -> str:
    return clean(one.row.id) if one.row else ""


def _role(one: Item) -> str:
    return one.row.role.value if one.row else ""


def _rate(one: Item) -> str:
    return "" if one.hour == 0 else money(one.hour)


def _open_text(intent: Intent) -> str:
    what = f"{intent.verb} {clean(intent.slot)}, operation {clean(intent.op_id)} of {clean(intent.at)}"
    return f"open: {what}: its outcome is not known yet; reconciler apply looks for it first of all"


def item_json(one: Item) -> dict[str, Any]:
    """One object for programs; null where it is not known, or there is nothing."""
    row, seen = one.row, one.seen
    return {
        "address": one.slot.address,
        "part": one.slot.part,
        "role": row.role.value if row else None,
        "id": row.id if row else None,
        "sync": one.condition.sync.value if one.condition else None,
        "health": one.condition.health.value if one.condition else None,
        "reason": one.condition.reason.value if one.condition else "",
        "message": one.condition.message if one.condition else "",
        "status": one.status,
        "phase": seen.phase.value if seen else None,
        "since": one.since or None,
        "hour_cny": cny(one.hour),
        "failure": row.failure if row else "",
        "paused": {"since": one.paused.since, "reason": one.paused.reason} if one.paused else None,
        "last_applied": plain(row.last_applied) if row else {},
        "fields": plain(seen.fields) if seen else {},
        "outputs": plain(seen.outputs) if seen else {},
    }


# One of them --------------------------------------------------------------------------------------------------------


def describe_text(
    address: str,
    document: Document | None,
    items: Sequence[Item],
    state: State,
    plan: Plan,
    collections: Mapping[str, Collection],
    width: int | None,
    lengths: Lengths | None = None,
) -> str:
    """Declared, made, journalled, and what an apply would do. `lengths` are those of the rows a run learns from."""
    lines = [Line(clean(address), {"bold": True})]
    if pause := state.paused(address):
        lines.append(Line(pause_text(pause), {"fg": "yellow"}, indent=2))
    lines += _declared(document) if document else [Line("no manifest declares it", indent=2)]
    if lengths:
        lines += [Line("rows", {"bold": True}), *lengths_lines(lengths)]
    for one in items:
        lines += _object(one)
    journal = sorted((i for i in state.intents.values() if i.slot.address == address), key=lambda i: (i.at, i.op_id))
    lines += [Line("journal", {"bold": True})] if journal else []
    lines += [Line(_journal_text(intent), indent=2) for intent in journal]
    staged = tuple(entry for entry in entries(plan, collections) if entry.lead.slot.address == address)
    lines.append(Line("plan", {"bold": True}))
    lines += entry_lines(staged, width=width) if staged else [Line("as declared", indent=2)]
    return page(lines, width)


def _declared(document: Document) -> Iterator[Line]:
    yield Line(f"declared at {place(document.position())}", indent=2)
    if document.metadata.description:
        yield Line(clean(document.metadata.description, 400), indent=2)
    for name, value in document.metadata.labels.items():
        yield Line(f"label {clean(name)}: {clean(value)}", indent=2)
    for row in yaml_text(authored(document.spec)).splitlines():
        yield Line(clean(row, 400), {"dim": True}, indent=4, whole=True)


def _object(one: Item) -> Iterator[Line]:
    row, seen = one.row, one.seen
    yield Line(f"{clean(one.slot)}  {_role(one)}".rstrip(), {"bold": True})
    if one.condition:
        yield Line(", ".join(filter(None, (*_words(one), reason_text(one.condition)))), indent=2)
    yield Line(" ".join(filter(None, (clean(one.status), _id(one)))), indent=2)
    if row is None:
        return
    if row.failure:
        yield Line(f"failed: {clean(row.failure, 600)}", {"fg": "red"}, indent=2)
    if one.hour != 0:
        yield Line(f"{money(one.hour)} CNY/h", indent=2)
    yield Line(f"applied at {clean(row.applied_at)}", indent=2)
    yield from (Line(f"made from {clean(key)}", indent=2) for key in row.uses)
    if row.deletion:
        yield Line(f"deletionPolicy {row.deletion}", indent=2)
    for name, value in ({**seen.fields, **seen.outputs} if seen else row.outputs).items():
        yield Line(f"{clean(name)}: {brief(value)}", {"dim": True}, indent=4)


def _journal_text(intent: Intent) -> str:
    about = intent.result_id or ("" if intent.verb == "create" else listed(intent.known_before))
    words = (intent.at, intent.verb, intent.phase.value, about, f"tag {intent.tag}" if intent.tag else "")
    return "  ".join(clean(word) for word in (*words, intent.reason) if word)


def describe_json(
    address: str,
    document: Document | None,
    items: Sequence[Item],
    state: State,
    changes: Sequence[Mapping[str, Any]],
    lengths: Lengths | None = None,
) -> dict[str, Any]:
    """The same for programs; `changes` are the operations of the plan's JSON that are about it."""
    at = document.position() if document else None
    journal = [intent for intent in state.intents.values() if intent.slot.address == address]
    return {
        "address": address,
        "at": at._asdict() if at else None,
        "spec": plain(authored(document.spec)) if document else None,
        "paused": asdict(pause) if (pause := state.paused(address)) else None,
        "lengths": lengths_json(lengths) if lengths else None,
        "objects": [{**item_json(one), "uses": list(one.row.uses) if one.row else []} for one in items],
        "journal": [_intent_json(intent) for intent in sorted(journal, key=lambda intent: (intent.at, intent.op_id))],
        "operations": list(changes),
    }


def _intent_json(intent: Intent) -> dict[str, Any]:
    return {
        "operation": intent.op_id,
        "at": intent.at,
        "verb": intent.verb,
        "phase": intent.phase.value,
        "tag": intent.tag,
        "result_id": intent.result_id,
        "request_id": intent.request_id,
        "reason": intent.reason,
    }
