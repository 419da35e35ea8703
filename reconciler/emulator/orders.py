"""A job that is asked for: read and checked as the service does at once, and what it will find out later.

Promises an `Order` or a refusal, and for an order the `Failure` it will run into, if any. It reads training files and
the catalogue, and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from reconciler.emulator import models
from reconciler.emulator.backend import Backend, Transaction
from reconciler.emulator.dataset import LOST, MOUNTED, Survey, survey
from reconciler.emulator.fields import Json, items, mapping, optional_text, text, texts
from reconciler.emulator.refusal import bad_parameter, invalid
from reconciler.emulator.switches import NEW
from reconciler.emulator.training import whole

MAX_LENGTH_DEFAULT = 2048
CORE_HYPER_PARAMETERS = ("n_epochs", "batch_size", "max_length")
LORA = frozenset({"efficient_sft", "dpo_lora"})
LORA_HYPER_PARAMETERS = ("lora_rank", "lora_alpha", "lora_dropout")
MOUNT_REGIONS = ("cn-beijing", "ap-southeast-1")
_FILE_ID = re.compile("[0-9A-Za-z-]{1,80}")
_SUFFIX = re.compile("[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Order:
    """What a create asks for, checked."""

    model: models.Deployable
    training_type: str
    training: tuple[Json, ...]
    validation: tuple[Json, ...]
    hyper_parameters: Json
    suffix: str
    job_name: str
    model_name: str


@dataclass(frozen=True)
class Failure:
    """Why a job that was accepted will fail. `early`: found before the training starts."""

    message: str
    early: bool = True


def survey_all(backend: Backend, body: Json) -> Mapping[str, Survey]:
    """What the files a create names hold, by file id; files that are not there are left out."""
    hyper = mapping(body, "hyper_parameters")
    length = _number(hyper.get("max_length"))
    surveys = {}
    for data in (*_data_sets(body, "training", backend.profile), *_data_sets(body, "validation", backend.profile)):
        path = _bytes_of(backend, data)
        if path is not None and data["file_id"] not in surveys:
            surveys[data["file_id"]] = survey(
                path,
                training_type=str(body.get("training_type") or "sft"),
                max_length=int(length or MAX_LENGTH_DEFAULT),
            )
    return surveys


def read_order(tx: Transaction, body: Json) -> Order:
    model = models.find(tx, text(body, "model"))
    if model is None:
        raise invalid("Model not exist.")
    training_type = optional_text(body, "training_type") or "sft"
    if training_type not in tx.catalogue.training_types:
        raise bad_parameter("training_type")
    order = Order(
        model=model,
        training_type=training_type,
        training=_data_sets(body, "training", tx.profile),
        validation=_data_sets(body, "validation", tx.profile),
        hyper_parameters=mapping(body, "hyper_parameters"),
        suffix=optional_text(body, "finetuned_output_suffix") or "",
        job_name=(optional_text(body, "job_name") or "") if tx.profile == NEW else "",
        model_name=optional_text(body, "model_name") or "",
    )
    if not order.training:
        raise invalid("Missing training files")
    for data in (*order.training, *order.validation):
        if "file_id" in data and tx.get("files", data["file_id"]) is None:
            raise invalid(f"File {data['file_id']} not found.")
    _check_hyper_parameters(tx, order.hyper_parameters)
    if order.suffix and not _SUFFIX.fullmatch(order.suffix):
        raise bad_parameter("finetuned_output_suffix")
    return order


def foreseen(order: Order, surveys: Mapping[str, Survey], rows: int) -> Failure | None:
    """What will make this job fail, if anything (contract §2.1, §2.8, §7)."""
    base = order.model.base
    if order.training_type not in base.training_types:
        return Failure(f"The model {base.code} does not support training type {order.training_type}.")
    for data in (*order.training, *order.validation):
        found = surveyed(data, surveys)
        if found.archive and base.modality != "vl":
            return Failure(f"File {data['file_id']}: an archive with pictures, and {base.code} takes text only.")
        if found.problem:
            return Failure(f"File {data['file_id']}: {found.problem}.")
    before = order.model.hyper_parameters or {}
    for name in LORA_HYPER_PARAMETERS if {order.model.training_type, order.training_type} <= LORA else ():
        if _number(before.get(name)) != _number(order.hyper_parameters.get(name)):
            return Failure(f"{name} must repeat the value of the first training.")
    if rows == 0:
        return Failure("No row is left to train on: all are longer than max_length.")
    batch_size = whole(order.hyper_parameters, "batch_size", 1)
    if rows < batch_size:
        return Failure(f"{rows} rows are fewer than batch_size {batch_size}.", early=False)
    return None


def surveyed(data: Json, surveys: Mapping[str, Survey]) -> Survey:
    """What one data set holds."""
    return surveys.get(data["file_id"], LOST) if "file_id" in data else MOUNTED


def _bytes_of(backend: Backend, data: Json) -> Path | None:
    file_id = data.get("file_id", "")
    path = backend.uploads / file_id
    return path if _FILE_ID.fullmatch(file_id) and path.is_file() else None


def _data_sets(body: Json, part: str, profile: str) -> tuple[Json, ...]:
    """File ids and data set objects alike as data set objects (contract §2.2); the latter only since 2026."""
    by_id = [{"data_source_type": "file_id", "file_id": file_id} for file_id in texts(body, f"{part}_file_ids")]
    described = items(body, f"{part}_datasets") if profile == NEW else ()
    return (*by_id, *(_data_set(item, f"{part}_datasets") for item in described))


def _data_set(item: Any, name: str) -> Json:
    if isinstance(item, dict) and item.get("data_source_type") == "file_id":
        return {"data_source_type": "file_id", "file_id": text(item, "file_id")}
    if not isinstance(item, dict) or item.get("data_source_type") != "oss_mount":
        raise bad_parameter(name)
    mount = mapping(item, "mount_storage")
    storage = {key: text(mount, key) for key in ("region", "bucket", "file_path")}
    if storage["region"] not in MOUNT_REGIONS or not storage["file_path"].endswith(".jsonl"):
        raise bad_parameter("mount_storage")
    return {"data_source_type": "oss_mount", "mount_storage": storage}


def _check_hyper_parameters(tx: Transaction, given: Json) -> None:
    """Types and ranges as far as the catalogue knows them; a key it does not know passes, as nobody says otherwise."""
    for name, value in given.items():
        rule = tx.catalogue.hyper_parameters.get(name)
        if rule is not None and value is not None and not _allowed(rule, value):
            raise bad_parameter(name)
    if tx.switches.on("jobs.require_core_hparams"):
        for name in CORE_HYPER_PARAMETERS:
            if given.get(name) is None:
                raise bad_parameter(name)


def _allowed(rule: Mapping[str, Any], value: Any) -> bool:
    """Numbers may come as text: the command of the 1.20 client sends them so."""
    if rule["type"] in ("int", "float"):
        number = _number(value)
        whole = rule["type"] == "float" or (number is not None and number == int(number))
        return number is not None and whole and rule.get("min", number) <= number <= rule.get("max", number)
    if rule["type"] == "bool":
        return isinstance(value, bool) or str(value).lower() in ("true", "false")
    words = [word.lower() for word in rule["enum"]] if rule.get("fold") else rule.get("enum", [value])
    return isinstance(value, str) and (value.lower() if rule.get("fold") else value) in words


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 20 else None
