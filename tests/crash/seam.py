"""Time, replaced before anything of the product is imported: in a forked run, sleeping only moves numbers.

One clock for all runs of a trial, in memory that forks share, so that time also passes for a run that is stopped. The
emulator's lies beside it and follows just before the next request leaves, as somebody would notice who looks at it.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

_real_sleep, _real_monotonic, _real_gettime = time.sleep, time.monotonic, time.clock_gettime
_memory = mmap.mmap(-1, 16)  # seconds slept by everybody, and those of them that have passed on the emulator
_SLEPT, _SETTLED = slice(0, 8), slice(8, 16)
_lock = threading.Lock()
_started, _owed_s = False, 0.0


def start() -> None:
    """From here on time is emulated in this process."""
    global _started
    _started = True


def settle() -> None:
    """Let the emulator's clock catch up with what was slept."""
    global _owed_s
    with _lock:
        _add(_SETTLED, _owed_s)
        _owed_s = 0.0


woken: list[Callable[[], object]] = []
"""Called after each sleep: what another thread would have done meanwhile."""


def slept_s() -> float:
    return _read(_SLEPT)


def settled_s() -> float:
    """What the emulator's time runs by."""
    return _read(_SETTLED)


def pass_by(seconds: float) -> None:
    """Time passes for every run, and for none of them on the emulator."""
    _add(_SLEPT, seconds)


def _read(number: slice) -> float:
    return float(struct.unpack("d", _memory[number])[0])


def _add(number: slice, seconds: float) -> None:
    _memory[number] = struct.pack("d", _read(number) + seconds)


wait_truly = _real_sleep


def _sleep(seconds: float) -> None:
    global _owed_s
    if not _started:
        _real_sleep(seconds)
        return
    with _lock:
        pass_by(max(seconds, 0.0))
        _owed_s += max(seconds, 0.0)
    for what in woken:
        what()


def _monotonic() -> float:
    return 1000.0 + slept_s() if _started else _real_monotonic()


def _gettime(clock: int) -> float:
    return 1000.0 + slept_s() if _started else _real_gettime(clock)


def install() -> None:
    """Before the product is imported: its functions take these as the defaults of their arguments."""
    replaced: Any = time
    replaced.sleep, replaced.monotonic, replaced.clock_gettime = _sleep, _monotonic, _gettime
