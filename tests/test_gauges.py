"""What Prometheus reads: names it can live with, numbers that are true, and no need of its library to count."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.api import Api, Key, Patience
from reconciler.conditions import Condition, Health, Reason, Report, Sync
from reconciler.errors import ReconcilerError
from reconciler.gauges import METRICS, Tally, exposition, samples
from reconciler.resource import Request
from reconciler.store.fleet import CLAIM_S, Queue, SqliteFleet
from tests.far_end import error, far_end, reply, scripted

PAGE = (Path(__file__).parent.parent / "docs/watching.md").read_text(encoding="utf-8")
QUEUE = Queue(3, 2, 1)
SEEN = (
    Condition("FineTuneJob/j", Sync.SYNCED, Health.PROGRESSING, Reason.UNDER_WAY, status="RUNNING"),
    Condition("FineTuneJob/k", Sync.SYNCED, Health.READY, status="SUCCEEDED"),
    Condition("FineTuneJob/l", Sync.SYNCED, Health.READY, status="SUCCEEDED"),
    Condition("Deployment/p", Sync.OUT_OF_SYNC, Health.READY, Reason.DRIFTED, status="RUNNING"),
)
REPORT = Report(
    "teams/care",
    looked_at="2026-11-26 08:01:00",
    succeeded_at="2026-11-26 08:00:00",
    failures=2,
    error="away",
    hour="216.00",
    limit="300",
    held=("~ Deployment/p",),
    conditions=SEEN,
)


def read(tally: Tally | None = None, *reports: Report, queue: Queue | None = QUEUE) -> Mapping[str, float]:
    """The exposition as Prometheus' own parser has it: every sample by name and labels."""
    body, _ = exposition(tally or Tally(), reports, queue)
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def counted() -> Tally:
    tally = Tally()
    tally.looked("quiet", 0.3)
    tally.looked("failed", 400.0, "StateLocked")
    tally.called("jobs.list", "ok")
    tally.called("jobs.list", "ok")
    tally.called("jobs.list", "Throttled")
    tally.add("reconciler_notifications_total", "sent")
    return tally


def test_every_number_stands_under_its_name_and_labels() -> None:
    told = read(counted(), REPORT)
    expected = {
        "reconciler_looks_total{verdict=quiet}": 1,
        "reconciler_looks_total{verdict=failed}": 1,
        "reconciler_look_duration_seconds_count": 2,
        "reconciler_look_duration_seconds_sum": 400.3,
        "reconciler_look_duration_seconds_bucket{le=0.5}": 1,
        "reconciler_look_duration_seconds_bucket{le=+Inf}": 2,
        "reconciler_look_errors_total{error=StateLocked}": 1,
        "reconciler_lease_waits_total": 1,
        "reconciler_api_calls_total{operation=jobs.list,outcome=ok}": 2,
        "reconciler_api_calls_total{operation=jobs.list,outcome=Throttled}": 1,
        "reconciler_notifications_total{outcome=sent}": 1,
        "reconciler_fleet_reachable": 1,
        "reconciler_stacks": 3,
        "reconciler_stacks_due": 2,
        "reconciler_stacks_claimed": 1,
        "reconciler_stack_run_rate_cny_per_hour{stack=teams/care}": 216,
        "reconciler_stack_budget_cny_per_hour{stack=teams/care}": 300,
        "reconciler_stack_operations_awaiting_approval{stack=teams/care}": 1,
        "reconciler_stack_failures{stack=teams/care}": 2,
        "reconciler_stack_last_look_timestamp_seconds{stack=teams/care}": 1795680060,
        "reconciler_stack_last_success_timestamp_seconds{stack=teams/care}": 1795680000,
        "reconciler_objects{health=Ready,kind=FineTuneJob,stack=teams/care,sync=Synced}": 2,
        "reconciler_objects{health=Ready,kind=Deployment,stack=teams/care,sync=OutOfSync}": 1,
        "reconciler_object_statuses{kind=FineTuneJob,stack=teams/care,status=RUNNING}": 1,
        "reconciler_object_statuses{kind=FineTuneJob,stack=teams/care,status=SUCCEEDED}": 2,
    }
    assert {name: told.get(name) for name in expected} == expected


def test_every_sample_has_a_row_in_the_table_and_every_row_a_sample() -> None:
    """What is counted under a name that the table lacks would silently be nowhere."""
    told = list(samples(counted(), [REPORT], QUEUE))
    table = {metric.name: metric for metric in METRICS}
    assert [sample.name for sample in told if len(sample.labels) != len(table[sample.name].labels)] == []
    unseen = table.keys() - {sample.name for sample in told}
    assert {table[name].kind for name in unseen} == {"histogram"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_asks_and_are_on_the_page(metric: object) -> None:
    name, kind, about, labels = metric  # type: ignore[misc]
    assert re.fullmatch(r"reconciler_[a-z_]+", name)
    assert (kind == "counter") == name.endswith("_total")
    assert kind != "histogram" or name.endswith("_seconds")
    assert about.endswith(".")
    assert f"`{name}" in PAGE
    assert all(f"`{label}`" in PAGE for label in labels)


def test_what_is_not_known_is_left_out_and_what_never_happened_is_long_ago() -> None:
    """Zero would read as free; a stack that never succeeded must still set off an alert on the time since."""
    told = read(None, Report("a", succeeded_at="2026-11-26 08:00:00", hour=None), Report("b"))
    assert [name for name in told if "cny" in name] == []
    assert told["reconciler_stack_last_success_timestamp_seconds{stack=b}"] == 0
    assert told["reconciler_lease_waits_total"] == 0, "so that an increase from nothing is seen"


def test_times_are_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report says UTC; read as local time every stack in Shanghai would look eight hours late."""
    with monkeypatch.context() as moved:
        moved.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        told = read(None, REPORT)
    time.tzset()
    assert told["reconciler_stack_last_success_timestamp_seconds{stack=teams/care}"] == 1795680000


def test_without_the_list_of_stacks_the_process_is_still_told() -> None:
    told = read(counted(), queue=None)
    assert told["reconciler_fleet_reachable"] == 0
    assert "reconciler_stacks" not in told
    assert told["reconciler_looks_total{verdict=quiet}"] == 1


def test_no_name_breaks_out_of_its_label() -> None:
    hostile = 'a"}\n evil 1 \x1b[2J\\' + "x" * 500
    told = read(None, Report(hostile, conditions=(Condition("Odd/x", Sync.SYNCED, Health.READY, status=hostile),)))
    assert not any("evil" in name and "stack=" not in name for name in told)
    body, _ = exposition(Tally(), [Report(hostile)], None)
    assert b"\x1b" not in body


def test_without_the_library_everything_is_counted_and_a_scrape_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    tally = counted()
    assert tally.looks == 2
    with pytest.raises(ReconcilerError) as refused:
        exposition(tally, [], None)
    assert "[metrics]" in refused.value.hint


def test_each_request_is_counted_with_what_came_of_it() -> None:
    """Repeats too: they are what a quota counts."""
    tally, answers = Tally(), scripted(error(500), reply(200, {"output": {}}))
    with far_end(answers) as end, Api(end.origin, Key("k"), called=tally.called, sleep=lambda s: None) as api:
        api.send(Request("jobs.list", "GET", "/fine-tunes"))
    with far_end(scripted(error(403))) as end:
        patience = Patience(tries=1)
        with Api(end.origin, Key("k"), called=tally.called, patience=patience) as api, pytest.raises(ReconcilerError):
            api.send(Request("jobs.get", "GET", "/fine-tunes/x"))
    told = {sample.labels: sample.value for sample in tally.samples()}
    assert told == {("jobs.list", "Unavailable"): 1, ("jobs.list", "ok"): 1, ("jobs.get", "NotAuthorised"): 1}


def test_the_queue_is_what_is_due_and_free(tmp_path: Path) -> None:
    now = [1000.0]
    fleet = SqliteFleet(tmp_path / "fleet.db", "me", clock=lambda: now[0])
    assert fleet.queue() == (0, 0, 0)
    fleet.enlist(["a", "b", "c"])
    assert fleet.queue() == (3, 3, 0)
    claim = fleet.claim(["a", "b", "c"])
    assert claim is not None
    assert fleet.queue() == (3, 2, 1)
    assert (fleet.queue(["a"]), fleet.queue([])) == ((1, 0, 1), (0, 0, 0))
    fleet.finish(claim, "", due_in_s=60)
    assert fleet.queue() == (3, 2, 0)
    fleet.claim(["b"])
    now[0] += CLAIM_S
    assert fleet.queue() == (3, 3, 0), "a claim that ended by itself is due again, and so is what was finished"
