"""What refers to what, as a tree for people and in the forms that drawing programs read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.render.words import clean

Edges = Mapping[str, tuple[str, ...]]


def tree_text(edges: Edges) -> str:
    """Each document that nothing refers to, with what it needs below it; what was shown before is only named again."""
    needed = {address for wanted in edges.values() for address in wanted}
    shown: set[str] = set()
    return "\n".join(line for root in edges if root not in needed for line in _branch(root, edges, shown, "", ""))


def _branch(address: str, edges: Edges, shown: set[str], first: str, rest: str) -> Iterator[str]:
    again = address in shown and bool(edges.get(address))
    yield f"{first}{clean(address)}" + (" (above)" if again else "")
    shown.add(address)
    wanted = () if again else edges.get(address, ())
    for number, below in enumerate(wanted, 1):
        last = number == len(wanted)
        yield from _branch(below, edges, shown, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def graph_json(edges: Edges) -> dict[str, Any]:
    """Of each document the addresses that it refers to."""
    return {"refers_to": {address: list(wanted) for address, wanted in edges.items()}}


def dot_text(edges: Edges) -> str:
    """Graphviz; an arrow points at what is needed."""
    lines = [f'  "{clean(address)}";' for address in edges]
    lines += [f'  "{clean(address)}" -> "{clean(below)}";' for address, wanted in edges.items() for below in wanted]
    return "\n".join(["digraph stack {", "  rankdir=LR;", *lines, "}"])


def mermaid_text(edges: Edges) -> str:
    """Mermaid, as forges draw it in Markdown."""
    names = {address: f"n{number}" for number, address in enumerate(edges)}
    lines = [f'  {name}["{clean(address)}"]' for address, name in names.items()]
    lines += [f"  {names[address]} --> {names[below]}" for address, wanted in edges.items() for below in wanted]
    return "\n".join(["flowchart LR", *lines])
