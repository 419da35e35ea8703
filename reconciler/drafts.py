"""Manifests for what the account holds and nobody declares: which objects, under which names, and what is left alone.

Pure. A draft declares just what the service shows, so that its first plan is empty; it never lets an object be made
again (`adoption: Required`), nor deleted (`deletionPolicy: Orphan`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from reconciler.plan import Desired, World, hourly, open_maker
from reconciler.resource import API_VERSION, Collection, Json, Observed, Phase, Source
from reconciler.state import Role, State

LIFECYCLE: Mapping[str, str] = {"adoption": "Required", "deletionPolicy": "Orphan"}
_NAME_MAX = 50  # of the 63 that a name may have: what makes it unique is added


@dataclass(frozen=True)
class Draft:
    """A manifest for one object. `dropped` are fields that the service shows and no manifest can say."""

    kind: str
    name: str
    collection: str
    seen: Observed
    spec: Json
    hour: Decimal | None
    dropped: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def key(self) -> str:
        return f"{self.collection}/{self.seen.id}"

    @property
    def file(self) -> str:
        """Its path below the folder of all drafts."""
        return f"{self.collection}/{self.name}.yaml"

    @property
    def body(self) -> dict[str, Any]:
        """The document."""
        head = {"apiVersion": API_VERSION, "kind": self.kind, "metadata": {"name": self.name}}
        return {**head, "spec": dict(self.spec), "lifecycle": dict(LIFECYCLE)}


@dataclass(frozen=True)
class Left:
    """An object that no draft declares, and why."""

    collection: str
    id: str
    why: str
    hour: Decimal | None


@dataclass(frozen=True)
class Account:
    """What is recorded, declared and there; `kinds` names the kind of each collection. `marked`: take those in too."""

    state: State
    desired: Desired
    world: World
    collections: Mapping[str, Collection]
    kinds: Mapping[str, str]
    marked: bool = False

    def unmanaged(self) -> Iterator[tuple[Collection, Observed]]:
        """By kind, then in the order in which they were made."""
        for name in sorted(self.world.objects, key=lambda name: (self.kinds[name], name)):
            others = self.state.unowned(name, self.world.objects[name]).values()
            for seen in sorted(others, key=lambda seen: (str(seen.outputs.get("created", "")), seen.id)):
                yield self.collections[name], seen


@dataclass(frozen=True)
class Drafts:
    """What can be declared, and what is left alone."""

    drafts: tuple[Draft, ...] = ()
    left: tuple[Left, ...] = field(default=())


def drafts(account: Account, sources: Mapping[str, Source], refused: Mapping[str, str]) -> Drafts:
    """A draft for every object that nobody manages, by name. `sources` say by its key where the content of one lies.

    `refused` are keys that are left alone, and why. What refers to one of these names it by its id.
    """
    why = dict(refused)
    for collection, seen in account.unmanaged():
        if said := _unfit(account, collection, seen):
            why[_key(collection, seen)] = said
    while True:
        names = _named(account, why)
        specs = {key: _spec(account, key, seen, names, sources) for key, seen in _fit(account, why)}
        fresh = {key: spec for key, spec in specs.items() if isinstance(spec, str)}
        if not fresh:
            break
        why |= fresh
    made, left = [], []
    for collection, seen in account.unmanaged():
        key, hour = _key(collection, seen), hourly(collection, seen)
        if key in why:
            left.append(Left(collection.name, seen.id, why[key], hour))
        else:
            spec = specs[key]
            assert not isinstance(spec, str)
            kind, dropped = account.kinds[collection.name], tuple(_dropped(seen.fields, spec))
            made.append(Draft(kind, names.own[key], collection.name, seen, spec, hour, dropped))
    return Drafts(tuple(made), tuple(left))


def _key(collection: Collection, seen: Observed) -> str:
    return f"{collection.name}/{seen.id}"


def _fit(account: Account, why: Mapping[str, str]) -> Iterator[tuple[str, Observed]]:
    for collection, seen in account.unmanaged():
        if (key := _key(collection, seen)) not in why:
            yield key, seen


def _unfit(account: Account, collection: Collection, seen: Observed) -> str:
    if seen.phase is Phase.FAILED:
        return f"is {seen.status}: there is nothing in it to manage"
    if seen.phase is Phase.UNKNOWN:
        return f"has the status {seen.status or '(none)'}, which this program does not know"
    if maker := open_maker(account.state, collection, seen):
        return f"operation {maker.op_id} is open and may have made it: reconciler ops show {maker.op_id}"
    if collection.claimed(seen) and not account.marked:
        return "carries a mark like those that stacks give: --marked takes it in, if no other stack has it"
    return ""


def _spec(account: Account, key: str, seen: Observed, names: _Named, sources: Mapping[str, Source]) -> Json | str:
    return account.collections[key.partition("/")[0]].spec(seen, names.to_refer, sources.get(key))


def _dropped(shown: Mapping[str, Any], spec: Json) -> Iterator[str]:
    for name, value in sorted(shown.items()):
        if name not in spec:
            yield name
        elif isinstance(value, Mapping) and isinstance(spec[name], Mapping):
            yield from (f"{name}.{inner}" for inner in sorted(value.keys() - spec[name].keys()))


# Names --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Named:
    """The names of drafts by key, and by kind what others may refer to: an id or a model, and the name behind it."""

    own: Mapping[str, str]
    to_refer: Mapping[str, Mapping[str, str]]


def _named(account: Account, why: Mapping[str, str]) -> _Named:
    own: dict[str, str] = {}
    to_refer: dict[str, dict[str, str]] = {}
    taken = {document.address for document in account.desired.documents}
    taken |= {row.slot.address for row in account.state.owned.values()}
    for row in account.state.owned.values():
        kind, _, name = row.slot.address.partition("/")
        if row.role is Role.CURRENT and len(account.desired.parts.get(row.slot.address, ())) == 1:
            to_refer.setdefault(kind, {}).update(_outputs(row.outputs, name))
    for key, seen in _fit(account, why):
        collection = account.collections[key.partition("/")[0]]
        kind = account.kinds[collection.name]
        own[key] = name = _unique(kind, _plain(collection.label(seen)), taken)
        taken.add(f"{kind}/{name}")
        to_refer.setdefault(kind, {}).update(_outputs({"id": seen.id, **seen.outputs}, name))
    return _Named(own, to_refer)


def _outputs(outputs: Mapping[str, Any], name: str) -> dict[str, str]:
    return {str(outputs[one]): name for one in ("id", "model") if outputs.get(one)}


def _plain(label: str) -> str:
    """As much of a label as a name may hold: "" of a Chinese one."""
    latin = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", latin)[:_NAME_MAX].strip("-")


def _unique(kind: str, name: str, taken: Iterable[str]) -> str:
    """`support`, then `support-2`; without a name `dataset-1`."""
    number, stem = (2, name) if name else (1, kind.lower())
    found = name or f"{stem}-1"
    while f"{kind}/{found}" in taken:
        found, number = f"{stem}-{number}", number + 1
    return found
