"""References between documents to an order, or every mistake in them.

Works on any documents whose fields are marked with `Ref` and promises the same answer whatever order they come in. It
knows no kind and reads nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import islice

from reconciler.errors import Problem
from reconciler.resource import Document, Reference
from reconciler.wording import MAX_HINTS, did_you_mean

MAX_CYCLES = 20


def check(documents: Sequence[Document], *, broken: Collection[str] = ()) -> tuple[Problem, ...]:
    """Every identity used twice, every reference to nothing, every cycle.

    `broken` names documents that exist but could not be read: what refers to them is not dangling. "" stands for one
    whose name is unknown, and then no reference is.
    """
    return (*_repeated(documents), *_dangling(documents, broken), *islice(_cycles(documents), MAX_CYCLES))


def ordered(documents: Iterable[Document]) -> tuple[Document, ...]:
    """What is referenced before what refers to it, then by address. The documents must have passed `check`."""
    by_address = {document.address: document for document in documents}
    sorter = TopologicalSorter(dependencies(by_address.values()))
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        wave = sorted(sorter.get_ready())
        order += wave
        sorter.done(*wave)
    return tuple(by_address[address] for address in order)


def dependencies(documents: Iterable[Document]) -> dict[str, tuple[str, ...]]:
    """For each address the addresses it refers to, sorted; only those that are declared."""
    by_address = {document.address: document for document in documents}
    return {
        address: tuple(sorted({found.address for found in document.references} & by_address.keys()))
        for address, document in by_address.items()
    }


def _repeated(documents: Sequence[Document]) -> Iterator[Problem]:
    first: dict[str, Document] = {}
    if len({document.address for document in documents}) == len(documents):
        return
    for document in sorted(documents, key=lambda document: document.position()):
        known = first.setdefault(document.address, document)
        if known is not document:
            place = known.position("metadata", "name")
            yield Problem(
                f"{document.address} is declared twice", document.position("metadata", "name"), f"first in {place}"
            )


def _dangling(documents: Sequence[Document], broken: Collection[str]) -> Iterator[Problem]:
    if "" in broken:
        return
    declared, hints = {document.address for document in documents}, dict[str, str]()
    for document in documents:
        for found in document.references:
            if found.name not in broken and found.address not in declared:
                what = f"{document.address} names {found.address}, which no manifest declares"
                if found.address not in hints:
                    hints[found.address] = _meant(found, documents) if len(hints) < MAX_HINTS else ""
                yield Problem(what, document.position("spec", *found.path), hints[found.address])


def _meant(reference: Reference, documents: Iterable[Document]) -> str:
    kinds = [document.kind for document in documents if document.metadata.name == reference.name]
    if kinds:
        return f"{reference.name} is a {min(kinds)}, not a {reference.kind}"
    return did_you_mean(reference.name, (one.metadata.name for one in documents if one.kind == reference.kind))


def _cycles(documents: Sequence[Document]) -> Iterator[Problem]:
    """One problem a cycle, at the reference that leads from its first document to the next."""
    by_address = {document.address: document for document in documents}
    edges: Mapping[str, tuple[str, ...]] = dependencies(documents)
    while cycle := _cycle(edges):
        start = by_address[cycle[0]]
        path = next(found.path for found in start.references if found.address == cycle[1])
        yield Problem(
            f"a cycle: {' -> '.join(cycle)}", start.position("spec", *path), "one of them must go without the other"
        )
        edges = {address: wanted for address, wanted in edges.items() if address not in cycle}


def _cycle(edges: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Some cycle as "a refers to b refers to a", its smallest address first; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        around: list[str] = error.args[1][:0:-1]  # graphlib tells it from dependency to dependant, first node repeated
        start = around.index(min(around))
        return [*around[start:], *around[: start + 1]]
    return []
