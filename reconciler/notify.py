"""Tells a webhook what became of stacks. Never holds a look: what is to be told waits in a short queue of its own.

The operator's webhook is another far side, and all that goes to it is what a report says. Its address may hold a
secret, so that it is in no message: only its host is. No redirect is followed. What cannot be told in time is given
up, and what does not fit into the queue pushes out the oldest; both are said, and counted in the next body.
"""

from __future__ import annotations

import json
import random
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from reconciler.clock import boottime
from reconciler.errors import ApiError, NeverSent, Rejected, Unavailable
from reconciler.transport import Transport, read_body

QUEUE_MAX = 100  # notices
TRIES, WITHIN_S, TOTAL_S = 5, 10.0, 60.0  # of one notice: how often, one exchange, everything with its pauses
FAREWELL_S = 5.0  # how long the end of the process waits for what is still to be told
SENT, FAILED, DROPPED = "sent", "failed", "dropped"


class Notifier:
    """One webhook with its thread. `said` gets sentences for the log, `counted` one of SENT, FAILED and DROPPED."""

    def __init__(
        self,
        url: str,
        *,
        said: Callable[[str], None] = lambda sentence: None,
        counted: Callable[[str], None] = lambda outcome: None,
        queue_max: int = QUEUE_MAX,
        clock: Callable[[], float] = boottime,
        jitter: Callable[[], float] = random.random,
        first_s: float = 1.0,
        farewell_s: float = FAREWELL_S,
    ) -> None:
        self._url, self.host = url, urlsplit(url).netloc
        self._said, self._counted, self._max = said, counted, queue_max
        self._clock, self._jitter, self._first_s, self._farewell_s = clock, jitter, first_s, farewell_s
        self._waiting: deque[dict[str, Any]] = deque()
        self._busy, self._lost = False, 0  # one is being told; so many were dropped since the last that was told
        self._changed, self._over = threading.Condition(), threading.Event()
        verify = ssl.create_default_context() if url.startswith("https:") else None
        self._line = Transport(verify, keep_alive=0, clock=clock)
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def __repr__(self) -> str:
        return f"Notifier({self.host})"

    def __enter__(self) -> Notifier:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle(self._farewell_s)
        with self._changed:
            left = len(self._waiting) + self._busy
            self._waiting.clear()
            self._over.set()
            self._changed.notify_all()
        if left:
            self._said(f"{left} notifications to {self.host} were not told: the process ends")
        self._thread.join(timeout=0 if left else self._farewell_s)
        if not self._thread.is_alive():
            self._line.close()

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Puts it into the queue and returns at once."""
        with self._changed:
            self._waiting.append(dict(notice))
            full = len(self._waiting) > self._max
            if full:
                self._waiting.popleft()
                self._lost += 1
            self._changed.notify_all()
        if full:
            self._counted(DROPPED)
            self._said(f"a notification to {self.host} was dropped, the oldest of {self._max} that wait")

    def settle(self, within_s: float) -> bool:
        """Whether everything was told, or given up, within so long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout=within_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._over.is_set())
                if not self._waiting:
                    return
                notice, self._busy, lost = self._waiting.popleft(), True, self._lost
            told = self._told({**notice, "dropped": lost})
            with self._changed:
                self._busy = False
                self._lost = self._lost - lost if told else self._lost + 1
                self._changed.notify_all()

    def _told(self, notice: Mapping[str, Any]) -> bool:
        """Whether the webhook took it, after as many tries as are worth it."""
        ends_at = self._clock() + TOTAL_S
        for attempt in range(1, TRIES + 1):
            try:
                self._send(notice, ends_at)
            except ApiError as error:
                pause_s = self._first_s * 2.0 ** (attempt - 1) * (0.5 + self._jitter() / 2)
                late = self._clock() + pause_s >= ends_at
                if attempt == TRIES or late or not error.retryable or self._over.wait(pause_s):
                    self._counted(FAILED)
                    self._said(f"a notification was given up: {error}")
                    return False
            else:
                self._counted(SENT)
                return True
        raise AssertionError("unreachable")

    def _send(self, notice: Mapping[str, Any], ends_at: float) -> None:
        body = json.dumps(notice).encode()  # as ASCII: a name of a file may hold what UTF-8 cannot
        headers = {"Content-Type": "application/json", "User-Agent": "bailian-reconciler"}
        with self._line.exchange(min(self._clock() + WITHIN_S, ends_at)) as exchange:
            try:
                with self._line.stream("POST", self._url, headers=headers, content=body) as response:
                    read_body(response)
            except httpx.HTTPError as error:
                why = type(error).__name__  # its words may hold the address
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise NeverSent(f"{self.host} cannot be trusted", untrusted=True) from None
                if exchange.sent_bytes == 0:
                    raise NeverSent(f"{self.host} cannot be reached: {why}") from None
                raise Unavailable(f"{self.host} gave no complete answer: {why}") from None
        status = response.status_code
        if 300 <= status < 400:
            raise Rejected(f"{self.host} answered with a redirect, and none is ever followed", status=status)
        if status in (408, 425, 429) or status >= 500:
            raise Unavailable(f"{self.host} failed with status {status}", status=status)
        if not 200 <= status < 300:
            raise Rejected(f"{self.host} refused it with status {status}", status=status)
