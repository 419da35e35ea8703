"""What a fleet's parts cost, each measured by itself and small: the constants of `tests.bench.scale`.

    python -m tests.bench.limits [claims|walks|looks|refusals]

claims: what a controller asks of the list of stacks, by the number of stacks that it names. walks: finding the stacks
below a folder, which it does every second. looks: cpu, memory, requests and bytes of a look at rest, by the resources
of its stack and by the objects of others that its account lists. refusals: what a service that enforces a rate refuses,
when one, two and four look at stacks of one account without a pause.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml

from reconciler.adapters.looking import Looker
from reconciler.approvals import Mode
from reconciler.conditions import Report, to_data
from reconciler.source import Folder, stacks
from reconciler.store.fleet import packed
from reconciler.store.postgres import PostgresFleet
from tests.desk import document, emulator, sft
from tests.store.conftest import started

TIMES, LOOKS, RATE, REFUSED_S = 20, 15, 20, 10
LISTS, WALKS = (100, 1_000, 10_000), (100, 1_000, 4_000)
TEAMS = {"a": 10, "b": 100, "c": 400, "d": 10}  # in turn: `d` is as `a`, beside all the others


# The list of stacks ---------------------------------------------------------------------------------------------------


def claims() -> None:
    with started() as server, server.database() as dsn:
        for count in LISTS:
            names = [f"team-{number % 100:03}/stack-{number:05}" for number in range(count)]
            fleet = PostgresFleet(dsn, "me", scope=f"of {count}")
            fleet.enlist(names)

            def look(fleet: PostgresFleet = fleet, names: list[str] = names) -> None:
                claim = fleet.claim(names)
                assert claim
                fleet.finish(claim, "x" * 2000, due_in_s=3600)

            tell(f"{count:,} stacks: a claim and its end", look)
            tell("  when something will be due", partial(fleet.next_due_in_s, names))
            tell("  that each has a row", partial(fleet.enlist, names))


def walks() -> None:
    for count in WALKS:
        with tempfile.TemporaryDirectory() as name:
            for number in range(count):
                folder = Path(name) / "teams" / f"stack-{number:05}"
                folder.mkdir(parents=True)
                (folder / "stack.yaml").touch()
            assert len(stacks(Path(name), ["teams/*"])) == count
            tell(f"{count:,} stacks: finding them", partial(stacks, Path(name), ["teams/*"]))


def tell(what: str, action: Callable[[], object]) -> None:
    took = timed(action)
    print(f"{what:40} {took.wall_s * 1000:8.1f} ms, {took.cpu_s * 1000:8.1f} of them cpu here", flush=True)


class Took(NamedTuple):
    wall_s: float
    cpu_s: float


def timed(action: Callable[[], object], count: int = TIMES) -> Took:
    """The least of each, of so many in turn: other work on the machine only adds."""
    took = []
    action()
    for _ in range(count):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        action()
        took.append(Took(time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return Took(min(one.wall_s for one in took), min(one.cpu_s for one in took))


# A look ---------------------------------------------------------------------------------------------------------------


def looks() -> None:
    with tempfile.TemporaryDirectory() as name, emulator(Path(name) / "service") as service:
        listed = 0
        for stack, count in TEAMS.items():
            declare(Path(name) / stack, stack, count)
            line = [sys.executable, "-m", "tests.bench.limits", "in", str(Path(name) / stack), service.origin]
            told = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
            listed += count
            size = (Path(name) / stack / ".reconciler/state.db").stat().st_size
            print(
                f"{count:4} resources, {listed:4} listed: {told['cpu_s'] * 1000:.0f} ms cpu, {told['rss_mb']:.1f} MB,"
                f" {told['requests']:.0f} requests, {size:,} bytes of state, {told['report']:,} of the report"
            )


def refusals() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        emulator(Path(name) / "service", rate_per_s=RATE, burst=RATE) as service,
    ):
        root, called, looked = Path(name) / "stacks", Counter[str](), Counter[str]()
        look = Looker(
            Folder(root), Mode.APPLY, endpoint=service.origin, called=lambda operation, end: called.update([end])
        )

        def go(stack: str, until: float) -> None:
            while time.monotonic() < until:
                looked[look(stack, Report(stack)).verdict.value] += 1

        for number in range(4):
            declare(root / f"s{number}", f"s{number}", 3)
            go(f"s{number}", time.monotonic() + 2)
        for many in (1, 2, 4):
            called.clear()
            looked.clear()
            with ThreadPoolExecutor(many) as pool:
                for number in range(many):
                    pool.submit(go, f"s{number}", time.monotonic() + REFUSED_S)
            print(f"{many} at once, {RATE} requests a second for {REFUSED_S} s: {dict(called)}; looks {dict(looked)}")


def declare(folder: Path, name: str, count: int) -> None:
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(sft(f"{name} {row}")) + "\n" for row in range(20)))
    spec = {"source": "rows.jsonl", "format": "sft"}
    documents = [document("Dataset", f"{name}-{number}", spec) for number in range(count)]
    stack = document("Stack", name, {"endpoint": "emulator", "profile": "2026"})
    (folder / "stack.yaml").write_text(yaml.safe_dump_all([stack, *documents], sort_keys=False), "utf-8")


def inside(folder: str, origin: str) -> None:
    """In a process of its own: looks until nothing is left to do, then at rest."""
    called: list[str] = []
    look = Looker(Folder(Path(folder)), Mode.APPLY, endpoint=origin, called=lambda operation, end: called.append(end))
    report = look(".", Report(".")).report
    while report.sync.value != "Synced":
        report = look(".", report).report
    called.clear()
    took = timed(lambda: look(".", report), LOOKS)
    told = {
        "cpu_s": took.cpu_s,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "requests": len(called) / (LOOKS + 1),
        "report": len(packed(to_data(report))),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["in", folder, origin]:
            inside(folder, origin)
        case words:
            for word, call in {"claims": claims, "walks": walks, "looks": looks, "refusals": refusals}.items():
                if word in (words or [word]):
                    call()
