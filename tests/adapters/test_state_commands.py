"""`state` and `ops` as their user meets them: what is shown, asked, refused, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.engine import recorded
from reconciler.errors import StateLost
from reconciler.project import load
from reconciler.resource import Slot
from reconciler.state import Event, Intent, IntentPhase, Owned, Role
from tests.adapters.conftest import Shell
from tests.adapters.test_cli import on_a_terminal

HOSTILE = "a\x1b[2Jb\u202e\n::error::c"
EVIL = Slot("Deployment/prod", HOSTILE)


def record(shell: Shell, *events: Event) -> None:
    """Put rows into the state of a stack, as a run would have."""
    store = recorded(load([str(shell.folder)]))
    assert store is not None
    with store.lease() as epoch:
        store.commit(epoch, *events)


def question(**facts: Any) -> Intent:
    """A creation whose outcome nobody knows."""
    sent = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    common = {"generation": "g", "tag": "abcdefgh", "attempt": 0, "epoch": 1, "at": "2026-11-02 14:05:00"}
    body = {"op_id": "op-1", "slot": Slot("Deployment/two"), "phase": IntentPhase.NEEDS_HUMAN, "fields": sent}
    return Intent(collection="deployments", verb="create", **{**body, **common, **facts})


def objects(shell: Shell) -> dict[str, str]:
    """Address to id of everything recorded."""
    listed = json.loads(shell("state", "list", "-o", "json").out)["objects"]
    return {row["address"]: row["id"] for row in listed}


# Looking ------------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_shown_without_a_key_or_a_service(applied: Shell) -> None:
    """The state says itself whose it is; the stack may be one that only its owner's key can reach."""
    applied.change("stack.yaml", "endpoint: emulator", "endpoint: beijing")
    listed = applied("state", "list")
    assert (listed.code, listed.err) == (0, "")
    assert listed.out.split()[:6] == ["ADDRESS", "PART", "ROLE", "COLLECTION", "ID", "SINCE"]
    assert len(listed.out.splitlines()) == 5
    assert applied("ops", "list").out == "no open operations\n"
    shown = applied("state", "show", "Deployment/prod")
    assert "capacity: 4" in shown.out
    assert "role: current" in shown.out
    story = applied("state", "history", "FineTuneJob/tuned").out
    assert "create FineTuneJob/tuned  done ft-" in story
    assert len(story.splitlines()) == 1
    assert len(applied("state", "history").out.splitlines()) == 4


def test_where_nothing_was_applied_nothing_is_recorded_and_nothing_is_written(shell: Shell) -> None:
    """Nothing but what was learnt of the data, which spares the next command reading it."""
    assert shell("state", "list").out == "nothing recorded\n"
    assert shell("state", "history").out == "the journal is empty\n"
    assert shell("ops", "list", "--all").out == "no open operations\n"
    assert [path.name for path in (shell.folder / ".reconciler").iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["state", "show", "Deployment/prd"], "did you mean Deployment/prod?"),
        (["state", "show", "prod"], "KIND/NAME"),
        (["ops", "show", "op-7"], "there is no operation 'op-7'"),
        (["ops", "resolve", "op-7", "--absent", "--reason", "x"], "there is no operation"),
        (["ops", "resolve", "op-7"], "--adopt ID, or --absent"),
        (["ops", "resolve", "op-7", "--adopt", "x", "--absent"], "--adopt ID, or --absent"),
        (["state", "mv", "Deployment/prod", "Dataset/prod"], "different kinds"),
        (["state", "unlock", "soon"], "soon"),
        (["state", "lst"], "lst"),
    ],
)
def test_a_wrong_command_line_exits_64_and_says_what_to_write(applied: Shell, arguments: list[str], said: str) -> None:
    result = applied(*arguments)
    assert (result.code, result.out) == (64, "")
    assert said in result.err


def test_the_state_of_another_stack_is_not_shown_as_ours(applied: Shell) -> None:
    applied.change("stack.yaml", "name: tiny", "name: other")
    result = applied("state", "list")
    assert result.code == 8
    assert "belongs to stack tiny" in result.err


def test_nothing_hostile_that_is_recorded_reaches_a_terminal(applied: Shell) -> None:
    """Names of the service's, in every page that shows one."""
    record(
        applied,
        Owned(EVIL, "deployments", HOSTILE, Role.NEXT, "g", {"model": HOSTILE}, failure=HOSTILE, applied_at=HOSTILE),
        question(slot=Slot("Deployment/two", HOSTILE), reason=HOSTILE, known_before=(HOSTILE,), at=HOSTILE),
    )
    pages = [
        ("state", "list"), ("state", "show", "Deployment/prod"), ("state", "history"), ("ops", "list"),
        ("ops", "show", "op-1"), ("state", "rm", "Deployment/prod"), ("state", "rebuild"),
    ]  # fmt: skip
    for arguments in pages:
        result = applied(*arguments)
        for letter in ("\x1b", "\u202e"):
            assert letter not in result.out + result.err, arguments
        assert "\n::" not in result.out + result.err, arguments


# Moving, forgetting, unlocking --------------------------------------------------------------------------------------


def test_a_renamed_document_keeps_its_object(applied: Shell) -> None:
    applied.change("stack.yaml", "metadata: {name: prod}", "metadata: {name: live}")
    result = applied("state", "mv", "Deployment/prod", "Deployment/live", "--reason", "one name everywhere")
    assert (result.code, result.err) == (0, "")
    assert "Deployment/prod is Deployment/live from now on" in result.out
    assert applied("plan", "--detailed-exitcode").code == 0
    story = applied("state", "history", "Deployment/live").out
    assert "create Deployment/prod" in story
    assert "by a person  one name everywhere" in story


def test_nothing_is_forgotten_unasked(applied: Shell) -> None:
    before = objects(applied)
    refused = applied("state", "rm", "HotwordTable/meds")
    assert refused.code == 3
    assert before["HotwordTable/meds"] in refused.err
    assert "--auto-approve" in refused.err
    code, text = on_a_terminal(applied, ["state", "rm", "HotwordTable/meds", "--no-color"], "n")
    assert (code, objects(applied)) == (3, before), text
    done = applied("state", "rm", "HotwordTable/meds", "-y", "--reason", "given to another team", "-o", "json")
    assert done.code == 0
    assert [entry["reason"] for entry in json.loads(done.out)["done"]] == ["given to another team"]
    assert "HotwordTable/meds" not in objects(applied)


def test_a_free_state_needs_no_unlocking(applied: Shell) -> None:
    assert applied("state", "unlock").out == "nobody holds the state\n"


def test_a_living_holder_is_shown_and_loses_the_state_only_by_its_epoch(applied: Shell) -> None:
    store = recorded(load([str(applied.folder)]))
    assert store is not None
    with store.lease() as epoch:
        for arguments in ([], ["--yes"]):
            refused = applied("state", "unlock", *arguments)
            assert refused.code == 3
            assert "process" in refused.err
            assert f"reconciler state unlock {epoch}" in refused.err
        assert applied("state", "unlock", str(epoch + 5)).code == 64
        taken = applied("state", "unlock", str(epoch))
        assert taken.code == 0, taken.err
        with pytest.raises(StateLost):
            store.commit(epoch, question())
    assert "unlock the state" in applied("state", "history").out


# Deciding -----------------------------------------------------------------------------------------------------------


def test_an_open_operation_is_shown_with_what_it_may_have_made_and_is_decided(applied: Shell) -> None:
    prod = objects(applied)["Deployment/prod"]
    record(applied, question())
    assert "op-1" in applied("ops", "list").out
    shown = applied("ops", "show", "op-1")
    assert shown.code == 0
    assert "needs human" in shown.out
    assert "tag: abcdefgh" in shown.out
    assert "reconciler ops resolve op-1 --adopt ID" in shown.out
    assert "reconciler ops resolve op-1 --absent --reason TEXT" in shown.out
    owned = applied("ops", "resolve", "op-1", "--adopt", prod)
    assert owned.code == 3
    assert "belongs to Deployment/prod" in owned.err
    gone = applied("ops", "resolve", "op-1", "--adopt", "nothing-like-it")
    assert gone.code == 3
    assert "the service has nothing of the id 'nothing-like-it'" in gone.err
    silent = applied("ops", "resolve", "op-1", "--absent")
    assert (silent.code, "reason" in silent.err) == (64, True)
    done = applied("ops", "resolve", "op-1", "--absent", "--reason", "support says so")
    assert done.code == 0
    assert "made nothing" in done.out
    assert applied("ops", "list").out == "no open operations\n"
    (entry,) = json.loads(applied("state", "history", "Deployment/two", "-o", "json").out)["entries"]
    assert (entry["phase"], entry["by"], entry["reason"]) == ("absent", "person", "support says so")
    assert applied("ops", "resolve", "op-1", "--absent", "--reason", "again").code == 64


def test_a_candidate_is_shown_with_its_cost_and_taken_by_a_persons_word(applied: Shell) -> None:
    """Forgotten, then asked about: the object is nobody's, runs, and looks like what was sent."""
    prod = objects(applied)["Deployment/prod"]
    applied("state", "rm", "Deployment/prod", "-y")
    (run,) = json.loads(applied("state", "show", "FineTuneJob/tuned", "-o", "json").out)["objects"]
    model = run["outputs"]["model"]
    sent = {"model": model, "plan": "mu", "capacity": 4}
    record(applied, question(slot=Slot("Deployment/prod"), tag="", fields=sent))
    shown = applied("ops", "show", "op-1").out
    assert f"{prod}, RUNNING" in shown
    assert "looks alike" in shown
    (candidate,) = json.loads(applied("ops", "show", "op-1", "-o", "json").out)["candidates"]
    assert (candidate["id"], candidate["match"]) == (prod, "weak")
    taken = applied("ops", "resolve", "op-1", "--adopt", prod)
    assert taken.code == 0, taken.err
    assert "does not show our mark" in taken.err
    assert objects(applied)["Deployment/prod"] == prod


def test_without_a_key_an_operation_is_shown_all_the_same(applied: Shell) -> None:
    record(applied, question())
    applied.change("stack.yaml", "endpoint: emulator", "endpoint: singapore")
    shown = applied("ops", "show", "op-1")
    assert shown.code == 0
    assert "the service was not asked: there is no API key" in shown.out
    assert json.loads(applied("ops", "show", "op-1", "-o", "json").out)["candidates"] is None


# Rebuilding ---------------------------------------------------------------------------------------------------------


def forget_everything(shell: Shell) -> None:
    for path in (shell.folder / ".reconciler").glob("state.*"):
        path.unlink()


def test_a_lost_state_is_refused_and_rebuilt(applied: Shell) -> None:
    before = objects(applied)
    forget_everything(applied)
    refused = applied("apply", "-y")
    assert refused.code == 7
    assert "reconciler state rebuild" in refused.out
    shown = applied("state", "rebuild")
    assert shown.code == 3
    assert all(remote_id in shown.err for remote_id in before.values())
    assert objects(applied) == {}
    done = applied("state", "rebuild", "-y")
    assert (done.code, done.err) == (0, "")
    assert objects(applied) == before
    assert applied("plan", "--detailed-exitcode").code == 0
    assert applied("state", "rebuild").out == "nothing to rebuild\n"


def test_a_damaged_state_is_put_away_after_a_yes(applied: Shell) -> None:
    before = objects(applied)
    file = applied.folder / ".reconciler/state.db"
    file.write_bytes(b"no state")
    refused = applied("plan")
    assert refused.code == 1
    assert "state rebuild" in refused.err
    code, text = on_a_terminal(applied, ["state", "rebuild", "--no-color"], "y")
    assert code == 0, text
    assert "damaged" in text
    (aside,) = file.parent.glob("state.db.damaged-*")
    assert aside.read_bytes() == b"no state"
    assert objects(applied) == before


def test_what_no_mark_decides_exits_7_and_names_the_command(shell: Shell, tmp_path: Path) -> None:
    """A phrase list shows nothing that we chose."""
    words = "  targetModel: paraformer-v1\n  words: [{text: 吉非替尼, weight: 3}]\n"
    text = (shell.folder / "stack.yaml").read_text(encoding="utf-8")
    head, stack = text.split("---\n")[0], "apiVersion: bailian.reconciler/v1alpha1\nkind: HotwordTable\n"
    shell.write("stack.yaml", f"{head}---\n{stack}metadata: {{name: old}}\nspec:\n{words}")
    assert shell("apply", "-y").code == 0
    (made,) = objects(shell).values()
    forget_everything(shell)
    result = shell("state", "rebuild", "-y")
    assert result.code == 7
    assert made in result.out
    (operation,) = json.loads(shell("ops", "list", "-o", "json").out)["operations"]
    assert f"reconciler ops show {operation['operation']}" in result.out
    assert shell("apply", "-y").code == 7
    assert shell("ops", "resolve", operation["operation"], "--adopt", made).code == 0
    assert objects(shell) == {"HotwordTable/old": made}


def test_a_rebuild_for_programs_says_whether_it_was_done(applied: Shell) -> None:
    forget_everything(applied)
    declined = applied("state", "rebuild", "-o", "json")
    assert (declined.code, json.loads(declined.out)["done"]) == (3, False)
    declined = applied("state", "rebuild", "-o", "yaml")
    assert (declined.code, yaml.safe_load(declined.out)["done"]) == (3, False)
    done = json.loads(applied("state", "rebuild", "-y", "-o", "json").out)
    assert done["done"]
    assert {row["address"] for row in done["found"]} == set(objects(applied))
    assert all(row["as_declared"] for row in done["found"])
