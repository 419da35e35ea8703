"""A scenario file: which facts of the service hold and which faults it plays, in YAML or JSON.

Reads the file strictly and promises `Scenario` or a ValueError that names every mistake. Starting a server with it is
`server.py`'s to do.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from reconciler.emulator.faults import Rule, did_you_mean, parse

BYTES_MAX = 1 << 20
MEMBERS = ("switches", "faults")


@dataclass(frozen=True)
class Scenario:
    switches: Mapping[str, object] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()


def read(path: Path, operations: Collection[str]) -> Scenario:
    """Raises ValueError for what is wrong in the file, OSError where it cannot be read. Switches are checked later."""
    with path.open("rb") as file:
        raw = file.read(BYTES_MAX + 1)
    if len(raw) > BYTES_MAX:
        raise ValueError(f"scenario {path.name} is larger than {BYTES_MAX} B")
    try:
        data = yaml.load(raw, _Loader)
    except Exception as error:  # beside its own, the library lets out whatever a wrong value broke in it
        raise ValueError(f"scenario {path.name} cannot be read: {_reason(error)}") from error
    try:
        return _scenario(data, operations)
    except ValueError as error:
        raise ValueError(f"scenario {path.name}: {error}") from error


def _scenario(data: Any, operations: Collection[str]) -> Scenario:
    if not isinstance(data, dict):
        raise ValueError(f"takes a mapping with {' and '.join(MEMBERS)}")
    for name in data:
        if name not in MEMBERS:
            raise ValueError(f"{name}: unknown{did_you_mean(str(name), MEMBERS)}")
    switches, faults = data.get("switches"), data.get("faults")
    if switches is not None and not isinstance(switches, dict):
        raise ValueError("switches takes a mapping of names to positions")
    turned = {str(name): value for name, value in (switches or {}).items()}
    return Scenario(turned, parse([] if faults is None else faults, operations))


def _reason(error: Exception) -> str:
    match error:
        case yaml.MarkedYAMLError(problem=problem, problem_mark=yaml.Mark(line=line, column=column)):
            return f"line {line + 1}, column {column + 1}: {problem}"
        case yaml.YAMLError() | ValueError():
            return " ".join(str(error).replace('in "<byte string>", ', "at ").split())
        case RecursionError():
            return "it is nested too deeply"
        case _:
            return "a value does not fit its tag"


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses what would silently be taken for something else: keys twice, and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases are not read here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[Hashable]()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the library refuses it, and says where
            if key in seen:
                raise ValueError(f"{key} is there twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
