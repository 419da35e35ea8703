"""From data to the model that is deployed, and back: who was made from what, as the record knows it. Pure.

A content hash, an object of the service and a model are the three sorts of nodes. Objects that are gone stay: the
journal remembers what they were made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.state import MADE, State

GONE = "gone"
HASH_MIN = 6  # characters of a hash that may stand for all of it
_DIGEST = re.compile(r"([0-9a-f]{32})-([0-9]+)")


@dataclass(frozen=True)
class Node:
    """One thing. `slot` and `role` are those of an object, `id` is its own name: for data the md5."""

    key: str
    sort: Literal["data", "object", "model"]
    id: str
    slot: str = ""
    role: str = ""
    at: str = ""
    size: int | None = None

    @property
    def address(self) -> str:
        return self.slot.partition(":")[0]


@dataclass(frozen=True)
class Lineage:
    """All nodes by key, and for each what it was made from, and what was made from it."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    after: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def find(self, word: str) -> tuple[Node, ...]:
        """What an address, an id, or a hash or its beginning stands for, oldest first."""
        short = word if len(word) >= HASH_MIN and re.fullmatch("[0-9a-f]+", word) else None
        found = [
            node
            for node in self.nodes.values()
            if word in (node.id, node.slot, node.address)
            or (short is not None and node.sort == "data" and node.id.startswith(short))
        ]
        return tuple(sorted(found, key=lambda node: (node.at, node.key)))

    def around(self, key: str) -> frozenset[str]:
        """The keys of a node, of all it comes from and of all that came of it."""
        return frozenset({key, *self._along(key, self.before), *self._along(key, self.after)})

    @staticmethod
    def _along(key: str, edges: Mapping[str, tuple[str, ...]]) -> set[str]:
        found: set[str] = set()
        left = [key]
        while left:
            fresh = [one for one in edges.get(left.pop(), ()) if one not in found]
            found.update(fresh)
            left += fresh
        return found


@dataclass(frozen=True)
class _Thing:
    """An object as its row has it, or, where that is gone, as the journal does."""

    node: Node
    fields: Mapping[str, Any]
    uses: tuple[str, ...]
    model: str


def lineage(state: State) -> Lineage:
    """Everything the record knows of who was made from what."""
    things = {thing.node.key: thing for thing in _things(state)}
    nodes = {key: thing.node for key, thing in things.items()}
    lost = {key for thing in things.values() for key in thing.uses} - nodes.keys()
    nodes |= {key: Node(key, "object", key.partition("/")[2], role=GONE) for key in lost}
    models = {thing.model: key for key, thing in things.items() if thing.model}
    nodes |= {f"model {name}": Node(f"model {name}", "model", name) for name in models}
    edges: set[tuple[str, str]] = {(key, f"model {name}") for name, key in models.items()}
    for key, thing in things.items():
        learnt = str(thing.fields.get("model", ""))
        edges |= {(f"model {learnt}", key)} if learnt in models else set()
        edges |= {(used, key) for used in thing.uses if used != models.get(learnt)}
        told = {digest for used in thing.uses if used in things for digest in _digests(things[used].fields)}
        for digest, md5, size in _digests(thing.fields) - told:
            nodes[f"data {digest}"] = Node(f"data {digest}", "data", md5, size=int(size))
            edges.add((f"data {digest}", key))
    return Lineage(nodes, _grouped((b, a) for a, b in edges), _grouped(edges))


def _things(state: State) -> Iterator[_Thing]:
    for row in state.owned.values():
        node = Node(row.key, "object", row.id, str(row.slot), row.role.value, row.applied_at)
        yield _Thing(node, row.last_applied, row.uses, str(row.outputs.get("model", "")))
    for intent in state.intents.values():
        key = f"{intent.collection}/{intent.result_id}"
        if intent.verb == "create" and intent.phase in MADE and intent.result_id and key not in state.owned:
            node = Node(key, "object", intent.result_id, str(intent.slot), GONE, intent.at)
            yield _Thing(node, intent.fields, intent.uses, "")


def _digests(value: Any) -> frozenset[tuple[str, str, str]]:
    """Every content hash among some fields: whole, its md5, its size."""
    if isinstance(value, str):
        found = _DIGEST.fullmatch(value)
        return frozenset({(value, found[1], found[2])}) if found else frozenset()
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return frozenset(digest for item in items for digest in _digests(item))


def _grouped(pairs: Any) -> dict[str, tuple[str, ...]]:
    grouped: dict[str, list[str]] = {}
    for one, other in sorted(pairs):
        grouped.setdefault(one, []).append(other)
    return {key: tuple(others) for key, others in grouped.items()}
