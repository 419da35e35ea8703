"""Desired against observed: what differs, field by field. Pure; the only user of deepdiff.

A field the author did not write is not ours: only the desired side decides what is looked at. What the service does not
say, down to a single key, is compared with what was last applied, and so is what no call can change: a new run or a
swap follows only from a difference between what is declared and what was bought, never from how the service happens to
spell it today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.errors import Position
from reconciler.resource import Mark, Observed, Part
from reconciler.state import canonical

UNSET = None


@dataclass(frozen=True)
class Change:
    """One field that differs: where in the fields, what it was, what it should be, and where that was written."""

    path: tuple[str, ...]
    before: Any
    after: Any
    at: Position | None = None


@dataclass(frozen=True)
class Compared:
    """Everything one comparison needs: the marks of the kind's fields, and fields known to be changed by others.

    `ignore` are fields, or members of fields (`limits.rpm`), that their author leaves to others.
    """

    marks: Mapping[str, frozenset[Mark]]
    ignore: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()

    def ignores(self, path: tuple[str, ...]) -> bool:
        return any(".".join(path[:length]) in self.ignore for length in range(1, len(path) + 1))


def differences(
    part: Part, desired: Mapping[str, Any], last_applied: Mapping[str, Any], observed: Observed | None, rules: Compared
) -> tuple[Change, ...]:
    """What would have to change for the object to be as declared, in field order.

    `desired` are the part's fields with references resolved as far as they are known; one that stays `Known` differs
    from everything.
    """
    seen = observed.fields if observed else {}
    found: list[Change] = []
    for name, after in desired.items():
        marks = rules.marks.get(name, frozenset())
        first, second = (last_applied, seen) if Mark.IMMUTABLE in marks else (seen, last_applied)
        closed = Mark.CLOSED in marks
        before = UNSET if name in rules.foreign else _told(first, second, name, closed)
        if not rules.ignores((name,)):
            changes = _field(name, before, after, closed=closed, places=part.at)
            found += (change for change in changes if not rules.ignores(change.path))
    return tuple(found)


def spared(
    desired: Mapping[str, Any], last_applied: Mapping[str, Any], seen: Observed | None, rules: Compared, *, anew: bool
) -> dict[str, Any]:
    """The fields as they may be sent, where their author leaves some to others.

    An update does not name those at all; where a field can only be replaced as a whole, and in what takes the place of
    another object (`anew`), they are as the service has them now.
    """
    sent, shown = dict(desired), seen.fields if seen else {}
    for path in (tuple(name.split(".")) for name in sorted(rules.ignore)):
        name, closed = path[0], Mark.CLOSED in rules.marks.get(path[0], frozenset())
        if name in sent:
            told = _told(shown, last_applied, name, closed)
            sent[name] = _left(sent[name], path[1:], told, carried=anew or closed or len(path) == 1)
    return sent


def _left(value: Any, path: tuple[str, ...], told: Any, *, carried: bool) -> Any:
    """A value with what is told in place of its member at `path`, or without that member."""
    if not path:
        return value if told is UNSET else told
    if not isinstance(value, Mapping):
        return value
    name, *rest = path
    known = told.get(name, UNSET) if isinstance(told, Mapping) else UNSET
    if rest:
        return {**value, name: _left(value[name], tuple(rest), known, carried=carried)} if name in value else value
    others = {key: item for key, item in value.items() if key != name}
    return {**others, name: known} if carried and known is not UNSET else others


def _told(first: Mapping[str, Any], second: Mapping[str, Any], name: str, closed: bool) -> Any:
    """What `first` says of a field, and where it is silent `second`. What a closed mapping lacks is truly not there."""
    known, other = first.get(name, UNSET), second.get(name, UNSET)
    if name not in first:
        return other
    if not isinstance(known, Mapping) or not isinstance(other, Mapping):
        return known
    return {key: _told(known, other, key, False) for key in (known if closed else {**other, **known})}


def _field(name: str, before: Any, after: Any, *, closed: bool, places: Mapping[str, Position]) -> Iterable[Change]:
    before = scoped(before, after, closed)
    if repr(before) == repr(after) or canonical(before) == canonical(after):  # most are written alike
        return ()
    at = places.get(name)  # only now: its document is read once more for it
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return (Change((name,), before, after, at),)
    return sorted(
        (Change((name, *path), _dig(before, path), _dig(after, path), at) for path in _paths(before, after)),
        key=lambda change: change.path,
    )


def scoped(before: Any, after: Any, closed: bool) -> Any:
    """`before` without what the author did not write; a closed mapping is the author's as a whole, an entry is not."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return before
    names = before if closed else after
    return {name: scoped(before[name], after.get(name), False) for name in names if name in before}


def _paths(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """The paths at which two unequal mappings differ. Lists count as whole values."""
    from deepdiff import DeepDiff  # 0.2 s to import: only where something does differ

    tree = DeepDiff(
        _leaves(before),
        _leaves(after),
        view="tree",
        ignore_private_variables=False,
        threshold_to_diff_deeper=0,  # field by field also where the two have next to nothing in common
    )
    return {tuple(level.path(output_format="list")) for levels in tree.values() for level in levels}


def _leaves(value: Any) -> Any:
    """Values as the texts by which `_field` compares them, so that the two never disagree."""
    if isinstance(value, Mapping):
        return {str(name): _leaves(item) for name, item in value.items()}
    return canonical(value)


def _dig(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name, UNSET) if isinstance(value, Mapping) else UNSET
    return value
