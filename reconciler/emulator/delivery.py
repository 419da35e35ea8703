"""How an answer reaches the client: at once and whole, or late, cut, dripped, without an end, or not at all.

The outermost layer of the application. It knows bytes, time and the connection, and no operation; what is to happen to
an answer it finds in the request's state, as `firing.Fired`.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.client import responses
from random import Random
from typing import cast

import anyio
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler.emulator.backend import Backend
from reconciler.emulator.faults import BODILESS, Answer, Hold, How
from reconciler.emulator.firing import NOTHING, Fired
from reconciler.emulator.refusal import Refusal, internal, usual

FIRED, TRANSPORT = "fired", "transport"
"""Where a request's state holds the rules that met it, and its connection."""
POLL_DELAY_S = 0.01
GONE_POLL_DELAY_S = 0.001
LAST_ANSWERS_S = 1.0
"""How long a server that stops waits for answers that are on their way."""
DRIP_DELAY_S = 0.1
PADDING = b" " * 65_536
HTML = "<!DOCTYPE html>\n<html><head><title>{status}</title></head><body><h1>{status} {phrase}</h1></body></html>\n"


class Protocol(H11Protocol):
    """HTTP that lets the application see the connection, so that a fault can end it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the class above has it
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class Server(uvicorn.Server):
    """Stops when it is told to: the one it is made from looks every tenth of a second, and then waits for another."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline_s = time.monotonic() + LAST_ANSWERS_S
        while self.server_state.connections and time.monotonic() < deadline_s:
            await asyncio.sleep(GONE_POLL_DELAY_S)

    def stop(self) -> None:
        """From any thread, once it has started."""
        self._loop.call_soon_threadsafe(self._told.set)


def delivered(app: ASGIApp, backend: Backend) -> ASGIApp:
    """The application, with every answer delivered as the faults that met its request have it."""

    async def deliver(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})
        await app(scope, receive, _Delivery(scope, receive, send, backend).send)

    return deliver


async def held(backend: Backend, holds: list[Hold]) -> None:
    """Waits as long as they say; a server that stops meanwhile answers an error and commits nothing more."""
    for hold in holds:
        now_s = backend.shared_now_s if hold.real_s is None else time.monotonic
        over_s = await run_in_threadpool(now_s) + (hold.real_s or hold.emulated_s or 0)
        while await run_in_threadpool(now_s) < over_s:
            if backend.closing.is_set():
                raise internal()
            await anyio.sleep(POLL_DELAY_S)


def instead(answer: Answer, kept: Response, *, now_s: float, refused: Callable[[Refusal], Response]) -> Response:
    """The answer of a fault in the place of the true one, whose status it has if it names none."""
    status = answer.status or kept.status_code
    response = _substitute(answer, kept, status, refused)
    response.status_code = status
    if answer.location is not None:
        response.headers["location"] = answer.location
    if answer.retry_after is not None:
        response.headers["retry-after"] = answer.retry_after
    if answer.retry_after_date_s is not None:
        response.headers["retry-after"] = formatdate(now_s + answer.retry_after_date_s, usegmt=True)
    return response


class _Delivery:
    """One answer on its way. The application sends to it as it would to the server."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, backend: Backend) -> None:
        self._state, self._receive, self._send, self._backend = scope["state"], receive, send, backend
        self._sent_bytes = 0
        self._over = False

    async def send(self, message: Message) -> None:
        fired: Fired = self._state.get(FIRED, NOTHING)
        if self._over:
            return
        if message["type"] == "http.response.start":
            await self._head(message, fired)
        else:
            await self._body(message, fired)

    async def _head(self, message: Message, fired: Fired) -> None:
        if fired.cut and fired.cut.part == "head":
            if fired.cut.after_bytes:
                self._transport.write(_head_bytes(message)[: fired.cut.after_bytes])
            await self._end(fired.cut.how)
            return
        if fired.endless:
            message["headers"] = [header for header in message["headers"] if header[0] != b"content-length"]
        await self._send(message)

    async def _body(self, message: Message, fired: Fired) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        left = fired.cut.after_bytes - self._sent_bytes if fired.cut else len(body)
        if fired.cut and len(body) > left:
            await self._pour(body[:left], fired, more=True)
            await self._end(fired.cut.how)
        elif fired.endless and not more:
            await self._pour(body.rstrip(b"}"), fired, more=True)
            while not self._gone:
                await self._pour(PADDING, fired, more=True)
            await self._end("reset")
        else:
            await self._pour(body, fired, more=more)

    async def _pour(self, body: bytes, fired: Fired, *, more: bool) -> None:
        """Sends a part of the body, at the pace of the fault if it has one."""
        self._sent_bytes += len(body)
        if fired.drip:
            for piece, delay_s in _drops(body, fired.drip.bytes_per_s):
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                await anyio.sleep(delay_s)
                if self._gone:
                    break
            body = b""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _end(self, how: How) -> None:
        """Ends the connection once all that was sent has left."""
        self._over = True
        connection = self._transport.get_extra_info("socket")
        while not self._gone and (self._transport.get_write_buffer_size() or _unsent_bytes(connection)):
            await anyio.sleep(POLL_DELAY_S)
        if how == "reset" and not self._transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()
        while (await self._receive())["type"] != "http.disconnect":
            pass  # else the server would take a request without an answer for a mistake of the application

    @property
    def _transport(self) -> asyncio.Transport:
        return cast(asyncio.Transport, self._state[TRANSPORT])

    @property
    def _gone(self) -> bool:
        return self._backend.closing.is_set() or self._transport.is_closing()


def _unsent_bytes(connection: socket.socket) -> int:
    """What this machine holds for the other side, which a reset would throw away; 0 where it does not say."""
    try:
        raw = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(raw, sys.byteorder)


def _substitute(answer: Answer, kept: Response, status: int, refused: Callable[[Refusal], Response]) -> Response:
    if answer.text is not None:
        return Response(answer.text, media_type="text/plain")
    match answer.body or _usual_body(answer.status):
        case "kept":
            return kept
        case "truncated":
            raw = bytes(getattr(kept, "body", b""))  # a stream of events has none
            return Response(raw[: len(raw) // 2], media_type="application/json")
        case "garbage":
            return Response(Random(0).randbytes(300), media_type="application/json")
        case "html":
            return Response(HTML.format(status=status, phrase=responses.get(status, "")), media_type="text/html")
        case "empty":
            return Response(status_code=status)
        case _:
            words = usual(status)
            return refused(Refusal(status, answer.code or words.code, answer.message or words.message))


def _usual_body(status: int | None) -> str:
    if status is None or status < 300:
        return "empty" if status in BODILESS else "kept"
    return "error" if status >= 400 else "empty"


def _head_bytes(message: Message) -> bytes:
    status = message["status"]
    lines = [f"HTTP/1.1 {status} {responses.get(status, '')}".encode()]
    lines += [name + b": " + value for name, value in message["headers"]]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _drops(body: bytes, bytes_per_s: float) -> Iterator[tuple[bytes, float]]:
    """The body in pieces, each with the time it takes."""
    size = max(1, int(bytes_per_s * DRIP_DELAY_S))
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield piece, len(piece) / bytes_per_s
