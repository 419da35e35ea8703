"""An emulator in this process with a clock that only moves when told to: every test says when it is.

Requests go through the whole application but no socket; `test_server.py` is where sockets are.
"""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Callable, Iterable
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx

from reconciler.emulator.app import make_app
from reconciler.emulator.backend import Backend
from reconciler.emulator.clock import BEIJING
from reconciler.emulator.server import control_token
from reconciler.emulator.traffic import Traffic

START = datetime(2026, 11, 2, 14, 5, tzinfo=BEIJING)
KEY = "test-key"
MINUTE = 60
HOUR = 3600
CORE = {"n_epochs": 3, "batch_size": 16, "max_length": 2048}

Json = dict[str, Any]
Start = Callable[..., "Emulator"]


class Emulator:
    """One server of a data folder, called without a socket."""

    def __init__(
        self,
        data: Path,
        *,
        api_key: str | None = None,
        seed: int = 0,
        profile: str = "2026",
        traffic: Traffic | None = None,
        **switches: Any,
    ) -> None:
        turned = {name.replace("__", "."): value for name, value in switches.items()}
        self.data, self.profile = data, profile
        self.backend = Backend(
            data, profile=profile, speed=0, seed=seed, switches=turned, wall_s=START.timestamp(), traffic=traffic
        )
        self.app = make_app(self.backend, api_key=api_key, control_token=control_token(data))

    def call(self, method: str, path: str, *, key: str | None = KEY, **kwargs: Any) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {key}"} if key is not None else {}), **kwargs.pop("headers", {})}

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
                return await client.request(method, path, headers=headers, **kwargs)

        return asyncio.run(send())

    def ok(self, method: str, path: str, **kwargs: Any) -> Json:
        response = self.call(method, path, **kwargs)
        assert response.status_code == 200, response.text
        body: Json = response.json()
        assert body["request_id"]
        assert "code" not in body
        return body

    def refused(self, method: str, path: str, **kwargs: Any) -> tuple[int, str, str]:
        response = self.call(method, path, **kwargs)
        body = response.json()
        assert body["request_id"]
        return response.status_code, body["code"], body["message"]

    def control(self, path: str, body: Json) -> Json:
        headers = {"X-Emulator-Control": control_token(self.data)}
        return self.ok("POST", f"/_emulator/{path}", json=body, headers=headers)

    def advance(self, seconds: float) -> None:
        self.control("clock", {"advance_s": seconds})

    def play(self, *rules: Json, append: bool = False) -> list[Json]:
        """Rules for faults, as the service then counts them."""
        counted: list[Json] = self.control("faults", {"faults": list(rules), "append": append})["faults"]
        return counted

    def ledger(self) -> list[Json]:
        entries: list[Json] = self.ok("GET", "/_emulator/ledger")["entries"]
        return entries

    # What most tests need first

    def upload(self, content: bytes, name: str = "data.jsonl", description: str = "") -> str:
        form = {"descriptions": description} if description else {}
        body = self.ok("POST", "/api/v1/files", files={"files": (name, content)}, data=form)
        assert body["data"]["failed_uploads"] == []
        file_id: str = body["data"]["uploaded_files"][0]["file_id"]
        return file_id

    def job(self, *, content: bytes | None = None, **members: Any) -> Json:
        """A job on fresh data, with what this profile needs and the given members instead."""
        body = {
            "model": "qwen3.5-9b" if self.profile == "2026" else "qwen2.5-14b-instruct",
            "training_type": "efficient_sft",
            "training_file_ids": [self.upload(chat_rows(40) if content is None else content)],
            "hyper_parameters": CORE,
            **members,
        }
        output: Json = self.ok("POST", "/api/v1/fine-tunes", json=body)["output"]
        return output

    def job_now(self, job_id: str) -> Json:
        output: Json = self.ok("GET", f"/api/v1/fine-tunes/{job_id}")["output"]
        return output

    def trained(self, **members: Any) -> Json:
        job = self.job(**members)
        self.advance(2 * HOUR)
        return self.job_now(job["job_id"])

    def deploy(self, **members: Any) -> Json:
        body: Json = {"model_name": "qwen3.5-9b", "plan": "mu", "deploy_spec": "MU1", "capacity": 4, **members}
        output: Json = self.ok("POST", "/api/v1/deployments", json=body)["output"]
        return output

    def deployment_now(self, deployed_model: str) -> Json:
        output: Json = self.ok("GET", f"/api/v1/deployments/{deployed_model}")["output"]
        return output

    def vocabulary(self, action: str, **wanted: Any) -> Json:
        output: Json = self.ok("POST", HOTWORDS, json=hotwords(action, **wanted))["output"]
        return output


HOTWORDS = "/api/v1/services/audio/asr/customization"
GENERATION = "/api/v1/services/aigc/text-generation/generation"


def lines(rows: Iterable[Json]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def chat_rows(count: int) -> bytes:
    return lines(chat_row(f"问题 {n}?", f"answer {n}") for n in range(count))


def chat_row(question: str, answer: str) -> Json:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def hotwords(action: str, **wanted: Any) -> Json:
    return {"model": "speech-biasing", "input": {"action": action, **wanted}}


def dpo_rows(count: int) -> bytes:
    return lines(
        {
            "messages": [{"role": "user", "content": f"question {n}"}],
            "chosen": {"role": "assistant", "content": "yes"},
            "rejected": {"role": "assistant", "content": "no"},
        }
        for n in range(count)
    )


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def image_rows(count: int, image: str = "a.png") -> bytes:
    user = {"role": "user", "content": [{"text": "what is it?"}, {"image": image}]}
    return lines({"messages": [user, {"role": "assistant", "content": [{"text": f"thing {n}"}]}]} for n in range(count))
