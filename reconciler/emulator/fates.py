"""What a fault makes of a call's objects and of its answer: another life, and other members.

The first happens in the call's transaction, the second to its answer as JSON; bytes and connections are for
`delivery.py`. A fate is a schedule like any other: every reader sees it, and what follows from a status follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any, TypeVar

from reconciler.emulator import deployments, queue, schedule
from reconciler.emulator.backend import Transaction
from reconciler.emulator.deployments import Deployment
from reconciler.emulator.faults import Edit, Fate
from reconciler.emulator.fields import Json
from reconciler.emulator.schedule import Schedule
from reconciler.emulator.training import Job

T = TypeVar("T")


def impose(tx: Transaction, fate: Fate) -> None:
    """Gives the jobs and deployments that this call has entered in the ledger the schedule of the fate."""
    for object_id in tx.recorded:
        deployment = deployments.find(tx, object_id)
        if deployment:
            _impose_on_deployment(tx, deployment, fate)
        elif tx.get(queue.COLLECTION, object_id):
            _impose_on_job(tx, queue.existing(tx, object_id), fate)


def edited(reply: Json, edits: Iterable[Edit]) -> Json:
    """A copy with the members set and removed; a path that leads nowhere changes nothing."""
    copy: Json = json.loads(json.dumps(reply))
    for edit in edits:
        for path, value in edit.set.items():
            for holder, name in _places(copy, path):
                holder[name] = value
        for path in edit.remove:
            for holder, name in _places(copy, path):
                holder.pop(name, None)
    return copy


def _impose_on_deployment(tx: Transaction, deployment: Deployment, fate: Fate) -> None:
    capacities = [(after_s, deployment.capacity if word == "RUNNING" else 0) for after_s, word in fate.statuses]
    changed = replace(
        deployment,
        schedule=_from_now(tx, deployment.schedule, fate.statuses),
        ready=_from_now(tx, deployment.ready, fate.ready_capacity or capacities),
    )
    tx.replace(deployments.COLLECTION, deployment.deployed_model, asdict(changed))


def _impose_on_job(tx: Transaction, job: Job, fate: Fate) -> None:
    changed = replace(
        job,
        fated=True,
        code=fate.code or job.code,
        message=fate.message or job.message,
        schedule=_from_now(tx, job.schedule, fate.statuses),
    )
    queue.save(tx, changed)
    queue.plan(tx)


def _from_now(tx: Transaction, before: Schedule[T], entries: list[tuple[float, T]]) -> Schedule[T]:
    return schedule.then(before, tx.now_s, *((tx.now_s + after_s, value) for after_s, value in entries))


def _places(holder: Any, path: str) -> Iterator[tuple[Json, str]]:
    """Every object that a path leads to, with the name of its last step."""
    step, dot, rest = path.partition(".")
    if not dot:
        if isinstance(holder, dict):
            yield holder, step
    elif step == "*" and isinstance(holder, list):
        for item in holder:
            yield from _places(item, rest)
    elif isinstance(holder, dict) and step in holder:
        yield from _places(holder[step], rest)
