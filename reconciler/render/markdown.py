"""Text as Markdown that a forge shows and does not obey: no link, picture, mention, HTML or order from outside.

What is more than plain words stands in a code span, in which no forge reads anything. Not for the inside of HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

import click

from reconciler.render.words import clean, count

CHARACTERS_MAX = 60_000  # of a block; the forges take 65,536 and more in a comment
LINE_MAX = 600
ROWS_MAX = 200  # of a table
_WORDS = re.compile(
    r"(?![-/]|\d+[.)](?: |$))"
    r"(?:[^\W_]|[ ,;./()·…。，；：、（）「」《》-]|[:%](?=[ ,;.)]|$)|(?<=\d):(?=\d)|(?<= )->(?= ))*"
)
_READ_AS_LINKS = re.compile(r"www\.|GH-\d|(?=[a-f]*\d)[0-9a-f]{7,40}", re.IGNORECASE)  # the last as a commit


def fenced(text: str, *, limit: int = CHARACTERS_MAX) -> str:
    """Lines as they are, within a fence that nothing inside closes; what goes beyond `limit` is cut, and said to be."""
    lines = [clean(line, limit) for line in click.unstyle(text).split("\n")]
    kept = [
        line for line, size in zip(lines, accumulate(len(line) + 1 for line in lines), strict=True) if size <= limit
    ]
    left = len(lines) - len(kept)
    fence = "`" * max(3, 1 + _longest_run(lines))
    return "\n".join([fence, *kept, *([f"… truncated: {count(left, 'more line')}"] if left else []), fence])


def escaped(text: object) -> str:
    """One line from anywhere, for a paragraph, a list or a cell."""
    line = clean(text, LINE_MAX).strip()
    if _WORDS.fullmatch(line) and not _READ_AS_LINKS.search(line):
        return line
    ticks = "`" * (1 + _longest_run([line]))
    gap = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{gap}{line}{gap}{ticks}"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Cells of anything under headings of ours; of many rows the first, and how many more."""
    written = [[_cell(cell) for cell in row] for row in rows]
    shown = ([*headers], ["---"] * len(headers), *written[:ROWS_MAX])
    more = len(written) - ROWS_MAX
    lines = [f"| {' | '.join(cells)} |" for cells in shown]
    return "\n".join([*lines, *(["", f"… truncated: {count(more, 'more row')}"] if more > 0 else [])])


def points(texts: Iterable[object]) -> str:
    """A list of single lines."""
    return "\n".join(f"- {escaped(text)}" for text in texts)


def _cell(value: object) -> str:
    """A bar ends a cell even within code, unless it is escaped; one that follows a backslash cannot be."""
    return escaped(value).replace(r"\|", r"\\x7c").replace("|", r"\|")


def _longest_run(lines: Iterable[str]) -> int:
    return max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
