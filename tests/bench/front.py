"""A door before a service that counts what goes through it. It takes time, so what is counted is not timed."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

REQUEST = re.compile(rb"(GET|POST|PUT|DELETE) (/\S*) HTTP/1\.1\r\n")
BY_ID = re.compile(r"/(files|fine-tunes/outputs|fine-tunes|deployments)/[^/]+$")
BLOCK = 1 << 16


@dataclass
class Counted:
    """`requests` of the API as `METHOD /path?query`."""

    url: str = ""
    requests: list[str] = field(default_factory=list)

    def singles(self) -> int:
        """Reads of one object by its id."""
        paths = [one.partition("?")[0] for one in self.requests if one.startswith("GET ")]
        lists = ("/fine-tunes/outputs", "/deployments/models")
        return sum(bool(BY_ID.search(path)) and not path.endswith(lists) for path in paths)


@contextmanager
def front(url: str) -> Iterator[Counted]:
    """The same service under another URL."""
    parts = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    counted = Counted(f"http://127.0.0.1:{listener.getsockname()[1]}{parts.path}")

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((str(parts.hostname), parts.port or 80))
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_asked, args=(near, far, counted), daemon=True).start()
                threading.Thread(target=_answered, args=(far, near), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield counted
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _asked(near: socket.socket, far: socket.socket, counted: Counted) -> None:
    """A request begins a block: nobody sends the next one before the last was answered."""
    for block in _passed(near, far):
        found = REQUEST.match(block)
        if found and b"/_emulator/" not in found[2]:
            counted.requests.append(f"{found[1].decode()} {found[2].decode()}")


def _answered(far: socket.socket, near: socket.socket) -> None:
    for _ in _passed(far, near):
        pass


def _passed(source: socket.socket, target: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            yield block
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
