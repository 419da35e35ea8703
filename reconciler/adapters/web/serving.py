"""Where the page listens: on this computer, or anywhere else with TLS; in a thread beside what it shows."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.types import ASGIApp

from reconciler.adapters.web.door import is_loopback
from reconciler.errors import ReconcilerError, UsageError
from reconciler.wording import shown

STARTED_POLL_DELAY_S = 0.005
CONNECTIONS_MAX = 200
HEAD_S = 10.0


@dataclass(frozen=True)
class Place:
    """An address and a port; `certificate` and `key` are files, "" for none."""

    address: str
    port: int
    certificate: str = ""
    key: str = ""

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


def place(written: str, certificate: str = "", key: str = "") -> Place:
    """What `ADDRESS:PORT` means. UsageError for what is none, and for any address but loopback without TLS."""
    address, colon, port = written.rpartition(":")
    address = "127.0.0.1" if address == "localhost" else address.removeprefix("[").removesuffix("]")
    try:
        ip_address(address)
    except ValueError:
        colon = ""
    if not colon or not port.isdecimal() or int(port[:6]) > 65535:
        hint = "write 127.0.0.1:8080 or [::1]:8080; port 0 is any that is free"
        raise UsageError(f"{shown(written)} is no address with a port", hint=hint)
    if bool(certificate) != bool(key):
        raise UsageError("TLS takes both a certificate and its key", hint="--tls-cert FILE --tls-key FILE")
    if not certificate and not is_loopback(address):
        hint = "--tls-cert FILE --tls-key FILE, or 127.0.0.1 and an SSH tunnel"
        raise UsageError(
            f"{address} can be reached from elsewhere, and the page is not served there without TLS", hint=hint
        )
    if certificate:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            hint = "both in PEM, and belonging to each other"
            raise UsageError(f"the certificate or its key cannot be used: {type(error).__name__}", hint=hint) from error
    return Place(address, int(port), certificate, key)


def _impatient() -> type[asyncio.Protocol]:
    """The server's protocol, with an end to a connection that says nothing whole for `HEAD_S` after it was made."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as it is above
            super().connection_made(transport)
            self.loop.call_later(HEAD_S, lambda: None if self.cycle else transport.close())

    return Impatient


@contextmanager
def serve(app: Callable[[threading.Event], ASGIApp], at: Place) -> Iterator[str]:
    """Serves while the block runs, and yields the origin. The app is made with the event that it is to end."""
    import uvicorn

    closing = threading.Event()
    with _listening(at) as listener:
        bound = Place(at.address, listener.getsockname()[1], at.certificate, at.key)
        config = uvicorn.Config(
            app(closing),
            loop="asyncio",
            http=_impatient(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            h11_max_incomplete_event_size=16_384,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
            ssl_certfile=at.certificate or None,
            ssl_keyfile=at.key or None,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="page", daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(STARTED_POLL_DELAY_S)
        try:
            yield bound.url
        finally:
            closing.set()
            server.should_exit = True
            thread.join()


@contextmanager
def _listening(at: Place) -> Iterator[socket.socket]:
    """A bound socket. IPPROTO_TCP matters: without it the server sets no TCP_NODELAY and each request waits 40 ms."""
    family = socket.AF_INET6 if ":" in at.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((at.address, at.port))
        except OSError as error:
            raise ReconcilerError(f"the page cannot listen on {at.address}:{at.port}: {error.strerror}") from error
        yield listener
