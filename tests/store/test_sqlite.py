"""The state in a file: damage, disks that refuse, older and newer versions, and what lies beside it."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateCorrupt, StateError, StateMismatch
from reconciler.state import Gone, IntentPhase, Record, Role, State, to_json
from reconciler.store import HEADER, Header, _sorted_seal
from reconciler.store.sqlite import OVERRIDE, SqliteStore
from tests.store.places import STAMP, File, child, dying_at, intent, pages, row

EVERYTHING = State(STAMP, {"deployments/p-1": row()}, {"1": intent()})
BIG = row("p-2", Role.NEXT, outputs={"x": "y" * 200_000})


@pytest.fixture
def kept(file: File) -> File:
    """A file that holds one object and one open intent, after a second lease: with a copy of it beside it."""
    store = file.store()
    with store.lease() as epoch:
        store.commit(epoch, row(), intent())
    with store.lease():
        pass
    return file


# Damage -------------------------------------------------------------------------------------------------------------


def opened(file: File) -> State | None:
    """What a reader, and then a writer, makes of a file; None where it is refused."""
    try:
        state = file.store().load()
        store = file.store()
        with store.lease() as epoch:
            store.commit(epoch)
        assert file.store().load() == state
        return state
    except StateError:
        return None


def test_cut_off_anywhere_it_is_refused(kept: File) -> None:
    """An empty or a shorter state in its place would buy again what it has forgotten."""
    data = kept.path.read_bytes()
    for size in range(0, len(data), 512):
        kept.path.write_bytes(data[:size])
        with pytest.raises(StateCorrupt, match="damaged"):
            kept.store().load()
        with pytest.raises(StateCorrupt, match="damaged"), kept.store().lease():
            pass
        assert kept.path.read_bytes() == data[:size]


def test_a_flipped_byte_never_makes_another_state(kept: File) -> None:
    """It is the same state or it is refused. The file's own header and a sample of the rest; the seed is printed."""
    data, backup = kept.path.read_bytes(), kept.store().backup
    good, seed = backup.read_bytes(), random.randrange(2**32)
    print(f"seed {seed}")
    dice, refused = random.Random(seed), 0
    used = [place for place in range(4096, len(data)) if data[place]]
    for place in [*range(200), *dice.sample(used, min(600, len(used)))]:
        flipped = bytearray(data)
        flipped[place] ^= dice.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
        kept.path.write_bytes(flipped)
        state = opened(kept)
        assert state in (None, EVERYTHING), f"byte {place}"
        refused += state is None
        backup.write_bytes(good)
        for beside in kept.folder.glob("state.db-*"):
            beside.unlink()
    assert refused > 100


def test_a_damaged_state_does_not_take_the_place_of_the_good_copy(kept: File) -> None:
    good = kept.store().backup.read_bytes()
    kept.edit("delete from records where kind = 'owned'")
    with pytest.raises(StateCorrupt), kept.store().lease():
        pass
    assert kept.store().backup.read_bytes() == good


def test_the_copy_that_a_message_names_is_good(kept: File) -> None:
    """And it is named only if it is."""
    kept.path.write_bytes(b"")
    with pytest.raises(StateCorrupt) as caught:
        kept.store().load()
    assert f"put {kept.store().backup}, which is good" in caught.value.hint
    kept.path.write_bytes(kept.store().backup.read_bytes())
    assert kept.store().load() == EVERYTHING
    kept.path.write_bytes(b"")
    kept.store().backup.write_bytes(b"odd")
    with pytest.raises(StateCorrupt) as caught:
        kept.store().load()
    assert "put a backup in its place" in caught.value.hint


def test_the_copy_is_the_state_before_the_lease(kept: File) -> None:
    """Nobody who only asked for a lease may overwrite it in the middle of somebody's run."""
    store = kept.store()
    with store.lease() as epoch:
        store.commit(epoch, Gone("deployments/p-1"))
        with pytest.raises(StateError), kept.store().lease():
            pass
        assert SqliteStore(store.backup, STAMP).load() == EVERYTHING


@pytest.mark.parametrize("remains", ["state.db.backup", "state.db-journal"])
def test_a_file_that_went_away_is_not_a_new_state(kept: File, remains: str) -> None:
    """Something beside it says that there was one; without it everything would be bought again."""
    kept.path.unlink()
    if remains != "state.db.backup":
        kept.store().backup.unlink()
        (kept.folder / remains).write_bytes(b"x")
    for attempt in (kept.store().load, lambda: kept.store().lease().__enter__()):
        with pytest.raises(StateCorrupt, match="is missing") as caught:
            attempt()
        assert f"to begin anew all the same, move {remains} away" in caught.value.hint
    assert not kept.path.exists()


def half_written(file: File) -> None:
    """A process that is killed with its pages in the file and the way back in the journal beside it."""

    def write() -> None:
        db = sqlite3.connect(file.path, isolation_level=None)
        db.execute("pragma cache_size=1")
        db.execute("begin immediate")
        for number in range(200):
            db.execute("insert into records values ('support/', 'owned', ?, ?)", (str(number), "x" * 4000))
        os.kill(os.getpid(), 9)

    before = file.path.read_bytes()
    assert child(write) == -9
    assert file.path.read_bytes() != before, "it was killed too early"


def test_a_process_killed_while_it_wrote_leaves_a_state_that_can_be_read(kept: File) -> None:
    """The next command is as likely a plan as an apply."""
    half_written(kept)
    assert kept.store().load() == EVERYTHING
    with kept.store().lease() as epoch:
        assert epoch == 3


def test_a_journal_that_was_cleared_away_costs_no_object(kept: File) -> None:
    """Somebody tidies up after a crash, and with the file the way back is gone."""
    half_written(kept)
    (kept.folder / "state.db-journal").unlink()
    assert opened(kept) in (None, EVERYTHING)


@pytest.mark.parametrize("text", [b"# not a database\n" * 500, b"hello", b"\0" * 8192])
def test_a_file_of_another_kind_is_refused_and_left_alone(file: File, text: bytes) -> None:
    file.folder.mkdir()
    file.path.write_bytes(text)
    with pytest.raises(StateCorrupt):
        file.store().load()
    with pytest.raises(StateCorrupt), file.store().lease():
        pass
    assert file.path.read_bytes() == text


def test_another_programs_database_is_left_alone(file: File) -> None:
    """A wrong path in the manifest must not add our tables to somebody else's file."""
    file.folder.mkdir()
    file.edit("create table theirs (x)")
    before = file.path.read_bytes()
    with pytest.raises(StateCorrupt), file.store().lease():
        pass
    assert file.path.read_bytes() == before


@pytest.mark.parametrize("other", [{"stack": "other"}, {"environment": "prod"}])
def test_a_file_holds_one_state(kept: File, other: dict[str, str]) -> None:
    with pytest.raises(StateMismatch, match=f"belongs to {next(iter(other))}"):
        kept.store(**other).load()


def test_no_line_is_no_state(kept: File) -> None:
    kept.edit("delete from states")
    with pytest.raises(StateCorrupt):
        kept.store().load()


def test_a_restored_backup_is_a_state_like_any_other(kept: File) -> None:
    """Its serial goes back, its open operations are there to be looked for, and it can be written."""
    store = kept.store()
    with store.lease() as epoch:
        ahead = store.commit(epoch, intent(phase=IntentPhase.DONE, result_id="p-2"), row("p-2", Role.NEXT))
    kept.path.write_bytes(store.backup.read_bytes())
    again = kept.store()
    with again.lease() as epoch:
        restored = again.load()
        assert restored.serial < ahead.serial
        assert restored.lineage == ahead.lineage
        assert [found.op_id for found in restored.open_intents()] == ["1"]
        again.commit(epoch, row("p-3", Role.NEXT))


# Versions -----------------------------------------------------------------------------------------------------------

FIRST = (
    "create table meta (key text primary key, value text) strict",
    "create table owned (key text primary key, body text) strict",
    "create table intents (op_id text primary key, body text) strict",
    'insert into meta values (\'stamp\', \'{"endpoint": "emulator:1f", "workspace": "llm-1", "stack": "support",'
    ' "environment": ""}\')',
    "insert into meta values ('epoch', '7')",
    f"insert into owned values ('deployments/p-1', '{to_json(row())}')",
    f"insert into intents values ('1', '{to_json(intent())}')",
    "pragma user_version=1",
)
"""A file of the first version."""


@pytest.fixture
def first(file: File) -> File:
    file.folder.mkdir()
    file.edit(*FIRST)
    return file


def test_an_older_state_is_read_without_changing_it(first: File) -> None:
    before = first.contents()
    assert first.store().load() == EVERYTHING
    assert first.contents() == before


def test_an_older_state_moves_on_with_the_next_lease_and_a_copy_stays(first: File) -> None:
    with first.store().lease() as epoch:
        assert epoch == 8
    assert first.store().load() == EVERYTHING
    assert len(first.store().load().lineage) == 32
    with closing(sqlite3.connect(first.store().backup)) as copy:
        assert copy.execute("pragma user_version").fetchone() == (1,)
        assert copy.execute("select count(*) from owned").fetchone() == (1,)


def test_killed_at_any_statement_of_a_migration_nothing_is_lost(tmp_path: Path) -> None:
    for number in range(1, 200):
        first = File(str(tmp_path / str(number) / "state.db"))
        first.folder.mkdir()
        first.edit(*FIRST)
        ended = dying_at(number, lambda first=first: first.store().lease().__enter__())
        assert first.store().load() == EVERYTHING
        with first.store().lease() as epoch:
            assert epoch in (8, 9)
        assert first.store().load() == EVERYTHING
        if ended == 0:
            break
    assert number > 20, "the statements were not seen"


def test_the_first_state_of_another_account_is_refused_before_it_moves_on(first: File) -> None:
    before = first.path.read_bytes()
    with pytest.raises(StateMismatch), first.store(workspace="llm-2").lease():
        pass
    assert first.path.read_bytes() == before


# A disk that refuses ------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(size: str) -> Iterator[File]:
    """A disk of its own, of this size."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
        if mounted.returncode:
            pytest.skip("only root can mount a small disk here")
        try:
            yield File(f"{folder}/state.db")
        finally:
            subprocess.run(["umount", folder], check=True)


def fill(folder: Path, *, free_pages: int) -> None:
    """Leave so much room and no more."""
    junk = folder / "junk"
    junk.unlink(missing_ok=True)
    space = os.statvfs(folder)
    junk.write_bytes(b"x" * (space.f_bavail - free_pages) * space.f_frsize)


def test_whatever_room_a_disk_has_a_state_is_made_or_nothing_is(tmp_path: Path) -> None:
    """From no room at all to enough, page by page: an error of the state, and the next run with room goes on."""
    with small_disk("1m") as file:
        worked = []
        for pages in range(0, 120, 3):
            fill(file.folder, free_pages=pages)
            store = file.store()
            try:
                with store.lease() as epoch:
                    store.commit(epoch, intent(), row())
                worked.append(pages)
            except StateError:
                assert file.store().load() in (State(STAMP), EVERYTHING)
            for path in file.folder.glob("state.db*"):
                path.unlink()
        assert 3 < len(worked) < 40


def test_a_disk_that_fills_up_records_nothing_and_heals(tmp_path: Path) -> None:
    """What was to be sent is not sent when its intent cannot be recorded."""
    with small_disk("2m") as file:
        store = file.store()
        with store.lease() as epoch:
            store.commit(epoch, row(), intent())
            for pages in range(0, 48, 3):
                fill(file.folder, free_pages=pages)
                with pytest.raises(StateError, match=r"full|disk I/O"):
                    store.commit(epoch, BIG)
                assert file.store().load() == EVERYTHING
            (file.folder / "junk").unlink()
            assert "deployments/p-2" in store.commit(epoch, BIG).owned


def test_an_answer_is_recorded_on_a_full_disk_with_the_room_kept_for_it(tmp_path: Path) -> None:
    with small_disk("2m") as file:
        store = file.store()
        with store.lease() as epoch:
            store.commit(epoch, intent())
            fill(file.folder, free_pages=0)
            answer = intent(phase=IntentPhase.DONE, result_id="p-1"), row(outputs={"x": "y" * 30_000})
            store.record(epoch, *answer, sleep=lambda seconds: None)
        assert list(file.store().load().owned) == ["deployments/p-1"]
        assert list(file.folder.glob("*.rescue*")) == []


def test_an_answer_that_nothing_can_take_is_said_in_the_message(tmp_path: Path) -> None:
    with small_disk("2m") as file:
        store = file.store()
        with store.lease() as epoch:
            store.commit(epoch, intent())
            store.ballast.unlink()
            fill(file.folder, free_pages=0)
            with pytest.raises(StateError, match=r"neither .* nor .* can be written") as caught:
                store.record(epoch, intent(phase=IntentPhase.DONE, result_id="p-77"), BIG, sleep=lambda seconds: None)
            assert "the service made p-77" in caught.value.hint


@contextmanager
def connections(pragma: str) -> Iterator[None]:
    """SQLite as it is on a machine in trouble: every connection begins with this pragma."""
    connect = sqlite3.connect

    def troubled(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **{**options, "timeout": 0})
        db.execute(pragma)
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", troubled)
        yield


def test_a_file_that_may_not_grow_is_an_error_of_the_state(kept: File) -> None:
    store = kept.store()
    with store.lease() as epoch:
        with connections("pragma max_page_count=1"), pytest.raises(StateError, match="full"):
            store.commit(epoch, BIG)
        assert list(store.commit(epoch).owned) == ["deployments/p-1"]
    assert kept.store().load() == EVERYTHING


def test_a_state_that_another_program_keeps_locked_is_an_error_of_the_state(kept: File) -> None:
    store = kept.store()
    with store.lease() as epoch, closing(sqlite3.connect(kept.path, isolation_level=None)) as db:
        db.execute("begin immediate")
        with connections("pragma user_version"), pytest.raises(StateError, match="locked"):
            store.commit(epoch, Gone("deployments/p-1"))


@pytest.mark.parametrize("obstacle", ["file", "folder", "link to nowhere"])
def test_a_place_that_cannot_hold_a_state_is_an_error_of_the_state(file: File, obstacle: str) -> None:
    """A file where the folder should be, a folder where the file should be: a sentence, not a traceback."""
    if obstacle == "file":
        file.folder.write_text("in the way")
    elif obstacle == "folder":
        file.path.mkdir(parents=True)
    else:
        file.folder.symlink_to("nowhere/at/all")
    with pytest.raises(StateError, match=r"state\.db"), file.store().lease():
        pass


@pytest.fixture
def ordinary() -> Iterator[File]:
    """A file of a user to whom permissions mean something."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield File(f"{folder}/project/state.db")
        finally:
            if root:
                os.seteuid(0)


def test_a_folder_that_may_not_be_written_can_be_read(ordinary: File) -> None:
    """A plan works on a read-only checkout of the state; an apply says why it does not."""
    store = ordinary.store()
    with store.lease() as epoch:
        store.commit(epoch, row(), intent())
    ordinary.folder.chmod(0o500)
    assert ordinary.store().load() == EVERYTHING
    with pytest.raises(StateError, match="Permission denied"), ordinary.store().lease():
        pass
    ordinary.folder.chmod(0o700)


@pytest.mark.parametrize("which", ["path", "folder"])
def test_what_may_not_be_read_is_an_error_of_the_state_and_not_a_new_one(ordinary: File, which: str) -> None:
    with ordinary.store().lease():
        pass
    (path := getattr(ordinary, which)).chmod(0)
    for attempt in (ordinary.store().load, lambda: ordinary.store().lease().__enter__()):
        with pytest.raises(StateError, match=r"state\.db cannot be used|state\.db-"):
            attempt()
    path.chmod(0o700)


def test_nobody_else_may_read_the_state_whatever_the_umask(file: File) -> None:
    before = os.umask(0)
    try:
        store = file.store()
        for _ in range(2):
            with store.lease():
                store._left_for_rescue([row()])
                modes = {path.name: path.stat().st_mode & 0o777 for path in file.folder.iterdir()}
                assert set(modes.values()) == {0o600}
                assert len(modes) >= 5, "state, lock, ballast and rescue file"
                for left in file.folder.glob("*.rescue-*"):
                    left.unlink()
    finally:
        os.umask(before)
    assert file.folder.stat().st_mode & 0o777 == 0o700


def test_a_lease_leaves_three_files(kept: File) -> None:
    assert sorted(path.name for path in kept.folder.iterdir()) == ["state.db", "state.db.backup", "state.db.ballast"]


# Drives that do not lock --------------------------------------------------------------------------------------------


def on(file: File, kind: str, point: str = "") -> SqliteStore:
    """A store that believes its folder's drive to be of this kind."""
    mounts = file.folder.parent / "mounts"
    above = (point or str(file.folder.parent)).replace(" ", "\\040")
    mounts.write_text(f"overlay / overlay rw 0 0\nsource {above} {kind} rw 0 0\nodd\n\n")
    return SqliteStore(file.path, STAMP, mounts=mounts)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "fuse.ossfs", "9p"])
def test_a_network_drive_is_refused(file: File, kind: str) -> None:
    with pytest.raises(StateError, match=rf"network drive \({kind}\)") as caught, on(file, kind).lease():
        pass
    assert f"{OVERRIDE}=1" in caught.value.hint
    assert not file.folder.exists()


def test_a_network_drive_is_used_where_somebody_insists(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, "1")
    with on(file, "nfs4").lease() as epoch:
        assert epoch == 1


@pytest.mark.parametrize(("kind", "point"), [("ext4", ""), ("nfs4", "/somewhere/else"), ("overlay", "")])
def test_a_local_drive_is_not_refused(file: File, kind: str, point: str) -> None:
    with on(file, kind, point).lease() as epoch:
        assert epoch == 1


def test_the_drive_that_was_mounted_over_another_counts(file: File) -> None:
    store, mounts = on(file, "nfs4"), file.folder.parent / "mounts"
    mounts.write_text(f"{mounts.read_text()}source {file.folder.parent} ext4 rw 0 0\n")
    with store.lease() as epoch:
        assert epoch == 1


@pytest.mark.parametrize("name", ["Dropbox", "OneDrive - Firma", "Google Drive", "dropbox (work)"])
def test_a_synchronised_folder_is_refused(tmp_path: Path, name: str) -> None:
    """It brings back older bytes, and makes copies called "conflict" of what two computers wrote."""
    with pytest.raises(StateError, match="synchronises"), File(str(tmp_path / name / "x" / "state.db")).store().lease():
        pass


def test_a_repository_that_is_only_called_like_one_is_not(tmp_path: Path) -> None:
    with File(str(tmp_path / "dropbox-sync" / "state.db")).store().lease() as epoch:
        assert epoch == 1


# What a step costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [10, 2000])
def test_a_step_rewrites_a_few_pages_however_much_there_is(file: File, there: int) -> None:
    """A state that is rewritten as a whole at each step makes an apply as long as the square of what it does."""
    store = file.store()
    with store.lease() as epoch:
        store.commit(
            epoch,
            *(row(f"p-{n}", Role.RETIRED) for n in range(there)),
            *(intent(f"{n:06}", phase=IntentPhase.DONE) for n in range(there)),
        )
        before = pages(file.path)
        store.commit(epoch, intent("x"))
        store.commit(epoch, intent("x", phase=IntentPhase.DONE, result_id="p-new"), row("p-new", Role.RETIRED))
        after = pages(file.path)
    changed = sum(one != other for one, other in zip(before, after, strict=False)) + len(after) - len(before)
    assert 0 < changed <= 10


def test_a_state_that_was_sealed_the_old_way_is_read_and_sealed_anew(kept: File) -> None:
    """Until lately the seal was over the digests of all rows in their order."""
    with closing(sqlite3.connect(kept.path)) as db:
        header = Header(*db.execute(f"select {HEADER} from states").fetchone())
        records = [Record(*found) for found in db.execute("select kind, key, body from records")]
        old = _sorted_seal(header, records)
        assert old != header.seal
        db.execute("update states set seal = ?", (old,))
        db.commit()
    assert opened(kept) is not None
    with closing(sqlite3.connect(kept.path)) as db:
        assert db.execute("select seal from states").fetchone() != (old,)
