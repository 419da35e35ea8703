"""A plan for programs: these models are its format, their JSON Schema is what `reconciler schema --plan` prints.

A field is never renamed or given another meaning within one major version; new ones may appear. Money is a decimal
string in CNY, null where it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from reconciler.diff import Change
from reconciler.errors import Position
from reconciler.plan import Choices, Operation, Plan, Verb
from reconciler.render.changes import ACTION_WORDS, summary
from reconciler.render.plan import Entry, Heading, entries
from reconciler.resource import Collection, Known, Price
from reconciler.saved import Saved

FORMAT_VERSION = "1.2"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class PlaceJson(_Model):
    """Where in the author's files."""

    file: str
    line: int
    column: int


class ReasonJson(_Model):
    """One field that differs. A value that is known only after apply is `{"known_after_apply": "Kind/name output"}`."""

    path: list[str]
    before: Any = Field(description="null where it was not set")
    after: Any = Field(description="null where it is no longer set")
    at: PlaceJson | None


class PriceJson(_Model):
    """What one operation costs: once, and per hour before and after it."""

    once_cny: Decimal | None
    hour_before_cny: Decimal | None
    hour_after_cny: Decimal | None
    basis: str = Field(description="the sum behind it, in words")


class OperationJson(_Model):
    """One step. A swap is a create and a delete with the same slot."""

    id: str = Field(description="names it within this plan; `after` refers to it")
    action: Literal["create", "update", "run", "swap", "delete", "forget", "adopt", "wait", "blocked"]
    verb: Literal["create", "update", "delete", "discard", "cancel", "forget", "adopt", "wait", "nothing"]
    address: str = Field(description="Kind/name")
    part: str = Field(description="which of several objects of the address; empty where there is one")
    stage: str = Field(description='"now", or what must be over before')
    summary: str
    target_id: str = Field(description="the existing object it is about, if any")
    after: list[str] = Field(description="ids of operations that come first")
    reasons: list[ReasonJson]
    price: PriceJson
    remarks: list[str] = Field(description="what is worth knowing before it is paid for")
    needs_consent: bool
    why: str
    hint: str
    exit_code: int = Field(description="what a blocked operation makes of the exit code; else 0")


class NoteJson(_Model):
    """Something the plan leaves alone, or a warning."""

    about: str
    what: str
    hint: str
    warning: bool = Field(description="true: it is about what the plan does")


class MoveJson(_Model):
    """A slot with its former name; what it holds stays as it is."""

    address: str
    part: str
    was: str = Field(description="the former slot")


class SelectionJson(_Model):
    """The addresses a plan is about."""

    asked: list[str] = Field(description="those that were chosen")
    along: list[str] = Field(description="those that came with them: what they need, or what needs them")
    excluded: list[str]
    without: list[str] = Field(description="those that were chosen and rest on what is excluded")


class TotalsJson(_Model):
    """The sums; null is unknown."""

    once_cny: Decimal | None
    hour_before_cny: Decimal | None
    hour_after_cny: Decimal | None


class SavedJson(_Model):
    """What a plan in a file has beside it."""

    digest: str = Field(description="under this name it is applied once")
    made_at: AwareDatetime
    expires_at: AwareDatetime
    tool_version: str
    made_from: list[str] = Field(description="the -f paths, as they were given")
    choices: list[str] = Field(description="the options it was made with")


class PlanJson(_Model):
    """The plan of `reconciler plan -o json`."""

    format_version: Annotated[str, Field(pattern=r"^1\.[0-9]+$")] = FORMAT_VERSION
    stack: str
    environment: str = Field(description="empty: the base by itself")
    endpoint: str
    emulated: bool = Field(description="true: nothing is bought")
    workspace: str
    profile: str
    prices_of: str = Field(description="the date of the price table")
    changes: bool = Field(description="false: everything is as declared; waiting is no change")
    moves: list[MoveJson] = Field(description="slots that only get another name (movedFrom)")
    operations: list[OperationJson]
    notes: list[NoteJson]
    totals: TotalsJson
    selection: SelectionJson | None = Field(description="null where the plan is about everything")
    fingerprint: str = Field(description="equal for plans that would do the same at the same price")
    saved: SavedJson | None = Field(description="null where the plan is not from a file")


def plan_json(
    heading: Heading, plan: Plan, collections: Mapping[str, Collection], *, saved: Saved | None = None
) -> dict[str, Any]:
    """The plan as plain data, in plan order; with `saved`, the one in that file."""
    staged = {op.id: entry for entry in entries(plan, collections) for op in entry.operations}
    model = PlanJson(
        stack=heading.stack,
        environment=heading.environment,
        endpoint=heading.endpoint,
        emulated=heading.emulated,
        workspace=heading.workspace,
        profile=heading.profile,
        prices_of=str(heading.prices_of),
        changes=not plan.is_empty,
        moves=[MoveJson(address=new.address, part=new.part, was=str(old)) for new, old in plan.moves],
        operations=[_operation(op, staged[op.id]) for op in plan.operations],
        notes=[NoteJson(about=note.about, what=note.what, hint=note.hint, warning=note.warning) for note in plan.notes],
        totals=TotalsJson(
            once_cny=plan.totals.once,
            hour_before_cny=plan.totals.hour_before,
            hour_after_cny=plan.totals.hour_after,
        ),
        selection=SelectionJson.model_validate(asdict(plan.selection)) if plan.selection else None,
        fingerprint=plan.fingerprint,
        saved=_saved(saved) if saved else None,
    )
    return model.model_dump(mode="json")


def plan_schema() -> dict[str, Any]:
    """The JSON Schema of `plan_json`."""
    schema = PlanJson.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Plan", **schema}


def _saved(saved: Saved) -> SavedJson:
    return SavedJson(
        digest=saved.digest,
        made_at=saved.made_at,
        expires_at=saved.expires_at,
        tool_version=saved.tool,
        made_from=list(saved.made_from),
        choices=list(choices_words(saved.choices)),
    )


def choices_words(choices: Choices) -> tuple[str, ...]:
    """The options of `plan` that stand for these choices."""
    flags = [name for name, on in (("--destroy", choices.destroy), ("--prune", choices.prune)) if on]
    replaced = [f"--replace {address}" for address in sorted(choices.replace)]
    allowed = [f"--allow {rule}={value}" for rule, value in sorted(choices.allow)]
    chosen = [f"--target {address}" for address in choices.selectors.targets]
    chosen += [f"--exclude {address}" for address in choices.selectors.excludes]
    chosen += [f"-l '{condition}'" for condition in map(str, choices.selectors.labels)]
    return (*flags, *chosen, *replaced, *allowed)


def _operation(op: Operation, entry: Entry) -> OperationJson:
    return OperationJson.model_validate(
        {
            "id": op.id,
            "action": ACTION_WORDS[op.action],
            "verb": op.verb.value,
            "address": op.slot.address,
            "part": op.slot.part,
            "stage": entry.stage,
            "summary": summary(entry.operations if op is entry.lead else (op,)),
            "target_id": op.target_id,
            "after": list(op.after),
            "reasons": [_reason(change) for change in op.reasons],
            "price": _price(op.was, op.price),
            "remarks": list(op.part.remarks) if op.part and op.verb is Verb.CREATE else [],
            "needs_consent": op.needs_consent,
            "why": op.why,
            "hint": op.hint,
            "exit_code": op.code,
        }
    )


def _reason(change: Change) -> ReasonJson:
    before, after = plain(change.before), plain(change.after)
    return ReasonJson(path=list(change.path), before=before, after=after, at=_place(change.at))


def _place(at: Position | None) -> PlaceJson | None:
    return PlaceJson(file=at.file, line=at.line, column=at.column) if at else None


def _price(was: Price, price: Price) -> PriceJson:
    basis = price.basis or was.basis
    return PriceJson(once_cny=price.once, hour_before_cny=was.hour, hour_after_cny=price.hour, basis=basis)


def plain(value: Any) -> Any:
    """A field's value as JSON can hold it."""
    if isinstance(value, Known):
        return {"known_after_apply": f"{value.slot} {value.output}"}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Decimal | date) else value
