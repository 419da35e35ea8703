"""Time, replaced before anything of the product is imported: in a forked run, sleeping only moves numbers.

One clock for all runs of a trial, in memory that forks share, so that time also passes for a run that is stopped. What
was slept is told to the emulator just before the next request leaves, as somebody would notice who looks at a clock.
"""

from __future__ import annotations

import http.client
import json
import mmap
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

_real_sleep, _real_monotonic, _real_gettime = time.sleep, time.monotonic, time.clock_gettime
_memory = mmap.mmap(-1, 8)  # seconds slept by everybody
_lock = threading.Lock()
_control: _Control | None = None


class _Control:
    """The emulator's clock, set by hand; what it sends is no point."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._line, self._token, self.owed_s = http.client.HTTPConnection(host, port, timeout=30), token, 0.0

    def settle(self) -> None:
        owed_s, self.owed_s = self.owed_s, 0.0
        if owed_s:
            body, headers = json.dumps({"advance_s": owed_s}), {"X-Emulator-Control": self._token}
            self._line.request("POST", "/_emulator/clock", body, headers)
            answer = self._line.getresponse()
            answer.read()
            assert answer.status == 200, answer.status


def start(host: str, port: int, token: str) -> None:
    """From here on time is emulated in this process."""
    global _control
    _control = _Control(host, port, token)


def settle() -> None:
    """Let the emulator's clock catch up with what was slept."""
    if _control:
        with _lock:
            _control.settle()


woken: list[Callable[[], object]] = []
"""Called after each sleep: what another thread would have done meanwhile."""


def slept_s() -> float:
    return float(struct.unpack("d", _memory[:])[0])


def pass_by(seconds: float) -> None:
    """Time passes for every run, and for none of them on the emulator."""
    _memory[:] = struct.pack("d", slept_s() + seconds)


wait_truly = _real_sleep


def _sleep(seconds: float) -> None:
    if _control is None:
        _real_sleep(seconds)
        return
    with _lock:
        pass_by(max(seconds, 0.0))
        _control.owed_s += max(seconds, 0.0)
    for what in woken:
        what()


def _monotonic() -> float:
    return _real_monotonic() if _control is None else 1000.0 + slept_s()


def _gettime(clock: int) -> float:
    return _real_gettime(clock) if _control is None else 1000.0 + slept_s()


def install() -> None:
    """Before the product is imported: its functions take these as the defaults of their arguments."""
    replaced: Any = time
    replaced.sleep, replaced.monotonic, replaced.clock_gettime = _sleep, _monotonic, _gettime
