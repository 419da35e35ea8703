"""The words in which routes describe their bodies and answers: JSON Schema in small pieces.

Only a notation. What a handler accepts is decided by its code; `openapi.py` gathers the descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reconciler.emulator.fields import Json

Schemas = Mapping[str, Json]
NONE: Schemas = MappingProxyType({})
TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
FLAG: Json = {"type": "boolean"}
OBJECT: Json = {"type": "object"}
BYTES: Json = {"type": "string", "contentMediaType": "application/octet-stream"}


def word(*words: str) -> Json:
    return {"type": "string", "enum": list(words)}


def like(example: object, schema: Json) -> Json:
    return {**schema, "examples": [example]}


def several(item: Json) -> Json:
    return {"type": "array", "items": item}


def nullable(schema: Json) -> Json:
    """Most members of a request may be null, which counts as absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def shape(always: Schemas, sometimes: Schemas = NONE) -> Json:
    """An object with these members; more may come."""
    return {"type": "object", "properties": {**always, **sometimes}, "required": sorted(always)}


def numbered(name: str, item: Json) -> Json:
    """One page of a list."""
    return shape({"total": WHOLE, "page_no": WHOLE, "page_size": WHOLE, name: several(item)})


def paged(size: int, most: int) -> Schemas:
    """The query members of a numbered list."""
    return {
        "page_no": {"type": "integer", "minimum": 1, "default": 1},
        "page_size": {"type": "integer", "minimum": 1, "maximum": most, "default": size},
    }


def answer(**members: Json) -> Json:
    """A whole answer: these members beside the request id."""
    return shape({"request_id": TEXT, **members})
