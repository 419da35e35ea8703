"""One small trial for each promise, by name: run as tests, and run again under the patches that must break them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.crash.far import COLLECTIONS
from tests.crash.lab import TERM_S, Aim, World
from tests.crash.scenes import APPLY

LOST: Mapping[str, Any] = {"operation": "*.create", "times": 5, "drop": {"moment": "after"}}
Goes = Callable[[World], list[str]]


class Promise(NamedTuple):
    """A scene and what goes wrong in it; the invariants say whether it was kept, and what is returned beside them."""

    scene: str
    goes_wrong: Goes


def faulty(*rules: Mapping[str, Any], codes: tuple[int, ...] = (0, 1, 5, 6, 7)) -> Goes:
    """One run against a service with these rules, which ends with one of these codes."""

    def goes(copy: World) -> list[str]:
        copy.faults(*map(dict, rules))
        run = copy.run(*APPLY)
        copy.faults()
        return [] if run.code in codes else [f"I8: it ended with {run.code}"]

    return goes


def killed(*where: str) -> Goes:
    """A kill where the name of a point holds all of these words."""

    def goes(copy: World) -> list[str]:
        run = copy.run(*APPLY, aim=Aim("kill", "~" + "|".join(where)))
        return [] if run.killed else ["it was not killed"]

    return goes


def _killed_and_late(copy: World) -> list[str]:
    """Killed when the request had left, and for a while no list shows what it made."""
    copy.run(*APPLY, aim=Aim("kill", "~before read 1|POST /api/v1/files"))
    copy.faults({"operation": "*.list", "hide": {"emulated_s": 60}})
    copy.run(*APPLY)
    copy.faults()
    made = copy.service.operations().count("files.create")
    return [] if made == 1 else [f"I1: the upload was made {made} times"]


def _late(copy: World) -> list[str]:
    copy.faults(dict(LOST), {"operation": "*.list", "hide": {"emulated_s": 60}})
    copy.run(*APPLY)
    copy.run(*APPLY)
    copy.faults()
    return []


def _foreign(copy: World) -> list[str]:
    """Somebody else's phrase list for the same model; ours was refused on the way, and its answer lost."""
    body = {
        "model": "paraformer-v1",
        "training_type": "compile_asr_phrase",
        "hyper_parameters": {"phrase_list": {"别人": 2}},
    }
    theirs = copy.service.call("POST", "/fine-tunes", body)["output"]["finetuned_output"]
    copy.foreign.add(f"phrases/{theirs}")
    copy.faults({"operation": "phrases.create", "nth": 1, "drop": {"moment": "before"}})
    copy.run(*APPLY)
    copy.faults()
    return [f"adopted {theirs}, which is somebody else's"] if f"phrases/{theirs}" in copy.owned() else []


def _odd(copy: World) -> list[str]:
    copy.faults({"operation": "jobs.create", "nth": 1, "edit": {"set": {"output.status": 7, "output.new": {"a": []}}}})
    run = copy.run(*APPLY)
    copy.faults()
    return [] if run.code == 0 and "adopted" not in run.text else ["the id was not taken from the answer"]


def _beside(copy: World) -> list[str]:
    first = copy.run(*APPLY, aim=Aim("pause", "~before write 1|POST /api/v1/deployments"))
    second = copy.run(*APPLY)
    wrote = [e for e in copy.log()[second.requests.start : second.requests.stop] if e["writes"]]
    copy.go_on(first)
    return [] if second.code == 4 and not wrote else [f"a second run ended with {second.code} beside the first"]


def _passed_by(copy: World) -> list[str]:
    first = copy.run(*APPLY, aim=Aim("pause", "~after read 1|POST /api/v1/deployments"))
    copy.run(*APPLY, "--lock-timeout", "3m")
    before = serial(copy)
    copy.go_on(first, after_s=TERM_S)
    return [] if serial(copy) == before else ["a run recorded something after it was passed by"]


def serial(copy: World) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(copy.state)) as db:
        return int(db.execute("select serial from states").fetchone()[0])


def _struck(copy: World) -> list[str]:
    run = copy.run(*APPLY, aim=Aim("broken", "~before insert into records"))
    return [] if run.code == 1 else [f"I8: it ended with {run.code}"]


def _left(copy: World) -> list[str]:
    run = copy.run(*APPLY, "--timeout", "1m")
    return [] if run.code == 6 else [f"I8: work was left to go on, and the run ended with {run.code}"]


PROMISES: Mapping[str, Promise] = {
    "a 500 is no invitation to send again": Promise(
        "create", faulty(*({"operation": f"{one}.create", "nth": 1, "answer": {"status": 500}} for one in COLLECTIONS))
    ),
    "a lost answer is looked for": Promise("create", faulty(LOST)),
    "a request that never left is sent with its first mark": Promise(
        "create", killed("before write 1", "POST /api/v1/deployments")
    ),
    "what a list leaves out is still there": Promise(
        "update", faulty({"operation": "deployments.list", "hide": {"emulated_s": 10**8}})
    ),
    "a list that is late is waited for": Promise("create", _late),
    "a killed creation is looked for": Promise("create", _killed_and_late),
    "what was there before is not ours": Promise("create", _foreign),
    "an odd answer costs no id": Promise("create", _odd),
    "nobody acts beside a holder that lives": Promise("create", _beside),
    "who was passed by records nothing": Promise("create", _passed_by),
    "a new state is there as a whole or not at all": Promise("create", killed("after create table records")),
    "what is not finished is said": Promise("create", _left),
    "a broken disk ends in words": Promise("create", _struck),
    "a service that is busy is left in peace": Promise(
        "create", faulty({"operation": "jobs.list", "nth": [1, 2], "refuse": {"status": 503}})
    ),
    "looking changes nothing": Promise("update", lambda copy: []),
    "what is secret stays where it is": Promise("create", lambda copy: []),
}
