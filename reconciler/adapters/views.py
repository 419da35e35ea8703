"""Three ways to watch an apply: live on a terminal, a line for each event elsewhere, a JSON object for programs.

Each takes the engine's reports as they come and a tick about every second, all in one thread. None of them can stop an
apply: what cannot be shown is not shown.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Protocol

from reconciler.adapters.output import event
from reconciler.adapters.terminal import say_anyway
from reconciler.apply import Progress, Stage
from reconciler.recover import Finding
from reconciler.render import progress as words
from reconciler.render.words import duration

HEARTBEAT_S = 30.0
_UNTOLD = frozenset({Stage.TODO, Stage.BLOCKED})
_BUSY = frozenset({Stage.SENDING, Stage.WAITING})


class View(Protocol):
    """What an apply tells as it goes."""

    def begin(self) -> None: ...
    def report(self, progress: Progress) -> None: ...
    def notice(self, finding: Finding) -> None: ...
    def tick(self) -> None: ...
    def end(self) -> None: ...


class Stream:
    """What is told event by event: also that there is none, when that lasts half a minute."""

    def __init__(self) -> None:
        self.began = self.told = time.monotonic()
        self.last: dict[str, Progress] = {}

    def begin(self) -> None:
        self.began = self.told = time.monotonic()

    def tick(self) -> None:
        if time.monotonic() - self.told > HEARTBEAT_S:
            self.heartbeat(time.monotonic() - self.began)

    def heartbeat(self, elapsed_s: float) -> None:
        raise NotImplementedError

    def end(self) -> None:
        pass


class Lines(Stream):
    """One line on stderr for each event that is news."""

    def report(self, progress: Progress) -> None:
        before, self.last[progress.operation.id] = self.last.get(progress.operation.id), progress
        news = before is None or (before.stage, before.status) != (progress.stage, progress.status)
        if news and progress.stage not in _UNTOLD:
            self._tell(words.event_text(progress, time.monotonic() - self.began))

    def notice(self, finding: Finding) -> None:
        self._tell(words.finding_text(finding))

    def heartbeat(self, elapsed_s: float) -> None:
        self._tell(words.heartbeat_text(self.last.values(), elapsed_s))

    def _tell(self, line: str) -> None:
        say_anyway(line, err=True)
        self.told = time.monotonic()


class Json(Stream):
    """One event a line on stdout, also where only the time in a state moved."""

    def report(self, progress: Progress) -> None:
        self.last[progress.operation.id] = progress
        self._tell(words.event_json(progress))

    def notice(self, finding: Finding) -> None:
        self._tell(words.finding_json(finding))

    def heartbeat(self, elapsed_s: float) -> None:
        self._tell(words.heartbeat_json(self.last.values(), elapsed_s))

    def _tell(self, what: Mapping[str, Any]) -> None:
        event(what)
        self.told = time.monotonic()


class Live:
    """What is over scrolls by above; what is under way stays below, with its state, its time in it, and a figure."""

    def __init__(self, *, color: bool) -> None:
        from rich.console import Console
        from rich.live import Live as Region

        self.console = Console(stderr=True, no_color=not color, markup=False, emoji=False, highlight=False)
        self.region = Region(console=self.console, auto_refresh=False, transient=True)
        self.busy: dict[str, tuple[Progress, float]] = {}
        self.drawn = 0.0

    def begin(self) -> None:
        with contextlib.suppress(OSError):
            self.region.start()

    def report(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage in _BUSY:
            self.busy[progress.operation.id] = (progress, now - progress.elapsed_s)
        else:
            self.busy.pop(progress.operation.id, None)
            if progress.stage not in _UNTOLD:
                self._print(progress)
        self._draw(now)

    def notice(self, finding: Finding) -> None:
        from rich.text import Text

        with contextlib.suppress(OSError):
            self.console.print(Text(words.finding_text(finding)))

    def tick(self) -> None:
        if time.monotonic() - self.drawn > 0.5:
            self._draw(time.monotonic())

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.region.stop()

    def _print(self, progress: Progress) -> None:
        from rich.text import Text

        style = "green" if progress.stage is Stage.DONE else "cyan" if progress.stage is Stage.DETACHED else "red"
        line = Text(f"  {progress.operation.action.value} {words.outcome_text(progress)}", style=style)
        with contextlib.suppress(OSError):
            self.console.print(line, soft_wrap=True)

    def _draw(self, now: float) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for name in ("slot", "state", "time", "detail"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        room = max(1, self.console.height - 3)
        for progress, since in list(self.busy.values())[:room]:
            glyph = progress.operation.action.value
            slot, state, detail = words.live_texts(progress)
            table.add_row(
                Text(f"  {glyph} {slot}"),
                Text(state, style="cyan"),
                Text(duration(now - since), style="dim"),
                Text(detail),
            )
        if len(self.busy) > room:
            table.add_row(Text(f"  and {len(self.busy) - room} more"))
        with contextlib.suppress(OSError):
            self.region.update(table, refresh=True)
        self.drawn = now
