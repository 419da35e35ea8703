"""`pause`, `resume`, `wait`, `cancel`, `retry` and `orphans` as their user meets them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine import recorded
from reconciler.project import load
from reconciler.state import IntentPhase
from tests.adapters.conftest import Result, Shell
from tests.adapters.test_cli import on_a_terminal
from tests.adapters.test_state_commands import HOSTILE, objects, record
from tests.desk import Emulator, emulator

JOB = "FineTuneJob/tuned"


@dataclass(frozen=True)
class Bench:
    """A tiny stack whose job is under way on a service of its own, and will be for minutes."""

    shell: Shell
    service: Emulator

    def __call__(self, *arguments: str) -> Result:
        return self.shell(*arguments, "--endpoint", self.service.origin)

    def pass_s(self, seconds: float) -> None:
        self.service.control("clock", {"advance_s": seconds})

    @property
    def job(self) -> str:
        """The id of the run that is the next of its slot."""
        listed = json.loads(self.shell("state", "list", "-o", "json").out)["objects"]
        return next(str(row["id"]) for row in listed if (row["address"], row["role"]) == (JOB, "next"))


@pytest.fixture
def bench(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with emulator(tmp_path_factory.mktemp("service"), speed=10.0) as service:
        made = Bench(shell, service)
        assert made("apply", "-y", "--wait", "none").code in (0, 6)
        yield made


# Pausing ------------------------------------------------------------------------------------------------------------


def test_what_is_paused_is_shown_as_such_everywhere_until_it_is_resumed(applied: Shell) -> None:
    told = applied("pause", "deployment/prod", "--reason", "audit")
    assert (told.code, told.err) == (0, "")
    assert "Deployment/prod is paused since" in told.out
    assert "(audit): reconciler resume Deployment/prod" in told.out
    assert "RUNNING (paused)" in applied("get").out
    assert "RUNNING (paused)" in applied("status").out
    assert "(audit): reconciler resume Deployment/prod" in applied("status").out
    assert "is paused since" in applied("describe", "Deployment/prod").out
    shown = json.loads(applied("get", "Deployment/prod", "-o", "json").out)["items"][0]
    assert (shown["paused"]["reason"], shown["status"]) == ("audit", "RUNNING")
    assert json.loads(applied("describe", "Deployment/prod", "-o", "json").out)["paused"]["reason"] == "audit"
    assert "pause Deployment/prod  done  by a person  audit" in applied("state", "history").out
    assert applied("resume", "Deployment/prod").out.startswith("Deployment/prod is paused no more")
    assert "paused" not in applied("status").out


def test_a_paused_stack_refuses_every_apply_and_names_the_way_out(applied: Shell) -> None:
    assert applied("pause", "--reason", "year end").code == 0
    for command in ("apply", "destroy"):
        refused = applied(command, "-y")
        assert refused.code == 3
        assert "(year end)\n  reconciler resume\n" in refused.err
    assert "left alone: the stack is paused since" in applied("plan").out
    assert len(objects(applied)) == 4
    assert "pause the stack" in applied("state", "history").out
    assert applied("resume").code == 0
    assert applied("apply", "-y").code == 0


def test_a_pause_is_no_news_the_second_time_and_says_so(applied: Shell) -> None:
    applied("pause", "--reason", "first")
    again = applied("pause", "--reason", "second")
    assert again.code == 0
    assert "is already paused since" in again.out
    assert "(first)" in again.out
    told = json.loads(applied("pause", "Deployment/prod", "-o", "json").out)
    assert [one["address"] for one in told["paused"]] == ["", "Deployment/prod"]
    assert [one["verb"] for one in told["done"]] == ["pause"]
    assert "Deployment/prod is still paused" in applied("resume").out


def test_what_is_under_way_goes_on_and_pause_says_so(bench: Bench) -> None:
    told = bench("pause", JOB)
    assert f"{JOB}: {bench.job} is under way: it goes on, and is billed" in told.out
    assert bench.job in bench("pause").out
    assert bench.job not in bench("pause", "HotwordTable/meds").out


def test_a_first_apply_can_be_held_back(shell: Shell) -> None:
    """Nothing is recorded yet: the pause is the first row of the state."""
    assert shell("pause").code == 0
    assert shell("apply", "-y").code == 3
    assert objects(shell) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pause", "Deployment/prd"], "did you mean Deployment/prod?"),
        (["pause", "prod"], "KIND/NAME"),
        (["resume"], "the stack is not paused"),
        (["resume", "Deployment/prod"], "Deployment/prod is not paused"),
        (["wait", "Deployment/prd"], "did you mean Deployment/prod?"),
        (["wait", "--for", "rain"], "rain"),
        (["wait", "--timeout", "soon"], "no length of time"),
        (["cancel"], "KIND/NAME"),
        (["cancel", "HotwordTable/meds"], "fine-tune jobs can"),
        (["cancel", "Deployment/prod"], "nothing that can be canceled"),
        (["retry", "FineTuneJob/tund"], "did you mean FineTuneJob/tuned?"),
    ],
)
def test_a_wrong_command_line_exits_64_and_says_what_to_write(applied: Shell, arguments: list[str], said: str) -> None:
    result = applied(*arguments)
    assert (result.code, result.out) == (64, "")
    assert said in result.err


def test_a_reason_cannot_forge_a_line(applied: Shell) -> None:
    applied("pause", "Deployment/prod", "--reason", HOSTILE)
    applied("pause", "--reason", HOSTILE)
    pages = [("status",), ("describe", "Deployment/prod"), ("plan",), ("pause",), ("apply", "-y"), ("resume",)]
    for arguments in pages:
        result = applied(*arguments)
        assert "\x1b" not in result.out + result.err, arguments
        assert "\n::" not in result.out + result.err, arguments


# Waiting ------------------------------------------------------------------------------------------------------------


def test_where_nothing_is_under_way_there_is_nothing_to_wait_for(applied: Shell) -> None:
    assert applied("wait").out == "nothing is under way\n"
    named = applied("wait", "Deployment/prod")
    assert named.code == 0
    assert named.out.startswith("Deployment/prod  ")
    assert named.out.endswith("  ready (RUNNING)\n")
    assert "Deployment/prod  ready" in named.err


def test_what_an_apply_left_is_waited_for_and_the_next_one_has_it(shell: Shell) -> None:
    """On the embedded emulator, whose time passes only while a command runs."""
    assert shell("apply", "-y", "--wait", "none").code in (0, 6)
    told = shell("wait", "-o", "json")
    data = json.loads(told.out)
    assert (told.code, data["for"], data["exit_code"]) == (0, "ready", 0)
    (one,) = data["objects"]
    assert (one["address"], one["outcome"], one["status"]) == (JOB, "ready", "SUCCEEDED")
    assert f"{JOB}  ready" in told.err
    assert shell("apply", "-y").code == 0


def test_a_wait_that_takes_too_long_exits_6_and_one_that_failed_5(bench: Bench) -> None:
    late = bench("wait", "--timeout", "0s")
    assert late.code == 6
    assert late.out.startswith(f"{JOB}  {bench.job}  not yet (")
    bench.service.call("POST", f"/fine-tunes/{bench.job}/cancel")
    bench.pass_s(600)
    failed = bench("wait", JOB)
    assert failed.code == 5
    assert f"{JOB}  {bench.job}  failed (CANCELED): CANCELED 1 canceled" in failed.out
    assert json.loads(bench("wait", JOB, "-o", "json").out)["objects"][0]["outcome"] == "failed"


def test_nothing_to_wait_for_by_that_name_is_a_wrong_command_line(bench: Bench) -> None:
    result = bench("wait", "Deployment/prod")
    assert result.code == 64
    assert "Deployment/prod holds nothing yet\n  reconciler apply makes it" in result.err


def test_a_wait_can_be_interrupted(bench: Bench) -> None:
    running = bench.shell.start("wait", "--endpoint", bench.service.origin)
    assert running.stderr is not None
    assert JOB in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err.strip()) == (130, "", "interrupted")


def test_a_wait_takes_no_lease(bench: Bench) -> None:
    """An apply must be able to work while somebody watches, and the other way round."""
    running = bench.shell.start("wait", "--endpoint", bench.service.origin)
    assert running.stderr is not None
    running.stderr.readline()
    assert bench("pause").code == 0
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)


# Canceling and trying again -----------------------------------------------------------------------------------------


def test_a_run_is_canceled_only_when_somebody_agrees_and_sees_what_it_costs(bench: Bench) -> None:
    bench.pass_s(300)
    unasked = bench("cancel", JOB)
    assert unasked.code == 3
    assert f"cancel {bench.job}, which is RUNNING: what it did until then is billed (at most 0.0" in unasked.out
    assert f"until reconciler retry {JOB} or a changed input" in unasked.out
    code, text = on_a_terminal(bench.shell, ["cancel", JOB, "--endpoint", bench.service.origin, "--no-color"], "n")
    assert (code, "declined" in text) == (3, True), text
    assert "jobs.cancel" not in bench.service.operations()
    done = bench("cancel", JOB, "-y", "--wait", "none")
    assert (done.code, bench.service.operations().count("jobs.cancel")) == (6, 1)
    bench.pass_s(600)
    assert f"! {JOB}" in bench("plan").out


def test_a_canceled_run_says_what_is_billed(shell: Shell, tmp_path: Path) -> None:
    with emulator(tmp_path / "service", speed=30.0) as service:
        bench = Bench(shell, service)
        bench("apply", "-y", "--wait", "none")
        service.control("clock", {"advance_s": 180})
        done = bench("cancel", JOB, "-y")
    assert done.code == 0, done.err
    assert f"{JOB}  canceled: CANCELED" in done.err
    assert "applied: 1 canceled" in done.out
    assert "tokens are billed, 0.0" in done.out


def test_what_is_over_is_not_canceled(applied: Shell) -> None:
    result = applied("cancel", JOB, "-y")
    assert result.code == 3
    assert "nothing of FineTuneJob/tuned is under way" in result.err


@pytest.fixture
def failed(bench: Bench) -> Bench:
    """The run was canceled."""
    bench.pass_s(300)
    bench("cancel", JOB, "-y", "--wait", "none")
    bench.pass_s(600)
    return bench


def test_what_failed_is_made_again_once_somebody_agrees_to_its_price(failed: Bench) -> None:
    before = failed.job
    unasked = failed("retry", JOB)
    assert unasked.code == 3
    assert f"> {JOB}" in unasked.out
    assert "CNY once" in unasked.out
    assert failed.service.operations().count("jobs.create") == 1
    done = failed("retry", JOB, "-y", "--wait", "none")
    assert done.code in (0, 6), done.err
    assert failed.service.operations().count("jobs.create") == 2
    assert failed.job != before


def test_a_retry_keeps_to_a_budget(failed: Bench) -> None:
    refused = failed("retry", JOB, "-y", "--max-cost", "0.001")
    assert refused.code == 3
    assert failed.service.operations().count("jobs.create") == 1


def test_what_did_not_fail_is_not_retried(applied: Shell) -> None:
    """A run is bought with every one of these."""
    result = applied("retry", JOB, "-y")
    assert (result.code, result.out) == (3, "")
    assert f"{JOB} did not fail\n  reconciler apply --replace {JOB} makes it anew" in result.err


def test_what_was_never_made_is_not_retried(bench: Bench) -> None:
    result = bench("retry", "Deployment/prod", "-y")
    assert result.code == 3
    assert "holds nothing that failed\n  reconciler apply makes it" in result.err


# Orphans ------------------------------------------------------------------------------------------------------------


def rows(result: Result) -> dict[str, dict[str, Any]]:
    return {one["collection"]: one for one in json.loads(result.out)["objects"]}


def test_what_is_recorded_is_no_orphan(applied: Shell) -> None:
    result = applied("orphans")
    assert result.code == 0
    assert "nothing carries a mark like ours that is not recorded" in result.out


def test_what_the_state_forgot_is_found_by_its_mark_with_its_cost_and_the_way_back(applied: Shell) -> None:
    ids = objects(applied)
    for path in (applied.folder / ".reconciler").glob("state.db*"):
        path.unlink()
    told = rows(applied("orphans", "-o", "json"))
    assert {name: one["id"] for name, one in told.items()} == {
        "files": ids["Dataset/rows"], "jobs": ids[JOB], "deployments": ids["Deployment/prod"],
        "vocabularies": ids["HotwordTable/meds"],
    }  # fmt: skip
    assert told["deployments"]["hour_cny"] == "216"
    assert told["deployments"]["kind"] == "Deployment"
    assert told["jobs"]["owner"] == {"address": JOB, "part": ""}
    assert told["jobs"]["mark"].startswith("tuned-")
    assert {one["next"] for one in told.values()} == {"reconciler state rebuild"}
    page = applied("orphans").out
    assert "216.00 CNY/h" in page
    assert "Deployment/prod, by its mark" in page
    assert objects(applied) == {}, "it only looks"


def test_an_orphan_that_an_operation_may_have_made_names_it(bench: Bench) -> None:
    store = recorded(load([str(bench.shell.folder)]))
    assert store is not None
    made = next(one for one in store.load().intents.values() if one.slot.address == JOB)
    bench("state", "rm", JOB, "-y")
    record(bench.shell, replace(made, phase=IntentPhase.UNKNOWN, result_id=""))
    found = json.loads(bench("orphans", "-o", "json").out)
    (one,), (entry,) = found["objects"], found["operations"]
    assert (one["operation"], one["next"]) == (made.op_id, f"reconciler ops show {made.op_id}")
    assert (entry["operation"], entry["open"]) == (made.op_id, True)
    record(bench.shell, replace(made, phase=IntentPhase.ABSENT, result_id=""))
    late = json.loads(bench("orphans", "-o", "json").out)
    assert [(one["operation"], one["next"]) for one in late["objects"]] == [(made.op_id, "reconciler plan")]
    assert [one["open"] for one in late["operations"]] == [False]
    assert made.op_id in bench("orphans").out


def test_what_another_stack_made_is_told_as_such(applied: Shell) -> None:
    applied.change("stack.yaml", "name: tiny", "name: other")
    for path in (applied.folder / ".reconciler").glob("state.db*"):
        path.unlink()
    told = rows(applied("orphans", "-o", "json"))
    assert {one["owner"] for one in told.values()} == {None}
    assert told["jobs"]["next"] == f"reconciler import FineTuneJob/NAME {told['jobs']['id']}"
