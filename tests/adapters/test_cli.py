"""The program as its user meets it: a process with arguments, two streams and an exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from reconciler.adapters.cli import COMMANDS, run
from reconciler.emulator.server import serve
from reconciler.render.plan_json import PlanJson
from reconciler.render.words import columns
from tests.adapters.conftest import Shell
from tests.desk import sft

# Libraries that no command here needs, and what beside them needs neither a manifest nor a service
NEVER = set(
    "dashscope deepdiff networkx polars aiohttp rich pygments starlette uvicorn psycopg prometheus_client jinja2 pygal"
    " tiktoken asyncio imagesize".split()
)
HTTP = {"httpx", "httpcore", "ssl"}
HEAVY = {"pydantic", "yaml", "sqlite3", *HTTP, *NEVER}
REAL_KEY = "sk-" + "0123456789abcdef" * 2


# The front door -----------------------------------------------------------------------------------------------------


def loaded(shell: Shell, *arguments: str, env: Mapping[str, str] | None = None) -> set[str]:
    """The libraries, and modules of ours, that one command loads as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reconciler", *arguments],
        cwd=shell.folder,
        env=shell.environment(env),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "reconciler" in modules, "the measurement works"
    return {name if name.startswith("reconciler.") else name.split(".")[0] for name in modules}


def test_the_version_is_told_before_anything_is_loaded(empty: Shell) -> None:
    """Scripts ask for it often."""
    for option in ("--version", "-V"):
        assert {name for name in loaded(empty, option) if name == "click" or name.startswith("reconciler.")} == set()
        assert empty.process(option).out == empty(option).out, "and told alike when it is told by the front door"


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--help"], {}),
        (["completion", "bash"], {}),
        ([], {"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": "reconciler pl", "COMP_CWORD": "1"}),
        ([], {"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": "reconciler plan --pr", "COMP_CWORD": "2"}),
    ],
)
def test_help_and_completion_load_nothing_heavy(empty: Shell, arguments: list[str], env: dict[str, str]) -> None:
    """A shell that waits for a completion must not wait for a YAML parser or an HTTP client."""
    modules = loaded(empty, *arguments, env=env)
    assert "click" in modules
    assert modules & HEAVY == set()


@pytest.mark.parametrize("arguments", [["validate"], ["graph"], ["explain", "Deployment"], ["explain", "models"]])
def test_what_asks_no_service_loads_no_client_of_one(shell: Shell, arguments: list[str]) -> None:
    """Manifests are checked at every keystroke and every commit. Data was read before: only then are tokens counted."""
    assert shell("validate").code == 0
    assert loaded(shell, *arguments) & {"reconciler.engine", "sqlite3", *HTTP, *NEVER} == set()


def test_a_plan_loads_only_what_a_plan_needs(shell: Shell, tmp_path: Path) -> None:
    """Neither what an apply does, nor what compares in depth what is equal, nor what counts tokens counted before."""
    assert shell("validate").code == 0
    unneeded = {*(f"reconciler.{name}" for name in ("apply", "recover", "rebuild", "report", "emulator")), *NEVER}
    with serve(tmp_path / "service") as origin:
        assert loaded(shell, "plan", "--out", "plan.json", "--endpoint", origin) & unneeded == set()
        assert loaded(shell, "show", "plan.json") & unneeded == set()
        assert shell("apply", "-y", "--endpoint", origin).code == 0
        assert loaded(shell, "plan", "--endpoint", origin) & unneeded == set()
        shutil.rmtree(shell.folder / ".reconciler" / "cache")
        assert loaded(shell, "plan", "--endpoint", origin) & unneeded == set(), "what was bought is not counted again"
        shutil.rmtree(shell.folder / ".reconciler" / "cache")
        again = shell("plan", "--endpoint", origin, "--replace", "FineTuneJob/tuned").out
        assert re.search(r"CNY once: [\d,]+ tokens", again), "unless it is to be bought again"


def test_completion_knows_commands_and_options(empty: Shell) -> None:
    names = empty.process(
        "x", env={"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": "reconciler de", "COMP_CWORD": "1"}
    )
    assert names.out.split() == ["plain,destroy", "plain,describe"]
    words = {"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": "reconciler plan --pr", "COMP_CWORD": "2"}
    assert empty.process("x", env=words).out.split() == ["plain,--prune"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_that_help_names_exists_and_has_help(empty: Shell, name: str) -> None:
    result = empty(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"reconciler {name}" in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pln"], "did you mean plan?"),
        (["plan", "--nonsense"], "--nonsense"),
        (["apply", "--timeout", "soon"], "write 30s, 10m or 2h"),
        (["apply", "--allow", "everything=yes"], "is no consent: write one of retrain="),
        (["get", "Gadget"], "there is no kind 'Gadget'"),
        (["describe", "Deployment/prd"], "did you mean Deployment/prod?"),
        (["plan", "--replace", "Deployment/prd"], "did you mean Deployment/prod?"),
        (["explain", "Deployment.capcity"], "did you mean capacity?"),
        (["plan", "--endpoint", "http://example.com"], "http is for this computer only"),
        (["emulator", "start", "--switch", "vocab.settle=1"], "vocab.settle_s"),
        (["emulator", "start", "--switch", "jobs.parallel=" + "9" * 5000], "takes a whole number from 1"),
        (["emulator", "start", "--speed", "nan"], "the speed is a number from 0 to 1000000"),
        (["logs", "HotwordTable/meds"], "holds nothing yet"),
    ],
)
def test_a_wrong_command_line_exits_64_and_says_what_to_write(shell: Shell, arguments: list[str], said: str) -> None:
    """Never 2: that is --detailed-exitcode's word for changes."""
    result = shell(*arguments)
    assert (result.code, result.out) == (64, "")
    assert said in result.err


# Offline ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["state"]])
def test_no_command_is_answered_with_what_there_is(empty: Shell, arguments: list[str]) -> None:
    """On stderr, since nothing was done; it is help and no error that somebody made."""
    done = empty(*arguments)
    assert (done.code, done.out) == (64, "")
    assert done.err.startswith("Usage: reconciler")
    assert done.err.count("--help") == 1


def test_wrong_manifests_are_told_all_at_once_with_their_places(shell: Shell) -> None:
    shell.change("stack.yaml", "capacity: 4", "capcity: 4")
    shell.change("stack.yaml", "training: [rows]", "training: [row]")
    result = shell("validate")
    assert result.code == 1
    assert re.search(r"^stack\.yaml:\d+:\d+  .*capcity.*did you mean capacity", result.err, re.M)
    assert re.search(r"^stack\.yaml:\d+:\d+  .*Dataset/row", result.err, re.M)
    assert re.search(r"^\d+ problems$", result.err, re.M)
    data = json.loads(shell("validate", "-o", "json").out)
    assert not data["ok"]
    assert all(problem["at"]["line"] for problem in data["problems"])


@pytest.mark.parametrize("command", [["validate"], ["graph"], ["schema"], ["explain", "models"]])
def test_offline_commands_start_no_emulator_and_need_no_key(shell: Shell, command: list[str]) -> None:
    shell.change("stack.yaml", "endpoint: emulator", "endpoint: beijing")
    assert shell(*command).code == 0
    assert {path.name for path in (shell.folder / ".reconciler").glob("*")} <= {"cache"}


def test_manifests_may_come_from_stdin(shell: Shell) -> None:
    text = (shell.folder / "stack.yaml").read_text(encoding="utf-8")
    result = shell("validate", "-f", "-", stdin=text)
    assert (result.code, result.out) == (0, "5 documents, ok\n")


def test_graph_in_its_four_forms(shell: Shell) -> None:
    assert "└─ FineTuneJob/tuned" in shell("graph").out
    assert json.loads(shell("graph", "-o", "json").out)["refers_to"]["Deployment/prod"] == ["FineTuneJob/tuned"]
    assert shell("graph", "-o", "dot").out.startswith("digraph")
    assert shell("graph", "-o", "mermaid").out.startswith("flowchart")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_init_writes_a_stack_that_is_valid_and_overwrites_nothing(empty: Shell, language: str) -> None:
    assert empty("init", "new", "--lang", language).code == 0
    result = empty("validate", "-f", "new")
    assert (result.code, result.out, result.err) == (0, "5 documents, ok\n", "")
    before = (empty.folder / "new/stack.yaml").read_bytes()
    again = empty("init", "new")
    assert again.code == 1
    assert "already holds stack.yaml" in again.err
    assert (empty.folder / "new/stack.yaml").read_bytes() == before


def test_the_manifest_schema_and_the_plan_schema_are_json(empty: Shell) -> None:
    assert json.loads(empty("schema").out)["$schema"] == json.loads(empty("schema", "--plan").out)["$schema"]


def test_what_init_writes_for_editors_is_what_schema_prints(empty: Shell) -> None:
    assert empty("init", "new").code == 0
    assert (empty.folder / "new/reconciler.schema.json").read_text(encoding="utf-8") == empty("schema").out


@pytest.mark.parametrize(
    ("topic", "path", "value"),
    [
        ("Deployment.limits.rpm", ("change",), "changed in place"),
        ("Stack.budget", ("fields", 0, "path"), "Stack.budget.onceCny"),
        ("Deployment.spec.capacity", ("type",), "whole number from 1 below 1000"),
        ("lifecycle", ("fields", 0, "path"), "lifecycle.deletionPolicy"),
        ("exit-codes", ("exit_codes", "64"), "the command line itself is wrong"),
        ("switches", ("switches", "jobs.parallel"), None),
        ("models", ("models", 0, "training_types"), None),
        ("qwen3.5-9b", ("training_price",), "0.02"),
        ("paraformer-v2", ("service",), "vocabulary"),
        ("", ("topics", "exit-codes"), "What an exit code means."),
    ],
)
def test_explain_answers_programs_and_pages_too(
    empty: Shell, topic: str, path: tuple[str | int, ...], value: str | None
) -> None:
    arguments = ["explain", *filter(None, [topic])]
    data = json.loads(empty(*arguments, "-o", "json").out)
    assert data["format_version"] == "1.0"
    for step in path:
        data = data[step]
    assert data == value if value else data
    page = empty(*arguments, "-o", "markdown")
    assert (page.code, page.err) == (0, "")
    assert page.out.startswith(("# ", "| ", "```"))


def test_version_names_the_catalogue_whose_prices_are_shown(empty: Shell) -> None:
    data = json.loads(empty("version", "-o", "json").out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", data["catalogue"])
    assert empty("--version").out == f"reconciler {data['reconciler']}\n"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program(empty: Shell, name: str) -> None:
    assert f"_RECONCILER_COMPLETE={name}_complete" in empty("completion", name).out


# Plan, apply, look, destroy -----------------------------------------------------------------------------------------


def test_a_plan_is_shown_and_nothing_is_written_but_the_emulators_own(shell: Shell) -> None:
    result = shell("plan", "--detailed-exitcode")
    assert result.code == 2
    assert "emulator (nothing is bought)" in result.out
    assert "upload 30 rows" in result.out
    assert "after FineTuneJob/tuned is ready\n  + Deployment/prod" in result.out
    assert "run rate 0.00 -> 216.00 CNY/h" in result.out
    assert sorted(path.name for path in (shell.folder / ".reconciler").iterdir()) == [".gitignore", "cache", "emulator"]
    assert stat.S_IMODE((shell.folder / ".reconciler").stat().st_mode) == 0o700


def test_a_plan_for_programs_fits_its_schema_in_json_and_yaml(shell: Shell) -> None:
    data = json.loads(shell("plan", "-o", "json").out)
    PlanJson.model_validate_json(json.dumps(data))
    assert [op["action"] for op in data["operations"]] == ["create", "create", "run", "create"]
    assert yaml.safe_load(shell("plan", "-o", "yaml").out) == data


def test_without_a_stack_it_is_the_emulator_and_that_is_said(empty: Shell) -> None:
    empty.write("words.yaml", STACKLESS)
    result = empty("plan")
    assert result.code == 0
    assert "no manifest declares a Stack" in result.out
    assert "emulator (nothing is bought)" in result.out


STACKLESS = """\
apiVersion: bailian.reconciler/v1alpha1
kind: HotwordTable
metadata: {name: meds}
spec: {targetModel: paraformer-v2, words: [{text: 吉非替尼, weight: 3, lang: zh}]}
"""


def test_nobody_to_ask_means_the_plan_and_exit_3(shell: Shell) -> None:
    """A job in CI that forgot -y must not hang at a prompt, and must not do anything."""
    result = shell("apply")
    assert result.code == 3
    assert "+ Deployment/prod" in result.out
    assert "--auto-approve" in result.err
    assert shell("plan", "--detailed-exitcode").code == 2


def test_what_was_applied_is_as_declared(applied: Shell) -> None:
    """Promise two, through the front door."""
    result = applied("plan", "--detailed-exitcode")
    assert (result.code, result.out.splitlines()[1:-1]) == (0, ["no changes: 4 objects are as declared"])
    again = applied("apply", "-y")
    assert (again.code, again.err) == (0, "")
    assert "no changes" in again.out


def test_a_changed_word_is_one_update_and_its_words_are_shown(applied: Shell) -> None:
    applied.change("stack.yaml", "{text: 易瑞沙, weight: 2, lang: zh}", "{text: 厄洛替尼, weight: 4, lang: zh}")
    applied.change("stack.yaml", "weight: 3", "weight: 5")
    plan = applied("plan").out
    assert "+ 厄洛替尼 (4, zh)" in plan
    assert "~ 吉非替尼 3 -> 5" in plan
    assert "- 易瑞沙" in plan
    result = applied("apply", "-y")
    assert result.code == 0
    assert "applied: 1 updated\nemulator: nothing was bought\n" in result.out
    assert "HotwordTable/meds  updated" in result.err


def test_a_rerun_without_consent_is_blocked_and_the_rest_is_done(applied: Shell) -> None:
    """-y approves what the plan shows, never a second purchase: exit 3, and the table is updated all the same."""
    applied.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")
    applied.change("stack.yaml", "weight: 3", "weight: 5")
    assert "needs consent" in applied("plan").out
    result = applied("apply", "-y")
    assert result.code == 3
    assert "blocked: FineTuneJob/tuned" in result.out
    assert "--allow retrain=FineTuneJob/tuned" in result.out
    assert "1 updated" in result.out
    allowed = json.loads(applied("plan", "--allow", "retrain=FineTuneJob/tuned", "-o", "json").out)
    assert [(op["action"], op["needs_consent"]) for op in allowed["operations"] if op["verb"] == "create"] == [
        ("run", False),
        ("swap", False),
    ]


def test_an_apply_for_programs_is_one_event_a_line_and_a_summary_last(shell: Shell) -> None:
    result = shell("apply", "-y", "-o", "json")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert (result.code, result.err) == (0, "")
    assert [events[0]["event"], events[-1]["event"]] == ["plan", "summary"]
    assert events[-1] == {
        "format_version": "1.0",
        "event": "summary",
        "exit_code": 0,
        "declined": False,
        "counts": {"done": 4},
        "not_done": [],
    }
    assert {"RUNNING"} <= {event["status"] for event in events if event["event"] == "progress"}


def test_an_apply_that_does_not_wait_exits_6_and_the_next_one_goes_on(shell: Shell) -> None:
    result = shell("apply", "-y", "--wait", "none")
    assert result.code == 6
    assert "goes on: " in result.out
    assert shell("apply", "-y").code == 0
    assert shell("plan", "--detailed-exitcode").code == 0


def test_status_and_get_show_what_there_is(applied: Shell) -> None:
    status = applied("status").out
    assert re.search(
        r"^Deployment/prod +Synced +Ready +RUNNING +\S+ +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +216\.00$", status, re.M
    )
    assert "run rate 216.00 CNY/h" in status
    data = json.loads(applied("status", "-o", "json").out)
    assert {one["status"] for one in data["objects"]} == {"uploaded", "SUCCEEDED", "RUNNING", "OK"}
    assert {(one["sync"], one["health"], one["reason"]) for one in data["objects"]} == {("Synced", "Ready", "")}
    assert applied("get", "jobs").code == 64
    assert applied("get", "finetunejobs", "-o", "name").out == "FineTuneJob/tuned\n"
    assert json.loads(applied("get", "Deployment/prod", "-o", "json").out)["items"][0]["role"] == "current"


def test_what_is_declared_and_not_made_yet_is_listed_as_that(shell: Shell) -> None:
    assert re.search(r"^Deployment/prod +OutOfSync +Progressing +not created$", shell("status").out, re.M)


def test_status_get_and_describe_say_how_an_object_is_and_why(applied: Shell) -> None:
    """Computed from what they read anyway, so that no controller is needed for it."""
    applied.change("stack.yaml", "capacity: 4}", "capacity: 8}")
    status = applied("status").out
    assert re.search(r"^Deployment/prod +OutOfSync +Ready +RUNNING ", status, re.M)
    assert "\nDeployment/prod: Differs: differs in capacity\n" in status
    assert re.search(r"^Deployment/prod +current +OutOfSync +Ready +RUNNING ", applied("get", "deployments").out, re.M)
    assert "  OutOfSync, Ready, Differs: differs in capacity\n" in applied("describe", "Deployment/prod").out
    (one,) = json.loads(applied("get", "Deployment/prod", "-o", "json").out)["items"]
    assert (one["sync"], one["reason"], one["message"]) == ("OutOfSync", "Differs", "differs in capacity")
    for told in (applied("get", "Deployment/prod", "-o", "yaml").out, applied("status", "-o", "yaml").out):
        assert "sync: OutOfSync\n" in told
    code, narrow = on_a_terminal(applied, ["status", "--no-color"], columns=40)
    assert code == 0
    assert [line for line in narrow.splitlines() if columns(line) > 40 and " " in line.strip()] == []


def test_describe_tells_everything(applied: Shell) -> None:
    applied.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")
    text = applied("describe", "finetunejob/tuned").out
    assert "declared at stack.yaml:" in text
    assert re.search(r"made from files/\S+", text)
    assert re.search(r"journal\n  \S+ \S+  create  done  ft-", text)
    assert "n_epochs: 1 -> 2" in text
    data = json.loads(applied("describe", "FineTuneJob/tuned", "-o", "json").out)
    assert [entry["phase"] for entry in data["journal"]] == ["done"]
    assert [op["action"] for op in data["operations"]] == ["run"]


def test_rows_that_are_too_long_are_told_before_they_are_paid_for(shell: Shell) -> None:
    """Under the run it costs, for programs too, and as a bar among the others."""
    shell.write("data/rows.jsonl", "".join(json.dumps(sft("word " * size)) + "\n" for size in (*[9] * 60, 700)))
    shell.change("stack.yaml", "max_length: 2048", "max_length: 600")
    plan = shell("plan")
    assert re.search(
        r"> FineTuneJob/tuned .*\n.*CNY once: [0-9,]+ tokens x 1 epoch.*\n +1 row \(1.6 %\) is longer than", plan.out
    )
    operations = json.loads(shell("plan", "-o", "json").out)["operations"]
    remarks = next(op["remarks"] for op in operations if op["action"] == "run")
    assert re.fullmatch(
        r"1 row \(1.6 %\) is longer than max_length 600 and would be dropped, which .*: [0-9,]+ keeps 99 %", remarks[0]
    )
    assert f"warning: stack.yaml:18:61  FineTuneJob/tuned: {remarks[0].partition(': ')[0]}" in shell("validate").err
    assert re.search(
        r"rows\n  61 rows, [0-9,]+ tokens\n(.*\n)+ +1,024 to 2,047  █ 1\n", shell("describe", "FineTuneJob/tuned").out
    )
    lengths = json.loads(shell("describe", "FineTuneJob/tuned", "-o", "json").out)["lengths"]
    assert (lengths["counted"], lengths["rows"], lengths["histogram"][-1]["rows"]) == (True, 61, 1)


def test_logs_and_their_tail(applied: Shell) -> None:
    everything = applied("logs", "FineTuneJob/tuned").out.splitlines()
    assert applied("logs", "FineTuneJob/tuned", "--tail", "2").out.splitlines() == everything[-2:]
    assert applied("logs", "-f", "FineTuneJob/tuned").out.splitlines() == everything, (
        "a run that is over is not awaited"
    )


def test_call_asks_the_deployment_in_use(applied: Shell) -> None:
    assert "你是谁?" in applied("call", "Deployment/prod", "你是谁?").out
    assert "from stdin" in applied("call", "Deployment/prod", "-", stdin="a prompt from stdin").out
    assert applied("call", "HotwordTable/meds", "x").code == 64
    hostile = applied("call", "Deployment/prod", "a\x1b[2Jb\u202e\n::error").out
    assert r"a\x1b[2Jb\u202e" in hostile
    assert "\n::" not in hostile


def test_destroy_goes_from_users_to_what_they_use(applied: Shell) -> None:
    refused = applied("destroy")
    assert refused.code == 3
    assert refused.out.index("- Deployment/prod") < refused.out.index("o FineTuneJob/tuned")
    result = applied("destroy", "-y")
    assert result.code == 0
    status = applied("status", "-o", "json").out
    assert {one["status"] for one in json.loads(status)["objects"]} == {"not created"}


# Endpoint and key ---------------------------------------------------------------------------------------------------


def test_a_real_endpoint_without_a_key_exits_8_and_names_the_variable(shell: Shell) -> None:
    shell.change("stack.yaml", "endpoint: emulator", "endpoint: singapore")
    result = shell("plan")
    assert result.code == 8
    assert "DASHSCOPE_API_KEY" in result.err


def test_a_wrong_key_exits_8(shell: Shell, tmp_path: Path) -> None:
    with serve(tmp_path / "service", api_key="right") as origin:
        result = shell("plan", "--endpoint", origin, env={"DASHSCOPE_API_KEY": "wrong"})
        assert result.code == 8
        assert "InvalidApiKey" in result.err
        right = {"DASHSCOPE_API_KEY": "right", "DASHSCOPE_HTTP_BASE_URL": f"{origin}/api/v1"}
        assert shell("plan", env=right).code == 0


def test_no_emulator_ever_receives_a_real_key(shell: Shell, tmp_path: Path) -> None:
    """It would refuse one of the real form, but by then it would have been sent."""
    env = {"DASHSCOPE_API_KEY": REAL_KEY}
    assert shell("plan", env=env).code == 0
    with serve(tmp_path / "service") as origin:
        result = shell("plan", "--endpoint", f"{origin}/api/v1", env=env)
    assert result.code == 0
    assert "emulator (nothing is bought)" in result.out
    for path in (shell.folder / ".reconciler").rglob("*"):
        assert not path.is_file() or REAL_KEY.encode() not in path.read_bytes()


def test_the_state_of_one_service_is_not_used_on_another(applied: Shell, tmp_path: Path) -> None:
    with serve(tmp_path / "service") as origin:
        result = applied("plan", "--endpoint", origin)
    assert result.code == 8
    assert "belongs to" in result.err


@pytest.mark.parametrize("command", ["plan", "apply", "status"])
def test_a_closed_port_is_told_in_words(shell: Shell, command: str) -> None:
    result = shell(command, *(["-y"] if command == "apply" else []), "--endpoint", "http://127.0.0.1:9")
    assert result.code == 1
    assert "http://127.0.0.1:9 cannot be reached: " in result.err
    assert "is the endpoint right?" in result.err


# Terminals, pipes, signals ------------------------------------------------------------------------------------------


def test_a_reader_that_leaves_ends_a_reading_command_quietly(shell: Shell) -> None:
    command = " ".join([sys.executable, "-m", "reconciler", "plan", "|", "true"])
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        cwd=shell.folder,
        env=shell.environment(None),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_reader_that_leaves_does_not_stop_an_apply(shell: Shell) -> None:
    """`apply | head` must not leave half of it undone."""
    command = " ".join([sys.executable, "-m", "reconciler", "apply", "-y", "2>&1", "|", "true"])
    subprocess.run(["bash", "-c", command], cwd=shell.folder, env=shell.environment(None), check=True, timeout=60)
    assert shell("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_apply_says_what_goes_on_and_the_next_one_takes_it_up(shell: Shell, number: int) -> None:
    under_way = shell.start("apply", "-y")
    assert under_way.stderr is not None
    for line in under_way.stderr:
        if "FineTuneJob/tuned  accepted" in line:
            break
    under_way.send_signal(number)
    out, err = under_way.communicate(timeout=60)
    assert under_way.returncode == 130
    assert "stopping" in err
    assert "goes on: FineTuneJob/tuned" in out
    assert shell("apply", "-y").code == 0
    jobs = [row for row in json.loads(shell("get", "-o", "json").out)["items"] if row["address"] == "FineTuneJob/tuned"]
    assert len(jobs) == 1, "nothing was bought twice"


def on_a_terminal(
    shell: Shell, arguments: list[str], answer: str = "", columns: int = 80, **env: str
) -> tuple[int, str]:
    """The exit code and everything the terminal was sent, which answers the first question."""
    pid, terminal = pty.fork()
    if pid == 0:
        _sit_down(shell, arguments, {"COLUMNS": str(columns), **env})
    seen, asked, deadline = b"", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
        if answer and not asked and b"[y/N]" in seen:
            os.write(terminal, answer.encode() + b"\n")
            asked = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode("utf-8").replace("\r\n", "\n")


def _sit_down(shell: Shell, arguments: list[str], env: Mapping[str, str]) -> NoReturn:
    """One command in this process, which was forked for it and has the terminal: all it needs is loaded already."""
    code = 70
    try:
        os.chdir(shell.folder)
        os.environ.clear()
        os.environ.update(shell.environment(env))
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, encoding="utf-8") for number, mode in enumerate("rww")
        )
        code = run(arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def test_a_terminal_has_colour_a_pipe_and_no_color_have_none(shell: Shell) -> None:
    assert "\x1b[" in on_a_terminal(shell, ["plan"])[1]
    assert "\x1b" not in on_a_terminal(shell, ["plan", "--no-color"])[1]
    assert "\x1b" not in on_a_terminal(shell, ["plan"], NO_COLOR="1")[1]
    assert "\x1b" not in shell("plan").out


def test_a_narrow_terminal_breaks_lines_at_its_width(shell: Shell) -> None:
    code, text = on_a_terminal(shell, ["plan", "--no-color"], columns=50)
    assert code == 0
    assert [line for line in text.splitlines() if columns(line) > 50] == []


def test_no_to_the_question_does_nothing(shell: Shell) -> None:
    code, text = on_a_terminal(shell, ["apply", "--no-color"], "n")
    assert code == 3
    assert "declined: nothing was done" in text
    assert shell("plan", "--detailed-exitcode").code == 2


def test_yes_to_the_question_applies_and_consents_under_a_live_view(applied: Shell) -> None:
    """A person who is there and says yes consents to the re-run that -y alone would not buy."""
    applied.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")
    code, text = on_a_terminal(applied, ["apply", "--no-color"], "y")
    assert code == 0, text
    assert "> FineTuneJob/tuned  ready" in text
    assert applied("plan", "--detailed-exitcode").code == 0


# Other mistakes -----------------------------------------------------------------------------------------------------


def test_hostile_text_in_a_manifest_reaches_no_terminal(shell: Shell) -> None:
    shell.write("evil.yaml", 'apiVersion: bailian.reconciler/v1alpha1\nkind: "Evil\\u001b[2J\\u202e"\n')
    result = shell("validate")
    assert result.code == 1
    assert "\x1b" not in result.err
    assert "\u202e" not in result.err


CANARY = "a training row that nobody may see"
MISTAKES = {
    "ZeroDivisionError": "1 / 0",
    "MemoryError": "(_ for _ in ()).throw(MemoryError(row))",
    "RecursionError": "deep()",
    "KeyError": "{}[row, os.environ['DASHSCOPE_API_KEY'], 'sk-another']",
}


def mistaken(shell: Shell, mistake: str, *, before: str = "", debug: str = "") -> subprocess.CompletedProcess[str]:
    """A program with a mistake in it, which has a row of data and a key in its hands when it makes it."""
    code = (
        f"import os, sys, tempfile, threading; row = {CANARY!r}\n"
        "import reconciler.adapters.cli as c, reconciler.project as p\n"
        "def deep(): return deep()\n"
        f"{before}\n"
        f"p.load = lambda *_, **__: {mistake}\n"
        "c.main()"
    )
    (shell.folder / "tmp").mkdir(exist_ok=True)
    temporary = str(shell.folder / "tmp")
    return subprocess.run(
        [sys.executable, "-c", code, "validate"],
        cwd=shell.folder,
        env=shell.environment({"RECONCILER_DEBUG": debug, "DASHSCOPE_API_KEY": REAL_KEY, "TMPDIR": temporary}),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_our_own_mistake_is_one_line_and_a_report_without_data(shell: Shell, name: str) -> None:
    """The line has a place; the report has the way there, for its owner's eyes, and nothing of what was at hand."""
    done = mistaken(shell, MISTAKES[name])
    assert done.returncode == 1
    assert done.stderr.startswith(f"internal error: {name} at <string>:")
    (report,) = (shell.folder / "tmp").iterdir()
    assert str(report) in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    text = report.read_text()
    assert f"builtins.{name}" in text
    assert "reconciler/adapters/cli.py" in text
    for secret in (CANARY, REAL_KEY, "sk-another", str(shell.folder)):
        assert secret not in text
        assert secret not in done.stderr.replace(str(report), "")


def test_where_no_report_can_be_written_the_line_stands_alone(shell: Shell) -> None:
    done = mistaken(shell, "1 / 0", before="tempfile.mkstemp = None")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.endswith("please report it\n")


def test_a_mistake_in_a_thread_is_no_traceback_either(shell: Shell) -> None:
    """A thread that ends by itself must not put its variables, or anything else, on somebody's screen."""
    thread = "threading.Thread(target=lambda: {}[row])"
    done = mistaken(shell, f"({thread}.start(), sys.exit(0))")
    assert done.stderr.startswith("internal error: KeyError at ")
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stderr


def test_a_traceback_is_shown_only_on_request(shell: Shell) -> None:
    for debug in ("", "1"):
        done = mistaken(shell, "1 / 0", debug=debug)
        assert ("Traceback" in done.stderr) == (debug == "1")
        assert REAL_KEY not in done.stderr
