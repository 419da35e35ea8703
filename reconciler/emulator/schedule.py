"""What an object is, as a function of emulated time: a schedule drawn once and read at any moment.

Nothing runs in the background here. A schedule is `(from when, what)` in order of time; a later event keeps what has
already happened and writes the rest anew. It knows no status by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Schedule = tuple[tuple[float, T], ...]


def at(schedule: Schedule[T], now_s: float) -> T:
    """The entry in force. Before the first one that first one, so a schedule always answers."""
    return next((value for since_s, value in reversed(schedule) if since_s <= now_s), schedule[0][1])


def since(schedule: Schedule[T], value: T) -> float | None:
    """When `value` was or will be entered last."""
    return next((since_s for since_s, entry in reversed(schedule) if entry == value), None)


def then(schedule: Schedule[T], now_s: float, *following: tuple[float, T]) -> Schedule[T]:
    """What happened up to now, followed by these entries instead of what was to come."""
    return (*(entry for entry in schedule if entry[0] <= now_s), *following)


def from_json(rows: Iterable[Sequence[Any]]) -> Schedule[Any]:
    """A schedule as JSON gives it back: lists for tuples."""
    return tuple((since_s, value) for since_s, value in rows)
