"""A server that takes only so many requests a second and answers only so soon: what meets whom, without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from reconciler.emulator import app
from reconciler.emulator.traffic import EARLY_S, Traffic
from tests.emulator.stand import KEY, Emulator, Start, chat_rows

FILES = "/api/v1/files"
FREE = {"rate_per_s": None, "burst": None, "latency_ms": None, "throttled": 0}


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def admitted(traffic: Traffic, clock: Clock, *, every_s: float, count: int) -> int:
    """How many of so many requests, one every so often, are carried out."""
    taken = 0
    for _ in range(count):
        taken += traffic.admits()
        clock.now_s += every_s
    return taken


@pytest.mark.parametrize("burst", [1, 5])
def test_who_keeps_the_rate_is_never_refused(burst: int) -> None:
    clock = Clock()
    traffic = Traffic(20, burst, clock=clock)
    assert admitted(traffic, clock, every_s=0, count=burst) == burst
    clock.now_s += 1 / 20
    assert admitted(traffic, clock, every_s=1 / 20, count=1000) == 1000
    assert traffic.refused == 0


@pytest.mark.parametrize("burst", [1, 5])
def test_who_does_not_gets_the_rate_and_no_more(burst: int) -> None:
    """Ten seconds at ten times the rate: what is allowed to be early is so once."""
    clock = Clock()
    traffic = Traffic(20, burst, clock=clock)
    taken = admitted(traffic, clock, every_s=1 / 200, count=2000)
    assert 200 + burst - 1 <= taken <= 200 + burst + 20 * EARLY_S
    assert taken + traffic.refused == 2000


def test_a_request_that_was_held_up_on_its_way_does_not_make_the_next_one_early() -> None:
    clock = Clock()
    traffic = Traffic(20, clock=clock)
    for late_s in (0.09, 0, 0.05, 0.05, 0, 0.09, 0) * 20:
        clock.now_s += late_s
        assert traffic.admits()
        clock.now_s += 1 / 20 - late_s


def test_a_silence_saves_no_more_than_a_burst() -> None:
    clock = Clock()
    traffic = Traffic(10, 3, clock=clock)
    clock.now_s += 3600
    assert 3 <= admitted(traffic, clock, every_s=0, count=100) <= 3 + 10 * EARLY_S


def test_what_comes_too_often_is_refused_in_the_words_of_the_service_and_not_carried_out(start: Start) -> None:
    clock = Clock()
    emulator = start(traffic=Traffic(10, clock=clock))
    while emulator.call("GET", FILES).status_code == 200:
        pass
    assert emulator.refused("POST", FILES, files={"files": ("a.jsonl", chat_rows(1))}) == (
        429,
        "Throttling.RateQuota",
        "Requests rate limit exceeded, please try again later.",
    )
    assert emulator.ledger() == []
    assert emulator.ok("GET", "/_emulator/info")["throttled"] == 2
    clock.now_s += 1
    assert emulator.ok("GET", FILES)["data"]["total"] == 0


def test_what_is_asked_of_the_emulator_itself_or_without_a_key_does_not_count(start: Start) -> None:
    emulator = start(traffic=Traffic(1e-3, clock=Clock()))
    for _ in range(3):
        emulator.ok("GET", "/_emulator/info")
        assert emulator.call("GET", FILES, key=None).status_code == 401
    emulator.ok("GET", FILES)
    assert emulator.call("GET", FILES).status_code == 429


def test_a_refused_call_is_none_that_a_rule_for_faults_counts(start: Start) -> None:
    emulator = start(traffic=Traffic(1e-3, clock=Clock()))
    emulator.play({"operation": "files.list", "nth": 2, "refuse": {"status": 503}})
    assert [emulator.call("GET", FILES).status_code for _ in range(3)] == [200, 429, 429]


def test_says_what_it_enforces(start: Start, emulator: Emulator) -> None:
    told = emulator.ok("GET", "/_emulator/info")
    assert {name: told[name] for name in FREE} == FREE
    emulator.backend.close()
    told = start(traffic=Traffic(20, latency_ms=50)).ok("GET", "/_emulator/info")
    assert {name: told[name] for name in FREE} == {"rate_per_s": 20, "burst": 1, "latency_ms": 50, "throttled": 0}


def test_answers_are_kept_back_beside_one_another(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight wait at once, or none of them is ever answered."""
    emulator, kept = start(traffic=Traffic(latency_ms=50)), []

    async def together() -> list[httpx.Response]:
        everybody = asyncio.Barrier(8)

        async def wait(seconds: float) -> None:
            kept.append(seconds)
            await asyncio.wait_for(everybody.wait(), 30)

        monkeypatch.setattr(app.anyio, "sleep", wait)
        transport, headers = httpx.ASGITransport(app=emulator.app), {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1", headers=headers) as client:
            return await asyncio.gather(*(client.get(FILES) for _ in range(8)))

    assert {answer.status_code for answer in asyncio.run(together())} == {200}
    assert all(0 < seconds <= 0.05 for seconds in kept)


def test_the_wait_is_what_is_left_of_the_latency() -> None:
    clock = Clock()
    traffic = Traffic(latency_ms=200, clock=clock)
    clock.now_s += 0.15
    assert traffic.wait_s(1000.0) == pytest.approx(0.05)
    clock.now_s += 0.15
    assert traffic.wait_s(1000.0) == 0
    assert Traffic(clock=clock).wait_s(1000.0) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Traffic(0),
        lambda: Traffic(float("nan")),
        lambda: Traffic(20, 0),
        lambda: Traffic(burst=2),
        lambda: Traffic(latency_ms=-1),
        lambda: Traffic(latency_ms=float("inf")),
    ],
)
def test_what_nobody_could_keep_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="number"):
        make()
