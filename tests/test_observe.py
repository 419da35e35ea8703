"""Reading lists that move, lie or break off: what is believed of them, and what is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from reconciler import catalogue, kinds
from reconciler.api import Api, Key, Patience
from reconciler.errors import Unavailable
from reconciler.observe import list_all, look
from reconciler.resource import Slot
from reconciler.state import Owned, Role
from tests.far_end import Answer, FarEnd, Received, error, far_end, reply

DEPLOYMENTS = kinds.collections(catalogue.load().for_profile("2026"))["deployments"]
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


# Only so much as matters ----------------------------------------------------------------------------------------------


def owning(*names: str) -> list[Owned]:
    return [Owned(Slot(f"Deployment/{name}"), "deployments", name, Role.CURRENT, "g", {}) for name in names]


def test_a_list_is_left_as_soon_as_it_has_shown_what_is_waited_for() -> None:
    """Else each look of an apply would cost as much as all that was made before."""
    every = ids(5 * FULL)
    with listing(lambda number, time: page(len(every), every[(number - 1) * FULL : number * FULL])) as (api, end):
        seen = look(api, DEPLOYMENTS, owning(*every[:FULL], every[FULL + 3]), among=0)
    assert len(end.received) == 2
    assert every[FULL + 3] in seen


def test_fewer_objects_than_there_are_pages_are_asked_for_one_by_one() -> None:
    """What is waited for decides how much is asked, not what else the account holds."""

    def respond(received: Received) -> Answer:
        name = urlsplit(received.target).path.rpartition("/")[2]
        return reply(200, {"output": {"deployed_model": name, "status": "RUNNING"}})

    with far_end(respond) as end, Api(end.origin, Key("k"), rate_per_s=None) as api:
        seen = look(api, DEPLOYMENTS, owning("d-1", "d-2"), among=2 * FULL + 1)
    assert sorted(seen) == ["d-1", "d-2"]
    assert [urlsplit(one.target).query for one in end.received] == ["", ""]


def test_what_a_list_does_not_show_is_looked_for_to_its_end() -> None:
    with listing(lambda number, time: page(3, ids(3))) as (api, end):
        assert "d-9" not in look(api, DEPLOYMENTS, owning("d-1", "d-9"), among=3)
    assert len(end.received) == 3, "one list, and two questions to be certain"
