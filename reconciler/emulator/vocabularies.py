"""Vocabularies, the hotwords of the v2 speech models: one endpoint, the verb in `input.action` (contract §4).

Everything is a POST, also what only reads; `list_vocabulary` shows no words and no total.
"""

from __future__ import annotations

import re
from typing import Any

from reconciler.emulator import clock
from reconciler.emulator.backend import Transaction
from reconciler.emulator.catalogue import SpeechModel
from reconciler.emulator.fields import Json, items, mapping, optional_integer, optional_text, text
from reconciler.emulator.refusal import Refusal, bad_parameter, invalid
from reconciler.emulator.schemas import OBJECT, TEXT, WHOLE, answer, like, several, shape, word
from reconciler.emulator.wire import Call, Reply, Route

COLLECTION = "vocabularies"
SERVICE_MODEL = "speech-biasing"
TEXT_CHARACTERS_MAX = 15
TEXT_PIECES_MAX = 7
_PREFIX = re.compile("[0-9a-z]{1,10}")


def customize(tx: Transaction, call: Call) -> Reply:
    if text(call.body, "model") != SERVICE_MODEL:
        raise invalid("Model not exist.")
    wanted = mapping(call.body, "input")
    output = _ACTIONS[wanted["action"]](tx, wanted)
    return {"output": output, "usage": {"count": 1}}


def operation(call: Call) -> str:
    action = mapping(call.body, "input").get("action")
    if not isinstance(action, str) or action not in _ACTIONS:
        raise bad_parameter("action")
    verb = action.removesuffix("_vocabulary")
    return f"vocabularies.{'get' if verb == 'query' else verb}"


def _create(tx: Transaction, wanted: Json) -> Json:
    target_model, prefix = text(wanted, "target_model"), text(wanted, "prefix")
    if not _PREFIX.fullmatch(prefix):
        raise bad_parameter("prefix")
    words = _words(_speech_model(tx, target_model), wanted)
    count, _ = tx.count_and_size(COLLECTION)
    if count >= tx.switches.number("vocab.quota"):
        raise Refusal(400, "Throttling.AllocationQuota", "Free allocated quota exceeded.")
    vocabulary_id = f"vocab-{prefix}-{tx.draw(COLLECTION).getrandbits(128):032x}"
    record: Json = {
        "vocabulary_id": vocabulary_id,
        "target_model": target_model,
        "prefix": prefix,
        "vocabulary": words,
        "created_s": tx.now_s,
        "modified_s": tx.now_s,
    }
    tx.insert(COLLECTION, vocabulary_id, record)
    tx.record(vocabulary_id, prefix=prefix, target_model=target_model, words=len(words))
    return {"vocabulary_id": vocabulary_id}


def _list(tx: Transaction, wanted: Json) -> Json:
    index = optional_integer(wanted, "page_index", least=0, most=10**6) or 0
    size = optional_integer(wanted, "page_size", least=1, most=1000) or 10
    prefix = optional_text(wanted, "prefix")
    _, records = tx.page(COLLECTION, index + 1, size, **({"prefix": prefix} if prefix else {}))
    shown = [{"vocabulary_id": record["vocabulary_id"], **_state(tx, record)} for record in records]
    return {"vocabulary_list": shown}


def _query(tx: Transaction, wanted: Json) -> Json:
    record = _existing(tx, wanted)
    return {"vocabulary": record["vocabulary"], "target_model": record["target_model"], **_state(tx, record)}


def _update(tx: Transaction, wanted: Json) -> Json:
    record = _existing(tx, wanted)
    words = _words(_speech_model(tx, record["target_model"]), wanted)
    changed = {**record, "vocabulary": words, "modified_s": tx.now_s}
    tx.replace(COLLECTION, record["vocabulary_id"], changed)
    tx.record(record["vocabulary_id"], words=len(words))
    return {}


def _delete(tx: Transaction, wanted: Json) -> Json:
    record = _existing(tx, wanted)
    tx.remove(COLLECTION, record["vocabulary_id"])
    tx.record(record["vocabulary_id"])
    return {}


_ACTIONS = {
    "create_vocabulary": _create,
    "list_vocabulary": _list,
    "query_vocabulary": _query,
    "update_vocabulary": _update,
    "delete_vocabulary": _delete,
}


def _speech_model(tx: Transaction, code: str) -> SpeechModel:
    model = tx.catalogue.speech_models.get(code)
    if model is None or model.service != "vocabulary":
        raise invalid("Model not exist.")
    return model


def _words(model: SpeechModel, wanted: Json) -> list[Json]:
    given = items(wanted, "vocabulary")
    if not 0 < len(given) <= model.max_words:
        raise invalid(f"vocabulary must hold 1 to {model.max_words} words, not {len(given)}.")
    return [_word(model, item) for item in given]


def _word(model: SpeechModel, item: Any) -> Json:
    if not isinstance(item, dict):
        raise bad_parameter("vocabulary")
    word = text(item, "text")
    if not _fits(word):
        raise invalid(
            f"The text {word!r} is too long: at most {TEXT_CHARACTERS_MAX} characters, "
            f"or {TEXT_PIECES_MAX} pieces where all of it is ASCII."
        )
    weight = item.get("weight")
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= 5:
        raise invalid(f"The weight of {word!r} must be a whole number in 1..5.")
    lang = optional_text(item, "lang")
    if lang is not None and model.languages is not None and lang not in model.languages:
        raise invalid(f"The lang of {word!r} must be one of {', '.join(sorted(model.languages))}.")
    return {"text": word, "weight": weight, **({} if lang is None else {"lang": lang})}


def _fits(word: str) -> bool:
    if word.isascii():
        return 0 < len(word.split()) <= TEXT_PIECES_MAX
    return len(word) <= TEXT_CHARACTERS_MAX


def _existing(tx: Transaction, wanted: Json) -> Json:
    record = tx.get(COLLECTION, text(wanted, "vocabulary_id"))
    if record is None:
        raise Refusal(400, "BadRequest.ResourceNotExist", "The Required resource not exist.")
    return record


def _state(tx: Transaction, record: Json) -> Json:
    settled = tx.now_s >= record["modified_s"] + tx.switches.number("vocab.settle_s")
    return {
        "gmt_create": clock.spaced(record["created_s"]),
        "gmt_modified": clock.spaced(record["modified_s"]),
        "status": "OK" if settled else "UNDEPLOYED",
    }


WISH = shape(
    {"action": word(*_ACTIONS)},
    {
        **dict.fromkeys(("target_model", "prefix", "vocabulary_id"), TEXT),
        "vocabulary": several(shape({"text": TEXT, "weight": WHOLE}, {"lang": TEXT})),
        **dict.fromkeys(("page_index", "page_size"), WHOLE),
    },
)
ROUTES = (
    Route(
        "POST",
        "/api/v1/services/audio/asr/customization",
        operation,
        customize,
        body={"model": like(SERVICE_MODEL, TEXT), "input": WISH, "parameters": OBJECT},
        required=("model", "input"),
        answer=answer(output=OBJECT, usage=OBJECT),
        several=tuple(f"vocabularies.{verb}" for verb in ("create", "list", "get", "update", "delete")),
    ),
)
