"""Text as Markdown that a forge shows and does not obey: no link, picture, mention, HTML or order from outside.

What is more than plain words stands in a code span, in which no forge reads anything. Not for the inside of HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

import click

from reconciler.render.words import clean, count

BLOCK_BYTES = 60_000  # the forges take 65,536 characters and more in a comment
LINE_MAX = 600
ROWS_MAX = 200  # of a table
_WORDS = re.compile(
    r"(?![-/]|\d+[.)](?: |$))"
    r"(?:[^\W_]|[ ,;./()·…。，；：、（）「」《》-]|[:%](?=[ ,;.)]|$)|(?<=\d):(?=\d)|(?<= )->(?= ))*"
)
_READ_AS_LINKS = re.compile(r"www\.|GH-\d|(?=[a-f]*\d)[0-9a-f]{7,40}", re.IGNORECASE)  # the last as a commit


def fenced(text: str, *, limit_bytes: int = BLOCK_BYTES) -> str:
    """Lines as they are, within a fence that nothing inside closes. What goes beyond the limit is cut at the end of a
    line, and said to be. No line begins with a quick action of GitLab's.
    """
    lines = [
        re.sub(r"^(\s*)/", r"\1\\x2f", clean(line, limit_bytes).rstrip()) for line in click.unstyle(text).split("\n")
    ]
    fence = "`" * max(3, 1 + _longest_run(lines))
    return "\n".join([f"{fence}text", *_cut(lines, limit_bytes - 2 * len(f"{fence}text\n")), fence])


def _cut(lines: Sequence[str], room_bytes: int) -> Sequence[str]:
    sizes = [*accumulate(len(line.encode()) + 1 for line in lines)]
    if sizes[-1] <= room_bytes:
        return lines
    room_bytes -= len(_left_out(len(lines)).encode()) + 1
    kept = sum(size <= room_bytes for size in sizes)
    return [*lines[:kept], _left_out(len(lines) - kept)]


def _left_out(number: int) -> str:
    return f"… truncated: {count(number, 'more line')}"


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
