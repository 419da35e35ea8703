"""Calling a deployed model: the native shape and OpenAI's (contract §6), at once or as events.

The answer is a stand-in that says so, the same for the same question; no model is anywhere near.
"""

from __future__ import annotations

import json
from typing import Any

from reconciler.emulator import deployments
from reconciler.emulator.backend import Transaction
from reconciler.emulator.dataset import count_tokens
from reconciler.emulator.fields import Json, items, mapping, optional_flag, optional_text, text
from reconciler.emulator.refusal import Refusal, bad_parameter
from reconciler.emulator.schemas import FLAG, OBJECT, TEXT, WHOLE, answer, several, shape, word
from reconciler.emulator.switches import NEW
from reconciler.emulator.wire import Call, Frames, Reply, Route

ECHO_CHARACTERS = 80
PIECE_CHARACTERS = 12


def generate(tx: Transaction, call: Call) -> Reply:
    model = _served(tx, call)
    wanted, parameters = mapping(call.body, "input"), mapping(call.body, "parameters")
    prompt = optional_text(wanted, "prompt")
    question = prompt or _question(items(wanted, "messages"))
    answer = _answer(model, question)
    as_message = parameters.get("result_format") == "message"
    if call.headers.get("x-dashscope-sse", "").lower() != "enable":
        return {"output": _output(answer, as_message, last=True), "usage": _usage(question, answer)}
    incremental = parameters.get("incremental_output") is True
    frames = []
    for number, (so_far, piece, last) in enumerate(_pieces(answer), 1):
        output = _output(piece if incremental else so_far, as_message, last=last)
        data = {"output": output, "usage": _usage(question, so_far), "request_id": call.request_id}
        frames.append(f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{_dump(data)}\n\n")
    return Frames(frames)


def chat(tx: Transaction, call: Call) -> Reply:
    model = _served(tx, call)
    question = _question(items(call.body, "messages"))
    answer = _answer(model, question)
    usage = _usage(question, answer)
    openai_usage = {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    head: Json = {"id": f"chatcmpl-{call.request_id}", "created": int(tx.now_s), "model": model}
    if not optional_flag(call.body, "stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": openai_usage}
    head["object"] = "chat.completion.chunk"
    chunks = [{**head, "choices": [_delta(piece, last=last)]} for _, piece, last in _pieces(answer)]
    if mapping(call.body, "stream_options").get("include_usage") is True:
        chunks.append({**head, "choices": [], "usage": openai_usage})
    return Frames([*(f"data: {_dump(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"])


def _served(tx: Transaction, call: Call) -> str:
    """The deployment's id; before it is served, and for anything else, there is no such model."""
    model = text(call.body, "model")
    lag_s = tx.switches.number("deployments.visibility_lag_s")
    deployment = deployments.find(tx, model)
    if deployment is None or not deployment.serves(tx.now_s, lag_s=lag_s):
        raise Refusal(404, "ModelNotFound", "Model not exist.")
    return model


def _question(messages: tuple[Any, ...]) -> str:
    """The text of the last message of the user."""
    for message in reversed(messages):
        if not isinstance(message, dict):
            raise bad_parameter("messages")
        if message.get("role") == "user":
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            return " ".join(str(part["text"]) for part in parts if isinstance(part, dict) and part.get("text"))
    raise bad_parameter("messages")


def _answer(model: str, question: str) -> str:
    return f"[emulator] {model} was asked: {question[:ECHO_CHARACTERS]}"


def _pieces(answer: str) -> list[tuple[str, str, bool]]:
    """The answer in pieces: all so far, what is new, whether it is the last."""
    ends = [*range(PIECE_CHARACTERS, len(answer), PIECE_CHARACTERS), len(answer)]
    starts = [0, *ends]
    return [(answer[:end], answer[start:end], end == len(answer)) for start, end in zip(starts, ends, strict=False)]


def _output(content: str, as_message: bool, *, last: bool) -> Json:
    reason = "stop" if last else "null"
    if not as_message:
        return {"text": content, "finish_reason": reason}
    return {"choices": [{"finish_reason": reason, "message": {"role": "assistant", "content": content}}]}


def _delta(piece: str, *, last: bool) -> Json:
    return {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": "stop" if last else None}


def _usage(question: str, answer: str) -> dict[str, int]:
    asked, answered = count_tokens(question), count_tokens(answer)
    return {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered}


def _dump(data: Json) -> str:
    return json.dumps(data, ensure_ascii=False)


MESSAGES = several(shape({"role": word("system", "user", "assistant"), "content": TEXT}))
ROUTES = (
    Route(
        "POST",
        "/api/v1/services/aigc/text-generation/generation",
        "models.generate",
        generate,
        body={
            "model": TEXT,
            "input": shape({}, {"prompt": TEXT, "messages": MESSAGES}),
            "parameters": shape({}, {"result_format": word("message", "text"), "incremental_output": FLAG}),
        },
        required=("model", "input"),
        answer=answer(output=OBJECT, usage=OBJECT),
        streams="asked",
    ),
    Route(
        "POST",
        "/compatible-mode/v1/chat/completions",
        "models.generate",
        chat,
        body={"model": TEXT, "messages": MESSAGES, "stream": FLAG, "stream_options": OBJECT},
        required=("model", "messages"),
        answer=answer(id=TEXT, object=TEXT, created=WHOLE, model=TEXT, choices=several(OBJECT), usage=OBJECT),
        streams="asked",
        profiles=(NEW,),
        more_members=True,
    ),
)
