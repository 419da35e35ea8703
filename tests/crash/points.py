"""Crash points, found and not placed: wherever the product reaches the outside world, before and after.

Three doors lead outside: the network backend below the transport, the connections of SQLite, and the calls of the
operating system that the store makes. Each is replaced once, in a forked run only; new code is covered without
anybody remembering. Points of the heartbeat are left out, and so are calls that only look.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from tests.crash import seam

KILLED, BROKEN, UNTRACED = 99, 71, 72  # exit codes: at a point; the trial itself is wrong; nobody may trace here
READS, READ = (b'"list_vocabulary"', b'"query_vocabulary"'), " (a read)"
_write, _exit, _kill, _getpid = os.write, os._exit, os.kill, os.getpid


class Points:
    """Names every point that is passed and strikes at one of them; `report` is a descriptor for what was seen.

    A name says the door, which of its uses it is and when, so that the same run has the same names.
    """

    def __init__(self, mode: str, at: str, report: int) -> None:
        self.mode, self.at, self._report = mode, at, report
        self.names: list[str] = []
        self._struck = False
        self._uses: Counter[str] = Counter()
        self._lock, self._here = threading.Lock(), threading.local()

    def use(self, door: str) -> str:
        """The name of the next use of a door; "" where its points do not count."""
        if threading.current_thread().name == "lease" or getattr(self._here, "quiet", False):
            return ""
        with self._lock:
            self._uses[door] += 1
            return f"{door} {self._uses[door]}"

    def __call__(self, use: str, what: str) -> None:
        if not use:
            return
        name = f"{use}: {what}"
        with self._lock:
            self.names.append(name)
            meant = self._meant(name)
        if self.mode != "record" and (meant or (self._struck and self.mode == "full on")):
            self._strike(name)

    def _meant(self, name: str) -> bool:
        """By its name, by `#` and its number, or by `~` and words: then the first point that has them all."""
        match self.at[:1]:
            case "#":
                return len(self.names) == int(self.at[1:])
            case "~":
                return not self._struck and all(words in name for words in self.at[1:].split("|"))
            case _:
                return name == self.at

    def around(self, door: str, what: str, call: Callable[[], Any]) -> Any:
        """One call, with a point before and a point after it."""
        use = self.use(door)
        self(use, f"before {what}")
        result = call()
        self(use, f"after {what}")
        return result

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """What this thread does inside is no point."""
        before, self._here.quiet = getattr(self._here, "quiet", False), True
        try:
            yield
        finally:
            self._here.quiet = before

    def tell(self) -> None:
        """Everything that was passed, at the end of a run that was left alone."""
        _write(self._report, json.dumps(self.names).encode())

    def _strike(self, name: str) -> None:
        if not self._struck:
            _write(self._report, json.dumps([name]).encode() + b"\n")
        self._struck = True
        match self.mode:
            case "kill":
                _exit(KILLED)
            case "pause":
                _kill(_getpid(), signal.SIGSTOP)
            case "interrupt":
                _kill(_getpid(), signal.SIGINT)
            case "interrupt twice":
                _kill(_getpid(), signal.SIGINT)
                _kill(_getpid(), signal.SIGINT)
            case "terminate":
                _kill(_getpid(), signal.SIGTERM)
            case "memory":
                raise MemoryError
            case "full" | "full on":
                _refuse(name, errno.ENOSPC, "SQLITE_FULL", "database or disk is full")
            case "broken":
                _refuse(name, errno.EIO, "SQLITE_IOERR", "disk I/O error")
            case _:
                raise ValueError(self.mode)


_FULL_CALLS = frozenset("open write fsync link mkdir".split())
_FULL_STATEMENTS = frozenset("create insert update delete commit backup".split())


def _refuse(name: str, number: int, code: str, words: str) -> None:
    """What a disk says, in the words of the door; a network knows no disk, and a full one still reads and removes."""
    door, what = name.split()[0], name.split()[3]
    if door == "call" and (number != errno.ENOSPC or what in _FULL_CALLS):
        raise OSError(number, os.strerror(number))
    if door == "statement" and (number != errno.ENOSPC or what in _FULL_STATEMENTS):
        error: Any = sqlite3.OperationalError(words)
        error.sqlite_errorname = code
        raise error


def install(points: Points) -> None:
    """Replace the three doors of this process. There is no way back: the process is for one run."""
    _network(points)
    _databases(points)
    _system_calls(points)


# The doors ------------------------------------------------------------------------------------------------------------


def _network(points: Points) -> None:
    inner = httpcore.SyncBackend

    class Backend(httpcore.NetworkBackend):
        def __init__(self) -> None:
            self._inner = inner()

        def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
            seam.settle()
            return Stream(points.around("connection", "connect", lambda: self._inner.connect_tcp(*args, **kwargs)))

    class Stream(httpcore.NetworkStream):
        def __init__(self, stream: httpcore.NetworkStream) -> None:
            self._inner, self._use, self._about = stream, "", ""
            self._counts: Counter[str] = Counter()

        def _around(self, what: str, call: Callable[[], Any]) -> Any:
            self._counts[what] += 1
            what = f"{what} {self._counts[what]} of {self._about}"
            points(self._use, f"before {what}")
            result = call()
            points(self._use, f"after {what}")
            return result

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            seam.settle()
            line, begins, _ = buffer.partition(b" HTTP/1.1\r\n")
            if begins:
                self._use, self._about = points.use("exchange"), line.decode("ascii", "replace").partition("?")[0]
                self._counts.clear()
            elif any(verb in buffer for verb in READS):
                self._about += READ
            if buffer:
                self._around("write", lambda: self._inner.write(buffer, timeout))

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            data: bytes = self._around("read", lambda: self._inner.read(max_bytes, timeout))
            return data

        def close(self) -> None:
            self._around("close", self._inner.close)

        def get_extra_info(self, info: str) -> Any:
            return self._inner.get_extra_info(info)

    door: Any = httpcore
    door.SyncBackend = Backend


def _databases(points: Points) -> None:
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            cursor: sqlite3.Cursor = points.around(
                "statement", _verb(statement), lambda: super(Connection, self).execute(statement, *values)
            )
            return cursor

        def backup(self, *args: Any, **kwargs: Any) -> None:
            points.around("statement", "backup", lambda: super(Connection, self).backup(*args, **kwargs))

        def close(self) -> None:
            points.around("statement", "close", super().close)

    def opened(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        kwargs = {**kwargs, "timeout": 0.2}  # who is stopped in a transaction does not get on while others wait for it
        connection: sqlite3.Connection = points.around(
            "statement", "open", lambda: connect(*args, factory=Connection, **kwargs)
        )
        return connection

    door: Any = sqlite3
    door.connect = opened


def _verb(statement: str) -> str:
    words = statement.split()
    return " ".join(words[:3] if words[0] in ("insert", "create") else words[:2])


def _system_calls(points: Points) -> None:
    def wrapped(module: Any, name: str, counts: Callable[..., bool] = lambda *args: True) -> None:
        call = getattr(module, name)

        def instead(*args: Any, **kwargs: Any) -> Any:
            if not counts(*args):
                return call(*args, **kwargs)
            return points.around("call", name, lambda: call(*args, **kwargs))

        setattr(module, name, instead)

    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    wrapped(os, "open", lambda path, flags=0, *rest: bool(flags & writing))
    for name in ("write", "fsync", "link", "replace", "rename", "unlink", "mkdir"):
        wrapped(os, name)
    wrapped(fcntl, "flock")
