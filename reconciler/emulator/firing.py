"""The rules of a data folder: kept, counted, and asked for each call which of them it meets.

Rules and counts lie in the folder's database, so that all servers of one folder count together; the first server of a
folder begins without any. What a fault does to a call is for others to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from reconciler.emulator.backend import Backend, Transaction
from reconciler.emulator.faults import (
    RULES_MAX,
    THROTTLES,
    Answer,
    Cut,
    Drip,
    Edit,
    Fate,
    Hide,
    Hold,
    Moment,
    Pages,
    Rule,
)
from reconciler.emulator.fields import Json
from reconciler.emulator.wire import Call, Route, is_read

T = TypeVar("T")


@dataclass(frozen=True)
class Fired:
    """The rules that meet one call, in their order; `hidden` are the ids that are not there yet for it.

    Where an effect can happen once only, the first rule that has it decides.
    """

    rules: tuple[Rule, ...] = ()
    hidden: frozenset[str] = field(default_factory=frozenset)

    @property
    def titles(self) -> tuple[str, ...]:
        return tuple(rule.title for rule in self.rules)

    def holds(self, moment: Moment) -> list[Hold]:
        return [hold for hold in _given(rule.hold for rule in self.rules) if hold.moment == moment]

    @property
    def refusal(self) -> Answer | None:
        throttles = (rule.throttle and THROTTLES[rule.throttle] for rule in self.rules)
        return _first(rule.refuse or throttle for rule, throttle in zip(self.rules, throttles, strict=True))

    @property
    def dropped_before(self) -> bool:
        return any(rule.drop and rule.drop.moment == "before" for rule in self.rules)

    @property
    def answer(self) -> Answer | None:
        return _first(rule.answer for rule in self.rules)

    @property
    def pages(self) -> Pages | None:
        return _first(rule.pages for rule in self.rules)

    @property
    def edits(self) -> list[Edit]:
        return _given(rule.edit for rule in self.rules)

    @property
    def fates(self) -> list[Fate]:
        return _given(rule.fate for rule in self.rules)

    @property
    def cut(self) -> Cut | None:
        """A drop is a cut before the first byte."""
        drop = _first(rule.drop for rule in self.rules)
        return Cut(after_bytes=0, part="head", how=drop.how) if drop else _first(rule.cut for rule in self.rules)

    @property
    def drip(self) -> Drip | None:
        return _first(rule.drip for rule in self.rules)

    @property
    def endless(self) -> bool:
        return any(rule.endless for rule in self.rules)

    @property
    def date_offset_s(self) -> float:
        return sum(rule.date_offset_s or 0 for rule in self.rules)


def _given(effects: Iterable[T | None]) -> list[T]:
    return [effect for effect in effects if effect is not None]


def _first(effects: Iterable[T | None]) -> T | None:
    return next(iter(_given(effects)), None)


NOTHING = Fired()


def install(tx: Transaction, rules: Iterable[Rule], *, append: bool = False) -> None:
    """Replaces the rules, or adds to them. Each begins to count now. Raises ValueError when there are too many."""
    rows = [*(tx.faults() if append else []), *(_row(tx, rule) for rule in rules)]
    if len(rows) > RULES_MAX:
        raise ValueError(f"there can be {RULES_MAX} rules at most")
    tx.set_faults(rows)


def counted(tx: Transaction) -> list[Json]:
    """Every rule, with the calls it has counted and how often it fired."""
    return [
        {"name": _rule(row).title, "rule": row["rule"], "calls": row["calls"], "fired": row["fired"]}
        for row in tx.faults()
    ]


def fire(backend: Backend, route: Route, call: Call) -> Fired:
    """Counts the call and says which rules meet it: in a transaction of its own, since refused calls count too."""
    if route.access != "key" or not backend.has_faults():
        return NOTHING
    operation = route.operation_of(call)
    with backend.transaction() as tx:
        rows, rules, hidden = tx.faults(), [], set[str]()
        for row in rows:
            rule = _rule(row)
            if not fnmatchcase(operation, rule.operation):
                continue
            row["calls"] += 1
            if rule.meets(row["calls"], fired=row["fired"], seed=backend.seed):
                row["fired"] += 1
                rules.append(rule)
                if rule.hide and is_read(operation):  # a write that saw less than all would break what it keeps unique
                    hidden |= _hidden(tx, rule.hide, row, operation)
        tx.set_faults(rows)
    return Fired(tuple(rules), frozenset(hidden))


def _row(tx: Transaction, rule: Rule) -> Json:
    """`seen` holds, for a rule that hides, what was the newest object at each of the last reads."""
    seen = [tx.newest_seq()] * (rule.hide.reads or 0) if rule.hide else []
    return {"rule": rule.model_dump(by_alias=True, exclude_defaults=True), "calls": 0, "fired": 0, "seen": seen}


def _rule(row: Json) -> Rule:
    return Rule.model_validate_json(json.dumps(row["rule"]))


def _hidden(tx: Transaction, hide: Hide, row: Json, operation: str) -> set[str]:
    """What is younger than so many seconds, or than what was the newest so many reads ago."""
    collection = operation.partition(".")[0]
    if hide.emulated_s is not None:
        return tx.ids(collection, created_after_s=tx.now_s - hide.emulated_s)
    oldest, *others = row["seen"]
    row["seen"] = [*others, tx.newest_seq()]
    return tx.ids(collection, after_seq=oldest)
