"""The state lost, damaged or old: what is ours is found by its marks, nothing is made twice, doubt is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import engine
from reconciler.apply import Stage, Terms
from reconciler.engine import Restored
from reconciler.errors import StalePlan, StateCorrupt, StateLocked
from reconciler.resource import Action, Slot
from reconciler.state import IntentPhase, Role
from tests.desk import Desk, document, emulator, lines, texts
from tests.test_kinds import HYPER, dataset, deployment, hotwords, job, phrases

EVERYTHING: Mapping[str, tuple[dict[str, Any], ...]] = {
    "2026": (
        dataset(),
        dataset("e", split={"validation": 0.2, "seed": 7}),
        job(),
        job("k", training=["e"], outputSuffix="mine"),
        job("again", model={"fineTuneJob": "j"}),
        deployment(),
        deployment("q", model={"fineTuneJob": "k", "checkpoint": "checkpoint-5"}),
        hotwords(),
    ),
    "dec-2024": (
        dataset(),
        job(model="qwen2.5-14b-instruct"),
        document("Deployment", "p", {"model": {"fineTuneJob": "j"}, "capacity": 2}),
        hotwords(),
    ),
}


@pytest.fixture(params=EVERYTHING)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def desk(tmp_path: Path, profile: str) -> Iterator[Desk]:
    root = tmp_path / "project"
    root.mkdir()
    with emulator(tmp_path / "service", profile=profile) as running:
        made = Desk(root, running)
        made.rows("data/d.jsonl", texts(40))
        made.rows("data/e.jsonl", texts(40, start=100))
        yield made


def restore(desk: Desk) -> Restored:
    with desk.session() as opened:
        return engine.restore(opened, approve=lambda proposed: True)


def lose(desk: Desk) -> None:
    shutil.rmtree(desk.root / ".reconciler")


def test_everything_marked_is_found_again_and_nothing_is_bought(desk: Desk, profile: str) -> None:
    """Every kind of both profiles: apply, lose the file, rebuild: the next plan is empty and the bill the same."""
    desk.declare(*EVERYTHING[profile], profile=profile)
    desk.apply()
    before, bought = desk.state(), desk.emulator.ledger()
    assert lines(desk.plan()) == []
    lose(desk)
    restored = restore(desk)
    assert restored.rebuilt.undecided == ()
    assert restored.rebuilt.missing == ()
    assert restored.rebuilt.strays == ()
    assert lines(desk.plan()) == []
    after = desk.state()
    assert {row.key: (row.slot, row.role, row.uses, row.last_applied) for row in after.owned.values()} == {
        row.key: (row.slot, row.role, row.uses, row.last_applied) for row in before.owned.values()
    }
    desk.apply()
    assert desk.emulator.ledger() == bought
