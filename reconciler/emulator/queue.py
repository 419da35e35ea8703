"""The jobs that are there, and whose turn it is to train: one at a time, in order of creation (contract §2.4).

`plan` is called whenever a job comes or goes; what has begun is never moved, so no reader ever sees the past change.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

from reconciler.emulator import models, training
from reconciler.emulator.backend import Transaction
from reconciler.emulator.refusal import not_found
from reconciler.emulator.training import Job, Status, from_json

COLLECTION = "jobs"


def existing(tx: Transaction, job_id: str) -> Job:
    body = tx.get(COLLECTION, job_id)
    if body is None:
        raise not_found()
    return from_json(body)


def all_jobs(tx: Transaction) -> list[Job]:
    """Oldest first."""
    return [from_json(row) for row in tx.all(COLLECTION)]


def unfinished(tx: Transaction) -> list[Job]:
    """Oldest first."""
    return [job for row in tx.unfinished(COLLECTION) if not (job := from_json(row)).is_terminal(tx.now_s)]


def plan(tx: Transaction) -> None:
    """Gives every job that has not begun its turn: in order of creation, as soon as one of the places is free."""
    jobs = unfinished(tx)
    places = _places(tx, [job.ended_s() for job in jobs if job.started(tx.now_s)], most=len(jobs))
    for job in jobs:
        if job.fated or job.started(tx.now_s) or job.status(tx.now_s) == Status.CANCELING:
            continue
        start_s = job.ready_s if job.early else max(job.ready_s, heapq.heappop(places))
        planned = replace(job, schedule=training.uninterrupted(job, start_s))
        if not job.early:
            heapq.heappush(places, planned.ended_s())
        if planned != job:
            save(tx, planned)


def _places(tx: Transaction, busy_until_s: Iterable[float], *, most: int) -> list[float]:
    """When each place that may train becomes free. A lowered switch leaves more jobs running than there are places."""
    count = min(tx.switches.number("jobs.parallel"), most)
    places = sorted(busy_until_s)[-count:]
    return [tx.now_s] * (count - len(places)) + places


def save(tx: Transaction, job: Job) -> None:
    """Keeps the job, and with it from when on its model exists."""
    tx.replace(COLLECTION, job.job_id, job.as_json())
    record = tx.get(models.COLLECTION, job.finetuned_output)
    if record is not None:
        ended_s, ending = job.schedule[-1]
        exists_from_s = ended_s if ending == Status.SUCCEEDED else None
        tx.replace(models.COLLECTION, job.finetuned_output, {**record, "exists_from_s": exists_from_s})
