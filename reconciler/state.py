"""What we own and what we last applied, as values, with the rules that hold between them.

Nothing here touches a disk: `store.py` keeps a State, `recover.py` and `apply.py` produce the rows that change it. No
row holds a key, a signed link or a line of training data.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, assert_never

from reconciler.errors import StateCorrupt
from reconciler.resource import Known, Observed, Slot


class Role(StrEnum):
    """What a remote object is to its slot. A swap is two rows; a job's history is its retired rows."""

    NEXT = "next"  # created, not yet in use: waiting, or failed
    CURRENT = "current"  # what references resolve to
    RETIRED = "retired"  # superseded


@dataclass(frozen=True)
class Owned:
    """One remote object that we made.

    `uses` are the keys of the objects it was made from, `failure` why a NEXT failed, `deletion` the policy its author
    wrote ("" for none): it outlives the manifest. `inferred`: it was taken for ours by what it looks like, without our
    mark, so letting it go needs a word of its own.
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
    inferred: bool = False

    @property
    def key(self) -> str:
        return f"{self.collection}/{self.id}"


class IntentPhase(StrEnum):
    """How far a journalled request got (docs/journal.md)."""

    INTENT = "intent"  # about to be sent, or sent and not yet answered
    UNKNOWN = "unknown"  # sent, and no trustworthy answer came
    NEEDS_HUMAN = "needs human"  # looked for, and what was found does not decide it
    DONE = "done"
    REJECTED = "rejected"  # refused by the service, or provably never sent
    ADOPTED = "adopted"  # found again on the service
    ABSENT = "absent"  # looked for and not there


OPEN = frozenset({IntentPhase.INTENT, IntentPhase.UNKNOWN, IntentPhase.NEEDS_HUMAN})
MADE = frozenset({IntentPhase.DONE, IntentPhase.ADOPTED})
PERSON = "person"
WATCH = timedelta(hours=24)  # how long a creation that was given up is still looked for


@dataclass(frozen=True)
class Intent:
    """The durable record that a request is about to be sent, with all that is needed to recognise its effect.

    `at` and `deadline` are times of the service's clock: after the deadline nothing of it is sent any more. `account`
    is a salted hash of the key it was sent with. `result_id` is what it made, `by` who decided an outcome that no
    answer told: "" or PERSON. `tokens` is what one pass over its data was foreseen to read, an estimate unless
    `counted`. A row may also record what a person did to the state; `verb` names it then.
    """

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
    deadline: str = ""
    account: str = ""
    status: int = 0
    by: str = ""
    tokens: int | None = None
    counted: bool = False

    @property
    def is_open(self) -> bool:
        return self.phase in OPEN

    @property
    def creates(self) -> Slot | None:
        """The slot that it makes an object for; None where it does something else."""
        return self.slot if self.verb == "create" else None

    @property
    def made(self) -> str:
        """The key of the object that it made, or ""."""
        return f"{self.collection}/{self.result_id}" if self.verb == "create" and self.result_id else ""

    def owned(self, remote_id: str, at: str, *, inferred: bool = False) -> Owned:
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
            inferred=inferred,
        )


@dataclass(frozen=True)
class Gone:
    """The event that an owned object is no longer ours, or no longer there."""

    key: str


def reopened(row: Owned, made: Intent) -> tuple[Gone, Intent]:
    """What undoes the record of an object under an id that leads nowhere: what it was is to be looked for."""
    why = f"the service does not know {row.id}, which it named in its answer"
    return Gone(row.key), replace(made, phase=IntentPhase.UNKNOWN, result_id="", reason=why)


@dataclass(frozen=True)
class Fact:
    """Something seen to hold, or not, on this account: `jobs.mark` is whether jobs show the mark we give them."""

    name: str
    holds: bool
    evidence: str
    at: str


@dataclass(frozen=True)
class Ticket:
    """A saved plan that was begun, by its digest. It can be begun once and resumed until it `ended`.

    `epoch` is that of its first run: what was asked for from then on, it need not ask for again.
    """

    digest: str
    begun: str
    ended: str = ""
    epoch: int = 0


@dataclass(frozen=True)
class Held:
    """One operation that waits for a yes: what it does to what, and the CNY it may cost; None is unknown."""

    key: str
    slot: str
    action: str
    once: str | None
    hour: str | None


@dataclass(frozen=True)
class Approval:
    """What a loop proposed to do, and who agreed when; nobody yet where `approved_at` is empty."""

    digest: str
    held: tuple[Held, ...]
    proposed_at: str
    revision: str = ""
    approved_at: str = ""
    by: str = ""


@dataclass(frozen=True)
class Withdrawn:
    """The event that something proposed is no longer what would be done."""

    digest: str


@dataclass(frozen=True)
class Pause:
    """What a person holds back: an address, or with "" the whole stack. It outlives what it holds back."""

    address: str
    since: str
    reason: str = ""


@dataclass(frozen=True)
class Resumed:
    """The event that an address is paused no more."""

    address: str


Event = Owned | Intent | Gone | Fact | Ticket | Pause | Resumed | Approval | Withdrawn


@dataclass(frozen=True)
class Stamp:
    """Whose state this is. Endpoint is a host, or `emulator:<install id>`; a mismatch refuses before all else."""

    endpoint: str
    workspace: str
    stack: str
    environment: str = ""


@dataclass(frozen=True)
class State:
    """Everything recorded: rows of owned objects by key, journal rows by operation id. Checks itself when made.

    `lineage` names this record for good, from its first write on; `serial` counts its writes.
    """

    stamp: Stamp | None = None
    owned: Mapping[str, Owned] = field(default_factory=dict)
    intents: Mapping[str, Intent] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    tickets: Mapping[str, Ticket] = field(default_factory=dict)
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    lineage: str = field(default="", compare=False)
    serial: int = field(default=0, compare=False)

    def rows(self, slot: Slot, role: Role | None = None) -> tuple[Owned, ...]:
        found = self._rows.get(slot, ())
        return tuple(row for row in found if role is None or row.role is role)

    def row(self, slot: Slot, role: Role) -> Owned | None:
        return next(iter(self.rows(slot, role)), None)

    def head(self, slot: Slot) -> Owned | None:
        """What a slot is judged by: its next object, else the one in use."""
        return self.row(slot, Role.NEXT) or self.row(slot, Role.CURRENT)

    def open_intents(self) -> tuple[Intent, ...]:
        return tuple(self.intents[name] for name in sorted(self._open))

    def given_up(self, now: str) -> tuple[Intent, ...]:
        """Creations that were taken for not having happened within the last day: one of them may still come true."""
        since = datetime.fromisoformat(now) - WATCH if now else datetime.min
        gone = (i for i in self.intents.values() if i.verb == "create" and i.phase is IntentPhase.ABSENT)
        return tuple(intent for intent in gone if datetime.fromisoformat(intent.at) >= since)

    def unowned(self, collection: str, seen: Mapping[str, Observed]) -> dict[str, Observed]:
        """What of a collection is not ours, by id, in the order of the ids."""
        return {key: seen[key] for key in sorted(key for key in seen if f"{collection}/{key}" not in self.owned)}

    def users(self, key: str) -> tuple[Owned, ...]:
        """The live rows made from this object."""
        return self._users.get(key, ())

    @cached_property
    def _users(self) -> Mapping[str, tuple[Owned, ...]]:
        found: dict[str, list[Owned]] = {}
        for row in self.owned.values():
            for key in dict.fromkeys(row.uses) if row.role is not Role.RETIRED else ():
                found.setdefault(key, []).append(row)
        return {key: tuple(rows) for key, rows in found.items()}

    def maker(self, row: Owned) -> Intent | None:
        """The creation that an object came from, where the journal has it."""
        return next((self.intents[name] for name in self._makers.get(row.key, ())), None)

    def sent(self, row: Owned) -> tuple[Intent, ...]:
        """What the journal has of requests about an object that the service took, or may have taken.

        An id may come again: what was asked before this object was made is about another.
        """
        made = row.applied_at.replace("T", " ")  # as the service writes it, where a rebuild took it from there
        return tuple(intent for intent in self._requests.get(row.key, ()) if intent.at >= made)

    @cached_property
    def _requests(self) -> Mapping[str, tuple[Intent, ...]]:
        """Those by the key of the object they are about. A row of a person's, or of nothing sent, has no deadline."""
        found: dict[str, list[Intent]] = {}
        for intent in self.intents.values():
            if intent.deadline and intent.phase not in (IntentPhase.REJECTED, IntentPhase.ABSENT):
                ids = (intent.result_id,) if intent.verb == "create" else intent.known_before
                for key in (f"{intent.collection}/{name}" for name in ids if name):
                    found.setdefault(key, []).append(intent)
        return {key: tuple(intents) for key, intents in found.items()}

    def lets_go(self, row: Owned) -> bool:
        """Whether we ourselves asked the service to delete or to stop it."""
        return any(intent.verb in ("delete", "cancel") for intent in self.sent(row))

    def attempts(self, slot: Slot, generation: str) -> int:
        """How often this generation was truly made; part of the tag, so that a deliberate repeat has its own."""
        return sum(1 for intent in self._asked_for(slot, generation) if intent.phase in MADE)

    def losses(self, slot: Slot, generation: str) -> int:
        """How often we ourselves took a creation of this generation for not having happened."""
        lost = (i for i in self._asked_for(slot, generation) if i.phase is IntentPhase.ABSENT)
        return sum(1 for intent in lost if intent.by != PERSON)

    def shows(self, name: str) -> bool:
        """Whether a fact was seen to hold; one that nobody looked at does not."""
        fact = self.facts.get(name)
        return fact is not None and fact.holds

    def paused(self, address: str) -> Pause | None:
        """What holds an address back: its own pause, else that of the whole stack."""
        return self.pauses.get(address) or self.pauses.get("")

    def _asked_for(self, slot: Slot, generation: str) -> Iterator[Intent]:
        made = (self.intents[name] for name in self._creations.get(slot, ()))
        return (intent for intent in made if intent.generation == generation)

    def fold(self, events: Iterable[Event]) -> State:
        """The state after these events. Raises StateCorrupt when they would break a rule.

        Costs what the events touch, and a copy of each map that they change.
        """
        return Folding(self).take(events)

    def written(self, serial: int) -> State:
        """The same, after so many writes."""
        return self._revised({"serial": serial})

    def __post_init__(self) -> None:
        """1. A slot has at most one NEXT and one CURRENT. 2. A slot has at most one open creation."""
        everything = _Fold({name: {} for name in ("owned", "intents", *_INDEX)})
        for row in self.owned.values():
            everything.take(row)
        for intent in self.intents.values():
            everything.take(intent)
        everything.check()
        for name in _INDEX:
            object.__setattr__(self, name, everything.now(name))

    def _revised(self, changed: Mapping[str, Any]) -> State:
        """The same but for this. What stays was checked when it was made, and is not checked again."""
        after = object.__new__(State)
        vars(after).update({**{name: vars(self)[name] for name in _FIELDS}, **changed})
        return after

    _rows: Mapping[Slot, tuple[Owned, ...]] = field(init=False, repr=False, compare=False)
    _open: Mapping[str, None] = field(init=False, repr=False, compare=False)
    _creations: Mapping[Slot, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    _makers: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)  # by key of what they made


_FIELDS = tuple(one.name for one in fields(State))
_INDEX = ("_rows", "_open", "_creations", "_makers")


class Folding:
    """A state to which one thing after the other happens: all of them together cost one copy of each map they change.

    What `take` gave before is not to be used after the next `take`.
    """

    def __init__(self, state: State) -> None:
        self._state, self._fold = state, _Fold(vars(state))

    def take(self, events: Iterable[Event]) -> State:
        """As `State.fold`; after StateCorrupt there is no going on."""
        for event in events:
            self._fold.take(event)
        self._fold.check()
        return self._state._revised(self._fold.changed)


class _Fold:
    """The maps of a state while events change them, its index too: each is copied when it is first written to."""

    def __init__(self, before: Mapping[str, Any]) -> None:
        self._before = before
        self.changed: dict[str, dict[Any, Any]] = {}
        self._touched: set[Slot] = set()

    def now(self, name: str) -> Mapping[Any, Any]:
        found: Mapping[Any, Any] = self.changed.get(name, self._before[name])
        return found

    def _own(self, name: str) -> dict[Any, Any]:
        if name not in self.changed:
            self.changed[name] = dict(self._before[name])
        return self.changed[name]

    def take(self, event: Event) -> None:
        match event:
            case Owned():
                self._put_row(event)
            case Intent():
                self._put_intent(event)
            case Gone():
                self._drop_row(event.key)
            case Fact():
                self._own("facts")[event.name] = event
            case Ticket():
                self._own("tickets")[event.digest] = event
            case Approval():
                self._own("approvals")[event.digest] = event
            case Withdrawn():
                self._own("approvals").pop(event.digest, None)
            case Pause():
                self._own("pauses")[event.address] = event
            case Resumed():
                self._own("pauses").pop(event.address, None)
            case _:
                assert_never(event)

    def _put_row(self, row: Owned) -> None:
        before = self.now("owned").get(row.key)
        if before is not None and before.slot != row.slot:
            self._drop_row(row.key)
            before = None
        rows: tuple[Owned, ...] = self.now("_rows").get(row.slot, ())
        after = tuple(row if one.key == row.key else one for one in rows) if before else (*rows, row)
        self._own("owned")[row.key], self._own("_rows")[row.slot] = row, after
        self._touched.add(row.slot)

    def _drop_row(self, key: str) -> None:
        if row := self.now("owned").get(key):
            del self._own("owned")[key]
            self._own("_rows")[row.slot] = tuple(one for one in self.now("_rows")[row.slot] if one.key != key)

    def _put_intent(self, intent: Intent) -> None:
        name, before = intent.op_id, self.now("intents").get(intent.op_id)
        self._own("intents")[name] = intent
        if intent.is_open:
            self._own("_open")[name] = None
        elif name in self.now("_open"):
            del self._own("_open")[name]
        self._file("_creations", name, before and before.creates, intent.creates)
        self._file("_makers", name, before and before.made, intent.made)
        self._touched.add(intent.slot)

    def _file(self, index: str, name: str, before: Slot | str | None, after: Slot | str | None) -> None:
        """A journal row under another key, or for the first time."""
        if before == after:
            return
        filed = self._own(index)
        if before:
            filed[before] = tuple(one for one in filed[before] if one != name)
        if after:
            filed[after] = (*filed.get(after, ()), name)

    def check(self) -> None:
        """The rules, for every slot that was touched since the last time."""
        rows, creations, undecided = self.now("_rows"), self.now("_creations"), self.now("_open")
        for slot in self._touched:
            for role in (Role.NEXT, Role.CURRENT):
                ids = [row.id for row in rows.get(slot, ()) if row.role is role]
                if len(ids) > 1:
                    raise StateCorrupt(f"{slot} has two {role} objects: {', '.join(ids)}")
            if sum(name in undecided for name in creations.get(slot, ())) > 1:
                raise StateCorrupt("one slot has two open creations")
        self._touched.clear()


def live_rows(state: State) -> tuple[Owned, ...]:
    """What is in use or about to be, by address."""
    return tuple(sorted((r for r in state.owned.values() if r.role is not Role.RETIRED), key=lambda row: row.slot))


def written(at: datetime) -> str:
    """A time of the service as rows hold it."""
    return f"{at:%Y-%m-%d %H:%M:%S}"


def canonical(value: Any) -> str:
    """One text for equal values: sorted keys, numbers by value, references by name. For hashes and comparisons."""
    return _CANONICAL.encode(_plain(value))


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if type(value) in (str, int, bool):  # most are, and asking whether one is a mapping takes longer than all the rest
        return value
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


# Rows as text, for the store ------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """One row: its kind, its key among the rows of that kind, and its text; None for a row that is to go."""

    kind: str
    key: str
    body: str | None


def record_of(event: Event) -> Record:
    """An event as the row that it writes or removes."""
    return Record(*_filed(event), None if isinstance(event, Gone | Resumed | Withdrawn) else to_json(event))


def _filed(event: Event) -> tuple[str, str]:
    """The kind of its row, and the key among those."""
    match event:
        case Owned() | Gone():
            return "owned", _ascii(event.key)
        case Intent():
            return "intent", event.op_id
        case Fact():
            return "fact", event.name
        case Ticket():
            return "ticket", event.digest
        case Approval() | Withdrawn():
            return "approval", event.digest
        case Pause() | Resumed():
            return "pause", _ascii(event.address)
        case _:
            assert_never(event)


def event_of(record: Record) -> Event:
    """The event that `record_of` was given. Raises StateCorrupt for anything else."""
    if record.body is None:
        if record.kind == "approval":
            return Withdrawn(record.key)
        key = _from_ascii(record.key)
        return Resumed(key) if record.kind == "pause" else Gone(key)
    if record.kind not in _READERS:
        raise StateCorrupt(f"the state holds a row of the unknown kind {record.kind[:40]!r}")
    event = _READERS[record.kind](record.body)
    if _filed(event) != record[:2]:
        raise StateCorrupt(f"a row of the state is filed under another name: {record.key[:100]!r}")
    return event


def _ascii(key: str) -> str:
    """An id of the service's is not of our choosing: neither half a character nor a zero may cost us its row."""
    return json.dumps(key)[1:-1]


def _from_ascii(key: str) -> str:
    with _readable("the name of a row of the state"):
        return str(json.loads(f'"{key}"'))


def to_json(event: Owned | Intent | Fact | Ticket | Pause | Approval) -> str:
    """A row as ASCII text: half a character in a name of the service's must not cost us the row.

    What says nothing is left out: most of it never says anything.
    """
    silent = _SILENT[type(event)]
    body = {name: value for name, value in vars(event).items() if name not in silent or value != silent[name]}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), default=_inner)


_SILENT: Mapping[type[Any], Mapping[str, Any]] = {
    row: {one.name: one.default for one in fields(row) if one.default in ("", None, False)}
    for row in (Owned, Intent, Fact, Ticket, Approval, Pause)
}
"""The fields of each row that hold one value until there is something to say, with that value."""


def _inner(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def owned_from(text: str) -> Owned:
    """The row that `to_json` wrote. Raises StateCorrupt for anything else, as its siblings do."""
    with _readable("a row of the state"):
        body = json.loads(text)
        body |= {"slot": Slot(*body["slot"]), "role": Role(body["role"]), "uses": tuple(body["uses"])}
        return Owned(**body)


def intent_from(text: str) -> Intent:
    with _readable("a journal row of the state"):
        body = json.loads(text)
        body |= {"slot": Slot(*body["slot"]), "phase": IntentPhase(body["phase"])}
        body |= {name: tuple(body[name]) for name in ("uses", "known_before")}
        return Intent(**body)


def fact_from(text: str) -> Fact:
    with _readable("a finding in the state"):
        return Fact(**json.loads(text))


def ticket_from(text: str) -> Ticket:
    with _readable("a saved plan in the state"):
        return Ticket(**json.loads(text))


def approval_from(text: str) -> Approval:
    with _readable("an approval in the state"):
        body = json.loads(text)
        return Approval(**{**body, "held": tuple(Held(**one) for one in body["held"])})


def pause_from(text: str) -> Pause:
    with _readable("a pause in the state"):
        return Pause(**json.loads(text))


_READERS: Mapping[str, Callable[[str], Event]] = {
    "owned": owned_from,
    "intent": intent_from,
    "fact": fact_from,
    "ticket": ticket_from,
    "approval": approval_from,
    "pause": pause_from,
}


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateCorrupt(f"{what} cannot be read: {type(error).__name__}") from error
