"""Saved plans as their user meets them: approve here, apply there, once; every refusal in words and with its code."""

from __future__ import annotations

import json
import os
import shutil
import stat

import pytest

from reconciler.render.plan_json import PlanJson
from tests.adapters.conftest import Shell


@pytest.fixture
def saved(shell: Shell) -> Shell:
    """A shell in the folder of a stack that was never applied, with a saved plan."""
    result = shell("plan", "--out", "plan.json")
    assert result.code == 0, result.err
    return shell


def test_saved_shown_and_applied_once(saved: Shell) -> None:
    """Nobody is asked: applying it is the approval. The second time it is refused and nothing is bought."""
    assert stat.S_IMODE((saved.folder / "plan.json").stat().st_mode) == 0o600
    page = saved("plan").out
    shown = saved("show", "plan.json")
    assert shown.code == 0
    assert page.strip() in shown.out
    assert "made from stack.yaml (-f .)" in shown.out
    assert "for one apply: reconciler apply plan.json" in shown.out
    done = saved("apply", "plan.json")
    assert done.code == 0, done.err
    assert "applied: 4 ready" in done.out
    again = saved("apply", "plan.json")
    assert (again.code, again.out) == (4, "")
    assert again.err.startswith("error: a saved plan is applied once\n  it was applied already, at ")
    assert "plan again: reconciler plan --out FILE" in again.err
    assert saved("plan", "--detailed-exitcode").code == 0


def test_planning_tells_how_to_apply_and_still_writes_no_state(shell: Shell) -> None:
    result = shell("plan", "--out", "plan.json", "--detailed-exitcode")
    assert result.code == 2
    assert "reconciler apply plan.json does exactly this, once and unasked" in result.err
    assert not (shell.folder / ".reconciler/state.db").exists()
    assert sorted(path.name for path in shell.folder.iterdir()) == [".reconciler", "data", "plan.json", "stack.yaml"]


def test_show_is_offline_and_needs_no_key_nor_manifests(saved: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A reviewer has the file and nothing else."""
    elsewhere = Shell(tmp_path_factory.mktemp("elsewhere"))
    shutil.copy(saved.folder / "plan.json", elsewhere.folder)
    assert elsewhere("show", "plan.json").out == saved("show", "plan.json").out
    data = json.loads(elsewhere("show", "plan.json", "-o", "json").out)
    PlanJson.model_validate_json(json.dumps(data))
    live = json.loads(saved("plan", "-o", "json").out)
    assert live == {**data, "saved": None}
    assert data["saved"]["made_from"] == ["."]
    assert os.listdir(elsewhere.folder) == ["plan.json"]


def test_what_changed_is_named_and_equal_work_may_go_on(saved: Shell) -> None:
    saved.change("stack.yaml", "kind: Deployment", "kind: Deployment  # a comment")
    refused = saved("apply", "plan.json")
    assert (refused.code, refused.out) == (4, "")
    assert "  stack.yaml changed\n" in refused.err
    assert "--replan=if-equal" in refused.err
    assert saved("apply", "plan.json", "--replan=if-equal").code == 0


def test_other_work_is_refused_whatever_is_allowed(saved: Shell) -> None:
    saved.change("stack.yaml", "capacity: 4", "capacity: 8")
    refused = saved("apply", "plan.json", "--replan=if-equal", "-o", "json")
    assert (refused.code, refused.out) == (4, "")
    assert "Deployment/prod: to create it differs in capacity" in refused.err


def test_an_altered_file_is_refused_by_show_and_apply(saved: Shell) -> None:
    saved.change("plan.json", '"capacity": 4', '"capacity": 8')
    for command in ("show", "apply"):
        result = saved(command, "plan.json")
        assert (result.code, result.out) == (1, "")
        assert "'plan.json' was altered or damaged" in result.err


def test_the_plan_of_one_folder_says_so_in_another(saved: Shell) -> None:
    """Which manifests it was made with comes first, before their own mistakes."""
    (saved.folder / "other").mkdir()
    shutil.copy(saved.folder / "plan.json", saved.folder / "other")
    result = saved("apply", "plan.json", "-f", "other")
    assert result.code == 1
    assert "the plan was made with -f .; this is -f other" in result.err


def test_a_plan_that_was_left_half_done_goes_on_with_the_same_file(saved: Shell) -> None:
    assert saved("apply", "plan.json", "--wait", "none").code == 6
    assert saved("apply", "plan.json").code == 0
    assert saved("apply", "plan.json").code == 4
    ids = [row["id"] for row in json.loads(saved("get", "-o", "json").out)["items"]]
    assert len(ids) == len(set(ids)) == 4, "nothing was bought twice"


def test_a_plan_to_destroy_is_a_plan_like_any_other(applied: Shell) -> None:
    assert applied("plan", "--destroy", "--out", "plan.json").code == 0
    assert "made with --destroy" in applied("show", "plan.json").out
    assert applied("apply", "plan.json").code == 0
    assert "not created" in applied("status").out


def test_a_rerun_without_consent_is_blocked_in_the_plan_already(applied: Shell) -> None:
    applied.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")
    assert "--allow retrain=FineTuneJob/tuned" in applied("plan", "--out", "plan.json").out
    assert applied("apply", "plan.json").code == 3
    assert applied("plan", "--out", "plan.json", "--allow", "retrain=FineTuneJob/tuned").code == 0
    assert applied("apply", "plan.json").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "--out", "plan.yaml"], 64, "would be read as a manifest"),
        (["plan", "--out", "nowhere/plan.json"], 64, "in none that exists"),
        (["plan", "--out", "data"], 64, "is a folder"),
        (["apply", "--replan=if-equal"], 64, "--replan is about a saved plan"),
        (["apply", "plan.json", "--prune"], 64, "a saved plan holds its own choices"),
        (["apply", "missing.json"], 1, "there is no such file"),
        (["show", "stack.yaml"], 1, "is no saved plan"),
        (["show", "data"], 1, "is a folder"),
        (["show"], 64, "PLANFILE"),
    ],
)
def test_a_wrong_use_is_told(saved: Shell, arguments: list[str], code: int, said: str) -> None:
    result = saved(*arguments)
    assert (result.code, result.out) == (code, "")
    assert said in result.err


def test_a_link_in_the_place_of_the_file_is_replaced_and_never_followed(shell: Shell) -> None:
    shell.write("precious.txt", "precious")
    (shell.folder / "plan.json").symlink_to("precious.txt")
    assert "links are not followed" in shell("show", "plan.json").err
    assert shell("plan", "--out", "plan.json").code == 0
    assert (shell.folder / "precious.txt").read_text() == "precious"
    assert shell("show", "plan.json").code == 0
