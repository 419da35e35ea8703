"""Manifests for what an account holds, and what is left alone of it: as YAML, as a page and as data."""

from __future__ import annotations

from typing import Any

from reconciler.drafts import Draft, Left
from reconciler.render.data import cny, yaml_text
from reconciler.render.markdown import fenced
from reconciler.render.words import Line, clean, count, money, page, size_text
from reconciler.takeover import Order, Takeover


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


def takeover_markdown(takeover: Takeover, wanted: Order) -> str:
    return fenced(takeover_text(takeover, wanted, None))


def _left_text(one: Left) -> str:
    cost = f" ({money(one.hour)} CNY/h)" if one.hour != 0 else ""
    return f"{clean(one.collection)}/{clean(one.id)}{cost}: {clean(one.why, 400)}"


def takeover_json(takeover: Takeover, wanted: Order) -> dict[str, Any]:
    """The same for programs; null is unknown."""
    return {
        "done": takeover.done,
        "folder": wanted.folder,
        "objects": [
            {
                "address": draft.address,
                "collection": draft.collection,
                "id": draft.seen.id,
                "status": draft.seen.status,
                "hour_cny": cny(draft.hour),
                "file": wanted.place(draft.file),
                "fetched": takeover.fetched.get(draft.key),
                "left_out": list(draft.dropped),
                "manifest": draft.body,
            }
            for draft in takeover.drafts.drafts
        ],
        "left_alone": [
            {"collection": one.collection, "id": one.id, "why": one.why, "hour_cny": cny(one.hour)}
            for one in takeover.drafts.left
        ],
    }
