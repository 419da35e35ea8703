"""What may be written and what is offered, read from the kinds, their marks and the catalogue, never told twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from reconciler.catalogue import Model, ProfileCatalogue, Retirement, SpeechModel
from reconciler.errors import UsageError
from reconciler.render.plan_json import plain
from reconciler.render.schema import model_schemas
from reconciler.render.words import Line, listed, money, page, table
from reconciler.resource import Lifecycle, Mark, Metadata, Resource, Spec, marks
from reconciler.wording import shown, suggestion

EXIT_CODES: Mapping[int, str] = {
    0: "done; with --detailed-exitcode: no changes, no drift",
    1: "error: a wrong manifest, a broken file, an altered saved plan, no usable answer",
    2: "only with --detailed-exitcode: changes or drift",
    3: "refused: approval or consent missing, protected object, surgery that would lose something",
    4: "a saved plan no longer holds, or was applied already: plan again. Or the state is held by another run: safe to"
    " retry",
    5: "remote work failed, or the service refused it",
    6: "work goes on remotely and is recorded: waiting timed out, or was not asked for",
    7: "the outcome of a creation is not known, or the state does not know its object: nothing is created again",
    8: "not authorised, or the state belongs to another endpoint or workspace",
    64: "the command line itself is wrong",
    130: "interrupted; everything accepted by the service is recorded",
}
SHARED: Mapping[str, type[Spec]] = {"metadata": Metadata, "lifecycle": Lifecycle}
TOPICS: Mapping[str, str] = {
    "models": "What can be tuned, deployed or given hotwords, and prices.",
    "switches": "Disputed facts of the service that the emulator can take either way.",
    "exit-codes": "What an exit code means.",
}
Schemas = Mapping[str, Any]
Pairs = Mapping[str, str]


def overview(kinds: Mapping[str, type[Spec]]) -> Pairs:
    """The kinds and what else can be explained."""
    return {name: _first_sentence(model) for name, model in {**kinds, **SHARED}.items()} | {**TOPICS}


def exit_codes() -> Pairs:
    return {str(code): meaning for code, meaning in EXIT_CODES.items()}


def pairs_text(rows: Pairs, width: int | None) -> str:
    return page(_pairs([*rows.items()]), width)


def _first_sentence(model: type[Spec]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _pairs(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[Line]:
    column = max(len(name) for name, _ in rows)
    yield from (Line(f"{name:{column}}  {text}", {"bold": True}, indent, column + 2, len(name)) for name, text in rows)


# Kinds and their fields ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A kind or one of its fields: what it promises, which values it takes, and what becomes of a change of it.

    `default` is None where what is left out is not set, or is not a single word.
    """

    path: tuple[str, ...]
    about: str
    type: str
    required: bool
    default: str | None
    change: str
    fields: tuple[Entry, ...]
    deletion: str = ""  # what becomes of an object of this kind whose author wrote no policy

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def below(self) -> Iterator[Entry]:
        """Every field of it and of its fields."""
        for field in self.fields:
            yield field
            yield from field.below()


def entry(path: Sequence[str], kinds: Mapping[str, type[Spec]], profile: ProfileCatalogue) -> Entry:
    """What a path such as `Deployment.limits.rpm` leads to; `spec`, `metadata`, `lifecycle` may stand after a kind."""
    models, name, steps = {**kinds, **SHARED}, path[0], [*path[1:]]
    if steps[:1] == ["spec"] and name not in SHARED:
        steps.pop(0)
    here = whole = _tree((name,), models[name], profile)
    if steps and steps[0] in SHARED and name not in SHARED:
        shared = steps.pop(0)
        here = _tree((name, shared), SHARED[shared], profile)
    for step in steps:
        known = {field.path[-1]: field for field in here.fields}
        if step not in known:
            names = [*known, *(SHARED if here is whole and name not in SHARED else ())]
            message = f"{shown('.'.join(path))}: there is no field {shown(step)}"
            raise UsageError(message, hint=suggestion(step, names))
        here = known[step]
    return here


def _tree(path: tuple[str, ...], model: type[Spec], profile: ProfileCatalogue) -> Entry:
    schemas = model_schemas(path[-1], model, profile)
    changes = {name: _change(of, issubclass(model, Resource)) for name, of in marks(model).items()}
    root = _entry(path, schemas[path[-1]], schemas, True, "")
    fields = tuple(_changing(field, changes[field.path[-1]]) for field in root.fields)
    deletion = model.collections[0].deletion if issubclass(model, Resource) and model.collections else ""
    return replace(root, type="", fields=fields, deletion=deletion)


def _changing(field: Entry, change: str) -> Entry:
    """A field and all below it, which change as it does."""
    return replace(field, change=change, fields=tuple(_changing(below, change) for below in field.fields))


CHOSEN = "chosen by the service"


def _change(of: frozenset[Mark], sent: bool) -> str:
    if Mark.COMPUTED in of:
        return CHOSEN
    if Mark.IMMUTABLE in of:
        return "a new object replaces it"
    if Mark.LOCAL in of or not sent:
        return "ours alone, never sent"
    whole = ", as a whole" if Mark.CLOSED in of else ""
    return f"changed in place{whole}" + (", not always shown back" if Mark.WRITE_ONLY in of else "")


def _entry(path: tuple[str, ...], schema: Mapping[str, Any], schemas: Schemas, required: bool, change: str) -> Entry:
    objects = _objects(schema, schemas)
    about = schema.get("description") or next((o["description"] for o in objects if "description" in o), "")
    default = schema.get("default")
    return Entry(
        path,
        about,
        _type(schema, schemas),
        required,
        None if default in (None, "") or isinstance(default, dict | list) else _json_word(default),
        change,
        tuple(
            _entry((*path, name), below, schemas, name in one.get("required", ()), change)
            for one in objects
            for name, below in one["properties"].items()
        ),
    )


def entry_text(one: Entry, width: int | None) -> str:
    """The entry, and each field directly below it."""
    lines = [Line(one.name + (f"  {one.type}" if one.type else ""), {"bold": True})]
    lines += [Line(" ".join(text.split()), indent=2, hang=0) for text in one.about.split("\n\n") if text]
    lines += [Line(", ".join(notes(one)), indent=2)] if one.type else []
    for field in one.fields:
        name = field.path[-1]
        lines.append(Line(f"{name}  {field.type}", {"bold": True}, indent=2, head=len(name)))
        lines.append(Line(" ".join(field.about.split()), indent=6, hang=0))
        lines.append(Line(", ".join(notes(field)), {"dim": True}, indent=6, hang=0))
    lines += [Line(f"deletionPolicy unless written: {one.deletion}", indent=2)] if one.deletion else []
    return page(lines, width)


def entry_json(one: Entry) -> dict[str, Any]:
    return {
        "path": one.name,
        "about": " ".join(one.about.split()),
        "type": one.type,
        "required": one.required,
        "default": one.default,
        "change": one.change,
        "deletion_policy": one.deletion or None,
        "fields": [entry_json(field) for field in one.fields],
    }


def notes(one: Entry) -> tuple[str, ...]:
    """Whether it must be written, what it is otherwise, and what becomes of a change."""
    default = f"default {one.default}" if one.default is not None else ""
    written = "" if one.change == CHOSEN else "required" if one.required else "optional"
    return tuple(filter(None, (written, default, one.change)))


def _objects(schema: Mapping[str, Any], schemas: Schemas) -> tuple[Mapping[str, Any], ...]:
    """The shapes with fields that a value of this schema may have: itself, one of several, or the items of a list."""
    if "$ref" in schema:
        return _objects(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "properties" in schema:
        return (schema,)
    below = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return tuple(found for one in below for found in _objects(one, schemas))


def _type(schema: Mapping[str, Any], schemas: Schemas) -> str:
    """A type in words: `text`, `whole number from 1`, `list of text`, `mu | lora`."""
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option, schemas) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(_json_word(value) for value in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case list() as several:
            return " or ".join(_type({**schema, "type": one}, schemas) for one in several)
        case "array":
            return f"list of {_type(schema.get('items', {}), schemas)}"
        case "object":
            values = schema.get("additionalProperties")
            return f"mapping of text to {_type(values, schemas)}" if isinstance(values, Mapping) else "object"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _bounds(schema)
        case "boolean":
            return "true | false"
        case _:
            return "text" + (f" matching {schema['pattern']}" if "pattern" in schema else "")


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {schema[key]:.15g}" for key, word in words.items() if key in schema)


def _json_word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# The catalogue ------------------------------------------------------------------------------------------------------


def models_json(profile: ProfileCatalogue) -> dict[str, Any]:
    """Every model of a profile with all that the catalogue holds; prices are CNY, null where no page states one."""
    models = [plain(asdict(one)) for one in profile.models]
    speech = [plain(asdict(one)) for one in profile.speech_models]
    return {"profile": profile.profile, "as_of": str(profile.as_of), "models": models, "speech_models": speech}


def models_text(profile: ProfileCatalogue, width: int | None) -> str:
    """Every model of a profile; prices are CNY, "unknown" where no page states one."""
    rows = [
        [one.code, listed(one.training_types), money(one.training_price), _billed(profile, one), _date(one.retired)]
        for one in profile.models
    ]
    speech = [[one.code, one.service, f"{one.max_words:,}", _date(one.retired)] for one in profile.speech_models]
    head = f"profile {profile.profile}, prices of {profile.as_of}"
    tuned = table(("MODEL", "TUNED BY", "CNY/1K TOKENS", "DEPLOYED BY THE HOUR", "RETIRES"), rows, width)
    return "\n\n".join([head, tuned, table(("SPEECH MODEL", "HOTWORDS IN", "MOST WORDS", "RETIRES"), speech, width)])


def _billed(profile: ProfileCatalogue, model: Model) -> str:
    units = [f"{unit} {money(profile.model_units[unit].hour)}" for unit in model.model_units]
    instance = profile.instances.get(model.instance or "")
    return listed([*units, *([f"{model.instance} {money(instance.hour)}"] if instance else [])]) or "unknown"


def _date(retired: Retirement | None) -> str:
    return str(retired.date) if retired else ""


def model_json(profile: ProfileCatalogue, code: str) -> dict[str, Any]:
    """One of `models_json`, which must be there."""
    found = models_json(profile)
    return next(one for one in found["models"] + found["speech_models"] if one["code"] == code)


def model_text(profile: ProfileCatalogue, code: str, sources: Mapping[str, str], width: int | None) -> str:
    """One model with everything the catalogue holds."""
    model, speech = profile.model(code), profile.speech_model(code)
    rows = _model_rows(profile, model) if model else _speech_rows(speech) if speech else []
    cited = model.sources if model else speech.sources if speech else ()
    lines = [Line(f"{code}  (profile {profile.profile})", {"bold": True}), *_pairs([row for row in rows if row[1]], 2)]
    lines += [Line(sources.get(name, name), {"dim": True}, indent=2, whole=True) for name in dict.fromkeys(cited)]
    return page(lines, width)


def _model_rows(profile: ProfileCatalogue, model: Model) -> list[list[str]]:
    price = model.token_price
    return [
        ["name", model.name],
        ["tuned by", listed(model.training_types)],
        ["training", f"{money(model.training_price)} CNY per 1,000 tokens"],
        ["reads", f"{model.token_max_length:,} tokens a row" if model.token_max_length else ""],
        ["deployed", f"{_billed(profile, model)} CNY/h each"],
        ["per call", f"{money(price.input)} in, {money(price.output)} out, CNY per 1,000 tokens" if price else ""],
        ["retires", f"{_date(model.retired)}: no new tuning or deployment from then on" if model.retired else ""],
        ["inferred", listed(model.inferred)],
    ]


def _speech_rows(model: SpeechModel) -> list[list[str]]:
    return [
        ["hotwords", f"at most {model.max_words:,}, kept in a {model.service}"],
        ["languages", listed(model.languages)],
        ["retires", _date(model.retired)],
    ]
