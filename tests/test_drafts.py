"""Manifests for what an account holds: which names they get, and what is left alone. Values in, values out."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reconciler import catalogue
from reconciler.drafts import Account, drafts
from reconciler.kinds import RESOURCES, collections
from reconciler.plan import Desired, World
from reconciler.resource import NAME_PATTERN, Observed, Phase, Slot, Source
from reconciler.state import Owned, Role, State

COLLECTIONS = collections(catalogue.load().for_profile("2026"))
KINDS = {one.name: kind for kind, resource in RESOURCES.items() for one in resource.collections}
ROWS = Source(("a.jsonl",), "sft", ("source",))
RUN = {
    "model": "qwen3-8b", "training_type": "efficient_sft", "status": "SUCCEEDED", "finetuned_output": "qwen3-8b-ft-1",
    "training_file_ids": ["f-1"], "hyper_parameters": {"n_epochs": 1},
}  # fmt: skip
RUNS = {"status": "RUNNING", "model_name": "qwen3-8b", "plan": "mu", "model_unit_spec": "MU1", "capacity": 4}


def account(state: State | None = None, marked: bool = False, **objects: list[dict[str, Any]]) -> Account:
    seen = {name: [COLLECTIONS[name].parse(item) for item in items] for name, items in objects.items()}
    world = World({name: {one.id: one for one in found} for name, found in seen.items()})
    return Account(state or State(), Desired(), world, COLLECTIONS, KINDS, marked)


def file(file_id: str, name: str = "a.jsonl", created: str = "2026-01-01 00:00:00") -> dict[str, Any]:
    return {"file_id": file_id, "name": name, "md5": "0" * 32, "size": 1, "gmt_create": created}


def job(job_id: str, **more: Any) -> dict[str, Any]:
    return {"job_id": job_id, "job_name": job_id, **RUN, **more}


def test_what_is_referred_to_is_named_and_what_is_left_alone_is_given_by_its_id() -> None:
    """Also through two runs: one tuned the other's model."""
    held = account(
        files=[file("f-1"), file("f-2")],
        jobs=[job("ft-1"), job("ft-2", model="qwen3-8b-ft-1", training_file_ids=["f-2"], finetuned_output="x-ft-2")],
        deployments=[{"deployed_model": "x-ft-2-hand", **RUNS, "model_name": "x-ft-2"}],
    )
    found = drafts(held, {"files/f-1": ROWS}, {"files/f-2": "why not"})
    specs = {draft.key: draft.spec for draft in found.drafts}
    names = {draft.key: draft.name for draft in found.drafts}
    assert specs["jobs/ft-1"]["training"] == [names["files/f-1"]]
    assert specs["jobs/ft-2"]["training"] == [{"fileId": "f-2"}]
    assert specs["jobs/ft-2"]["model"] == {"fineTuneJob": names["jobs/ft-1"]}
    assert specs["deployments/x-ft-2-hand"]["model"] == {"fineTuneJob": names["jobs/ft-2"]}
    assert [(left.id, left.why) for left in found.left] == [("f-2", "why not")]


def test_what_depends_on_a_run_that_is_left_alone_names_its_model() -> None:
    held = account(
        jobs=[job("ft-1", training_file_ids=[])],
        deployments=[{"deployed_model": "qwen3-8b-ft-1-hand", **RUNS, "model_name": "qwen3-8b-ft-1"}],
    )
    found = drafts(held, {}, {})
    assert [draft.spec["model"] for draft in found.drafts] == ["qwen3-8b-ft-1"]
    assert [left.why for left in found.left] == ["the service does not show what it was trained on"]


def test_a_run_that_learnt_from_object_storage_is_left_alone() -> None:
    """Where a mount stood among the files nobody shows, and another order would be another run."""
    sets = [{"data_source_type": "oss_mount", "mount_storage": {}}, {"data_source_type": "file_id", "file_id": "f"}]
    held = account(jobs=[job("ft-1", training_file_ids=[], training_datasets=sets)])
    assert [left.why for left in drafts(held, {}, {}).left] == ["it learns from object storage"]


def test_hyper_parameters_that_no_manifest_could_say_are_left_out_and_said() -> None:
    shown = {"n_epochs": 1, "magic": 7, "batch_size": "many", "learning_rate": "1e-5"}
    (draft,) = drafts(account(jobs=[job("ft-1", hyper_parameters=shown)]), {}, {}).drafts
    assert draft.spec["hyperParameters"] == {"n_epochs": 1, "learning_rate": 1e-5}
    assert draft.dropped == ("hyperParameters.batch_size", "hyperParameters.magic")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["a.jsonl", "a.jsonl", "A.JSONL"], ["a", "a-2", "a-3"]),
        (["a.jsonl", "a-2.jsonl", "a.jsonl"], ["a", "a-2", "a-3"]),
        (["训练.jsonl", "测试.jsonl"], ["dataset-1", "dataset-2"]),
        (["---.jsonl", "x" * 400], ["dataset-1", "x" * 50]),
        (["x" * 49 + "-y.jsonl"], ["x" * 49]),
    ],
)
def test_names_are_valid_unique_and_the_same_each_time(labels: list[str], names: list[str]) -> None:
    files = [file(f"f-{number}", name) for number, name in enumerate(labels)]
    sources = {f"files/f-{number}": ROWS for number in range(len(labels))}
    found = drafts(account(files=files), sources, {})
    assert [draft.name for draft in found.drafts] == names
    assert all(re.match(NAME_PATTERN, draft.name) for draft in found.drafts)
    assert drafts(account(files=files[::-1]), sources, {}) == found


def test_a_name_that_is_taken_is_not_given_twice() -> None:
    """By a manifest, or by what the state still holds under it."""
    row = Owned(Slot("Dataset/a", "a.jsonl"), "files", "old", Role.RETIRED, "g", {})
    (draft,) = drafts(account(State(owned={row.key: row}), files=[file("f-1")]), {"files/f-1": ROWS}, {}).drafts
    assert draft.name == "a-2"


@pytest.mark.parametrize(
    ("deployed", "name"),
    [
        ("qwen3-8b-hand", "hand"),
        ("qwen3-8b-7fc4f97d-hand", "hand"),
        ("qwen3-8b-7fc4f97d", "qwen3-8b"),
        ("another-id", "qwen3-8b"),
    ],
)
def test_a_deployment_is_called_by_its_suffix_else_by_its_model(deployed: str, name: str) -> None:
    (draft,) = drafts(account(deployments=[{"deployed_model": deployed, **RUNS}]), {}, {}).drafts
    assert draft.name == name


@pytest.mark.parametrize("status", ["FAILED", "STOPPED", "PONDERING"])
def test_what_is_of_no_use_or_unheard_of_is_left_alone(status: str) -> None:
    (left,) = drafts(account(deployments=[{"deployed_model": "qwen3-8b-x", **RUNS, "status": status}]), {}, {}).left
    assert status in left.why


def test_a_phase_that_a_list_does_not_show_is_no_reason_to_guess() -> None:
    """A table whose words were not read cannot be declared."""
    held = account(vocabularies=[{"vocabulary_id": "vocab-hand-1", "status": "OK", "target_model": "paraformer-v2"}])
    assert [left.why for left in drafts(held, {}, {}).left] == ["the service does not show its words"]


def test_nothing_that_is_ours_gets_a_draft() -> None:
    row = Owned(Slot("Dataset/a", "a.jsonl"), "files", "f-1", Role.CURRENT, "g", {})
    found = drafts(account(State(owned={row.key: row}), files=[file("f-1")]), {"files/f-1": ROWS}, {})
    assert (found.drafts, found.left) == ((), ())


def test_every_kind_says_of_an_empty_object_why_it_cannot_be_declared() -> None:
    """Whatever is missing from an answer, a draft is whole or there is none."""
    for name, collection in COLLECTIONS.items():
        said = collection.spec(Observed("x", Phase.READY, "OK"), {}, None)
        assert isinstance(said, str), name
        assert said
