"""What is said of every object: by itself, against what is declared, since when; and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reconciler import engine, surgery
from reconciler.approvals import Leash, Mode
from reconciler.conditions import (
    ERROR_MAX,
    EVENTS_MAX,
    MESSAGE_MAX,
    Condition,
    Happened,
    Health,
    News,
    Reason,
    Report,
    Sync,
    after_error,
    after_look,
    conditions,
    from_data,
    not_in_force,
    rate,
    to_data,
)
from reconciler.plan import Choices, Verb
from reconciler.state import IntentPhase
from reconciler.store.fleet import packed, unpacked
from tests.desk import DATASET, JOB, WORDS, Desk, document, emulator, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
PLAIN = {"plan": "mu", "deploySpec": "MU1", "capacity": 4}
NEVER = Report("s")
FIRST, LATER, LAST = "2026-11-26 08:00:00", "2026-11-26 09:00:00", "2026-11-26 10:00:00"


def deployment(name: str = "p", **spec: Any) -> dict[str, Any]:
    return document("Deployment", name, {"model": {"fineTuneJob": "j"}, **PLAIN, **spec})


def look(desk: Desk, before: Report = NEVER, at: str = FIRST, *, mode: Mode = Mode.APPLY, **more: Any) -> Report:
    """What a look would report now, without doing anything."""
    with desk.session() as session:
        found = engine.plan(session, Choices(), Leash(mode, paid_too=mode is Mode.APPLY))
        told = (session.desired, found.plan, found.state, found.world)
        return after_look(before, *told, at=at, revision="r1", held=found.held, **more)


def one(report: Report, slot: str) -> Condition:
    return next(condition for condition in report.conditions if condition.slot.partition(":")[0] == slot)


def words(condition: Condition) -> tuple[str, str, str]:
    return condition.sync.value, condition.health.value, condition.reason.value


def said(report: Report, slot: str) -> tuple[str, str, str]:
    return words(one(report, slot))


def news(report: Report) -> list[str]:
    return [f"{event.reason} {event.slot}".strip() for event in report.news]


def declare(desk: Desk) -> None:
    desk.rows("d.jsonl", texts(40))
    desk.declare(DATASET, JOB, WORDS, deployment())


@pytest.fixture
def settled(desk: Desk) -> Desk:
    """All four kinds, applied."""
    declare(desk)
    desk.apply()
    return desk


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The same once for all words: only what is shown of it changes, and nothing is ever done."""
    root: Path = tmp_path_factory.mktemp("shown")
    (root / "project").mkdir()
    with emulator(root / "service") as service:
        desk = Desk(root / "project", service)
        declare(desk)
        desk.apply()
        yield desk


# Words of the service -----------------------------------------------------------------------------------------------

GOING, WELL, BAD, ODD = "Progressing", "Ready", "Failed", "Unknown"
LISTS = {
    "FineTuneJob/j": ("jobs.list", "jobs.get", "output.jobs.*.status", "output.status"),
    "Deployment/p": ("deployments.list", "deployments.get", "output.deployments.*.status", "output.status"),
    "HotwordTable/w": ("vocabularies.list", "vocabularies.get", "output.vocabulary_list.*.status", "output.status"),
}
WORDS_SHOWN = {
    "FineTuneJob/j": {
        **dict.fromkeys(("PENDING", "QUEUING", "RUNNING", "CANCELING"), GOING),
        **{"SUCCEEDED": WELL, "FAILED": BAD, "CANCELED": BAD, "HIBERNATING": ODD, "succeeded": ODD},
    },
    "Deployment/p": {
        **dict.fromkeys(("PENDING", "DEPLOYING", "UPDATING", "SCALING"), GOING),
        **dict.fromkeys(("FAILED", "STOPPED", "DELETING", "SUSPENDED"), BAD),
        **{"RUNNING": WELL, "HIBERNATING": ODD, "": ODD},
    },
    "HotwordTable/w": {"OK": WELL, "UNDEPLOYED": GOING, "HIBERNATING": ODD},
}


@pytest.mark.parametrize(
    ("slot", "word", "health"), [(slot, word, of) for slot, words in WORDS_SHOWN.items() for word, of in words.items()]
)
def test_every_status_word_has_one_health_and_its_reason(shown: Desk, slot: str, word: str, health: str) -> None:
    """A law: READY alone goes without a reason, and a word that nobody knows is neither well nor bad."""
    of_list, of_one, in_list, in_one = LISTS[slot]
    rules = [
        {"operation": of_list, "edit": {"set": {in_list: word}}},
        {"operation": of_one, "edit": {"set": {in_one: word}}},
    ]
    shown.emulator.control("faults", {"faults": rules})
    report = look(shown, mode=Mode.OBSERVE)
    shown.emulator.control("faults", {"faults": []})
    found = one(report, slot)
    assert (found.health.value, found.status) == (health, word)
    assert (found.reason is Reason.NONE) == (health == WELL)
    assert (word in found.message) == (health != WELL)
    assert (found.sync is Sync.UNKNOWN) == (health == ODD)
    others = [condition for condition in report.conditions if condition.slot.partition(":")[0] != slot]
    assert {condition.health for condition in others} == {Health.READY}
    assert report.health is found.health


def test_an_upload_has_no_status_and_is_well_while_it_is_there(shown: Desk) -> None:
    found = one(look(shown), "Dataset/d")
    assert (found.sync, found.health, found.status) == (Sync.SYNCED, Health.READY, "uploaded")


def test_the_worse_word_is_the_word_of_the_stack() -> None:
    """A status that nobody knows must not hide a failure, and waiting must not hide either."""
    order = [Health.READY, Health.PAUSED, Health.PROGRESSING, Health.UNKNOWN, Health.DEGRADED, Health.FAILED]
    assert list(Health) == order
    for better, worse in pairwise(order):
        pair = tuple(Condition(str(n), Sync.SYNCED, health) for n, health in enumerate((worse, better)))
        assert Report("s", looked_at=FIRST, succeeded_at=FIRST, conditions=pair).health is worse


# Against what is declared -------------------------------------------------------------------------------------------


def test_from_nothing_to_all_of_it(desk: Desk) -> None:
    """Every word on the way of a first apply, and what is told of it."""
    declare(desk)
    report = look(desk)
    assert set(map(words, report.conditions)) == {("OutOfSync", "Progressing", "NotCreated")}
    assert (report.sync, report.health) == (Sync.OUT_OF_SYNC, Health.PROGRESSING)
    desk.look(paid_too=True)
    report = look(desk, report, LATER)
    assert said(report, "FineTuneJob/j") == ("Synced", "Progressing", "UnderWay")
    assert one(report, "FineTuneJob/j").since == LATER
    assert one(report, "Deployment/p").since == FIRST, "it says what it said before"
    assert said(report, "HotwordTable/w") == ("Synced", "Ready", "")
    for _ in range(6):
        desk.clock.sleep(3600)
        desk.look(paid_too=True)
    report = look(desk, report, LAST)
    assert "Finished FineTuneJob/j" in news(report)
    assert set(map(words, report.conditions)) == {("Synced", "Ready", "")}
    assert (report.sync, report.health) == (Sync.SYNCED, Health.READY)
    assert look(desk, report, "2026-11-26 11:00:00").news == ()


def test_synced_is_exactly_what_no_plan_would_change(settled: Desk) -> None:
    settled.declare(DATASET, JOB, WORDS, deployment(capacity=8))
    with settled.session() as session:
        found = engine.plan(session, Choices())
        told = conditions(session.desired, found.plan, found.state, found.world)
    changed = {str(op.slot) for op in found.plan.changes}
    assert {condition.slot for condition in told if condition.sync is not Sync.SYNCED} == changed == {"Deployment/p"}


def test_another_manifest_differs_and_another_service_drifted(settled: Desk) -> None:
    """The one is somebody's wish, the other happened behind our back, and is told as such."""
    first = look(settled)
    settled.declare(DATASET, JOB, WORDS, deployment(capacity=8))
    wished = look(settled, first, LATER, mode=Mode.OBSERVE)
    assert (one(wished, "Deployment/p").health, one(wished, "Deployment/p").sync) == (Health.READY, Sync.OUT_OF_SYNC)
    settled.declare(DATASET, JOB, WORDS, deployment())
    (row,) = [row for row in settled.state().owned.values() if row.collection == "deployments"]
    settled.emulator.call("PUT", f"/deployments/{row.id}/scale", {"capacity": 8})
    settled.clock.sleep(3600)
    with settled.session() as session:
        found = engine.plan(session, Choices())
        told = {c.slot: c for c in conditions(session.desired, found.plan, found.state, found.world)}
    assert told["Deployment/p"].reason is Reason.DRIFTED
    assert "capacity" in told["Deployment/p"].message
    held = look(settled, mode=Mode.PLAN)
    assert said(held, "Deployment/p") == ("OutOfSync", "Ready", "Drifted"), (
        "also where putting it right waits for a yes"
    )
    assert held.proposal in one(held, "Deployment/p").message
    settled.declare(DATASET, JOB, WORDS, deployment(capacity=12))
    with settled.session() as session:
        found = engine.plan(session, Choices())
        told = {c.slot: c for c in conditions(session.desired, found.plan, found.state, found.world)}
    assert told["Deployment/p"].reason is Reason.DIFFERS


def test_what_waits_for_a_yes_says_so(settled: Desk) -> None:
    settled.declare(DATASET, JOB, WORDS, deployment(capacity=8))
    with settled.session() as session:
        found = engine.plan(session, Choices(), Leash(Mode.APPLY))
        told = (session.desired, found.plan, found.state, found.world)
        report = after_look(Report("s"), *told, at=FIRST, revision="", held=found.held)
        again = after_look(report, *told, at=LATER, revision="", held=found.held)
    assert said(report, "Deployment/p") == ("OutOfSync", "Ready", "ApprovalNeeded")
    assert report.proposal in one(report, "Deployment/p").message
    assert "ApprovalNeeded" in news(report), "and once for the stack, with the command"
    assert again.news == ()


def test_who_only_observes_asks_nobody(settled: Desk) -> None:
    """Nothing is recorded that could be approved, so nothing may be said to wait for it."""
    settled.declare(DATASET, JOB, WORDS, deployment(capacity=8))
    report = look(settled, mode=Mode.OBSERVE)
    assert (report.proposal, report.held) == ("", ())
    assert said(report, "Deployment/p") == ("OutOfSync", "Ready", "Differs")


def test_what_is_gone_is_degraded_and_drift(settled: Desk) -> None:
    (row,) = [row for row in settled.state().owned.values() if row.collection == "deployments"]
    settled.emulator.call("DELETE", f"/deployments/{row.id}")
    settled.clock.sleep(3600)
    report = look(settled, mode=Mode.OBSERVE)
    assert said(report, "Deployment/p") == ("OutOfSync", "Degraded", "Gone")


def test_the_record_of_a_run_may_go_while_its_model_serves(settled: Desk) -> None:
    """No apply would buy it again, so nothing is out of sync."""
    (row,) = [row for row in settled.state().owned.values() if row.collection == "jobs"]
    hidden = {"operation": "jobs.list", "edit": {"set": {"output.jobs": [], "output.total": 0}}}
    settled.emulator.control("faults", {"faults": [hidden, {"operation": "jobs.get", "refuse": {"status": 404}}]})
    settled.clock.sleep(3600)
    report = look(settled)
    assert said(report, "FineTuneJob/j") == ("Synced", "Ready", "RecordGone"), row.id


def test_what_nobody_declares_any_more_is_out_of_sync_and_well(settled: Desk) -> None:
    settled.declare(DATASET, JOB, deployment())
    report = look(settled)
    assert said(report, "HotwordTable/w") == ("OutOfSync", "Ready", "NotDeclared")


def test_what_was_made_a_moment_ago_is_not_taken_for_gone(settled: Desk) -> None:
    """The service may not show it yet (contract §4): a dashboard that cries wolf is not looked at."""
    settled.declare(DATASET, JOB, WORDS, document("HotwordTable", "x", {**WORDS["spec"]}), deployment())
    settled.apply()
    refused = {"refuse": {"status": 404, "code": "NotFound", "message": "not found"}}
    (row,) = [row for row in settled.state().owned.values() if row.slot.address == "HotwordTable/x"]
    rules = [
        {"operation": "vocabularies.list", "edit": {"set": {"output.vocabulary_list": [], "output.total_count": 0}}},
        {"operation": "vocabularies.get", **refused},
    ]
    settled.emulator.control("faults", {"faults": rules})
    assert said(look(settled), "HotwordTable/x") == ("Synced", "Progressing", "UnderWay"), row.id


def test_a_run_that_failed_is_failed_and_one_that_was_to_follow_degrades(settled: Desk) -> None:
    """What is in use goes on serving."""
    first = look(settled)
    settled.rows("d.jsonl", texts(60))
    fate = {"operation": "jobs.create", "fate": {"statuses": [[60, "FAILED"]], "message": "no loss"}}
    settled.emulator.control("faults", {"faults": [fate]})
    for _ in range(3):
        settled.look(paid_too=True)
        settled.clock.sleep(600)
    settled.apply(allow=frozenset({("retrain", "FineTuneJob/j")}))
    report = look(settled, first, LATER)
    assert said(report, "FineTuneJob/j") == ("OutOfSync", "Degraded", "NextFailed")
    assert "NextFailed FineTuneJob/j" in news(report)


def test_a_creation_whose_outcome_is_not_known_is_unknown_rather_than_out_of_sync(settled: Desk) -> None:
    with settled.session() as session, session.store.lease() as epoch:
        made = next(i for i in session.store.load().intents.values() if i.slot.address == "HotwordTable/w")
        lost = replace(made, op_id="op-9", phase=IntentPhase.NEEDS_HUMAN, result_id="", reason="two look alike")
        session.store.commit(epoch, lost)
    report = look(settled)
    assert said(report, "HotwordTable/w") == ("Unknown", "Ready", "OutcomeUnknown")
    assert "op-9" in one(report, "HotwordTable/w").message
    assert report.sync is Sync.UNKNOWN


def test_what_was_made_twice_is_degraded_and_told(settled: Desk) -> None:
    """It costs money for nothing, beside an object that is as declared."""
    with settled.session() as session, session.store.lease() as epoch:
        made = next(i for i in session.store.load().intents.values() if i.slot.address == "FineTuneJob/j")
        lost = replace(made, op_id="op-9", tag="zzzzzzzz", phase=IntentPhase.ABSENT, result_id="")
        session.store.commit(epoch, lost)
        file_id = next(e["id"] for e in settled.emulator.ledger() if e["operation"] == "files.create")
    body = {"model": "qwen3-8b", "training_type": "efficient_sft", "training_file_ids": [file_id]}
    settled.emulator.call("POST", "/fine-tunes", {**body, "hyper_parameters": HYPER, "job_name": "j-zzzzzzzz"})
    report = look(settled)
    assert said(report, "FineTuneJob/j") == ("Synced", "Degraded", "Duplicate")
    assert news(report) == ["Duplicate FineTuneJob/j"]
    assert "CNY" in one(report, "FineTuneJob/j").message


def test_what_is_only_observed_is_never_out_of_sync(desk: Desk) -> None:
    desk.declare({**WORDS, "lifecycle": {"observeOnly": True}})
    report = look(desk)
    assert said(report, "HotwordTable/w") == ("Unknown", "Ready", "OnlyObserved")
    assert (report.sync, report.health) == (Sync.SYNCED, Health.READY)


# Times, events, and looks that fail ---------------------------------------------------------------------------------


def test_a_status_that_moves_keeps_the_time_of_its_condition(desk: Desk) -> None:
    """Since when it is under way is what an alert asks; each word on the way is an event."""
    declare(desk)
    desk.look(paid_too=True)
    first = look(desk)
    desk.clock.sleep(120)
    moved = look(desk, first, LATER)
    assert one(first, "FineTuneJob/j").status != one(moved, "FineTuneJob/j").status
    assert one(moved, "FineTuneJob/j").since == FIRST
    assert news(moved) == ["UnderWay FineTuneJob/j"]


def test_events_are_bounded_in_number_and_length() -> None:
    report = Report("s")
    for number in range(2 * EVENTS_MAX):
        report = after_error(report, f"{number} " + "x" * 9000, at=FIRST, cause="Unavailable")
    assert len(report.events) == EVENTS_MAX
    assert report.events[-1].message.startswith(f"{2 * EVENTS_MAX - 1} ")
    assert {len(event.message) for event in report.events} == {MESSAGE_MAX}
    assert len(report.error) == ERROR_MAX
    flood = [Happened(FIRST, str(number), "CreateDone") for number in range(2 * EVENTS_MAX)]
    assert len(replace(report, events=tuple(flood), fresh=5).news) == 5


def test_a_look_that_fails_is_told_once_and_so_is_its_recovery(settled: Desk) -> None:
    first = look(settled)
    failed = after_error(first, "the service is away", at=LATER, cause="Unavailable")
    again = after_error(failed, "the service is away", at=LATER, cause="Unavailable")
    other = after_error(again, "the key is wrong", at=LATER, cause="NotAuthorised")
    assert [news(report) for report in (failed, again, other)] == [["LookFailed"], [], ["ErrorChanged"]]
    assert (other.sync, other.health, other.failures) == (Sync.UNKNOWN, Health.READY, 3)
    assert other.conditions == first.conditions, "what was known of the objects is kept"
    back = look(settled, other, LAST)
    assert news(back) == ["Recovered"]
    assert (back.error, back.cause, back.failures, back.sync) == ("", "", 0, Sync.SYNCED)


def test_a_state_that_another_run_holds_is_no_failure(settled: Desk) -> None:
    """Whoever applies by hand meanwhile must not set off an alert, nor have a failure told as over."""
    first = look(settled)
    locked = after_error(first, "held by ada", at=LATER, cause="StateLocked")
    assert (news(locked), locked.failures) == (["StateLocked"], 0)
    assert look(settled, locked, LAST).news == ()
    failed = after_error(first, "away", at=LATER, cause="Unavailable")
    between = after_error(failed, "held by ada", at=LATER, cause="StateLocked")
    assert news(after_error(between, "away", at=LATER, cause="Unavailable")) == ["ErrorChanged"]
    assert news(look(settled, between, LAST)) == ["Recovered"]


def test_what_is_declared_and_cannot_come_into_force_is_told_once(settled: Desk) -> None:
    first = look(settled)
    kept = not_in_force(first, look(settled, first, LATER), "x.yaml:1 no kind")
    again = not_in_force(kept, look(settled, kept, LATER), "x.yaml:1 no kind")
    assert [news(one) for one in (kept, again)] == [["NotInForce"], []]
    assert (again.sync, again.health, again.failures) == (Sync.UNKNOWN, Health.READY, 0)
    assert news(look(settled, again, LAST)) == ["Recovered"]
    away = after_error(first, "away", at=LATER, cause="Unavailable")
    assert news(not_in_force(away, look(settled, away, LATER), "no kind")) == ["Recovered", "NotInForce"]


def test_a_stack_that_nobody_ever_saw_is_unknown() -> None:
    assert (Report("s").sync, Report("s").health) == (Sync.UNKNOWN, Health.UNKNOWN)
    assert after_error(Report("s"), "no key", at=FIRST).health is Health.UNKNOWN


def test_a_budget_that_comes_near_is_told_once_each_way(settled: Desk) -> None:
    far = look(settled, limit=Decimal(1000))
    assert not far.near
    near = look(settled, far, LATER, limit=Decimal(far.hour or 0) / Decimal("0.9"))
    assert news(near) == [News.BUDGET_NEAR]
    assert look(settled, near, LATER, limit=Decimal(near.hour or 0)).news == ()
    assert news(look(settled, near, LAST, limit=Decimal(1000))) == [News.BUDGET_CLEAR]
    assert not look(settled, limit=Decimal(1000), near=Decimal("0.5")).near


def test_a_free_stack_comes_near_no_budget(desk: Desk) -> None:
    desk.declare(WORDS)
    assert not look(desk, limit=Decimal(0)).near


def test_what_a_report_says_survives_the_store(settled: Desk) -> None:
    settled.declare(DATASET, JOB, WORDS, deployment(capacity=8))
    report = after_error(look(settled, limit=Decimal(10)), "away", at=LATER, cause="Unavailable")
    assert from_data(unpacked(packed(to_data(report))) or {}) == report
    with pytest.raises(TypeError):
        from_data({**(unpacked(packed(to_data(report))) or {}), "later": 1})


def test_one_unknown_rate_makes_the_sum_unknown() -> None:
    assert rate([Report("a", hour="1.5"), Report("b", hour="2")]) == Decimal("3.5")
    assert rate([Report("a", hour="1.5"), Report("b", hour=None)]) is None
    assert rate([]) == 0


def test_nothing_is_asked_of_the_service_for_it(settled: Desk) -> None:
    """Conditions are computed from what a plan has read; a page may ask for them as often as it likes."""
    with settled.session() as session:
        found = engine.plan(session, Choices())
        settled.emulator.control("faults", {"faults": [{"operation": "*", "refuse": {"status": 500}}]})
        assert conditions(session.desired, found.plan, found.state, found.world)
        assert [op for op in found.plan.operations if op.verb is not Verb.WAIT] == []


def test_what_a_person_holds_back_is_paused_and_says_why(desk: Desk) -> None:
    desk.declare(document("Deployment", "p", {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}))
    desk.apply()
    with desk.session() as opened:
        engine.operate(opened, lambda state, deed: surgery.pause(state, ("Deployment/p",), deed), reason="a demo")
        told = engine.plan(opened, Choices())
        (one,) = conditions(opened.desired, told.plan, told.state, told.world, told.held)
    assert (one.health, one.reason) == (Health.PAUSED, Reason.HELD_BACK)
    assert "a demo" in one.message
