"""When to look at a stack again: one pure `step`, and a loop around it that anything may stop.

Level-triggered. What a look finds decides when the next one is due, never what was found the last time; a stack that
cannot be looked at keeps nobody waiting but itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from reconciler.conditions import Report, from_data, to_data
from reconciler.errors import StateError
from reconciler.store.fleet import CLAIM_S, Claim, Fleet, packed, unpacked


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
            return float(min(pace.longest_s, pace.first_s * 2 ** min(20, look.report.failures - 1)))


Looker = Callable[[str, Report], Look]
"""Looks at the stack of a name, given its last report; raises nothing but what ends the process."""


@dataclass
class Controller:
    """Claims what is due and looks at it, with as many hands as `workers`."""

    fleet: Fleet
    names: Callable[[], Sequence[str]]
    look: Looker
    pace: Pace = Pace()
    workers: int = 1
    rest_s: float = 1.0
    looked: Callable[[str, Look], None] = lambda name, look: None

    def once(self) -> int:
        """Look once at everything that is due now; at how many stacks that was."""
        left, count = list(self._enlisted()), 0
        while claim := self.fleet.claim(left):
            self._work(claim)
            left.remove(claim.name)
            count += 1
        return count

    def run(self, stopped: threading.Event) -> None:
        """Until `stopped`; a look that is under way then is concluded first."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="look") as hands:
            for _ in range(self.workers):
                hands.submit(self._hand, stopped)
            stopped.wait()

    def _hand(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            try:
                names = self._enlisted()
                claim = self.fleet.claim(names)
                if claim is not None:
                    self._work(claim)
                    continue
                due_s = self.fleet.next_due_in_s(names)
            except StateError:  # the database is away: what it holds is safe, and nobody is looked at without it
                due_s = self.rest_s
            stopped.wait(min(self.rest_s, due_s) if due_s else self.rest_s)

    def _enlisted(self) -> Sequence[str]:
        names = self.names()
        self.fleet.enlist(names)
        return names

    def _work(self, claim: Claim) -> None:
        with _renewing(self.fleet, claim):
            look = self.look(claim.name, report_of(claim.name, claim.report))
        self.fleet.finish(claim, packed(to_data(look.report)), due_in_s=step(look, self.pace))
        self.looked(claim.name, look)


class _renewing:  # reads as a verb where it is used
    """Keeps a claim alive while a look takes its time."""

    def __init__(self, fleet: Fleet, claim: Claim) -> None:
        self.fleet, self.claim, self.over = fleet, claim, threading.Event()
        self.thread = threading.Thread(target=self._renew, name="claim", daemon=True)

    def _renew(self) -> None:
        while not self.over.wait(CLAIM_S / 3):
            try:
                if not self.fleet.renew(self.claim):
                    return
            except StateError:
                continue  # the database is away; `finish` will say whether the claim outlived that

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()


def report_of(name: str, packed: str) -> Report:
    """The report of a row; an empty one where nobody looked yet, or another version did: the next look tells it all."""
    data = unpacked(packed)
    try:
        return from_data(data) if data is not None else Report(name)
    except (ValueError, KeyError, TypeError):
        return Report(name)
