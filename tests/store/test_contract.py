"""What every store promises, whichever backend keeps it: what survives, who may write, what is refused."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from reconciler import store as contract
from reconciler.errors import StateCorrupt, StateError, StateLocked, StateLost, StateMismatch
from reconciler.resource import Slot
from reconciler.state import Fact, Gone, Intent, IntentPhase, Owned, Pause, Resumed, Role, State, Ticket
from reconciler.store import TERM_S, TRIES, Store
from tests.store.places import ROOT, STAMP, Place, Ticks, at, dying_at, every_statement, holder, intent, python, row

PATIENT: dict[str, Any] = {"wait_s": TERM_S / 2, "sleep": lambda seconds: time.sleep(0.02)}
"""For what is free at once: a server needs a moment to see that a process is gone, and never a term."""


@pytest.fixture
def kept(place: Place) -> Place:
    """A place that holds one object and one open intent."""
    store = place.store()
    with store.lease() as epoch:
        store.commit(epoch, row(), intent())
    return place


# What is kept -------------------------------------------------------------------------------------------------------


def test_what_was_committed_is_there_after_opening_again(kept: Place) -> None:
    assert kept.store().load() == State(STAMP, {"deployments/p-1": row()}, {"1": intent()})


def test_every_kind_of_row_comes_back(place: Place) -> None:
    store, fact, ticket = place.store(), Fact("jobs.mark", True, "seen on ft-1", "2026"), Ticket("d", "2026", "2027")
    with store.lease() as epoch:
        store.commit(epoch, fact, ticket, row())
    assert place.store().load() == State(STAMP, {row().key: row()}, facts={fact.name: fact}, tickets={"d": ticket})


def test_a_pause_is_kept_until_it_ends(place: Place) -> None:
    """That of the whole stack has no name: a row all the same."""
    store, whole, one = place.store(), Pause("", "2026", "audit"), Pause("Deployment/p", "2026")
    with store.lease() as epoch:
        store.commit(epoch, whole, one)
        assert place.store().load().pauses == {"": whole, "Deployment/p": one}
        store.commit(epoch, Resumed(""))
    assert place.store().load().pauses == {"Deployment/p": one}


@pytest.mark.parametrize("odd", ["half \ud83d", "zero \0", "引号 ' \" \\", "a\nb", "100 %s ?"])
def test_an_id_is_kept_whatever_the_service_put_into_it(place: Place, odd: str) -> None:
    """It is paid for: the one thing that must not happen is that its row cannot be written, read or removed."""
    store = place.store()
    with store.lease() as epoch:
        store.commit(epoch, row(odd))
        assert place.store().load().owned == {f"deployments/{odd}": row(odd)}
        store.commit(epoch, Gone(f"deployments/{odd}"))
    assert place.store().load().owned == {}


def test_commit_returns_the_state_after_the_events(kept: Place) -> None:
    store = kept.store()
    with store.lease() as epoch:
        state = store.commit(epoch, Gone("deployments/p-1"), row("p-2"))
        assert list(store.commit(epoch, intent("2", verb="delete")).intents) == ["1", "2"]
    assert list(state.owned) == ["deployments/p-2"]


def test_the_lineage_stays_and_the_serial_counts(kept: Place) -> None:
    before = kept.store().load()
    store = kept.store()
    with store.lease() as epoch:
        after = store.commit(epoch, row("p-2", Role.NEXT))
    assert (after.lineage, after.serial) == (before.lineage, before.serial + 1)
    assert (kept.store().load().lineage, kept.store().load().serial) == (after.lineage, after.serial)
    assert len(before.lineage) == 32


def test_an_event_that_breaks_a_rule_is_not_recorded(kept: Place) -> None:
    """Nor is any event that came with it: a commit is all or nothing."""
    store = kept.store()
    with store.lease() as epoch, pytest.raises(StateCorrupt, match="two current"):
        store.commit(epoch, Gone("deployments/other"), row("p-3", Role.RETIRED), row("p-2"))
    assert list(kept.store().load().owned) == ["deployments/p-1"]


def test_where_there_is_none_the_state_is_empty_and_stays_away(place: Place) -> None:
    """A plan on a fresh machine creates nothing, not even a folder."""
    before = place.contents()
    assert place.store().load() == State(STAMP)
    assert place.store().header() is None
    assert place.contents() == before
    assert not place.folder.exists()


def test_reading_changes_nothing(kept: Place) -> None:
    """A plan promises to write nothing, not even a time."""
    before = kept.contents()
    kept.store().load()
    kept.store().header()
    assert kept.contents() == before


def test_a_reader_sees_a_state_as_it_was_at_one_moment(kept: Place) -> None:
    """Never half of one commit: the seal would not fit."""
    store, reader, over = kept.store(), kept.store(), threading.Event()

    def read() -> list[int]:
        serials = []
        while not over.is_set():
            serials.append(reader.load().serial)
        return serials

    with store.lease() as epoch, ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        for number in range(40):
            store.commit(epoch, row(outputs={"n": number}), intent(reason=str(number)))
        over.set()
        serials = reading.result()
    assert serials == sorted(serials)
    assert serials


# Who may write ------------------------------------------------------------------------------------------------------


def test_another_process_is_kept_out_and_told_by_whom(place: Place) -> None:
    with holder(place) as held, pytest.raises(StateLocked) as caught, place.store().lease():
        pass
    assert f"process {held.process.pid} on " in caught.value.owner
    assert caught.value.since


def test_reading_does_not_wait_for_a_holder(kept: Place) -> None:
    """A plan must be possible during an apply of hours."""
    with holder(kept):
        assert kept.store().load().owned


def test_a_killed_holder_is_noticed_at_once(place: Place) -> None:
    """A lease that outlives its process would have to be broken by hand."""
    with holder(place) as held:
        held.kill()
        with place.store().lease(**PATIENT) as epoch:
            assert epoch == 2


def test_waiting_ends_when_the_holder_does(place: Place) -> None:
    with holder(place) as held, place.store().lease(wait_s=TERM_S / 2, sleep=lambda seconds: held.kill()) as epoch:
        assert epoch == 2


def test_two_holders_in_one_process_keep_each_other_out(place: Place) -> None:
    with place.store().lease(), pytest.raises(StateLocked), place.store().lease():
        pass


def test_every_holder_has_a_higher_epoch(place: Place) -> None:
    epochs = []
    for _ in range(3):
        with place.store().lease() as epoch:
            epochs.append(epoch)
    assert epochs == [1, 2, 3]


TAKE_TURNS = """
import sys
from reconciler.resource import Slot
from reconciler.state import Owned, Role
from tests.store.places import at
for _ in range(3):
    store = at(sys.argv[1]).store()
    with store.lease(wait_s=240) as epoch:
        store.commit(epoch, Owned(Slot("X/x"), "files", str(epoch), Role.RETIRED, "g", {}))
        print(epoch)
"""


def test_takers_at_the_same_moment_get_epochs_of_their_own(place: Place) -> None:
    """From nothing on: they also race for making the state."""
    takers = [python(TAKE_TURNS, place.word) for _ in range(4)]
    epochs = [int(line) for taker in takers for line in taker.communicate()[0].split()]
    assert sorted(epochs) == list(range(1, 13))
    assert {row.id for row in place.store().load().owned.values()} == {str(number) for number in range(1, 13)}


def test_a_holder_of_old_records_nothing(kept: Place) -> None:
    """A process that wakes up after its successor must not write over what that one recorded."""
    sleeper = kept.store()
    with sleeper.lease() as old:
        pass
    successor = kept.store()
    with successor.lease() as new:
        successor.commit(new, Gone("deployments/p-1"))
    with pytest.raises(StateLost, match="another run took over"):
        sleeper.commit(old, row("p-9"))
    assert kept.store().load().owned == {}


def test_a_new_lease_sees_what_others_recorded(kept: Place) -> None:
    store, other = kept.store(), kept.store()
    with store.lease() as epoch:
        store.commit(epoch)
    with other.lease() as epoch:
        other.commit(epoch, Gone("deployments/p-1"))
    with store.lease() as epoch:
        assert store.commit(epoch).owned == {}


# A holder that lives and sleeps ---------------------------------------------------------------------------------------


def test_a_holder_that_shows_no_life_for_a_whole_term_loses_its_lease(kept: Place) -> None:
    """By what the taker itself has seen, on its own clock."""
    sleeper, ticks = kept.store(), Ticks()
    with sleeper.lease() as old, kept.store(ticks).lease(wait_s=TERM_S, sleep=ticks.sleep) as new:
        assert new == old + 1
        assert ticks.now_s >= TERM_S
        with pytest.raises(StateLost):
            sleeper.commit(old, row("p-9"))
    assert list(kept.store().load().owned) == ["deployments/p-1"]


def test_a_holder_is_not_passed_by_before_the_term_is_over(place: Place) -> None:
    ticks = Ticks()
    with place.store().lease(), pytest.raises(StateLocked):
        place.store(ticks).lease(wait_s=TERM_S - 1, sleep=ticks.sleep).__enter__()


def test_a_holder_that_shows_life_keeps_its_lease(place: Place) -> None:
    """However long somebody waits for it."""
    busy = place.store()
    with busy.lease() as epoch:
        ticks = Ticks(meanwhile=lambda: busy.commit(epoch))
        with pytest.raises(StateLocked):
            place.store(ticks).lease(wait_s=1.5 * TERM_S, sleep=ticks.sleep).__enter__()


def test_many_short_looks_see_as_much_as_one_long_wait(kept: Place) -> None:
    """A loop never waits for a lease, and its next look is a store of its own."""
    sleeper, ticks, sightings = kept.store(), Ticks(), dict[str, contract.Sighting]()

    def looks_in() -> Store:
        store = kept.store(ticks)
        store.sightings = sightings
        return store

    with sleeper.lease() as old:
        for _ in range(3):
            with pytest.raises(StateLocked):
                looks_in().lease().__enter__()
            ticks.sleep(TERM_S / 3 - 1)
        sleeper.commit(old)  # a sign of life: all begins anew
        for _ in range(4):
            with pytest.raises(StateLocked):
                looks_in().lease().__enter__()
            ticks.sleep(TERM_S / 4)
        with looks_in().lease() as new:
            assert new == old + 1


def test_a_holder_that_stirs_at_the_last_moment_keeps_its_lease(place: Place) -> None:
    """The taker has seen enough, looks at its clock for the last time, and then the sleeper wakes up."""
    sleeper = place.store()
    with sleeper.lease() as epoch:

        class Waking(Ticks):
            def __call__(self) -> float:
                if self.now_s >= TERM_S:
                    sleeper.commit(epoch)
                return self.now_s

        ticks = Waking()
        with pytest.raises(StateLocked):
            place.store(ticks).lease(wait_s=TERM_S, sleep=ticks.sleep).__enter__()
        sleeper.commit(epoch, row())


def test_a_stopped_process_loses_its_lease_and_finds_out_when_it_goes_on(place: Place) -> None:
    with holder(place) as held:
        assert held.commit("p-1") == "recorded"
        held.stop()
        ticks = Ticks()
        with place.store(ticks).lease(wait_s=TERM_S, sleep=ticks.sleep) as epoch:
            assert epoch == 2
            held.go_on()
            assert held.commit("p-1") == "StateLost"


def test_of_two_that_wait_for_a_sleeper_only_one_succeeds_it(place: Place) -> None:
    with place.store().lease():
        ticks, late = Ticks(), Ticks()
        with place.store(ticks).lease(wait_s=TERM_S, sleep=ticks.sleep) as epoch:
            assert epoch == 2
            with pytest.raises(StateLocked):
                place.store(late).lease(wait_s=TERM_S - 1, sleep=late.sleep).__enter__()


def test_a_lease_is_fresh_until_somebody_may_have_taken_it(place: Place) -> None:
    """What is sent must be sent by a holder; a laptop that was shut knows by this that it may be none."""
    ticks = Ticks()
    store = place.store(ticks)
    with store.lease() as epoch:
        assert store.fresh_until() == ticks.now_s + TERM_S
        ticks.now_s += TERM_S
        assert store.fresh_until() == ticks.now_s
        store.commit(epoch)
        assert store.fresh_until() == ticks.now_s + TERM_S


def test_a_person_can_end_the_lease_of_a_holder_that_will_not(kept: Place) -> None:
    sleeper = kept.store()
    with sleeper.lease() as old:
        kept.store().unlock(old)
        with pytest.raises(StateLost):
            sleeper.commit(old, row("p-9"))
        with kept.store().lease() as new:
            assert new == old + 2
            with pytest.raises(StateLost):
                kept.store().unlock(old)
    assert list(kept.store().load().owned) == ["deployments/p-1"]


def test_whoever_looks_is_told_whose_state_it_is_and_by_whom_it_is_held(place: Place) -> None:
    """Without knowing its account: a state can be looked at without a key."""
    anybodys = place.store(endpoint="", workspace="")
    assert anybodys.whose() is None
    store = place.store()
    assert store.holder() is None
    with store.lease() as epoch:
        held = place.store().holder()
        assert held is not None
        assert (held.epoch, contract.is_here(held)) == (epoch, True)
    assert anybodys.whose() == STAMP
    assert place.store().holder() is None


def test_the_header_says_whose_state_it_is_and_who_holds_it(place: Place) -> None:
    store = place.store()
    with store.lease() as epoch:
        state = store.commit(epoch)
        header = place.store().header()
    assert header is not None
    assert (header.name, header.epoch, header.serial, header.lineage) == ("support/", 1, 1, state.lineage)
    assert header.holder.startswith("process ")
    assert '"llm-1"' in header.stamp


# The heartbeat --------------------------------------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A heart that beats all the time; what it says on its way out."""
    said: list[Any] = []
    monkeypatch.setattr(contract, "BEAT_S", 0.01)
    monkeypatch.setattr(threading, "excepthook", said.append)
    return said


def beating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_a_lease_beats_by_itself_and_stops_with_it(place: Place, fast: list[Any]) -> None:
    store, seen = place.store(), set()
    with store.lease():
        while len(seen) < 3:
            header = place.store().header()
            assert header is not None
            seen.add(header.beat)
    assert beating() == []
    assert fast == []


def test_beats_do_not_come_between_commits(place: Place, fast: list[Any]) -> None:
    store = place.store()
    with store.lease() as epoch:
        for number in range(30):
            assert store.commit(epoch, row("p", outputs={"n": number})).serial == number + 1


def test_the_heart_stops_when_the_lease_is_lost(place: Place, fast: list[Any]) -> None:
    with place.store().lease() as epoch:
        place.store().unlock(epoch)
        for thread in beating():
            thread.join()
        assert beating() == []


def test_a_heart_that_cannot_beat_says_nothing(place: Place, fast: list[Any]) -> None:
    """The next commit finds out, and can say so to somebody."""
    tried = threading.Event()

    def fail(count: int) -> None:
        if threading.current_thread().name == "lease":
            tried.set()
            raise RuntimeError("odd")

    with every_statement(fail), place.store().lease():
        assert tried.wait(60)
    assert fast == []


FALL_OFF_THE_END = """
import sys
from tests.store.places import at
lease = at(sys.argv[1]).store().lease()
print(lease.__enter__())
"""


def test_a_heart_keeps_no_process_alive(place: Place) -> None:
    command = [sys.executable, "-c", FALL_OFF_THE_END, place.word]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


# What the store would not take ----------------------------------------------------------------------------------------

ANSWER = (intent(phase=IntentPhase.DONE, result_id="p-1"), row())


def refused(place: Place, monkeypatch: pytest.MonkeyPatch, *events: Any, times: int = TRIES) -> Store:
    """A store whose medium refused so many attempts to record an answer."""
    store = place.store()
    with store.lease() as epoch:
        store.commit(epoch, intent())
        commit, left = store.commit, iter(range(times))

        def failing(epoch: int, *events: Any) -> State:
            if next(left, None) is not None:
                raise StateError("no room")
            return commit(epoch, *events)

        monkeypatch.setattr(store, "commit", failing)
        store.record(epoch, *events, sleep=lambda seconds: None)
    return store


def rescued(place: Place) -> list[str]:
    return sorted(path.name for path in place.folder.glob("*.rescue*"))


def test_an_answer_is_recorded_when_the_medium_comes_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(place, monkeypatch, *ANSWER, times=TRIES - 1)
    assert list(place.store().load().owned) == ["deployments/p-1"]
    assert rescued(place) == []


def test_an_answer_that_cannot_be_recorded_waits_in_a_file_for_the_next_lease(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paid for. A plan in between does not take it in: it writes nothing."""
    with pytest.raises(StateError, match=r"no room; what the service answered is in .*\.rescue-"):
        refused(place, monkeypatch, *ANSWER)
    assert len(rescued(place)) == 1
    assert place.store().load().owned == {}
    with place.store().lease():
        assert list(place.store().load().owned) == ["deployments/p-1"]
        assert place.store().load().open_intents() == ()
    assert rescued(place) == []


def test_an_answer_in_a_file_is_left_out_where_its_operation_was_decided(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may have looked for it on the service and found it; and may since have let it go."""
    with pytest.raises(StateError):
        refused(place, monkeypatch, *ANSWER)
    files = {path: path.read_bytes() for path in place.folder.glob("*.rescue*")}
    other = place.store()
    with other.lease() as epoch:
        other.commit(epoch, intent(phase=IntentPhase.ADOPTED, result_id="p-1"), Gone("deployments/p-1"))
    for path, data in files.items():
        path.write_bytes(data)
    with place.store().lease():
        assert place.store().load().owned == {}
    assert rescued(place) == []


def test_an_answer_to_a_holder_that_lost_its_lease_waits_in_a_file(kept: Place) -> None:
    """Its successor looks for the operation, or finds the file: in neither case is it bought again."""
    sleeper = kept.store()
    with sleeper.lease() as old:
        kept.store().unlock(old)
        with pytest.raises(StateLost, match="answered is in"):
            sleeper.record(old, intent(phase=IntentPhase.DONE, result_id="p-2"), row("p-2", Role.NEXT))
    with kept.store().lease():
        assert set(kept.store().load().owned) == {"deployments/p-1", "deployments/p-2"}


def test_a_killed_process_takes_in_an_answer_at_the_latest_the_next_time(place: Place) -> None:
    for number in range(1, 200):
        store, op_id, answer = place.store(), str(number), row(f"p-{number}", Role.RETIRED)
        with store.lease(**PATIENT) as epoch:
            store.commit(epoch, intent(op_id))
        store._left_for_rescue((intent(op_id, phase=IntentPhase.DONE, result_id=answer.id), answer))
        ended = dying_at(number, lambda: place.store().lease(**PATIENT).__enter__())
        with place.store().lease(**PATIENT):
            assert place.store().load().owned[answer.key] == answer
        assert rescued(place) == []
        if ended == 0:
            break
    assert number > 10, "the statements were not seen"


@pytest.mark.parametrize("damage", [b"", b"[[", b"[1]", b'[["owned", "x", "{}"]]', b"\xff"])
def test_an_answer_that_cannot_be_read_is_for_a_person(kept: Place, damage: bytes) -> None:
    """Neither a traceback nor a reason to forget it."""
    path = kept.store()._left_for_rescue(ANSWER)
    path.write_bytes(damage)
    with pytest.raises(StateError, match=r"rescue-.* cannot be read"), kept.store().lease():
        pass
    path.unlink()
    with kept.store().lease():
        pass


def test_an_answer_that_does_not_fit_the_state_is_for_a_person(kept: Place) -> None:
    kept.store()._left_for_rescue((intent(phase=IntentPhase.DONE, result_id="p-2"), row("p-2")))
    with pytest.raises(StateError, match=r"rescue-.* does not fit the state: .* two current"), kept.store().lease():
        pass


# Kills --------------------------------------------------------------------------------------------------------------


def a_first_run(place: Place) -> None:
    store = place.store()
    with store.lease() as epoch:
        store.commit(epoch, *(Owned(Slot("X/x"), "files", str(n), Role.RETIRED, "g", {}) for n in range(2)))
        store.commit(epoch, Gone("files/0"), Gone("files/1"))


def test_killed_at_any_statement_it_leaves_all_or_nothing(place: Place) -> None:
    """From the first lease on a fresh machine to its second commit: the next command opens, reads and writes."""
    for number in range(1, 200):
        place.clear()
        ended = dying_at(number, lambda: a_first_run(place))
        assert len(place.store().load().owned) in (0, 2)
        store = place.store()
        with store.lease(**PATIENT) as epoch:
            assert store.commit(epoch, row()).owned
        assert row().key in place.store().load().owned
        if ended == 0:
            break
    assert number > 10, "the statements were not seen"


# What is no state of ours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stamp", [{"endpoint": "dashscope.aliyuncs.com"}, {"workspace": "llm-2"}])
def test_the_state_of_another_account_is_refused_before_anything_is_read(kept: Place, stamp: dict[str, str]) -> None:
    """Emulator and cloud must never mix: every object would look lost, and be bought again."""
    before = kept.contents()
    with pytest.raises(StateMismatch, match=next(iter(stamp))):
        kept.store(**stamp).load()
    with pytest.raises(StateMismatch, match=next(iter(stamp))), kept.store(**stamp).lease():
        pass
    assert kept.contents() == before


def test_the_state_of_a_newer_program_is_refused_and_left_alone(kept: Place) -> None:
    store = kept.store()
    with store.lease() as epoch:
        kept.claim_version(3)
        before = kept.contents()
        for attempt in (kept.store().load, lambda: kept.store().lease().__enter__(), lambda: store.commit(epoch)):
            with pytest.raises(StateError, match=r"version 3, this program reads 2") as caught:
                attempt()
            assert "newer" in caught.value.hint
        assert kept.contents() == before
        kept.claim_version(2)


@pytest.mark.parametrize(
    "statement",
    [
        "update states set stamp = 'x'",
        "update states set stamp = '{\"odd\": 1}'",
        "update states set stamp = 'null'",
        "update states set lineage = 'x'",
        "update states set serial = serial - 1",
        "update states set seal = ''",
        "update records set body = '{}'",
        "update records set body = replace(body, 'p-1', 'p-2')",
        "update records set key = '2' where kind = 'intent'",
        "update records set kind = 'odd' where kind = 'intent'",
        "delete from records where kind = 'owned'",
        "delete from records",
        "insert into records select state, kind, 'y', body from records where kind = 'owned'",
        "drop table records",
    ],
)
def test_an_edited_state_is_refused_as_damaged(kept: Place, statement: str) -> None:
    """Whoever edits the state by hand gets an error that says so, not a traceback and not a purchase."""
    kept.edit(statement)
    with pytest.raises(StateCorrupt):
        kept.store().load()
    with pytest.raises(StateCorrupt), kept.store().lease() as epoch:
        kept.store().commit(epoch, row("p-2", Role.NEXT))


def test_what_was_not_recorded_is_not_remembered_either(kept: Place) -> None:
    """After a commit that failed, the next one must build on what the medium holds."""
    store = kept.store()

    def fail(count: int) -> None:
        raise MemoryError

    with store.lease() as epoch:
        with every_statement(fail), pytest.raises(MemoryError):
            store.commit(epoch, row("p-2", Role.NEXT))
        assert list(store.commit(epoch).owned) == ["deployments/p-1"]


def test_a_place_is_found_again_by_its_word(kept: Place) -> None:
    """Or the tests of other processes would speak of another place."""
    assert at(kept.word) == kept
    assert replace(kept) == kept
    assert isinstance(kept.store().load().intents["1"], Intent)
