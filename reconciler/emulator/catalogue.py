"""The packaged catalogue as the emulator reads it: data both sides of the wire share, by code neither shares.

One profile at a time: models, training types, prices, speech models and limits as that profile's service has them.
What the catalogue does not know stays None; no price is ever made up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from reconciler.emulator.switches import NEW, OLD


@dataclass(frozen=True)
class Model:
    """A base model. `units` are the model units it can be deployed on; `instance_hour` is the price of Dec 2024."""

    code: str
    modality: str
    token_max_length: int | None
    training_types: frozenset[str]
    training_price: Decimal | None
    units: tuple[str, ...] = ()
    instance_hour: Decimal | None = None


@dataclass(frozen=True)
class SpeechModel:
    code: str
    service: str
    max_words: int
    languages: frozenset[str] | None


@dataclass(frozen=True)
class Unit:
    """A model unit. Where the base capacity is unknown, deployments on it are counted in ones."""

    hour: Decimal
    base_capacity: int


@dataclass(frozen=True)
class Limits:
    file_bytes: int
    total_bytes: int
    files: int


@dataclass(frozen=True)
class Catalogue:
    models: Mapping[str, Model]
    speech_models: Mapping[str, SpeechModel]
    units: Mapping[str, Unit]
    training_types: frozenset[str]
    hyper_parameters: Mapping[str, Mapping[str, Any]]
    file_limits: Mapping[str, Limits]  # by position of the switch `files.limits`


def read(profile: str) -> Catalogue:
    data = _packaged()
    return Catalogue(
        models={
            row["code"]: _model(row, row["profiles"][profile], data)
            for row in data["models"]
            if profile in row["profiles"]
        },
        speech_models={
            row["code"]: SpeechModel(
                row["code"],
                row["service"],
                row["max_words"],
                None if row["languages"] is None else frozenset(row["languages"]),
            )
            for row in data["speech_models"]
            if profile in row["profiles"]
        },
        units={
            name: Unit(Decimal(row["hour"]), row["base_capacity"] or 1) for name, row in data["model_units"].items()
        },
        training_types=frozenset(name for name, row in data["training_types"].items() if profile in row["profiles"]),
        hyper_parameters=data["hyper_parameters"],
        file_limits={
            "old": _limits(data, OLD),
            "new": _limits(data, NEW),
            "none": replace(_limits(data, NEW), total_bytes=sys.maxsize, files=sys.maxsize),
        },
    )


@cache
def _packaged() -> dict[str, Any]:
    source = files("reconciler").joinpath("catalogue.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(source, parse_float=Decimal)
    return data


def _model(row: dict[str, Any], offer: dict[str, Any], data: dict[str, Any]) -> Model:
    price = offer["training_price"]
    instance = data["instances"].get(offer.get("instance"))
    return Model(
        code=row["code"],
        modality=row["modality"],
        token_max_length=row["token_max_length"],
        training_types=frozenset(offer["training_types"]),
        training_price=None if price is None else Decimal(price),
        units=tuple(offer.get("model_units") or data["model_units"]),  # none listed: not known, so none is refused
        instance_hour=None if instance is None else Decimal(instance["hour"]),
    )


def _limits(data: dict[str, Any], profile: str) -> Limits:
    row = data["limits"][profile]
    return Limits(row["file_bytes"], row["total_bytes"], row["files"])
