"""`reconciler doctor` as its user meets it: what a command would stop at is here one of the findings."""

from __future__ import annotations

import json
import re
import socket

from tests.adapters.conftest import Shell
from tests.far_end import error, far_end, scripted


def test_on_a_fresh_clone_it_tells_everything_and_leaves_nothing(shell: Shell) -> None:
    """But for what is learnt of the data, which spares reading it again: of files that are old enough to be trusted."""
    assert shell("validate").code == 0
    before = {path for path in shell.folder.rglob("*") if path.name != "files"}
    result = shell("doctor")
    assert (result.code, result.err) == (0, "")
    assert "emulator (nothing is bought)" in result.out
    assert re.search(r"^state +ok +none in \S*state\.db yet", result.out, re.M)
    assert re.search(r"^jobs\.mark +not seen yet", result.out, re.M)
    assert result.out.endswith("0 failures, 0 warnings\n")
    assert {path for path in shell.folder.rglob("*") if path.name != "files"} == before


def test_what_it_finds_out_is_kept_once_and_is_no_change_to_plan(applied: Shell) -> None:
    first = applied("doctor")
    assert first.code == 0
    assert re.search(r"^findings +ok +kept in the state: .*files\.purpose", first.out, re.M)
    assert re.search(r"^findings +ok +nothing that the state", applied("doctor").out, re.M)
    assert applied("plan", "--detailed-exitcode").code == 0


def test_for_programs_it_is_one_object(applied: Shell) -> None:
    data = json.loads(applied("doctor", "-o", "json").out)
    assert data["exit_code"] == 0
    assert {one["name"]: one["holds"] for one in data["facts"]}["deployments.mark"] is True
    assert all(one["verdict"] == "ok" for one in data["checks"])


def test_a_closed_port_is_a_finding_and_exits_1(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = shell("doctor", "--endpoint", f"http://127.0.0.1:{port}")
    assert (result.code, result.err) == (1, "")
    assert re.search(rf"^endpoint +failed +http://127\.0\.0\.1:{port} cannot be reached", result.out, re.M)
    assert "nothing listens there" in result.out


def test_without_a_key_it_goes_as_far_as_it_can_and_exits_8(shell: Shell) -> None:
    shell.change("stack.yaml", "endpoint: emulator", "endpoint: beijing")
    with far_end(scripted(error(401, "InvalidApiKey", "Invalid API-key provided."))) as end:
        result = shell("doctor", "--endpoint", end.origin)
        assert all("authorization" not in request.headers for request in end.received)
    assert result.code == 8
    assert re.search(r"^endpoint +ok", result.out, re.M)
    assert re.search(r"^key +failed +there is no API key: DASHSCOPE_API_KEY is not set", result.out, re.M)


def test_a_key_is_in_no_page(shell: Shell) -> None:
    secret = "sk-" + "0123456789abcdef" * 2
    with far_end(scripted(error(401, "InvalidApiKey", "Invalid API-key provided."))) as end:
        result = shell("doctor", "--endpoint", end.origin, env={"DASHSCOPE_API_KEY": secret})
    assert result.code == 8
    assert "InvalidApiKey" in result.out
    assert secret not in result.out + result.err


def test_a_service_that_the_stack_is_not_meant_for_is_never_asked(shell: Shell) -> None:
    """A variable left over from another program: doctor says so as plan would, and sends nothing."""
    result = shell("doctor", env={"DASHSCOPE_HTTP_BASE_URL": "https://dashscope.aliyuncs.com/api/v1"})
    assert (result.code, result.err) == (1, "")
    assert "meant for the emulator" in result.out
    assert "nothing was asked" in result.out
