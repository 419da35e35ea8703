"""Checkpoints of a job: which exist, and publishing one as a model (contract §2.7).

Only full and efficient SFT keep them. The last one of a job that succeeded is its model and needs no publishing.
"""

from __future__ import annotations

import math

from reconciler.emulator import clock, models, queue, schedule
from reconciler.emulator.backend import Transaction
from reconciler.emulator.fields import Json
from reconciler.emulator.refusal import bad_parameter, conflict, not_found
from reconciler.emulator.schemas import FLAG, TEXT, WHOLE, answer, several, shape
from reconciler.emulator.switches import NEW
from reconciler.emulator.training import Job, Status, progress, whole
from reconciler.emulator.wire import Call, Reply, Route

COLLECTION = "checkpoints"
KEPT_S = 15 * 24 * 3600


def listing(tx: Transaction, call: Call) -> Reply:
    job = queue.existing(tx, call.path["job_id"])
    shown = [_shown(tx, job, step) for step in reversed(saved_steps(job, tx.now_s))]
    return {"output": [checkpoint for checkpoint in shown if checkpoint is not None]}


def publish(tx: Transaction, call: Call) -> Reply:
    """A GET with a side effect. Asking again for what is published under the same name changes nothing."""
    job = queue.existing(tx, call.path["job_id"])
    display = call.query.get("model_name", "")
    step = {f"checkpoint-{step}": step for step in saved_steps(job, tx.now_s)}.get(call.path["checkpoint"])
    if step is None or _shown(tx, job, step) is None:
        raise not_found()
    if not display:
        raise bad_parameter("model_name")
    published = tx.get(COLLECTION, _id(job, step))
    if published and published["display"] == display:
        return {"output": True}
    if published or tx.all(COLLECTION, display=display):
        raise conflict(f"Model instance {display} already exists, please specify a suffix")
    _publish(tx, job, step, display)
    return {"output": True}


def saved_steps(job: Job, now_s: float) -> list[int]:
    """The steps whose weights are there, as `save_strategy`, `save_steps` and `save_total_limit` (1) have it."""
    if job.training_type not in ("sft", "efficient_sft"):
        return []
    by_steps = job.hyper_parameters.get("save_strategy") == "steps"
    every = whole(job.hyper_parameters, "save_steps", 50) if by_steps else math.ceil(job.rows / job.batch_size)
    done = math.floor(job.steps * progress(job, now_s))
    steps = list(range(every, done + 1, every)) if every else []
    if done == job.steps and job.steps not in steps and job.steps:
        steps.append(job.steps)
    return steps[-max(1, whole(job.hyper_parameters, "save_total_limit", 1)) :]


def newest_output(tx: Transaction, job: Job) -> str:
    """The model of the checkpoint published last; the job's own as long as there is none."""
    ready = [
        (since_s, checkpoint["model_id"])
        for checkpoint in tx.all(COLLECTION, job_id=job.job_id)
        if (since_s := schedule.from_json(checkpoint["schedule"])[-1][0]) <= tx.now_s
    ]
    return str(max(ready)[1]) if ready else job.finetuned_output


def _publish(tx: Transaction, job: Job, step: int, display: str) -> None:
    chance = tx.draw(COLLECTION)
    stem = f"{job.model}-ft-{clock.stamp(tx.now_s)}-"
    model_id = stem + tx.fresh_tail(chance, models.COLLECTION, stem)
    ready_s = tx.now_s + chance.uniform(60, 180)
    checkpoint: Json = {
        "job_id": job.job_id,
        "display": display,
        "model_id": model_id,
        "schedule": [[tx.now_s, "PROCESSING"], [ready_s, "SUCCEEDED"]],
    }
    tx.insert(COLLECTION, _id(job, step), checkpoint)
    models.insert(tx, model_id, job, suffix="", exists_from_s=ready_s)
    tx.record(_id(job, step), model_id=model_id, model_name=display)


def _shown(tx: Transaction, job: Job, step: int) -> Json | None:
    """The checkpoint object, or None once it has expired unpublished."""
    started_s = schedule.since(job.schedule, Status.RUNNING) or 0
    saved_s = started_s + job.training_s * step / job.steps
    status, model_id, display = _publication(tx, job, step)
    if status == "PENDING" and tx.now_s > saved_s + KEPT_S:
        return None
    name = _id(job, step)
    shown: Json = {
        "checkpoint_id": name,
        "full_name": name,
        "checkpoint": f"checkpoint-{step}",
        "job_id": job.job_id,
        "step": step,
        "status": status,
        "create_time": clock.iso(saved_s),
        "expire_time": clock.iso(saved_s + KEPT_S),
    }
    return {**shown, "model_name": model_id, "model_display_name": display} if status == "SUCCEEDED" else shown


def _publication(tx: Transaction, job: Job, step: int) -> tuple[str, str, str]:
    """Status, model id and display name."""
    published = tx.get(COLLECTION, _id(job, step))
    if published:
        status = schedule.at(schedule.from_json(published["schedule"]), tx.now_s)
        return status, published["model_id"], published["display"]
    if step == job.steps and job.status(tx.now_s) == Status.SUCCEEDED:
        return "SUCCEEDED", job.finetuned_output, job.finetuned_output
    return "PENDING", "", ""


def _id(job: Job, step: int) -> str:
    return f"{job.job_id}:checkpoint-{step}"


CHECKPOINT = shape(
    {
        **dict.fromkeys(("checkpoint_id", "full_name", "checkpoint", "job_id", "status"), TEXT),
        **dict.fromkeys(("create_time", "expire_time"), TEXT),
        "step": WHOLE,
    },
    {"model_name": TEXT, "model_display_name": TEXT},
)
ROUTES = (
    Route(
        "GET",
        "/api/v1/fine-tunes/{job_id}/checkpoints",
        "checkpoints.list",
        listing,
        answer=answer(output=several(CHECKPOINT)),
        profiles=(NEW,),
    ),
    Route(
        "GET",
        "/api/v1/fine-tunes/{job_id}/export/{checkpoint}",
        "checkpoints.publish",
        publish,
        query={"model_name": TEXT},
        required=("model_name",),
        answer=answer(output=FLAG),
        profiles=(NEW,),
    ),
)
