"""`controller status`: what the last looks at all stacks left, for people and for programs, without asking anybody."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from reconciler.conditions import Condition, Happened, Health, Reason, Report, Sync, to_data
from reconciler.store.fleet import SqliteFleet, packed
from tests.adapters.conftest import Shell
from tests.adapters.test_cli import on_a_terminal
from tests.adapters.test_state_commands import HOSTILE

AT, LATER = "2026-11-26 08:00:00", "2026-11-26 09:00:00"
GONE = Condition("Deployment/p", Sync.OUT_OF_SYNC, Health.DEGRADED, Reason.GONE, "mu-1 is gone from the service", AT)
CARE = Report(
    "teams/护理",
    revision="9fceb02d0ae598e95dc970b74767f19372d61af8",
    looked_at=LATER,
    succeeded_at=LATER,
    mode="apply",
    hour="216.00",
    limit="300.0",
    proposal="0f3a9c1b2d4e",
    held=("> FineTuneJob/j", "± Deployment/p"),
    conditions=(GONE, Condition("Dataset/d", Sync.SYNCED, Health.READY, since=AT, status="uploaded")),
    events=(Happened(AT, "", "InForce"), Happened(LATER, "Deployment/p", "Gone", "mu-1 is gone from the service")),
)
AWAY = Report(
    "teams/away",
    looked_at=LATER,
    failures=3,
    error="error: the service is away\n  try again later",
    cause="Unavailable",
    events=(Happened(AT, "", "LookFailed", "error: the service is away"),),
)


def keep(folder: Path, *reports: Report) -> None:
    (folder / ".reconciler").mkdir(exist_ok=True)
    fleet = SqliteFleet(folder / ".reconciler/fleet.db", "me")
    fleet.enlist([report.stack for report in reports])
    for report in reports:
        claim = fleet.claim([report.stack])
        assert claim is not None
        fleet.finish(claim, packed(to_data(report)), due_in_s=60)


@pytest.fixture
def watched(empty: Shell) -> Shell:
    keep(empty.folder, CARE, AWAY, replace(Report("teams/new")))
    return empty


def test_every_stack_has_its_line_and_below_it_what_wants_somebody(watched: Shell) -> None:
    result = watched("controller", "status")
    assert (result.code, result.err) == (0, "")
    assert re.search(
        rf"^teams/护理 +OutOfSync +Degraded +9fceb02d0ae5… +{LATER} +{LATER} +216\.00 +2$", result.out, re.M
    )
    assert re.search(rf"^teams/away +Unknown +Unknown +{LATER} +never$", result.out, re.M)
    assert re.search(r"^teams/new +Unknown +Unknown +never +never$", result.out, re.M)
    assert "run rate 216.00 CNY/h" in result.out
    assert "\nteams/护理: 2 operations for approval: reconciler approve 0f3a9c1b2d4e\n" in result.out
    assert "\nteams/away: error: the service is away …\n" in result.out, "the first line of it"
    assert "\nteams/护理: Deployment/p: Gone: mu-1 is gone from the service\n" in result.out
    assert "InForce" not in result.out


def test_the_newest_events_of_all_stacks_follow_in_the_order_of_time(watched: Shell) -> None:
    told = watched("controller", "status", "--events", "2").out.splitlines()[-2:]
    assert [line.split("  ")[:2] for line in told] == [[AT, "teams/护理"], [LATER, "teams/护理"]]
    assert watched("controller", "status", "--events", "900").code == 64


def test_programs_read_all_of_it(watched: Shell) -> None:
    told = json.loads(watched("controller", "status", "-o", "json").out)
    assert told["hour_cny"] == "216.00"
    care = next(stack for stack in told["stacks"] if stack["stack"] == CARE.stack)
    assert (care["sync"], care["health"], care["proposal"]) == ("OutOfSync", "Degraded", CARE.proposal)
    assert care["looked_at"] == "2026-11-26T09:00:00Z"
    assert care["objects"][0]["reason"] == "Gone"
    assert care["events"] == [], "unless they are asked for"
    away = next(stack for stack in told["stacks"] if stack["stack"] == AWAY.stack)
    assert (away["cause"], away["failures"], away["succeeded_at"]) == ("Unavailable", 3, None)
    listed = yaml.safe_load(watched("controller", "status", "-o", "yaml", "--events", "1").out)
    assert [len(stack["events"]) for stack in listed["stacks"]] == [1, 0, 1]


@pytest.mark.parametrize("columns", [40, 60])
def test_a_narrow_terminal_stacks_what_does_not_fit(watched: Shell, columns: int) -> None:
    code, text = on_a_terminal(watched, ["controller", "status", "--events", "5", "--no-color"], columns=columns)
    assert code == 0
    wide = [line for line in text.splitlines() if sum(2 if letter > "⺀" else 1 for letter in line) > columns]
    assert wide == []
    assert "护理" in text


def test_where_no_controller_ran_it_says_so_and_makes_nothing(empty: Shell) -> None:
    assert empty("controller", "status").out == "no controller has looked at anything here yet\n"
    assert json.loads(empty("controller", "status", "-o", "json").out) == {
        "format_version": "1.0",
        "hour_cny": "0",
        "stacks": [],
    }
    assert list(empty.folder.iterdir()) == []
    assert empty("controller", "status", "nowhere").code == 64


def test_a_list_that_cannot_be_read_is_an_error_and_one_bad_report_is_not(watched: Shell) -> None:
    path = watched.folder / ".reconciler/fleet.db"
    with sqlite3.connect(path) as db:
        db.execute("update fleet set report = '[' where name = 'teams/away'")
    assert re.search(r"^teams/away +Unknown +Unknown +never +never$", watched("controller", "status").out, re.M)
    path.write_bytes(b"nothing of the kind" * 1000)
    broken = watched("controller", "status")
    assert (broken.code, broken.out) == (1, "")
    assert "fleet.db cannot be used" in broken.err


def test_nothing_hostile_in_a_report_reaches_a_terminal(empty: Shell) -> None:
    bad = Condition(HOSTILE, Sync.OUT_OF_SYNC, Health.FAILED, Reason.FAILED, HOSTILE, HOSTILE, HOSTILE)
    event = Happened(AT, HOSTILE, HOSTILE, HOSTILE)
    report = Report(HOSTILE, HOSTILE, AT, AT, 1, HOSTILE, HOSTILE, HOSTILE, proposal=HOSTILE, held=(HOSTILE,))
    keep(empty.folder, replace(report, conditions=(bad,), events=(event,)))
    for form in ("text", "json", "yaml"):
        told = empty("controller", "status", "--events", "9", "-o", form).out
        assert not any(letter in told for letter in "\x1b\u202e"), form
        assert "\n::" not in told
