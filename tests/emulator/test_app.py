"""What holds for every request: keys, shapes, headers, odd bodies."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from reconciler.emulator import wire
from reconciler.emulator.app import API, ROUTES
from reconciler.emulator.wire import Route
from tests.emulator.stand import CORE, HOTWORDS, Emulator, Json, Start, chat_rows, hotwords

FILES, JOBS = "/api/v1/files", "/api/v1/fine-tunes"
REAL_KEY = "sk-" + "0123456789abcdef" * 2
ODD: list[Any] = [True, -1, 10**30, 1e308, "", "\0\u202e", "x" * 5000, [], [None], [[{}]], ["x"], {}, {"a": [None]}]
OTHER_PATHS = ["/api/v1/nothing", "/", "/api/v1/files/", "/compatible-mode/v1/models"]


# Keys


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic dTpw", "test-key"])
def test_without_a_key_nothing_answers(emulator: Emulator, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    refused = emulator.refused("GET", FILES, key=None, headers=headers)
    assert refused == (401, "InvalidApiKey", "Invalid API-key provided.")


def test_the_openai_side_says_it_in_its_own_shape(emulator: Emulator) -> None:
    answer = emulator.call("GET", "/compatible-mode/v1/files", key=None)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "InvalidApiKey"


@pytest.mark.parametrize("key", [REAL_KEY, REAL_KEY.upper().replace("SK-", "sk-")])
def test_a_real_key_is_refused_and_the_reason_given(emulator: Emulator, key: str) -> None:
    """Somebody has just sent a secret to the wrong place: say so."""
    status, code, message = emulator.refused("GET", FILES, key=key)
    assert (status, code) == (401, "InvalidApiKey")
    assert "emulator" in message


@pytest.mark.parametrize("key", ["sk-test", "anything", "sk-" + "0" * 31, "sk-" + "g" * 32])
def test_any_other_key_is_accepted(emulator: Emulator, key: str) -> None:
    assert emulator.call("GET", FILES, key=key).status_code == 200


def test_a_chosen_key_is_the_only_one(start: Start) -> None:
    emulator = start(api_key="chosen")
    assert emulator.call("GET", FILES, key="chosen").status_code == 200
    assert emulator.call("GET", FILES, key="other").status_code == 401


def test_keys_are_neither_stored_nor_logged(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for key in ("canary-key", REAL_KEY):
        emulator.call("POST", FILES, key=key, files={"files": ("a", b"a")})
    emulator.backend.close()
    stored = b"".join(path.read_bytes() for path in emulator.data.rglob("*") if path.is_file())
    assert b"canary-key" not in stored
    assert REAL_KEY.encode() not in stored
    assert "canary-key" not in caplog.text


# Workspaces


def test_the_workspace_header_moves_nothing(emulator: Emulator) -> None:
    """Whether it moves a main account's key is unknown (contract §8.3): here a key has one workspace, as documented."""
    deployed_model = emulator.deploy()["deployed_model"]
    shown = emulator.deployment_now(deployed_model)
    for workspace in (shown["workspace_id"], "llm-another", "", "not one at all"):
        headers = {"X-DashScope-WorkSpace": workspace}
        same = emulator.ok("GET", f"/api/v1/deployments/{deployed_model}", headers=headers)["output"]
        assert same == shown


@pytest.mark.parametrize(("status", "code"), [(403, "Workspace.AccessDenied"), (404, "WorkSpaceNotFound")])
def test_a_workspace_that_is_refused_is_a_fault(emulator: Emulator, status: int, code: str) -> None:
    """How a client is tested against a key of another workspace."""
    emulator.play({"operation": "*", "refuse": {"status": status, "code": code, "message": "Workspace."}})
    for method, path in (("GET", FILES), ("POST", JOBS), ("DELETE", "/api/v1/deployments/x")):
        assert emulator.refused(method, path) == (status, code, "Workspace.")


# Shapes


@pytest.mark.parametrize("path", OTHER_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
def test_a_path_nobody_serves_is_not_found_in_json(emulator: Emulator, method: str, path: str) -> None:
    """Neither a redirect nor HTML nor an empty body: the clients understand none of them."""
    answer = emulator.call(method, path)
    assert answer.status_code == 404
    body = answer.json()
    assert body.get("code", body.get("error", {}).get("code")) == "NotFound"


def test_a_wrong_method_is_not_found_too(emulator: Emulator) -> None:
    assert emulator.refused("PATCH", FILES)[:2] == (404, "NotFound")


@pytest.mark.parametrize("path", [FILES, "/_emulator/info", *OTHER_PATHS])
@pytest.mark.parametrize("key", [None, "k"])
def test_every_answer_says_what_it_comes_from(emulator: Emulator, path: str, key: str | None) -> None:
    answer = emulator.call("GET", path, key=key)
    assert answer.headers["x-bailian-emulator"] == f"{emulator.backend.install_id}; nothing is bought"
    assert answer.headers["date"] == "Mon, 02 Nov 2026 06:05:00 GMT"
    assert answer.headers["content-type"] == "application/json"


def test_a_fault_of_our_own_is_an_internal_error(emulator: Emulator) -> None:
    with emulator.backend.transaction() as tx:
        tx.insert("jobs", "ft-broken", {"not": "a job"})
    status, code, _ = emulator.refused("GET", f"{JOBS}/ft-broken")
    assert (status, code) == (500, "InternalError")


def test_every_write_has_an_operation_of_the_ledger() -> None:
    """The names that rules for faults, the read-only guard and the ledger share."""
    plain = {route.operation for route in ROUTES if isinstance(route.operation, str)}
    assert {name for name in plain if not wire.is_read(name) and not name.startswith("emulator.")} == {
        *("files.create", "files.delete", "jobs.cancel", "jobs.delete", "checkpoints.publish", "phrases.delete"),
        *("deployments.create", "deployments.scale", "deployments.update", "deployments.delete"),
    }


# Bodies


@pytest.mark.parametrize(
    "encode",
    [
        lambda body: json.dumps(body),
        lambda body: json.dumps(body, ensure_ascii=False),
        lambda body: json.dumps(body, ensure_ascii=False, separators=(",", ":")),
    ],
    ids=["1.20 escapes", "2.0 module", "2.0 Client"],
)
def test_each_clients_way_to_write_json_is_read(emulator: Emulator, encode: Any) -> None:
    words = [{"text": "厄洛替尼", "weight": 4}]
    body = hotwords("create_vocabulary", target_model="paraformer-v2", prefix="a", vocabulary=words)
    made = emulator.ok("POST", HOTWORDS, content=encode(body).encode())["output"]["vocabulary_id"]
    assert emulator.vocabulary("query_vocabulary", vocabulary_id=made)["vocabulary"] == words


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"[" * 100_000, b"<html>"),
        *(b'{"model": NaN}', b'{"model": 1e999}', b'{"model": "\\ud800"}', b'{"model": ' + b"9" * 5000 + b"}"),
    ],
)
def test_a_body_that_is_no_usable_object_is_refused(emulator: Emulator, content: bytes) -> None:
    """What cannot be written back must not get in: it would break every later answer that shows it."""
    assert emulator.refused("POST", JOBS, content=content)[:2] == (400, "InvalidParameter")


@pytest.mark.parametrize(("text", "name"), [(b"\\ud800", b"a"), (b"x", b"\\ud800")], ids=["field", "file name"])
def test_a_form_that_cannot_be_written_back_is_refused(emulator: Emulator, text: bytes, name: bytes) -> None:
    """By its charset a form can hold half a surrogate pair, which neither the folder nor an answer can."""
    form = b'--b\r\nContent-Disposition: form-data; name="descriptions"\r\n\r\n' + text
    form += b'\r\n--b\r\nContent-Disposition: form-data; name="files"; filename="' + name + b'"\r\n\r\nx\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b; charset=unicode_escape"}
    assert emulator.refused("POST", FILES, content=form, headers=headers)[:2] == (400, "InvalidParameter")
    assert list(emulator.backend.uploads.iterdir()) == []


@pytest.mark.parametrize("declared", [True, False])
def test_bodies_are_bounded(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, declared: bool) -> None:
    """With and without a length announced; the real bounds are 16 MiB and 1 GiB."""
    monkeypatch.setattr(wire, "JSON_BYTES_MAX", 1000)
    monkeypatch.setattr(wire, "UPLOAD_BYTES_MAX", 1000)
    big = b'{"model": "' + b"x" * 2000 + b'"}'
    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + big + b"\r\n--b--\r\n"

    async def in_pieces(content: bytes) -> Any:
        for start in range(0, len(content), 100):
            yield content[start : start + 100]

    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    for path, content, headers in ((JOBS, big, {}), (FILES, form, multipart)):
        sent = content if declared else in_pieces(content)
        answer = emulator.refused("POST", path, content=sent, headers=headers)
        assert answer[:2] == (400, "BadRequest.TooLarge")
    assert list(emulator.backend.uploads.iterdir()) == []


def test_a_cancel_without_body_and_type_is_read(emulator: Emulator) -> None:
    job_id = emulator.job()["job_id"]
    answer = emulator.call("POST", f"{JOBS}/{job_id}/cancel", headers={"Content-Length": "0"})
    assert answer.status_code == 200


@pytest.mark.parametrize(("position", "status"), [("by-endpoint", 200), ("ignore", 200), ("refuse", 400)])
def test_unknown_members_of_the_native_api(start: Start, position: str, status: int) -> None:
    emulator = start(http__unknown_field=position)
    body = {"model_name": "qwen3.5-9b", "plan": "mu", "deploy_spec": "MU1", "capacity": 4, "flux": 1}
    answer = emulator.call("POST", "/api/v1/deployments", json=body)
    assert answer.status_code == status
    assert ("flux" in answer.text) == (status == 400)


@pytest.mark.parametrize(("position", "status"), [("by-endpoint", 400), ("ignore", 200), ("refuse", 400)])
def test_unknown_fields_of_the_openai_shape(start: Start, position: str, status: int) -> None:
    emulator = start(http__unknown_field=position)
    form = {"purpose": "batch", "descriptions": "x"}
    answer = emulator.call("POST", "/compatible-mode/v1/files", files={"file": ("a", b"a")}, data=form)
    assert answer.status_code == status


def test_nothing_the_clients_send_counts_as_unknown(start: Start) -> None:
    """Where unknown members are refused, the official bodies must still pass."""
    emulator = start(http__unknown_field="refuse")
    file_id = emulator.upload(chat_rows(40), description="d")
    emulator.job(training_file_ids=[file_id], validation_file_ids=None, model_name="shown")
    deployed_model = emulator.deploy(suffix="a", billing_method="POST_PAY", model_version="1")["deployed_model"]
    emulator.advance(700)
    body = {"deployed_model": deployed_model, "capacity": 8}
    emulator.ok("PUT", f"/api/v1/deployments/{deployed_model}/scale", json=body)
    emulator.ok("POST", HOTWORDS, json={**hotwords("list_vocabulary"), "parameters": {}})


def test_an_id_nobody_knows_is_an_answer_of_every_route(emulator: Emulator) -> None:
    for route in API:
        if "{" in route.path:
            for unknown in ("nothing", "%00", "%ff", "..%2f..%2fetc", "我"):
                path = re.sub(r"\{[^}]*\}", unknown, route.path)
                answer = emulator.call(route.method, path, json={"capacity": 4, "rpm_limit": 1})
                assert answer.status_code in (400, 404), path
                assert answer.json().get("code") or answer.json()["error"]["code"]


@pytest.mark.parametrize("route", [route for route in API if route.members], ids=lambda route: route.operation)
def test_no_member_of_any_request_breaks_the_emulator(emulator: Emulator, route: Route) -> None:
    """Each member in turn is what nobody would send, beside others that are right."""
    right: Json = {"model": "qwen3.5-9b", "training_type": "efficient_sft", "hyper_parameters": CORE}
    right |= {"training_file_ids": [emulator.upload(chat_rows(20))], "model_name": "qwen3.5-9b", "plan": "mu"}
    right |= {"deploy_spec": "MU1", "capacity": 4, "input": {"prompt": "x"}}
    path = re.sub(r"\{[^}]*\}", emulator.deploy()["deployed_model"], route.path)
    for member in sorted(route.members):
        for odd in ODD:
            body = {name: value for name, value in right.items() if name in route.members} | {member: odd}
            answer = emulator.call(route.method, path, json=body)
            assert answer.status_code < 500, (member, odd, answer.text)
    for path in (FILES, JOBS, "/api/v1/deployments"):
        assert emulator.call("GET", path).status_code == 200


def test_ids_go_into_paths_unescaped(emulator: Emulator) -> None:
    """The clients escape neither `/` nor `?` nor `#`, so no id may hold them."""
    ids = [
        emulator.upload(b"x"),
        emulator.trained(finetuned_output_suffix="a-1")["finetuned_output"],
        emulator.deploy(suffix="a")["deployed_model"],
    ]
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") for name in ids)
