"""The table of switches: complete, validated, and with the defaults each profile documents.

What each position does is tested where it shows: with the files, jobs, deployments and vocabularies.
"""

from __future__ import annotations

import pytest

from reconciler.emulator.switches import NEW, OLD, PROFILES, SWITCHES, Switches


def test_every_default_is_a_position_the_switch_takes() -> None:
    for name, switch in SWITCHES.items():
        for profile in PROFILES:
            assert Switches(profile, {name: switch.defaults[profile]}).as_json()[name] == switch.defaults[profile]
        assert switch.about


def test_profiles_differ_where_the_documents_do() -> None:
    old, new = Switches(OLD, {}).as_json(), Switches(NEW, {}).as_json()
    assert {name for name in SWITCHES if old[name] != new[name]} == {
        "files.limits",
        "jobs.require_core_hparams",
        "jobs.echo_datasets",
        "deployments.id_style",
    }


def test_an_unknown_switch_is_refused_with_a_suggestion() -> None:
    """A misspelt switch that is ignored would make a test pass for the wrong reason."""
    with pytest.raises(ValueError, match=r"did you mean 'jobs\.parallel'"):
        Switches(NEW, {"jobs.paralel": 2})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jobs.parallel", 0),
        ("jobs.parallel", "2"),
        ("jobs.parallel", True),
        ("files.limits", "huge"),
        ("files.limits", 1),
    ],
)
def test_a_position_that_does_not_exist_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        Switches(NEW, {name: value})


def test_true_and_false_are_on_and_off() -> None:
    switches = Switches(NEW, {"deployments.returns_name": True, "jobs.require_core_hparams": False})
    assert switches.on("deployments.returns_name")
    assert not switches.on("jobs.require_core_hparams")
