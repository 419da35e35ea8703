"""Goals 10 to 12: making everything, each step durable, and what is left on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from tests.bench import rivals
from tests.bench.figures import Figure, Skipped, Told, against, point
from tests.bench.front import front
from tests.bench.measure import Cost, in_turn, ratio
from tests.bench.place import FAST, Bench, terraform, unapplied
from tests.bench.plan import FORM, started
from tests.bench.refresh import LATENCY_S, PACED, RATE

TERRAFORM_MOST = 1_000  # resources; an apply of ten times as many takes a hundred times as long


def applies(bench: Bench) -> Iterator[Told]:
    """Goal 10."""
    steps: dict[int, float] = {}
    for size in [size for size in bench.sizes if size <= 10_000]:
        deeds: dict[str, Callable[[], Cost]] = {"ours": partial(_applied, bench, size)}
        try:
            rivals.with_terraform(bench)
            if size > TERRAFORM_MOST:
                raise rivals.Absent(f"terraform apply is not run with more than {TERRAFORM_MOST:,}")
            deeds["terraform apply"] = partial(_terraform_applied, bench, size)
        except rivals.Absent as error:
            yield Skipped(10, f"apply of {size:,} beside terraform", str(error))
        taken = in_turn(deeds, 1 if bench.quick or size > 1_000 else 3)
        ours = taken["ours"]
        yield point("apply", size, ours)
        if theirs := taken.get("terraform apply"):
            most = 0.10 if size == 1_000 else None
            yield against(10, "apply", size, "wall_s", ours, "terraform apply", theirs, most)
            yield point("terraform apply", size, theirs)
            yield _written(size, theirs, "bytes written a step by terraform", None)
        yield _written(size, ours, "bytes written a step", 16 * 1024)
        steps[size] = median(one.wall_s for one in ours) / size
        if size > 100:
            before = steps[size // 10]
            what, most = "wall of a step", 1.1 if size == 10_000 else None
            rival = f"at {size // 10:,}"
            yield Figure(10, what, size, steps[size], "s", most, rival, before, ratio([steps[size]], [before]))


def _written(size: int, costs: list[Cost], what: str, most: float | None) -> Figure:
    return Figure(10, what, size, median(one.written for one in costs) / size, "B", most, runs=len(costs))


def _applied(bench: Bench, size: int) -> Cost:
    """Against a service that has everything ready at once; a plan afterwards must be empty."""
    project = unapplied(bench, FORM, size, "applied")
    with bench.service(project.data, FAST) as url:
        cost = project.apply(url)
    with bench.service(project.data) as url:
        project.plan(url, cold=False)
    return cost


def _terraform_applied(bench: Bench, size: int) -> Cost:
    made = terraform(bench, FORM, size, applied=False)
    (made.folder / "terraform.tfstate").unlink(missing_ok=True)
    return made.apply()


def delays(bench: Bench) -> Iterator[Told]:
    """Goal 11: what an apply takes beyond the requests that it sends, at the pace of the service.

    They are counted in another apply than the one that is timed: to be counted takes time.
    """
    size, start_s = 100, started(bench)
    project = unapplied(bench, FORM, size, "counted")
    with bench.service(project.data, FAST, PACED) as url, front(url) as counted:
        project.apply(counted.url)
    project = unapplied(bench, FORM, size, "timed")
    with bench.service(project.data, FAST, PACED) as url:
        cost = project.apply(url)
        throttled = bench.throttled(url)
    floor_s = (len(counted.requests) - 1) / RATE + LATENCY_S
    share = (cost.wall_s - start_s - floor_s) / floor_s
    what = f"delay of an apply at {RATE}/s, as a share of its {len(counted.requests)} requests at that pace"
    yield Figure(11, what, size, share, "", 0.05)
    yield Figure(8, f"answers 429 to an apply at {RATE} requests a second", size, throttled, "", 0)


def state(bench: Bench) -> Iterator[Told]:
    """Goal 12: what is recorded, and that a plan which changes nothing writes nothing."""
    for size in [size for size in bench.sizes if size >= 1_000]:
        project = bench.project(FORM, size)
        with bench.service(project.data) as url:
            project.plan(url, cold=True)
            before = project.state_bytes, (project.folder / ".reconciler/state.db").stat().st_mtime_ns
            cost = project.plan(url, cold=False)
            after = project.state_bytes, (project.folder / ".reconciler/state.db").stat().st_mtime_ns
        assert before == after, "a plan wrote to the state"
        yield Figure(12, "bytes written by a no-op plan", size, cost.written, "B", 0)
        try:
            rivals.with_terraform(bench)
            if size > rivals.MOST:
                raise rivals.Absent(f"terraform is not run with more than {rivals.MOST:,}")
        except rivals.Absent as error:
            yield Skipped(12, f"state of {size:,} beside terraform", str(error))
            continue
        ours, theirs = project.state_bytes, terraform(bench, FORM, size, applied=True).state_bytes
        yield Figure(12, "state on disk", size, ours, "B", 0.15, "terraform.tfstate", theirs, ratio([ours], [theirs]))
