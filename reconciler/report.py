"""What is worth telling below a pull request: a saved plan, what its data look like, and what became of it. Pure.

Nothing in a Report quotes a row of training data: of a finding there is its rule and its place, of a failure that there
was one, and neither what lint nor what the service said of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from reconciler import money
from reconciler.errors import Position, Problem
from reconciler.findings import Level
from reconciler.guards import Breach
from reconciler.money import Run
from reconciler.plan import Operation, Verb
from reconciler.resource import Collection, Measurement, Observed, Slot
from reconciler.saved import Saved
from reconciler.state import MADE, OPEN, Intent, IntentPhase, Owned, Role, State, Ticket


class Found(NamedTuple):
    """Something lint has against the data of an address: how bad, by which rule, and where."""

    address: str
    level: Level
    rule: str
    at: Position | None


class Ending(StrEnum):
    """What an operation of an applied plan came to. The values are words of the page."""

    DONE = "done"
    GOING = "under way"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "outcome unknown"
    LEFT = "not done"


class Outcome(NamedTuple):
    """One operation and its ending; `id` is what it made, `status` the HTTP status of a refusal, 0 for none."""

    operation: Operation
    ending: Ending
    id: str = ""
    status: int = 0


class Bill(NamedTuple):
    """A run that the plan bought: the tokens it is billed for, its estimate, and its cost; None is unknown."""

    run: Run
    tokens: int | None
    foreseen: Decimal | None
    cost: Decimal | None


class Trained(NamedTuple):
    """What the log of a run measured."""

    slot: Slot
    id: str
    measured: tuple[Measurement, ...]


@dataclass(frozen=True)
class Aftermath:
    """What became of a saved plan. `ended` is "" while something of it is not done; `asked`: the service was, too."""

    begun: str
    ended: str
    asked: bool
    outcomes: tuple[Outcome, ...]
    bills: tuple[Bill, ...]
    trained: tuple[Trained, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything there is to tell. None is what nobody looked at: the data, the limits, or an apply."""

    saved: Saved
    lint: tuple[Found, ...] | None = None
    breaches: tuple[Breach, ...] | None = None
    aftermath: Aftermath | None = None


def findings(address: str, problems: Iterable[Problem], warnings: Iterable[Problem]) -> Iterator[Found]:
    """What lint found, without its words: they may quote a row."""
    yield from (Found(address, Level.ERROR, one.rule, one.at) for one in problems)
    yield from (Found(address, Level.WARNING, one.rule, one.at) for one in warnings)


def aftermath(
    saved: Saved,
    state: State,
    collections: Mapping[str, Collection],
    shown: Mapping[str, Mapping[str, Observed]] | None = None,
) -> Aftermath | None:
    """What became of a saved plan, by the journal and what the service shows now; None where it was never begun."""
    ticket = state.tickets.get(saved.digest)
    if ticket is None:
        return None
    told = _Told(state, ticket)
    outcomes = tuple(told.outcome(op) for op in saved.plan.operations)
    runs = money.bought(state, shown or {}, collections)
    made = {(one.operation.collection, one.id): one.operation for one in outcomes if one.id}
    bills = tuple(
        Bill(run, money.billed(run, runs), made[run.collection, run.id].price.once, money.spent(run, runs))
        for run in runs
        if (run.collection, run.id) in made
    )
    return Aftermath(ticket.begun, ticket.ended, shown is not None, outcomes, bills)


def with_logs(came: Aftermath, state: State, log: Callable[[Owned], tuple[Measurement, ...]]) -> Aftermath:
    """The same with what the runs that were bought, and are still ours, measured."""
    rows = (state.owned.get(f"{bill.run.collection}/{bill.run.id}") for bill in came.bills)
    trained = (Trained(row.slot, row.id, log(row)) for row in rows if row)
    return replace(came, trained=tuple(one for one in trained if one.measured))


class _Told:
    """The journal from the first request of one plan to the first of the next."""

    def __init__(self, state: State, ticket: Ticket) -> None:
        self.state = state
        later = (one.epoch for one in state.tickets.values() if one.epoch > ticket.epoch)
        end = min(later, default=None)
        within = (i for i in state.intents.values() if i.epoch >= ticket.epoch and (end is None or i.epoch < end))
        self.intents = sorted(within, key=lambda intent: (intent.epoch, intent.at, intent.op_id))
        self.turns: Counter[tuple[str | Slot, ...]] = Counter()

    def outcome(self, op: Operation) -> Outcome:
        if op.verb is Verb.NOTHING:
            return Outcome(op, Ending.LEFT)
        row = self.state.owned.get(f"{op.collection}/{op.target_id}")
        match op.verb:
            case Verb.CREATE:
                return self._created(op)
            case Verb.WAIT | Verb.ADOPT:
                return Outcome(op, _standing(row) if row else Ending.LEFT, op.target_id)
            case Verb.FORGET:
                return Outcome(op, Ending.LEFT if row else Ending.DONE)
        intent = self._asked(op)
        if intent is None:
            return Outcome(op, Ending.LEFT)
        if op.verb is Verb.UPDATE:
            return Outcome(op, _ending(intent, Ending.DONE), status=intent.status)
        return Outcome(op, _ending(intent, Ending.GOING) if row else Ending.DONE, status=intent.status if row else 0)

    def _created(self, op: Operation) -> Outcome:
        intent = self._asked(op)
        if intent is None:
            return Outcome(op, Ending.LEFT)
        row = self.state.owned.get(f"{op.collection}/{intent.result_id}")
        ending = _ending(intent, _standing(row) if row else Ending.DONE)
        return Outcome(op, ending, intent.result_id, intent.status)

    def _asked(self, op: Operation) -> Intent | None:
        """The request behind an operation. Steps of one change are asked for in turn; what a later plan asks is not it.

        Granted ones come first: what was refused and asked for again is known by how it went in the end.
        """
        key = (op.slot, op.verb, op.collection, op.target_id)
        turn, self.turns[key] = self.turns[key], self.turns[key] + 1
        asked = [
            intent
            for intent in self.intents
            if (intent.slot, intent.verb, intent.collection) == key[:3]
            and (op.verb is Verb.CREATE or op.target_id in intent.known_before)
        ]
        granted = [intent for intent in asked if intent.phase in MADE]
        if turn < len(granted):
            return granted[turn]
        return asked[-1] if asked and turn == len(granted) and asked[-1].phase not in MADE else None


def _ending(intent: Intent, granted: Ending) -> Ending:
    if intent.phase in MADE:
        return granted
    if intent.phase in OPEN:
        return Ending.UNKNOWN
    return Ending.REFUSED if intent.phase is IntentPhase.REJECTED else Ending.LEFT


def _standing(row: Owned) -> Ending:
    if row.failure:
        return Ending.FAILED
    return Ending.GOING if row.role is Role.NEXT else Ending.DONE
