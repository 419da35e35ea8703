"""The emulator's memory: transactions, time, chance, the folder."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator.backend import Backend
from reconciler.emulator.fields import Json
from tests.emulator.stand import HOUR, START, Emulator
from tests.emulator.stand import Start as StartEmulator


def test_a_refused_request_leaves_nothing(emulator: Emulator) -> None:
    def refused() -> None:
        with emulator.backend.transaction("test") as tx:
            tx.insert("things", "one", {})
            tx.record("one")
            raise KeyError

    with pytest.raises(KeyError):
        refused()
    with emulator.backend.transaction() as tx:
        assert tx.get("things", "one") is None
        assert tx.ledger() == []


def test_what_follows_a_commit_does_not_follow_a_refusal(emulator: Emulator) -> None:
    """Bytes are deleted after the record that names them, never before."""
    done = []

    def refused() -> None:
        with emulator.backend.transaction() as tx:
            tx.after_commit.append(lambda: done.append("refused"))
            raise KeyError

    with pytest.raises(KeyError):
        refused()
    with emulator.backend.transaction() as tx:
        tx.after_commit.append(lambda: done.append("committed"))
        assert done == []
    assert done == ["committed"]


def test_pages_are_newest_first_and_empty_beyond_the_end(emulator: Emulator) -> None:
    with emulator.backend.transaction() as tx:
        for number in range(5):
            tx.insert("things", str(number), {"number": number, "odd": number % 2, "size": 2})
        assert _numbers(tx.page("things", 1, 2)) == (5, [4, 3])
        assert _numbers(tx.page("things", 9, 2)) == (5, [])
        assert _numbers(tx.page("things", 1, 9, odd=1)) == (2, [3, 1])
        tx.hidden = {"3", "elsewhere"}
        assert _numbers(tx.page("things", 1, 2)) == (4, [4, 2])


def _numbers(page: tuple[int, list[Json]]) -> tuple[int, list[int]]:
    return page[0], [item["number"] for item in page[1]]


def test_what_is_there_is_counted_whatever_became_of_it(start: StartEmulator) -> None:
    """Refused, deleted at once or later, changed, kept by an older version: the count is that of the objects."""
    emulator = start()
    with emulator.backend.transaction() as tx:
        assert tx.count_and_size("things") == (0, 0)
        for number in range(5):
            tx.insert("things", str(number), {"size": 10 + number})
        tx.insert("others", "0", {})
        tx.replace("things", "4", {"size": 14, "more": True})
        tx.remove("things", "0")
        tx.remove("things", "1", at_s=tx.now_s + 60)
        assert tx.count_and_size("things") == (4, 11 + 12 + 13 + 14)
    with contextlib.suppress(KeyError), emulator.backend.transaction() as tx:
        tx.insert("things", "5", {"size": 1})
        raise KeyError
    emulator.advance(61)
    with emulator.backend.transaction() as tx:
        assert tx.count_and_size("things") == (3, 12 + 13 + 14)
    emulator.backend.close()
    with sqlite3.connect(emulator.data / "emulator.db") as db:
        for kind, name in db.execute("SELECT type, name FROM sqlite_master").fetchall():
            if name in ("tally", "object_order", "object_suffix", "object_end", "object_comes", "object_goes"):
                db.execute(f"DROP {kind} {name}")
    with start().backend.transaction() as tx:
        assert tx.count_and_size("things") == (3, 12 + 13 + 14)
        assert tx.count_and_size("others") == (1, 0)
        tx.insert("others", "1", {"size": 7})
        assert tx.count_and_size("others") == (2, 7)


def test_no_page_is_looked_for_among_all_the_objects(emulator: Emulator) -> None:
    """How a request is answered does not depend on how many objects there are: by an index, and never by sorting."""
    with emulator.backend.transaction() as tx:
        said: list[str] = []
        tx._db.set_trace_callback(said.append)
        tx.page("things", 3, 100)
        tx.all("things", suffix="s")
        tx.unfinished("things")
        tx.count_and_size("things")
        tx._db.set_trace_callback(None)
        plans = {one: [row[3] for row in tx._db.execute(f"EXPLAIN QUERY PLAN {one}")] for one in said}
    assert len(plans) == 4
    steps = [step for plan in plans.values() for step in plan if not step.startswith(("LIST", "USE TEMP"))]
    assert all(step.startswith("SEARCH") for step in steps), plans
    assert "USING COVERING INDEX object_order (collection=?)" in str(plans)


def test_an_object_that_goes_later_is_there_until_then(emulator: Emulator) -> None:
    with emulator.backend.transaction() as tx:
        tx.insert("things", "one", {})
        tx.remove("things", "one", at_s=tx.now_s + 60)
        assert tx.get("things", "one") == {}
    emulator.advance(61)
    with emulator.backend.transaction() as tx:
        assert tx.get("things", "one") is None


def test_chance_is_the_same_for_the_same_seed_and_sequence(start: StartEmulator, tmp_path: Path) -> None:
    drawn = []
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        with start(tmp_path / folder, seed=seed).backend.transaction() as tx:
            drawn.append([tx.draw("jobs").random() for _ in range(3)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 3


def test_the_ledger_cannot_be_rewritten(emulator: Emulator) -> None:
    """It is the evidence in every test about buying twice."""
    with emulator.backend.transaction("test") as tx:
        tx.record("one")
    with sqlite3.connect(emulator.data / "emulator.db") as db:
        for statement in ("DELETE FROM ledger", "UPDATE ledger SET entry = '{}'"):
            with pytest.raises(sqlite3.IntegrityError, match="append only"):
                db.execute(statement)


def test_objects_and_time_survive_a_restart(start: StartEmulator) -> None:
    first = start()
    file_id = first.upload(b"kept")
    first.advance(HOUR)
    before = first.ok("GET", "/_emulator/info")
    first.backend.close()
    second = start()
    after = second.ok("GET", "/_emulator/info")
    assert (after["now"], after["install_id"]) == (before["now"], before["install_id"])
    assert second.ok("GET", f"/api/v1/files/{file_id}")["data"]["md5"]
    assert (second.backend.uploads / file_id).read_bytes() == b"kept"


def test_two_servers_of_one_folder_share_objects_and_time(start: StartEmulator) -> None:
    first, second = start(), start()
    file_id = first.upload(b"shared")
    assert second.ok("GET", f"/api/v1/files/{file_id}")["data"]["size"] == 6
    second.advance(HOUR)
    assert first.ok("GET", "/_emulator/info")["now"] == "2026-11-02 15:05:00"


def test_a_second_server_does_not_stop_the_clock_of_the_first(tmp_path: Path) -> None:
    """While one lives its anchor and speed hold; a newcomer that resumed from the last request would turn time back."""
    options: Any = {"profile": "2026", "seed": 0, "switches": {}, "wall_s": START.timestamp()}
    first = Backend(tmp_path, speed=1000, **options)
    second = Backend(tmp_path, speed=0, **options)
    with second.transaction() as tx:
        assert tx.speed == 1000
    first.close()
    second.close()


@pytest.mark.parametrize("speed", [-1, float("inf"), float("nan"), 1e7])
def test_an_impossible_speed_starts_nothing(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1000000"):
        Backend(tmp_path / "data", profile="2026", speed=speed, seed=0, switches={}, wall_s=START.timestamp())
    assert not (tmp_path / "data").exists()


def test_what_a_crash_left_behind_is_swept_by_the_next_server_that_is_alone(start: StartEmulator) -> None:
    first = start()
    file_id = first.upload(b"kept")
    for name in ("incoming-1", "00000000-0000-0000-0000-000000000000"):
        (first.backend.uploads / name).write_bytes(b"half")
    second = start()
    assert len(list(first.backend.uploads.iterdir())) == 3  # the first one may still be writing them
    first.backend.close()
    second.backend.close()
    third = start()
    assert [path.name for path in third.backend.uploads.iterdir()] == [file_id]


def test_the_folder_is_private(emulator: Emulator) -> None:
    """It holds training data and the control token."""
    emulator.upload(b"secret")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [emulator.data, *emulator.data.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_a_folder_with_something_else_in_it_is_refused(start: StartEmulator, tmp_path: Path) -> None:
    (tmp_path / "emulator").mkdir()
    (tmp_path / "emulator" / "emulator.db").write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(ValueError, match=r"emulator\.db in the data folder cannot be used: file is not a database"):
        start()


def test_a_folder_of_another_format_is_refused(start: StartEmulator) -> None:
    first = start()
    first.backend.close()
    with sqlite3.connect(first.data / "emulator.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="format 99"):
        start()
