"""Finds objects by what a person types: a kind in any spelling, or `Kind/name`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from reconciler import engine
from reconciler.conditions import conditions
from reconciler.engine import Session, Snapshot
from reconciler.errors import UsageError
from reconciler.kinds import RESOURCES
from reconciler.render.state import Item, item
from reconciler.resource import Observed, Phase, Slot
from reconciler.selection import matching, terms
from reconciler.state import Owned, Role, State, live_rows
from reconciler.wait import Goal
from reconciler.wording import did_you_mean, shown, suggestion

Held = TypeVar("Held", Item, Owned)


def live(session: Session, snapshot: Snapshot, address: str = "") -> list[Item]:
    """Every slot that is declared or holds something, of one address if one is given; by kind and name."""
    rows = {row.slot: row for row in live_rows(snapshot.state) if row.role is Role.CURRENT}
    rows |= {row.slot: row for row in live_rows(snapshot.state) if row.role is Role.NEXT}
    current = [row for row in live_rows(snapshot.state) if row.role is Role.CURRENT and rows[row.slot] is not row]
    slots = {part.slot for parts in session.project.parts.values() for part in parts} | rows.keys()
    pairs: list[tuple[Slot, Owned | None]] = [(slot, rows.get(slot)) for slot in slots]
    pairs += [(row.slot, row) for row in current]
    told = conditions(session.desired, snapshot.plan, snapshot.state, snapshot.world, snapshot.held)
    known = {one.slot: one for one in told}
    found = [
        item(slot, row, snapshot.state, snapshot.world, session.collections) for slot, row in sorted(pairs, key=_order)
    ]
    found = [replace(one, condition=known.get(str(one.slot))) for one in found]
    return [one for one in found if not address or one.slot.address == address]


def _order(pair: tuple[Slot, Owned | None]) -> tuple[Slot, str]:
    return pair[0], pair[1].role.value if pair[1] else ""


def left_running(session: Session, snapshot: Snapshot) -> list[Item]:
    """What was superseded and still costs something an hour."""
    rows = [row for row in snapshot.state.owned.values() if row.role is Role.RETIRED]
    found = [
        item(row.slot, row, snapshot.state, snapshot.world, session.collections)
        for row in sorted(rows, key=lambda row: row.key)
    ]
    return [one for one in found if one.hour != 0]


def retired(session: Session, snapshot: Snapshot, address: str) -> list[Item]:
    """What an address held before, newest first."""
    rows = [row for row in snapshot.state.owned.values() if row.slot.address == address and row.role is Role.RETIRED]
    rows.sort(key=lambda row: row.applied_at, reverse=True)
    return [item(row.slot, row, snapshot.state, snapshot.world, session.collections) for row in rows]


def labelled(items: list[Held], session: Session, written: Sequence[str]) -> list[Held]:
    """Those whose documents have labels that meet these conditions; all of them where none is given."""
    conditions = [term for one in written for term in terms(one)]
    chosen = matching(session.project.documents, conditions)
    return [one for one in items if one.slot.address in chosen] if conditions else items


def kind_named(word: str) -> str:
    """The kind that `deployment`, `Deployments` or `DEPLOYMENT` means. UsageError for anything else."""
    for name in RESOURCES:
        if word.lower() in (name.lower(), f"{name.lower()}s"):
            return name
    raise UsageError(f"there is no kind {shown(word)}", hint=suggestion(word, RESOURCES))


def address_named(word: str, session: Session, state: State) -> str:
    """`Kind/name` of something that is declared or owned, its kind in any spelling. UsageError for anything else."""
    kind, slash, name = word.partition("/")
    if not slash:
        raise UsageError(f"{shown(word)} names no object", hint="write KIND/NAME")
    address = f"{kind_named(kind)}/{name}"
    known = {document.address for document in session.project.documents}
    known |= {row.slot.address for row in state.owned.values()} | {i.slot.address for i in state.intents.values()}
    if address not in known:
        raise UsageError(f"there is no {shown(address)}", hint=did_you_mean(address, known))
    return address


def logged(word: str, session: Session, state: State) -> tuple[str, Owned]:
    """The address and the object whose log is meant: what is under way, else what is in use. Else UsageError."""
    address = address_named(word, session, state)
    row = object_of(address, state, Role.NEXT, Role.CURRENT)
    if session.collections[row.collection].logs(row.id, 0) is None:
        raise UsageError(f"{address} keeps no log", hint="fine-tune jobs do")
    return address, row


def awaited(words: Iterable[str], session: Session, goal: Goal) -> tuple[Owned, ...]:
    """What is to be waited for: of the addresses meant, else all there is. UsageError where one holds nothing."""
    state = session.store.load()
    addresses = [address_named(word, session, state) for word in words]
    rows = engine.awaited(session, goal, addresses)
    for address in addresses:
        if not any(row.slot.address == address for row in rows):
            raise UsageError(f"{address} holds nothing yet", hint="reconciler apply makes it")
    return rows


def cancelable(word: str, session: Session, state: State) -> tuple[str, Owned]:
    """The address and the object that may be under way and can be stopped then. Else UsageError."""
    address = address_named(word, session, state)
    row = object_of(address, state, Role.NEXT, Role.CURRENT)
    if session.collections[row.collection].cancel(Observed(row.id, Phase.PENDING, "")) is None:
        raise UsageError(
            f"{address} is nothing that can be canceled", hint="fine-tune jobs can, while they are under way"
        )
    return address, row


def object_of(address: str, state: State, *roles: Role) -> Owned:
    """The one object an address holds, by the first of `roles` that it has. UsageError where it holds none, or many."""
    for role in roles:
        rows = [row for row in state.owned.values() if row.slot.address == address and row.role is role]
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise UsageError(f"{address} holds {len(rows)} objects", hint="this needs one")
    raise UsageError(f"{address} holds nothing yet", hint="reconciler apply makes it")
