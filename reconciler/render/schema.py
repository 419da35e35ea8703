"""The JSON Schema of the manifests, made from the kinds themselves: what an editor completes is what is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.catalogue import HyperParameter, ProfileCatalogue
from reconciler.render.words import listed
from reconciler.resource import API_VERSION, NAME_PATTERN, Lifecycle, Mark, Metadata, Spec, marks

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE = "reconciler.schema.json"  # beside the manifests, so that their first line can name it in every clone
_PLACE = "#/$defs/{model}"
_DOCUMENT: Mapping[str, str] = {
    "apiVersion": "The version of this format.",
    "kind": "What the document declares.",
    "metadata": "Who it is.",
    "spec": "What it should be.",
    "lifecycle": "What may happen to it beyond its fields.",
}


def manifest_schema(kinds: Mapping[str, type[Spec]], profile: ProfileCatalogue) -> dict[str, Any]:
    """One document of any kind: `kind` decides what `spec` holds. A field that nobody may write is not in it."""
    definitions: dict[str, Any] = {}
    for name, kind in kinds.items():
        definitions |= model_schemas(name, kind, profile)
        for field, of in marks(kind).items():
            if Mark.COMPUTED in of:
                del definitions[name]["properties"][field]
    documents = [{"$ref": f"#/$defs/{name}Document"} for name in kinds]
    definitions |= {f"{name}Document": _document(name, definitions[name]) for name in kinds}
    for shared in (Metadata, Lifecycle):
        definitions |= model_schemas(shared.__name__, shared, profile)
    definitions["Metadata"]["properties"]["name"]["pattern"] = NAME_PATTERN
    discriminator = {"propertyName": "kind", "mapping": {name: f"#/$defs/{name}Document" for name in kinds}}
    return {
        "$schema": DIALECT,
        "title": "A document of the reconciler",
        "oneOf": documents,
        "discriminator": discriminator,
        "$defs": dict(sorted(definitions.items())),
    }


def model_schemas(name: str, model: type[Spec], profile: ProfileCatalogue) -> dict[str, Any]:
    """The model and all it is made of, each under its name; parts of a kind are named `Kind.Part`, lest two collide."""
    schema = model.model_json_schema(by_alias=True, ref_template=_PLACE)
    parts = schema.pop("$defs", {})
    renamed = {part: f"{name}.{part}" for part in parts}
    schemas = {key: _tidied(body, renamed) for key, body in {name: schema, **_renamed(parts, renamed)}.items()}
    for field, keys in model.known_keys(profile).items():
        schemas[name]["properties"][field]["properties"] = {key.name: _key(key) for key in keys}
    return schemas


def _renamed(parts: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[part]: body for part, body in parts.items()}


def _document(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    shapes: Mapping[str, Mapping[str, Any]] = {
        "apiVersion": {"const": API_VERSION},
        "kind": {"const": name},
        "metadata": {"$ref": "#/$defs/Metadata"},
        "spec": {"$ref": f"#/$defs/{name}"},
        "lifecycle": {"$ref": "#/$defs/Lifecycle"},
    }
    about = {**_DOCUMENT, "kind": spec["description"]}
    return {
        "type": "object",
        "title": name,
        "properties": {part: {**shape, "description": about[part]} for part, shape in shapes.items()},
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


def _key(rule: HyperParameter) -> dict[str, Any]:
    """One key of an open map, as the catalogue has it. A number with a fraction may be written as text."""
    types = {"int": "integer", "float": ["number", "string"], "string": "string", "bool": "boolean"}
    bounds = {"minimum": rule.min, "maximum": rule.max}
    shape: dict[str, Any] = {"type": types[rule.type], **{key: at for key, at in bounds.items() if at is not None}}
    if rule.enum:
        words = {"enum": list(rule.enum)}
        shape = {"anyOf": [words, {"type": "string"}]} if rule.fold else words
    return {**shape, "description": " ".join(filter(None, _facts(rule)))}


def _facts(rule: HyperParameter) -> tuple[str, ...]:
    alone = listed(rule.training_types)
    printed = str(rule.default).lower() if isinstance(rule.default, bool) else rule.default
    return (
        rule.about or "",
        f"Only for {alone}." if alone else "",
        f"The service's pages print {printed} as its default." if rule.default is not None else "",
    )


def _tidied(value: Any, names: Mapping[str, str]) -> Any:
    """Without nulls, which a manifest may not hold, and without titles, which repeat the names."""
    if isinstance(value, list):
        return [_tidied(item, names) for item in value if item != {"type": "null"}]
    if not isinstance(value, Mapping):
        return value
    kept = {key: item for key, item in value.items() if not (key == "title" and isinstance(item, str))}
    if "default" in kept and kept["default"] is None:
        del kept["default"]
    if "$ref" in kept:
        part = kept["$ref"].rpartition("/")[2]
        return {**kept, "$ref": _PLACE.format(model=names.get(part, part))}
    tidy = {key: _tidied(item, names) for key, item in kept.items()}
    options = tidy.get("anyOf")
    if options and len(options) == 1:
        del tidy["anyOf"]
        return {**options[0], **tidy}
    return tidy
