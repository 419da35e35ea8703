"""How every object of a stack is, for somebody who watches: is it as declared, is it well, since when, and why. Pure.

A condition keeps its time as long as it says the same, so that a page and a metric can tell how long something has been
so; what moved is an event, and the newest `EVENTS_MAX` are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from reconciler.approvals import DIGITS, proposal
from reconciler.errors import StateLocked
from reconciler.plan import Desired, Operation, Plan, Verb, World
from reconciler.resource import Observed, Phase, Slot
from reconciler.state import Owned, Role, State, canonical
from reconciler.surgery import paused_since

EVENTS_MAX = 200
MESSAGE_MAX, ERROR_MAX = 400, 4000  # characters: what is kept of each event, and of why a look came to nothing
NEAR = Decimal("0.8")  # the share of an hourly budget from which on it is said to be near


class Sync(StrEnum):
    """Whether an object is as it is declared. The later word is the worse one."""

    SYNCED = "Synced"
    UNKNOWN = "Unknown"
    OUT_OF_SYNC = "OutOfSync"


class Health(StrEnum):
    """How an object is, whatever is declared. The later word is the worse one."""

    READY = "Ready"
    PAUSED = "Paused"
    PROGRESSING = "Progressing"
    UNKNOWN = "Unknown"
    DEGRADED = "Degraded"
    FAILED = "Failed"


class Reason(StrEnum):
    """Why an object is as it is, in one word (docs/watching.md)."""

    NONE = ""
    NOT_CREATED = "NotCreated"
    UNDER_WAY = "UnderWay"
    UNKNOWN_STATUS = "UnknownStatus"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    GONE = "Gone"
    RECORD_GONE = "RecordGone"
    FAILED = "Failed"
    NEXT_FAILED = "NextFailed"
    DUPLICATE = "Duplicate"
    APPROVAL_NEEDED = "ApprovalNeeded"
    BLOCKED = "Blocked"
    DRIFTED = "Drifted"
    DIFFERS = "Differs"
    NOT_DECLARED = "NotDeclared"
    SUPERSEDED = "Superseded"
    ONLY_OBSERVED = "OnlyObserved"
    HELD_BACK = "HeldBack"


class News(StrEnum):
    """What an event says that no reason of an object does. What an operation came to is one as well: `CreateDone`."""

    FINISHED = "Finished"
    READY = "Ready"
    LOOK_FAILED = "LookFailed"
    ERROR_CHANGED = "ErrorChanged"
    STATE_LOCKED = "StateLocked"
    IN_FORCE = "InForce"
    NOT_IN_FORCE = "NotInForce"
    RECOVERED = "Recovered"
    APPROVAL_NEEDED = "ApprovalNeeded"
    BUDGET_NEAR = "BudgetNear"
    BUDGET_CLEAR = "BudgetClear"


@dataclass(frozen=True)
class Condition:
    """One slot now. `message` is a sentence, `status` the service's own word, `since` when it began to be so."""

    slot: str
    sync: Sync
    health: Health
    reason: Reason = Reason.NONE
    message: str = ""
    since: str = ""
    status: str = ""

    def same(self, other: Condition | None) -> bool:
        """Whether it is still so; the message may tell more of it than before."""
        return other is not None and (self.sync, self.health, self.reason) == (other.sync, other.health, other.reason)


@dataclass(frozen=True)
class Happened:
    """One thing that became so; `slot` is "" where it is about the whole stack."""

    at: str
    slot: str
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Report:
    """A stack as its last look left it. Times are UTC; money is CNY, None unknown; `held` waits for approval.

    `revision` is what is in force. `error` is why the last look came to nothing, and what is said of the objects is
    that of the look before; or why a newer revision is not in force. `cause` names the kind of error. `limit` is the
    hourly budget, None where there is none, and `near` whether the run rate has come near it. The last `fresh` events
    are those of the last look.
    """

    stack: str
    revision: str = ""
    looked_at: str = ""
    succeeded_at: str = ""
    failures: int = 0
    error: str = ""
    cause: str = ""
    mode: str = ""
    hour: str | None = "0"
    limit: str | None = None
    near: bool = False
    proposal: str = ""
    held: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    events: tuple[Happened, ...] = ()
    fresh: int = 0

    @property
    def sync(self) -> Sync:
        """The worst of all; what is only observed has no say."""
        if self.error or not self.looked_at:
            return Sync.UNKNOWN
        compared = (one.sync for one in self.conditions if one.reason is not Reason.ONLY_OBSERVED)
        return max(compared, key=list(Sync).index, default=Sync.SYNCED)

    @property
    def health(self) -> Health:
        """The worst of all, as it was when a look last succeeded."""
        if not self.succeeded_at:
            return Health.UNKNOWN
        return max((one.health for one in self.conditions), key=list(Health).index, default=Health.READY)

    @property
    def news(self) -> tuple[Happened, ...]:
        """What the last look brought."""
        return self.events[len(self.events) - self.fresh :]


def after_look(
    before: Report,
    desired: Desired,
    plan: Plan,
    state: State,
    world: World,
    *,
    at: str,
    revision: str,
    held: tuple[Operation, ...] = (),
    happened: Iterable[Happened] = (),
    limit: Decimal | None = None,
    near: Decimal = NEAR,
) -> Report:
    """The stack after a look that succeeded. `limit` is its budget in CNY/h, warned of from the share `near` on."""
    known = {one.slot: one for one in before.conditions}
    now = tuple(_dated(one, known.get(one.slot), at) for one in conditions(desired, plan, state, world, held))
    moved = [event for one in now if (event := _moved(known.get(one.slot), one, at))]
    hour = plan.totals.hour_before
    is_near = limit is not None and hour is not None and hour >= limit * near and hour > 0
    asked = proposal(held, at="").digest[:DIGITS] if held else ""
    after = replace(
        before,
        revision=revision,
        looked_at=at,
        succeeded_at=at,
        failures=0,
        error="",
        cause="",
        hour=None if hour is None else str(hour),
        limit=None if limit is None else str(limit),
        near=is_near,
        proposal=asked,
        held=tuple(f"{op.action.value} {op.slot}" for op in held),
        conditions=now,
    )
    return _with(after, [*happened, *moved, *_of_the_stack(before, after, at)])


def unmoved(before: Report, at: str) -> Report:
    """The stack after a look at which `after_look` would be told all the same as by the look before."""
    return replace(before, looked_at=at, succeeded_at=at, fresh=0)


def after_error(before: Report, error: str, *, at: str, cause: str = "", reason: str = News.LOOK_FAILED) -> Report:
    """The stack after a look that came to nothing: what is known of its objects stays as it was.

    That another run holds the state is no failure: its turn comes without anybody's doing.
    """
    error, is_locked = _cut(error, ERROR_MAX), cause == StateLocked.__name__
    failures = before.failures + (not is_locked)
    after = replace(before, looked_at=at, failures=failures, error=error, cause=cause)
    if is_locked:
        reason = News.STATE_LOCKED
    elif before.failures and reason == News.LOOK_FAILED:
        reason = News.ERROR_CHANGED
    return _with(after, [Happened(at, "", reason, error)] if error != before.error else [])


def in_force(before: Report, revision: str, *, at: str) -> Report:
    """The stack once a revision has come into force, by whatever way it came to be the newest."""
    if revision == before.revision:
        return before
    which = f"{before.revision or 'nothing'} -> {revision}"
    return replace(
        before, revision=revision, events=(*before.events, Happened(at, "", News.IN_FORCE, which))[-EVENTS_MAX:]
    )


def not_in_force(before: Report, after: Report, error: str) -> Report:
    """The stack after a look at what was declared before, for what is declared now cannot be, because of `error`."""
    error = _cut(error, ERROR_MAX)
    told = [one for one in after.news if one.reason != News.RECOVERED or before.failures]
    news = [Happened(after.looked_at, "", News.NOT_IN_FORCE, error)] if error != before.error else []
    older = after.events[: len(after.events) - after.fresh]
    return _with(replace(after, error=error, cause=str(News.NOT_IN_FORCE), events=older), [*told, *news])


def _of_the_stack(before: Report, after: Report, at: str) -> Iterator[Happened]:
    if before.failures or (before.error and before.cause != StateLocked.__name__):
        yield Happened(at, "", News.RECOVERED, "a look succeeded again")
    if after.proposal and after.proposal != before.proposal:
        count = f"{len(after.held)} operation{'s' if len(after.held) > 1 else ''}"
        yield Happened(at, "", News.APPROVAL_NEEDED, f"{count}: reconciler approve {after.proposal}")
    if after.near != before.near:
        word = News.BUDGET_NEAR if after.near else News.BUDGET_CLEAR
        of = f" of {after.limit} CNY/h" if after.limit is not None else ", and there is no budget any more"
        yield Happened(at, "", word, f"the run rate is {after.hour or 'unknown'}{of}")


def _with(report: Report, news: Sequence[Happened]) -> Report:
    """The report with these events at its end, as many as are kept."""
    short = [replace(one, reason=str(one.reason), message=_cut(one.message, MESSAGE_MAX)) for one in news[-EVENTS_MAX:]]
    return replace(report, events=(*report.events, *short)[-EVENTS_MAX:], fresh=len(short))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _dated(one: Condition, before: Condition | None, at: str) -> Condition:
    return replace(one, since=before.since if before and one.same(before) else at)


def _moved(before: Condition | None, now: Condition, at: str) -> Happened | None:
    """What became of a slot, if anything did: that it was well when it was first seen is no event."""
    if before is not None and replace(before, since=now.since) == now:
        return None
    if before is None and (now.sync, now.health, now.reason) == (Sync.SYNCED, Health.READY, Reason.NONE):
        return None
    word = str(now.reason) or (News.READY if now.health is Health.READY else str(now.health))
    if before and before.reason is Reason.UNDER_WAY and now.health is Health.READY:
        word = News.FINISHED
    return Happened(at, now.slot, word, now.message or now.status)


# One object ---------------------------------------------------------------------------------------------------------


class _Well(NamedTuple):
    """How the objects of a slot are, by themselves."""

    health: Health
    reason: Reason = Reason.NONE
    message: str = ""
    status: str = ""


def conditions(
    desired: Desired, plan: Plan, state: State, world: World, held: Iterable[Operation] = ()
) -> tuple[Condition, ...]:
    """Every slot that is declared, holds something or has something planned for it; `since` is left to who knows."""
    planned: dict[Slot, list[Operation]] = {}
    for op in plan.operations:
        planned.setdefault(op.slot, []).append(op)
    declared = {part.slot for parts in desired.parts.values() for part in parts}
    left_alone = {document.address for document in desired.documents if document.lifecycle.observe_only}
    rows = {row.slot for row in state.owned.values() if row.role is not Role.RETIRED}
    asked = {op.slot for op in held}
    return tuple(
        _only_observed(slot, state, world)
        if slot.address in left_alone
        else _condition(slot, planned.get(slot, []), state, world, is_declared=slot in declared, asked=slot in asked)
        for slot in sorted(declared | rows | planned.keys())
    )


def _condition(
    slot: Slot, planned: list[Operation], state: State, world: World, *, is_declared: bool, asked: bool
) -> Condition:
    """What the objects are by themselves comes first, then what stands in the way of their becoming as declared."""
    twice = next((op for op in planned if _is_duplicate(op)), None)
    ops = [op for op in planned if not _is_duplicate(op)]
    well = _well(slot, ops, state, world, settled=is_declared and not ops)
    row = state.row(slot, Role.CURRENT) or state.row(slot, Role.NEXT)
    sync = _sync(ops, well, is_declared=is_declared)
    if pause := state.paused(slot.address):
        well = _Well(Health.PAUSED, Reason.HELD_BACK, f"paused {paused_since(pause)}", well.status)
    elif twice and well.health not in (Health.DEGRADED, Health.FAILED):
        well = _Well(Health.DEGRADED, Reason.DUPLICATE, twice.why, well.status)
    reason, message = well.reason, well.message
    if sync is not Sync.SYNCED and reason in (Reason.NONE, Reason.NOT_CREATED):
        reason, message = _why(ops, row, asked=asked) or (reason, message)
    return Condition(str(slot), sync, well.health, reason, message, status=well.status)


def _sync(ops: list[Operation], well: _Well, *, is_declared: bool) -> Sync:
    """Synced is what no apply would change; what goes on already is no change."""
    if well.reason in (Reason.UNKNOWN_STATUS, Reason.OUTCOME_UNKNOWN):
        return Sync.UNKNOWN
    same = all(op.verb is Verb.WAIT and not op.reasons for op in ops)
    return Sync.SYNCED if same and is_declared else Sync.OUT_OF_SYNC


def _why(ops: list[Operation], row: Owned | None, *, asked: bool) -> tuple[Reason, str] | None:
    """Why a slot that is well by itself is not as declared."""
    first = next((op for op in ops if op.verb is not Verb.WAIT), None)
    if first is None:
        return None if row is None else (Reason.NOT_DECLARED, f"{row.id} is ours, and no manifest declares it")
    stopped = "; ".join(filter(None, (first.why, first.hint))) if first.verb is Verb.NOTHING else ""
    if drift(first, row):
        return Reason.DRIFTED, "; ".join(filter(None, (f"differs in {_fields(first)}", stopped)))
    if stopped:
        return (Reason.APPROVAL_NEEDED if asked else Reason.BLOCKED), stopped
    if row is None:
        return None
    if first.reasons:
        return Reason.DIFFERS, f"differs in {_fields(first)}"
    return Reason.SUPERSEDED, f"{first.target_id or row.id} is to go: {first.why or 'no manifest declares it'}"


def drift(op: Operation, row: Owned | None) -> str:
    """The fields that are declared as they were last applied, and that the service shows otherwise; "" for none."""
    moved = (c for c in op.reasons if row and canonical(_at(row.last_applied, c.path)) == canonical(c.after))
    return ", ".join(".".join(change.path) for change in moved)


def _at(fields: Any, path: Sequence[str]) -> Any:
    for name in path:
        fields = fields.get(name) if isinstance(fields, Mapping) else None
    return fields


def _fields(op: Operation) -> str:
    return ", ".join(sorted({".".join(change.path) for change in op.reasons}))


def _is_duplicate(op: Operation) -> bool:
    """Whether it is about what a creation that was given up made beside the object of the slot."""
    return op.verb is Verb.DISCARD or op.id.startswith("duplicate ")


def _only_observed(slot: Slot, state: State, world: World) -> Condition:
    """Nothing is compared and nothing is done about it; it is as well as the service says."""
    well = _Well(Health.READY)
    if state.row(slot, Role.CURRENT) or state.row(slot, Role.NEXT):
        well = _well(slot, [], state, world, settled=False)
    return Condition(str(slot), Sync.UNKNOWN, well.health, Reason.ONLY_OBSERVED, well.message, status=well.status)


def _well(slot: Slot, ops: list[Operation], state: State, world: World, *, settled: bool) -> _Well:
    """The object in use decides; one that is to follow it is told beside it. `settled`: no apply would do anything."""
    unresolved = next((intent for intent in state.open_intents() if intent.slot == slot), None)
    current, following = state.row(slot, Role.CURRENT), state.row(slot, Role.NEXT)
    waits = any(op.verb is Verb.WAIT for op in ops)
    if unresolved is not None:
        what = f"whether operation {unresolved.op_id} happened is not known yet"
        return _Well(Health.PROGRESSING if current is None else Health.READY, Reason.OUTCOME_UNKNOWN, what)
    if following is not None:
        return _following(following, world.get(following), in_use=current is not None, waits=waits)
    if current is None:
        return _Well(Health.PROGRESSING, Reason.NOT_CREATED)
    seen = world.get(current)
    if seen is None and waits:
        return _Well(Health.PROGRESSING, Reason.UNDER_WAY, f"{current.id} is not visible yet")
    if seen is None and settled:
        return _Well(Health.READY, Reason.RECORD_GONE, f"{current.id} is gone, and what it made is still in use")
    if seen is None:
        return _Well(Health.DEGRADED, Reason.GONE, f"{current.id} is gone from the service")
    return _shown(seen)


def _following(row: Owned, seen: Observed | None, *, in_use: bool, waits: bool) -> _Well:
    status = seen.status if seen else ""
    failed = row.failure or (seen is not None and seen.phase is Phase.FAILED) or (seen is None and not waits)
    if failed:
        why = row.failure or (seen.detail or seen.status if seen else f"{row.id} is gone from the service")
        if in_use:
            return _Well(Health.DEGRADED, Reason.NEXT_FAILED, why, status)
        return _Well(Health.FAILED, Reason.FAILED if seen else Reason.GONE, why, status)
    if seen is not None and seen.phase is Phase.UNKNOWN:
        return _shown(seen)
    ready = ", and is not in use yet" if seen is not None and seen.phase is Phase.READY else ""
    return _Well(Health.PROGRESSING, Reason.UNDER_WAY, f"{row.id} is {status or 'not visible yet'}{ready}", status)


def _shown(seen: Observed) -> _Well:
    what = f"{seen.id} is {seen.status}"
    match seen.phase:
        case Phase.READY:
            return _Well(Health.READY, status=seen.status)
        case Phase.PENDING:
            return _Well(Health.PROGRESSING, Reason.UNDER_WAY, what, seen.status)
        case Phase.FAILED:
            return _Well(Health.FAILED, Reason.FAILED, f"{what} {seen.detail}".strip(), seen.status)
        case Phase.UNKNOWN:
            told = (
                f"{what}, a status this program does not know" if seen.status else f"{seen.id} shows nothing of itself"
            )
            return _Well(Health.UNKNOWN, Reason.UNKNOWN_STATUS, told, seen.status)


# As text, for the store ---------------------------------------------------------------------------------------------


def to_data(report: Report) -> dict[str, Any]:
    """A report as plain data, which `from_data` reads back."""
    flat = {name: tuple(dict(vars(one)) for one in getattr(report, name)) for name in ("conditions", "events")}
    return {**vars(report), **flat}


def from_data(data: Mapping[str, Any]) -> Report:
    """Raises ValueError, KeyError or TypeError for what `to_data` did not write."""
    known = {"sync": Sync, "health": Health, "reason": Reason}
    told = tuple(
        Condition(**{**one, **{name: word(one[name]) for name, word in known.items()}}) for one in data["conditions"]
    )
    events = tuple(Happened(**one) for one in data["events"])
    return Report(**{**data, "conditions": told, "events": events, "held": tuple(data["held"])})


def rate(reports: Iterable[Report]) -> Decimal | None:
    """What all of these stacks cost an hour together; None where one of them is not known."""
    hours = [one.hour for one in reports]
    return None if None in hours else sum((Decimal(hour or 0) for hour in hours), Decimal(0))
