"""What a person may do to the state: move rows, forget them, decide an open operation. Pure: events, or a refusal.

Each leaves a row in the journal that says who decided and why. Nothing here touches a remote object, and nothing lets
one be made twice: what is under way keeps its slot, and a mark is never given again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from reconciler.errors import Refused, UsageError
from reconciler.resource import Collection, Document, Match, Observed, Slot, within
from reconciler.state import (
    PERSON,
    Event,
    Gone,
    Intent,
    IntentPhase,
    Owned,
    Pause,
    Resumed,
    Role,
    State,
)
from reconciler.wording import did_you_mean, shown

MOVE, REMOVE, UNLOCK, PAUSE, RESUME = "move", "remove", "unlock", "pause", "resume"


@dataclass(frozen=True)
class Deed:
    """One decision of a person: its name in the journal, the lease it is recorded under, when, and why."""

    op_id: str
    epoch: int
    at: str
    reason: str = ""

    def entry(self, verb: str, slot: Slot, number: int = 0, **facts: Any) -> Intent:
        """The journal row of what was done to a slot."""
        return Intent(
            op_id=f"{self.op_id}-{number}" if number else self.op_id,
            slot=slot,
            verb=verb,
            epoch=self.epoch,
            at=self.at,
            reason=self.reason,
            phase=IntentPhase.DONE,
            **{"by": PERSON, "collection": "", "generation": "", "tag": "", "attempt": 0, "fields": {}, **facts},
        )


class Candidate(NamedTuple):
    """An object that an open creation may have made."""

    seen: Observed
    match: Match


# Rows ---------------------------------------------------------------------------------------------------------------


def move(state: State, source: Slot, target: Slot, deed: Deed) -> tuple[Event, ...]:
    """Record under another name what `source` holds, history and all; the objects themselves stay as they are.

    Without a part either is the whole address. The journal of what was made stays where it was: the old name must not
    give the same mark a second time.
    """
    rows = held(state, source)
    if source.address.partition("/")[0] != target.address.partition("/")[0]:
        raise UsageError(f"{source} cannot become {target}: they are of different kinds")
    if source == target:
        raise UsageError(f"{source} is already named so")
    if target.part and not source.part and any(row.slot.part for row in rows):
        raise UsageError(f"{source} holds several parts", hint=f"name one of them: {source.address}:PART")
    goals = {row.slot: Slot(target.address, target.part or row.slot.part) for row in rows}
    _refuse_open(state, (*goals, *goals.values()))
    for goal in goals.values():
        if occupants := state.rows(goal):
            raise Refused(
                f"{goal} already holds {occupants[0].id}", hint=f"reconciler state rm {goal} forgets what it holds"
            )
    addresses = sorted({(old.address, new.address) for old, new in goals.items()})
    entries = [
        deed.entry(MOVE, goal, number, fields={"from": [*old]}, known_before=_ids(rows, old))
        for number, (old, goal) in enumerate(sorted(goals.items()))
    ]
    return (*(replace(row, slot=goals[row.slot]) for row in rows), *still_paused(state, addresses, goals), *entries)


def renames(state: State, documents: Iterable[Document]) -> dict[Slot, Slot]:
    """What `movedFrom` comes to: slots of the former names that the state holds, and what they are called now.

    A name that is still declared, or already has an object of its own, is left as it is; so is one whose last creation
    is not decided.
    """
    if not (former_names := _former_names(documents)):
        return {}
    held_by: dict[str, set[Slot]] = {}
    for row in state.owned.values():
        held_by.setdefault(row.slot.address, set()).add(row.slot)
    creating = {intent.slot.address for intent in state.open_intents() if intent.verb == "create"}
    found: dict[Slot, Slot] = {}
    for former, address in former_names:
        if address not in held_by and not creating & {former, address}:
            found |= {slot: Slot(address, slot.part) for slot in held_by.get(former, ())}
    return found


def _former_names(documents: Iterable[Document]) -> list[tuple[str, str]]:
    """Names that are declared no more, and what is called so now."""
    declared = {document.address: document for document in documents}
    former = [
        (f"{d.kind}/{d.metadata.moved_from}", address) for address, d in declared.items() if d.metadata.moved_from
    ]
    return [(old, new) for old, new in former if old not in declared]


def renamed(state: State, documents: Iterable[Document]) -> State:
    """The state with every object under the name that the manifests give it now."""
    everything = tuple(documents)
    names = renames(state, everything)
    rows = [replace(row, slot=names[row.slot]) for row in state.owned.values() if row.slot in names]
    return state.fold([*rows, *still_paused(state, _former_names(everything), names)])


def still_paused(state: State, names: Iterable[tuple[str, str]], moved: Container[Slot]) -> tuple[Event, ...]:
    """What is paused stays so under another name; under the old one too, while that holds what was not `moved`."""
    if not state.pauses:
        return ()
    left = {row.slot.address for row in state.owned.values() if row.slot not in moved}
    events: list[Event] = []
    for old, new in names:
        if old != new and (pause := state.pauses.get(old)):
            events += [replace(pause, address=new), *(() if old in left else (Resumed(old),))]
    return tuple(events)


def remove(state: State, slot: Slot, deed: Deed) -> tuple[Event, ...]:
    """Forget what a slot, or an address with all its slots, holds. The objects stay, and go on costing."""
    rows = held(state, slot)
    _refuse_open(state, (row.slot for row in rows))
    entries = [
        deed.entry(REMOVE, row.slot, number, collection=row.collection, known_before=(row.id,))
        for number, row in enumerate(rows)
    ]
    return (*(Gone(row.key) for row in rows), *entries)


def held(state: State, slot: Slot) -> tuple[Owned, ...]:
    """The rows of a slot, or of a whole address. UsageError where there are none."""
    found = [row for row in state.owned.values() if slot in (row.slot, Slot(row.slot.address))]
    if not found:
        known = {str(row.slot) for row in state.owned.values()} | {row.slot.address for row in state.owned.values()}
        raise UsageError(f"the state holds nothing for {shown(str(slot))}", hint=did_you_mean(str(slot), known))
    return tuple(sorted(found, key=lambda row: (row.slot, row.key)))


def slot_named(word: str) -> Slot:
    """`KIND/NAME`, or `KIND/NAME:PART`."""
    address, _, part = word.partition(":")
    kind, _, name = address.partition("/")
    if not (kind and name):
        raise UsageError(f"{shown(word)} names no object", hint="write KIND/NAME or KIND/NAME:PART")
    return Slot(address, part)


def _ids(rows: Iterable[Owned], slot: Slot) -> tuple[str, ...]:
    return tuple(row.id for row in rows if row.slot == slot)


def _refuse_open(state: State, slots: Iterable[Slot]) -> None:
    """An operation under way will record its outcome under the name it began with."""
    wanted = set(slots)
    for intent in state.open_intents():
        if intent.slot in wanted:
            raise Refused(
                f"{intent.slot} has an open operation, {intent.op_id}: its outcome must be known first",
                hint=f"reconciler apply looks for it; reconciler ops show {intent.op_id} tells more",
            )


# Holding back ---------------------------------------------------------------------------------------------------------


def pause(state: State, addresses: Iterable[str], deed: Deed) -> tuple[Event, ...]:
    """Hold back these addresses, or the whole stack as "". What is paused already stays so since when it was."""
    fresh = [address for address in dict.fromkeys(addresses) if address not in state.pauses]
    entries = [deed.entry(PAUSE, Slot(address), number) for number, address in enumerate(fresh)]
    return (*(Pause(address, deed.at, deed.reason) for address in fresh), *entries)


def resume(state: State, addresses: Iterable[str], deed: Deed) -> tuple[Event, ...]:
    """Hold them back no longer. The pause of the whole stack and that of one object each end by themselves."""
    ended = list(dict.fromkeys(addresses))
    for address in ended:
        if address not in state.pauses:
            raise UsageError(f"{address or 'the stack'} is not paused", hint=_what_is(state))
    entries = [
        deed.entry(RESUME, Slot(address), number, fields={"since": state.pauses[address].since})
        for number, address in enumerate(ended)
    ]
    return (*map(Resumed, ended), *entries)


def _what_is(state: State) -> str:
    """What is paused, as the commands that end it."""
    return ", ".join(resuming(address) for address in sorted(state.pauses)) or "nothing is"


def paused_since(pause: Pause) -> str:
    """Since when, and why."""
    return f"since {pause.since}" + (f" ({pause.reason})" if pause.reason else "")


def resuming(address: str) -> str:
    """The command that ends a pause."""
    return f"reconciler resume {address}".strip()


# Open operations ----------------------------------------------------------------------------------------------------


def operation(state: State, op_id: str) -> Intent:
    """The journal row of that name. UsageError where there is none."""
    if op_id not in state.intents:
        known = did_you_mean(op_id, state.intents)
        raise UsageError(f"there is no operation {shown(op_id)}", hint=known or "reconciler ops list --all names them")
    return state.intents[op_id]


def candidates(
    state: State, intent: Intent, collection: Collection, seen: Mapping[str, Observed]
) -> tuple[Candidate, ...]:
    """What an open creation may have made, the likeliest first: nobody's yet, and not there before it was sent."""
    fresh = [
        Candidate(one, _match(collection, intent, one))
        for key, one in state.unowned(collection.name, seen).items()
        if key not in intent.known_before
    ]
    order = (Match.STRONG, Match.WEAK)
    return tuple(sorted((one for one in fresh if one.match in order), key=lambda one: order.index(one.match)))


def _match(collection: Collection, intent: Intent, seen: Observed) -> Match:
    match = collection.matches(intent.tag, intent.fields, seen)
    unsure = match is Match.NO and collection.resembles(intent.slot, intent.fields, seen)
    return Match.WEAK if unsure else match


def adopt(state: State, intent: Intent, collection: Collection, seen: Observed, deed: Deed) -> tuple[Event, ...]:
    """A person says what an open creation made.

    Without our mark it is recorded as the service shows it, and the rest as it was to be; what the service never shows
    is set again by the next apply.
    """
    _check_open(intent)
    if intent.verb != "create":
        raise Refused(
            f"operation {intent.op_id} is a {intent.verb}: it made nothing that could be adopted",
            hint=f"reconciler ops resolve {intent.op_id} --absent --reason TEXT closes it",
        )
    if row := state.owned.get(f"{collection.name}/{seen.id}"):
        raise Refused(f"{seen.id} belongs to {row.slot}", hint=f"reconciler state mv {row.slot} {intent.slot}")
    marked = collection.matches(intent.tag, intent.fields, seen) is Match.STRONG
    differing = () if marked else differs(intent, seen)
    if differing and not deed.reason.strip():
        raise Refused(
            f"{seen.id} is not what operation {intent.op_id} sent: {', '.join(differing)}",
            hint="say with --reason TEXT why it is the one all the same",
        )
    closed = replace(intent, phase=IntentPhase.ADOPTED, result_id=seen.id, by=PERSON, reason=deed.reason)
    row = intent.owned(seen.id, at=deed.at, inferred=not marked)
    if not marked:
        shown_too = overlaid(intent.fields, seen.fields)
        row = replace(row, last_applied={n: v for n, v in shown_too.items() if n not in collection.hidden})
    displaced = (replace(one, role=Role.RETIRED) for one in state.rows(intent.slot, Role.NEXT))
    return (*displaced, closed, row)


def absent(intent: Intent, deed: Deed) -> tuple[Event, ...]:
    """A person says that an open operation came to nothing, and why they know."""
    _check_open(intent)
    if not deed.reason.strip():
        raise UsageError(
            "it takes a reason to say that nothing was made", hint="--reason TEXT, which the journal keeps"
        )
    return (replace(intent, phase=IntentPhase.ABSENT, by=PERSON, reason=deed.reason),)


def differs(intent: Intent, seen: Observed) -> tuple[str, ...]:
    """The fields in which an object is not what was sent, as far as the service shows them."""
    return tuple(
        name
        for name, sent in sorted(intent.fields.items())
        if name in seen.fields and not within(sent, seen.fields[name])
    )


def overlaid(fields: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """These fields with the values that the service shows, as far as it does."""

    def over(value: Any, other: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            return {name: over(value[name], other[name]) if name in other else value[name] for name in value}
        return other

    return {name: over(value, seen[name]) if name in seen else value for name, value in fields.items()}


def _check_open(intent: Intent) -> None:
    if not intent.is_open:
        made = f" as {intent.result_id}" if intent.result_id else ""
        raise UsageError(f"operation {intent.op_id} is not open: it ended {intent.phase}{made}")


# Looking back -------------------------------------------------------------------------------------------------------


def history(state: State, slot: Slot | None = None) -> tuple[Intent, ...]:
    """The journal, oldest first: all of it, or of one slot or address under every name it had."""
    everything = sorted(state.intents.values(), key=lambda intent: (intent.at, intent.op_id))
    if slot is None:
        return tuple(everything)
    names, found = {slot}, []
    for intent in reversed(everything):
        if names & {intent.slot, Slot(intent.slot.address)}:
            found.append(intent)
            if intent.verb == MOVE:
                names.add(Slot(*intent.fields["from"]))
    return tuple(reversed(found))
