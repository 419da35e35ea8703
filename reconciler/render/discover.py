"""What an account holds beside, or in spite of, what is declared: as a table and as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from reconciler.discover import UNMANAGED, UNREFERENCED, Find, Orphan, Orphans
from reconciler.money import a_month, total
from reconciler.render import markdown
from reconciler.render.data import cny
from reconciler.render.plan import Heading, heading_text, prices_text
from reconciler.render.words import Line, clean, count, money, page, table
from reconciler.state import Intent

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
    if any(one.sort == UNMANAGED for one in found):
        yield Line("reconciler discover --write FOLDER takes what is not ours under management, and buys nothing")
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
                "hour_cny": cny(one.hour),
                "why": one.why,
            }
            for one in found
        ],
        "runs_without_inputs": silent,
    }


# What carries a mark like ours ----------------------------------------------------------------------------------------


def orphans_text(heading: Heading, told: Orphans, kind_in: Callable[[str], str], *, width: int | None) -> str:
    """A line for each object and operation, with what is to be done about it. `kind_in`: the kind of a collection."""
    rows = [_orphan(one, kind_in) for one in told.objects]
    blocks = [page([Line(heading_text(heading)), Line("")], width)]
    header = ("OBJECT", "KIND", "MARK", "STATUS", "CNY/H", "WHOSE", "NEXT")
    nothing = page([Line("nothing carries a mark like ours that is not recorded")], width)
    blocks.append(table(header, rows, width) if rows else nothing)
    operations = [
        [clean(one.op_id), clean(one.at), clean(f"{one.verb} {one.slot}"), clean(one.phase), _settles(one)]
        for one in (*told.open, *told.given_up)
    ]
    if operations:
        blocks += ["", table(("OPERATION", "AT", "WHAT", "OUTCOME", "NEXT"), operations, width)]
    hour = total(one.hour for one in told.objects)
    if rows:
        text = f"{money(hour)} CNY/h ({money(a_month(hour))} a month); {prices_text(heading)}"
        blocks += ["", page([Line(text, {"bold": True})], width)]
    return "\n".join(blocks)


def _orphan(one: Orphan, kind_in: Callable[[str], str]) -> list[str]:
    name, rate = f"{clean(one.collection)}/{clean(one.seen.id)}", "" if one.hour == 0 else money(one.hour)
    rest = map(clean, (_whose(one), _next(one, kind_in)))
    return [name, kind_in(one.collection), clean(_mark(one)), clean(one.seen.status), rate, *rest]


def _mark(one: Orphan) -> str:
    return str(one.seen.outputs.get("mark", ""))


def _whose(one: Orphan) -> str:
    if one.operation:
        return f"{one.operation.slot}, operation {one.operation.op_id} may have made it"
    return f"{one.owner}, by its mark" if one.owner else "another stack's, or of what is declared no more"


def _next(one: Orphan, kind_in: Callable[[str], str]) -> str:
    if one.operation:
        return f"reconciler ops show {one.operation.op_id}" if one.operation.is_open else "reconciler plan"
    if one.owner:
        return "reconciler state rebuild"
    return f"reconciler import {kind_in(one.collection)}/NAME {one.seen.id}"


def _settles(one: Intent) -> str:
    return f"reconciler ops show {clean(one.op_id)}" if one.is_open else "reconciler plan shows what comes late"


def orphans_json(heading: Heading, told: Orphans, kind_in: Callable[[str], str]) -> dict[str, Any]:
    """The same for programs; null is unknown."""
    return {
        "endpoint": heading.endpoint,
        "prices_of": str(heading.prices_of),
        "objects": [
            {
                "collection": one.collection,
                "kind": kind_in(one.collection),
                "id": one.seen.id,
                "mark": _mark(one),
                "status": one.seen.status,
                "created": one.seen.outputs.get("created"),
                "hour_cny": cny(one.hour),
                "owner": {"address": one.owner.address, "part": one.owner.part} if one.owner else None,
                "operation": one.operation.op_id if one.operation else None,
                "next": _next(one, kind_in),
            }
            for one in told.objects
        ],
        "operations": [
            {
                "operation": one.op_id,
                "address": one.slot.address,
                "part": one.slot.part,
                "verb": one.verb,
                "at": one.at,
                "tag": one.tag,
                "phase": one.phase.value,
                "open": one.is_open,
                "next": _settles(one),
            }
            for one in (*told.open, *told.given_up)
        ],
    }
