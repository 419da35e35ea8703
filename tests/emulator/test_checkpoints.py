"""Checkpoints and publishing them: contract §2.7."""

from __future__ import annotations

from typing import Any

from tests.emulator.stand import CORE, HOUR, Emulator, chat_rows, dpo_rows

JOBS = "/api/v1/fine-tunes"
FIVE = {**CORE, "n_epochs": 5, "save_total_limit": 3}


def checkpoints(emulator: Emulator, job_id: str) -> list[Any]:
    output: list[Any] = emulator.ok("GET", f"{JOBS}/{job_id}/checkpoints")["output"]
    return output


def trained(emulator: Emulator, hyper: Any = FIVE) -> Any:
    return emulator.trained(content=chat_rows(160), hyper_parameters=hyper)


def test_the_list_is_an_array_newest_step_first_within_the_limit(emulator: Emulator) -> None:
    job = trained(emulator)
    found = checkpoints(emulator, job["job_id"])
    assert [item["step"] for item in found] == [50, 40, 30]
    first, last = found[-1], found[0]
    name = f"{job['job_id']}:checkpoint-30"
    assert first["checkpoint_id"] == first["full_name"] == name
    assert (first["checkpoint"], first["status"]) == ("checkpoint-30", "PENDING")
    assert "model_name" not in first
    assert (last["status"], last["model_name"]) == ("SUCCEEDED", job["finetuned_output"])
    assert "T" in last["create_time"] < last["expire_time"]
    assert (job["output_cnt"], job["max_output_cnt"]) == (3, 3)


def test_steps_are_saved_where_asked(emulator: Emulator) -> None:
    job = trained(emulator, {**FIVE, "save_strategy": "steps", "save_steps": 20, "save_total_limit": 9})
    assert [item["step"] for item in checkpoints(emulator, job["job_id"])] == [50, 40, 20]


def test_checkpoints_appear_while_it_trains(emulator: Emulator) -> None:
    job_id = emulator.job(content=chat_rows(160), hyper_parameters={**FIVE, "save_total_limit": 9})["job_id"]
    counts = []
    for _ in range(8):
        counts.append(len(checkpoints(emulator, job_id)))
        emulator.advance(240)
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[2] < counts[-1] == 5


def test_publishing_makes_a_model_that_can_be_deployed(emulator: Emulator) -> None:
    job = trained(emulator)
    path = f"{JOBS}/{job['job_id']}/export/checkpoint-30"
    assert emulator.ok("GET", f"{path}?model_name=early")["output"] is True
    assert checkpoints(emulator, job["job_id"])[-1]["status"] == "PROCESSING"
    emulator.advance(300)
    published = checkpoints(emulator, job["job_id"])[-1]
    assert (published["status"], published["model_display_name"]) == ("SUCCEEDED", "early")
    assert emulator.deploy(model_name=published["model_name"])["base_model"] == "qwen3.5-9b"
    assert emulator.job_now(job["job_id"])["finetuned_output"] == published["model_name"]
    assert [entry["operation"] for entry in emulator.ledger()].count("checkpoints.publish") == 1


def test_publishing_again_under_the_same_name_changes_nothing(emulator: Emulator) -> None:
    job = trained(emulator)
    path = f"{JOBS}/{job['job_id']}/export"
    for _ in range(2):
        assert emulator.ok("GET", f"{path}/checkpoint-30?model_name=early")["output"] is True
    assert [entry["operation"] for entry in emulator.ledger()].count("checkpoints.publish") == 1
    assert emulator.refused("GET", f"{path}/checkpoint-30?model_name=other")[:2] == (409, "Conflict")
    assert emulator.refused("GET", f"{path}/checkpoint-40?model_name=early")[:2] == (409, "Conflict")


def test_what_cannot_be_published(emulator: Emulator) -> None:
    job = trained(emulator)
    path = f"{JOBS}/{job['job_id']}/export"
    assert emulator.refused("GET", f"{path}/checkpoint-10?model_name=x")[:2] == (404, "NotFound")
    assert emulator.refused("GET", f"{path}/checkpoint-30")[:2] == (400, "InvalidParameter")
    assert emulator.refused("GET", f"{JOBS}/ft-0/export/checkpoint-1?model_name=x")[:2] == (404, "NotFound")


def test_unpublished_checkpoints_expire_after_fifteen_days(emulator: Emulator) -> None:
    job = trained(emulator)
    emulator.advance(16 * 24 * HOUR)
    assert [item["step"] for item in checkpoints(emulator, job["job_id"])] == [50]


def test_preference_training_keeps_none(emulator: Emulator) -> None:
    job = emulator.trained(model="qwen3-8b", training_type="dpo_lora", content=dpo_rows(40))
    assert checkpoints(emulator, job["job_id"]) == []
    assert job["output_cnt"] == 0


def test_december_2024_has_no_checkpoints(old: Emulator) -> None:
    job_id = old.job()["job_id"]
    assert old.call("GET", f"{JOBS}/{job_id}/checkpoints").status_code == 404
