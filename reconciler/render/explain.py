"""What may be written and what is offered, read from the kinds, their marks and the catalogue, never told twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.catalogue import Model, ProfileCatalogue, Retirement, SpeechModel
from reconciler.render.schema import model_schemas
from reconciler.render.words import Line, listed, money, page, table
from reconciler.resource import Lifecycle, Mark, Metadata, Resource, Spec, marks

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
_MARKS: Mapping[Mark, str] = {
    Mark.IMMUTABLE: "cannot be changed in place",
    Mark.COMPUTED: "chosen by the service",
    Mark.WRITE_ONLY: "never shown back",
    Mark.LOCAL: "never sent",
    Mark.CLOSED: "as a whole",
}
SHARED: Mapping[str, type[Spec]] = {"metadata": Metadata, "lifecycle": Lifecycle}
Schemas = Mapping[str, Any]


def overview_text(kinds: Mapping[str, type[Spec]], width: int | None) -> str:
    """The kinds and what else can be explained."""
    rows = [[name, _first_sentence(kind)] for name, kind in kinds.items()]
    rows += [["metadata", _first_sentence(Metadata)], ["lifecycle", _first_sentence(Lifecycle)]]
    rows += [["models", "What can be tuned, deployed or given hotwords, and prices."]]
    rows += [["switches", "Disputed facts of the service that the emulator can take either way."]]
    rows += [["exit-codes", "What an exit code means."]]
    return page(_pairs(rows), width)


def exit_codes_text(width: int | None) -> str:
    return page(_pairs([[str(code), meaning] for code, meaning in EXIT_CODES.items()]), width)


def switches_text(switches: Mapping[str, tuple[str, str]], width: int | None) -> str:
    """The emulator's switches: what each decides and the values it takes."""
    return page(_pairs([[name, f"{about} ({values})"] for name, (about, values) in switches.items()]), width)


def _first_sentence(model: type[Spec]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _pairs(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[Line]:
    column = max(len(name) for name, _ in rows)
    yield from (Line(f"{name:{column}}  {text}", {"bold": True}, indent, column + 2, len(name)) for name, text in rows)


# Kinds and their fields ---------------------------------------------------------------------------------------------


def kind_text(name: str, kind: type[Spec], path: Sequence[str], width: int | None) -> str:
    """A kind with its fields, or the field at `path`. Raises KeyError with the part of the path that is no field."""
    schemas = model_schemas(name, kind)
    schema, required = schemas[name], True
    for step in path:
        objects = [body for body in _objects(schema, schemas) if step in body.get("properties", {})]
        if not objects:
            raise KeyError(step)
        required = step in objects[0].get("required", ())
        schema = objects[0]["properties"][step]
    lines = [Line(".".join((name, *path)) + (f"  {_type(schema, schemas)}" if path else ""), {"bold": True})]
    about = schema.get("description") or next((o.get("description") for o in _objects(schema, schemas)), "")
    lines += [Line(" ".join(text.split()), indent=2, hang=0) for text in (about or "").split("\n\n")]
    known = marks(kind) if len(path) <= 1 else {}
    if path:
        lines += [Line(note, indent=2) for note in _notes(schema, required, known.get(path[0], frozenset()))]
    for body in _objects(schema, schemas):
        lines += _fields(body, schemas, {} if path else known)
    if issubclass(kind, Resource) and not path:
        lines.append(Line(f"deletionPolicy unless written: {kind.collections[0].deletion}", indent=2))
    return page(lines, width)


def fields_of(name: str, kind: type[Spec], path: Sequence[str]) -> tuple[str, ...]:
    """The names that may follow a path, for a suggestion."""
    schemas = model_schemas(name, kind)
    found = [schemas[name]]
    for step in path:
        found = [b["properties"][step] for s in found for b in _objects(s, schemas) if step in b.get("properties", {})]
    return tuple(sorted({field for s in found for body in _objects(s, schemas) for field in body["properties"]}))


def _objects(schema: Mapping[str, Any], schemas: Schemas) -> tuple[Mapping[str, Any], ...]:
    """The shapes with fields that a value of this schema may have: itself, one of several, or the items of a list."""
    if "$ref" in schema:
        return _objects(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "properties" in schema:
        return (schema,)
    below = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return tuple(found for one in below for found in _objects(one, schemas))


def _fields(body: Mapping[str, Any], schemas: Schemas, known: Mapping[str, frozenset[Mark]]) -> Iterator[Line]:
    for name, schema in body["properties"].items():
        yield Line(f"{name}  {_type(schema, schemas)}", {"bold": True}, indent=2, head=len(name))
        if about := schema.get("description"):
            yield Line(" ".join(about.split()), indent=6, hang=0)
        notes = ", ".join(_notes(schema, name in body.get("required", ()), known.get(name, frozenset())))
        yield Line(notes, {"dim": True}, indent=6, hang=0)


def _notes(schema: Mapping[str, Any], required: bool, of: frozenset[Mark]) -> tuple[str, ...]:
    default = schema.get("default")
    fallback = "" if default in (None, [], {}, "") or isinstance(default, dict) else f"default {_json_word(default)}"
    return tuple(filter(None, ("required" if required else "optional", fallback, *(_MARKS[m] for m in sorted(of)))))


def _type(schema: Mapping[str, Any], schemas: Schemas) -> str:
    """A type in words: `text`, `whole number from 1`, `list of text`, `mu | lora`."""
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option, schemas) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(_json_word(value) for value in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}), schemas)}"
        case "object":
            return f"mapping of text to {_type(schema['additionalProperties'], schemas)}"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _bounds(schema)
        case "boolean":
            return "true | false"
        case _:
            return "text" + (f" matching {schema['pattern']}" if "pattern" in schema else "")


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {schema[key]:g}" for key, word in words.items() if key in schema)


def _json_word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# The catalogue ------------------------------------------------------------------------------------------------------


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


def model_text(profile: ProfileCatalogue, code: str, sources: Mapping[str, str], width: int | None) -> str:
    """One model with everything the catalogue holds. Raises KeyError where it holds none of that code."""
    model, speech = profile.model(code), profile.speech_model(code)
    if model is None and speech is None:
        raise KeyError(code)
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
