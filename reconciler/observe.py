"""Reads the service: one list pass for each collection, a single read only where a list cannot answer.

Absence in a list is never proof: an object that should be there and is not listed is asked for by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.api import Api
from reconciler.errors import NotFound, Unavailable
from reconciler.plan import World
from reconciler.resource import Collection, Json, Observed
from reconciler.state import Owned

PAGES_MAX = 1000


def observe(api: Api, collections: Mapping[str, Collection], names: Iterable[str], owned: Iterable[Owned]) -> World:
    """Everything these collections hold, with certainty about the objects that are ours."""
    rows = tuple(owned)
    return World({name: look(api, collections[name], rows) for name in sorted(set(names))})


def look(api: Api, collection: Collection, rows: Iterable[Owned]) -> dict[str, Observed]:
    """One collection: every listed object, and each of `rows` either found or established to be absent."""
    seen = list_all(api, collection)
    for row in rows:
        if row.collection != collection.name:
            continue
        listed = seen.get(row.id)
        if listed is None or collection.stale(listed, row.outputs):
            read = read_one(api, collection, row.id, listed)
            if read is not None:
                seen[row.id] = read
            else:
                seen.pop(row.id, None)
    return seen


def list_all(api: Api, collection: Collection) -> dict[str, Observed]:
    """Every object of a collection by id, page by page. An entry without an id is left out."""
    seen: dict[str, Observed] = {}
    for items in pages(api, collection):
        for observed in map(collection.parse, items):
            if observed.id and observed.status not in collection.gone:
                seen[observed.id] = observed
    return seen


def pages(api: Api, collection: Collection) -> Iterator[tuple[Json, ...]]:
    """The entries of a collection as the service wrote them, one page for each request; none where it keeps no list."""
    for page in range(1, PAGES_MAX + 1):
        request = collection.list(page)
        if request is None:
            return
        reply = api.send(request).body
        items, total = collection.items(reply), collection.total(reply)
        yield items
        if len(items) < collection.page_size or (total is not None and page * collection.page_size >= total):
            return
    raise Unavailable(f"{collection.name}: the list does not end after {PAGES_MAX} pages")


def read_one(api: Api, collection: Collection, remote_id: str, listed: Observed | None = None) -> Observed | None:
    """One object by its id, or None where the service says that there is none. Notes when it was read."""
    try:
        reply = api.send(collection.read(remote_id)).body
    except NotFound:
        return None
    observed = collection.parse(collection.item(remote_id, reply))
    if not observed.id or observed.status in collection.gone:
        return None
    outputs = {**(listed.outputs if listed else {}), **observed.outputs, "read": f"{api.now():%Y-%m-%d %H:%M:%S}"}
    return replace(observed, outputs=outputs)
