"""A fine-tune job as a value, and the training it stands for: how long, how far, with what loss.

Nothing is trained. Durations are drawn when the job is made, progress and log lines are computed from emulated time,
so every reader of the same moment sees the same. Which job may start when is `jobs.py`'s to decide.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from reconciler.emulator import clock, schedule
from reconciler.emulator.fields import Json
from reconciler.emulator.schedule import Schedule

LOG_STEPS_MAX = 450
"""Steps that are logged, each perhaps with its evaluation: from 1,000 lines on the 1.20 command reads them for ever."""


class Status(StrEnum):
    """Contract §2.4."""

    PENDING = "PENDING"
    QUEUING = "QUEUING"
    RUNNING = "RUNNING"
    CANCELING = "CANCELING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})


@dataclass(frozen=True)
class Job:
    """`training` and `validation` are data set objects; `ready_s` ends PENDING; `ends` is how it ends by itself.

    A job with `early` set ends at `ready_s` without training: its data or its request cannot be used. One with `fated`
    set lives by a schedule that a fault gave it, whoever else trains. `tokens` are those of one epoch.
    """

    job_id: str
    job_name: str
    model: str
    base_model: str
    training_type: str
    finetuned_output: str
    suffix: str
    training: tuple[Json, ...]
    validation: tuple[Json, ...]
    hyper_parameters: Json
    created_s: float
    ready_s: float
    training_s: float
    rows: int
    tokens: int
    epochs: int
    batch_size: int
    ends: str = Status.SUCCEEDED
    code: str = ""
    message: str = ""
    early: bool = False
    fated: bool = False
    schedule: Schedule[str] = ()

    @property
    def steps(self) -> int:
        return self.epochs * math.ceil(self.rows / self.batch_size)

    @property
    def consumed_tokens(self) -> int:
        """What a whole run is billed for (contract §2.13): the tokens of all epochs."""
        return self.tokens * self.epochs

    def status(self, now_s: float) -> str:
        return schedule.at(self.schedule, now_s)

    def is_terminal(self, now_s: float) -> bool:
        return self.status(now_s) in TERMINAL

    def started(self, now_s: float) -> bool:
        """Whether it has begun to train, which nothing can undo."""
        started_s = schedule.since(self.schedule, Status.RUNNING)
        return started_s is not None and started_s <= now_s

    def ended_s(self) -> float:
        return self.schedule[-1][0]

    def as_json(self) -> Json:
        return asdict(self)


def from_json(body: Json) -> Job:
    return Job(
        **{
            **body,
            "training": tuple(body["training"]),
            "validation": tuple(body["validation"]),
            "schedule": schedule.from_json(body["schedule"]),
        }
    )


def durations_s(chance: random.Random, *, samples: int) -> tuple[float, float]:
    """Of PENDING, and of the training of so many rows times epochs: about half an hour for some thousand."""
    return chance.uniform(30, 90), chance.uniform(900, 1200) + samples * chance.uniform(0.08, 0.12)


def uninterrupted(job: Job, start_s: float) -> Schedule[str]:
    """The whole life of a job that may train from `start_s` on."""
    accepted = (job.created_s, Status.PENDING)
    if job.early:
        return accepted, (job.ready_s, job.ends)
    queue = ((job.ready_s, Status.QUEUING),) if start_s > job.ready_s else ()
    return accepted, *queue, (start_s, Status.RUNNING), (start_s + job.training_s, job.ends)


def canceled(job: Job, now_s: float, *, takes_s: float) -> Schedule[str]:
    """The same life with a cancel in it, which loses the race to an end that comes first (contract §9.4)."""
    ending: tuple[float, str] = (now_s + takes_s, Status.CANCELED)
    if job.started(now_s) and job.ended_s() <= ending[0]:
        ending = job.schedule[-1]
    return schedule.then(job.schedule, now_s, (now_s, Status.CANCELING), ending)


def whole(hyper_parameters: Json, name: str, default: int) -> int:
    """A hyper-parameter that counts something, as a number whatever type it was sent in."""
    return int(float(hyper_parameters.get(name) or default))


def progress(job: Job, now_s: float) -> float:
    """The share of the training that is done, 0 to 1; exactly 1 once it has succeeded."""
    if job.status(now_s) == Status.SUCCEEDED:
        return 1.0
    started_s = schedule.since(job.schedule, Status.RUNNING)
    if started_s is None or started_s >= now_s:
        return 0.0
    return min(1.0, (min(now_s, job.ended_s()) - started_s) / job.training_s)


def log(job: Job, now_s: float) -> list[str]:
    """The lines written up to now, each marked as the emulator's (contract §2.6)."""
    return [f"{clock.spaced(at_s)} [emulator] {line}" for at_s, line in _events(job) if at_s <= now_s]


def _events(job: Job) -> Iterator[tuple[float, str]]:
    yield job.created_s, f"job {job.job_id} accepted: {job.rows} rows, {job.tokens} tokens"
    started_s = schedule.since(job.schedule, Status.RUNNING)
    if started_s is not None:
        yield (
            started_s,
            f"{job.training_type} of {job.model}: {job.epochs} epochs, {job.steps} steps; nothing is trained",
        )
        yield from _measurements(job, started_s)
    ended_s, ending = job.schedule[-1]
    if ending == Status.SUCCEEDED:
        yield ended_s, f"Actual number of consumed tokens is {job.consumed_tokens}!"
        yield ended_s, f"checkpoint-{job.steps} is the output"
    elif ending == Status.FAILED:
        yield ended_s, f"{job.code}: {job.message}"
    elif ending == Status.CANCELED:
        yield ended_s, "canceled by the user"
    if ending in TERMINAL:
        yield ended_s, "##FT_COMPLETE##"


def _measurements(job: Job, started_s: float) -> Iterator[tuple[float, str]]:
    """Loss lines every `logging_steps` (5) and `eval_steps` (50), fewer where there would be too many."""
    every = max(whole(job.hyper_parameters, "logging_steps", 5), math.ceil(job.steps / LOG_STEPS_MAX))
    evaluations = max(whole(job.hyper_parameters, "eval_steps", 50), every)
    for step in range(every, job.steps + 1, every):
        at_s = started_s + job.training_s * step / job.steps
        if at_s > job.ended_s():
            return
        yield at_s, json.dumps(_measured(job, step))
        if step // evaluations > (step - every) // evaluations:
            yield at_s, json.dumps(_evaluated(job, step))


def _measured(job: Job, step: int) -> Json:
    done = step / job.steps
    peak = _peak_learning_rate(job)
    return {
        "step": step,
        "steps": job.steps,
        "epoch": round(done * job.epochs, 3),
        "loss": round(_loss(job, step) + random.Random(f"{job.job_id}/{step}").gauss(0, 0.03), 4),
        "learning_rate": float(f"{peak * (1 + math.cos(math.pi * done)) / 2:.4g}"),
    }


def _evaluated(job: Job, step: int) -> Json:
    loss = _loss(job, step) + 0.05 + 0.02 * step / job.steps * job.epochs
    return {"step": step, "eval_loss": round(loss, 4), "eval_token_accuracy": round(math.exp(-loss / 2.5), 4)}


def _loss(job: Job, step: int) -> float:
    """Falls faster with a higher learning rate and lower with more rows; a picture of learning, not a measurement."""
    floor = 0.5 + 1.6 / (1 + math.log10(job.rows + 1))
    haste = 4 + math.log10(max(_peak_learning_rate(job), 1e-8) / 1e-5)
    return floor + (2.6 - floor) * math.exp(-max(haste, 1) * step / job.steps)


def _peak_learning_rate(job: Job) -> float:
    default = 1e-4 if job.training_type == "efficient_sft" else 1e-5
    return float(job.hyper_parameters.get("learning_rate") or default)
