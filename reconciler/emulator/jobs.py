"""Fine-tune jobs: create, read, cancel, delete, logs and the event stream (contract §2).

A create is checked as far as the service checks it at once; data that cannot be trained on lets the job fail some
minutes later, as it would there. One job trains at a time: the queue is planned anew whenever a job comes or goes, and
what has begun is never moved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from reconciler.emulator import clock, models, phrases, queue, training
from reconciler.emulator.account import account_id, workspace_id
from reconciler.emulator.backend import Backend, Transaction
from reconciler.emulator.checkpoints import newest_output, saved_steps
from reconciler.emulator.dataset import Survey
from reconciler.emulator.fields import Json, query_integer
from reconciler.emulator.orders import Order, foreseen, read_order, survey_all, surveyed
from reconciler.emulator.refusal import Refusal, conflict, unsupported
from reconciler.emulator.schemas import OBJECT, TEXT, WHOLE, answer, like, numbered, paged, several, shape, word
from reconciler.emulator.switches import NEW
from reconciler.emulator.training import Job, Status, from_json
from reconciler.emulator.wire import Call, Frames, Reply, Route, json_call, page

BATCH_SIZE_DEFAULT = 16
FOLLOW_DELAY_S = 0.1


async def receive(request: Request, backend: Backend) -> Call:
    """Reads the training files before the transaction: they may be large, and everybody else would wait."""
    call = await json_call(request, backend)
    surveys = await run_in_threadpool(survey_all, backend, call.body)
    return replace(call, surveys=surveys)


def create(tx: Transaction, call: Call) -> Reply:
    if call.body.get("training_type") == phrases.TRAINING_TYPE:
        return phrases.write(tx, call)
    order = read_order(tx, call.body)
    _check_quota(tx)
    _check_suffix(tx, order)
    job = _insert(tx, order, call.surveys)
    queue.plan(tx)
    price = order.model.base.training_price
    tx.record(
        job.job_id,
        price_cny=None if price is None else price * job.consumed_tokens / 1000,
        model=job.model,
        training_type=job.training_type,
        job_name=order.job_name,
        model_name=order.model_name,
        suffix=order.suffix,
        training=order.training,
        validation=order.validation,
        hyper_parameters=order.hyper_parameters,
        tokens=job.tokens,
        epochs=job.epochs,
        cny_per_1k_tokens=None if price is None else float(price),
    )
    return {"output": view(tx, queue.existing(tx, job.job_id))}


def get(tx: Transaction, call: Call) -> Reply:
    return {"output": view(tx, queue.existing(tx, call.path["job_id"]))}


def listing(tx: Transaction, call: Call) -> Reply:
    number, size = page(call, size=10, most=1000 if tx.profile == NEW else 100)
    model = call.query.get("model")
    total, rows = tx.page(queue.COLLECTION, number, size, **({"model": model} if model else {}))
    shown = [view(tx, from_json(row)) for row in rows]
    return {"output": {"page_no": number, "page_size": size, "total": total, "jobs": shown}}


def cancel(tx: Transaction, call: Call) -> Reply:
    job = queue.existing(tx, call.path["job_id"])
    status = job.status(tx.now_s)
    only_running = tx.switches.choice("jobs.cancel_allowed_from") == "running"
    if status in training.TERMINAL or (only_running and status in (Status.PENDING, Status.QUEUING)):
        raise unsupported("The fine-tune job can not be canceled because it is succeeded or failed")
    if status != Status.CANCELING:
        takes_s = tx.draw(queue.COLLECTION).uniform(30, 90)
        queue.save(tx, replace(job, schedule=training.canceled(job, tx.now_s, takes_s=takes_s)))
        queue.plan(tx)
        tx.record(job.job_id)
    return {"output": {"status": "success"}}


def delete(tx: Transaction, call: Call) -> Reply:
    job = queue.existing(tx, call.path["job_id"])
    terminal = job.is_terminal(tx.now_s)
    refused = tx.switches.choice("jobs.delete_refused_when")
    if refused == "terminal" and terminal:
        raise unsupported("The fine-tune job can not be deleted because it is succeeded,failed or canceled")
    if refused == "running" and not terminal:
        raise unsupported("The fine-tune job can not be deleted because it is running")
    tx.remove(queue.COLLECTION, job.job_id)
    if job.status(tx.now_s) != Status.SUCCEEDED:
        tx.remove(models.COLLECTION, job.finetuned_output)
    queue.plan(tx)
    tx.record(job.job_id)
    return {"output": {"status": "success"}}


def logs(tx: Transaction, call: Call) -> Reply:
    job = queue.existing(tx, call.path["job_id"])
    offset = query_integer(call.query, "offset", 0, least=0, most=10**9)
    count = query_integer(call.query, "line", 100, least=1, most=1000)
    lines = training.log(job, tx.now_s)
    return {"output": {"total": len(lines), "logs": lines[offset : offset + count]}}


def stream(tx: Transaction, call: Call) -> Reply:
    job = queue.existing(tx, call.path["job_id"])
    return Frames(_follow(tx.backend, job.job_id))


def uses_file(tx: Transaction, file_id: str) -> bool:
    """Whether an unfinished job was given this file."""
    jobs = queue.unfinished(tx)
    return any(file_id == data.get("file_id") for job in jobs for data in (*job.training, *job.validation))


def view(tx: Transaction, job: Job) -> Json:
    """The job object of contract §2.3, as this profile and its switches show it."""
    status = job.status(tx.now_s)
    terminal = status in training.TERMINAL
    shown: Json = {
        "job_id": job.job_id,
        "job_name": job.job_name,
        "status": status,
        "model": job.model,
        "base_model": job.base_model,
        "training_type": job.training_type,
        "hyper_parameters": job.hyper_parameters,
        **_data_view(tx, job),
        "create_time": clock.spaced(job.created_s),
        "user_identity": account_id(tx),
        "creator": account_id(tx),
        "modifier": account_id(tx),
        "group": "llm",
    }
    if status == Status.SUCCEEDED or tx.switches.on("jobs.early_finetuned_output"):
        shown["finetuned_output"] = newest_output(tx, job)
    if terminal:
        shown["end_time"] = clock.spaced(job.ended_s())
    if status in (Status.SUCCEEDED, Status.CANCELED):
        shown["usage"] = int(job.consumed_tokens * training.progress(job, tx.now_s))
    if status == Status.FAILED:
        shown |= {"code": job.code, "message": job.message}
    if status == Status.CANCELED:
        shown |= {"code": "1", "message": "canceled"}
    if tx.profile == NEW:
        kept = training.whole(job.hyper_parameters, "save_total_limit", 1)
        output_count = len(saved_steps(job, tx.now_s))
        shown |= {"workspace_id": workspace_id(tx), "output_cnt": output_count, "max_output_cnt": kept}
    return shown


def _check_quota(tx: Transaction) -> None:
    quota = tx.switches.number("jobs.quota_running_plus_succeeded")
    if tx.count_and_size(queue.COLLECTION)[0] < quota:
        return
    counted = [job for job in queue.all_jobs(tx) if job.status(tx.now_s) not in (Status.FAILED, Status.CANCELED)]
    if len(counted) >= quota:
        message = f"Only {quota} fine-tune job in running or succeeded allowed per user."
        raise Refusal(429, "Throttling", message)


def _check_suffix(tx: Transaction, order: Order) -> None:
    """A suffix names one model of the account; that of a job that made none is free again."""
    if not order.suffix:
        return
    for record in tx.all(models.COLLECTION, suffix=order.suffix):
        job = tx.get(queue.COLLECTION, record["job_id"])
        if job is None or from_json(job).status(tx.now_s) not in (Status.FAILED, Status.CANCELED):
            raise conflict(f"Model instance {record['model_id']} already exists, please specify a suffix")


def _insert(tx: Transaction, order: Order, surveys: Mapping[str, Survey]) -> Job:
    chance = tx.draw(queue.COLLECTION)
    stem = f"ft-{clock.stamp(tx.now_s)}-"
    job_id = stem + tx.fresh_tail(chance, queue.COLLECTION, stem)
    trained = [surveyed(data, surveys) for data in order.training]
    rows, tokens = sum(part.rows for part in trained), sum(part.tokens for part in trained)
    epochs = training.whole(order.hyper_parameters, "n_epochs", 1)
    failure = foreseen(order, surveys, rows)
    pending_s, training_s = training.durations_s(chance, samples=rows * epochs)
    job = Job(
        job_id=job_id,
        job_name=order.job_name or job_id,
        model=order.model.name,
        base_model=order.model.base.code,
        training_type=order.training_type,
        finetuned_output="-".join(filter(None, (order.model.name, order.suffix, job_id))),
        suffix=order.suffix,
        training=order.training,
        validation=order.validation,
        hyper_parameters=order.hyper_parameters,
        created_s=tx.now_s,
        ready_s=tx.now_s + pending_s * (4 if failure and failure.early else 1),  # a look at the data takes minutes
        training_s=chance.uniform(540, 660) if failure else training_s,
        rows=rows,
        tokens=tokens,
        epochs=epochs,
        batch_size=training.whole(order.hyper_parameters, "batch_size", BATCH_SIZE_DEFAULT),
        ends=Status.FAILED if failure else Status.SUCCEEDED,
        code="InvalidParameter" if failure else "",
        message=failure.message if failure else "",
        early=failure is not None and failure.early,
        schedule=((tx.now_s, Status.PENDING),),
    )
    tx.insert(queue.COLLECTION, job.job_id, job.as_json())
    models.insert(tx, job.finetuned_output, job, suffix=job.suffix, exists_from_s=None)
    return job


def _data_view(tx: Transaction, job: Job) -> Json:
    """File ids, or data set objects with the ids empty; a mount has no id and always shows (contract §2.3)."""
    as_objects = tx.switches.choice("jobs.echo_datasets") == "datasets"
    mounted = any("file_id" not in data for data in (*job.training, *job.validation))
    shown: Json = {}
    for part, given in (("training", job.training), ("validation", job.validation)):
        ids = [data["file_id"] for data in given if "file_id" in data]
        shown[f"{part}_file_ids"] = [] if as_objects else ids
        if as_objects or mounted:
            shown[f"{part}_datasets"] = list(given)
    return shown


async def _follow(backend: Backend, job_id: str) -> AsyncIterator[str]:
    """The job's log lines as they come, until it is over (or gone, or the server stops)."""
    told = 0
    while not backend.closing.is_set():
        lines, over = await run_in_threadpool(_lines, backend, job_id)
        for line in lines[told:]:
            yield f"data:{line}\n\n"
        told = len(lines)
        if over:
            return
        await anyio.sleep(FOLLOW_DELAY_S)


def _lines(backend: Backend, job_id: str) -> tuple[list[str], bool]:
    with backend.transaction("jobs.stream") as tx:
        body = tx.get(queue.COLLECTION, job_id)
        job = from_json(body) if body else None
        return (training.log(job, tx.now_s), job.is_terminal(tx.now_s)) if job else ([], True)


def _operation(call: Call) -> str:
    if call.body.get("training_type") != phrases.TRAINING_TYPE:
        return "jobs.create"
    return "phrases.update" if call.body.get("finetuned_output") else "phrases.create"


DATA_SET = shape({"data_source_type": word("file_id", "oss_mount")}, {"file_id": TEXT, "mount_storage": OBJECT})
ORDER = {
    "model": like("qwen3.5-9b", TEXT),
    "model_name": TEXT,
    "job_name": TEXT,
    "training_type": like("efficient_sft", TEXT),
    "hyper_parameters": like({"n_epochs": 1, "batch_size": 16, "max_length": 2048}, OBJECT),
    "finetuned_output": TEXT,
    "finetuned_output_suffix": TEXT,
    "training_file_ids": several(TEXT),
    "validation_file_ids": several(TEXT),
    "training_datasets": several(DATA_SET),
    "validation_datasets": several(DATA_SET),
}
JOB_TEXTS = ("job_id", "status", "model", "training_type", "create_time")
JOB_TEXTS_SOMETIMES = (
    *("job_name", "base_model", "finetuned_output", "end_time", "code", "message"),
    *("workspace_id", "user_identity", "creator", "modifier", "group"),
)
JOB = shape(
    dict.fromkeys(JOB_TEXTS, TEXT),
    {
        **dict.fromkeys(JOB_TEXTS_SOMETIMES, TEXT),
        **dict.fromkeys(("usage", "output_cnt", "max_output_cnt"), WHOLE),
        **dict.fromkeys(("training_file_ids", "validation_file_ids"), several(TEXT)),
        **dict.fromkeys(("training_datasets", "validation_datasets"), several(DATA_SET)),
        "hyper_parameters": OBJECT,
    },
)
DONE = shape({"status": word("success")})
ROUTES = (
    Route(
        "POST",
        "/api/v1/fine-tunes",
        _operation,
        create,
        body=ORDER,
        required=("model",),
        answer=answer(output=JOB),
        receive=receive,
        several=("jobs.create", "phrases.create", "phrases.update"),
    ),
    Route(
        "GET",
        "/api/v1/fine-tunes",
        "jobs.list",
        listing,
        query={**paged(10, 100), "model": TEXT},
        answer=answer(output=numbered("jobs", JOB)),
    ),
    Route("GET", "/api/v1/fine-tunes/{job_id}", "jobs.get", get, answer=answer(output=JOB)),
    Route("DELETE", "/api/v1/fine-tunes/{job_id}", "jobs.delete", delete, answer=answer(output=DONE)),
    Route("POST", "/api/v1/fine-tunes/{job_id}/cancel", "jobs.cancel", cancel, answer=answer(output=DONE)),
    Route(
        "GET",
        "/api/v1/fine-tunes/{job_id}/logs",
        "jobs.logs",
        logs,
        query={"offset": WHOLE, "line": WHOLE},
        answer=answer(output=shape({"total": WHOLE, "logs": several(TEXT)})),
    ),
    Route("GET", "/api/v1/fine-tunes/{job_id}/stream", "jobs.stream", stream, streams="always"),
)
