"""When to look at a stack again: one pure `step`, and a loop around it that anything may stop.

Level-triggered. What a look finds decides when the next one is due, never what was found the last time; a stack that
cannot be looked at keeps nobody waiting but itself.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from reconciler.conditions import Report, after_error, from_data, to_data
from reconciler.errors import StateError
from reconciler.state import written
from reconciler.store.fleet import Claim, Fleet, packed, unpacked

TICK_S = 0.1  # how long it may take until a wish to stop is noticed
KEPT_MAX = 20_000  # objects of all stacks together that are remembered from one look to the next


class Verdict(StrEnum):
    """What a look at a stack came to, as far as the next one goes."""

    QUIET = "quiet"  # nothing is under way
    BUSY = "busy"  # something is
    FAILED = "failed"  # it may be better the next time
    STUCK = "stuck"  # it will be the same until something else is declared


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks."""

    quiet_s: float = 60.0
    busy_s: float = 15.0
    first_s: float = 5.0  # after a first failure; twice as long after each further one
    longest_s: float = 900.0


@dataclass(frozen=True)
class Look:
    """One look at a stack."""

    report: Report
    verdict: Verdict


def step(look: Look, pace: Pace) -> float:
    """Seconds until a stack is looked at again. `Report.failures` counts the looks that failed in a row."""
    match look.verdict:
        case Verdict.QUIET | Verdict.STUCK:
            return pace.quiet_s
        case Verdict.BUSY:
            return pace.busy_s
        case Verdict.FAILED:
            return float(min(pace.longest_s, pace.first_s * 2 ** min(20, max(0, look.report.failures - 1))))


Looker = Callable[[str, Report], Look]
"""Looks at the stack of a name, given its last report. What it raises is a mistake of ours, and said of that stack."""


@dataclass
class Controller:
    """Claims what is due and looks at it, with as many hands as `workers`; a hand is never held while waiting.

    `looked` is told of every look that was recorded, `troubled` of what keeps all of them from being looked at, as a
    database that is away; `excuse` words a mistake of ours.
    """

    fleet: Fleet
    names: Callable[[], Sequence[str]]
    look: Looker
    pace: Pace = Pace()
    workers: int = 1
    rest_s: float = 1.0
    looked: Callable[[str, Look], None] = lambda name, look: None
    troubled: Callable[[Exception], None] = lambda error: None
    excuse: Callable[[Exception], str] = lambda error: f"internal error: {type(error).__name__}"
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    last: _Last = field(default_factory=lambda: _Last())

    def once(self, stopped: threading.Event | None = None) -> int:
        """Look once at everything that is due now; at how many stacks that was."""
        stopped = stopped or threading.Event()
        left, count = list(self._enlisted()), 0
        with _Hands(self.workers) as hands:
            while not stopped.is_set():
                if not hands.one_is_free(TICK_S) or stopped.is_set():
                    continue
                claim = self.fleet.claim(left)
                if claim is None:
                    break
                left.remove(claim.name)
                count += 1
                hands.give(self._work, claim)
        return count

    def run(self, stopped: threading.Event) -> None:
        """Until `stopped`, which a signal may set at any moment; a look that is under way then is concluded first."""
        names: Sequence[str] = ()
        listed_at = -self.rest_s
        with _Hands(self.workers) as hands:
            while not stopped.is_set():
                if not hands.one_is_free(TICK_S) or stopped.is_set():
                    continue
                try:
                    if time.monotonic() - listed_at >= self.rest_s:
                        names, listed_at = self._enlisted(), time.monotonic()
                    claim = self.fleet.claim(names)
                    if claim is not None:
                        hands.give(self._work, claim)
                        continue
                    due_s = self.fleet.next_due_in_s(names) or self.rest_s  # none, or one that another was quicker at
                except Exception as error:  # nobody is looked at without the list; what it holds is safe
                    self._tell(error)
                    due_s = self.rest_s
                _pause(min(self.rest_s, due_s), stopped)

    def _enlisted(self) -> Sequence[str]:
        names = self.names()
        self.fleet.enlist(names)
        return names

    def _work(self, claim: Claim) -> None:
        """One look, from claim to finish. Where the claim was lost meanwhile its new holder tells how the stack is."""
        try:
            before = self.last.read(claim)
            with _renewing(self.fleet, claim):
                look = self._looked_at(claim.name, before)
            text, at_rest = self.last.written(claim, look.report), _found_nothing(before, look)
            if self.fleet.finish(claim, text, due_in_s=step(look, self.pace), at_rest=at_rest):
                self.last.keep(claim.name, text, look.report)
                self.looked(claim.name, look)
        except Exception as error:  # it is looked at again as soon as the claim has run out
            self._tell(error)

    def _looked_at(self, name: str, before: Report) -> Look:
        try:
            return self.look(name, before)
        except Exception as error:
            return Look(after_error(before, self.excuse(error), at=written(self.now())), Verdict.FAILED)

    def _tell(self, error: Exception) -> None:
        with suppress(Exception):  # whoever cannot even be told must not end the loop
            self.troubled(error)


class _Last:
    """The reports of our own last looks, so that what is unchanged of a row is neither read nor written out again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, Report]] = {}  # beside a digest of the text that a report became

    def read(self, claim: Claim) -> Report:
        known = self._of(claim)
        return report_of(claim.name, claim.report) if known is None else known

    def written(self, claim: Claim, report: Report) -> str:
        known = self._of(claim)
        if known is None or any(getattr(known, name) is not getattr(report, name) for name in _LISTS):
            return packed(to_data(report))
        singles = packed(to_data(replace(report, conditions=(), held=(), events=())))
        return "\n".join((singles.partition("\n")[0], claim.report.partition("\n")[2]))

    def keep(self, name: str, text: str, report: Report) -> None:
        self._known.pop(name, None)
        if len(report.conditions) + sum(len(one.conditions) for _, one in [*self._known.values()]) <= KEPT_MAX:
            self._known[name] = (_digest(text), report)

    def _of(self, claim: Claim) -> Report | None:
        digest, report = self._known.get(claim.name, (b"", None))
        return report if digest == _digest(claim.report) else None


_LISTS = ("conditions", "held", "events")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _found_nothing(before: Report, look: Look) -> bool:
    """Whether nothing is under way and nothing is new but the time."""
    same = replace(look.report, looked_at=before.looked_at, succeeded_at=before.succeeded_at) == before
    return look.verdict is Verdict.QUIET and same


class _Hands:
    """So many threads; work is only given to one that is free. Leaving waits for all of them."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="look")

    def one_is_free(self, within_s: float) -> bool:
        """Does not take it: only one thread asks and gives."""
        if not self._free.acquire(timeout=within_s):
            return False
        self._free.release()
        return True

    def give(self, work: Callable[[Claim], None], claim: Claim) -> None:
        self._free.acquire()
        self._pool.submit(work, claim).add_done_callback(lambda _: self._free.release())

    def __enter__(self) -> _Hands:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


class _renewing:  # reads as a verb where it is used
    """Keeps a claim alive while a look takes its time."""

    def __init__(self, fleet: Fleet, claim: Claim) -> None:
        self.fleet, self.claim, self.over = fleet, claim, threading.Event()
        self.thread = threading.Thread(target=self._renew, name="claim", daemon=True)

    def _renew(self) -> None:
        wait_s = self.fleet.term_s / 3
        while not self.over.wait(wait_s):
            try:
                if not self.fleet.renew(self.claim):
                    return
                wait_s = self.fleet.term_s / 3
            except StateError:  # the database is away; `finish` will say whether the claim outlived that
                wait_s = self.fleet.term_s / 12

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()


def report_of(name: str, text: str) -> Report:
    """The last report of a stack as a row keeps it."""
    data = unpacked(text)
    try:
        return from_data(data) if data is not None else Report(name)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Report(name)  # of another version: the next look tells it all again


def reports(fleet: Fleet) -> list[Report]:
    """What the last look at every stack came to, by name."""
    return [report_of(name, text) for name, text in sorted(fleet.reports().items())]


def _pause(seconds: float, stopped: threading.Event) -> None:
    """In short naps: this thread hears the signals, and one that sets an event must not meet it waiting for it."""
    until = time.monotonic() + seconds
    while not stopped.is_set() and (left_s := until - time.monotonic()) > 0:
        time.sleep(min(TICK_S, left_s))
