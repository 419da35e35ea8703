"""Everything that watches a controller's looks: its log, its counts, and what a webhook is told.

None of it may stop or delay a look: it counts, writes a line, and puts what is to be told into a queue.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

from reconciler.adapters import logs
from reconciler.adapters.connection import checked_url
from reconciler.conditions import Report
from reconciler.controller import Look, Looker
from reconciler.gauges import Tally
from reconciler.notify import Notifier
from reconciler.render.controller import event_entry, event_text, look_entry, look_text, notices
from reconciler.render.words import clean

_SECRET_MIN = 12  # characters: a shorter piece of an address is a name


@dataclass
class Watch:
    """What goes with a controller: `over` its looker, `looked` as what it calls after each look.

    `notify` is the address of a webhook, "" for none, and `secrets` what no line of the log may hold. To be entered
    before the first look; leaving it waits a few seconds for what is still to be told.
    """

    form: str = logs.TEXT
    notify: str = ""
    secrets: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._log = logs.opened(self.form, (*self.secrets, *_secrets_of(self.notify)))
        self._notifier = Notifier(self.notify, said=self.say, counted=self._counted) if self.notify else None
        self._took_s: dict[str, float] = {}
        self._open = ExitStack()

    def __enter__(self) -> Watch:
        if self._notifier:
            self._open.enter_context(self._notifier)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def over(self, look: Looker) -> Looker:
        """The same looker, timed and counted."""

        def watched(name: str, before: Report) -> Look:
            began = self.clock()
            came = look(name, before)
            self._took_s[name] = self.clock() - began
            self.tally.looked(came.verdict.value, self._took_s[name], came.report.cause)
            return came

        return watched

    def looked(self, name: str, look: Look) -> None:
        """A look was finished: its line, its events, and what the webhook is to know."""
        report = look.report
        entry = look_entry(name, report, look.verdict.value, self._took_s.pop(name, None))
        logs.enter(self._log, look_text(name, report), entry, bad=bool(report.error))
        for event in report.news:
            logs.enter(self._log, f"    {event_text(name, event)}", event_entry(name, event))
        if self._notifier:
            for notice in notices(name, report):
                self._notifier.tell(notice)

    def say(self, sentence: str) -> None:
        """Something about the controller itself."""
        logs.enter(self._log, clean(sentence, 400), {"event": "said", "message": sentence}, bad=True)

    def _counted(self, outcome: str) -> None:
        self.tally.add("reconciler_notifications_total", outcome)


def _secrets_of(url: str) -> tuple[str, ...]:
    """The address itself, and whatever in it is long enough to be a secret; its host is none."""
    parts = urlsplit(url)
    pieces = re.split(r"[/&=]", f"{parts.path}&{parts.query}")
    return (url, *(piece for piece in pieces if len(piece) >= _SECRET_MIN))


def webhook(url: str) -> str:
    """The address of a webhook as the operator gave it: https, or this computer. UsageError for any other."""
    hint = "write https://HOST/PATH; http is for this computer only"
    return checked_url(url, "the webhook", hint=hint, query=True) if url else ""
