"""Waits until objects are ready, or gone: one list pass for each collection and tick.

Sends only reads and records nothing. What is found here is put in use, or recorded as failed, by the next apply.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler.api import Api
from reconciler.apply import REST_S_MAX, UNHEARD, Progress, Stage
from reconciler.clock import boottime
from reconciler.errors import ApiError, NotAuthorised
from reconciler.observe import Pace, look
from reconciler.plan import Operation, Verb, World, young
from reconciler.resource import Action, Collection, Observed, Phase
from reconciler.state import Owned, Role, written

Goal = Literal["ready", "gone"]


def wait_for(
    api: Api,
    collections: Mapping[str, Collection],
    rows: Iterable[Owned],
    *,
    goal: Goal,
    report: Callable[[Progress], None],
    timeout_s: float | None = None,
    tick: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = boottime,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Progress, ...]:
    """How it ended for each of these rows, in their order; what takes longer than `timeout_s` goes on without us."""
    watches = [_Watch(row, Progress(_operation(row, goal), Stage.WAITING), clock()) for row in rows]
    paces = {watch.row.collection: Pace.of(collections[watch.row.collection], api.hurry) for watch in watches}
    ends = None if timeout_s is None else clock() + timeout_s
    for pace in paces.values():
        pace.begin(clock())
    while waiting := [watch for watch in watches if not watch.progress.ended]:
        for name in sorted({watch.row.collection for watch in waiting}):
            if clock() >= paces[name].due:
                ours = [watch for watch in waiting if watch.row.collection == name]
                moved = _look(api, collections[name], ours, goal, report, clock())
                paces[name].looked(clock(), moved=moved)
        tick()
        waiting = [watch for watch in waiting if not watch.progress.ended]
        if ends is not None and clock() >= ends:
            for watch in waiting:
                watch.note(Stage.DETACHED, watch.progress.status, "", clock(), code=6)
                report(watch.progress)
        elif waiting:
            nexts = [paces[watch.row.collection].due for watch in waiting] + ([] if ends is None else [ends])
            sleep(min(REST_S_MAX, max(0.0, min(nexts) - clock())))
    return tuple(watch.progress for watch in watches)


@dataclass
class _Watch:
    """One row while it is waited for, and since when it has its status."""

    row: Owned
    progress: Progress
    since: float

    def note(self, stage: Stage, status: str, detail: str, now: float, code: int = 0) -> bool:
        """Whether anything moved."""
        moved = (stage, status) != (self.progress.stage, self.progress.status)
        self.since = now if status != self.progress.status else self.since
        self.progress = Progress(self.progress.operation, stage, status, detail, now - self.since, code)
        return moved


def _operation(row: Owned, goal: Goal) -> Operation:
    action, verb = (Action.WAIT, Verb.WAIT) if goal == "ready" else (Action.DELETE, Verb.DELETE)
    return Operation(f"wait {row.key}", action, verb, row.slot, row.collection, target_id=row.id)


def _look(
    api: Api,
    collection: Collection,
    watches: list[_Watch],
    goal: Goal,
    report: Callable[[Progress], None],
    now: float,
) -> bool:
    """One look at a collection; whether anything moved. A service that does not answer is asked again."""
    try:
        seen = look(api, collection, [watch.row for watch in watches])
    except NotAuthorised:
        raise
    except ApiError as error:
        for watch in watches:
            watch.note(Stage.WAITING, watch.progress.status, f"not visible: {error}", now)
            report(watch.progress)
        return False
    at, moved = written(api.now()), False
    for watch in watches:
        stage, status, detail, code = judged(watch.row, seen.get(watch.row.id), goal, at)
        moved |= watch.note(stage, status, detail, now, code)
        report(watch.progress)
    return moved


def judged(row: Owned, seen: Observed | None, goal: Goal, at: str) -> tuple[Stage, str, str, int]:
    """How far an object is at a time of the service: stage, the service's word, what is to be said of it, exit code."""
    status = seen.status if seen else ""
    if goal == "gone":
        return (Stage.WAITING, status, "", 0) if seen else (Stage.DONE, "", "", 0)
    if row.failure:
        return Stage.FAILED, status, row.failure, 5
    if seen is None:
        if young(row, World(at=at)):
            return Stage.WAITING, "not visible yet", "", 0
        return Stage.FAILED, "", f"{row.id} is gone from the service", 5
    match seen.phase:
        case Phase.READY:
            return Stage.DONE, status, "the next apply puts it in use" if row.role is Role.NEXT else "", 0
        case Phase.FAILED:
            return Stage.FAILED, status, " ".join(filter(None, (status, seen.detail))), 5
        case Phase.UNKNOWN if status:
            return Stage.WAITING, status, UNHEARD, 0
        case _:
            return Stage.WAITING, status, "", 0
