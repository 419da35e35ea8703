"""A report as the one comment below a pull request, as a page, and as data.

Of a comment, only numbers and words of ours stand free. Whatever anybody else wrote stands in a fence, each line behind
a word of ours: there no forge finds a link, a picture, a mention, a command or an end of the fence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import quote

import click

from reconciler.findings import RULES, Level
from reconciler.money import total
from reconciler.plan import Operation
from reconciler.render import chart
from reconciler.render.changes import ACTION_WORDS
from reconciler.render.data import cny
from reconciler.render.markdown import fenced
from reconciler.render.plan import Heading, counts_text, entries, money_texts, plan_text
from reconciler.render.plan_json import plan_json
from reconciler.render.words import clean, count, money, table
from reconciler.report import Aftermath, Bill, Ending, Found, Outcome, Report
from reconciler.resource import Collection
from reconciler.saved import Saved

LIMIT_BYTES = 65_536  # GitHub takes as many characters, GitLab more; no text has more characters than bytes
WARNINGS_BYTES = 6_000
_RESERVED = 4_000  # bytes that a part keeps for each that comes after it
_CHARTS = 3
_TROUBLE = (Ending.FAILED, Ending.REFUSED, Ending.UNKNOWN)


class Part(NamedTuple):
    """Something to unfold: a title of our own words, and its lines."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Page:
    """A report in words. `head` and the notes are of our own words and numbers alone."""

    mark: str
    head: tuple[str, ...]
    warnings: tuple[str, ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...]


def mark(saved: Saved) -> str:
    """The first line of a comment, which nobody sees: it is how the one about this stack is found again."""
    stamp = saved.bound.stamp
    name = quote(stamp.stack) + (f"/{quote(stamp.environment)}" if stamp.environment else "")
    return f"<!-- reconciler report: {name} -->"


def report_page(
    report: Report,
    heading: Heading,
    collections: Mapping[str, Collection],
    *,
    picture: str = "",
    width: int | None = None,
) -> Page:
    """The report in words. `picture` is the file that the loss was drawn into."""
    saved, came = report.saved, report.aftermath
    plan = plan_text(heading, saved.plan, collections, objects=saved.bound.held, width=width)
    parts = [*(_came_to(came, picture, width) if came else ()), Part("The plan", plan.split("\n"))]
    parts += [Part("What it costs", [*_costs(report)])]
    if report.lint:
        parts.append(Part(f"Training data: {_levels(report.lint)}", [*map(_finding, report.lint)]))
    head = [*([_applied(came)] if came else []), _planned(report, collections, "planned: " if came else "")]
    head += ["emulator: nothing is bought"] if heading.emulated else []
    return Page(mark(saved), tuple(head), tuple(_warnings(report)), tuple(parts), tuple(_notes(report)))


# The head -----------------------------------------------------------------------------------------------------------


def _planned(report: Report, collections: Mapping[str, Collection], word: str) -> str:
    plan = report.saved.plan
    counts = counts_text(entries(plan, collections)) or "no changes"
    totals = plan.totals
    return f"{word}{counts} · {money_texts(plan)[0]} · {money(totals.hour_before)} -> {money(totals.hour_after)} CNY/h"


def _applied(came: Aftermath) -> str:
    endings = Counter(one.ending for one in came.outcomes)
    counts = ", ".join(f"{endings[ending]:,} {ending}" for ending in Ending if endings[ending])
    return f"{'applied' if came.ended else 'begun'}: {counts or 'nothing to do'} · {_bought(came.bills)}"


def _bought(bills: Sequence[Bill]) -> str:
    cost, foreseen = (total(amounts) for amounts in ([b.cost for b in bills], [b.foreseen for b in bills]))
    return f"bought {money(cost)} CNY, estimated {money(foreseen)} CNY"


def _warnings(report: Report) -> Iterator[str]:
    """Why an apply would stop, and what to do about it; after one, what went wrong."""
    plan = report.saved.plan
    for op in plan.blocked:
        yield f"blocked: {clean(op.slot)}: {clean(op.why, 400)}" + (f" ({clean(op.hint, 400)})" if op.hint else "")
    if report.aftermath:
        for one in report.aftermath.outcomes:
            if one.ending in _TROUBLE:
                yield f"{one.ending}: {clean(one.operation.slot)}: reconciler status and describe say more"
        return
    for op in plan.operations:
        if op.needs_consent:
            yield f"needs consent: {clean(op.slot)}: a paid run follows one that was bought before"
    for breach in report.breaches or ():
        yield f"over the limit: {clean(breach.rule)}: {clean(breach, 400)} ({clean(breach.override)})"
    for note in plan.notes:
        if note.warning:
            yield f"warning: {clean(note.about)} {clean(note.what, 400)}"


def _notes(report: Report) -> Iterator[str]:
    saved = report.saved
    if report.lint == ():
        yield "training data: nothing found"
    if report.lint is None:
        yield "the training data were not looked at: that takes the manifests"
    if report.breaches is None:
        yield "limits and budgets were not looked at: that takes manifests without a mistake"
    if (came := report.aftermath) and not came.asked:
        yield "the service was not asked: this is what the state holds"
    made, until = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in (saved.made_at, saved.expires_at))
    good = "" if report.aftermath else f", good until {until} for one apply"
    yield f"saved plan `{saved.digest[:12]}` · made {made}{good}"


# The parts ----------------------------------------------------------------------------------------------------------


def _came_to(came: Aftermath, picture: str, width: int | None) -> Iterator[Part]:
    yield Part("What it came to", [*map(_outcome, came.outcomes)])
    if came.trained:
        drawn = [
            chart.chart_text(f"loss of {one.slot} {one.id}", one.measured, width, plain=False)
            for one in came.trained[:_CHARTS]
        ]
        more = len(came.trained) - _CHARTS
        drawn = [f"as a picture: {clean(picture)}", *drawn] if picture else drawn
        drawn += [f"and {count(more, 'more run')}: reconciler metrics KIND/NAME draws each"] if more > 0 else []
        lines = "\n\n".join(drawn).split("\n")
        yield Part("Loss", lines)
    if came.bills:
        rows = [_bill(bill) for bill in came.bills]
        sums = [_bought(came.bills), "a run that is under way is billed by its estimate until it ends"]
        header = ("CNY", "ESTIMATE", "TOKENS BILLED", "CNY A 1,000", "RUN")
        yield Part("The bill", [*table(header, rows).split("\n"), *sums[: 2 if _unsettled(came.bills) else 1]])


def _outcome(one: Outcome) -> str:
    op = one.operation
    status = f" (status {one.status})" if one.status and one.ending is Ending.REFUSED else ""
    made = f"  {clean(one.id)}" if one.id else ""
    return f"{one.ending + status:<24} {_step(op)}{made}"


def _step(op: Operation) -> str:
    return f"{op.action.value} {op.verb} {clean(op.slot)}"


def _bill(bill: Bill) -> list[str]:
    each = None if bill.run.token_price is None else bill.run.token_price * 1000
    about = "about " if bill.run.used is None and not bill.run.failed else ""
    tokens = "unknown" if bill.tokens is None else f"{about}{bill.tokens:,}"
    run = f"{clean(bill.run.slot)} {clean(bill.run.id)}"
    return [money(bill.cost), money(bill.foreseen), tokens, money(each), run]


def _unsettled(bills: Sequence[Bill]) -> bool:
    return any(bill.run.used is None and not bill.run.failed for bill in bills)


def _costs(report: Report) -> Iterator[str]:
    """What each operation costs, where it costs anything, and the sums."""
    plan = report.saved.plan
    told = [op for op in plan.operations if any(amount != 0 for amount in _amounts(op))]
    rows = [[_step(op), *map(money, _amounts(op)), clean(op.price.basis)] for op in told]
    if rows:
        yield from table(("OPERATION", "CNY ONCE", "CNY/H BEFORE", "CNY/H AFTER", "HOW"), rows).split("\n")
    yield from money_texts(plan)


def _amounts(op: Operation) -> tuple[Decimal | None, ...]:
    return op.price.once, op.was.hour, op.price.hour


def _levels(found: Sequence[Found]) -> str:
    levels = Counter(one.level for one in found)
    told = [count(levels[level], level.value) for level in (Level.ERROR, Level.WARNING) if levels[level]]
    return ", ".join(told) or "nothing found"


def _finding(one: Found) -> str:
    """Where, and which rule: what was found there is for those who have the data."""
    rule = f"[{one.rule}] {RULES[one.rule].about}" if one.rule in RULES else "[-]"
    return f"{one.level}: {clean(one.at) if one.at else clean(one.address)}  {clean(rule)}"


# As a comment -------------------------------------------------------------------------------------------------------


def markdown(page: Page, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """The comment, at most `limit_bytes` long: parts are cut where a line ends, what stands above them never."""
    first, *others = page.head
    blocks = [f"{page.mark}\n**{first}**", *others]
    if page.warnings:
        blocks.append(fenced("\n".join(page.warnings), limit_bytes=WARNINGS_BYTES))
    notes = "\n".join(f"- {note}" for note in page.notes)
    room = limit_bytes - len("\n\n".join([*blocks, notes]).encode())
    for number, part in enumerate(page.parts):
        opening, closing = f"<details><summary>{part.title}</summary>\n\n", "\n\n</details>"
        left = room - _RESERVED * (len(page.parts) - number - 1) - len(f"{opening}{closing}\n\n".encode())
        inside = fenced("\n".join(part.lines), limit_bytes=left)
        block = f"{opening}{inside}{closing}"
        blocks.append(block)
        room -= len(f"{block}\n\n".encode())
    return "\n\n".join([*blocks, notes])


# As a page ----------------------------------------------------------------------------------------------------------


def report_text(page: Page) -> str:
    """The same for a terminal, whole."""
    blocks = ["\n".join((*(click.style(line, bold=True) for line in page.head), *page.warnings))]
    blocks += ["\n".join((click.style(part.title, bold=True), *part.lines)) for part in page.parts]
    return "\n\n".join([*blocks, "\n".join(page.notes)])


# For programs -------------------------------------------------------------------------------------------------------


def report_json(report: Report, heading: Heading, collections: Mapping[str, Collection]) -> dict[str, Any]:
    """The same as data; null is unknown, or was not looked at."""
    over = None if report.breaches is None else [breach._asdict() for breach in report.breaches]
    return {
        "mark": mark(report.saved),
        "plan": plan_json(heading, report.saved.plan, collections, saved=report.saved),
        "lint": None if report.lint is None else [_found_json(one) for one in report.lint],
        "over_limits": over,
        "applied": _aftermath_json(report.aftermath) if report.aftermath else None,
    }


def _found_json(one: Found) -> dict[str, Any]:
    at = one.at._asdict() if one.at else None
    return {"address": one.address, "level": one.level.value, "rule": one.rule, "at": at}


def _aftermath_json(came: Aftermath) -> dict[str, Any]:
    return {
        "begun": came.begun,
        "ended": came.ended or None,
        "service_asked": came.asked,
        "outcomes": [
            {
                "operation": one.operation.id,
                "action": ACTION_WORDS[one.operation.action],
                "address": one.operation.slot.address,
                "part": one.operation.slot.part,
                "ending": one.ending.value,
                "id": one.id or None,
                "http_status": one.status or None,
            }
            for one in came.outcomes
        ],
        "bought": [
            {
                "address": bill.run.slot.address,
                "id": bill.run.id,
                "tokens_billed": bill.tokens,
                "estimated_cny": cny(bill.foreseen),
                "cny": cny(bill.cost),
            }
            for bill in came.bills
        ],
        "estimated_cny": cny(total(bill.foreseen for bill in came.bills)),
        "bought_cny": cny(total(bill.cost for bill in came.bills)),
        "losses": [chart.measured_json(one.slot.address, one.id, one.measured) for one in came.trained],
    }
