"""The folders a newcomer copies: each is planned, applied, planned again and destroyed, as it lies there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reconciler.kinds.stack import Stack
from reconciler.project import load
from tests.desk import Desk, emulator, lines

SAMPLES = Path(__file__).parent.parent / "manifests"
STACKS = sorted(path.parent.name for path in SAMPLES.glob("*/stack.yaml"))


def test_there_is_a_sample_for_each_profile() -> None:
    specs = [project.stack.spec for name in STACKS if (project := load([str(SAMPLES / name)])).stack]
    assert {spec.profile for spec in specs if isinstance(spec, Stack)} == {"2026", "dec-2024"}


@pytest.mark.parametrize("name", STACKS)
def test_a_sample_is_planned_applied_and_destroyed(name: str, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / name, tmp_path / "project", ignore=shutil.ignore_patterns(".reconciler"))
    project = load([str(tmp_path / "project")])
    assert project.warnings == (), "a sample teaches no bad habit"
    with emulator(tmp_path / "service", profile=project.profile.profile) as service:
        desk = Desk(tmp_path / "project", service)
        applied = desk.apply(unattended=True)
        assert [(p.operation.id, p.detail) for p in applied.progress if p.code] == []
        assert lines(desk.plan()) == []
        assert all(entry["price_cny"] != 0 for entry in service.ledger() if entry["operation"] == "jobs.create")
        desk.apply(destroy=True)
        assert lines(desk.plan(destroy=True)) == []
