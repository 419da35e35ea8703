"""A plan as a page for people: where it would happen, in stages, one entry for each slot, and what it all costs."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from reconciler.guards import NO_LIMITS, Breach, Limits
from reconciler.money import a_month
from reconciler.plan import SPENDING, Operation, Plan, Verb
from reconciler.render import changes, markdown
from reconciler.render.words import Line, clean, columns, count, money, padded, page
from reconciler.resource import Action, Collection, Slot

NOW = "now"
_NAME_COLUMNS = 44  # a longer name moves its own summary, not everybody's
_NARROW = 64  # below this width what happens goes on a line of its own
_DETAIL = 6
_ADDRESSES_MAX = 20

STYLES: Mapping[Action, Mapping[str, Any]] = {
    Action.CREATE: {"fg": "green"},
    Action.UPDATE: {"fg": "yellow"},
    Action.RUN: {"fg": "magenta", "bold": True},
    Action.SWAP: {"fg": "yellow", "bold": True},
    Action.DELETE: {"fg": "red"},
    Action.FORGET: {"fg": "blue"},
    Action.ADOPT: {"fg": "green"},
    Action.WAIT: {"fg": "cyan"},
    Action.BLOCKED: {"fg": "red", "bold": True},
}
_CANCELLATION = ("cancellation", "cancellations")
_NOUNS: tuple[tuple[str, str], ...] = (
    ("upload", "uploads"),
    ("paid run", "paid runs"),
    ("creation", "creations"),
    ("update", "updates"),
    ("swap", "swaps"),
    ("deletion", "deletions"),
    ("forgotten", "forgotten"),
    ("adoption", "adoptions"),
    ("still on its way", "still on their way"),
    ("blocked", "blocked"),
    _CANCELLATION,
)


@dataclass(frozen=True)
class Heading:
    """Where a plan would be carried out. `prices_of` is the date of the price table."""

    stack: str
    endpoint: str
    emulated: bool
    profile: str
    prices_of: dt.date
    workspace: str = ""
    declared: bool = True  # False: no manifest declares a Stack
    own_prices: str = ""  # the file that the Stack lays over the price table
    environment: str = ""  # "": the base by itself


class Entry(NamedTuple):
    """What happens to one slot: a swap's two sides and an update's several requests are one entry."""

    operations: tuple[Operation, ...]
    stage: str

    @property
    def lead(self) -> Operation:
        return self.operations[0]


def plan_text(
    heading: Heading,
    plan: Plan,
    collections: Mapping[str, Collection],
    *,
    objects: int,
    limits: tuple[Limits, tuple[Breach, ...]] = (NO_LIMITS, ()),
    width: int | None = None,
) -> str:
    """The whole page, broken at `width` columns where one is given.

    `objects`: declared slots that hold something. `limits`: those that hold, and how the plan goes over them.
    """
    lines = [Line(heading_text(heading), hang=2), *_selection(plan)]
    staged = entries(plan, collections)
    if not plan.is_empty:
        lines += [Line(""), *_moves(plan), *entry_lines(staged, width=width), Line("")]
    else:
        unchanged = f"no changes: {count(objects, 'object is', 'objects are')} as declared"
        lines.append(Line(unchanged if objects else "nothing to do"))
        lines += entry_lines(staged, width=width, stages=False)
    lines += _notes(plan)
    lines += _sums(heading, plan, staged, width)
    if not plan.is_empty:
        lines += _limits(*limits)
    return page(lines, width)


def plan_markdown(heading: Heading, plan: Plan, collections: Mapping[str, Collection], page: str) -> str:
    """For a pull request: what it comes to, all of it figures of ours, and the page as it is."""
    sums = [counts_text(entries(plan, collections)), *money_texts(plan)] if not plan.is_empty else ["no changes"]
    return "\n\n".join([f"**{'; '.join(filter(None, sums))}**", markdown.fenced(page)])


def heading_text(heading: Heading) -> str:
    """One line: stack, environment, endpoint, profile, price date."""
    stack = f"stack {clean(heading.stack)}" + ("" if heading.declared else " (no manifest declares a Stack)")
    endpoint = "emulator (nothing is bought)" if heading.emulated else clean(heading.endpoint)
    environment = [f"environment {clean(heading.environment)}"] if heading.environment else []
    workspace = [f"workspace {clean(heading.workspace)}"] if heading.workspace else []
    words = [
        stack,
        *environment,
        endpoint,
        *workspace,
        f"profile {clean(heading.profile)}",
        f"prices of {heading.prices_of}",
    ]
    return " · ".join(words)


def _selection(plan: Plan) -> Iterator[Line]:
    """Which part of the stack it is about, and why more than was asked for."""
    if (chosen := plan.selection) is None:
        return
    yield Line(f"only {_addresses(chosen.asked)}", hang=2)
    if chosen.along:
        yield Line(f"and what comes along: {_addresses(chosen.along)}", hang=2)
    if chosen.excluded:
        yield Line(f"without {_addresses(chosen.excluded)}", hang=2)
    if chosen.without:
        yield Line(f"nor what rests on that: {_addresses(chosen.without)}", hang=2)


def _moves(plan: Plan) -> Iterator[Line]:
    """What only gets another name."""
    if plan.moves:
        yield Line("renamed", {"bold": True})
    for new, old in plan.moves:
        yield Line(f"{clean(new)} was {clean(old)}: what it holds stays as it is", indent=2)


def _addresses(addresses: tuple[str, ...]) -> str:
    told = [clean(address) for address in addresses[:_ADDRESSES_MAX]]
    more = len(addresses) - _ADDRESSES_MAX
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


# Stages -------------------------------------------------------------------------------------------------------------


def entries(plan: Plan, collections: Mapping[str, Collection]) -> tuple[Entry, ...]:
    """The plan's operations gathered by slot, in the order of their stages."""
    stages = _Stages(plan, collections)
    found = [Entry(group, stages.title(group[0])) for group in _gathered(plan)]
    first = {entry.stage: index for index, entry in reversed(list(enumerate(found)))}
    return tuple(sorted(found, key=lambda entry: (stages.depth(entry.lead), first[entry.stage])))


def _gathered(plan: Plan) -> Iterator[tuple[Operation, ...]]:
    """Operations of one change of one slot, in plan order, the group standing where its first one does."""
    groups: dict[tuple[Slot, str], list[Operation]] = {}
    for op in plan.operations:
        merged = op.verb is Verb.UPDATE or (op.action is Action.SWAP and (op.slot, Action.SWAP) in groups)
        key = op.action.value if merged or op.action is Action.SWAP else op.id
        groups.setdefault((op.slot, key), []).append(op)
    yield from map(tuple, groups.values())


class _Stages:
    """What has to be over before an operation's turn, where that takes long enough to be told apart from "now"."""

    def __init__(self, plan: Plan, collections: Mapping[str, Collection]) -> None:
        self.operations = {op.id: op for op in plan.operations}
        self.behind: dict[str, frozenset[str]] = {}
        for op in plan.operations:
            before: set[str] = set()
            for name in op.after:
                if name in self.operations:
                    before |= self.behind.get(name, frozenset())
                    slow = collections[self.operations[name].collection].slow
                    before |= {name} if slow and self.operations[name].verb is not Verb.FORGET else set()
            self.behind[op.id] = frozenset(before)

    def depth(self, op: Operation) -> int:
        return max((1 + self.depth(self.operations[name]) for name in self.behind[op.id]), default=0)

    def title(self, op: Operation) -> str:
        all_before = self.behind[op.id]
        last = sorted(name for name in all_before if not any(name in self.behind[other] for other in all_before))
        return "after " + " and ".join(self._done(self.operations[name]) for name in last) if last else NOW

    @staticmethod
    def _done(op: Operation) -> str:
        ends = {Verb.UPDATE: "is updated", Verb.DELETE: "is gone"}
        return f"{clean(op.slot)} {ends.get(op.verb, 'is ready')}"


# Entries ------------------------------------------------------------------------------------------------------------


def entry_lines(staged: tuple[Entry, ...], *, width: int | None = None, stages: bool = True) -> Iterator[Line]:
    """The entries under the headings of their stages."""
    widest = max((columns(clean(entry.lead.slot)) for entry in staged), default=0)
    column = min(widest, _NAME_COLUMNS if width is None else min(_NAME_COLUMNS, width // 2 - 6))
    stage = ""
    for entry in staged:
        if stages and entry.stage != stage:
            stage = entry.stage
            yield Line(stage, {"bold": True})
        fits = width is None or (width >= _NARROW and columns(clean(entry.lead.slot)) <= column)
        yield from _entry_lines(entry, column if fits else None)


def _entry_lines(entry: Entry, column: int | None) -> Iterator[Line]:
    lead, name = entry.lead, clean(entry.lead.slot)
    style, what = STYLES[lead.action], changes.summary(entry.operations)
    head = f"{lead.action.value} {name}"
    if column is None:
        yield Line(head, style, indent=2, whole=True)
        yield Line(what, indent=_DETAIL)
    else:
        text = f"{lead.action.value} {padded(name, column)}  {what}"
        yield Line(text, style, indent=2, hang=column + 4, head=len(head))
    details = [*changes.reasons(entry.operations), changes.cost(entry.operations)]
    if lead.verb is Verb.CREATE and lead.part:
        details += [clean(remark, 400) for remark in lead.part.remarks]
    if lead.needs_consent:
        details.append("needs consent when it is applied, because a paid run follows one that was bought before")
    details.append(clean(lead.hint, 400))
    yield from (Line(detail, {"dim": True}, indent=_DETAIL) for detail in details if detail)


# The end of the page ------------------------------------------------------------------------------------------------


def _notes(plan: Plan) -> Iterator[Line]:
    for note in plan.notes:
        about = f"{clean(note.about)} " if note.about else ""
        hint = f" ({clean(note.hint)})" if note.hint else ""
        if note.warning:
            yield Line(f"warning: {about}{clean(note.what, 400)}{hint}", {"fg": "yellow"})
        else:
            yield Line(f"left alone: {about}{clean(note.what)}{hint}")


def _sums(heading: Heading, plan: Plan, staged: tuple[Entry, ...], width: int | None) -> Iterator[Line]:
    counted = [text] if (text := counts_text(staged)) else []
    sums = [*counted, *money_texts(plan), prices_text(heading)]
    together = "     ".join(sums)
    fits = width is None or columns(together) <= width
    yield from (Line(text, {"bold": True}) for text in ((together,) if fits else sums))


def money_texts(plan: Plan) -> tuple[str, str]:
    """What carrying it out costs once, and the run rate before and after."""
    before, after = plan.totals.hour_before, plan.totals.hour_after
    rate = f"run rate {money(before)} -> {money(after)} CNY/h ({money(a_month(after))} a month)"
    return f"once {_once_text(plan)}", rate


def prices_text(heading: Heading) -> str:
    """Whose prices they are, and of when."""
    own = f" under those of {clean(heading.own_prices)}" if heading.own_prices else ""
    return f"prices of {heading.prices_of}{own}"


def _limits(limits: Limits, breaches: tuple[Breach, ...]) -> Iterator[Line]:
    """Whether an apply would be let through, where anybody set limits."""
    for breach in breaches:
        style = {"fg": "red", "bold": True}
        yield Line(f"over the limit: {clean(breach.rule)}: {clean(breach, 400)} ({breach.override})", style)
    if limits.any and not breaches:
        yield Line(f"budget: {', '.join(_limit_words(limits))}: ok")


def _limit_words(limits: Limits) -> Iterator[str]:
    if limits.once is not None:
        yield f"{money(limits.once)} CNY an apply"
    if limits.hour is not None:
        yield f"{money(limits.hour)} CNY/h"
    if limits.deletes is not None:
        yield count(limits.deletes, "deletion", "deletions")
    if limits.share is not None:
        yield f"{limits.share:g} % deleted"
    if limits.known_prices_only:
        yield "known prices only"


def counts_text(staged: tuple[Entry, ...]) -> str:
    """How many of what: `2 uploads, 1 paid run`."""
    counts = Counter(_noun(entry.lead) for entry in staged)
    return ", ".join(count(counts[noun], *noun) for noun in _NOUNS if counts[noun])


def _noun(op: Operation) -> tuple[str, str]:
    if op.action is Action.CREATE:
        return _NOUNS[0] if op.part and op.part.content else _NOUNS[2]
    if op.verb is Verb.CANCEL:
        return _CANCELLATION
    order = (Action.RUN, Action.CREATE, Action.UPDATE, Action.SWAP, Action.DELETE, Action.FORGET, Action.ADOPT)
    return _NOUNS[1 + (*order, Action.WAIT, Action.BLOCKED).index(op.action)]


def _once_text(plan: Plan) -> str:
    if plan.totals.once is not None:
        return f"{money(plan.totals.once)} CNY"
    known = sum((op.price.once or Decimal(0) for op in plan.operations if op.verb in SPENDING), Decimal(0))
    return f"unknown (at least {money(known)} CNY)"
