"""An examination as a page and as data: a word for every verdict, colour only beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.doctor import Check, Examination, Learnt, Verdict
from reconciler.render.plan import Heading, heading_text
from reconciler.render.words import Line, clean, count, padded, page

STYLES: Mapping[Verdict, Mapping[str, Any]] = {
    Verdict.WARNING: {"fg": "yellow"},
    Verdict.FAILED: {"fg": "red"},
    Verdict.UNKNOWN: {"dim": True},
}
WORDS: Mapping[bool | None, str] = {True: "holds", False: "does not hold", None: "not seen yet"}


def examination_text(heading: Heading | None, examination: Examination, width: int | None) -> str:
    """Every check with its verdict, the facts of the account, and how many of the checks want a look."""
    lines = [Line(heading_text(heading)), Line("")] if heading else []
    room = max(len(check.name) for check in examination.checks) + 2
    for check in examination.checks:
        lines += _check(check, room)
    if examination.facts:
        lines += [Line(""), Line("what this account shows of what no page settles", {"bold": True})]
        room = max(len(one.name) for one in examination.facts) + 2
        lines += [line for one in examination.facts for line in _fact(one, room)]
    return page([*lines, Line(""), _summary(examination)], width)


def _check(check: Check, room: int) -> Iterator[Line]:
    head = padded(clean(check.name), room) + padded(check.verdict.value, 9)
    yield Line(head + clean(check.what, 600), STYLES.get(check.verdict), hang=len(head), head=len(head))
    if check.hint:
        yield Line(clean(check.hint, 400), {"dim": True}, indent=len(head))


def _fact(one: Learnt, room: int) -> Iterator[Line]:
    head = padded(clean(one.name), room) + padded(WORDS[one.fact.holds if one.fact else None], 15)
    yield Line(head + clean(one.about), hang=len(head))
    if one.fact:
        yield Line(f"{clean(one.fact.evidence)}, {clean(one.fact.at)}", {"dim": True}, indent=len(head))


def _summary(examination: Examination) -> Line:
    verdicts = [check.verdict for check in examination.checks]
    words = (count(verdicts.count(Verdict.FAILED), "failure"), count(verdicts.count(Verdict.WARNING), "warning"))
    return Line(", ".join(words), {"bold": True})


def examination_json(examination: Examination) -> dict[str, Any]:
    """The same for programs; `holds` is null while no object has shown it."""
    return {
        "exit_code": examination.exit_code,
        "checks": [
            {"name": check.name, "verdict": check.verdict.value, "what": check.what, "hint": check.hint}
            for check in examination.checks
        ],
        "facts": [
            {
                "name": one.name,
                "about": one.about,
                "holds": one.fact.holds if one.fact else None,
                "evidence": one.fact.evidence if one.fact else "",
                "at": one.fact.at if one.fact else "",
            }
            for one in examination.facts
        ],
    }
