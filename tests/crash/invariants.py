"""The invariants of a trial, checked by one function against what the service committed and what the disk holds.

I1  at most one paid creation for each address and generation; each belongs to an operation that knows it
I2  whatever the service made of ours is in the state, or an open operation names how to find it
I3  nothing was created without an open operation, on disk, when the request arrived
I4  without faults at most three runs lead to "no changes", within a budget of requests
I5  after every kill the state opens, is whole, and a plan can be made
I6  what is recorded of an object is what the service shows of it
I7  nothing was changed or deleted that the state did not own at that time
I8  exit 0 only where the plan is carried out; no traceback, and no internal error
I9  no key, no signed link and no training text in any file or output
I10 nothing was bought that the plan did not show
I11 repeats are bounded, and not closer together than the pause after an error
I12 what only looks sends only reads and writes no state

An end with exit 7 and an open operation is allowed for a job, where the service leaves no way to know; `resolved` is
then what a person does who looked.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.adapters.cli import COMMANDS
from reconciler.state import Intent, Owned, Role, Stamp, intent_from, owned_from
from reconciler.state import tag as tag_of
from tests.crash.far import COLLECTIONS, KEY
from tests.crash.lab import SENTENCE, Run, World
from tests.crash.scenes import PAID, Scene

RUNS_MAX = 3
FLOOR_S = 0.25  # half of the first pause, which is what jitter may leave of it
TRIES_MAX = 5
TAGLESS = frozenset({"phrases", "checkpoints"})
SECRETS = {"the key": KEY, "a signed link": "Signature=", "training text": SENTENCE}
UNDECIDED = 7


@dataclass(frozen=True)
class Kept:
    """What the disk holds, read by a process that is none of the product's."""

    owned: tuple[Owned, ...]
    intents: tuple[Intent, ...]
    stamp: Mapping[str, Any]

    @property
    def open(self) -> tuple[Intent, ...]:
        return tuple(intent for intent in self.intents if intent.is_open)


def kept(state: Path) -> Kept:
    if not state.exists():
        return Kept((), (), {})
    with closing(sqlite3.connect(f"{state.as_uri()}?mode=rw", uri=True)) as db:
        (stamp,) = db.execute("select stamp from states").fetchone()
        rows = list(db.execute("select kind, body from records order by key"))
    return Kept(
        owned=tuple(owned_from(body) for kind, body in rows if kind == "owned"),
        intents=tuple(intent_from(body) for kind, body in rows if kind == "intent"),
        stamp=json.loads(stamp),
    )


# After a kill ---------------------------------------------------------------------------------------------------------


def survived(world: World) -> list[str]:
    """I5 and I12: the state a killed run left, and what looking at it does to it."""
    broken = [*_whole(world)]
    before = content(world.state)
    for command in (("plan",), ("status",)):
        run = world.run(*command)
        if run.code != 0:
            broken.append(f"I5: {command[0]} after the kill ended with {run.code}")
        broken += [f"I12: {command[0]} sent {e['method']} {e['path']}" for e in _sent(world, run) if e["writes"]]
        if content(world.state) != before:
            broken.append(f"I12: {command[0]} changed the state")
    return broken


def _whole(world: World) -> Iterator[str]:
    if not world.state.exists():
        return
    copy = world.root / "copied"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in world.state.parent.glob("state.db*"):  # with what is left of a transaction
        shutil.copy(path, copy)
    with closing(sqlite3.connect(copy / "state.db")) as db:
        if (said := db.execute("pragma integrity_check").fetchone()) != ("ok",):
            yield f"I5: {said}"


def content(state: Path) -> list[str]:
    """What a state file says, whatever is left beside it of a transaction that never was."""
    if not state.exists():
        return []
    with closing(sqlite3.connect(f"{state.as_uri()}?mode=rw", uri=True)) as db:
        return list(db.iterdump())


# Until nothing is left to do ------------------------------------------------------------------------------------------


def converged(world: World, scene: Scene) -> list[str]:
    """I4 and I8: the same command again, without faults, until a plan shows no changes."""
    extra: tuple[str, ...] = ()
    for _ in range(RUNS_MAX):
        run = world.run(*scene.command, *extra)
        if len(run.requests) > 2 * scene.requests + 60:
            return [f"I4: a run sent {len(run.requests)} requests, one that is left alone {scene.requests}"]
        if run.code == UNDECIDED and (late := re.findall(r"--allow (duplicate=\S+)", run.text)):
            extra = tuple(word for one in late for word in ("--allow", one))  # the person lets go what came late
            continue
        if run.code == UNDECIDED:
            problems = resolved(world)
            if problems or "ops" not in COMMANDS:
                return problems
            continue
        done = _nothing_to_do(world, scene)
        if run.code == 0 and not done:
            return ["I8: exit 0, and the plan was not carried out"]
        if done:
            return []
    return [f"I4: not settled after {RUNS_MAX} runs"]


def _nothing_to_do(world: World, scene: Scene) -> bool:
    if scene.command[0] == "destroy":
        return not kept(world.state).owned
    return world.run("plan", "--detailed-exitcode", *scene.command[4:]).code == 0


def resolved(world: World) -> list[str]:
    """What a person does who looked at the console: says what became of each operation that only they can decide."""
    left = kept(world.state).open
    if not left or any(intent.collection != "jobs" for intent in left):
        return ["I1: undecided, and not for want of a sign of the service's"]
    made = {entry["id"]: entry for entry in world.service.ledger() if entry["operation"] == "jobs.create"}
    for intent in left:
        found = next((id for id, entry in made.items() if intent.tag in json.dumps(entry)), "")
        said = ("--adopt", found) if found else ("--absent", "--reason", "it is not in the console")
        run = world.run("ops", "resolve", intent.op_id, *said)
        if run.code != 0:
            return [f"I1: `ops resolve` ended with {run.code}"]
    return []


# At the end -----------------------------------------------------------------------------------------------------------


def broken(world: World, scene: Scene) -> list[str]:
    """Every invariant that does not hold at the end of a trial, in words."""
    disk, entries, log = kept(world.state), world.service.ledger()[scene.entries :], world.log()
    return [
        *bought_once(disk, entries),
        *tagged(disk),
        *nothing_lost(world, disk, scene),
        *intent_first(log),
        *as_recorded(world, disk),
        *ours_alone(log),
        *said(world),
        *secrets(world),
        *(as_planned(entries, scene.buys) if scene.buys is not None else ()),
        *patience(log),
    ]


def bought_once(disk: Kept, entries: list[dict[str, Any]]) -> Iterator[str]:
    paid: Counter[tuple[Any, ...]] = Counter()
    for entry in entries:
        if entry["operation"] not in ("jobs.create", "deployments.create"):
            continue
        collection = entry["operation"].partition(".")[0]
        knows = [
            intent
            for intent in disk.intents
            if intent.collection == collection
            and (intent.result_id == entry["id"] or (intent.is_open and intent.tag and intent.tag in json.dumps(entry)))
        ]
        if len(knows) != 1:
            yield f"I1: {entry['operation']} of {entry['id']} belongs to {len(knows)} operations"
        for intent in knows:
            paid[intent.slot, intent.generation, intent.attempt] += 1
    for (slot, generation, _), times in paid.items():
        if times > 1:
            yield f"I1: {slot} was bought {times} times in generation {generation}"


def tagged(disk: Kept) -> Iterator[str]:
    for intent in disk.intents:
        if intent.verb == "create" and intent.tag != tag_of(
            Stamp(**disk.stamp), intent.slot, intent.generation, intent.attempt
        ):
            yield f"I1: the tag of {intent.slot} is not the one that can be computed again"


def nothing_lost(world: World, disk: Kept, scene: Scene) -> Iterator[str]:
    owned = {row.key for row in disk.owned}
    for collection in COLLECTIONS:
        for id, shown in world.live(collection).items():
            if f"{collection}/{id}" in owned | scene.owned | world.foreign:
                continue
            found = [i for i in disk.open if i.collection == collection and (not i.tag or i.tag in json.dumps(shown))]
            if not found:
                yield f"I2: {collection}/{id} is on the service, and nothing here knows it"


def intent_first(log: list[dict[str, Any]]) -> Iterator[str]:
    for entry in log:
        if entry["writes"] and entry["creates"]:
            alike = [i for i in entry["recorded"]["open"] if i["collection"] == entry["collection"]]
            named = [
                i for i in alike if i["verb"] == "create" and (i["tag"] in entry["body"] or i["collection"] in TAGLESS)
            ]
            if not named:
                yield f"I3: {entry['method']} {entry['path']} arrived without an open operation that names it"
        elif entry["writes"] and not any(entry["target"] in i["known_before"] for i in entry["recorded"]["open"]):
            yield f"I3: {entry['method']} {entry['path']} arrived without an open operation"


def as_recorded(world: World, disk: Kept) -> Iterator[str]:
    for row in disk.owned:
        shown = world.live(row.collection).get(row.id)
        if shown is None:
            if row.role is not Role.RETIRED:
                yield f"I6: {row.key} is recorded and not on the service"
            continue
        for name, value in world.fields(row.collection, row.id, shown).items():
            if name in row.last_applied and row.last_applied[name] != value:
                yield f"I6: {row.key} has {name} {value!r}, recorded is {row.last_applied[name]!r}"


def ours_alone(log: list[dict[str, Any]]) -> Iterator[str]:
    for entry in log:
        if entry["writes"] and not entry["creates"]:
            key = f"{entry['collection']}/{entry['target']}"
            if key not in entry["recorded"]["owned"]:
                yield f"I7: {entry['method']} {entry['path']} touched {key}, which was not ours then"


def said(world: World) -> Iterator[str]:
    for run in world.runs:
        for words in ("Traceback", "internal error"):
            if words in run.text:
                yield f"I8: {words} in the output of {' '.join(run.argv)}"


def secrets(world: World) -> Iterator[str]:
    texts = {f"output of {' '.join(run.argv)}": run.text.encode() for run in world.runs}
    for path in world.project.rglob("*"):
        if path.is_file() and "data" not in path.relative_to(world.project).parts:
            texts[str(path.relative_to(world.project))] = path.read_bytes()
    for where, data in texts.items():
        for what, secret in SECRETS.items():
            if secret.encode() in data:
                yield f"I9: {what} in {where}"


def as_planned(entries: list[dict[str, Any]], planned: Counter[str]) -> Iterator[str]:
    bought = Counter(entry["operation"] for entry in entries if entry["operation"] in PAID)
    for operation, times in bought.items():
        if times > planned[operation]:
            yield f"I10: {times} {operation}, the plan had {planned[operation]}"


def patience(log: list[dict[str, Any]]) -> Iterator[str]:
    row: list[dict[str, Any]] = []
    for entry in log:
        same = row and all(row[-1][name] == entry[name] for name in ("method", "path", "query", "body"))
        row = [*row, entry] if same and row[-1]["status"] >= 429 else [entry]
        if len(row) > 1 and entry["at_s"] - row[-2]["at_s"] < FLOOR_S:
            yield f"I11: {entry['method']} {entry['path']} again {entry['at_s'] - row[-2]['at_s']:.2f} s after an error"
        if len(row) > TRIES_MAX:
            yield f"I11: {entry['method']} {entry['path']} was tried {len(row)} times"


def _sent(world: World, run: Run) -> list[dict[str, Any]]:
    return world.log()[run.requests.start : run.requests.stop]
