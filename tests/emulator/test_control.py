"""The emulator's own routes: what was bought, a world without writes, time that jumps."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from reconciler.emulator.clock import END_S
from reconciler.emulator.server import control_token
from tests.emulator.stand import CORE, GENERATION, HOTWORDS, HOUR, MINUTE, Emulator, Start, chat_rows, hotwords

WORDS = [{"text": "x", "weight": 1}]


def test_info_says_who_and_when(emulator: Emulator) -> None:
    info = emulator.ok("GET", "/_emulator/info", key=None)
    assert info["install_id"] == emulator.backend.install_id
    assert (info["profile"], info["speed"], info["now"]) == ("2026", 0, "2026-11-02 14:05:00")
    assert info["read_only"] is False
    assert info["switches"]["jobs.parallel"] == 1


def test_reading_needs_no_key(emulator: Emulator) -> None:
    assert emulator.ok("GET", "/_emulator/ledger", key=None)["entries"] == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1:80"])
def test_a_foreign_host_name_is_refused(emulator: Emulator, host: str) -> None:
    """A web page that points its own name at loopback must not read the ledger."""
    assert emulator.refused("GET", "/_emulator/ledger", headers={"Host": host})[:2] == (403, "AccessDenied")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:9"])
def test_loopback_host_names_pass(emulator: Emulator, host: str) -> None:
    assert emulator.call("GET", "/_emulator/info", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-Emulator-Control": "wrong"}])
@pytest.mark.parametrize("path", ["read-only", "clock", "faults"])
def test_controls_need_the_token(emulator: Emulator, path: str, headers: dict[str, str]) -> None:
    answer = emulator.refused("POST", f"/_emulator/{path}", headers=headers, json={"on": True, "advance_s": 9})
    assert answer[:2] == (403, "AccessDenied")
    assert emulator.ok("GET", "/_emulator/info")["now"] == "2026-11-02 14:05:00"


@pytest.mark.parametrize("path", ["read-only", "clock", "faults"])
def test_the_token_does_not_help_a_foreign_host_name(emulator: Emulator, path: str) -> None:
    headers = {"X-Emulator-Control": control_token(emulator.data), "Host": "evil.example"}
    assert emulator.refused("POST", f"/_emulator/{path}", headers=headers, json={"faults": []})[0] == 403


def test_the_rules_are_read_without_the_token_but_not_by_a_foreign_name(emulator: Emulator) -> None:
    assert emulator.ok("GET", "/_emulator/faults", key=None)["faults"] == []
    assert emulator.refused("GET", "/_emulator/faults", headers={"Host": "evil.example"})[0] == 403


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("faults", {"fault": []}, "Unknown member 'fault'; did you mean 'faults'?"),
        ("faults", {"faults": [], "apend": True}, "Unknown member 'apend'; did you mean 'append'?"),
        ("faults", {"faults": [], "append": "yes"}, "Required parameter(append) missing or invalid"),
        ("faults", {}, "faults takes a list of at most 1000 rules"),
        ("clock", {"advance": 9}, "Unknown member 'advance'; did you mean 'advance_s'?"),
        ("clock", {"advance_s": 9, "frozen": True}, "Unknown member 'frozen'"),
        ("clock", {"freeze": 1}, "Required parameter(freeze) missing or invalid"),
        ("clock", {"speed": -1}, "Required parameter(speed) missing or invalid"),
        ("clock", {"speed": 1e7}, "Required parameter(speed) missing or invalid"),
        ("clock", {}, "Required parameter(advance_s) missing or invalid"),
        ("read-only", {"on": True, "off": True}, "Unknown member 'off'"),
        ("read-only", {"on": "true"}, "Required parameter(on) missing or invalid"),
        ("read-only", {}, "Required parameter(on) missing or invalid"),
    ],
)
def test_a_wrong_request_changes_nothing(emulator: Emulator, path: str, body: Any, message: str) -> None:
    """A misspelt member that was ignored would make a test pass for the wrong reason."""
    before = emulator.ok("GET", "/_emulator/info")
    headers = {"X-Emulator-Control": control_token(emulator.data)}
    status, code, said = emulator.refused("POST", f"/_emulator/{path}", json=body, headers=headers)
    assert (status, code) == (400, "InvalidParameter")
    assert message in said
    after = emulator.ok("GET", "/_emulator/info")
    assert {**after, "request_id": ""} == {**before, "request_id": ""}


def test_the_token_lies_in_the_data_folder_and_stays(start: Start) -> None:
    first = start()
    token = control_token(first.data)
    assert stat.S_IMODE((first.data / "control-token").stat().st_mode) == 0o600
    first.backend.close()
    assert control_token(start().data) == token


@pytest.mark.parametrize("by_s", [-1, "9", None, True, 1e12])
def test_time_moves_only_ahead_and_not_out_of_the_calendar(emulator: Emulator, by_s: Any) -> None:
    headers = {"X-Emulator-Control": control_token(emulator.data)}
    assert emulator.call("POST", "/_emulator/clock", json={"advance_s": by_s}, headers=headers).status_code == 400


def test_jumps_do_not_add_up_to_more_than_the_calendar_holds(emulator: Emulator) -> None:
    """Ten years at a time lead there too."""
    with emulator.backend.transaction() as tx:
        tx.advance(END_S - tx.now_s - 1)
    headers = {"X-Emulator-Control": control_token(emulator.data)}
    assert emulator.refused("POST", "/_emulator/clock", json={"advance_s": 2}, headers=headers)[0] == 400
    assert emulator.control("clock", {"advance_s": 1})["now"] == "9000-01-01 08:00:00"
    assert emulator.ok("GET", "/_emulator/info")["now"] == "9000-01-01 08:00:00"


def test_a_jump_moves_everything(emulator: Emulator) -> None:
    assert emulator.control("clock", {"advance_s": 90.5})["now"] == "2026-11-02 14:06:30"
    answer = emulator.call("GET", "/_emulator/info")
    assert answer.json()["now"] == "2026-11-02 14:06:30"
    assert answer.headers["date"] == "Mon, 02 Nov 2026 06:06:30 GMT"


def test_time_stops_at_another_speed_and_goes_on(emulator: Emulator) -> None:
    """Frozen, a new speed is kept for later, and a jump still moves time."""
    shown = ("speed", "frozen")
    for body, expected in (
        ({"speed": 60}, (60, False)),
        ({"freeze": True}, (0, True)),
        ({"freeze": True}, (0, True)),
        ({"speed": 3600}, (0, True)),
        ({"freeze": False}, (3600, False)),
        ({"freeze": False}, (3600, False)),
        ({"freeze": True, "speed": 0, "advance_s": 0}, (0, True)),
    ):
        assert tuple(emulator.control("clock", body)[name] for name in shown) == expected
    stopped = emulator.ok("GET", "/_emulator/info")["now"]
    assert emulator.ok("GET", "/_emulator/info")["now"] == stopped
    emulator.advance(600)
    assert emulator.ok("GET", "/_emulator/info")["now"] > stopped
    assert emulator.control("clock", {"freeze": False})["speed"] == 0


def test_a_freeze_ends_with_the_last_server(start: Start) -> None:
    first = start()
    first.control("clock", {"freeze": True})
    first.backend.close()
    assert start().ok("GET", "/_emulator/info")["frozen"] is False


def test_time_ends_before_dates_do(emulator: Emulator) -> None:
    """Years that no date can hold would break every answer from then on."""
    with emulator.backend.transaction() as tx:
        tx.advance(END_S)
    assert emulator.ok("GET", "/_emulator/info")["now"].startswith("9000-01-01")
    headers = {"X-Emulator-Control": control_token(emulator.data)}
    assert emulator.call("POST", "/_emulator/clock", json={"advance_s": 9}, headers=headers).status_code == 400
    emulator.play({"operation": "files.list", "date_offset_s": 10 * 365 * 24 * HOUR})
    assert " 9000 " in emulator.call("GET", "/api/v1/files").headers["date"]
    assert emulator.job()["status"] == "PENDING"


def test_the_ledger_numbers_what_was_committed(emulator: Emulator) -> None:
    """The evidence of every test about buying once: in order, dated, with ids and marks, and only what happened."""
    file_id = emulator.upload(chat_rows(20), "a.jsonl", "mark")
    emulator.refused("POST", "/api/v1/fine-tunes", json={"model": "nothing"})
    emulator.advance(MINUTE)
    emulator.ok("DELETE", f"/api/v1/files/{file_id}")
    entries = emulator.ledger()
    assert [(entry["seq"], entry["operation"], entry["at"], entry["id"]) for entry in entries] == [
        (1, "files.create", "2026-11-02 14:05:00", file_id),
        (2, "files.delete", "2026-11-02 14:06:00", file_id),
    ]
    assert (entries[0]["name"], entries[0]["description"], entries[0]["price_cny"]) == ("a.jsonl", "mark", 0)


def test_while_read_only_every_write_is_refused_and_every_read_answered(emulator: Emulator) -> None:
    """How a test knows that a plan writes nothing, also where a read is a POST and a write a GET."""
    file_id = emulator.upload(chat_rows(40))
    hyper = {**CORE, "n_epochs": 2, "save_total_limit": 2}
    job_id = emulator.trained(hyper_parameters=hyper)["job_id"]
    deployed_model = emulator.deploy()["deployed_model"]
    emulator.advance(12 * MINUTE)
    vocabulary_id = emulator.vocabulary(
        "create_vocabulary", target_model="paraformer-v2", prefix="a", vocabulary=WORDS
    )["vocabulary_id"]
    phrases = {"model": "paraformer-v1", "training_type": "compile_asr_phrase"}
    phrases_body = {**phrases, "hyper_parameters": {"phrase_list": {"a": 1}}}
    phrase_id = emulator.ok("POST", "/api/v1/fine-tunes", json=phrases_body)["output"]["finetuned_output"]
    before = emulator.ledger()

    assert emulator.control("read-only", {"on": True})["read_only"] is True
    jobs, deployments, outputs = "/api/v1/fine-tunes", "/api/v1/deployments", "/api/v1/fine-tunes/outputs"
    writes: list[tuple[str, str, Any]] = [
        ("POST", "/api/v1/files", {"files": {"files": ("a", b"a")}}),
        ("DELETE", f"/api/v1/files/{file_id}", {}),
        ("POST", "/compatible-mode/v1/files", {"files": {"file": ("a", b"a")}, "data": {"purpose": "batch"}}),
        ("DELETE", f"/compatible-mode/v1/files/{file_id}", {}),
        ("POST", jobs, {"json": {"model": "invalid"}}),
        ("POST", jobs, {"json": phrases_body}),
        ("POST", jobs, {"json": {**phrases_body, "finetuned_output": phrase_id}}),
        ("POST", f"{jobs}/{job_id}/cancel", {}),
        ("DELETE", f"{jobs}/{job_id}", {}),
        ("GET", f"{jobs}/{job_id}/export/checkpoint-3?model_name=x", {}),
        ("DELETE", f"{outputs}/{phrase_id}", {}),
        ("POST", deployments, {"json": {}}),
        ("PUT", f"{deployments}/{deployed_model}/scale", {"json": {"capacity": 8}}),
        ("PUT", f"{deployments}/{deployed_model}/update", {"json": {"rpm_limit": 8}}),
        ("DELETE", f"{deployments}/{deployed_model}", {}),
        *(
            ("POST", HOTWORDS, {"json": hotwords(action, vocabulary_id=vocabulary_id)})
            for action in ("create_vocabulary", "update_vocabulary", "delete_vocabulary")
        ),
    ]
    assert {emulator.call(method, path, **more).status_code for method, path, more in writes} == {403}
    prompt = {"model": deployed_model, "input": {"prompt": "x"}}
    reads: list[tuple[str, str, Any]] = [
        *(("GET", path, {}) for path in ("/api/v1/files", f"/api/v1/files/{file_id}", "/compatible-mode/v1/files")),
        *(("GET", f"{jobs}{path}", {}) for path in ("", f"/{job_id}", f"/{job_id}/logs", f"/{job_id}/stream")),
        *(("GET", path, {}) for path in (f"{jobs}/{job_id}/checkpoints", outputs, f"{outputs}/{phrase_id}")),
        *(("GET", f"{deployments}{path}", {}) for path in ("", f"/{deployed_model}", "/models")),
        ("POST", HOTWORDS, {"json": hotwords("list_vocabulary")}),
        ("POST", HOTWORDS, {"json": hotwords("query_vocabulary", vocabulary_id=vocabulary_id)}),
        ("POST", GENERATION, {"json": prompt}),
    ]
    assert {emulator.call(method, path, **more).status_code for method, path, more in reads} == {200}
    assert emulator.ledger() == before

    emulator.control("read-only", {"on": False})
    assert emulator.call("DELETE", f"/api/v1/files/{file_id}").status_code == 200


def test_read_only_holds_for_every_server_of_the_folder_and_survives_a_restart(start: Start) -> None:
    first = start()
    first.control("read-only", {"on": True})
    first.backend.close()
    second = start()
    assert second.call("POST", "/api/v1/files", files={"files": ("a", b"a")}).status_code == 403
    assert list(second.backend.uploads.iterdir()) == []
