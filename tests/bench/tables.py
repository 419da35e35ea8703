"""What was found, as lines, as a table, as JSON, as charts and in the page."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from tests.bench.figures import Figure, Point, Skipped, Told
from tests.bench.place import REPOSITORY

PAGE = REPOSITORY / "docs/performance.md"
BEGIN, END = "<!-- figures: written by the command above -->", "<!-- end of the figures -->"
HEAD = ("goal", "what", "size", "target", "ours", "rival", "its", "ratio", "least–most", "runs", "met")
WORDS = {True: "yes", False: "no", None: "–"}
CHARTS = {"wall_s": "wall-clock time in s", "cpu_s": "cpu time in s", "rss_mb": "peak memory in MB"}


def said(one: Told) -> str:
    """One line, for whoever waits."""
    if isinstance(one, Skipped):
        return f"goal {one.goal}: skipped {one.what}: {one.why}"
    if isinstance(one, Point):
        return f"         {one.line} of {one.size:,}: {number(one.wall_s)} s, {one.rss_mb:.0f} MB"
    beside = f", {number(one.value)} of {one.rival}" if one.ratio else ""
    judged = "" if one.most is None else f" (at most {number(one.most)}: {WORDS[one.met]})"
    return f"goal {one.goal}: {one.what}, {one.size:,}: {number(one.ours)} {one.unit}{beside}{judged}"


def table(found: Sequence[Told]) -> str:
    cells = [HEAD, *map(_cells, _figures(found))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    skipped = [said(one) for one in found if isinstance(one, Skipped)]
    return "\n".join([*lines, "", *skipped, summary(found)])


def summary(found: Sequence[Told]) -> str:
    judged = [one for one in _figures(found) if one.met is not None]
    return f"{sum(bool(one.met) for one in judged)} of {len(judged)} figures that a goal is about are as it wants them"


def _figures(found: Sequence[Told]) -> list[Figure]:
    return sorted((one for one in found if isinstance(one, Figure)), key=lambda one: one.goal)


def _cells(one: Figure) -> tuple[str, ...]:
    target = "" if one.most is None else f"≤ {number(one.most)}" + ("" if one.ratio or not one.unit else f" {one.unit}")
    spread = f"{number(one.ratio.least)}–{number(one.ratio.most)}" if one.ratio and one.ratio.runs > 1 else ""
    return (
        f"{one.goal}",
        one.what,
        f"{one.size:,}",
        target,
        f"{number(one.ours)} {one.unit}".strip(),
        one.rival,
        "" if one.theirs is None else f"{number(one.theirs)} {one.unit}".strip(),
        number(one.ratio.middle) if one.ratio else "",
        spread,
        f"{one.runs}",
        WORDS[one.met],
    )


def number(value: float) -> str:
    """Three digits that mean something."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else "?"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits else f"{value:,.0f}"


def machine() -> dict[str, str]:
    """What it ran on, without names of its own."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{len(os.sched_getaffinity(0))} × {model[1].strip() if model else platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "terraform": _first_line("terraform", "version"),
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
    }


def _first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return "none"
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return next(iter(done.stdout.splitlines()), "none")


def save(folder: Path, found: Sequence[Told], minutes: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figures = [{**asdict(one), "met": one.met, "value": _finite(one.value)} for one in _figures(found)]
    for one in figures:
        one["ours"] = _finite(one["ours"])
    result = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "minutes": round(minutes, 1),
        "machine": machine(),
        "figures": figures,
        "skipped": [asdict(one) for one in found if isinstance(one, Skipped)],
        "curves": [asdict(one) for one in found if isinstance(one, Point)],
    }
    (folder / "results.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def chart(folder: Path, found: Sequence[Told]) -> None:
    """Over N, both axes in powers of ten: SVG where pygal is installed, and in the terminal where plotext is."""
    points = [one for one in found if isinstance(one, Point)]
    for aspect, title in CHARTS.items() if points else ():
        curves: dict[str, list[tuple[int, float]]] = {}
        for one in points:
            curves.setdefault(one.line, []).append((one.size, getattr(one, aspect)))
        if find_spec("pygal"):
            _svg(folder / f"{aspect}.svg", title, curves)
        if find_spec("plotext"):
            _drawn(title, curves)
    for module, what in (("pygal", "no SVG"), ("plotext", "no chart here")):
        if points and not find_spec(module):
            print(f"{what}: {module} is not installed (pip install 'bailian-reconciler[bench]')")


def _svg(path: Path, title: str, curves: dict[str, list[tuple[int, float]]]) -> None:
    import pygal

    drawn = pygal.XY(title=f"{title} over the number of resources", xrange=(1.9, 5.1))
    drawn.x_labels, drawn.y_labels = [2, 3, 4, 5], [*range(-2, 5)]
    drawn.value_formatter = drawn.x_value_formatter = lambda power: number(10**power)
    for line, places in curves.items():
        drawn.add(line, [(math.log10(size), math.log10(value)) for size, value in places])
    drawn.js = ()  # nothing is fetched from anywhere when it is looked at
    drawn.render_to_file(str(path))


def _drawn(title: str, curves: dict[str, list[tuple[int, float]]]) -> None:
    from plotext import figure

    figure.clear()
    figure.plot_size(100, 24)
    figure.title(f"{title} over the number of resources")
    scales: tuple[list[float], list[float]] = ([], [])
    for line, places in curves.items():
        xs, ys = ([math.log10(place[axis]) for place in places] for axis in (0, 1))
        figure.draw(figure.signal(xs, ys).lines().label(line))
        for scale, values in zip(scales, (xs, ys), strict=True):
            scale += values
    for axis, scale in zip(("x", "y"), scales, strict=True):
        powers = range(math.ceil(min(scale)), math.floor(max(scale)) + 1)
        figure.ruler(axis).ticks([*powers], [number(10**power) for power in powers])
    figure.show(colorless=not sys.stdout.isatty())


# The page -------------------------------------------------------------------------------------------------------------


def document(found: Sequence[Told], minutes: float, page: Path = PAGE) -> None:
    """The table in docs/performance.md, in place of the one before."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    figures = "\n".join(_page(found, minutes))
    page.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}", encoding="utf-8")


def _page(found: Sequence[Told], minutes: float) -> Iterator[str]:
    about = machine()
    where = "; ".join(f"{about[name]}" for name in ("processor", "memory", "system", "python", "terraform"))
    yield f"{where}; commit {about['commit']}, {datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} minutes. {summary(found)}."
    yield ""
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{'---|' * len(HEAD)}"
    for one in _figures(found):
        yield f"| {' | '.join(cell or ' ' for cell in _cells(one))} |"
    skipped = [one for one in found if isinstance(one, Skipped)]
    if skipped:
        yield ""
        yield "Not measured in that run:"
        yield ""
        for one in skipped:
            yield f"- goal {one.goal}, {one.what}: {' '.join(one.why.split())[:200]}"
