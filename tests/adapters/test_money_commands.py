"""cost, discover, metrics and lineage as a user meets them."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from xml.dom import minidom

import pytest

from tests.adapters.conftest import Shell, declare
from tests.desk import sft


@pytest.fixture(scope="module")
def renewed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny stack whose data changed after its first run, applied again. Never changed: only read."""
    made = Shell(tmp_path_factory.mktemp("renewed"))
    declare(made)
    assert made("apply", "-y").code == 0
    rows = [sft(f"question {number} of many") for number in range(200)]
    made.write("data/rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    again = made("apply", "-y", "--allow", "retrain=FineTuneJob/tuned")
    assert again.code == 0, again.err
    return made.folder


@pytest.fixture
def renewed(renewed_once: Path) -> Shell:
    return Shell(renewed_once)


def test_cost_tells_what_runs_what_was_bought_and_what_is_declared(renewed: Shell) -> None:
    told = renewed("cost").out
    assert "104,472.00 CNY for a month prepaid" in told
    assert told.count(" used ") == 2, "both runs, also the one that was superseded"
    assert "now       216.00 CNY/h, 157,680.00 a month" in told
    assert "declared  216.00 CNY/h" in told
    assert "prices of 2026-05-26" in told


def test_cost_as_data_agrees_with_itself_and_writes_money_as_text(renewed: Shell) -> None:
    told = json.loads(renewed("cost", "-o", "json").out)
    assert Decimal(told["bought_cny"]) == sum(Decimal(one["cny"]) for one in told["bought"])
    assert sum(Decimal(one["hour_cny"]) for one in told["objects"]) == Decimal(told["now"]["hour_cny"]) == 216
    assert told["declared"] == {"hour_cny": "216", "month_cny": "157680", "once_cny": "0"}
    assert all(one["tokens_used"] and one["tokens_foreseen"] for one in told["bought"])


def test_cost_of_a_stack_that_was_never_applied_is_what_it_would_be(shell: Shell) -> None:
    told = shell("cost").out
    assert "now       0.00 CNY/h" in told
    assert "declared  216.00 CNY/h, 157,680.00 a month; an apply would cost once 0.006 CNY" in told


def test_an_unknown_price_makes_the_rate_unknown(shell: Shell) -> None:
    shell.change("stack.yaml", "plan: mu, deploySpec: MU1, capacity: 4", "plan: cu, capacity: 1")
    assert "declared  unknown CNY/h, unknown a month" in shell("cost").out


def test_prices_that_the_stack_brings_are_used_and_named(shell: Shell) -> None:
    shell.change("stack.yaml", 'profile: "2026"', 'profile: "2026", catalogue: ours.yml')
    shell.write("ours.yml", "model_units: {MU1: {hour: 10}}\n")
    told = shell("plan").out
    assert "40.00 CNY/h, 29,200.00 a month" in told
    assert told.rstrip().endswith("prices of 2026-05-26 under those of ours.yml")


def test_status_ends_with_the_money_and_what_an_apply_would_cost(renewed: Shell) -> None:
    told = renewed("status").out.splitlines()
    assert told[-2] == "run rate 216.00 CNY/h (157,680.00 a month)"
    assert told[-1].startswith("an apply would cost once 0.00 CNY, run rate 216.00 -> 216.00 CNY/h")
    assert told[-1].endswith("prices of 2026-05-26")


def test_discover_of_a_stack_alone_on_its_account_finds_nothing(renewed: Shell) -> None:
    result = renewed("discover", "--billable")
    assert (result.code, "nothing found" in result.out) == (0, True)
    assert "whether anybody calls a deployment the service does not tell" in result.out


def test_discover_finds_what_is_no_longer_declared_and_what_nothing_refers_to(applied: Shell) -> None:
    text = (applied.folder / "stack.yaml").read_text(encoding="utf-8")
    kept = [one for one in text.split("---\n") if "kind: Deployment" not in one]
    other = kept[1].replace("name: rows", "name: spare").replace("data/rows.jsonl", "data/spare.jsonl")
    other = other.replace("minRows: 30", "minRows: 1")
    applied.write("data/spare.jsonl", json.dumps(sft("spare")) + "\n")
    applied.write("stack.yaml", "---\n".join([*kept, other]))
    assert applied("apply", "-y").code == 0
    found = json.loads(applied("discover", "--billable", "-o", "json").out)["found"]
    assert [(one["what"], one["collection"], one["hour_cny"]) for one in found] == [
        ("idle", "deployments", "216"),
        ("unreferenced", "files", "0"),
    ]
    assert "no manifest declares it" in found[0]["why"]
    assert "Dataset/spare" in found[1]["why"]
    assert "216.00 CNY/h (157,680.00 a month) that nobody here asks for" in applied("discover").out


def test_discover_without_a_record_calls_everything_unmanaged(applied: Shell) -> None:
    for name in (".reconciler/state.db", ".reconciler/state.db-wal", ".reconciler/state.db-shm"):
        (applied.folder / name).unlink(missing_ok=True)
    found = json.loads(applied("discover", "-o", "json").out)["found"]
    assert {one["collection"] for one in found if one["what"] == "unmanaged"} == {
        "deployments", "files", "jobs", "vocabularies",
    }  # fmt: skip
    billable = json.loads(applied("discover", "--billable", "-o", "json").out)["found"]
    assert [one["hour_cny"] for one in billable] == ["216"]


def test_metrics_draw_the_loss_in_four_forms(renewed: Shell) -> None:
    drawn = renewed("metrics", "finetunejob/tuned")
    assert drawn.code == 0
    assert "loss: " in drawn.out
    assert any("\u2800" < letter < "\u2900" for letter in drawn.out)
    rows = list(csv.DictReader(io.StringIO(renewed("metrics", "FineTuneJob/tuned", "-o", "csv").out)))
    data = json.loads(renewed("metrics", "FineTuneJob/tuned", "-o", "json").out)
    assert [int(row["step"]) for row in rows] == [one["step"] for one in data["measurements"]]
    assert len(rows) > 3
    picture = minidom.parseString(renewed("metrics", "FineTuneJob/tuned", "-o", "svg").out)
    assert picture.documentElement.tagName == "svg"


def test_metrics_of_what_keeps_no_log_or_was_never_made(renewed: Shell, shell: Shell) -> None:
    refused = renewed("metrics", "Deployment/prod")
    assert (refused.code, "Deployment/prod keeps no log" in refused.err) == (64, True)
    nothing = shell("metrics", "FineTuneJob/tuned")
    assert (nothing.code, "holds nothing yet" in nothing.err) == (64, True)


def test_lineage_leads_from_the_data_to_the_deployment_and_back(renewed: Shell) -> None:
    whole = json.loads(renewed("lineage", "Deployment/prod", "-o", "json").out)
    data = [node["id"] for node in whole["nodes"] if node["sort"] == "data"]
    assert len(data) == 2, "the first data too, though its upload and its deployment are gone"
    for md5 in data:
        told = renewed("lineage", md5[:8]).out
        assert told.startswith(f"data {md5}")
        assert [word in told for word in ("led to", "FineTuneJob/tuned", "model qwen", "Deployment/prod")] == [True] * 4
    job = renewed("lineage", "FineTuneJob/tuned").out
    assert job.count("made from") == job.count("led to") == 2
    assert "(gone, " in job


def test_lineage_of_a_word_that_nothing_bears(renewed: Shell) -> None:
    refused = renewed("lineage", "FineTuneJob/tund")
    assert refused.code == 64
    assert "the record knows nothing of" in refused.err
    assert "did you mean FineTuneJob/tuned?" in refused.err


@pytest.mark.parametrize("command", ["cost", "discover", "metrics", "lineage"])
def test_help_says_what_each_is_for(shell: Shell, command: str) -> None:
    told = shell(command, "--help")
    assert told.code == 0
    assert "Usage: reconciler " + command in told.out
