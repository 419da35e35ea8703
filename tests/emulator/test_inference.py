"""Calling a deployed model: contract §6, both shapes, at once and as events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.stand import GENERATION, MINUTE, Emulator, Start

CHAT = "/compatible-mode/v1/chat/completions"
MESSAGES = [{"role": "system", "content": "brief"}, {"role": "user", "content": "你是谁?"}]
SSE = {"X-DashScope-SSE": "enable"}


@pytest.fixture
def served(start: Start) -> tuple[Emulator, str]:
    emulator = start(deployments__visibility_lag_s=0)
    deployed_model: str = emulator.deploy()["deployed_model"]
    emulator.advance(11 * MINUTE)
    return emulator, deployed_model


def events(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    frames = text.removesuffix("\n\n").split("\n\n")
    data = [line.removeprefix("data:") for frame in frames for line in frame.split("\n") if line.startswith("data:")]
    return [json.loads(item) for item in data if item.strip() != "[DONE]"]


def test_the_message_form(served: tuple[Emulator, str]) -> None:
    emulator, model = served
    body = {"model": model, "input": {"messages": MESSAGES}, "parameters": {"result_format": "message"}}
    answer = emulator.ok("POST", GENERATION, json=body)
    (choice,) = answer["output"]["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {"role": "assistant", "content": f"[emulator] {model} was asked: 你是谁?"}
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_the_text_form_is_the_default(served: tuple[Emulator, str]) -> None:
    emulator, model = served
    answer = emulator.ok("POST", GENERATION, json={"model": model, "input": {"prompt": "hello"}, "parameters": {}})
    assert answer["output"] == {"text": f"[emulator] {model} was asked: hello", "finish_reason": "stop"}


def test_the_same_question_has_the_same_answer(served: tuple[Emulator, str]) -> None:
    emulator, model = served
    body = {"model": model, "input": {"messages": MESSAGES}}
    assert emulator.ok("POST", GENERATION, json=body)["output"] == emulator.ok("POST", GENERATION, json=body)["output"]


def test_content_in_parts_is_understood(served: tuple[Emulator, str]) -> None:
    emulator, model = served
    parts = [{"role": "user", "content": [{"image": "https://x.invalid/a.png"}, {"text": "what?"}]}]
    assert (
        "what?"
        in emulator.ok("POST", GENERATION, json={"model": model, "input": {"messages": parts}})["output"]["text"]
    )


@pytest.mark.parametrize("wanted", [{}, {"messages": []}, {"messages": ["x"]}, {"messages": [{"role": "system"}]}])
def test_a_call_without_a_question_is_refused(served: tuple[Emulator, str], wanted: Any) -> None:
    emulator, model = served
    assert emulator.refused("POST", GENERATION, json={"model": model, "input": wanted})[:2] == (400, "InvalidParameter")


@pytest.mark.parametrize("incremental", [True, False])
def test_events_carry_the_answer_whole_or_in_pieces(served: tuple[Emulator, str], incremental: bool) -> None:
    emulator, model = served
    parameters = {"result_format": "message", "incremental_output": incremental}
    body = {"model": model, "input": {"messages": MESSAGES}, "parameters": parameters}
    answer = emulator.call("POST", GENERATION, json=body, headers=SSE)
    assert answer.headers["content-type"].startswith("text/event-stream")
    seen = [event["output"]["choices"][0] for event in events(answer.text)]
    contents = [choice["message"]["content"] for choice in seen]
    whole = f"[emulator] {model} was asked: 你是谁?"
    assert len(contents) > 1
    assert ("".join(contents) if incremental else contents[-1]) == whole
    assert [choice["finish_reason"] for choice in seen] == ["null"] * (len(seen) - 1) + ["stop"]


def test_the_openai_shape(served: tuple[Emulator, str]) -> None:
    emulator, model = served
    answer = emulator.ok("POST", CHAT, json={"model": model, "messages": MESSAGES, "temperature": 1})
    assert (answer["object"], answer["model"]) == ("chat.completion", model)
    assert "你是谁?" in answer["choices"][0]["message"]["content"]
    assert answer["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


def test_the_openai_shape_as_events(served: tuple[Emulator, str]) -> None:
    emulator, model = served
    body = {"model": model, "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    answer = emulator.call("POST", CHAT, json=body)
    assert answer.text.endswith("data: [DONE]\n\n")
    *chunks, last = events(answer.text)
    content = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert content == f"[emulator] {model} was asked: 你是谁?"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 0


def test_before_it_runs_there_is_no_such_model(emulator: Emulator) -> None:
    """The id of a deployment in the making, a job's output, a base model: none can be called."""
    job = emulator.trained()
    for model in (emulator.deploy()["deployed_model"], job["finetuned_output"], "qwen3.5-9b"):
        body = {"model": model, "input": {"messages": MESSAGES}}
        assert emulator.refused("POST", GENERATION, json=body) == (404, "ModelNotFound", "Model not exist.")
        error = emulator.call("POST", CHAT, json={"model": model, "messages": MESSAGES})
        assert (error.status_code, error.json()["error"]["code"]) == (404, "ModelNotFound")


@pytest.mark.parametrize(("lag_s", "at_first"), [(0, 200), (60, 404), (600, 404)])
def test_how_long_a_running_model_stays_unknown(start: Start, lag_s: int, at_first: int) -> None:
    emulator = start(deployments__visibility_lag_s=lag_s)
    model = emulator.deploy()["deployed_model"]
    while emulator.deployment_now(model)["status"] != "RUNNING":
        emulator.advance(1)
    body = {"model": model, "input": {"messages": MESSAGES}}
    assert emulator.call("POST", GENERATION, json=body).status_code == at_first
    emulator.advance(lag_s)
    assert emulator.call("POST", GENERATION, json=body).status_code == 200


def test_a_model_is_served_while_it_scales_and_not_once_it_is_deleted(served: tuple[Emulator, str]) -> None:
    emulator, model = served
    body = {"model": model, "input": {"messages": MESSAGES}}
    emulator.ok("PUT", f"/api/v1/deployments/{model}/scale", json={"capacity": 8})
    assert emulator.call("POST", GENERATION, json=body).status_code == 200
    emulator.advance(3 * MINUTE)
    emulator.ok("DELETE", f"/api/v1/deployments/{model}")
    assert emulator.call("POST", GENERATION, json=body).status_code == 404


def test_december_2024_has_only_the_native_shape(old: Emulator) -> None:
    assert old.call("POST", CHAT, json={"model": "x", "messages": MESSAGES}).status_code == 404
