"""Where everything is measured: a folder of its own, processes with nothing of this machine's settings, and services.

A project of N resources is one unit that was really applied, multiplied (`seed.py`); its figures count only because a
plan of it is empty, which is looked at when it is made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.request import urlopen

from tests.bench.measure import Cost, Failed, run
from tests.bench.shapes import Form, write_manifests, write_terraform

REPOSITORY = Path(__file__).parents[2]
FAST = 100_000  # emulated seconds in one of ours: nothing is waited for that the service would take long for
ROOM = ("jobs.quota_running_plus_succeeded=1000000", "jobs.parallel=1000000")
CACHE = ".reconciler/cache"


@dataclass
class Bench:
    """One run of the benchmark."""

    folder: Path
    sizes: tuple[int, ...]
    quick: bool = False
    made: dict[tuple[str, int], Project] = field(default_factory=dict)

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    def rounds(self, size: int) -> int:
        return 3 if self.quick or size > 1_000 else 5

    @cached_property
    def environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir()
        (home / "terraformrc").touch()
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "DASHSCOPE_API_KEY": "local",
            "NO_PROXY": "127.0.0.1",
            "TF_CLI_CONFIG_FILE": str(home / "terraformrc"),
            "CHECKPOINT_DISABLE": "1",
        }

    @property
    def ours(self) -> Path:
        """The command, as it is installed beside this Python."""
        return Path(sys.executable).parent / "reconciler"

    def run(self, *command: str | Path, folder: Path | None = None, exits: Sequence[int] = (0,)) -> Cost:
        return run(command, folder=folder or self.folder, environment=self.environment, exits=exits)

    @contextmanager
    def service(self, data: Path, speed: float = 1, options: Sequence[str] = ()) -> Iterator[str]:
        """An emulator in a process of its own, with room for everything; its URL."""
        switches = [word for switch in ROOM for word in ("--switch", switch)]
        line = [str(self.ours), "emulator", "start", "--data", str(data), "--speed", f"{speed}", *switches, *options]
        with (self.folder / "service.log").open("ab") as log:
            process = subprocess.Popen(
                line, env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            assert process.stdout
            found = re.search(r"http://[^\s,]+", process.stdout.readline())
            if not found:
                raise Failed(f"the emulator does not start: {(self.folder / 'service.log').read_text()[-300:]}")
            yield found[0]
        finally:
            process.terminate()
            process.wait()

    def throttled(self, url: str) -> int:
        """How many requests a service that keeps a rate has refused for it."""
        with urlopen(url.replace("/api/v1", "/_emulator/info")) as answer:
            return int(json.load(answer)["throttled"])

    def project(self, form: Form, count: int) -> Project:
        """Of about so many resources, applied; made once."""
        key = (form.name, count)
        if key not in self.made:
            self.made[key] = _made(self, form, count)
        return self.made[key]

    def forget(self, project: Project) -> None:
        """Free the disk of what is not needed any more."""
        shutil.rmtree(project.folder.parent, ignore_errors=True)
        self.made = {key: one for key, one in self.made.items() if one is not project}


@dataclass
class Project:
    """Manifests with their record in `folder`, the service's data in `data`."""

    bench: Bench
    folder: Path
    data: Path
    form: Form
    count: int

    def plan(self, url: str, *, cold: bool, options: Sequence[str] = ("--detailed-exitcode",)) -> Cost:
        """Raises Failed where it is not empty. Cold: with nothing remembered of the files."""
        if cold:
            shutil.rmtree(self.folder / CACHE, ignore_errors=True)
        return self.bench.run(self.bench.ours, "plan", "--endpoint", url, *options, folder=self.folder)

    def apply(self, url: str, options: Sequence[str] = (), exits: Sequence[int] = (0,)) -> Cost:
        line = ("apply", "--auto-approve", "--allow", "quota=yes", "--endpoint", url, *options)
        return self.bench.run(self.bench.ours, *line, folder=self.folder, exits=exits)

    @property
    def state_bytes(self) -> int:
        return (self.folder / ".reconciler/state.db").stat().st_size


def unapplied(bench: Bench, form: Form, count: int, name: str) -> Project:
    """Manifests alone, in a fresh folder, and a service that holds nothing."""
    folder = bench.folder / name / "project"
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    return Project(bench, folder, folder.parent / "service", form, write_manifests(folder, form, count))


def _made(bench: Bench, form: Form, count: int) -> Project:
    pattern = bench.folder / "patterns" / form.name
    if not pattern.exists():
        one = unapplied(bench, form, len(form.once) + form.size, f"patterns/{form.name}")
        try:
            with bench.service(one.data, FAST) as url:
                one.apply(url)
        except Failed:
            shutil.rmtree(pattern)
            raise
    place = bench.folder / f"{form.name} {count}"
    shutil.copytree(pattern, place)
    project = Project(bench, place / "project", place / "service", form, count)
    project.count = write_manifests(project.folder, form, count)
    if (units := form.units(count)) > 1:
        seed = (sys.executable, "-m", "tests.bench.seed", project.folder, project.data, str(units))
        bench.run(*seed, folder=REPOSITORY)
    with bench.service(project.data) as url:
        said = project.plan(url, cold=True).said
    if f"no changes: {project.count:,} object" not in said:
        raise Failed(f"a plan of {count} seeded resources ({form.name}) is not empty: {said[-600:]}")
    return project


@dataclass
class Terraform:
    """The same resources in a folder of Terraform's."""

    bench: Bench
    folder: Path

    def run(self, *words: str, exits: Sequence[int] = (0,)) -> Cost:
        return self.bench.run("terraform", *words, "-no-color", folder=self.folder, exits=exits)

    def plan(self, *words: str) -> Cost:
        """Raises Failed where it is not empty."""
        return self.run("plan", "-input=false", "-detailed-exitcode", *words)

    def apply(self) -> Cost:
        return self.run("apply", "-input=false", "-auto-approve")

    @property
    def state_bytes(self) -> int:
        return (self.folder / "terraform.tfstate").stat().st_size


def terraform(bench: Bench, form: Form, count: int, *, applied: bool) -> Terraform:
    """Initialised; its state made from what an apply of one unit leaves there, since an apply of all takes hours."""
    folder = bench.folder / f"terraform {form.name} {count} {'applied' if applied else 'new'}"
    made = Terraform(bench, folder)
    if (folder / "main.tf").exists():
        return made
    write_terraform(folder, form, len(form.once) + form.size if applied else count)
    made.run("init", "-input=false")
    if applied:
        made.apply()
        write_terraform(folder, form, count)
        path = folder / "terraform.tfstate"
        path.write_text(multiplied(path.read_text(encoding="utf-8"), form.units(count)), encoding="utf-8")
        made.plan()
    return made


def multiplied(text: str, units: int) -> str:
    """A state of Terraform's with every resource of unit 0 also in all others, under names and ids of their own."""
    state = json.loads(text)
    unit = [json.dumps(one) for one in state["resources"] if re.search(r"[djph]000000", one["name"])]
    ids = re.compile("|".join(json.loads(one)["instances"][0]["attributes"]["id"] for one in unit))
    state["resources"] += [
        json.loads(
            re.sub(
                r"\b([djphg])000000(?!\d)",
                rf"\g<1>{number:06}",
                ids.sub(lambda found, number=number: f"{number:08x}{found[0][8:]}", one),  # type: ignore[misc]
            )
        )
        for number in range(1, units)
        for one in unit
    ]
    return json.dumps(state, indent=2)
