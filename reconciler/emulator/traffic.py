"""How many requests a server takes and how soon it answers: a rate that it enforces, a latency that it keeps.

Both are real time, to be compared with the clock of whoever asks. The rate is that of an account, and an emulator has
one whatever the key: every key sees the same objects. Each server counts for itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

RATE_MAX, LATENCY_MS_MAX = 1e6, 60_000.0
EARLY_S = 0.1
"""How long before its turn a request may come. Who keeps a rate keeps it by the clock at its own end; what a busy
computer adds on the way differs from request to request and is nobody's fault. It lengthens a burst, never the rate."""


class Traffic:
    """A bucket that `rate_per_s` fills and `burst` requests empty, and a least time to every answer; None is none."""

    def __init__(
        self,
        rate_per_s: float | None = None,
        burst: int | None = None,
        latency_ms: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for what no server could keep."""
        if rate_per_s is not None and not 0 < rate_per_s <= RATE_MAX:
            raise ValueError(f"the rate is a number of requests a second above 0, at most {RATE_MAX:,.0f}")
        if burst is not None and (rate_per_s is None or burst < 1):
            raise ValueError("a burst is a whole number from 1, and belongs to a rate")
        if latency_ms is not None and not 0 <= latency_ms <= LATENCY_MS_MAX:
            raise ValueError(f"the latency is a number of milliseconds from 0 to {LATENCY_MS_MAX:,.0f}")
        self.rate_per_s, self.latency_ms, self.clock = rate_per_s, latency_ms, clock
        self.burst = None if rate_per_s is None else burst or 1
        self.refused = 0
        self._due_s = -math.inf  # when the next request has its turn if all before it came at theirs

    def admits(self) -> bool:
        """Whether a request that comes now is carried out; one that is not leaves nothing behind but its count."""
        if self.rate_per_s is None or self.burst is None:
            return True
        now_s = self.clock()
        if now_s < self._due_s - (self.burst - 1) / self.rate_per_s - EARLY_S:
            self.refused += 1
            return False
        self._due_s = max(self._due_s, now_s) + 1 / self.rate_per_s
        return True

    def wait_s(self, came_s: float) -> float:
        """How long the answer to a request that came then is still kept back."""
        return max(0.0, came_s + (self.latency_ms or 0) / 1000 - self.clock())
