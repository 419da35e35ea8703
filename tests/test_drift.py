"""Last applied against observed: every class of difference, whose doing it likely is, and what is never drift."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from reconciler import catalogue, engine
from reconciler.apply import Terms
from reconciler.drift import Drift, Trace, drifts, foreseen
from reconciler.engine import Drifting
from reconciler.errors import Refused
from reconciler.kinds import collections, deployment
from reconciler.plan import Choices
from reconciler.render import drift as words
from reconciler.render.plan import Heading
from reconciler.render.words import columns
from reconciler.resource import DriftClass
from reconciler.state import Intent, IntentPhase, Owned, live_rows
from tests.desk import Desk, emulator, lines
from tests.test_kinds import CHAIN, STACKS, data, hotwords, phrases
from tests.test_kinds import deployment as capacity_for
from tests.test_plan import CASES, Scene, scene

Case = Mapping[str, Any]
SPEC = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
P = {"kind": "Deployment", "name": "p", "spec": SPEC}
JOB = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": [{"fileId": "f"}],
       "hyperParameters": {"n_epochs": 1, "batch_size": 8, "max_length": 500}}  # fmt: skip
J = {"kind": "FineTuneJob", "name": "j", "spec": JOB}
LORA = {"kind": "Deployment", "name": "l", "spec": {"model": {"fineTuneJob": "j"}, "plan": "lora"}}
D = {"kind": "Dataset", "name": "d", "spec": {"source": "d.jsonl", "format": "sft"}}
W = {"kind": "HotwordTable", "name": "w", "spec": {"targetModel": "paraformer-v2", "words": [
    {"text": "词", "weight": 4}, {"text": "gene", "weight": 3}]}}  # fmt: skip
V1 = {"kind": "HotwordTable", "name": "v", "spec": {"targetModel": "paraformer-v1", "words": [
    {"text": "词", "weight": 2}]}}  # fmt: skip


def without(name: str) -> dict[str, Any]:
    """The deployment with one field released by its author."""
    return {**P, "spec": {field: value for field, value in SPEC.items() if field != name}}


def compared(here: Scene) -> tuple[Drift, ...]:
    readers = collections(catalogue.load().for_profile(here.profile))
    found = drifts(here.desired, here.state, here.world, readers)
    return foreseen(found, here.plan(), here.desired)


def told(case: Case) -> list[str]:
    return [text(one) for one in compared(scene(case))]


def text(one: Drift) -> str:
    """One difference as a line: class, object, field, values, and whether an apply corrects it."""
    what = f" {'.'.join(one.path)}: {one.before} -> {one.after if one.shown else '?'}" if one.path else ""
    return f"{one.sort} {one.row.key}{what}{' (corrected)' if one.outlook.corrected else ''}"


# What is no drift ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_what_the_service_shows_as_applied_is_no_drift(name: str) -> None:
    """Whatever is declared by now, and whatever the plan makes of it."""
    assert told({**CASES[name], "observed": {}}) == []


@pytest.mark.parametrize("role", ["applied", "next"])
@pytest.mark.parametrize("status", sorted(deployment.PENDING))
def test_a_deployment_under_way_is_progress(role: str, status: str) -> None:
    key = "deployments/p-next" if role == "next" else "deployments/p"
    assert told({role: [P], "manifests": [P], "observed": {key: {"status": status, "ready_capacity": 0}}}) == []


@pytest.mark.parametrize("status", ["PENDING", "QUEUING", "RUNNING", "CANCELING"])
def test_a_run_under_way_is_progress(status: str) -> None:
    assert told({"next": [J], "manifests": [J], "observed": {"jobs/j-next": {"status": status}}}) == []


def test_a_creation_that_failed_is_an_outcome_and_no_drift() -> None:
    """The plan says so already, and nobody changed anything."""
    assert told({"next": [P], "manifests": [P], "observed": {"deployments/p-next": {"status": "FAILED"}}}) == []
    assert told({"next": [J], "manifests": [J], "observed": {"jobs/j-next": {"status": "FAILED"}}}) == []


def test_what_no_call_can_change_is_not_drift_however_it_is_spelt() -> None:
    """Else a model that the service renames would be told as drift for ever."""
    observed = {
        "deployments/p": {"model_name": "qwen3-8b-latest", "model_unit_spec": "mu1"},
        "jobs/j": {"model": "qwen3-8b-2026", "hyper_parameters": {"n_epochs": "1", "batch_size": 8.0}},
    }
    assert told({"applied": [P, J], "observed": observed}) == []


def test_what_the_service_does_not_say_is_no_difference() -> None:
    limited = {**P, "spec": {**SPEC, "limits": {"rpm": 10, "tpm": 100}}}
    silent = {"capacity": None, "plan": None, "rpm_limit": 10}
    assert told({"applied": [limited], "observed": {"deployments/p": silent}}) == []


def test_a_field_that_was_never_applied_or_was_released_is_not_ours() -> None:
    limited = {**P, "spec": {**SPEC, "limits": {"rpm": 10, "tpm": 100}}}
    half = {**P, "spec": {**SPEC, "limits": {"rpm": 10}}}
    theirs = {"deployments/p": {"rpm_limit": 10, "tpm_limit": 7}}
    assert told({"applied": [P], "observed": theirs}) == []
    assert told({"applied": [limited], "manifests": [P], "observed": theirs}) == []
    assert told({"applied": [limited], "manifests": [half], "observed": theirs}) == []
    assert told({"applied": [limited], "observed": theirs}) == [
        "changed deployments/p limits.tpm: 100 -> 7 (corrected)"
    ]


def test_an_ignored_field_may_be_anything() -> None:
    ignoring = {**P, "lifecycle": {"ignore": ["capacity"]}}
    assert told({"applied": [P], "manifests": [ignoring], "observed": {"deployments/p": {"capacity": 12}}}) == []


def test_what_is_as_declared_by_now_needs_nobody() -> None:
    """An update of ours that was cut off, or a hand that was quicker: the next apply records it and does nothing."""
    more = {**P, "spec": {**SPEC, "capacity": 8}}
    observed = {"deployments/p": {"capacity": 8, "ready_capacity": 8}}
    assert told({"applied": [P], "manifests": [more], "observed": observed}) == []
    assert scene({"applied": [P], "manifests": [more], "observed": observed}).plan().operations == ()


def test_what_a_younger_object_does_not_show_yet_is_not_gone() -> None:
    here = scene({"applied": [P, W], "observed": {"deployments/p": "gone"}})
    made = replace(here.state.owned["deployments/p"], applied_at="2026-11-02 14:00:00")
    state = here.state.fold([made])
    soon, later = (replace(here.world, at=f"2026-11-02 14:{minute}:00") for minute in ("01", "05"))
    assert compared(replace(here, state=state, world=soon)) == ()
    assert [one.sort for one in compared(replace(here, state=state, world=later))] == [DriftClass.VANISHED]


def sent(row: Owned, verb: str, phase: IntentPhase, at: str = "2026-11-02 14:00:00") -> Intent:
    """The journal row of a request about an object."""
    body = {"generation": "", "tag": "", "attempt": 0, "epoch": 1, "fields": {}}
    return Intent(f"op-{verb}", row.slot, row.collection, verb, at=at, known_before=(row.id,), phase=phase,
                  deadline=at, **body)  # fmt: skip


def with_journal(here: Scene, *intents: Intent) -> Scene:
    return replace(here, state=here.state.fold(intents))


@pytest.mark.parametrize("observed", ["gone", {"status": "DELETING", "ready_capacity": 0}])
def test_what_we_let_go_ourselves_is_no_drift(observed: Any) -> None:
    here = scene({"applied": [P], "observed": {"deployments/p": observed}})
    row = here.state.owned["deployments/p"]
    assert [one.sort for one in compared(here)] == [DriftClass.VANISHED]
    assert compared(with_journal(here, sent(row, "delete", IntentPhase.DONE))) == ()
    refused = with_journal(here, sent(row, "delete", IntentPhase.REJECTED))
    assert [one.sort for one in compared(refused)] == [DriftClass.VANISHED]


@pytest.mark.parametrize(
    ("made", "drifted"), [("2026-11-02 13:59:00", False), ("2026-11-02T13:59:00", False), ("2026-11-02 15:00:00", True)]
)
def test_a_deletion_of_an_earlier_object_with_the_same_id_excuses_nothing(made: str, drifted: bool) -> None:
    """An author's own suffix makes the same id again. A rebuild records times as the service writes them."""
    here = scene({"applied": [P], "observed": {"deployments/p": "gone"}})
    row = replace(here.state.owned["deployments/p"], applied_at=made)
    deleted = replace(here, state=here.state.fold([row, sent(row, "delete", IntentPhase.DONE)]))
    assert [one.sort for one in compared(deleted)] == ([DriftClass.VANISHED] if drifted else [])


def test_while_our_own_request_has_no_outcome_nobody_knows_whose_doing_it_is() -> None:
    here = scene({"applied": [P], "observed": {"deployments/p": {"capacity": 8}}})
    row = here.state.owned["deployments/p"]
    assert compared(with_journal(here, sent(row, "update", IntentPhase.UNKNOWN))) == ()
    assert len(compared(with_journal(here, sent(row, "update", IntentPhase.DONE)))) == 1


# Classes and what follows -------------------------------------------------------------------------------------------


def test_what_was_edited_is_told_field_by_field() -> None:
    """Also where nothing of it is left: then each word that went and each that came."""
    limited = {**P, "spec": {**SPEC, "limits": {"rpm": 10}}}
    shown = {"capacity": 8, "rpm_limit": 99}
    assert told({"applied": [limited], "observed": {"deployments/p": shown}}) == [
        "changed deployments/p capacity: 4 -> 8 (corrected)",
        "changed deployments/p limits.rpm: 10 -> 99 (corrected)",
    ]
    words = [{"text": "词", "weight": 5}, {"text": "新", "weight": 1}]
    assert told({"applied": [W], "observed": {"vocabularies/w": {"vocabulary": words}}}) == [
        "changed vocabularies/w words.gene: {'weight': 3} -> None (corrected)",
        "changed vocabularies/w words.新: None -> {'weight': 1} (corrected)",
        "changed vocabularies/w words.词.weight: 4 -> 5 (corrected)",
    ]
    assert told({"applied": [W], "observed": {"vocabularies/w": {"vocabulary": words[1:]}}}) == [
        "changed vocabularies/w words.gene: {'weight': 3} -> None (corrected)",
        "changed vocabularies/w words.新: None -> {'weight': 1} (corrected)",
        "changed vocabularies/w words.词: {'weight': 4} -> None (corrected)",
    ]


def test_an_edit_is_seen_also_while_the_service_carries_it_out() -> None:
    """Who scaled it by hand a minute ago need not be awaited."""
    resizing = {"status": "UPDATING", "capacity": 8, "ready_capacity": 4}
    assert told({"applied": [P], "observed": {"deployments/p": resizing}}) == [
        "changed deployments/p capacity: 4 -> 8 (corrected)"
    ]


def test_words_that_are_never_shown_are_told_by_what_gives_them_away() -> None:
    assert told({"profile": "dec-2024", "applied": [V1], "observed": {"phrases/v": {"job_id": "another"}}}) == [
        "changed phrases/v words: {'词': {'weight': 2}} -> ? (corrected)"
    ]


def test_an_upload_that_holds_something_else_is_replaced_and_no_apply_says_so() -> None:
    """What no call can change is never bought again for what the service shows: a person asks for it."""
    contents = {"d": [{"path": "d.jsonl", "md5": "a" * 32, "rows": 40, "tokens": 1}]}
    case = {"contents": contents, "applied": [D], "observed": {"files/d-d.jsonl": {"md5": "b" * 32}}}
    (one,) = compared(scene(case))
    assert text(one) == f"replaced files/d-d.jsonl source: {'a' * 32}-100 -> {'b' * 32}-100"
    assert "--replace Dataset/d" in one.outlook.hint


@pytest.mark.parametrize(
    ("status", "sort"),
    [
        ("ARREARS_DOWN", DriftClass.ARREARS),
        ("OFFLINING", DriftClass.RETIRED),
        ("STOPPED", DriftClass.STOPPED),
        ("STOPPING", DriftClass.STOPPED),
        ("SUSPENDED", DriftClass.STOPPED),
        ("SUSPENDING", DriftClass.STOPPED),
        ("DELETING", DriftClass.VANISHED),
        ("FAILED", DriftClass.FAILED),
        ("UPDATING_FAILED", DriftClass.FAILED),
        ("HIBERNATING", DriftClass.UNKNOWN),
    ],
)
def test_a_deployment_that_left_use_is_told_as_one_thing(status: str, sort: DriftClass) -> None:
    """One that is down may show any capacity: that is no second difference."""
    down = {"status": status, "capacity": 0, "ready_capacity": 0}
    (one,) = compared(scene({"applied": [P], "observed": {"deployments/p": down}}))
    assert (one.sort, one.path, one.outlook.corrected) == (sort, (), False)
    assert one.why
    waits = sort is DriftClass.UNKNOWN
    assert one.outlook.what.startswith("an apply waits" if waits else "a person must decide: p is ")


def test_every_word_for_a_failed_deployment_is_classed() -> None:
    """Those that are left over failed and nothing else."""
    assert deployment.DISTURBANCES.keys() <= deployment.FAILED
    assert deployment.FAILED - deployment.DISTURBANCES.keys() == {"FAILED", "UPDATING_FAILED"}


def test_a_model_that_retires_is_named_beside_what_took_it_offline() -> None:
    old = {"kind": "Deployment", "name": "p", "spec": {**SPEC, "model": "qwen2.5-14b-instruct"}}
    retires = catalogue.load().for_profile("2026").retires("qwen2.5-14b-instruct")
    assert retires
    case = {"applied": [old], "observed": {"deployments/p": {"status": "OFFLINING", "ready_capacity": 0}}}
    (one,) = compared(scene(case))
    assert one.why.endswith(f"the catalogue has its model retire on {retires}")


def test_a_run_that_somebody_canceled_is_told() -> None:
    shown = {"status": "CANCELED", "finetuned_output": "", "code": "1", "message": "by hand"}
    (one,) = compared(scene({"next": [J], "manifests": [J], "observed": {"jobs/j-next": shown}}))
    assert (one.sort, one.why) == (DriftClass.STOPPED, "it was canceled: 1 by hand")
    assert one.outlook.what.startswith("a person must decide")


def test_what_is_gone_and_what_an_apply_makes_of_that() -> None:
    """Capacity is made again, a run that was paid for is not."""
    case = {"applied": [J, P, W, V1], "observed": {"deployments/p": "gone", "jobs/j": "gone"}}
    deployed, run = compared(scene(case))
    assert (deployed.sort, deployed.outlook.corrected) == (DriftClass.VANISHED, True)
    assert (run.sort, run.outlook.corrected) == (DriftClass.VANISHED, False)
    assert "--replace FineTuneJob/j" in run.outlook.hint


@pytest.mark.parametrize(
    ("document", "day", "sort"),
    [(LORA, "12-03", DriftClass.RELEASED), (LORA, "11-20", DriftClass.VANISHED), (P, "12-03", DriftClass.VANISHED)],
)
def test_only_what_can_have_been_idle_for_a_month_was_likely_released(
    document: Any, day: str, sort: DriftClass
) -> None:
    key = f"deployments/{document['name']}"
    here = scene({"applied": [J, document], "observed": {key: "gone"}})
    made = replace(here.state.owned[key], applied_at="2026-11-02 14:00:00")
    here = replace(here, state=here.state.fold([made]), world=replace(here.world, at=f"2026-{day} 15:00:00"))
    (one,) = compared(here)
    assert (one.sort, one.sort.platform_made) == (sort, sort is DriftClass.RELEASED)
    assert one.outlook.corrected


def test_what_is_only_observed_is_compared_and_left() -> None:
    watched = {**P, "lifecycle": {"observeOnly": True}}
    (one,) = compared(scene({"applied": [P], "manifests": [watched], "observed": {"deployments/p": {"capacity": 8}}}))
    assert text(one) == "changed deployments/p capacity: 4 -> 8"
    assert one.outlook.what == "it is only observed"


def test_what_no_manifest_declares_any_more_is_compared_and_left() -> None:
    (one,) = compared(scene({"applied": [P], "manifests": [], "observed": {"deployments/p": {"capacity": 8}}}))
    assert text(one) == "changed deployments/p capacity: 4 -> 8"
    assert "--prune" in one.outlook.hint


def test_the_old_side_of_a_swap_drifted_and_goes_anyway() -> None:
    other = {**P, "spec": {**SPEC, "model": "qwen3-32b"}}
    case = {"applied": [P], "next": [other], "manifests": [other],
            "observed": {"deployments/p": {"capacity": 8}, "deployments/p-next": {"status": "DEPLOYING"}}}  # fmt: skip
    (one,) = compared(scene(case))
    assert (one.row.id, one.outlook.what) == ("p", "an apply lets it go")


@pytest.mark.parametrize("name", CASES)
def test_what_an_apply_corrects_has_its_operation_and_the_rest_has_none(name: str) -> None:
    here = scene(CASES[name])
    acts = {op.slot for op in here.plan().work if op.verb != "wait"}
    for one in compared(here):
        assert one.outlook.what
        if one.outlook.corrected:
            assert one.row.slot in acts


def test_an_update_of_another_field_corrects_nothing() -> None:
    (one,) = drifted = compared(scene({"applied": [P], "observed": {"deployments/p": {"capacity": 8}}}))
    assert one.outlook.corrected
    other = scene({"applied": [P], "manifests": [{**P, "spec": {**SPEC, "limits": {"rpm": 5}}}]})
    (left,) = foreseen(drifted, other.plan(), other.desired)
    assert not left.outlook.corrected


# Whose doing --------------------------------------------------------------------------------------------------------

WRITE, BEFORE, AFTER = "2026-11-02 13:40:00", "2026-11-02T13:40:01", "2026-11-02T14:02:00"


@pytest.mark.parametrize(
    ("recorded", "shown", "trace"),
    [
        ((BEFORE, "7"), (AFTER, "7"), Trace("2026-11-02 14:02:00", WRITE, "7", own=True)),
        ((BEFORE, "7"), (AFTER, "9"), Trace("2026-11-02 14:02:00", WRITE, "9", own=False)),
        ((BEFORE, "7"), (BEFORE, "7"), Trace("", WRITE)),  # the service did not move its time: nothing is known
        ((BEFORE, "7"), (BEFORE, "9"), Trace("", WRITE, "9", own=False)),
        ((BEFORE, ""), (AFTER, "9"), Trace("2026-11-02 14:02:00", WRITE, "9")),  # which account we are is not recorded
        ((BEFORE, ""), (BEFORE, "9"), Trace("", WRITE)),  # that may have been us
        ((BEFORE, "7"), (AFTER, ""), Trace("2026-11-02 14:02:00", WRITE)),
        ((BEFORE, "7"), ("2026-11-02T12:00:00", "7"), Trace("", WRITE)),  # from before our own last request
        ((BEFORE, "7"), ("yesterday", "7"), Trace("", WRITE)),
        ((BEFORE, "7"), ("2026-11-02T14:02:00Z", "7"), Trace("", WRITE)),  # in a zone that no page speaks of
        (("", ""), ("2026-11-02T14:02:00.5", ""), Trace("2026-11-02 14:02:00", WRITE)),
    ],
)
def test_no_more_is_claimed_than_the_service_tells(
    recorded: tuple[str, str], shown: tuple[str, str], trace: Trace
) -> None:
    members = {"capacity": 8, "gmt_modified": shown[0], "modifier": shown[1]}
    here = scene({"applied": [P], "observed": {"deployments/p": members}})
    row = replace(here.state.owned["deployments/p"], outputs={"modified": recorded[0], "modifier": recorded[1]})
    here = replace(here, state=here.state.fold([row, sent(row, "update", IntentPhase.DONE, at=WRITE)]))
    (one,) = compared(here)
    assert one.trace == trace


def test_whoever_touched_what_we_never_wrote_to_is_not_said_to_be_us() -> None:
    """It was taken over as it stood: the account that the record names is its maker's."""
    members = {"capacity": 8, "gmt_modified": AFTER, "modifier": "7"}
    here = scene({"applied": [P], "observed": {"deployments/p": members}})
    row = replace(here.state.owned["deployments/p"], outputs={"modified": BEFORE, "modifier": "7"})
    (one,) = compared(replace(here, state=here.state.fold([row])))
    assert (one.trace.account, one.trace.own, one.trace.last_write) == ("7", None, "")


# Over the wire ------------------------------------------------------------------------------------------------------


def look(desk: Desk, *allow: tuple[str, str]) -> Drifting:
    with desk.session() as opened:
        return engine.drift(opened, Choices(allow=frozenset(allow)))


def seen(desk: Desk, *allow: tuple[str, str]) -> list[tuple[str, str, str, bool]]:
    """Class, address, field and whether an apply corrects it, of each difference."""
    found = look(desk, *allow).found
    return [(one.sort.value, one.row.slot.address, ".".join(one.path), one.outlook.corrected) for one in found]


def made(desk: Desk, operation: str) -> str:
    """The id of the last object that an operation made."""
    return [str(entry["id"]) for entry in desk.emulator.ledger() if entry["operation"] == operation][-1]


@pytest.mark.parametrize("name", STACKS)
def test_neither_what_goes_on_nor_what_is_done_is_ever_drift(name: str, tmp_path: Path) -> None:
    """The law: every kind, looked at through its whole life, from the first request to the last."""
    profile, documents = STACKS[name]
    with emulator(tmp_path / "service", profile=profile) as service:
        (tmp_path / "project").mkdir()
        desk = Desk(tmp_path / "project", service)
        data(desk)
        desk.rows("data/c.jsonl", [f"row {number}" for number in range(40)], "cpt")
        desk.rows("data/q.jsonl", [f"row {number}" for number in range(40)], "dpo")
        desk.declare(*documents, profile=profile)
        assert seen(desk) == []
        assert watched(desk) > 2
        changed = [scaled(document) for document in documents]
        desk.declare(*changed, profile=profile)
        watched(desk)
        assert lines(desk.plan()) == []
        deletable = [{**document, "lifecycle": {"deletionPolicy": "Delete"}} for document in changed]
        desk.declare(*deletable, profile=profile)
        desk.apply()
        watched(desk, destroy=True)
        assert lines(desk.plan(destroy=True)) == []


def watched(desk: Desk, **choices: Any) -> int:
    """How often somebody looked for drift during an apply, as another command would, and never found any.

    They look whenever something reached another stage, or another status of the service.
    """
    found: list[list[tuple[str, str, str, bool]]] = []
    news: set[tuple[str, str, str]] = set()

    def look_on() -> bool:
        now = {(one.operation.id, one.stage.value, one.status) for one in desk.told}
        if now - news:
            news.update(now)
            found.append(seen(desk))
        return False

    desk.told.clear()
    desk.apply(stopped=look_on, **choices)
    assert [one for one in found if one] == []
    assert seen(desk) == []
    return len(found)


def scaled(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with more capacity, where it has any: a change in place."""
    spec = document["spec"]
    return {**document, "spec": {**spec, "capacity": 2 * spec["capacity"]} if "capacity" in spec else spec}


def test_what_was_edited_by_hand_is_told_and_put_back(desk: Desk) -> None:
    data(desk)
    limited = capacity_for(limits={"rpm": 10})
    desk.declare(*[document for document in CHAIN if document["kind"] != "Deployment"], limited)
    desk.apply()
    deployed, table = made(desk, "deployments.create"), made(desk, "vocabularies.create")
    desk.clock.sleep(600)
    desk.emulator.call("PUT", f"/deployments/{deployed}/scale", {"capacity": 8})
    desk.clock.sleep(600)
    desk.emulator.call("PUT", f"/deployments/{deployed}/update", {"rpm_limit": 99})
    words = [{"text": "gefitinib", "weight": 5}, {"text": "新词", "weight": 1}]
    edit = {"action": "update_vocabulary", "vocabulary_id": table, "vocabulary": words}
    desk.emulator.call("POST", "/services/audio/asr/customization", {"model": "speech-biasing", "input": edit})
    desk.clock.sleep(600)
    expected = [
        ("changed", "Deployment/p", "capacity", True),
        ("changed", "Deployment/p", "limits.rpm", True),
        ("changed", "HotwordTable/w", "words.gefitinib.weight", True),
        ("changed", "HotwordTable/w", "words.厄洛替尼", True),
        ("changed", "HotwordTable/w", "words.新词", True),
    ]
    assert seen(desk) == expected
    for one in look(desk).found:
        assert one.trace.since > one.trace.last_write, "somebody was there after us"
    assert {one.trace.own for one in look(desk).found if one.row.collection == "deployments"} == {True}
    desk.apply()
    assert seen(desk) == []


def test_phrases_that_somebody_else_wrote_are_told(tmp_path: Path) -> None:
    with emulator(tmp_path / "service", profile="dec-2024") as service:
        (tmp_path / "project").mkdir()
        desk = Desk(tmp_path / "project", service)
        desk.declare(phrases(), profile="dec-2024")
        desk.apply()
        body = {"model": "paraformer-v1", "training_file_ids": [], "validation_file_ids": [],
                "training_type": "compile_asr_phrase", "hyper_parameters": {"phrase_list": {"别的": 1}},
                "finetuned_output": made(desk, "phrases.create")}  # fmt: skip
        desk.emulator.call("POST", "/fine-tunes", body)
        assert seen(desk) == [("changed", "HotwordTable/w", "words", True)]
        desk.apply()
        assert seen(desk) == []


@pytest.mark.parametrize(
    ("status", "sort"),
    [("ARREARS_DOWN", "arrears"), ("OFFLINING", "retired"), ("STOPPED", "stopped"), ("HIBERNATING", "unknown")],
)
def test_what_the_platform_does_is_told_as_such(desk: Desk, status: str, sort: str) -> None:
    desk.declare(capacity_for(model="qwen3-8b"))
    desk.apply()
    become(desk, status)
    assert seen(desk) == [(sort, "Deployment/p", "", False)]


def become(desk: Desk, status: str) -> None:
    """Somebody touches the deployment, and this is what becomes of it."""
    fate = {"operation": "deployments.update", "fate": {"statuses": [[0, status]]}}
    desk.emulator.control("faults", {"faults": [fate]})
    desk.emulator.call("PUT", f"/deployments/{made(desk, 'deployments.create')}/update", {"rpm_limit": 1})


def test_a_run_that_is_canceled_in_the_console_is_drift(desk: Desk) -> None:
    data(desk)
    desk.declare(*CHAIN[:3])
    desk.apply(Terms(wait="created"))
    desk.emulator.call("POST", f"/fine-tunes/{made(desk, 'jobs.create')}/cancel", {})
    desk.clock.sleep(600)
    assert seen(desk) == [("stopped", "FineTuneJob/j", "", False)]


def test_what_was_deleted_by_hand_is_told_and_made_again(desk: Desk) -> None:
    data(desk)
    desk.declare(*CHAIN)
    desk.apply()
    desk.clock.sleep(600)
    desk.emulator.call("DELETE", f"/deployments/{made(desk, 'deployments.create')}")
    assert seen(desk) == [("vanished", "Deployment/p", "", False)], "it is still being deleted"
    desk.clock.sleep(600)
    assert seen(desk) == [("vanished", "Deployment/p", "", True)]
    desk.apply()
    assert seen(desk) == []


@pytest.fixture
def emptied(desk: Desk) -> Desk:
    """A stack of four objects, two of which were deleted behind our back, and then a third."""
    data(desk)
    desk.declare(*CHAIN[:2], hotwords("v"), hotwords())
    desk.apply()
    desk.clock.sleep(600)
    for entry in desk.emulator.ledger():
        if entry["operation"] == "files.create":
            desk.emulator.call("DELETE", f"/files/{entry['id']}")
    return desk


def test_most_of_what_is_ours_gone_at_once_is_no_drift_but_another_account(emptied: Desk) -> None:
    assert [one[0] for one in seen(emptied)] == ["vanished", "vanished"], "half of it is not most"
    gone = {"action": "delete_vocabulary", "vocabulary_id": made(emptied, "vocabularies.create")}
    emptied.emulator.call("POST", "/services/audio/asr/customization", {"model": "speech-biasing", "input": gone})
    with pytest.raises(Refused, match="3 of our 4 objects are gone from the service: is this the right account") as no:
        look(emptied)
    assert "--allow vanished=all" in no.value.hint
    assert [one[0] for one in seen(emptied, ("vanished", "all"))] == ["vanished"] * 3
    assert {op.code for op in emptied.plan().operations} == {3}, "the plan goes by the same rule"


def test_what_we_destroyed_ourselves_is_not_taken_for_another_account(desk: Desk) -> None:
    """A destroy that does not wait leaves its rows until the next run sees that they are gone."""
    desk.declare(capacity_for(model="qwen3-8b"), capacity_for("q", model="qwen3-8b"))
    desk.apply()
    desk.apply(Terms(wait="none"), destroy=True)
    desk.clock.sleep(600)
    assert len(desk.state().owned) == 2
    assert seen(desk) == []
    assert [line.split()[1] for line in lines(desk.plan(destroy=True))] == ["forget", "forget"]


def test_looking_writes_nothing(desk: Desk) -> None:
    data(desk)
    desk.declare(*CHAIN)
    desk.apply()
    become(desk, "STOPPED")
    before = {path: path.read_bytes() for path in (desk.root / ".reconciler").iterdir() if path.is_file()}
    committed = desk.emulator.ledger()
    desk.emulator.control("read-only", {"on": True})
    assert seen(desk) == [("stopped", "Deployment/p", "", False)]
    assert {path: path.read_bytes() for path in (desk.root / ".reconciler").iterdir() if path.is_file()} == before
    assert desk.emulator.ledger() == committed


# As it is told ------------------------------------------------------------------------------------------------------

HEADING = Heading("s", "emulator", emulated=True, profile="2026", prices_of=date(2026, 5, 26))
HOSTILE = "`````\n::error::x @everyone <img src=x> | #1 \x1b[31m"


def page_of(case: Case, width: int | None) -> list[str]:
    here = scene(case)
    return click.unstyle(words.drift_text(HEADING, compared(here), live_rows(here.state), width)).splitlines()


def hostile() -> tuple[tuple[Drift, ...], tuple[Owned, ...]]:
    """A service that answers with whatever could break out of a page: in a word, a status, an account, a time."""
    table = [{"text": HOSTILE, "weight": 3}, {"text": "词", "weight": 4}, {"text": "gene", "weight": 3}]
    observed = {
        "vocabularies/w": {"vocabulary": table, "gmt_modified": HOSTILE},
        "deployments/p": {"status": HOSTILE, "modifier": HOSTILE},
    }
    here = scene({"applied": [W, P], "observed": observed})
    found = [replace(one, trace=Trace(HOSTILE, HOSTILE, HOSTILE, own=False)) for one in compared(here)]
    return tuple(found), live_rows(here.state)


def test_a_page_says_what_differs_in_what_and_what_an_apply_makes_of_it() -> None:
    case = {"applied": [W, P, J], "observed": {"deployments/p": {"capacity": 8, "ready_capacity": 8}, "jobs/j": "gone"}}
    assert page_of(case, None)[2:] == [
        "Deployment/p  p  RUNNING",
        "  changed   capacity: 4 -> 8",
        "            an apply sets it as declared",
        "FineTuneJob/j  j",
        "  vanished  is gone from the service",
        "            its record j is gone from the service; what it made is still referred to (--replace FineTuneJob/j"
        " makes a new one)",
        "",
        "2 differences in 2 of 3 objects, 1 of which an apply corrects",
    ]
    assert page_of({"applied": [W, P]}, None)[-1] == "no drift: 2 objects are as last applied"
    assert page_of({"applied": []}, None)[-1] == "nothing to compare: nothing of this was applied yet"


@pytest.mark.parametrize("width", [40, 61, 80])
def test_a_page_keeps_to_the_width_of_a_terminal_also_in_chinese(width: int) -> None:
    long = "药品名称很长" * 2
    shown = [{"text": long, "weight": 3, "lang": "zh"}]
    rows = page_of({"applied": [W, P], "observed": {"vocabularies/w": {"vocabulary": shown},
                                                    "deployments/p": {"status": "ARREARS_DOWN"}}}, width)  # fmt: skip
    assert max(map(columns, rows)) <= width
    assert any(row.startswith("  changed   words.gene: ") for row in rows)
    assert any(row.startswith("            words.药品") for row in rows), "the fields stand below each other"


def test_of_many_fields_a_page_shows_the_first_and_says_so() -> None:
    table = [{"text": f"word {number}", "weight": 1} for number in range(100)]
    rows = page_of({"applied": [W], "observed": {"vocabularies/w": {"vocabulary": table}}}, None)
    assert sum("words." in row for row in rows) == words.FIELDS_MAX
    assert "            and 82 more differences: -o json tells them all" in rows


def test_nothing_from_outside_reaches_a_page_as_it_is() -> None:
    found, rows = hostile()
    canceled = {"status": "CANCELED", "finetuned_output": "", "message": HOSTILE}
    run = compared(scene({"next": [J], "manifests": [J], "observed": {"jobs/j-next": canceled}}))
    page = click.unstyle(words.drift_text(HEADING, [*found, *run], rows, None))
    assert len(found) == 2
    assert page.count("everyone") == 10, "a status, a word, who and two times twice, why, what comes of it"
    assert "\x1b" not in page
    assert not any(line.lstrip().startswith("::") for line in page.splitlines())


def test_in_markdown_what_came_from_outside_stays_in_a_fence() -> None:
    found, rows = hostile()
    first, blank, opened, *inside, closed = words.drift_markdown(HEADING, found, rows).splitlines()
    assert re.fullmatch(r"\*\*2 differences in 2 of 2 objects, 1 of which an apply corrects\*\*", first)
    assert (blank, opened, closed) == ("", f"{closed}text", "`" * 6)
    assert "`" * 5 in "\n".join(inside)
    assert "`" * 6 not in "\n".join(inside)


def test_markdown_ends_before_the_forge_cuts_it_and_says_so() -> None:
    found, rows = hostile()
    many = [replace(one, row=replace(one.row, id=f"{one.row.id}-{number}")) for number in range(400) for one in found]
    comment = words.drift_markdown(HEADING, many, rows)
    assert len(comment.encode()) < 65_000
    assert re.search(r"\n… truncated: [\d,]+ more lines\n`{6}$", comment)


def test_a_test_report_has_a_case_for_each_object() -> None:
    found, rows = hostile()
    report = ElementTree.fromstring(words.drift_junit(found, [*rows, replace(rows[0], id="another")]))
    (suite,) = report
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    cases = {case.get("name"): [failure.get("type") for failure in case] for case in suite}
    assert cases == {"Deployment/p (current)": [], "HotwordTable/w (current)": ["changed"]}
    assert "\x1b" not in "".join(report.itertext())


def test_for_programs_every_difference_names_its_object_and_field() -> None:
    found, rows = hostile()
    told = words.drift_json(HEADING, found, rows, at="2026-11-02 14:00:00")
    assert (told["drift"], told["compared"]) == (True, 2)
    unknown, changed = told["differences"]
    assert changed["path"] == ["words", HOSTILE], "data is lossless; the format escapes it"
    assert (unknown["class"], unknown["who"]) == ("unknown", {"account": HOSTILE, "ours": False})


def test_every_class_is_on_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs/drift.md").read_text(encoding="utf-8")
    assert {f"`{sort}`" for sort in DriftClass} <= set(re.findall(r"`\w+`", page))
