"""Deployments: create, read, scale, change rate limits, delete (contract §3).

A deployment's status and ready capacity are schedules drawn at each write. A suffix is unique in the account, whatever
the id looks like: it is the only thing that keeps a repeated create from buying twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from decimal import Decimal

from reconciler.emulator import clock, models, schedule
from reconciler.emulator.account import account_id, workspace_id
from reconciler.emulator.backend import Transaction
from reconciler.emulator.fields import Json, integer, mapping, optional_flag, optional_integer, optional_text, text
from reconciler.emulator.refusal import bad_parameter, conflict, invalid, not_found, unsupported
from reconciler.emulator.schedule import Schedule
from reconciler.emulator.schemas import FLAG, TEXT, WHOLE, answer, like, numbered, paged, shape, word
from reconciler.emulator.switches import NEW, OLD
from reconciler.emulator.wire import Call, Reply, Route, page

COLLECTION = "deployments"
CAPACITY_MAX = 999
COMPUTE_UNITS = "cu"
"""What a create without a plan means (contract §3.2): in December 2024 the only way, there counted in instances."""
_SUFFIX = re.compile("[0-9a-z]{1,8}")


@dataclass(frozen=True)
class Deployment:
    deployed_model: str
    model_name: str
    base_model: str
    plan: str
    deploy_spec: str
    base_capacity: int
    capacity: int
    suffix: str
    name: str
    options: Json
    created_s: float
    modified_s: float
    schedule: Schedule[str]
    ready: Schedule[int]

    def status(self, now_s: float) -> str:
        return schedule.at(self.schedule, now_s)

    def serves(self, now_s: float, *, lag_s: float) -> bool:
        """Whether a call finds it: from `lag_s` after it was first ready until it is deleted (contract §3.4)."""
        return self.status(now_s) != "DELETING" and schedule.at(self.ready, now_s - lag_s) > 0


def create(tx: Transaction, call: Call) -> Reply:
    model = _model(tx, text(call.body, "model_name"))
    suffix = _suffix(call.body)
    plan, deploy_spec = (COMPUTE_UNITS, "") if tx.profile == OLD else _plan(tx, model, call.body)
    base_capacity = models.plans(tx, model)[plan][deploy_spec or plan]
    _check_free(tx, model, suffix)
    chance = tx.draw(COLLECTION)
    pending_s, deploying_s = chance.uniform(60, 120), chance.uniform(240, 480)
    running_s = tx.now_s + pending_s + deploying_s
    capacity = _capacity(call.body, plan, base_capacity, least=base_capacity)
    deployment = Deployment(
        deployed_model=_new_id(tx, model, suffix, f"{chance.getrandbits(32):08x}"),
        model_name=model.name,
        base_model=model.base.code,
        plan=plan,
        deploy_spec=deploy_spec,
        base_capacity=base_capacity,
        capacity=capacity,
        suffix=suffix,
        name=optional_text(call.body, "name") or model.name,
        options=_options(call.body, plan),
        created_s=tx.now_s,
        modified_s=tx.now_s,
        schedule=((tx.now_s, "PENDING"), (tx.now_s + pending_s, "DEPLOYING"), (running_s, "RUNNING")),
        ready=((tx.now_s, 0), (running_s, capacity)),
    )
    tx.insert(COLLECTION, deployment.deployed_model, asdict(deployment))
    _record(tx, deployment)
    return {"output": _view(tx, deployment, written=True)}


def get(tx: Transaction, call: Call) -> Reply:
    return {"output": _view(tx, _existing(tx, call))}


def listing(tx: Transaction, call: Call) -> Reply:
    number, size = page(call, size=50, most=200)
    total, rows = tx.page(COLLECTION, number, size)
    shown = [_view(tx, _from_json(row), listed=True) for row in rows]
    return {"output": {"page_no": number, "page_size": size, "total": total, "deployments": shown}}


def scale(tx: Transaction, call: Call) -> Reply:
    deployment = _running(tx, call)
    if deployment.plan == "lora":
        raise unsupported("The capacity of a deployment with plan lora can not be changed by API")
    if deployment.plan == "ptu":
        changed = replace(deployment, options=deployment.options | _scaled_ptu(deployment, call.body))
    else:
        capacity = _capacity(call.body, deployment.plan, deployment.base_capacity, least=0)
        changed = replace(deployment, capacity=capacity)
    return _busy(tx, changed, (60, 120), ("UPDATING",) if tx.profile == NEW else ("PENDING", "DEPLOYING"))


def update(tx: Transaction, call: Call) -> Reply:
    deployment = _running(tx, call)
    limits = _limits(call.body)
    if not limits:
        raise bad_parameter("rpm_limit")
    if deployment.plan != "mu":
        raise unsupported(f"The rate limits of a deployment with plan {deployment.plan} can not be changed")
    return _busy(tx, replace(deployment, options=deployment.options | limits), (30, 60), ("PENDING",))


def delete(tx: Transaction, call: Call) -> Reply:
    deployment = _existing(tx, call)
    status = deployment.status(tx.now_s)
    if tx.switches.on("deployments.delete_requires_stopped") and status not in ("STOPPED", "FAILED"):
        raise unsupported(f"The deployment can not be deleted because it is {status.lower()}")
    if status != "DELETING":
        deployment = replace(
            deployment,
            modified_s=tx.now_s,
            schedule=schedule.then(deployment.schedule, tx.now_s, (tx.now_s, "DELETING")),
            ready=schedule.then(deployment.ready, tx.now_s, (tx.now_s, 0)),
        )
        tx.replace(COLLECTION, deployment.deployed_model, asdict(deployment))
        tx.remove(COLLECTION, deployment.deployed_model, at_s=tx.now_s + tx.draw(COLLECTION).uniform(45, 75))
        tx.record(deployment.deployed_model, unit="hour", model_name=deployment.model_name)
    return {"output": _view(tx, deployment, written=True)}


def find(tx: Transaction, deployed_model: str) -> Deployment | None:
    body = tx.get(COLLECTION, deployed_model)
    return _from_json(body) if body else None


def _existing(tx: Transaction, call: Call) -> Deployment:
    deployment = find(tx, call.path["deployed_model"])
    if deployment is None:
        raise not_found(f"Model: {call.path['deployed_model']} not found!")
    return deployment


def _from_json(body: Json) -> Deployment:
    return Deployment(
        **{**body, "schedule": schedule.from_json(body["schedule"]), "ready": schedule.from_json(body["ready"])}
    )


# Create, step by step


def _model(tx: Transaction, name: str) -> models.Deployable:
    model = models.find(tx, name)
    if model is None:
        if tx.get(models.COLLECTION, name) is not None:
            raise invalid(f"The model {name} does not exist or is not deployable")
        raise not_found(f"Model: {name} not found!")
    return model


def _suffix(body: Json) -> str:
    suffix = optional_text(body, "suffix") or ""
    if suffix and not _SUFFIX.fullmatch(suffix):
        raise bad_parameter("suffix")
    return suffix


def _plan(tx: Transaction, model: models.Deployable, body: Json) -> tuple[str, str]:
    """Plan and model unit. The SDK's `template_id` names the same thing as `deploy_spec` (contract §3.1)."""
    plan = text(body, "plan")
    offered = models.plans(tx, model)
    if plan not in ("mu", "lora", "ptu", "cu"):
        raise bad_parameter("plan")
    if plan not in offered:
        raise invalid(f"The model {model.name} does not exist or is not deployable")
    if (optional_text(body, "billing_method") or "POST_PAY") != "POST_PAY":
        raise bad_parameter("billing_method")
    if plan != "mu":
        return plan, ""
    spec = optional_text(body, "deploy_spec") or optional_text(body, "template_id") or ""
    if spec not in offered["mu"]:
        raise bad_parameter("deploy_spec")
    return plan, spec


def _capacity(body: Json, plan: str, base_capacity: int, *, least: int) -> int:
    """For lora and ptu the number sent has no effect and may be missing (contract §3.2)."""
    if plan in ("lora", "ptu"):
        return optional_integer(body, "capacity", least=0, most=CAPACITY_MAX) or 1
    capacity = integer(body, "capacity", least=-(10**9), most=10**9)
    if not least <= capacity <= CAPACITY_MAX or capacity % base_capacity:
        raise invalid(
            f"Invalid capacity ({capacity}), capacity must be larger than or equal to 0 "
            f"and multiples of {base_capacity} and less than {CAPACITY_MAX + 1}!"
        )
    return capacity


def _options(body: Json, plan: str) -> Json:
    if plan == "ptu":
        return {"ptu_capacity": _ptu_capacity(body)}
    if plan != "mu":
        return {}
    options = {
        "enable_thinking": optional_flag(body, "enable_thinking"),
        "max_context_length": optional_integer(body, "max_context_length", least=1, most=262_144),
    }
    return {name: value for name, value in options.items() if value is not None} | _limits(body)


def _limits(body: Json) -> Json:
    limits = {name: optional_integer(body, name, least=1, most=10**9) for name in ("rpm_limit", "tpm_limit")}
    return {name: value for name, value in limits.items() if value is not None}


def _ptu_capacity(body: Json) -> Json:
    given = mapping(body, "ptu_capacity")
    if not given:
        raise invalid("Miss ptu capacity info")
    thinking = optional_integer(given, "thinking_output_tpm", least=0, most=10**12)
    return {
        "input_tpm": integer(given, "input_tpm", least=0, most=10**12),
        "output_tpm": integer(given, "output_tpm", least=0, most=10**12),
        **({} if thinking is None else {"thinking_output_tpm": thinking}),
    }


def _check_free(tx: Transaction, model: models.Deployable, suffix: str) -> None:
    """Refuses a suffix in use, and a plain id that is taken (contract §3.2, §3.6)."""
    same_suffix = tx.all(COLLECTION, suffix=suffix) if suffix else []
    taken = same_suffix[0] if same_suffix else tx.get(COLLECTION, _new_id(tx, model, suffix, ""))
    if taken:
        raise conflict(f"Deployed model {taken['deployed_model']} already exists, please specify a suffix.")


def _new_id(tx: Transaction, model: models.Deployable, suffix: str, digest: str) -> str:
    style = tx.switches.choice("deployments.id_style")
    if style == "mixed":
        style = "plain" if model.training_type and not suffix else "hash+suffix"
    middle = () if style == "plain" else (digest,)
    tail = () if style == "hash" or not suffix else (suffix,)
    return "-".join((model.name, *middle, *tail))


# Changes


def _running(tx: Transaction, call: Call) -> Deployment:
    deployment = _existing(tx, call)
    status = deployment.status(tx.now_s)
    if status != "RUNNING":
        raise unsupported(f"The deployment can not be changed because it is {status.lower()}")
    return deployment


def _scaled_ptu(deployment: Deployment, body: Json) -> Json:
    wanted, now = _ptu_capacity(body), deployment.options["ptu_capacity"]
    moves = {
        (wanted.get(name, 0) > now.get(name, 0)) - (wanted.get(name, 0) < now.get(name, 0)) for name in wanted | now
    }
    if {1, -1} <= moves:
        raise invalid("All dimensions of ptu_capacity must be scaled in the same direction.")
    return {"ptu_capacity": wanted}


def _busy(tx: Transaction, deployment: Deployment, between_s: tuple[float, float], through: tuple[str, ...]) -> Reply:
    """Passes through these statuses, in equal parts of a drawn time, back to RUNNING with its capacity."""
    whole_s = tx.draw(COLLECTION).uniform(*between_s)
    parts = [(tx.now_s + whole_s * part / len(through), status) for part, status in enumerate(through)]
    running_s = tx.now_s + whole_s
    changed = replace(
        deployment,
        modified_s=tx.now_s,
        schedule=schedule.then(deployment.schedule, tx.now_s, *parts, (running_s, "RUNNING")),
        ready=schedule.then(deployment.ready, tx.now_s, (running_s, deployment.capacity)),
    )
    tx.replace(COLLECTION, changed.deployed_model, asdict(changed))
    _record(tx, changed)
    return {"output": _view(tx, changed, written=True)}


def _record(tx: Transaction, deployment: Deployment) -> None:
    tx.record(
        deployment.deployed_model,
        price_cny=_hourly_price(tx, deployment),
        unit="hour",
        model_name=deployment.model_name,
        base_model=deployment.base_model,
        suffix=deployment.suffix,
        name=deployment.name,
        plan=deployment.plan,
        deploy_spec=deployment.deploy_spec,
        capacity=deployment.capacity,
        **deployment.options,
    )


def _hourly_price(tx: Transaction, deployment: Deployment) -> Decimal | None:
    """CNY an hour of the whole capacity (contract §3.7); None where the catalogue has no price."""
    if deployment.plan == "lora":
        return Decimal(0)
    if deployment.plan == "mu":
        return tx.catalogue.units[deployment.deploy_spec].hour * deployment.capacity
    base = tx.catalogue.models.get(deployment.base_model)
    if deployment.plan != COMPUTE_UNITS or base is None or base.instance_hour is None:
        return None
    return base.instance_hour * deployment.capacity


def _view(tx: Transaction, deployment: Deployment, *, written: bool = False, listed: bool = False) -> Json:
    """The deployment object of contract §3.3, as this profile and its switches show it."""
    when: Callable[[float], str] = clock.iso_with_fraction if written else clock.iso
    shown: Json = {
        "deployed_model": deployment.deployed_model,
        "model_name": deployment.model_name,
        "base_model": deployment.base_model,
        "status": deployment.status(tx.now_s),
        "base_capacity": deployment.base_capacity,
        "capacity": deployment.capacity,
        "ready_capacity": schedule.at(deployment.ready, tx.now_s),
        "gmt_create": when(deployment.created_s),
        "gmt_modified": when(deployment.modified_s),
        "charge_type": "post_paid",
        "creator": account_id(tx),
        "modifier": account_id(tx),
    }
    if tx.profile == NEW:
        shown["workspace_id"] = workspace_id(tx)
        if deployment.plan != COMPUTE_UNITS or listed:
            shown["plan"] = deployment.plan
        shown |= {"model_unit_spec": deployment.deploy_spec} if deployment.deploy_spec else {}
        shown |= deployment.options
    if tx.switches.on("deployments.returns_name"):
        shown["name"] = deployment.name
    return shown


PTU_CAPACITY = shape({"input_tpm": WHOLE, "output_tpm": WHOLE}, {"thinking_output_tpm": WHOLE})
LIMITS = {"rpm_limit": WHOLE, "tpm_limit": WHOLE}
ORDER = {
    "model_name": like("qwen3.5-9b", TEXT),
    "capacity": like(4, WHOLE),
    "suffix": like("a1", TEXT),
    "model_version": TEXT,
    "plan": word("mu", "lora", "ptu", "cu"),
    "deploy_spec": like("MU1", TEXT),
    "template_id": TEXT,
    "billing_method": word("POST_PAY"),
    "name": TEXT,
    "enable_thinking": FLAG,
    "max_context_length": WHOLE,
    **LIMITS,
    "ptu_capacity": PTU_CAPACITY,
    "prefill_capacity": WHOLE,
    "decode_capacity": WHOLE,
}
DEPLOYMENT_TEXTS = (
    *("deployed_model", "model_name", "base_model", "status", "gmt_create", "gmt_modified"),
    *("charge_type", "creator", "modifier"),
)
DEPLOYMENT = shape(
    {
        **dict.fromkeys(DEPLOYMENT_TEXTS, TEXT),
        **dict.fromkeys(("base_capacity", "capacity", "ready_capacity"), WHOLE),
    },
    {
        **dict.fromkeys(("workspace_id", "plan", "model_unit_spec", "name"), TEXT),
        "enable_thinking": FLAG,
        "max_context_length": WHOLE,
        **LIMITS,
        "ptu_capacity": PTU_CAPACITY,
    },
)
ROUTES = (
    Route(
        "POST",
        "/api/v1/deployments",
        "deployments.create",
        create,
        body=ORDER,
        required=("model_name",),
        answer=answer(output=DEPLOYMENT),
    ),
    Route(
        "GET",
        "/api/v1/deployments",
        "deployments.list",
        listing,
        query=paged(50, 200),
        answer=answer(output=numbered("deployments", DEPLOYMENT)),
    ),
    Route(
        "GET",
        "/api/v1/deployments/{deployed_model}",
        "deployments.get",
        get,
        answer=answer(output=DEPLOYMENT),
    ),
    Route(
        "PUT",
        "/api/v1/deployments/{deployed_model}/scale",
        "deployments.scale",
        scale,
        body={"deployed_model": TEXT, "capacity": like(8, WHOLE), "ptu_capacity": PTU_CAPACITY},
        answer=answer(output=DEPLOYMENT),
    ),
    Route(
        "PUT",
        "/api/v1/deployments/{deployed_model}/update",
        "deployments.update",
        update,
        body={"deployed_model": TEXT, **LIMITS},
        answer=answer(output=DEPLOYMENT),
        profiles=(NEW,),
    ),
    Route(
        "DELETE",
        "/api/v1/deployments/{deployed_model}",
        "deployments.delete",
        delete,
        answer=answer(output=DEPLOYMENT),
    ),
)
