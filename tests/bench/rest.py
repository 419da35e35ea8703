"""Goals 19 and 20: a controller that has nothing to do, and one that has something to see."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.bench.figures import Figure, Told
from tests.bench.forker import disk_written
from tests.bench.front import front
from tests.bench.measure import Failed, ratio
from tests.bench.place import Bench, Project
from tests.bench.plan import FORM
from tests.bench.shapes import CHANGED, FORMS, write_manifests

INTERVAL_S = 1
PATIENCE_S = 600.0
ACTIVE = 10
GOES_ON = 6  # what an apply exits with that did not wait to the end
JUDGED = 1_000  # looks, from which on a drift of memory would show


@dataclass
class Watched:
    """A controller that runs, and the looks it tells of."""

    process: subprocess.Popen[str]
    looks: queue.Queue[dict[str, object]] = field(default_factory=queue.Queue)

    def look(self, seen: Callable[[dict[str, object]], bool] = lambda look: True) -> dict[str, object]:
        """The next look that is so."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                look = self.looks.get(timeout=0.5)
            except queue.Empty:
                continue
            if seen(look):
                return look
        raise Failed(f"the controller tells of no such look; it ended with {self.process.poll()}")

    def skip(self, count: int) -> None:
        for _ in range(count):
            self.look()

    @property
    def cpu_s(self) -> float:
        fields = self._file("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, what: str = "VmRSS") -> float:
        found = re.search(rf"^{what}:\s+(\d+)", self._file("status"), re.M)
        return int(found[1]) / 1024 if found else 0.0

    @property
    def written(self) -> int:
        return disk_written(self.process.pid)

    def _file(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


@contextmanager
def controller(bench: Bench, project: Project, url: str) -> Iterator[Watched]:
    """One that only looks, as often as it can be told to."""
    line = (bench.ours, "controller", "run", project.folder, "--mode", "observe", "--log-format", "json")
    process = subprocess.Popen(
        [*map(str, line), "--interval", f"{INTERVAL_S}s", "--endpoint", url],
        env=bench.environment,
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    watched = Watched(process)

    def listen() -> None:
        assert process.stdout
        for line in process.stdout:
            entry = json.loads(line)
            if entry.get("event") == "look":
                watched.looks.put(entry)

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield watched
    finally:
        process.terminate()
        process.wait()


def idle(bench: Bench) -> Iterator[Told]:
    """Goal 19, and the second half of goal 12."""
    for size in [size for size in bench.sizes if size >= 1_000]:
        count = 15 if bench.quick else 1_000 if size == 1_000 and bench.largest > 10_000 else 60
        project = bench.project(FORM, size)
        with bench.service(project.data) as url:
            plan = project.plan(url, cold=True)
            path = project.folder / ".reconciler/state.db"
            with front(url) as counted, controller(bench, project, counted.url) as watched:
                watched.skip(2)
                asked = len(counted.requests)
                watched.skip(1)
                asked = len(counted.requests) - asked
            recorded = path.stat().st_mtime_ns
            with controller(bench, project, url) as watched:
                watched.skip(5)
                cpu_s, rss_mb, written = watched.cpu_s, watched.memory_mb(), watched.written
                watched.skip(count)
                cpu_s, written = (watched.cpu_s - cpu_s) / count, (watched.written - written) / count
                drift, peak = watched.memory_mb() - rss_mb, watched.memory_mb("VmHWM")
            assert path.stat().st_mtime_ns == recorded, "an idle cycle wrote to the state"
        what = "cpu of an idle cycle"
        if size == 1_000:
            yield Figure(19, what, size, cpu_s * 1000, "ms cpu", 60, runs=count)
        times = ratio([cpu_s], [plan.cpu_s])
        yield Figure(19, what, size, cpu_s, "s cpu", 0.2, "a cold no-op plan", plan.cpu_s, times, runs=count)
        times = ratio([peak], [plan.rss_mb])
        yield Figure(19, "peak memory of a controller", size, peak, "MB", 1.2, "a cold plan", plan.rss_mb, times)
        most = 2 if count >= JUDGED else None
        yield Figure(19, f"memory gained in {count:,} idle cycles", size, drift, "MB", most, runs=count)
        yield Figure(19, "requests of an idle cycle", size, asked, "")
        yield Figure(12, "bytes written by an idle cycle", size, written, "B", 0, runs=count)


def edits(bench: Bench) -> Iterator[Told]:
    """Goal 20: the moment of an edit, and requests in proportion to what is under way."""
    size = min(bench.largest, 10_000)
    project = bench.project(FORM, size)
    took: list[float] = []
    with bench.service(project.data) as url, controller(bench, project, url) as watched:
        watched.look()
        for form, sync in ((CHANGED, False), (FORM, True)) * (1 if bench.quick else 2):
            write_manifests(project.folder, form, size)
            began = time.monotonic()
            watched.look(lambda look, sync=sync: (look["sync"] == "Synced") is sync)  # type: ignore[misc]
            took.append(time.monotonic() - began)
    most = INTERVAL_S + 0.2 if size == 10_000 else None
    what = f"until an edit is planned, at an interval of {INTERVAL_S} s"
    yield Figure(20, what, size, median(took), "s", most, runs=len(took))
    yield from _active(bench)


def _active(bench: Bench) -> Iterator[Told]:
    """More requests a look, for each job that runs."""
    project = bench.project(FORMS["one hub"], 100)
    with bench.service(project.data) as url:
        rest = _asked(bench, project, url)
    write_manifests(project.folder, project.form, 100 + ACTIVE)
    with bench.service(project.data, speed=0) as url:
        project.apply(url, ("--wait", "created"), exits=(GOES_ON,))
        busy = _asked(bench, project, url)
    bench.forget(project)
    what = f"requests a look beyond the {rest} at rest, for each of {ACTIVE} jobs that run"
    yield Figure(20, what, 100 + ACTIVE, (busy - rest) / ACTIVE, "", 1)


def _asked(bench: Bench, project: Project, url: str) -> int:
    with front(url) as counted, controller(bench, project, counted.url) as watched:
        watched.skip(2)
        before = len(counted.requests)
        watched.skip(3)
        return round((len(counted.requests) - before) / 3)
