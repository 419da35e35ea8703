"""The words of the whole project: what an author declares, what the service shows, and what may be sent between them.

Values and promises only: nothing here opens a file, a socket or a clock. Every other module speaks in these terms, and
a kind (`kinds/*.py`) is written in them alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import cache, cached_property, partial
from types import MappingProxyType, UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, Union, get_args, get_origin
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from reconciler.catalogue import HyperParameter, Limits, ProfileCatalogue
from reconciler.errors import Position, UnusableId
from reconciler.lengths import Lengths

API_VERSION = "bailian.reconciler/v1alpha1"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Path = tuple[str | int, ...]
Json = Mapping[str, Any]
NOTHING: Mapping[Any, Any] = MappingProxyType({})
FREE = Decimal(0)


# What an author declares -------------------------------------------------------------------------------------------


class Mark(StrEnum):
    """What a field's annotation says about it beyond its type."""

    IMMUTABLE = "immutable"  # the service has no call that changes it: a new object replaces the old one
    COMPUTED = "computed"  # chosen by the service: shown, never written, compared or sent
    WRITE_ONLY = "write-only"  # some collection never shows it back: there it is compared with what was last applied
    LOCAL = "local"  # ours alone: never sent, never compared
    CLOSED = "closed"  # a mapping that is ours as a whole: a key the author dropped is a change


@dataclass(frozen=True)
class Ref:
    """Marks a field that names another document of this kind."""

    kind: str


class Spec(BaseModel):
    """Base of everything an author writes: strict types, camelCase names, unknown fields are errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, hide_input_in_errors=True, defer_build=True
    )

    def check(self, profile: ProfileCatalogue) -> Iterator[Finding]:
        """What the types cannot say: limits of the chosen profile. Offline; yields every finding."""
        yield from ()

    @classmethod
    def known_keys(cls, profile: ProfileCatalogue) -> Mapping[str, Sequence[HyperParameter]]:
        """Of each field that takes any key, by its name as written, the keys that the catalogue knows."""
        return NOTHING


class Finding(NamedTuple):
    """One mistake inside a spec: the path below `spec`, what is wrong, what to write instead."""

    path: Path
    what: str
    hint: str = ""
    warning: bool = False


DeletionPolicy = Literal["Delete", "Orphan", "Protect"]


class Metadata(Spec):
    """Who a document is: `Kind/name`, with labels and a description for people."""

    name: Annotated[
        str, Mark.IMMUTABLE, Field(description="The name within its kind; under another name it is another object.")
    ]
    labels: Annotated[dict[str, str], Field(description="Words to select documents by.")] = {}
    description: Annotated[str, Field(description="A note for people.")] = ""
    moved_from: Annotated[
        str | None, Field(description="The name it had before: its object is kept, and only the record is renamed.")
    ] = None


class Lifecycle(Spec):
    """What may happen to an object beyond its fields. Unset means the kind's own default.

    `adoption` is about an object that the account holds already and that is as declared: `keep_last` about runs that
    were superseded, of a kind that keeps them.
    """

    deletion_policy: Annotated[
        DeletionPolicy | None,
        Field(
            description="When the object is to go: Delete it, let it stay on the service as an Orphan, or Protect it,"
            " which is recorded and outlives the manifest; unset: as its kind has it."
        ),
    ] = None
    ignore: Annotated[
        list[str],
        Field(description="Fields under spec, such as limits.rpm, that are neither compared nor sent once it exists."),
    ] = []
    observe_only: Annotated[
        bool, Field(description="Whether the object is only looked at: never created, changed or deleted.")
    ] = False
    adoption: Annotated[
        Literal["Never", "IfExists", "Required"],
        Field(
            description="What becomes of an object that the account holds already and that is as declared: Never taken"
            " over, taken over IfExists, or Required, so that none is ever created."
        ),
    ] = "Never"
    keep_last: Annotated[
        int | None,
        Field(
            ge=0,
            le=1000,
            description="How many superseded runs that succeeded are kept, of a kind that keeps runs; unset: all.",
        ),
    ] = None


_PERCENT = r"^(100|[0-9]{1,2}(\.[0-9]{1,3})?)%$"


def _a_percentage(written: str) -> str:
    if not re.fullmatch(_PERCENT, written):
        raise ValueError("write a share such as 1% or 0.5%, at most 100%")
    return written


Percent = Annotated[str, AfterValidator(_a_percentage), WithJsonSchema({"type": "string", "pattern": _PERCENT})]


def percent(written: str) -> Fraction:
    """A `Percent` as the number it stands for."""
    return Fraction(written.removesuffix("%")) / 100


class Budget(Spec):
    """What an apply may do without a word of its own. Unset means no limit; of several budgets the stricter holds."""

    once_cny: Annotated[float, Field(ge=0, description="What one apply may cost once, in CNY.")] | None = None
    hourly_cny: (
        Annotated[float, Field(ge=0, description="The run rate that an apply may lead to, in CNY an hour.")] | None
    ) = None
    deletes: Annotated[int, Field(ge=0, description="How many objects one apply may delete.")] | None = None
    delete_share: Annotated[
        Percent | None, Field(description="Which share of all objects owned one apply may delete, such as 50%.")
    ] = None
    unknown_price: Annotated[
        Literal["Allow", "Refuse"], Field(description="Whether something may be bought whose price nobody knows.")
    ] = "Allow"


@dataclass(frozen=True)
class Document:
    """One parsed manifest document. `at` maps every path of the document to where it was written."""

    kind: str
    metadata: Metadata
    spec: Spec
    lifecycle: Lifecycle
    at: Mapping[Path, Position]

    @cached_property
    def address(self) -> str:
        return f"{self.kind}/{self.metadata.name}"

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        return references(self.spec)

    def places(self, paths: Mapping[str, Path]) -> Mapping[str, Position]:
        """Where each of these paths below the spec was written."""
        return _Places(self, paths)

    def position(self, *path: str | int) -> Position:
        """Where a path was written; the nearest parent that was, if it was not written itself."""
        while path and path not in self.at:
            path = path[:-1]
        return self.at[path]


class _Places(Mapping[str, Position]):
    """Looked up one by one: hardly any is ever asked for. No dataclass, which would be written out field by field."""

    def __init__(self, document: Document, paths: Mapping[str, Path]) -> None:
        self.document, self.paths = document, paths

    def __getitem__(self, name: str) -> Position:
        return self.document.position("spec", *self.paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


class Reference(NamedTuple):
    """A field of one document that names another: `path` is below `spec`."""

    path: Path
    kind: str
    name: str

    @property
    def address(self) -> str:
        return f"{self.kind}/{self.name}"


def references(spec: Spec) -> tuple[Reference, ...]:
    """Every `Ref`-marked name that the author wrote, in field order."""
    find = _finder_of(type(spec))
    return tuple(find(spec, ())) if find else ()


_Find = Callable[[Any, Path], Iterator[Reference]]


@cache
def _finder_of(spec: type[Spec]) -> _Find | None:
    fields = [
        (name, info.alias or name, find)
        for name, info in spec.model_fields.items()
        if (find := _finder(Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation))
    ]
    return partial(_in_fields, fields) if fields else None


def _finder(annotation: Any) -> _Find | None:
    """What finds the references in a value of this type; None where there can be none, as in nearly all."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kinds = [mark.kind for mark in args[1:] if isinstance(mark, Ref)]
        return partial(_named_by, kinds[0]) if kinds else _finder(args[0])
    if origin in (Union, UnionType):
        members = [(_runtime_type(member), _finder(member)) for member in args]
        return partial(_in_union, members) if any(find for _, find in members) else None
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return _finder_of(annotation)
    find = _finder(args[0]) if origin in (list, tuple) else None
    return partial(_in_items, find) if find else None


def _named_by(kind: str, value: Any, path: Path) -> Iterator[Reference]:
    if isinstance(value, str):
        yield Reference(path, kind, value)


def _in_union(members: Iterable[tuple[type, _Find | None]], value: Any, path: Path) -> Iterator[Reference]:
    find = next((find for member, find in members if isinstance(value, member)), None)
    return find(value, path) if find else iter(())


def _in_fields(fields: Iterable[tuple[str, str, _Find]], spec: Spec, path: Path) -> Iterator[Reference]:
    for name, alias, find in fields:
        if name in spec.model_fields_set:
            yield from find(getattr(spec, name), (*path, alias))


def _in_items(find: _Find, items: Iterable[Any], path: Path) -> Iterator[Reference]:
    for index, item in enumerate(items):
        yield from find(item, (*path, index))


def _runtime_type(annotation: Any) -> type:
    if get_origin(annotation) is Annotated:
        return _runtime_type(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return str
    return get_origin(annotation) or annotation  # type: ignore[no-any-return]


@cache
def marks(spec: type[Spec]) -> Mapping[str, frozenset[Mark]]:
    """The marks of each field, by the name the author writes."""
    return {
        info.alias or name: frozenset(mark for mark in info.metadata if isinstance(mark, Mark))
        for name, info in spec.model_fields.items()
    }


def authored(value: Any) -> Any:
    """The fields the author truly wrote, as plain data: what was left out is not ours and is absent here too."""
    if isinstance(value, Spec):
        written = value.model_fields_set
        return {alias: authored(getattr(value, name)) for name, alias in _aliases(type(value)) if name in written}
    if isinstance(value, (list, tuple)):
        return [authored(item) for item in value]
    return value


@cache
def _aliases(spec: type[Spec]) -> tuple[tuple[str, str], ...]:
    """The name of each field, and the name that the author writes."""
    return tuple((name, info.alias or name) for name, info in spec.model_fields.items())


# What a document comes to on the service ----------------------------------------------------------------------------


class Slot(NamedTuple):
    """A place for at most one current remote object: an address and, where a document makes several, which of them."""

    address: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.address}:{self.part}" if self.part else self.address


@dataclass(frozen=True)
class Known:
    """Stands for an output of another slot, known after that slot was applied.

    With a `digest` the reference is compared by that content and not by the id it resolves to, so that the same rows
    uploaded again change nothing.
    """

    slot: Slot
    output: str
    digest: str = ""


class Share(NamedTuple):
    """Which rows of a data set belong to an upload: assigned by hash(seed, row), identical rows kept together."""

    part: Literal["train", "validation"]
    validation: float
    seed: int


@dataclass(frozen=True)
class Content:
    """The bytes of one upload, described and never held: which rows of which files, and what they hash to.

    `paths` are relative to the project root; `tokens` is an estimate unless they were `counted`, None for an archive.
    """

    filename: str
    paths: tuple[str, ...]
    size: int
    md5: str
    rows: int | None = None
    tokens: int | None = None
    share: Share | None = None
    counted: bool = False

    @property
    def digest(self) -> str:
        return f"{self.md5}-{self.size}"


class Probe(NamedTuple):
    """One prompt put to a running object, and what its answer must hold."""

    prompt: str
    contains: str | None = None
    regex: str | None = None

    def failure(self, answer: str) -> str | None:
        """Why this answer is not good enough, or None."""
        if not answer.strip():
            return "the answer is empty"
        if self.contains is not None and self.contains not in answer:
            return f"the answer does not contain {self.contains!r}"
        if self.regex is not None and not re.search(self.regex, answer):
            return f"the answer does not match {self.regex!r}"
        return None


@dataclass(frozen=True)
class Part:
    """What one slot should hold: authored fields only, by the author's names, each with its place.

    A value may be a `Known`. `base` is the base model code behind the fields, `tokens` what a run would read (an
    estimate unless `counted`) and `lengths` in which rows, `format` how the rows of an upload read and `max_dropped`
    how many of them may be left out: for prices and limits, never compared. `remarks` are for the person who decides
    about it. `collection` names where it lives, "" for the one of its document.
    """

    slot: Slot
    fields: Mapping[str, Any]
    at: Mapping[str, Position] = field(default_factory=dict)
    content: Content | None = None
    probes: tuple[Probe, ...] = ()
    base: str = ""
    tokens: int | None = None
    counted: bool = False
    lengths: Lengths | None = None
    format: str = ""
    max_dropped: Fraction | None = None
    remarks: tuple[str, ...] = ()
    collection: str = ""


@dataclass(frozen=True)
class Inputs:
    """What a kind may read to make its parts: its own files, already described, and the parts of what it references.

    `lengths` are those of the uploads in its `reading`, by their digests; `learnt` says of those it is validated on how
    many rows are also trained on, of any of which there are some.
    """

    files: tuple[Content, ...] = ()
    words: tuple[Mapping[str, Any], ...] = ()
    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    lengths: Mapping[str, Lengths] = field(default_factory=dict)
    learnt: Mapping[str, int] = field(default_factory=dict)


class Reading(NamedTuple):
    """Uploads that a model is to learn from, whose vocabulary counts them, and those it is to be validated on."""

    model: str = ""
    contents: tuple[Content, ...] = ()
    validating: tuple[Content, ...] = ()


class Action(StrEnum):
    """What the plan says of one slot. The value is its glyph."""

    CREATE = "+"
    UPDATE = "~"
    RUN = ">"
    SWAP = "±"
    DELETE = "-"
    FORGET = "o"
    ADOPT = "="
    WAIT = "…"
    BLOCKED = "!"


class Checks(NamedTuple):
    """What the author wants said of rows that repeat others, and how many rows there must be; None: what is advised."""

    duplicates: Literal["ignore", "warn", "error"] = "warn"
    near_duplicates: Literal["ignore", "warn", "error"] = "warn"
    min_rows: int | None = None


class Source(NamedTuple):
    """Local files a document is made from: patterns below the project root, how to read them, how to divide them."""

    patterns: tuple[str, ...]
    format: str
    path: Path
    validation: float | None = None
    seed: int = 0
    checks: Checks = Checks()


class Resource(Spec):
    """One kind: its fields with their marks, the collections it may live in, and the parts it comes to."""

    collections: ClassVar[tuple[type[Collection], ...]]

    @model_validator(mode="after")
    def _nothing_computed(self) -> Self:
        if chosen := self.model_fields_set & _computed(type(self)):
            names = ", ".join(sorted(type(self).model_fields[name].alias or name for name in chosen))
            raise ValueError(f"{names} is chosen by the service: leave it out")
        return self

    @property
    def collection(self) -> str:
        """The name of the collection that holds it."""
        return self.collections[0].name

    @property
    def source(self) -> Source | None:
        """The local files it is made from, if any."""
        return None

    @property
    def consent(self) -> str:
        """What a paid re-run needs: Auto, Manual or Never."""
        return "Auto"

    def reading(self, inputs: Inputs) -> Reading:
        """What has to be counted before it is known what it comes to."""
        return Reading()

    def fits(self, inputs: Inputs, profile: ProfileCatalogue) -> Iterator[Finding]:
        """What is wrong with the files and documents this one is made from. Yields every finding."""
        yield from ()

    def parts(self, document: Document, inputs: Inputs) -> tuple[Part, ...]:
        """What it comes to on the service, one part for each slot."""
        raise NotImplementedError


@cache
def _computed(kind: type[Resource]) -> frozenset[str]:
    return frozenset(name for name, info in kind.model_fields.items() if Mark.COMPUTED in info.metadata)


# What is said to the service, and what it answers -------------------------------------------------------------------


class Effect(StrEnum):
    """What sending a request twice would do; the only thing that decides whether it may be sent again."""

    READ = "read"  # nothing
    REPEATABLE = "repeatable"  # the same as sending it once
    ONCE = "once"  # perhaps a second object, or a second bill


@dataclass(frozen=True)
class Request:
    """One call, as a value. `path` is below the endpoint's base; `body` may hold `Known` until `fill`."""

    operation: str
    method: str
    path: str
    effect: Effect = Effect.READ
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Json | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    content: Content | None = None


def segment(remote_id: str) -> str:
    """An id of the service as one path segment; ids that could climb out of it are refused."""
    if not identifier(remote_id):
        raise UnusableId(f"not an id that can stand in a path: {remote_id!r}")
    return quote(remote_id, safe="")


class Phase(StrEnum):
    """How far an object is. UNKNOWN is a status word we have never heard: neither success nor failure."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Observed:
    """What the service said of one object at one moment. A field it did not mention is absent, not None.

    `outputs` are facts others may need (`Known.output`) or a person may want; `detail` is its own reason for a failure.
    """

    id: str
    phase: Phase
    status: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""


class DriftClass(StrEnum):
    """What became of an object that is no longer as it was last applied (docs/drift.md)."""

    CHANGED = "changed"  # somebody edited it beside us
    REPLACED = "replaced"  # it holds another content than was sent
    VANISHED = "vanished"  # it is gone, or being deleted, and not by us
    RELEASED = "released"  # gone as well, and the platform lets such an object go by itself
    RETIRED = "retired"  # taken offline
    ARREARS = "arrears"  # taken down for an unpaid bill
    STOPPED = "stopped"  # stopped, suspended or canceled
    FAILED = "failed"  # it failed while it was in use
    UNKNOWN = "unknown"  # it has a status that this program does not know

    @property
    def platform_made(self) -> bool:
        """Whether most likely no person did it."""
        return self in (DriftClass.RELEASED, DriftClass.RETIRED, DriftClass.ARREARS)


class Disturbance(NamedTuple):
    """What became of an object as a whole, and what is known of why."""

    sort: DriftClass
    why: str


@dataclass(frozen=True)
class Price:
    """What something costs in CNY; None is unknown, never zero. `basis` is the sum behind it, in words.

    `prepaid` is a month of it bought in advance, where it is sold so; we never buy it so.
    """

    once: Decimal | None = FREE
    hour: Decimal | None = FREE
    basis: str = ""
    prepaid: Decimal | None = None


class Sign(NamedTuple):
    """What one listed object shows of a fact of the account, and where it shows it. `name` is one of the `facts`."""

    name: str
    holds: bool
    evidence: str


class Quota(NamedTuple):
    """How much of one limit of the account is used up, and how much more is `wanted`; `of_bytes`: it is no count."""

    what: str
    used: int
    limit: int
    of_bytes: bool = False
    wanted: int = 0


class Measurement(NamedTuple):
    """What one line of a log says of a run at a step of it, by the names the log uses."""

    step: int
    values: Mapping[str, float]


class Match(StrEnum):
    """Whether a remote object is the effect of a given creation."""

    STRONG = "strong"
    WEAK = "weak"
    NO = "no"


Names = Mapping[str, Mapping[str, str]]  # kind -> id, or model, of an object of it -> the name that declares it


class Collection:
    """One collection of the service: the requests it understands and how its answers read.

    Methods return `Request` values; only `api.py` sends them. An answer arrives as parsed JSON and may lack anything.
    """

    name: ClassVar[str]
    page_size: ClassVar[int] = 100
    slow: ClassVar[bool] = False  # creation takes minutes to hours: what waits for it is a later stage of a plan
    poll_s: ClassVar[tuple[float, float]] = (1.0, 30.0)  # first and longest pause between two list passes
    verified: ClassVar[frozenset[str]] = frozenset()  # fields that must read back as sent before the object is used
    keeps_records: ClassVar[bool] = False  # True: the service may refuse to delete what is finished
    created_as: ClassVar[Action] = Action.CREATE
    replaced_as: ClassVar[Action] = Action.SWAP
    keeps_superseded: ClassVar[bool] = False  # True: an old object is history, not waste
    recreated_when_lost: ClassVar[bool] = True  # False: what was paid for once is not bought again unasked
    fixed: ClassVar[bool] = False  # True: nothing about an object can be changed
    changeable: ClassVar[frozenset[str]] = frozenset()  # fields that `update` brings up to date
    hidden: ClassVar[frozenset[str]] = frozenset()  # those among them that are never shown
    deletion: ClassVar[DeletionPolicy] = "Delete"  # what happens to an object whose author wrote no policy
    material: ClassVar[bool] = False  # True: only there for others to use, so waste where nothing refers to it
    gone: ClassVar[frozenset[str]] = frozenset()  # statuses that mean the object is no more
    settle_s: ClassVar[float] = 240.0  # this long after a creation can last have been sent, what is absent stays absent
    unique_mark: ClassVar[bool] = False  # True: the service refuses a second object with the same mark
    facts: ClassVar[Mapping[str, str]] = NOTHING  # what its objects can show of the account that no page settles

    def __init__(self, profile: ProfileCatalogue) -> None:
        self.profile = profile

    def list(self, page: int) -> Request | None:
        """One page, counted from 1; None where the service keeps no list of them all."""
        raise NotImplementedError

    def items(self, reply: Json) -> tuple[Json, ...] | None:
        """The objects of one page; None where the answer holds no list that can be read: that is not an empty one."""
        raise NotImplementedError

    def total(self, reply: Json) -> int | None:
        """How many there are over all pages, where the service says."""
        return None

    def read(self, remote_id: str) -> Request:
        raise NotImplementedError

    def item(self, remote_id: str, reply: Json) -> Json | None:
        """The object inside the answer to `read`: empty where it cannot be read, None where it is said not to exist."""
        raise NotImplementedError

    def parse(self, item: Json) -> Observed:
        raise NotImplementedError

    def create(self, part: Part, tag: str) -> Request:
        """The one request that makes it. `tag` is put wherever the service will show it again."""
        raise NotImplementedError

    def created_id(self, reply: Json, request: Request | None) -> str | None:
        """The new object's id, looked for tolerantly and before anything else is validated."""
        raise NotImplementedError

    def refusal(self, reply: Json) -> str:
        """Why a success status is a refusal all the same, or ""."""
        return ""

    def clash(self, part: Part, old: Mapping[str, Any]) -> str:
        """Why a replacement cannot live beside the object that was made with the fields `old`, or ""."""
        return ""

    def update(self, remote_id: str, part: Part, changed: frozenset[str]) -> tuple[Request, ...]:
        """What brings these fields up to date; sent one after the other, each waited for."""
        raise NotImplementedError

    def delete(self, remote_id: str) -> Request:
        raise NotImplementedError

    def cancel(self, seen: Observed) -> Request | None:
        """What stops it while it is under way, where the service can do that; it ends as a failed one."""
        return None

    def discard(self, seen: Observed) -> Request:
        """What stops the costs of an object that nobody meant to have."""
        return self.delete(seen.id)

    def stale(self, seen: Observed, recorded: Mapping[str, Any]) -> bool:
        """Whether a list entry is not enough and the object must be read to know its fields."""
        return False

    def unsettled(self, outputs: Mapping[str, Any]) -> bool:
        """Whether it was read so soon that one more change would not show: until that is over it is read each time."""
        return False

    def foreign(self, seen: Observed, recorded: Mapping[str, Any]) -> frozenset[str]:
        """Fields that somebody else changed, though the service does not show what to."""
        return frozenset()

    def disturbance(self, seen: Observed) -> Disturbance | None:
        """What took an object out of use, where its status tells; None for one that simply failed."""
        return None

    def loss(self, fields: Mapping[str, Any], age_s: float) -> Disturbance:
        """What to make of an object with these fields that is gone, so long after it was made."""
        return Disturbance(DriftClass.VANISHED, "is gone from the service")

    def marks(self, fields: Mapping[str, Any]) -> bool:
        """Whether what is created with these fields carries a mark that only we give."""
        return True

    def matches(self, tag: str, part_fields: Mapping[str, Any], seen: Observed) -> Match:
        """Whether `seen` is what a creation with this tag and these fields made."""
        return Match.STRONG if tag and tag in str(seen.outputs.get("mark", "")) else Match.NO

    def lasting(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that an object keeps for life. Its mark is made from these, so that it outlives every update."""
        return {name: value for name, value in fields.items() if name not in self.changeable}

    def named(self, fields: Mapping[str, Any]) -> str:
        """The id that an object with these fields has, where it follows from them, or ""."""
        return ""

    def signed(self, seen: Observed) -> bool:
        """Whether it carries a mark of the form that ours have, whoever gave it."""
        return False

    def resembles(self, slot: Slot, fields: Mapping[str, Any], seen: Observed) -> bool:
        """Whether a person should be asked if this is the slot's: nothing proves it, and nothing rules it out."""
        return self.matches("", fields, seen) is Match.WEAK

    def claimed(self, seen: Observed) -> bool:
        """Whether another stack may have made it, so that only a person takes it over."""
        return self.signed(seen)

    def told(self, seen: Observed) -> Mapping[str, Any]:
        """What an object shows of the fields it was made with, references by id."""
        return seen.fields

    def differs(self, fields: Mapping[str, Any], seen: Observed) -> tuple[str, ...]:
        """The fields in which an object was made otherwise than these say, as far as it shows; references by id."""
        told, lasting = self.told(seen), self.lasting(fields)
        return tuple(name for name in sorted(lasting) if name in told and not within(lasting[name], told[name]))

    def same(self, fields: Mapping[str, Any], seen: Observed) -> bool:
        """Whether what it shows proves that it is as these fields say: all that no call changes, nothing by silence."""
        told, lasting = self.told(seen), self.lasting(fields)
        return bool(lasting) and all(name in told and within(lasting[name], told[name]) for name in lasting)

    def label(self, seen: Observed) -> str:
        """What a person called it, as far as it shows, or ""."""
        return ""

    def spec(self, seen: Observed, names: Names, source: Source | None) -> Json | str:
        """What an author would write to declare this very object, or why nobody can.

        `source` is where its content lies, where it has one.
        """
        return "it is part of another object"

    def content(self, reply: Json) -> str:
        """The link inside the answer to `read` under which its content can be fetched, or "". It is a secret."""
        return ""

    def shows_at_once(self, tag: str, fields: Mapping[str, Any], seen: Observed) -> bool | None:
        """Whether `seen`, created with this tag, shows it as it would from its first moment on; None tells neither."""
        return self.matches(tag, fields, seen) is Match.STRONG

    def signs(self, item: Json, tag: str, fields: Mapping[str, Any]) -> Iterator[Sign]:
        """What an entry of the list shows of `facts`; a fact on which it is silent is left out.

        `tag` and `fields` are what it was created with; an object that is not certainly ours has neither.
        """
        yield from ()

    def quotas(self, seen: Sequence[Observed], limits: Limits, making: Sequence[Part] = ()) -> tuple[Quota, ...]:
        """What all objects of the list use up of these limits, and what more would be wanted to make these parts."""
        return ()

    def offers(self, page: int) -> Request | None:
        """One page, counted from 1, of what the service offers to make these objects of; None where it does not say."""
        return None

    def offered(self, reply: Json) -> tuple[Json, ...] | None:
        """The offers of one page; None where the answer cannot be read."""
        return None

    def fits(self, fields: Mapping[str, Any], base: str, offers: Sequence[Json]) -> Iterator[Finding]:
        """What the service, which offers this, would refuse of these fields. A warning: what nobody can tell."""
        yield from ()

    def price(
        self, fields: Mapping[str, Any], *, base: str = "", tokens: int | None = None, counted: bool = False
    ) -> Price:
        """What an object with these fields costs. `tokens` is an estimate unless they were `counted`."""
        return Price()

    def passes(self, fields: Mapping[str, Any]) -> int:
        """How often what is made with these fields reads its tokens."""
        return 1

    def logs(self, remote_id: str, offset: int) -> Request | None:
        """Log lines from `offset` on, where the collection keeps any."""
        return None

    def log_lines(self, reply: Json) -> tuple[str, ...]:
        """The lines inside the answer to `logs`."""
        return ()

    def figure(self, lines: tuple[str, ...]) -> str:
        """The newest number worth watching in these log lines, or ""."""
        return ""

    def measurements(self, lines: Sequence[str]) -> tuple[Measurement, ...]:
        """Everything that these log lines measured, in their order."""
        return ()

    def probe(self, remote_id: str, prompt: str) -> Request | None:
        """One prompt to a running object, where that means something."""
        return None

    def answer(self, reply: Json) -> str:
        """The text inside the answer to `probe`."""
        return ""


class Paged(Collection):
    """A collection under a path of its own: GET by page, GET and DELETE by id, objects inside an envelope."""

    path: ClassVar[str]
    envelope: ClassVar[str] = "output"
    members: ClassVar[str]  # the list inside the envelope of a page
    id_field: ClassVar[str]

    def list(self, page: int) -> Request:
        query = {"page_no": page, "page_size": self.page_size}
        return Request(f"{self.name}.list", "GET", self.path, query=query)

    def items(self, reply: Json) -> tuple[Json, ...] | None:
        found = dig(reply, self.envelope, self.members)
        return () if found is None and self.total(reply) == 0 else entries(found)

    def total(self, reply: Json) -> int | None:
        return whole(dig(reply, self.envelope, "total"))

    def read(self, remote_id: str) -> Request:
        return Request(f"{self.name}.get", "GET", f"{self.path}/{segment(remote_id)}")

    def item(self, remote_id: str, reply: Json) -> Json | None:
        return named(dig(reply, self.envelope), self.id_field, remote_id)

    def created_id(self, reply: Json, request: Request | None) -> str | None:
        return identifier(dig(reply, self.envelope, self.id_field)) or None

    def delete(self, remote_id: str) -> Request:
        path = f"{self.path}/{segment(remote_id)}"
        return Request(f"{self.name}.delete", "DELETE", path, effect=Effect.REPEATABLE)


# Small readers of untrusted JSON ------------------------------------------------------------------------------------


def dig(value: Any, *path: str) -> Any:
    """The member at `path`, or None where anything on the way is missing or of another shape."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def mapping(value: Any) -> Json:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def rows(value: Any) -> tuple[Json, ...]:
    """The mappings of a list; anything else in it, or instead of it, is left out."""
    return tuple(item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()


def entries(value: Any) -> tuple[Json, ...] | None:
    """A list of objects; None where it is none, or holds anything else: then nobody knows what is missing from it."""
    return tuple(value) if isinstance(value, list) and all(isinstance(item, Mapping) for item in value) else None


def named(value: Any, id_field: str, remote_id: str) -> Json:
    """An object that was asked for by its id. An answer may leave the id out, and may not name another."""
    found = mapping(value)
    return {**found, id_field: remote_id} if found and found.get(id_field) is None else found


def identifier(value: Any) -> str:
    """A name that the service gave and that can stand in a path, or "": never a number, never half a guess."""
    fits = isinstance(value, str) and re.fullmatch(r"[\w.:-]{1,200}", value) and value.strip(".")
    return value if fits else ""


def string(value: Any) -> str:
    """A string, or "" for whatever is none."""
    return value if isinstance(value, str) else ""


def text(value: Any) -> str:
    """A string, or "" for whatever is none; numbers are written out."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def whole(value: Any) -> int | None:
    """An integer as the service may spell it (4, 4.0, "4"), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value) else None


def said(**fields: Any) -> dict[str, Any]:
    """The fields the service did mention."""
    return {name: value for name, value in fields.items() if value not in (None, "")}


def within(wanted: Any, told: Any) -> bool:
    """Whether what is told is what is wanted; it may say more."""
    if isinstance(wanted, Mapping) and isinstance(told, Mapping):
        return all(name in told and within(value, told[name]) for name, value in wanted.items())
    if isinstance(wanted, list | tuple) and isinstance(told, list | tuple):
        return len(wanted) == len(told) and all(map(within, wanted, told))
    return bool(wanted == told)


def pick(value: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value[name] for name in names if name in value}
