"""The terminal: how wide it is, whether anybody is there to answer, and output that outlives its reader."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

import click

SHOW_CURSOR = "\r\x1b[?25h"


def width(stream: TextIO | None = None) -> int | None:
    """The columns of the terminal that stdout, or `stream`, is; None where it is none, and nothing is to be broken."""
    stream = stream or sys.stdout
    if not stream.isatty():
        return None
    if os.environ.get("COLUMNS", "").isdecimal():
        return int(os.environ["COLUMNS"]) or 80
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def somebody_is_there() -> bool:
    """Whether a question would be seen and could be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def somebody_watches() -> bool:
    """Whether stderr is a terminal that can redraw."""
    return sys.stderr.isatty() and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal would show the orders that it is given instead of obeying them."""
    return os.environ.get("TERM") in ("dumb", "unknown")


def draws() -> bool:
    """Whether stdout can hold more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "gb18030")


def say(text: str) -> None:
    """A result, on stdout."""
    click.echo(text)


def mention(text: str) -> None:
    """Something beside the result, on stderr, its lines broken where that is a terminal."""
    click.echo(fitted(text), err=True)


def fitted(text: str) -> str:
    """A message for stderr, at its width. What breaks lines is loaded only where there is a width."""
    if (columns := width(sys.stderr)) is None:
        return text
    from reconciler.render import words

    return words.fitted(text, columns)


def agreed(question: str, *, approved: bool) -> bool:
    """Whether somebody agrees, beforehand or now. Where nobody is there to be asked, nobody does."""
    if approved or not somebody_is_there():
        if not approved:
            mention("refused: nobody is there to approve this\n  --auto-approve (-y) does it unasked")
        return approved
    return click.confirm(question, err=True)


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
