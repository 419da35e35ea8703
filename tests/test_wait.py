"""Waiting without doing: what is looked at how often, how it ends, and that nothing is sent or recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.apply import Progress, Stage, Terms
from reconciler.engine import awaited
from reconciler.resource import Observed, Phase, Slot
from reconciler.state import Owned, Role
from reconciler.wait import Goal, judged, wait_for
from tests.desk import WIRE, Desk, texts
from tests.test_apply import DATASET, HYPER, deployment, job
from tests.test_kinds import hotwords

AT = "2026-11-02 15:00:00"
ROW = Owned(Slot("FineTuneJob/j"), "jobs", "ft-1", Role.NEXT, "g", {}, applied_at="2026-11-02 14:59:00")


def seen(phase: Phase, status: str = "S", detail: str = "") -> Observed:
    return Observed("ft-1", phase, status, detail=detail)


@pytest.mark.parametrize(
    ("row", "observed", "goal", "stage", "code"),
    [
        (ROW, seen(Phase.PENDING), "ready", Stage.WAITING, 0),
        (ROW, seen(Phase.UNKNOWN), "ready", Stage.WAITING, 0),
        (ROW, seen(Phase.READY), "ready", Stage.DONE, 0),
        (ROW, seen(Phase.FAILED), "ready", Stage.FAILED, 5),
        (replace(ROW, failure="smoke"), seen(Phase.READY), "ready", Stage.FAILED, 5),
        (ROW, None, "ready", Stage.WAITING, 0),
        (replace(ROW, applied_at="2026-11-02 14:50:00"), None, "ready", Stage.FAILED, 5),
        (ROW, seen(Phase.READY), "gone", Stage.WAITING, 0),
        (ROW, seen(Phase.FAILED), "gone", Stage.WAITING, 0),
        (ROW, None, "gone", Stage.DONE, 0),
    ],
)
def test_what_one_look_says(row: Owned, observed: Observed | None, goal: Goal, stage: Stage, code: int) -> None:
    """A new object may not be shown yet; one whose smoke prompt failed runs and is no success."""
    told = judged(row, observed, goal, AT)
    assert (told[0], told[3]) == (stage, code)


def waited(desk: Desk, goal: Goal = "ready", *names: str, **options: Any) -> list[Progress]:
    with desk.session() as opened:
        return list(
            wait_for(
                opened.api,
                opened.collections,
                awaited(opened, goal, names),
                goal=goal,
                report=desk.told.append,
                clock=desk.clock,
                sleep=desk.clock.sleep,
                **options,
            )
        )


@pytest.fixture
def begun(desk: Desk) -> Desk:
    """A job that an apply left under way, and a table that is ready."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), hotwords("w"))
    desk.apply(Terms(wait="none"))
    desk.told.clear()
    return desk


def counts(desk: Desk) -> list[int]:
    """How often jobs were listed, and read one by one, since `count`."""
    told = WIRE.get(f"{desk.emulator.origin}/_emulator/faults").raise_for_status().json()["faults"]
    return [rule["calls"] for rule in told]


def count(desk: Desk) -> None:
    """By rules that never come true."""
    never = {"nth": 10**6, "refuse": {"status": 500}}
    desk.emulator.control("faults", {"faults": [{"operation": f"jobs.{verb}", **never} for verb in ("list", "get")]})


def test_what_is_under_way_is_waited_for_and_nothing_is_sent_or_recorded(begun: Desk) -> None:
    before, ledger = begun.state(), begun.emulator.ledger()
    (one,) = waited(begun)
    assert (one.operation.slot.address, one.stage, one.status) == ("FineTuneJob/j", Stage.DONE, "SUCCEEDED")
    assert "the next apply" in one.detail
    assert {told.stage for told in begun.told} == {Stage.WAITING, Stage.DONE}
    assert (begun.state(), begun.state().serial) == (before, before.serial)
    assert begun.emulator.ledger() == ledger


def test_many_objects_cost_one_list_pass_a_tick(desk: Desk) -> None:
    """The rate of the account is shared; a GET each would use it up."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, *(job(f"j{epochs}", hyperParameters={**HYPER, "n_epochs": epochs}) for epochs in (1, 2, 3)))
    desk.apply(Terms(wait="none"))
    count(desk)
    told = waited(
        desk, timeout_s=12.0
    )  # what is under way is found by one look; then after 0 and 5 s, for nothing moves
    assert len(told) == 3
    assert counts(desk) == [3, 0]


def test_it_ends_when_the_time_is_over_and_says_how_far_it_is(begun: Desk) -> None:
    began = begun.clock()
    (one,) = waited(begun, timeout_s=12.0)
    assert (one.stage, one.code) == (Stage.DETACHED, 6)
    assert one.status in ("PENDING", "QUEUING", "RUNNING")
    assert begun.clock() - began == 12.0


def test_a_failure_ends_the_wait_for_it_alone(begun: Desk) -> None:
    (row,) = (row for row in begun.state().owned.values() if row.collection == "jobs")
    begun.emulator.call("POST", f"/fine-tunes/{row.id}/cancel")
    told = {one.operation.slot.address: one for one in waited(begun, "ready", "FineTuneJob/j", "HotwordTable/w")}
    assert (told["FineTuneJob/j"].stage, told["FineTuneJob/j"].code) == (Stage.FAILED, 5)
    assert "CANCELED" in told["FineTuneJob/j"].detail
    assert told["HotwordTable/w"].stage is Stage.DONE


def test_a_service_that_does_not_answer_for_a_while_is_asked_again(begun: Desk) -> None:
    rule = {"operation": "jobs.list", "nth": list(range(1, 8)), "refuse": {"status": 503}}
    begun.emulator.control("faults", {"faults": [rule]})
    (one,) = waited(begun, "ready", "FineTuneJob/j")
    assert one.stage is Stage.DONE
    assert any("not visible" in told.detail for told in begun.told)


def test_what_is_being_deleted_is_waited_for_without_being_named(desk: Desk) -> None:
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment())
    desk.apply()
    assert waited(desk, "gone") == []
    desk.declare(DATASET, job())
    desk.apply(Terms(wait="none"), prune=True)
    (one,) = waited(desk, "gone")
    assert (one.operation.slot.address, one.stage) == ("Deployment/p", Stage.DONE)


def test_what_goes_through_a_change_is_under_way_too(desk: Desk) -> None:
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment())
    desk.apply()
    assert waited(desk) == []
    desk.declare(DATASET, job(), deployment(capacity=8))
    desk.apply(Terms(wait="none"))
    (one,) = waited(desk)
    assert (one.operation.slot.address, one.stage, one.detail) == ("Deployment/p", Stage.DONE, "")
