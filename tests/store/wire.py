"""What may stand between us and a PostgreSQL server: a line that loses an answer, a pooler that gives sessions away.

Both listen on a socket in a folder of their own, and are as much of PostgreSQL's protocol as that takes.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

NAME = ".s.PGSQL.5432"
COMMIT, READ_BACK = b"commit\0", b"set beat = beat + 1"


class Line:
    """Carries everything, but for the next commit after `lose`."""

    def __init__(self, server: Path) -> None:
        self._server, self._lost, self._asked = server, "", threading.Event()

    def lose(self, what: str) -> None:
        """`request`: it never arrives. `answer`: it is done. `time`: it is done when we ask what became of it."""
        self._lost = what

    def serve(self, client: socket.socket) -> None:
        with closing(connected(self._server)) as server:
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
            while data := client.recv(65536):
                if COMMIT in data and self._lost:
                    what, self._lost = self._lost, ""
                    self._lose(what, data, server, client)
                    return
                server.sendall(data)
                if READ_BACK in data:
                    self._asked.set()

    def _lose(self, what: str, data: bytes, server: socket.socket, client: socket.socket) -> None:
        if what == "time":
            self._asked.clear()
            client.shutdown(socket.SHUT_RDWR)
            self._asked.wait(60)
        elif what == "answer":
            client.shutdown(socket.SHUT_WR)
        if what == "request":
            server.shutdown(socket.SHUT_RDWR)
            return
        server.sendall(data)
        server.shutdown(socket.SHUT_WR)  # it answers, and then takes the end for one
        while server.recv(65536):
            pass

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)


class Pooler:
    """Lends a connection to the server for a transaction at a time, the one used last first."""

    def __init__(self, server: Path) -> None:
        self._server, self._idle, self._greeting = server, list[socket.socket](), b""

    def serve(self, client: socket.socket) -> None:
        (length,) = struct.unpack("!i", exactly(client, 4))
        hello = struct.pack("!i", length) + exactly(client, length - 4)
        self._idle.append(self._connected(hello))
        client.sendall(self._greeting)
        lent: socket.socket | None = None
        while (message := read(client))[:1] not in (b"", b"X"):
            lent = lent or (self._idle.pop() if self._idle else self._connected(hello))
            lent.sendall(message)
            if message[:1] in (b"Q", b"S"):
                answer = self._until_ready(lent)
                client.sendall(answer)
                if answer.endswith(b"I"):
                    self._idle.append(lent)
                    lent = None

    def _connected(self, hello: bytes) -> socket.socket:
        server = connected(self._server)
        server.sendall(hello)
        self._greeting = self._until_ready(server)
        return server

    def _until_ready(self, server: socket.socket) -> bytes:
        answer = b""
        while (message := read(server))[:1] != b"Z":
            answer += message
        return answer + message


@contextmanager
def listening(folder: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / NAME))
        door.listen(50)

        def visit(client: socket.socket) -> None:
            with closing(client), suppress(OSError):
                serve(client)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=visit, args=(door.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield


def connected(folder: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(folder / NAME))
    return server


def exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise OSError("the other side went away")
        data += more
    return data


def read(source: socket.socket) -> bytes:
    """One message; nothing at the end."""
    kind = source.recv(1)
    if not kind:
        return b""
    length = exactly(source, 4)
    return kind + length + exactly(source, struct.unpack("!i", length)[0] - 4)
