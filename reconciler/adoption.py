"""An object that somebody made by hand becomes the one of a slot: the row that records it, or why that would be wrong.

Pure, and without any effect on the object. What no call can change must be as declared, as far as the service shows it:
else the next plan would pay for another. What can be changed is recorded as it is, and the next apply changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.errors import Refused, StateError, UsageError
from reconciler.plan import Desired, open_maker, references_of
from reconciler.resource import Collection, Document, Known, Observed, Part, Phase, Resource, Slot, within
from reconciler.state import PERSON, Event, Owned, Role, State, generation
from reconciler.surgery import Deed, overlaid
from reconciler.wording import did_you_mean, shown

IMPORT = "import"  # its verb in the journal


def wanted(desired: Desired, collections: Mapping[str, Collection], slot: Slot) -> tuple[Document, Part, Collection]:
    """What is declared for a slot; without a part for the only one there is. UsageError where it is not declared."""
    document = next((one for one in desired.documents if one.address == slot.address), None)
    if document is None:
        near = did_you_mean(slot.address, [one.address for one in desired.documents])
        hint = near or "reconciler discover --write FOLDER writes manifests for what the account holds"
        raise UsageError(f"no manifest declares {shown(slot.address)}", hint=hint)
    parts = desired.parts.get(slot.address, ())
    part = next((one for one in parts if one.slot == slot), parts[0] if len(parts) == 1 and not slot.part else None)
    if part is None:
        names = ", ".join(str(one.slot) for one in parts)
        raise UsageError(f"{shown(str(slot))} is not one object", hint=f"name one of {names}")
    assert isinstance(document.spec, Resource)
    return document, part, collections[part.collection or document.spec.collection]


def adopt(
    state: State, document: Document, part: Part, collection: Collection, seen: Observed, deed: Deed
) -> tuple[Event, ...]:
    """A person names the object of a slot. Refused where it is another slot's, or is not what is declared."""
    _check_free(state, part.slot, collection, seen)
    try:
        declared = filled(part, state, by_content=False)
    except StateError as error:
        raise Refused(
            f"{part.slot} is made from what is not recorded yet: {error}", hint="import that first"
        ) from error
    ignored = document.lifecycle.ignore
    if differing := [name for name in collection.differs(declared, seen) if name not in ignored]:
        told = collection.told(seen)
        names = ", ".join(text for name in differing for text in _differences(name, told[name], declared[name]))
        raise Refused(
            f"{seen.id} is not what {part.slot} declares: {names}",
            hint="no call changes that, so the next plan would make, and pay for, another: declare it as it is",
        )
    deletion = document.lifecycle.deletion_policy or ""
    return taken_in(state, part, collection, seen, deed, deletion=deletion, inferred=False)


def taken_in(
    state: State,
    part: Part,
    collection: Collection,
    seen: Observed,
    deed: Deed,
    *,
    deletion: str,
    inferred: bool,
    number: int = 0,
    by: str = PERSON,
) -> tuple[Event, ...]:
    """The row of an object that is there already, and its entry in the journal.

    Its fields are as the service shows them, and as declared where it is silent; what it never shows is left out, so
    that the next apply sets it.
    """
    fields = filled(part, state, by_content=True)
    version, used = generation(collection.name, collection.lasting(fields)), uses(part, state)
    kept = {name: value for name, value in overlaid(fields, seen.fields).items() if name not in collection.hidden}
    facts = {"collection": collection.name, "generation": version, "fields": kept, "uses": used, "deletion": deletion}
    entry = deed.entry(IMPORT, part.slot, number, **facts, base=part.base, by=by, result_id=seen.id)
    row = Owned(
        slot=part.slot,
        collection=collection.name,
        id=seen.id,
        role=Role.CURRENT if seen.phase is Phase.READY else Role.NEXT,
        generation=version,
        last_applied=kept,
        outputs=dict(seen.outputs),
        uses=used,
        deletion=deletion,
        base=part.base,
        applied_at=deed.at,
        inferred=inferred,
    )
    return entry, row


def _check_free(state: State, slot: Slot, collection: Collection, seen: Observed) -> None:
    if row := state.owned.get(f"{collection.name}/{seen.id}"):
        hint = "" if row.slot == slot else f"reconciler state mv {row.slot} {slot}"
        raise Refused(f"{seen.id} is recorded already, as {row.slot}", hint=hint)
    held = [row for row in state.rows(slot) if row.role is not Role.RETIRED]
    if held:
        raise Refused(f"{slot} already holds {held[0].id}", hint=f"reconciler state rm {slot} forgets what it holds")
    waiting = (intent for intent in state.open_intents() if intent.slot == slot)
    maker = next(waiting, None) or open_maker(state, collection, seen)
    if maker:
        raise Refused(
            f"operation {maker.op_id} of {maker.slot} is open, and may have made {seen.id}",
            hint=f"reconciler ops show {maker.op_id} tells more; reconciler ops resolve {maker.op_id} decides it",
        )
    if seen.phase is Phase.FAILED:
        why = " ".join(filter(None, (seen.status, seen.detail)))
        raise Refused(f"{seen.id} is {why}: there is nothing in it to manage")


def _differences(name: str, told: Any, declared: Any) -> Iterator[str]:
    """Each difference, as `n_epochs (is 2, declared 3)`."""
    if isinstance(told, Mapping) and isinstance(declared, Mapping):
        for inner in declared:
            if not within(declared[inner], told.get(inner)):
                yield from _differences(f"{name}.{inner}", told.get(inner, "not set"), declared[inner])
    else:
        yield f"{name} (is {_short(told)}, declared {_short(declared)})"


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value)) or "nothing"
    return str(value)


# References -----------------------------------------------------------------------------------------------------------


def filled(part: Part, state: State, *, by_content: bool) -> dict[str, Any]:
    """The part's fields without references: by content as they are recorded and compared, or by id as they are sent."""

    def fill(value: Any) -> Any:
        if isinstance(value, Known):
            if by_content and value.digest:
                return value.digest
            row = state.row(value.slot, Role.CURRENT)
            if row is None or value.output not in row.outputs:
                raise StateError(f"{value.slot} has no {value.output} to refer to")
            return row.outputs[value.output]
        if isinstance(value, tuple | list):
            return [fill(item) for item in value]
        if isinstance(value, Mapping):
            return {name: fill(item) for name, item in value.items()}
        return value

    return {name: fill(value) for name, value in part.fields.items()}


def uses(part: Part, state: State) -> tuple[str, ...]:
    """The keys of the objects this one is made from."""
    rows = (state.row(known.slot, Role.CURRENT) for known in references_of(part))
    return tuple(sorted({row.key for row in rows if row is not None}))
