"""Emulated time: how it runs, and how the service writes it down.

Pure arithmetic on numbers it is given: it promises that time never goes back and knows neither the store that keeps it
nor what happens in it. Emulated times are seconds since 1970, as `time.time()` would give them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

BEIJING = timezone(timedelta(hours=8))
SPEED_MAX = 1e6
END_S = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
"""Where emulated time stops: what is planned from there on still has a date that can be written."""


@dataclass(frozen=True)
class Clock:
    """Where emulated time stood (`emulated_s`) at a reading of the machine's monotonic clock, and how fast it runs.

    `seen_s` is the latest emulated time anybody was shown: the floor of every later reading.
    """

    emulated_s: float
    monotonic_s: float
    speed: float
    seen_s: float

    def now_s(self, monotonic_s: float) -> float:
        return min(END_S, max(self.seen_s, self.emulated_s + (monotonic_s - self.monotonic_s) * self.speed))

    def seen(self, now_s: float) -> Clock:
        return replace(self, seen_s=max(self.seen_s, now_s))

    def advanced(self, by_s: float) -> Clock:
        return replace(self, emulated_s=self.emulated_s + by_s)

    def paced(self, monotonic_s: float, *, speed: float) -> Clock:
        """The same moment, from which time goes on at another speed."""
        return replace(self, emulated_s=self.now_s(monotonic_s), monotonic_s=monotonic_s, speed=speed)

    def resumed(self, monotonic_s: float, *, speed: float) -> Clock:
        """The clock of a server that starts alone: it goes on from what was last seen; meanwhile time stood still."""
        return Clock(self.seen_s, monotonic_s, speed, self.seen_s)


def spaced(at_s: float) -> str:
    """`2026-05-26 14:05:09`, Beijing time without a zone: files, jobs, hotwords (contract §1.2, §2.3, §4)."""
    return beijing(at_s).strftime("%Y-%m-%d %H:%M:%S")


def iso(at_s: float) -> str:
    """`2026-05-26T14:05:09`, Beijing time without a zone: deployments when read, checkpoints (contract §2.7, §3.3)."""
    return beijing(at_s).strftime("%Y-%m-%dT%H:%M:%S")


def iso_with_fraction(at_s: float) -> str:
    """The same with a fraction of varying length, as write replies of deployments have it (contract §3.3)."""
    return beijing(at_s).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")


def stamp(at_s: float) -> str:
    """`202605261405`, the time inside a job id (contract §2.3)."""
    return beijing(at_s).strftime("%Y%m%d%H%M")


def http_date(at_s: float) -> str:
    """What lies outside 1970 to the end of emulated time is written as the nearest date in it."""
    return format_datetime(datetime.fromtimestamp(min(max(0, at_s), END_S), UTC), usegmt=True)


def beijing(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, BEIJING)
