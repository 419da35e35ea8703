"""The JSON Schema of the manifests, made from the kinds themselves: what an editor completes is what is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.resource import API_VERSION, NAME_PATTERN, Lifecycle, Metadata, Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLACE = "#/$defs/{model}"


def manifest_schema(kinds: Mapping[str, type[Spec]]) -> dict[str, Any]:
    """One document of any kind: `kind` decides what `spec` holds."""
    definitions: dict[str, Any] = {}
    for name, kind in kinds.items():
        definitions |= model_schemas(name, kind)
    documents = [{"$ref": f"#/$defs/{name}Document"} for name in kinds]
    definitions |= {f"{name}Document": _document(name) for name in kinds}
    definitions |= model_schemas("Metadata", Metadata) | model_schemas("Lifecycle", Lifecycle)
    definitions["Metadata"]["properties"]["name"]["pattern"] = NAME_PATTERN
    discriminator = {"propertyName": "kind", "mapping": {name: f"#/$defs/{name}Document" for name in kinds}}
    return {
        "$schema": DIALECT,
        "title": "A document of the reconciler",
        "oneOf": documents,
        "discriminator": discriminator,
        "$defs": dict(sorted(definitions.items())),
    }


def model_schemas(name: str, model: type[Spec]) -> dict[str, Any]:
    """The model and all it is made of, each under its name; parts of a kind are named `Kind.Part`, lest two collide."""
    schema = model.model_json_schema(by_alias=True, ref_template=_PLACE)
    parts = schema.pop("$defs", {})
    renamed = {part: f"{name}.{part}" for part in parts}
    return {key: _tidied(body, renamed) for key, body in {name: schema, **_renamed(parts, renamed)}.items()}


def _renamed(parts: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[part]: body for part, body in parts.items()}


def _document(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "title": name,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": name},
            "metadata": {"$ref": "#/$defs/Metadata"},
            "spec": {"$ref": f"#/$defs/{name}"},
            "lifecycle": {"$ref": "#/$defs/Lifecycle"},
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


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
