"""Carries out a plan: intent, request, outcome, wait until ready, promote. Names no kind, decides nothing of its own.

One thread schedules and records; a small pool only sends. Independent branches go on when one fails. Waiting is one
look at each collection and tick, however many objects are waited for. Nothing is created without an intent. What one
step of the loop decides is recorded in one transaction, before anything is sent or told on the strength of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from heapq import heappop, heappush
from typing import Any, Literal
from uuid import uuid4

from reconciler.adoption import filled, taken_in, uses
from reconciler.api import Api, Reply
from reconciler.clock import boottime
from reconciler.errors import (
    Ambiguous,
    ApiError,
    Conflict,
    NotAuthorised,
    NotFound,
    OutcomeUnknown,
    ReconcilerError,
    Rejected,
)
from reconciler.observe import Pace, begun, list_all, look, pages, read_one
from reconciler.plan import NOT_YET, Operation, Plan, Verb, World
from reconciler.resource import Collection, Known, Match, Observed, Phase, Probe, Request, pick
from reconciler.state import (
    Event,
    Fact,
    Folding,
    Gone,
    Intent,
    IntentPhase,
    Owned,
    Role,
    canonical,
    generation,
    reopened,
    tag,
    written,
)
from reconciler.store import Store
from reconciler.surgery import Deed

PROBE_GRACE_S = 90.0  # for about a minute after RUNNING a call may still answer "no such model" (contract §3.4)
GOING_S = (
    1800.0  # longer than this nobody waits for a deletion: it was accepted, and the next run sees what became of it
)
LOG_LINES, LOG_CHARACTERS = 3, 300  # of a failed run's log, kept with its failure
TOO_LATE = "it was ready before it could be stopped, and is in use"
UNHEARD = "a status this program does not know; it is waited for"
LOOKS = 4  # at what is ready and may change unseen; then it is put in use, and read again by every plan
FRESH_S = 1.0  # a list that is older does not tell what is there before a creation
GATHER_S = 0.005  # how long the first of several answers waits for others; what is written is little for all of them
GAUGE_S = 1.0  # how often an upload says how far it is
REST_S_MAX = 10.0  # how long a heartbeat, or a request to stop, may go unnoticed by a `sleep` that nothing wakes


class Stage(StrEnum):
    """How far one operation is."""

    TODO = "todo"
    SENDING = "sending"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # something it needs failed, or is blocked
    DETACHED = "detached"  # it goes on without us and is recorded
    UNKNOWN = "unknown"  # sent, and its outcome must be looked for
    BLOCKED = "blocked"


_LOST = frozenset({Stage.FAILED, Stage.SKIPPED, Stage.UNKNOWN, Stage.BLOCKED})
ENDED = _LOST | {Stage.DONE, Stage.DETACHED}
_MAKING = frozenset({Verb.CREATE, Verb.UPDATE, Verb.ADOPT})


@dataclass(frozen=True)
class Progress:
    """What is worth telling of an operation now: the service's word for its status, and how long it has been so.

    `op_id` names its row in the journal while its request is on the way.
    """

    operation: Operation
    stage: Stage
    status: str = ""
    detail: str = ""
    elapsed_s: float = 0.0
    code: int = 0
    op_id: str = ""

    @property
    def ended(self) -> bool:
        return self.stage in ENDED


@dataclass(frozen=True)
class Terms:
    """How an apply behaves: what to wait for, how long, how many requests at once, how much faster the service runs."""

    wait: Literal["none", "once", "created", "ready"] = "ready"  # once: for what is quick, and one look at the rest;
    # created: until whatever is to be made has been asked for
    timeout_s: float | None = None
    parallelism: int = 8
    hurry: float = 1.0
    watch: bool = False  # somebody is looking: read the logs of running jobs for their loss


def run(
    plan: Plan,
    world: World,
    *,
    store: Store,
    epoch: int,
    api: Api,
    collections: Mapping[str, Collection],
    terms: Terms,
    report: Callable[[Progress], None],
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = boottime,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Progress, ...]:
    """Carry out the plan's operations and say how each ended.

    Everything accepted by the service is recorded before this returns, whatever else happens. Raises StateError when
    the record cannot be kept: then nothing further was sent.
    """
    apply = _Apply(plan, world, store, epoch, api, collections, terms, report, clock, sleep)
    with ThreadPoolExecutor(terms.parallelism, thread_name_prefix="send") as pool:
        try:
            while not apply.finished():
                apply.take_in(pool)
                apply.go_on(pool, stopped)
                apply.rest()
        finally:
            apply.land()
    return apply.ended()


@dataclass
class _Gauge:
    """How far one upload is: the pool only writes the number, the loop only reads it."""

    size: int
    sent: int = 0
    told: str = ""

    def note(self, sent: int) -> None:
        self.sent = sent

    def news(self) -> str:
        """Where it is now, or "" if that was told already."""
        text = f"{self.sent // 10**6} of {self.size // 10**6} MB"
        news, self.told = text if text != self.told else "", text
        return news if self.size >= 10**6 else ""


@dataclass(frozen=True)
class _Flight:
    """What is being sent: a request with its intent, or, without either, smoke prompts."""

    operation: Operation
    request: Request | None = None
    intent: Intent | None = None
    gauge: _Gauge = field(default_factory=lambda: _Gauge(0))
    since: float = 0.0


@dataclass
class _Wait:
    """One operation that waits for its object."""

    remote_id: str
    since: float
    status: str = ""
    status_since: float = 0.0
    looks: int = 0
    seen: bool = False
    unsettled: bool = False  # ready, and one more look tells whether it stays as it was seen
    log_lines: int = 0
    figure: str = ""


@dataclass(frozen=True)
class _Look:
    """A look at one collection that is under way, and what waited there when it began."""

    seen: Future[Mapping[str, Observed]]
    ours: Mapping[str, _Wait]


class _Order:
    """What may begin: every operation once all that it comes after is done. Each step costs what it changes.

    Creations stand in one lane for each collection, whose turn it may not be; everything else in another.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = tuple(operations)
        places = {op.id: place for place, op in enumerate(self._operations)}
        self._awaited = [{name for name in op.after if name in places} for op in self._operations]
        self._heirs: dict[str, list[int]] = {}
        self._lanes: dict[str, list[int]] = {}
        self._lost: list[int] = []
        for place, awaited in enumerate(self._awaited):
            for name in awaited:
                self._heirs.setdefault(name, []).append(place)
            if not awaited:
                self._may_begin(place)

    def _may_begin(self, place: int) -> None:
        op = self._operations[place]
        if op.verb is not Verb.NOTHING:
            heappush(self._lanes.setdefault(op.collection if op.verb is Verb.CREATE else "", []), place)

    def done(self, name: str) -> None:
        for place in self._heirs.pop(name, ()):
            self._awaited[place].discard(name)
            if not self._awaited[place]:
                self._may_begin(place)

    def lost(self, name: str) -> None:
        """It comes to nothing, and so does what comes after it."""
        for place in self._heirs.pop(name, ()):
            heappush(self._lost, place)

    def any(self) -> bool:
        return any(self._lanes.values())

    def creates(self, collection: str) -> bool:
        """Whether a creation there may begin once it is its turn."""
        return bool(self._lanes.get(collection))

    def next(self, under_way: Container[str], one_by_one: Callable[[str], bool]) -> Operation | None:
        """The first in the plan's order of those that may begin; those first that go one by one, and take longest.

        Where creations go one by one, none begins while one of that collection is `under_way`.
        """
        slow = {name for name, lane in self._lanes.items() if lane and name and one_by_one(name)}
        open_lanes = [name for name, lane in self._lanes.items() if lane and not (name in slow and name in under_way)]
        first = min(open_lanes, key=lambda name: (name not in slow, self._lanes[name][0]), default=None)
        return None if first is None else self._operations[heappop(self._lanes[first])]

    def next_lost(self) -> Operation | None:
        return self._operations[heappop(self._lost)] if self._lost else None

    def clear(self) -> None:
        """Nothing begins any more."""
        self._lanes.clear()


@dataclass
class _Apply:
    plan: Plan
    world: World
    store: Store
    epoch: int
    api: Api
    collections: Mapping[str, Collection]
    terms: Terms
    report: Callable[[Progress], None]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    progress: dict[str, Progress] = field(default_factory=dict)
    waiting: dict[str, dict[str, _Wait]] = field(default_factory=dict)  # by collection and operation
    flights: dict[Future[Any], _Flight] = field(default_factory=dict)
    looks: dict[str, _Look] = field(default_factory=dict)
    paces: dict[str, Pace] = field(default_factory=dict)
    listed: dict[str, dict[str, Observed]] = field(default_factory=dict)  # whole collections, as they were last seen
    fresh: dict[str, tuple[float, dict[str, Observed]]] = field(default_factory=dict)  # those not used yet, and when
    barred: bool = False  # the service no longer lets us in: start nothing more

    def __post_init__(self) -> None:
        self.state = self.store.load()
        self.began = self.clock()
        self.order = _Order(self.plan.operations)
        self.decided: list[Event] | None = None  # inside a step: what it will record
        self.then: list[Callable[[], object]] = []  # and what follows from that
        self.folding = Folding(self.state)
        for op in self.plan.operations:
            stage = Stage.BLOCKED if op.verb is Verb.NOTHING else Stage.TODO
            self.progress[op.id] = Progress(op, stage, code=op.code)
            if stage is Stage.BLOCKED:
                self.order.lost(op.id)

    @contextmanager
    def _step(self, *, come_what_may: bool = False) -> Iterator[None]:
        """What is decided inside is recorded in one transaction; only after that it is told, and acted upon.

        Where something goes wrong in the middle it is forgotten, unless it must be kept `come_what_may`.
        """
        self.decided, self.then = [], []
        self.folding, before = Folding(self.state), self.state
        try:
            yield
        except BaseException:
            if not come_what_may:
                self.decided, self.state = [], before
            raise
        finally:
            events, then = self.decided, self.then
            self.decided, self.then = None, []
            if events:
                self.state = (self.store.record if come_what_may else self.store.commit)(self.epoch, *events)
            for action in then:
                action()

    # The loop's questions ---------------------------------------------------------------------------------------

    def finished(self) -> bool:
        """Whether nothing is left that this run has to see; what still waits then goes on without us."""
        if self.flights or self.looks or self.order.any():
            return False
        if any(self.waiting.values()) and self._patient():
            return False
        self.detach()
        return True

    def _patient(self) -> bool:
        match self.terms.wait:
            case "once":
                return self._unseen()
            case "created":
                return any(p.stage is Stage.TODO and p.operation.verb in _MAKING for p in self.progress.values())
        return self.terms.wait == "ready"

    def _unseen(self) -> bool:
        """Whether one of those that wait is worth a look yet: what was asked for a moment ago and is slow is not."""
        waits = ((self.progress[name].operation, one) for ours in self.waiting.values() for name, one in ours.items())
        return any(one.unsettled or (one.looks == 0 and self._looks_at_once(op)) for op, one in waits)

    def _looks_at_once(self, op: Operation) -> bool:
        return not self.collections[op.collection].slow or (self.terms.wait == "once" and op.verb is Verb.WAIT)

    def out_of_time(self) -> bool:
        return self.terms.timeout_s is not None and self.clock() - self.began > self.terms.timeout_s

    def ended(self) -> tuple[Progress, ...]:
        return tuple(self.progress.values())

    def _stage(self, name: str) -> Stage:
        return self.progress[name].stage if name in self.progress else Stage.DONE

    # Starting ---------------------------------------------------------------------------------------------------

    def go_on(self, pool: ThreadPoolExecutor, stopped: Callable[[], bool]) -> None:
        """Begin what may begin, unless what was told by now made somebody stop it."""
        with self._step():
            if stopped() or self.out_of_time() or self.barred:
                self._wind_up()
            else:
                self._poll(name for name, ours in self.waiting.items() if ours)
                self._start(pool)

    def _wind_up(self) -> None:
        """Start nothing more. What was accepted a moment ago may be there already, and is looked at once before."""
        self.order.clear()
        if not self.barred:
            self._poll(name for name, ours in self.waiting.items() if any(one.looks == 0 for one in ours.values()))
        if not self.looks:
            self.detach()

    def _start(self, pool: ThreadPoolExecutor) -> None:
        self._skip_unreachable()
        leaving: list[_Flight] = []
        while len(self.flights) + len(leaving) < self.terms.parallelism:
            under_way = {one.operation.collection for one in (*self.flights.values(), *leaving) if one.intent}
            op = self.order.next(under_way | self.looks.keys(), self._one_by_one)
            if op is None:
                break
            leaving += self._begin(op)
        self.then += [partial(self._send, pool, flight) for flight in leaving]

    def _one_by_one(self, name: str) -> bool:
        """Where marks are not known to be shown, two creations under way at once could be taken for each other."""
        return not self.state.shows(f"{name}.mark")

    def _begin(self, op: Operation) -> list[_Flight]:
        """What is to be sent for it, if anything is."""
        match op.verb:
            case Verb.FORGET:
                self._commit(Gone(f"{op.collection}/{op.target_id}"))
                self._tell(op, Stage.DONE)
            case Verb.WAIT:
                self._begin_waiting(op, op.target_id)
            case Verb.ADOPT:
                self._take_in(op)
            case _:
                return self._ready_to_leave(op)
        return []

    def _take_in(self, op: Operation) -> None:
        """What is there already becomes ours, and is waited for."""
        if not op.intent:
            self._recognise(op)
            return
        # What came late is what was asked for: its creation is closed the other way.
        cause = self.state.intents[op.intent]
        adopted = replace(cause, phase=IntentPhase.ADOPTED, result_id=op.target_id, reason="came late")
        self._commit(adopted, cause.owned(op.target_id, written(self.api.now())))
        self._begin_waiting(op, op.target_id)

    def _recognise(self, op: Operation) -> None:
        """It was taken for the one by what it shows, so it must show that still, and be nobody's."""
        assert op.part is not None
        collection, planned = self.collections[op.collection], self.world.objects[op.collection][op.target_id]
        try:
            read = read_one(self.api, collection, op.target_id, planned)
            fields = pick(filled(op.part, self.state, by_content=False), op.fields)
        except ReconcilerError as error:
            self._tell(op, Stage.FAILED, detail=_said(error), code=error.exit_code)
            return
        seen = replace(read, fields={**planned.fields, **read.fields}) if read else None
        owner = self.state.owned.get(f"{op.collection}/{op.target_id}")
        if seen is None or owner or seen.phase is Phase.FAILED or not collection.same(fields, seen):
            what = f"belongs to {owner.slot}" if owner else "is not as declared any more" if seen else "is gone"
            self._tell(op, Stage.FAILED, detail=f"{op.target_id} {what}: plan again", code=4)
            return
        deed = Deed(operation_id(), self.epoch, written(self.api.now()), "as declared (adoption in its manifest)")
        self._commit(*taken_in(self.state, op.part, collection, seen, deed, deletion=op.deletion, inferred=True, by=""))
        self._begin_waiting(op, op.target_id)

    def _skip_unreachable(self) -> None:
        while op := self.order.next_lost():
            if self._stage(op.id) is Stage.TODO:
                cause = next(name for name in op.after if self._stage(name) in _LOST)
                self._tell(op, Stage.SKIPPED, detail=f"because of: {cause}")

    def _ready_to_leave(self, op: Operation) -> list[_Flight]:
        """Its request, with the intent recorded. If the intent cannot be recorded, nothing is sent."""
        since = self.api.clock()  # whoever is stopped from here on for as long as a request may last sends nothing
        try:
            request, intent = self._created(op) if op.verb is Verb.CREATE else self._changed(op)
        except ReconcilerError as error:
            self._tell(op, Stage.FAILED, detail=_said(error), code=error.exit_code)
            return []
        self._commit(intent, *self._made_ours(op, intent))
        gauge = _Gauge(request.content.size if request.content else 0)
        return [_Flight(op, request, intent, gauge, since)]

    def _send(self, pool: ThreadPoolExecutor, flight: _Flight) -> None:
        op, request, intent = flight.operation, flight.request, flight.intent
        assert request is not None
        assert intent is not None
        self._tell(op, Stage.SENDING, op_id=intent.op_id)
        by, note = self._last_moment(op), flight.gauge.note
        patient = op.verb is not Verb.CREATE or not self._one_by_one(op.collection)
        send = partial(self.api.send, request, since=flight.since, by=by, sent=note, patient=patient)
        future = pool.submit(send)
        self.flights[future] = replace(flight, since=self.clock())

    def _last_moment(self, op: Operation) -> float:
        """A change or a deletion of a run that was passed by would meet what its successor made of the object.

        A creation is not bound so: the successor waits for its deadline, and creates nothing over it.
        """
        return math.inf if op.verb is Verb.CREATE else self.store.fresh_until()

    def _created(self, op: Operation) -> tuple[Request, Intent]:
        assert op.part is not None
        collection, slot = self.collections[op.collection], op.slot
        fields = filled(op.part, self.state, by_content=True)
        version = generation(collection.name, collection.lasting(fields))
        attempt = self.state.attempts(slot, version)
        assert self.store.stamp is not None
        name = tag(self.store.stamp, slot, version, attempt)
        part = replace(op.part, fields=filled(op.part, self.state, by_content=False))
        request, before = collection.create(part, name), self._already_there(collection, name, part.fields)
        intent = replace(
            self._intent(op, request),
            generation=version,
            tag=name,
            attempt=attempt,
            fields=fields,
            uses=uses(op.part, self.state),
            deletion=op.deletion,
            base=op.part.base,
            tokens=op.part.tokens,
            counted=op.part.counted,
            known_before=before,
        )
        return request, intent

    def _already_there(self, collection: Collection, name: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """Objects that could be taken for what is about to be made. Ambiguous where one carries its very mark."""
        seen = self.world.objects.get(collection.name, {})
        if self._one_by_one(collection.name):  # hours may have passed since the plan looked
            began, seen = self.fresh.pop(collection.name, (-math.inf, seen))
            seen = seen if self.clock() - began < FRESH_S else self._list(collection)
        alike = {key: collection.matches(name, fields, one) for key, one in sorted(seen.items())}
        for key in self.state.unowned(collection.name, seen):
            if alike[key] is Match.STRONG:
                raise Ambiguous(
                    f"{key} is on the service already, under the mark of what was to be created",
                    candidates=(key,),
                    hint="reconciler state rebuild takes over what carries our marks",
                )
        return tuple(key for key, match in alike.items() if match is not Match.NO)

    def _changed(self, op: Operation) -> tuple[Request, Intent]:
        assert op.request is not None
        return op.request, replace(self._intent(op, op.request), known_before=(op.target_id,))

    def _intent(self, op: Operation, request: Request) -> Intent:
        """What is recorded of any request; times are the service's."""
        now = self.api.now()
        return Intent(
            op_id=operation_id(),
            slot=op.slot,
            collection=op.collection,
            verb=op.verb,
            generation="",
            tag="",
            attempt=0,
            epoch=self.epoch,
            at=written(now),
            deadline=written(now + timedelta(seconds=self.api.lasts_s(request) + 1)),
            account=self.api.account,
            fields={},
        )

    def _made_ours(self, op: Operation, intent: Intent) -> tuple[Event, ...]:
        """Nothing is touched that is not ours: what came late of a creation of ours is recorded before it is let go."""
        if op.verb is not Verb.DISCARD:
            return ()
        cause = self.state.intents[op.intent]
        return (replace(cause.owned(op.target_id, intent.at), role=Role.RETIRED),)

    # Concluding what was sent -----------------------------------------------------------------------------------

    def take_in(self, pool: ThreadPoolExecutor) -> None:
        """Everything that was answered, and seen of what is waited for."""
        with self._step(come_what_may=True):  # the service has done it already
            self._conclude()
            self._judge_looks(pool)

    def _conclude(self) -> None:
        for future in [future for future in self.flights if future.done()]:
            flight = self.flights.pop(future)
            if flight.intent is None:
                self._probed(flight.operation, future)
                continue
            try:
                reply = future.result()
            except (ReconcilerError, OSError) as error:
                self._refused(flight.operation, flight.intent, error)
            else:
                self._accepted(flight, flight.intent, reply)

    def _accepted(self, flight: _Flight, intent: Intent, reply: Reply) -> None:
        op = flight.operation
        done = replace(intent, phase=IntentPhase.DONE, request_id=reply.request_id)
        match op.verb:
            case Verb.CREATE:
                self._made(flight, done, reply)
            case Verb.UPDATE:
                row = self.state.owned[f"{op.collection}/{op.target_id}"]
                self._commit(done, replace(row, last_applied={**row.last_applied, **_settled(op.fields)}))
                self._begin_waiting(op, op.target_id)
            case Verb.DISCARD:
                self._commit(done, Gone(f"{op.collection}/{op.target_id}"))
                self._tell(op, Stage.DONE)
            case _:
                self._commit(done)
                self._begin_waiting(op, op.target_id)

    def _made(self, flight: _Flight, done: Intent, reply: Reply) -> None:
        """The id is recorded before anything else in the answer is looked at: it must never be lost to a surprise."""
        op, collection = flight.operation, self.collections[flight.operation.collection]
        remote_id = collection.created_id(reply.body, flight.request)
        if remote_id:
            row = done.owned(remote_id, at=done.at)
            self._commit(replace(done, result_id=remote_id), *self._displaced(op), row)
            self._begin_waiting(op, remote_id)
        elif why := collection.refusal(reply.body):
            self._refused(op, done, Rejected(f"the service refused it: {why}"))
        else:
            self._refused(
                op, done, OutcomeUnknown("the service accepted it without naming it", request_id=done.request_id)
            )

    def _displaced(self, op: Operation) -> list[Event]:
        """Rows that a new object of the same slot makes obsolete: lost ones go, a failed one becomes history."""
        events: list[Event] = [Gone(key) for key in op.drops]
        rows = self.state.rows(op.slot, Role.NEXT)
        return events + [replace(row, role=Role.RETIRED) for row in rows if row.key not in op.drops]

    def _refused(self, op: Operation, intent: Intent, error: Exception) -> None:
        """No success. Whether nothing was made then is the error's to say, and matters for creations only."""
        self.barred |= isinstance(error, NotAuthorised)
        unknown = isinstance(error, OutcomeUnknown | Conflict) and op.verb is Verb.CREATE
        ended = replace(
            intent,
            phase=IntentPhase.UNKNOWN if unknown else IntentPhase.REJECTED,
            reason=str(error)[:300],
            request_id=getattr(error, "request_id", ""),
            status=getattr(error, "status", 0),
            deadline=min(intent.deadline, written(self.api.now() + timedelta(seconds=1))),  # nothing is sent any more
        )
        gone = self._nothing_left(op, error)
        self._commit(ended, *((Gone(f"{op.collection}/{op.target_id}"),) if gone else ()))
        if gone:
            self._tell(op, Stage.DONE, detail=gone)
        elif unknown:
            self._tell(op, Stage.UNKNOWN, detail=_said(error), code=7)
        else:
            self._tell(op, Stage.FAILED, detail=_said(error), code=_code(error))

    def _nothing_left(self, op: Operation, error: Exception) -> str:
        """Why a deletion that was refused is done all the same, or ""."""
        if op.verb not in (Verb.DELETE, Verb.DISCARD):
            return ""
        if isinstance(error, NotFound):
            return "was already gone"
        keeps = self.collections[op.collection].keeps_records
        if keeps and getattr(error, "code", "") == "UnsupportedOperation":
            return "the service keeps the record; it is no longer ours"
        return ""

    # Waiting ----------------------------------------------------------------------------------------------------

    def _begin_waiting(self, op: Operation, remote_id: str) -> None:
        now = self.clock()
        self.waiting.setdefault(op.collection, {})[op.id] = _Wait(remote_id, now, status_since=now)
        collection = self.collections[op.collection]
        pace = self.paces.setdefault(op.collection, Pace.of(collection, self.terms.hurry))
        pace.begin(now, 0.0 if self._looks_at_once(op) else pace.first_s)
        self._tell(op, Stage.WAITING, status="sent")

    def _waits(self, op: Operation) -> dict[str, _Wait]:
        return self.waiting.get(op.collection, {})

    def _poll(self, names: Iterable[str]) -> None:
        """Begin a look at each of these collections that is due. They go on beside all else."""
        for name in sorted(names):
            ours = self.waiting[name]
            if name not in self.looks and self.clock() >= self._due(name):
                rows = [self.state.owned[f"{name}/{one.remote_id}"] for one in ours.values()]
                whole = self.order.creates(name) and self._one_by_one(name)
                seen = begun(partial(self._look, self.collections[name], rows, whole=whole))
                self.looks[name] = _Look(seen, dict(ours))
                self.paces[name].due = math.inf

    def _due(self, name: str) -> float:
        """When it is looked at: a little later where more is on its way there, so that one look tells of that too."""
        pace = self.paces[name]
        more = any(one.operation.collection == name for one in self.flights.values() if one.intent)
        return pace.due + pace.first_s * more

    def _look(self, collection: Collection, rows: Sequence[Owned], *, whole: bool) -> Mapping[str, Observed]:
        """What became of these. Where the next creation has to know the `whole` collection one list tells both."""
        if whole:
            seen = self._list(collection)
            if all(row.id in seen and not collection.stale(seen[row.id], row.outputs) for row in rows):
                return seen
        return look(self.api, collection, rows)

    def _judge_looks(self, pool: ThreadPoolExecutor) -> None:
        for name in [name for name, one in self.looks.items() if one.seen.done()]:
            one, pace = self.looks.pop(name), self.paces[name]
            moved = self._judge_look(pool, self.collections[name], one)
            due = pace.due  # of what was accepted since it began
            pace.looked(self.clock(), moved=moved)
            pace.due = min(pace.due, due)

    def _judge_look(self, pool: ThreadPoolExecutor, collection: Collection, taken: _Look) -> bool:
        """What one look says about all it was for; whether anything moved."""
        still = self.waiting.get(collection.name, {})
        ours = [(self.progress[i].operation, one) for i, one in taken.ours.items() if still.get(i) is one]
        try:
            seen = taken.seen.result()
        except NotAuthorised as error:
            for op, _ in ours:
                self._locked_out(op, error)
            return False
        except ApiError as error:
            for op, one in ours:
                self._still(op, one, one.status, f"not visible: {error}")
            return False
        moved = [self._judge(pool, op, one, seen.get(one.remote_id)) for op, one in ours]
        return any(moved)

    def _list(self, collection: Collection) -> Mapping[str, Observed]:
        """Everything a collection holds now. What was listed before is not read again where nothing of it is gone.

        A list begins with what is newest: if its first page and what is known are as many as it says that there are,
        they are all there is.
        """
        began, known = self.clock(), self.listed.get(collection.name)
        first = next(pages(self.api, collection, ahead=0), None) if known else None
        newest = {one.id: one for one in first.found if one.status not in collection.gone} if first else {}
        if known and first and first.total == len(known.keys() | newest.keys()):
            known = known | newest
        else:
            known = list_all(self.api, collection)
        self.listed[collection.name], self.fresh[collection.name] = known, (began, known)
        return known

    def _locked_out(self, op: Operation, error: NotAuthorised) -> None:
        """It says nothing of the object, which goes on; the next run that is let in looks at it again."""
        self.barred = True
        self._waits(op).pop(op.id, None)
        self._tell(op, Stage.DETACHED, detail=_said(error), code=error.exit_code)

    def _judge(self, pool: ThreadPoolExecutor, op: Operation, one: _Wait, observed: Observed | None) -> bool:
        """What one look says about one waiting operation; whether anything moved."""
        one.looks += 1
        if observed is not None:
            one.seen = True
            if op.verb is Verb.CREATE:
                self._learn(op, observed)
        if op.verb is Verb.DELETE:
            if observed is None:
                self._end_wait(op, Stage.DONE, (Gone(f"{op.collection}/{one.remote_id}"),))
                return True
            if self.clock() - one.since > GOING_S / self.terms.hurry:
                why = f"{one.remote_id} is still {observed.status or 'there'}: accepted, and not waited for any longer"
                self._end_wait(op, Stage.DETACHED, (), detail=why, code=6)
                return True
            return self._still(op, one, observed.status)
        if observed is None:
            if self.clock() - one.since < NOT_YET.total_seconds() / self.terms.hurry:
                return self._still(op, one, "not visible yet")
            self._vanished(op, one)
        elif observed.phase is Phase.READY:
            stays = self.terms.wait in ("ready", "once") and one.looks < LOOKS
            one.unsettled = stays and self.collections[op.collection].unsettled(observed.outputs)
            if one.unsettled:
                return self._still(op, one, observed.status)
            self._arrived(pool, op, observed)
        elif observed.phase is Phase.FAILED:
            self._fail(op, " ".join(filter(None, (observed.status, observed.detail, self._last_words(op, observed)))))
        else:
            unheard = observed.phase is Phase.UNKNOWN and observed.status
            return self._still(op, one, observed.status, UNHEARD if unheard else self._figure(op, one, observed))
        return True

    def _vanished(self, op: Operation, one: _Wait) -> None:
        """Gone, or never there: a new object that nobody saw under the id we were given is looked for by its mark."""
        row = self.state.owned[f"{op.collection}/{one.remote_id}"]
        made = self.state.maker(row)
        if made is None or row.outputs or one.seen or row.role is not Role.NEXT:
            self._fail(op, f"{one.remote_id} is gone from the service")
            return
        gone, lost = reopened(row, made)
        self._end_wait(op, Stage.UNKNOWN, (gone, lost), detail=lost.reason, code=7)

    def _learn(self, op: Operation, observed: Observed) -> None:
        """Whether this account shows our marks decides what absence means once an answer is lost (recover.py)."""
        collection, name = self.collections[op.collection], f"{op.collection}.mark"
        if self.state.shows(name):
            return
        made = self.state.maker(self.state.owned[f"{op.collection}/{observed.id}"])
        if made is None or not collection.marks(made.fields):
            return
        shown = collection.shows_at_once(made.tag, made.fields, observed)
        if shown or (shown is False and observed.phase is Phase.READY and name not in self.state.facts):
            self._commit(Fact(name, bool(shown), f"{observed.id} was created with the mark {made.tag}", made.at))

    def _arrived(self, pool: ThreadPoolExecutor, op: Operation, observed: Observed) -> None:
        """The object is ready: check that it is what was sent, ask it what the author wants asked, put it in use."""
        row = self.state.owned[f"{op.collection}/{observed.id}"]
        fixed = self.collections[op.collection].verified
        wrong = [n for n in sorted(fixed & row.last_applied.keys() & observed.fields.keys())
                 if canonical(row.last_applied[n]) != canonical(observed.fields[n])]  # fmt: skip
        if wrong:
            self._fail(op, f"the service holds another {', '.join(wrong)} than was sent")
            return
        row = replace(row, outputs=dict(observed.outputs))
        probes = op.part.probes if op.part and row.role is Role.NEXT else ()
        if probes:
            self._commit(row)
            del self._waits(op)[op.id]
            self._tell(op, Stage.SENDING, status="smoke")
            self.flights[pool.submit(self._probe, op.collection, observed.id, probes)] = _Flight(op)
        else:
            self._promote(op, row)

    def _promote(self, op: Operation, row: Owned) -> None:
        """The new object becomes the one that references resolve to; what it replaces is history from here on."""
        events: list[Event] = [row]
        if row.role is Role.NEXT:
            olds = self.state.rows(op.slot, Role.CURRENT)
            events = [*(replace(old, role=Role.RETIRED) for old in olds), replace(row, role=Role.CURRENT, failure="")]
        if op.verb is Verb.CANCEL:
            self._end_wait(op, Stage.FAILED, events, detail=TOO_LATE, code=5)
        else:
            self._end_wait(op, Stage.DONE, events)

    def _fail(self, op: Operation, why: str) -> None:
        wait_for = self._waits(op).get(op.id)
        row = self.state.owned.get(f"{op.collection}/{wait_for.remote_id}") if wait_for else None
        events = (replace(row, failure=why),) if row is not None and row.role is Role.NEXT else ()
        if op.verb is Verb.CANCEL:
            self._end_wait(op, Stage.DONE, events, detail=why)
        else:
            self._end_wait(op, Stage.FAILED, events, detail=why, code=5)

    def _end_wait(self, op: Operation, stage: Stage, events: Iterable[Event], detail: str = "", code: int = 0) -> None:
        events = tuple(events)
        if events:
            self._commit(*events)
        self._waits(op).pop(op.id, None)
        self._tell(op, stage, detail=detail, code=code)

    def _last_words(self, op: Operation, observed: Observed) -> str:
        """The end of its log, where it keeps one: what failed is often said nowhere else."""
        collection = self.collections[op.collection]
        request = collection.logs(observed.id, 0)
        if request is None:
            return ""
        try:
            said = [line for line in collection.log_lines(self.api.send(request).body) if line.strip()]
        except ApiError:
            return ""
        return f"(log: {' / '.join(line.strip() for line in said[-LOG_LINES:])[:LOG_CHARACTERS]})" if said else ""

    def _still(self, op: Operation, one: _Wait, status: str, detail: str = "") -> bool:
        moved = status != one.status
        if moved:
            one.status, one.status_since = status, self.clock()
        self._tell(op, Stage.WAITING, status=status, detail=detail, elapsed_s=self.clock() - one.status_since)
        return moved

    def _figure(self, op: Operation, one: _Wait, observed: Observed) -> str:
        """The one number worth watching while it works."""
        collection = self.collections[op.collection]
        request = collection.logs(one.remote_id, one.log_lines) if self.terms.watch else None
        if request is not None and observed.status == "RUNNING":
            try:
                lines = collection.log_lines(self.api.send(request).body)
            except ApiError:
                return one.figure
            one.log_lines += len(lines)
            one.figure = collection.figure(lines) or one.figure
            return one.figure
        ready, wanted = observed.outputs.get("ready"), observed.fields.get("capacity")
        return f"{ready} of {wanted} ready" if ready is not None and wanted else ""

    # Smoke ------------------------------------------------------------------------------------------------------

    def _probe(self, collection_name: str, remote_id: str, probes: tuple[Probe, ...]) -> str:
        """Why the new object is not fit for use, or "". Runs in the pool."""
        collection, deadline = self.collections[collection_name], self.clock() + PROBE_GRACE_S / self.terms.hurry + 2
        for probe in probes:
            request = collection.probe(remote_id, probe.prompt)
            assert request is not None
            while True:
                try:
                    answer = collection.answer(self.api.send(request).body)
                    break
                except NotFound as error:
                    if self.clock() > deadline:
                        return f"smoke prompt {probe.prompt!r}: {error}"
                    self.sleep(0.5)
                except NotAuthorised:
                    raise
                except ApiError as error:
                    return f"smoke prompt {probe.prompt!r}: {error}"
            if why := probe.failure(answer):
                return f"smoke prompt {probe.prompt!r}: {why}"
        return ""

    def _probed(self, op: Operation, future: Future[str]) -> None:
        row = self.state.row(op.slot, Role.NEXT)
        assert row is not None
        self.waiting.setdefault(op.collection, {})[op.id] = _Wait(row.id, self.clock())
        try:
            why = future.result()
        except NotAuthorised as error:
            self._locked_out(op, error)
            return
        if why:
            self._fail(op, why)
        else:
            self._promote(op, row)

    # Ending -----------------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Start nothing more. What is in flight is still concluded; what waits goes on without us."""
        for was in [self.progress[name] for ours in self.waiting.values() for name in ours]:
            self._tell(was.operation, Stage.DETACHED, status=was.status, code=6)
        self.waiting.clear()
        self.looks.clear()
        self.order.clear()
        if not self.flights:
            for progress in list(self.progress.values()):
                if progress.stage is Stage.TODO:
                    self._tell(progress.operation, Stage.SKIPPED, detail="not started")

    def land(self) -> None:
        """Record what the service still answers to what is in flight, also when something else went wrong."""
        wait(self.flights)
        if self.flights:
            with self._step(come_what_may=True):
                self._conclude()

    def rest(self) -> None:
        """Until something is answered or due."""
        dues = [self._due(name) for name, ours in self.waiting.items() if ours and name not in self.looks]
        pause = min([REST_S_MAX, *(max(0.0, due - self.clock()) for due in dues)])
        if self.flights or self.looks:
            pause = min(pause, GAUGE_S) if any(flight.gauge.size for flight in self.flights.values()) else pause
            under_way = {*self.flights, *(one.seen for one in self.looks.values())}
            wait(under_way, timeout=pause or 0.01, return_when=FIRST_COMPLETED)
            wait(under_way, timeout=GATHER_S)  # what is answered together is recorded together
            self._gauge()
        elif dues and pause:
            self.sleep(pause)

    def _gauge(self) -> None:
        for flight in self.flights.values():
            if news := flight.gauge.news():
                elapsed_s = self.clock() - flight.since
                op_id = flight.intent.op_id if flight.intent else ""
                self._tell(flight.operation, Stage.SENDING, detail=news, elapsed_s=elapsed_s, op_id=op_id)

    def _commit(self, *events: Event) -> None:
        """Recorded when the step ends that this is a part of."""
        assert self.decided is not None
        self.state = self.folding.take(events)
        self.decided += events

    def _tell(
        self,
        op: Operation,
        stage: Stage,
        status: str = "",
        detail: str = "",
        elapsed_s: float = 0.0,
        code: int = 0,
        op_id: str = "",
    ) -> None:
        progress = Progress(op, stage, status, detail, elapsed_s, code, op_id)
        self.progress[op.id] = progress
        if stage is Stage.DONE:
            self.order.done(op.id)
        elif stage in _LOST:
            self.order.lost(op.id)
        if self.decided is None:
            self.report(progress)
        else:
            self.then.append(partial(self.report, progress))


def _said(error: Exception) -> str:
    """What went wrong and what next: an outcome is told without its error."""
    hint = getattr(error, "hint", "")
    return f"{error} ({hint})" if hint else str(error)


def _code(error: Exception) -> int:
    """An undecided change is planned again from what the service shows: an error, and nobody's to resolve."""
    if isinstance(error, ReconcilerError) and not isinstance(error, OutcomeUnknown):
        return error.exit_code
    return 1


def operation_id() -> str:
    """A new name for a journal row; names sort in the order of time."""
    return f"{time.time_ns():x}-{uuid4().hex[:6]}"


def _settled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not isinstance(value, Known)}
