"""The terminal: how wide it is, whether anybody is there to answer, and output that outlives its reader."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import TextIO

import click

SHOW_CURSOR = "\r\x1b[?25h"


def width() -> int | None:
    """The columns of the terminal that stdout is; None where it is none, and nothing is to be broken."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def somebody_is_there() -> bool:
    """Whether a question would be seen and could be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def somebody_watches() -> bool:
    """Whether stderr is a terminal that can redraw."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def say(text: str) -> None:
    """A result, on stdout."""
    click.echo(text)


def mention(text: str) -> None:
    """Something beside the result, on stderr."""
    click.echo(text, err=True)


def say_anyway(text: str, *, err: bool = False) -> None:
    """Says it if anybody still listens: a reader that went away must not stop what is being done."""
    try:
        click.echo(text, err=err)
    except OSError:
        silence(sys.stderr if err else sys.stdout)


def say_at_once(text: str) -> None:
    """On stderr, past its buffer: a signal may come in the middle of a write to it, and then nothing may be added."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


def say_last(text: str) -> None:
    """The same, for the last words of a process that does not clean up; a live view had hidden the cursor."""
    say_at_once(f"{SHOW_CURSOR if os.isatty(2) else ''}{text}")


def silence(stream: TextIO) -> None:
    """Nobody reads this stream any more: what is said from here on, and what is still buffered, goes nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
