"""The line on one page: read what is declared, recorded and observed; make the plan; carry it out.

Every command is a few calls of these functions. They return values; how a value is worded is `render.py`'s business.
What only some of them need is imported inside them: everything begins with a plan, and that must be quick.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from reconciler import adoption, approvals, data, files, kinds, quotas, surgery
from reconciler import saved as saved_plan
from reconciler.api import Api, Called, Key, Patience, uncounted
from reconciler.approvals import Leash, Mode, hold
from reconciler.catalogue import other_limits
from reconciler.clock import boottime
from reconciler.errors import ReconcilerError, Refused, StalePlan, StateCorrupt, StateError, StateMismatch
from reconciler.guards import NO_LIMITS, Breach, Limits, breaches, strictest
from reconciler.observe import Sheets, begun, list_all, look_closer, observe, offers, read_one
from reconciler.plan import (
    VANISHED_HINT,
    Choices,
    Desired,
    Note,
    Operation,
    Plan,
    Verb,
    World,
    caught_up,
    kept,
    sums,
    vanished,
)
from reconciler.planning import make_plan
from reconciler.project import Project
from reconciler.resource import (
    Action,
    Budget,
    Collection,
    Json,
    Lifecycle,
    Match,
    Measurement,
    Observed,
    Part,
    Phase,
    Resource,
    Slot,
)
from reconciler.saved import Bound, Saved
from reconciler.state import (
    Approval,
    Event,
    Intent,
    IntentPhase,
    Owned,
    Resumed,
    Role,
    Stamp,
    State,
    Ticket,
    generation,
    live_rows,
    written,
)
from reconciler.store import Header, Store
from reconciler.store.sqlite import SqliteStore
from reconciler.surgery import MOVE, UNLOCK, Candidate, Deed
from reconciler.wording import shown

if TYPE_CHECKING:
    from reconciler.apply import Progress, Terms
    from reconciler.discover import Orphans
    from reconciler.drift import Drift
    from reconciler.rebuild import Rebuilt
    from reconciler.recover import Finding
    from reconciler.report import Aftermath
    from reconciler.wait import Goal

AGAIN = "plan again: reconciler plan --out FILE"


class Ahead(NamedTuple):
    """What is recorded, and what the service shows of it, both looked up while something else is done."""

    state: Future[State]
    world: Future[World]


@dataclass(frozen=True)
class Session:
    """A project on one account: everything a command needs, opened once."""

    project: Project
    api: Api
    store: Store
    collections: Mapping[str, Collection]
    hurry: float = 1.0
    limits: Limits = NO_LIMITS
    ahead: Ahead | None = None
    memory: Memory | None = None

    @property
    def asks_on_unknown(self) -> bool:
        """Whether a person wants to be asked before a creation that left no trace is repeated."""
        return bool(self.project.stack and getattr(self.project.stack.spec, "on_unknown", "") == "Ask")

    @property
    def desired(self) -> Desired:
        project = self.project
        return Desired(project.documents, project.parts, project.removed, project.count)


@dataclass(frozen=True)
class Snapshot:
    """Desired, recorded and observed at one moment, and the plan that follows from them.

    `held` are operations that are blocked in the plan only because nobody has agreed to them.
    """

    plan: Plan
    state: State
    world: World
    breaches: tuple[Breach, ...] = ()
    held: tuple[Operation, ...] = ()


@dataclass
class Memory:
    """What the last look of a loop was made from: what is still so is neither read nor thought out again.

    The service is asked all the same. A plan is kept only where there is nothing to do: whatever time alone can change,
    a wait or a deadline, is an operation.
    """

    header: tuple[str, int, str] = ("", 0, "")
    state: State | None = None
    project: Project | None = None
    sheets: Sheets = field(default_factory=Sheets)
    asked: tuple[Choices, Leash | None, Limits] | None = None
    came: Snapshot | None = None

    def recorded(self, store: Store) -> State:
        """What a store holds, read only where its seal moved, which is over every row and the number of writes."""
        header = store.header()
        now = (header.lineage, header.serial, header.seal) if header else ("", 0, "")
        if self.state is None or self.header != now or header is None:
            self.header, self.state, self.came = now, store.load(), None
        return self.state

    def turned(self, project: Project) -> Sheets:
        """A new reading over the pages of the last one; over none where another profile may read them otherwise."""
        before, self.project = self.project, project
        if before is not project:
            self.came = None
        self.sheets = Sheets(self.sheets.now if before and before.profile is project.profile else {})
        return self.sheets

    def again(self, world: World, asked: tuple[Choices, Leash | None, Limits]) -> Snapshot | None:
        """What the last look came to, where nothing moved since; its plan is the very same then."""
        came = self.came
        if came is None or self.asked != asked or came.world.objects != world.objects or world.at < came.world.at:
            return None
        return replace(came, world=world)

    def keep(self, snapshot: Snapshot, asked: tuple[Choices, Leash | None, Limits]) -> None:
        self.asked, self.came = asked, None if snapshot.plan.operations else snapshot


@dataclass(frozen=True)
class Applied:
    """What an apply came to. `progress` is empty where it was declined or had nothing to do."""

    snapshot: Snapshot
    progress: tuple[Progress, ...] = ()
    recovered: tuple[Finding, ...] = ()
    declined: bool = False


@contextmanager
def session(
    project: Project,
    origin: str,
    key: Key,
    *,
    workspace: str = "",
    patience: Patience | None = None,
    budgets: Iterable[Budget | None] = (),
    called: Called = uncounted,
    memory: Memory | None = None,
) -> Iterator[Session]:
    """Connect a project to a service; on an emulator, waiting keeps the pace of its time.

    `budgets` are those from outside the project; the Stack's own holds beside them. `called` hears of every request.
    A loop gives the `memory` of its last look at this stack.

    Raises StateMismatch before anything is read when the recorded state belongs to another endpoint or workspace.
    """
    contents = partial(data.stream, files.Tree(project.root))
    with Api(origin, key, workspace=workspace, contents=contents, called=called, patience=patience) as api:
        stamp = Stamp(api.identify(), workspace, project.name, project.environment)
        collections, limits = kinds.collections(project.profile), limits_of(project, budgets)
        yield Session(
            project, api, open_store(project, stamp), collections, hurry=api.hurry, limits=limits, memory=memory
        )


def limits_of(project: Project, budgets: Iterable[Budget | None] = ()) -> Limits:
    """The strictest of the Stack's own budget and those from outside the project."""
    return strictest((*budgets, getattr(project.stack.spec, "budget", None) if project.stack else None))


def open_store(project: Project, stamp: Stamp) -> Store:
    """The state of a project in its environment, where its Stack says that it is. Neither reads nor writes it."""
    spec = project.stack.spec if project.stack else None
    location = getattr(spec, "state", None)
    if location is None or location.backend == "sqlite":
        path = project.home / (location.path if location else ".reconciler/state.db")
        if name := stamp.environment:  # with a suffix in any case: beside `state` there may be a `state.backup` of ours
            path = path.with_name(f"{path.stem}.{name}{path.suffix or '.db'}")
        return SqliteStore(path, stamp)
    try:
        from reconciler.store.postgres import DSN, PostgresStore
    except ImportError as error:
        raise StateError(
            "the Stack keeps its state in PostgreSQL, and the driver for it is not installed",
            hint="pip install 'bailian-reconciler[postgres]'",
        ) from error
    return PostgresStore(os.environ.get(DSN, ""), stamp, folder=project.home / ".reconciler")


def plan(session: Session, choices: Choices, leash: Leash | None = None) -> Snapshot:
    """What an apply would do now; on a `leash`, a loop. Sends only reads and writes nothing, not even state."""
    ahead, memory = session.ahead, session.memory
    before = ahead.state.result() if ahead else memory.recorded(session.store) if memory else session.store.load()
    state, asked = surgery.renamed(before, session.project.documents), (choices, leash, session.limits)
    world = _world(session, state, ahead.world.result() if ahead else World())
    if memory and (again := memory.again(world, asked)):
        return again
    snapshot = _drawn_up(session, before, state, world, choices, leash)
    if memory:
        memory.keep(snapshot, asked)
    return snapshot


def _drawn_up(
    session: Session, before: State, state: State, world: World, choices: Choices, leash: Leash | None
) -> Snapshot:
    """The plan, with what the service offers for it; `before` is the state under its former names."""
    made = make_plan(session.desired, state, world, session.collections, choices)
    if offered := _offers(session, made):
        world = replace(world, offers=offered)
        made = make_plan(session.desired, state, world, session.collections, choices)
    held = leash.held(made, state) if leash else ()
    made, profile = hold(made, held), session.project.profile
    needs = quotas.needs(made, world, session.collections, profile.limits, other_limits(profile.profile))
    found = breaches(made, session.limits, choices, owned=len(live_rows(state)), needs=needs)
    pause = state.pauses.get("")
    paused = [Note("the stack", f"is paused {surgery.paused_since(pause)}", surgery.resuming(""))] if pause else []
    moves = tuple(sorted((new, old) for old, new in surgery.renames(before, session.project.documents).items()))
    notes = (*quotas.notes(needs), *made.notes, *paused)
    return Snapshot(replace(made, notes=notes, moves=moves), state, world, found, held)


def looking_ahead(session: Session) -> Session:
    """The same, while what is recorded is already looked up on the service: for one plan, which takes it from there."""

    recorded = begun(session.store.load)

    def look() -> World:
        rows = recorded.result().owned.values()
        return observe(session.api, session.collections, {row.collection for row in rows}, rows)

    return replace(session, ahead=Ahead(recorded, begun(look)))


def is_made(session: Session, part: Part) -> bool:
    """Whether a part is recorded as made, with all that cannot change in it as it is declared, by who looks ahead."""
    assert session.ahead
    try:
        state = session.ahead.state.result()
        row = state.head(part.slot)
        if row is None or row.failure:
            return False
        collection = session.collections[row.collection]
        fields = adoption.filled(part, state, by_content=True)
        return row.generation == generation(collection.name, collection.lasting(fields))
    except ReconcilerError:  # whatever it is, the plan meets it too and tells of it
        return False


def canceling(session: Session, address: str, choices: Choices) -> Snapshot:
    """What stops the work under way of an address, as a plan of this one operation. Refused where there is none."""
    snapshot = plan(session, choices)
    row = next((r for r in live_rows(snapshot.state) if r.slot.address == address and r.role is Role.NEXT), None)
    if row is None:
        raise Refused(f"nothing of {address} is under way", hint=f"reconciler describe {address}")
    seen, collection = snapshot.world.get(row), session.collections[row.collection]
    request = collection.cancel(seen) if seen else None
    if seen is None or request is None:
        status = seen.status if seen else "gone from the service"
        raise Refused(f"{row.id} is {status}: only what is under way can be canceled")
    _refuse_kept(session, row, choices)
    maker = snapshot.state.maker(row)
    tokens, counted = (maker.tokens, maker.counted) if maker else (None, False)
    once = collection.price(row.last_applied, base=row.base, tokens=tokens, counted=counted).once
    most = "nobody knows how much" if once is None else f"at most {once:.2f} CNY"
    operation = Operation(
        id=f"cancel {row.slot}",
        action=Action.DELETE,
        verb=Verb.CANCEL,
        slot=row.slot,
        collection=row.collection,
        target_id=row.id,
        request=request,
        why=f"cancel {row.id}, which is {seen.status}: what it did until then is billed ({most})",
        hint=f"nothing comes of it, and nothing takes its place until reconciler retry {address} or a changed input",
    )
    totals = sums((operation,), snapshot.plan.totals.hour_before)
    return replace(snapshot, plan=Plan((operation,), (), totals), breaches=())


def _refuse_kept(session: Session, row: Owned, choices: Choices) -> None:
    """What a plan would not delete is not canceled either."""
    declared = (d.lifecycle for d in session.project.documents if d.address == row.slot.address)
    lifecycle = next(declared, Lifecycle())
    if lifecycle.observe_only:
        raise Refused(f"{row.slot} is only observed", hint="observeOnly in its manifest")
    policy = lifecycle.deletion_policy or row.deletion
    if why := kept(row, "" if policy == "Orphan" else policy, choices):  # what is stopped is lost, whatever stays of it
        raise Refused(f"{row.slot}: {why[0]}", hint=why[1])


def _world(session: Session, state: State, seen: World) -> World:
    """Everything that matters to the project, recorded or declared, beside what was seen already."""
    watched = (*state.open_intents(), *state.given_up(written(session.api.now())))
    names = {row.collection for row in state.owned.values()} | {intent.collection for intent in watched}
    names |= {d.spec.collection for d in session.project.documents if isinstance(d.spec, Resource)}
    if any(document.lifecycle.keep_last is not None for document in session.project.documents):
        names |= session.collections.keys()  # what nobody makes use of is known only once all are looked at
    sheets = session.memory.turned(session.project) if session.memory else None
    world = observe(session.api, session.collections, names - seen.objects.keys(), state.owned.values(), sheets)
    world = replace(world, objects={**seen.objects, **world.objects})
    for name in sorted(_taken_from(session, state)):
        world = _closer(session, state, world, name)
    return replace(world, at=written(session.api.now()))


def _taken_from(session: Session, state: State) -> set[str]:
    """Collections of which something may be taken in: a slot that holds nothing is declared so."""
    return {
        part.collection or document.spec.collection
        for document in session.project.documents
        if isinstance(document.spec, Resource) and document.lifecycle.adoption != "Never"
        for part in session.project.parts.get(document.address, ())
        if all(row.role is Role.RETIRED for row in state.rows(part.slot))
    }


def _closer(session: Session, state: State, world: World, name: str) -> World:
    """The world with all that can be seen of what is nobody's in a collection."""
    seen = world.objects.get(name, {})
    others = state.unowned(name, seen)
    read = look_closer(session.api, session.collections[name], others)
    kept = {key: one for key, one in seen.items() if key not in others}
    return replace(world, objects={**world.objects, name: kept | read})


def _offers(session: Session, made: Plan) -> dict[str, tuple[Json, ...]]:
    """What the service offers for what this plan would make or change; asked for nothing else."""
    names = {op.collection for op in made.operations if op.verb in (Verb.CREATE, Verb.UPDATE)}
    asked = {name: offers(session.api, session.collections[name]) for name in sorted(names)}
    return {name: told for name, told in asked.items() if told is not None}


def look_around(session: Session, *, closely: bool = False) -> tuple[State, World]:
    """What is recorded, and everything the service lists, whether the project has to do with it or not.

    `closely`: with all that can be seen of what is nobody's.
    """
    state = session.store.load()
    world = observe(session.api, session.collections, session.collections, state.owned.values())
    for name in sorted(world.objects) if closely else ():
        world = _closer(session, state, world, name)
    return state, replace(world, at=written(session.api.now()))


def orphans(session: Session) -> Orphans:
    """What carries a mark like ours and is recorded nowhere."""
    from reconciler import discover
    from reconciler.rebuild import rebuild

    state, world = look_around(session)
    read = partial(read_one, session.api)
    found = rebuild(session.desired, state, world, session.collections, read, _deed(session, 0)).found
    return discover.orphans(state, world, session.collections, {one.row.key: one.row.slot for one in found})


def save(
    session: Session, snapshot: Snapshot, choices: Choices, *, made_from: tuple[str, ...], at: datetime | None = None
) -> Saved:
    """A plan to be applied later, once, and only while all that it rests on is as it is now."""
    made_at = (at or today()).replace(microsecond=0)
    expires_at = made_at + saved_plan.GOOD_FOR
    return Saved(uuid4().hex, made_at, expires_at, made_from, choices, _bound(session, snapshot))


def today() -> datetime:
    """The time of this computer, for people and for what expires."""
    return datetime.now(UTC)


def apply(
    session: Session,
    choices: Choices,
    terms: Terms,
    *,
    approve: Callable[[Snapshot], bool],
    report: Callable[[Progress], None],
    noticed: Callable[[Finding], None] = lambda finding: None,
    stopped: Callable[[], bool] = lambda: False,
    lock_timeout_s: float = 0,
    clock: Callable[[], float] = boottime,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = today,
    saved: Saved | None = None,
    if_equal: bool = False,
    leash: Leash | None = None,
    cancel: str = "",
) -> Applied:
    """Recover what an earlier run left open, plan, ask, and do it: once. Refused while the whole stack is paused.

    On a `leash` what nobody agreed to yet is proposed instead. With a `saved` plan, StalePlan unless the plan is that
    one again; `if_equal` lets other inputs come to the same work. Its own choices count then. With an address to
    `cancel` that is all there is to do, paused or not.

    A creation whose answer was lost is looked for before this returns. Raises ReconcilerError for what stops
    everything; the failure of one operation is an outcome, not an error.
    """
    from reconciler import apply as execution
    from reconciler.apply import Stage
    from reconciler.recover import recover

    with session.store.lease(wait_s=lock_timeout_s, sleep=sleep) as epoch:
        if not cancel:
            _refuse_paused(session.store.load())
        seek = partial(
            recover,
            session.store,
            epoch,
            session.api,
            session.collections,
            ask=session.asks_on_unknown,
            patient=leash is None,
            sleep=sleep,
        )
        found = seek(stopped=stopped) if leash else seek()
        for finding in found:
            noticed(finding)
        ticket, choices = _claim(saved, session.store.load(), epoch, now()) if saved else (None, choices)
        snapshot = canceling(session, cancel, choices) if cancel else plan(session, choices, leash)
        if saved:
            _hold_to(saved, session, snapshot, at=now(), if_equal=if_equal)
        approved = snapshot.plan.work and approve(snapshot)
        if snapshot.breaches:
            raise _over_budget(snapshot.breaches)
        if snapshot.plan.work and not approved:
            return Applied(snapshot, recovered=found, declined=True)
        if ticket:
            session.store.commit(epoch, ticket)
        if leash and (news := leash.proposed(snapshot.held, snapshot.state, written(session.api.now()))):
            session.store.commit(epoch, *news)
        _remember(session, snapshot, epoch)
        progress = execution.run(
            snapshot.plan,
            snapshot.world,
            store=session.store,
            epoch=epoch,
            api=session.api,
            collections=session.collections,
            terms=replace(terms, hurry=session.hurry),
            report=report,
            stopped=stopped,
            clock=clock,
            sleep=sleep,
        )
        if any(one.stage is Stage.UNKNOWN for one in progress):
            late = _quietly(partial(seek, stopped=stopped))
            for finding in late:
                noticed(finding)
            found += late
        if ticket and all(one.stage is Stage.DONE for one in progress if one.operation.verb is not Verb.NOTHING):
            session.store.commit(epoch, replace(ticket, ended=_written(now())))
    return Applied(snapshot, progress, found)


def leash_of(project: Project, mode: Mode, revision: str = "") -> Leash:
    """How far a loop of this mode may go with a project by itself."""
    loop = getattr(project.stack.spec, "controller", None) if project.stack else None
    return Leash(mode, paid_too=getattr(loop, "paid", "") == "Auto", revision=revision)


def reconcile(
    session: Session,
    leash: Leash,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
    lock_timeout_s: float = 0,
    clock: Callable[[], float] = boottime,
    sleep: Callable[[float], None] = time.sleep,
) -> Applied:
    """One pass of a loop: look, and do as much as may be done without waiting for anything slow.

    Where there is nothing to do, or the stack is paused, the lease is not taken and nothing is written. Raises
    ReconcilerError for what stops the whole pass.
    """
    from reconciler.apply import Terms

    snapshot = plan(session, Choices(), leash)
    news = leash.proposed(snapshot.held, snapshot.state, written(session.api.now()))
    waits = not any(_stirs(op, snapshot.world) for op in snapshot.plan.work)
    idle = waits and not (news or snapshot.state.open_intents() or snapshot.plan.moves)
    if leash.mode is Mode.OBSERVE or idle or snapshot.state.pauses.get(""):
        return Applied(snapshot)
    return apply(
        session,
        Choices(),
        Terms(wait="once"),
        approve=lambda _: True,
        report=report,
        stopped=stopped,
        lock_timeout_s=lock_timeout_s,
        clock=clock,
        sleep=sleep,
        leash=leash,
    )


def agree(session: Session, digest: str, *, by: str, lock_timeout_s: float = 0) -> Approval:
    """Record that somebody agreed to what a loop proposed; a `digest` may be cut short. The loop's next pass does it.

    UsageError where nothing of the kind is proposed, or several are.
    """
    with session.store.lease(wait_s=lock_timeout_s) as epoch:
        found = approvals.find(session.store.load().approvals, digest)
        agreed = replace(found, approved_at=written(session.api.now()), by=by)
        session.store.commit(epoch, agreed)
    return agreed


def _stirs(op: Operation, world: World) -> bool:
    """Whether there is something to do about it now: what is only under way is looked at, and left to go on."""
    seen = world.objects.get(op.collection, {}).get(op.target_id)
    return op.verb is not Verb.WAIT or seen is None or seen.phase is not Phase.PENDING


def _refuse_paused(state: State) -> None:
    if pause := state.pauses.get(""):
        raise Refused(f"the stack is paused {surgery.paused_since(pause)}", hint=surgery.resuming(""))


def _over_budget(found: tuple[Breach, ...]) -> Refused:
    what = "; ".join(f"{breach.rule}: {breach}" for breach in found)
    return Refused(f"the plan goes over a limit: {what}", hint=" ".join(breach.override for breach in found))


# Saved plans --------------------------------------------------------------------------------------------------------


def _claim(saved: Saved, state: State, epoch: int, at: datetime) -> tuple[Ticket, Choices]:
    """What lets a saved plan run, and what it may still choose: one that was interrupted goes on with its own."""
    ticket = state.tickets.get(saved.digest) or Ticket(saved.digest, begun=_written(at), epoch=epoch)
    if ticket.ended:
        why = f"it was applied already, at {ticket.ended}"
        raise StalePlan("a saved plan is applied once", reasons=[why], hint=AGAIN)
    settled = saved_plan.settled(saved, state)
    return ticket, replace(saved.choices, settled=settled, learnt_before=ticket.epoch)


def _hold_to(saved: Saved, session: Session, snapshot: Snapshot, *, at: datetime, if_equal: bool) -> None:
    """StalePlan where the plan of now is not the saved one."""
    found = saved_plan.stale(saved, _bound(session, snapshot), snapshot.state, at=at)
    reasons = [reason.what for reason in found if reason.firm or not if_equal]
    if reasons:
        soft = not any(reason.firm for reason in found)
        hint = f"{AGAIN}; or apply it with --replan=if-equal, as its work is still the same" if soft else AGAIN
        raise StalePlan("the saved plan no longer holds", reasons=reasons, hint=hint)


def _bound(session: Session, snapshot: Snapshot) -> Bound:
    return saved_plan.bind(
        snapshot.plan,
        snapshot.state,
        snapshot.world,
        desired=session.desired,
        collections=session.collections,
        profile=session.project.profile,
        manifests=session.project.manifests,
        declared=session.project.stack is not None,
    )


def _written(moment: datetime) -> str:
    return f"{written(moment)} UTC"


def aftermath(session: Session, saved: Saved) -> Aftermath | None:
    """What became of a saved plan, with what the service has to say of it; None where it was never begun here."""
    from reconciler import report as reports

    if saved.digest not in session.store.load().tickets:
        return None
    state, world = look_around(session)
    came = reports.aftermath(saved, state, session.collections, world.objects)
    return came and reports.with_logs(came, state, partial(measured, session))


# Surgery ------------------------------------------------------------------------------------------------------------

Change = Callable[[State, Deed], tuple[Event, ...]]


def recorded(project: Project) -> Store | None:
    """The state of a project for looking at it, without a key or a service; None where there is none yet."""
    anybodys = open_store(project, Stamp("", "", project.name, project.environment))
    stamp = anybodys.whose()
    if stamp and replace(stamp, endpoint="", workspace="") != anybodys.stamp:
        was, now = (f"{one.stack}/{one.environment}".rstrip("/") for one in (stamp, anybodys.stamp))
        raise StateMismatch(
            f"the state in {anybodys.where} belongs to stack {was}, not to {now}",
            hint="point at that one again, or give the stack another state",
        )
    return open_store(project, stamp) if stamp else None


def recorded_state(project: Project) -> State:
    """What is recorded of a project, without a key or a service; an empty State where nothing is yet."""
    store = recorded(project)
    return store.load() if store else State()


def operate(session: Session, change: Change, *, reason: str = "", lock_timeout_s: float = 0) -> tuple[Event, ...]:
    """Change the record as a person decided, under the lease and with its row in the journal.

    What is refused is refused before anything is written.
    """
    change(session.store.load(), _deed(session, 0, reason))
    with session.store.lease(wait_s=lock_timeout_s) as epoch:
        events = change(session.store.load(), _deed(session, epoch, reason))
        session.store.commit(epoch, *events)
    return events


def unlock(session: Session, held: Header) -> None:
    """Take the lease from its holder: whatever that one still tries to record is refused."""
    session.store.unlock(held.epoch)
    with session.store.lease() as epoch:
        deed = _deed(session, epoch, f"taken from {held.holder}, who had it since {held.since}")
        session.store.commit(epoch, deed.entry(UNLOCK, Slot(""), fields={"epoch": held.epoch}))


def candidates(session: Session, state: State, intent: Intent) -> tuple[Candidate, ...]:
    """What the service has now that an open creation may have made."""
    from reconciler.recover import Listing

    collection = session.collections[intent.collection]
    seen = list_all(session.api, collection)
    if named := collection.named(intent.fields):
        one = read_one(session.api, collection, named)
        seen |= {named: one} if one else {}
    if not intent.tag:  # nothing was sent: a rebuild asks
        return surgery.candidates(state, intent, collection, seen)
    suspects = Listing(state, collection, seen).suspects(intent)
    marked = tuple(Candidate(one, Match.STRONG) for one in suspects.strong)
    return (*marked, *(Candidate(one, Match.WEAK) for one in suspects.weak))


def adopt(session: Session, op_id: str, remote_id: str, *, reason: str = "") -> tuple[Event, ...]:
    """Record that an open creation made this object, which must exist."""
    intent = surgery.operation(session.store.load(), op_id)
    collection = session.collections.get(intent.collection)
    seen = read_one(session.api, collection, remote_id) if collection else None
    if collection is None or seen is None:
        raise Refused(
            f"the service has nothing of the id {shown(remote_id)} in {intent.collection or 'any collection'}",
            hint=f"reconciler ops show {op_id} lists what may be meant",
        )
    return operate(
        session,
        lambda state, deed: surgery.adopt(state, surgery.operation(state, op_id), collection, seen, deed),
        reason=reason,
    )


def take_in(session: Session, slot: Slot, remote_id: str, *, reason: str = "") -> tuple[Event, ...]:
    """Record that a slot holds this object, which must exist. Nothing changes on the service."""
    document, part, collection = adoption.wanted(session.desired, session.collections, slot)
    seen = read_one(session.api, collection, remote_id)
    if seen is None:
        hint = "reconciler discover lists what is there"
        raise Refused(f"the service has nothing of the id {shown(remote_id)} in {collection.name}", hint=hint)
    return operate(
        session, lambda state, deed: adoption.adopt(state, document, part, collection, seen, deed), reason=reason
    )


def absent(session: Session, op_id: str, *, reason: str) -> tuple[Event, ...]:
    """Record that an open operation came to nothing."""
    return operate(session, lambda state, deed: surgery.absent(surgery.operation(state, op_id), deed), reason=reason)


@dataclass(frozen=True)
class Restored:
    """What a rebuild came to. `damaged` is why the old state was put away, `aside` where; `done` only when approved."""

    rebuilt: Rebuilt
    damaged: str = ""
    aside: tuple[str, ...] = ()
    done: bool = False


def restore(session: Session, *, approve: Callable[[Restored], bool], lock_timeout_s: float = 0) -> Restored:
    """Find what we own by its marks, ask, and record it. A state that cannot be read is put away first, never deleted.

    Raises StalePlan where what is found is no longer what was approved.
    """
    damaged = ""
    try:
        state = session.store.load()
    except StateCorrupt as error:
        state, damaged = State(session.store.stamp), "; ".join(filter(None, (str(error), error.hint)))
    proposed = Restored(_rebuilt(session, state, _deed(session, 0)), damaged)
    if not (proposed.rebuilt.events or damaged) or not approve(proposed):
        return proposed
    aside = session.store.set_aside() if damaged else ()
    with session.store.lease(wait_s=lock_timeout_s) as epoch:
        found = _rebuilt(session, session.store.load(), _deed(session, epoch))
        if found.summary != proposed.rebuilt.summary:
            raise StalePlan("the service, or the state, changed since this was shown", hint="run it again")
        session.store.commit(epoch, *found.events)
    return Restored(found, damaged, aside, done=True)


def _rebuilt(session: Session, state: State, deed: Deed) -> Rebuilt:
    from reconciler.rebuild import rebuild

    world = _world(session, state, World())
    read = partial(read_one, session.api)
    return rebuild(session.desired, state, world, session.collections, read, deed)


def _deed(session: Session, epoch: int, reason: str = "") -> Deed:
    from reconciler.apply import operation_id

    return Deed(operation_id(), epoch, written(session.api.now()), reason)


# Holding back, and trying again ---------------------------------------------------------------------------------------


def under_way(state: State) -> tuple[Owned, ...]:
    """What the service still works on, as far as is recorded: it goes on, whatever is decided here."""
    return tuple(row for row in live_rows(state) if row.role is Role.NEXT and not row.failure)


def awaited(session: Session, goal: Goal, addresses: Iterable[str] = ()) -> tuple[Owned, ...]:
    """What is to be waited for: of these addresses, or where none is given all that is under way, or being deleted."""
    state, named = session.store.load(), frozenset(addresses)
    if goal == "gone":
        live = (row for row in state.owned.values() if row.role is not Role.RETIRED or _let_go(state, row))
        return tuple(row for row in live if (row.slot.address in named if named else _let_go(state, row)))
    heads = _heads(state)
    if named:
        return tuple(row for row in heads if row.slot.address in named)
    world, begun = observe(session.api, session.collections, {row.collection for row in heads}, heads), under_way(state)
    return tuple(row for row in heads if row in begun or _moves(world.get(row)))


def _heads(state: State) -> tuple[Owned, ...]:
    """What each slot is to be judged by: its next object, else the one in use."""
    return tuple(row for row in live_rows(state) if row.role is Role.NEXT or state.row(row.slot, Role.NEXT) is None)


def _let_go(state: State, row: Owned) -> bool:
    """Whether the service accepted that it is to be deleted."""
    return any(intent.verb == Verb.DELETE and intent.phase is IntentPhase.DONE for intent in state.sent(row))


def _moves(seen: Observed | None) -> bool:
    return seen is not None and seen.phase in (Phase.PENDING, Phase.UNKNOWN)


def wait(
    session: Session,
    rows: Iterable[Owned],
    goal: Goal,
    *,
    report: Callable[[Progress], None],
    timeout_s: float | None = None,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Progress, ...]:
    """Look until these objects are ready, or gone. Takes no lease, sends only reads and records nothing."""
    from reconciler.wait import wait_for

    api, collections = session.api, session.collections
    return wait_for(api, collections, rows, goal=goal, report=report, timeout_s=timeout_s, tick=tick)


def sound_slots(session: Session, address: str) -> frozenset[Slot]:
    """The slots of an address of which nothing failed. Refused where that is all of them: nothing is to be retried."""
    heads = {row.slot: row for row in _heads(session.store.load()) if row.slot.address == address}
    failed = {slot for slot, row in heads.items() if _failed(row, None if row.failure else read(session, row))}
    if not heads:
        raise Refused(f"{address} holds nothing that failed", hint="reconciler apply makes it")
    if not failed:
        hint = f"reconciler apply --replace {address} makes it anew all the same"
        raise Refused(f"{address} did not fail", hint=hint)
    return frozenset(heads.keys() - failed)


def _failed(row: Owned, seen: Observed | None) -> bool:
    return bool(row.failure) or (row.role is Role.NEXT if seen is None else seen.phase is Phase.FAILED)


# One object ---------------------------------------------------------------------------------------------------------


def read(session: Session, row: Owned) -> Observed | None:
    """One of our objects as the service shows it now; None where it is gone."""
    return read_one(session.api, session.collections[row.collection], row.id)


def logs(session: Session, row: Owned, offset: int) -> tuple[str, ...]:
    """Log lines of one of our objects from `offset` on, as many as one answer holds; none where it keeps no logs."""
    collection = session.collections[row.collection]
    request = collection.logs(row.id, offset)
    return collection.log_lines(session.api.send(request).body) if request else ()


def whole_log(session: Session, row: Owned) -> tuple[str, ...]:
    """Every log line there is of one of our objects."""
    lines: list[str] = []
    while more := logs(session, row, len(lines)):
        lines += more
    return tuple(lines)


def measured(session: Session, row: Owned) -> tuple[Measurement, ...]:
    """Everything that the log of one of our objects measured."""
    return session.collections[row.collection].measurements(whole_log(session, row))


def ask(session: Session, row: Owned, prompt: str) -> str | None:
    """What one of our objects answers to a prompt, never sent twice; None where it is nothing that answers."""
    collection = session.collections[row.collection]
    request = collection.probe(row.id, prompt)
    return collection.answer(session.api.send(request).body) if request else None


def _quietly(seek: Callable[[], tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """Recovery at the end of a run is a courtesy: when the service is away, the next run does it first of all."""
    try:
        return seek()
    except ReconcilerError:
        return ()


def _remember(session: Session, snapshot: Snapshot, epoch: int) -> None:
    """What is true of our objects without any work.

    New names, fields that are as declared already, and policies, which must outlive their manifest. What is recorded no
    more, because another run took the lease over, is nothing to remember: the next commit says so.
    """
    before, state, documents = session.store.load(), snapshot.state, session.project.documents
    rows = {**state.owned, **{row.key: row for row in caught_up(session.desired, state, snapshot.world)}}
    policies = {d.address: d.lifecycle.deletion_policy or "" for d in documents}
    rows = {key: replace(row, deletion=policies.get(row.slot.address, row.deletion)) for key, row in rows.items()}
    names, deed = surgery.renames(before, documents), _deed(session, epoch, "movedFrom in its manifest")
    events: list[Event] = [row for key, row in rows.items() if row != before.owned.get(key, row)]
    events += [one for address, one in state.pauses.items() if before.pauses.get(address) != one]
    events += [Resumed(address) for address in before.pauses if address not in state.pauses]
    for number, (old, new) in enumerate(sorted(names.items())):
        ids = tuple(row.id for row in before.rows(old))
        events.append(deed.entry(MOVE, new, number, fields={"from": [*old]}, by="", known_before=ids))
    if events:
        session.store.commit(epoch, *events)


# Drift --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drifting:
    """What of ours is no longer as it was last applied, and the plan that says what an apply makes of it."""

    found: tuple[Drift, ...]
    snapshot: Snapshot


def drift(session: Session, choices: Choices) -> Drifting:
    """Compare everything of ours with what was last applied. Sends only reads and writes nothing.

    Raises Refused where most of it is gone at once.
    """
    from reconciler.drift import drifts, foreseen

    snapshot = plan(session, choices)
    state, world = snapshot.state, snapshot.world
    if gone := vanished(state, world, choices):
        what = f"{len(gone)} of our {len(live_rows(state))} objects are gone from the service"
        raise Refused(f"{what}: is this the right account and workspace?", hint=VANISHED_HINT)
    found = drifts(session.desired, state, world, session.collections)
    return Drifting(foreseen(found, snapshot.plan, session.desired), snapshot)
