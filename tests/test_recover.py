"""What becomes of a creation whose answer was lost: found, proven absent, or left to a person; never made twice.

The emulator plays the losses (docs/emulator.md, Faults); time is a number, so that waiting costs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import catalogue, engine, kinds, surgery
from reconciler.apply import Stage
from reconciler.plan import Verb
from reconciler.recover import parse_time
from reconciler.state import Fact, Gone, Intent, IntentPhase, Role
from tests.desk import Desk, document, emulator, lines, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
DATASET = document("Dataset", "d", {"source": "data/d.jsonl", "format": "sft"})
WORDS = document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": [{"text": "热词", "weight": 4}]})
PHRASES = document("HotwordTable", "v", {"targetModel": "paraformer-v1", "words": [{"text": "热词", "weight": 4}]})
KINDS = {"files": 0, "jobs": 1, "deployments": 1, "vocabularies": 0, "phrases": 0}
PAID = tuple(name for name, paid in KINDS.items() if paid)
LOST = {"drop": {"moment": "after"}}
FAILED = {"answer": {"status": 502}}
NEVER = {"refuse": {"status": 500}}
"""Not committed, but nobody can know that."""


def job(name: str = "j", **spec: Any) -> dict[str, Any]:
    plain = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
    return document("FineTuneJob", name, {**plain, **spec})


def deployment(name: str = "p", **spec: Any) -> dict[str, Any]:
    plain = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    return document("Deployment", name, {**plain, **spec})


WORLD = (DATASET, job(), deployment(), WORDS, PHRASES)


@pytest.fixture
def ready(desk: Desk) -> Desk:
    """A project with one object of each collection, none of them applied."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(*WORLD)
    return desk


@pytest.fixture
def known(ready: Desk) -> Desk:
    """The same on an account that is known to show the marks of everything."""
    knows(ready, *KINDS)
    return ready


def knows(desk: Desk, *collections: str) -> None:
    with desk.session() as opened, opened.store.lease() as epoch:
        opened.store.commit(epoch, *(Fact(f"{name}.mark", True, "seen", "2026-11-02 14:05:00") for name in collections))


def play(desk: Desk, *rules: dict[str, Any]) -> None:
    desk.emulator.control("faults", {"faults": list(rules)})


def bought(desk: Desk, collection: str) -> int:
    return desk.emulator.operations().count(f"{collection}.create")


def creation(desk: Desk, collection: str) -> list[IntentPhase]:
    journal = sorted(desk.state().intents.values(), key=lambda intent: intent.op_id)
    return [one.phase for one in journal if one.verb == "create" and one.collection == collection]


def converges(desk: Desk) -> bool:
    """Whether three runs without faults come to an empty plan."""
    play(desk)
    for _ in range(3):
        desk.apply()
    return lines(desk.plan()) == []


# Lost answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [LOST, FAILED], ids=["dropped", "502"])
@pytest.mark.parametrize("collection", KINDS)
def test_an_answer_lost_after_the_commit_is_adopted(ready: Desk, collection: str, loss: dict[str, Any]) -> None:
    """Also on an account of which nothing is known yet: what carries the mark, or came at that time, is ours."""
    play(ready, {"operation": f"{collection}.create", "nth": 1, **loss})
    ready.apply()
    assert converges(ready)
    assert bought(ready, collection) == 1
    assert creation(ready, collection) == [IntentPhase.ADOPTED]


@pytest.mark.parametrize("collection", KINDS)
def test_what_was_never_made_is_made_once_it_is_certain(known: Desk, collection: str) -> None:
    """A 500 before the commit looks like one after it: the second request goes out only after the settle time."""
    play(known, {"operation": f"{collection}.create", "nth": 1, **NEVER})
    began = known.clock.now_s
    known.apply()
    assert creation(known, collection)[0] is IntentPhase.ABSENT
    settle_s = 900 if collection == "jobs" else 240
    assert known.clock.now_s - began > settle_s
    assert converges(known)
    assert bought(known, collection) == 1


@pytest.mark.parametrize("collection", KINDS)
def test_both_have_the_same_mark(known: Desk, collection: str) -> None:
    """Or the first one, should it still come, would not be recognised."""
    play(known, {"operation": f"{collection}.create", "nth": 1, **NEVER})
    known.apply()
    converges(known)
    first, second = sorted(
        (one for one in known.state().intents.values() if one.collection == collection), key=lambda one: one.op_id
    )
    assert (first.tag, first.attempt) == (second.tag, second.attempt)


def test_absence_of_a_paid_run_is_no_proof_where_marks_were_never_seen(ready: Desk) -> None:
    """Its effect may be there under a name that we would not recognise: a person must look."""
    play(ready, {"operation": "jobs.create", "nth": 1, **NEVER})
    ready.apply()
    assert creation(ready, "jobs") == [IntentPhase.NEEDS_HUMAN]
    ready.apply()
    assert creation(ready, "jobs") == [IntentPhase.NEEDS_HUMAN]
    assert bought(ready, "jobs") == 0
    blocked = next(op for op in ready.plan().operations if op.slot.address == "FineTuneJob/j")
    assert (blocked.verb, blocked.code) == (Verb.NOTHING, 7)
    assert "ops show" in blocked.hint


def test_a_suffix_makes_repeating_a_deployment_safe_even_there(ready: Desk) -> None:
    """The service refuses a second one with the same suffix."""
    play(ready, {"operation": "deployments.create", "nth": 1, **NEVER})
    assert converges(ready)
    assert bought(ready, "deployments") == 1


def test_the_second_unknown_outcome_is_a_persons(known: Desk) -> None:
    play(known, {"operation": "jobs.create", **NEVER})
    for _ in range(3):
        known.apply()
    assert creation(known, "jobs") == [IntentPhase.ABSENT, IntentPhase.NEEDS_HUMAN]


def test_a_stack_may_want_to_be_asked_about_the_first_already(known: Desk) -> None:
    stack = document("Stack", "desk", {"endpoint": "emulator", "profile": "2026", "onUnknown": "Ask"})
    play(known, {"operation": "jobs.create", "nth": 1, **NEVER})
    known.write("stack.yaml", yaml.safe_dump_all([stack, *WORLD], allow_unicode=True, sort_keys=False))
    known.apply()
    assert creation(known, "jobs") == [IntentPhase.NEEDS_HUMAN]


@pytest.mark.parametrize("collection", PAID)
@pytest.mark.parametrize("hidden_s", [0, 5, 60, 119, 121, 600])
def test_a_list_that_is_behind_makes_nobody_buy_again(known: Desk, collection: str, hidden_s: int) -> None:
    """Ten minutes late is longer than any list should be, and still no reason to pay twice."""
    play(
        known,
        {"operation": f"{collection}.create", "nth": 1, **LOST},
        {"operation": f"{collection}.list", "hide": {"emulated_s": hidden_s}},
    )
    known.apply()
    assert converges(known)
    assert bought(known, collection) == 1


@pytest.mark.parametrize("collection", PAID)
def test_a_key_of_another_account_proves_no_absence(known: Desk, collection: str) -> None:
    """What the first key made, the second may not see; only a suffix of the service's own checking is as good."""
    play(known, {"operation": f"{collection}.create", "nth": 1, **NEVER})
    known.apply(stopped=lambda: any(one.stage is Stage.UNKNOWN for one in known.told))
    open_one = next(one for one in known.state().intents.values() if one.collection == collection)
    with known.session() as opened, opened.store.lease() as epoch:
        lost = replace(open_one, phase=IntentPhase.UNKNOWN, account="another")
        opened.store.commit(epoch, lost)
    play(known)
    applied = known.apply()
    assert [one.intent.phase for one in applied.recovered] == [IntentPhase.NEEDS_HUMAN]
    assert "another key" in applied.recovered[0].what


# Who it was ---------------------------------------------------------------------------------------------------------


def test_several_objects_with_one_mark_are_a_persons_to_tell_apart(known: Desk) -> None:
    """The message holds all that is needed: when, what for, what was found with its cost, and both commands."""
    play(known, {"operation": "jobs.create", "nth": 1, **LOST})
    known.apply(stopped=lambda: any(one.stage is Stage.UNKNOWN for one in known.told))
    intent = next(one for one in known.state().intents.values() if one.collection == "jobs")
    reopen(known, intent)
    body = {
        "model": "qwen3-8b",
        "training_type": "efficient_sft",
        "training_file_ids": [entry["id"] for entry in known.emulator.ledger() if entry["operation"] == "files.create"],
        "hyper_parameters": HYPER,
        "job_name": f"j-{intent.tag}",
    }
    known.emulator.call("POST", "/fine-tunes", body)
    play(known)
    found = known.apply().recovered
    assert [one.intent.phase for one in found] == [IntentPhase.NEEDS_HUMAN]
    assert len(found[0].candidates) == 2
    assert all(one.created and one.status for one in found[0].candidates)


def reopen(desk: Desk, intent: Intent) -> None:
    """As a killed process would have left it."""
    with desk.session() as opened, opened.store.lease() as epoch:
        rows = [row for row in opened.store.load().owned.values() if row.slot == intent.slot]
        opened.store.commit(
            epoch, *(Gone(row.key) for row in rows), replace(intent, phase=IntentPhase.UNKNOWN, result_id="")
        )


def test_what_only_looks_like_it_is_adopted_where_marks_are_not_shown(tmp_path: Path) -> None:
    """December 2024 shows no job name, and no model before success: one job of the right time and inputs is ours."""
    root = tmp_path / "old"
    root.mkdir()
    switches = {"jobs.early_finetuned_output": "off"}
    with emulator(tmp_path / "service", profile="dec-2024", switches=switches) as service:
        old = Desk(root, service)
        old.rows("data/d.jsonl", texts(40))
        spec = {"model": "qwen2.5-14b-instruct", "trainingType": "efficient_sft", "training": ["d"]}
        old.declare(DATASET, document("FineTuneJob", "j", spec), profile="dec-2024")
        play(old, {"operation": "jobs.create", "nth": 1, **LOST})
        old.apply()
        assert creation(old, "jobs") == [IntentPhase.ADOPTED]
        assert converges(old)
        assert bought(old, "jobs") == 1


@pytest.mark.parametrize("collection", ["jobs", "deployments"])
def test_an_id_that_leads_nowhere_is_no_reason_to_buy_again(known: Desk, collection: str) -> None:
    """The answer named another object than the one it made: that one is found by its mark."""
    member = {"jobs": "job_id", "deployments": "deployed_model"}[collection]
    edit = {"set": {f"output.{member}": "other-1"}}
    play(known, {"operation": f"{collection}.create", "nth": 1, "edit": edit})
    known.apply()
    assert converges(known)
    assert bought(known, collection) == 1
    assert "other-1" not in {row.id for row in known.state().owned.values()}


def test_an_own_suffix_that_somebody_else_has_is_told_and_not_taken_over(known: Desk) -> None:
    """The conflict is no earlier attempt of ours: the object was there before, and is not ours to adopt."""
    known.declare(deployment(suffix="mine"))
    body = {"model_name": "qwen3-8b", "plan": "mu", "deploy_spec": "MU1", "capacity": 4, "suffix": "mine"}
    known.emulator.call("POST", "/deployments", body)
    known.emulator.control("clock", {"advance_s": 3600})
    known.apply()
    state = known.state()
    assert not state.owned
    assert creation(known, "deployments") == [IntentPhase.REJECTED]
    assert bought(known, "deployments") == 1


# What comes late ----------------------------------------------------------------------------------------------------


def late_job(desk: Desk, tag: str) -> str:
    file_id = next(entry["id"] for entry in desk.emulator.ledger() if entry["operation"] == "files.create")
    body = {
        "model": "qwen3-8b",
        "training_type": "efficient_sft",
        "training_file_ids": [file_id],
        "hyper_parameters": HYPER,
        "job_name": f"j-{tag}",
    }
    return str(desk.emulator.call("POST", "/fine-tunes", body)["output"]["job_id"])


def test_what_comes_late_takes_its_place_where_nothing_was_bought_again(known: Desk) -> None:
    play(known, {"operation": "jobs.create", "nth": 1, **NEVER})
    known.apply()
    (intent,) = [one for one in known.state().intents.values() if one.collection == "jobs"]
    assert intent.phase is IntentPhase.ABSENT
    late = late_job(known, intent.tag)
    play(known)
    assert "= adopt FineTuneJob/j" in lines(known.plan())
    known.apply()
    assert converges(known)
    row = known.state().row(intent.slot, Role.CURRENT)
    assert row is not None
    assert row.id == late
    assert bought(known, "jobs") == 1


def test_what_comes_late_of_an_object_that_is_paused_is_no_duplicate(known: Desk) -> None:
    """It is the only one there is, and takes its place once the pause is over."""
    play(known, {"operation": "jobs.create", "nth": 1, **NEVER})
    known.apply()
    (intent,) = [one for one in known.state().intents.values() if one.collection == "jobs"]
    late = late_job(known, intent.tag)
    play(known)
    with known.session() as opened:
        engine.operate(opened, lambda state, deed: surgery.pause(state, (intent.slot.address,), deed))
    assert not any(late in op.why for op in known.plan().operations)
    with known.session() as opened:
        engine.operate(opened, lambda state, deed: surgery.resume(state, (intent.slot.address,), deed))
    assert "= adopt FineTuneJob/j" in lines(known.plan())


def test_a_duplicate_that_comes_late_is_told_with_its_cost_and_stopped_only_when_asked(known: Desk) -> None:
    play(known, {"operation": "jobs.create", "nth": 1, **NEVER})
    known.apply()
    (intent,) = [one for one in known.state().intents.values() if one.collection == "jobs"]
    assert converges(known)
    late = late_job(known, intent.tag)
    (told,) = known.plan().operations
    assert (told.verb, told.code) == (Verb.NOTHING, 7)
    assert late in told.why
    assert "CNY" in told.why
    known.apply()
    assert "jobs.cancel" not in known.emulator.operations()
    known.apply(allow=frozenset({("duplicate", late)}))
    assert known.emulator.operations()[-1] == "jobs.cancel"
    assert known.emulator.call("GET", f"/fine-tunes/{late}")["output"]["status"] in ("CANCELING", "CANCELED")


def test_nobody_looks_for_it_any_more_after_a_day(known: Desk) -> None:
    play(known, {"operation": "jobs.create", "nth": 1, **NEVER})
    known.apply()
    (intent,) = [one for one in known.state().intents.values() if one.collection == "jobs"]
    assert converges(known)
    late_job(known, intent.tag)
    known.emulator.control("clock", {"advance_s": 25 * 3600})
    assert lines(known.plan()) == []


# The wrong account --------------------------------------------------------------------------------------------------


def test_when_most_of_what_is_ours_is_gone_nothing_is_made_again(ready: Desk) -> None:
    """Rather another account behind the same key than so many deletions: nothing is bought, nothing forgotten."""
    ready.apply()
    before = ready.state().owned
    unread = [{"operation": f"{name}.get", "refuse": {"status": 404}} for name in KINDS]
    unlisted = [{"operation": f"{name}.list", "hide": {"emulated_s": 1e6}} for name in KINDS]
    play(ready, *unread, *unlisted)
    for choices in ({}, {"prune": True}, {"destroy": True}):
        applied = ready.apply(**choices)
        assert {one.stage for one in applied.progress} <= {Stage.BLOCKED, Stage.SKIPPED}
        assert {one.code for one in applied.progress if one.stage is Stage.BLOCKED} == {3}
    assert ready.state().owned == before
    play(ready)
    assert lines(ready.plan()) == []


def test_one_object_that_is_gone_is_simply_gone(ready: Desk) -> None:
    ready.apply()
    gone = next(row.id for row in ready.state().owned.values() if row.collection == "vocabularies")
    body = {"model": "speech-biasing", "input": {"action": "delete_vocabulary", "vocabulary_id": gone}}
    ready.emulator.call("POST", "/services/audio/asr/customization", body)
    assert lines(ready.plan()) == ["+ create HotwordTable/w"]


def test_a_job_says_who_made_it_and_of_what() -> None:
    """By these two what only looks alike is told from ours, wherever this generation of the API shows the inputs."""
    jobs = kinds.collections(catalogue.load().for_profile("2026"))["jobs"]
    plain = jobs.parse({"job_id": "ft-1", "creator": "17", "training_file_ids": ["f-1", "f-2"]})
    assert (plain.outputs["creator"], plain.outputs["inputs"]) == ("17", ("f-1", "f-2"))
    newer = jobs.parse({"job_id": "ft-1", "training_file_ids": [], "training_datasets": [{"file_id": "f-3"}]})
    assert newer.outputs["inputs"] == ("f-3",)


# What is learnt -----------------------------------------------------------------------------------------------------


def test_the_first_object_of_each_collection_tells_whether_marks_are_shown(ready: Desk) -> None:
    ready.apply()
    facts = {name: fact.holds for name, fact in ready.state().facts.items()}
    assert facts == {
        "files.mark": True,
        "jobs.mark": True,
        "deployments.mark": True,
        "vocabularies.mark": True,
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-05-26 14:05:09", "2026-05-26T14:05:09+08:00"),
        ("2026-05-26T14:05:09", "2026-05-26T14:05:09+08:00"),
        ("2026-05-26T14:05:09.12", "2026-05-26T14:05:09.120000+08:00"),
        ("2026-05-26T06:05:09Z", "2026-05-26T06:05:09+00:00"),
    ],
)
def test_times_of_the_service_are_beijings_unless_they_say_otherwise(text: str, wanted: str) -> None:
    assert parse_time(text).isoformat() == wanted
