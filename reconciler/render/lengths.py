"""How long the rows are that a run learns from: as bars for people, as numbers for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.lengths import Lengths
from reconciler.render.words import Line, count

_BAR = 40


def lengths_lines(lengths: Lengths) -> Iterator[Line]:
    """A line of figures, then a bar for each doubling of the length."""
    about = "" if lengths.counted else "about "
    reach = ", ".join(f"{percent} % within {lengths.keeping(percent):,}" for percent in (50, 90, 99))
    yield Line(f"{count(lengths.rows, 'row')}, {about}{count(lengths.tokens, 'token')}", indent=2)
    yield Line(f"{reach}, the longest has {lengths.longest:,}", indent=2)
    bars = lengths.histogram()
    most, wide = max((rows for _, _, rows in bars), default=1), len(f"{lengths.longest * 2:,}")
    for least, greatest, rows in bars:
        bar = "█" * -(-rows * _BAR // most)
        yield Line(f"{least:>{wide},} to {greatest:>{wide},}  {bar} {rows:,}", {"dim": True}, indent=4, whole=True)


def lengths_json(lengths: Lengths) -> dict[str, Any]:
    """The same; `counted` is false for an estimate."""
    return {
        "counted": lengths.counted,
        "rows": lengths.rows,
        "tokens": lengths.tokens,
        "longest": lengths.longest,
        "within": {str(percent): lengths.keeping(percent) for percent in (50, 90, 99)},
        "histogram": [{"from": least, "to": greatest, "rows": rows} for least, greatest, rows in lengths.histogram()],
    }
