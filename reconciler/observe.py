"""Reads the service: one list pass for each collection, a single read only where a list cannot answer.

Absence in a list is never proof: an object that should be there and is not listed is asked for by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from reconciler.api import Api
from reconciler.errors import NotFound, Unavailable
from reconciler.plan import World
from reconciler.resource import Collection, Json, Observed
from reconciler.state import Owned

PAGES_MAX = 1000
PASSES_MAX = 3  # over a list that changes while it is read


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
        items: list[Observed] = []
        total = None
        for page in pages(api, collection):
            items += map(collection.parse, page.items)
            total = page.total
        seen |= {observed.id: observed for observed in items if observed.id}
        if total is None or len({observed.id for observed in items}) >= total:
            break
    return {key: observed for key, observed in seen.items() if observed.status not in collection.gone}


class Page(NamedTuple):
    """Entries as the service wrote them, and how many it says there are over all pages."""

    items: tuple[Json, ...]
    total: int | None


def pages(api: Api, collection: Collection) -> Iterator[Page]:
    """One pass over a list, a request for each page; none where the collection keeps no list.

    A page that only repeats the one before is the last: the list goes round in circles.
    """
    before: tuple[Json, ...] = ()
    for number in range(1, PAGES_MAX + 1):
        request = collection.list(number)
        if request is None:
            return
        reply = api.send(request).body
        page = Page(collection.items(reply), collection.total(reply))
        if page.items == before:
            return
        yield page
        before = page.items
        short = len(page.items) < collection.page_size
        if short or (page.total is not None and number * collection.page_size >= page.total):
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
