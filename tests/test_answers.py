"""Answers with each field dropped, renamed, retyped, nulled, nested or of somebody else: a typed error, or the truth.

The answers are recorded from the emulator in a whole life of all collections, so that a new collection or request is
covered by itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reconciler import catalogue, kinds
from reconciler.api import Api, Key, Patience, Reply
from reconciler.apply import Stage, Terms
from reconciler.errors import ApiError, ReconcilerError
from reconciler.observe import list_all, look, read_one
from reconciler.resource import Collection, Observed, Phase, Request, Slot
from reconciler.state import Owned, Role
from tests.desk import Desk, document, emulator, lines, texts
from tests.far_end import Answer, Received, error, far_end, reply

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
OTHER = "other-1"  # what could be an id, or a status, and is none that anybody knows
WRONG: tuple[Any, ...] = (
    *(None, 7, 1.5, "", "x" * 300, "\x1b[31m", True, [], [None, 3, "x"], {}, {"a": {"b": []}}),
    OTHER,
)
PROFILES = ("2026", "dec-2024")
COLLECTIONS = {name: kinds.collections(catalogue.load().for_profile(name)) for name in PROFILES}
PAID = ("jobs.create", "deployments.create")


# A whole life ---------------------------------------------------------------------------------------------------------


def declared(profile: str, *, grown: bool) -> list[dict[str, Any]]:
    """Every collection of a profile; `grown`, with a change of everything that can be changed in place."""
    job = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
    model: dict[str, Any] = {"fineTuneJob": "j"}
    capacity, words = (8, ["热词", "冷词"]) if grown else (4, ["热词"])
    serving: dict[str, Any] = {"model": model, "capacity": capacity, "smoke": [{"prompt": "hello"}]}
    if profile == "2026":
        model["checkpoint"] = "checkpoint-5"
        serving |= {"plan": "mu", "deploySpec": "MU1"} | ({"limits": {"rpm": 10}} if grown else {})
    else:
        job |= {"model": "qwen2.5-14b-instruct"}
    return [
        document("Dataset", "d", {"source": "data/d.jsonl", "format": "sft"}),
        document("Dataset", "spare", {"source": "data/spare.jsonl", "format": "sft"}),
        document("FineTuneJob", "j", job),
        document("Deployment", "p", serving),
        *(
            document(
                "HotwordTable",
                name,
                {"targetModel": f"paraformer-v{version}", "words": [{"text": text, "weight": 4} for text in words]},
            )
            for name, version in (("v", 1), ("w", 2))
        ),
    ]


def chapters(desk: Desk, profile: str) -> Iterator[dict[str, Any]]:
    """What to ask of each apply, one after the other: make, change, let go."""
    desk.rows("data/d.jsonl", texts(40))
    desk.rows("data/spare.jsonl", texts(9))
    desk.declare(*declared(profile, grown=False), profile=profile)
    yield {}
    desk.declare(*declared(profile, grown=True), profile=profile)
    yield {}
    yield {"destroy": True}


WATCHED = Terms(watch=True, timeout_s=6 * 3600)
Heard = list[tuple[Request, dict[str, Any]]]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Heard]:
    """By profile: every request of a life, with its answer."""
    return {profile: life(tmp_path_factory.mktemp(profile), profile) for profile in PROFILES}


def life(folder: Path, profile: str) -> Heard:
    heard: Heard = []
    really = Api.send

    def send(self: Api, request: Request, **options: Any) -> Reply:
        answer = really(self, request, **options)
        heard.append((request, dict(answer.body)))
        return answer

    with pytest.MonkeyPatch.context() as patch, desk_on(folder, profile) as desk:
        patch.setattr(Api, "send", send)
        for choices in chapters(desk, profile):
            applied = desk.apply(WATCHED, **choices)
            assert {one.stage for one in applied.progress} == {Stage.DONE}, lines(applied.snapshot.plan)
    return heard


class desk_on:
    """A desk at an emulator of one profile."""

    def __init__(self, folder: Path, profile: str) -> None:
        self.folder, self.profile, self.open = folder, profile, ExitStack()

    def __enter__(self) -> Desk:
        service = self.open.enter_context(emulator(self.folder / "service", profile=self.profile))
        (self.folder / "project").mkdir()
        return Desk(self.folder / "project", service)

    def __exit__(self, *why: object) -> None:
        self.open.close()


# What can be wrong with an answer -------------------------------------------------------------------------------------


def mutants(value: Any) -> Iterator[Any]:
    """The value with one thing wrong, for every place in it and every kind of wrong."""
    yield from WRONG
    if isinstance(value, dict):
        for name in value:
            rest = {other: item for other, item in value.items() if other != name}
            yield rest
            yield {**rest, f"{name}_renamed": value[name]}
            yield {**value, name: {"nested": value[name]}}
            yield from ({**value, name: mutant} for mutant in mutants(value[name]))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield value[:index] + value[index + 1 :]
            yield [*value, item]
            yield from ([*value[:index], mutant, *value[index + 1 :]] for mutant in mutants(item))


def objects(body: Any) -> Iterator[dict[str, Any]]:
    """The mutants that still are an object: whatever else is no answer, and `test_api` has those."""
    before = json.dumps([body, WRONG])
    yield from (mutant for mutant in mutants(body) if isinstance(mutant, dict))
    assert json.dumps([body, WRONG]) == before, "who reads an answer leaves it as it is"


def read(collection: Collection, body: dict[str, Any]) -> list[Observed]:
    """Everything that is ever asked of an answer, as `observe` and `apply` ask it."""
    Reply(body, "")
    collection.total(body)
    collection.created_id(body, None)
    collection.refusal(body)
    collection.answer(body)
    collection.figure(collection.log_lines(body))
    seen = [collection.parse(item) for item in collection.items(body) or ()] if collection.list(1) else []
    seen.append(collection.parse(collection.item("some-id:checkpoint-1", body) or {}))
    for observed in seen:
        collection.price(observed.fields, base=str(observed.outputs.get("base", "")))
        collection.stale(observed, {})
        collection.foreign(observed, {})
    return seen


def told(lives: dict[str, Heard], *operations: str) -> Iterator[tuple[Collection, Request, dict[str, Any]]]:
    """The recorded answers of these operations, or of all: of one operation those that differ in shape or status."""
    for profile, heard in lives.items():
        known = set()
        for request, body in heard:
            name, _, verb = request.operation.partition(".")
            collection = COLLECTIONS[profile]["deployments" if name == "models" or not verb else name]
            shape = (request.operation, json.dumps([_shape(body), _statuses(body)], sort_keys=True))
            if shape not in known and (not operations or verb in operations):
                known.add(shape)
                yield collection, request, body


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    return [_shape(item) for item in value[:1]] if isinstance(value, list) else ""


def _statuses(value: Any) -> list[str]:
    found = [value["status"]] if isinstance(value, dict) and isinstance(value.get("status"), str) else []
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found + [status for item in below for status in _statuses(item)]


# What the layers above believe ----------------------------------------------------------------------------------------


def test_no_answer_is_too_odd_to_read(lives: dict[str, Heard]) -> None:
    tried = 0
    for collection, _, body in told(lives):
        for mutant in objects(body):
            read(collection, mutant)
            tried += 1
    assert tried > 5000


def test_a_life_holds_every_operation(lives: dict[str, Heard]) -> None:
    """What is not recorded is not tried: a new operation must be added to the life, not forgotten."""
    assert {request.operation for request, _ in lives["2026"]} >= OPERATIONS


@dataclass
class Script:
    """What the far end answers to which question, until the test says otherwise."""

    api: Api
    says: dict[str, Any]


@pytest.fixture
def script() -> Iterator[Script]:
    says: dict[str, Any] = {}

    def respond(received: Received) -> Answer:
        path = received.target.removeprefix("/api/v1").partition("?")[0]
        asked = key(received.method, path, received.body)
        return reply(200, script.says[asked]) if asked in script.says else error(404, "NotFound", "Not found!")

    with (
        far_end(respond) as end,
        Api(end.origin, Key("sk-test"), rate_per_s=None, patience=Patience(tries=1)) as api,
    ):
        script = Script(api, says)
        yield script


def key(method: str, path: str, body: bytes) -> str:
    """A question without its page."""
    asked = json.loads(body).get("input", {}) if body.startswith(b"{") else {}
    return f"{method} {path} {asked.get('action', '')} {asked.get('vocabulary_id', '')}".strip()


def question(request: Request) -> str:
    return key(request.method, request.path, json.dumps(request.body or {}).encode())


def owned(collection: Collection, truth: Observed) -> Owned:
    return Owned(Slot("Any/one"), collection.name, truth.id, Role.CURRENT, "", {}, dict(truth.outputs))


def faithful(truth: Observed, believed: Observed | None) -> None:
    """Whether a belief can cost nothing: the object is there, and neither ready nor failed unless it is so in truth."""
    assert believed is not None, "an answer that cannot be read is no absence"
    assert believed.id == truth.id
    assert believed.phase in {truth.phase, Phase.PENDING, Phase.UNKNOWN}


def test_no_list_makes_an_object_of_ours_vanish_or_end(lives: dict[str, Heard], script: Script) -> None:
    """Whatever is wrong with the list: what is ours is found by its id, or nothing is believed at all."""
    tried = Counter[str]()
    for collection, request, body in told(lives, "list"):
        listed = [] if collection.list(1) is None else [collection.parse(item) for item in collection.items(body) or ()]
        for truth in listed[:1]:
            (entry, *_) = [item for item in collection.items(body) or () if collection.parse(item).id == truth.id]
            whole = {"output": entry, "data": entry}
            for mutant in objects(body):
                script.says = {question(request): mutant, question(collection.read(truth.id)): whole}
                try:
                    seen = look(script.api, collection, [owned(collection, truth)])
                except ApiError:
                    tried["refused"] += 1
                else:
                    faithful(truth, seen.get(truth.id))
                    tried["believed"] += 1
    assert min(tried["refused"], tried["believed"]) > 200, tried


def test_no_list_that_cannot_be_read_is_empty(lives: dict[str, Heard], script: Script) -> None:
    """A creation whose answer was lost is looked for in a list: not seeing it there is what allows a second one."""
    tried = 0
    for collection, request, body in told(lives, "list"):
        if collection.list(1) is None or not (truths := collection.items(body)):
            continue
        ids = {collection.parse(item).id for item in truths}
        for mutant in objects(body):
            script.says = {question(request): mutant}
            try:
                seen = list_all(script.api, collection)
            except ApiError:
                continue
            assert len(ids - seen.keys()) <= 1, "one thing is wrong, so one object is missing at most"
            tried += 1
    assert tried > 200


def test_no_read_takes_one_object_for_another_or_for_none(lives: dict[str, Heard], script: Script) -> None:
    tried = Counter[str]()
    for collection, request, body in told(lives, "get"):
        script.says = {question(request): body}
        truth = collection.parse(collection.item("", body) or {})
        remote_id = truth.id or str((request.body or {}).get("input", {}).get("vocabulary_id"))
        truth = read_one(script.api, collection, remote_id) or truth
        for mutant in objects(body):
            script.says = {question(request): mutant}
            try:
                faithful(truth, read_one(script.api, collection, remote_id))
                tried["believed"] += 1
            except ApiError:
                tried["refused"] += 1
    assert min(tried["refused"], tried["believed"]) > 20, tried


def test_an_answer_about_somebody_else_is_no_answer(lives: dict[str, Heard], script: Script) -> None:
    for collection, request, body in told(lives, "get"):
        envelope = "data" if "data" in body else "output"
        for id_field in {"job_id", "file_id", "deployed_model", "finetuned_output"} & body[envelope].keys():
            mutant = {**body, envelope: {**body[envelope], id_field: OTHER}}
            remote_id = request.path.rpartition("/")[2]
            script.says = {question(request): mutant}
            if body[envelope][id_field] == remote_id:
                with pytest.raises(ApiError, match="something else"):
                    read_one(script.api, collection, remote_id)


def test_no_creation_is_done_by_an_id_that_is_none(lives: dict[str, Heard]) -> None:
    """Its own id, or no id, which leaves it open; refused only where the service says so."""
    tried = 0
    for collection, request, body in told(lives, "create", "publish"):
        truth = collection.created_id(body, request)
        assert truth
        for mutant in objects(body):
            believed = collection.created_id(mutant, request)
            assert believed in (truth, None, OTHER), believed
            if believed is None and collection.refusal(mutant):
                said = json.dumps(mutant)
                assert '"failed_uploads": [{' in said or '"output": false' in said
            tried += 1
    assert tried > 300


def test_a_status_never_heard_of_is_neither_success_nor_failure() -> None:
    """Unknown means: in progress, as far as anybody can tell. Nothing is bought or deleted because of it."""
    for collection in COLLECTIONS["2026"].values():
        observed = collection.parse({"status": "HIBERNATING", "finetuned_output": "m", "file_id": "f"})
        if observed.status == "HIBERNATING":
            assert observed.phase is Phase.UNKNOWN, collection.name


# The whole engine -----------------------------------------------------------------------------------------------------

OPERATIONS = {
    *("files.create", "files.list", "files.delete"),
    *("jobs.create", "jobs.list", "jobs.logs"),
    *("checkpoints.publish", "checkpoints.list"),
    *("deployments.create", "deployments.list", "deployments.scale", "deployments.update", "deployments.delete"),
    *("vocabularies.create", "vocabularies.list", "vocabularies.get", "vocabularies.update", "vocabularies.delete"),
    *("phrases.create", "phrases.list", "phrases.update", "phrases.delete"),
    "inference",
}


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every member of an answer, the way a fault names it."""
    if path:
        yield ".".join(path)
    if isinstance(value, dict):
        for name, item in value.items():
            if "." not in name:
                yield from places(item, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, "*"))


Edit = Callable[[Random, dict[str, Any]], dict[str, Any]]


def removed(random: Random, body: dict[str, Any]) -> dict[str, Any]:
    return {"remove": [random.choice([place for place in places(body) if not place.endswith("*")])]}


def retyped(random: Random, body: dict[str, Any]) -> dict[str, Any]:
    return {"set": {random.choice(list(places(body))): random.choice(WRONG)}}


def emptied(random: Random, body: dict[str, Any]) -> dict[str, Any]:
    return {"set": dict.fromkeys(body)}


EDITS: dict[str, Edit] = {"removed": removed, "retyped": retyped, "emptied": emptied}
CASES = {(operation, Random(operation).choice(sorted(EDITS))) for operation in sorted(OPERATIONS)}
CASES |= {(made, "emptied") for made in OPERATIONS if made.endswith((".create", ".publish"))}


@pytest.mark.parametrize(("operation", "edit"), sorted(CASES))
def test_no_answer_buys_twice_or_stops_the_next_apply(
    operation: str, edit: str, lives: dict[str, Heard], tmp_path: Path
) -> None:
    """A life in which one operation is answered oddly in every chapter; once that is over, three applies suffice."""
    random = Random(f"{operation} {edit}")
    body = next(body for request, body in lives["2026"] if request.operation == operation)
    rule = {
        "operation": operation.replace("inference", "models.generate"),
        "times": 2,
        "edit": EDITS[edit](random, body),
    }
    with desk_on(tmp_path, "2026") as desk:
        for choices in chapters(desk, "2026"):
            desk.emulator.control("faults", {"faults": [rule]})
            with suppress(ReconcilerError):
                desk.apply(WATCHED, **choices)
            desk.emulator.control("faults", {"faults": []})
            settled(desk, rule, **choices)
        made = Counter(desk.emulator.operations())
        assert {paid: made[paid] for paid in PAID} == dict.fromkeys(PAID, 1), rule


def settled(desk: Desk, rule: dict[str, Any], **choices: Any) -> None:
    """Without faults at most three applies come to an empty plan."""
    for _ in range(3):
        if not lines(desk.plan(**choices)):
            return
        desk.apply(WATCHED, **choices)
    assert lines(desk.plan(**choices)) == [], rule
