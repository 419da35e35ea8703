"""Fine-tune jobs: contract §2, by moving the clock."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.emulator.switches import NUMBER_MAX
from tests.emulator.stand import (
    CORE,
    HOUR,
    MINUTE,
    Emulator,
    Start,
    archive,
    chat_row,
    chat_rows,
    dpo_rows,
    image_rows,
    lines,
)

JOBS = "/api/v1/fine-tunes"


def statuses(emulator: Emulator, job_id: str, *, every_s: float = 20, for_s: float = 2 * HOUR) -> list[str]:
    """The statuses a job passes through, each once, in order."""
    seen: list[str] = []
    for _ in range(int(for_s / every_s)):
        status = emulator.job_now(job_id)["status"]
        if status not in seen[-1:]:
            seen.append(status)
        if status in ("SUCCEEDED", "FAILED", "CANCELED"):
            return seen
        emulator.advance(every_s)
    return seen


def reach(emulator: Emulator, job_id: str, status: str) -> None:
    for _ in range(500):
        if emulator.job_now(job_id)["status"] == status:
            return
        emulator.advance(10)
    raise AssertionError(f"never {status}")


def failure(emulator: Emulator, **members: Any) -> tuple[list[str], str, str]:
    """How a job that is accepted fails: its statuses, code and message."""
    job_id = emulator.job(**members)["job_id"]
    seen = statuses(emulator, job_id)
    job = emulator.job_now(job_id)
    return seen, job["code"], job["message"]


# The object


def test_a_new_job_shows_what_the_page_says(emulator: Emulator) -> None:
    job = emulator.job(job_name="mark", finetuned_output_suffix="care")
    tail = job["job_id"]
    assert tail.startswith("ft-202611021405-")
    assert len(tail) == len("ft-202611021405-") + 4
    assert job["finetuned_output"] == f"qwen3.5-9b-care-{tail}"
    assert {name: job[name] for name in ("job_name", "status", "model", "base_model", "training_type", "group")} == {
        "job_name": "mark",
        "status": "PENDING",
        "model": "qwen3.5-9b",
        "base_model": "qwen3.5-9b",
        "training_type": "efficient_sft",
        "group": "llm",
    }
    assert job["create_time"] == "2026-11-02 14:05:00"
    assert job["workspace_id"].startswith("llm-")
    assert job["user_identity"] == job["creator"] == job["modifier"]
    assert not {"end_time", "usage", "code", "message"} & job.keys()


def test_the_old_profile_knows_no_names_no_workspace_and_no_data_sets(old: Emulator) -> None:
    file_id = old.upload(chat_rows(40))
    job = old.job(training_file_ids=[file_id], job_name="mark", hyper_parameters={})
    assert job["job_name"] == job["job_id"]
    assert job["training_file_ids"] == [file_id]
    assert not {"workspace_id", "training_datasets", "output_cnt"} & job.keys()


def test_types_are_those_the_strict_client_needs(emulator: Emulator) -> None:
    """A null list or a numeric id raises in the official 2.x client although the job was made."""
    job = emulator.job(validation_file_ids=None)
    assert job["validation_file_ids"] == []
    assert job["validation_datasets"] == []
    assert isinstance(job["hyper_parameters"], dict)
    assert all(isinstance(job[name], str) for name in ("job_id", "status", "creator", "user_identity", "create_time"))


def test_hyper_parameters_come_back_as_they_were_sent(emulator: Emulator) -> None:
    """Text stays text and only what was set is shown, so a client has to compare numbers."""
    sent = {**CORE, "learning_rate": "1.6e-5", "lora_rank": 64}
    assert emulator.job(hyper_parameters=sent)["hyper_parameters"] == sent


@pytest.mark.parametrize(
    ("position", "ids", "has_objects"),
    [("ids", True, False), ("datasets", False, True)],
)
def test_data_is_echoed_as_ids_or_as_objects(start: Start, position: str, ids: bool, has_objects: bool) -> None:
    emulator = start(jobs__echo_datasets=position)
    train, validate = emulator.upload(chat_rows(40)), emulator.upload(chat_rows(5))
    job = emulator.job(training_file_ids=[train], validation_file_ids=[validate])
    assert job["training_file_ids"] == ([train] if ids else [])
    assert job["validation_file_ids"] == ([validate] if ids else [])
    assert ("training_datasets" in job) == has_objects
    if has_objects:
        assert job["training_datasets"] == [{"data_source_type": "file_id", "file_id": train}]
        assert job["validation_datasets"] == [{"data_source_type": "file_id", "file_id": validate}]


def test_both_ways_to_name_data_are_accepted(emulator: Emulator) -> None:
    file_id = emulator.upload(chat_rows(40))
    described = [{"data_source_type": "file_id", "file_id": file_id}]
    job = emulator.job(training_file_ids=None, training_datasets=described)
    assert job["training_datasets"] == described


def test_mounted_data_is_taken_and_shown_even_where_ids_are_echoed(start: Start) -> None:
    emulator = start(jobs__echo_datasets="ids")
    storage = {"region": "cn-beijing", "bucket": "b", "file_path": "x/data.jsonl"}
    mounted = [{"data_source_type": "oss_mount", "mount_storage": storage}]
    job = emulator.job(training_file_ids=[], training_datasets=mounted)
    assert job["training_datasets"] == mounted
    assert statuses(emulator, job["job_id"])[-1] == "SUCCEEDED"


@pytest.mark.parametrize(("position", "early"), [("on", True), ("off", False)])
def test_the_models_id_may_show_before_there_is_a_model(start: Start, position: str, early: bool) -> None:
    emulator = start(jobs__early_finetuned_output=position)
    job = emulator.job()
    assert ("finetuned_output" in job) == early
    reach(emulator, job["job_id"], "SUCCEEDED")
    assert emulator.job_now(job["job_id"])["finetuned_output"]
    assert emulator.ok("GET", JOBS)["output"]["jobs"][0]["finetuned_output"]


# Life


def test_a_job_alone_never_queues(emulator: Emulator) -> None:
    assert statuses(emulator, emulator.job()["job_id"]) == ["PENDING", "RUNNING", "SUCCEEDED"]


def test_a_finished_job_says_when_and_how_much(emulator: Emulator) -> None:
    rows = lines(chat_row("a" * 396, "b" * 4) for _ in range(40))
    job = emulator.trained(content=rows)
    assert job["status"] == "SUCCEEDED"
    assert job["usage"] == 40 * 100 * CORE["n_epochs"]
    assert job["create_time"] < job["end_time"] < "2026-11-02 15:05:00"


def test_two_thousand_rows_take_about_half_an_hour(emulator: Emulator) -> None:
    """What makes the quickstart take seconds at the embedded speed."""
    job = emulator.job(content=chat_rows(2000))
    emulator.advance(20 * MINUTE)
    assert emulator.job_now(job["job_id"])["status"] == "RUNNING"
    emulator.advance(20 * MINUTE)
    assert emulator.job_now(job["job_id"])["status"] == "SUCCEEDED"


def test_one_job_trains_at_a_time(emulator: Emulator) -> None:
    first, second, third = (emulator.job()["job_id"] for _ in range(3))
    emulator.advance(5 * MINUTE)
    now = {name: emulator.job_now(name)["status"] for name in (first, second, third)}
    assert now == {first: "RUNNING", second: "QUEUING", third: "QUEUING"}
    reach(emulator, first, "SUCCEEDED")
    assert emulator.job_now(second)["status"] == "RUNNING"
    assert statuses(emulator, third) == ["QUEUING", "RUNNING", "SUCCEEDED"]


def test_more_places_train_more_jobs(start: Start) -> None:
    emulator = start(jobs__parallel=2)
    jobs = [emulator.job()["job_id"] for _ in range(3)]
    emulator.advance(5 * MINUTE)
    assert [emulator.job_now(job)["status"] for job in jobs] == ["RUNNING", "RUNNING", "QUEUING"]


def test_places_without_number_cost_nothing(start: Start) -> None:
    emulator = start(jobs__parallel=NUMBER_MAX)
    jobs = [emulator.job()["job_id"] for _ in range(3)]
    emulator.advance(5 * MINUTE)
    assert [emulator.job_now(job)["status"] for job in jobs] == ["RUNNING"] * 3


def test_a_cancel_lets_the_next_one_start(emulator: Emulator) -> None:
    first, second = emulator.job()["job_id"], emulator.job()["job_id"]
    emulator.advance(5 * MINUTE)
    emulator.ok("POST", f"{JOBS}/{first}/cancel")
    emulator.advance(3 * MINUTE)
    assert emulator.job_now(first)["status"] == "CANCELED"
    assert emulator.job_now(second)["status"] == "RUNNING"


def test_nothing_that_was_seen_is_unsaid_by_a_cancel(emulator: Emulator) -> None:
    """Planning the queue anew must not move what has begun, or a status would go backwards."""
    first, second = emulator.job()["job_id"], emulator.job()["job_id"]
    reach(emulator, second, "RUNNING")
    ended = emulator.job_now(first)["end_time"]
    third = emulator.job()["job_id"]
    emulator.ok("POST", f"{JOBS}/{third}/cancel")
    emulator.ok("DELETE", f"{JOBS}/{first}")
    assert emulator.job_now(second)["status"] == "RUNNING"
    assert ended < emulator.ok("GET", "/_emulator/info")["now"]


def test_the_same_seed_gives_the_same_durations(start: Start, tmp_path: Any) -> None:
    ends = [start(tmp_path / name, seed=seed).trained()["end_time"] for name, seed in (("a", 5), ("b", 5), ("c", 6))]
    assert ends[0] == ends[1] != ends[2]


# Checked at once


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"model": "gpt-4"}, "Model not exist."),
        ({"model": None}, "Required parameter(model) missing"),
        ({"training_file_ids": []}, "Missing training files"),
        ({"training_file_ids": None}, "Missing training files"),
        ({"training_file_ids": "file"}, "Required parameter(training_file_ids) missing"),
        ({"training_file_ids": ["no-such-file"]}, "File no-such-file not found."),
        ({"validation_file_ids": ["no-such-file"]}, "File no-such-file not found."),
        ({"training_type": "rlhf"}, "Required parameter(training_type) missing"),
        ({"hyper_parameters": [1]}, "Required parameter(hyper_parameters) missing"),
        ({"hyper_parameters": {**CORE, "batch_size": 4}}, "Required parameter(batch_size) missing"),
        ({"hyper_parameters": {**CORE, "n_epochs": 2.5}}, "Required parameter(n_epochs) missing"),
        ({"hyper_parameters": {**CORE, "n_epochs": "many"}}, "Required parameter(n_epochs) missing"),
        ({"hyper_parameters": {**CORE, "n_epochs": True}}, "Required parameter(n_epochs) missing"),
        ({"hyper_parameters": {**CORE, "max_length": "1e999999999"}}, "Required parameter(max_length) missing"),
        ({"hyper_parameters": {**CORE, "lr_scheduler_type": "zigzag"}}, "Required parameter(lr_scheduler_type)"),
        ({"hyper_parameters": {**CORE, "freeze_vit": "perhaps"}}, "Required parameter(freeze_vit) missing"),
        ({"finetuned_output_suffix": "a/b"}, "Required parameter(finetuned_output_suffix) missing"),
        ({"training_datasets": [{"data_source_type": "url"}]}, "Required parameter(training_datasets) missing"),
    ],
)
def test_a_wrong_request_is_refused_and_costs_nothing(emulator: Emulator, members: Any, message: str) -> None:
    body = {
        "model": "qwen3.5-9b",
        "training_type": "sft",
        "training_file_ids": [emulator.upload(chat_rows(40))],
        "hyper_parameters": CORE,
        **members,
    }
    status, code, said = emulator.refused("POST", JOBS, json=body)
    assert (status, code) == (400, "InvalidParameter")
    assert said.startswith(message)
    assert [entry["operation"] for entry in emulator.ledger()] == ["files.create"]


@pytest.mark.parametrize(
    "storage",
    [
        {"region": "eu", "bucket": "b", "file_path": "data.jsonl"},
        {"region": "cn-beijing", "bucket": "b", "file_path": "data.zip"},
        {"region": "cn-beijing", "file_path": "data.jsonl"},
    ],
)
def test_a_mount_needs_region_bucket_and_a_text_file(emulator: Emulator, storage: dict[str, str]) -> None:
    mounted = [{"data_source_type": "oss_mount", "mount_storage": storage}]
    body = {"model": "qwen3.5-9b", "training_datasets": mounted, "hyper_parameters": CORE}
    assert emulator.refused("POST", JOBS, json=body)[:2] == (400, "InvalidParameter")


@pytest.mark.parametrize(("position", "status"), [("on", 400), ("off", 200)])
def test_the_core_hyper_parameters_are_required_where_the_pages_say_so(
    start: Start, position: str, status: int
) -> None:
    emulator = start(jobs__require_core_hparams=position)
    body = {"model": "qwen3.5-9b", "training_type": "sft", "training_file_ids": [emulator.upload(chat_rows(40))]}
    assert emulator.call("POST", JOBS, json={**body, "hyper_parameters": {"n_epochs": 1}}).status_code == status


def test_numbers_may_come_as_text_and_words_in_any_case(emulator: Emulator) -> None:
    """The 1.20 command sends every extra hyper-parameter as a string; pages differ in letter case."""
    hyper = {"n_epochs": "3", "batch_size": "16", "max_length": "2048", "lr_scheduler_type": "COSINE"}
    assert emulator.job(hyper_parameters=hyper)["status"] == "PENDING"


def test_an_unknown_hyper_parameter_passes(emulator: Emulator) -> None:
    assert emulator.job(hyper_parameters={**CORE, "flux": 1})["hyper_parameters"]["flux"] == 1


def test_continued_pre_training_is_refused_in_december_2024(old: Emulator) -> None:
    body = {"model": "qwen-turbo", "training_type": "cpt", "training_file_ids": [old.upload(b'{"text": "x"}')]}
    assert old.refused("POST", JOBS, json=body)[:2] == (400, "InvalidParameter")


def test_data_set_objects_do_not_exist_in_december_2024(old: Emulator) -> None:
    described = [{"data_source_type": "file_id", "file_id": old.upload(chat_rows(40))}]
    body = {"model": "qwen-turbo", "training_datasets": described, "hyper_parameters": {}}
    assert old.refused("POST", JOBS, json=body) == (400, "InvalidParameter", "Missing training files")


def test_a_suffix_names_one_model(emulator: Emulator) -> None:
    """The refusal is what keeps a repeated create from buying twice."""
    first = emulator.job(finetuned_output_suffix="tag1")
    body = {"model": "qwen3.5-9b", "training_file_ids": [emulator.upload(chat_rows(40))], "hyper_parameters": CORE}
    again = emulator.refused("POST", JOBS, json={**body, "finetuned_output_suffix": "tag1"})
    name = first["finetuned_output"]
    assert again == (409, "Conflict", f"Model instance {name} already exists, please specify a suffix")
    assert emulator.ok("GET", JOBS)["output"]["total"] == 1


def test_the_suffix_of_a_job_that_made_nothing_is_free_again(emulator: Emulator) -> None:
    first = emulator.job(finetuned_output_suffix="tag1")
    emulator.ok("POST", f"{JOBS}/{first['job_id']}/cancel")
    reach(emulator, first["job_id"], "CANCELED")
    assert emulator.job(finetuned_output_suffix="tag1")["status"] == "PENDING"


def test_the_quota_counts_unfinished_and_succeeded_jobs(start: Start) -> None:
    emulator = start(jobs__quota_running_plus_succeeded=2)
    body = {"model": "qwen3.5-9b", "training_file_ids": [emulator.upload(chat_rows(40))], "hyper_parameters": CORE}
    first = emulator.job()["job_id"]
    second = emulator.job()["job_id"]
    message = "Only 2 fine-tune job in running or succeeded allowed per user."
    assert emulator.refused("POST", JOBS, json=body) == (429, "Throttling", message)
    emulator.ok("POST", f"{JOBS}/{second}/cancel")
    reach(emulator, second, "CANCELED")
    emulator.ok("POST", JOBS, json=body)
    reach(emulator, first, "SUCCEEDED")
    assert emulator.refused("POST", JOBS, json=body) == (429, "Throttling", message)


# Found out later


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"training_type": "dpo_lora"}, "The model qwen3.5-9b does not support training type dpo_lora."),
        ({"content": chat_rows(40)[:-9]}, "line 40 is not JSON in UTF-8."),
        ({"content": dpo_rows(40)}, "line 1 has no message of the assistant."),
        ({"content": b""}, "No row is left to train on"),
        ({"content": lines([chat_row("a" * 9000, "b")] * 40)}, "No row is left to train on"),
        (
            {"content": archive({"data.jsonl": image_rows(40), "a.png": b""})},
            "an archive with pictures, and qwen3.5-9b takes text only.",
        ),
    ],
)
def test_what_cannot_be_trained_is_accepted_and_fails_minutes_later(
    emulator: Emulator, members: Any, message: str
) -> None:
    seen, code, said = failure(emulator, **members)
    assert seen == ["PENDING", "FAILED"]
    assert code == "InvalidParameter"
    assert message in said


def test_fewer_rows_than_a_batch_fail_after_some_ten_minutes(emulator: Emulator) -> None:
    seen, _, message = failure(emulator, content=chat_rows(15))
    assert seen == ["PENDING", "RUNNING", "FAILED"]
    assert message == "15 rows are fewer than batch_size 16."


def test_as_many_rows_as_a_batch_are_enough(emulator: Emulator) -> None:
    assert emulator.trained(content=chat_rows(16))["status"] == "SUCCEEDED"


def test_a_bad_validation_file_fails_the_job_too(emulator: Emulator) -> None:
    bad = emulator.upload(b"no json\n")
    seen, _, message = failure(emulator, validation_file_ids=[bad])
    assert seen == ["PENDING", "FAILED"]
    assert bad in message


def test_a_file_without_its_bytes_fails_the_job(emulator: Emulator) -> None:
    """Somebody emptied the upload folder: it must not pass for data of unknown size."""
    file_id = emulator.upload(chat_rows(40))
    (emulator.backend.uploads / file_id).unlink()
    _, _, message = failure(emulator, training_file_ids=[file_id])
    assert message == f"File {file_id}: its content is gone."


def test_a_failed_job_takes_no_place_in_the_queue(emulator: Emulator) -> None:
    emulator.job(content=b"")
    second = emulator.job()["job_id"]
    emulator.advance(2 * MINUTE)
    assert emulator.job_now(second)["status"] == "RUNNING"


def test_pictures_train_a_model_that_sees(emulator: Emulator) -> None:
    packed = archive({"data.jsonl": image_rows(40), "a.png": b"png"})
    job = emulator.trained(model="qwen3-vl-8b-instruct", content=packed)
    assert job["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("model", "training_type", "content"),
    [
        ("qwen3-8b", "dpo_full", dpo_rows(40)),
        ("qwen3-8b", "dpo_lora", dpo_rows(40)),
        ("qwen3-32b", "cpt", lines([{"text": "text"}] * 40)),
    ],
)
def test_every_other_training_type_succeeds_on_its_own_rows(
    emulator: Emulator, model: str, training_type: str, content: bytes
) -> None:
    assert emulator.trained(model=model, training_type=training_type, content=content)["status"] == "SUCCEEDED"


def test_dropped_rows_are_not_billed(emulator: Emulator) -> None:
    short, long = chat_row("a" * 36, "b" * 4), chat_row("a" * 9000, "b")
    job = emulator.trained(content=lines([short] * 40 + [long] * 5))
    assert job["usage"] == 40 * 10 * CORE["n_epochs"]


# Tuning again


def test_a_tuned_model_is_tuned_again(emulator: Emulator) -> None:
    first = emulator.trained()
    second = emulator.job(model=first["finetuned_output"])
    assert (second["model"], second["base_model"]) == (first["finetuned_output"], "qwen3.5-9b")
    assert second["finetuned_output"].startswith(f"{first['finetuned_output']}-ft-")


def test_a_model_that_is_not_finished_is_no_model(emulator: Emulator) -> None:
    job = emulator.job()
    body = {"model": job["finetuned_output"], "training_file_ids": [emulator.upload(chat_rows(40))]}
    assert emulator.refused("POST", JOBS, json={**body, "hyper_parameters": CORE})[2] == "Model not exist."


def test_lora_parameters_must_be_repeated(emulator: Emulator) -> None:
    first = emulator.trained(hyper_parameters={**CORE, "lora_rank": 64})
    assert (
        emulator.trained(model=first["finetuned_output"], hyper_parameters={**CORE, "lora_rank": "64"})["status"]
        == "SUCCEEDED"
    )
    _, _, message = failure(emulator, model=first["finetuned_output"], hyper_parameters={**CORE, "lora_rank": 8})
    assert message == "lora_rank must repeat the value of the first training."


# List


def test_the_list_is_newest_first_and_filters_by_model(emulator: Emulator) -> None:
    first = emulator.job()["job_id"]
    second = emulator.job(model="qwen3-8b")["job_id"]
    output = emulator.ok("GET", JOBS)["output"]
    assert (output["total"], output["page_no"], output["page_size"]) == (2, 1, 10)
    assert [job["job_id"] for job in output["jobs"]] == [second, first]
    assert [job["job_id"] for job in emulator.ok("GET", f"{JOBS}?model=qwen3.5-9b")["output"]["jobs"]] == [first]
    assert emulator.ok("GET", f"{JOBS}?page_no=3&page_size=1")["output"]["jobs"] == []


def test_the_largest_page_grew(emulator: Emulator, start: Start, tmp_path: Any) -> None:
    assert emulator.call("GET", f"{JOBS}?page_size=1000").status_code == 200
    old = start(tmp_path / "old", profile="dec-2024")
    assert old.call("GET", f"{JOBS}?page_size=100").status_code == 200
    assert old.call("GET", f"{JOBS}?page_size=101").status_code == 400


def test_an_unknown_job_is_not_found_by_any_verb(emulator: Emulator) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/logs"), ("GET", "/stream")):
        assert emulator.refused(method, f"{JOBS}/ft-0{path}") == (404, "NotFound", "Not found!")


# Cancel and delete


def test_a_canceled_job_is_billed_for_what_was_trained(emulator: Emulator) -> None:
    job_id = emulator.job()["job_id"]
    reach(emulator, job_id, "RUNNING")
    emulator.advance(5 * MINUTE)
    assert emulator.ok("POST", f"{JOBS}/{job_id}/cancel")["output"] == {"status": "success"}
    assert statuses(emulator, job_id) == ["CANCELING", "CANCELED"]
    job = emulator.job_now(job_id)
    whole = next(entry for entry in emulator.ledger() if entry["operation"] == "jobs.create")
    assert 0 < job["usage"] < whole["tokens"] * whole["epochs"]
    assert job["code"] == "1"


def test_a_cancel_can_lose_the_race(emulator: Emulator) -> None:
    """The reply says success and the job succeeds all the same: only the status decides."""
    job_id = emulator.job()["job_id"]
    backend = emulator.backend
    with backend.transaction() as tx:
        ends_s = tx.get("jobs", job_id)["schedule"][-1][0]  # type: ignore[index]  # the job was just made
        now_s = tx.now_s
    emulator.advance(ends_s - now_s - 5)
    emulator.ok("POST", f"{JOBS}/{job_id}/cancel")
    assert statuses(emulator, job_id, every_s=1) == ["CANCELING", "SUCCEEDED"]


@pytest.mark.parametrize(("position", "status"), [("running", 400), ("non-terminal", 200)])
def test_who_may_be_canceled_before_it_trains(start: Start, position: str, status: int) -> None:
    emulator = start(jobs__cancel_allowed_from=position)
    job_id = emulator.job()["job_id"]
    assert emulator.call("POST", f"{JOBS}/{job_id}/cancel").status_code == status
    running = emulator.job()["job_id"]
    reach(emulator, running, "RUNNING")
    assert emulator.call("POST", f"{JOBS}/{running}/cancel").status_code == 200


def test_a_finished_job_cannot_be_canceled(emulator: Emulator) -> None:
    job = emulator.trained()
    message = "The fine-tune job can not be canceled because it is succeeded or failed"
    refused = emulator.refused("POST", f"{JOBS}/{job['job_id']}/cancel")
    assert refused == (400, "UnsupportedOperation", message)


def test_canceling_twice_is_one_cancel(emulator: Emulator) -> None:
    job_id = emulator.job()["job_id"]
    for _ in range(2):
        emulator.ok("POST", f"{JOBS}/{job_id}/cancel")
    assert [entry["operation"] for entry in emulator.ledger()].count("jobs.cancel") == 1


@pytest.mark.parametrize(
    ("position", "while_running", "when_finished"),
    [("running", 400, 200), ("terminal", 200, 400), ("never", 200, 200)],
)
def test_when_deleting_is_refused_is_disputed(
    start: Start, position: str, while_running: int, when_finished: int
) -> None:
    emulator = start(jobs__delete_refused_when=position)
    finished, running = emulator.trained()["job_id"], emulator.job()["job_id"]
    reach(emulator, running, "RUNNING")
    answers = {name: emulator.call("DELETE", f"{JOBS}/{name}") for name in (running, finished)}
    assert [answers[running].status_code, answers[finished].status_code] == [while_running, when_finished]
    for answer in answers.values():
        body = answer.json()
        assert body.get("output") == {"status": "success"} or body["code"] == "UnsupportedOperation"


def test_a_deleted_job_is_gone_and_its_model_is_not(emulator: Emulator) -> None:
    job = emulator.trained()
    emulator.ok("DELETE", f"{JOBS}/{job['job_id']}")
    assert emulator.refused("GET", f"{JOBS}/{job['job_id']}")[0] == 404
    assert emulator.deploy(model_name=job["finetuned_output"])["status"] == "PENDING"


def test_deleting_a_running_job_frees_its_place(start: Start) -> None:
    emulator = start(jobs__delete_refused_when="never")
    first, second = emulator.job()["job_id"], emulator.job()["job_id"]
    reach(emulator, first, "RUNNING")
    emulator.advance(2 * MINUTE)
    emulator.ok("DELETE", f"{JOBS}/{first}")
    assert emulator.job_now(second)["status"] == "RUNNING"


# Logs


def test_the_log_grows_with_the_training_and_ends_with_the_bill(emulator: Emulator) -> None:
    job_id = emulator.job(content=chat_rows(400))["job_id"]
    path = f"{JOBS}/{job_id}/logs?offset=0&line=1000"
    lengths = []
    for _ in range(4):
        lengths.append(emulator.ok("GET", path)["output"]["total"])
        emulator.advance(6 * MINUTE)
    assert lengths == sorted(set(lengths))
    emulator.advance(HOUR)
    log = emulator.ok("GET", path)["output"]["logs"]
    assert all("[emulator]" in line for line in log)
    assert f"Actual number of consumed tokens is {emulator.job_now(job_id)['usage']}!" in log[-3]
    assert "##FT_COMPLETE##" in log[-1]


def test_offset_skips_lines_and_line_counts_them(emulator: Emulator) -> None:
    job_id = emulator.trained(content=chat_rows(400))["job_id"]
    whole = emulator.ok("GET", f"{JOBS}/{job_id}/logs?line=1000")["output"]
    part = emulator.ok("GET", f"{JOBS}/{job_id}/logs?offset=1&line=3")["output"]
    assert (part["total"], part["logs"]) == (whole["total"], whole["logs"][1:4])
    assert emulator.ok("GET", f"{JOBS}/{job_id}/logs?offset=100000")["output"]["logs"] == []
    assert emulator.call("GET", f"{JOBS}/{job_id}/logs?line=1001").status_code == 400


def test_a_failed_job_says_why_in_its_log(emulator: Emulator) -> None:
    job_id = emulator.trained(content=b"")["job_id"]
    log = emulator.ok("GET", f"{JOBS}/{job_id}/logs")["output"]["logs"]
    assert "No row is left" in log[-2]


def test_the_event_stream_of_a_finished_job_is_its_log(emulator: Emulator) -> None:
    """One `data:` line for each log line, a blank line after every frame, closed at the end."""
    job_id = emulator.trained()["job_id"]
    answer = emulator.call("GET", f"{JOBS}/{job_id}/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    log = emulator.ok("GET", f"{JOBS}/{job_id}/logs?line=1000")["output"]["logs"]
    assert answer.text == "".join(f"data:{line}\n\n" for line in log)


# The ledger


def test_the_ledger_has_the_bill_and_the_marks_of_a_create(emulator: Emulator) -> None:
    content = lines([chat_row("a" * 396, "b" * 4)] * 40)
    job = emulator.job(content=content, job_name="mark", finetuned_output_suffix="tag1", model_name="shown")
    entry = emulator.ledger()[-1]
    assert (entry["operation"], entry["id"], entry["unit"]) == ("jobs.create", job["job_id"], "once")
    assert (entry["job_name"], entry["suffix"], entry["model_name"]) == ("mark", "tag1", "shown")
    assert (entry["tokens"], entry["epochs"], entry["cny_per_1k_tokens"]) == (4000, 3, 0.02)
    assert entry["price_cny"] == 0.24


def test_an_unknown_price_is_null_in_the_ledger(emulator: Emulator) -> None:
    emulator.job(model="qwen3.5-flash-2026-02-23", training_type="sft")
    assert emulator.ledger()[-1]["price_cny"] is None
