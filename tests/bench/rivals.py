"""What a user would pick instead, as far as it can be had here; each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.bench.measure import Cost
from tests.bench.place import REPOSITORY, Bench, Project, terraform
from tests.bench.shapes import Form, write_records

MOST = 10_000  # resources; Terraform needs minutes for so many, and hours for more
PARSE = "import sys, yaml\nfor name in sys.argv[1:]:\n    [*yaml.load_all(open(name, 'rb'), yaml.CSafeLoader)]"
SDK = "from tests.conformance.vendor import NEW, install; print(install(NEW).python)"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1", "install")


class Absent(Exception):
    """Why a rival is not there."""


def with_terraform(bench: Bench) -> None:
    """Raises Absent where there is none."""
    if not shutil.which("terraform", path=bench.environment["PATH"]):
        raise Absent("no terraform on the PATH")


def terraform_plans(bench: Bench, form: Form, count: int) -> dict[str, Callable[[], Cost]]:
    """With its look at what there is, and without."""
    with_terraform(bench)
    if count > MOST:
        raise Absent(f"terraform is not run with more than {MOST:,}")
    made = terraform(bench, form, count, applied=True)
    return {"terraform plan": made.plan, "terraform plan -refresh=false": lambda: made.plan("-refresh=false")}


def octodns_plan(bench: Bench, count: int) -> Callable[[], Cost]:
    if count > MOST:
        raise Absent(f"octoDNS is not run with more than {MOST:,}")
    command = _octodns(bench.folder / "octodns-environment")
    folder = bench.folder / f"octodns {count}"
    if not folder.exists():
        write_records(folder, count)
    return lambda: bench.run(command, "--config-file", "config.yaml", folder=folder)


@cache
def _octodns(folder: Path) -> Path:
    _installed(folder, "octodns")
    return folder / "bin/octodns-sync"


def _installed(folder: Path, wanted: str) -> None:
    for line in ((sys.executable, "-m", "venv", str(folder)), (str(folder / "bin/python"), *PIP, wanted)):
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise Absent(f"{wanted} cannot be installed within 300 s") from None
        if done.returncode:
            last = (done.stderr.strip() or "no word why").splitlines()[-1]
            raise Absent(f"{wanted} cannot be installed: {last}")


@cache
def sdk() -> Path:
    """The Python that has the official SDK, kept where the tests of conformance keep it."""
    line = (sys.executable, "-c", SDK)
    done = subprocess.run(line, cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no word why").splitlines()[-1]
        raise Absent(f"the official SDK cannot be installed: {last}")
    return Path(done.stdout.strip())


def parse(bench: Bench, project: Project) -> Cost:
    """The bare loop: libyaml over the same bytes, and nothing else."""
    return bench.run(sys.executable, "-c", PARSE, *sorted(project.folder.glob("*.yaml")))


def nothing(bench: Bench) -> Cost:
    return bench.run(sys.executable, "-c", "pass")
