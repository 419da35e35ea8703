"""`-e` as its user meets it: on which commands, what the pages say, and every refusal with its code."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest

from reconciler.adapters.cli import cli
from reconciler.adapters.connection import REGIONS
from reconciler.render.plan_json import PlanJson
from tests.adapters.conftest import Shell
from tests.adapters.test_cli import HEAVY

PROD = "kind: Deployment\nmetadata: {name: prod}\nspec:\n  capacity: 8\n"
STACK = "kind: Stack\nmetadata: {name: tiny}\nspec: {%s}\n"


@pytest.fixture
def there(shell: Shell) -> Shell:
    """A shell in the folder of a tiny stack with two environments, never applied."""
    overlays(shell)
    return shell


def overlays(shell: Shell) -> None:
    shell.write("envs/prod/prod.yaml", PROD)
    shell.write("envs/staging/staging.yaml", "# as the base\n")


def ids(shell: Shell, *options: str) -> set[str]:
    """What an environment's state holds."""
    return {row["id"] for row in json.loads(shell("state", "list", "-o", "json", *options).out)["objects"]}


def commands(group: click.Group, ctx: click.Context) -> Iterator[click.Command]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield from commands(command, ctx) if isinstance(command, click.Group) else [command]


def test_every_command_that_takes_manifests_takes_an_environment() -> None:
    """One that forgot it would show or change the base where another environment was meant."""
    found = list(commands(cli, click.Context(cli)))
    options = [{name for option in command.params for name in option.opts} for command in found]
    assert sum("--file" in names for names in options) > 20
    taking = [bool(names & {"--file", "--stacks"}) for names in options]
    assert taking == [{"-e", "--env"} <= names for names in options]


# Two environments ---------------------------------------------------------------------------------------------------


def test_two_environments_live_side_by_side_on_one_emulator(there: Shell) -> None:
    """What one owns the other neither takes, changes nor destroys; the base has no part in either."""
    for environment in ("staging", "prod"):
        result = there("apply", "-y", "-e", environment)
        assert result.code == 0, result.err
        assert there("plan", "--detailed-exitcode", "-e", environment).code == 0
    staging, prod = ids(there, "-e", "staging"), ids(there, "-e", "prod")
    assert (len(staging), len(prod), staging & prod) == (4, 4, set())
    assert ids(there) == set()
    states = sorted(path.name for path in (there.folder / ".reconciler").glob("state.*.db"))
    assert states == ["state.prod.db", "state.staging.db"]
    assert "capacity: 8" in there("state", "show", "Deployment/prod", "-e", "prod").out
    assert "capacity: 4" in there("state", "show", "Deployment/prod", "-e", "staging").out
    assert there("destroy", "-y", "-e", "prod").code == 0
    assert ids(there, "-e", "prod") == set()
    assert ids(there, "-e", "staging") == staging
    assert there("plan", "--detailed-exitcode", "-e", "staging").code == 0


def test_a_plan_says_which_environment_it_is_for_and_cites_its_overlay(there: Shell) -> None:
    assert there("apply", "-y", "-e", "prod").code == 0
    there.change("envs/prod/prod.yaml", "capacity: 8", "capacity: 12")
    page = there("plan", "-e", "prod").out
    assert page.splitlines()[0].startswith("stack tiny · environment prod · emulator (nothing is bought) · ")
    assert "capacity 8 -> 12" in page
    assert "envs/prod/prod.yaml:4" in page
    data = json.loads(there("plan", "-e", "prod", "-o", "json").out)
    PlanJson.model_validate_json(json.dumps(data))
    assert (data["stack"], data["environment"]) == ("tiny", "prod")
    assert data["operations"][0]["reasons"][0]["at"] == {"file": "envs/prod/prod.yaml", "line": 4, "column": 13}
    for command in ("status", "cost"):
        assert "stack tiny · environment prod · " in there(command, "-e", "prod").out
        assert json.loads(there(command, "-e", "prod", "-o", "json").out)["environment"] == "prod"
    assert "environment" not in there("plan").out.splitlines()[0]


def test_the_budget_of_an_environment_stops_an_apply_there_alone(there: Shell) -> None:
    there.write("envs/prod/stack.yaml", STACK % "budget: {hourlyCny: 100}")
    assert there("apply", "-y", "-e", "prod").code == 3
    assert "--allow rate=" in there("plan", "-e", "prod").out
    assert "over the limit" not in there("plan", "-e", "staging").out


def test_offline_commands_take_an_environment_too(there: Shell) -> None:
    there.write("envs/prod/more.yaml", PROD.replace("prod", "canary"))
    told = there("validate", "-e", "prod")
    assert told.code == 1
    assert told.err.startswith(
        "envs/prod/more.yaml:2:18  an overlay for 'Deployment/canary', which no manifest declares"
    )
    there.write("envs/prod/more.yaml", "# nothing\n")
    assert there("validate", "-e", "prod").err == ""
    assert there("graph", "-e", "prod").code == 0
    there.write("data/bad.jsonl", "{}\n")
    there.write("envs/prod/data.yaml", "kind: Dataset\nmetadata: {name: rows}\nspec: {source: data/bad.jsonl}\n")
    assert [there("lint", "-e", name).code for name in ("staging", "prod")] == [0, 1]


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("workspace: llm-other", "belongs to workspace (none), not to llm-other"),
        ("endpoint: beijing", ", not to nowhere.invalid"),
    ],
)
def test_an_overlay_that_points_elsewhere_than_the_state_is_refused_before_anything_is_read(
    applied_in_prod: Shell, change: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 8. The other endpoint has no address: any request would be another error."""
    monkeypatch.setitem(REGIONS, "beijing", "https://nowhere.invalid")
    applied_in_prod.write("envs/prod/stack.yaml", STACK % change)
    for command in (["plan"], ["apply", "-y"], ["destroy", "-y"], ["status"], ["discover"], ["state", "rebuild", "-y"]):
        result = applied_in_prod(*command, "-e", "prod", env={"DASHSCOPE_API_KEY": "made-up"})
        assert (result.code, result.out) == (8, "")
        assert result.err.startswith("error: the state in .reconciler/state.prod.db belongs to ")
        assert said in result.err
    assert applied_in_prod("plan", "-e", "staging").code == 0


@pytest.fixture
def applied_in_prod(applied: Shell) -> Shell:
    """A shell in the folder of a tiny stack whose one environment with a state is prod."""
    overlays(applied)
    assert applied("destroy", "-y").code == 0
    assert applied("apply", "-y", "-e", "prod", "--wait", "none").code == 6
    return applied


def test_a_saved_plan_is_applied_in_its_own_environment_alone(there: Shell) -> None:
    """Both pages that tell how to apply it name the environment; any other is refused before its state is touched."""
    made = there("plan", "-e", "prod", "--out", "plan.json")
    assert "  reconciler apply plan.json -e prod does exactly this" in made.err
    shown = there("show", "plan.json").out
    assert "stack tiny · environment prod · " in shown
    assert "for one apply: reconciler apply plan.json -e prod" in shown
    for options, here in (([], "no environment"), (["-e", "staging"], "environment 'staging'")):
        refused = there("apply", "plan.json", *options)
        assert (refused.code, refused.out) == (4, "")
        assert f"error: the saved plan was made for environment 'prod', and this is {here}\n" in refused.err
        assert refused.err.endswith("  it is applied with: reconciler apply plan.json -e prod\n")
    assert list((there.folder / ".reconciler").glob("state*")) == []
    assert there("apply", "plan.json", "-e", "prod").code == 0


def test_a_saved_plan_of_the_base_is_not_one_of_an_environment(there: Shell) -> None:
    there("plan", "--out", "plan.json")
    refused = there("apply", "plan.json", "-e", "prod")
    assert refused.code == 4
    assert "made for no environment, and this is environment 'prod'" in refused.err
    assert refused.err.endswith("  it is applied with: reconciler apply plan.json\n")


def test_an_overlay_that_changed_speaks_against_a_saved_plan(there: Shell) -> None:
    there("plan", "-e", "prod", "--out", "plan.json")
    there.change("envs/prod/prod.yaml", "capacity: 8", "capacity: 8  # a comment")
    refused = there("apply", "plan.json", "-e", "prod")
    assert refused.code == 4
    assert "  envs/prod/prod.yaml changed\n" in refused.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prd", "there is no environment 'prd': 'envs' holds prod, staging\n  did you mean prod?"),
        ("../x", "'../x' is not the name of an environment"),
        ("", "it is empty: name an environment, or leave -e out for the base"),
    ],
)
def test_a_wrong_environment_is_a_wrong_command_line(there: Shell, name: str, said: str) -> None:
    """An empty one too: a variable that a script forgot to set must not apply the base."""
    for command in ("plan", "validate", "lint"):
        result = there(command, "-e", name)
        assert (result.code, result.out) == (64, "")
        assert said in result.err


def test_without_one_the_base_is_meant_and_that_is_said(there: Shell) -> None:
    result = there("plan", "-o", "json")
    assert result.code == 0
    assert "warning: this is the base alone, without an environment (-e names one: prod, staging)\n" in result.err
    assert json.loads(result.out)["environment"] == ""


def test_environments_are_completed(there: Shell) -> None:
    """Without loading a YAML parser or anything else that takes time, and none whose name would do harm in a shell."""
    (there.folder / "envs/p\x1b[2J").mkdir()
    words = {"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": "reconciler plan -e p", "COMP_CWORD": "3"}
    done = there.process("x", env={**words, "PYTHONPROFILEIMPORTTIME": "1"})
    assert done.out.split() == ["plain,prod"]
    loaded = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert "reconciler.files" in loaded, "the measurement works"
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
