"""Models an account can tune again or deploy: the catalogue's, and those its jobs have made (contract §2.3, §3.1).

A tuned model is recorded when its job is created and exists from the moment the job has succeeded; deleting the job's
record afterwards does not delete the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.emulator import catalogue
from reconciler.emulator.backend import Transaction
from reconciler.emulator.fields import Json
from reconciler.emulator.refusal import bad_parameter
from reconciler.emulator.schemas import OBJECT, TEXT, WHOLE, answer, numbered, paged, several, shape, word
from reconciler.emulator.switches import NEW
from reconciler.emulator.training import Job
from reconciler.emulator.wire import Call, Reply, Route, page

COLLECTION = "models"


@dataclass(frozen=True)
class Deployable:
    """A model by the name it is asked for. `training_type` is None for a base model."""

    name: str
    base: catalogue.Model
    training_type: str | None = None
    hyper_parameters: Json | None = None


def find(tx: Transaction, name: str) -> Deployable | None:
    """The model, if the catalogue of this profile offers it or a succeeded job made it."""
    base = tx.catalogue.models.get(name)
    if base is not None:
        return Deployable(name, base)
    record = tx.get(COLLECTION, name)
    return _tuned(tx, record) if record and exists(tx, record) else None


def insert(tx: Transaction, model_id: str, job: Job, *, suffix: str, exists_from_s: float | None) -> None:
    """Records what a job makes; None as long as it is not known from when on the model exists."""
    record: Json = {
        "model_id": model_id,
        "job_id": job.job_id,
        "base_model": job.base_model,
        "training_type": job.training_type,
        "suffix": suffix,
        "hyper_parameters": job.hyper_parameters,
        "exists_from_s": exists_from_s,
    }
    tx.insert(COLLECTION, model_id, record)


def exists(tx: Transaction, record: Json) -> bool:
    return record["exists_from_s"] is not None and bool(record["exists_from_s"] <= tx.now_s)


def plans(tx: Transaction, model: Deployable) -> Json:
    """Base capacities of a model by plan and model unit, as far as it can be deployed so (contract §3.1, §3.7)."""
    units = {unit: tx.catalogue.units[unit].base_capacity for unit in model.base.units}
    lora = {"lora": {"lora": 1}} if model.training_type == "efficient_sft" else {}
    return {"mu": units, "cu": {"cu": 1}, "ptu": {"ptu": 1}, **lora}


def listing(tx: Transaction, call: Call) -> Reply:
    new_form = tx.profile == NEW and call.query.get("version") == "v1.0"
    number, size = page(call, size=50, most=100 if new_form else 200)
    found = _source(tx, call.query.get("model_source", "") if new_form else "")
    shown = found[(number - 1) * size : number * size]
    rows = [_with_plans(tx, model) if new_form else _classic(tx, model) for model in shown]
    return {"output": {"page_no": number, "page_size": size, "total": len(found), "models": rows}}


def _source(tx: Transaction, source: str) -> list[Deployable]:
    if source not in ("", "base", "custom"):
        raise bad_parameter("model_source")
    base = [Deployable(model.code, model) for model in tx.catalogue.models.values()]
    records = [record for record in reversed(tx.all(COLLECTION)) if exists(tx, record)]
    custom = [tuned for record in records if (tuned := _tuned(tx, record))]
    return (custom if source != "base" else []) + (base if source != "custom" else [])


def _tuned(tx: Transaction, record: Json) -> Deployable | None:
    base = tx.catalogue.models.get(record["base_model"])
    return Deployable(record["model_id"], base, record["training_type"], record["hyper_parameters"]) if base else None


def _classic(tx: Transaction, model: Deployable) -> Json:
    base_capacity = tx.catalogue.units[model.base.units[0]].base_capacity if tx.profile == NEW else 1
    return {"model_name": model.name, "base_capacity": base_capacity}


def _with_plans(tx: Transaction, model: Deployable) -> Json:
    return {
        "model_name": model.name,
        "plans": [
            {"plan": plan, "templates": [_template(name, base_capacity) for name, base_capacity in units.items()]}
            for plan, units in plans(tx, model).items()
        ],
    }


def _template(name: str, base_capacity: int) -> Json:
    return {
        "template_id": name,
        "template_name": name,
        "template_type": "COUPLED",
        "template_version": "v1.0",
        "template_desc": "",
        "roles": {"unified": {"model_unit_spec": name, "capacity_unit_per_instance": base_capacity}},
    }


MODEL = shape({"model_name": TEXT}, {"base_capacity": WHOLE, "plans": several(OBJECT)})
ROUTES = (
    Route(
        "GET",
        "/api/v1/deployments/models",
        "deployments.models",
        listing,
        query={**paged(50, 100), "version": word("v1.0"), "model_source": word("base", "custom")},
        answer=answer(output=numbered("models", MODEL)),
    ),
)
