"""What a plan is made from and what it is: a frozen list of operations, in an order that can be followed. Pure.

`planning.py` decides; `apply.py` does it and `render` shows it. A plan can be saved, compared and read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from reconciler import money
from reconciler.diff import Change, Compared, differences
from reconciler.resource import (
    Action,
    Collection,
    Document,
    Json,
    Known,
    Mark,
    Match,
    Observed,
    Part,
    Phase,
    Price,
    Request,
    Slot,
    marks,
)
from reconciler.selection import EVERYTHING, Selection, Selectors
from reconciler.state import Intent, Owned, Role, State, canonical, live_rows

NO_PRICE = Price()
SUPERSEDED = "superseded"  # why something is deleted that a change of this plan replaces
ATTEMPTS = 10  # marks of one generation that are looked for where the state may have lost count
NOT_YET = timedelta(seconds=120)  # so long after a creation a read by id may say 404: not yet, rather than gone
VANISHED_HINT = "--allow vanished=all where it truly was deleted"


class Verb(StrEnum):
    """What apply does for an operation."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    DISCARD = "discard"  # stop what came late of a creation that was given up; accepted is enough
    FORGET = "forget"  # the record goes, the object stays
    ADOPT = "adopt"  # what is there already takes its place: as declared, or late of a creation that was given up
    CANCEL = "cancel"  # stop what is under way; it ends as a failure of its slot
    WAIT = "wait"
    NOTHING = "nothing"  # blocked: shown, never done


SPENDING = frozenset({Verb.CREATE, Verb.DELETE})  # the old side of a swap goes on for a while beside the new one


@dataclass(frozen=True)
class Operation:
    """One planned step. `after` names the operations it waits for; `why` is a reason that is no field.

    `part` with its `fields` (references resolved as far as they are known) is what a create sends; `request` is the one
    request of an update or a delete of `target_id`. `drops` are keys of rows that a create makes obsolete; `intent` is
    the creation that a discard undoes. `code` is the exit code a blocked operation stands for.
    """

    id: str
    action: Action
    verb: Verb
    slot: Slot
    collection: str
    part: Part | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    target_id: str = ""
    request: Request | None = None
    after: tuple[str, ...] = ()
    reasons: tuple[Change, ...] = ()
    why: str = ""
    hint: str = ""
    drops: tuple[str, ...] = ()
    deletion: str = ""
    needs_consent: bool = False
    was: Price = NO_PRICE
    price: Price = NO_PRICE
    code: int = 0
    intent: str = ""


@dataclass(frozen=True)
class Note:
    """Something the plan leaves alone and a person may want to know; a warning is about what it does."""

    about: str
    what: str
    hint: str = ""
    warning: bool = False


@dataclass(frozen=True)
class Totals:
    """CNY: what the plan costs once, and per hour before and after. None is unknown."""

    once: Decimal | None
    hour_before: Decimal | None
    hour_after: Decimal | None


@dataclass(frozen=True)
class Plan:
    """The frozen list. Doing it (`apply.py`) and showing it (`render.py`) are two readers of the same value.

    `selection` is what it is about, where that is not everything; `moves` are slots with their former names, which
    hold what they held under those.
    """

    operations: tuple[Operation, ...]
    notes: tuple[Note, ...]
    totals: Totals
    selection: Selection | None = None
    moves: tuple[tuple[Slot, Slot], ...] = ()

    @property
    def changes(self) -> tuple[Operation, ...]:
        """What differs from the manifests. Work that already goes on is not a change."""
        return tuple(op for op in self.operations if op.action is not Action.WAIT)

    @property
    def is_empty(self) -> bool:
        """Whether all is as declared, names included."""
        return not (self.changes or self.moves)

    @property
    def blocked(self) -> tuple[Operation, ...]:
        return tuple(op for op in self.operations if op.action is Action.BLOCKED)

    @property
    def work(self) -> tuple[Operation, ...]:
        """What apply has to do."""
        return tuple(op for op in self.operations if op.verb is not Verb.NOTHING)

    @property
    def fingerprint(self) -> str:
        """A name for exactly these operations: what they send, in which order, and what they cost."""
        told = [[op.id, facts(op), op.after] for op in self.operations]
        return hashlib.sha256(canonical(told).encode()).hexdigest()


def facts(op: Operation) -> dict[str, Any]:
    """All that decides what an operation does and costs, as plain data; neither its name nor its place in the plan."""
    part, request = op.part, op.request
    return {
        "action": op.action,
        "verb": op.verb,
        "slot": op.slot,
        "collection": op.collection,
        "target": op.target_id,
        "fields": op.fields,
        "content": asdict(replace(part.content, tokens=None, counted=False)) if part and part.content else None,
        "probes": part.probes if part else (),
        "base": part.base if part else "",
        "request": [request.method, request.path, request.query, request.form, request.body] if request else None,
        "changes": [[change.path, change.before, change.after] for change in op.reasons],
        "drops": op.drops,
        "deletion": op.deletion,
        "needs consent": op.needs_consent,
        "of": op.intent,
        "price": {"once": op.price.once, "hour": op.price.hour},
        "code": op.code,
    }


def sums(operations: Iterable[Operation], hour_before: Decimal | None) -> Totals:
    """What these operations cost together, where this much was paid per hour before them."""
    ops = tuple(operations)
    once = [op.price.once for op in ops if op.verb in SPENDING]
    deltas = [_minus(op.price.hour, op.was.hour) for op in ops if op.verb is not Verb.NOTHING]
    return Totals(money.total(once), hour_before, money.total([hour_before, *deltas]))


@dataclass(frozen=True)
class Desired:
    """What the manifests declare: documents in graph order, and the parts of each address.

    `removed` are tombstones by the address that is to go. `count` gives a part that is to be bought as its price needs
    it; it may read files, and raises ManifestError for what they hold.
    """

    documents: tuple[Document, ...] = ()
    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    removed: Mapping[str, Document] = field(default_factory=dict)
    count: Callable[[Part], Part] = field(default=lambda part: part, compare=False, repr=False)


@dataclass(frozen=True)
class World:
    """What the service showed: by collection, by id. An id that is absent was established to be absent.

    `at` is the service's clock at that moment; "" where nobody knows. `offers` is what it offers to make objects of a
    collection of, where it was asked and told.
    """

    objects: Mapping[str, Mapping[str, Observed]] = field(default_factory=dict)
    at: str = ""
    offers: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)

    def get(self, row: Owned) -> Observed | None:
        return self.objects.get(row.collection, {}).get(row.id)


@dataclass(frozen=True)
class Choices:
    """What the operator decided. `unattended`: nobody is there to be asked for a consent.

    `settled` are slots that a saved plan made before it was interrupted: `replace` is done with them. Estimates learn
    from runs before the lease `learnt_before` alone, so that what such a plan did itself moves none of its prices.
    """

    destroy: bool = False
    prune: bool = False
    unattended: bool = False
    allow: frozenset[tuple[str, str]] = frozenset()
    replace: frozenset[str] = frozenset()
    settled: frozenset[Slot] = frozenset()
    learnt_before: int | None = None
    selectors: Selectors = EVERYTHING


def vanished(state: State, world: World, choices: Choices) -> tuple[Owned, ...]:
    """What is gone, where that is most of what is ours at once: rather the wrong account than so many deletions."""
    live = live_rows(state)
    lost = [row for row in live if world.get(row) is None and not young(row, world) and not state.lets_go(row)]
    most = len(lost) > 1 and 2 * len(lost) > len(live)
    return tuple(lost) if most and ("vanished", "all") not in choices.allow else ()


def kept(row: Owned, policy: str, choices: Choices) -> tuple[str, str] | None:
    """Why an object must not go, whatever asks for it, and what would let it."""
    if policy == "Protect":
        hint = "set deletionPolicy: Delete in its manifest and apply that first"
        return "protected: deletionPolicy is Protect", hint
    if row.inferred and policy != "Orphan" and ("inferred", row.id) not in choices.allow:
        return f"{row.id} was taken for ours by what it looks like", f"--allow inferred={row.id} lets it go"
    return None


def young(row: Owned, world: World) -> bool:
    """Whether it was made so lately that the service may not show it yet."""
    age = age_of(row, world)
    return age is not None and age < NOT_YET


def age_of(row: Owned, world: World) -> timedelta | None:
    """How long ago an object was made, where both times are known."""
    if not (world.at and row.applied_at):
        return None
    return datetime.fromisoformat(world.at) - datetime.fromisoformat(row.applied_at)


def caught_up(desired: Desired, state: State, world: World) -> tuple[Owned, ...]:
    """Rows whose fields the service already shows as they are declared, though nobody recorded that it took them over.

    So an update that was cut off, or that somebody made by hand, is applied from here on. What no call can change is
    never taken from what the service shows.
    """
    found = []
    for document in desired.documents:
        for part in desired.parts.get(document.address, ()):
            row = state.row(part.slot, Role.CURRENT)
            seen = world.get(row) if row else None
            if row is None or seen is None:
                continue
            shown = _shown_as_declared(document, part, seen)
            late = {n: v for n, v in shown.items() if canonical(row.last_applied.get(n)) != canonical(v)}
            if late:
                found.append(replace(row, last_applied={**row.last_applied, **late}))
    return tuple(found)


def _shown_as_declared(document: Document, part: Part, seen: Observed) -> dict[str, Any]:
    """The authored fields that can be changed in place and that the service shows as they are declared."""
    marked, left_out = marks(type(document.spec)), frozenset(document.lifecycle.ignore)
    left_out |= {name for name, of in marked.items() if Mark.IMMUTABLE in of}
    left_out |= {name for name, value in part.fields.items() if contains_reference(value)}
    fields = {name: value for name, value in part.fields.items() if name in seen.fields and name not in left_out}
    differing = {change.path[0] for change in differences(part, fields, {}, seen, Compared(marked))}
    return {name: value for name, value in fields.items() if name not in differing}


def words_of(value: Any) -> Iterator[str]:
    """Every text in a field's value: a literal id may be any of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from words_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from words_of(item)


def references_of(part: Part) -> tuple[Known, ...]:
    """Every reference inside a part's fields."""
    return tuple(_known(part.fields.values()))


def contains_reference(value: Any) -> bool:
    return any(_known((value,)))


def _known(values: Iterable[Any]) -> Iterator[Known]:
    for value in values:
        if isinstance(value, Known):
            yield value
        elif isinstance(value, tuple | list):
            yield from _known(value)
        elif isinstance(value, Mapping):
            yield from _known(value.values())


def open_maker(state: State, collection: Collection, seen: Observed) -> Intent | None:
    """A creation of unknown outcome that may have made this object."""
    open_ones = (i for i in state.open_intents() if i.verb == Verb.CREATE and i.collection == collection.name)
    return next(
        (
            intent
            for intent in open_ones
            if seen.id not in intent.known_before
            and (
                collection.matches(intent.tag, intent.fields, seen) is not Match.NO
                or collection.resembles(intent.slot, intent.fields, seen)
            )
        ),
        None,
    )


def bills(seen: Observed) -> bool:
    """Billing starts when it runs and goes on while it is resized; failed and stopped are free (contract §3.7)."""
    return seen.phase is Phase.READY or bool(seen.outputs.get("ready"))


def hourly(collection: Collection, seen: Observed, base: str = "") -> Decimal | None:
    """What an object that the service shows costs an hour now, whoever made it; None is not known."""
    base = str(seen.outputs.get("base") or base or seen.fields.get("model", ""))
    return collection.price(seen.fields, base=base).hour if bills(seen) else Decimal(0)


def _minus(after: Decimal | None, before: Decimal | None) -> Decimal | None:
    return None if after is None or before is None else after - before
