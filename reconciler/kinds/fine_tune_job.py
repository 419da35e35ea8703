"""FineTuneJob: one paid, immutable run and the model it makes (contract §2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from reconciler.catalogue import HyperParameter, Limits, ProfileCatalogue, Values
from reconciler.lengths import Lengths, merged
from reconciler.resource import (
    Action,
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
    Measurement,
    Names,
    Observed,
    Paged,
    Part,
    Phase,
    Price,
    Quota,
    Reading,
    Ref,
    Request,
    Resource,
    Sign,
    Slot,
    Source,
    Spec,
    authored,
    dig,
    identifier,
    mapping,
    rows,
    said,
    segment,
    string,
    text,
    whole,
)

FORMATS: Mapping[str, frozenset[str]] = {
    "sft": frozenset({"sft", "sft-image"}),
    "efficient_sft": frozenset({"sft", "sft-image"}),
    "dpo_full": frozenset({"dpo"}),
    "dpo_lora": frozenset({"dpo"}),
    "cpt": frozenset({"cpt"}),
}
PHASES: Mapping[str, Phase] = {
    "PENDING": Phase.PENDING,
    "QUEUING": Phase.PENDING,
    "RUNNING": Phase.PENDING,
    "CANCELING": Phase.PENDING,
    "SUCCEEDED": Phase.READY,
    "FAILED": Phase.FAILED,
    "CANCELED": Phase.FAILED,
}
NOT_BEGUN = frozenset({"PENDING", "QUEUING"})


class Jobs(Paged):
    """`/fine-tunes`. Only the status decides: `finetuned_output` may be filled long before the model exists (§2.3)."""

    name: ClassVar[str] = "jobs"
    path = "/fine-tunes"
    members = "jobs"
    id_field = "job_id"
    slow = True
    created_as = Action.RUN
    replaced_as = Action.RUN
    keeps_superseded = True
    keeps_records = True
    recreated_when_lost = False
    deletion: ClassVar[DeletionPolicy] = "Orphan"
    poll_s = (5.0, 300.0)
    settle_s = 900.0  # nothing refuses a second one, so waiting is cheaper than being wrong
    facts: ClassVar[Mapping[str, str]] = {
        "mark": "a job shows our mark from the moment it is listed (contract §2.3, §9.2)",
        "name": "a job shows the job_name it was given (contract §2.3)",
        "suffix": "the id of the model holds the suffix that was asked for (contract §2.3)",
        "early_output": "a job names its model before it has succeeded (contract §2.3)",
        "echo": "a job shows what it was trained on (contract §2.3)",
    }

    def parse(self, item: Json) -> Observed:
        """The name of a model begins with that of the model it was made from, which has a mark of its own."""
        status, model = text(item.get("status")), identifier(item.get("finetuned_output"))
        phase = PHASES.get(status, Phase.UNKNOWN)
        detail = " ".join(filter(None, (text(item.get("code")), text(item.get("message")))))
        if phase is Phase.READY and not model:
            phase, detail = Phase.FAILED, "succeeded without naming a model"
        return Observed(
            id=string(item.get("job_id")),
            phase=phase,
            status=status,
            fields=said(
                model=text(item.get("model")),
                trainingType=text(item.get("training_type")),
                hyperParameters=_numbers(mapping(item.get("hyper_parameters"))),
            ),
            outputs=said(
                id=string(item.get("job_id")),
                name=text(item.get("job_name")),
                model=model if phase is Phase.READY else "",
                created=text(item.get("create_time")),
                ended=text(item.get("end_time")),
                tokens=whole(item.get("usage")),
                creator=text(item.get("creator")),
                modifier=text(item.get("modifier")),
                inputs=_inputs(item),
                mark=f"{text(item.get('job_name'))} {model.removeprefix(text(item.get('model')))}".strip(),
                validating=_inputs(item, "validation") or None,
                mounts=_mounts(item) or None,
            ),
            detail=detail if phase is Phase.FAILED else "",
        )

    def stale(self, seen: Observed, recorded: Mapping[str, Any]) -> bool:
        """A success that names no model is a failure that was paid for: not concluded from a list alone."""
        return seen.status == "SUCCEEDED" and "model" not in seen.outputs

    def disturbance(self, seen: Observed) -> Disturbance | None:
        return Disturbance(DriftClass.STOPPED, "it was canceled") if seen.status == "CANCELED" else None

    def create(self, part: Part, tag: str) -> Request:
        fields = part.fields
        body: dict[str, Any] = {
            "model": fields["model"],
            "training_type": fields["trainingType"],
            "hyper_parameters": dict(fields.get("hyperParameters", {})),
            "finetuned_output_suffix": fields.get("outputSuffix", tag),
        }
        training, validation = fields["training"], fields.get("validation", ())
        if self.profile.profile == "dec-2024":
            body |= {"training_file_ids": list(training), "validation_file_ids": list(validation)}
        else:
            body |= {
                "job_name": f"{part.slot.address.partition('/')[2]}-{tag}",
                "training_datasets": [_source(item) for item in training],
                "validation_datasets": [_source(item) for item in validation],
            }
        return Request("jobs.create", "POST", "/fine-tunes", effect=Effect.ONCE, body=body)

    def marks(self, fields: Mapping[str, Any]) -> bool:
        """December 2024 has no job name, so an author's own suffix leaves no room for our mark (contract §10)."""
        return self.profile.profile != "dec-2024" or "outputSuffix" not in fields

    def matches(self, tag: str, part_fields: Mapping[str, Any], seen: Observed) -> Match:
        if tag and tag in str(seen.outputs.get("mark", "")):
            return Match.STRONG
        alike = all(seen.fields.get(name) == part_fields.get(name) for name in ("model", "trainingType"))
        given, shown = part_fields.get("hyperParameters", {}), seen.fields.get("hyperParameters", {})
        alike &= all(shown[name] == given[name] for name in shown.keys() & given.keys())
        return Match.WEAK if alike else Match.NO

    def signed(self, seen: Observed) -> bool:
        """By its name, or where names are not kept by the suffix of its model."""
        return re.search(r"-[0-9a-z]{8}(-ft-.*)?( |$)", str(seen.outputs.get("mark", ""))) is not None

    def resembles(self, slot: Slot, fields: Mapping[str, Any], seen: Observed) -> bool:
        """A run under the name of this slot; where names are not kept, one alike, with a suffix that may be ours."""
        mark = str(seen.outputs.get("mark", ""))
        if self.profile.profile != "dec-2024":
            name = re.escape(slot.address.partition("/")[2])
            return re.match(rf"{name}-[0-9a-z]{{8}}( |$)", mark) is not None
        suffix = fields.get("outputSuffix", "[0-9a-z]{8}")
        unsaid = "model" not in seen.outputs
        return super().resembles(slot, fields, seen) and (unsaid or re.search(rf"-{suffix}-ft-", mark) is not None)

    def cancel(self, seen: Observed) -> Request | None:
        """What was trained until then is billed (contract §2.13)."""
        if seen.phase is not Phase.PENDING:
            return None
        return Request("jobs.cancel", "POST", f"{self.path}/{segment(seen.id)}/cancel", effect=Effect.REPEATABLE)

    def discard(self, seen: Observed) -> Request:
        """One that is over costs nothing more; its record may not be deleted (contract §2.5)."""
        return self.cancel(seen) or self.delete(seen.id)

    def shows_at_once(self, tag: str, fields: Mapping[str, Any], seen: Observed) -> bool | None:
        """A model that is named only once the job is under way tells nothing of the time before."""
        if tag in str(seen.outputs.get("name", "")):
            return True
        if tag in str(seen.outputs.get("mark", "")):
            return True if seen.status in NOT_BEGUN else None
        return False

    def told(self, seen: Observed) -> Mapping[str, Any]:
        """The data where it is uploads alone: nobody says in which order a mount would stand among them."""
        outputs = seen.outputs
        shown = outputs.get("inputs", ()) and "mounts" not in outputs
        data = {"training": outputs["inputs"], "validation": outputs.get("validating", ())} if shown else {}
        suffix = _SUFFIX.search(str(outputs.get("model", "")).removeprefix(str(seen.fields.get("model"))))
        return {**seen.fields, **data, **({"outputSuffix": suffix[1]} if suffix else {})}

    def differs(self, fields: Mapping[str, Any], seen: Observed) -> tuple[str, ...]:
        return super().differs(_in_order(fields, self.told(seen)), seen)

    def same(self, fields: Mapping[str, Any], seen: Observed) -> bool:
        return super().same(_in_order(fields, self.told(seen)), seen)

    def label(self, seen: Observed) -> str:
        name, suffix = str(seen.outputs.get("name", "")), self.told(seen).get("outputSuffix", "")
        return name if name != seen.id else str(suffix)

    def spec(self, seen: Observed, names: Names, source: Source | None) -> Json | str:
        told = self.told(seen)
        if "training" not in told:
            mounted = "mounts" in seen.outputs
            return "it learns from object storage" if mounted else "the service does not show what it was trained on"
        if missing := {"model", "trainingType"} - told.keys():
            return f"the service does not show its {' and '.join(sorted(missing))}"
        tuned, data = names.get("FineTuneJob", {}).get(told["model"]), names.get("Dataset", {})
        files = {share: [data.get(one, {"fileId": one}) for one in told[share]] for share in ("training", "validation")}
        return {
            "model": {"fineTuneJob": tuned} if tuned else told["model"],
            "trainingType": told["trainingType"],
            "training": files["training"],
            **({"validation": files["validation"]} if files["validation"] else {}),
            "hyperParameters": dict(self._writable(told.get("hyperParameters", {}), told["trainingType"])),
        }

    def _writable(self, shown: Mapping[str, Any], training_type: str) -> Iterator[tuple[str, Any]]:
        """Hyper-parameters that the catalogue knows and would let an author write."""
        for name, value in shown.items():
            rule = self.profile.hyper_parameter(name)
            meant = rule and (not rule.training_types or training_type in rule.training_types)
            if rule and meant and isinstance(value, int | float | bool | str) and not _problem(rule, value):
                yield name, value

    def signs(self, item: Json, tag: str, fields: Mapping[str, Any]) -> Iterator[Sign]:
        """Whether absence means absence turns on the mark being there at once: a model named later is no such mark."""
        job, status, model = (text(item.get(name)) for name in ("job_id", "status", "finetuned_output"))
        phase = PHASES.get(status, Phase.UNKNOWN)
        if phase is Phase.PENDING or (model and phase is Phase.FAILED):
            yield Sign("early_output", bool(model), f"finetuned_output of {job}, {status}")
        yield from _echo(item, job)
        if not tag:
            return
        named, in_model = tag in text(item.get("job_name")), tag in model
        if self.profile.profile != "dec-2024":
            yield Sign("name", named, f"job_name of {job}")
        if "outputSuffix" in fields:  # the author's own took the place of ours
            if named:
                yield Sign("mark", True, f"job_name of {job}")
            return
        if model:
            yield Sign("suffix", in_model, f"finetuned_output of {job}")
        if named or (in_model and status in NOT_BEGUN):
            yield Sign("mark", True, f"{'job_name' if named else 'finetuned_output'} of {job}, {status}")
        elif not in_model:
            yield Sign("mark", False, f"job_name and finetuned_output of {job}, {status}")

    def quotas(self, seen: Sequence[Observed], limits: Limits, making: Sequence[Part] = ()) -> tuple[Quota, ...]:
        counted = [one for one in seen if PHASES.get(one.status) is not Phase.FAILED]
        return (Quota("jobs that run or succeeded", len(counted), limits.jobs, wanted=len(making)),)

    def price(
        self, fields: Mapping[str, Any], *, base: str = "", tokens: int | None = None, counted: bool = False
    ) -> Price:
        """(tokens + mixed-in tokens) x epochs x unit price (contract §2.13); mixed-in tokens are not foreseen here."""
        epochs = _epochs(fields)
        unit = self.profile.training_price(base)
        if unit is None:
            return Price(once=None, basis=f"no training price is known for {base}")
        if tokens is None or not isinstance(epochs, int):
            return Price(once=None, basis=f"nobody counted the tokens; {unit} CNY/1k")
        cost = self.profile.training_cost(tokens=tokens, epochs=epochs, model=base)
        times = f"{epochs} epoch{'s' if epochs != 1 else ''}"
        about = "" if counted else "about "
        return Price(once=cost, basis=f"{about}{tokens:,} tokens x {times} x {unit} CNY/1k")

    def passes(self, fields: Mapping[str, Any]) -> int:
        epochs = _epochs(fields)
        return epochs if isinstance(epochs, int) and epochs > 0 else 1

    def logs(self, remote_id: str, offset: int) -> Request:
        query = {"offset": offset, "line": 1000}
        return Request("jobs.logs", "GET", f"/fine-tunes/{segment(remote_id)}/logs", query=query)

    def log_lines(self, reply: Json) -> tuple[str, ...]:
        lines = dig(reply, "output", "logs")
        return tuple(text(line) for line in lines) if isinstance(lines, list) else ()

    def figure(self, lines: tuple[str, ...]) -> str:
        losses = [found[1] for line in lines if (found := _LOSS.search(line))]
        return f"loss {losses[-1]}" if losses else ""

    def measurements(self, lines: Sequence[str]) -> tuple[Measurement, ...]:
        """Every `name: number` of a line that tells a loss: no page says how a log reads, so anything like it."""
        found = [{name: _number(number) for name, number in _MEASURED.findall(line)} for line in lines]
        told = [values for values in found if any(name.endswith("loss") for name in values)]
        steps = [int(values.pop("step", number)) for number, values in enumerate(told, start=1)]
        return tuple(map(Measurement, steps, told))


def _inputs(item: Json, share: str = "training") -> tuple[str, ...]:
    """The uploads it learns from, wherever this generation of the API shows them (contract §2.3)."""
    ids = item.get(f"{share}_file_ids")
    plain = [text(one) for one in ids] if isinstance(ids, list) else []
    return tuple(filter(None, (*plain, *(text(one.get("file_id")) for one in rows(item.get(f"{share}_datasets"))))))


def _in_order(fields: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields, with data that is told in another order in that one: it is the same data."""
    found = dict(fields)
    for name in ("training", "validation"):
        if name in fields and sorted(map(str, fields[name])) == sorted(map(str, told.get(name, ()))):
            found[name] = told[name]
    return found


def _mounts(item: Json) -> int:
    """How many of its data sets lie in object storage."""
    sets = (*rows(item.get("training_datasets")), *rows(item.get("validation_datasets")))
    return sum(1 for one in sets if "mount_storage" in one)


def _echo(item: Json, job: str) -> Iterator[Sign]:
    """A mount has no id to show instead, so it tells nothing (contract §2.2)."""
    ids, sets = item.get("training_file_ids"), rows(item.get("training_datasets"))
    if ids:
        yield Sign("echo", True, f"training_file_ids of {job}")
    elif any("file_id" in one for one in sets):
        yield Sign("echo", True, f"training_datasets of {job}, its training_file_ids are empty")
    elif not sets:
        yield Sign("echo", False, f"training_file_ids and training_datasets of {job}")


def _epochs(fields: Mapping[str, Any]) -> Any:
    return dict(fields.get("hyperParameters", {})).get("n_epochs", 1)


_MEASURED = re.compile(
    r"(?<![\w.])([a-z][a-z_]{0,40})['\"]?\s*[:=]\s*(-?[0-9]{1,15}(?:\.[0-9]{1,17})?(?:e[-+]?[0-9]{1,2})?)(?![\w.])"
)
_SUFFIX = re.compile(r"^-(\w+)-ft-")
_LOSS = re.compile(r"(?<![a-z_])loss['\"]?\s*[:=]\s*([0-9]+(?:\.[0-9]+)?)", re.IGNORECASE)


class TunedModel(Spec):
    """The model that another job makes: tune it again."""

    fine_tune_job: Annotated[str, Ref("FineTuneJob"), Field(description="The name of that FineTuneJob.")]


class FileId(Spec):
    """A file that is managed elsewhere, by its id."""

    file_id: Annotated[str, Field(pattern=r"^[\w.-]{1,200}$", description="The id of the file on the service.")]


class MountStorage(Spec):
    """Where a `data.jsonl` lies in object storage (contract §2.2)."""

    region: Annotated[Literal["cn-beijing", "ap-southeast-1"], Field(description="The region of the bucket.")]
    bucket: Annotated[
        str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", description="The bucket that holds the file.")
    ]
    path: Annotated[
        str,
        Field(pattern=r"^[^/\\\s][^\\\s]*\.jsonl$", max_length=1000, description="The file within the bucket."),
    ]


class Mount(Spec):
    """Rows that lie in object storage and are read there: nothing is uploaded, and nothing is known of them."""

    mount: Annotated[MountStorage, Field(description="Where the rows lie.")]


Training = Annotated[str, Ref("Dataset")] | FileId | Mount
Value = int | float | bool | str


class FineTuneJob(Resource):
    """One paid run, bought once. Changed inputs are a new run, and that needs the consent `retrain` describes."""

    collections = (Jobs,)

    model: Annotated[
        str | TunedModel, Mark.IMMUTABLE, Field(description="The model to tune: its code, or {fineTuneJob: NAME}.")
    ]
    training_type: Annotated[
        Literal["sft", "efficient_sft", "dpo_full", "dpo_lora", "cpt"],
        Mark.IMMUTABLE,
        Field(description="What is learnt, and whether all of the model or an adapter learns it."),
    ]
    training: Annotated[
        list[Training],
        Mark.IMMUTABLE,
        Field(
            min_length=1,
            max_length=100,
            description="What it learns from: names of Datasets; {fileId: ...} or {mount: ...} of rows kept elsewhere.",
        ),
    ]
    validation: Annotated[
        list[Training] | None,
        Mark.IMMUTABLE,
        Field(
            description="What it is measured on, written as training; unset: the validation shares of those Datasets."
        ),
    ] = None
    hyper_parameters: Annotated[
        dict[str, Value],
        Mark.IMMUTABLE,
        Field(description="How it learns, by the names of the API; what is left out the service chooses."),
    ] = {}
    output_suffix: Annotated[
        str | None,
        Mark.IMMUTABLE,
        Field(pattern=r"^[a-z0-9]{1,8}$", description="A part of the tuned model's name; unset: a mark of ours."),
    ] = None
    retrain: Annotated[
        Literal["Auto", "Manual", "Never"],
        Mark.LOCAL,
        Field(
            description="What changed inputs may do after a first run: buy a new one, buy one with consent, or nothing."
        ),
    ] = "Manual"

    job_id: Annotated[str | None, Mark.COMPUTED, Field(description="The id of the run.")] = None
    finetuned_output: Annotated[
        str | None, Mark.COMPUTED, Field(description="The model it made, which a Deployment refers to.")
    ] = None

    @property
    def consent(self) -> str:
        return self.retrain

    # Before anything is read or sent ---------------------------------------------------------------------------

    @classmethod
    def known_keys(cls, profile: ProfileCatalogue) -> Mapping[str, Sequence[HyperParameter]]:
        return {"hyperParameters": profile.hyper_parameters}

    def check(self, profile: ProfileCatalogue) -> Iterator[Finding]:
        if isinstance(self.model, str):
            yield from self._check_model(profile, self.model)
        elif self.training_type == "cpt" and profile.profile == "dec-2024":
            yield Finding(("trainingType",), "profile dec-2024 has no continued pre-training")
        if not profile.plans:
            for index, item in enumerate(self.training):
                if isinstance(item, Mount):
                    yield Finding(("training", index), f"profile {profile.profile} cannot mount object storage")
        for name in sorted(set(profile.required_hyper_parameters) - self.hyper_parameters.keys()):
            yield Finding(("hyperParameters",), f"{name} is missing", f"profile {profile.profile} requires it")
        for name, value in self.hyper_parameters.items():
            yield from self._check_hyper_parameter(profile, name, value)

    def _check_model(self, profile: ProfileCatalogue, code: str) -> Iterator[Finding]:
        model = profile.model(code) or profile.model(profile.base_of(code) or "")
        if model is None:
            near = profile.suggest(code)
            hint = f"did you mean {near}?" if near else "`reconciler explain models` lists them"
            yield Finding(("model",), f"profile {profile.profile} has no model {code} that can be tuned", hint)
            return
        if warning := profile.retirement(code):
            yield Finding(("model",), warning, warning=True)
        if self.training_type not in model.training_types:
            known = ", ".join(model.training_types) or "nothing"
            yield Finding(("trainingType",), f"{code} cannot be tuned by {self.training_type}", f"it offers {known}")
        limit, length = model.token_max_length, self.hyper_parameters.get("max_length")
        if limit is not None and isinstance(length, int) and length > limit:
            yield Finding(
                ("hyperParameters", "max_length"), f"{length} is more than {code} can read", f"at most {limit}"
            )

    def _check_hyper_parameter(self, profile: ProfileCatalogue, name: str, value: Value) -> Iterator[Finding]:
        path = ("hyperParameters", name)
        rule = profile.hyper_parameter(name)
        if rule is None:
            near = get_close_matches(name, [known.name for known in profile.hyper_parameters], n=1)
            yield Finding(path, f"unknown hyper-parameter {name}", f"did you mean {near[0]}?" if near else "")
            return
        if problem := _problem(rule, value):
            yield Finding(path, f"{name} {problem}")
        if rule.training_types and self.training_type not in rule.training_types:
            only = ", ".join(rule.training_types)
            yield Finding(path, f"{name} has no meaning for {self.training_type}", f"only for {only}")

    def reading(self, inputs: Inputs) -> Reading:
        training, validating = self._training(inputs), self._validating(inputs)
        return Reading(
            self._base(inputs),
            tuple(part.content for part in training if part.content),
            tuple(part.content for part in validating if part.content),
        )

    def fits(self, inputs: Inputs, profile: ProfileCatalogue) -> Iterator[Finding]:
        for index, item in enumerate(self.training):
            parts = inputs.parts.get(f"Dataset/{item}", ()) if isinstance(item, str) else ()
            for form in sorted({part.format for part in parts} - FORMATS[self.training_type]):
                wanted = " or ".join(sorted(FORMATS[self.training_type]))
                yield Finding(
                    ("training", index), f"{self.training_type} cannot learn from {item}: its format is {form}", wanted
                )
        yield from self._check_batch(inputs)
        yield from self._check_overlap(inputs)
        yield from self._check_dropped(inputs, profile)
        if lengths := self._lengths(inputs):
            yield from self._overlong(lengths, self._base(inputs), profile)

    def _check_batch(self, inputs: Inputs) -> Iterator[Finding]:
        batch, uploads = self.hyper_parameters.get("batch_size"), [part.content for part in self._training(inputs)]
        counts = [content.rows for content in uploads if content and content.rows is not None]
        all_known = len(counts) == len(uploads) > 0 and all(isinstance(item, str) for item in self.training)
        if isinstance(batch, int) and all_known and sum(counts) <= batch:
            path, fewer = ("hyperParameters", "batch_size"), sum(counts) < batch
            what = f"{sum(counts)} rows are {'fewer than' if fewer else 'only'} one batch of {batch}: the job "
            yield Finding(path, what + ("would fail" if fewer else "may fail"), "lower it", warning=not fewer)

    def _check_overlap(self, inputs: Inputs) -> Iterator[Finding]:
        """The shares of one split have no row in common; Datasets that are named beside each other may."""
        for part in self._validating(inputs):
            if part.content and (both := inputs.learnt.get(part.content.digest)):
                path = ("validation",) if self.validation is not None else ("training",)
                what = f"{both:,} rows of {part.slot} are also trained on, so they validate nothing"
                yield Finding(path, what, "split one Dataset, or take them out", warning=True)

    def _check_dropped(self, inputs: Inputs, profile: ProfileCatalogue) -> Iterator[Finding]:
        """What a Dataset lets be lost of it; rows that are only cut are not."""
        limit = row_limit(profile, self._base(inputs), self.hyper_parameters)
        if limit is None or self._fate(profile) == "truncated":
            return
        for index, item in enumerate(self.training):
            parts = _shares(inputs, item, "train") if isinstance(item, str) else []
            allowed = next((part.max_dropped for part in parts), None)
            lengths = _lengths(inputs, parts) if allowed is not None else None
            if lengths and allowed is not None and lengths.share_over(limit.tokens) > allowed:
                about, over = "" if lengths.counted else "about ", lengths.over(limit.tokens)
                what = f"{about}{over:,} of {lengths.rows:,} rows of Dataset/{item} are longer than {limit.name}"
                what += f", and its lint.maxDropped is {float(100 * allowed):g}%"
                yield Finding(("training", index), what, _longer(lengths, limit), warning=not lengths.counted)

    def _fate(self, profile: ProfileCatalogue) -> str:
        """What becomes of a row that is too long."""
        return profile.overlong.get(self.training_type, "dropped or truncated")

    def _overlong(self, lengths: Lengths, base: str, profile: ProfileCatalogue) -> Iterator[Finding]:
        """Rows that are paid for and not learnt from, or not in full (contract §2.8, §2.11)."""
        limit = row_limit(profile, base, self.hyper_parameters)
        if limit is None or not (over := lengths.over(limit.tokens)):
            return
        fate = self._fate(profile)
        lost = lengths.lost(limit.tokens, truncated=fate == "truncated")
        about, left = "" if lengths.counted else "about ", lengths.rows - over
        rows = f"{about}{over:,} {'row' if over == 1 else 'rows'} ({_percent(Fraction(over, lengths.rows))})"
        what = f"{rows} {'is' if over == 1 else 'are'} longer than {limit.name} and would be {fate}"
        path = ("hyperParameters", *(["max_length"] if "max_length" in self.hyper_parameters else []))
        yield Finding(
            path, f"{what}, which loses {_percent(lost)} of the tokens", _longer(lengths, limit), warning=True
        )
        batch = self.hyper_parameters.get("batch_size")
        if lengths.counted and fate == "dropped" and isinstance(batch, int) and left < batch <= lengths.rows:
            fewer = f"the {left:,} rows left are fewer than one batch of {batch}: the job would fail"
            yield Finding(("hyperParameters",), fewer, warning=True)

    # What it comes to -------------------------------------------------------------------------------------------

    def parts(self, document: Document, inputs: Inputs) -> tuple[Part, ...]:
        fields: dict[str, Any] = {
            "model": self._model(),
            "trainingType": self.training_type,
            "training": tuple(self._files(self.training, "train", inputs)),
        }
        if self.hyper_parameters:
            fields["hyperParameters"] = _numbers(self.hyper_parameters)
        validation = self._validation(inputs)
        if validation or self.validation is not None:
            fields["validation"] = validation
        if self.output_suffix:
            fields["outputSuffix"] = self.output_suffix
        counts, lengths = [part.tokens for part in self._training(inputs)], self._lengths(inputs)
        known = counts and None not in counts and all(isinstance(item, str) for item in self.training)
        tokens = lengths.tokens if lengths and lengths.counted else sum(count or 0 for count in counts)
        return (
            Part(
                slot=Slot(document.address),
                fields=fields,
                at=document.places({name: (name,) for name in fields}),
                base=self._base(inputs),
                tokens=tokens if known else None,
                counted=bool(lengths and lengths.counted),
                lengths=lengths,
            ),
        )

    def _model(self) -> str | Known:
        if isinstance(self.model, str):
            return self.model
        return Known(Slot(f"FineTuneJob/{self.model.fine_tune_job}"), "model")

    def _base(self, inputs: Inputs) -> str:
        if isinstance(self.model, str):
            return self.model
        parts = inputs.parts.get(f"FineTuneJob/{self.model.fine_tune_job}", ())
        return parts[0].base if parts else ""

    def _lengths(self, inputs: Inputs) -> Lengths | None:
        """Of everything that is trained on and can be counted, as one."""
        return _lengths(inputs, self._training(inputs))

    def _training(self, inputs: Inputs) -> list[Part]:
        """The uploads that are trained on: of a split Dataset the training share, else every file."""
        named = [item for item in self.training if isinstance(item, str)]
        return [part for name in named for part in _shares(inputs, name, "train")]

    def _validation(self, inputs: Inputs) -> tuple[str | Known | Json, ...]:
        if self.validation is not None:
            return tuple(self._files(self.validation, "validation", inputs))
        return tuple(_known(part) for part in self._validating(inputs))

    def _validating(self, inputs: Inputs) -> list[Part]:
        """The uploads of ours that are validated on: those named, else the validation shares of what is trained on."""
        if self.validation is not None:
            named = [item for item in self.validation if isinstance(item, str)]
            return [part for name in named for part in _shares(inputs, name, "validation")]
        named = [item for item in self.training if isinstance(item, str)]
        shares = [part for name in named for part in inputs.parts.get(f"Dataset/{name}", ())]
        return [part for part in shares if part.slot.part == "validation"]

    def _files(self, items: list[Training], share: str, inputs: Inputs) -> Iterator[str | Known | Json]:
        for item in items:
            if isinstance(item, FileId):
                yield item.file_id
            elif isinstance(item, Mount):
                yield authored(item)
            else:
                yield from (_known(part) for part in _shares(inputs, item, share))


class RowLimit(NamedTuple):
    """The longest row that is learnt from in full, and the longest it could be made; None where no page says."""

    tokens: int
    name: str
    most: int | None


def row_limit(profile: ProfileCatalogue, base: str, hyper_parameters: Mapping[str, Value]) -> RowLimit | None:
    """By max_length, or its default, or what the model can read at all, whichever is least."""
    rule, reads = profile.hyper_parameter("max_length"), profile.token_max_length(base)
    default = rule.default if rule else None
    length = hyper_parameters.get("max_length", default)
    most = min((int(limit) for limit in (reads, rule.max if rule else None) if limit is not None), default=None)
    if reads is not None and not (isinstance(length, int) and length <= reads):
        return RowLimit(reads, f"the {reads:,} tokens that {base} reads", most)
    if not isinstance(length, int):
        return None
    name = "max_length" if "max_length" in hyper_parameters else "the default max_length"
    return RowLimit(length, f"{name} {length:,}", most)


def _longer(lengths: Lengths, limit: RowLimit) -> str:
    """Which length would do: for 99 % of the rows, or where that many fit already, for all of them."""
    enough = lengths.keeping(99)
    wanted, keeps = (enough, "99 %") if enough > limit.tokens else (lengths.longest, "them all")
    if limit.most is None or wanted <= limit.most:
        return f"{wanted:,} keeps {keeps}"
    kept = _percent(1 - lengths.share_over(limit.most))
    return f"even {limit.most:,}, the most, keeps {kept}" if limit.most > limit.tokens else "it cannot be more"


def _percent(share: Fraction) -> str:
    """To a tenth, and never 0 of something or all of what is less."""
    if 0 < share < Fraction(1, 1000):
        return "less than 0.1 %"
    tenths = min(round(share * 1000), 999) if share < 1 else 1000
    return f"{tenths / 10:g} %"


def _problem(rule: HyperParameter, value: Value) -> str:
    """What is wrong with a value by the rule of the catalogue, or ""."""
    if rule.each is None or not isinstance(value, str):
        return _value_problem(rule, value)
    elements = [_number(element.strip()) for element in value.split(",")]
    return next((problem for element in elements if (problem := _value_problem(rule.each, element))), "")


def _value_problem(values: Values, value: Value) -> str:
    numeric = _number(value)
    fits = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(numeric, int | float) and not isinstance(numeric, bool),
        "bool": isinstance(value, bool),
        "string": isinstance(value, str),
    }[values.type]
    if not fits:
        return f"must be {_TYPES[values.type]}"
    if values.min is not None and isinstance(numeric, int | float) and numeric < values.min:
        return f"must be at least {values.min:g}"
    if values.max is not None and isinstance(numeric, int | float) and numeric > values.max:
        return f"must be at most {values.max:g}"
    word = value.lower() if values.fold and isinstance(value, str) else value
    if values.enum and word not in values.enum:
        return f"must be one of {', '.join(values.enum)}"
    return ""


_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}


def _lengths(inputs: Inputs, parts: Iterable[Part]) -> Lengths | None:
    digests = [part.content.digest for part in parts if part.content]
    return merged(inputs.lengths[digest] for digest in digests if digest in inputs.lengths)


def _shares(inputs: Inputs, name: str, share: str) -> list[Part]:
    parts = inputs.parts.get(f"Dataset/{name}", ())
    split = any(part.content and part.content.share for part in parts)
    return [part for part in parts if not split or part.slot.part == share]


def _known(part: Part) -> Known:
    return Known(part.slot, "id", digest=str(part.fields["source"]))


def _source(item: str | Json) -> Json:
    """One element of `training_datasets` (contract §2.2)."""
    if isinstance(item, str):
        return {"data_source_type": "file_id", "file_id": item}
    place = item["mount"]
    storage = {"region": place["region"], "bucket": place["bucket"], "file_path": place["path"]}
    return {"data_source_type": "oss_mount", "mount_storage": storage}


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The service may spell a number otherwise than it was sent: "1.6e-5" comes back as 0.000016 (§2.3)."""
    return {name: _number(value) for name, value in values.items()}


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    if not number.is_finite():
        return value
    return int(number) if number == number.to_integral_value() else float(number)
