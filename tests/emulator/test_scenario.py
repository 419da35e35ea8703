"""A scenario file: read whole or refused in words, and what `reconciler emulator start --scenario` makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.emulator.app import OPERATIONS
from reconciler.emulator.scenario import BYTES_MAX, Scenario, read
from reconciler.emulator.server import serve
from tests.emulator.stand import KEY

GOOD = """\
switches: {jobs.delete_refused_when: never, jobs.parallel: 2, files.native_stores_purpose: on}
faults:
  - {operation: files.create, nth: 1, drop: {moment: after}}   # stored, and the answer is lost
  - operation: "*.list"
    every: 3
    throttle: rate
"""
AUTH = {"Authorization": f"Bearer {KEY}"}


def written(tmp_path: Path, content: str | bytes, name: str = "play.yaml") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def scenario(tmp_path: Path, content: str | bytes) -> Scenario:
    return read(written(tmp_path, content), OPERATIONS)


# The file


def test_switches_and_faults_are_read(tmp_path: Path) -> None:
    script = scenario(tmp_path, GOOD)
    assert script.switches == {
        "jobs.delete_refused_when": "never",
        "jobs.parallel": 2,
        "files.native_stores_purpose": True,
    }
    assert [rule.title for rule in script.rules] == ["files.create: drop", "*.list: throttle"]


def test_json_is_yaml_enough(tmp_path: Path) -> None:
    content = '{"faults": [{"operation": "jobs.get", "nth": [2, 3], "refuse": {"status": 503}}]}'
    assert [rule.nth for rule in scenario(tmp_path, content).rules] == [[2, 3]]


@pytest.mark.parametrize("content", ["{}", "switches:\nfaults:\n", "faults: []", "switches: {}"])
def test_either_part_may_be_missing_or_empty(tmp_path: Path, content: str) -> None:
    assert scenario(tmp_path, content) == Scenario()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("switchs: {}", "scenario play.yaml: switchs: unknown; did you mean 'switches'?"),
        ("faults: []\nfault: []", "fault: unknown; did you mean 'faults'?"),
        ("1: []", "1: unknown"),
        ("", "takes a mapping with switches and faults"),
        ("[]", "takes a mapping with switches and faults"),
        ("just words", "takes a mapping with switches and faults"),
        ("switches: [jobs.parallel]", "switches takes a mapping of names to positions"),
        ("switches: false", "switches takes a mapping of names to positions"),
        ("faults: {}", "faults takes a list of at most 1000 rules"),
        ("faults: ''", "faults takes a list of at most 1000 rules"),
        (
            "faults: [{operation: jobs.gett, refuse: {}}]",
            "no operation is called 'jobs.gett'; did you mean 'jobs.get'?",
        ),
        ("faults: [{operation: jobs.get, refuze: {}}]", "faults[0].refuze: unknown; did you mean 'refuse'?"),
        ("faults: [{operation: jobs.get, refuse: {}, refuse: {}}]", "refuse is there twice"),
        ("faults: []\nfaults: []", "faults is there twice"),
        ("switches: {a: 1, a: 1}", "a is there twice"),
        ("faults: [&rule {operation: jobs.get, refuse: {}}, *rule]", "aliases are not read here"),
        ("a: [b", "cannot be read: line 1, column 6: expected ',' or ']'"),
        ("a: b: c", "cannot be read: line 1, column 5: mapping values are not allowed here"),
        ("--- {}\n--- {}", "cannot be read: line 2, column 1: but found another document"),
        ("\t- a", "cannot be read: line 1, column 1: found character '\\t'"),
        ("faults: !!python/object/apply:os.system [id]", "line 1, column 9: could not determine a constructor"),
        ("? [a, b]\n: 1", "cannot be read: line 1, column 3: found unhashable key"),
        ("<<: {faults: []}", "cannot be read: line 1, column 1: could not determine a constructor"),
        ("faults: [{operation: jobs.get, refuse: {}, 2026-11-02: 1}]", "faults[0]: keys must be str"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"faults: \xff", "cannot be read"),
        (b"\x00", "cannot be read"),
        *(
            (f"faults: !!{tag}", "cannot be read")
            for tag in ("int ''", "bool x", "timestamp x", "float x", "binary 我")
        ),
        ("switches: {a: " + "9" * 5000 + "}", "cannot be read: Exceeds the limit"),
        ("faults: " + "[" * 20_000, "cannot be read"),
        ("faults: [{operation: jobs.get, date_offset_s: 0x" + "f" * 5000 + "}]", "faults[0]: Exceeds the limit"),
        ("#" * (BYTES_MAX + 1), f"scenario play.yaml is larger than {BYTES_MAX} B"),
    ],
    ids=lambda value: None if len(value) > 200 else repr(value)[:40],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, content: str | bytes, problem: str) -> None:
    """Whatever is in it: a ValueError of one line, never what the YAML library stumbled over."""
    with pytest.raises(ValueError, match=r"scenario play\.yaml") as caught:
        scenario(tmp_path, content)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "byte string" not in str(caught.value)


# A server with one


def test_the_rules_and_switches_hold_from_the_first_call(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    data = tmp_path / "data"
    with (
        serve(data, speed=0, scenario=path, switches={"jobs.parallel": 3}) as origin,
        httpx.Client(base_url=origin, headers=AUTH, trust_env=False) as client,
    ):
        switches = client.get("/_emulator/info").json()["switches"]
        with pytest.raises(httpx.ReadError):
            client.post("/api/v1/files", files={"files": ("a", b"a")})
        assert [client.get("/api/v1/files").status_code for _ in range(3)] == [200, 200, 429]
        assert client.get("/_emulator/ledger").json()["entries"][0]["faults"] == ["files.create: drop"]
    assert (switches["jobs.delete_refused_when"], switches["files.native_stores_purpose"]) == ("never", "on")
    assert switches["jobs.parallel"] == 3  # what the caller says is stronger than the file


def test_a_server_without_one_plays_none(tmp_path: Path) -> None:
    with serve(tmp_path / "data", scenario=written(tmp_path, GOOD)):
        pass
    with serve(tmp_path / "data") as origin:
        assert httpx.get(f"{origin}/_emulator/faults", trust_env=False).json()["faults"] == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [("switches: {jobs.paralel: 2}", r"did you mean 'jobs\.parallel'"), ("faults: 1", "takes a list")],
)
def test_a_wrong_one_starts_nothing(tmp_path: Path, content: str, problem: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=problem), serve(tmp_path / "data", scenario=path):
        pass
    assert not (tmp_path / "data").exists()


# The command


def command(tmp_path: Path, *options: str) -> list[str]:
    start = [sys.executable, "-m", "reconciler", "emulator", "start", "--speed", "0"]
    return [*start, "--data", str(tmp_path / "data"), *options]


def test_the_command_serves_a_scenario(tmp_path: Path) -> None:
    starting = command(tmp_path, "--scenario", str(written(tmp_path, GOOD)))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        starting, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        origin = process.stdout.readline().split()[2].removesuffix("/api/v1,")
        rules = httpx.get(f"{origin}/_emulator/faults", trust_env=False).json()["faults"]
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=60)[1]
    assert [rule["name"] for rule in rules] == ["files.create: drop", "*.list: throttle"]
    assert err == ""


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("switches: {jobs.paralel: 2}", "unknown emulator switch 'jobs.paralel': did you mean 'jobs.parallel'?"),
        ("switches: {jobs.parallel: many}", "jobs.parallel takes a whole number from 1"),
        ("faults: [{operation: jobs.get, holt: {}}]", "play.yaml: faults[0].holt: unknown; did you mean 'hold'?"),
        ('"\\e[31mred": 1', "play.yaml: \\x1b[31mred: unknown"),
        ("a: [", "play.yaml cannot be read"),
    ],
)
def test_the_command_refuses_a_wrong_one(tmp_path: Path, content: str, problem: str) -> None:
    """With the exit code of a wrong command line, in a line for people."""
    done = subprocess.run(
        command(tmp_path, "--scenario", str(written(tmp_path, content))), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (64, "")
    assert problem in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


def test_the_command_says_so_when_there_is_no_file(tmp_path: Path) -> None:
    missing: Any = command(tmp_path, "--scenario", str(tmp_path / "missing.yaml"))
    done = subprocess.run(missing, capture_output=True, text=True, timeout=60)
    assert done.returncode == 64
    assert "missing.yaml" in done.stderr
