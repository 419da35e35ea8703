"""Goal 18: what is felt at every call."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import partial

from tests.bench import rivals
from tests.bench.figures import Figure, Skipped, Told, against
from tests.bench.measure import in_turn
from tests.bench.place import Bench, Project
from tests.bench.shapes import ONE

UNWANTED = ("dashscope", "deepdiff", "networkx", "polars", "aiohttp")


def startup(bench: Bench) -> Iterator[Told]:
    """Beside a Python that does nothing, and Terraform's `version`."""
    one = bench.project(ONE, 1)
    with bench.service(one.data) as url:
        lines = {
            "--version": (("--version",), 3.0),
            "validate of one": (("validate",), 9.0),
            "plan of one": (("plan", "--endpoint", url), 14.0),
        }
        deeds = {name: partial(bench.run, bench.ours, *words, folder=one.folder) for name, (words, _) in lines.items()}
        deeds["python -c pass"] = partial(rivals.nothing, bench)
        try:
            rivals.with_terraform(bench)
            deeds["terraform version"] = partial(bench.run, "terraform", "version")
        except rivals.Absent as error:
            yield Skipped(18, "--version beside terraform version", str(error))
        taken = in_turn(deeds, bench.rounds(1))
        for name, (words, most) in lines.items():
            yield against(18, name, 1, "wall_s", taken[name], "python -c pass", taken["python -c pass"], most)
            yield Figure(18, f"{name}: imports it should not need", 1, len(_unwanted(bench, one, words)), "", most=0)
        if version := taken.get("terraform version"):
            yield against(18, "--version", 1, "wall_s", taken["--version"], "terraform version", version, 0.9)
        yield from _sdk(bench)


def _sdk(bench: Bench) -> Iterator[Told]:
    """What a script that uses the vendor's own library waits for before its first line."""
    try:
        python = rivals.sdk()
    except rivals.Absent as error:
        yield Skipped(18, "--version beside import dashscope", str(error))
        return
    deeds = {"ours": partial(bench.run, bench.ours, "--version")}
    deeds["sdk"] = partial(bench.run, python, "-c", "import dashscope")
    taken = in_turn(deeds, bench.rounds(1))
    yield against(18, "--version", 1, "wall_s", taken["ours"], "import dashscope", taken["sdk"], None)


def _unwanted(bench: Bench, project: Project, words: tuple[str, ...]) -> set[str]:
    line = (sys.executable, "-X", "importtime", "-m", "reconciler", *words)
    said = bench.run(*line, folder=project.folder).said
    return {name for name in UNWANTED if re.search(rf"^import time:.*\| +{name}$", said, re.M)}
