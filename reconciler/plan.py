"""Diff, graph and state to an ordered list of operations. Pure: the same inputs give the same plan.

One rule makes every replacement: create the next object, wait until it is ready, then let the old one go. A swap of
deployments, a new paid run and a new upload differ only in what their collection says about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from reconciler.diff import Change, Compared, differences
from reconciler.resource import (
    Action,
    Collection,
    Document,
    Known,
    Mark,
    Match,
    Observed,
    Part,
    Phase,
    Price,
    Request,
    Resource,
    Slot,
    marks,
)
from reconciler.state import Owned, Role, State, canonical, generation, tag

NO_PRICE = Price()
ATTEMPTS = 10  # marks of one generation that are looked for where the state may have lost count


class Verb(StrEnum):
    """What apply does for an operation."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    FORGET = "forget"  # the record goes, the object stays
    WAIT = "wait"
    NOTHING = "nothing"  # blocked: shown, never done


@dataclass(frozen=True)
class Operation:
    """One planned step. `after` names the operations it waits for; `why` is a reason that is no field.

    `part` with its `fields` (references resolved as far as they are known) is what a create sends; `request` is the one
    request of an update or a delete of `target_id`. `drops` are keys of rows that a create makes obsolete. `code` is
    the exit code a blocked operation stands for.
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


@dataclass(frozen=True)
class Note:
    """Something the plan leaves alone and a person may want to know."""

    about: str
    what: str
    hint: str = ""


@dataclass(frozen=True)
class Totals:
    """CNY: what the plan costs once, and per hour before and after. None is unknown."""

    once: Decimal | None
    hour_before: Decimal | None
    hour_after: Decimal | None


@dataclass(frozen=True)
class Plan:
    """The frozen list. Doing it (`apply.py`) and showing it (`render.py`) are two readers of the same value."""

    operations: tuple[Operation, ...]
    notes: tuple[Note, ...]
    totals: Totals

    @property
    def changes(self) -> tuple[Operation, ...]:
        """What differs from the manifests. Work that already goes on is not a change."""
        return tuple(op for op in self.operations if op.action is not Action.WAIT)

    @property
    def blocked(self) -> tuple[Operation, ...]:
        return tuple(op for op in self.operations if op.action is Action.BLOCKED)

    @property
    def work(self) -> tuple[Operation, ...]:
        """What apply has to do."""
        return tuple(op for op in self.operations if op.verb is not Verb.NOTHING)

    @property
    def fingerprint(self) -> str:
        """A name for exactly these operations."""
        facts = [[op.id, op.action, op.fields, op.target_id, op.after] for op in self.operations]
        return hashlib.sha256(canonical(facts).encode()).hexdigest()


@dataclass(frozen=True)
class Desired:
    """What the manifests declare: documents in graph order, and the parts of each address."""

    documents: tuple[Document, ...] = ()
    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """What the service showed: by collection, by id. An id that is absent was established to be absent."""

    objects: Mapping[str, Mapping[str, Observed]] = field(default_factory=dict)

    def get(self, row: Owned) -> Observed | None:
        return self.objects.get(row.collection, {}).get(row.id)


@dataclass(frozen=True)
class Choices:
    """What the operator decided. `unattended`: nobody is there to be asked for a consent."""

    destroy: bool = False
    prune: bool = False
    unattended: bool = False
    allow: frozenset[tuple[str, str]] = frozenset()
    replace: frozenset[str] = frozenset()


def make_plan(
    desired: Desired,
    state: State,
    world: World,
    collections: Mapping[str, Collection],
    choices: Choices,
) -> Plan:
    """Everything that would have to be done, in an order that can be followed from top to bottom."""
    draft = _Draft(desired, state, world, collections, choices)
    if not choices.destroy:
        for document in desired.documents:
            for part in desired.parts.get(document.address, ()):
                draft.plan_slot(document, part)
    draft.plan_leftovers()
    return Plan(tuple(draft.operations), draft.all_notes(), draft.totals())


class _Draft:
    """A plan while it is being made: what was decided for the slots before decides for those that refer to them."""

    def __init__(
        self,
        desired: Desired,
        state: State,
        world: World,
        collections: Mapping[str, Collection],
        choices: Choices,
    ) -> None:
        self.desired, self.state, self.world, self.choices = desired, state, world, choices
        self.collections = collections
        self.operations: list[Operation] = []
        self.notes: list[Note] = []
        self.settled_by: dict[Slot, str] = {}  # the operation after which a slot is as declared
        self.renewed: set[Slot] = set()  # slots whose outputs are known only after apply
        self.stuck: set[Slot] = set()  # slots that keep what they have, perhaps nothing
        self.superseded: dict[str, Owned] = {}  # rows a replacement lets go
        self.signed: dict[str, tuple[Observed, ...]] = {}
        self.unresolved = {intent.slot: intent for intent in state.open_intents() if intent.verb == Verb.CREATE}
        for document in desired.documents:
            former = f"{document.kind}/{document.metadata.moved_from}"
            for slot, intent in list(self.unresolved.items()):
                if slot.address == former:
                    self.unresolved.setdefault(Slot(document.address, slot.part), intent)

    # One slot ---------------------------------------------------------------------------------------------------

    def plan_slot(self, document: Document, part: Part) -> None:
        collection, head = self._collection_of(document, part), self._head(part.slot)
        if document.lifecycle.observe_only:
            self.notes.append(Note(str(part.slot), "is only observed"))
        elif part.slot in self.unresolved:
            intent = self.unresolved[part.slot]
            why = f"an earlier creation (operation {intent.op_id}, tag {intent.tag}) is not resolved"
            self._block(document, part, why, "reconciler apply looks for it before anything else", code=7)
        elif missing := self._missing(part):
            self._block(document, part, f"waits for {missing}, which has nothing to refer to", "")
        elif head is None:
            self._create(document, part, collection.created_as)
        elif head.role is Role.NEXT:
            self._plan_next(document, part, head)
        else:
            self._plan_current(document, part, head)

    def _plan_next(self, document: Document, part: Part, row: Owned) -> None:
        """The slot holds an object that was created and is not yet in use."""
        collection, observed = self._collection_of(document, part), self.world.get(row)
        again = document.address in self.choices.replace and not part.collection
        changed = self._differences(document, part, row, observed)
        action = collection.replaced_as if self.state.row(part.slot, Role.CURRENT) else collection.created_as
        if observed is None and (changed or again or collection.recreated_when_lost):
            self._replace(document, part, changed, action, lost=row)
        elif observed is None:
            self._block_failed(document, part, row, f"{row.id} is gone from the service")
        elif not row.failure and observed.phase is not Phase.FAILED:
            self._wait(document, part, row, observed)
        elif changed or again:
            self._replace(document, part, changed, action)
        else:
            self._block_failed(document, part, row, row.failure or _failure(observed))

    def _plan_current(self, document: Document, part: Part, row: Owned) -> None:
        """The slot holds an object in use."""
        collection, observed = self._collection_of(document, part), self.world.get(row)
        changed = self._differences(document, part, row, observed)
        fixed = {name for name, of in marks(type(document.spec)).items() if Mark.IMMUTABLE in of}
        again = document.address in self.choices.replace and not part.collection
        if again or any(collection.fixed or change.path[0] in fixed for change in changed):
            self._replace(document, part, changed, collection.replaced_as)
        elif observed is None and collection.recreated_when_lost:
            self._create(
                document, part, collection.created_as, why=f"{row.id} is gone from the service", drops=(row.key,)
            )
        elif observed is None:
            what = f"its record {row.id} is gone from the service; what it made is still referred to"
            self.notes.append(Note(str(part.slot), what, f"--replace {document.address} makes a new one"))
        elif observed.phase is Phase.FAILED:
            self._block_failed(document, part, row, _failure(observed))
        elif observed.phase is not Phase.READY:
            self._wait(document, part, row, observed)
            if observed.phase is Phase.PENDING:
                self._update(document, part, row, observed, changed)
        else:
            self._update(document, part, row, observed, changed)

    def _create(
        self,
        document: Document,
        part: Part,
        action: Action,
        *,
        reasons: tuple[Change, ...] = (),
        why: str = "",
        drops: tuple[str, ...] = (),
        needs_consent: bool = False,
    ) -> bool:
        """Whether it is planned: what the service has under our mark already is never made again."""
        collection = self._collection_of(document, part)
        fields = self._resolved(part)
        if twin := self._twin(part, collection, fields):
            why = f"{twin.id} has the mark that it would get, and the state does not know it"
            self._block(document, part, why, "reconciler state rebuild takes it in", reasons, code=7)
            return False
        operation = Operation(
            id=f"create {part.slot}",
            action=action,
            verb=Verb.CREATE,
            slot=part.slot,
            collection=collection.name,
            part=part,
            fields=fields,
            after=self._needed(part),
            reasons=reasons,
            why=why,
            drops=drops,
            deletion=document.lifecycle.deletion_policy or "",
            needs_consent=needs_consent,
            price=collection.price(part.fields, base=part.base, tokens=part.tokens),
        )
        self._add(operation, renews=True)
        return True

    def _twin(self, part: Part, collection: Collection, fields: Mapping[str, Any]) -> Observed | None:
        """What this creation would make, if it was made before and the record of it is lost."""
        if self.state.stamp is None or references_of(replace(part, fields=fields)):
            return None
        version = generation(collection.name, collection.lasting(fields))
        first = self.state.attempts(part.slot, version)
        marks = [tag(self.state.stamp, part.slot, version, number) for number in range(first, first + ATTEMPTS)]
        return next(
            (
                s
                for s in self._signed(collection)
                if any(collection.matches(m, fields, s) is Match.STRONG for m in marks)
            ),
            None,
        )

    def _signed(self, collection: Collection) -> tuple[Observed, ...]:
        """Objects of nobody's that carry a mark like ours."""
        if collection.name not in self.signed:
            objects = self.world.objects.get(collection.name, {})
            self.signed[collection.name] = tuple(
                seen
                for key, seen in sorted(objects.items())
                if f"{collection.name}/{key}" not in self.state.owned and collection.signed(seen)
            )
        return self.signed[collection.name]

    def _replace(
        self, document: Document, part: Part, changed: tuple[Change, ...], action: Action, *, lost: Owned | None = None
    ) -> None:
        """Create the next object beside the one in use, unless consent or the id stands in the way."""
        collection = self._collection_of(document, part)
        rebuys = action is Action.RUN and self.state.row(part.slot, Role.CURRENT) is not None
        allowed = ("retrain", document.address) in self.choices.allow or document.address in self.choices.replace
        consent = "Auto" if allowed or not rebuys else document.spec.consent  # type: ignore[attr-defined]
        if consent == "Never":
            self.stuck.add(part.slot)
            fields = ", ".join(sorted({change.path[0] for change in changed}))
            self.notes.append(Note(str(part.slot), f"stays on its run although {fields} changed", "retrain: Never"))
            return
        if consent == "Manual" and self.choices.unattended:
            hint = f"--allow retrain={document.address}, or answer the question of an interactive apply"
            self._block(document, part, "a new paid run needs consent (retrain: Manual)", hint, changed)
            return
        olds = [row for row in self.state.rows(part.slot) if row.role is not Role.RETIRED and row != lost]
        there = (old for old in olds if self.world.get(old))
        clash = next(filter(None, (collection.clash(part, old.last_applied) for old in there)), "")
        if clash:
            self._block(document, part, clash, "", changed)
            return
        why = f"{lost.id} is gone from the service" if lost else "" if changed else "asked for by --replace"
        drops = (lost.key,) if lost else ()
        asks = consent == "Manual"
        planned = self._create(document, part, action, reasons=changed, why=why, drops=drops, needs_consent=asks)
        if planned and not collection.keeps_superseded:
            self.superseded |= {old.key: old for old in olds}

    def _update(
        self, document: Document, part: Part, row: Owned, observed: Observed, changed: tuple[Change, ...]
    ) -> None:
        if not changed:
            return
        collection, names = self.collections[row.collection], frozenset(change.path[0] for change in changed)
        requests = collection.update(row.id, part, names)
        was, resolved = self._running(row), self._resolved(part)
        for number, request in enumerate(requests):
            last = number == len(requests) - 1
            price = collection.price(part.fields, base=part.base) if last else was
            operation = Operation(
                id=f"update {part.slot}" + (f" {number + 1}" if len(requests) > 1 else ""),
                action=Action.UPDATE,
                verb=Verb.UPDATE,
                slot=part.slot,
                collection=row.collection,
                part=part,
                fields={name: resolved[name] for name in resolved if name in names} if last else {},
                target_id=row.id,
                request=request,
                after=(*self._needed(part), *filter(None, (self.settled_by.get(part.slot),))),
                reasons=changed if number == 0 else (),
                was=was,
                price=price,
            )
            self._add(operation)

    def _wait(self, document: Document, part: Part, row: Owned, observed: Observed) -> None:
        changed = self._differences(document, part, row, observed) if row.role is Role.NEXT else ()
        operation = Operation(
            id=f"wait {part.slot}",
            action=Action.WAIT,
            verb=Verb.WAIT,
            slot=part.slot,
            collection=row.collection,
            part=part,
            fields=row.last_applied,
            target_id=row.id,
            reasons=changed,
            why=f"{row.id} is {observed.status or 'not ready'}",
            hint="what changed since is planned when it is done" if changed else "",
            was=self._costing(row),
            price=self._running(row),
        )
        self._add(operation, renews=row.role is Role.NEXT)
        current = self.state.row(part.slot, Role.CURRENT)
        if row.role is Role.NEXT and current is not None and not self.collections[row.collection].keeps_superseded:
            self.superseded[current.key] = current

    def _block_failed(self, document: Document, part: Part, row: Owned, why: str) -> None:
        hint = f"change its manifest, or --replace {document.address} to make it again"
        price = self._costing(row)
        if row.role is Role.NEXT and price.hour:
            hint += f"; {row.id} keeps running and costs {price.hour} CNY/h"
        self._block(document, part, why, hint, code=5)

    def _block(
        self, document: Document, part: Part, why: str, hint: str, reasons: tuple[Change, ...] = (), *, code: int = 3
    ) -> None:
        self.stuck.add(part.slot)
        operation = Operation(
            id=f"blocked {part.slot}",
            action=Action.BLOCKED,
            verb=Verb.NOTHING,
            slot=part.slot,
            collection=self._collection_of(document, part).name,
            part=part,
            reasons=reasons,
            why=why,
            hint=hint,
            code=code,
        )
        self.operations.append(operation)

    def _add(self, operation: Operation, *, renews: bool = False) -> None:
        self.operations.append(operation)
        self.settled_by[operation.slot] = operation.id
        if renews:
            self.renewed.add(operation.slot)

    # References -------------------------------------------------------------------------------------------------

    def _resolved(self, part: Part) -> dict[str, Any]:
        """The part's fields for comparison: by content where a reference has one, by id where it is settled."""
        return {name: self._resolve(value) for name, value in part.fields.items()}

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, Known):
            if value.digest:
                return value.digest
            row = self.state.row(value.slot, Role.CURRENT)
            return value if value.slot in self.renewed or row is None else row.outputs.get(value.output, value)
        if isinstance(value, tuple):
            return tuple(self._resolve(item) for item in value)
        return value

    def _needed(self, part: Part) -> tuple[str, ...]:
        slots = {known.slot for known in references_of(part)}
        return tuple(sorted(self.settled_by[slot] for slot in slots if slot in self.settled_by))

    def _missing(self, part: Part) -> str:
        """A slot this part refers to that has no object and gets none in this plan."""
        slots = sorted({known.slot for known in references_of(part)})
        lacking = (s for s in slots if s not in self.settled_by and self.state.row(s, Role.CURRENT) is None)
        return str(next(lacking, ""))

    def _differences(self, document: Document, part: Part, row: Owned, observed: Observed | None) -> tuple[Change, ...]:
        collection = self.collections[row.collection]
        foreign = collection.foreign(observed, row.outputs) if observed else frozenset()
        rules = Compared(marks(type(document.spec)), frozenset(document.lifecycle.ignore), foreign)
        return differences(part, self._resolved(part), row.last_applied, observed, rules)

    # What is no longer declared, or superseded -------------------------------------------------------------------

    def plan_leftovers(self) -> None:
        """Deletions, users before what they use: the order of creation reversed."""
        declared = {part.slot for parts in self.desired.parts.values() for part in parts}
        addresses = {document.address: document for document in self.desired.documents}
        going: dict[str, tuple[Owned, str]] = {}  # key -> row, policy
        for row in sorted(self.state.owned.values(), key=lambda row: row.key):
            kept = self.collections[row.collection].keeps_superseded
            document = addresses.get(row.slot.address)
            undeclared = document is None
            if document and document.lifecycle.observe_only:
                continue
            if self.choices.destroy or (undeclared and self.choices.prune):
                own = document.lifecycle.deletion_policy if document else None
                going[row.key] = (row, own or row.deletion)
            elif undeclared and (row.role is not Role.RETIRED or not kept):
                hint = "--prune lets it go as its deletionPolicy says"
                self.notes.append(Note(str(row.slot), f"{row.id} is ours and no manifest declares it", hint))
            elif not undeclared and not kept and (row.role is Role.RETIRED or row.slot not in declared):
                self.superseded[row.key] = row
        for key, row in self.superseded.items():
            going.setdefault(key, (row, "Delete"))
        for row, policy in self._users_first(going):
            self._let_go(row, policy, going)

    def _users_first(self, going: Mapping[str, tuple[Owned, str]]) -> Iterator[tuple[Owned, str]]:
        done: set[str] = set()

        def visit(key: str) -> Iterator[tuple[Owned, str]]:
            if key in done:
                return
            done.add(key)
            for user in sorted(self.state.users(key), key=lambda row: row.key):
                if user.key in going:
                    yield from visit(user.key)
            yield going[key]

        for key in sorted(going):
            yield from visit(key)

    def _let_go(self, row: Owned, policy: str, going: Mapping[str, tuple[Owned, str]]) -> None:
        """Delete, forget or refuse, after whatever still uses it is done with it. In use for good: it stays."""
        collection = self.collections[row.collection]
        after: list[str] = [self.settled_by[row.slot]] if row.slot in self.settled_by else []
        orphaned = False
        for user in self.state.users(row.key):
            planned = next(
                (
                    op
                    for op in self.operations
                    if op.target_id == user.id
                    and op.collection == user.collection
                    and op.verb in (Verb.DELETE, Verb.FORGET)
                ),
                None,
            )
            if user.key in going and planned is not None:
                after.append(planned.id)
                orphaned |= planned.verb is Verb.FORGET
            elif self._will_be_replaced(user):
                after.append(self.settled_by[user.slot])
            else:
                return
        policy = policy or ("Orphan" if orphaned else collection.deletion)
        gone = self.world.get(row) is None
        common = Operation(
            id=f"delete {row.slot} {row.id}",
            action=Action.SWAP
            if row.key in self.superseded and collection.replaced_as is Action.SWAP
            else Action.DELETE,
            verb=Verb.DELETE,
            slot=row.slot,
            collection=row.collection,
            target_id=row.id,
            after=tuple(sorted(set(after))),
            why="superseded" if row.key in self.superseded else "",
            was=self._costing(row),
        )
        if gone or policy == "Orphan" or (row.role is Role.RETIRED and collection.keeps_superseded):
            why = "already gone from the service" if gone else "stays on the service, no longer ours (Orphan)"
            operation = replace(
                common, id=f"forget {row.slot} {row.id}", action=Action.FORGET, verb=Verb.FORGET, why=why
            )
            operation = replace(operation, was=NO_PRICE, price=NO_PRICE)
        elif policy == "Protect":
            hint = "set deletionPolicy: Delete in its manifest and apply that first"
            operation = replace(
                common,
                id=f"blocked {row.slot} {row.id}",
                action=Action.BLOCKED,
                verb=Verb.NOTHING,
                why="protected: deletionPolicy is Protect",
                hint=hint,
                was=NO_PRICE,
                code=3,
            )
        else:
            operation = replace(common, request=collection.delete(row.id))
        self.operations.append(operation)

    def _will_be_replaced(self, user: Owned) -> bool:
        """Whether this plan puts another object in the place of this one. A NEXT that is waited for stays itself."""
        waited = any(op.verb is Verb.WAIT and op.target_id == user.id for op in self.operations)
        return user.slot in self.renewed and not waited

    # Sums -------------------------------------------------------------------------------------------------------

    def all_notes(self) -> tuple[Note, ...]:
        return (*sorted(self.notes, key=lambda note: (note.about, note.what)), *self._unmanaged())

    def _unmanaged(self) -> Iterator[Note]:
        """What the service holds beside ours; told with its price, never touched."""
        for name, objects in sorted(self.world.objects.items()):
            collection = self.collections[name]
            others = [seen for key, seen in sorted(objects.items()) if f"{name}/{key}" not in self.state.owned]
            if not others:
                continue
            hours = [_hourly(collection, seen) for seen in others]
            cost = _total(hours)
            price = "" if cost == 0 else f" ({'price unknown' if cost is None else f'{cost:,.2f} CNY/h'})"
            count = f"{len(others)} in {name}" if len(others) > 1 else f"1 in {name}, {others[0].id},"
            yield Note("", f"{count} that no manifest names{price}")

    def totals(self) -> Totals:
        before = [self._costing(row).hour for row in self.state.owned.values()]
        once = [op.price.once for op in self.operations if op.verb is Verb.CREATE]
        deltas = [_minus(op.price.hour, op.was.hour) for op in self.operations if op.verb is not Verb.NOTHING]
        hour_before = _total(before)
        return Totals(_total(once), hour_before, _total([hour_before, *deltas]))

    def _costing(self, row: Owned) -> Price:
        """What an object of ours costs an hour at this moment."""
        seen = self.world.get(row)
        return self._running(row) if seen and bills(seen) else NO_PRICE

    def _running(self, row: Owned) -> Price:
        """What it costs an hour as the service has it, once it runs."""
        seen = self.world.get(row)
        fields = {**row.last_applied, **(seen.fields if seen else {})}
        price = self.collections[row.collection].price(fields, base=row.base)
        return Price(hour=price.hour, basis=price.basis) if price.hour != 0 else NO_PRICE

    # Look-ups ---------------------------------------------------------------------------------------------------

    def _collection_of(self, document: Document, part: Part) -> Collection:
        spec = document.spec
        assert isinstance(spec, Resource)
        return self.collections[part.collection or spec.collection]

    def _head(self, slot: Slot) -> Owned | None:
        return self.state.row(slot, Role.NEXT) or self.state.row(slot, Role.CURRENT)


def references_of(part: Part) -> tuple[Known, ...]:
    """Every reference inside a part's fields."""
    return tuple(_known(part.fields.values()))


def _known(values: Iterable[Any]) -> Iterator[Known]:
    for value in values:
        if isinstance(value, Known):
            yield value
        elif isinstance(value, tuple | list):
            yield from _known(value)
        elif isinstance(value, Mapping):
            yield from _known(value.values())


def _failure(observed: Observed) -> str:
    return f"{observed.id} is {observed.status}" + (f": {observed.detail}" if observed.detail else "")


def bills(seen: Observed) -> bool:
    """Billing starts when it runs and goes on while it is resized; failed and stopped are free (contract §3.7)."""
    return seen.phase is Phase.READY or bool(seen.outputs.get("ready"))


def _hourly(collection: Collection, seen: Observed) -> Decimal | None:
    base = str(seen.outputs.get("base") or seen.fields.get("model", ""))
    return collection.price(seen.fields, base=base).hour if bills(seen) else Decimal(0)


def _minus(after: Decimal | None, before: Decimal | None) -> Decimal | None:
    return None if after is None or before is None else after - before


def _total(values: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for value in values:
        if value is None:
            return None
        total += value
    return total
