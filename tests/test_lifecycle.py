"""What an author says about an object beyond its fields, carried out on the wire; the plans are in `tests/cases`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler import engine, surgery
from reconciler.apply import Stage
from reconciler.errors import UsageError
from reconciler.selection import Selectors
from reconciler.state import Role
from tests.desk import Desk, document, emulator, lines, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
DATASET = document("Dataset", "d", {"source": "d.jsonl", "format": "sft"})
PLAIN = {"plan": "mu", "deploySpec": "MU1", "capacity": 4}


def job(epochs: int = 1, **lifecycle: Any) -> dict[str, Any]:
    hyper = {**HYPER, "n_epochs": epochs}
    spec = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": hyper}
    return document("FineTuneJob", "j", {**spec, "retrain": "Auto"}, **lifecycle)


def removed(*addresses: str, **lifecycle: Any) -> dict[str, Any]:
    return document("Removed", "gone", {"addresses": list(addresses)}, **lifecycle)


def deployment(name: str, model: str = "qwen3-8b", **spec: Any) -> dict[str, Any]:
    return document("Deployment", name, {"model": model, **PLAIN, **spec})


def runs(desk: Desk) -> list[str]:
    """The jobs the service still has, by the number of their epochs."""
    found = desk.emulator.call("GET", "/fine-tunes")["output"]["jobs"]
    return sorted(str(one["hyper_parameters"]["n_epochs"]) for one in found)


@pytest.fixture
def thrice(desk: Desk) -> Desk:
    return run_three_times(desk)


def run_three_times(desk: Desk) -> Desk:
    """A job that was run with one epoch, with two and with three."""
    desk.rows("d.jsonl", texts(20))
    for epochs in (1, 2, 3):
        desk.declare(DATASET, job(epochs))
        desk.apply()
    return desk


def test_old_runs_go_and_what_is_kept_stays(thrice: Desk) -> None:
    thrice.declare(DATASET, job(3, keepLast=1))
    assert lines(thrice.plan()) == ["- delete FineTuneJob/j"]
    thrice.apply()
    assert runs(thrice) == ["2", "3"]
    assert lines(thrice.plan()) == []
    assert len([row for row in thrice.state().owned.values() if row.role is Role.RETIRED]) == 1


def test_a_run_that_another_teams_deployment_serves_is_kept(thrice: Desk) -> None:
    first = next(one for one in thrice.emulator.call("GET", "/fine-tunes")["output"]["jobs"]
                 if one["hyper_parameters"]["n_epochs"] == 1)  # fmt: skip
    wire = {"model_name": first["finetuned_output"], "plan": "mu", "deploy_spec": "MU1", "capacity": 4, "name": "x"}
    thrice.emulator.call("POST", "/deployments", {**wire, "suffix": "theirs"})
    thrice.declare(DATASET, job(3, keepLast=0))
    thrice.apply()
    assert runs(thrice) == ["1", "3"]


def test_an_account_that_keeps_finished_runs_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service", switches={"jobs.delete_refused_when": "terminal"}) as service:
        desk = run_three_times(Desk(tmp_path / "project", service))
        desk.declare(DATASET, job(3, keepLast=0))
        stages = {one.operation.id: (one.stage, one.detail) for one in desk.apply().progress}
        kept = (Stage.DONE, "the service keeps the record; it is no longer ours")
        assert list(stages.values()) == [kept, kept]
        assert runs(desk) == ["1", "2", "3"]
        assert lines(desk.plan()) == [], "what is no longer ours is not tried again"


def test_a_tombstone_deletes_what_it_names_and_nothing_else(desk: Desk) -> None:
    desk.declare(deployment("p"), deployment("q"))
    desk.apply()
    desk.declare(removed("Deployment/p"))
    assert lines(desk.plan()) == ["- delete Deployment/p"]
    desk.apply()
    assert desk.emulator.operations().count("deployments.delete") == 1
    assert [str(row.slot) for row in desk.state().owned.values()] == ["Deployment/q"]
    assert lines(desk.plan()) == [], "a tombstone of what is gone is no change"


def test_an_ignored_capacity_is_bought_as_declared_and_then_left_to_others(desk: Desk) -> None:
    """Others scale it; neither its limits nor its model being changed brings the author's number back."""
    ignoring = {"ignore": ["capacity"]}
    desk.declare(document("Deployment", "p", {"model": "qwen3-8b", **PLAIN}, **ignoring))
    desk.apply()
    (row,) = desk.state().owned.values()
    desk.emulator.call("PUT", f"/deployments/{row.id}/scale", {"capacity": 8})
    desk.clock.sleep(3600)
    assert lines(desk.plan()) == []
    desk.declare(document("Deployment", "p", {"model": "qwen3-8b", **PLAIN, "limits": {"rpm": 60}}, **ignoring))
    desk.apply()
    desk.declare(document("Deployment", "p", {"model": "qwen3-32b", **PLAIN}, **ignoring))
    desk.apply()
    (one,) = desk.emulator.call("GET", "/deployments")["output"]["deployments"]
    assert (one["model_name"], one["capacity"]) == ("qwen3-32b", 8)


def test_only_the_target_and_what_it_needs_is_made(desk: Desk) -> None:
    desk.rows("d.jsonl", texts(20))
    desk.declare(DATASET, job(), deployment("p"))
    desk.apply(selectors=Selectors(targets=("FineTuneJob/j",)))
    assert sorted(desk.emulator.operations()) == ["files.create", "jobs.create"]
    assert lines(desk.plan()) == ["+ create Deployment/p"]


def test_a_saved_plan_of_a_part_does_that_part(desk: Desk) -> None:
    desk.declare(deployment("p"), deployment("q"))
    saved = desk.save(selectors=Selectors(targets=("Deployment/q",)))
    assert saved.plan.selection is not None
    desk.apply(plan=saved)
    assert lines(desk.plan()) == ["+ create Deployment/p"]


def test_destroying_a_part_takes_its_users_along(desk: Desk) -> None:
    desk.rows("d.jsonl", texts(20))
    desk.declare(DATASET, job(), document("Deployment", "p", {"model": {"fineTuneJob": "j"}, **PLAIN}), deployment("q"))
    desk.apply()
    desk.apply(destroy=True, selectors=Selectors(targets=("FineTuneJob/j",)))
    assert {str(row.slot) for row in desk.state().owned.values()} == {"Dataset/d:d.jsonl", "Deployment/q"}


def test_a_target_that_nobody_declares_stops_before_anything_is_done(desk: Desk) -> None:
    desk.declare(deployment("p"))
    with pytest.raises(UsageError, match="Deployment/x"):
        desk.apply(selectors=Selectors(targets=("Deployment/x",)))
    assert desk.emulator.ledger() == []


def test_what_is_paused_is_neither_changed_nor_destroyed_and_the_rest_is(desk: Desk) -> None:
    desk.declare(deployment("p"), deployment("q"))
    desk.apply()
    with desk.session() as opened:
        engine.operate(opened, lambda state, deed: surgery.pause(state, ("Deployment/p",), deed), reason="a demo")
    desk.declare(deployment("p", capacity=8), deployment("q", capacity=8))
    assert lines(desk.plan()) == ["~ update Deployment/q"]
    assert any("is paused since" in note.what and "a demo" in note.what for note in desk.plan().notes)
    told = [note.what for note in desk.plan(destroy=True).notes if note.about == "Deployment/p"]
    assert any("is paused since" in what for what in told), "what goes on costing is said"
    desk.apply(destroy=True)
    assert {str(row.slot) for row in desk.state().owned.values()} == {"Deployment/p"}
