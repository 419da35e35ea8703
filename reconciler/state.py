"""What we own and what we last applied, as values, with the rules that hold between them.

Nothing here touches a disk: `store.py` keeps a State, `recover.py` and `apply.py` produce the rows that change it. No
row holds a key, a signed link or a line of training data.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from reconciler.errors import StateCorrupt
from reconciler.resource import Known, Slot


class Role(StrEnum):
    """What a remote object is to its slot. A swap is two rows; a job's history is its retired rows."""

    NEXT = "next"  # created, not yet in use: waiting, or failed
    CURRENT = "current"  # what references resolve to
    RETIRED = "retired"  # superseded


@dataclass(frozen=True)
class Owned:
    """One remote object that we made.

    `uses` are the keys of the objects it was made from, `failure` why a NEXT failed, `deletion` the policy its author
    wrote ("" for none): it outlives the manifest.
    """

    slot: Slot
    collection: str
    id: str
    role: Role
    generation: str
    last_applied: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    deletion: str = ""
    base: str = ""
    failure: str = ""
    applied_at: str = ""

    @property
    def key(self) -> str:
        return f"{self.collection}/{self.id}"


class IntentPhase(StrEnum):
    """How far a journalled request got (docs/journal.md)."""

    INTENT = "intent"  # about to be sent, or sent and not yet answered
    UNKNOWN = "unknown"  # sent, and no trustworthy answer came
    DONE = "done"
    REJECTED = "rejected"  # refused by the service, or provably never sent
    ADOPTED = "adopted"  # found again on the service
    ABSENT = "absent"  # looked for and not there


OPEN = frozenset({IntentPhase.INTENT, IntentPhase.UNKNOWN})


@dataclass(frozen=True)
class Intent:
    """The durable record that a request is about to be sent, with all that is needed to recognise its effect."""

    op_id: str
    slot: Slot
    collection: str
    verb: str
    generation: str
    tag: str
    attempt: int
    epoch: int
    at: str
    fields: Mapping[str, Any]
    uses: tuple[str, ...] = ()
    deletion: str = ""
    base: str = ""
    known_before: tuple[str, ...] = ()
    phase: IntentPhase = IntentPhase.INTENT
    result_id: str = ""
    request_id: str = ""
    reason: str = ""

    @property
    def is_open(self) -> bool:
        return self.phase in OPEN

    def owned(self, remote_id: str, at: str) -> Owned:
        """The row of what this intent made."""
        return Owned(
            slot=self.slot,
            collection=self.collection,
            id=remote_id,
            role=Role.NEXT,
            generation=self.generation,
            last_applied=self.fields,
            uses=self.uses,
            deletion=self.deletion,
            base=self.base,
            applied_at=at,
        )


@dataclass(frozen=True)
class Gone:
    """The event that an owned object is no longer ours, or no longer there."""

    key: str


Event = Owned | Intent | Gone


@dataclass(frozen=True)
class Stamp:
    """Whose state this is. Endpoint is a host, or `emulator:<install id>`; a mismatch refuses before all else."""

    endpoint: str
    workspace: str
    stack: str
    environment: str = ""


@dataclass(frozen=True)
class State:
    """Everything recorded: rows of owned objects by key, journal rows by operation id. Checks itself when made."""

    stamp: Stamp | None = None
    owned: Mapping[str, Owned] = field(default_factory=dict)
    intents: Mapping[str, Intent] = field(default_factory=dict)

    def rows(self, slot: Slot, role: Role | None = None) -> tuple[Owned, ...]:
        found = self._by_slot.get(slot, ())
        return tuple(row for row in found if role is None or row.role is role)

    def row(self, slot: Slot, role: Role) -> Owned | None:
        return next(iter(self.rows(slot, role)), None)

    def open_intents(self) -> tuple[Intent, ...]:
        return tuple(intent for intent in self.intents.values() if intent.is_open)

    def users(self, key: str) -> tuple[Owned, ...]:
        """The live rows made from this object."""
        return tuple(row for row in self.owned.values() if row.role is not Role.RETIRED and key in row.uses)

    def attempts(self, slot: Slot, generation: str) -> int:
        """How often this generation was truly made; part of the tag, so that a deliberate repeat has its own."""
        made = {IntentPhase.DONE, IntentPhase.ADOPTED}
        same = (i for i in self.intents.values() if i.slot == slot and i.generation == generation)
        return sum(1 for intent in same if intent.verb == "create" and intent.phase in made)

    def fold(self, events: Iterable[Event]) -> State:
        """The state after these events. Raises StateCorrupt when they would break a rule."""
        owned, intents = dict(self.owned), dict(self.intents)
        for event in events:
            match event:
                case Owned():
                    owned[event.key] = event
                case Intent():
                    intents[event.op_id] = event
                case Gone():
                    owned.pop(event.key, None)
        return replace(self, owned=owned, intents=intents)

    def __post_init__(self) -> None:
        """1. A slot has at most one NEXT and one CURRENT. 2. A slot has at most one open creation."""
        by_slot: dict[Slot, tuple[Owned, ...]] = {}
        for row in self.owned.values():
            by_slot[row.slot] = (*by_slot.get(row.slot, ()), row)
        object.__setattr__(self, "_by_slot", by_slot)
        for slot, rows in by_slot.items():
            for role in (Role.NEXT, Role.CURRENT):
                if sum(row.role is role for row in rows) > 1:
                    raise StateCorrupt(f"{slot} has two {role} objects: {', '.join(row.id for row in rows)}")
        creating = [i.slot for i in self.intents.values() if i.is_open and i.verb == "create"]
        if len(creating) != len(set(creating)):
            raise StateCorrupt("one slot has two open creations")

    _by_slot: Mapping[Slot, tuple[Owned, ...]] = field(init=False, repr=False, compare=False)


def canonical(value: Any) -> str:
    """One text for equal values: sorted keys, numbers by value, references by name. For hashes and comparisons."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Known):
        return {"known": [*value.slot, value.output]}
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            return str(value)  # an answer of the service may say NaN: odd, but no reason to fall over
        return _plain(int(value)) if value == int(value) else str(Decimal(str(value)).normalize())
    return value


def generation(collection: str, fields: Mapping[str, Any]) -> str:
    """A name for one version of what a slot should hold: a journal key, never a reason to buy."""
    return hashlib.sha256(canonical([collection, fields]).encode()).hexdigest()[:16]


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def tag(stamp: Stamp, slot: Slot, generation: str, attempt: int) -> str:
    """8 characters `[0-9a-z]` that the service shows again; recomputable, so that a lost state finds its objects."""
    text = canonical([stamp.stack, stamp.environment, *slot, generation, attempt])
    number, letters = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"), ""
    for _ in range(8):
        number, digit = divmod(number, 36)
        letters += _DIGITS[digit]
    return letters


def to_json(event: Owned | Intent) -> str:
    """A row as ASCII text, for the store: half a character in a name of the service's must not cost us the row."""
    return json.dumps(asdict(event), sort_keys=True, default=str)


def owned_from(text: str) -> Owned:
    """The row that `to_json` wrote. Raises StateCorrupt for anything else."""
    try:
        body = json.loads(text)
        body |= {"slot": Slot(*body["slot"]), "role": Role(body["role"]), "uses": tuple(body["uses"])}
        return Owned(**body)
    except (ValueError, KeyError, TypeError) as error:
        raise StateCorrupt(f"a row of the state cannot be read: {type(error).__name__}") from error


def intent_from(text: str) -> Intent:
    """The journal row that `to_json` wrote. Raises StateCorrupt for anything else."""
    try:
        body = json.loads(text)
        body |= {"slot": Slot(*body["slot"]), "phase": IntentPhase(body["phase"])}
        body |= {name: tuple(body[name]) for name in ("uses", "known_before")}
        return Intent(**body)
    except (ValueError, KeyError, TypeError) as error:
        raise StateCorrupt(f"a journal row of the state cannot be read: {type(error).__name__}") from error
