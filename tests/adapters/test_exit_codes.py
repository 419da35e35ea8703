"""Every row of docs/exit-codes.md by real command lines: a process with its code, and words instead of a traceback."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.emulator.server import serve
from reconciler.resource import Slot
from tests.adapters.conftest import REPOSITORY, Shell
from tests.adapters.test_state_commands import forget_everything, question, record
from tests.desk import Emulator, emulator

PAGE = (REPOSITORY / "docs/exit-codes.md").read_text(encoding="utf-8")
ROWS = [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.M)]
JOB, REFUSED = "FineTuneJob/tuned", {"status": 400, "code": "InvalidParameter", "message": "no"}


def ends(shell: Shell, code: int, line: str, *, says: str) -> None:
    """A command line ends with this code, and says why where a person looks for it."""
    result = shell.process(*line.split())
    told = result.out + result.err
    assert result.code == code, told
    assert says in told
    assert "Traceback" not in told
    assert "internal error" not in told


@dataclass(frozen=True)
class Bench:
    """A stack that was never applied, and a service of its own that can be told to fail."""

    shell: Shell
    service: Emulator

    def play(self, *rules: dict[str, Any]) -> None:
        self.service.control("faults", {"faults": list(rules)})

    def ends(self, code: int, line: str, *, says: str) -> None:
        ends(self.shell, code, f"{line} --endpoint {self.service.origin}", says=says)


@pytest.fixture
def bench(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with emulator(tmp_path_factory.mktemp("service"), speed=600.0) as service:
        yield Bench(shell, service)


def test_the_page_has_these_rows() -> None:
    """A new row wants its case below."""
    assert ROWS == [0, 1, 2, 3, 4, 5, 6, 7, 8, 64, 130]
    assert "Several at once: the worst, in the order 7, 8, 1, 5, 4, 3, 6, 2, 0." in PAGE


# 0 ------------------------------------------------------------------------------------------------------------------


def test_0_done(shell: Shell) -> None:
    ends(shell, 0, "plan", says="new paid run")
    ends(shell, 0, "apply -y", says="applied: 4 ready")
    ends(shell, 0, "plan --detailed-exitcode", says="no changes")


# 1 ------------------------------------------------------------------------------------------------------------------


def test_1_a_wrong_manifest(shell: Shell) -> None:
    shell.change("stack.yaml", "capacity: 4", "capcity: 4")
    for command in ("validate", "validate -o json"):
        ends(shell, 1, command, says="did you mean capacity?")


def test_1_a_broken_file(shell: Shell) -> None:
    shell.write("data/rows.jsonl", "{")
    ends(shell, 1, "plan", says="data/rows.jsonl:1:")
    ends(shell, 1, "lint", says="1 error")


def test_1_an_altered_saved_plan(shell: Shell) -> None:
    assert shell("plan", "--out", "plan.json").code == 0
    shell.change("plan.json", "qwen3.5-9b", "qwen3.5-8b")
    ends(shell, 1, "apply plan.json", says="plan.json")
    ends(shell, 1, "show plan.json", says="plan.json")


def test_1_no_usable_answer(shell: Shell) -> None:
    ends(shell, 1, "plan --endpoint http://127.0.0.1:9", says="cannot be reached")


# 2 ------------------------------------------------------------------------------------------------------------------


def test_2_changes_and_only_when_asked_for(shell: Shell) -> None:
    ends(shell, 2, "plan --detailed-exitcode", says="new paid run")


# 3 ------------------------------------------------------------------------------------------------------------------


def test_3_approval_missing(shell: Shell) -> None:
    ends(shell, 3, "apply", says="--auto-approve")


def test_3_consent_missing(applied: Shell) -> None:
    applied.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")
    ends(applied, 3, "apply -y", says="--allow retrain=FineTuneJob/tuned")


def test_3_over_the_budget(shell: Shell) -> None:
    ends(shell, 3, "apply -y --max-cost 0.001", says="--allow cost=")


def test_3_a_protected_object(applied: Shell) -> None:
    applied.change("stack.yaml", "capacity: 4}", "capacity: 4}\nlifecycle: {deletionPolicy: Protect}")
    assert applied("apply", "-y").code == 0
    ends(applied, 3, "destroy -y", says="! Deployment/prod    protected")


def test_3_surgery_that_would_lose_something(applied: Shell) -> None:
    record(applied, question())
    ends(applied, 3, "state mv Deployment/prod Deployment/two", says="its outcome must be known first")


# 4 ------------------------------------------------------------------------------------------------------------------


def test_4_a_saved_plan_that_was_applied_already(shell: Shell) -> None:
    assert shell("plan", "--out", "plan.json").code == 0
    assert shell("apply", "plan.json").code == 0
    ends(shell, 4, "apply plan.json", says="plan again")


def test_4_a_saved_plan_that_no_longer_holds(shell: Shell) -> None:
    assert shell("plan", "--out", "plan.json").code == 0
    shell.change("stack.yaml", "weight: 2", "weight: 4")
    ends(shell, 4, "apply plan.json", says="plan again")


def test_4_the_state_is_held_by_another_run(bench: Bench) -> None:
    bench.play({"operation": "jobs.create", "nth": 1, "hold": {"real_s": 10}})
    other = bench.shell.start("apply", "-y", "--endpoint", bench.service.origin)
    assert other.stderr is not None
    assert any(f"{JOB}  creating" in line for line in other.stderr)
    bench.ends(4, "apply -y", says="another apply holds the state")
    other.kill()
    other.communicate()


# 5 ------------------------------------------------------------------------------------------------------------------


def test_5_remote_work_failed(bench: Bench) -> None:
    bench.play({"operation": "jobs.create", "fate": {"statuses": [[0, "PENDING"], [60, "FAILED"]]}})
    bench.ends(5, "apply -y", says=f"failed: {JOB}")


def test_5_the_service_refused(bench: Bench) -> None:
    bench.play({"operation": "vocabularies.create", "refuse": REFUSED})
    bench.ends(5, "apply -y", says="failed: HotwordTable/meds")


# 6 ------------------------------------------------------------------------------------------------------------------


def test_6_waiting_was_not_asked_for(shell: Shell) -> None:
    ends(shell, 6, "apply -y --wait none", says="goes on: ")


def test_6_waiting_timed_out(bench: Bench) -> None:
    bench.play({"operation": "jobs.create", "fate": {"statuses": [[0, "PENDING"], [86400, "SUCCEEDED"]]}})
    bench.ends(6, "apply -y --timeout 3s", says=f"goes on: {JOB}")


# 7 ------------------------------------------------------------------------------------------------------------------


def test_7_the_outcome_of_a_creation_is_not_known(applied: Shell) -> None:
    asked_about(applied)
    ends(applied, 7, "apply -y", says="! Deployment/prod  an earlier")


def test_7_the_state_does_not_know_the_object(applied: Shell) -> None:
    forget_everything(applied)
    ends(applied, 7, "apply -y", says="reconciler state rebuild")


# 8 ------------------------------------------------------------------------------------------------------------------


def test_8_no_key(shell: Shell) -> None:
    shell.change("stack.yaml", "endpoint: emulator", "endpoint: singapore")
    ends(shell, 8, "plan", says="DASHSCOPE_API_KEY")
    ends(shell, 8, "doctor", says="DASHSCOPE_API_KEY")


def test_8_a_wrong_key(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    with serve(tmp_path_factory.mktemp("service"), api_key="right") as origin:
        result = shell.process("plan", "--endpoint", origin, env={"DASHSCOPE_API_KEY": "wrong"})
    assert (result.code, result.out) == (8, "")
    assert "InvalidApiKey" in result.err


def test_8_the_state_of_another_endpoint(applied: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    with serve(tmp_path_factory.mktemp("service")) as origin:
        ends(applied, 8, f"plan --endpoint {origin}", says="belongs to")


# 64 and 130 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["pln", "plan --nonsense", "status -o sarif", "get Gadget", "ops resolve op-1"])
def test_64_the_command_line_itself_is_wrong(shell: Shell, line: str) -> None:
    result = shell.process(*line.split())
    assert (result.code, result.out) == (64, "")
    assert "Traceback" not in result.err


def test_130_interrupted(shell: Shell) -> None:
    under_way = shell.start("apply", "-y")
    assert under_way.stderr is not None
    assert any(f"{JOB}  accepted" in line for line in under_way.stderr)
    under_way.send_signal(signal.SIGINT)
    out, err = under_way.communicate(timeout=60)
    assert under_way.returncode == 130
    assert f"goes on: {JOB}" in out
    assert "Traceback" not in err
    ends(shell, 0, "apply -y", says="applied")


# Several at once ----------------------------------------------------------------------------------------------------
# 2 and 0 are a plan's, and a plan has one of them; the rest of the order is `tests/test_errors.py`'s.


def test_7_is_worse_than_5(bench: Bench) -> None:
    """A creation that may have been made and a refusal: the first needs a person."""
    endpoint = ("--endpoint", bench.service.origin)
    assert bench.shell("apply", "-y", *endpoint).code == 0
    asked_about(bench.shell, *endpoint)
    bench.shell.change("stack.yaml", "weight: 2", "weight: 4")
    bench.play({"operation": "vocabularies.update", "refuse": REFUSED})
    bench.ends(7, "apply -y", says="failed: HotwordTable/meds")


def test_8_is_worse_than_5(bench: Bench) -> None:
    bench.play(
        {"operation": "files.create", "refuse": {"status": 401, "code": "InvalidApiKey", "message": "no"}},
        {"operation": "vocabularies.create", "refuse": REFUSED},
    )
    bench.ends(8, "apply -y --parallelism 2", says="InvalidApiKey")


def test_5_is_worse_than_3_and_6(bench: Bench) -> None:
    """A refusal, a run without consent, and one that goes on."""
    assert bench.shell("apply", "-y", "--endpoint", bench.service.origin).code == 0
    bench.shell.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")
    bench.shell.change("stack.yaml", "weight: 2", "weight: 4")
    another(bench.shell)
    bench.play({"operation": "vocabularies.update", "refuse": REFUSED})
    bench.ends(5, "apply -y --wait none", says="retrain=FineTuneJob/tuned")


def test_3_is_worse_than_6(bench: Bench) -> None:
    assert bench.shell("apply", "-y", "--endpoint", bench.service.origin).code == 0
    bench.shell.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")
    another(bench.shell)
    bench.ends(3, "apply -y --wait none", says="goes on: FineTuneJob/other")


def another(shell: Shell) -> None:
    """One more run, which waits for nobody's consent."""
    stack = (shell.folder / "stack.yaml").read_text(encoding="utf-8")
    job = next(one for one in stack.split("---\n") if "kind: FineTuneJob" in one)
    shell.write("other.yaml", job.replace("name: tuned", "name: other").replace("n_epochs: 2", "n_epochs: 1"))


def asked_about(shell: Shell, *options: str) -> None:
    """Whether an operation made the deployment that runs nobody can tell: it carries no mark of ours."""
    assert shell("state", "rm", "Deployment/prod", "-y", *options).code == 0
    (run,) = json.loads(shell("state", "show", JOB, "-o", "json").out)["objects"]
    sent = {"model": run["outputs"]["model"], "plan": "mu", "capacity": 4}
    record(shell, question(slot=Slot("Deployment/prod"), tag="", fields=sent))
