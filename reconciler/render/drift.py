"""Drift as a page, as data, as a comment for a forge, and as a test report for a CI.

Of the Markdown only the numbers of the first line stand outside the fence: whatever came from outside is inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import click

from reconciler.drift import Drift, Trace
from reconciler.render.forge import Case, Failure, Suite, suites_text
from reconciler.render.markdown import fenced
from reconciler.render.plan import Heading, heading_text
from reconciler.render.plan_json import plain
from reconciler.render.words import Line, clean, count, padded, page, value_text
from reconciler.resource import DriftClass
from reconciler.state import Owned

TOOL = "reconciler drift"
FIELDS_MAX = 20  # of one object on a page; -o json tells them all
_CLASS_COLUMNS = max(map(len, DriftClass)) + 2


# A page -------------------------------------------------------------------------------------------------------------


def drift_text(heading: Heading, found: Sequence[Drift], rows: Sequence[Owned], width: int | None) -> str:
    """What differs, object by object. `rows` is everything that was compared."""
    lines = [Line(heading_text(heading)), Line("")]
    for row, several in groupby(found, key=lambda one: one.row):
        lines += _object_lines(row, list(several))
    lines += [Line("")] if found else []
    return page([*lines, Line(counts_text(found, rows), {"bold": True})], width)


def counts_text(found: Sequence[Drift], rows: Sequence[Owned]) -> str:
    """One line of numbers alone."""
    if not rows:
        return "nothing to compare: nothing of this was applied yet"
    if not found:
        return f"no drift: {count(len(rows), 'object is', 'objects are')} as last applied"
    drifted, corrected = len({one.row.key for one in found}), sum(one.outlook.corrected for one in found)
    of = f"{count(len(found), 'difference')} in {drifted:,} of {count(len(rows), 'object')}"
    return f"{of}, {corrected:,} of which an apply corrects"


def _object_lines(row: Owned, found: Sequence[Drift]) -> Iterator[Line]:
    status = f"  {clean(found[0].status)}" if found[0].status else ""
    yield Line(f"{clean(row.slot)}  {clean(row.id)}{status}", {"bold": True}, head=len(clean(row.slot)))
    for _, several in groupby(found, key=lambda one: (one.sort, one.why, one.outlook)):
        group = list(several)
        lead = group[0]
        for number, text in enumerate(_differences(group)):
            word = lead.sort.value if not number else ""
            head = padded(word, _CLASS_COLUMNS)
            yield Line(f"{head}{text}", _style(lead), indent=2, hang=_CLASS_COLUMNS, head=_CLASS_COLUMNS)
        for text in filter(None, (trace_text(lead.sort, lead.trace), _outlook_text(lead))):
            yield Line(text, {"dim": True}, indent=2 + _CLASS_COLUMNS)


def _style(drift: Drift) -> dict[str, Any]:
    return {"fg": "yellow"} if drift.outlook.corrected else {"fg": "red", "bold": True}


def _differences(group: Sequence[Drift]) -> list[str]:
    told = [_difference(one) for one in group]
    more = len(told) - FIELDS_MAX
    return told if more <= 0 else [*told[:FIELDS_MAX], f"and {count(more, 'more difference')}: -o json tells them all"]


def _difference(drift: Drift) -> str:
    if not drift.path:
        return clean(drift.why, 400)
    if not drift.shown:
        return f"{_field(drift)}: not what was last applied; the service does not show what there is now"
    return f"{_field(drift)}: {value_text(drift.before)} -> {value_text(drift.after)}"


def _field(drift: Drift) -> str:
    return ".".join(map(clean, drift.path))


def trace_text(sort: DriftClass, trace: Trace) -> str:
    """Who likely did it, and when, as far as that is known; "" where nothing is."""
    who = "likely the platform" if sort.platform_made else ""
    if trace.account and not who:
        whose = {True: ", the account we write with", False: ", not the account we write with", None: ""}[trace.own]
        who = f"likely by {clean(trace.account)}{whose}"
    when = f"last touched {clean(trace.since)}" if trace.since else ""
    if trace.since and trace.last_write:
        when += f", after our last request of {clean(trace.last_write)}"
    return "; ".join(filter(None, (who, when)))


def _outlook_text(drift: Drift) -> str:
    hint = f" ({clean(drift.outlook.hint)})" if drift.outlook.hint else ""
    return f"{clean(drift.outlook.what, 400)}{hint}"


# For programs -------------------------------------------------------------------------------------------------------


def drift_json(heading: Heading, found: Sequence[Drift], rows: Sequence[Owned], *, at: str) -> dict[str, Any]:
    """The same for programs; null is not known."""
    return {
        "stack": heading.stack,
        "environment": heading.environment,
        "endpoint": heading.endpoint,
        "emulated": heading.emulated,
        "workspace": heading.workspace,
        "profile": heading.profile,
        "at": at or None,
        "drift": bool(found),
        "compared": len(rows),
        "differences": [_json(one) for one in found],
    }


def _json(drift: Drift) -> dict[str, Any]:
    row, trace = drift.row, drift.trace
    return {
        "class": drift.sort.value,
        "platform_made": drift.sort.platform_made,
        "address": row.slot.address,
        "part": row.slot.part,
        "role": row.role.value,
        "collection": row.collection,
        "id": row.id,
        "status": drift.status or None,
        "path": list(drift.path),
        "before": plain(drift.before),
        "after": plain(drift.after),
        "after_is_shown": drift.shown,
        "why": drift.why,
        "who": {"account": trace.account, "ours": trace.own} if trace.account else None,
        "since": trace.since or None,
        "last_write": trace.last_write or None,
        "corrected_by_apply": drift.outlook.corrected,
        "outcome": drift.outlook.what,
        "hint": drift.outlook.hint,
    }


def drift_markdown(heading: Heading, found: Sequence[Drift], rows: Sequence[Owned]) -> str:
    """A comment for a pull request or a step summary."""
    return f"**{counts_text(found, rows)}**\n\n{fenced(drift_text(heading, found, rows, None))}"


def drift_junit(found: Sequence[Drift], rows: Sequence[Owned]) -> str:
    """One test case for each object of ours, failed where it drifted."""
    drifted = {key: list(several) for key, several in groupby(found, key=lambda one: one.row.key)}
    cases = [  # no ids: a report is compared with earlier ones by these names
        Case(f"{clean(row.slot)} ({row.role})", _failure(row, drifted[row.key]) if row.key in drifted else None)
        for row in rows
    ]
    return suites_text(TOOL, [Suite(TOOL, cases)])


def _failure(row: Owned, found: Sequence[Drift]) -> Failure:
    told = click.unstyle(page(_object_lines(row, found), None))
    return Failure(found[0].sort.value, counts_text(found, [row]), told)
