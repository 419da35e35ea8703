"""How every object of a stack is, for somebody who watches: is it as declared, is it well, since when, and why. Pure.

A condition keeps its time as long as it says the same, so that a page and a metric can tell how long something has been
so; what moved is an event, and the newest `EVENTS_MAX` are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from reconciler.approvals import DIGITS, proposal
from reconciler.plan import Desired, Operation, Plan, Verb, World
from reconciler.resource import Phase, Slot
from reconciler.state import Owned, Role, State

EVENTS_MAX = 200


class Sync(StrEnum):
    """Whether an object is as it is declared."""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """How an object is, whatever is declared. The later word is the worse one."""

    READY = "Ready"
    PAUSED = "Paused"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Condition:
    """One slot now. `reason` is one word, `message` a sentence; `since` is when it began to be so."""

    slot: str
    sync: Sync
    health: Health
    reason: str = ""
    message: str = ""
    since: str = ""

    def same(self, other: Condition | None) -> bool:
        return other is not None and replace(other, since=self.since) == self


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

    `limit` is what its budgets allow an hour, None where they do not limit it.

    `error` is why the last look came to nothing; what is said of the objects is then that of the look before.
    """

    stack: str
    revision: str = ""
    looked_at: str = ""
    succeeded_at: str = ""
    failures: int = 0
    error: str = ""
    mode: str = ""
    hour: str | None = "0"
    limit: str | None = None
    proposal: str = ""
    held: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    events: tuple[Happened, ...] = ()

    @property
    def sync(self) -> Sync:
        if self.error or not self.looked_at:
            return Sync.UNKNOWN
        return Sync.OUT_OF_SYNC if any(one.sync is not Sync.SYNCED for one in self.conditions) else Sync.SYNCED

    @property
    def health(self) -> Health:
        order = list(Health)
        return max((one.health for one in self.conditions), key=order.index, default=Health.READY)


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
) -> Report:
    """The stack after a look that succeeded."""
    known = {one.slot: one for one in before.conditions}
    now = tuple(_conditions(desired, plan, state, world))
    dated = tuple(replace(one, since=known[one.slot].since if one.same(known.get(one.slot)) else at) for one in now)
    moved = [Happened(at, one.slot, one.reason or one.health, one.message) for one in dated if one.since == at]
    hour = plan.totals.hour_before
    asked = proposal(held, at="").digest[:DIGITS] if held else ""
    proposed = [Happened(at, "", "ApprovalNeeded", f"{len(held)} operations: reconciler approve {asked}")]
    return Report(
        stack=before.stack,
        mode=before.mode,
        revision=revision,
        looked_at=at,
        succeeded_at=at,
        hour=None if hour is None else str(hour),
        limit=None if limit is None else str(limit),
        proposal=asked,
        held=tuple(f"{op.action.value} {op.slot}" for op in held),
        conditions=dated,
        events=_kept(before, [*happened, *moved, *(proposed if asked and asked != before.proposal else [])]),
    )


def after_error(before: Report, error: str, *, at: str, revision: str = "") -> Report:
    """The stack after a look that came to nothing: what is known of its objects stays as it was."""
    news = [Happened(at, "", "LookFailed", error)] if error != before.error else []
    return replace(
        before,
        looked_at=at,
        revision=revision or before.revision,
        failures=before.failures + 1,
        error=error,
        events=_kept(before, news),
    )


def _kept(before: Report, news: Iterable[Happened]) -> tuple[Happened, ...]:
    return (*before.events, *news)[-EVENTS_MAX:]


def _conditions(desired: Desired, plan: Plan, state: State, world: World) -> Iterator[Condition]:
    planned: dict[Slot, Operation] = {}
    for op in plan.operations:
        planned.setdefault(op.slot, op)
    declared = {part.slot for parts in desired.parts.values() for part in parts}
    rows = {row.slot for row in state.owned.values() if row.role is not Role.RETIRED}
    for slot in sorted(declared | rows):
        current, following = state.row(slot, Role.CURRENT), state.row(slot, Role.NEXT)
        health, reason, message = _health(current, following, world)
        first = planned.get(slot)
        if first is not None and first.verb is Verb.NOTHING:
            reason, message = "Blocked", first.why
        yield Condition(str(slot), _sync(first, slot in declared), health, reason, message)


def _sync(op: Operation | None, is_declared: bool) -> Sync:
    waits = op is None or op.verb is Verb.WAIT
    return Sync.SYNCED if waits and is_declared else Sync.OUT_OF_SYNC


def _health(current: Owned | None, following: Owned | None, world: World) -> tuple[Health, str, str]:
    """The object in use decides; one that is to follow it is told beside it."""
    if following is not None:
        seen = world.get(following)
        if following.failure or (seen and seen.phase is Phase.FAILED):
            why = following.failure or (seen.detail or seen.status if seen else "")
            return (Health.DEGRADED if current else Health.FAILED), "NextFailed" if current else "Failed", why
        return Health.PROGRESSING, "UnderWay", f"{following.id} is {seen.status if seen else 'not visible yet'}"
    if current is None:
        return Health.PROGRESSING, "NotCreated", ""
    seen = world.get(current)
    if seen is None:
        return Health.DEGRADED, "Gone", f"{current.id} is gone from the service"
    return {
        Phase.READY: (Health.READY, "", ""),
        Phase.PENDING: (Health.PROGRESSING, "UnderWay", f"{seen.id} is {seen.status}"),
        Phase.FAILED: (Health.FAILED, "Failed", f"{seen.id} is {seen.status} {seen.detail}".strip()),
        Phase.UNKNOWN: (Health.UNKNOWN, "UnknownStatus", f"{seen.id} is {seen.status}"),
    }[seen.phase]


# As text, for the store ---------------------------------------------------------------------------------------------


def to_data(report: Report) -> dict[str, Any]:
    """A report as plain data, which `from_data` reads back."""
    return asdict(report)


def from_data(data: Mapping[str, Any]) -> Report:
    """Raises ValueError, KeyError or TypeError for what `to_data` did not write."""
    conditions = tuple(
        Condition(**{**one, "sync": Sync(one["sync"]), "health": Health(one["health"])}) for one in data["conditions"]
    )
    events = tuple(Happened(**one) for one in data["events"])
    return Report(**{**data, "conditions": conditions, "events": events, "held": tuple(data["held"])})


def rate(reports: Iterable[Report]) -> Decimal | None:
    """What all of these stacks cost an hour together; None where one of them is not known."""
    hours = [one.hour for one in reports]
    return None if None in hours else sum((Decimal(hour or 0) for hour in hours), Decimal(0))
