"""What the vendor's clients do when answers are lost or refused on the way, counted in what the service committed.

The numbers are the reason for the tool's own journal: a client that repeats a paid create buys it again, unless a
suffix turns the repeat into a conflict.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance import vendor
from tests.conformance.facts import NEW, OLD, PROFILES
from tests.conformance.vendor import CLIENT, MODULE, MODULE_OLD, SURFACES, Surface, Typist
from tests.desk import Emulator

LOST = {"drop": {"moment": "after"}}
THROTTLED = {"throttle": "rate", "nth": 1}
Play = Callable[..., Emulator]
Start = Callable[..., Emulator]

BOUGHT = {MODULE_OLD: 1, MODULE: 1, CLIENT: 3}
"""Requests of one create that never gets an answer it takes for one."""
WRITTEN = {MODULE_OLD: 1, MODULE: 8, CLIENT: 3}
"""The vocabulary service of 2.0 repeats on two levels."""


def faulty(start: Start, operation: str, profile: str, **effect: object) -> Emulator:
    """An emulator with one rule."""
    service = start(profile=profile)
    service.control("faults", {"faults": [{"operation": operation, **effect}]})
    return service


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_a_lost_create_is_bought_as_often_as_it_is_sent(play: Play, start: Start, surface: Surface) -> None:
    service = faulty(start, "jobs.create", OLD, **LOST)
    play(surface, OLD, "a_lost_create", service=service)
    assert service.operations().count("jobs.create") == BOUGHT[surface]


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_a_create_that_fails_after_its_commit(play: Play, start: Start, surface: Surface) -> None:
    """The same with a 500, which the module API hands over and the Client repeats."""
    service = faulty(start, "jobs.create", OLD, answer={"status": 500})
    play(surface, OLD, "a_failed_create", service=service)
    assert service.operations().count("jobs.create") == BOUGHT[surface]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_suffix_keeps_a_repeated_deployment_one(play: Play, start: Start, profile: str) -> None:
    service = faulty(start, "deployments.create", profile, nth=1, **LOST)
    play(CLIENT, profile, "a_lost_deployment", service=service)
    assert service.operations() == ["deployments.create"]


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_a_lost_vocabulary(play: Play, start: Start, surface: Surface) -> None:
    service = faulty(start, "vocabularies.create", NEW, **LOST)
    play(surface, NEW, "a_lost_vocabulary", service=service)
    assert service.operations() == ["vocabularies.create"] * WRITTEN[surface]


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_a_rate_quota(play: Play, start: Start, surface: Surface) -> None:
    play(surface, NEW, "throttled_once", service=faulty(start, "files.list", NEW, **THROTTLED))


@pytest.mark.parametrize("surface", [MODULE_OLD, MODULE], ids=str)
def test_a_strayed_path_is_never_a_success(play: Play, start: Start, surface: Surface) -> None:
    """After one lost connection both releases ask for jobs where phrases are; an empty 200 would be believed."""
    play(surface, OLD, "a_strayed_path", service=faulty(start, "phrases.get", OLD, nth=1, **LOST))


def test_the_command_and_a_rate_quota(typist: Callable[[str, Emulator, str], Typist], start: Start) -> None:
    """The one exit status that no refusal of a healthy service gives."""
    dashscope = typist(vendor.NEW, faulty(start, "files.list", NEW, **THROTTLED), NEW)
    dashscope("files", "list", says="status_code: 429", exits=4)
    dashscope("files", "list", says='"total": 0')
