"""The webhook on the wire: told once and in order, repeated where that helps, and never waited for by who tells."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.notify import DROPPED, FAILED, SENT, TRIES, Notifier
from tests.certificates import Authority
from tests.far_end import CLOSED, RESET, Answer, FarEnd, Received, far_end, reply, scripted

SECRET = "token-0123456789abcdef"
LONG_S = 60.0


@dataclass
class Told:
    """A notifier, and all it said and counted."""

    said: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def notifier(self, url: str, **more: Any) -> Notifier:
        told = {"said": self.said.append, "counted": lambda outcome: self.counts.update([outcome])}
        return Notifier(url, **told, first_s=0.001, jitter=lambda: 0.0, **more)


@pytest.fixture
def told() -> Told:
    return Told()


def address(end: FarEnd) -> str:
    return f"{end.origin}/hook/{SECRET}?key={SECRET}"


def notice(number: int) -> dict[str, Any]:
    return {"version": 1, "id": str(number), "kind": "drift", "message": "变了"}


def ids(end: FarEnd) -> list[str]:
    return [request.json["id"] for request in end.received]


@contextmanager
def held_up() -> Iterator[tuple[FarEnd, threading.Event, threading.Event]]:
    """A webhook that answers the first request only when it is let go; `asked` is set once that arrived."""
    asked, let_go = threading.Event(), threading.Event()

    def respond(request: Received) -> Answer:
        asked.set()
        let_go.wait(LONG_S)
        return reply()

    with far_end(respond) as end:
        try:
            yield end, asked, let_go
        finally:
            let_go.set()


def test_all_that_is_told_arrives_once_and_in_order(told: Told) -> None:
    with far_end(scripted(reply(204, b""))) as end, told.notifier(address(end)) as notifier:
        for number in range(5):
            notifier.tell(notice(number))
        assert notifier.settle(LONG_S)
    assert ids(end) == ["0", "1", "2", "3", "4"]
    first = end.received[0]
    assert (first.method, first.target) == ("POST", f"/hook/{SECRET}?key={SECRET}")
    assert first.json == {**notice(0), "dropped": 0}
    assert {name.lower(): value for name, value in first.headers.items()}["content-type"] == "application/json"
    assert (told.counts, told.said) == (Counter({SENT: 5}), [])


@pytest.mark.parametrize("bad", [reply(500), reply(503), reply(429), RESET, CLOSED], ids=str)
def test_what_may_pass_is_tried_again_under_the_same_id(told: Told, bad: Answer) -> None:
    """A receiver that had taken it all the same can tell by its id."""
    with far_end(scripted(bad, bad, reply())) as end, told.notifier(address(end)) as notifier:
        notifier.tell(notice(7))
        assert notifier.settle(LONG_S)
    assert ids(end) == ["7", "7", "7"]
    assert told.counts == {SENT: 1}


def test_a_webhook_that_goes_on_failing_is_given_up_and_the_next_is_told_of_it(told: Told) -> None:
    answers = scripted(*[reply(500)] * TRIES, reply())
    with far_end(answers) as end, told.notifier(address(end)) as notifier:
        notifier.tell(notice(1))
        notifier.tell(notice(2))
        assert notifier.settle(LONG_S)
    assert ids(end) == ["1"] * TRIES + ["2"]
    assert end.received[-1].json["dropped"] == 1
    assert told.counts == {FAILED: 1, SENT: 1}
    assert len(told.said) == 1
    assert "status 500" in told.said[0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(302, location="http://127.0.0.1:1/else"), "with a redirect, and none is ever followed"),
        (reply(404), "refused it with status 404"),
        (reply(401), "refused it with status 401"),
    ],
    ids=str,
)
def test_a_redirect_is_not_followed_and_a_refusal_not_repeated(told: Told, answer: Answer, why: str) -> None:
    """What goes to the operator's address goes nowhere else."""
    with far_end(scripted(answer)) as end, told.notifier(address(end)) as notifier:
        notifier.tell(notice(1))
        assert notifier.settle(LONG_S)
    assert len(end.received) == 1
    assert told.counts == {FAILED: 1}
    assert why in told.said[0]


def test_a_webhook_that_is_down_is_given_up_without_its_secret_being_said(told: Told) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with told.notifier(f"http://127.0.0.1:{port}/hook/{SECRET}?key={SECRET}") as notifier:
        notifier.tell(notice(1))
        assert notifier.settle(LONG_S)
        assert SECRET not in repr(notifier)
    assert told.counts == {FAILED: 1}
    assert f"127.0.0.1:{port} cannot be reached" in told.said[0]
    assert SECRET not in "".join(told.said)


def test_a_certificate_that_nobody_vouches_for_ends_it_at_once(told: Told, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger").signed("IP:127.0.0.1")
    with far_end(scripted(reply()), tls=stranger) as end, told.notifier(address(end)) as notifier:
        notifier.tell(notice(1))
        assert notifier.settle(LONG_S)
    assert (told.counts, end.received, end.connections) == ({FAILED: 1}, [], 1)
    assert "cannot be trusted" in told.said[0]


def test_what_no_encoding_can_hold_stops_nothing(told: Told) -> None:
    """A name of a file may hold bytes that are no text."""
    with far_end(scripted(reply())) as end, told.notifier(address(end)) as notifier:
        notifier.tell({**notice(1), "message": "\udcff\x1b"})
        notifier.tell(notice(2))
        assert notifier.settle(LONG_S)
    assert ids(end) == ["1", "2"]


def test_nobody_waits_for_a_slow_webhook_and_the_oldest_give_way(told: Told) -> None:
    """`tell` has returned for all of them while the first is still being answered."""
    with held_up() as (end, asked, let_go), told.notifier(address(end), queue_max=3) as notifier:
        notifier.tell(notice(0))
        assert asked.wait(LONG_S)
        for number in range(1, 9):
            notifier.tell(notice(number))
        assert len(end.received) == 1
        assert told.counts == {DROPPED: 5}
        assert len(told.said) == 5
        let_go.set()
        assert notifier.settle(LONG_S)
    assert ids(end) == ["0", "6", "7", "8"]
    assert [request.json["dropped"] for request in end.received] == [0, 5, 0, 0]


def test_the_end_of_the_process_waits_only_so_long_and_says_what_it_left(told: Told) -> None:
    with held_up() as (end, asked, _), told.notifier(address(end), farewell_s=0.01) as notifier:
        notifier.tell(notice(0))
        assert asked.wait(LONG_S)
        notifier.tell(notice(1))
    assert told.said == [f"2 notifications to {notifier.host} were not told: the process ends"]


def test_what_is_still_to_be_told_at_the_end_is_told(told: Told) -> None:
    with far_end(scripted(reply())) as end:
        with told.notifier(address(end)) as notifier:
            notifier.tell(notice(0))
        assert ids(end) == ["0"]
