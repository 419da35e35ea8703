"""The far end of a wire: a listener on loopback that answers what a test tells it to, misbehaviour included."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

KEPT_BYTES = 2**20


@dataclass(frozen=True)
class Received:
    """One request as it arrived. `connection` tells which requests shared one; of a body the first MiB is kept."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    size: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """Bytes to send back, a piece at a time, and how the connection ends: kept, closed, reset, or left silent."""

    pieces: tuple[bytes, ...] = ()
    end: str = "kept"
    pause_s: float = 0.0


RESET, CLOSED, SILENT = Answer(end="reset"), Answer(end="closed"), Answer(end="silent")


def raw(data: bytes, end: str = "closed") -> Answer:
    return Answer((data,), end)


def reply(status: int = 200, body: Any = None, *, kind: str = "application/json", **headers: str) -> Answer:
    """A well-formed answer; a body that is no bytes is written as JSON."""
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"HTTP/1.1 {status} -", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *lines]
    return Answer(("\r\n".join(head).encode() + b"\r\n\r\n" + data,))


def error(status: int, code: str = "Odd", message: str = "odd", **headers: str) -> Answer:
    """A refusal in the service's own shape (contract §8.1)."""
    return reply(status, {"code": code, "message": message, "request_id": "r-1"}, **headers)


@dataclass
class FarEnd:
    """What arrived so far, and who decides what to answer."""

    port: int
    respond: Callable[[Received], Answer]
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    tls: ssl.SSLContext | None = None
    hasty: bool = False

    @property
    def origin(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"


@contextmanager
def far_end(
    respond: Callable[[Received], Answer], *, tls: ssl.SSLContext | None = None, hasty: bool = False
) -> Iterator[FarEnd]:
    """A listener that answers every request with what `respond` says of it; `hasty`, without reading its body."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        end = FarEnd(listener.getsockname()[1], respond, tls=tls, hasty=hasty)
        over = threading.Event()
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                if over.is_set():
                    connection.close()
                    return
                end.connections += 1
                threads.append(threading.Thread(target=_converse, args=(end, connection, over, end.connections)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield end
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", end.port)).close()
            for thread in (accepting, *threads):
                thread.join()


def scripted(*answers: Answer) -> Callable[[Received], Answer]:
    """These answers in this order; the last for every further request."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def _converse(end: FarEnd, connection: socket.socket, over: threading.Event, number: int) -> None:
    with suppress(OSError), _spoken(end, connection) as connection:
        connection.settimeout(0.05)
        while (request := _request(end, connection, over, number)) is not None:
            end.received.append(request)
            answer = end.respond(request)
            for piece in answer.pieces:
                connection.sendall(piece)
                if answer.pause_s and over.wait(answer.pause_s):
                    return
            if end.hasty:
                connection.shutdown(socket.SHUT_WR)
                while _read(connection, over, 65536):
                    pass
            if answer.end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if answer.end == "silent":
                _read(connection, over, 1)
            if answer.end != "kept":
                return


def _spoken(end: FarEnd, connection: socket.socket) -> socket.socket:
    """The connection in the tongue of this end."""
    return end.tls.wrap_socket(connection, server_side=True) if end.tls else connection


def _request(end: FarEnd, connection: socket.socket, over: threading.Event, number: int) -> Received | None:
    """The next request, or None where the other side has no more."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = _read(connection, over, 65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = len(body)
    while size < int(headers.get("content-length", "0")) and not end.hasty:
        piece = _read(connection, over, 65536)
        if not piece:
            break
        size += len(piece)
        body += piece[: KEPT_BYTES - len(body)]
    method, target, _ = first.split(" ")
    return Received(method, target, headers, body, number, size)


def _read(connection: socket.socket, over: threading.Event, size: int) -> bytes:
    """Bytes as they come; none where the other side, or the test, is over."""
    while not over.is_set():
        try:
            return connection.recv(size)
        except TimeoutError:
            continue
    return b""
