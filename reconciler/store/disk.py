"""Files beside a state that appear as a whole or not at all, and only for their owner's eyes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from uuid import uuid4

from reconciler.errors import StateCorrupt, StateError
from reconciler.state import Event, Record, event_of, record_of

UNREADABLE = "keep a copy and move it away: the operation is then looked for on the service"


def place(path: Path, data: bytes) -> None:
    """Put a file where there may be one; after a power cut either the old one or this one is there."""
    unfinished = beside(path, ".new")
    try:
        with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Answers that the store itself would not take -------------------------------------------------------------------------


def leave(rescue: Path, events: Sequence[Event]) -> Path:
    """Keep events in a file of their own, whose name begins like `rescue`. Raises OSError."""
    rescue.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = beside(rescue, f"-{uuid4().hex[:12]}")
    place(path, json.dumps([record_of(event) for event in events]).encode())
    return path


def events_in(path: Path) -> tuple[Event, ...]:
    """What one such file keeps. Raises StateError where that cannot be told."""
    try:
        return tuple(event_of(Record(*record)) for record in json.loads(path.read_bytes()))
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, StateCorrupt) as error:
        raise StateError(f"{path} holds an answer of the service that cannot be read", hint=UNREADABLE) from error


def rescued(rescue: Path) -> Sequence[Path]:
    """The files that `leave` made and nobody has taken in yet."""
    found = rescue.parent.glob(f"{escape(rescue.name)}-*")
    return sorted(path for path in found if path.suffix != ".new")
