"""The service's own walk-through, its seven steps in December 2024 and today, with nothing but HTTP.

No code of ours is on the client side: what a curl script would do, against an emulator that runs fast.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.emulator.server import serve

ROWS = [
    {"messages": [{"role": "user", "content": f"{n} + {n} = ?"}, {"role": "assistant", "content": f"{2 * n}"}]}
    for n in range(100)
]
STEPS = {
    "dec-2024": {
        "job": {"model": "qwen-turbo", "hyper_parameters": {}, "training_type": "sft"},
        "deployment": {"capacity": 2},
    },
    "2026": {
        "job": {
            "model": "qwen3.5-9b",
            "hyper_parameters": {"n_epochs": 2, "batch_size": 16, "max_length": 2048},
            "training_type": "sft",
        },
        "deployment": {"capacity": 4, "plan": "mu", "deploy_spec": "MU1"},
    },
}


@pytest.mark.parametrize("profile", STEPS)
def test_the_seven_steps(tmp_path: Path, profile: str) -> None:
    """Upload, create, get, logs, deploy, get, call: each step uses only what the step before answered."""
    with (
        serve(tmp_path, profile=profile, speed=20_000) as origin,
        httpx.Client(base_url=f"{origin}/api/v1", headers={"Authorization": "Bearer walk"}, timeout=30) as client,
    ):
        steps: Any = STEPS[profile]
        content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()

        uploaded = ask(client, "POST", "/files", files={"files": ("sample.jsonl", content)}, data={"descriptions": "a"})
        file_id = uploaded["data"]["uploaded_files"][0]["file_id"]

        job = ask(client, "POST", "/fine-tunes", json={"training_file_ids": [file_id], **steps["job"]})["output"]

        trained = wait(client, f"/fine-tunes/{job['job_id']}", "SUCCEEDED")

        log = ask(client, "GET", f"/fine-tunes/{job['job_id']}/logs?offset=0&line=1000")["output"]["logs"]
        assert "##FT_COMPLETE##" in log[-1]
        assert any(f"Actual number of consumed tokens is {trained['usage']}!" in line for line in log)

        wanted = {"model_name": trained["finetuned_output"], **steps["deployment"]}
        deployment = ask(client, "POST", "/deployments", json=wanted)["output"]

        wait(client, f"/deployments/{deployment['deployed_model']}", "RUNNING")

        question = {
            "model": deployment["deployed_model"],
            "input": {"messages": [{"role": "user", "content": "你是谁?"}]},
            "parameters": {"result_format": "message"},
        }
        answer = call_when_visible(client, question)
        message = answer["output"]["choices"][0]["message"]
        assert message["role"] == "assistant"
        assert "[emulator]" in message["content"]
        assert "你是谁?" in message["content"]


def ask(client: httpx.Client, method: str, path: str, **kwargs: Any) -> Any:
    response = client.request(method, path, **kwargs)
    assert response.status_code == 200, response.text
    return response.json()


def wait(client: httpx.Client, path: str, status: str) -> Any:
    """Polls until the status is reached; the test's own time-out is the bound."""
    while (seen := ask(client, "GET", path)["output"])["status"] != status:
        assert seen["status"] in ("PENDING", "QUEUING", "RUNNING", "DEPLOYING"), seen
        time.sleep(0.02)
    return seen


def call_when_visible(client: httpx.Client, question: Any) -> Any:
    """A model that has just started may be unknown for a minute (contract §3.4)."""
    path = "/services/aigc/text-generation/generation"
    while (response := client.post(path, json=question)).status_code == 404:
        assert response.json()["code"] == "ModelNotFound"
        time.sleep(0.02)
    assert response.status_code == 200, response.text
    return response.json()
