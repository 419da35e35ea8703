"""The `dashscope` command of 1.20.14, typed as its users typed it in December 2024.

Errors of the service are printed and leave exit status 0: that is how this command is. It polls every 30 seconds and
follows a running job's event stream, so where it waits for a job, time runs by itself as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.conformance import facts, vendor
from tests.conformance.vendor import Typist
from tests.desk import Emulator

MODEL = "qwen-turbo"
Start = Callable[..., Emulator]
SitDown = Callable[[str, Emulator, str], Typist]


@pytest.fixture
def service(start: Start) -> Emulator:
    return start(profile=facts.OLD)


@pytest.fixture
def dashscope(typist: SitDown, service: Emulator) -> Typist:
    return typist(vendor.OLD, service, facts.OLD)


@pytest.fixture
def running(start: Start) -> Emulator:
    """Time goes by."""
    return start(profile=facts.OLD, speed=facts.FAST)


@pytest.fixture
def waiting(typist: SitDown, running: Emulator) -> Typist:
    """The command where it follows a job."""
    return typist(vendor.OLD, running, facts.OLD)


def uploaded(dashscope: Typist, path: str, purpose: str = "fine_tune") -> str:
    printed = dashscope("files.upload", "-f", path, "-p", purpose, says="Upload success, file id: ")
    return printed.rpartition("file id: ")[2].strip()


def test_files(dashscope: Typist, files: dict[str, str]) -> None:
    """`description` and `gmt_create` must be there, or get and list end in a traceback."""
    first = uploaded(dashscope, files["sft"])
    said = dashscope("files.upload", "-f", files["dpo"], "-p", "-d", "客服", says="Upload success")
    second = said.rpartition("file id: ")[2].strip()
    dashscope("files.get", "-i", second, says=f"file_id: {second}, name: dpo.jsonl, description: 客服")
    dashscope("files.list", says=(f"file_id: {first}, name: sft.jsonl, description: , time: 2", second))
    page = dashscope("files.list", "-s", "2", "-p", "1", says=first)
    assert second not in page
    dashscope("files.delete", "-i", first, says="Delete success")
    gone = ("status_code: 400", "code: InvalidParameter, message: File not found.")
    dashscope("files.get", "-i", first, says=("Failed, request_id: ", *gone))
    dashscope("files.delete", "-i", first, says=("Failed, request_id: ", *gone))


def test_an_archive_needs_another_word(dashscope: Typist, files: dict[str, str], service: Emulator) -> None:
    """Under its own word for the purpose the command refuses locally, with a traceback."""
    dashscope("files.upload", "-f", files["zip"], "-p", says="Traceback", exits=1)
    assert service.operations() == []
    uploaded(dashscope, files["zip"], purpose="fine-tune")


def test_a_job_followed_to_its_end(waiting: Typist, running: Emulator, files: dict[str, str]) -> None:
    """Polls, follows the stream while the job runs, polls again, and reports the model; then the log, and it goes."""
    options = ("--mode", "sft", "-e", "2", "-b", "8", "-l", "0.00001", "--hyper_parameters", "max_length=2048")
    file_id = uploaded(waiting, files["sft"])
    printed = waiting(
        "fine_tunes.call", "-m", MODEL, "-t", file_id, *options,
        says=(
            "Create fine-tune job success, job_id: ft-",
            "The fine-tune task is: PENDING",
            "Fine-tuning is RUNNING, start get output stream.",
            "##FT_COMPLETE##",
            f"Fine-tune task success, fine-tuned model:{MODEL}-ft-",
        ),
    )  # fmt: skip
    job_id = re.findall(r"job_id: (\S+)", printed)[0]
    sent = [entry["hyper_parameters"] for entry in running.ledger() if entry["operation"] == "jobs.create"]
    assert sent == [{"n_epochs": 2, "batch_size": 8, "learning_rate": 1e-5, "max_length": "2048"}]
    waiting("fine_tunes.get", "-j", job_id, says=f"Fine-tune task success, fine-tuned model : {MODEL}-{job_id}")
    waiting("fine_tunes.list", says=f"job: {job_id}, status: SUCCEEDED, base model: {MODEL}, fine-tuned model: {MODEL}")
    log = waiting("fine_tunes.stream", "-j", job_id, says=(f"Fine-tune job: {job_id} is SUCCEEDED", "##FT_COMPLETE##"))
    assert f"job {job_id} accepted" not in log, "the command asks from line 1 on, which is the second"
    waiting("fine_tunes.delete", "-j", job_id, says=f"fine_tune job: {job_id} delete success")
    waiting("fine_tunes.get", "-j", job_id, says=("status_code: 404, code: NotFound", "Not found!"))


def test_a_job_that_fails(waiting: Typist, files: dict[str, str]) -> None:
    file_id = uploaded(waiting, files["cpt"])
    waiting("fine_tunes.call", "-m", MODEL, "-t", file_id, "--mode", "sft", says="Fine-tune FAILED!")


def test_canceling(dashscope: Typist, service: Emulator, files: dict[str, str]) -> None:
    """The literal %s is the command's own; page 1 is all its list ever asks for."""
    file_id = uploaded(dashscope, files["sft"])
    body = {"model": MODEL, "training_file_ids": [file_id], "training_type": "sft", "hyper_parameters": {}}
    job_id = service.call("POST", "/fine-tunes", body)["output"]["job_id"]
    dashscope("fine_tunes.get", "-j", job_id, says="The fine-tune task is: PENDING")
    dashscope("fine_tunes.list", "-s", "2", "-p", "1", says=f"job: {job_id}, status: PENDING, base model: {MODEL}")
    dashscope("fine_tunes.delete", "-j", job_id, says=("status_code: 400, code: UnsupportedOperation",))
    dashscope("fine_tunes.cancel", "-j", job_id, says="Cancel fine-tune job: %s success!")
    service.control("clock", {"advance_s": 100})
    dashscope("fine_tunes.get", "-j", job_id, says="Fine-tune task canceled")
    dashscope("fine_tunes.cancel", "-j", job_id, says="can not be canceled because it is succeeded or failed")


def test_several_files(waiting: Typist, running: Emulator, files: dict[str, str]) -> None:
    """`-t a b` gives both; of `-t a -t b` only the last one arrives."""
    first, second = uploaded(waiting, files["sft"]), uploaded(waiting, files["sft"])
    waiting("fine_tunes.call", "-m", MODEL, "-t", first, second, says="Fine-tune task success")
    waiting("fine_tunes.call", "-m", MODEL, "-t", first, "-t", second, says="Fine-tune task success")
    jobs = [entry for entry in running.ledger() if entry["operation"] == "jobs.create"]
    assert [[data["file_id"] for data in job["training"]] for job in jobs] == [[first, second], [second]]


def test_a_deployment(dashscope: Typist) -> None:
    """Polled to RUNNING, shown, listed, called, scaled and deleted."""
    name = f"{MODEL}-one"
    dashscope(
        "deployments.call", "-m", MODEL, "-s", "one", "-c", "2",
        says=(f"Create model: {name} deployment", f"{name} is DEPLOYING", f"Deployment: {name} status: RUNNING"),
    )  # fmt: skip
    dashscope("deployments.get", "-d", name, says=f"Deployed model: {name} capacity: 2 status: RUNNING")
    dashscope("deployments.list", says=f"Deployed_model: {name}, model: {MODEL}, status: RUNNING")
    dashscope("deployments.list", "-s", "2", says="There is no deployed model!")
    dashscope("deployments.call", "-m", MODEL, "-s", "one", says=("status_code: 409, code: Conflict", "already exists"))
    dashscope.emulator.control("clock", {"advance_s": 60})
    dashscope("generation.call", "-m", name, "-p", "你是谁?", says=(f"{name} was asked: 你是谁?", '"total_tokens": '))
    dashscope("generation.call", "-m", name, "-p", "hello", "-s", says=("was asked: hello", '"finish_reason": "stop"'))
    dashscope(
        "deployments.scale", "-d", name, "-c", "3", says=f"Deployed_model: {name}, model: {MODEL}, status: PENDING"
    )
    dashscope("deployments.delete", "-d", name, says=f"Deployed model: {name} delete success")
    dashscope.emulator.control("clock", {"advance_s": 100})
    dashscope("deployments.get", "-d", name, says=("status_code: 404, code: NotFound", f"Model: {name} not found!"))


def test_refusals(dashscope: Typist) -> None:
    """Printed, with exit status 0."""
    key = ("status_code: 401, code: InvalidApiKey", "Invalid API-key provided.")
    dashscope("-k", "sk-other", "files.list", says=key)
    dashscope("fine_tunes.cancel", "-j", "ft-nobody", says="status_code: 404, code: NotFound, message: Not found!")
    dashscope("fine_tunes.stream", "-j", "ft-nobody", says="status_code: 404, code: NotFound, message: Not found!")
    dashscope("deployments.scale", "-d", "nobody", "-c", "2", says="status_code: 404, code: NotFound")
    dashscope("deployments.delete", "-d", "nobody", says="status_code: 404, code: NotFound")
    dashscope("deployments.call", "-m", MODEL, "-c", "-2", says="Invalid capacity (-2)")
    dashscope("fine_tunes.call", "-m", MODEL, "-t", "nobody", says="status_code: 400, code: InvalidParameter")
    dashscope("generation.call", "-m", "nobody", "-p", "hello", says="status_code: 404, code: ModelNotFound")


def test_an_empty_key_where_any_would_do(start: Start, typist: SitDown) -> None:
    """An empty variable goes out as `Bearer ` with nothing behind."""
    dashscope = typist(vendor.OLD, start(profile=facts.OLD, api_key=None), facts.OLD)
    dashscope("deployments.list", says="There is no deployed model!", DASHSCOPE_API_KEY="any")
    dashscope("deployments.list", says="status_code: 401, code: InvalidApiKey", DASHSCOPE_API_KEY="")


def test_what_it_does_not_know(dashscope: Typist) -> None:
    """DPO and rate limits are for the API: usage errors here."""
    dashscope("fine_tunes.call", "-m", MODEL, "-t", "a", "--mode", "dpo_lora", says="invalid choice", exits=2)
    dashscope("deployments.update", says="invalid choice", exits=2)


def test_today_it_cannot_deploy(start: Start, typist: SitDown) -> None:
    """Since 2026 a deployment needs a plan, which this command has no word for; jobs still go by extra parameters."""
    dashscope = typist(vendor.OLD, start(profile=facts.NEW), facts.NEW)
    dashscope("deployments.call", "-m", "qwen3.5-9b", "-c", "4", says=("status_code: 400", "parameter(plan)"))
    dashscope("fine_tunes.call", "-m", "qwen3.5-9b", "-t", "x", says="status_code: 400, code: InvalidParameter")


def test_a_job_today(start: Start, typist: SitDown, files: dict[str, str]) -> None:
    dashscope = typist(vendor.OLD, start(profile=facts.NEW, speed=facts.FAST), facts.NEW)
    file_id = uploaded(dashscope, files["sft"])
    options = ("--mode", "efficient_sft", "-e", "1", "-b", "8", "--hyper_parameters", "max_length=2048")
    dashscope("fine_tunes.call", "-m", "qwen3.5-9b", "-t", file_id, *options, says="Fine-tune task success")
