"""Faults as values: a rule names operations by a pattern, says which of the matching calls it meets, and lists effects.

Here rules are read and asked whether they meet a call; nothing is stored, counted or carried out (`firing.py`,
`fates.py` and `delivery.py` do).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from inspect import isclass
from random import Random
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

RULES_MAX = 1000
AGES_MAX_S = 10 * 366 * 24 * 3600
Moment = Literal["before", "after"]
"""Before or after the call is committed."""
How = Literal["reset", "close"]
Seconds = Annotated[float, Field(ge=0, le=AGES_MAX_S)]
Counts = Annotated[
    list[Annotated[int, Field(ge=1)]],
    Field(min_length=1),
    BeforeValidator(lambda given: given if isinstance(given, list) else [given]),
]
Pattern = Annotated[str, Field(max_length=100)]


def _sendable(given: str) -> str:
    if not (given.isascii() and given.isprintable() and given == given.strip()):
        raise ValueError("takes printable ASCII without space around it, as a header does")
    return given


HeaderText = Annotated[
    str,
    BeforeValidator(lambda given: str(given) if type(given) in (int, float) else given),
    AfterValidator(_sendable),
]
BODILESS = (204, 304)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Answer(_Strict):
    """An answer instead of the true one. A member left out is what is usual for the status.

    `body`: `error` is the service's JSON with `code` and `message`, `kept` the true answer, `truncated` the first half
    of it; `text` is a body word for word. `retry_after` is sent as it is, `retry_after_date_s` as a date so far ahead.
    """

    status: int | None = Field(default=None, ge=200, le=599)
    code: str = ""
    message: str = ""
    body: Literal["error", "kept", "truncated", "garbage", "html", "empty"] | None = None
    text: str | None = None
    location: HeaderText | None = None
    retry_after: HeaderText | None = None
    retry_after_date_s: float | None = Field(default=None, ge=-AGES_MAX_S, le=AGES_MAX_S)

    @model_validator(mode="after")
    def _one_body(self) -> Answer:
        if self.text is not None and self.body is not None:
            raise ValueError("takes either body or text")
        if self.status in BODILESS and (self.text is not None or self.body not in (None, "empty")):
            raise ValueError(f"has status {self.status}, which has no body")
        return self


class Refusing(Answer):
    """An answer without the call being carried out, so that there is no true one to keep."""

    status: int = Field(default=500, ge=200, le=599)
    body: Literal["error", "garbage", "html", "empty"] | None = None


class Hold(_Strict):
    """A pause: so many seconds of ours or of the emulator's. What is held before the commit commits all the same."""

    real_s: Seconds | None = None
    emulated_s: Seconds | None = None
    moment: Moment = "before"

    @model_validator(mode="after")
    def _one_length(self) -> Hold:
        if (self.real_s is None) == (self.emulated_s is None):
            raise ValueError("takes either real_s or emulated_s")
        return self


class Drop(_Strict):
    """The connection ends without a byte of an answer."""

    moment: Moment = "after"
    how: How = "reset"


class Cut(_Strict):
    """The connection ends after so many bytes of the answer's body, or of its status line and headers."""

    after_bytes: int = Field(ge=0)
    part: Literal["body", "head"] = "body"
    how: How = "reset"


class Drip(_Strict):
    """The body comes at this pace; the head at once."""

    bytes_per_s: float = Field(gt=0, le=1e9)


class Hide(_Strict):
    """What was created in the last seconds, or since the n-th last of these reads, is not there yet for this read."""

    emulated_s: Seconds | None = None
    reads: int | None = Field(default=None, ge=1, le=10_000)

    @model_validator(mode="after")
    def _one_measure(self) -> Hide:
        if (self.emulated_s is None) == (self.reads is None):
            raise ValueError("takes either emulated_s or reads")
        return self


class Pages(_Strict):
    """Lists that change while they are read: see `backend.Paging`."""

    shift: Literal["insert", "delete", "repeat", "reorder"] | None = None
    total: int = 0


class Edit(_Strict):
    """Members of the true answer, by dotted paths in which `*` is every item of a list: set to a value, or removed."""

    set: dict[str, Any] = {}
    remove: list[str] = []


class Fate(_Strict):
    """What becomes of the object this call wrote: what it is so many emulated seconds from now, in order of time.

    Without `ready_capacity` a deployment has its capacity while it is RUNNING and none else.
    """

    statuses: list[tuple[Seconds, str]] = Field(min_length=1)
    ready_capacity: list[tuple[Seconds, int]] | None = Field(default=None, min_length=1)
    code: str = ""
    message: str = ""

    @model_validator(mode="after")
    def _in_order(self) -> Fate:
        for entries in (self.statuses, self.ready_capacity or []):
            times_s = [after_s for after_s, _ in entries]
            if times_s != sorted(times_s):
                raise ValueError("must be in order of time")
        return self


class Rule(_Strict):
    """Which calls, and which effects. The conditions given must all hold; without any the rule meets every call.

    Calls are counted from 1, those of the rule's operations only.
    """

    operation: Pattern
    name: Annotated[str, Field(max_length=200)] = ""
    nth: Counts | None = None
    from_: int = Field(default=1, alias="from", ge=1)
    every: int = Field(default=1, ge=1)
    probability: float = Field(default=1, ge=0, le=1)
    seed: int | None = None
    times: int | None = Field(default=None, ge=1)
    refuse: Refusing | None = None
    throttle: Literal["rate", "quota"] | None = None
    hold: Hold | None = None
    drop: Drop | None = None
    cut: Cut | None = None
    drip: Drip | None = None
    endless: Literal[True] | None = None
    answer: Answer | None = None
    hide: Hide | None = None
    pages: Pages | None = None
    edit: Edit | None = None
    fate: Fate | None = None
    date_offset_s: float | None = Field(default=None, ge=-AGES_MAX_S, le=AGES_MAX_S)

    @model_validator(mode="after")
    def _some_effect(self) -> Rule:
        if not self.effects:
            raise ValueError(f"has no effect; one is needed of {', '.join(EFFECTS)}")
        if sum(name in self.effects for name in ("refuse", "throttle", "answer")) > 1:
            raise ValueError("takes one of refuse, throttle and answer")
        return self

    @property
    def effects(self) -> tuple[str, ...]:
        return tuple(name for name in EFFECTS if getattr(self, name) is not None)

    @property
    def title(self) -> str:
        """What the ledger calls it."""
        return self.name or f"{self.operation}: {', '.join(self.effects)}"

    def meets(self, number: int, *, fired: int, seed: int) -> bool:
        """Whether the call of this number is met; the same for the same seed, whatever happened before."""
        chance = Random(f"{seed if self.seed is None else self.seed}/{self.title}/{number}").random()
        return (
            (self.nth is None or number in self.nth)
            and number >= self.from_
            and number % self.every == 0
            and chance < self.probability
            and (self.times is None or fired < self.times)
        )


EFFECTS = (
    *("refuse", "throttle", "hold", "drop", "cut", "drip", "endless", "answer", "hide", "pages", "edit", "fate"),
    "date_offset_s",
)


THROTTLES: Mapping[str, Answer] = {
    "rate": Answer(status=429, retry_after="1"),
    "quota": Answer(
        status=429,
        code="Throttling",
        message="Only 20 fine-tune job in running or succeeded allowed per user.",
    ),
}
"""A rate, which passes, and a quota, which does not (contract §2.12, §8.2)."""


def parse(given: object, operations: Collection[str], *, where: str = "faults") -> tuple[Rule, ...]:
    """The rules of a list of them. Raises ValueError that names every mistake, with a suggestion where one is near."""
    if not isinstance(given, list) or len(given) > RULES_MAX:
        raise ValueError(f"{where} takes a list of at most {RULES_MAX} rules")
    rules, problems = [], []
    for position, item in enumerate(given):
        place = f"{where}[{position}]"
        try:
            rule = Rule.model_validate_json(json.dumps(item, default=str, allow_nan=False))
        except ValidationError as error:
            problems += [_problem(place, dict(mistake)) for mistake in error.errors()]
        except (ValueError, TypeError) as error:  # TypeError: a key that is no text, as YAML may have it
            problems.append(f"{place}: {error}")
        else:
            rules.append(rule)
            if not any(fnmatchcase(operation, rule.operation) for operation in operations):
                hint = did_you_mean(rule.operation, operations)
                problems.append(f"{place}.operation: no operation is called {rule.operation!r}{hint}")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(rules)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    near = get_close_matches(word[:100], list(choices), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _problem(place: str, mistake: Mapping[str, Any]) -> str:
    """One finding of pydantic in words, with the member that could have been meant."""
    steps = mistake["loc"]
    path = place + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    if mistake["type"] == "extra_forbidden":
        return f"{path}: unknown{did_you_mean(steps[-1], _members(steps[:-1]))}"
    text = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{path}: {text[:1].lower()}{text[1:]}"


def _members(path: tuple[str, ...]) -> list[str]:
    """What a rule, or the effect at this path of it, may hold."""
    kinds = get_args(Rule.model_fields[path[0]].annotation) if path else ()
    owner = next((kind for kind in kinds if isclass(kind) and issubclass(kind, BaseModel)), Rule)
    return [info.alias or name for name, info in owner.model_fields.items()]
