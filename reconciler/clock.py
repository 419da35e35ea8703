"""The one clock by which this machine measures how long something took."""

from __future__ import annotations

import time

_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Seconds that pass also while the machine sleeps and the process is stopped, where there is such a clock."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
