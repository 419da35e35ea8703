"""Reads the service: one list pass for each collection, a single read only where a list cannot answer.

Absence in a list is never proof: an object that should be there and is not listed is asked for by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.api import Api
from reconciler.errors import NotFound, Unavailable
from reconciler.plan import World
from reconciler.resource import Collection, Observed
from reconciler.state import Owned

PAGES_MAX = 1000
PASSES_MAX = 3  # over a list that changes while it is read
IDLE_PAGES_MAX = 2  # pages in a row that show nothing new: the list goes round in circles


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
            if read is None and listed is None:
                read = read_one(api, collection, row.id)  # one 404 is said too easily to believe that it is gone
            if read is not None:
                seen[row.id] = read
            else:
                seen.pop(row.id, None)
    return seen


def list_all(api: Api, collection: Collection) -> dict[str, Observed]:
    """Every object of a collection by id; what shifted between two pages is looked for again.

    Where the list names a total that was not reached, it is read anew, at most `PASSES_MAX` times: what one pass missed
    another shows. An entry without an id is left out.
    """
    seen: dict[str, Observed] = {}
    for _ in range(PASSES_MAX):
        found, complete = _one_pass(api, collection)
        seen |= found
        if complete:
            break
    return seen


def _one_pass(api: Api, collection: Collection) -> tuple[dict[str, Observed], bool]:
    """What the pages show from the first to the last, and whether that is as many as they say there are."""
    seen: dict[str, Observed] = {}
    ids: set[str] = set()
    idle = 0
    for page in range(1, PAGES_MAX + 1):
        request = collection.list(page)
        if request is None:
            return seen, True
        reply = api.send(request).body
        items, total = collection.items(reply), collection.total(reply)
        before = len(ids)
        for observed in map(collection.parse, items):
            if observed.id:
                ids.add(observed.id)
                if observed.status not in collection.gone:
                    seen[observed.id] = observed
        idle = idle + 1 if len(ids) == before else 0
        last = len(items) < collection.page_size or (total is not None and page * collection.page_size >= total)
        if last or idle >= IDLE_PAGES_MAX:
            return seen, total is None or len(ids) >= total
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
