"""`reconciler drift` as a user meets it: on an applied stack, after somebody's hands, in a pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.adapters.conftest import Shell
from tests.desk import Emulator, emulator


@contextmanager
def somebody(shell: Shell) -> Iterator[Emulator]:
    """The stack's own emulator, reached beside the tool and a good while after its last apply."""
    with emulator(shell.folder / ".reconciler/emulator") as service:
        service.control("clock", {"advance_s": 3600})
        yield service
        service.control("clock", {"advance_s": 3600})
        service.call("GET", "/deployments")  # an emulator that starts again goes on from the time that it last showed


def items(service: Emulator, path: str, members: str) -> list[dict[str, Any]]:
    return list(service.call("GET", path)["output"][members])


def hotwords(service: Emulator, action: str, **more: Any) -> dict[str, Any]:
    body = {"model": "speech-biasing", "input": {"action": f"{action}_vocabulary", **more}}
    return dict(service.call("POST", "/services/audio/asr/customization", body)["output"])


def scale(shell: Shell) -> None:
    """As somebody does in the console."""
    with somebody(shell) as service:
        (deployed,) = items(service, "/deployments", "deployments")
        service.call("PUT", f"/deployments/{deployed['deployed_model']}/scale", {"capacity": 8})


@pytest.fixture
def scaled(applied: Shell) -> Shell:
    scale(applied)
    return applied


@pytest.fixture
def emptied(applied: Shell) -> Shell:
    """Everything but the upload was deleted."""
    with somebody(applied) as service:
        for deployed in items(service, "/deployments", "deployments"):
            service.call("DELETE", f"/deployments/{deployed['deployed_model']}")
        for run in items(service, "/fine-tunes", "jobs"):
            service.call("DELETE", f"/fine-tunes/{run['job_id']}")
        for table in hotwords(service, "list")["vocabulary_list"]:
            hotwords(service, "delete", vocabulary_id=table["vocabulary_id"])
    return applied


def test_without_drift_it_says_so_and_exits_0(applied: Shell) -> None:
    result = applied("drift", "--detailed-exitcode")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "no drift: 4 objects are as last applied"


def test_before_the_first_apply_there_is_nothing_to_compare(shell: Shell) -> None:
    result = shell("drift", "--detailed-exitcode")
    assert (result.code, result.out.splitlines()[-1]) == (0, "nothing to compare: nothing of this was applied yet")


def test_drift_is_a_result_and_exits_2_only_when_asked_to(scaled: Shell) -> None:
    told = scaled("drift")
    assert told.code == 0
    assert "  changed   capacity: 4 -> 8\n" in told.out
    assert "the account we write with; last touched " in told.out
    assert "an apply sets it as declared" in told.out
    assert scaled("drift", "--detailed-exitcode").code == 2
    assert scaled("apply", "-y").code == 0
    assert scaled("drift", "--detailed-exitcode").code == 0


def test_piped_it_is_plain(scaled: Shell) -> None:
    assert "\x1b" not in scaled("drift").out
    assert "\x1b" not in scaled("drift", env={"NO_COLOR": "1"}).out


def test_of_named_documents_only(scaled: Shell) -> None:
    other = scaled("drift", "--detailed-exitcode", "hotwordtable/meds", "Dataset/rows")
    assert (other.code, other.out.splitlines()[-1]) == (0, "no drift: 2 objects are as last applied")
    assert scaled("drift", "--detailed-exitcode", "Deployment/prod").code == 2


def test_of_what_has_these_labels_only(scaled: Shell) -> None:
    scaled.change("stack.yaml", "metadata: {name: prod}", "metadata: {name: prod, labels: {team: care}}")
    assert scaled("drift", "--detailed-exitcode", "-l", "team=care").code == 2
    other = scaled("drift", "--detailed-exitcode", "-l", "team!=care")
    assert (other.code, other.out.splitlines()[-1]) == (0, "no drift: 3 objects are as last applied")
    assert scaled("drift", "--detailed-exitcode", "-l", "team=care", "Dataset/rows").code == 0
    assert scaled("drift", "-l", "team=sales").out.endswith("nothing of this was applied yet\n")
    assert scaled("drift", "-l", "team=(").code == 64


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prod"], "'prod' names no object"),
        (["Deployment/prd"], "did you mean Deployment/prod?"),
        (["Deploymint/prod"], "there is no kind 'Deploymint'"),
        (["--allow", "deletes=1"], "vanished=all"),
        (["-o", "sarif"], "sarif"),
    ],
)
def test_a_wrong_command_line_exits_64(applied: Shell, arguments: list[str], said: str) -> None:
    result = applied("drift", *arguments)
    assert (result.code, result.out) == (64, "")
    assert said in result.err


def test_every_format_tells_the_same_difference(scaled: Shell) -> None:
    as_json = json.loads(scaled("drift", "-o", "json").out)
    (one,) = as_json["differences"]
    assert (as_json["drift"], as_json["compared"]) == (True, 4)
    named = {name: one[name] for name in ("class", "address", "path", "before", "after", "corrected_by_apply")}
    assert named == {"class": "changed", "address": "Deployment/prod", "path": ["capacity"], "before": 4, "after": 8,
                     "corrected_by_apply": True}  # fmt: skip
    assert one["who"]["ours"] is True
    assert one["since"] > one["last_write"]
    assert yaml.safe_load(scaled("drift", "-o", "yaml").out)["differences"] == [one]
    markdown = scaled("drift", "-o", "markdown", "--detailed-exitcode")
    assert markdown.code == 2
    assert markdown.out.startswith("**1 difference in 1 of 4 objects, 1 of which an apply corrects**\n\n```text\n")
    (suite,) = ElementTree.fromstring(scaled("drift", "-o", "junit").out)
    assert [case.get("name") for case in suite if len(case)] == ["Deployment/prod (current)"]


def test_most_of_it_gone_at_once_is_refused_as_another_account(emptied: Shell) -> None:
    refused = emptied("drift", "--detailed-exitcode", "-o", "json")
    assert (refused.code, refused.out) == (3, "")
    assert "3 of our 4 objects are gone from the service: is this the right account and workspace?" in refused.err
    assert "--allow vanished=all" in refused.err
    told = emptied("drift", "--detailed-exitcode", "--allow", "vanished=all")
    assert told.code == 2
    assert told.out.count("  vanished  ") == 3
    assert told.out.splitlines()[-1] == "3 differences in 3 of 4 objects, 2 of which an apply corrects"
