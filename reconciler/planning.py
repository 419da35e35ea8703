"""Every decision of a plan, slot by slot: what is declared beside what is recorded and what the service shows. Pure.

One rule makes every replacement: create the next object, wait until it is ready, then let the old one go. A swap of
deployments, a new paid run and a new upload differ only in what their collection says about it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from reconciler import money
from reconciler.diff import Change, Compared, differences, spared
from reconciler.plan import (
    ATTEMPTS,
    NO_PRICE,
    SUPERSEDED,
    VANISHED_HINT,
    Choices,
    Desired,
    Note,
    Operation,
    Plan,
    Totals,
    Verb,
    World,
    bills,
    contains_reference,
    hourly,
    kept,
    open_maker,
    references_of,
    sums,
    vanished,
    words_of,
    young,
)
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
    Resource,
    Slot,
    marks,
    within,
)
from reconciler.selection import select
from reconciler.state import Intent, IntentPhase, Owned, Role, State, generation, tag
from reconciler.surgery import paused_since, resuming

_UNHEARD = ", a status this program does not know: nothing is done about it"
_VANISHED = "is gone from the service, and so is most of what is ours: is this the right account and workspace?"


def make_plan(
    desired: Desired,
    state: State,
    world: World,
    collections: Mapping[str, Collection],
    choices: Choices,
) -> Plan:
    """Everything that would have to be done, in an order that can be followed from top to bottom.

    Raises UsageError for a selector that names nothing.
    """
    draft = _Draft(desired, state, world, collections, choices)
    if not choices.destroy:
        for document in desired.documents:
            if draft.is_about(document.address):
                for part in desired.parts.get(document.address, ()):
                    draft.plan_slot(document, part)
    draft.plan_leftovers()
    draft.plan_late()
    return Plan(tuple(draft.operations), draft.all_notes(), draft.totals(), draft.selection)


@dataclass(frozen=True)
class _Search:
    """What may be the object of a slot that holds nothing: by all that it shows, or by nothing that rules it out."""

    proven: tuple[Observed, ...] = ()
    possible: tuple[Observed, ...] = ()


class _Leaving(NamedTuple):
    """An object that is to be let go, under which policy, and why if it is not because nobody declares it."""

    row: Owned
    policy: str
    why: str = ""


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
        self.selection = select(desired.documents, state, choices.selectors, destroy=choices.destroy)
        self.operations: list[Operation] = []
        self.notes: list[Note] = []
        self.settled_by: dict[Slot, str] = {}  # the operation after which a slot is as declared
        self.renewed: set[Slot] = set()  # slots whose outputs are known only after apply
        self.superseded: dict[str, Owned] = {}  # rows a replacement lets go
        self.recognised: dict[Slot, tuple[str, Observed]] = {}  # what is taken in because it is as declared
        self.waited: set[str] = set()  # keys of what is waited for
        self.goings: dict[str, Operation] = {}  # what lets an object go, by its key
        self.free: dict[str, tuple[Observed, ...]] = {}  # what is nobody's, by collection
        self.signed: dict[str, tuple[Observed, ...]] = {}
        self.learnt: dict[tuple[str, bool], money.Calibration | None] = {}
        self.unresolved = {intent.slot: intent for intent in state.open_intents() if intent.verb == Verb.CREATE}
        for document in desired.documents:
            former = f"{document.kind}/{document.metadata.moved_from}"
            for slot, intent in list(self.unresolved.items()):
                if slot.address == former:
                    self.unresolved.setdefault(Slot(document.address, slot.part), intent)
        self.late = dict(self._late())  # by key: what a creation that was given up made after all
        self.vanished = vanished(state, world, choices)

    def is_about(self, address: str) -> bool:
        return self.selection is None or address in self.selection

    # One slot ---------------------------------------------------------------------------------------------------

    def plan_slot(self, document: Document, part: Part) -> None:
        collection, head = self._collection_of(document, part), self.state.head(part.slot)
        if document.address in self.state.pauses:
            self.notes.append(self._paused(part.slot))
        elif document.lifecycle.observe_only:
            self._observe(document, part, head)
        elif part.slot in self.unresolved:
            why, hint = _open(self.unresolved[part.slot])
            self._block(document, part, why, hint, code=7)
        elif missing := self._missing(part):
            self._block(document, part, f"waits for {missing}, which has nothing to refer to", "")
        elif head is None and (late := self._late_of(part.slot)):
            self._adopt(document, part, *late)
        elif head is None:
            self._begin(document, part, collection)
        elif self.world.get(head) is None and young(head, self.world):
            self._wait(document, part, head, Observed(head.id, Phase.PENDING, "not visible yet"))
        elif self.vanished and self.world.get(head) is None:
            self._block(document, part, f"{head.id} {_VANISHED}", VANISHED_HINT)
        elif head.role is Role.NEXT:
            self._plan_next(document, part, head)
        else:
            self._plan_current(document, part, head)

    def _begin(self, document: Document, part: Part, collection: Collection) -> None:
        """The slot holds nothing yet: what the account has already is taken in where the author wants that."""
        adoption = "Never" if part.collection else document.lifecycle.adoption
        found = self._search(document, part, collection) if adoption != "Never" else _Search()
        lost = adoption == "Required" and self._twin(part, collection, self._resolved(part))
        if len(found.proven) == 1:
            self._recognise(document, part, collection, found.proven[0])
        elif found.proven:
            why = f"several objects are as declared: {_ids(found.proven)}"
            self._block(document, part, why, _import_hint(part.slot))
        elif (adoption == "Required" and not lost) or (found.possible and collection.slow):
            what = "nothing on the account is as declared" if adoption == "Required" else "it may be there already"
            maybe = f"; nothing proves it of {_ids(found.possible)}" if found.possible else ""
            self._block(document, part, f"{what} (adoption: {adoption}){maybe}", _import_hint(part.slot))
        else:
            if found.possible:
                what = f"is made, though {_ids(found.possible)} may be it: nothing shown proves it"
                self.notes.append(Note(str(part.slot), what, _import_hint(part.slot), warning=True))
            self._create(document, part, collection.created_as)

    def _observe(self, document: Document, part: Part, head: Owned | None) -> None:
        """Recording what is there is no write, so it may be taken in; nothing else is done about it."""
        collection = self._collection_of(document, part)
        adoption, seen = document.lifecycle.adoption, self.world.get(head) if head else None
        free = self._search(document, part, collection).proven if head is None and adoption != "Never" else ()
        if len(free) == 1:
            self._recognise(document, part, collection, free[0])
        elif head and head.role is Role.NEXT and seen and seen.phase in (Phase.PENDING, Phase.READY):
            self._wait(document, part, head, seen)
        else:
            hint = "" if head else _import_hint(part.slot)
            self.notes.append(Note(str(part.slot), "is only observed", hint))

    def _search(self, document: Document, part: Part, collection: Collection) -> _Search:
        """What is nobody's, is or will be of use, and is as declared: proven by all that it shows, or possible."""
        fields = {name: self._by_id(value) for name, value in _compared(document, part.fields).items()}
        if references_of(replace(part, fields=fields)):
            return _Search()
        useful = [seen for seen in self._free(collection.name) if seen.phase in (Phase.READY, Phase.PENDING)]
        alike = [one for one in useful if not (collection.differs(fields, one) or self._spoken_for(collection, one))]
        proven = tuple(one for one in alike if collection.same(fields, one) and not collection.claimed(one))
        silent = (one for one in alike if one not in proven and not fields.keys() <= collection.told(one).keys())
        marked = (one for one in alike if one not in proven and collection.same(fields, one))
        return _Search(proven, (*marked, *silent))

    def _spoken_for(self, collection: Collection, seen: Observed) -> bool:
        """Whether another slot takes it, or an open creation may have made it."""
        taken = any(one.id == seen.id and slot_of == collection.name for slot_of, one in self.recognised.values())
        return taken or f"{collection.name}/{seen.id}" in self.late or bool(open_maker(self.state, collection, seen))

    def _recognise(self, document: Document, part: Part, collection: Collection, seen: Observed) -> None:
        """Nothing is bought or sent: apply looks once more, and records it."""
        later = sorted(
            name
            for name in collection.changeable & _compared(document, part.fields).keys() & seen.fields.keys()
            if not within(part.fields[name], seen.fields[name])
        )
        after = f"; the next apply changes its {', '.join(later)}" if later else ""
        operation = Operation(
            id=f"adopt {part.slot}",
            action=Action.ADOPT,
            verb=Verb.ADOPT,
            slot=part.slot,
            collection=collection.name,
            part=part,
            fields=_compared(document, self._resolved(part)),
            target_id=seen.id,
            after=self._needed(part),
            why=f"{seen.id} is on the account and is as declared{after}",
            deletion=document.lifecycle.deletion_policy or "",
            price=Price(hour=hourly(collection, seen, part.base)),
        )
        self._add(operation, renews=True)
        self.recognised[part.slot] = (collection.name, seen)

    def _by_id(self, value: Any) -> Any:
        """A value with its references as the service knows them, what this plan takes in included."""
        if isinstance(value, Known):
            if value.slot in self.recognised:
                return self.recognised[value.slot][1].outputs.get(value.output, value)
            row = self.state.row(value.slot, Role.CURRENT) if value.slot not in self.renewed else None
            return row.outputs.get(value.output, value) if row else value
        return tuple(map(self._by_id, value)) if isinstance(value, tuple) else value

    def _plan_next(self, document: Document, part: Part, row: Owned) -> None:
        """The slot holds an object that was created and is not yet in use."""
        collection, observed = self._collection_of(document, part), self.world.get(row)
        again = self._again(document, part)
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
        elif collection.verified:  # an upload: what did not arrive whole is sent again, and costs nothing
            self._replace(document, part, (), action, why=f"{row.id} is not what was sent")
        else:
            self._block_failed(document, part, row, row.failure or _failure(observed))

    def _plan_current(self, document: Document, part: Part, row: Owned) -> None:
        """The slot holds an object in use."""
        collection, observed = self._collection_of(document, part), self.world.get(row)
        changed = self._differences(document, part, row, observed)
        fixed = {name for name, of in marks(type(document.spec)).items() if Mark.IMMUTABLE in of}
        again = self._again(document, part)
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
        """False where it is blocked: what the service has under our mark already is never made again."""
        collection = self._collection_of(document, part)
        fields = self._resolved(part)
        if twin := self._twin(part, collection, fields):
            why = f"{twin.id} has the mark that it would get, and the state does not know it"
            self._block(document, part, why, "reconciler state rebuild takes it in", reasons, code=7)
            return False
        if not self._fits(document, part, fields, reasons):
            return False
        part = self.desired.count(part)
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
            price=self._price(collection, part),
        )
        self._add(operation, renews=True)
        return True

    def _twin(self, part: Part, collection: Collection, fields: Mapping[str, Any]) -> Observed | None:
        """What this creation would make, if it was made before and the record of it is lost."""
        signed = self._signed(collection)
        if not signed or self.state.stamp is None or references_of(replace(part, fields=fields)):
            return None
        version = generation(collection.name, collection.lasting(fields))
        first = self.state.attempts(part.slot, version)
        marks = [tag(self.state.stamp, part.slot, version, number) for number in range(first, first + ATTEMPTS)]
        return next(
            (s for s in signed if any(collection.matches(m, fields, s) is Match.STRONG for m in marks)),
            None,
        )

    def _signed(self, collection: Collection) -> tuple[Observed, ...]:
        """Objects of nobody's that carry a mark like ours."""
        if collection.name not in self.signed:
            self.signed[collection.name] = tuple(filter(collection.signed, self._free(collection.name)))
        return self.signed[collection.name]

    def _free(self, name: str) -> tuple[Observed, ...]:
        """What of a collection is nobody's, in the order of the ids."""
        if name not in self.free:
            self.free[name] = tuple(self.state.unowned(name, self.world.objects.get(name, {})).values())
        return self.free[name]

    def _price(self, collection: Collection, part: Part) -> Price:
        """What a new object costs, as far as runs that are over teach it."""
        price = collection.price(part.fields, base=part.base, tokens=part.tokens, counted=part.counted)
        return money.calibrated(price, self._learnt(part.base, part.counted) if price.once else None)

    @cached_property
    def _runs(self) -> tuple[money.Run, ...]:
        """What was paid for until now; only a price has to be learnt from it."""
        return money.bought(self.state, self.world.objects, self.collections, before=self.choices.learnt_before)

    def _learnt(self, base: str, counted: bool) -> money.Calibration | None:
        if (base, counted) not in self.learnt:
            self.learnt[base, counted] = money.calibration(self._runs, base=base, counted=counted)
        return self.learnt[base, counted]

    def _fits(
        self,
        document: Document,
        part: Part,
        fields: Mapping[str, Any],
        changed: tuple[Change, ...],
        only: Container[str] | None = None,
    ) -> bool:
        """Whether the service would take it, by what it offers; else it is blocked. What nobody can tell is noted."""
        collection = self._collection_of(document, part)
        offers = self.world.offers.get(collection.name)
        found = list(collection.fits(fields, part.base, offers)) if offers is not None else []
        found = [finding for finding in found if only is None or finding.path[0] in only]
        for finding in found:
            if not finding.warning:
                self._block(document, part, finding.what, finding.hint, changed, code=1)
                return False
        self.notes += [Note(str(part.slot), one.what, one.hint, warning=True) for one in found]
        return True

    def _adopt(self, document: Document, part: Part, intent: Intent, seen: Observed) -> None:
        """It is what was asked for, only late: nothing is bought again."""
        collection = self.collections[intent.collection]
        operation = Operation(
            id=f"adopt {part.slot}",
            action=Action.ADOPT,
            verb=Verb.ADOPT,
            slot=part.slot,
            collection=collection.name,
            part=part,
            fields=intent.fields,
            target_id=seen.id,
            after=self._needed(part),
            why=f"{seen.id} came late of operation {intent.op_id}, which had been given up",
            deletion=document.lifecycle.deletion_policy or "",
            price=Price(hour=hourly(collection, seen)),
            intent=intent.op_id,
        )
        self._add(operation, renews=True)

    def _replace(
        self,
        document: Document,
        part: Part,
        changed: tuple[Change, ...],
        action: Action,
        *,
        lost: Owned | None = None,
        why: str = "",
    ) -> None:
        """Create the next object beside the one in use, unless consent or the id stands in the way."""
        collection = self._collection_of(document, part)
        rebuys = action is Action.RUN and self.state.row(part.slot, Role.CURRENT) is not None
        allowed = ("retrain", document.address) in self.choices.allow or document.address in self.choices.replace
        consent = "Auto" if allowed or not rebuys else document.spec.consent  # type: ignore[attr-defined]
        if consent == "Never":
            fields = ", ".join(sorted({change.path[0] for change in changed}))
            self.notes.append(Note(str(part.slot), f"stays on its run although {fields} changed", "retrain: Never"))
            return
        if consent == "Manual" and self.choices.unattended:
            hint = f"--allow retrain={document.address}, or answer the question of an interactive apply"
            self._block(document, part, "a new paid run needs consent (retrain: Manual)", hint, changed)
            return
        if head := self.state.head(part.slot):
            part = self._spared(document, part, head, anew=True)
        olds = [row for row in self.state.rows(part.slot) if row.role is not Role.RETIRED and row != lost]
        there = (old for old in olds if self.world.get(old))
        clash = next(filter(None, (collection.clash(part, old.last_applied) for old in there)), "")
        if clash:
            self._block(document, part, clash, "", changed)
            return
        why = why or (f"{lost.id} is gone from the service" if lost else "" if changed else "asked for by --replace")
        drops = (lost.key,) if lost else ()
        asks = consent == "Manual"
        made = self._create(document, part, action, reasons=changed, why=why, drops=drops, needs_consent=asks)
        if made and not collection.keeps_superseded:
            self.superseded |= {old.key: old for old in olds}

    def _update(
        self, document: Document, part: Part, row: Owned, observed: Observed, changed: tuple[Change, ...]
    ) -> None:
        if not changed:
            return
        collection, names = self.collections[row.collection], frozenset(change.path[0] for change in changed)
        part = self._spared(document, part, row, anew=False)
        requests = collection.update(row.id, part, names)
        was, resolved = self._running(row), self._resolved(part)
        if not self._fits(document, part, resolved, changed, names):
            return
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
        self.waited.add(row.key)
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
            why=f"{row.id} is {observed.status or 'not ready'}{_UNHEARD if _unheard(observed) else ''}",
            hint="what changed since is planned when it is done" if changed else "",
            was=self._costing(row),
            price=self._running(row),
        )
        self._add(operation, renews=row.role is Role.NEXT)
        current = self.state.row(part.slot, Role.CURRENT)
        if row.role is Role.NEXT and current is not None and not self.collections[row.collection].keeps_superseded:
            self.superseded[current.key] = current

    def _block_failed(self, document: Document, part: Part, row: Owned, why: str) -> None:
        hint = f"change its manifest, or make it again: reconciler retry {document.address}"
        price = self._costing(row)
        if row.role is Role.NEXT and price.hour:
            hint += f"; {row.id} keeps running and costs {price.hour} CNY/h"
        self._block(document, part, why, hint, code=5)

    def _block(
        self, document: Document, part: Part, why: str, hint: str, reasons: tuple[Change, ...] = (), *, code: int = 3
    ) -> None:
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

    def _spared(self, document: Document, part: Part, row: Owned, *, anew: bool) -> Part:
        """The part as it may be sent: what its author leaves to others is not overwritten."""
        ours = {name for name, value in part.fields.items() if contains_reference(value)}  # recorded by its content
        ignored = frozenset(name for name in document.lifecycle.ignore if name.partition(".")[0] not in ours)
        rules, seen = Compared(marks(type(document.spec)), ignored), self.world.get(row)
        return replace(part, fields=spared(part.fields, row.last_applied, seen, rules, anew=anew))

    # What is no longer declared, or superseded -------------------------------------------------------------------

    def plan_leftovers(self) -> None:
        """Deletions, users before what they use: the order of creation reversed."""
        declared = {part.slot for parts in self.desired.parts.values() for part in parts}
        addresses = {document.address: document for document in self.desired.documents}
        going: dict[str, _Leaving] = {}
        for row in sorted(self.state.owned.values(), key=lambda row: row.key):
            kept = self.collections[row.collection].keeps_superseded
            document = addresses.get(row.slot.address)
            undeclared, tombstone = document is None, self.desired.removed.get(row.slot.address)
            if not self.is_about(row.slot.address) or (document and document.lifecycle.observe_only):
                continue
            if row.slot.address in self.state.pauses:
                if row.role is not Role.RETIRED and (undeclared or self.choices.destroy):
                    self.notes.append(self._paused(row.slot))
                continue
            if self.choices.destroy or (undeclared and (self.choices.prune or tombstone)):
                said = document or tombstone
                own = said.lifecycle.deletion_policy if said else None
                going[row.key] = _Leaving(row, own or row.deletion)
            elif undeclared and (row.role is not Role.RETIRED or not kept):
                hint = "--prune, or a document of kind Removed, lets it go as its deletionPolicy says"
                self.notes.append(Note(str(row.slot), f"{row.id} is ours and no manifest declares it", hint))
            elif not undeclared and not kept and (row.role is Role.RETIRED or row.slot not in declared):
                self.superseded[row.key] = row
        for key, row in self.superseded.items():
            going.setdefault(key, _Leaving(row, "Delete", SUPERSEDED))
        going = {leaving.row.key: leaving for leaving in self._outlived()} | going
        for leaving in self._users_first(going):
            self._let_go(leaving, going)

    def _paused(self, slot: Slot) -> Note:
        pause = self.state.pauses[slot.address]
        return Note(str(slot), f"is paused {paused_since(pause)}", resuming(slot.address))

    def _outlived(self) -> Iterator[_Leaving]:
        """Superseded runs beyond those that their author keeps. What anybody makes use of stays.

        Runs that failed are kept no longer than the oldest of those that are.
        """
        for document in self.desired.documents:
            keep, spec = document.lifecycle.keep_last, document.spec
            if keep is None or document.lifecycle.observe_only or not self.is_about(document.address):
                continue
            if document.address in self.state.pauses:
                continue
            assert isinstance(spec, Resource)
            retired = [row for row in self.state.owned.values() if row.slot.address == document.address]
            retired = [row for row in retired if row.role is Role.RETIRED and row.collection == spec.collection]
            retired.sort(key=lambda row: (row.applied_at, row.key), reverse=True)
            good = 0
            for row in retired:
                if good >= keep and not self._in_use_of_others(row):
                    yield _Leaving(row, "Delete", f"beyond the last {keep} that are kept (keepLast)")
                good += not row.failure

    def _in_use_of_others(self, row: Owned) -> bool:
        """Whether anything names what it made, be it ours or not: a field of an object, or of a manifest."""
        made = {row.id, *(value for value in row.outputs.values() if isinstance(value, str) and value)}
        return not made.isdisjoint(self._all_words)

    @cached_property
    def _all_words(self) -> frozenset[str]:
        """Every text in a field of an object on the service, or of a manifest."""
        shown = (seen.fields for objects in self.world.objects.values() for seen in objects.values())
        declared = (part.fields for parts in self.desired.parts.values() for part in parts)
        return frozenset(word for fields in (*shown, *declared) for word in words_of(fields))

    def _users_first(self, going: Mapping[str, _Leaving]) -> Iterator[_Leaving]:
        done: set[str] = set()

        def visit(key: str) -> Iterator[_Leaving]:
            if key in done:
                return
            done.add(key)
            for user in sorted(self.state.users(key), key=lambda row: row.key):
                if user.key in going:
                    yield from visit(user.key)
            yield going[key]

        for key in sorted(going):
            yield from visit(key)

    def _let_go(self, leaving: _Leaving, going: Mapping[str, _Leaving]) -> None:
        """Delete, forget or refuse, after whatever still uses it is done with it. In use for good: it stays."""
        row, policy = leaving.row, leaving.policy
        collection = self.collections[row.collection]
        after: list[str] = [self.settled_by[row.slot]] if row.slot in self.settled_by else []
        orphaned = False
        for user in self.state.users(row.key):
            planned = self.goings.get(user.key)
            if user.key in going and planned is not None:
                after.append(planned.id)
                orphaned |= planned.verb is Verb.FORGET
            elif self._will_be_replaced(user):
                after.append(self.settled_by[user.slot])
            else:
                return
        policy = policy or ("Orphan" if orphaned else collection.deletion)
        gone, is_history = self.world.get(row) is None, row.role is Role.RETIRED and collection.keeps_superseded
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
            why=SUPERSEDED if row.key in self.superseded else leaving.why,
            was=self._costing(row),
        )
        if common.action is Action.SWAP:
            common = replace(common, price=Price(once=money.overlap(common.was.hour)))
        if kept := self._why_kept(row, policy):
            why, hint = kept
            self.operations.append(
                replace(
                    common,
                    id=f"blocked {row.slot} {row.id}",
                    action=Action.BLOCKED,
                    verb=Verb.NOTHING,
                    why=why,
                    hint=hint,
                    was=NO_PRICE,
                    price=NO_PRICE,
                    code=3,
                )
            )
        elif gone or policy == "Orphan" or (is_history and not leaving.why):
            why = "already gone from the service" if gone else "stays on the service, no longer ours (Orphan)"
            name = f"forget {row.slot} {row.id}"
            self._going(
                row,
                replace(common, id=name, action=Action.FORGET, verb=Verb.FORGET, why=why, was=NO_PRICE, price=NO_PRICE),
            )
        else:
            self._going(row, replace(common, request=collection.delete(row.id)))

    def _going(self, row: Owned, operation: Operation) -> None:
        self.operations.append(operation)
        self.goings[row.key] = operation

    def _why_kept(self, row: Owned, policy: str) -> tuple[str, str] | None:
        """Why an object, or its record, must not go yet, and what would let it."""
        if self.world.get(row) is None:
            return (f"{row.id} {_VANISHED}", VANISHED_HINT) if self.vanished and row.role is not Role.RETIRED else None
        return kept(row, policy, self.choices)

    def _will_be_replaced(self, user: Owned) -> bool:
        """Whether this plan puts another object in the place of this one. A NEXT that is waited for stays itself."""
        return user.slot in self.renewed and user.key not in self.waited

    # What was given up and came after all ------------------------------------------------------------------------

    def plan_late(self) -> None:
        """Open creations of slots that nobody declares, and duplicates: told with their cost, stopped when asked to."""
        told = {op.slot for op in self.operations}
        for slot, intent in sorted(self.unresolved.items()):
            if slot not in told and self.is_about(slot.address):
                why, hint = _open(intent)
                self.operations.append(self._left_open(intent, why, hint))
        adopted = {op.target_id for op in self.operations if op.verb is Verb.ADOPT}
        paused = self.state.pauses.keys()
        for intent, seen in self.late.values():
            is_only_one = intent.slot.address in paused and self.state.head(intent.slot) is None
            settled = seen.id in adopted or intent.slot in self.unresolved or is_only_one
            if not settled and self.is_about(intent.slot.address):
                self.operations.append(self._duplicate(intent, seen))

    def _left_open(self, intent: Intent, why: str, hint: str) -> Operation:
        return Operation(
            id=f"blocked {intent.slot}",
            action=Action.BLOCKED,
            verb=Verb.NOTHING,
            slot=intent.slot,
            collection=intent.collection,
            why=why,
            hint=hint,
            code=7,
        )

    def _duplicate(self, intent: Intent, seen: Observed) -> Operation:
        collection = self.collections[intent.collection]
        price = Price(hour=hourly(collection, seen))
        why = f"{seen.id} was made twice: it came late of operation {intent.op_id}, which had been given up"
        cost = _cost_in_words(collection.price(intent.fields, base=intent.base), price)
        if ("duplicate", seen.id) in self.choices.allow:
            return Operation(
                id=f"discard {intent.slot} {seen.id}",
                action=Action.DELETE,
                verb=Verb.DISCARD,
                slot=intent.slot,
                collection=intent.collection,
                target_id=seen.id,
                request=collection.discard(seen),
                why=f"{why}{cost}",
                intent=intent.op_id,
            )
        hint = f"--allow duplicate={seen.id} stops it"
        return replace(self._left_open(intent, f"{why}{cost}", hint), id=f"duplicate {intent.slot} {seen.id}")

    def _late(self) -> Iterator[tuple[str, tuple[Intent, Observed]]]:
        for intent in self.state.given_up(self.world.at):
            collection = self.collections[intent.collection]
            for seen in self._free(intent.collection):
                match = collection.matches(intent.tag, intent.fields, seen)
                if match is Match.STRONG and seen.id not in intent.known_before:
                    yield f"{intent.collection}/{seen.id}", (intent, seen)

    def _late_of(self, slot: Slot) -> tuple[Intent, Observed] | None:
        return next((found for found in self.late.values() if found[0].slot == slot), None)

    # Sums -------------------------------------------------------------------------------------------------------

    def all_notes(self) -> tuple[Note, ...]:
        return (*sorted(self.notes, key=lambda note: (note.about, note.what)), *self._unmanaged())

    def _unmanaged(self) -> Iterator[Note]:
        """What the service holds beside ours; told with its price, never touched."""
        for name in sorted(self.world.objects):
            collection = self.collections[name]
            adopted = {one.id for held, one in self.recognised.values() if held == name}
            others = [seen for seen in self._free(name) if seen.id not in adopted]
            if not others:
                continue
            hours = [hourly(collection, seen) for seen in others]
            cost = money.total(hours)
            price = "" if cost == 0 else f" ({'price unknown' if cost is None else f'{cost:,.2f} CNY/h'})"
            count = f"{len(others)} in {name}" if len(others) > 1 else f"1 in {name}, {others[0].id},"
            yield Note("", f"{count} that no manifest names{price}", "reconciler discover --billable" if price else "")

    def totals(self) -> Totals:
        return sums(self.operations, money.total(self._costing(row).hour for row in self.state.owned.values()))

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

    def _again(self, document: Document, part: Part) -> bool:
        """Whether the operator wants it made anew, although nothing about it changed."""
        wanted = document.address in self.choices.replace and part.slot not in self.choices.settled
        return wanted and not part.collection

    def _collection_of(self, document: Document, part: Part) -> Collection:
        spec = document.spec
        assert isinstance(spec, Resource)
        return self.collections[part.collection or spec.collection]


def _compared(document: Document, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in document.lifecycle.ignore}


def _ids(found: Iterable[Observed]) -> str:
    return ", ".join(sorted(seen.id for seen in found))


def _import_hint(slot: Slot) -> str:
    return f"reconciler import {slot} ID takes one in"


def _open(intent: Intent) -> tuple[str, str]:
    """Why a slot is closed by a creation whose outcome nobody knows, and what opens it."""
    why = f"an earlier creation (operation {intent.op_id}, tag {intent.tag}) is not resolved"
    if intent.phase is IntentPhase.NEEDS_HUMAN:
        return f"{why}: {intent.reason}", f"reconciler ops show {intent.op_id}"
    return why, "reconciler apply looks for it before anything else"


def _cost_in_words(bought: Price, running: Price) -> str:
    once = "" if bought.once == 0 else f"{bought.once or 'an unknown sum of'} CNY once"
    hour = "" if running.hour == 0 else f"{running.hour or 'an unknown sum of'} CNY/h"
    return f" and costs {' and '.join(filter(None, (once, hour)))}" if once or hour else ""


def _unheard(observed: Observed) -> bool:
    return observed.phase is Phase.UNKNOWN and bool(observed.status)


def _failure(observed: Observed) -> str:
    return f"{observed.id} is {observed.status}" + (f": {observed.detail}" if observed.detail else "")
