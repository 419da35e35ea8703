"""What we own, found again after the record of it was lost: by the marks on the service, recomputed from the manifests.

Reads only, and proposes rows; whoever asked for it commits them. A mark proves what an object was made from: it is a
hash of just that. Where marks prove nothing, or prove too much, a person decides: the slot gets an open operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from reconciler.discover import signed
from reconciler.plan import ATTEMPTS, Desired, World, references_of
from reconciler.resource import Collection, Document, Known, Match, Observed, Part, Phase, Resource, Slot
from reconciler.state import PERSON, Event, Gone, Intent, IntentPhase, Owned, Role, State, canonical, generation, tag
from reconciler.surgery import Deed, overlaid

Read = Callable[[Collection, str], Observed | None]


class Found(NamedTuple):
    """An object that is ours by its mark. `declared`: it was made from what the manifests say now."""

    row: Owned
    intent: Intent
    declared: bool


class Undecided(NamedTuple):
    """A slot for a person to decide, by `intent` where there is one."""

    slot: Slot
    why: str
    candidates: tuple[Observed, ...] = ()
    intent: Intent | None = None


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild records, and what it could not tell. `strays` carry a mark like ours and belong to no slot."""

    found: tuple[Found, ...] = ()
    undecided: tuple[Undecided, ...] = ()
    missing: tuple[Slot, ...] = ()
    strays: tuple[tuple[str, Observed], ...] = ()
    lost: tuple[Owned, ...] = ()

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything to be committed, at once."""
        rows = [event for found in self.found for event in (found.intent, found.row)]
        asked = [one.intent for one in self.undecided if one.intent]
        return (*(Gone(row.key) for row in self.lost), *rows, *asked)

    @property
    def summary(self) -> tuple[object, ...]:
        """What was shown to a person, for comparison with what is found when it is done."""
        return (
            tuple((found.row.key, found.row.slot, found.row.role) for found in self.found),
            tuple((one.slot, tuple(seen.id for seen in one.candidates)) for one in self.undecided),
            tuple(row.key for row in self.lost),
        )


def rebuild(
    desired: Desired, state: State, world: World, collections: Mapping[str, Collection], read: Read, deed: Deed
) -> Rebuilt:
    """Every declared slot that lacks what the service has for it. Nothing that is recorded and there is touched."""
    search = _Search(desired, state, world, collections, read, deed)
    wanted = [
        (document, part)
        for document in desired.documents
        if not document.lifecycle.observe_only
        for part in desired.parts.get(document.address, ())
    ]
    for document, part in wanted:
        search.by_marks(document, part)
    for document, part in wanted:
        search.by_looks(document, part)
    return search.result()


class _Marked(NamedTuple):
    """An object whose mark says what it was made from, and for which slot."""

    seen: Observed
    fields: Mapping[str, Any]
    generation: str
    tag: str
    attempt: int
    declared: bool


@dataclass
class _Search:
    """The state while it is found again: what was found for the slots before decides for those that refer to them."""

    desired: Desired
    state: State
    world: World
    collections: Mapping[str, Collection]
    read: Read
    deed: Deed
    found: list[Found] = field(default_factory=list)
    undecided: list[Undecided] = field(default_factory=list)
    missing: list[Slot] = field(default_factory=list)
    lost: list[Owned] = field(default_factory=list)
    contested: dict[Slot, tuple[Observed, ...]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    # By marks ---------------------------------------------------------------------------------------------------

    def by_marks(self, document: Document, part: Part) -> None:
        collection = self._collection_of(document, part)
        if self._open(part.slot):
            return
        marked = [
            one
            for seen in self._unowned(collection, part)
            if (one := self._identified(document, part, collection, seen))
        ]
        exact, older = [m for m in marked if m.declared], [m for m in marked if not m.declared]
        roles = self._roles(part.slot, collection, exact, older) if marked else ()
        if roles is None:
            self.contested[part.slot] = tuple(one.seen for one in marked)
            return
        for one, role in roles:
            self._record(document, part, collection, one, role)

    def _roles(
        self, slot: Slot, collection: Collection, exact: list[_Marked], older: list[_Marked]
    ) -> list[tuple[_Marked, Role]] | None:
        """Which object is what to its slot; None where that would be a guess."""
        rows = [row for row in self.state.rows(slot) if row.role is not Role.RETIRED]
        if rows:
            return self._beside(rows, exact)
        running = collection.slow and not collection.keeps_superseded  # putting the wrong one away stops a service
        if len(exact) > 1 or (len(older) > 1 and (not exact or running)):
            return None
        if not exact:
            return [(older[0], _role(older[0].seen))]
        first, ready = exact[0], [one for one in older if one.seen.phase is Phase.READY]
        if first.seen.phase is Phase.READY and not (running and ready):
            return [(first, Role.CURRENT), *((one, Role.RETIRED) for one in older)]
        return [(first, Role.NEXT), *((one, Role.CURRENT) for one in ready if len(ready) == 1)]

    def _beside(self, rows: list[Owned], exact: list[_Marked]) -> list[tuple[_Marked, Role]] | None:
        """The slot has a record already, of before: what is declared now stands beside it, once."""
        waiting = [row for row in rows if row.role is Role.NEXT]
        gone = [row for row in waiting if self.world.get(row) is None]
        if not exact or any(self.world.get(row) and self._same(row, exact[0]) for row in rows):
            return []  # what else has its mark is a run of before
        if len(exact) > 1 or len(gone) < len(waiting):
            return None
        self.lost += gone
        self.state = self.state.fold([Gone(row.key) for row in gone])
        return [(exact[0], Role.NEXT)]

    def _same(self, row: Owned, one: _Marked) -> bool:
        lasting = self.collections[row.collection].lasting
        return canonical(lasting(row.last_applied)) == canonical(lasting(one.fields))

    def _identified(self, document: Document, part: Part, collection: Collection, seen: Observed) -> _Marked | None:
        stamp, former = self.state.stamp, document.metadata.moved_from
        assert stamp is not None
        names = [part.slot] + ([Slot(f"{document.kind}/{former}", part.slot.part)] if former else [])
        for fields, declared in self._versions(part, seen):
            version = generation(collection.name, collection.lasting(fields))
            for slot in names:
                for attempt in range(ATTEMPTS):
                    mark = tag(stamp, slot, version, attempt)
                    if collection.matches(mark, fields, seen) is Match.STRONG:
                        return _Marked(seen, fields, version, mark, attempt, declared)
        return None

    def _versions(self, part: Part, seen: Observed) -> Iterator[tuple[dict[str, Any], bool]]:
        """What an object may have been made from, and whether that is what is declared now.

        First as declared; then with the data that its references hold, and with what the service shows.
        """
        declared, earlier = self._resolved(part), self._resolved(part, earlier=True)
        candidates = (declared, earlier, overlaid(declared, seen.fields), overlaid(earlier, seen.fields))
        for number, fields in enumerate(candidates):
            if not any(references_of(replace(part, fields=fields))):
                yield fields, number == 0

    def _record(self, document: Document, part: Part, collection: Collection, one: _Marked, role: Role) -> None:
        seen = one.seen
        if collection.stale(seen, {}):
            seen = self.read(collection, seen.id) or seen
        changed = {n: seen.fields[n] for n in collection.changeable if n in seen.fields and n in one.fields}
        intent = Intent(
            op_id=f"{self.deed.op_id}-{len(self.found)}",
            slot=part.slot,
            collection=collection.name,
            verb="create",
            generation=one.generation,
            tag=one.tag,
            attempt=one.attempt,
            epoch=self.deed.epoch,
            at=self.deed.at,
            fields={**one.fields, **changed},
            uses=self._uses(part, one.fields),
            deletion=document.lifecycle.deletion_policy or "",
            base=part.base,
            phase=IntentPhase.ADOPTED,
            result_id=seen.id,
            by=PERSON,
            reason="rebuilt from its mark",
        )
        failure = " ".join(filter(None, (seen.status, seen.detail))) if seen.phase is Phase.FAILED else ""
        row = replace(
            intent.owned(seen.id, at=str(seen.outputs.get("created", self.deed.at))),
            role=role,
            outputs=dict(seen.outputs),
            failure=failure if role is Role.NEXT else "",
        )
        self.found.append(Found(row, intent, one.declared))
        self.state = self.state.fold([row])

    # By looks ---------------------------------------------------------------------------------------------------

    def by_looks(self, document: Document, part: Part) -> None:
        """Of what no mark could decide: ask a person where something may be it, else there is nothing."""
        slot, collection = part.slot, self._collection_of(document, part)
        if intent := self._open(slot):
            self.undecided.append(Undecided(slot, f"operation {intent.op_id} is open", (), None))
            return
        if slot not in self.contested and self.state.head(slot):
            return
        fields = self._resolved(part)
        waits = [known.slot for known in references_of(replace(part, fields=fields))]
        seen = self.contested.get(slot) or tuple(
            one for one in self._unowned(collection, part) if collection.resembles(slot, fields, one)
        )
        self.asked |= {f"{collection.name}/{one.id}" for one in seen}
        if unsure := next((one for one in waits if any(one == other.slot for other in self.undecided)), None):
            self.undecided.append(Undecided(slot, f"it is made from {unsure}, which has to be decided first", seen))
        elif seen and waits:
            self.undecided.append(Undecided(slot, f"it is made from {waits[0]}, of which there is nothing", seen))
        elif seen:
            why = "several carry its mark" if slot in self.contested else "no mark proves it, and this may be it"
            self.undecided.append(Undecided(slot, why, seen, self._question(document, part, fields, why, seen)))
        else:
            self.missing.append(slot)

    def _question(
        self, document: Document, part: Part, fields: dict[str, Any], why: str, seen: tuple[Observed, ...]
    ) -> Intent:
        """An open operation that keeps the slot from being made again until a person has decided.

        Without a tag: it was never sent, so that nothing decides it but a person.
        """
        collection = self._collection_of(document, part)
        version = generation(collection.name, collection.lasting(fields))
        return Intent(
            op_id=f"{self.deed.op_id}-u{len(self.undecided)}",
            slot=part.slot,
            collection=collection.name,
            verb="create",
            generation=version,
            tag="",
            attempt=self.state.attempts(part.slot, version),
            epoch=self.deed.epoch,
            at=self.deed.at,
            fields=fields,
            uses=self._uses(part, fields),
            deletion=document.lifecycle.deletion_policy or "",
            base=part.base,
            phase=IntentPhase.NEEDS_HUMAN,
            reason=f"the state was rebuilt: {why}, {', '.join(one.id for one in seen)}"[:300],
        )

    def result(self) -> Rebuilt:
        others = signed(self.state, self.world, self.collections)
        strays = [(name, seen) for name, seen in others if f"{name}/{seen.id}" not in self.asked]
        return Rebuilt(tuple(self.found), tuple(self.undecided), tuple(self.missing), tuple(strays), tuple(self.lost))

    # Look-ups ---------------------------------------------------------------------------------------------------

    def _unowned(self, collection: Collection, part: Part) -> list[Observed]:
        """What may belong to nobody yet; of a collection without a list, what would have the id of this part."""
        seen = dict(self.world.objects.get(collection.name, {}))
        fields = self._resolved(part)
        if not any(references_of(replace(part, fields=fields))) and (named := collection.named(fields)):
            one = self.read(collection, named)
            seen |= {named: one} if one else {}
        return list(self.state.unowned(collection.name, seen).values())

    def _resolved(self, part: Part, *, earlier: bool = False) -> dict[str, Any]:
        """The part's fields by content, as an apply records them; a reference to nothing stays one."""

        def resolve(value: Any) -> Any:
            if isinstance(value, Known):
                row = self.state.row(value.slot, Role.CURRENT)
                if value.digest and not earlier:
                    return value.digest
                return self._value(row, value) if row else value
            return [resolve(item) for item in value] if isinstance(value, tuple | list) else value

        return {name: resolve(value) for name, value in part.fields.items()}

    def _value(self, row: Owned, known: Known) -> Any:
        """What a reference to this very object is recorded as."""
        if not known.digest:
            return row.outputs.get(known.output, known)
        parts = self.desired.parts.get(known.slot.address, ())
        fields = next((part.fields for part in parts if part.slot == known.slot), {})
        name = next((name for name, value in fields.items() if value == known.digest), "")
        return row.last_applied.get(name, known.digest)

    def _uses(self, part: Part, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys of the objects that these fields were filled from."""
        values = list(_leaves(fields.values()))
        knowns = references_of(part)
        return tuple(sorted({r.key for k in knowns for r in self.state.rows(k.slot) if self._value(r, k) in values}))

    def _open(self, slot: Slot) -> Intent | None:
        return next((i for i in self.state.open_intents() if i.slot == slot and i.verb == "create"), None)

    def _collection_of(self, document: Document, part: Part) -> Collection:
        assert isinstance(document.spec, Resource)
        return self.collections[part.collection or document.spec.collection]


def _role(seen: Observed) -> Role:
    return Role.CURRENT if seen.phase is Phase.READY else Role.NEXT


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Mapping):
            yield from _leaves(value.values())
        elif isinstance(value, tuple | list):
            yield from _leaves(value)
        else:
            yield value
