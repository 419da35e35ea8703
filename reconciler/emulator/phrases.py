"""Phrase lists, the hotwords of the Paraformer v1 models (contract §5). They ride the fine-tune endpoint.

A write is a job that is finished in the same answer, does not train and is in no job list. The words are kept and never
shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.emulator import clock
from reconciler.emulator.backend import Transaction
from reconciler.emulator.fields import Json, mapping, optional_text, text
from reconciler.emulator.refusal import invalid, not_found
from reconciler.emulator.schemas import TEXT, answer, numbered, paged, shape
from reconciler.emulator.wire import Call, Reply, Route, page

TRAINING_TYPE = "compile_asr_phrase"
COLLECTION = "phrases"
WEIGHTS = frozenset({*range(1, 6), *range(-6, 0)})
_CHINESE = re.compile("[\u3400-\u9fff]+")


def write(tx: Transaction, call: Call) -> Reply:
    """Creates a list, or replaces the words of the one named by `finetuned_output`, which keeps its id."""
    model = text(call.body, "model")
    words = _words(tx, model, mapping(mapping(call.body, "hyper_parameters"), "phrase_list"))
    phrase_id = optional_text(call.body, "finetuned_output")
    if phrase_id and _existing(tx, phrase_id)["model"] != model:
        raise invalid(f"The model of {phrase_id} is not {model}.")
    stem = f"ft-{clock.stamp(tx.now_s)}-"
    tail = tx.fresh_tail(tx.draw(COLLECTION), COLLECTION, f"{model}-{stem}")
    record: Json = {
        "finetuned_output": phrase_id or f"{model}-{stem}{tail}",
        "job_id": f"{stem}{tail}",
        "model": model,
        "created_s": tx.now_s,
        "phrase_list": words,
    }
    (tx.replace if phrase_id else tx.insert)(COLLECTION, record["finetuned_output"], record)
    tx.record(record["finetuned_output"], model=model, job_id=record["job_id"], words=len(words))
    return {
        "output": {
            "job_id": record["job_id"],
            "status": "SUCCEEDED",
            "finetuned_output": record["finetuned_output"],
            "model": model,
            "training_type": TRAINING_TYPE,
            "create_time": clock.spaced(tx.now_s),
        }
    }


def listing(tx: Transaction, call: Call) -> Reply:
    number, size = page(call, size=10, most=100)
    total, records = tx.page(COLLECTION, number, size)
    shown = [_shown(record) for record in records]
    return {"output": {"page_no": number, "page_size": size, "total": total, "finetuned_outputs": shown}}


def get(tx: Transaction, call: Call) -> Reply:
    return {"output": _shown(_existing(tx, call.path["phrase_id"]))}


def delete(tx: Transaction, call: Call) -> Reply:
    phrase_id = call.path["phrase_id"]
    _existing(tx, phrase_id)
    tx.remove(COLLECTION, phrase_id)
    tx.record(phrase_id)
    return {"output": {"finetuned_output": phrase_id}}


def _words(tx: Transaction, model: str, phrase_list: Mapping[str, Any]) -> Mapping[str, int]:
    speech = tx.catalogue.speech_models.get(model)
    if speech is None or speech.service != "phrase":
        raise invalid("Model not exist.")
    if not 0 < len(phrase_list) <= speech.max_words:
        raise invalid(f"phrase_list must hold 1 to {speech.max_words} phrases, not {len(phrase_list)}.")
    for phrase, weight in phrase_list.items():
        if not _fits(phrase):
            raise invalid(f"Phrase {phrase!r} is too long: at most 10 Chinese characters, or 5 words.")
        if not isinstance(weight, int) or isinstance(weight, bool) or weight not in WEIGHTS:
            raise invalid(f"The weight of phrase {phrase!r} must be a whole number in 1..5 or -6..-1.")
    return phrase_list


def _fits(phrase: str) -> bool:
    if _CHINESE.fullmatch(phrase):
        return len(phrase) <= 10
    return 0 < len(phrase.split()) <= 5


def _existing(tx: Transaction, phrase_id: str) -> Json:
    record = tx.get(COLLECTION, phrase_id)
    if record is None:
        raise not_found()
    return record


def _shown(record: Json) -> Json:
    shown = {name: record[name] for name in ("finetuned_output", "job_id", "model")}
    return {**shown, "create_time": clock.spaced(record["created_s"]), "output_type": "custom_resource"}


LIST_TEXTS = ("finetuned_output", "job_id", "model", "create_time", "output_type")
PHRASE_LIST = shape(dict.fromkeys(LIST_TEXTS, TEXT))
ROUTES = (
    Route(
        "GET",
        "/api/v1/fine-tunes/outputs",
        "phrases.list",
        listing,
        query=paged(10, 100),
        answer=answer(output=numbered("finetuned_outputs", PHRASE_LIST)),
    ),
    Route(
        "GET",
        "/api/v1/fine-tunes/outputs/{phrase_id}",
        "phrases.get",
        get,
        answer=answer(output=PHRASE_LIST),
    ),
    Route(
        "DELETE",
        "/api/v1/fine-tunes/outputs/{phrase_id}",
        "phrases.delete",
        delete,
        answer=answer(output=shape({"finetuned_output": TEXT})),
    ),
)
