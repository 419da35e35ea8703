"""Reading lists that move, lie or break off: what is believed of them, and what is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from reconciler import catalogue, kinds
from reconciler.api import Api, Key, Patience
from reconciler.errors import NotFound, Unavailable
from reconciler.observe import AHEAD, Sheets, list_all, look, observe
from reconciler.resource import Slot
from reconciler.state import Owned, Role
from tests.calls import calls_of
from tests.far_end import Answer, FarEnd, Received, error, far_end, reply

KNOWN = kinds.collections(catalogue.load().for_profile("2026"))
DEPLOYMENTS = KNOWN["deployments"]
FULL = DEPLOYMENTS.page_size


def page(total: Any, ids: Sequence[str], **more: Any) -> Answer:
    items = [{"deployed_model": one, "status": "RUNNING", **more} for one in ids]
    return reply(200, {"output": {"total": total, "deployments": items}})


def ids(count: int, start: int = 0) -> list[str]:
    return [f"d-{number}" for number in range(start, start + count)]


@contextmanager
def listing(answers: Callable[[int, int], Answer]) -> Iterator[tuple[Api, FarEnd]]:
    """A service whose lists are what `answers` says of the page and of how often it was asked for."""
    asked: dict[int, int] = {}

    def respond(received: Received) -> Answer:
        query = parse_qs(urlsplit(received.target).query)
        if "page_no" not in query:
            return error(404, "NotFound", "Not found!")
        number = int(query["page_no"][0])
        asked[number] = asked.get(number, 0) + 1
        return answers(number, asked[number])

    with far_end(respond) as end, Api(end.origin, Key("k"), rate_per_s=None, patience=Patience(tries=1)) as api:
        yield api, end


def everything(answers: Callable[[int, int], Answer]) -> tuple[list[str], int]:
    """The ids that are seen, and how many requests it took."""
    with listing(answers) as (api, end):
        seen = list_all(api, DEPLOYMENTS)
    return sorted(seen), len(end.received)


def test_one_page_that_holds_what_it_says_is_read_once() -> None:
    assert everything(lambda number, time: page(3, ids(3))) == (ids(3), 1)


def test_all_pages_are_read_once_when_they_stand_still() -> None:
    pages = {1: page(FULL + 1, ids(FULL)), 2: page(FULL + 1, ids(1, FULL))}
    assert everything(lambda number, time: pages[number]) == (sorted(ids(FULL + 1)), 2)


def test_a_service_that_gives_smaller_pages_than_asked_for_is_asked_for_more() -> None:
    """A short page is not the last one while the total says otherwise."""
    seen, _ = everything(lambda number, time: page(25, ids(10 if number < 3 else 5, (number - 1) * 10)))
    assert seen == sorted(ids(25))


@pytest.mark.parametrize("total", [0, 2, 300, -1])
def test_a_total_that_lies_costs_a_second_reading_and_no_belief(total: int) -> None:
    seen, requests = everything(lambda number, time: page(total, ids(3) if number == 1 else []))
    assert seen == ids(3)
    assert requests <= 4


@pytest.mark.parametrize("total", [None, "many", {}, []])
def test_a_total_that_is_none_ends_with_a_short_page(total: Any) -> None:
    assert everything(lambda number, time: page(total, ids(3)))[0] == ids(3)


def test_an_object_that_slips_between_two_pages_is_found_by_reading_again() -> None:
    """Something before it was deleted just then, so it moved to the page that had been read."""
    first = {1: page(FULL + 2, ids(FULL)), 2: page(FULL + 1, ids(1, FULL + 1))}
    later = {1: page(FULL + 1, ids(FULL, 1)), 2: page(FULL + 1, ids(1, FULL + 1))}
    seen, _ = everything(lambda number, time: (first if time == 1 else later)[number])
    assert seen == sorted(ids(FULL + 1, 1))


def test_an_object_that_is_shown_twice_is_one() -> None:
    """Something was created just then, so the last of the first page is the first of the second."""
    pages = {1: page(FULL + 2, ids(FULL)), 2: page(FULL + 2, ids(3, FULL - 1))}
    assert everything(lambda number, time: pages[number])[0] == sorted(ids(FULL + 2))


def test_a_page_that_comes_again_for_ever_has_an_end() -> None:
    with pytest.raises(Unavailable, match="repeats itself"):
        everything(lambda number, time: page(10 * FULL, ids(FULL)))


def test_a_list_that_never_stands_still_has_an_end() -> None:
    with pytest.raises(Unavailable, match="stand still"):
        everything(lambda number, time: page(9, ids(3, time * 3) if number == 1 else []))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"output": None},
        {"output": {"deployments": None, "total": 1}},
        {"output": {"deployments": None}},
        {"output": {"deployments": {"d-1": {}}}},
        {"output": {"deployments": ["d-1"]}},
        {"output": {"deployments": [{"deployed_model": 7}]}},
        {"output": {"deployments": [{"status": "RUNNING"}]}},
        {"output": {"deployments": [], "total": 3}},
    ],
)
def test_a_list_that_cannot_be_read_is_not_empty(body: dict[str, Any]) -> None:
    """To take it for empty is to take everything for absent, and what is absent is bought again."""
    with pytest.raises(Unavailable):
        everything(lambda number, time: reply(200, body))


@pytest.mark.parametrize("nothing", [[], None])
def test_an_empty_list_is_empty_when_its_total_says_so(nothing: Any) -> None:
    assert everything(lambda number, time: reply(200, {"output": {"deployments": nothing, "total": 0}})) == ([], 1)


def test_what_is_gone_is_not_there() -> None:
    assert everything(lambda number, time: page(2, ids(2), status="DELETED")) == ([], 1)


def test_what_no_list_shows_is_asked_for_by_its_id() -> None:
    """And here the service says twice that there is none, which alone establishes it."""
    row = Owned(Slot("Deployment/p"), "deployments", "d-9", Role.CURRENT, "", {})
    with listing(lambda number, time: page(1, ids(1))) as (api, end):
        assert "d-9" not in look(api, DEPLOYMENTS, [row])
    assert [seen.target.partition("?")[0] for seen in end.received] == [
        "/api/v1/deployments",
        "/api/v1/deployments/d-9",
        "/api/v1/deployments/d-9",
    ]


# Side by side -------------------------------------------------------------------------------------------------------

LISTS = ("deployments", "files", "jobs")
MEMBERS = {"deployments": ("output", "deployments"), "files": ("data", "files"), "fine-tunes": ("output", "jobs")}


def empty(received: Received) -> Answer:
    holder, name = MEMBERS[urlsplit(received.target).path.rpartition("/")[2]]
    return reply(200, {holder: {"total": 0, name: []}})


@contextmanager
def lists(respond: Callable[[Received], Answer]) -> Iterator[Api]:
    with far_end(respond) as end, Api(end.origin, Key("k"), rate_per_s=None, patience=Patience(tries=1)) as api:
        yield api


def test_collections_are_read_side_by_side() -> None:
    """The far side answers none of them before it was asked for all."""
    asked = Barrier(len(LISTS))

    def respond(received: Received) -> Answer:
        asked.wait(60)
        return empty(received)

    with lists(respond) as api:
        assert observe(api, KNOWN, LISTS, ()).objects == {name: {} for name in LISTS}


@pytest.mark.parametrize("broken", [("jobs",), ("files", "jobs"), LISTS])
def test_of_several_errors_the_first_by_name_is_told(broken: tuple[str, ...]) -> None:
    """The same one each time, whichever answer comes first."""

    def respond(received: Received) -> Answer:
        name = urlsplit(received.target).path.rpartition("/")[2].replace("fine-tunes", "jobs")
        return error(404, "NotFound", name) if name in broken else empty(received)

    with lists(respond) as api, pytest.raises(NotFound, match=rf"^{broken[0]}\.list"):
        observe(api, KNOWN, LISTS, ())


def test_pages_that_are_known_to_be_there_are_asked_for_before_the_one_before_them_came() -> None:
    """And no others: as many requests as pages, and the one that finds nothing more."""
    total, together = FULL * (AHEAD + 3), Barrier(AHEAD)

    def answers(number: int, time: int) -> Answer:
        if 2 <= number <= AHEAD + 1:
            together.wait(60)
        return page(total, ids(FULL, (number - 1) * FULL) if number <= AHEAD + 3 else [])

    assert everything(answers) == (sorted(ids(total)), AHEAD + 3 + 1)


def test_how_many_are_ours_tells_how_far_to_read_ahead_where_the_service_does_not_say() -> None:
    together = Barrier(3)

    def answers(number: int, time: int) -> Answer:
        if number > 1:
            together.wait(60)
        return page(None, ids(FULL if number < 4 else 5, (number - 1) * FULL))

    with listing(answers) as (api, end):
        assert len(list_all(api, DEPLOYMENTS, expected=3 * FULL + 5)) == 3 * FULL + 5
    assert len(end.received) == 4


def test_a_list_that_is_shorter_than_expected_is_not_asked_for_in_vain() -> None:
    with listing(lambda number, time: page(None, ids(7))) as (api, end):
        assert len(list_all(api, DEPLOYMENTS, expected=10 * FULL)) == 7
    assert len(end.received) == 1


# From one look to the next --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "understood"),
    [({}, 0), ({"status": "PENDING"}, 1), ({"capacity": True}, 1), ({"capacity": 1.0}, 1), ({"of_no_use": "x"}, 1)],
)
def test_a_page_that_reads_as_before_is_not_made_sense_of_again(then: dict[str, Any], understood: int) -> None:
    """To the letter: for a program 1, 1.0 and true are the same, and not for a service."""
    pages = {1: page(FULL + 1, ids(FULL), capacity=1), 2: page(FULL + 1, ids(1, FULL), capacity=1)}
    other = {**pages, 2: page(FULL + 1, ids(1, FULL), **{"capacity": 1, **then})}
    sheets = Sheets()
    with listing(lambda number, time: (pages if time == 1 else other)[number]) as (api, _):
        first = list_all(api, DEPLOYMENTS, sheets=sheets)
        with calls_of(type(DEPLOYMENTS).parse) as calls:
            second = list_all(api, DEPLOYMENTS, sheets=Sheets(sheets.now))
    assert calls.total() == understood
    assert second == list_all_of(other)
    assert [one for one in ids(FULL) if second[one] is not first[one]] == []


def list_all_of(pages: dict[int, Answer]) -> dict[str, Any]:
    with listing(lambda number, time: pages[number]) as (api, _):
        return list_all(api, DEPLOYMENTS)
