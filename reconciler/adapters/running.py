"""A controller as a process: its stacks, its list of what is due, its signals, and a line for each look."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from reconciler.adapters import connection, terminal
from reconciler.adapters.looking import Looker
from reconciler.approvals import Mode
from reconciler.controller import Controller, Look, Pace
from reconciler.errors import UsageError
from reconciler.render.controller import look_text
from reconciler.source import Folder
from reconciler.store.fleet import SqliteFleet


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
) -> int:
    """The exit code: 0, for what goes wrong with a stack is said of that stack."""
    folder, stopped = Path(root), threading.Event()
    fleet = SqliteFleet(
        connection.private_folder(folder) / "fleet.db", f"process {os.getpid()} on {socket.gethostname()}"
    )
    look = Looker(Folder(folder), Mode(mode), endpoint, key_file, stopped=stopped.is_set)
    loop = Controller(
        fleet,
        lambda: stacks_below(folder, patterns),
        look,
        Pace(quiet_s=interval_s, busy_s=min(15.0, interval_s)),
        workers,
        looked=_tell,
    )
    if not loop.names():
        raise UsageError(f"no folder below {root} matches {' '.join(patterns)}", hint="--stacks 'teams/*'")
    if once:
        loop.once()
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    loop.run(stopped)
    return 0


def stacks_below(root: Path, patterns: Sequence[str]) -> list[str]:
    """The folders that the patterns mean, by their names below the root."""
    found = {path for pattern in patterns for path in (root.glob(pattern) if pattern != "." else [root])}
    return sorted(path.relative_to(root).as_posix() for path in found if path.is_dir())


def _tell(name: str, look: Look) -> None:
    terminal.say_anyway(look_text(name, look.report))
