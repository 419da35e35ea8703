"""Who looks at which stack next: one contract for a file and for a database, with claimants that race."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateError
from reconciler.store.fleet import CLAIM_S, SILENT_S, Claim, Fleet, SqliteFleet
from reconciler.store.postgres import PostgresFleet
from tests.store.conftest import Server
from tests.store.places import Base, File, Place, dying_at, pages
from tests.store.wire import Line, Pooler, listening


class Ahead(PostgresFleet):
    """On a database whose clock a test moves."""

    clock: Callable[[], float]

    def _now(self, db: Any) -> float:
        return super()._now(db) + self.clock()


class Hall:
    """Where claimants meet, each as a process of its own would; time is a number."""

    def __init__(self, place: Place) -> None:
        self.place, self.now_s = place, 1000.0
        if isinstance(place, File):
            place.folder.mkdir(exist_ok=True)

    def claimant(self, holder: str = "me", scope: str = "", term_s: float = CLAIM_S) -> Fleet:
        if isinstance(self.place, File):
            return SqliteFleet(self.path, holder, scope=scope, term_s=term_s, clock=lambda: self.now_s)
        fleet = Ahead(self.place.dsn, holder, scope=scope, term_s=term_s)
        fleet.clock = lambda: self.now_s
        return fleet

    @property
    def path(self) -> Path:
        return self.place.folder / "fleet.db"


@pytest.fixture
def hall(place: Place) -> Hall:
    return Hall(place)


def taken(fleet: Fleet, names: list[str]) -> Claim:
    claim = fleet.claim(names)
    assert claim is not None
    return claim


def test_a_stack_is_held_by_one_and_due_again_when_its_look_said(hall: Hall) -> None:
    one, other = hall.claimant("one"), hall.claimant("other")
    one.enlist(["a"])
    claim = taken(one, ["a"])
    assert claim == Claim("a", 1, "")
    assert other.claim(["a"]) is None
    assert one.finish(claim, "all well", due_in_s=30)
    hall.now_s += 29
    assert other.claim(["a"]) is None
    hall.now_s += 2
    assert taken(other, ["a"]) == Claim("a", 2, "all well")


def test_nothing_is_claimed_that_was_not_asked_for(hall: Hall) -> None:
    fleet = hall.claimant()
    fleet.enlist(["a", "b"])
    assert fleet.claim([]) is None
    assert fleet.claim(["c"]) is None
    assert taken(fleet, ["b", "c"]).name == "b"


def test_what_has_been_due_longest_comes_first(hall: Hall) -> None:
    """Otherwise stacks with an early name could keep the others from being looked at."""
    fleet = hall.claimant()
    for name in ("c", "a", "b"):
        fleet.enlist([name])
        hall.now_s += 1
    assert [taken(fleet, ["a", "b", "c"]).name for _ in "abc"] == ["c", "a", "b"]


def test_a_report_comes_back_as_it_was_given_also_where_half_of_it_is_as_before(hall: Hall) -> None:
    fleet = hall.claimant()
    fleet.enlist(["a"])
    for report in ("1\nlong", "2\nlong", "3\nlonger", "4", "5\nlong", "6\n"):
        claim = taken(fleet, ["a"])
        assert fleet.finish(claim, report, due_in_s=0)
        assert fleet.reports() == {"a": report.rstrip("\n")}
        assert taken(fleet, ["a"]).report == fleet.reports()["a"]
        hall.now_s += CLAIM_S + 1


def test_a_look_at_rest_writes_what_changed_of_its_report_and_not_the_lists(tmp_path: Path) -> None:
    """What is long is the same from look to look, and of a thousand objects a third of a megabyte."""
    fleet = SqliteFleet(tmp_path / "fleet.db", "me")
    fleet.enlist(["a"])
    lists = "x" * 300_000
    fleet.finish(taken(fleet, ["a"]), f"1\n{lists}", due_in_s=0)
    before = pages(fleet.path)
    fleet.finish(taken(fleet, ["a"]), f"2\n{lists}", due_in_s=0)
    assert fleet.reports() == {"a": f"2\n{lists}"}
    assert sum(one != other for one, other in zip(before, pages(fleet.path), strict=True)) <= 3


def test_a_claim_that_was_not_renewed_is_anybodys_after_one_term(hall: Hall) -> None:
    dead, heir = hall.claimant("dead"), hall.claimant("heir")
    dead.enlist(["a"])
    taken(dead, ["a"])
    hall.now_s += CLAIM_S - 1
    assert heir.claim(["a"]) is None
    hall.now_s += 2
    assert taken(heir, ["a"]).epoch == 2


def test_a_renewed_claim_lives_on(hall: Hall) -> None:
    slow, other = hall.claimant("slow"), hall.claimant("other")
    slow.enlist(["a"])
    claim = taken(slow, ["a"])
    for _ in range(3):
        hall.now_s += CLAIM_S - 1
        assert slow.renew(claim)
        assert other.claim(["a"]) is None


def test_whoever_was_passed_by_neither_renews_nor_finishes(hall: Hall) -> None:
    """A process that slept must not overwrite what its successor found, nor free its claim."""
    asleep, heir = hall.claimant("asleep"), hall.claimant("heir")
    asleep.enlist(["a"])
    old = taken(asleep, ["a"])
    hall.now_s += CLAIM_S + 1
    new = taken(heir, ["a"])
    assert not asleep.renew(old)
    assert not asleep.finish(old, "of long ago", due_in_s=0)
    assert heir.finish(new, "of now", due_in_s=60)
    assert not asleep.finish(old, "of long ago", due_in_s=0)
    assert heir.reports() == {"a": "of now"}


def test_a_renewal_that_comes_after_the_end_holds_nothing(hall: Hall) -> None:
    """It was on its way when the look ended: the stack would be kept from everybody for a term."""
    fleet = hall.claimant()
    fleet.enlist(["a"])
    claim = taken(fleet, ["a"])
    assert fleet.finish(claim, "", due_in_s=5)
    assert not fleet.renew(claim)
    assert fleet.next_due_in_s(["a"]) == pytest.approx(5, abs=2)


def test_a_stack_that_was_hurried_during_its_look_is_looked_at_once_more(hall: Hall) -> None:
    """The look may have read what was there before."""
    fleet = hall.claimant()
    fleet.enlist(["a", "b"])
    claim = taken(fleet, ["a"])
    fleet.hurry(["a"])
    assert fleet.claim(["a"]) is None, "but never by two at a time"
    fleet.finish(claim, "", due_in_s=900)
    again = taken(fleet, ["a"])
    fleet.finish(again, "", due_in_s=900)
    assert fleet.claim(["a"]) is None
    fleet.hurry([])


def test_how_long_until_there_is_something_to_do(hall: Hall) -> None:
    fleet = hall.claimant()
    assert fleet.next_due_in_s([]) is None
    assert fleet.next_due_in_s(["a"]) is None
    fleet.enlist(["a", "b"])
    assert fleet.next_due_in_s(["a", "b"]) == 0
    fleet.finish(taken(fleet, ["a"]), "", due_in_s=500)
    assert fleet.next_due_in_s(["a"]) == pytest.approx(500, abs=2)
    taken(fleet, ["b"])
    assert fleet.next_due_in_s(["a", "b"]) == pytest.approx(CLAIM_S, abs=2), "what somebody holds is free after a term"


def test_fleets_of_different_names_do_not_meet(hall: Hall) -> None:
    """Both call the folder that they look at `.`, and neither means the other's."""
    one, other = hall.claimant(scope="one"), hall.claimant(scope="other")
    one.enlist(["."])
    other.enlist(["."])
    claim = taken(one, ["."])
    taken(other, ["."])
    one.finish(claim, "of one", due_in_s=60)
    one.hurry(["."])
    assert (one.reports(), other.reports()) == ({".": "of one"}, {".": ""})
    assert other.claim(["."]) is None


def test_of_many_that_race_each_gets_another(hall: Hall) -> None:
    """Threads with a claimant each, all at the same moment: no stack twice, and none left over."""
    names = [f"s{number:02}" for number in range(24)]
    hall.claimant().enlist(names)
    got: list[str] = []
    begin = threading.Barrier(4)

    def race(number: int) -> None:
        fleet = hall.claimant(f"racer {number}")
        begin.wait()
        while claim := fleet.claim(names):
            got.append(claim.name)

    racers = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    left = hall.claimant()  # one who met the lock of another at the very end went home early
    while claim := left.claim(names):
        got.append(claim.name)
    assert sorted(got) == names


def test_racing_to_enlist_makes_one_row_each(hall: Hall) -> None:
    """The first processes of a fleet start together, on a database that has no table yet."""
    begin, wrong = threading.Barrier(4), []

    def start(number: int) -> None:
        fleet = hall.claimant(f"starter {number}")
        begin.wait()
        try:
            fleet.enlist(["a", "b"])
        except StateError as error:
            wrong.append(error)

    starters = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for one in starters:
        one.start()
    for one in starters:
        one.join()
    assert wrong == []
    assert hall.claimant().reports() == {"a": "", "b": ""}


def test_where_nothing_is_due_nothing_is_written(hall: Hall) -> None:
    """A loop asks once a second, for months."""
    fleet = hall.claimant()
    fleet.enlist(["a"])
    fleet.finish(taken(fleet, ["a"]), "", due_in_s=60)
    before = hall.place.contents()
    fleet.enlist(["a"])
    assert fleet.claim(["a"]) is None
    fleet.next_due_in_s(["a"])
    fleet.reports()
    assert hall.place.contents() == before


# A file ---------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_list_says_that_it_may_be_moved_away(file: File) -> None:
    file.folder.mkdir()
    fleet = Hall(file).claimant()
    (file.folder / "fleet.db").write_text("rows and rows " * 100)
    with pytest.raises(StateError, match=r"fleet\.db cannot be used") as caught:
        fleet.enlist(["a"])
    assert "moved away" in caught.value.hint


def test_a_process_that_is_killed_while_it_writes_leaves_a_list(file: File) -> None:
    """At every statement, one after another, until one run gets through."""
    hall = Hall(file)
    hall.claimant().enlist(["a"])

    def look() -> None:
        fleet = hall.claimant("doomed")
        if claim := fleet.claim(["a"]):
            fleet.finish(claim, "done", due_in_s=0)

    for number in range(1, 30):
        ended = dying_at(number, look)
        hall.now_s += CLAIM_S + 1
        survivor = hall.claimant()
        claim = taken(survivor, ["a"])
        survivor.finish(claim, claim.report, due_in_s=0)
        if ended == 0:
            break
    else:
        pytest.fail("it never got through")


# A file, whose stacks are at rest -----------------------------------------------------------------------------------


@pytest.fixture
def alone(file: File) -> tuple[Hall, Fleet]:
    """Who looked last at a stack, and found nothing new."""
    hall = Hall(file)
    fleet = hall.claimant()
    fleet.enlist(["a"])
    assert fleet.finish(taken(fleet, ["a"]), "1\nlists", due_in_s=60, at_rest=True)
    hall.now_s += 61
    return hall, fleet


def test_a_look_that_finds_nothing_new_writes_nothing(alone: tuple[Hall, Fleet]) -> None:
    hall, fleet = alone
    before, facts = hall.place.contents(), hall.path.stat()
    for number in range(2, 5):
        assert fleet.next_due_in_s(["a"]) == 0
        assert fleet.queue() == (1, 1, 0)
        claim = taken(fleet, ["a"])
        assert claim == Claim("a", 1, f"{number - 1}\nlists")
        assert (fleet.queue(), fleet.claim(["a"])) == ((1, 0, 1), None)
        assert fleet.finish(claim, f"{number}\nlists", due_in_s=60, at_rest=True)
        assert fleet.reports() == {"a": f"{number}\nlists"}
        assert fleet.due_in_s() == {"a": 60}
        assert fleet.claim(["a"]) is None
        hall.now_s += 61
    assert hall.place.contents() == before
    assert hall.path.stat() == facts
    assert hall.claimant("another").reports() == {"a": "1\nlists"}, "the last that had something to tell"


def test_now_and_then_a_look_at_rest_is_told_all_the_same(alone: tuple[Hall, Fleet]) -> None:
    """Who reads the list from outside must be able to tell rest from death."""
    hall, fleet = alone
    began, other = hall.now_s, hall.claimant("other")
    for number in range(2, 100):
        assert fleet.finish(taken(fleet, ["a"]), f"{number}\nlists", due_in_s=60, at_rest=True)
        if other.reports() != {"a": "1\nlists"}:
            break
        hall.now_s += 61
    assert other.reports() == {"a": f"{number}\nlists"}
    assert SILENT_S - 61 <= hall.now_s - began <= SILENT_S
    hall.now_s += 61
    assert fleet.finish(taken(fleet, ["a"]), "later\nlists", due_in_s=60, at_rest=True)
    assert other.reports() == {"a": f"{number}\nlists"}, "and then there is silence again"


def test_what_is_new_at_last_is_written_for_all(alone: tuple[Hall, Fleet]) -> None:
    hall, fleet = alone
    assert fleet.finish(taken(fleet, ["a"]), "2\nlists", due_in_s=60, at_rest=True)
    hall.now_s += 61
    assert fleet.finish(taken(fleet, ["a"]), "3\nmore", due_in_s=15)
    other = hall.claimant("other")
    assert (other.reports(), other.due_in_s()) == ({"a": "3\nmore"}, {"a": 15})
    assert other.claim(["a"]) is None


def test_others_may_claim_what_one_has_to_itself_which_is_passed_by_then(alone: tuple[Hall, Fleet]) -> None:
    hall, fleet = alone
    claim, other = taken(fleet, ["a"]), hall.claimant("other")
    theirs = taken(other, ["a"])
    assert not fleet.renew(claim)
    assert not fleet.finish(claim, "2\nlists", due_in_s=60, at_rest=True)
    assert not fleet.finish(claim, "2\nmore", due_in_s=60)
    assert other.finish(theirs, "of the other\nlists", due_in_s=60)
    assert fleet.reports() == {"a": "of the other\nlists"}
    assert (fleet.claim(["a"]), fleet.due_in_s()) == (None, {"a": 60})


def test_a_look_that_takes_long_is_told_to_the_others(alone: tuple[Hall, Fleet]) -> None:
    """It may be at work: a second one would only wait for the state."""
    hall, fleet = alone
    claim = taken(fleet, ["a"])
    assert fleet.renew(claim)
    assert hall.claimant("other").claim(["a"]) is None
    assert fleet.finish(claim, "2\nlists", due_in_s=60, at_rest=True)
    assert hall.claimant("other").reports() == {"a": "2\nlists"}


def test_a_stack_at_rest_that_is_asked_for_is_looked_at_once_more_for_all_to_see(alone: tuple[Hall, Fleet]) -> None:
    hall, fleet = alone
    claim, other = taken(fleet, ["a"]), hall.claimant("other")
    other.hurry(["a"])
    assert fleet.claim(["a"]) is None, "but never by two at a time"
    assert fleet.finish(claim, "2\nlists", due_in_s=60, at_rest=True)
    again = taken(fleet, ["a"])
    assert (again.epoch, other.claim(["a"])) == (2, None)
    assert fleet.finish(again, "3\nlists", due_in_s=60, at_rest=True)
    assert fleet.claim(["a"]) is None
    assert other.reports() == {"a": "3\nlists"}


def test_a_process_that_begins_anew_finds_all_due(alone: tuple[Hall, Fleet]) -> None:
    """What the one before it kept to itself is lost with it, at no more than the price of a look."""
    hall, fleet = alone
    assert fleet.finish(taken(fleet, ["a"]), "2\nlists", due_in_s=60, at_rest=True)
    assert taken(hall.claimant("heir"), ["a"]) == Claim("a", 2, "1\nlists")


# A database -----------------------------------------------------------------------------------------------------------


def names_of(base: Base) -> list[str]:
    return [name for (name,) in base.ask("select name from fleet order by name")]


def test_a_table_beside_the_states_neither_makes_nor_breaks_them(base: Base) -> None:
    """Either may be there first."""
    hall = Hall(base)
    hall.claimant().enlist(["a"])
    store = base.store()
    assert store.header() is None
    with store.lease():
        pass
    hall.claimant().enlist(["b"])
    assert names_of(base) == ["a", "b"]
    base.clear()
    with base.store().lease():
        pass
    hall.claimant().enlist(["c"])
    assert names_of(base) == ["c"]


def test_a_restart_of_the_server_costs_no_more_than_one_try(base: Base, server: Server) -> None:
    fleet = Hall(base).claimant()
    fleet.enlist(["a", "b"])
    claim = taken(fleet, ["a"])
    server.stop()
    with pytest.raises(StateError, match="cannot be used"):
        fleet.renew(claim)
    server.start()
    assert fleet.renew(claim)
    assert fleet.finish(claim, "after", due_in_s=60)
    assert fleet.reports() == {"a": "after", "b": ""}


def test_a_connection_that_the_server_closed_meanwhile_is_made_again_unnoticed(base: Base) -> None:
    fleet = Hall(base).claimant()
    fleet.enlist(["a"])
    base.ask("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
             " and datname = current_database()")  # fmt: skip
    assert taken(fleet, ["a"]).name == "a"


def test_a_table_that_somebody_dropped_is_made_again(base: Base) -> None:
    """One try fails; what it left half done must not fail all that follow."""
    fleet = Hall(base).claimant()
    fleet.enlist(["a"])
    base.edit("drop table fleet")
    with pytest.raises(StateError):
        fleet.enlist(["a"])
    fleet.enlist(["a"])
    assert fleet.reports() == {"a": ""}


def test_one_connection_serves_every_thread_and_keeps_nothing_open(base: Base) -> None:
    """A database has room for so many connections, and an open transaction would hold back its cleaning."""
    fleet = Hall(base).claimant()
    names = [f"s{number}" for number in range(8)]
    fleet.enlist(names)
    threads = [threading.Thread(target=lambda: fleet.claim(names)) for _ in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = base.ask("select state from pg_stat_activity where application_name = 'reconciler'"
                     " and datname = current_database()")  # fmt: skip
    assert found == [("idle",)]


def test_a_pooler_that_gives_sessions_away_is_good_enough(base: Base, server: Server, tmp_path: Path) -> None:
    """Nothing is kept in a session; only the leases of the states need one (docs/state.md)."""
    with tempfile.TemporaryDirectory(prefix="pool-") as folder, listening(
        Path(folder), Pooler(server.folder).serve
    ):  # fmt: skip
        ways = [PostgresFleet(f"{base.dsn} host={folder}", f"by pool {number}") for number in range(2)]
        ways[0].enlist(["a", "b"])
        claims = [taken(way, ["a", "b"]) for way in ways]
        assert {claim.name for claim in claims} == {"a", "b"}
        assert all(way.finish(claim, "", due_in_s=60) for way, claim in zip(ways, claims, strict=True))


@pytest.mark.parametrize("what", ["answer", "request"])
def test_a_claim_whose_answer_was_lost_is_free_again_after_a_term(what: str, base: Base, server: Server) -> None:
    """Done or not, nobody works on it: it must not be lost to everybody."""
    hall = Hall(base)
    hall.now_s = 0.0
    hall.claimant().enlist(["a"])
    line = Line(server.folder)
    with tempfile.TemporaryDirectory(prefix="line-") as folder, listening(Path(folder), line.serve):
        cut = PostgresFleet(f"{base.dsn} host={folder}", "cut off")
        cut.reports()
        line.lose(what)
        with pytest.raises(StateError):
            cut.claim(["a"])
        hall.now_s += CLAIM_S + 2
        heir = hall.claimant()
        while (claim := heir.claim(["a"])) is None:
            pass  # until the server has noticed that its client is gone
        assert claim.epoch == {"answer": 2, "request": 1}[what]


def test_no_message_holds_a_password(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = PostgresFleet("host=/nowhere user=u password=hunter2 dbname=d", "me")
    with pytest.raises(StateError) as caught:
        fleet.enlist(["a"])
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(StateError, match="is not a connection string"):
        PostgresFleet("postgres://u:hunter2@h:x y/d?", "me")


def test_times_are_those_of_the_database(base: Base) -> None:
    """Claimants whose own clocks differ agree on what is due, and on when a claim ends."""
    fleet = PostgresFleet(base.dsn, "me")
    fleet.enlist(["a"])
    fleet.finish(taken(fleet, ["a"]), "", due_in_s=3600)
    ((ahead,),) = base.ask("select due - extract(epoch from clock_timestamp()) from fleet")
    assert 3500 < ahead <= 3600
