"""A lineage as two trees for each thing that was asked about: what it was made from, and what was made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.lineage import Lineage, Node
from reconciler.render.words import Line, clean, page, size_text


def lineage_text(known: Lineage, found: Sequence[Node], width: int | None) -> str:
    lines: list[Line] = []
    for node in found:
        lines += [Line("")] if lines else []
        lines.append(Line(_name(node), {"bold": True}))
        for title, edges in (("made from", known.before), ("led to", known.after)):
            below = list(_tree(known, node.key, edges, indent=4, told={node.key}))
            lines += [Line(title, indent=2), *below] if below else []
    return page(lines, width)


def _tree(
    known: Lineage, key: str, edges: Mapping[str, tuple[str, ...]], *, indent: int, told: set[str]
) -> Iterator[Line]:
    for depth, text, _ in steps(known, key, edges, told):
        yield Line(text, indent=indent + 2 * depth)


def steps(
    known: Lineage, key: str, edges: Mapping[str, tuple[str, ...]], told: set[str], depth: int = 0
) -> Iterator[tuple[int, str, str]]:
    """Everything along the edges from a node: how far below it, its name, and the address it belongs to ("" for none).

    What was told already is named again without what is below it.
    """
    for other in edges.get(key, ()):
        again = other in told and bool(edges.get(other))
        node = known.nodes[other]
        yield depth, _name(node) + (" (as above)" if again else ""), node.address
        if other not in told:
            told.add(other)
            yield from steps(known, other, edges, told, depth + 1)


def _name(node: Node) -> str:
    if node.sort == "data":
        return f"data {clean(node.id)}" + (f" ({size_text(node.size)})" if node.size is not None else "")
    if node.sort == "model":
        return f"model {clean(node.id)}"
    about = ", ".join(filter(None, (clean(node.role), clean(node.at))))
    return " ".join(filter(None, (clean(node.slot), clean(node.id), f"({about})")))


def lineage_json(known: Lineage, found: Sequence[Node]) -> dict[str, Any]:
    """Everything connected with what was asked about, as nodes and edges from what was first to what came of it."""
    keys = frozenset().union(*(known.around(node.key) for node in found))
    return {
        "asked": [node.key for node in found],
        "nodes": [_node(known.nodes[key]) for key in sorted(keys)],
        "edges": [[key, other] for key in sorted(keys) for other in known.after.get(key, ()) if other in keys],
    }


def _node(node: Node) -> dict[str, Any]:
    address, _, part = node.slot.partition(":")
    return {
        "key": node.key,
        "sort": node.sort,
        "id": node.id,
        "address": address or None,
        "part": part,
        "role": node.role or None,
        "at": node.at or None,
        "size": node.size,
    }
