"""The small words of every page: untrusted text made visible, money, sizes, times, columns and line breaks.

`clean` is the one sink for what came from outside. Widths are those of a terminal, where a Chinese character takes two
columns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import click

from reconciler.errors import Position
from reconciler.resource import Known

LIMIT = 200
KNOWN_LATER = "(known after apply)"
NOT_SET = "(not set)"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_COMMANDS = re.compile(r"(?<!\S)::|##\[")  # what a CI runner takes for an order, at the start of a line or within it
_WIDE = "⺀-鿿가-힣豈-﫿＀-￯\U00020000-\U0003fffd"  # a line may break after each of these
_DIGEST = re.compile(r"([0-9a-f]{8})[0-9a-f]{24}-([0-9]+)")


# Untrusted text -----------------------------------------------------------------------------------------------------


def clean(value: object, limit: int = LIMIT) -> str:
    """Any text as one harmless line: what cannot be seen becomes an escape, what is too long is cut to `limit`."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    if not (text.isascii() and text.isprintable()):  # most of it is, and then no letter need be looked at
        text = "".join(_escaped(letter) if unicodedata.category(letter) in _HIDDEN else letter for letter in text)
    return _COMMANDS.sub(lambda found: _escaped(found[0][0]) + found[0][1:], text)


def _escaped(letter: str) -> str:
    code = ord(letter)
    short = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}.get(letter)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def hidden(letter: str) -> bool:
    """Whether nobody would see this character, or see it for what it is."""
    return unicodedata.category(letter) in _HIDDEN


# Values -------------------------------------------------------------------------------------------------------------


def value_text(value: Any) -> str:
    """A field's value in a few words."""
    match value:
        case None:
            return NOT_SET
        case Known():
            return KNOWN_LATER
        case bool():
            return "true" if value else "false"
        case str():
            return _digest_text(value)
        case Mapping():
            return ", ".join(f"{clean(name)} {value_text(item)}" for name, item in value.items())
        case list() | tuple():
            return ", ".join(map(value_text, value)) or "(none)"
        case _:
            return clean(value)


def brief(value: Any) -> str:
    """The same, of a long mapping only how long it is."""
    return f"{len(value)} entries" if isinstance(value, Mapping) and len(value) > 12 else value_text(value)


def _digest_text(value: str) -> str:
    digest = _DIGEST.fullmatch(value)
    return f"{digest[1]}… ({size_text(int(digest[2]))})" if digest else clean(value)


def place(at: Position | None) -> str:
    """`file:line`, as an editor or a terminal can jump to it."""
    return f"{clean(at.file)}:{at.line}" if at else ""


def money(amount: Decimal | None) -> str:
    """CNY without its unit; small amounts keep the digits that say something, an unknown one is said to be unknown."""
    if amount is None:
        return "unknown"
    return f"{amount:,.2f}" if amount == 0 or abs(amount) >= Decimal("0.01") else f"{amount:.1g}"


def size_text(size: int) -> str:
    """Bytes, in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            scaled = size / factor
            return f"{scaled:,.0f} {unit}" if scaled >= 10 else f"{scaled:.1f} {unit}"
    return f"{size} bytes"


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(items: Sequence[str], most: int = 12) -> str:
    """Items with commas; of a long list the first ones and how many more."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


# Lines --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of a page before it is broken, unless it stays `whole`. `head` characters are styled, all of it if 0."""

    text: str
    style: Mapping[str, Any] | None = None
    indent: int = 0
    hang: int = 2
    head: int = 0
    whole: bool = False


def page(lines: Iterable[Line], width: int | None) -> str:
    """The lines broken at `width` columns (None: never) and styled."""
    return "\n".join(row for line in lines for row in _rows(line, width))


def _rows(line: Line, width: int | None) -> Iterator[str]:
    indent, hang = (_shallow(margin, width) for margin in (line.indent, line.hang))
    room = 10_000_000 if width is None or line.whole else max(20, width - indent)
    for number, row in enumerate(wrapped(line.text, room, hang=hang)):
        margin = " " * (indent + (hang if number else 0))
        if not line.style or (line.head and number):
            yield (margin + row).rstrip()
        else:
            end = line.head or len(row)
            yield (margin + click.style(row[:end], **line.style) + row[end:]).rstrip()


def _shallow(margin: int, width: int | None) -> int:
    """A margin that would leave less than half of a terminal is no longer one of a column."""
    return margin if width is None or margin <= width // 2 else 4


def fitted(text: str, width: int | None) -> str:
    """A message whose lines were not broken yet, broken at `width` and a little further in below its own margin."""
    lines = [(line, len(line) - len(line.lstrip())) for line in text.split("\n")]
    return page((Line(line.lstrip(), indent=margin) for line, margin in lines), width)


def columns(text: str) -> int:
    """How many columns of a terminal a text takes; its styles take none."""
    plain = click.unstyle(text)
    return len(plain) if plain.isascii() else sum(map(_columns, plain))


def _columns(letter: str) -> int:
    if unicodedata.east_asian_width(letter) in "WF":
        return 2
    return 0 if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me") else 1


def padded(text: str, width: int) -> str:
    return text + " " * max(0, width - columns(text))


def wrapped(text: str, room: int, *, hang: int = 0) -> list[str]:
    """Rows of at most `room` columns, the later ones `hang` narrower.

    A word without spaces stays whole where a row can hold it. Chinese that no row can hold breaks anywhere; other words
    are left to the terminal.
    """
    rows: list[str] = []
    row, taken = "", 0
    for atom in _atoms(text, room - hang) if columns(text) > room else (text,):
        limit = room - (hang if rows else 0)
        if row.strip() and taken + columns(atom.rstrip()) > limit:
            rows.append(row.rstrip())
            row, taken = atom.lstrip(), columns(atom.lstrip())
        else:
            row, taken = row + atom, taken + columns(atom)
    return [*rows, row.rstrip()] if row.strip() or not rows else rows


def _atoms(text: str, room: int) -> Iterator[str]:
    """Pieces that a row may end after: each word with the spaces before it; of a long word each wide character."""
    for word in re.findall(r"\s*\S+|\s+$", text):
        if columns(word.lstrip()) <= room:
            yield word
        else:
            yield from re.findall(rf"\s*(?:[{_WIDE}][^\s\w]*|[^\s{_WIDE}]+)", word)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Columns as kubectl has them: capital headings, nothing drawn. Where they do not fit, a row takes more lines."""
    everything = (header, *rows)
    widths = [max(columns(row[index]) for row in everything) for index in range(len(header))]
    if width is not None and sum(widths) + 3 * (len(widths) - 1) > width:
        return "\n".join(line for row in rows for line in _stacked(header, row, width))
    return "\n".join("   ".join(map(padded, row, widths)).rstrip() for row in everything)


def _stacked(header: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """The cells of a row one after the other, each with its heading, as many to a line as fit; the first stands out."""
    line = row[0]
    for cell in (f"{name} {cell}" for name, cell in zip(header[1:], row[1:], strict=True) if cell):
        if columns(line) + 2 + columns(cell) > width:
            yield fitted(line, width)
            line = f"    {cell}"
        else:
            line += f"  {cell}"
    yield fitted(line, width)
