"""What a fleet gets done, whether it stays right in trouble, and whether it stays small.

    python -m tests.bench.fleet [rate|soak|memory] [NUMBER]

rate: looks in a minute of 1, 2 and 4 processes on one PostgreSQL: first of the list of stacks alone, then of NUMBER
(40) small stacks at rest on one emulator. soak: NUMBER (30) stacks, an author who changes them, a service that falters,
controllers that are killed and stopped, for two minutes; then what must hold of all of it. memory: one process, after a
tenth of NUMBER (10,000) looks and after all of them.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.adapters.looking import Looker
from reconciler.approvals import Mode
from reconciler.conditions import Report
from reconciler.controller import Controller, Look
from reconciler.source import Folder
from reconciler.store.fleet import SqliteFleet
from reconciler.store.postgres import PostgresFleet
from tests.fleet.yard import LEASE_S, Yard, quiet, yard
from tests.store.conftest import started
from tests.store.places import fork

SECONDS = 15.0
FAULTS: tuple[dict[str, Any], ...] = (
    {"operation": "*.create", "probability": 0.05, "seed": 1, "drop": {"moment": "after"}},
    {"operation": "*.create", "probability": 0.03, "seed": 2, "drop": {"moment": "before"}},
    {"operation": "*.create", "probability": 0.05, "seed": 3, "throttle": "rate"},
    {"operation": "*.scale", "probability": 0.1, "seed": 4, "drop": {"moment": "after"}},
    {"operation": "*.list", "probability": 0.02, "seed": 5, "refuse": {"status": 503}},
    {"operation": "*.list", "probability": 0.02, "seed": 6, "answer": {"body": "truncated"}},
    {"operation": "*.list", "probability": 0.1, "seed": 7, "hide": {"emulated_s": 60}},
    {"operation": "*.get", "probability": 0.05, "seed": 8, "drop": {"moment": "before"}},
    {"operation": "*.update", "probability": 0.1, "seed": 9, "answer": {"status": 502}},
)


# How many -------------------------------------------------------------------------------------------------------------


def rate(count: int) -> None:
    with place() as made:
        for processes in (1, 2, 4):
            print(f"the list alone, {processes} processes: {alone(made, processes):,.0f} claims a minute")
        made.declare(count)
        for folder in made.stacks.iterdir():
            text = (folder / "stack.yaml").read_text().split("---\n")
            (folder / "stack.yaml").write_text("---\n".join(text[:2]))
        made.interval_s = 0
        for processes in (1, 2, 4):
            print(f"{count} stacks at rest, {processes} processes: {looked(made, processes):,.0f} looks a minute")


def alone(made: Yard, processes: int) -> float:
    """Claims that are finished at once, by processes that do nothing else."""
    names = [f"n{number:04}" for number in range(1000)]
    scope = f"alone {processes}"
    PostgresFleet(made.dsn, "me", scope=scope).enlist(names)

    def run() -> None:
        fleet, until = PostgresFleet(made.dsn, f"{os.getpid()}", scope=scope), time.monotonic() + SECONDS
        while time.monotonic() < until:
            if claim := fleet.claim(names):
                fleet.finish(claim, "x" * 2000, due_in_s=0)

    for pid in [fork(run) for _ in range(processes)]:
        os.waitpid(pid, 0)
    ((sum_,),) = made.ask(f"select sum(epoch) from reconciler.fleet where scope = '{scope}'")
    return 60 * int(sum_) / SECONDS


def looked(made: Yard, processes: int) -> float:
    """Whole looks: manifests, state, what the service lists, plan and report."""
    made.start(processes, workers=2)
    made.until(made.settled)
    made.look_at_all()
    before, began = looks(made), time.monotonic()
    time.sleep(SECONDS)
    after, took = looks(made), time.monotonic() - began
    for worker in made.workers:
        worker.end()
    made.workers.clear()
    return 60 * (after - before) / took


def looks(made: Yard) -> int:
    ((sum_,),) = made.ask("select sum(epoch) from reconciler.fleet where scope = 'yard'")
    return int(sum_)


# Whether it stays right -----------------------------------------------------------------------------------------------


def soak(count: int, seconds: float = 120.0, seed: int = 7) -> None:
    with place() as made:
        print("\n".join(trouble(made, count, seconds, seed)) or "all invariants hold")


def trouble(made: Yard, count: int, seconds: float, seed: int) -> list[str]:
    """What does not hold after all that; the figures are said on the way."""
    chance, done, scaled = random.Random(seed), {"killed": 0, "stopped": 0, "edited": 0}, 0
    made.declare(count)
    made.service.control("faults", {"faults": list(FAULTS)})
    made.start(3)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1 + chance.random())
        made.decide()
        match chance.choice(["kill", "kill", "stop", "edit", "edit", "edit"]):
            case "kill":
                victim = chance.choice([one for one in made.workers if one.process.poll() is None])
                victim.kill()
                made.start(1)
                done["killed"] += 1
            case "stop":
                sleeper = chance.choice([one for one in made.workers if one.process.poll() is None])
                sleeper.stop()
                threading.Timer(LEASE_S * 2 * chance.random(), sleeper.go_on).start()
                done["stopped"] += 1
            case "edit":
                number = chance.randrange(count)
                made.declare(1, first=number, capacity=chance.choice([4, 8, 12]), weight=chance.choice([1, 4]))
                done["edited"], scaled = done["edited"] + 1, scaled + 1
    time.sleep(LEASE_S * 2)
    gaps = staleness(made)
    made.service.control("faults", {"faults": []})
    made.settle()
    quiet(made.service)
    broken = [*made.broken(scaled), *made.at_rest()]
    requests, writes = len(made.world.log()), len(made.service.ledger())
    print(
        f"{count} stacks, {looks(made):,} looks, {requests:,} requests, {writes} writes, {done['edited']} edits,"
        f" {done['killed']} kills, {done['stopped']} stops; jobs bought {made.bought('jobs.create')},"
        f" deployments {made.bought('deployments.create')}; a stack was unseen for {gaps:.1f} s at most"
    )
    return broken


def staleness(made: Yard) -> float:
    """The longest that a stack goes without a look, from claim to claim, watched for ten seconds."""
    seen = {name: (row.epoch, time.monotonic()) for name, row in made.rows().items()}
    longest, until = 0.0, time.monotonic() + 10
    while (now := time.monotonic()) < until:
        for name, row in made.rows().items():
            epoch, since = seen[name]
            longest = max(longest, now - since)
            if row.epoch != epoch:
                seen[name] = (row.epoch, now)
        time.sleep(0.05)
    return longest


# Whether it stays small -----------------------------------------------------------------------------------------------


def memory(count: int) -> None:
    with tempfile.TemporaryDirectory() as name, place() as made:
        for size, looked_at in grown(made, Path(name), [count // 10, count]):
            print(f"after {looked_at:,} looks: {rss_mb():.1f} MB resident, {size:,} objects of Python's")


def grown(made: Yard, folder: Path, marks: list[int]) -> Iterator[tuple[int, int]]:
    """How many objects there are, and after how many looks: at stacks at rest, a broken one, and a mistake of ours."""
    os.environ["RECONCILER_STATE_DSN"] = made.dsn
    made.declare(4)
    for number in range(4):
        path = made.stacks / f"s{number:03}" / "stack.yaml"
        text = path.read_text().split("---\n")
        path.write_text("---\n".join([text[0], text[-1]]) if number else "kind: {")
    now, count = [time.time()], 0
    look = Looker(Folder(made.stacks), Mode.APPLY, endpoint=made.service.origin, many=True)

    def looker(name: str, before: Report) -> Look:
        if name == "mistaken":
            raise ZeroDivisionError
        return look(name, before)

    fleet = SqliteFleet(folder / "fleet.db", "me", clock=lambda: now[0])
    loop = Controller(fleet, lambda: [*made.names, "mistaken"], looker, workers=2)
    for mark in marks:
        while count < mark:
            now[0] += 3600
            count += loop.once()
        gc.collect()
        yield len(gc.get_objects()), count


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def place() -> Iterator[Yard]:
    """A server, a database and an emulator."""
    with (
        tempfile.TemporaryDirectory() as name,
        started() as server,
        server.database() as dsn,
        yard(Path(name) / "yard", dsn) as made,
    ):
        yield made


if __name__ == "__main__":
    what = {"rate": (rate, 40), "soak": (soak, 30), "memory": (memory, 10_000)}
    for word in sys.argv[1:2] or what:
        call, number = what[word]
        call(int(sys.argv[2]) if len(sys.argv) > 2 else number)
