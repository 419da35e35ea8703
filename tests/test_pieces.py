"""The pieces of docs/ci: nobody here has a forge or a cluster, so all of them that can be carried out is."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from tests import command_lines

REPOSITORY = Path(__file__).parent.parent
PIECES = REPOSITORY / "docs/ci"
HOOKS = REPOSITORY / ".pre-commit-hooks.yaml"
CALLS = {
    "github.yml": {"validate", "lint", "plan", "report", "apply", "drift"},
    "gitlab-ci.yml": {"validate", "lint", "plan", "report", "apply", "drift"},
    "Dockerfile": {"--help"},
    "kubernetes/cronjob.yaml": {"apply"},
    "kubernetes/deployment.yaml": {"controller"},
}


def lines_of(path: Path) -> list[Any]:
    return [pytest.param(line, id=f"{path.name}: {shlex.join(line)}") for line in command_lines.in_file(path)]


@pytest.mark.parametrize("piece", CALLS)
def test_what_a_piece_calls_is_found(piece: str) -> None:
    """Else the next test would hold for want of anything to try."""
    assert {line[0] for line in command_lines.in_file(PIECES / piece)} == CALLS[piece]


@pytest.mark.parametrize("line", [*(one for piece in CALLS for one in lines_of(PIECES / piece)), *lines_of(HOOKS)])
def test_our_commands_take_what_a_piece_gives_them(line: Sequence[str]) -> None:
    command_lines.check(line)


@pytest.mark.parametrize(
    "wrong",
    ["aply", "apply --wat", "apply --wait forever", "state", "state mv", "lint -o junk", "apply --timeout soon"],
)
def test_a_wrong_command_line_is_seen(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        command_lines.check(wrong.split())


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("code=0; A=b reconciler plan -f . || code=$?", [("plan", "-f", ".")]),
        ("if ! reconciler validate; then exit 1; fi", [("validate",)]),
        ("reconciler plan \\\n  --out x > log 2>&1 # said twice", [("plan", "--out", "x")]),
        ("cd a && .venv/bin/reconciler lint; n=$(reconciler ops list | wc -l)", [("lint",), ("ops", "list")]),
        ("reconciler ops resolve X --absent --reason '' &", [("ops", "resolve", "X", "--absent", "--reason", "")]),
        ("# reconciler plan\necho reconciler plan\npip install 'reconciler[x]'", []),
    ],
)
def test_calls_are_found_in_a_script(script: str, found: list[tuple[str, ...]]) -> None:
    assert list(command_lines.in_shell(script)) == found


def test_of_a_page_that_shows_a_prompt_only_what_is_typed_counts() -> None:
    shown = "```console\n$ reconciler plan\nreconciler says this\n```\n"
    page = (
        f"{shown}```sh\nreconciler apply\n```\n```yaml\nreconciler x\n```\nreconciler y\n```sh\nreconciler lint\n```\n"
    )
    assert list(command_lines.in_markdown(page)) == [("plan",), ("apply",), ("lint",)]


def test_every_piece_is_listed() -> None:
    page = (PIECES / "README.md").read_text(encoding="utf-8")
    files = {str(path.relative_to(PIECES)) for path in PIECES.rglob("*") if path.is_file()} - {"README.md"}
    assert files == set(CALLS)
    rows = set(re.findall(r"^\| \[[^\]]+\]\(([^)]+)\) \|", page, re.M))
    assert rows == files | {"../../.pre-commit-hooks.yaml"}


# What of them can be carried out -------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH that holds this `reconciler`, installed or not."""
    return program(tmp_path / "bin", f'exec {shlex.quote(sys.executable)} -m reconciler "$@"')


def program(folder: Path, script: str) -> Path:
    folder.mkdir()
    (folder / "reconciler").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "reconciler").chmod(0o755)
    return folder


def environment(programs: Path) -> dict[str, str]:
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": "/nonexistent", "PYTHONPATH": str(REPOSITORY), "ENVIRONMENT": "production"}


def steps(job: str) -> str:
    """The script of a job of the workflow that calls the program last."""
    workflow = command_lines.read_yaml(PIECES / "github.yml")
    return str(workflow["jobs"][job]["steps"][-1]["run"])


def template(job: str) -> str:
    return "\n".join(command_lines.read_yaml(PIECES / "gitlab-ci.yml")[job]["script"])


@pytest.mark.parametrize("code", [0, 4, 6, 7, 8])
def test_what_an_exit_code_makes_of_a_pipeline(code: int, tmp_path: Path) -> None:
    """Work that goes on remotely is no failure: on GitHub the job says 0, on GitLab 6 is allowed."""
    stub = environment(program(tmp_path / "bin", f"exit {code}"))
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    of_github = subprocess.run([*bash, steps("apply")], env=stub, capture_output=True, text=True, check=False)
    of_gitlab = subprocess.run(["sh", "-ec", template("apply")], env=stub, capture_output=True, text=True, check=False)
    assert of_github.returncode == (0 if code == 6 else code), of_github.stderr
    assert of_gitlab.returncode == code, of_gitlab.stderr
    assert bool(of_github.stdout) == bool(of_gitlab.stdout) == (code != 0)
    allowed = command_lines.read_yaml(PIECES / "gitlab-ci.yml")["apply"]["allow_failure"]
    assert allowed == {"exit_codes": [6]}


def test_a_signal_to_the_pod_reaches_the_controller_and_leaves_it_time_to_drain() -> None:
    """A shell between them would keep it; tests/adapters/test_controller.py proves what it does then."""
    pod = command_lines.read_yaml(PIECES / "kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][0] == "reconciler"
    assert pod["terminationGracePeriodSeconds"] > 20


def test_the_job_of_the_cluster_knows_every_code_that_is_no_success() -> None:
    """A code that no rule names would be tried again blindly."""
    manifest = command_lines.read_yaml(PIECES / "kubernetes/cronjob.yaml")
    rules = manifest["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    named = {rule["action"]: rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule}
    page = (REPOSITORY / "docs/exit-codes.md").read_text(encoding="utf-8")
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)} - {0, 2}  # 2 is asked for by an option
    assert sorted(codes) == sorted(named["Ignore"] + named["FailJob"])


# Hooks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sample(tmp_path: Path, programs: Path) -> Path:
    folder = tmp_path / "stack"
    folder.mkdir()
    subprocess.run(["reconciler", "init"], cwd=folder, env=environment(programs), capture_output=True, check=True)
    return folder


def hook(name: str) -> dict[str, Any]:
    hooks = {one["id"]: one for one in command_lines.read_yaml(HOOKS)}
    return dict(hooks[name])


def hooked(name: str, folder: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    """As pre-commit calls it, which gives no names of files to one that does not pass them."""
    assert hook(name)["pass_filenames"] is False
    command = shlex.split(hook(name)["entry"])
    return subprocess.run(
        command, cwd=folder, env=environment(programs), capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("name", ["reconciler-validate", "reconciler-lint"])
def test_a_hook_passes_what_is_right(name: str, sample: Path, programs: Path) -> None:
    done = hooked(name, sample, programs)
    assert done.returncode == 0, done.stderr


def test_a_hook_stops_a_wrong_manifest(sample: Path, programs: Path) -> None:
    with (sample / "assistant.yaml").open("a") as manifest:
        manifest.write("---\nkind: Dataset\n")
    assert hooked("reconciler-validate", sample, programs).returncode == 1


def test_a_hook_stops_a_row_that_is_no_row(sample: Path, programs: Path) -> None:
    with (sample / "data/assistant.jsonl").open("a") as rows:
        rows.write(json.dumps({"messages": []}) + "\n")
    assert hooked("reconciler-lint", sample, programs).returncode == 1


@pytest.mark.parametrize("name", ["reconciler-validate", "reconciler-lint"])
def test_a_hook_is_called_for_the_files_it_reads(name: str, sample: Path) -> None:
    """A change to a file that pre-commit does not see would pass unchecked."""
    read = [str(path.relative_to(sample)) for path in sample.rglob("*") if path.suffix in (".yaml", ".jsonl")]
    assert read
    assert all(re.search(hook(name)["files"], path) for path in read)
    assert not re.search(hook(name)["files"], "README.md")
