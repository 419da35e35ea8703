"""The line on one page: read what is declared, recorded and observed; make the plan; carry it out.

Every command is a few calls of these functions. They return values; how a value is worded is `render.py`'s business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from reconciler import apply as execution
from reconciler import data, files, kinds
from reconciler import saved as saved_plan
from reconciler.api import Api, Key, Patience
from reconciler.apply import Progress, Stage, Terms
from reconciler.clock import boottime
from reconciler.errors import ReconcilerError, StalePlan, StateError
from reconciler.observe import observe, read_one
from reconciler.plan import Choices, Desired, Plan, Verb, World, caught_up, make_plan
from reconciler.project import Project
from reconciler.recover import Finding, recover
from reconciler.resource import Collection, Observed, Resource
from reconciler.saved import Bound, Saved
from reconciler.state import Event, Owned, Role, Stamp, State, Ticket
from reconciler.store import Store
from reconciler.store.sqlite import SqliteStore

AGAIN = "plan again: reconciler plan --out FILE"


@dataclass(frozen=True)
class Session:
    """A project on one account: everything a command needs, opened once."""

    project: Project
    api: Api
    store: Store
    collections: Mapping[str, Collection]
    hurry: float = 1.0

    @property
    def asks_on_unknown(self) -> bool:
        """Whether a person wants to be asked before a creation that left no trace is repeated."""
        return bool(self.project.stack and getattr(self.project.stack.spec, "on_unknown", "") == "Ask")

    @property
    def desired(self) -> Desired:
        return Desired(self.project.documents, self.project.parts)


@dataclass(frozen=True)
class Snapshot:
    """Desired, recorded and observed at one moment, and the plan that follows from them."""

    plan: Plan
    state: State
    world: World


@dataclass(frozen=True)
class Applied:
    """What an apply came to. `progress` is empty where it was declined or had nothing to do."""

    snapshot: Snapshot
    progress: tuple[Progress, ...] = ()
    recovered: tuple[Finding, ...] = ()
    declined: bool = False


@contextmanager
def session(
    project: Project, origin: str, key: Key, *, workspace: str = "", patience: Patience | None = None
) -> Iterator[Session]:
    """Connect a project to a service; on an emulator, waiting keeps the pace of its time.

    Raises StateMismatch before anything is read when the recorded state belongs to another endpoint or workspace.
    """
    contents = partial(data.stream, files.Tree(project.root))
    with Api(origin, key, workspace=workspace, contents=contents, patience=patience) as api:
        stamp = Stamp(api.identify(), workspace, project.name)
        yield Session(project, api, open_store(project, stamp), kinds.collections(project.profile), api.hurry)


def open_store(project: Project, stamp: Stamp) -> Store:
    """The state of a project, where its Stack says that it is. Neither reads nor writes it."""
    spec = project.stack.spec if project.stack else None
    location = getattr(spec, "state", None)
    if location is None or location.backend == "sqlite":
        return SqliteStore(project.root / (location.path if location else ".reconciler/state.db"), stamp)
    try:
        from reconciler.store.postgres import DSN, PostgresStore
    except ImportError as error:
        raise StateError(
            "the Stack keeps its state in PostgreSQL, and the driver for it is not installed",
            hint="pip install 'bailian-reconciler[postgres]'",
        ) from error
    return PostgresStore(os.environ.get(DSN, ""), stamp, folder=project.root / ".reconciler")


def plan(session: Session, choices: Choices) -> Snapshot:
    """What an apply would do now. Sends only reads and writes nothing, not even state."""
    state = session.store.load()
    watched = (*state.open_intents(), *state.given_up(f"{session.api.now():%Y-%m-%d %H:%M:%S}"))
    names = {row.collection for row in state.owned.values()} | {intent.collection for intent in watched}
    names |= {d.spec.collection for d in session.project.documents if isinstance(d.spec, Resource)}
    world = observe(session.api, session.collections, names, state.owned.values())
    world = replace(world, at=f"{session.api.now():%Y-%m-%d %H:%M:%S}")
    made = make_plan(session.desired, state, world, session.collections, choices)
    return Snapshot(made, state, world)


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
) -> Applied:
    """Recover what an earlier run left open, plan, ask, and do it: once.

    With a `saved` plan, StalePlan unless the plan is that one again; `if_equal` lets other inputs come to the same
    work. Its own choices count then.

    A creation whose answer was lost is looked for before this returns. Raises ReconcilerError for what stops
    everything; the failure of one operation is an outcome, not an error.
    """
    with session.store.lease(wait_s=lock_timeout_s, sleep=sleep) as epoch:
        seek = partial(
            recover, session.store, epoch, session.api, session.collections, ask=session.asks_on_unknown, sleep=sleep
        )
        found = seek()
        for finding in found:
            noticed(finding)
        ticket, choices = _claim(saved, session.store.load(), epoch, now()) if saved else (None, choices)
        snapshot = plan(session, choices)
        if saved:
            _hold_to(saved, session, snapshot, at=now(), if_equal=if_equal)
        if snapshot.plan.work and not approve(snapshot):
            return Applied(snapshot, recovered=found, declined=True)
        if ticket:
            session.store.commit(epoch, ticket)
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


# Saved plans --------------------------------------------------------------------------------------------------------


def _claim(saved: Saved, state: State, epoch: int, at: datetime) -> tuple[Ticket, Choices]:
    """What lets a saved plan run, and what it may still choose: one that was interrupted goes on with its own."""
    ticket = state.tickets.get(saved.digest) or Ticket(saved.digest, begun=_written(at), epoch=epoch)
    if ticket.ended:
        why = f"it was applied already, at {ticket.ended}"
        raise StalePlan("a saved plan is applied once", reasons=[why], hint=AGAIN)
    return ticket, replace(saved.choices, settled=saved_plan.settled(saved, state))


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
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


# One object ---------------------------------------------------------------------------------------------------------


def read(session: Session, row: Owned) -> Observed | None:
    """One of our objects as the service shows it now; None where it is gone."""
    return read_one(session.api, session.collections[row.collection], row.id)


def logs(session: Session, row: Owned, offset: int) -> tuple[str, ...]:
    """Log lines of one of our objects from `offset` on, as many as one answer holds; none where it keeps no logs."""
    collection = session.collections[row.collection]
    request = collection.logs(row.id, offset)
    return collection.log_lines(session.api.send(request).body) if request else ()


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
    """What is true of our objects without any work: fields that are as declared already, policies that outlive them."""
    state = snapshot.state
    rows = {**state.owned, **{row.key: row for row in caught_up(session.desired, state, snapshot.world)}}
    policies = {d.address: d.lifecycle.deletion_policy or "" for d in session.project.documents}
    rows = {key: replace(row, deletion=policies.get(row.slot.address, row.deletion)) for key, row in rows.items()}
    events: list[Event] = [row for key, row in rows.items() if row != state.owned[key]]
    if events:
        session.store.commit(epoch, *events)


def live_rows(state: State) -> tuple[Owned, ...]:
    """What is in use or about to be, by address."""
    return tuple(sorted((r for r in state.owned.values() if r.role is not Role.RETIRED), key=lambda row: row.slot))
