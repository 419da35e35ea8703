"""The tool and the vendor's SDK on one account: neither gets in the other's way, and each sees what the other did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.facts import MODELS, NEW, OLD, SCALED
from tests.conformance.vendor import CLIENT, MODULE, MODULE_OLD, Surface
from tests.desk import Desk, Emulator, document, emulator, lines

OTHERS = [
    pytest.param(MODULE_OLD, OLD, id="1.20.14-module_api-dec-2024"),
    pytest.param(MODULE, NEW, id="2.0.2-module_api-2026"),
    pytest.param(CLIENT, NEW, id="2.0.2-client_api-2026"),
]
WANTED: Mapping[str, Mapping[str, Any]] = {
    OLD: {"capacity": 2},
    NEW: {"plan": "mu", "deploySpec": "MU1", "capacity": 4},
}
PRICE = {OLD: "(price unknown)", NEW: "CNY/h)"}
"""No page of December 2024 says what an instance of this base model costs."""
Play = Callable[..., Emulator]


@pytest.fixture
def office(tmp_path: Path, profile: str) -> Iterator[Desk]:
    """A desk whose manifest declares one deployment of a base model, already applied."""
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service", profile=profile) as service:
        desk = Desk(tmp_path / "project", service)
        spec = {"model": MODELS[profile]["sft"][0], **WANTED[profile]}
        desk.declare(document("Deployment", "p", spec), profile=profile)
        desk.apply()
        yield desk


def deployed(office: Desk) -> str:
    """The id of the one deployment there is."""
    (only,) = office.emulator.call("GET", "/deployments")["output"]["deployments"]
    return str(only["deployed_model"])


@pytest.mark.parametrize(("surface", "profile"), OTHERS)
def test_what_the_sdk_deployed_is_told_and_never_touched(
    play: Play, office: Desk, surface: Surface, profile: str
) -> None:
    """A plan names it and what it costs an hour; an apply that prunes, and a destroy, leave it running."""
    ours = deployed(office)
    play(surface, profile, "deployed_by_hand", service=office.emulator)
    before = office.emulator.operations()
    plan = office.plan(prune=True)
    assert lines(plan) == []
    (note,) = [note.what for note in plan.notes]
    assert "-byhand, that no manifest names (" in note
    assert note.endswith(PRICE[profile])
    office.apply(prune=True)
    assert office.emulator.operations() == before
    office.apply(destroy=True)
    assert [entry["id"] for entry in office.emulator.ledger()[len(before) :]] == [ours]
    left = office.emulator.call("GET", "/deployments")["output"]["deployments"]
    assert [(row["deployed_model"].endswith("-byhand"), row["status"]) for row in left] == [(True, "RUNNING")]


@pytest.mark.parametrize(("surface", "profile"), OTHERS)
def test_what_the_sdk_changed_is_drift_and_put_back(play: Play, office: Desk, surface: Surface, profile: str) -> None:
    """The SDK gets, calls and scales what the tool made; the next plan shows the number, the apply restores it."""
    shared = {"deployed": deployed(office), "capacity": WANTED[profile]["capacity"]}
    play(surface, profile, "seen_by_hand", service=office.emulator, more=shared)
    play(surface, profile, "used_by_hand", service=office.emulator, more=shared)
    plan = office.plan()
    assert lines(plan) == ["~ update Deployment/p"]
    (change,) = plan.operations[0].reasons
    assert (change.path, change.before, change.after) == (("capacity",), SCALED[profile], shared["capacity"])
    office.apply()
    play(surface, profile, "seen_by_hand", service=office.emulator, more=shared)
