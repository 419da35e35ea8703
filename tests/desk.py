"""A user at a desk: a project folder, an emulator on the wire, and the engine's verbs. Time is a number."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from threading import Lock
from typing import Any

import httpx
import yaml

from reconciler import engine, saved
from reconciler.api import Key
from reconciler.apply import Progress, Terms
from reconciler.approvals import Leash, Mode
from reconciler.emulator.server import control_token, serve
from reconciler.engine import Applied, Session, Snapshot
from reconciler.plan import Choices, Plan
from reconciler.project import Project, load
from reconciler.resource import API_VERSION
from reconciler.saved import Saved
from reconciler.state import State

KEY = "sk-test"


@dataclass
class Clock:
    """Seconds that pass only when somebody sleeps; the emulator's time passes with them."""

    emulator: Emulator
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.emulator.wait(seconds)


class Hand:
    """The clock that an emulator's time runs by where a test moves it."""

    def __init__(self) -> None:
        self._now_s, self._lock = 0.0, Lock()

    def __call__(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now_s += seconds


WIRE = httpx.Client(trust_env=False, verify=False)


@dataclass(frozen=True)
class Emulator:
    """The far side of the wire."""

    origin: str
    token: str
    hand: Hand | None = None

    def wait(self, seconds: float) -> None:
        """Time passes there: by hand where that goes, as a request for each pause costs more than what it waits for."""
        if self.hand:
            self.hand.advance(seconds)
        else:
            self.control("clock", {"advance_s": seconds})

    def control(self, what: str, body: Mapping[str, Any]) -> None:
        headers = {"X-Emulator-Control": self.token}
        WIRE.post(f"{self.origin}/_emulator/{what}", json=dict(body), headers=headers).raise_for_status()

    def ledger(self) -> list[dict[str, Any]]:
        """What the service committed, oldest first."""
        return list(WIRE.get(f"{self.origin}/_emulator/ledger").raise_for_status().json()["entries"])

    def operations(self) -> list[str]:
        return [entry["operation"] for entry in self.ledger()]

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request as somebody else would send it, behind the tool's back."""
        headers = {"Authorization": f"Bearer {KEY}"}
        response = WIRE.request(method, f"{self.origin}/api/v1{path}", json=body, headers=headers)
        return dict(response.raise_for_status().json())


def multiply(data: Path, collection: str, count: int) -> None:
    """So many objects in an emulator's folder instead of the first that is there, each like it and with its own id."""
    with closing(sqlite3.connect(data / "emulator.db", timeout=60)) as db, db:
        one = "SELECT id, body FROM object WHERE collection = ? ORDER BY seq LIMIT 1"
        id, body = db.execute(one, (collection,)).fetchone()
        ids = [f"{id}{number}" for number in range(1, count)]
        rows = [(collection, other, body.replace(id, other)) for other in ids]
        db.executemany("INSERT INTO object (collection, id, body) VALUES (?, ?, ?)", rows)


@contextmanager
def emulator(data: Path, **options: Any) -> Iterator[Emulator]:
    """An emulator whose clock moves only when a test says so, unless it is given a speed."""
    if "speed" in options:
        with serve(data, **options) as origin:
            yield Emulator(origin, control_token(data))
    else:
        hand = Hand()
        with serve(data, speed=1.0, monotonic=hand, **options) as origin:
            yield Emulator(origin, control_token(data), hand)


@dataclass
class Desk:
    """One project folder and the commands its user gives."""

    root: Path
    emulator: Emulator
    clock: Clock = field(init=False)
    told: list[Progress] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock(self.emulator)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")

    def declare(
        self, *documents: Mapping[str, Any], profile: str = "2026", stack: Mapping[str, Any] | None = None
    ) -> None:
        """One manifest with a Stack and these documents, in this order."""
        spec = {"endpoint": "emulator", "profile": profile, **(stack or {})}
        everything = [document("Stack", "desk", spec), *documents]
        self.write("stack.yaml", yaml.safe_dump_all(everything, allow_unicode=True, sort_keys=False))

    def rows(self, name: str, texts: Sequence[str], kind: str = "sft") -> None:
        """A file of training rows, one for each text."""
        shapes = {"sft": sft, "dpo": dpo, "cpt": lambda text: {"text": text}}
        self.write(name, "".join(json.dumps(shapes[kind](text), ensure_ascii=False) + "\n" for text in texts))

    def project(self) -> Project:
        return load([str(self.root)])

    @contextmanager
    def session(self) -> Iterator[Session]:
        """`sent` is the operation of every request that left since."""
        with engine.session(self.project(), self.emulator.origin, Key(KEY), called=self._called) as opened:
            yield opened

    def _called(self, operation: str, outcome: str) -> None:
        self.sent.append(operation)

    def state(self) -> State:
        """What is recorded, read as another command would."""
        with self.session() as opened:
            return opened.store.load()

    def plan(self, **choices: Any) -> Plan:
        return self.snapshot(**choices).plan

    def snapshot(self, **choices: Any) -> Snapshot:
        with self.session() as opened:
            return engine.plan(opened, Choices(**choices))

    def save(self, **choices: Any) -> Saved:
        """A saved plan, as it is read back from its file."""
        wanted = Choices(unattended=True, **choices)
        with self.session() as opened:
            made = engine.save(opened, engine.plan(opened, wanted), wanted, made_from=(".",))
        return saved.read("plan.json", saved.text(made).encode())

    def apply(
        self,
        terms: Terms | None = None,
        *,
        stopped: Callable[[], bool] = lambda: False,
        plan: Saved | None = None,
        if_equal: bool = False,
        now: Callable[[], datetime] = engine.today,
        cancel: str = "",
        approve: Callable[[Snapshot], bool] = lambda snapshot: True,
        **choices: Any,
    ) -> Applied:
        with self.session() as opened:
            return engine.apply(
                opened,
                Choices(**choices),
                terms or Terms(),
                approve=approve,
                report=self.told.append,
                stopped=stopped,
                clock=self.clock,
                sleep=self.clock.sleep,
                now=now,
                saved=plan,
                if_equal=if_equal,
                cancel=cancel,
            )

    def look(self, mode: Mode = Mode.APPLY, *, paid_too: bool = False, revision: str = "") -> Applied:
        """One pass of a loop."""
        with self.session() as opened:
            leash = Leash(mode, paid_too, revision)
            return engine.reconcile(opened, leash, report=self.told.append, clock=self.clock, sleep=self.clock.sleep)


def document(kind: str, name: str, spec: Mapping[str, Any], **lifecycle: Any) -> dict[str, Any]:
    """A manifest document as plain data."""
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}
    return body | ({"lifecycle": lifecycle} if lifecycle else {})


DATASET = document("Dataset", "d", {"source": "d.jsonl", "format": "sft"})
JOB = document(
    "FineTuneJob",
    "j",
    {
        "model": "qwen3-8b",
        "trainingType": "efficient_sft",
        "training": ["d"],
        "hyperParameters": {"n_epochs": 1, "batch_size": 8, "max_length": 2048},
    },
)
"""The least that a paid run needs: rows, and a job that learns from them."""
WORDS = document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": [{"text": "热词", "weight": 4}]})


def sft(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"About {text}."}]}


def dpo(text: str) -> dict[str, Any]:
    answer = {"role": "assistant", "content": f"About {text}."}
    other = {"role": "assistant", "content": f"Nothing about {text}."}
    return {"messages": [{"role": "user", "content": text}], "chosen": answer, "rejected": other}


def texts(count: int, start: int = 0) -> list[str]:
    return [f"question {number}" for number in range(start, start + count)]


def lines(plan: Plan) -> list[str]:
    """A plan as short lines, for comparison: glyph, verb and slot."""
    return [f"{op.action} {op.verb} {op.slot}" for op in plan.operations]
