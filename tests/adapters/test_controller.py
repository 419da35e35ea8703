"""`controller` as its operator meets it: one look and out, until it is told to end, and every wrong word."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.adapters.conftest import Shell
from tests.remote import Remote

FREE = """\
apiVersion: bailian.reconciler/v1alpha1
kind: Stack
metadata: {name: free}
spec: {endpoint: emulator, profile: "2026"}
---
apiVersion: bailian.reconciler/v1alpha1
kind: HotwordTable
metadata: {name: meds}
spec: {targetModel: paraformer-v2, words: [{text: 吉非替尼, weight: 3}]}
"""


@pytest.fixture
def teams(empty: Shell) -> Shell:
    """A shell above two stacks that cost nothing, and one that is broken."""
    empty.write("teams/a/stack.yaml", FREE)
    empty.write("teams/b/stack.yaml", FREE.replace("name: free", "name: other"))
    empty.write("teams/c/stack.yaml", "kind: Stakc")
    return empty


def stacks(shell: Shell, *arguments: str, root: str = ".") -> list[list[str]]:
    """The words of the lines that one pass says, a line a stack."""
    done = shell("controller", "run", root, "--stacks", "teams/*", "--once", *arguments)
    assert done.code == 0, done.err
    return [line.split()[2:] for line in done.out.splitlines() if not line.startswith(" ")]


def test_one_pass_does_what_is_free_and_one_broken_stack_stops_no_other(teams: Shell) -> None:
    first = stacks(teams)
    assert [line[0] for line in first] == ["teams/a", "teams/b", "teams/c"]
    assert first[2][1] == "teams/c/stack.yaml:1:1"
    assert stacks(teams) == [], "nothing is due"
    assert teams("controller", "look").out.splitlines() == [f"due now: teams/{name}" for name in "abc"]
    time.sleep(2)
    assert stacks(teams)[:2] == [["teams/a", "Synced", "Ready"], ["teams/b", "Synced", "Ready"]]


def test_a_look_now_is_for_the_stacks_it_names(teams: Shell) -> None:
    stacks(teams)
    assert teams("controller", "look", "teams/b").code == 0
    time.sleep(2)
    assert [line[0] for line in stacks(teams)] == ["teams/b"]


def test_what_costs_money_is_proposed_and_bought_once_somebody_agrees(shell: Shell) -> None:
    once = ("controller", "run", "--once")
    shell(*once)
    shell("controller", "look")
    time.sleep(2)
    digest = shell(*once).out.split()[-1]
    assert shell("approve", digest, "-y").code == 0
    shell("controller", "look")
    time.sleep(2)
    shell(*once)
    assert "FineTuneJob" in shell("get", "FineTuneJob").out


def test_a_dry_run_only_observes(teams: Shell) -> None:
    assert stacks(teams, "--dry-run", "--mode", "apply")[0] == ["teams/a", "OutOfSync", "Progressing"]
    assert not (teams.folder / "teams/a/.reconciler/state.db").exists()


def test_every_environment_is_a_stack_of_its_own(teams: Shell) -> None:
    teams.write("teams/a/envs/prod/x.yaml", "# the same\n")
    teams.write("teams/a/envs/test/x.yaml", "# the same\n")
    assert [line[0] for line in stacks(teams, "-e", "prod", "-e", "test")] == ["teams/a@prod", "teams/a@test"]
    assert (teams.folder / "teams/a/.reconciler/state.prod.db").exists()


def test_a_repository_is_a_place_like_any_other(teams: Shell, tmp_path: Path) -> None:
    """Its records are where the controller is, and other commands find them when they are told where."""
    remote = Remote(tmp_path / "git")
    shutil.copytree(teams.folder / "teams", remote.work / "teams", ignore=shutil.ignore_patterns(".reconciler"))
    commit = remote.pushed()
    told = stacks(teams, root=remote.url)
    assert [line[0] for line in told] == ["teams/a", "teams/b", "teams/c"]
    assert told[2][1:3] == ["commit", commit[:12]]
    records = str(teams.folder / ".reconciler/stacks/teams/a")
    status = teams("status", "-f", "teams/a", env={"RECONCILER_RECORDS": records})
    assert "HotwordTable/meds" in status.out
    assert teams("status", "-f", "teams/a", env={"RECONCILER_RECORDS": "/nowhere"}).code == 64


def test_one_that_restarts_goes_on_with_what_it_had(teams: Shell, tmp_path: Path) -> None:
    """While the repository is away, and where a stack went away meanwhile."""
    remote = Remote(tmp_path / "git")
    remote.push(**{"teams__a__stack.yaml": FREE, "teams__b__stack.yaml": FREE})
    stacks(teams, root=remote.url)
    remote.bare.rename(tmp_path / "away")
    teams("controller", "look")
    time.sleep(2)
    assert [line[2:5] for line in stacks(teams, root=remote.url)] == [["stays", "in", "force:"]] * 2
    (tmp_path / "away").rename(remote.bare)
    remote.git("rm", "--quiet", "-r", "teams/b")
    remote.pushed()
    teams("controller", "look")
    time.sleep(2)
    done = teams("controller", "run", remote.url, "--stacks", "teams/*", "--once")
    assert done.err == "'teams/b' is no longer a stack of this controller; nothing of it is deleted\n"
    assert "teams/b  there is no such stack any more" in done.out
    assert teams("controller", "run", remote.url, "--stacks", "teams/*", "--once").err == "", "told once"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_it_is_told_to_end_and_ends_well(teams: Shell, number: signal.Signals) -> None:
    running = teams.start("controller", "run", "--stacks", "teams/*", "--interval", "1s", "--workers", "2")
    assert running.stdout is not None
    told: set[str] = set()
    while len(told) < 3:
        told |= {word for word in running.stdout.readline().split() if word.startswith("teams/") and ":" not in word}
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (
        0,
        "stopping: looks that are under way are concluded first; once more leaves at once\n",
    )


def test_a_new_stack_is_found_while_it_runs(teams: Shell) -> None:
    running = teams.start("controller", "run", "--stacks", "teams/*", "--interval", "1s")
    assert running.stdout is not None
    try:
        running.stdout.readline()
        teams.write("teams/new/stack.yaml", FREE.replace("name: free", "name: new"))
        while "teams/new" not in running.stdout.readline():
            pass
    finally:
        running.kill()
        running.communicate()


def test_a_controller_starts_while_its_repository_is_away_and_waits_for_it(teams: Shell, tmp_path: Path) -> None:
    """It is the platform that restarts it, and not always when all is well."""
    running = teams.start("controller", "run", f"file://{tmp_path}/nowhere.git", "--interval", "1s")
    assert running.stderr is not None
    try:
        assert "cannot be read" in running.stderr.readline()
        assert running.poll() is None
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no folder 'nowhere'"),
        ([".", "--branch", "main"], "a folder has none"),
        ([".", "--stacks", "../x"], "without .."),
        ([".", "--stacks", "nothing/*"], "no folder below . that matches nothing/* holds a manifest"),
        ([".", "--stacks", "teams/*", "-e", "prod"], "and has an environment prod"),
        ([".", "-e", ""], "-e is empty"),
        ([".", "--interval", "0s"], "less than 1 s"),
        ([".", "--mode", "destroy"], "'destroy' is not one of"),
        ([".", "--workers", "0"], "--workers"),
        (["https://host/x", "--branch", "--upload-pack=x"], "is not the name of a branch"),
        (["ext::sh", "--once"], "it names a program to run"),
        (["https://ada:hunter2@host/x y"], "blanks or invisible characters"),
        (["https://host/x", "--home", "nowhere"], "there is no folder 'nowhere'"),
    ],
)
def test_a_word_it_cannot_use_is_said_before_anything_is_done(teams: Shell, arguments: list[str], said: str) -> None:
    done = teams("controller", "run", *arguments)
    assert done.code == 64
    assert said in done.err
    assert "hunter2" not in done.err
    assert done.out == ""


def test_one_pass_over_a_repository_that_cannot_be_read_fails(teams: Shell, tmp_path: Path) -> None:
    done = teams("controller", "run", f"file://{tmp_path}/nowhere.git", "--once")
    assert (done.code, done.err.count("cannot be read")) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["teams/x"], "the controller has no stack 'teams/x'"),
        (["--home", "teams"], "no controller has run in 'teams'"),
    ],
)
def test_a_look_now_at_what_there_is_not_is_refused(teams: Shell, arguments: list[str], said: str) -> None:
    stacks(teams)
    done = teams("controller", "look", *arguments)
    assert done.code == 64
    assert said in done.err


def test_what_it_keeps_is_for_its_owner_alone(teams: Shell, tmp_path: Path) -> None:
    remote = Remote(tmp_path / "git")
    remote.push(**{"teams__a__stack.yaml": FREE})
    stacks(teams, root=remote.url)
    kept = teams.folder / ".reconciler"
    assert [path for path in (kept, kept / "stacks", kept / "checkouts") if path.stat().st_mode & 0o077] == []
    assert os.listdir(kept / "checkouts") == [remote.git("rev-parse", "HEAD")]
