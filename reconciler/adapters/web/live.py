"""What the pages look at: the reports that looks left behind, and a stack as it is now.

Opening a stack asks the service, so that one look at it serves everybody who asks within a few seconds.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from reconciler import engine, money
from reconciler.adapters import inventory
from reconciler.adapters.stack import Opened
from reconciler.approvals import DIGITS, Mode, hold, open_proposals
from reconciler.conditions import Report, after_error, after_look
from reconciler.controller import report_of
from reconciler.engine import Session, Snapshot
from reconciler.errors import ReconcilerError
from reconciler.plan import Choices, Operation
from reconciler.render.cost import Costs, costs
from reconciler.render.errors import error_text
from reconciler.render.state import Item
from reconciler.resource import Measurement
from reconciler.state import Approval, Owned, written
from reconciler.store.fleet import Fleet

KEPT_S = 4.0
KEPT_ALONE_S = 10.0  # where pages that are open are the only ones who look
FORGOTTEN_S = 60.0
WAIT_S = 20.0  # for a look that somebody else began
WAITING_MAX = 12  # at once, for whatever it is
LOG_LINES = 200
_ENTRIES_MAX = 64
Value = TypeVar("Value")


class Busy(ReconcilerError):
    """Somebody looks at it already, and that takes long."""


class Opener(Protocol):
    """Opens the stack of a name; `writes` where something is to be recorded."""

    def __call__(self, name: str, *, writes: bool = False) -> AbstractContextManager[Opened]: ...


@dataclass(frozen=True)
class Watched:
    """What there is to look at. Without a fleet no loop runs, and the stacks are looked at when somebody asks."""

    names: Callable[[], Sequence[str]]
    opened: Opener
    fleet: Fleet | None = None


@dataclass(frozen=True)
class Seen:
    """A stack as it was at one moment. Its session is closed: only what it holds is of use."""

    name: str
    at: str
    opened: Opened
    snapshot: Snapshot
    report: Report
    items: tuple[Item, ...]
    costs: Costs

    @property
    def proposals(self) -> tuple[Approval, ...]:
        return open_proposals(self.snapshot.state.approvals)


@dataclass(frozen=True)
class Run:
    """The newest lines of the log of one object, and all that it measured."""

    row: Owned
    lines: tuple[str, ...]
    measured: tuple[Measurement, ...]


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = float("-inf")
    asked: float = 0.0
    value: Any = None
    error: ReconcilerError | None = None


def _held(session: Session, snapshot: Snapshot, mode: str) -> tuple[Operation, ...]:
    """What a loop of this mode waits with, so that conditions read as they do in its own looks; "" for no loop."""
    if mode not in list(Mode):
        return ()
    return engine.leash_of(session.project, Mode(mode)).held(snapshot.plan, snapshot.state)


def _waiting(snapshot: Snapshot) -> dict[str, Any]:
    """What waits for a yes, as a report has it."""
    asked = open_proposals(snapshot.state.approvals)
    held = tuple(f"{one.action} {one.slot}" for proposed in asked for one in proposed.held)
    return {"proposal": asked[0].digest[:DIGITS] if asked else "", "held": held}


class Live:
    """Looks, each kept for `kept_s`, with one at a time for each thing that is looked at."""

    def __init__(
        self, watched: Watched, *, kept_s: float = KEPT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.watched, self.kept_s, self.clock, self.waiting = watched, kept_s, clock, 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._seen: dict[str, Report] = {}

    def names(self) -> Sequence[str]:
        return self._kept("names", 1.0, self.watched.names)

    def reports(self) -> Mapping[str, Report]:
        """The last report of every stack there is, by name."""
        return self._kept("reports", min(1.0, self.kept_s), self._reports)

    def due_in_s(self) -> Mapping[str, float]:
        """Seconds until each stack is looked at next; none where no loop runs."""
        fleet = self.watched.fleet
        return self._kept("due", 1.0, fleet.due_in_s) if fleet else {}

    def stack(self, name: str) -> Seen:
        return self._kept(("stack", name), self.kept_s, lambda: self._look(name))

    def run(self, name: str, row: Owned) -> Run | None:
        """The log of an object; None where it keeps none."""
        return self._kept(("run", name, row.key), self.kept_s, lambda: self._read(name, row))

    def forget(self, name: str) -> None:
        """Whatever was seen of a stack is out of date; a loop is to look at it at once."""
        with self._lock:
            self._entries.pop(("stack", name), None)
            self._entries.pop("reports", None)
        if self.watched.fleet:
            self.watched.fleet.hurry([name])

    def _reports(self) -> dict[str, Report]:
        names = self.names()
        if self.watched.fleet is None:
            return {name: self._report(name) for name in names}
        packed = self.watched.fleet.reports()
        return {name: report_of(name, packed.get(name, "")) for name in names}

    def _report(self, name: str) -> Report:
        try:
            return self.stack(name).report
        except ReconcilerError as error:
            return after_error(Report(name), error_text(error), at=written(engine.today()))

    def _look(self, name: str) -> Seen:
        before = (self.reports() if self.watched.fleet else self._seen).get(name, Report(name))
        with self.watched.opened(name) as opened:
            session = opened.session
            snapshot = engine.plan(session, Choices())
            items = inventory.live(session, snapshot)
            at = written(engine.today())
            held = _held(session, snapshot, before.mode)
            found = after_look(
                before,
                session.desired,
                hold(snapshot.plan, held),
                snapshot.state,
                snapshot.world,
                at=at,
                revision=before.revision,
                held=held,
                limit=session.limits.hour,
            )
            kept = replace(found, **_waiting(snapshot))
            if self.watched.fleet:  # which tells the events of its own looks
                kept = replace(kept, events=before.events)
            self._seen[name] = kept
            runs = money.bought(snapshot.state, snapshot.world.objects, session.collections)
            standing = [*items, *inventory.left_running(session, snapshot)]
            told = costs(standing, runs, session.desired, snapshot.plan, session.collections)
        return Seen(name, at, opened, snapshot, kept, tuple(items), told)

    def _read(self, name: str, row: Owned) -> Run | None:
        with self.watched.opened(name) as opened:
            collection = opened.session.collections[row.collection]
            if collection.logs(row.id, 0) is None:
                return None
            lines = engine.whole_log(opened.session, row)
            return Run(row, lines[-LOG_LINES:], collection.measurements(lines))

    def _kept(self, key: Hashable, kept_s: float, make: Callable[[], Value]) -> Value:
        entry = self._entry(key)
        if not entry.lock.acquire(blocking=False):
            if entry.until > float("-inf") and entry.error is None:
                value: Value = entry.value  # of before, while somebody looks anew
                return value
            self._wait_for(entry)
        try:
            if self.clock() >= entry.until:
                self._renew(entry, kept_s, make)
            if entry.error:
                raise entry.error.with_traceback(None)
            value = entry.value
            return value
        finally:
            entry.lock.release()

    def _entry(self, key: Hashable) -> _Entry:
        """The place of a key. Those that nobody asked for lately are given up."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.asked = self.clock()
            self._entries.move_to_end(key)
            while len(self._entries) > _ENTRIES_MAX or self._oldest.asked < entry.asked - FORGOTTEN_S:
                self._entries.popitem(last=False)
            return entry

    @property
    def _oldest(self) -> _Entry:
        return next(iter(self._entries.values()))

    def _wait_for(self, entry: _Entry) -> None:
        with self._lock:
            if self.waiting >= WAITING_MAX:
                raise Busy("this is being looked at, and others wait for it already", hint="try again")
            self.waiting += 1
        try:
            if not entry.lock.acquire(timeout=WAIT_S):
                raise Busy("this is being looked at, and that takes long", hint="try again")
        finally:
            with self._lock:
                self.waiting -= 1

    def _renew(self, entry: _Entry, kept_s: float, make: Callable[[], Value]) -> None:
        try:
            entry.value, entry.error = make(), None
        except ReconcilerError as error:
            entry.error = error
        entry.until = self.clock() + kept_s
