"""What a loop does by itself and what it asks about: one pass after another on the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler import engine
from reconciler.approvals import Mode, open_proposals
from reconciler.state import Approval, Role
from tests.desk import DATASET, WORDS, Desk, document, lines, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
PLAIN = {"plan": "mu", "deploySpec": "MU1", "capacity": 4}


def job(**spec: Any) -> dict[str, Any]:
    plain = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
    return document("FineTuneJob", "j", {**plain, **spec})


def deployment(**spec: Any) -> dict[str, Any]:
    return document("Deployment", "p", {"model": {"fineTuneJob": "j"}, **PLAIN, **spec})


def proposed(desk: Desk) -> list[str]:
    """What the newest proposal asks about."""
    newest = next(iter(open_proposals(desk.state().approvals)), None)
    return [f"{one.action} {one.slot} {one.once} {one.hour}" for one in newest.held] if newest else []


def agree(desk: Desk) -> Approval:
    newest = open_proposals(desk.state().approvals)[0]
    with desk.session() as opened:
        return engine.agree(opened, newest.digest[:12], by="ada")


def settle(desk: Desk, mode: Mode = Mode.APPLY, passes: int = 12, **how: Any) -> None:
    """Passes with an hour between them, until everything that began had time to end."""
    for _ in range(passes):
        desk.look(mode, **how)
        desk.clock.sleep(3600)


@pytest.fixture
def declared(desk: Desk) -> Desk:
    desk.rows("d.jsonl", texts(40))
    desk.declare(DATASET, WORDS, job(), deployment())
    return desk


def test_only_observing_does_and_writes_nothing(declared: Desk) -> None:
    settle(declared, Mode.OBSERVE, passes=2)
    assert declared.emulator.ledger() == []
    assert declared.state().serial == 0


def test_what_costs_nothing_is_done_and_the_rest_is_proposed_once(declared: Desk) -> None:
    settle(declared, passes=3)
    assert sorted(declared.emulator.operations()) == ["files.create", "vocabularies.create"]
    assert [line.split()[1] for line in proposed(declared)] == ["FineTuneJob/j", "Deployment/p"]
    assert len(declared.state().approvals) == 1


def test_at_rest_nothing_is_written(declared: Desk) -> None:
    settle(declared, passes=2)
    before = declared.state().serial
    settle(declared, passes=3)
    assert declared.state().serial == before


def test_one_yes_covers_all_that_was_proposed_and_is_used_up_by_it(declared: Desk) -> None:
    settle(declared, passes=2)
    agree(declared)
    settle(declared)
    counts = declared.emulator.operations()
    assert (counts.count("jobs.create"), counts.count("deployments.create")) == (1, 1)
    assert lines(declared.plan()) == []
    (row,) = [row for row in declared.state().owned.values() if row.collection == "deployments"]
    declared.emulator.call("DELETE", f"/deployments/{row.id}")
    settle(declared, passes=3)
    assert declared.emulator.operations().count("deployments.create") == 1, "an old yes buys nothing again"
    assert [line.split()[1] for line in proposed(declared)] == ["Deployment/p"]


def test_a_price_that_rose_is_asked_about_again(declared: Desk) -> None:
    settle(declared, passes=2)
    approved = agree(declared)
    dear = replace(approved, held=tuple(replace(one, once="0.000001", hour="0.000001") for one in approved.held))
    with declared.session() as opened, opened.store.lease() as epoch:
        opened.store.commit(epoch, dear)
    settle(declared, passes=2)
    assert "jobs.create" not in declared.emulator.operations()


def test_progress_of_something_else_voids_no_approval(declared: Desk) -> None:
    declared.look()
    agree(declared)
    declared.declare(DATASET, document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": [
        {"text": "热词", "weight": 2}]}), job(), deployment())  # fmt: skip
    settle(declared)
    assert declared.emulator.operations().count("deployments.create") == 1


def test_a_changed_input_is_another_operation(declared: Desk) -> None:
    declared.look()
    agree(declared)
    declared.declare(DATASET, WORDS, job(hyperParameters={**HYPER, "n_epochs": 4}), deployment())
    settle(declared, passes=2)
    assert "jobs.create" not in declared.emulator.operations()
    assert any("FineTuneJob/j" in line for line in proposed(declared))


def test_in_plan_mode_even_what_is_free_waits(declared: Desk) -> None:
    settle(declared, Mode.PLAN, passes=2)
    assert declared.emulator.ledger() == []
    assert len(proposed(declared)) == 4
    agree(declared)
    settle(declared, Mode.PLAN)
    assert lines(declared.plan()) == []


def test_a_stack_may_let_what_costs_money_happen_by_itself(declared: Desk) -> None:
    settle(declared, paid_too=True)
    assert lines(declared.plan()) == []
    assert declared.state().approvals == {}


def test_what_the_platform_took_away_is_never_bought_again_unasked(declared: Desk) -> None:
    settle(declared, paid_too=True)
    (row,) = [row for row in declared.state().owned.values() if row.collection == "deployments"]
    declared.emulator.call("DELETE", f"/deployments/{row.id}")
    settle(declared, passes=3, paid_too=True)
    assert declared.emulator.operations().count("deployments.create") == 1
    assert [line.split()[1] for line in proposed(declared)] == ["Deployment/p"]


def test_a_rerun_that_wants_consent_is_asked_about_even_so(declared: Desk) -> None:
    settle(declared, paid_too=True)
    declared.rows("d.jsonl", texts(50))
    settle(declared, passes=3, paid_too=True)
    assert declared.emulator.operations().count("jobs.create") == 1
    agree(declared)
    settle(declared, paid_too=True)
    assert declared.emulator.operations().count("jobs.create") == 2
    assert lines(declared.plan()) == []


def test_a_pass_never_waits_for_what_is_slow(declared: Desk) -> None:
    declared.look(paid_too=True)
    declared.clock.sleep(60)
    before = declared.clock.now_s
    declared.look(paid_too=True)
    assert declared.clock.now_s - before < 30
    (row,) = [row for row in declared.state().owned.values() if row.collection == "jobs"]
    assert row.role is Role.NEXT


def test_what_is_no_longer_proposed_is_withdrawn(declared: Desk) -> None:
    declared.look()
    declared.declare(DATASET, WORDS)
    declared.look()
    assert declared.state().approvals == {}


def test_a_pass_never_waits_for_what_may_still_arrive(declared: Desk) -> None:
    """A lost creation is absent only long after its deadline; until then other stacks want this worker."""
    declared.emulator.control(
        "faults", {"faults": [{"operation": "vocabularies.create", "drop": {"moment": "before"}}]}
    )
    began = declared.clock.now_s
    for _ in range(3):
        declared.look(paid_too=True)
    assert declared.clock.now_s - began < 30
    assert [one.collection for one in declared.state().open_intents()] == ["vocabularies"]
    declared.emulator.control("faults", {"faults": []})
    settle(declared, paid_too=True)
    assert declared.emulator.operations().count("vocabularies.create") == 1
    assert lines(declared.plan()) == []
