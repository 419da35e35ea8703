"""One deadline for a whole exchange, and the certainty whether any byte left, against a socket that misbehaves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from reconciler.transport import Transport, boottime


@contextmanager
def far_side(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """An origin that accepts connections and does with each whatever the test says."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    behave(connection)
                except OSError:
                    continue

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def read_head(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(4096)


def drip(connection: socket.socket) -> None:
    """Headers at once, then a byte now and then: no single wait is ever long."""
    read_head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def drip_headers(connection: socket.socket) -> None:
    read_head(connection)
    for letter in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10000:
        connection.sendall(bytes([letter]))
        time.sleep(0.02)


@pytest.mark.parametrize("behave", [drip, drip_headers])
def test_an_answer_that_drips_ends_with_the_exchange(behave: Callable[[socket.socket], None]) -> None:
    transport = Transport(None, keep_alive=0)
    with (
        far_side(behave) as origin,
        httpx.Client(transport=transport) as client,
        transport.exchange(boottime() + 0.3) as exchange,
    ):
        with pytest.raises(httpx.ReadTimeout):
            client.get(origin)
        assert exchange.sent_bytes > 0


def test_a_refused_connection_sent_nothing() -> None:
    transport = Transport(None, keep_alive=0)
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with httpx.Client(transport=transport) as client, transport.exchange(boottime() + 5) as exchange:
        with pytest.raises(httpx.ConnectError):
            client.post(f"http://127.0.0.1:{port}", content=b"buy")
        assert exchange.sent_bytes == 0


def test_a_reset_after_the_request_says_that_bytes_left() -> None:
    transport = Transport(None, keep_alive=0)
    with (
        far_side(read_head) as origin,
        httpx.Client(transport=transport) as client,
        transport.exchange(boottime() + 5) as exchange,
    ):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            client.post(origin, content=b"buy")
        assert exchange.sent_bytes > 0


def test_each_exchange_starts_at_nothing_sent() -> None:
    def answer(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    transport = Transport(None, keep_alive=0)
    with far_side(answer) as origin, httpx.Client(transport=transport) as client:
        for _ in range(2):
            with transport.exchange(boottime() + 5) as exchange:
                assert exchange.sent_bytes == 0
                assert client.get(origin).json() == {}
