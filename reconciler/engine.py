"""The line on one page: read what is declared, recorded and observed; make the plan; carry it out.

Every command is a few calls of these functions. They return values; how a value is worded is `render.py`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reconciler import apply as execution
from reconciler import data, files, kinds
from reconciler.api import Api, Key, Patience
from reconciler.apply import Progress, Stage, Terms
from reconciler.clock import boottime
from reconciler.errors import ReconcilerError
from reconciler.observe import observe, read_one
from reconciler.plan import Choices, Desired, Plan, World, make_plan
from reconciler.project import Project
from reconciler.recover import Finding, recover
from reconciler.resource import Collection, Observed, Resource
from reconciler.state import Event, Owned, Role, Stamp, State
from reconciler.store import Store
from reconciler.store.sqlite import SqliteStore


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
        store = SqliteStore(state_path(project), stamp)
        yield Session(project, api, store, kinds.collections(project.profile), api.hurry)


def state_path(project: Project) -> Path:
    """The file that keeps the state of a project."""
    spec = project.stack.spec if project.stack else None
    location = getattr(spec, "state", None)
    return project.root / (location.path if location else ".reconciler/state.db")


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
) -> Applied:
    """Recover what an earlier run left open, plan, ask, and do it: once.

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
        snapshot = plan(session, choices)
        if snapshot.plan.work and not approve(snapshot):
            return Applied(snapshot, recovered=found, declined=True)
        _remember_policies(session, snapshot.state, epoch)
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
    return Applied(snapshot, progress, found)


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


def _remember_policies(session: Session, state: State, epoch: int) -> None:
    """A deletion policy outlives its manifest, so it is recorded with the objects even where nothing else changes."""
    policies = {d.address: d.lifecycle.deletion_policy or "" for d in session.project.documents}
    events: list[Event] = [
        replace(row, deletion=policies[row.slot.address])
        for row in state.owned.values()
        if policies.get(row.slot.address, row.deletion) != row.deletion
    ]
    if events:
        session.store.commit(epoch, *events)


def live_rows(state: State) -> tuple[Owned, ...]:
    """What is in use or about to be, by address."""
    return tuple(sorted((r for r in state.owned.values() if r.role is not Role.RETIRED), key=lambda row: row.slot))
