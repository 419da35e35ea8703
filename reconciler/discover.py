"""What the service holds that nobody here asked for or still needs, and what it costs an hour. Pure.

The service tells of no deployment whether anybody calls it. So only what follows from the record and the manifests is
told as idle, and nothing is ever concluded from silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from reconciler.plan import Desired, Verb, World, hourly, words_of
from reconciler.resource import Collection, Match, Observed, Slot
from reconciler.state import Intent, Owned, Role, State

UNMANAGED, IDLE, UNREFERENCED = "unmanaged", "idle", "unreferenced"


@dataclass(frozen=True)
class Find:
    """One object worth a look: which of the three it is, why, and what it costs an hour; None is not known."""

    sort: str
    collection: str
    id: str
    why: str
    status: str
    created: str
    hour: Decimal | None

    @property
    def billable(self) -> bool:
        return self.hour != 0


def discover(desired: Desired, state: State, world: World, collections: Mapping[str, Collection]) -> tuple[Find, ...]:
    """Everything worth a look, what costs most first; what costs nobody knows how much before it all."""
    found = [
        *_unmanaged(state, world, collections),
        *_idle(desired, state, world, collections),
        *_unreferenced(desired, state, world, collections),
    ]
    order = {UNMANAGED: 0, IDLE: 1, UNREFERENCED: 2}
    dear = [(one.hour is not None, -(one.hour or 0), order[one.sort], one.collection, one.id) for one in found]
    return tuple(one for _, one in sorted(zip(dear, found, strict=True), key=lambda pair: pair[0]))


def silent(world: World, collections: Mapping[str, Collection]) -> int:
    """How many objects should show what they were made from and do not: what they use is not known."""
    telling = [name for name, collection in collections.items() if "echo" in collection.facts]
    shown = (seen for name in telling for seen in world.objects.get(name, {}).values())
    return sum(1 for seen in shown if "inputs" not in seen.outputs)


@dataclass(frozen=True)
class Orphan:
    """An object with a mark of the form of ours that no row of the state has. `hour` is what it costs; None: unknown.

    `owner` is the slot whose mark it carries, and `operation` the creation that may have made it, where they are known.
    """

    collection: str
    seen: Observed
    hour: Decimal | None
    owner: Slot | None = None
    operation: Intent | None = None


@dataclass(frozen=True)
class Orphans:
    """The objects, and the operations whose outcome nobody knows or that were given up lately."""

    objects: tuple[Orphan, ...]
    open: tuple[Intent, ...]
    given_up: tuple[Intent, ...]


def orphans(state: State, world: World, collections: Mapping[str, Collection], owners: Mapping[str, Slot]) -> Orphans:
    """What carries such a mark and is recorded nowhere. `owners`: whose mark it is, by key, as a rebuild finds it."""
    unsettled, given_up = state.open_intents(), state.given_up(world.at)
    found = [
        Orphan(
            name,
            seen,
            hourly(collections[name], seen),
            owners.get(f"{name}/{seen.id}"),
            next((one for one in (*unsettled, *given_up) if _made(one, collections[name], seen)), None),
        )
        for name, seen in signed(state, world, collections)
    ]
    return Orphans(tuple(found), unsettled, given_up)


def signed(state: State, world: World, collections: Mapping[str, Collection]) -> Iterator[tuple[str, Observed]]:
    """Objects of nobody's with a mark of the form that ours have, whoever gave it."""
    for name, objects in sorted(world.objects.items()):
        for seen in state.unowned(name, objects).values():
            if collections[name].signed(seen):
                yield name, seen


def _made(intent: Intent, collection: Collection, seen: Observed) -> bool:
    """Whether this creation, whose outcome nobody knows or that was given up, is told by the mark to have made it."""
    if intent.verb != Verb.CREATE or intent.collection != collection.name or seen.id in intent.known_before:
        return False
    return collection.matches(intent.tag, intent.fields, seen) is Match.STRONG


def _unmanaged(state: State, world: World, collections: Mapping[str, Collection]) -> Iterator[Find]:
    for name, objects in world.objects.items():
        for seen in state.unowned(name, objects).values():
            yield _find(UNMANAGED, collections[name], seen, "not ours")


def _idle(desired: Desired, state: State, world: World, collections: Mapping[str, Collection]) -> Iterator[Find]:
    declared = {part.slot for parts in desired.parts.values() for part in parts}
    for row in state.owned.values():
        seen = world.get(row)
        why = _needless(row, declared=row.slot in declared)
        if seen is None or not why:
            continue
        find = _find(IDLE, collections[row.collection], seen, f"{row.slot} {why}", base=row.base)
        if find.billable:
            yield find


def _needless(row: Owned, *, declared: bool) -> str:
    if row.failure:
        return "failed and was never put in use"
    if row.role is Role.RETIRED:
        return "was superseded and is still there"
    return "" if declared else "is ours, and no manifest declares it"


def _unreferenced(
    desired: Desired, state: State, world: World, collections: Mapping[str, Collection]
) -> Iterator[Find]:
    wanted = {key.partition("/")[2] for row in state.owned.values() for key in row.uses}
    wanted |= {str(one) for seen in _all(world) for one in seen.outputs.get("inputs", ())}
    wanted |= {word for parts in desired.parts.values() for part in parts for word in words_of(part.fields)}
    for name in (name for name in world.objects if collections[name].material):
        for remote_id, seen in world.objects[name].items():
            if remote_id not in wanted:
                row = state.owned.get(f"{name}/{remote_id}")
                why = f"nothing refers to it{f'; it is {row.slot}' if row else ', and it is not ours'}"
                yield _find(UNREFERENCED, collections[name], seen, why)


def _find(sort: str, collection: Collection, seen: Observed, why: str, base: str = "") -> Find:
    created = str(seen.outputs.get("created", "")).replace("T", " ")
    return Find(sort, collection.name, seen.id, why, seen.status, created, hourly(collection, seen, base))


def _all(world: World) -> Iterator[Observed]:
    for objects in world.objects.values():
        yield from objects.values()
