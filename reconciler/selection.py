"""Which objects a plan is about, where it is not about all of them. Pure.

What somebody names never comes alone. To bring an object about, what it refers to comes along; to delete one, what
refers to it does; and what would rest on something that is left out is left out as well. All of it is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reconciler import graph
from reconciler.errors import UsageError
from reconciler.resource import Document
from reconciler.state import State
from reconciler.wording import did_you_mean, shown


class Term(NamedTuple):
    """One condition on one label; its `values` are the words that hold, or where it is `negated` those that do not.

    None of them: any value does.
    """

    label: str
    values: frozenset[str] = frozenset()
    negated: bool = False

    def __str__(self) -> str:
        if not self.values:
            return f"{'!' if self.negated else ''}{self.label}"
        return f"{self.label} {'notin' if self.negated else 'in'} ({', '.join(sorted(self.values))})"

    def holds(self, labels: Mapping[str, str]) -> bool:
        told = labels.get(self.label)
        return (told is not None and (not self.values or told in self.values)) is not self.negated


@dataclass(frozen=True)
class Selectors:
    """What the operator said: addresses to work on and to leave alone, and conditions that all must hold."""

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    labels: tuple[Term, ...] = ()


EVERYTHING = Selectors()


@dataclass(frozen=True)
class Selection:
    """The addresses a plan is about: those that were `asked` for, and those that came `along` with them.

    `without` are those that were left out although asked for, as they rest on what was excluded.
    """

    asked: tuple[str, ...]
    along: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __contains__(self, address: str) -> bool:
        return address in self.asked or address in self.along


def select(documents: Iterable[Document], state: State, selectors: Selectors, *, destroy: bool) -> Selection | None:
    """What these selectors come to; None where nothing was said, and the plan is about everything.

    Raises UsageError for an address that is neither declared nor recorded, and where nothing is left.
    """
    if selectors == EVERYTHING:
        return None
    declared = {document.address: document for document in documents}
    known = declared.keys() | {row.slot.address for row in state.owned.values()}
    for address in (*selectors.targets, *selectors.excludes):
        if address not in known:
            raise UsageError(f"there is no {shown(address)}", hint=did_you_mean(address, sorted(known)))
    needs = _needs(declared.values(), state)
    users: dict[str, set[str]] = {}
    for user, of in needs.items():
        for address in of:
            users.setdefault(address, set()).add(user)
    forward, back = (users, needs) if destroy else (needs, users)
    asked = set(selectors.targets) | set(matching(declared.values(), selectors.labels))
    if not (selectors.targets or selectors.labels):
        asked = set(known)
    barred = _closure(selectors.excludes, back)
    wanted = {address for address in asked if address not in barred}
    along = _closure(wanted, forward) - wanted
    if not wanted:
        raise UsageError("nothing is left to work on", hint="see --target, --exclude and -l")
    return Selection(
        asked=tuple(sorted(wanted)),
        along=tuple(sorted(along - barred)),
        excluded=tuple(sorted(selectors.excludes)),
        without=tuple(sorted((barred & asked) - set(selectors.excludes))),
    )


def matching(documents: Iterable[Document], terms: Iterable[Term]) -> tuple[str, ...]:
    """The addresses whose labels meet every condition; none where there is no condition."""
    conditions = tuple(terms)
    return tuple(
        document.address
        for document in documents
        if conditions and all(term.holds(document.metadata.labels) for term in conditions)
    )


def _needs(documents: Iterable[Document], state: State) -> dict[str, set[str]]:
    """For each address what it refers to: as it is declared now, and as its objects were made."""
    found: dict[str, set[str]] = {name: set(of) for name, of in graph.dependencies(documents).items()}
    for row in state.owned.values():
        made_from = {state.owned[key].slot.address for key in row.uses if key in state.owned}
        found.setdefault(row.slot.address, set()).update(made_from - {row.slot.address})
    return found


def _closure(addresses: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(addresses)
    while waiting:
        address = waiting.pop()
        if address not in found:
            found.add(address)
            waiting += edges.get(address, ())
    return found


# Conditions as they are written -------------------------------------------------------------------------------------

_LABEL = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"
_VALUE = r"[\w./-]{1,63}"
_EQUAL = re.compile(rf"({_LABEL})\s*(==?|!=)\s*({_VALUE})")
_AMONG = re.compile(rf"({_LABEL})\s+(in|notin)\s+\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)")
_THERE = re.compile(rf"(!?)\s*({_LABEL})")
_COMMA = re.compile(r",(?![^(]*\))")


def terms(written: str) -> tuple[Term, ...]:
    """`team=care,env!=dev,tier in (a, b),!old` as conditions. UsageError for anything else."""
    return tuple(_term(piece.strip()) for piece in _COMMA.split(written))


def _term(written: str) -> Term:
    if found := _EQUAL.fullmatch(written):
        return Term(found[1], frozenset({found[3]}), negated=found[2] == "!=")
    if found := _AMONG.fullmatch(written):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Term(found[1], values, negated=found[2] == "notin")
    if found := _THERE.fullmatch(written):
        return Term(found[2], negated=bool(found[1]))
    hint = "write team=care, team!=care, team in (care, sales), team or !team, with commas between"
    raise UsageError(f"{shown(written)} is no condition on labels", hint=hint)
