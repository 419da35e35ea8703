"""Reads the service: one list pass for each collection, a single read only where a list cannot answer.

Absence in a list is never proof: an object that should be there and is not listed is asked for by its id. Collections
are read side by side, and pages of a long list before the one before them has come: an answer that takes its time then
costs that time once, and how often the service may be asked is the only brake.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from threading import Thread
from typing import NamedTuple, TypeVar

from reconciler.api import Api
from reconciler.errors import ApiError, NotFound, Unavailable
from reconciler.plan import World
from reconciler.resource import Collection, Json, Observed, Request
from reconciler.state import Owned, written

PAGES_MAX = 10_000
READINGS_MAX = 5
AHEAD = 4  # pages of one list in flight: 20 requests a second keep no more of them waiting for 200 ms each
T = TypeVar("T")


@dataclass
class Pace:
    """When a collection is looked at next; slower while nothing moves."""

    first_s: float
    longest_s: float
    due: float = math.inf
    pause_s: float = 0.0

    @classmethod
    def of(cls, collection: Collection, hurry: float) -> Pace:
        """For a service whose time runs so much faster than ours."""
        first, longest = collection.poll_s
        return cls(max(0.5, first / hurry), max(1.0, longest / hurry))

    def begin(self, now: float, in_s: float = 0.0) -> None:
        """Something more is waited for."""
        self.due, self.pause_s = min(self.due, now + in_s), self.first_s

    def looked(self, now: float, *, moved: bool) -> None:
        self.pause_s = self.first_s if moved else min(self.pause_s * 1.5, self.longest_s)
        self.due = now + self.pause_s


def begun(work: Callable[[], T]) -> Future[T]:
    """Work that goes on beside ours. Nobody waits for its end: who leaves takes the connections away from under it."""
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=do, name="read", daemon=True).start()
    return future


Sheet = tuple[bytes, tuple[Observed, ...]]
"""A digest of the entries of a page, and what they say."""


@dataclass
class Sheets:
    """Pages by collection and number, as they were `before` and are `now`: one that reads the same says the same."""

    before: Mapping[tuple[str, int], Sheet] = field(default_factory=dict)
    now: dict[tuple[str, int], Sheet] = field(default_factory=dict)

    def understood(self, collection: Collection, number: int, items: tuple[Json, ...]) -> tuple[Observed, ...]:
        digest = hashlib.sha256(json.dumps(items).encode()).digest()
        known, found = self.before.get((collection.name, number), (b"", ()))
        found = found if known == digest else tuple(map(collection.parse, items))
        self.now[collection.name, number] = (digest, found)
        return found


def observe(
    api: Api,
    collections: Mapping[str, Collection],
    names: Iterable[str],
    owned: Iterable[Owned],
    sheets: Sheets | None = None,
) -> World:
    """Everything these collections hold, with certainty about the objects that are ours.

    Raises the error of the first collection by name that has one.
    """
    rows = tuple(owned)
    reading = {name: begun(partial(survey, api, collections[name], rows, sheets)) for name in sorted(set(names))}
    return World({name: one.result() for name, one in reading.items()})


def survey(
    api: Api, collection: Collection, rows: Iterable[Owned], sheets: Sheets | None = None
) -> dict[str, Observed]:
    """One collection: every listed object, and each of `rows` either found or established to be absent."""
    ours = [row for row in rows if row.collection == collection.name]
    return _established(api, collection, ours, list_all(api, collection, expected=len(ours), sheets=sheets))


def look(api: Api, collection: Collection, rows: Iterable[Owned]) -> dict[str, Observed]:
    """What became of these objects alone, in no more than two requests for each of them that is there.

    A list begins with what is newest, so its first page mostly shows them all; it is read no further than there are
    objects to be found.
    """
    ours = [row for row in rows if row.collection == collection.name]
    wanted, seen = {row.id for row in ours}, dict[str, Observed]()
    for page in islice(pages(api, collection, ahead=0), len(wanted)):
        seen |= {one.id: one for one in page.found if one.id in wanted and one.status not in collection.gone}
        if len(seen) == len(wanted):
            break
    return _established(api, collection, ours, seen)


def _established(
    api: Api, collection: Collection, ours: Iterable[Owned], seen: dict[str, Observed]
) -> dict[str, Observed]:
    for row in ours:
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


def look_closer(api: Api, collection: Collection, seen: Mapping[str, Observed]) -> dict[str, Observed]:
    """These objects, each read where its list does not show enough of it; what is gone since is left out."""
    read = {
        key: read_one(api, collection, key, listed) if collection.stale(listed, {}) else listed
        for key, listed in seen.items()
    }
    return {key: one for key, one in read.items() if one is not None}


def list_all(
    api: Api, collection: Collection, *, expected: int = 0, sheets: Sheets | None = None
) -> dict[str, Observed]:
    """Every object of a collection by id. A list that moves under its reader is read again until two readings agree.

    Raises Unavailable for a list that cannot be read: what it might have held must not be taken for absent.
    """
    before: set[str] | None = None
    for _ in range(READINGS_MAX):
        seen, whole = _all_pages(api, collection, expected, sheets)
        if whole or before == seen.keys():
            return {key: one for key, one in seen.items() if one.status not in collection.gone}
        before = set(seen)
    raise Unavailable(f"{collection.name}: the list does not stand still")


def _all_pages(
    api: Api, collection: Collection, expected: int, sheets: Sheets | None
) -> tuple[dict[str, Observed], bool]:
    """One reading, and whether it is whole for certain: as many objects as every page said there are."""
    seen: dict[str, Observed] = {}
    totals: set[int | None] = set()
    listed = 0
    for page in pages(api, collection, expected=expected, sheets=sheets):
        seen |= {one.id: one for one in page.found}
        totals.add(page.total)
        listed += len(page.found)
    return seen, totals <= {len(seen)} or (totals == {None} and listed == len(seen))


def offers(api: Api, collection: Collection) -> tuple[Json, ...] | None:
    """What the service offers to make these objects of; None where it does not say, or not so that it can be read."""
    found: list[Json] = []
    for number in range(1, PAGES_MAX + 1):
        request = collection.offers(number)
        if request is None:
            return None
        try:
            page = collection.offered(api.send(request).body)
        except ApiError:
            return None
        if page is None:
            return None
        fresh = [offer for offer in page if offer not in found]
        found += fresh
        if not fresh or len(page) < collection.page_size:
            return tuple(found)
    return None


class Page(NamedTuple):
    """Entries as the service wrote them, what they say, and how many it claims there are over all pages."""

    items: tuple[Json, ...]
    found: tuple[Observed, ...]
    total: int | None


def pages(
    api: Api, collection: Collection, *, expected: int = 0, ahead: int = AHEAD, sheets: Sheets | None = None
) -> Iterator[Page]:
    """A list from its first page to its last; none where the collection keeps no list. Raises Unavailable.

    Behind the last page that was read up to `ahead` are in flight, once it is known that they are there: by the
    service's total, else as `expected`.
    """
    seen: set[str] = set()
    asked: dict[int, Future[Page]] = {}
    read = partial(_one_page, api, collection, sheets)
    for number in range(1, PAGES_MAX + 1):
        request = collection.list(number)
        if request is None:
            return
        page = asked.pop(number).result() if number in asked else read(number, request)
        if number == 1 and page.total and not page.found:
            raise Unavailable(f"{collection.name}: the service says that there are {page.total}, and shows none")
        full, fresh = len(page.found) >= collection.page_size, {one.id for one in page.found} - seen
        if full and not fresh:
            raise Unavailable(f"{collection.name}: the list repeats itself")
        seen |= fresh
        if full:
            last = (expected if page.total is None else page.total) // collection.page_size + 1
            for later in range(number + 1, min(last, number + ahead) + 1):
                if later not in asked and (request := collection.list(later)):
                    asked[later] = begun(partial(read, later, request))
        yield page
        if not fresh or not (full or (page.total is not None and len(seen) < page.total)):
            return
    raise Unavailable(f"{collection.name}: the list does not end after {PAGES_MAX} pages")


def _one_page(api: Api, collection: Collection, sheets: Sheets | None, number: int, request: Request) -> Page:
    reply = api.send(request).body
    items = collection.items(reply)
    found = sheets.understood(collection, number, items or ()) if sheets else tuple(map(collection.parse, items or ()))
    if items is None or not all(one.id for one in found):
        raise Unavailable(f"{request.operation}: the service answered with a list that cannot be read")
    return Page(items, found, collection.total(reply))


def read_one(api: Api, collection: Collection, remote_id: str, listed: Observed | None = None) -> Observed | None:
    """One object by its id, or None where the service says that there is none. Notes when it was read.

    Raises Unavailable for an answer that is not about this object.
    """
    request = collection.read(remote_id)
    try:
        reply = api.send(request).body
    except NotFound:
        return None
    item = collection.item(remote_id, reply)
    if item is None:
        return None
    observed = collection.parse(item)
    if observed.id != remote_id:
        raise Unavailable(f"{request.operation}: the service was asked about {remote_id} and answered something else")
    if observed.status in collection.gone:
        return None
    outputs = {**(listed.outputs if listed else {}), **observed.outputs, "read": written(api.now())}
    return replace(observed, outputs=outputs)
