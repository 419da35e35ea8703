"""The way of bytes to the service and back: one deadline for a whole exchange, and the knowledge whether any byte left.

The client's own time-outs are per phase, so an answer that drips a byte a second never ends; and an exception does not
tell whether the request had begun to leave. Both are known only where the socket is, so this is where they are kept.
Translates nothing and repeats nothing: `api.py` does.
"""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

from reconciler.clock import boottime

CONNECT_S = 10.0
REPLY_BYTES_MAX = 16 * 2**20
_PIECE = 64 * 1024  # what is written between two looks at the clock
_ALWAYS = {"Accept": "*/*", "Accept-Encoding": "identity"}  # what is not packed cannot unpack to more than was read
_EXCEPTIONS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.ReadTimeout, httpx.ReadTimeout),
    (httpcore.WriteTimeout, httpx.WriteTimeout),
    (httpcore.PoolTimeout, httpx.PoolTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.ReadError, httpx.ReadError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.UnsupportedProtocol, httpx.UnsupportedProtocol),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError),
)


@dataclass
class Exchange:
    """One request and its answer on this thread: when it must be over, and how many of its bytes left the machine."""

    ends_at: float
    sent_bytes: int = 0


class Transport(httpx.BaseTransport):
    """Connections to one host. `keep_alive` is how many may be used again; 0 gives every request a fresh one."""

    def __init__(self, verify: SSLContext | None, *, keep_alive: int, clock: Callable[[], float] = boottime) -> None:
        self._clock, self._here = clock, threading.local()
        self._pool = httpcore.ConnectionPool(
            ssl_context=verify,
            max_connections=20,
            max_keepalive_connections=keep_alive,
            keepalive_expiry=30.0,
            network_backend=_Backend(self._remaining_s, self._sent),
        )

    @contextmanager
    def exchange(self, ends_at: float) -> Iterator[Exchange]:
        """What this thread sends inside the block shares one deadline: a moment, so that no pause can put it off."""
        self._here.exchange = Exchange(ends_at)
        try:
            yield self._here.exchange
        finally:
            self._here.exchange = None

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        content: bytes | Iterator[bytes] | None = None,
    ) -> Iterator[httpx.Response]:
        """One request and its answer, whose body is to be read inside the block.

        Nothing is remembered from one to the next, no redirect is followed, no setting of this machine is read. So it
        needs none of the library's client, which would take a quarter as much again.
        """
        request = httpx.Request(method, url, params=params or None, headers={**_ALWAYS, **headers}, content=content)
        response = self.handle_request(request)
        try:
            yield response
        finally:
            response.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        within = {"timeout": {"connect": CONNECT_S, "pool": CONNECT_S}}
        outgoing = httpcore.Request(
            method=request.method, url=url, headers=request.headers.raw, content=request.stream, extensions=within
        )
        with _translated():
            answer = self._pool.handle_request(outgoing)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(status_code=answer.status, headers=answer.headers, stream=_Body(answer))

    def close(self) -> None:
        self._pool.close()

    def _remaining_s(self) -> float | None:
        exchange = getattr(self._here, "exchange", None)
        return None if exchange is None else exchange.ends_at - self._clock()

    def _sent(self, size: int) -> None:
        exchange = getattr(self._here, "exchange", None)
        if exchange is not None:
            exchange.sent_bytes += size


def read_body(response: httpx.Response) -> bytes:
    """The whole body. Raises ReadError where it is too long, packed or not, before memory notices."""
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > REPLY_BYTES_MAX:
            raise httpx.ReadError(f"the answer is longer than {REPLY_BYTES_MAX} bytes")
    if response.headers.get("content-encoding", "identity").strip().lower() == "identity":
        return bytes(body)
    try:  # nobody asked for it, but a gateway may pack all the same
        unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, REPLY_BYTES_MAX + 1)
    except zlib.error as error:
        raise httpx.DecodingError(f"the answer cannot be unpacked: {error}") from error
    if len(unpacked) > REPLY_BYTES_MAX:
        raise httpx.ReadError(f"the answer is longer than {REPLY_BYTES_MAX} bytes")
    return unpacked


class _Body(httpx.SyncByteStream):
    """The bytes of an answer, as they arrive."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextmanager
def _translated() -> Iterator[None]:
    """The library below speaks its own exceptions; callers know only the one above."""
    try:
        yield
    except Exception as error:
        for theirs, ours in _EXCEPTIONS:
            if isinstance(error, theirs):
                raise ours(str(error) or type(error).__name__) from error
        raise


class _Backend(httpcore.NetworkBackend):
    """Opens sockets whose every wait is cut to what remains of the exchange."""

    def __init__(self, remaining_s: Callable[[], float | None], sent: Callable[[int], None]) -> None:
        self._inner = httpcore.SyncBackend()
        self._remaining_s, self._count = remaining_s, sent

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        within = _shorter(timeout, self._remaining_s(), httpcore.ConnectTimeout)
        options = [*(socket_options or ()), *_give_up_with_us(self._remaining_s())]
        stream = self._inner.connect_tcp(host, port, within, local_address, options)
        return _Stream(stream, self._remaining_s, self._count)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(
        self, inner: httpcore.NetworkStream, remaining_s: Callable[[], float | None], sent: Callable[[int], None]
    ) -> None:
        self._inner, self._remaining_s, self._count = inner, remaining_s, sent

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _shorter(timeout, self._remaining_s(), httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """The last look at the clock is here: whoever was stopped on the way to it, however long, sends nothing."""
        for start in range(0, len(buffer), _PIECE):
            piece = buffer[start : start + _PIECE]
            within = _shorter(timeout, self._remaining_s(), httpcore.WriteTimeout)
            self._count(len(piece))  # before it is known to have left: a byte that may have left has left
            self._inner.write(piece, within)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        within = _shorter(timeout, self._remaining_s(), httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, within), self._remaining_s, self._count)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _shorter(timeout: float | None, remaining_s: float | None, over: type[Exception]) -> float | None:
    if remaining_s is None:
        return timeout
    if remaining_s <= 0:
        raise over("the exchange took too long")
    return remaining_s if timeout is None else min(timeout, remaining_s)


def _give_up_with_us(remaining_s: float | None) -> list[tuple[int, int, int]]:
    """The kernel of a killed process would otherwise go on delivering what is in its send buffer."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None or remaining_s is None:
        return []
    return [(socket.IPPROTO_TCP, option, max(1, int(remaining_s * 1000)))]
