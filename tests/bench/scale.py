"""A fleet far larger than this machine, on paper: controllers, accounts with a rate, and one list of stacks.

    python -m tests.bench.scale

Simulates events; nothing is asked or waited for, and one seed gives the same figures anywhere. A look is simplified to
cpu, then the pages of its account. docs/scale.md says what follows.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush, heapreplace
from itertools import count
from statistics import median

# Measured: `python -m tests.bench.limits`, the least of many, on a machine that was busy with other work
CLAIM_CPU_S, CLAIM_CPU_NAME_S = 0.5e-3, 2.5e-6  # of a controller, for a claim and its end; more for each name in it
CLAIM_S, CLAIM_NAME_S = 0.6e-3, 3.1e-6  # the same in the database
ASK_CPU_S, ASK_CPU_NAME_S, ASK_S, ASK_NAME_S = 0.3e-3, 2.4e-6, 0.4e-3, 2.9e-6  # when something will be due
LIST_CPU_NAME_S, LIST_NAME_S = 60e-6, 0.3e-6  # to find the stacks below a folder, and that each has a row
CPU_RESOURCE_S, CPU_LISTED_S = 0.6e-3, 0.03e-3  # of a look: a resource of the stack, an object of others on the account
LISTED_MB = 0.009  # of a look's memory, for each object that is listed
# Measured: `python -m tests.bench.fleet rate` and `memory`, small stacks of four kinds with their state in PostgreSQL
LOOK_CPU_S, PROCESS_MB = 0.040, 92.0
# Read in the program: reconciler/api.py, controller.py, adapters/running.py, resource.py
OUR_RATE, TRIES, FIRST_PAUSE_S, PAGE, KINDS = 10.0, 5, 0.5, 100, 4
REST_S, BUSY_S, FIRST_S, LONGEST_S = 1.0, 15.0, 5.0, 900.0
# Guessed: no page states a rate of the service, nor how large a database somebody has
RATE, LATENCY_S, DATABASE_CORES, BUSY, UNEVEN = 20.0, 0.05, 4, 0.02, 0.35
KEPT = 1.1  # an interval is kept if 99 of 100 stacks are looked at within so many of it
FULL = 0.9


@dataclass(frozen=True)
class Scenario:
    """`limiter` says who shares one: a look (as it is today), a process, or all who ask an account.

    `listed_once` is whether the stacks of an account share its list; `by_name` whether a claim names every stack, and
    `found_every_s` how often the folders are walked, as today; `jitter` how much of an interval is added at random.
    """

    resources: int
    stacks: int
    accounts: int
    processes: int
    workers: int = 4
    interval_s: float = 60.0
    rounds: int = 8
    limiter: str = "look"
    listed_once: bool = False
    by_name: bool = True
    found_every_s: float = REST_S
    jitter: float = 0.0
    seed: int = 8


class Bucket:
    """So many a second, as many at once."""

    def __init__(self, rate: float) -> None:
        self.rate, self.tokens, self.at = rate, rate, 0.0

    def fill(self, now: float) -> None:
        self.tokens, self.at = min(self.rate, self.tokens + (now - self.at) * self.rate), now

    def book(self, now: float, wanted: int) -> float:
        """Seconds until so many may have been sent."""
        self.fill(now)
        self.tokens -= wanted
        return max(0.0, -self.tokens / self.rate)

    def grant(self, now: float, wanted: int) -> int:
        """How many of these are answered; the others are refused."""
        self.fill(now)
        granted = min(wanted, int(self.tokens + 1e-9))
        self.tokens -= granted
        return granted


@dataclass
class Account:
    name: int
    stacks: int = 0
    objects: int = 0
    listed_at: float = -math.inf
    service: Bucket = field(default_factory=lambda: Bucket(RATE))

    @property
    def pages(self) -> int:
        return KINDS * math.ceil(self.objects / KINDS / PAGE)


@dataclass
class Stack:
    account: Account
    resources: int
    busy: bool
    failures: int = 0
    seen: list[float] = field(default_factory=list)


@dataclass
class Process:
    hands: int
    core_free_at: float = 0.0
    loop: Steps | None = None
    claims: bool = False
    parked: bool = False
    buckets: dict[int, Bucket] = field(default_factory=dict)
    objects: int = 0
    most_objects: int = 0


Steps = Generator[float | None]
"""Something that goes on: it yields seconds to wait, or None to be woken by another."""


class Fleet:
    """All of a scenario, and what it came to by `end_s`."""

    def __init__(self, scenario: Scenario) -> None:
        self.of, self.chance, self.now = scenario, random.Random(scenario.seed), 0.0
        self.end_s = scenario.interval_s * scenario.rounds
        self.events: list[tuple[float, int, Steps]] = []
        self.due: list[tuple[float, int]] = []
        self.turn = count()
        self.database = [0.0] * DATABASE_CORES
        self.asked: Counter[tuple[int, int]] = Counter()  # by account and second
        self.used = dict.fromkeys(("cpu", "loop", "hands", "list"), 0.0)
        self.requests = self.refused = self.failed = 0
        self.accounts = [Account(number) for number in range(scenario.accounts)]
        self.stacks = [self._stack(number) for number in range(scenario.stacks)]
        self.processes = [Process(scenario.workers) for _ in range(scenario.processes)]
        self.shared = {one.name: Bucket(OUR_RATE) for one in self.accounts}

    def _stack(self, number: int) -> Stack:
        """Every account has one; the others fall on the first ones more often, as rank ** -UNEVEN."""
        place = int(len(self.accounts) * self.chance.random() ** (1 / (1 - UNEVEN)))
        account = self.accounts[number if number < len(self.accounts) else place]
        resources = self.of.resources // self.of.stacks
        account.stacks, account.objects = account.stacks + 1, account.objects + resources
        heappush(self.due, (0.0, number))  # a new row is due at once
        return Stack(account, resources, self.chance.random() < BUSY)

    def run(self) -> Fleet:
        for one in self.processes:
            one.loop = self._controller(one)
            self._go_on(one.loop)
        while self.events and self.events[0][0] < self.end_s:
            self.now, _, steps = heappop(self.events)
            self._go_on(steps)
        return self

    def _go_on(self, steps: Steps) -> None:
        wait_s = next(steps, None)
        if wait_s is not None:
            heappush(self.events, (self.now + wait_s, next(self.turn), steps))

    # What takes its time ------------------------------------------------------------------------------------------

    def _cpu(self, me: Process, seconds: float, *, short: bool = False) -> float:
        """One process is one core; what is short takes turns with the looks, which are done one after another."""
        self.used["cpu"] += seconds
        me.core_free_at = max(self.now, me.core_free_at) + seconds
        wait_s = me.core_free_at - self.now
        return min(wait_s, seconds * (1 + self.of.workers - me.hands)) if short else wait_s

    def _database(self, seconds: float) -> float:
        self.used["list"] += seconds
        free_at = max(self.now, self.database[0]) + seconds
        heapreplace(self.database, free_at)
        return free_at - self.now

    def _controller(self, me: Process) -> Steps:
        """As `Controller.run`: a claim while a hand is free, and a rest where nothing is due."""
        listed_at, named = -math.inf, self.of.stacks if self.of.by_name else 0
        while True:
            if not me.hands:
                me.parked = True
                yield None
            self.used["loop"] -= self.now
            me.claims = True
            if self.now - listed_at >= self.of.found_every_s:
                yield self._cpu(me, self.of.stacks * LIST_CPU_NAME_S, short=True)
                yield self._database(self.of.stacks * LIST_NAME_S)
                listed_at = self.now
            yield self._cpu(me, CLAIM_CPU_S + named * CLAIM_CPU_NAME_S, short=True)
            yield self._database(CLAIM_S + named * CLAIM_NAME_S)
            if self.due and self.due[0][0] <= self.now:
                me.hands -= 1
                self._go_on(self._look(me, heappop(self.due)[1]))
                self.used["loop"] += self.now
                me.claims = False
                continue
            yield self._cpu(me, ASK_CPU_S + named * ASK_CPU_NAME_S, short=True)
            yield self._database(ASK_S + named * ASK_NAME_S)
            self.used["loop"] += self.now
            me.claims = False
            yield min(REST_S, max(0.0, self.due[0][0] - self.now)) if self.due else REST_S

    def _look(self, me: Process, number: int) -> Steps:
        stack = self.stacks[number]
        account = stack.account
        self.used["hands"] -= self.now
        me.objects += account.objects
        me.most_objects = max(me.most_objects, me.objects)
        others = account.objects - stack.resources
        yield self._cpu(me, LOOK_CPU_S + stack.resources * CPU_RESOURCE_S + others * CPU_LISTED_S)
        left, tries, bucket = self._wanted(stack), 0, self._bucket(me, account)
        while left and tries < TRIES:
            some = min(left, int(OUR_RATE))  # what a limiter lets go at once
            yield bucket.book(self.now, some)
            answered = self._ask(account, some)
            left -= answered
            tries = 0 if answered == some else 1 if answered else tries + 1
            pause_s = FIRST_PAUSE_S * 2 ** (tries - 1) * (0.5 + self.chance.random() / 2) if tries else 0.0
            yield answered * LATENCY_S + pause_s
        self.used["hands"] += self.now
        self._finish(me, number, whole=not left)

    def _wanted(self, stack: Stack) -> int:
        """Requests of a look: every page of its account, and one for what is under way."""
        account = stack.account
        if self.of.listed_once and self.now - account.listed_at < self.of.interval_s / 2:
            return int(stack.busy)
        account.listed_at = self.now
        return account.pages + stack.busy

    def _bucket(self, me: Process, account: Account) -> Bucket:
        match self.of.limiter:
            case "account":
                return self.shared[account.name]
            case "process":
                return me.buckets.setdefault(account.name, Bucket(OUR_RATE))
            case _:
                return Bucket(OUR_RATE)

    def _ask(self, account: Account, wanted: int) -> int:
        """How many are answered until the first that is refused."""
        answered = account.service.grant(self.now, wanted)
        refused = int(answered < wanted)
        self.asked[account.name, int(self.now)] += answered + refused
        self.requests, self.refused = self.requests + answered + refused, self.refused + refused
        return answered

    def _finish(self, me: Process, number: int, *, whole: bool) -> None:
        stack, pause_s = self.stacks[number], BUSY_S if self.stacks[number].busy else self.of.interval_s
        if whole:
            stack.failures = 0
            stack.seen.append(self.now)
        else:
            pause_s = min(LONGEST_S, FIRST_S * 2.0**stack.failures)
            stack.failures, self.failed = stack.failures + 1, self.failed + 1
        heappush(self.due, (self.now + pause_s * (1 + self.of.jitter * self.chance.random()), number))
        me.objects -= stack.account.objects
        me.hands += 1
        if me.parked and me.loop:
            me.parked = False
            self._go_on(me.loop)

    # What it came to ----------------------------------------------------------------------------------------------

    def intervals(self) -> list[float]:
        """Seconds between two looks of each stack at rest, shortest first; what is not over counts as it stands."""
        return sorted(self._interval(one.seen) for one in self.stacks if not one.busy)

    def _interval(self, seen: list[float]) -> float:
        if len(seen) < 2:
            return self.end_s - (seen[0] if seen else 0.0)
        return max((seen[-1] - seen[0]) / (len(seen) - 1), self.end_s - seen[-1])

    def full(self) -> dict[str, float]:
        """The share of each thing that is in use: 1 is exhausted. Of the accounts, the busiest hundredth of them."""
        answered = Counter[int]()
        for (name, _), many in self.asked.items():
            answered[name] += many
        busiest = [many for _, many in answered.most_common(max(1, len(self.accounts) // 100))]
        rate = OUR_RATE if self.of.limiter == "account" else RATE
        span = self.of.processes * self.end_s
        hands = self.used["hands"] + self.end_s * sum(self.of.workers - one.hands for one in self.processes)
        return {
            "cpu": self.used["cpu"] / span,
            "loop": (self.used["loop"] + self.end_s * sum(one.claims for one in self.processes)) / span,
            "hands": hands / self.of.workers / span,
            "list": self.used["list"] / DATABASE_CORES / self.end_s,
            "accounts": sum(busiest) / len(busiest) / rate / self.end_s,
        }

    @property
    def first(self) -> str:
        """What keeps looks from being in time. Hands and loop often only wait for another of them, which then is it."""
        intervals, full = self.intervals(), self.full()
        if intervals[int(len(intervals) * 0.99)] < KEPT * self.of.interval_s:
            return "kept"
        return next((name for name in ("accounts", "list", "cpu", "loop") if full[name] > FULL), "hands")


# The tables -----------------------------------------------------------------------------------------------------------

SMALL, MIDDLE = Scenario(10_000, 100, 10, 1), Scenario(100_000, 1_000, 100, 1, rounds=30)
LARGE = Scenario(1_000_000, 10_000, 1_000, 64, rounds=6)
SCENARIOS = (
    SMALL,
    MIDDLE,
    replace(MIDDLE, processes=4),
    replace(MIDDLE, processes=16, rounds=15),
    replace(MIDDLE, processes=4, interval_s=300.0, rounds=8),
    *(replace(LARGE, processes=many, rounds=rounds) for many, rounds in ((1, 90), (4, 60), (16, 30))),
    LARGE,
    replace(LARGE, interval_s=900.0, rounds=3),
)
ONE_LIMITER = replace(LARGE, limiter="account")
ONE_LIST = replace(ONE_LIMITER, listed_once=True)
NOT_BY_NAME = replace(ONE_LIST, by_name=False)
AT_LAST = replace(NOT_BY_NAME, found_every_s=60.0)
CHANGES = {
    "today": LARGE,
    "today, 16 workers each": replace(LARGE, workers=16),
    "today, up to half an interval more at random": replace(LARGE, jitter=0.5),
    "one limiter a process and account": replace(LARGE, limiter="process"),
    "one limiter an account": ONE_LIMITER,
    "and an account's list read once for all its stacks": ONE_LIST,
    "and a claim that names no stacks": NOT_BY_NAME,
    "and the folders walked once an interval": AT_LAST,
    "all that, 16 processes": replace(AT_LAST, processes=16),
    "all that, 16 processes, an interval of 120 s": replace(AT_LAST, processes=16, interval_s=120.0),
    "all that, 4 processes": replace(AT_LAST, processes=4, rounds=20),
}
SIZE = ("resources", "stacks", "accounts", "processes", "interval")
FIGURES = ("median", "p99", "requests/s", "429", "failed", "cpu", "loop", "hands", "list", "accounts", "MB", "first")


def figures(fleet: Fleet) -> list[str]:
    """What a scenario came to."""
    intervals, full = fleet.intervals(), fleet.full()
    looks = fleet.failed + sum(len(one.seen) for one in fleet.stacks)
    return [
        *(seconds(one, fleet.end_s) for one in (median(intervals), intervals[int(len(intervals) * 0.99)])),
        f"{fleet.requests / fleet.end_s:,.0f}",
        *(f"{share:.0%}" for share in (fleet.refused / max(1, fleet.requests), fleet.failed / max(1, looks))),
        *(f"{share:.0%}" for share in full.values()),
        f"{PROCESS_MB + LISTED_MB * max(one.most_objects for one in fleet.processes):,.0f}",
        fleet.first,
    ]


def seconds(value: float, end_s: float) -> str:
    return f"> {end_s:,.0f} s" if value >= end_s else f"{value:,.0f} s"


def sized(one: Scenario) -> list[str]:
    """The cells of a scenario."""
    sizes = (one.resources, one.stacks, one.accounts, one.processes)
    return [*(f"{each:,}" for each in sizes), f"{one.interval_s:.0f} s", *figures(Fleet(one).run())]


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(line((*SIZE, *FIGURES)), line("---" for _ in (*SIZE, *FIGURES)), sep="\n")
    for scenario in SCENARIOS:
        print(line(sized(scenario)), flush=True)
    print()
    print(
        line((f"{LARGE.resources:,} resources, {LARGE.processes} processes", *FIGURES)),
        line("---" for _ in ("", *FIGURES)),
        sep="\n",
    )
    for what, scenario in CHANGES.items():
        print(line((what, *figures(Fleet(scenario).run()))), flush=True)
