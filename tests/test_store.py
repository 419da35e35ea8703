"""The state on disk: what survives, who may write, and which files are refused rather than half understood."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateCorrupt, StateError, StateLocked, StateMismatch
from reconciler.resource import Slot
from reconciler.state import Gone, Intent, Owned, Role, Stamp, State
from reconciler.store.sqlite import SqliteStore

STAMP = Stamp("emulator:1f", "llm-1", "support")
ROOT = Path(__file__).parents[1]


def row(remote_id: str = "p-1", role: Role = Role.CURRENT, **facts: Any) -> Owned:
    return Owned(Slot("Deployment/p"), "deployments", remote_id, role, "g", {"capacity": 4, "词": "x"}, **facts)


def intent(op_id: str = "1") -> Intent:
    return Intent(op_id, Slot("Deployment/p"), "deployments", "create", "g", "t", 0, 1, "2026-11-02 14:05:00", {})


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """A store whose file and folder do not exist yet."""
    return SqliteStore(tmp_path / "project" / "state.db", STAMP)


@pytest.fixture
def kept(store: SqliteStore) -> SqliteStore:
    """A store that holds one object and one open intent."""
    with store.lease() as epoch:
        store.commit(epoch, row(), intent())
    return store


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: its bytes and the time of its last change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def again(store: SqliteStore, **stamp: str) -> SqliteStore:
    """The same file as another process would open it."""
    return SqliteStore(store.path, replace(store.stamp, **stamp))


# What is kept -------------------------------------------------------------------------------------------------------


def test_what_was_committed_is_there_after_opening_again(kept: SqliteStore) -> None:
    state = again(kept).load()
    assert state == State(STAMP, {"deployments/p-1": row()}, {"1": intent()})


def test_commit_returns_the_state_after_the_events(kept: SqliteStore) -> None:
    with kept.lease() as epoch:
        state = kept.commit(epoch, Gone("deployments/p-1"), row("p-2"))
    assert state == again(kept).load()
    assert list(state.owned) == ["deployments/p-2"]


def test_an_event_that_breaks_a_rule_is_not_recorded(kept: SqliteStore) -> None:
    """Nor is any event that came with it: a commit is all or nothing."""
    with kept.lease() as epoch, pytest.raises(StateCorrupt, match="two current"):
        kept.commit(epoch, Gone("deployments/other"), row("p-3", Role.RETIRED), row("p-2"))
    assert list(again(kept).load().owned) == ["deployments/p-1"]


def test_without_a_file_the_state_is_empty_and_stays_without(store: SqliteStore, tmp_path: Path) -> None:
    """A plan on a fresh machine creates nothing, not even the folder."""
    assert store.load() == State(STAMP)
    assert everything(tmp_path) == {}
    assert not store.path.parent.exists()


def test_reading_leaves_the_folder_byte_for_byte(kept: SqliteStore) -> None:
    """A plan promises to write nothing: no journal beside the file, no migration, not even a new time."""
    before = everything(kept.path.parent)
    again(kept).load()
    assert everything(kept.path.parent) == before
    assert sorted(path.name for path in kept.path.parent.iterdir()) == ["state.db", "state.lock"]


def test_nobody_else_may_read_the_state(kept: SqliteStore) -> None:
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.with_suffix(".lock").stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700


def test_nobody_else_may_read_the_state_whatever_the_umask(store: SqliteStore) -> None:
    before = os.umask(0)
    try:
        with store.lease():
            pass
    finally:
        os.umask(before)
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


# Who may write ------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from reconciler.state import Stamp
from reconciler.store.sqlite import SqliteStore
with SqliteStore(Path(sys.argv[1]), Stamp("emulator:1f", "llm-1", "support")).lease() as epoch:
    print(epoch, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(store: SqliteStore) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease until its input ends."""
    command = [sys.executable, "-c", HOLD, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        yield process
        process.kill()


def test_another_process_is_kept_out_and_told_by_whom(store: SqliteStore) -> None:
    with holder(store) as process, pytest.raises(StateLocked) as caught, store.lease():
        pass
    assert f"process {process.pid} on " in caught.value.owner
    assert caught.value.since


def test_reading_does_not_wait_for_a_holder(kept: SqliteStore) -> None:
    """A plan must be possible during an apply of hours."""
    with holder(kept):
        assert again(kept).load().owned


def test_a_killed_holder_is_noticed_at_once(store: SqliteStore) -> None:
    """A lease that outlives its process would have to be broken by hand."""
    with holder(store) as process:
        process.kill()
        process.wait()
        with store.lease() as epoch:
            assert epoch == 2


def test_waiting_ends_when_the_holder_does(store: SqliteStore) -> None:
    """The pause is where the test makes the other process go away."""
    with holder(store) as process:

        def pause(seconds: float) -> None:
            process.kill()
            process.wait()

        with store.lease(wait_s=60, sleep=pause) as epoch:
            assert epoch == 2


def test_two_holders_in_one_process_keep_each_other_out(store: SqliteStore) -> None:
    with store.lease(), pytest.raises(StateLocked), again(store).lease():
        pass


def test_every_holder_has_a_higher_epoch(store: SqliteStore) -> None:
    epochs = []
    for _ in range(3):
        with store.lease() as epoch:
            epochs.append(epoch)
    assert epochs == [1, 2, 3]


def test_a_holder_of_old_records_nothing(kept: SqliteStore) -> None:
    """A process that was suspended and wakes up after its successor must not write over what that one recorded."""
    with kept.lease() as old:
        pass
    successor = again(kept)
    with successor.lease() as new:
        successor.commit(new, Gone("deployments/p-1"))
    with pytest.raises(StateError, match="another run took over"):
        kept.commit(old, row("p-9"))
    assert again(kept).load().owned == {}


def test_a_new_lease_sees_what_others_recorded(kept: SqliteStore) -> None:
    other = again(kept)
    with other.lease() as epoch:
        other.commit(epoch, Gone("deployments/p-1"))
    with kept.lease() as epoch:
        assert kept.commit(epoch).owned == {}


# Kills --------------------------------------------------------------------------------------------------------------

DIE_AT_A_STATEMENT = """
import os, sqlite3, sys
from pathlib import Path
from reconciler.resource import Slot
from reconciler.state import Owned, Role, Stamp
from reconciler.store.sqlite import SqliteStore
left = int(sys.argv[2])
def count(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
connect = sqlite3.connect
def watched(*args, **options):
    db = connect(*args, **options)
    db.set_trace_callback(count)
    return db
sqlite3.connect = watched
store = SqliteStore(Path(sys.argv[1]), Stamp("emulator:1f", "llm-1", "support"))
with store.lease() as epoch:
    rows = [Owned(Slot("X/x"), "files", str(n), Role.RETIRED, "g", {}) for n in range(2)]
    store.commit(epoch, *rows)
"""


def test_killed_at_any_statement_it_leaves_all_or_nothing(tmp_path: Path) -> None:
    """From the first lease on a fresh machine to its first commit: the next command opens, reads and writes."""
    for number in range(100):
        store = SqliteStore(tmp_path / str(number) / "state.db", STAMP)
        command = [sys.executable, "-c", DIE_AT_A_STATEMENT, str(store.path), str(number)]
        ended = subprocess.run(command, cwd=ROOT, check=False)
        assert len(store.load().owned) in (0, 2)
        with store.lease() as epoch:
            assert store.commit(epoch, row()).owned
        if ended.returncode == 0:
            break
    assert number > 10, "the statements were not seen"


DIE_WHILE_WRITING = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("pragma cache_size=1")
db.execute("begin immediate")
for number in range(200):
    db.execute("insert into owned values (?, ?)", (str(number), "x" * 4000))
os.kill(os.getpid(), 9)
"""


def test_a_process_killed_while_it_wrote_leaves_a_state_that_can_be_read(kept: SqliteStore) -> None:
    """Half of its pages are in the file, and the next command is as likely a plan as an apply."""
    before = kept.path.read_bytes()
    subprocess.run([sys.executable, "-c", DIE_WHILE_WRITING, str(kept.path)], check=False)
    assert kept.path.read_bytes() != before, "it was killed too early"
    assert list(again(kept).load().owned) == ["deployments/p-1"]
    with again(kept).lease() as epoch:
        assert epoch == 2


# What is no state of ours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "named"),
    [
        ({"endpoint": "dashscope.aliyuncs.com"}, "endpoint"),
        ({"workspace": "llm-2"}, "workspace"),
        ({"stack": "other"}, "stack"),
        ({"environment": "prod"}, "environment"),
    ],
)
def test_the_state_of_another_account_is_refused_before_anything_is_read(
    kept: SqliteStore, stamp: dict[str, str], named: str
) -> None:
    """Emulator and cloud must never mix: every object would look lost, and be bought again."""
    with pytest.raises(StateMismatch, match=named):
        again(kept, **stamp).load()
    with pytest.raises(StateMismatch, match=named), again(kept, **stamp).lease():
        pass
    assert again(kept).load().owned


def damaged(store: SqliteStore, change: str) -> None:
    data = store.path.read_bytes()
    store.path.write_bytes(
        {
            "garbage": b"# not a database\n" * 500,
            "half": data[: len(data) // 2],
            "no header": b"\0" * 100 + data[100:],
            "text": b"hello",
            "nothing": b"",
        }[change]
    )


@pytest.mark.parametrize("change", ["garbage", "half", "no header", "text", "nothing"])
def test_a_damaged_file_is_refused_by_readers_and_writers(kept: SqliteStore, change: str) -> None:
    """An empty state in its place would buy everything again."""
    damaged(kept, change)
    before = kept.path.read_bytes()
    with pytest.raises(StateCorrupt, match="damaged"):
        again(kept).load()
    with pytest.raises(StateCorrupt, match="damaged"), again(kept).lease() as epoch:
        kept.commit(epoch, row("p-2", Role.NEXT))
    assert kept.path.read_bytes() == before


def edited(store: SqliteStore, *statements: str) -> None:
    with closing(sqlite3.connect(store.path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_the_state_of_a_newer_program_is_refused(kept: SqliteStore) -> None:
    edited(kept, "pragma user_version=2")
    with pytest.raises(StateError, match="version 2") as caught:
        again(kept).load()
    assert "newer" in caught.value.hint
    with pytest.raises(StateError, match="version 2"), again(kept).lease():
        pass


@pytest.mark.parametrize(
    "statement",
    [
        "delete from meta",
        "update meta set value = 'x' where key = 'stamp'",
        "update meta set value = '{\"odd\": 1}' where key = 'stamp'",
        "update owned set body = '{}'",
        "update intents set body = 'x'",
        "insert into owned select 'y', replace(body, 'p-1', 'p-2') from owned",
        "drop table owned",
    ],
)
def test_an_edited_file_is_refused_as_damaged(kept: SqliteStore, statement: str) -> None:
    """Whoever edits the state by hand gets an error that says so, not a traceback and not a purchase."""
    edited(kept, statement)
    with pytest.raises(StateCorrupt):
        again(kept).load()


def test_another_programs_database_is_left_alone(store: SqliteStore) -> None:
    """A wrong path in the manifest must not add our tables to somebody else's file."""
    store.path.parent.mkdir()
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("create table theirs (x)")
    before = store.path.read_bytes()
    with pytest.raises(StateError), store.lease():
        pass
    assert store.path.read_bytes() == before


# A disk that refuses ------------------------------------------------------------------------------------------------


@contextmanager
def connections(pragma: str = "", **options: Any) -> Iterator[None]:
    """SQLite as it is on a machine in trouble: every connection begins with this pragma, or has these options."""
    connect = sqlite3.connect

    def troubled(*args: Any, **usual: Any) -> sqlite3.Connection:
        db = connect(*args, **{**usual, **options})
        db.execute(pragma or "pragma user_version")
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", troubled)
        yield


def test_a_full_disk_is_an_error_of_the_state_and_records_nothing(kept: SqliteStore) -> None:
    """What was to be sent is not sent when its intent cannot be recorded; for that the failure must be one of ours."""
    big = row("p-2", Role.NEXT, outputs={"x": "y" * 200_000})
    with kept.lease() as epoch, connections("pragma max_page_count=1"), pytest.raises(StateError, match="full"):
        kept.commit(epoch, big)
    assert list(again(kept).load().owned) == ["deployments/p-1"]


def test_a_state_that_another_program_keeps_locked_is_an_error_of_the_state(kept: SqliteStore) -> None:
    with kept.lease() as epoch, closing(sqlite3.connect(kept.path, isolation_level=None)) as db:
        db.execute("begin immediate")
        with connections(timeout=0), pytest.raises(StateError, match="locked"):
            kept.commit(epoch, Gone("deployments/p-1"))


def test_what_was_not_recorded_is_not_remembered_either(kept: SqliteStore) -> None:
    """After a failed commit the next one must build on what the file holds."""
    with kept.lease() as epoch:
        with connections("pragma max_page_count=1"), pytest.raises(StateError):
            kept.commit(epoch, row("p-2", Role.NEXT, outputs={"x": "y" * 200_000}))
        assert list(kept.commit(epoch).owned) == ["deployments/p-1"]


@pytest.mark.parametrize("obstacle", ["file", "folder"])
def test_a_place_that_cannot_hold_a_state_is_an_error_of_the_state(store: SqliteStore, obstacle: str) -> None:
    """A file where the folder should be, a folder where the file should be: a sentence, not a traceback."""
    if obstacle == "file":
        store.path.parent.write_text("in the way")
    else:
        store.path.mkdir(parents=True)
    with pytest.raises(StateError, match=r"state\.db"), store.lease():
        pass
