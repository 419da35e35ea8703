"""The parent's side of the trials: a zygote, worlds that can be copied, and runs of the command line in them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.far import KEY, recorded
from tests.crash.points import BROKEN, KILLED
from tests.desk import WIRE, Emulator

SENTENCE = "the canary sings before the lamps are lit"
REPOSITORY = Path(__file__).parent.parent.parent
DULL = ("waiting for", "retires on")  # nobody who looks for a mistake wants to read that
TERM_S = 61.0  # a second longer than a lease lives without a sign


@dataclass(frozen=True)
class Aim:
    """What is to happen at which point of a run; by itself, nothing but a list of all points."""

    mode: str = "record"
    at: str = ""
    trace: str = ""
    """What a tracer does to system calls, without the program's or Python's help, in the words of `strace`."""


LEFT_ALONE = Aim()


@dataclass(frozen=True)
class Run:
    """How one run of the command line ended. `code` is None while it is stopped."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str
    points: tuple[str, ...]
    paper: Path
    pid: int
    requests: range

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def killed(self) -> bool:
        return self.code == KILLED

    def __str__(self) -> str:
        said = "\n".join(line for line in self.text.splitlines() if not any(dull in line for dull in DULL))
        struck = f", struck at {self.points[0]!r}" if len(self.points) == 1 else ""
        return f"$ reconciler {' '.join(self.argv)} -> {self.code}{struck}\n{said}"


class Zygote:
    """The process that forks; orders go to it one at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.crash.zygote"]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        self._lock = threading.Lock()

    def ask(self, **order: Any) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


@dataclass
class World:
    """A folder with a project and the data of its emulator, which serves while the world is open."""

    root: Path
    zygote: Zygote
    service: Emulator
    pid: int
    runs: list[Run] = field(default_factory=list)
    patch: str = ""
    requests: int = 0
    foreign: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def state(self) -> Path:
        return self.project / ".reconciler" / "state.db"

    def run(self, *argv: str, aim: Aim = LEFT_ALONE) -> Run:
        """One command, from fork to end; or until it is stopped, which `go_on` ends."""
        paper = self.root / "paper" / f"{next(self._numbers):03}"
        paper.mkdir(parents=True)
        answer = self.zygote.ask(
            do="near",
            folder=str(self.project),
            paper=str(paper),
            argv=[*argv, "--endpoint", self.service.origin],
            env={"DASHSCOPE_API_KEY": KEY, "COLUMNS": "120", "NO_COLOR": "1"},
            mode=aim.mode,
            at=aim.at,
            trace=aim.trace,
            patch=self.patch,
        )
        return self._read(argv, paper, answer)

    def go_on(self, stopped: Run, *, after_s: float = 0.0) -> Run:
        """A stopped run to its end; `after_s` pass before it notices anything."""
        answer = self.zygote.ask(do="go on", pid=stopped.pid, after_s=after_s)
        self.runs.remove(stopped)
        return self._read(stopped.argv, stopped.paper, answer)

    def _read(self, argv: tuple[str, ...], paper: Path, answer: dict[str, Any]) -> Run:
        seen = (paper / "points").read_text().splitlines()
        before, self.requests = self.requests, self.quiet()
        run = Run(
            argv=argv,
            code=answer["code"],
            out=(paper / "out").read_text("utf-8", "replace"),
            err=(paper / "err").read_text("utf-8", "replace"),
            points=tuple(json.loads(seen[0])) if seen else (),
            paper=paper,
            pid=answer["pid"],
            requests=range(before, self.requests),
        )
        assert run.code != BROKEN, f"the trial itself is wrong\n{run}"
        self.runs.append(run)
        return run

    def quiet(self) -> int:
        """Whatever a dead run had sent has arrived: what happens later is not its doing. How many requests did."""
        return int(WIRE.get(f"{self.service.origin}/_crash/quiet").raise_for_status().json()["requests"])

    def log(self) -> list[dict[str, Any]]:
        """Every request of the API that arrived as a whole, with what was recorded when a write did."""
        return list(WIRE.get(f"{self.service.origin}/_crash/log").raise_for_status().json())

    def faults(self, *rules: dict[str, Any]) -> None:
        self.service.control("faults", {"faults": list(rules)})

    def owned(self) -> set[str]:
        """The keys of what the state file says is ours."""
        return set(recorded(self.state)["owned"])

    def live(self, collection: str) -> dict[str, dict[str, Any]]:
        """Every object of a collection that the service shows to a bystander, by id."""
        read = _LISTS[collection]
        answer = (
            self.service.call("POST", read.path, _hotwords("list"))
            if read.posts
            else self.service.call("GET", read.path)
        )
        envelope = answer.get("data") or answer["output"]
        return {item[read.id]: item for item in envelope[read.members]}

    def fields(self, collection: str, id: str, shown: dict[str, Any]) -> dict[str, Any]:
        """What the service holds of an object, in the words of a manifest, as far as it says."""
        match collection:
            case "files":
                return {"source": f"{shown['md5']}-{shown['size']}"}
            case "deployments":
                return {"capacity": shown["capacity"], "model": shown["model_name"], "plan": shown["plan"]}
            case "vocabularies":
                answer = self.service.call("POST", _LISTS[collection].path, _hotwords("query", vocabulary_id=id))
                words = answer["output"]["vocabulary"]
                return {"words": {word["text"]: {"weight": word["weight"]} for word in words}}
            case _:
                return {}

    def __str__(self) -> str:
        return "\n".join(map(str, self.runs))


class _List(NamedTuple):
    """Where a collection is listed, and how its objects are named there."""

    path: str
    members: str
    id: str
    posts: bool = False


_LISTS = {
    "files": _List("/files?page_no=1&page_size=100", "files", "file_id"),
    "jobs": _List("/fine-tunes?page_no=1&page_size=100", "jobs", "job_id"),
    "deployments": _List("/deployments?page_no=1&page_size=100", "deployments", "deployed_model"),
    "phrases": _List("/fine-tunes/outputs?page_no=1&page_size=100", "finetuned_outputs", "finetuned_output"),
    "vocabularies": _List("/services/audio/asr/customization", "vocabulary_list", "vocabulary_id", posts=True),
}


def _hotwords(verb: str, **wanted: Any) -> dict[str, Any]:
    return {"model": "speech-biasing", "input": {"action": f"{verb}_vocabulary", **wanted}}


@contextmanager
def world(zygote: Zygote, root: Path, like: Path | None = None, **options: Any) -> Iterator[World]:
    """A world in an empty folder; a copy of another one if it is `like` one."""
    if like:
        shutil.copytree(like / "project", root / "project")
        shutil.copytree(like / "service", root / "service")
    else:
        (root / "project").mkdir(parents=True)
    state = root / "project" / ".reconciler" / "state.db"
    far = zygote.ask(do="far", data=str(root / "service"), state=str(state), options=options)
    try:
        yield World(root, zygote, Emulator(far["origin"], far["token"]), far["pid"])
    finally:
        zygote.ask(do="end", pid=far["pid"])
