"""The state in PostgreSQL: many stacks, answers that are lost, servers that go away, and what must not be said."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.errors import StateCorrupt, StateError, StateLost
from reconciler.state import Gone, IntentPhase, Role, State
from reconciler.store import SCHEMA, TERM_S, postgres
from reconciler.store.postgres import DSN, PostgresStore
from tests.desk import Desk, document
from tests.store.conftest import Server
from tests.store.places import STAMP, Base, Ticks, dying_at, every_statement, fork, holder, intent, row
from tests.store.wire import Line, Pooler, listening


@pytest.fixture
def kept(base: Base) -> Base:
    """A database with one object and one open intent."""
    store = base.store()
    with store.lease() as epoch:
        store.commit(epoch, row(), intent())
    return base


def through(folder: str, base: Base) -> PostgresStore:
    """A store that goes by way of the socket in this folder."""
    return PostgresStore(f"{base.dsn} host={folder}", STAMP, folder=base.folder)


def end_sessions(base: Base) -> None:
    """As a server that restarts, or a line that is cut: whoever was connected is no more."""
    base.ask("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
             " and datname = current_database()")  # fmt: skip


# Many stacks ----------------------------------------------------------------------------------------------------------


def test_many_states_live_in_one_database_and_do_not_see_each_other(kept: Base) -> None:
    """Each with its own lease: nobody waits for another stack."""
    other, prod = kept.store(stack="other"), kept.store(environment="prod")
    assert other.load() == State(replace(STAMP, stack="other"))
    with kept.store().lease(), other.lease() as epoch, prod.lease() as first:
        assert (epoch, first) == (1, 1)
        other.commit(epoch, row("p-2"))
        prod.commit(first, row("p-3"))
    loaded = [list(store.load().owned) for store in (kept.store(), other, prod)]
    assert loaded == [["deployments/p-1"], ["deployments/p-2"], ["deployments/p-3"]]


def test_what_the_service_made_for_one_stack_waits_in_a_file_of_its_own(base: Base) -> None:
    names = {base.store(stack=stack, environment=env).rescue.name for stack in "ab" for env in ("", "prod")}
    assert names == {"a.rescue", "a@prod.rescue", "b.rescue", "b@prod.rescue"}


def test_tables_of_another_program_are_left_alone(base: Base) -> None:
    """Ours have a schema of their own."""
    base.edit("create table public.states (theirs text)", "insert into public.states values ('x')")
    with base.store().lease():
        pass
    assert base.ask("select * from public.states") == [("x",)]


def test_a_schema_that_was_made_for_us_is_enough(server: Server, base: Base) -> None:
    """An administrator need not let us make one."""
    role = f"team_{base.dsn.split('=')[-1]}"
    base.edit(f"create role {role} login", f"create schema reconciler authorization {role}")
    store = PostgresStore(base.dsn.replace("user=postgres", f"user={role}"), STAMP, folder=base.folder)
    with store.lease() as epoch:
        assert store.commit(epoch, row()).owned


def test_without_permission_it_is_an_error_of_the_state(server: Server, base: Base) -> None:
    role = f"guest_{base.dsn.split('=')[-1]}"
    base.edit(f"create role {role} login")
    store = PostgresStore(base.dsn.replace("user=postgres", f"user={role}"), STAMP, folder=base.folder)
    assert store.load() == State(STAMP)
    with pytest.raises(StateError, match="permission denied"), store.lease():
        pass


def test_a_state_cannot_lose_its_line_and_keep_its_rows(kept: Base) -> None:
    """It would pass for one that is new."""
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        kept.edit("delete from states")


@pytest.mark.parametrize(
    "statement", ["delete from version", "insert into version values (2)", "drop table states cascade"]
)
def test_tables_that_are_not_whole_are_no_state(kept: Base, statement: str) -> None:
    kept.edit(statement)
    with pytest.raises(StateCorrupt, match="not a state, or it is damaged"):
        kept.store().load()


# Versions -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def newer(kept: Base, monkeypatch: pytest.MonkeyPatch) -> Base:
    """A database of this version, and a program of the next one."""
    monkeypatch.setattr(postgres, "SCHEMA", SCHEMA + 1)
    steps = ("alter table states add column note text not null default ''", "create table notes (x text)")
    monkeypatch.setattr(postgres, "_MIGRATIONS", {SCHEMA: steps})
    return kept


def test_an_older_state_is_read_without_changing_it(newer: Base) -> None:
    before = newer.contents()
    assert newer.store().load().owned
    assert newer.contents() == before


def test_an_older_state_moves_on_with_the_next_lease(newer: Base) -> None:
    with newer.store().lease():
        pass
    assert newer.ask("select number from version") == [(SCHEMA + 1,)]
    assert newer.ask("select note from states") == [("",)]
    assert newer.store().load().owned


def test_killed_at_any_statement_of_a_migration_nothing_is_lost(newer: Base) -> None:
    """The version says which of the two schemas it is."""
    for number in range(1, 200):
        ended = dying_at(number, lambda: newer.store().lease().__enter__())
        moved = newer.ask("select number from version") == [(SCHEMA + 1,)]
        assert bool(newer.ask("select to_regclass('notes')")[0][0]) == moved
        assert newer.store().load().owned
        if moved:
            newer.edit("drop table notes", "alter table states drop note", f"update version set number = {SCHEMA}")
        if ended == 0:
            break
    assert number > 20, "the statements were not seen"


def test_an_older_program_that_still_runs_records_nothing_more(kept: Base) -> None:
    """Somebody else's new program moved the schema on under it."""
    store = kept.store()
    with store.lease() as epoch:
        kept.claim_version(SCHEMA + 1)
        with pytest.raises(StateError, match="this program reads"):
            store.record(epoch, Gone("deployments/p-1"), sleep=lambda seconds: None)
    kept.claim_version(SCHEMA)
    assert kept.store().load().owned


# Answers that are lost ------------------------------------------------------------------------------------------------


@pytest.fixture
def line(server: Server, kept: Base) -> Iterator[tuple[Line, PostgresStore]]:
    with tempfile.TemporaryDirectory() as folder:
        between = Line(server.folder)
        with listening(Path(folder), between.serve):
            yield between, through(folder, kept)


@pytest.mark.parametrize("lost", ["answer", "time"])
def test_a_commit_whose_answer_is_lost_is_read_back(line: tuple[Line, PostgresStore], kept: Base, lost: str) -> None:
    """Also one that the server gets to only while we ask: asking waits for it."""
    between, store = line
    with store.lease() as epoch:
        between.lose(lost)
        state = store.commit(epoch, row("p-2", Role.NEXT))
        assert kept.store().load() == state
        assert store.commit(epoch, row("p-3", Role.RETIRED)).serial == state.serial + 1


def test_a_commit_that_never_arrived_is_not_recorded(line: tuple[Line, PostgresStore], kept: Base) -> None:
    between, store = line
    with store.lease() as epoch:
        between.lose("request")
        with pytest.raises(StateError, match="cannot be used"):
            store.commit(epoch, row("p-2", Role.NEXT))
        assert list(kept.store().load().owned) == ["deployments/p-1"]
        assert "deployments/p-3" in store.commit(epoch, row("p-3", Role.NEXT)).owned


def test_an_answer_of_the_service_survives_the_loss(line: tuple[Line, PostgresStore], kept: Base) -> None:
    between, store = line
    with store.lease() as epoch:
        between.lose("request")
        store.record(epoch, intent(phase=IntentPhase.DONE, result_id="p-1"), sleep=lambda seconds: None)
    assert kept.store().load().open_intents() == ()


# A server that goes away ----------------------------------------------------------------------------------------------


def test_cut_off_at_any_statement_a_commit_tells_the_truth(base: Base) -> None:
    """It returns what is recorded, or raises and is not; and the run goes on with the lease it had."""
    failed = 0
    for number in range(1, 20):
        store = base.store(stack=f"s{number}")

        def cut(reached: int, number: int = number) -> None:
            if reached == number:
                end_sessions(base)

        with store.lease() as epoch:
            with every_statement(cut):
                try:
                    said: State | None = store.commit(epoch, row())
                except StateError:
                    said, failed = None, failed + 1
            held = base.store(stack=f"s{number}").load()
            assert held == said if said else held.owned == {}
            assert store.commit(epoch, row("p-1", outputs={"n": 1})).owned
    assert 3 < failed < 19


def test_a_server_that_restarts_leaves_the_lease_where_it_was(server: Server, base: Base) -> None:
    """An apply of hours outlives it: its heart takes the lock again before anybody takes it for dead."""
    store = base.store()
    with store.lease() as epoch:
        store.commit(epoch, row())
        server.stop()
        for attempt in (lambda: store.commit(epoch, row("p-2", Role.NEXT)), base.store().load):
            with pytest.raises(StateError, match="cannot be used"):
                attempt()
        server.start()
        assert "p-3" in {row.id for row in store.commit(epoch, row("p-3", Role.NEXT)).owned.values()}


def test_a_lock_that_was_lost_is_taken_again(base: Base) -> None:
    store = base.store()
    held = store._grab(1)
    assert held is not None
    end_sessions(base)
    held.keep()
    assert base.store()._grab(1) is None
    held.close()
    free = base.store()._grab(1)
    assert free is not None
    free.close()


def test_a_lock_is_not_taken_again_once_it_was_given_back(base: Base) -> None:
    """The heart may be just about to when its lease ends."""
    held = base.store()._grab(1)
    assert held is not None
    held.close()
    held.keep()
    free = base.store()._grab(1)
    assert free is not None
    free.close()


def test_a_holder_that_lost_its_lock_and_its_lease_records_nothing(base: Base) -> None:
    store = base.store()
    with store.lease() as epoch:
        store.commit(epoch, row())
        end_sessions(base)
        with base.store().lease() as new:
            assert new == epoch + 1
            with pytest.raises(StateLost):
                store.commit(epoch, row("p-2", Role.NEXT))


def test_a_process_stopped_in_the_middle_of_a_transaction_is_thrown_out(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the line of its state. The server waits for it for a while, here shorter than usual, and no longer."""
    monkeypatch.setattr(postgres, "_BEGIN", postgres._BEGIN.replace(b"'10s'", b"'1s'"))

    def stop(reached: int) -> None:
        if reached == 5:  # after begin, two looks at the version, and the line of the state
            os.kill(os.getpid(), signal.SIGSTOP)

    def run() -> None:
        store = base.store()
        with store.lease() as epoch:
            store.commit(epoch)
            with every_statement(stop):
                store.commit(epoch, row("p-1"))

    pid = fork(run)
    try:
        os.waitpid(pid, os.WUNTRACED)
        assert base.ask("select 1 from pg_locks where relation = 'states'::regclass and mode = 'RowExclusiveLock'")
        ticks = Ticks()
        with base.store(ticks).lease(wait_s=TERM_S, sleep=ticks.sleep) as epoch:
            assert epoch == 2
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert base.store().load().owned == {}


# Ways that keep no sessions -------------------------------------------------------------------------------------------


def test_a_pooler_that_gives_sessions_away_is_refused(server: Server, base: Base) -> None:
    """A lock would be somebody else's a moment later, and two would apply at once."""
    with tempfile.TemporaryDirectory() as folder, listening(Path(folder), Pooler(server.folder).serve):
        store = through(folder, base)
        assert store.load() == State(STAMP)
        with pytest.raises(StateError, match="does not keep sessions apart") as caught, store.lease():
            pass
        assert "session mode" in caught.value.hint
    assert base.store().header() is None


def test_two_servers_behind_one_name_are_refused(base: Base, new_base: Callable[[], Base]) -> None:
    """Or databases whose locks are for show: what one session locked, another must not get."""
    store, other, turns = base.store(), new_base(), iter(range(100))
    connect = psycopg.connect

    def alternating(**parameters: Any) -> psycopg.Connection:
        database = (base, other)[next(turns) % 2].dsn.split("=")[-1]
        return connect(**{**parameters, "dbname": database})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg, "connect", alternating)
        with pytest.raises(StateError, match="does not keep sessions apart"), store.lease():
            pass


# What a person is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:geheim%21@127.0.0.1:1/states",
        "host=127.0.0.1 port=1 user=me password='geheim!' dbname=states",
        "host=127.0.0.1 password=geheim! oops",
        "postgresql://me:geheim!@[::1/states",
        "host=127.0.0.1 port=1 password=geheim! sslmode=geheim!",
    ],
)
def test_no_message_holds_the_password(tmp_path: Path, dsn: str) -> None:
    with pytest.raises(StateError) as caught:
        PostgresStore(dsn, STAMP, folder=tmp_path).load()
    told = f"{caught.value} {caught.value.hint} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "geheim" not in f"{caught.value} {caught.value.hint}"
    assert DSN in told


def test_the_place_is_named_without_the_password(tmp_path: Path) -> None:
    store = PostgresStore("postgresql://me:geheim@db.example/states", STAMP, folder=tmp_path)
    assert store.where == "the PostgreSQL database 'states' on 'db.example'"
    assert "geheim" not in repr(store)


def test_the_password_of_the_environment_is_not_told_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "127.0.0.1")
    with pytest.raises(StateError) as caught:
        PostgresStore("host=127.0.0.1 port=1", STAMP, folder=tmp_path).load()
    assert '"***", port 1' in str(caught.value)


def test_without_the_driver_the_message_names_the_extra(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(desk, {"backend": "postgres"})
    monkeypatch.delitem(sys.modules, "reconciler.store.postgres")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StateError, match="driver for it is not installed") as caught, desk.session():
        pass
    assert "bailian-reconciler[postgres]" in caught.value.hint


# How a Stack chooses it -----------------------------------------------------------------------------------------------


def declare(desk: Desk, state: dict[str, Any]) -> None:
    desk.declare(
        document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": [{"text": "热", "weight": 4}]})
    )
    stack = desk.root.joinpath("stack.yaml")
    stack.write_text(stack.read_text().replace("endpoint: emulator", f"endpoint: emulator\n  state: {state}", 1))


def test_an_apply_records_in_the_database_that_the_environment_names(
    desk: Desk, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DSN, base.dsn)
    declare(desk, {"backend": "postgres"})
    desk.apply()
    assert desk.plan().work == ()
    assert [row[0] for row in base.ask("select kind from records where state = 'desk/' order by 1")][-1] == "owned"
    assert not desk.root.joinpath(".reconciler/state.db").exists()


def test_the_driver_is_loaded_only_where_it_is_used(desk: Desk) -> None:
    """It costs a tenth of a second, which every command would pay."""
    script = "import sys, reconciler.engine, reconciler.adapters.cli; sys.exit('psycopg' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script]) == 0


def test_a_taker_sees_a_stopped_process_expire_on_its_own_clock(kept: Base) -> None:
    """The database's time and the holder's do not matter."""
    with holder(kept) as held:
        held.stop()
        ticks = Ticks(now_s=-1e9)
        with kept.store(ticks).lease(wait_s=TERM_S, sleep=ticks.sleep) as epoch:
            assert epoch == 3
        held.go_on()
