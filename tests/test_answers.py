"""Answers with each field dropped, renamed, retyped, nulled or nested in turn: a collection reads them all.

The answers are recorded from the emulator in a real apply, so that a new collection or request is covered by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler import catalogue, kinds
from reconciler.api import Api, Key, Reply
from reconciler.resource import Collection, Observed, Phase, Request
from tests.desk import KEY, Desk, document, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
WRONG: tuple[Any, ...] = (None, 7, 1.5, "", "x" * 300, "\x1b[31m", True, [], [None, 3, "x"], {}, {"a": {"b": []}})


@pytest.fixture
def answers(desk: Desk) -> list[tuple[Request, dict[str, Any]]]:
    """Every request a whole life of all collections sends, with its answer."""
    heard: list[tuple[Request, dict[str, Any]]] = []
    desk.rows("data/d.jsonl", texts(40))
    job = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
    model = {"fineTuneJob": "j", "checkpoint": "checkpoint-5"}
    words = [{"text": "热词", "weight": 4, "lang": "zh"}]
    desk.declare(
        document("Dataset", "d", {"source": "data/d.jsonl", "format": "sft"}),
        document("FineTuneJob", "j", job),
        document("Deployment", "p", {"model": model, "plan": "mu", "deploySpec": "MU1", "capacity": 4}),
        document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": words}),
        document("HotwordTable", "v", {"targetModel": "paraformer-v1", "words": [{"text": "热词", "weight": 4}]}),
        profile="2026",
    )
    desk.apply()
    with Api(desk.emulator.origin, Key(KEY)) as api:
        for entry in desk.emulator.ledger():
            name = entry["operation"].partition(".")[0]
            collection = COLLECTIONS[name]
            asked = filter(None, (collection.list(1), collection.read(entry["id"])))
            heard += ((request, dict(api.send(request).body)) for request in asked)
    return heard


COLLECTIONS = kinds.collections(catalogue.load().for_profile("2026"))


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
            yield from ([*value[:index], mutant, *value[index + 1 :]] for mutant in mutants(item))


def read(collection: Collection, body: dict[str, Any]) -> list[Observed]:
    """Everything that is ever asked of an answer, as `observe` and `apply` ask it."""
    Reply(body, "")
    collection.total(body)
    collection.created_id(body, None)
    collection.refusal(body)
    collection.answer(body)
    collection.figure(collection.log_lines(body))
    seen = [collection.parse(item) for item in collection.items(body)] if collection.list(1) else []
    seen.append(collection.parse(collection.item("some-id:checkpoint-1", body)))
    for observed in seen:
        collection.price(observed.fields, base=str(observed.outputs.get("base", "")))
        collection.stale(observed, {})
        collection.foreign(observed, {})
    return seen


def test_no_answer_is_too_odd_to_read(answers: list[tuple[Request, dict[str, Any]]]) -> None:
    assert {request.operation.partition(".")[0] for request, _ in answers} == set(COLLECTIONS)
    tried = 0
    for request, body in answers:
        collection = COLLECTIONS[request.operation.partition(".")[0]]
        for mutant in mutants(body):
            if isinstance(mutant, dict):
                read(collection, copy.deepcopy(mutant))
                tried += 1
    assert tried > 1000


def test_a_status_never_heard_of_is_neither_success_nor_failure() -> None:
    """Unknown means: in progress, as far as anybody can tell. Nothing is bought or deleted because of it."""
    for collection in COLLECTIONS.values():
        observed = collection.parse({"status": "HIBERNATING", "finetuned_output": "m", "file_id": "f"})
        if observed.status == "HIBERNATING":
            assert observed.phase is Phase.UNKNOWN, collection.name
