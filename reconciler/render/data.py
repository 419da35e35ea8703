"""Plain data as JSON or YAML text.

Lossless, unlike the text pages: what nobody could see is written as an escape of the format, so that a parser reads the
very string and a terminal shows none of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from reconciler.render.words import hidden

FORMAT_VERSION = "1.0"


def versioned(data: Mapping[str, Any]) -> dict[str, Any]:
    """A document as programs get it; one with a `format_version` of its own keeps that (docs/json.md)."""
    return {"format_version": FORMAT_VERSION, **data}


def cny(money: Decimal | None) -> str | None:
    """CNY for programs, never with an exponent; null is unknown."""
    return None if money is None else f"{money:f}"


def json_text(value: Any, *, indent: int | None = 2, ascii: bool = False) -> str:
    """JSON with every hidden character as an escape, with `ascii` every other too; `indent=None` gives one line."""
    return _escaped(json.dumps(value, ensure_ascii=ascii, indent=indent), _as_utf16)


def yaml_text(value: Any, *, ascii: bool = False) -> str:
    """YAML of the same data; strings that hold something hidden, or could start a line oddly, are in double quotes."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        quoted = any(map(hidden, text)) or text.lstrip().startswith(("::", "##["))
        return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"' if quoted else None)

    Dumper.add_representer(str, represent)
    Dumper.add_multi_representer(str, represent)  # the words of a closed set
    dumped: str = yaml.dump(value, Dumper=Dumper, allow_unicode=not ascii, sort_keys=False, width=10**9)
    return _escaped(dumped, lambda letter: f"\\U{ord(letter):08x}").rstrip("\n")


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(escape(letter) if hidden(letter) and letter != "\n" else letter for letter in text)


def _as_utf16(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
