"""Every goal in turn with its rivals, as a table, as JSON and as charts.

    python -m tests.bench [--quick | --full] [--only GOAL[,GOAL]] [--out FOLDER] [--docs]

100, 1,000 and 10,000 resources; --quick leaves out the last, --full adds 100,000. --only takes numbers of goals, as in
docs/performance.md. All is written into the out folder; --docs also writes the table into docs/performance.md. Loads
nothing of the product: what is measured are processes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import apply, plan, refresh, rest, startup, upload
from tests.bench.figures import Skipped, Told
from tests.bench.measure import Failed
from tests.bench.place import Bench
from tests.bench.tables import chart, document, said, save, table

FAMILIES: Mapping[Callable[[Bench], Iterator[Told]], frozenset[int]] = {
    startup.startup: frozenset({18}),
    upload.uploads: frozenset({16}),
    apply.applies: frozenset({10}),
    apply.delays: frozenset({8, 11}),
    plan.plans: frozenset({1, 2, 3, 4, 6}),
    refresh.requests: frozenset({8}),
    refresh.paced: frozenset({8, 9}),
    apply.state: frozenset({12}),
    plan.changes: frozenset({7}),
    rest.idle: frozenset({12, 19}),
    rest.edits: frozenset({20}),
    plan.growth: frozenset({5}),
}


def main() -> None:
    asked = arguments()
    sizes = (100, 1_000) if asked.quick else (100, 1_000, 10_000)
    found: list[Told] = []
    began = time.monotonic()
    with TemporaryDirectory(prefix="bench-") as name:
        bench = Bench(Path(name), (*sizes, 100_000) if asked.full else sizes, quick=asked.quick)
        with suppress(KeyboardInterrupt):  # what was measured by then is told all the same
            for family, goals in FAMILIES.items():
                if not asked.only or goals & asked.only:
                    measure(bench, family, goals, found)
    minutes = (time.monotonic() - began) / 60
    print(table(found))
    save(asked.out, found, minutes)
    chart(asked.out, found)
    if asked.docs:
        document(found, minutes)


def measure(bench: Bench, family: Callable[[Bench], Iterator[Told]], goals: frozenset[int], found: list[Told]) -> None:
    """One thing that cannot be measured is said so, and the others are."""
    try:
        for one in family(bench):
            print(said(one), file=sys.stderr, flush=True)
            found.append(one)
    except (Failed, AssertionError, OSError) as error:
        found.append(Skipped(min(goals), family.__name__, f"failed: {error}"))
        print(said(found[-1]), file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="100 and 1,000 resources only")
    size.add_argument("--full", action="store_true", help="100,000 as well")
    numbers = lambda text: {int(one) for one in text.split(",")}  # noqa: E731
    parser.add_argument("--only", type=numbers, default=set(), metavar="GOAL[,GOAL]", help="numbers of goals")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="FOLDER", help="where it is written")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
