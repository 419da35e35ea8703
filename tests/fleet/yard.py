"""Several controllers as real processes, one database, one service: what a fleet is made of, and what may befall it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import yaml

from reconciler.conditions import Report, Sync, from_data
from reconciler.state import IntentPhase, intent_from, owned_from
from reconciler.store.fleet import unpacked
from reconciler.store.postgres import PostgresFleet
from tests.crash import invariants
from tests.crash.far import KEY
from tests.crash.invariants import Kept
from tests.crash.lab import Run, World
from tests.crash.scenes import HYPER, Scene, teach
from tests.desk import WIRE, Emulator, document
from tests.store.wire import connected, listening

ROOT = Path(__file__).parents[2]
NAME = "yard"
INTERVAL_S, CLAIM_S, LEASE_S = 1, 2.0, 3.0
TABLES_MAX, JOBS_MAX = 8, 16  # an account may have ten and twenty; the stacks after that have data only
SHORT = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from reconciler import store
from reconciler.adapters import running
from reconciler.store import postgres
store.TERM_S, store.BEAT_S = {LEASE_S}, {LEASE_S / 4}
postgres.PostgresFleet.__init__.__kwdefaults__["term_s"] = {CLAIM_S}
pace = running.Pace
running.Pace = lambda quiet_s, busy_s: pace(quiet_s, min(0.3, busy_s), 0.3, max(1.0, quiet_s))
from reconciler.adapters.cli import main
main()
"""
"""The program, with terms that a test can wait for."""


class Row(NamedTuple):
    """A line of the fleet's table: who looks at a stack, and how often anybody did."""

    name: str
    holder: str
    epoch: int


@dataclass
class Worker:
    """One controller; `said` is what it wrote so far."""

    process: subprocess.Popen[bytes]
    paper: Path
    gate: Gate | None = None

    @property
    def name(self) -> str:
        return f"process {self.process.pid} on "

    @property
    def said(self) -> str:
        return self.paper.read_text("utf-8", "replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


class Gate:
    """A way to the database that can be shut: whoever is connected is cut off, and nobody else gets through."""

    def __init__(self, server: Path) -> None:
        self._server, self._shut, self._live = server, False, set[Any]()

    def shut(self) -> None:
        self._shut = True
        for one in list(self._live):
            with suppress(OSError):
                one.shutdown(2)

    def open(self) -> None:
        self._shut = False

    def serve(self, client: Any) -> None:
        if self._shut:
            return
        with closing(connected(self._server)) as server:
            self._live |= {client, server}
            threading.Thread(target=self._carry, args=(server, client), daemon=True).start()
            self._carry(client, server)
            self._live -= {client, server}

    @staticmethod
    def _carry(source: Any, sink: Any) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(2)


@dataclass
class Yard:
    """A folder with stacks, their database and their service, and the controllers that are looking at them."""

    root: Path
    dsn: str
    service: Emulator
    workers: list[Worker] = field(default_factory=list)
    interval_s: int = INTERVAL_S

    # What there is ----------------------------------------------------------------------------------------------

    @property
    def stacks(self) -> Path:
        return self.root / "stacks"

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.stacks.iterdir() if path.is_dir() and not path.name.startswith("."))

    def declare(self, count: int, *, first: int = 0, **spec: Any) -> None:
        """So many stacks, each with an object of most kinds; no two have an address in common."""
        for number in range(first, first + count):
            folder = self.stacks / f"s{number:03}"
            folder.mkdir(parents=True, exist_ok=True)
            teach(folder, 20)
            text = yaml.safe_dump_all(documents(number, **spec), allow_unicode=True, sort_keys=False)
            (folder / "stack.yaml").write_text(text, "utf-8")

    @property
    def world(self) -> World:
        """The service as the invariants ask about it, and everything that the controllers said."""
        world = World(self.root, None, self.service, 0)  # type: ignore[arg-type]
        for worker in self.workers:
            world.runs.append(Run(("controller", "run"), 0, worker.said, "", (), worker.paper, 0, range(0)))
        return world

    # Controllers ------------------------------------------------------------------------------------------------

    def start(self, count: int = 1, *, gate: tuple[Gate, Path] | None = None, workers: int = 2) -> list[Worker]:
        dsn = f"{self.dsn} host={gate[1]}" if gate else self.dsn
        return [self._started(dsn, gate[0] if gate else None, workers) for _ in range(count)]

    def _started(self, dsn: str, gate: Gate | None, workers: int) -> Worker:
        paper = self.root / "paper" / str(len(self.workers))
        paper.parent.mkdir(exist_ok=True)
        told = ("--fleet", NAME, "--interval", f"{self.interval_s}s", "--workers", str(workers))
        where = ("controller", "run", str(self.stacks), "--stacks", "s*", "--endpoint", self.service.origin)
        with paper.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", SHORT, *where, *told],
                cwd=self.root,
                env=self._env(dsn),
                stdout=file,
                stderr=file,
            )
        self.workers.append(Worker(process, paper, gate))
        return self.workers[-1]

    @staticmethod
    def _env(dsn: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DASHSCOPE", "RECONCILER"))}
        return {**kept, "PYTHONPATH": str(ROOT), "RECONCILER_STATE_DSN": dsn, "DASHSCOPE_API_KEY": KEY}

    def end(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    # What is known ----------------------------------------------------------------------------------------------

    def ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn) as db:
            return db.execute(statement.encode()).fetchall()

    def rows(self) -> dict[str, Row]:
        return {
            row[0]: Row(*row)
            for row in self.ask(f"select name, holder, epoch from reconciler.fleet where scope = '{NAME}'")
        }

    def reports(self) -> dict[str, Report]:
        found = PostgresFleet(self.dsn, "a watcher", scope=NAME).reports()
        return {name: from_data(data) for name, text in found.items() if (data := unpacked(text)) is not None}

    def until(self, true: Callable[[], object]) -> None:
        """However long it takes: pytest's own limit ends what never comes true."""
        pause = threading.Event()
        try:
            while not true():
                pause.wait(0.05)
        except BaseException:
            print(self.rows(), *self.reports().values(), *self.kept(), sep="\n")  # pytest shows it
            raise

    def settled(self) -> bool:
        """Every stack is as declared, as far as its last look tells."""
        reports = self.reports()
        done = [one for one in reports.values() if one.sync is Sync.SYNCED and one.health.value == "Ready"]
        return len(done) == len(self.names)

    def settle(self) -> None:
        """Until everything is as declared; meanwhile somebody decides what only a person can."""
        self.until(lambda: self.settled() or self.decide())

    def decide(self) -> bool:
        """Looks at the console for each creation of which the service leaves no way to know; never settles anything."""
        for kept in self.kept():
            for intent in kept.open:
                if intent.phase is IntentPhase.NEEDS_HUMAN:
                    made = (e["id"] for e in self.service.ledger() if intent.tag and intent.tag in json.dumps(e))
                    found = next(made, "")
                    said = ("--adopt", found) if found else ("--absent", "--reason", "it is not in the console")
                    self.command(kept.stamp["stack"], "ops", "resolve", intent.op_id, *said)
        return False

    def command(self, stack: str, *arguments: str) -> None:
        """What a person runs beside the controllers; one that comes while a stack is looked at tries again later."""
        argv = [sys.executable, "-m", "reconciler", *arguments, "--endpoint", self.service.origin]
        subprocess.run(argv, cwd=self.stacks / stack, env=self._env(self.dsn), check=False, capture_output=True)

    def look_at_all(self, times: int = 1) -> None:
        """Until every stack was looked at again, so often, by whoever."""
        before = self.rows()
        self.until(lambda: all(row.epoch >= before[row.name].epoch + times for row in self.rows().values()))

    def held_by(self, worker: Worker) -> list[str]:
        return [row.name for row in self.rows().values() if row.holder.startswith(worker.name)]

    def bought(self, operation: str) -> int:
        return self.service.operations().count(operation)

    # What must hold ---------------------------------------------------------------------------------------------

    def kept(self) -> list[Kept]:
        """What is recorded, a stack at a time."""
        found: list[Kept] = []
        if self.ask("select to_regclass('reconciler.states')") == [(None,)]:
            return found
        for name, stamp in self.ask("select name, stamp from reconciler.states order by name"):
            rows = self.ask(f"select kind, body from reconciler.records where state = '{name}' order by key")
            owned = tuple(owned_from(body) for kind, body in rows if kind == "owned")
            intents = tuple(intent_from(body) for kind, body in rows if kind == "intent")
            found.append(Kept(owned, intents, json.loads(stamp)))
        return found

    def broken(self, scaled: int = 0) -> list[str]:
        """Every invariant of `tests/crash` that does not hold of the stacks together, in words.

        `scaled` is how often somebody declared another capacity.
        """
        each, world = self.kept(), self.world
        every = Kept(
            tuple(row for one in each for row in one.owned), tuple(row for one in each for row in one.intents), {}
        )
        entries, log, count = self.service.ledger(), world.log(), min(JOBS_MAX, len(self.names))
        buys = Counter({"jobs.create": count, "deployments.create": count, "deployments.scale": scaled})
        scene = Scene(NAME, self.root, (), (), 0, buys, 0, frozenset())
        return [
            *invariants.bought_once(every, entries),
            *(line for one in each for line in invariants.tagged(one)),
            *invariants.nothing_lost(world, every, scene),
            *invariants.intent_first(log),
            *invariants.as_recorded(world, every),
            *invariants.ours_alone(log),
            *invariants.said(world),
            *invariants.secrets(world),
            *invariants.as_planned(entries, buys),
            *invariants.patience([entry for entry in log if entry["writes"]]),  # reads of many stacks look alike
        ]

    def at_rest(self) -> list[str]:
        """I12: once everything is as declared, looking at it sends only reads and writes no state."""
        kept = "select xmin::text, name from reconciler.states order by name"
        self.look_at_all()
        before, sent = self.ask(kept), len(self.world.log())
        self.look_at_all(2)
        broken = [f"I12: {e['method']} {e['path']} while at rest" for e in self.world.log()[sent:] if e["writes"]]
        return broken + (["I12: a look at rest wrote the state"] if self.ask(kept) != before else [])


def documents(number: int, *, capacity: int = 4, weight: int = 4, paid: str = "Auto") -> list[dict[str, Any]]:
    n = f"{number:03}"
    stack = {
        "endpoint": "emulator",
        "profile": "2026",
        "state": {"backend": "postgres"},
        "controller": {"paid": paid},
    }
    job = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": [f"d{n}"], "hyperParameters": HYPER}
    serve = {"model": {"fineTuneJob": f"j{n}"}, "plan": "mu", "deploySpec": "MU1", "capacity": capacity}
    words = {"targetModel": "paraformer-v2", "words": [{"text": "热词", "weight": weight}]}
    spoken = [document("HotwordTable", f"w{n}", words)] if number < TABLES_MAX else []
    paid_for = [document("FineTuneJob", f"j{n}", job), document("Deployment", f"p{n}", serve)]
    return [
        document("Stack", f"s{n}", stack),
        document("Dataset", f"d{n}", {"source": "data/d.jsonl", "format": "sft"}),
        *(paid_for if number < JOBS_MAX else []),
        *spoken,
    ]


@contextmanager
def yard(root: Path, dsn: str, *, speed: float = 20_000) -> Iterator[Yard]:
    """An emulator for the database of this name, whose time runs fast; no stack and no controller yet."""
    command = [sys.executable, "-m", "tests.fleet.far", str(root / "service"), dsn, str(speed)]
    (root / "stacks").mkdir(parents=True)
    far = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert far.stdout is not None
    said = json.loads(far.stdout.readline())
    made = Yard(root, dsn, Emulator(said["origin"], said["token"]))
    try:
        yield made
    finally:
        made.end()
        far.terminate()
        far.wait()


@contextmanager
def gated(folder: Path, server: Path) -> Iterator[tuple[Gate, Path]]:
    """A gate before a server, and the folder with its door."""
    gate = Gate(server)
    with listening(folder, gate.serve):
        yield gate, folder


def quiet(service: Emulator) -> None:
    """Whatever a dead process had sent has arrived."""
    WIRE.get(f"{service.origin}/_crash/quiet").raise_for_status()
