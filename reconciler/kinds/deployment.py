"""Deployment: capacity that serves a model, billed from RUNNING whether anybody calls it or not (contract §3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from reconciler.catalogue import ProfileCatalogue
from reconciler.resource import (
    Action,
    Collection,
    DeletionPolicy,
    Disturbance,
    Document,
    DriftClass,
    Effect,
    Finding,
    Inputs,
    Json,
    Known,
    Mark,
    Match,
    Names,
    Observed,
    Paged,
    Part,
    Phase,
    Price,
    Probe,
    Ref,
    Request,
    Resource,
    Sign,
    Slot,
    Source,
    Spec,
    authored,
    dig,
    entries,
    identifier,
    named,
    rows,
    said,
    segment,
    string,
    text,
    whole,
)

PENDING = frozenset(
    "PENDING DEPLOYING UPDATING WAIT_PRE_PAID_BILLING_TO_DEPLOYING WAIT_TO_DEPLOY SCALING STARTING RECOVERING"
    " ARREARS_RECOVERING".split()
)
FAILED = frozenset(
    "FAILED UPDATING_FAILED STOPPED STOPPING DELETING ARREARS_DOWN OFFLINING SUSPENDING SUSPENDED".split()
)
DISTURBANCES: Mapping[str, Disturbance] = {
    "ARREARS_DOWN": Disturbance(DriftClass.ARREARS, "an unpaid bill took it down"),
    "OFFLINING": Disturbance(DriftClass.RETIRED, "it is being taken offline"),
    "STOPPED": Disturbance(DriftClass.STOPPED, "it was stopped"),
    "STOPPING": Disturbance(DriftClass.STOPPED, "it is being stopped"),
    "SUSPENDED": Disturbance(DriftClass.STOPPED, "it was suspended"),
    "SUSPENDING": Disturbance(DriftClass.STOPPED, "it is being suspended"),
    "DELETING": Disturbance(DriftClass.VANISHED, "it is being deleted"),
}
IDLE_S = 30 * 24 * 3600.0  # a token-billed deployment that nobody called for a month is released (contract §3.7)


class Deployments(Paged):
    """`/deployments`. The suffix is the one uniqueness token this API has: a second create with it is a 409 (§3.6)."""

    name: ClassVar[str] = "deployments"
    path = "/deployments"
    members = "deployments"
    id_field = "deployed_model"
    slow = True
    poll_s = (3.0, 30.0)
    changeable = frozenset({"capacity", "ptuCapacity", "limits"})
    gone = frozenset({"DELETED"})
    unique_mark = True
    facts: ClassVar[Mapping[str, str]] = {
        "mark": "the id of a deployment ends in the suffix that was asked for (contract §3.3)",
        "name": "a deployment shows its display name (contract §3.3)",
    }

    def parse(self, item: Json) -> Observed:
        """`deploy_spec` comes back as `model_unit_spec`; name and suffix not at all; plan only sometimes (§9.3)."""
        limits = said(rpm=whole(item.get("rpm_limit")), tpm=whole(item.get("tpm_limit")))
        capacity, ready = whole(item.get("capacity")), whole(item.get("ready_capacity"))
        remote_id, status = string(item.get("deployed_model")), text(item.get("status"))
        thinking = item.get("enable_thinking")
        return Observed(
            id=remote_id,
            phase=_phase(status, text(item.get("plan")), capacity, ready),
            status=status,
            fields=said(
                model=text(item.get("model_name")),
                plan=text(item.get("plan")),
                deploySpec=text(item.get("model_unit_spec")),
                capacity=capacity if item.get("plan") != "lora" else None,
                enableThinking=thinking if isinstance(thinking, bool) else None,
                maxContextLength=whole(item.get("max_context_length")),
                limits=limits or None,
                ptuCapacity=_tokens_per_minute(item.get("ptu_capacity")),
            ),
            outputs=said(
                id=remote_id,
                base=text(item.get("base_model")),
                creator=text(item.get("creator")),
                modifier=text(item.get("modifier")),
                ready=ready,
                created=text(item.get("gmt_create")),
                modified=text(item.get("gmt_modified")),
                mark=remote_id,
            ),
        )

    def create(self, part: Part, tag: str) -> Request:
        fields = part.fields
        body: dict[str, Any] = {
            "model_name": fields["model"],
            "capacity": fields.get("capacity", 1),  # lora: any value must be sent and none has an effect (§3.2)
            "suffix": fields.get("suffix", tag),
        }
        if self.profile.plans:
            body |= {"plan": fields["plan"], "name": part.slot.address.partition("/")[2]}
            body |= {"billing_method": "POST_PAY"} if fields["plan"] == "mu" else {}
        if "ptuCapacity" in fields:
            del body["capacity"]
            body["ptu_capacity"] = _ptu_body(fields["ptuCapacity"])
        for name, wire in _CREATE_ONLY.items():
            if name in fields:
                body[wire] = fields[name]
        return Request("deployments.create", "POST", "/deployments", effect=Effect.ONCE, body=body | _limits(fields))

    def clash(self, part: Part, old: Mapping[str, Any]) -> str:
        """A suffix is unique for the whole account (contract §3.2), so the author's own cannot be on both sides."""
        own = part.fields.get("suffix")
        if own and own == old.get("suffix"):
            return f"the new side would need suffix {own}, which the old one still has: change the suffix too"
        return ""

    def update(self, remote_id: str, part: Part, changed: frozenset[str]) -> tuple[Request, ...]:
        path, requests = f"/deployments/{segment(remote_id)}", []
        if "capacity" in changed:
            requests.append(self._put("deployments.scale", f"{path}/scale", {"capacity": part.fields["capacity"]}))
        if "ptuCapacity" in changed:
            body = {"ptu_capacity": _ptu_body(part.fields["ptuCapacity"])}
            requests.append(self._put("deployments.scale", f"{path}/scale", body))
        if "limits" in changed:
            requests.append(self._put("deployments.update", f"{path}/update", _limits(part.fields)))
        return tuple(requests)

    @staticmethod
    def _put(operation: str, path: str, body: Json) -> Request:
        return Request(operation, "PUT", path, effect=Effect.REPEATABLE, body=body)

    def disturbance(self, seen: Observed) -> Disturbance | None:
        told = DISTURBANCES.get(seen.status)
        retires = self.profile.retires(str(seen.outputs.get("base") or seen.fields.get("model", "")))
        if told is None or retires is None or told.sort in (DriftClass.ARREARS, DriftClass.VANISHED):
            return told
        return told._replace(why=f"{told.why}; the catalogue has its model retire on {retires}")

    def loss(self, fields: Mapping[str, Any], age_s: float) -> Disturbance:
        if fields.get("plan") != "lora" or age_s < IDLE_S:
            return super().loss(fields, age_s)
        why = "is gone from the service, which releases a token-billed deployment after a month without a call"
        return Disturbance(DriftClass.RELEASED, why)

    def marks(self, fields: Mapping[str, Any]) -> bool:
        return "suffix" not in fields

    def matches(self, tag: str, part_fields: Mapping[str, Any], seen: Observed) -> Match:
        """The suffix is the tail of the id. The author's own may be somebody else's too, so it is a weak sign."""
        own = part_fields.get("suffix")
        if own:
            same = seen.id.endswith(f"-{own}") and seen.fields.get("model") == part_fields.get("model")
            return Match.WEAK if same else Match.NO
        return Match.STRONG if tag and seen.id.endswith(tag) else Match.NO

    def signed(self, seen: Observed) -> bool:
        return re.search(r"-[0-9a-z]{8}$", seen.id) is not None

    def claimed(self, seen: Observed) -> bool:
        """A lone number of eight digits at the end of an id is the service's own (contract §3.3)."""
        return self.signed(seen) and not re.fullmatch(r"-[0-9a-f]{8}", self._tail(seen))

    def told(self, seen: Observed) -> Mapping[str, Any]:
        suffix = self._suffix(seen)
        return {**seen.fields, **({"suffix": suffix} if suffix else {})}

    def label(self, seen: Observed) -> str:
        """Its suffix, else its model without the number of the run that made it."""
        return self._suffix(seen) or re.sub(r"-ft-[0-9]{12}-\w+$", "", str(seen.fields.get("model", "")))

    def _suffix(self, seen: Observed) -> str:
        """The tail of the id, behind a number or not."""
        return re.sub(r"^-[0-9a-f]{8}(?=-|$)", "", self._tail(seen)).lstrip("-")

    @staticmethod
    def _tail(seen: Observed) -> str:
        model = str(seen.fields.get("model", ""))
        return seen.id.removeprefix(model) if model and seen.id.startswith(model) else ""

    def spec(self, seen: Observed, names: Names, source: Source | None) -> Json | str:
        fields = dict(seen.fields)
        if "model" not in fields:
            return "the service does not show its model"
        if job := names.get("FineTuneJob", {}).get(fields["model"]):
            fields["model"] = {"fineTuneJob": job}
        if "ptuCapacity" in fields:
            fields.pop("capacity", None)
        return fields

    def resembles(self, slot: Slot, fields: Mapping[str, Any], seen: Observed) -> bool:
        """The author's own suffix, or one that may be a tag, on the same model."""
        if "suffix" in fields:
            return super().resembles(slot, fields, seen)
        return self.signed(seen) and seen.fields.get("model") == fields.get("model")

    def signs(self, item: Json, tag: str, fields: Mapping[str, Any]) -> Iterator[Sign]:
        """An author's own suffix proves nothing: the id may end in that word for another reason."""
        remote_id = text(item.get("deployed_model"))
        if self.profile.plans:
            yield Sign("name", bool(text(item.get("name"))), f"name of {remote_id}")
        if tag and self.marks(fields):
            yield Sign("mark", remote_id.endswith(f"-{tag}"), f"deployed_model {remote_id}")

    def price(
        self, fields: Mapping[str, Any], *, base: str = "", tokens: int | None = None, counted: bool = False
    ) -> Price:
        plan, spec, capacity = fields.get("plan"), fields.get("deploySpec"), fields.get("capacity", 1)
        hour = self.profile.hourly_price(base, plan=plan, deploy_spec=spec, capacity=capacity)
        if hour is None:
            return Price(
                hour=None, basis=f"no hourly price is known for {base or 'this model'} under {plan or 'no plan'}"
            )
        if not hour:
            return Price(basis="billed per token, nothing while idle")
        basis = " ".join(str(word) for word in (plan, spec) if word) or "instances"
        unit = "minute" if plan == "mu" else "hour"
        prepaid = self.profile.prepaid_month(base, plan=plan, deploy_spec=spec, capacity=capacity)
        basis += f" x {capacity}, billed from RUNNING, a started {unit} counts whole"
        return Price(hour=hour, basis=basis, prepaid=prepaid)

    def offers(self, page: int) -> Request:
        query: dict[str, str | int] = {"page_no": page, "page_size": self.page_size}
        query |= {"version": "v1.0"} if self.profile.plans else {}
        return Request("deployments.models", "GET", "/deployments/models", query=query)

    def offered(self, reply: Json) -> tuple[Json, ...] | None:
        return entries(dig(reply, "output", "models"))

    def fits(self, fields: Mapping[str, Any], base: str, offers: Sequence[Json]) -> Iterator[Finding]:
        """Whether the capacity is a multiple that can be bought (contract §3.1).

        A model that is still to be trained is judged by its base, which binds nobody.
        """
        model, capacity, plan = fields.get("model"), fields.get("capacity"), fields.get("plan")
        if not isinstance(capacity, int) or plan == "lora":
            return
        for name in (model, base):
            offer = next((one for one in offers if one.get("model_name") == name), None)
            if offer is not None and (unit := _base_capacity(offer, plan, fields.get("deploySpec"))):
                if capacity % unit:
                    what = f"capacity {capacity} is not a multiple of {unit}, the base capacity of {name}"
                    near = [capacity - capacity % unit, capacity - capacity % unit + unit]
                    hint = f"write {' or '.join(str(one) for one in near if one)}"
                    yield Finding(("capacity",), what, hint, warning=name != model)
                return
        said_by_us = self.profile.base_capacity(plan, fields.get("deploySpec"))
        known = f"{said_by_us} by the catalogue" if said_by_us else "which no page states either"
        what = f"the service does not tell its base capacity ({known}): capacity {capacity} is unverified"
        yield Finding(("capacity",), what, warning=True)

    def probe(self, remote_id: str, prompt: str) -> Request:
        """Not journalled and never retried after a byte was sent: an answer costs tokens (contract §6)."""
        body = {
            "model": remote_id,
            "input": {"messages": [{"role": "user", "content": prompt}]},
            "parameters": {"result_format": "message"},
        }
        path = "/services/aigc/text-generation/generation"
        return Request("inference", "POST", path, effect=Effect.ONCE, body=body)

    def answer(self, reply: Json) -> str:
        choices = rows(dig(reply, "output", "choices"))
        return text(dig(choices[0], "message", "content")) if choices else text(dig(reply, "output", "text"))


_CREATE_ONLY = {
    "deploySpec": "deploy_spec",
    "enableThinking": "enable_thinking",
    "maxContextLength": "max_context_length",
}


def _phase(status: str, plan: str, capacity: int | None, ready: int | None) -> Phase:
    if status in PENDING:
        return Phase.PENDING
    if status in FAILED:
        return Phase.FAILED
    if status != "RUNNING":
        return Phase.UNKNOWN
    growing = plan != "lora" and capacity is not None and ready is not None and ready < capacity
    return Phase.PENDING if growing else Phase.READY


def _base_capacity(offer: Json, plan: str | None, spec: str | None) -> int | None:
    """What a capacity must be a multiple of, by the offer's template of this plan, or by the old form of the list."""
    for one in rows(offer.get("plans")):
        templates = rows(one.get("templates")) if one.get("plan") == plan else ()
        for template in templates:
            unit = whole(dig(template, "roles", "unified", "capacity_unit_per_instance"))
            if unit and unit > 0 and (template.get("template_id") == spec or (spec is None and len(templates) == 1)):
                return unit
    unit = whole(offer.get("base_capacity")) if plan is None else None  # it does not say of which spec it speaks
    return unit if unit and unit > 0 else None


def _limits(fields: Mapping[str, Any]) -> dict[str, Any]:
    limits = fields.get("limits", {})
    return {f"{name}_limit": limits[name] for name in ("rpm", "tpm") if name in limits}


_PTU = {"inputTpm": "input_tpm", "outputTpm": "output_tpm", "thinkingOutputTpm": "thinking_output_tpm"}


def _ptu_body(capacity: Mapping[str, Any]) -> dict[str, Any]:
    return {wire: capacity[name] for name, wire in _PTU.items() if name in capacity}


def _tokens_per_minute(value: Any) -> dict[str, int] | None:
    return said(**{name: whole(dig(value, wire)) for name, wire in _PTU.items()}) or None


class Checkpoints(Collection):
    """A job's intermediate models, published one by one by a GET; there is no list of all of them (contract §2.7)."""

    name: ClassVar[str] = "checkpoints"
    replaced_as = Action.CREATE
    keeps_superseded = True
    fixed = True
    deletion: ClassVar[DeletionPolicy] = "Orphan"  # there is no call that takes one back

    def list(self, page: int) -> None:
        return None

    def read(self, remote_id: str) -> Request:
        job = remote_id.partition(":")[0]
        return Request("checkpoints.list", "GET", f"/fine-tunes/{segment(job)}/checkpoints")

    def item(self, remote_id: str, reply: Json) -> Json | None:
        """One of a list; missing only from a list that can be read."""
        job, _, name = remote_id.partition(":")
        listed = entries(dig(reply, "output"))
        found = next((item for item in listed or () if item.get("checkpoint") == name), None)
        if found is None and listed is not None and all(string(item.get("checkpoint")) for item in listed):
            return None
        return named(found, "job_id", job)

    def parse(self, item: Json) -> Observed:
        job, name, status = string(item.get("job_id")), string(item.get("checkpoint")), text(item.get("status"))
        phases = {
            "PENDING": Phase.PENDING,
            "PROCESSING": Phase.PENDING,
            "SUCCEEDED": Phase.READY,
            "FAILED": Phase.FAILED,
        }
        return Observed(
            id=f"{job}:{name}" if job and name else "",
            phase=phases.get(status, Phase.UNKNOWN),
            status=status,
            fields=said(checkpoint=name, job=job),
            outputs=said(
                id=f"{job}:{name}",
                model=identifier(item.get("model_name")),
                created=text(item.get("create_time")),
                mark=text(item.get("model_display_name")),
            ),
        )

    def create(self, part: Part, tag: str) -> Request:
        """Publishing again under the same display name changes nothing, and that name holds the tag."""
        path = f"/fine-tunes/{segment(part.fields['job'])}/export/{segment(part.fields['checkpoint'])}"
        name = f"{part.slot.address.partition('/')[2]}-{tag}"
        return Request("checkpoints.publish", "GET", path, effect=Effect.REPEATABLE, query={"model_name": name})

    def named(self, fields: Mapping[str, Any]) -> str:
        return f"{fields['job']}:{fields['checkpoint']}"

    def same(self, fields: Mapping[str, Any], seen: Observed) -> bool:
        return False

    def created_id(self, reply: Json, request: Request | None) -> str | None:
        """`output: true`; what was published is known from the request alone."""
        if dig(reply, "output") is not True or request is None:
            return None
        _, _, job, _, name = request.path.split("/")
        return f"{job}:{name}"

    def refusal(self, reply: Json) -> str:
        return "the service asks to try again later" if dig(reply, "output") is False else ""


class TunedModel(Spec):
    """The model that a job makes; with `checkpoint`, one it made on the way, published for this deployment."""

    fine_tune_job: Annotated[str, Ref("FineTuneJob"), Field(description="The name of that FineTuneJob.")]
    checkpoint: Annotated[
        str | None,
        Field(
            pattern=r"^checkpoint-[0-9]{1,9}$",
            description="One of its checkpoints by name; unset: the model it ended with.",
        ),
    ] = None


class Limits(Spec):
    """Requests and tokens a minute; only some models under plan mu take them (contract §3.5)."""

    rpm: Annotated[int | None, Field(ge=1, description="How many requests a minute are answered.")] = None
    tpm: Annotated[int | None, Field(ge=1, description="How many tokens a minute are answered.")] = None


class PtuCapacity(Spec):
    """Reserved tokens a minute under plan ptu (contract §3.2)."""

    input_tpm: Annotated[int, Field(ge=1, description="Tokens a minute that are read.")]
    output_tpm: Annotated[int, Field(ge=1, description="Tokens a minute that are written.")]
    thinking_output_tpm: Annotated[
        int | None, Field(ge=1, description="Tokens a minute that are written while thinking.")
    ] = None


class Expect(Spec):
    """What an answer must hold: a piece of text, or a regular expression."""

    contains: Annotated[
        str | None, Field(min_length=1, max_length=1000, description="A text that the answer must contain.")
    ] = None
    regex: Annotated[
        str | None,
        Field(
            min_length=1, max_length=1000, description="A regular expression that must match somewhere in the answer."
        ),
    ] = None

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _one(self) -> Expect:
        if (self.contains is None) == (self.regex is None):
            raise ValueError("write either contains or regex")
        return self


class Smoke(Spec):
    """One prompt, put to the deployment once it runs. An empty or unexpected answer fails the operation."""

    prompt: Annotated[str, Field(min_length=1, max_length=10_000, description="What is asked.")]
    expect: Annotated[Expect | None, Field(description="What the answer must hold; unset: anything but nothing.")] = (
        None
    )


class Deployment(Resource):
    """Capacity for a model. Another model, plan or spec is a swap: the new side runs before the old one goes."""

    collections = (Deployments, Checkpoints)

    model: Annotated[
        str | TunedModel, Mark.IMMUTABLE, Field(description="The model to serve: its code, or {fineTuneJob: NAME}.")
    ]
    plan: Annotated[
        Literal["mu", "lora", "ptu", "cu"] | None,
        Mark.IMMUTABLE,
        Field(
            description="How it is billed: mu, ptu and cu by time, from RUNNING on; lora by token; none in dec-2024."
        ),
    ] = None
    deploy_spec: Annotated[
        str | None,
        Mark.IMMUTABLE,
        Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The size of one unit under plan mu, such as MU1."),
    ] = None
    capacity: Annotated[
        int | None, Field(ge=1, lt=1000, description="How many units are bought, a multiple of the base capacity.")
    ] = None
    ptu_capacity: Annotated[
        PtuCapacity | None, Field(description="What is reserved under plan ptu, in tokens a minute.")
    ] = None
    suffix: Annotated[
        str | None,
        Mark.IMMUTABLE,
        Field(
            pattern=r"^[a-z0-9]{1,8}$", description="The end of its id, unique in the account; unset: a mark of ours."
        ),
    ] = None
    enable_thinking: Annotated[
        bool | None,
        Mark.IMMUTABLE,
        Field(description="Whether it thinks before it answers; only some models under mu."),
    ] = None
    max_context_length: Annotated[
        int | None,
        Mark.IMMUTABLE,
        Field(ge=1, le=262_144, description="How many tokens a call may hold; only some models under mu."),
    ] = None
    limits: Annotated[Limits | None, Field(description="How much is answered a minute; unset: no limit of ours.")] = (
        None
    )
    smoke: Annotated[
        list[Smoke],
        Mark.LOCAL,
        Field(max_length=20, description="Prompts put to it once it runs, before it replaces an old side."),
    ] = []

    deployed_model: Annotated[str | None, Mark.COMPUTED, Field(description="Its id, and the `model` of a call.")] = None

    def check(self, profile: ProfileCatalogue) -> Iterator[Finding]:
        if isinstance(self.model, TunedModel) and self.model.checkpoint and not profile.plans:
            yield Finding(("model", "checkpoint"), f"profile {profile.profile} has no checkpoints")
        yield from self._check_plan(profile) if profile.plans else self._check_no_plan(profile)
        if isinstance(self.model, str) and not profile.model(profile.base_of(self.model) or self.model):
            near = profile.suggest(self.model)
            hint = (
                f"did you mean {near}?"
                if near
                else "the service decides; `reconciler explain models` lists what is known"
            )
            yield Finding(
                ("model",),
                f"the catalogue of profile {profile.profile} has no model {self.model}",
                hint,
                bool(not near),
            )
        if isinstance(self.model, str) and (warning := profile.retirement(self.model)):
            yield Finding(("model",), warning, warning=True)
        base = profile.base_capacity(self.plan, self.deploy_spec)
        if self.capacity and base and self.capacity % base:
            what = f"capacity {self.capacity} is not a multiple of {base}, the base capacity as far as it is known"
            yield Finding(("capacity",), what, warning=True)

    def _check_plan(self, profile: ProfileCatalogue) -> Iterator[Finding]:
        if self.plan is None:
            yield Finding(
                (), "plan is missing", f"profile {profile.profile} requires one of {', '.join(profile.plans)}"
            )
        if self.plan == "mu" and self.deploy_spec is None:
            yield Finding(
                (), "deploySpec is missing", f"plan mu needs one, such as {', '.join(sorted(profile.model_units))}"
            )
        if self.plan == "ptu" and self.ptu_capacity is None:
            yield Finding((), "ptuCapacity is missing", "plan ptu reserves {inputTpm: ..., outputTpm: ...}")
        if self.plan in ("mu", "cu") and self.capacity is None:
            yield Finding((), "capacity is missing", f"plan {self.plan} is bought in units")

    def _check_no_plan(self, profile: ProfileCatalogue) -> Iterator[Finding]:
        for name in ("plan", "deploySpec", "ptuCapacity", "limits", "enableThinking", "maxContextLength"):
            if name in authored(self):
                yield Finding(
                    (name,), f"profile {profile.profile} has no {name}", 'leave it out, or choose profile "2026"'
                )
        if self.capacity is None:
            yield Finding((), "capacity is missing", "it is the number of instances")

    def parts(self, document: Document, inputs: Inputs) -> tuple[Part, ...]:
        fields = {name: value for name, value in authored(self).items() if name != "smoke"}
        fields["model"] = self._model(document)
        return (
            *self._checkpoint(document),
            Part(
                slot=Slot(document.address),
                fields=fields,
                at=document.places({name: (name,) for name in fields}),
                probes=tuple(_probe(smoke) for smoke in self.smoke),
                base=self._base(inputs),
            ),
        )

    def _checkpoint(self, document: Document) -> Iterator[Part]:
        """A checkpoint has to be published before it can be deployed."""
        if isinstance(self.model, TunedModel) and self.model.checkpoint:
            job = Known(Slot(f"FineTuneJob/{self.model.fine_tune_job}"), "id")
            fields = {"job": job, "checkpoint": self.model.checkpoint}
            slot = Slot(document.address, self.model.checkpoint)
            at = document.places(dict.fromkeys(fields, ("model", "checkpoint")))
            yield Part(slot=slot, fields=fields, at=at, collection=Checkpoints.name)

    def _model(self, document: Document) -> str | Known:
        if isinstance(self.model, str):
            return self.model
        if self.model.checkpoint:
            return Known(Slot(document.address, self.model.checkpoint), "model")
        return Known(Slot(f"FineTuneJob/{self.model.fine_tune_job}"), "model")

    def _base(self, inputs: Inputs) -> str:
        if isinstance(self.model, str):
            return self.model
        parts = inputs.parts.get(f"FineTuneJob/{self.model.fine_tune_job}", ())
        return parts[0].base if parts else ""


def _probe(smoke: Smoke) -> Probe:
    expect = smoke.expect or Expect.model_construct()
    return Probe(smoke.prompt, expect.contains, expect.regex)
