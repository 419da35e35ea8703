"""What an account holds beside, or in spite of, what is declared: as a table and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.discover import UNMANAGED, UNREFERENCED, Find
from reconciler.drafts import Draft, Left
from reconciler.money import a_month, total
from reconciler.render.data import yaml_text
from reconciler.render.plan import Heading, heading_text, prices_text
from reconciler.render.words import Line, clean, count, money, page, size_text, table
from reconciler.takeover import Order, Takeover

TAKEOVER_VERSION = "1.0"


def finds_text(heading: Heading, found: Sequence[Find], *, silent: int, width: int | None) -> str:
    """A line for each find, what all of them cost, and what cannot be known."""
    rows = [
        [one.sort, f"{clean(one.collection)}/{clean(one.id)}", clean(one.status), clean(one.created), _rate(one),
         clean(one.why)]
        for one in found
    ]  # fmt: skip
    header = ("WHAT", "OBJECT", "STATUS", "SINCE", "CNY/H", "WHY")
    lines = [Line(heading_text(heading))]
    body = table(header, rows, width) if rows else "nothing found"
    return "\n".join([page(lines, width), "", body, "", page(_remarks(heading, found, silent), width)])


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
                "hour_cny": None if one.hour is None else f"{one.hour:f}",
                "why": one.why,
            }
            for one in found
        ],
        "runs_without_inputs": silent,
    }


# Manifests for it ---------------------------------------------------------------------------------------------------


def draft_text(draft: Draft) -> str:
    """One manifest, headed by what it declares and what that costs."""
    seen, cost = draft.seen, f", {money(draft.hour)} CNY/h" if draft.hour != 0 else ""
    since = f" since {clean(seen.outputs['created'])}" if seen.outputs.get("created") else ""
    lines = [f"# {clean(draft.key)}: {clean(seen.status)}{since}{cost}"]
    lines += [f"# left out, since no manifest could say it: {clean(name)}" for name in draft.dropped]
    return "\n".join([*lines, yaml_text(draft.body), ""])


def drafts_text(takeover: Takeover) -> str:
    """All manifests, as one stream."""
    return "---\n".join(map(draft_text, takeover.drafts.drafts)).rstrip("\n")


def takeover_text(takeover: Takeover, wanted: Order, width: int | None) -> str:
    """What is, or would be, written and recorded, and everything that is left alone."""
    made, left = takeover.drafts.drafts, takeover.drafts.left
    verb = "written and recorded" if takeover.done else "to be written and recorded"
    lines = [Line(f"{verb}: {count(len(made), 'object')}; nothing changes on the service", {"bold": True})]
    for draft in made:
        cost = f", {money(draft.hour)} CNY/h" if draft.hour != 0 else ""
        text = f"= {clean(draft.address)}  {clean(draft.key)}{cost}"
        lines.append(Line(f"{text}  {clean(wanted.place(draft.file))}", {"fg": "green"}, indent=2, head=1))
    fetched = [draft for draft in made if draft.key in takeover.fetched]
    if fetched:
        size = sum(draft.seen.outputs.get("size", 0) for draft in fetched)
        lines.append(Line(f"{'fetched' if takeover.done else 'to be fetched'}: {size_text(size)}", {"bold": True}))
        lines += [Line(f"{clean(takeover.fetched[draft.key])}  {clean(draft.key)}", indent=2) for draft in fetched]
    if left:
        lines.append(Line(f"left alone: {count(len(left), 'object')}", {"bold": True}))
        lines += [Line(_left_text(one), indent=2) for one in left]
    return page(lines, width)


def _left_text(one: Left) -> str:
    cost = f" ({money(one.hour)} CNY/h)" if one.hour != 0 else ""
    return f"{clean(one.collection)}/{clean(one.id)}{cost}: {clean(one.why, 400)}"


def takeover_json(takeover: Takeover, wanted: Order) -> dict[str, Any]:
    """The same for programs. A field is never renamed within one major version; null is unknown."""
    return {
        "format_version": TAKEOVER_VERSION,
        "done": takeover.done,
        "folder": wanted.folder,
        "objects": [
            {
                "address": draft.address,
                "collection": draft.collection,
                "id": draft.seen.id,
                "status": draft.seen.status,
                "hour_cny": None if draft.hour is None else f"{draft.hour:f}",
                "file": wanted.place(draft.file),
                "fetched": takeover.fetched.get(draft.key),
                "left_out": list(draft.dropped),
                "manifest": draft.body,
            }
            for draft in takeover.drafts.drafts
        ],
        "left_alone": [
            {
                "collection": one.collection,
                "id": one.id,
                "why": one.why,
                "hour_cny": None if one.hour is None else f"{one.hour:f}",
            }
            for one in takeover.drafts.left
        ],
    }
