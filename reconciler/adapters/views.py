"""Three ways to watch an apply: live on a terminal, a line for each event elsewhere, a JSON object for programs.

Each takes the engine's reports as they come and a tick about every second, all in one thread. None of them can stop an
apply: what cannot be shown is not shown.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import click

from reconciler.adapters.output import event
from reconciler.adapters.terminal import fitted, say_anyway, somebody_watches
from reconciler.apply import Progress, Stage
from reconciler.recover import Finding
from reconciler.render import progress as words
from reconciler.render.words import columns, count, duration, padded
from reconciler.render.words import fitted as fitted_to

if TYPE_CHECKING:
    from rich.text import Text

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
        say_anyway(fitted(line), err=True)
        self.told = time.monotonic()


def for_people() -> View:
    """Live where somebody watches, else lines."""
    context = click.get_current_context(silent=True)
    return Live(color=context is None or context.color is not False) if somebody_watches() else Lines()


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
        told = f"  {progress.operation.action.value} {words.outcome_text(progress)}"
        line = Text(fitted_to(told, self.console.width), style=style)
        with contextlib.suppress(OSError):
            self.console.print(line, soft_wrap=True)

    def _draw(self, now: float) -> None:
        from rich.text import Text

        rows = []
        for progress, since in self.busy.values():
            slot, state, detail = words.live_texts(progress)
            rows.append((f"  {progress.operation.action.value} {slot}", state, duration(now - since), detail))
        lines = [line for row in rows for line in _aligned(row, rows, self.console.width)]
        room = max(1, self.console.height - 3)
        shown = Text("\n").join(lines[:room])
        if len(lines) > room:
            shown.append(f"\n  and {count(len(lines) - room, 'more line')}")
        with contextlib.suppress(OSError):
            self.region.update(shown, refresh=True)
        self.drawn = now


def _aligned(row: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    """One line of a table; where that is too narrow for it, all of it on as many as it takes."""
    from rich.text import Text

    widths = [max(columns(one[index]) for one in rows) for index in range(len(row))]
    if sum(widths) + 2 * len(widths) > width:
        yield from map(Text, fitted_to("  ".join(filter(None, row)), width).split("\n"))
    else:
        cells = [f"{padded(cell, room)}  " for cell, room in zip(row, widths, strict=True)]
        yield Text.assemble(*zip(cells, ("", "cyan", "dim", ""), strict=True))
