"""The far side of a trial, in a process of its own: the emulator, and a witness who writes down what arrives.

Of each request that changes something the witness notes, before it is let through, what the state file held at that
moment: which operations were open, which objects were owned. It judges nothing; `invariants.py` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.emulator import app as application
from reconciler.emulator import delivery, server
from tests.crash import seam

KEY = "sk-canary-of-the-key-7f3a"
OURS = f"Bearer {KEY}".encode()
COLLECTIONS = ("files", "jobs", "deployments", "vocabularies", "phrases")


def run(data: Path, state: Path, ready: int, options: dict[str, Any]) -> None:
    """Serves until SIGTERM; `ready` is a descriptor that is told where."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    servers: list[delivery.Server] = []
    make = application.make_app

    class Seen(delivery.Server):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            servers.append(self)

    def witnessed(backend: Any, **rest: Any) -> ASGIApp:
        return Witness(make(backend, **rest), backend, state, servers)

    places: Any = (delivery, application)
    places[0].Server, places[1].make_app = Seen, witnessed
    by_hand = {} if "speed" in options else {"speed": 1.0, "monotonic": seam.settled_s}
    with server.serve(data, **by_hand, **options) as origin:
        os.write(ready, json.dumps({"origin": origin, "token": server.control_token(data)}).encode() + b"\n")
        forker = os.getppid()
        while not over.wait(1.0) and os.getppid() == forker:
            pass  # a far side without anybody to serve ends


class Witness:
    """The application, watched. Routes below `/_crash` are its own."""

    def __init__(self, app: ASGIApp, backend: Any, state: Path, servers: list[delivery.Server]) -> None:
        self._app, self._backend, self._state, self._servers = app, backend, state, servers
        self._log: list[dict[str, Any]] = []
        self._incomplete = 0  # requests whose sender was stopped, or died, half way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_emulator"):
            await self._app(scope, receive, send)
        elif (b"authorization", OURS) not in scope["headers"] and not scope["path"].startswith("/_crash"):
            await self._app(scope, receive, send)  # a bystander
        elif scope["path"] == "/_crash/log":
            await JSONResponse(self._log)(scope, receive, send)
        elif scope["path"] == "/_crash/quiet":
            await self._quiet()
            await JSONResponse({"requests": len(self._log)})(scope, receive, send)
        else:
            await self._watched(scope, receive, send)

    async def _quiet(self) -> None:
        """Until whatever had left a run that is no more has arrived, and was dealt with."""
        calm = 0
        while calm < 4:
            await asyncio.sleep(0.002)
            at_work = len(self._servers[0].server_state.tasks) - self._incomplete
            calm = calm + 1 if at_work <= 1 else 0

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._body(receive)
        if body is None:
            return
        entry: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "body": body[:4000].decode("utf-8", "replace"),
            "at_s": self._backend.now_s(),
            "status": 0,
            **about(scope["method"], scope["path"].removeprefix("/api/v1"), body),
        }
        if entry["writes"]:
            entry["recorded"] = await run_in_threadpool(recorded, self._state)
        self._log.append(entry)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)

        await self._app(scope, again, noted)

    async def _body(self, receive: Receive) -> bytes | None:
        """None where it never arrives as a whole."""
        body, whole = b"", False
        self._incomplete += 1
        try:
            while not whole:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body, whole = body + message.get("body", b""), not message.get("more_body", False)
        finally:
            self._incomplete -= 1
        return body


def about(method: str, path: str, body: bytes) -> dict[str, Any]:
    """What a request does: to which collection, whether it creates, or to which object it does something."""
    _, first, *rest = path.split("/")
    said = _json(body)
    collection, target, writes = "", rest[0] if rest else "", method != "GET"
    match first:
        case "files" | "deployments":
            collection = first
        case "fine-tunes" if target == "outputs":
            collection, target = "phrases", rest[1] if len(rest) > 1 else ""
        case "fine-tunes" if "phrase_list" in said.get("hyper_parameters", {}):
            collection, target = "phrases", said.get("finetuned_output", "")
        case "fine-tunes" if "export" in rest:
            collection, target, writes = "checkpoints", "", True
        case "fine-tunes":
            collection = "jobs"
        case "services" if rest[-1] == "customization":
            wanted = said.get("input", {})
            collection, target = "vocabularies", wanted.get("vocabulary_id", "")
            writes = wanted.get("action") not in ("list_vocabulary", "query_vocabulary")
        case _:
            writes = False  # a question to a model
    return {"collection": collection, "target": target, "writes": writes, "creates": writes and not target}


def _json(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def recorded(state: Path) -> dict[str, Any]:
    """What the state file holds, opened afresh as the next command would."""
    if not state.exists():
        return {"open": [], "owned": []}
    with closing(sqlite3.connect(f"{state.as_uri()}?mode=rw", uri=True, timeout=5)) as db:
        rows = [(kind, json.loads(body)) for kind, body in db.execute("select kind, body from records")]
    still = ("intent", "unknown", "needs human")
    return {
        "open": [body for kind, body in rows if kind == "intent" and body["phase"] in still],
        "owned": [f"{body['collection']}/{body['id']}" for kind, body in rows if kind == "owned"],
    }
