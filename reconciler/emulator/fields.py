"""Members of a request, read as the service would: the right type or a refusal that names the member.

`null` counts as absent everywhere, because the official clients send it for what the caller left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.emulator.refusal import bad_parameter

Json = dict[str, Any]


def text(body: Json, name: str) -> str:
    value = optional_text(body, name)
    if not value:
        raise bad_parameter(name)
    return value


def optional_text(body: Json, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_parameter(name)
    return value or None


def integer(body: Json, name: str, *, least: int, most: int) -> int:
    value = optional_integer(body, name, least=least, most=most)
    if value is None:
        raise bad_parameter(name)
    return value


def optional_integer(body: Json, name: str, *, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise bad_parameter(name)
    return value


def optional_number(body: Json, name: str, *, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise bad_parameter(name)
    return float(value)


def optional_flag(body: Json, name: str) -> bool | None:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_parameter(name)
    return value


def texts(body: Json, name: str) -> tuple[str, ...]:
    values = items(body, name)
    if not all(isinstance(value, str) and value for value in values):
        raise bad_parameter(name)
    return values


def items(body: Json, name: str) -> tuple[Any, ...]:
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise bad_parameter(name)
    return tuple(value)


def mapping(body: Json, name: str) -> Json:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_parameter(name)
    return value


def query_integer(query: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    """A number in the address. Only plain digits count: `int()` alone would take `1_0` and ` 1`."""
    value = query.get(name)
    if value is None or value == "":
        return default
    digits = value.lstrip("0") or "0"
    if not (value.isascii() and value.isdigit()) or len(digits) > 12 or not least <= int(digits) <= most:
        raise bad_parameter(name)
    return int(digits)
