"""Carrying out a plan against a service on the wire: what is sent, in which order, what is left after a failure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import engine, surgery
from reconciler.apply import TOO_LATE, Stage, Terms, _Order
from reconciler.engine import Snapshot
from reconciler.errors import Refused
from reconciler.plan import Operation, Verb
from reconciler.resource import Action, Slot
from reconciler.state import IntentPhase, Role
from tests.desk import WORDS, Desk, document, emulator, lines, texts
from tests.lossy import lossy

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
DATASET = document("Dataset", "d", {"source": "data/d.jsonl", "format": "sft"})


def job(name: str = "j", **spec: Any) -> dict[str, Any]:
    plain = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
    return document("FineTuneJob", name, {**plain, **spec})


def deployment(**spec: Any) -> dict[str, Any]:
    plain = {"model": {"fineTuneJob": "j"}, "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    return document("Deployment", "p", {**plain, **spec})


@pytest.fixture
def running(desk: Desk) -> Desk:
    """A desk whose data, job and deployment are applied."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment())
    desk.apply()
    return desk


def stages(desk: Desk, **choices: Any) -> dict[str, Stage]:
    return {p.operation.id: p.stage for p in desk.apply(**choices).progress}


def owned(desk: Desk) -> list[tuple[str, str]]:
    """Role and collection of every recorded object."""
    return sorted((row.role.value, row.collection) for row in desk.state().owned.values())


def intents(desk: Desk) -> list[tuple[str, IntentPhase]]:
    return [(row.collection, row.phase) for row in desk.state().intents.values()]


def test_new_data_is_uploaded_trained_and_swapped_in_before_the_old_goes(running: Desk) -> None:
    """One apply: upload, paid run, new side up, old side down, and the old upload last, when nothing uses it."""
    before = len(running.emulator.ledger())
    running.rows("data/d.jsonl", texts(50))
    assert lines(running.plan()) == [
        "+ create Dataset/d:data/d.jsonl",
        "> create FineTuneJob/j",
        "± create Deployment/p",
        "± delete Deployment/p",
        "- delete Dataset/d:data/d.jsonl",
    ]
    running.apply()
    operations = running.emulator.operations()[before:]
    assert sorted(operations) == sorted(
        ["files.create", "jobs.create", "deployments.create", "deployments.delete", "files.delete"]
    )
    assert operations.index("deployments.create") < operations.index("deployments.delete")
    assert operations.index("jobs.create") < operations.index("files.delete")
    assert lines(running.plan()) == []
    assert owned(running) == [
        ("current", "deployments"), ("current", "files"), ("current", "jobs"), ("retired", "jobs"),
    ]  # fmt: skip


def test_a_rerun_without_consent_leaves_everything_that_runs(running: Desk) -> None:
    """`--auto-approve` never buys a run again under `retrain: Manual`: the upload is new, the rest stays as it is."""
    running.rows("data/d.jsonl", texts(50))
    applied = running.apply(unattended=True)
    blocked = [p for p in applied.progress if p.stage is Stage.BLOCKED]
    assert [(p.operation.slot.address, p.code) for p in blocked] == [("FineTuneJob/j", 3)]
    assert "--allow retrain=FineTuneJob/j" in blocked[0].operation.hint
    assert running.emulator.operations().count("jobs.create") == 1
    assert lines(running.plan(unattended=True)) == ["! nothing FineTuneJob/j"], "the old upload is still the run's"
    running.apply(unattended=True, allow=frozenset({("retrain", "FineTuneJob/j")}))
    assert running.emulator.operations().count("jobs.create") == 2
    assert lines(running.plan(unattended=True)) == []


def test_retrain_never_is_said_and_is_no_change(running: Desk) -> None:
    running.declare(DATASET, job(retrain="Never"), deployment())
    running.rows("data/d.jsonl", texts(50))
    running.apply()
    plan = running.plan()
    assert lines(plan) == []
    assert [note.about for note in plan.notes] == ["FineTuneJob/j"]


def test_a_failed_smoke_keeps_the_old_side_and_is_not_repaired_by_buying(running: Desk) -> None:
    wanted = [{"prompt": "hello", "expect": {"contains": "no such answer"}}]
    running.declare(DATASET, job(), deployment(model="qwen3-8b", smoke=wanted))
    applied = running.apply()
    failed = {p.operation.id: p.detail for p in applied.progress if p.stage is Stage.FAILED}
    assert "does not contain" in failed["create Deployment/p"]
    assert "deployments.delete" not in running.emulator.operations()
    assert ("current", "deployments") in owned(running)
    assert ("next", "deployments") in owned(running)
    plan = running.plan()
    assert [(op.action, op.code) for op in plan.operations] == [(Action.BLOCKED, 5)]
    assert "keeps running and costs 216" in plan.operations[0].hint
    made = running.emulator.operations().count("deployments.create")
    running.apply()
    assert running.emulator.operations().count("deployments.create") == made, "unchanged, so not tried again"
    running.declare(DATASET, job(), deployment(model="qwen3-8b", smoke=[{"prompt": "hello"}]))
    running.apply(replace=frozenset({"Deployment/p"}))
    assert lines(running.plan()) == []
    assert owned(running).count(("current", "deployments")) == 1
    assert running.emulator.operations().count("deployments.delete") == 2, "the failed side and the old side are gone"


def test_a_failed_run_stops_its_branch_and_no_other(desk: Desk) -> None:
    """Two jobs, one of a type its model lacks on the service: its deployment waits, the rest is done."""
    desk.rows("data/d.jsonl", texts(40))
    desk.write("data/few.jsonl", "")
    desk.rows("data/few.jsonl", texts(9))
    desk.declare(DATASET, job(), deployment(), WORDS)
    (desk.root / "data/d.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n' * 9
    )
    desk.declare(DATASET, job(hyperParameters={**HYPER, "max_length": 500}), deployment(), WORDS)
    long = "word " * 4000
    desk.rows("data/d.jsonl", [f"{long}{n}" for n in range(9)])
    outcome = stages(desk)
    assert outcome["create FineTuneJob/j"] is Stage.FAILED
    assert outcome["create Deployment/p"] is Stage.SKIPPED
    assert outcome["create HotwordTable/w"] is Stage.DONE
    plan = desk.plan()
    assert [(op.action, op.slot.address) for op in plan.operations] == [
        (Action.BLOCKED, "FineTuneJob/j"),
        (Action.BLOCKED, "Deployment/p"),
    ]
    desk.apply()
    assert desk.emulator.operations().count("jobs.create") == 1, "a failed run is not bought again by itself"
    desk.declare(DATASET, job(hyperParameters={**HYPER, "max_length": 30000}), deployment(), WORDS)
    desk.apply(unattended=True)
    assert desk.emulator.operations().count("jobs.create") == 2, "changed inputs are a first success still to come"
    assert lines(desk.plan()) == []


def test_a_detached_apply_is_picked_up_by_the_next(desk: Desk) -> None:
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment())
    first = desk.apply(Terms(wait="none"))
    assert {p.stage for p in first.progress} <= {Stage.DETACHED, Stage.SKIPPED, Stage.DONE}
    for _ in range(4):
        desk.apply(Terms(wait="none"))
        desk.clock.sleep(6 * 3600)
    desk.apply()
    assert desk.emulator.operations().count("jobs.create") == 1
    assert lines(desk.plan()) == []


def test_pending_work_is_waited_for_and_is_no_change(desk: Desk) -> None:
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job())
    desk.apply(Terms(wait="created"))
    plan = desk.plan()
    assert lines(plan) == ["… wait FineTuneJob/j"]
    assert plan.changes == ()


def test_a_timeout_leaves_the_work_running_and_recorded(desk: Desk) -> None:
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job())
    applied = desk.apply(Terms(timeout_s=30))
    assert {p.operation.id: (p.stage, p.code) for p in applied.progress}["create FineTuneJob/j"] == (Stage.DETACHED, 6)
    desk.apply()
    assert desk.emulator.operations().count("jobs.create") == 1


def test_every_create_has_its_intent_closed_with_it(running: Desk) -> None:
    assert sorted(intents(running)) == [
        ("deployments", IntentPhase.DONE), ("files", IntentPhase.DONE), ("jobs", IntentPhase.DONE),
    ]  # fmt: skip


def test_an_object_deleted_behind_our_back_is_told_or_made_again(running: Desk) -> None:
    """A deployment is created again, with its price in the plan; a paid run is not: what it made is still there."""
    ledger = running.emulator.ledger()
    ids = {entry["operation"]: entry["id"] for entry in ledger}
    running.emulator.call("DELETE", f"/deployments/{ids['deployments.create']}")
    running.clock.sleep(600)
    plan = running.plan()
    assert lines(plan) == ["+ create Deployment/p"]
    assert plan.totals.hour_after == 216
    running.apply()
    assert lines(running.plan()) == []


def test_capacity_changed_behind_our_back_is_put_right(running: Desk) -> None:
    (remote_id,) = [entry["id"] for entry in running.emulator.ledger() if entry["operation"] == "deployments.create"]
    running.emulator.call("PUT", f"/deployments/{remote_id}/scale", {"capacity": 8})
    running.clock.sleep(600)
    (update,) = running.plan().operations
    assert [(change.path, change.before, change.after) for change in update.reasons] == [(("capacity",), 8, 4)]
    running.apply()
    assert lines(running.plan()) == []


def test_two_requests_of_one_update_are_sent_one_after_the_other(running: Desk) -> None:
    running.declare(DATASET, job(), deployment(capacity=8, limits={"rpm": 10}))
    assert lines(running.plan()) == ["~ update Deployment/p", "~ update Deployment/p"]
    before = len(running.emulator.ledger())
    running.apply()
    assert running.emulator.operations()[before:] == ["deployments.scale", "deployments.update"]
    assert lines(running.plan()) == []


def test_a_protected_object_outlives_its_manifest(running: Desk) -> None:
    """Protection is remembered: neither destroy nor prune takes it, until a manifest says otherwise."""
    protected = deployment() | {"lifecycle": {"deletionPolicy": "Protect"}}
    running.declare(DATASET, job(), protected)
    assert lines(running.plan()) == []
    running.apply()
    running.declare(DATASET, job())
    for choices in ({"destroy": True}, {"prune": True}):
        plan = running.plan(**choices)
        assert [(op.action, op.slot.address) for op in plan.blocked] == [(Action.BLOCKED, "Deployment/p")]
    assert "deployments.delete" not in running.emulator.operations()


def test_an_undeclared_object_is_told_and_goes_only_by_prune(running: Desk) -> None:
    running.declare(DATASET, job())
    plan = running.plan()
    assert lines(plan) == []
    assert [note.about for note in plan.notes] == ["Deployment/p"]
    running.apply(prune=True)
    assert running.emulator.operations().count("deployments.delete") == 1
    assert ("current", "deployments") not in owned(running)


def test_a_swap_is_two_rows_while_it_lasts(running: Desk) -> None:
    running.declare(DATASET, job(), deployment(model="qwen3-8b"))
    running.apply(Terms(wait="created"))
    assert owned(running).count(("current", "deployments")) == 1
    assert owned(running).count(("next", "deployments")) == 1
    assert lines(running.plan()) == ["… wait Deployment/p", "± delete Deployment/p"]
    running.apply()
    assert lines(running.plan()) == []
    assert Role.NEXT.value not in {role for role, _ in owned(running)}


def test_ledger_and_state_agree(running: Desk) -> None:
    """Everything that was bought is recorded, and nothing else."""
    bought = {entry["id"] for entry in running.emulator.ledger() if entry["operation"].endswith(".create")}
    assert {row.id for row in running.state().owned.values()} == bought


CREATES = {
    "files.create": lambda path, body: path.endswith("/files"),
    "jobs.create": lambda path, body: path.endswith("/fine-tunes") and b"compile_asr_phrase" not in body,
    "deployments.create": lambda path, body: path.endswith("/deployments"),
    "vocabularies.create": lambda path, body: b"create_vocabulary" in body,
}


@pytest.mark.parametrize("operation", CREATES)
def test_an_answer_lost_after_the_create_was_committed_buys_nothing_twice(desk: Desk, operation: str) -> None:
    """The service took the request and the reply never came: the object is looked for, found by its mark, and kept."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment(), WORDS)
    lost = []

    def loses(method: str, path: str, body: bytes) -> bool:
        if method != "POST" or lost or not CREATES[operation](path, body):
            return False
        lost.append(path)
        return True

    with lossy(desk.emulator.origin, loses) as door:
        applied = Desk(desk.root, replace(desk.emulator, origin=door)).apply()
    assert len(lost) == 1
    assert [finding.intent.phase for finding in applied.recovered] != []
    assert "adopted" in applied.recovered[0].what
    desk.apply()
    assert desk.emulator.operations().count(operation) == 1
    assert lines(desk.plan()) == []


def test_a_service_that_no_longer_lets_us_in_ends_the_run_with_what_is_recorded(desk: Desk) -> None:
    """The first refused write bars the rest: nothing more is started, and the exit code says whose fault it is."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment())
    desk.emulator.control("read-only", {"on": True})
    applied = desk.apply()
    assert {p.operation.id: (p.stage, p.code) for p in applied.progress if p.stage is Stage.FAILED} == {
        "create Dataset/d:data/d.jsonl": (Stage.FAILED, 8)
    }
    assert [phase for _, phase in intents(desk)] == [IntentPhase.REJECTED]
    desk.emulator.control("read-only", {"on": False})
    desk.apply()
    assert lines(desk.plan()) == []


def test_an_interrupted_run_records_what_is_in_flight_and_starts_nothing_more(desk: Desk) -> None:
    """Asked to stop after the first report: what was sent is recorded, what was not sent never is."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment())
    applied = desk.apply(stopped=lambda: bool(desk.told))
    assert {p.stage for p in applied.progress} <= {Stage.DONE, Stage.DETACHED, Stage.SKIPPED}
    assert desk.emulator.operations() == ["files.create"]
    assert [phase for _, phase in intents(desk)] == [IntentPhase.DONE]
    desk.apply()
    assert desk.emulator.operations().count("files.create") == 1
    assert lines(desk.plan()) == []


def test_a_large_upload_says_how_far_it_is_while_it_is_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The far side takes its time over the first half; what is told meanwhile is a number that grows."""
    monkeypatch.setattr("reconciler.apply.GAUGE_S", 0.01)
    desk.rows("data/d.jsonl", [f"{number} " + "word " * 100_000 for number in range(6)])
    size = (desk.root / "data/d.jsonl").stat().st_size
    desk.declare(DATASET)
    with lossy(desk.emulator.origin, lambda method, path, body: False, pause_s=0.3) as door:
        Desk(desk.root, replace(desk.emulator, origin=door), told=desk.told).apply()
    details = [one.detail for one in desk.told if one.stage is Stage.SENDING and one.detail]
    assert details
    assert all(detail.endswith(f" of {size // 10**6} MB") for detail in details)
    assert [int(detail.split()[0]) for detail in details] == sorted(int(detail.split()[0]) for detail in details)
    assert desk.told[-1].stage is Stage.DONE
    assert desk.told[-1].detail == ""


def test_what_others_make_meanwhile_is_known_to_have_been_there(desk: Desk) -> None:
    """Phrase lists show no mark: what looks like one and was there before its request must never be taken for it."""
    spec = {"targetModel": "paraformer-v1", "words": [{"text": "热词", "weight": 4}]}
    desk.declare(*(document("HotwordTable", name, spec) for name in "abc"))
    asked = {
        "model": "paraformer-v1", "training_file_ids": [], "validation_file_ids": [],
        "training_type": "compile_asr_phrase", "hyper_parameters": {"phrase_list": {"别的": 1}},
    }  # fmt: skip
    others: list[str] = []

    def meanwhile() -> bool:
        if not others and any(progress.stage is Stage.DONE for progress in desk.told):
            others.append(desk.emulator.call("POST", "/fine-tunes", asked)["output"]["finetuned_output"])
        return False

    desk.apply(stopped=meanwhile)
    journal = [intent for intent in desk.state().intents.values() if intent.verb == "create"]
    ours = [intent.result_id for intent in journal]
    assert [set(intent.known_before) & set(ours) for intent in journal] == [set(), set(ours[:1]), set(ours[:2])]
    assert [others[0] in intent.known_before for intent in journal] == [False, False, True]


# Canceling ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def training(desk: Desk) -> Desk:
    """A desk whose job is under way."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job())
    desk.apply(Terms(wait="none"))
    desk.clock.sleep(400)
    return desk


def test_a_canceled_run_is_stopped_journalled_and_not_made_again(training: Desk) -> None:
    (one,) = training.apply(cancel="FineTuneJob/j").progress
    assert (one.stage, one.code) == (Stage.DONE, 0)
    assert "CANCELED" in one.detail
    (row,) = (row for row in training.state().owned.values() if row.collection == "jobs")
    (entry,) = (entry for entry in training.state().intents.values() if entry.verb == "cancel")
    assert (row.role, entry.phase, entry.known_before) == (Role.NEXT, IntentPhase.DONE, (row.id,))
    assert row.failure.startswith("CANCELED")
    assert lines(training.plan()) == ["! nothing FineTuneJob/j"]
    assert lines(training.plan(replace=frozenset({"FineTuneJob/j"}))) == ["> create FineTuneJob/j"]


def test_a_cancel_does_nothing_else_that_is_due(training: Desk) -> None:
    training.declare(DATASET, job(), WORDS)
    training.apply(cancel="FineTuneJob/j")
    assert "vocabularies.create" not in training.emulator.operations()


def test_a_run_that_is_over_before_the_request_arrives_is_not_called_canceled(training: Desk) -> None:
    def slowly(snapshot: Snapshot) -> bool:
        training.clock.sleep(24 * 3600)
        return True

    (one,) = training.apply(cancel="FineTuneJob/j", approve=slowly).progress
    assert (one.stage, one.code) == (Stage.FAILED, 5)
    assert "can not be canceled" in one.detail
    assert lines(training.plan()) == ["… wait FineTuneJob/j"]


def test_a_cancel_that_loses_the_race_puts_the_model_in_use(tmp_path: Path) -> None:
    """The reply says success, and the run succeeds all the same: it was paid for, so it is used, and said."""
    lasted_s: float = 0
    for name in ("twin", "true"):  # one seed, one duration
        with emulator(tmp_path / name, seed=5) as service:
            (tmp_path / f"{name}-desk").mkdir()
            desk = Desk(tmp_path / f"{name}-desk", service)
            desk.rows("data/d.jsonl", texts(40))
            desk.declare(DATASET, job())
            desk.apply(Terms(wait="none"))
            if name == "twin":
                desk.apply()
                (made,) = service.call("GET", "/fine-tunes")["output"]["jobs"]
                ended, began = (datetime.fromisoformat(made[what]) for what in ("end_time", "create_time"))
                lasted_s = (ended - began).total_seconds()
                continue
            desk.clock.sleep(lasted_s - 20)
            (one,) = desk.apply(cancel="FineTuneJob/j").progress
            assert "jobs.cancel" in service.operations()
            assert (one.stage, one.code, one.detail) == (Stage.FAILED, 5, TOO_LATE)
            assert ("current", "jobs") in owned(desk)


@pytest.mark.parametrize("lifecycle", [{"deletionPolicy": "Protect"}, {"observeOnly": True}])
def test_what_a_plan_would_not_delete_is_not_canceled(training: Desk, lifecycle: dict[str, Any]) -> None:
    training.declare(DATASET, job() | {"lifecycle": lifecycle})
    with pytest.raises(Refused):
        training.apply(cancel="FineTuneJob/j")
    assert "jobs.cancel" not in training.emulator.operations()


def test_what_was_taken_for_ours_by_its_looks_is_canceled_only_by_its_id(training: Desk) -> None:
    (row,) = (row for row in training.state().owned.values() if row.collection == "jobs")
    with training.session() as opened, opened.store.lease() as epoch:
        opened.store.commit(epoch, replace(row, inferred=True))
    with pytest.raises(Refused, match="looks like"):
        training.apply(cancel="FineTuneJob/j")
    (one,) = training.apply(cancel="FineTuneJob/j", allow=frozenset({("inferred", row.id)})).progress
    assert one.stage is Stage.DONE


# Paused ---------------------------------------------------------------------------------------------------------------


def test_a_paused_stack_is_planned_and_not_applied_and_its_run_can_still_be_canceled(training: Desk) -> None:
    training.declare(DATASET, job(), WORDS)
    with training.session() as opened:
        engine.operate(opened, lambda state, deed: surgery.pause(state, [""], deed), reason="audit")
    assert any("is paused since" in note.what and "(audit)" in note.what for note in training.plan().notes)
    for choices in ({}, {"destroy": True}):
        with pytest.raises(Refused, match=r"the stack is paused since .* \(audit\)") as caught:
            training.apply(**choices)
        assert caught.value.hint == "reconciler resume"
    assert training.emulator.operations() == ["files.create", "jobs.create"]
    assert [one.stage for one in training.apply(cancel="FineTuneJob/j").progress] == [Stage.DONE]


# Trying again ---------------------------------------------------------------------------------------------------------


def test_of_an_address_only_what_failed_is_made_again(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.rows(f"data/{name}.jsonl", texts(40))
    desk.declare(document("Dataset", "d", {"source": "data/*.jsonl", "format": "sft"}))
    desk.apply()
    row, other = sorted(desk.state().owned.values(), key=lambda row: row.slot)
    with desk.session() as opened:
        with pytest.raises(Refused, match="did not fail"):
            engine.sound_slots(opened, "Dataset/d")
        with opened.store.lease() as epoch:
            opened.store.commit(epoch, replace(row, role=Role.NEXT, failure="cut off"))
        sound = engine.sound_slots(opened, "Dataset/d")
    assert sound == {other.slot}
    again = desk.plan(replace=frozenset({"Dataset/d"}), settled=sound)
    assert [op.slot for op in again.operations if op.verb == "create"] == [row.slot]


# The order of things --------------------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> list[Operation]:
    """Operations that come after some of those before them; a few are blocked from the beginning."""
    operations: list[Operation] = []
    for number in range(draw(st.integers(1, 9))):
        after = draw(st.sets(st.sampled_from([op.id for op in operations]))) if operations else ()
        verb = draw(st.sampled_from([Verb.CREATE, Verb.UPDATE, Verb.NOTHING]))
        slot, collection = Slot(f"Dataset/{number}"), draw(st.sampled_from(["files", "jobs"]))
        operations.append(Operation(str(number), Action.CREATE, verb, slot, collection, after=tuple(after)))
    return operations


@given(plans(), st.data())
def test_what_begins_next_is_what_a_look_at_everything_would_find(plan: list[Operation], data: st.DataObject) -> None:
    """Each operation once, after all it comes after, in the order of the plan but what goes one by one first.

    Never behind something that is lost.
    """
    order, todo = _Order(plan), {op.id: op for op in plan if op.verb is not Verb.NOTHING}
    done: set[str] = set()
    lost = {op.id for op in plan} - todo.keys()
    for name in lost:
        order.lost(name)
    while True:
        under_way, slow = (data.draw(st.sets(st.sampled_from(["files", "jobs"]))) for _ in range(2))
        ready = [op for op in todo.values() if done.issuperset(op.after)]
        creates = {op.collection for op in ready if op.verb is Verb.CREATE}
        assert order.any() == bool(ready)
        assert creates == {name for name in ("files", "jobs") if order.creates(name)}
        held = [op for op in ready if op.verb is Verb.CREATE and op.collection in slow]
        turns = [op for op in held if op.collection not in under_way]
        op = order.next(under_way, slow.__contains__)
        assert op == next(iter((*turns, *(one for one in ready if one not in held))), None)
        if op is None:
            if not (under_way & slow):
                break
            continue
        del todo[op.id]
        if data.draw(st.booleans()):
            done.add(op.id)
            order.done(op.id)
        else:
            lost.add(op.id)
            order.lost(op.id)
        while (behind := order.next_lost()) is not None:
            if todo.pop(behind.id, None):
                assert not lost.isdisjoint(behind.after)
                lost.add(behind.id)
                order.lost(behind.id)
        assert all(lost.isdisjoint(op.after) for op in todo.values())
