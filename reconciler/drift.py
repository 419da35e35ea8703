"""Last applied against observed: what is no longer as we left it, and what an apply would make of that. Pure.

Only fields that were applied and are still the author's are looked at, by the comparer of `diff.py`. What goes on by
itself is progress, and what is as it is declared now needs nobody: neither is drift. What no call can change is told
only where the service repeats it letter for letter; anywhere else a difference is how it is spelt today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from reconciler.diff import Compared, differences, scoped
from reconciler.kinds import kind_of
from reconciler.plan import Desired, Operation, Plan, Verb, World, age_of, caught_up, young
from reconciler.resource import Collection, Disturbance, Document, DriftClass, Mark, Observed, Part, Phase, marks
from reconciler.state import Owned, Role, State, live_rows


class Outlook(NamedTuple):
    """What an apply would make of a difference: whether it is gone afterwards, and in words what happens or why not."""

    corrected: bool
    what: str
    hint: str = ""


class Trace(NamedTuple):
    """What is known of who did it. Nothing here is proof, and what is not known is empty or None.

    `since` is when the service says that the object was last touched, where that is later than `last_write`, our own
    last request about it. `account` is who it says did it; `own`, whether that is the account we write with.
    """

    since: str = ""
    last_write: str = ""
    account: str = ""
    own: bool | None = None


UNTRACED, UNFORESEEN = Trace(), Outlook(False, "")


@dataclass(frozen=True)
class Drift:
    """One difference of one object of ours; without a `path` the object as a whole.

    `before` is what was last applied, `after` what the service shows; not `shown`: it keeps that to itself.
    """

    sort: DriftClass
    row: Owned
    path: tuple[str, ...] = ()
    before: Any = None
    after: Any = None
    shown: bool = True
    status: str = ""
    why: str = ""
    trace: Trace = UNTRACED
    outlook: Outlook = UNFORESEEN


def drifts(desired: Desired, state: State, world: World, collections: Mapping[str, Collection]) -> tuple[Drift, ...]:
    """Everything of ours that is no longer as it was last applied, by slot and in the order of the fields."""
    state = state.fold(caught_up(desired, state, world))
    documents = {document.address: document for document in desired.documents}
    parts = {part.slot: part for several in desired.parts.values() for part in several}
    found: list[Drift] = []
    for row in live_rows(state):
        seen, collection = world.get(row), collections[row.collection]
        document, part = documents.get(row.slot.address), parts.get(row.slot)
        differing: Iterable[Drift] = ()
        if whole := _whole(row, seen, world, collection, state):
            differing = [Drift(whole.sort, row, status=seen.status if seen else "", why=_reason(whole, seen))]
        elif seen and seen.phase in (Phase.READY, Phase.PENDING):
            differing = _fields(row, seen, collection, document, part)
        found += (replace(one, trace=_trace(row, seen, state)) for one in differing if not _unsettled(one, state))
    return tuple(found)


def foreseen(found: Iterable[Drift], plan: Plan, desired: Desired) -> tuple[Drift, ...]:
    """The same, each with what this plan would make of it."""
    documents = {document.address: document for document in desired.documents}
    return tuple(replace(one, outlook=_outlook(one, plan, documents.get(one.row.slot.address))) for one in found)


# What differs -------------------------------------------------------------------------------------------------------


def _whole(row: Owned, seen: Observed | None, world: World, collection: Collection, state: State) -> Disturbance | None:
    """What became of the object as a whole; None where it is there, under way, or going because we asked for it."""
    if seen is None:
        age = age_of(row, world)
        if young(row, world) or state.lets_go(row):
            return None
        return collection.loss(row.last_applied, age.total_seconds() if age else 0.0)
    if seen.phase is Phase.UNKNOWN and seen.status:
        return Disturbance(DriftClass.UNKNOWN, "this program does not know that status")
    if seen.phase is not Phase.FAILED or state.lets_go(row):
        return None
    in_use = row.role is Role.CURRENT  # one that never came into use has failed, which is no drift
    return collection.disturbance(seen) or (Disturbance(DriftClass.FAILED, "it failed in use") if in_use else None)


def _reason(whole: Disturbance, seen: Observed | None) -> str:
    return f"{whole.why}: {seen.detail}" if seen and seen.detail else whole.why


def _unsettled(drift: Drift, state: State) -> bool:
    """Whether a request of our own may or may not have changed a field."""
    return bool(drift.path) and any(intent.is_open for intent in state.sent(drift.row))


def _fields(
    row: Owned, seen: Observed, collection: Collection, document: Document | None, part: Part | None
) -> Iterator[Drift]:
    of = {
        name: marked - {Mark.IMMUTABLE} if name in collection.verified else marked
        for name, marked in marks(kind_of(row.slot.address)).items()
    }
    applied = row.last_applied if part is None else _still_authored(row.last_applied, part.fields, of)
    ignored = frozenset(document.lifecycle.ignore if document else ())
    foreign = collection.foreign(seen, row.outputs)
    rules = Compared(of, ignored, foreign)
    for change in differences(Part(row.slot, applied), applied, applied, seen, rules):
        name = change.path[0]
        sort = DriftClass.REPLACED if name in collection.verified else DriftClass.CHANGED
        yield Drift(sort, row, change.path, change.after, change.before, name not in foreign, seen.status)


def _still_authored(
    applied: Mapping[str, Any], authored: Mapping[str, Any], of: Mapping[str, frozenset[Mark]]
) -> dict[str, Any]:
    """What was applied, without what the author has released since."""
    kept = {name: value for name, value in applied.items() if name in authored}
    return {name: scoped(value, authored[name], Mark.CLOSED in of.get(name, ())) for name, value in kept.items()}


# Who did it ---------------------------------------------------------------------------------------------------------


def _trace(row: Owned, seen: Observed | None, state: State) -> Trace:
    """Our own requests move the service's times too, so a time counts only when it is later than what was recorded."""
    sent = state.sent(row)
    last = max((intent.at for intent in sent), default="")
    if seen is None:
        return Trace(last_write=last)
    touched = str(seen.outputs.get("modified") or seen.outputs.get("ended") or "")
    recorded = str(row.outputs.get("modified", ""))
    newer = _later(touched, last) if last else bool(recorded)
    since = touched if touched != recorded and newer else ""
    known = str(row.outputs.get("modifier", "")) if sent and not row.inferred else ""
    account = str(seen.outputs.get("modifier", ""))
    if not since and (not known or account == known):
        account = ""  # for all that is told, that was our own last request
    return Trace(_spelt(since), last, account, (account == known) if account and known else None)


def _later(moment: str, than: str) -> bool:
    at, before = _parsed(moment), _parsed(than)
    return at is not None and before is not None and at > before


def _spelt(moment: str) -> str:
    at = _parsed(moment)
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""


def _parsed(moment: str) -> datetime | None:
    """A time of the service without a zone, as all its times are; anything else tells nothing."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return at if at.tzinfo is None else None


# What an apply makes of it ------------------------------------------------------------------------------------------


def _outlook(drift: Drift, plan: Plan, document: Document | None) -> Outlook:
    row = drift.row
    about = [op for op in plan.operations if op.slot == row.slot]
    for op in about:
        if what := _correction(drift, op):
            return Outlook(True, what)
    for op in about:
        if op.verb is Verb.NOTHING:
            return Outlook(False, f"a person must decide: {op.why}", op.hint)
    if document is None:
        return Outlook(False, "no manifest declares it", "--prune lets it go as its deletionPolicy says")
    if document.lifecycle.observe_only:
        return Outlook(False, "it is only observed")
    if any(op.verb is Verb.WAIT and op.target_id == row.id for op in about):
        return Outlook(False, "an apply waits for it")
    for note in plan.notes:
        if note.about == str(row.slot) and "--replace" in note.hint:
            return Outlook(False, note.what, note.hint)
    return Outlook(False, "an apply leaves it as it is", f"--replace {document.address} makes it anew")


def _correction(drift: Drift, op: Operation) -> str:
    """How this operation ends the difference, or "". An update brings the fields it is about up to date as wholes."""
    row = drift.row
    if op.target_id == row.id and op.verb in (Verb.DELETE, Verb.FORGET):
        return "an apply lets it go"
    if op.verb is Verb.CREATE:
        return "an apply makes another in its place"
    same = drift.path and op.target_id == row.id and any(change.path[0] == drift.path[0] for change in op.reasons)
    return "an apply sets it as declared" if op.verb is Verb.UPDATE and same else ""
