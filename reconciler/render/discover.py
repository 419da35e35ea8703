"""What an account holds beside, or in spite of, what is declared: as a table and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.discover import UNREFERENCED, Find
from reconciler.money import a_month, total
from reconciler.render import markdown
from reconciler.render.plan import Heading, heading_text, prices_text
from reconciler.render.words import Line, clean, count, money, page, table

_HEADER = ("WHAT", "OBJECT", "STATUS", "SINCE", "CNY/H", "WHY")
NOTHING = "nothing found"


def finds_text(heading: Heading, found: Sequence[Find], *, silent: int, width: int | None) -> str:
    """A line for each find, what all of them cost, and what cannot be known."""
    body = table(_HEADER, list(map(_row, found)), width) if found else NOTHING
    remarks = page(_remarks(heading, found, silent), width)
    return "\n".join([page([Line(heading_text(heading))], width), "", body, "", remarks])


def finds_markdown(heading: Heading, found: Sequence[Find], *, silent: int) -> str:
    body = markdown.table(_HEADER, map(_row, found)) if found else NOTHING
    remarks = markdown.points(line.text for line in _remarks(heading, found, silent))
    return "\n\n".join([markdown.escaped(heading_text(heading)), body, remarks])


def _row(one: Find) -> list[str]:
    name = f"{clean(one.collection)}/{clean(one.id)}"
    return [one.sort, name, clean(one.status), clean(one.created), _rate(one), clean(one.why)]


def _rate(one: Find) -> str:
    return money(one.hour) if one.billable else ""


def _remarks(heading: Heading, found: Sequence[Find], silent: int) -> Iterator[Line]:
    hour = total(one.hour for one in found if one.sort != UNREFERENCED)
    text = f"{money(hour)} CNY/h ({money(a_month(hour))} a month) that nobody here asks for; {prices_text(heading)}"
    yield Line(text, {"bold": True})
    yield Line("whether anybody calls a deployment the service does not tell: look before you delete", {"dim": True})
    if silent:
        runs = count(silent, "run does not show", "runs do not show")
        yield Line(f"{runs} what it was made from: an upload may be theirs", {"dim": True})


def finds_json(heading: Heading, found: Sequence[Find], *, silent: int) -> dict[str, Any]:
    """The same for programs; null is unknown."""
    return {
        "endpoint": heading.endpoint,
        "prices_of": str(heading.prices_of),
        "found": [
            {
                "what": one.sort,
                "collection": one.collection,
                "id": one.id,
                "status": one.status,
                "since": one.created or None,
                "hour_cny": None if one.hour is None else f"{one.hour:f}",
                "why": one.why,
            }
            for one in found
        ],
        "runs_without_inputs": silent,
    }
