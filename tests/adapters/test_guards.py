"""Limits as a user meets them: on the plan's last line, at apply, and in the operator's own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.conftest import Shell

OPERATOR = """\
apiVersion: bailian.reconciler/v1alpha1
kind: Operator
metadata: {{name: ci}}
spec: {{budget: {{{budget}}}}}
"""


@pytest.fixture
def limits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's file, outside the project."""
    return tmp_path_factory.mktemp("operator") / "operator.yaml"


def test_the_plan_says_whether_an_apply_would_be_let_through(shell: Shell) -> None:
    assert "budget: 1,000.00 CNY an apply: ok" in shell("plan", "--max-cost", "1000").out
    over = shell("plan", "--max-cost", "0.001")
    assert over.code == 0
    assert "over the limit: cost: " in over.out
    assert "budget" not in shell("plan").out


def test_an_apply_over_its_limit_shows_the_plan_sends_nothing_and_exits_3(shell: Shell) -> None:
    refused = shell("apply", "-y", "--max-cost", "0.001")
    assert refused.code == 3
    assert "new paid run" in refused.out
    assert "the limit is 0.00 CNY once" in refused.err
    assert "--allow cost=" in refused.err
    assert "nothing" in shell("status").out or "not" in shell("status").out


def test_the_operators_limit_holds_beside_the_projects(shell: Shell, limits: Path) -> None:
    limits.write_text(OPERATOR.format(budget="hourlyCny: 1"))
    refused = shell("apply", "-y", env={"RECONCILER_OPERATOR_CONFIG": str(limits)})
    assert refused.code == 3
    assert "rate: 216.00 CNY/h afterwards, and the limit is 1.00 CNY/h afterwards" in refused.err


def test_mistakes_in_the_operators_file_have_their_places(shell: Shell, limits: Path) -> None:
    limits.write_text(OPERATOR.format(budget="hourlyCNY: 1, deletes: many"))
    refused = shell("plan", env={"RECONCILER_OPERATOR_CONFIG": str(limits)})
    assert refused.code == 1
    assert f"{limits}:4:" in refused.err
    assert "hourlyCny" in refused.err


def test_limits_that_do_not_hold_are_told(shell: Shell, limits: Path) -> None:
    """A file that was named and is not there, or that the project itself could change."""
    missing = shell("plan", env={"RECONCILER_OPERATOR_CONFIG": str(limits)})
    assert (missing.code, "does not exist" in missing.err) == (1, True)
    inside = shell.folder / "operator.yaml"
    inside.write_text(OPERATOR.format(budget="deletes: 9"))
    own = shell("plan", "-f", "stack.yaml", env={"RECONCILER_OPERATOR_CONFIG": str(inside)})
    assert own.code == 3
    assert "inside the project" in own.err
