"""Another life for a job or a deployment, and other members in an answer."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.emulator.fates import edited
from reconciler.emulator.faults import Edit
from tests.emulator.stand import CORE, HOUR, MINUTE, Emulator, Json, Start, chat_rows

FILES, JOBS, DEPLOYMENTS = "/api/v1/files", "/api/v1/fine-tunes", "/api/v1/deployments"


def fate(operation: str, *entries: tuple[float, str], **more: Any) -> Json:
    return {"operation": operation, "fate": {"statuses": entries, **more}}


# Jobs


def test_a_job_fails_when_and_as_its_fate_has_it(emulator: Emulator) -> None:
    ends = fate(
        "jobs.create", (0, "PENDING"), (100, "RUNNING"), (300, "FAILED"), code="InvalidData", message="Bad row."
    )
    emulator.play(ends)
    job_id = emulator.job()["job_id"]
    seen = []
    for _ in range(4):
        seen.append(emulator.job_now(job_id)["status"])
        emulator.advance(100)
    assert seen == ["PENDING", "RUNNING", "RUNNING", "FAILED"]
    job = emulator.job_now(job_id)
    assert (job["code"], job["message"]) == ("InvalidData", "Bad row.")
    assert "InvalidData: Bad row." in emulator.ok("GET", f"{JOBS}/{job_id}/logs")["output"]["logs"][-2]
    body = {"model_name": job["finetuned_output"], "plan": "mu", "deploy_spec": "MU1", "capacity": 4}
    assert emulator.call("POST", DEPLOYMENTS, json=body).status_code == 400


def test_a_fated_success_leaves_a_model_that_can_be_deployed(emulator: Emulator) -> None:
    emulator.play(fate("jobs.create", (0, "RUNNING"), (60, "SUCCEEDED")))
    job = emulator.job()
    emulator.advance(MINUTE)
    assert emulator.job_now(job["job_id"])["status"] == "SUCCEEDED"
    assert emulator.deploy(model_name=job["finetuned_output"])["status"] == "PENDING"


def test_a_cancel_may_lose_its_race(emulator: Emulator) -> None:
    emulator.play(fate("jobs.cancel", (0, "CANCELING"), (60, "SUCCEEDED")))
    job_id = emulator.job()["job_id"]
    emulator.ok("POST", f"{JOBS}/{job_id}/cancel")
    assert emulator.job_now(job_id)["status"] == "CANCELING"
    emulator.advance(MINUTE)
    assert emulator.job_now(job_id)["status"] == "SUCCEEDED"


def test_a_fated_job_keeps_its_schedule_whoever_else_trains(emulator: Emulator) -> None:
    """And the others keep the rule that one trains at a time among themselves."""
    emulator.play({**fate("jobs.create", (0, "QUEUING"), (HOUR, "RUNNING"), (2 * HOUR, "SUCCEEDED")), "nth": 1})
    fated, first, second = (emulator.job()["job_id"] for _ in range(3))
    emulator.advance(5 * MINUTE)
    assert [emulator.job_now(job)["status"] for job in (fated, first, second)] == ["QUEUING", "RUNNING", "QUEUING"]
    emulator.advance(HOUR)
    assert emulator.job_now(fated)["status"] == "RUNNING"


def test_a_status_nobody_documents_is_shown_everywhere(emulator: Emulator) -> None:
    """What a client must survive: in the job, its list, its logs and its stream, until it ends after all."""
    emulator.play(fate("jobs.create", (0, "HIBERNATING"), (HOUR, "SUCCEEDED")))
    job_id = emulator.job()["job_id"]
    assert emulator.job_now(job_id)["status"] == "HIBERNATING"
    assert emulator.ok("GET", JOBS)["output"]["jobs"][0]["status"] == "HIBERNATING"
    assert emulator.ok("GET", f"{JOBS}/{job_id}/logs")["output"]["logs"]
    emulator.advance(HOUR)
    assert emulator.job_now(job_id)["status"] == "SUCCEEDED"


# Deployments


def test_a_deployment_that_never_comes_up(emulator: Emulator) -> None:
    emulator.play(fate("deployments.create", (0, "PENDING"), (300, "FAILED")))
    deployed = emulator.deploy()["deployed_model"]
    emulator.advance(HOUR)
    shown = emulator.deployment_now(deployed)
    assert (shown["status"], shown["ready_capacity"], shown["capacity"]) == ("FAILED", 0, 4)


@pytest.mark.parametrize("status", ["STOPPED", "FAILED"])
def test_what_has_stopped_can_be_deleted_where_only_that_can(start: Start, status: str) -> None:
    """Without a fate nothing ever stops, so this is how a client is tested with the switch on."""
    emulator = start(deployments__delete_requires_stopped="on")
    emulator.play(fate("deployments.create", (0, "RUNNING"), (MINUTE, status)))
    deployed = emulator.deploy()["deployed_model"]
    refused = emulator.refused("DELETE", f"{DEPLOYMENTS}/{deployed}")
    assert refused[:2] == (400, "UnsupportedOperation")
    emulator.advance(MINUTE)
    emulator.ok("DELETE", f"{DEPLOYMENTS}/{deployed}")


def test_a_scale_may_go_wrong_too(emulator: Emulator) -> None:
    deployed = emulator.deploy()["deployed_model"]
    emulator.advance(12 * MINUTE)
    emulator.play(fate("deployments.scale", (0, "UPDATING"), (60, "ARREARS_STOPPED")))
    emulator.ok("PUT", f"{DEPLOYMENTS}/{deployed}/scale", json={"capacity": 8})
    emulator.advance(MINUTE)
    shown = emulator.deployment_now(deployed)
    assert (shown["status"], shown["capacity"], shown["ready_capacity"]) == ("ARREARS_STOPPED", 8, 0)


def test_capacity_may_come_in_steps_of_its_own(emulator: Emulator) -> None:
    """RUNNING with half of what was bought."""
    emulator.play(fate("deployments.create", (0, "RUNNING"), ready_capacity=[[0, 0], [60, 2], [120, 4]]))
    deployed = emulator.deploy()["deployed_model"]
    ready = []
    for _ in range(3):
        ready.append(emulator.deployment_now(deployed)["ready_capacity"])
        emulator.advance(MINUTE)
    assert ready == [0, 2, 4]
    assert emulator.deployment_now(deployed)["status"] == "RUNNING"


def test_what_is_no_job_and_no_deployment_has_no_fate(emulator: Emulator) -> None:
    emulator.play(fate("*", (0, "FAILED")))
    file_id = emulator.upload(chat_rows(2))
    assert emulator.ok("GET", f"{FILES}/{file_id}")["data"]["file_id"] == file_id
    assert [entry["faults"] for entry in emulator.ledger()] == [["*: fate"]]


def test_a_refused_call_gives_nothing_a_fate(emulator: Emulator) -> None:
    emulator.play(fate("jobs.*", (0, "FAILED")))
    assert emulator.refused("POST", JOBS, json={"model": "nothing", "hyper_parameters": CORE})[0] == 400
    assert emulator.ok("GET", JOBS)["output"]["total"] == 0


# Other members


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"set": {"output.status": "ODD"}}, {"output": {"status": "ODD", "jobs": [{"id": 1}, {"id": 2}]}}),
        (
            {"set": {"flux": {"a": [1]}}},
            {"output": {"status": "OK", "jobs": [{"id": 1}, {"id": 2}]}, "flux": {"a": [1]}},
        ),
        ({"remove": ["output.status"]}, {"output": {"jobs": [{"id": 1}, {"id": 2}]}}),
        ({"remove": ["output"]}, {}),
        (
            {"set": {"output.jobs.*.flux": None}},
            {"output": {"status": "OK", "jobs": [{"id": 1, "flux": None}, {"id": 2, "flux": None}]}},
        ),
        ({"remove": ["output.jobs.*.id"]}, {"output": {"status": "OK", "jobs": [{}, {}]}}),
    ],
)
def test_members_are_set_and_removed_by_their_paths(edit: Any, expected: Json) -> None:
    reply = {"output": {"status": "OK", "jobs": [{"id": 1}, {"id": 2}]}}
    assert edited(reply, [Edit.model_validate(edit)]) == expected
    assert reply["output"]["status"] == "OK"


@pytest.mark.parametrize("path", ["nothing.x", "output.status.x", "output.jobs.x", "output.jobs.*", "*", "", "."])
def test_a_path_that_leads_nowhere_removes_nothing(path: str) -> None:
    reply = {"output": {"status": "OK", "jobs": [{"id": 1}]}}
    assert edited(reply, [Edit(remove=[path])]) == reply


def test_a_star_is_for_lists_and_ends_in_no_member() -> None:
    reply = {"output": {"jobs": [{"id": 1}]}}
    assert edited(reply, [Edit(set={"output.jobs.*": 1, "output.*.id": 2})]) == reply


def test_an_answer_may_have_statuses_and_members_nobody_documents(emulator: Emulator) -> None:
    """On the way out only: the next reader sees the truth."""
    deployed = emulator.deploy()["deployed_model"]
    edit = {"set": {"output.deployments.*.status": "WARMING", "output.region": "x"}, "remove": ["request_id"]}
    emulator.play({"operation": "deployments.list", "nth": 1, "edit": edit})
    body = emulator.call("GET", DEPLOYMENTS).json()
    assert (body["output"]["deployments"][0]["status"], body["output"]["region"]) == ("WARMING", "x")
    assert "request_id" not in body
    assert emulator.ok("GET", DEPLOYMENTS)["output"]["deployments"][0]["status"] == "PENDING"
    assert emulator.deployment_now(deployed)["status"] == "PENDING"


def test_every_edit_that_meets_a_call_is_made(emulator: Emulator) -> None:
    edits: list[Json] = [{"set": {"data.total": 7}}, {"set": {"data.flux": 1}}]
    emulator.play(*({"operation": "files.list", "edit": edit} for edit in edits))
    data = emulator.ok("GET", FILES)["data"]
    assert (data["total"], data["flux"]) == (7, 1)


def test_a_refusal_is_not_edited(emulator: Emulator) -> None:
    emulator.play({"operation": "jobs.get", "edit": {"set": {"code": "Odd"}}})
    assert emulator.refused("GET", f"{JOBS}/nothing")[:2] == (404, "NotFound")
