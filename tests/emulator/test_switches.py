"""The table of switches: complete, validated, and with the defaults each profile documents.

What each position does is tested where it shows: with the files, jobs, deployments and vocabularies.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.emulator.switches import NEW, NUMBER_MAX, OLD, PROFILES, SWITCHES, Switches

CONTRACT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")


def _section(heading: str) -> str:
    return CONTRACT.partition(f"\n{heading}")[2].partition("\n## ")[0]


def _rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


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
        ("jobs.parallel", 1.5),
        ("jobs.parallel", NUMBER_MAX + 1),
        pytest.param("jobs.parallel", 1 << 100_000, id="more digits than Python writes"),
        ("vocab.settle_s", -1),
        ("deployments.id_style", None),
        ("jobs.early_finetuned_output", "yes"),
        ("jobs.early_finetuned_output", 1),
        ("files.limits", "huge"),
        ("files.limits", 1),
    ],
)
def test_a_position_that_does_not_exist_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        Switches(NEW, {name: value})


def test_the_contract_lists_every_switch_with_its_positions_and_defaults() -> None:
    """Section 11 is what people read; the table in the code is what holds."""
    documented = {}
    for name, positions, default, section in _rows(_section("## 11.")):
        words = re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", positions))
        least = re.match(r"a whole number from (\d+)", positions)
        defaults = [word.strip("` ") for word in default.split(",")[0].split(" / ")]
        documented[name.strip("`")] = (tuple(words), int(least[1]) if least else None, defaults[0], defaults[-1])
        assert f"\n### {section.split(',')[0].strip('§ ')} " in CONTRACT or f"\n## {section.strip('§ ')}. " in CONTRACT
    assert documented == {
        name: (switch.values, None if switch.values else switch.least, *(str(switch.defaults[at]) for at in (OLD, NEW)))
        for name, switch in SWITCHES.items()
    }


def test_true_and_false_are_on_and_off() -> None:
    switches = Switches(NEW, {"deployments.returns_name": True, "jobs.require_core_hparams": False})
    assert switches.on("deployments.returns_name")
    assert not switches.on("jobs.require_core_hparams")
