"""Ctrl-C, and being told to end: first what is in flight is still concluded, the second time we leave at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

EXIT_CODE = 130
GRACE_S = 20.0  # whoever ends us from outside kills us soon after: a pod is given thirty seconds
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While entered, signals are ours. Before `arm` one ends the program as usual; after it, it only asks to stop.

    A signal that is ignored stays so: `nohup` and background jobs mean it.
    """

    def __init__(self, announce: Callable[[], None], farewell: Callable[[], None] = lambda: None) -> None:
        """Both are called from inside a signal handler: they must not write to a buffered stream."""
        self.announce, self.farewell = announce, farewell
        self.requested = False
        self._armed = False
        self._limit: threading.Timer | None = None

    def arm(self) -> None:
        """From here on something may be in flight."""
        self._armed = True

    def __enter__(self) -> Interrupts:
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._limit:
            self._limit.cancel()  # in time after all
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._armed:
            raise KeyboardInterrupt
        if self.requested:
            self._leave()
        self.requested = True
        if number != signal.SIGINT:
            self._leave_in_time()
        self.announce()

    def _leave_in_time(self) -> None:
        self._limit = threading.Timer(GRACE_S, self._leave)
        self._limit.daemon = True
        self._limit.start()

    def _leave(self) -> None:
        """What is still in flight stays open in the journal, and the next run looks for it."""
        try:
            self.farewell()
        finally:
            os._exit(EXIT_CODE)
