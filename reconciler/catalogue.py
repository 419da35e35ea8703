"""What the service offers and what it costs, as values: models, speech models, hyper-parameters, prices, limits.

Everything comes from `catalogue.json`, where each fact carries its source; a user's overrides are laid over it by model
code. Money is Decimal and an unknown price is None, never 0. Pure but for reading the packaged file; it knows no kind,
no manifest and no account.
"""

from __future__ import annotations

import datetime as dt
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import cache, cached_property, partial
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

JsonObject = Mapping[str, Any]
Overlong = Literal["dropped", "truncated", "dropped or truncated"]
Reader = Callable[[Any, str], Any]
Shape = TypeVar("Shape")


def load(overrides: JsonObject | None = None) -> Catalogue:
    """The packaged catalogue, or that catalogue with `overrides` laid over it.

    Overrides have the shape of the file: objects are merged key by key, the lists of models by `code`, any other list
    is replaced. A misspelt key or an impossible value raises ValueError with its place.
    """
    return _catalogue(_overridden(overrides)) if overrides else _packaged()


def other_limits(profile: str) -> tuple[Limits, ...]:
    """What the pages of other profiles say of the same limits: the service's own documents dispute some of them."""
    return tuple(other.limits for name, other in load().profiles.items() if name != profile)


@dataclass(frozen=True)
class Source:
    """The page a fact was read from; `date` is the one it shows, None for a stored copy without one (see `note`)."""

    url: str
    date: dt.date | None
    note: str | None


@dataclass(frozen=True)
class Retirement:
    """From `date` on a model takes no new tuning or deployment; what exists keeps working (contract §2.10)."""

    date: dt.date
    source: str | None


@dataclass(frozen=True)
class TokenPrice:
    """CNY per 1,000 tokens of a deployment that is billed per call."""

    input: Decimal
    output: Decimal
    output_thinking: Decimal | None


@dataclass(frozen=True)
class Model:
    """A model as one profile offers it.

    `training_price` is CNY per 1,000 training tokens. `instance` names the instance plan that a deployment buys
    (dec-2024), `model_units` the specs with a published unit price (2026). `vocabulary` is what turns its texts into
    tokens, None where nobody publishes it. `inferred` names the fields that no page states outright.
    """

    code: str
    name: str
    family: str
    modality: Literal["text", "vl"]
    vocabulary: Literal["qwen", "qwen3.5"] | None
    token_max_length: int | None
    retired: Retirement | None
    training_types: tuple[str, ...]
    training_price: Decimal | None
    instance: str | None
    model_units: tuple[str, ...]
    token_price: TokenPrice | None
    inferred: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class SpeechModel:
    """A model that takes hotwords, through one of two services: vocabulary (contract §4) or phrase (contract §5)."""

    code: str
    service: Literal["vocabulary", "phrase"]
    max_words: int
    languages: tuple[str, ...]
    retired: Retirement | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Values:
    """The values a hyper-parameter takes; an empty `enum` is any. `fold`: letter case does not matter in `enum`."""

    type: Literal["int", "float", "string", "bool"]
    min: float | None
    max: float | None
    enum: tuple[str, ...]
    fold: bool


@dataclass(frozen=True)
class HyperParameter(Values):
    """One key of `hyper_parameters` (contract §2.8).

    `about` is what it means, in a sentence. `each` is set where the value is a comma-separated string, and holds for
    every element. Empty `training_types` and no `modality` mean all. `default` is what the pages print, None where they
    print nothing.
    """

    name: str
    about: str | None
    each: Values | None
    default: bool | int | float | str | None
    required: bool
    training_types: tuple[str, ...]
    modality: Literal["text", "vl"] | None
    inferred: tuple[str, ...]
    source: str | None
    range_source: str | None


@dataclass(frozen=True)
class Price:
    """CNY for one model unit or one instance; `base_capacity` is None where no page states it."""

    hour: Decimal
    month: Decimal | None
    base_capacity: int | None
    source: str | None
    base_capacity_source: str | None


@dataclass(frozen=True)
class Limits:
    """What one account may hold (contract §1.3, §2.12, §4)."""

    file_bytes: int
    total_bytes: int
    files: int
    jobs: int
    vocabularies: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """Every profile of the file. `date` is that of the newest price table."""

    date: dt.date
    currency: str
    sources: Mapping[str, Source]
    profiles: Mapping[str, ProfileCatalogue]

    def for_profile(self, profile: str) -> ProfileCatalogue:
        """The view one API generation has; ValueError for a profile the file does not hold."""
        if profile not in self.profiles:
            raise ValueError(f"no profile {profile!r} in the catalogue, only {', '.join(self.profiles)}")
        return self.profiles[profile]


@dataclass(frozen=True)
class ProfileCatalogue:
    """What one profile offers. `plans` is empty where a deployment is a plain instance without a plan.

    `overlong` says of each training type what becomes of rows beyond max_length, as far as pages agree (contract §2.8).
    """

    profile: str
    as_of: dt.date
    plans: tuple[str, ...]
    training_types: Mapping[str, str]
    overlong: Mapping[str, Overlong]
    hyper_parameters: tuple[HyperParameter, ...]
    model_units: Mapping[str, Price]
    instances: Mapping[str, Price]
    models: tuple[Model, ...]
    speech_models: tuple[SpeechModel, ...]
    limits: Limits

    def model(self, code: str) -> Model | None:
        return self._models.get(code)

    @cached_property
    def _models(self) -> Mapping[str, Model]:
        return {model.code: model for model in reversed(self.models)}

    def speech_model(self, code: str) -> SpeechModel | None:
        return next((model for model in self.speech_models if model.code == code), None)

    def hyper_parameter(self, name: str) -> HyperParameter | None:
        return next((parameter for parameter in self.hyper_parameters if parameter.name == name), None)

    @property
    def required_hyper_parameters(self) -> tuple[str, ...]:
        """The keys that a create call must carry (contract §2.1)."""
        return tuple(parameter.name for parameter in self.hyper_parameters if parameter.required)

    def retirement(self, code: str) -> str:
        """A warning where a model is retired, or will be within half a year of the catalogue's date; else ""."""
        offer = self._offer(code)
        if offer is None or offer.retired is None or (offer.retired.date - self.as_of).days > RETIRES_SOON_DAYS:
            return ""
        return f"{offer.code} retires on {offer.retired.date}: no new tuning or deployment from then on"

    def retires(self, code: str) -> dt.date | None:
        """The day from which a model, or the base of a tuned one, takes nothing new; None where none is announced."""
        offer = self._offer(code)
        return offer.retired.date if offer and offer.retired else None

    def suggest(self, code: str) -> str | None:
        """The offered model or speech model that was probably meant by `code`."""
        offered = [model.code for model in self.models] + [model.code for model in self.speech_models]
        return next(iter(get_close_matches(code.strip().lower(), offered, n=1)), None)

    def base_of(self, code: str) -> str | None:
        """The base model of a tuned model's id, such as `qwen3.5-9b-support-ft-202611021405-a1b2` (contract §2.3).

        None where the id has another form or its base is not offered. The suffix is free text: the longest base wins.
        """
        tail = _TUNED.search(code)
        if not tail:
            return None
        head = code[: tail.start()]
        bases = [model.code for model in self.models if head == model.code or head.startswith(f"{model.code}-")]
        return max(bases, key=len, default=None)

    def vocabulary(self, code: str) -> str | None:
        """The vocabulary of a model; a tuned one has that of its base."""
        model = self._model_or_base(code)
        return model.vocabulary if model else None

    def token_max_length(self, code: str) -> int | None:
        """How many tokens a model reads at most, where a page says (contract §2.11)."""
        model = self._model_or_base(code)
        return model.token_max_length if model else None

    def training_price(self, code: str) -> Decimal | None:
        """CNY per 1,000 training tokens; a tuned model costs what its base costs (contract §2.13)."""
        model = self._model_or_base(code)
        return model.training_price if model else None

    def training_cost(self, *, tokens: int, epochs: int, model: str) -> Decimal | None:
        """CNY of one run over `tokens` training tokens, not rounded; None: the price is unknown (contract §2.13)."""
        price = self.training_price(model)
        return None if price is None else tokens * epochs * price / 1000

    def hourly_price(self, model: str, *, plan: str | None, deploy_spec: str | None, capacity: int) -> Decimal | None:
        """CNY an hour of a RUNNING deployment that nobody calls; None: no price is published (contract §3.7)."""
        if plan == "lora" and plan in self.plans:
            return Decimal(0)  # billed per token alone
        offer = self._model_or_base(model)
        price = self._unit_price(offer, plan=plan, deploy_spec=deploy_spec) if offer else None
        return None if price is None else capacity * price.hour

    def prepaid_month(self, model: str, *, plan: str | None, deploy_spec: str | None, capacity: int) -> Decimal | None:
        """CNY of a month of it bought in advance, which the console sells; None: not sold so, as far as pages say."""
        offer = self._model_or_base(model)
        price = self._unit_price(offer, plan=plan, deploy_spec=deploy_spec) if offer else None
        return None if price is None or price.month is None else capacity * price.month

    def base_capacity(self, plan: str | None, deploy_spec: str | None) -> int | None:
        """The number a capacity must be a multiple of, as far as pages state it (contract §3.1, §3.2).

        Only the service's own list of deployable models is certain of it.
        """
        if not self.plans or plan == "lora":
            return 1  # instances are bought one by one; under lora any capacity will do
        unit = self.model_units.get(deploy_spec or "") if plan == "mu" else None
        return unit.base_capacity if unit else None

    def _offer(self, code: str) -> Model | SpeechModel | None:
        return self._model_or_base(code) or self.speech_model(code)

    def _model_or_base(self, code: str) -> Model | None:
        return self.model(code) or self.model(self.base_of(code) or "")

    def _unit_price(self, offer: Model, *, plan: str | None, deploy_spec: str | None) -> Price | None:
        if not self.plans:
            return self.instances.get(offer.instance or "") if plan is None else None
        return self.model_units.get(deploy_spec) if plan == "mu" and deploy_spec in offer.model_units else None


RETIRES_SOON_DAYS = 180
_TUNED = re.compile(r"-ft-\d{12}-[0-9a-z]{4}(?=-|$)")


@cache
def _packaged() -> Catalogue:
    return _catalogue(_document())


@cache
def _document() -> JsonObject:
    data = pkgutil.get_data("reconciler", "catalogue.json")  # importlib.resources loads tempfile and zipfile as well
    assert data is not None
    document: JsonObject = json.loads(data, parse_float=Decimal)
    return document


def _overridden(overrides: JsonObject) -> JsonObject:
    document = _document()
    for section, value in _object(overrides, "catalogue").items():
        if section not in document:
            raise ValueError(f"catalogue: no section {section!r}{_did_you_mean(section, document)}")
        if value is None:
            raise _unexpected("a value", value, f"catalogue.{section}")
    merged: JsonObject = _merged(document, overrides, "catalogue")
    return merged


def _merged(base: Any, over: Any, where: str) -> Any:
    """`over` laid over `base`; neither is changed."""
    if isinstance(base, Mapping) and over is not None:
        below = _object(over, where).items()
        return {**base, **{key: _merged(base.get(key), value, f"{where}.{key}") for key, value in below}}
    if isinstance(base, list) and base and isinstance(base[0], Mapping):
        rows = {row["code"]: row for row in base}
        for row in _array(over, where):
            code = _text(_object(row, where).get("code"), f"{where}: code of a model")
            rows[code] = _merged(rows.get(code), row, f"{where}.{code}")
        return [*rows.values()]
    return over


def _catalogue(document: JsonObject) -> Catalogue:
    """The classes above are the schema of the file, name for name; here is only what a profile selects of it."""
    return Catalogue(
        date=_day(document["date"], "catalogue.date"),
        currency=_text(document["currency"], "catalogue.currency"),
        sources=_table(Source, document, "sources"),
        profiles={profile: _profile(document, profile) for profile in document["profiles"]},
    )


def _profile(document: JsonObject, profile: str) -> ProfileCatalogue:
    where = f"catalogue.profiles.{profile}"
    about = _object(document["profiles"][profile], where)
    return ProfileCatalogue(
        profile=profile,
        as_of=_day(about.get("as_of"), f"{where}.as_of"),
        plans=tuple(_text(plan, f"{where}.plans") for plan in _array(about.get("plans"), f"{where}.plans")),
        training_types=dict(_training_types(document, profile)),
        overlong=dict(_overlong(document, profile)),
        hyper_parameters=tuple(_hyper_parameters(document, profile)),
        model_units=_table(Price, document, "model_units"),
        instances=_table(Price, document, "instances"),
        models=tuple(_models(document, profile)),
        speech_models=tuple(_speech_models(document, profile)),
        limits=_build(Limits, document["limits"].get(profile), f"catalogue.limits.{profile}"),
    )


def _training_types(document: JsonObject, profile: str) -> Iterator[tuple[str, str]]:
    for name, row in document["training_types"].items():
        where = f"catalogue.training_types.{name}"
        if profile in _array(_object(row, where).get("profiles"), f"{where}.profiles"):
            yield name, _text(row.get("title"), f"{where}.title")


def _overlong(document: JsonObject, profile: str) -> Iterator[tuple[str, Overlong]]:
    for name, row in document["training_types"].items():
        where = f"catalogue.training_types.{name}.overlong"
        if fate := _object(row.get("overlong", {}), where).get(profile):
            yield name, _choice(fate, [*get_args(Overlong)], where)


def _hyper_parameters(document: JsonObject, profile: str) -> Iterator[HyperParameter]:
    for name, row in document["hyper_parameters"].items():
        where = f"catalogue.hyper_parameters.{name}"
        required = profile in _array(_object(row, where).get("required"), f"{where}.required")
        yield _build(HyperParameter, {**row, "name": name, "required": required}, where)


def _models(document: JsonObject, profile: str) -> Iterator[Model]:
    """Each model of the file with its own entry for this profile folded in."""
    for row in document["models"]:
        code, where = row["code"], f"catalogue.models.{row['code']}"
        offers = _object(row.get("profiles"), f"{where}.profiles")
        for name in offers:
            _choice(name, [*document["profiles"]], f"{where}.profiles")
        if profile in offers:
            offer = _object(offers[profile], f"{where}.profiles.{profile}")
            inferred = [*_array(row.get("inferred"), where), *_array(offer.get("inferred"), where)]
            fallback = {"name": code, "family": code, "modality": "text"}
            yield _build(Model, {**fallback, **_without_profiles(row), **offer, "inferred": inferred}, where)


def _speech_models(document: JsonObject, profile: str) -> Iterator[SpeechModel]:
    for row in document["speech_models"]:
        where = f"catalogue.speech_models.{row['code']}"
        if profile in _array(row.get("profiles"), f"{where}.profiles"):
            yield _build(SpeechModel, _without_profiles(row), where)


def _without_profiles(row: JsonObject) -> JsonObject:
    return {key: value for key, value in row.items() if key != "profiles"}


def _table(shape: Callable[..., Shape], document: JsonObject, section: str) -> dict[str, Shape]:
    return {name: _build(shape, row, f"catalogue.{section}.{name}") for name, row in document[section].items()}


def _build(shape: Callable[..., Shape], raw: Any, where: str) -> Shape:
    """A dataclass from an object of the file, each field read by its annotation; an absent key is unknown or empty."""
    readers, found = _readers(shape), _object(raw, where)
    for key in found:
        if key not in readers:
            raise ValueError(f"{where}: no key {key!r}{_did_you_mean(key, readers)}")
    return shape(**{name: read(found.get(name), f"{where}.{name}") for name, read in readers.items()})


@cache
def _readers(shape: Callable[..., object]) -> Mapping[str, Reader]:
    return {name: _reader(hint) for name, hint in get_type_hints(shape).items()}


def _reader(hint: Any) -> Reader:
    origin, arguments = get_origin(hint), [argument for argument in get_args(hint) if argument is not NoneType]
    if origin in (Union, UnionType):
        known = _reader(arguments[0]) if len(arguments) == 1 else _scalar
        return lambda value, where: None if value is None else known(value, where)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda value, where: tuple(item(each, where) for each in _array(value, where))
    if origin is Literal:
        return lambda value, where: _choice(value, arguments, where)
    return _SCALARS[hint] if hint in _SCALARS else partial(_build, hint)


def _object(value: Any, where: str) -> JsonObject:
    if not isinstance(value, Mapping):
        raise _unexpected("an object", value, where)
    return value


def _array(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise _unexpected("a list", value, where)
    return value or []


def _choice(value: Any, choices: list[Any], where: str) -> Any:
    if value not in choices:
        raise _unexpected(f"one of {', '.join(choices)}", value, where)
    return value


def _scalar(value: Any, where: str) -> bool | int | float | str:
    if not isinstance(value, bool | int | float | str | Decimal):
        raise _unexpected("a single value", value, where)
    return float(value) if isinstance(value, Decimal) else value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _unexpected("text", value, where)
    return value


def _flag(value: Any, where: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _unexpected("true or false", value, where)
    return bool(value)


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _unexpected("a whole number above 0", value, where)
    return value


def _bound(value: Any, where: str) -> float:
    """A float and not a Decimal: an author's 0.2 is a float, and would exceed a Decimal bound of 0.2."""
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        raise _unexpected("a number", value, where)
    return float(value)


def _money(value: Any, where: str) -> Decimal:
    """By way of text, so that an override's 0.02 is 0.02 and not its nearest binary fraction."""
    price = Decimal(str(value)) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else None
    if price is None or not price.is_finite() or price <= 0:
        raise _unexpected("a price above 0 (leave it null where it is unknown)", value, where)
    return price


def _day(value: Any, where: str) -> dt.date:
    """A date as JSON writes it, or already a date, as YAML reads it."""
    try:
        return value if isinstance(value, dt.date) else dt.date.fromisoformat(_text(value, where))
    except ValueError:
        raise _unexpected("a date such as 2026-05-26", value, where) from None


_SCALARS: Mapping[Any, Reader] = {
    str: _text,
    bool: _flag,
    int: _count,
    float: _bound,
    Decimal: _money,
    dt.date: _day,
}


def _unexpected(expected: str, found: Any, where: str) -> ValueError:
    return ValueError(f"{where}: expected {expected}, found {found!r}")


def _did_you_mean(word: object, known: Iterable[str]) -> str:
    meant = get_close_matches(str(word), known, n=1)
    return f", did you mean {meant[0]!r}?" if meant else ""
