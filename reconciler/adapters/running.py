"""A controller as a process: its stacks, its list of what is due, its signals, and a line for each look."""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from reconciler.adapters import connection, crash, terminal
from reconciler.adapters.interrupts import Interrupts
from reconciler.adapters.looking import Looker
from reconciler.approvals import Mode
from reconciler.controller import Controller, Look, Pace
from reconciler.errors import ReconcilerError, StateError, UsageError
from reconciler.render.controller import look_text
from reconciler.render.errors import error_text
from reconciler.source import Folder
from reconciler.store.fleet import Fleet, SqliteFleet

STOPPING = "stopping: looks that are under way are concluded first; a second signal leaves at once"
AGAIN_S = 60.0  # what is said once is over when it was not heard of for so long


def run(
    root: str,
    patterns: Sequence[str],
    *,
    mode: str,
    interval_s: float,
    workers: int,
    once: bool,
    endpoint: str,
    key_file: str,
    fleet: str = "",
) -> int:
    """The exit code: 0, for what goes wrong with a stack is said of that stack."""
    folder, stopped, mishaps = Path(root), threading.Event(), _Mishaps()
    look = Looker(
        Folder(folder), Mode(mode), endpoint=endpoint, key_file=key_file, stopped=stopped.is_set, many=bool(fleet)
    )
    loop = Controller(
        _fleet(fleet, folder),
        lambda: stacks_below(folder, patterns),
        look,
        Pace(quiet_s=interval_s, busy_s=min(15.0, interval_s)),
        workers,
        looked=_tell,
        troubled=mishaps.troubled,
        excuse=mishaps.excuse,
    )
    if not loop.names():
        raise UsageError(f"no folder below {root} matches {' '.join(patterns)}", hint="--stacks 'teams/*'")

    def stop() -> None:
        stopped.set()
        terminal.say_at_once(STOPPING)

    with Interrupts(stop) as signals:
        signals.arm()
        loop.once(stopped) if once else loop.run(stopped)
    return 0


def _fleet(name: str, folder: Path) -> Fleet:
    """The list that controllers of this name share, on any machine; without a name, those of this folder do."""
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    if not name:
        return SqliteFleet(connection.private_folder(folder) / "fleet.db", holder)
    try:
        from reconciler.store.postgres import DSN, PostgresFleet
    except ImportError as error:
        raise StateError(
            "a fleet shares its work through PostgreSQL, and the driver for it is not installed",
            hint="pip install 'bailian-reconciler[postgres]'",
        ) from error
    return PostgresFleet(os.environ.get(DSN, ""), holder, scope=name)


class _Mishaps:
    """Words for what is wrong with the program or its surroundings, the same thing only once at a time."""

    def __init__(self) -> None:
        self._reports: dict[str, str] = {}
        self._said, self._said_at = "", 0.0

    def excuse(self, error: Exception) -> str:
        """A mistake of ours, and the file that a report of it can start from."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        if place not in self._reports:
            self._reports[place] = crash.write_report(error)
        path = self._reports[place]
        enclose = f", with {path}, which holds where it happened and no data" if path else ""
        return f"internal error: {place}, please report it{enclose}"

    def troubled(self, error: Exception) -> None:
        text = error_text(error) if isinstance(error, ReconcilerError) else self.excuse(error)
        now = time.monotonic()
        if text != self._said or now - self._said_at > AGAIN_S:
            terminal.say_anyway(text, err=True)
        self._said, self._said_at = text, now


def stacks_below(root: Path, patterns: Sequence[str]) -> list[str]:
    """The folders that the patterns mean, by their names below the root."""
    found = {path for pattern in patterns for path in (root.glob(pattern) if pattern != "." else [root])}
    return sorted(path.relative_to(root).as_posix() for path in found if path.is_dir())


def _tell(name: str, look: Look) -> None:
    terminal.say_anyway(look_text(name, look.report))
