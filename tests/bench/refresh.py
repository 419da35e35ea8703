"""Goals 8 and 9: what is asked of the service, and how near to its own pace that comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import ceil

from tests.bench.figures import Figure, Told
from tests.bench.front import front
from tests.bench.measure import ratio
from tests.bench.place import Bench
from tests.bench.plan import FORM, started

PAGE = 100  # objects; the most that every list takes
RATE, LATENCY_S = 20, 0.05
PACED = ("--rate", f"{RATE}", "--latency-ms", f"{LATENCY_S * 1000:.0f}")


def requests(bench: Bench) -> Iterator[Told]:
    """Goal 8, through a door that counts."""
    for size in bench.sizes:
        project = bench.project(FORM, size)
        with bench.service(project.data) as url, front(url) as counted:
            project.plan(counted.url, cold=False)
        floor = _floor(size)
        yield Figure(
            8, f"requests of a refresh (pages {floor - 4}, and one a kind)", size, len(counted.requests), "", floor
        )
        yield Figure(8, "reads of single objects that did not change", size, counted.singles(), "", 0)


def paced(bench: Bench) -> Iterator[Told]:
    """Goal 9, and that a service which enforces its rate refuses nothing."""
    start_s = started(bench)
    for size in bench.sizes:
        project = bench.project(FORM, size)
        with bench.service(project.data, options=PACED) as url:
            costs = [project.plan(url, cold=False) for _ in range(3)]
            throttled = bench.throttled(url)
        yield Figure(8, f"answers 429 at {RATE} requests a second", size, throttled, "", 0)
        floor_s = (_floor(size) - 4 - 1) / RATE + LATENCY_S + start_s
        walls = [cost.wall_s for cost in costs]
        times = ratio(walls, [floor_s] * len(walls))
        most = 1.15 if size in (1_000, 10_000) else None
        what = f"refresh and plan at {RATE}/s and {1000 * LATENCY_S:.0f} ms"
        yield Figure(9, what, size, sorted(walls)[1], "s", most, "pages at that pace, and a start", floor_s, times, 3)


def _floor(size: int) -> int:
    """A page of each hundred of a kind, and one more a kind."""
    kinds = Counter(block.name[0] for block in FORM.blocks(size))
    return sum(ceil(count / PAGE) + 1 for count in kinds.values())
