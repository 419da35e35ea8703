"""What a reading of training data found, as a page and as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.data import Described
from reconciler.findings import Level
from reconciler.lint import MAX_REMEMBERED, Lint
from reconciler.render.errors import problem_json
from reconciler.render.forge import Finding
from reconciler.render.words import Line, clean, count, listed, padded, page, place, size_text

_STYLES: Mapping[Level, Mapping[str, Any]] = {Level.ERROR: {"fg": "red"}, Level.WARNING: {"fg": "yellow"}}


class Linted(NamedTuple):
    """One file or Dataset. `how` says what it was held to, where that was not its manifest's choice."""

    name: str
    how: str
    found: Described


def findings(linted: Iterable[Linted]) -> Iterator[Finding]:
    """Of each source its errors, then its warnings."""
    for one in linted:
        yield from ((Level.ERROR, problem) for problem in one.found.problems)
        yield from ((Level.WARNING, problem) for problem in one.found.warnings)


# A page -------------------------------------------------------------------------------------------------------------


def lint_text(linted: Sequence[Linted], width: int | None) -> str:
    """Of each source what is in it and what is wrong with it, then how much is."""
    lines = [line for one in linted for line in (*_about(one), Line(""))]
    levels = [level for level, _ in findings(linted)]
    totals = (count(levels.count(Level.ERROR), "error"), count(levels.count(Level.WARNING), "warning"))
    return page([*lines, Line(", ".join(totals), {"bold": True})], width)


def _about(one: Linted) -> Iterator[Line]:
    yield Line(clean(one.name) + (f"  ({one.how})" if one.how else ""), {"bold": True}, head=len(clean(one.name)))
    for name, what in _census(one.found):
        yield Line(padded(name, 12) + what, indent=2, hang=12)
    for level, problem in findings([one]):
        rule = f"  [{problem.rule}]" if problem.rule else ""
        yield Line(f"{level.value}: {clean(problem, 600)}{rule}", _STYLES[level], indent=2, head=len(level.value) + 1)


def _census(found: Described) -> Iterator[tuple[str, str]]:
    lint = found.lint
    assert lint
    size = f", {size_text(sum(content.size for content in found.contents))}" if found.contents else ""
    yield "rows", f"{lint.rows:,}{size}, {_different(lint)}"
    if not lint.rows:
        return
    longest = f", the longest {lint.characters.longest:,} at {place(lint.characters.at)}" if lint.characters.at else ""
    yield "characters", f"{lint.characters.total:,}, {lint.characters.total // lint.rows:,} a row{longest}"
    yield "lengths", ", ".join(f"{rows:,} below {bound:,}" for bound, rows in lint.characters.below.items())
    yield "answers in", _shares(lint.scripts, lint.rows)
    if lint.labels:
        yield "labels", _shares({repr(name): rows for name, rows in lint.labels.items()}, sum(lint.labels.values()))
    if lint.thoughts:
        yield "thinking", f"{lint.thoughts:,} of {count(lint.rows, 'row')}: the others teach not to think"


def _different(lint: Lint) -> str:
    alike = f", {lint.alike.rows:,} of them nearly like another" if lint.alike.rows else ""
    if lint.complete:
        return f"{lint.different:,} different{alike}"
    return f"at most {lint.different:,} different{alike}: compared with the first {MAX_REMEMBERED:,} different ones"


def _shares(counts: Mapping[str, int], total: int) -> str:
    return listed([f"{clean(name, 40)} {rows:,} ({100 * rows / total:.0f} %)" for name, rows in counts.items()])


# For programs -------------------------------------------------------------------------------------------------------


def lint_json(linted: Sequence[Linted]) -> dict[str, Any]:
    """Everything the page tells, and the histogram of lengths in characters."""
    return {"ok": not any(one.found.problems for one in linted), "sources": [_json(one) for one in linted]}


def _json(one: Linted) -> dict[str, Any]:
    lint = one.found.lint
    assert lint
    return {
        "name": one.name,
        "held_to": one.how,
        "rows": lint.rows,
        "different": lint.different,
        "repeated": lint.repeated.rows,
        "nearly_repeated": lint.alike.rows,
        "complete": lint.complete,
        "characters": {
            "total": lint.characters.total,
            "longest": lint.characters.longest,
            "below": {str(bound): rows for bound, rows in lint.characters.below.items()},
        },
        "scripts": dict(lint.scripts),
        "labels": dict(lint.labels),
        "thinking": lint.thoughts,
        "findings": [
            {"level": level, "rule": problem.rule, **problem_json(problem)} for level, problem in findings([one])
        ],
    }
