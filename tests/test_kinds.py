"""The laws of the design, over every kind and every field it has. A new kind is covered by adding its specimen here;
a field without a specimen turns `test_every_field_has_its_edit` red.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.kinds import RESOURCES
from reconciler.plan import Verb
from reconciler.resource import Action, Mark, marks
from tests.desk import Desk, document, dpo, emulator, lines, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}


def dataset(name: str = "d", **spec: Any) -> dict[str, Any]:
    return document("Dataset", name, {"source": f"data/{name}.jsonl", "format": "sft", **spec})


def job(name: str = "j", **spec: Any) -> dict[str, Any]:
    plain = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
    return document("FineTuneJob", name, {**plain, **spec})


def deployment(name: str = "p", **spec: Any) -> dict[str, Any]:
    plain = {"model": {"fineTuneJob": "j"}, "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    return document("Deployment", name, {**plain, **spec})


def hotwords(name: str = "w", **spec: Any) -> dict[str, Any]:
    words = [{"text": "厄洛替尼", "weight": 4, "lang": "zh"}, {"text": "gefitinib", "weight": 3}]
    return document("HotwordTable", name, {"targetModel": "paraformer-v2", "words": words, **spec})


def phrases(**spec: Any) -> dict[str, Any]:
    return hotwords(**{"targetModel": "paraformer-v1", "words": [{"text": "热词", "weight": 2}], **spec})


@dataclass(frozen=True)
class Edit:
    """One field of one kind changed by its author: what it was, what it becomes, and what the plan must say."""

    kind: str
    field: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    action: Action | None

    def __str__(self) -> str:
        return f"{self.kind}.{self.field}"


PTU = {"plan": "ptu", "ptuCapacity": {"inputTpm": 10000, "outputTpm": 1000}}
MORE_PTU = {"plan": "ptu", "ptuCapacity": {"inputTpm": 20000, "outputTpm": 2000}}
EDITS = (
    Edit("Dataset", "source", {}, {"source": "data/e.jsonl"}, Action.CREATE),
    Edit("Dataset", "format", {"format": "sft"}, {"format": "cpt"}, None),
    Edit("Dataset", "split", {}, {"split": {"validation": 0.5}}, Action.CREATE),
    Edit("Dataset", "lint", {}, {"lint": {"minRows": 40, "duplicates": "error"}}, None),
    Edit("FineTuneJob", "model", {}, {"model": "qwen3-14b"}, Action.RUN),
    Edit("FineTuneJob", "trainingType", {}, {"trainingType": "sft"}, Action.RUN),
    Edit("FineTuneJob", "training", {}, {"training": ["d", "e"]}, Action.RUN),
    Edit("FineTuneJob", "validation", {}, {"validation": ["e"]}, Action.RUN),
    Edit("FineTuneJob", "hyperParameters", {}, {"hyperParameters": {**HYPER, "n_epochs": 2}}, Action.RUN),
    Edit("FineTuneJob", "outputSuffix", {"outputSuffix": "one"}, {"outputSuffix": "two"}, Action.RUN),
    Edit("FineTuneJob", "retrain", {"retrain": "Manual"}, {"retrain": "Auto"}, None),
    Edit("Deployment", "model", {}, {"model": "qwen3-8b"}, Action.SWAP),
    Edit("Deployment", "plan", {}, {"plan": "lora"}, Action.SWAP),
    Edit("Deployment", "deploySpec", {}, {"deploySpec": "MU2", "capacity": 8}, Action.SWAP),
    Edit("Deployment", "capacity", {}, {"capacity": 8}, Action.UPDATE),
    Edit("Deployment", "ptuCapacity", PTU, MORE_PTU, Action.UPDATE),
    Edit("Deployment", "suffix", {"suffix": "one"}, {"suffix": "two"}, Action.SWAP),
    Edit("Deployment", "enableThinking", {"enableThinking": True}, {"enableThinking": False}, Action.SWAP),
    Edit("Deployment", "maxContextLength", {"maxContextLength": 4096}, {"maxContextLength": 8192}, Action.SWAP),
    Edit("Deployment", "limits", {"limits": {"rpm": 10}}, {"limits": {"rpm": 20, "tpm": 2000}}, Action.UPDATE),
    Edit("Deployment", "smoke", {}, {"smoke": [{"prompt": "hello"}]}, None),
    Edit("HotwordTable", "targetModel", {}, {"targetModel": "paraformer-realtime-v2"}, Action.SWAP),
    Edit("HotwordTable", "words", {}, {"words": [{"text": "gefitinib", "weight": 5}]}, Action.UPDATE),
    Edit("HotwordTable", "wordsFrom", {"words": None, "wordsFrom": "words.csv"},
         {"words": None, "wordsFrom": "more.csv"}, Action.UPDATE),
)  # fmt: skip
MAKERS = {"Dataset": dataset, "FineTuneJob": job, "Deployment": deployment, "HotwordTable": hotwords}
CHAIN = (dataset(), dataset("e"), job(), deployment(), hotwords())


def data(desk: Desk) -> None:
    desk.rows("data/d.jsonl", texts(40))
    desk.rows("data/e.jsonl", texts(40, start=100))
    desk.write("words.csv", "text,weight\n厄洛替尼,4\n")
    desk.write("more.csv", "text,weight\n厄洛替尼,5\n")


def chain(kind: str, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The whole chain of kinds with one document written differently; a value of None leaves the field out."""
    made = {**MAKERS[kind]()["spec"], **spec}
    if spec.get("plan", "mu") != "mu":
        made = {name: value for name, value in made.items() if name not in ("deploySpec", "capacity") or name in spec}
    changed = MAKERS[kind]() | {"spec": {name: value for name, value in made.items() if value is not None}}
    return [changed if doc["kind"] == kind and doc["metadata"]["name"] != "e" else deepcopy(doc) for doc in CHAIN]


def test_every_field_has_its_edit() -> None:
    """A kind gains a field: this table must say what a change of it means."""
    for name, kind in RESOURCES.items():
        written = {field for field, of in marks(kind).items() if Mark.COMPUTED not in of}
        assert {edit.field for edit in EDITS if edit.kind == name} == written, name


@pytest.mark.parametrize("kind", RESOURCES)
def test_a_mark_is_made_from_what_no_call_can_change(kind: str) -> None:
    """The kind says what needs a new object, its collections what an update reaches: two words for one fact."""
    fixed = {Mark.IMMUTABLE, Mark.LOCAL, Mark.COMPUTED}
    changed_in_place = {field for field, of in marks(RESOURCES[kind]).items() if not of & fixed}
    assert set().union(*(one.changeable for one in RESOURCES[kind].collections)) == changed_in_place


@pytest.mark.parametrize("kind", RESOURCES)
def test_what_the_service_chooses_is_not_the_authors_to_write(kind: str) -> None:
    chosen = [field for field, of in marks(RESOURCES[kind]).items() if Mark.COMPUTED in of]
    assert chosen
    for field in chosen:
        with pytest.raises(ValidationError, match="chosen by the service"):
            RESOURCES[kind].model_validate({**MAKERS[kind]()["spec"], field: "x"})


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_a_change_means_what_its_mark_says_and_is_gone_after_apply(desk: Desk, edit: Edit) -> None:
    """Immutable: replaced. Mutable: updated. Local: nothing at all. Applied, it is no difference any more."""
    data(desk)
    if edit.field == "format":
        desk.write(
            "data/d.jsonl",
            '{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"text":"t"}\n' * 10,
        )
        desk.declare(dataset(**edit.before))
        desk.apply()
        desk.declare(dataset(**edit.after))
    else:
        desk.declare(*chain(edit.kind, edit.before))
        desk.apply()
        desk.declare(*chain(edit.kind, edit.after))
    plan = desk.plan()
    address = f"{edit.kind}/{MAKERS[edit.kind]()['metadata']['name']}"
    said = {op.action for op in plan.operations if op.slot.address == address and op.verb is not Verb.DELETE}
    assert said == ({edit.action} if edit.action else set())
    desk.apply()
    assert lines(desk.plan()) == []


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_marks_agree_with_the_actions(edit: Edit) -> None:
    """The table above and the marks of the kinds are two writings of one fact."""
    of = marks(RESOURCES[edit.kind])[edit.field]
    replaced = edit.action is RESOURCES[edit.kind].collections[0].replaced_as
    assert (Mark.IMMUTABLE in of) == (replaced and Mark.LOCAL not in of)


SPLIT = dataset(split={"validation": 0.25, "seed": 3})
STACKS: Mapping[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "chain": ("2026", CHAIN),
    "split": ("2026", (SPLIT, job())),
    "dpo": ("2026", (dataset("q", format="dpo"), job(trainingType="dpo_lora", training=["q"]))),
    "cpt": ("2026", (
        dataset("c", format="cpt"), job(model="qwen3-4b-instruct-2507", trainingType="cpt", training=["c"]),
    )),
    "tuned again": ("2026", (dataset(), job(), job("k", model={"fineTuneJob": "j"}))),
    "lora": ("2026", (dataset(), job(), document("Deployment", "l", {"model": {"fineTuneJob": "j"}, "plan": "lora"}))),
    "ptu": ("2026", (document("Deployment", "t", {"model": "qwen3-8b", **PTU}),)),
    "base model": ("2026", (deployment(model="qwen3-8b"),)),
    "old": ("dec-2024", (
        SPLIT,
        job(model="qwen2.5-14b-instruct", hyperParameters={"learning_rate": "1.6e-5"}),
        document("Deployment", "p", {"model": {"fineTuneJob": "j"}, "capacity": 2}),
        phrases(), hotwords("v"),
    )),
}  # fmt: skip


@pytest.fixture(params=STACKS, ids=str)
def stack(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    """A desk with one of the stacks declared, on a service of its generation."""
    profile, documents = STACKS[request.param]
    with emulator(tmp_path / "service", profile=profile) as service:
        (tmp_path / "project").mkdir()
        desk = Desk(tmp_path / "project", service)
        data(desk)
        desk.rows("data/c.jsonl", texts(40), "cpt")
        desk.rows("data/q.jsonl", texts(40), "dpo")
        desk.declare(*documents, profile=profile)
        yield desk, documents, profile


def test_apply_then_plan_is_empty(stack: Any) -> None:
    desk, *_ = stack
    applied = desk.apply()
    assert [p.detail for p in applied.progress if p.code] == []
    assert lines(desk.plan()) == []


def test_the_order_of_documents_means_nothing(stack: Any) -> None:
    desk, documents, profile = stack
    prints = {desk.plan().fingerprint}
    for seed in range(3):
        shuffled = list(documents)
        random.Random(seed).shuffle(shuffled)
        desk.declare(*shuffled, profile=profile)
        prints.add(desk.plan().fingerprint)
    assert len(prints) == 1


def test_plan_writes_nothing(stack: Any) -> None:
    """Neither on the service, which refuses every write meanwhile, nor in the state, byte for byte."""
    desk, *_ = stack
    desk.emulator.control("read-only", {"on": True})
    desk.plan()
    assert {path.name for path in (desk.root / ".reconciler").glob("*")} <= {"cache"}
    desk.emulator.control("read-only", {"on": False})
    desk.apply()
    before = {path: path.read_bytes() for path in (desk.root / ".reconciler").iterdir() if path.is_file()}
    committed = desk.emulator.ledger()
    desk.emulator.control("read-only", {"on": True})
    desk.plan()
    desk.plan(destroy=True)
    after = {path: path.read_bytes() for path in (desk.root / ".reconciler").iterdir() if path.is_file()}
    assert after == before
    assert desk.emulator.ledger() == committed


def test_deletion_order_is_creation_order_reversed(stack: Any) -> None:
    """Whatever was created only after something else is gone before that goes. All of it named for deletion."""
    desk, documents, profile = stack
    desk.declare(*({**doc, "lifecycle": {"deletionPolicy": "Delete"}} for doc in documents), profile=profile)
    created = desk.plan()
    desk.apply()
    plan = desk.plan(destroy=True)
    deleted = [op.slot for op in plan.operations]
    for op in created.operations:
        for needed in (other.slot for other in created.operations if other.id in op.after):
            assert deleted.index(op.slot) < deleted.index(needed)
    desk.apply(destroy=True)
    assert lines(desk.plan(destroy=True)) == []


def test_a_field_the_author_did_not_write_never_differs(desk: Desk) -> None:
    """Somebody sets what no manifest mentions: it is theirs."""
    data(desk)
    desk.declare(*CHAIN)
    desk.apply()
    (remote_id,) = [entry["id"] for entry in desk.emulator.ledger() if entry["operation"] == "deployments.create"]
    desk.emulator.call("PUT", f"/deployments/{remote_id}/update", {"rpm_limit": 7})
    desk.clock.sleep(3600)
    assert lines(desk.plan()) == []


def test_removing_a_field_releases_it(desk: Desk) -> None:
    data(desk)
    desk.declare(*chain("FineTuneJob", {"hyperParameters": {**HYPER, "lora_rank": 16}}))
    desk.apply()
    desk.declare(*CHAIN)
    assert lines(desk.plan()) == []


def test_order_and_absent_languages_of_hotwords_are_no_difference(desk: Desk) -> None:
    data(desk)
    desk.declare(hotwords())
    desk.apply()
    desk.declare(hotwords(words=[{"text": "gefitinib", "weight": 3}, {"text": "厄洛替尼", "weight": 4}]))
    assert lines(desk.plan()) == []


def test_rows_are_compared_by_content_and_an_upload_lost_rebuys_nothing(desk: Desk) -> None:
    """The file is deleted behind our back: it is uploaded again, and the run that learnt from it stands."""
    data(desk)
    desk.declare(*CHAIN)
    desk.apply()
    lost = next(entry["id"] for entry in desk.emulator.ledger() if entry["operation"] == "files.create")
    desk.emulator.call("DELETE", f"/files/{lost}")
    assert [line.split()[:2] for line in lines(desk.plan())] == [["+", "create"]]
    desk.apply()
    assert desk.emulator.operations().count("jobs.create") == 1
    assert lines(desk.plan()) == []


def test_dpo_rows_are_shaped_as_the_service_wants() -> None:
    """The desk's own rows are what the contract describes, or the tests above would prove nothing."""
    assert set(dpo("x")) == {"messages", "chosen", "rejected"}


def test_a_checkpoint_is_published_and_deployed(desk: Desk) -> None:
    """The model on the way instead of the one at the end: published first, under a name that holds our mark."""
    data(desk)
    steps = {**HYPER, "n_epochs": 3, "save_total_limit": 3}
    model = {"fineTuneJob": "j", "checkpoint": "checkpoint-5"}
    desk.declare(dataset(), job(hyperParameters=steps), deployment(model=model))
    assert "+ create Deployment/p:checkpoint-5" in lines(desk.plan())
    applied = desk.apply()
    assert [p.detail for p in applied.progress if p.code] == []
    ledger = desk.emulator.ledger()
    (published,) = [entry for entry in ledger if entry["operation"] == "checkpoints.publish"]
    (deployed,) = [entry for entry in ledger if entry["operation"] == "deployments.create"]
    assert deployed["id"].startswith(published["model_id"])
    assert lines(desk.plan()) == []
    desk.declare(dataset(), job(hyperParameters=steps), deployment(model={**model, "checkpoint": "checkpoint-10"}))
    assert lines(desk.plan())[:2] == ["+ create Deployment/p:checkpoint-10", "± create Deployment/p"]
    desk.apply()
    assert lines(desk.plan()) == []


def test_mounted_rows_are_named_and_not_uploaded(desk: Desk) -> None:
    mount = {"mount": {"region": "cn-beijing", "bucket": "our-data", "path": "chat/data.jsonl"}}
    desk.declare(job(training=[mount]))
    plan = desk.plan()
    assert lines(plan) == ["> create FineTuneJob/j"]
    assert plan.totals.once is None, "nobody counted the rows, so the price is unknown"
    desk.apply()
    assert desk.emulator.operations() == ["jobs.create"]
    assert lines(desk.plan()) == []
    desk.declare(job(training=[{"mount": {**mount["mount"], "bucket": "other-data"}}]))
    assert lines(desk.plan()) == ["> create FineTuneJob/j"]
