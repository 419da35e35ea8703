"""Where a controller's stacks come from: a folder that somebody else keeps up to date.

A checkout is there only while it is used, and only to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Checkout:
    """What was declared at one moment: a folder, and the name of what it holds ("" where it has none)."""

    root: Path
    revision: str = ""


class Source(Protocol):
    """Raises ReconcilerError where nothing can be had: that is never the same as an empty folder."""

    def checkout(self) -> AbstractContextManager[Checkout]: ...


@dataclass(frozen=True)
class Folder:
    """A folder on this machine, as it is."""

    root: Path

    @contextmanager
    def checkout(self) -> Iterator[Checkout]:
        yield Checkout(self.root)
