"""Goals 1 to 7: a plan that finds nothing to do, and one that finds a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from tests.bench import rivals
from tests.bench.figures import Figure, Skipped, Told, against, point
from tests.bench.measure import Cost, exponent, in_turn, middle, ratio
from tests.bench.place import Bench, Project
from tests.bench.shapes import CHANGED, FORMS, ONE, write_manifests

FORM = FORMS["one file"]
PLAN, BLIND = "terraform plan", "terraform plan -refresh=false"
LIMITS: Mapping[tuple[int, str, str, str], tuple[int, float]] = {  # size, which of ours, aspect, rival: goal, most
    (1_000, "cold", "wall_s", PLAN): (1, 0.12),
    (1_000, "warm", "wall_s", PLAN): (1, 0.07),
    (10_000, "cold", "wall_s", PLAN): (2, 0.06),
    (10_000, "warm", "wall_s", PLAN): (2, 0.02),
    (10_000, "cold", "cpu_s", PLAN): (2, 0.04),
    (10_000, "warm", "cpu_s", PLAN): (2, 0.012),
    (10_000, "cold", "wall_s", "octoDNS"): (2, 0.35),
    (10_000, "cold", "cpu_s", "CSafeLoader"): (3, 1.5),
    (10_000, "warm", "cpu_s", "CSafeLoader"): (3, 0.40),
    (100, "warm", "wall_s", PLAN): (4, 0.50),
    (100, "warm", "wall_s", BLIND): (4, 0.35),
    (10_000, "cold", "rss_mb", PLAN): (6, 0.07),
}


def plans(bench: Bench) -> Iterator[Told]:
    """Goals 1 to 4 and 6, each size in turn with every rival."""
    peaks: dict[int, float] = {}
    for size in bench.sizes:
        project = bench.project(FORM, size)
        with bench.service(project.data) as url:
            deeds: dict[str, Callable[[], Cost]] = {
                "cold": partial(project.plan, url, cold=True),
                "warm": partial(project.plan, url, cold=False),
                "CSafeLoader": partial(rivals.parse, bench, project),
            }
            for name, found in (("terraform", rivals.terraform_plans), ("octoDNS", rivals.octodns_plan)):
                try:
                    deeds |= found(bench, FORM, size) if name == "terraform" else {name: found(bench, size)}
                except rivals.Absent as error:
                    yield Skipped(1, f"no-op plan of {size:,} beside {name}", str(error))
            taken = in_turn(deeds, bench.rounds(size))
        yield from _told(project, taken)
        peaks[size] = middle(taken["cold"], "rss_mb")
        if size == 10_000:
            yield Figure(6, "peak memory of a no-op plan, cold", size, peaks[size], "MB", 120, runs=len(taken["cold"]))
            if 100 in peaks:
                times = ratio([peaks[size]], [peaks[100]])
                yield Figure(6, "the same", size, peaks[size], "MB", 4, "its own at 100", peaks[100], times)


def _told(project: Project, taken: Mapping[str, Sequence[Cost]]) -> Iterator[Told]:
    """Every pair that a goal is about at some size; it is judged at that size alone."""
    size, goals = project.count, {key[1:]: (goal, most) for key, (goal, most) in LIMITS.items()}
    for (ours, aspect, rival), (goal, _) in goals.items():
        if rival in taken:
            at, most = LIMITS.get((size, ours, aspect, rival), (goal, None))
            what = f"no-op plan, {ours}"
            yield against(at, what, size, aspect, taken[ours], rival, taken[rival], most)
    for line in ("cold", "warm", PLAN, "octoDNS"):
        if line in taken:
            yield point(f"plan, {line}" if line in ("cold", "warm") else line, size, taken[line])


def growth(bench: Bench) -> Iterator[Told]:
    """Goal 5: in every form, above a plan of one group: it loads all that any of them does."""
    least = bench.project(FORM, FORM.size)
    sizes = [size for size in bench.sizes if size >= 1_000] if bench.largest > 1_000 else [*bench.sizes]
    judged = sizes[:2] == [1_000, 10_000]
    for form in FORMS.values():
        projects = [bench.project(form, size) for size in sizes]
        costs: list[list[Cost]] = []
        for project in (least, *projects):
            with bench.service(project.data) as url:
                costs.append([project.plan(url, cold=True) for _ in range(3)])
            if form.name != FORM.name and project is not least:
                bench.forget(project)
        counts = [project.count for project in projects]
        for aspect, most in (("cpu_s", 1.1), ("rss_mb", 1.05)):
            start, *above = (min(getattr(cost, aspect) for cost in taken) for taken in costs)
            power = exponent(counts, above, start)
            what = f"exponent of {'cpu' if aspect == 'cpu_s' else 'memory'} of a plan, {form.name}"
            yield Figure(5, f"{what}, from {counts[0]:,}", counts[-1], power, "", most if judged else None, runs=3)


def changes(bench: Bench) -> Iterator[Told]:
    """Goal 7: one resource in a hundred is declared otherwise."""
    size = min(bench.largest, 10_000)
    project = bench.project(FORM, size)

    def plan(form: str) -> Cost:
        write_manifests(project.folder, CHANGED if form == "changed" else FORM, size)
        return project.plan(url, cold=True, options=())

    with bench.service(project.data) as url:
        deeds = {form: partial(plan, form) for form in ("changed", "as it was")}
        taken = in_turn(deeds, bench.rounds(size))
        write_manifests(project.folder, FORM, size)
    assert all("no changes" not in one.said for one in taken["changed"])
    what = "plan with 1 % changed"
    yield against(7, what, size, "cpu_s", taken["changed"], "the no-op plan", taken["as it was"], 1.1)


def started(bench: Bench) -> float:
    """Wall seconds of the plan of one resource: what no plan is without."""
    one = bench.project(ONE, 1)
    with bench.service(one.data) as url:
        return median(one.plan(url, cold=False).wall_s for _ in range(3))
