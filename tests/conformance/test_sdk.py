"""The vendor's SDK drives whole lifecycles: both releases, the module API and the Client, both times.

Each test plays one scene of `scripts/` in the SDK's own process; what the scene does and checks is written there. Time
stands still unless the SDK sleeps, so a scene sees every status on the way.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.facts import FAST, NEW, OLD, PROFILES
from tests.conformance.vendor import CLIENT, MODULE, MODULE_OLD, SURFACES, Surface
from tests.desk import KEY, WIRE, Emulator

ALWAYS = (
    "files",
    "local_checks",
    "preferences",
    "pictures",
    "plain_text",
    "data_that_cannot_be_trained_on",
    "logs",
    "cancel_and_delete",
    "vocabularies",
    "too_many_vocabularies",
    "phrases",
    "keys",
    "unknown_ids",
    "bad_parameters",
    "workspaces",
)
DEPLOYING = ("deployment_of_a_base_model", "conflicts", "bad_deployments")
CAN_DEPLOY = [
    pytest.param(surface, profile, id=f"{surface}-{profile}")
    for surface in SURFACES
    for profile in PROFILES
    if (surface, profile) != (MODULE_OLD, NEW)  # 1.20 cannot send the plan that 2026 wants
]
Play = Callable[..., Emulator]


@pytest.mark.parametrize("scene", ALWAYS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_scene(play: Play, surface: Surface, profile: str, scene: str) -> None:
    play(surface, profile, scene)


@pytest.mark.parametrize(("surface", "profile"), CAN_DEPLOY)
def test_a_model_from_upload_to_deletion(play: Play, surface: Surface, profile: str) -> None:
    """However often a client polls or repeats a request, the ledger holds each step of the life once."""
    service = play(surface, profile, "a_model_from_upload_to_deletion")
    assert service.operations() == [
        "files.create",
        "jobs.create",
        "deployments.create",
        "deployments.scale",
        "deployments.delete",
        "jobs.delete",
        "files.delete",
    ]


@pytest.mark.parametrize("scene", DEPLOYING)
@pytest.mark.parametrize(("surface", "profile"), CAN_DEPLOY)
def test_scene_with_deployments(play: Play, surface: Surface, profile: str, scene: str) -> None:
    play(surface, profile, scene)


def test_the_old_release_cannot_deploy_today(play: Play) -> None:
    play(MODULE_OLD, NEW, "deploying_without_a_plan")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_events(play: Play, surface: Surface, profile: str) -> None:
    """The stream of a job ends with the job, so here time runs by itself."""
    play(surface, profile, "events", speed=FAST)


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_the_quota_of_jobs(play: Play, surface: Surface) -> None:
    service = play(surface, OLD, "too_many_jobs", switches={"jobs.quota_running_plus_succeeded": 1})
    assert service.operations().count("jobs.create") == 1, "a refused create, sent three times by the Client, buys none"


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_the_quota_of_files(play: Play, start: Callable[..., Emulator], surface: Surface) -> None:
    """A full account answers 200 and names the file under `failed_uploads` (contract §1.1)."""
    service = start(profile=OLD)
    for number in range(100):
        form = {"files": (f"{number}.jsonl", b"{}")}
        WIRE.post(f"{service.origin}/api/v1/files", files=form, headers={"Authorization": f"Bearer {KEY}"})
    play(surface, OLD, "too_many_files", service=service)


@pytest.mark.parametrize("surface", [MODULE_OLD, MODULE], ids=str)
def test_streams_of_nothing(play: Play, surface: Surface) -> None:
    play(surface, NEW, "streams_of_nothing")


def test_no_key_where_any_would_do(play: Play) -> None:
    play(CLIENT, NEW, "no_key", api_key=None)


@pytest.mark.parametrize("scene", ["errors_as_values", "the_name_of_the_model", "openai_shape", "async_twin"])
def test_what_only_the_client_has(play: Play, scene: str) -> None:
    play(CLIENT, NEW, scene)
