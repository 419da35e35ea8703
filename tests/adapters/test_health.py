"""What a cluster and Prometheus ask of a controller, over HTTP on loopback."""

from __future__ import annotations

import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from reconciler.adapters.web.health import routes
from reconciler.conditions import Report, to_data
from reconciler.gauges import METRICS, Tally
from reconciler.store.fleet import SqliteFleet, packed


@contextmanager
def served(fleet: SqliteFleet, tally: Tally, names: Sequence[str] = ("a", "b")) -> Iterator[httpx.Client]:
    """The routes on a port of this computer, and somebody who asks there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Starlette(routes=routes(fleet, tally, lambda: names))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        port = listener.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
        server.should_exit = True
        thread.join()


@pytest.fixture
def fleet(tmp_path: Path) -> SqliteFleet:
    return SqliteFleet(tmp_path / "fleet.db", "me")


def finish(fleet: SqliteFleet, report: Report) -> None:
    claim = fleet.claim([report.stack])
    assert claim is not None
    fleet.finish(claim, packed(to_data(report)), due_in_s=0)


def test_it_is_ready_once_a_look_was_finished_or_none_is_due(fleet: SqliteFleet) -> None:
    """A rolling update waits for it: not before the first look, and not for ever where there is nothing to do."""
    tally = Tally()
    with served(fleet, tally) as client:
        assert client.get("/readyz").status_code == 200, "nothing is due"
        fleet.enlist(["a"])
        waiting = client.get("/readyz")
        assert (waiting.status_code, waiting.text) == (503, "no look is finished yet\n")
        assert client.get("/healthz").status_code == 200
        tally.looked("failed", 1.0, "Unavailable")
        assert client.get("/readyz").status_code == 200, "that a stack cannot be looked at is its own affair"


def test_a_stack_that_is_gone_keeps_nobody_from_being_ready(fleet: SqliteFleet) -> None:
    """Its row stays due, and nobody looks at it any more."""
    fleet.enlist(["gone"])
    with served(fleet, Tally(), names=()) as client:
        assert client.get("/readyz").status_code == 200


def test_without_its_list_of_stacks_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "fleet.db").write_bytes(b"no database, and long enough to be taken for one" * 100)
    with served(SqliteFleet(tmp_path / "fleet.db", "me"), Tally()) as client:
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, str(tmp_path) in ready.text) == (503, False)
        scraped = client.get("/metrics")
        assert (scraped.status_code, "reconciler_fleet_reachable 0.0" in scraped.text) == (200, True)


def test_a_scrape_tells_what_the_last_looks_left(fleet: SqliteFleet) -> None:
    fleet.enlist(["a", "护理"])
    finish(fleet, Report("a", looked_at="2026-11-26 08:00:00", succeeded_at="2026-11-26 08:00:00", hour="1.5"))
    with served(fleet, Tally()) as client:
        first = client.get("/metrics")
        assert first.headers["content-type"].startswith("text/plain")
        assert first.headers["cache-control"] == "no-store"
        families = {family.name for family in text_string_to_metric_families(first.text)}
        assert families == {metric.name.removesuffix("_total") for metric in METRICS}
        assert 'reconciler_stack_run_rate_cny_per_hour{stack="a"} 1.5' in first.text
        assert 'reconciler_stack_failures{stack="护理"} 0.0' in first.text
        finish(fleet, Report("a", looked_at="2026-11-26 09:00:00", succeeded_at="2026-11-26 09:00:00", hour="2.5"))
        assert 'reconciler_stack_run_rate_cny_per_hour{stack="a"} 2.5' in client.get("/metrics").text


def test_a_report_that_cannot_be_read_spoils_no_scrape(fleet: SqliteFleet) -> None:
    fleet.enlist(["a"])
    with sqlite3.connect(fleet.path) as db:
        db.execute("update fleet set report = '{\"stack\": 1'")
    with served(fleet, Tally()) as client:
        assert 'reconciler_stack_failures{stack="a"} 0.0' in client.get("/metrics").text


def test_without_the_library_a_scrape_says_what_to_install(fleet: SqliteFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with served(fleet, Tally()) as client:
        missing = client.get("/metrics")
        assert (missing.status_code, "[metrics]" in missing.text) == (501, True)
        assert client.get("/readyz").status_code == 200


def test_nothing_can_be_sent_there(fleet: SqliteFleet) -> None:
    with served(fleet, Tally()) as client:
        assert {client.post(path).status_code for path in ("/healthz", "/readyz", "/metrics")} == {405}
