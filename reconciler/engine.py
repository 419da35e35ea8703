"""The line on one page: read what is declared, recorded and observed; make the plan; carry it out.

Every command is a few calls of these functions. They return values; how a value is worded is `render.py`'s business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from reconciler import apply as execution
from reconciler import approvals, data, files, kinds, quotas, surgery
from reconciler import report as reports
from reconciler import saved as saved_plan
from reconciler.api import Api, Key, Patience
from reconciler.apply import Progress, Stage, Terms
from reconciler.approvals import Leash, Mode, hold
from reconciler.catalogue import other_limits
from reconciler.clock import boottime
from reconciler.errors import ReconcilerError, Refused, StalePlan, StateCorrupt, StateError, StateMismatch
from reconciler.guards import NO_LIMITS, Breach, Limits, breaches, strictest
from reconciler.observe import list_all, observe, offers, read_one
from reconciler.plan import Choices, Desired, Note, Operation, Plan, Verb, World, caught_up, make_plan
from reconciler.project import Project
from reconciler.rebuild import Rebuilt, rebuild
from reconciler.recover import Finding, Listing, recover
from reconciler.report import Aftermath
from reconciler.resource import Budget, Collection, Json, Match, Measurement, Observed, Phase, Resource, Slot
from reconciler.saved import Bound, Saved
from reconciler.state import Approval, Event, Intent, Owned, Role, Stamp, State, Ticket, written
from reconciler.store import Header, Store
from reconciler.store.sqlite import SqliteStore
from reconciler.surgery import MOVE, UNLOCK, Candidate, Deed
from reconciler.wording import shown

AGAIN = "plan again: reconciler plan --out FILE"


@dataclass(frozen=True)
class Session:
    """A project on one account: everything a command needs, opened once."""

    project: Project
    api: Api
    store: Store
    collections: Mapping[str, Collection]
    hurry: float = 1.0
    limits: Limits = NO_LIMITS

    @property
    def asks_on_unknown(self) -> bool:
        """Whether a person wants to be asked before a creation that left no trace is repeated."""
        return bool(self.project.stack and getattr(self.project.stack.spec, "on_unknown", "") == "Ask")

    @property
    def desired(self) -> Desired:
        return Desired(self.project.documents, self.project.parts, self.project.removed)


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
) -> Iterator[Session]:
    """Connect a project to a service; on an emulator, waiting keeps the pace of its time.

    `budgets` are those from outside the project; the Stack's own holds beside them.

    Raises StateMismatch before anything is read when the recorded state belongs to another endpoint or workspace.
    """
    contents = partial(data.stream, files.Tree(project.root))
    with Api(origin, key, workspace=workspace, contents=contents, patience=patience) as api:
        stamp = Stamp(api.identify(), workspace, project.name, project.environment)
        collections = kinds.collections(project.profile)
        yield Session(project, api, open_store(project, stamp), collections, api.hurry, limits_of(project, budgets))


def limits_of(project: Project, budgets: Iterable[Budget | None] = ()) -> Limits:
    """The strictest of the Stack's own budget and those from outside the project."""
    return strictest((*budgets, getattr(project.stack.spec, "budget", None) if project.stack else None))


def open_store(project: Project, stamp: Stamp) -> Store:
    """The state of a project in its environment, where its Stack says that it is. Neither reads nor writes it."""
    spec = project.stack.spec if project.stack else None
    location = getattr(spec, "state", None)
    if location is None or location.backend == "sqlite":
        path = project.root / (location.path if location else ".reconciler/state.db")
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
    return PostgresStore(os.environ.get(DSN, ""), stamp, folder=project.root / ".reconciler")


def plan(session: Session, choices: Choices, leash: Leash | None = None) -> Snapshot:
    """What an apply would do now; on a `leash`, a loop. Sends only reads and writes nothing, not even state."""
    before, documents = session.store.load(), session.project.documents
    state, names = surgery.renamed(before, documents), surgery.renames(before, documents)
    world = _world(session, state)
    made = make_plan(session.desired, state, world, session.collections, choices)
    if offered := _offers(session, made):
        world = replace(world, offers=offered)
        made = make_plan(session.desired, state, world, session.collections, choices)
    held = leash.held(made, state) if leash else ()
    made, profile = hold(made, held), session.project.profile
    needs = quotas.needs(made, world, session.collections, profile.limits, other_limits(profile.profile))
    found = breaches(made, session.limits, choices, owned=len(live_rows(state)), needs=needs)
    notes = [Note(str(new), f"keeps what was made as {old}", "movedFrom") for old, new in sorted(names.items())]
    return Snapshot(replace(made, notes=(*quotas.notes(needs), *made.notes, *notes)), state, world, found, held)


def _world(session: Session, state: State) -> World:
    """Everything that matters to the project, recorded or declared."""
    watched = (*state.open_intents(), *state.given_up(written(session.api.now())))
    names = {row.collection for row in state.owned.values()} | {intent.collection for intent in watched}
    names |= {d.spec.collection for d in session.project.documents if isinstance(d.spec, Resource)}
    if any(document.lifecycle.keep_last is not None for document in session.project.documents):
        names |= session.collections.keys()  # what nobody makes use of is known only once all are looked at
    world = observe(session.api, session.collections, names, state.owned.values())
    return replace(world, at=written(session.api.now()))


def _offers(session: Session, made: Plan) -> dict[str, tuple[Json, ...]]:
    """What the service offers for what this plan would make or change; asked for nothing else."""
    names = {op.collection for op in made.operations if op.verb in (Verb.CREATE, Verb.UPDATE)}
    asked = {name: offers(session.api, session.collections[name]) for name in sorted(names)}
    return {name: told for name, told in asked.items() if told is not None}


def look_around(session: Session) -> tuple[State, World]:
    """What is recorded, and everything the service lists, whether the project has to do with it or not."""
    state = session.store.load()
    return state, observe(session.api, session.collections, session.collections, state.owned.values())


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
) -> Applied:
    """Recover what an earlier run left open, plan, ask, and do it: once.

    On a `leash` what nobody agreed to yet is proposed instead. With a `saved` plan, StalePlan unless the plan is that
    one again; `if_equal` lets other inputs come to the same work. Its own choices count then.

    A creation whose answer was lost is looked for before this returns. Raises ReconcilerError for what stops
    everything; the failure of one operation is an outcome, not an error.
    """
    with session.store.lease(wait_s=lock_timeout_s, sleep=sleep) as epoch:
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
        snapshot = plan(session, choices, leash)
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

    Where there is nothing to do the lease is not taken and nothing is written. Raises ReconcilerError for what stops
    the whole pass.
    """
    snapshot = plan(session, Choices(), leash)
    news = leash.proposed(snapshot.held, snapshot.state, written(session.api.now()))
    idle = not (news or snapshot.state.open_intents() or any(_stirs(op, snapshot.world) for op in snapshot.plan.work))
    if leash.mode is Mode.OBSERVE or idle:
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
    world = _world(session, state)
    read = partial(read_one, session.api)
    return rebuild(session.desired, state, world, session.collections, read, deed)


def _deed(session: Session, epoch: int, reason: str = "") -> Deed:
    return Deed(execution.operation_id(), epoch, written(session.api.now()), reason)


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
    for number, (old, new) in enumerate(sorted(names.items())):
        ids = tuple(row.id for row in before.rows(old))
        events.append(deed.entry(MOVE, new, number, fields={"from": [*old]}, by="", known_before=ids))
    if events:
        session.store.commit(epoch, *events)


def live_rows(state: State) -> tuple[Owned, ...]:
    """What is in use or about to be, by address."""
    return tuple(sorted((r for r in state.owned.values() if r.role is not Role.RETIRED), key=lambda row: row.slot))
