"""Small worlds, each before one command: what the command buys, changes or deletes is all that happens in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.crash.lab import SENTENCE, Aim, World, Zygote, world
from tests.desk import document, sft, texts

APPLY = ("apply", "-y", "--parallelism", "1")
HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
PAID = ("jobs.create", "deployments.create", "deployments.scale", "checkpoints.publish")


def documents(
    *, capacity: int = 4, limits: Mapping[str, int] | None = None, words: tuple[str, ...] = ("热词",), model: str = "j"
) -> list[dict[str, Any]]:
    """One of each kind, so that every way of creating, changing and deleting is walked."""
    spoken = [{"text": word, "weight": 4} for word in words]
    job = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
    serve: dict[str, Any] = {"model": {"fineTuneJob": "j"}, "plan": "mu", "deploySpec": "MU1", "capacity": capacity}
    if model != "j":
        serve["model"] = model
    if limits:
        serve["limits"] = dict(limits)
    return [
        document("Dataset", "d", {"source": "data/d.jsonl", "format": "sft"}),
        document("FineTuneJob", "j", job),
        document("Deployment", "p", serve),
        document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": spoken}),
        document("HotwordTable", "f", {"targetModel": "paraformer-v1", "words": spoken}),
    ]


def declare(project: Path, declared: list[dict[str, Any]]) -> None:
    stack = document("Stack", "desk", {"endpoint": "emulator", "profile": "2026"})
    text = yaml.safe_dump_all([stack, *declared], allow_unicode=True, sort_keys=False)
    (project / "stack.yaml").write_text(text, "utf-8")


def teach(project: Path, rows: int) -> None:
    """Training data, one row of which must never be seen anywhere else."""
    (project / "data").mkdir(exist_ok=True)
    asked = [*texts(rows - 1), SENTENCE]
    (project / "data" / "d.jsonl").write_text("".join(json.dumps(sft(text)) + "\n" for text in asked), "utf-8")


@dataclass(frozen=True)
class Scene:
    """A world that is ready for one command, kept as a folder to be copied; and what a run that is left alone does."""

    name: str
    folder: Path
    command: tuple[str, ...]
    points: tuple[str, ...]
    entries: int
    """How long the ledger was before."""
    buys: Counter[str] | None
    """The paid operations of the command; None where nobody counts them beforehand."""
    requests: int
    owned: frozenset[str]
    """What was owned before."""


def make(zygote: Zygote, yard: Path, name: str) -> Scene:
    """The scene of this name, with a recording of its command."""
    folder = yard / name
    command = SCENES[name](zygote, yard, folder)
    with world(zygote, yard / f"{name}-recorded", like=folder) as recorded:
        before = len(recorded.service.ledger())
        owned = frozenset(recorded.owned())
        run = recorded.run(*command)
        assert run.code == 0, run
        entries = recorded.service.ledger()[before:]
    bought = Counter(entry["operation"] for entry in entries if entry["operation"] in PAID)
    return Scene(name, folder, command, run.points, before, bought, len(run.requests), owned)


def _create(zygote: Zygote, yard: Path, folder: Path) -> tuple[str, ...]:
    with world(zygote, folder) as new:
        teach(new.project, 40)
        declare(new.project, documents())
    return APPLY


def _created(zygote: Zygote, yard: Path, folder: Path, change: Callable[[World], None]) -> None:
    """A world where everything was created and then something changed in the project."""
    with world(zygote, folder) as made:
        teach(made.project, 40)
        declare(made.project, documents())
        run = made.run(*APPLY)
        assert run.code == 0, run
        change(made)


def _update(zygote: Zygote, yard: Path, folder: Path) -> tuple[str, ...]:
    changed = documents(capacity=8, limits={"rpm": 10}, words=("热词", "冷词"))
    _created(zygote, yard, folder, lambda made: declare(made.project, changed))
    return APPLY


def _swap(zygote: Zygote, yard: Path, folder: Path) -> tuple[str, ...]:
    _created(zygote, yard, folder, lambda made: teach(made.project, 50))
    return (*APPLY, "--allow", "retrain=FineTuneJob/j")


def _destroy(zygote: Zygote, yard: Path, folder: Path) -> tuple[str, ...]:
    _created(zygote, yard, folder, lambda made: None)
    return ("destroy", "-y", "--parallelism", "1")


def _recovery(zygote: Zygote, yard: Path, folder: Path) -> tuple[str, ...]:
    """The run that paid for a job was killed when its request had left and no answer was read."""
    made = make(zygote, yard / "for-recovery", "create")
    at = next(p for p in made.points if "before read 1 of POST /api/v1/fine-tunes" in p and "jobs" in _about(made, p))
    with world(zygote, folder, like=made.folder) as left:
        run = left.run(*made.command, aim=Aim("kill", at))
        assert run.killed, run
        assert "jobs.create" in left.service.operations()
    return APPLY


def _about(scene: Scene, point: str) -> str:
    """Phrases go to the path of jobs, and go first."""
    same = [p for p in scene.points if p.endswith(point.partition(": ")[2])]
    return "jobs" if same and point == same[-1] else ""


SCENES: Mapping[str, Callable[[Zygote, Path, Path], tuple[str, ...]]] = {
    "create": _create,
    "update": _update,
    "swap": _swap,
    "destroy": _destroy,
    "recovery": _recovery,
}
