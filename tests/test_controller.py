"""The laws of the loop: what it looks at, when again, and that nothing that befalls one stack befalls another."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.conditions import Report, from_data
from reconciler.controller import Controller, Look, Pace, Verdict, step
from reconciler.errors import StateError
from reconciler.store.fleet import CLAIM_S, SqliteFleet, unpacked

PACE = Pace(quiet_s=60, busy_s=15, first_s=5, longest_s=900)


@dataclass
class Hall:
    """A list of stacks on a clock that is a number, and what looking at each of them comes to."""

    path: Path
    now_s: float = 1000.0
    names: list[str] = field(default_factory=lambda: ["a"])
    comes_to: dict[str, Callable[[Report], Look]] = field(default_factory=dict)
    looked: list[str] = field(default_factory=list)
    told: list[tuple[str, Look]] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)

    def fleet(self, holder: str = "me", term_s: float = CLAIM_S) -> SqliteFleet:
        return SqliteFleet(self.path, holder, term_s=term_s, clock=lambda: self.now_s)

    def look(self, name: str, before: Report) -> Look:
        self.looked.append(name)
        return self.comes_to.get(name, quiet)(before)

    def controller(self, **more: object) -> Controller:
        return Controller(
            **{
                "fleet": self.fleet(),
                "names": lambda: self.names,
                "look": self.look,
                "pace": PACE,
                "rest_s": 0.01,
                "looked": lambda name, look: self.told.append((name, look)),
                "troubled": self.troubles.append,
                "now": lambda: datetime(2026, 11, 2, tzinfo=UTC),
                **more,
            }  # type: ignore[arg-type]
        )

    def once(self) -> list[str]:
        """What one pass over everything that is due looks at."""
        before = len(self.looked)
        self.controller().once()
        return sorted(self.looked[before:])

    def later(self, seconds: float) -> list[str]:
        self.now_s += seconds
        return self.once()

    def report(self, name: str) -> Report:
        data = unpacked(self.fleet().reports()[name])
        assert data is not None
        return from_data(data)


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path / "fleet.db")


def quiet(before: Report) -> Look:
    return Look(replace(before, error="", failures=0), Verdict.QUIET)


def busy(before: Report) -> Look:
    return Look(replace(before, error="", failures=0), Verdict.BUSY)


def failed(before: Report) -> Look:
    return Look(replace(before, error="down", failures=before.failures + 1), Verdict.FAILED)


def stuck(before: Report) -> Look:
    return Look(replace(before, error="bad", failures=before.failures + 1), Verdict.STUCK)


def mistaken(before: Report) -> Look:
    raise ZeroDivisionError("a secret of somebody's")


# When again -----------------------------------------------------------------------------------------------------------


def test_what_is_at_rest_is_looked_at_again_after_the_interval_and_what_goes_on_sooner(hall: Hall) -> None:
    hall.names, hall.comes_to = ["a", "b"], {"b": busy}
    assert hall.once() == ["a", "b"]
    assert hall.later(14) == []
    assert hall.later(1) == ["b"]
    assert hall.later(45) == ["a", "b"]


def test_failures_in_a_row_are_tried_less_and_less_often_up_to_a_bound(hall: Hall) -> None:
    hall.comes_to["a"] = failed
    waited = []
    hall.once()
    for _ in range(10):
        (due_s,) = {hall.fleet().next_due_in_s(["a"])}
        assert due_s is not None
        waited.append(due_s)
        assert hall.later(due_s - 0.5) == []
        assert hall.later(0.5) == ["a"]
    assert waited == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_one_success_forgets_all_failures(hall: Hall) -> None:
    hall.comes_to["a"] = failed
    hall.once()
    hall.later(5)
    hall.comes_to["a"] = quiet
    hall.later(10)
    hall.comes_to["a"] = failed
    assert hall.later(60) == ["a"]
    assert hall.later(5) == ["a"], "as after a first failure"


def test_the_back_off_is_of_the_stack_and_outlives_the_process(hall: Hall) -> None:
    """A controller that is restarted again and again would else hammer on a service that is down."""
    hall.comes_to["a"] = failed
    hall.once()
    hall.later(5)
    assert hall.report("a").failures == 2
    assert hall.later(9) == []
    assert hall.later(1) == ["a"]


def test_what_only_another_declaration_cures_is_not_tried_more_often_for_it(hall: Hall) -> None:
    """It is not backed off either: the next commit may be the cure."""
    hall.comes_to["a"] = stuck
    for _ in range(5):
        hall.once()
        assert hall.fleet().next_due_in_s(["a"]) == 60
        hall.now_s += 60


@pytest.mark.parametrize("failures", [0, 1, 5000])
def test_a_step_is_bounded_whatever_is_counted(failures: int) -> None:
    assert 5 <= step(Look(Report("a", failures=failures), Verdict.FAILED), PACE) <= 900


def test_a_stack_that_was_asked_for_is_looked_at_now(hall: Hall) -> None:
    hall.once()
    hall.fleet().hurry(["a"])
    assert hall.once() == ["a"]
    assert hall.once() == []


# One and the others ---------------------------------------------------------------------------------------------------


def test_a_mistake_of_ours_is_an_error_on_that_stack_and_ends_nothing(hall: Hall) -> None:
    hall.names, hall.comes_to = ["a", "b", "c"], {"b": mistaken}
    assert hall.once() == ["a", "b", "c"]
    assert hall.report("b").error == "internal error: ZeroDivisionError"
    assert (hall.report("b").failures, hall.report("b").looked_at) == (1, "2026-11-02 00:00:00")
    assert [event.reason for event in hall.report("b").events] == ["LookFailed"]
    assert hall.later(5) == ["b"], "and it is backed off like any other failure"
    assert hall.later(5) == []
    assert "secret" not in hall.fleet().reports()["b"]


def test_a_mistake_in_telling_of_a_look_does_not_undo_it(hall: Hall) -> None:
    def deaf(name: str, look: Look) -> None:
        raise OSError("nobody listens")

    hall.controller(looked=deaf).once()
    assert hall.fleet().next_due_in_s(["a"]) == 60
    assert [type(one) for one in hall.troubles] == [OSError]


def test_a_report_that_this_version_cannot_read_is_begun_anew(hall: Hall) -> None:
    hall.once()
    for text in ('{"of": "another version"}', "no JSON", "[]", '{"conditions": 7}', "null"):
        with closing(sqlite3.connect(hall.path)) as db:
            db.execute("update fleet set report = ?", (text,))
            db.commit()
        assert hall.later(60) == ["a"]
        assert hall.report("a") == Report("a")


def test_a_stack_that_is_new_is_looked_at_at_once_and_one_that_left_no_more(hall: Hall) -> None:
    hall.once()
    hall.names = ["b"]
    assert hall.later(1) == ["b"]
    assert hall.later(3600) == ["b"]


def test_no_stacks_are_nothing_to_do(hall: Hall) -> None:
    hall.names = []
    assert hall.once() == []


def test_once_looks_at_each_but_once_however_soon_it_is_due_again(hall: Hall) -> None:
    hall.names = ["a", "b"]
    controller = hall.controller(pace=Pace(quiet_s=0))
    assert controller.once() == 2
    assert sorted(hall.looked) == ["a", "b"]


def test_once_leaves_out_what_another_is_looking_at(hall: Hall) -> None:
    hall.names = ["a", "b"]
    other = hall.fleet("other")
    other.enlist(["a"])
    assert other.claim(["a"])
    assert hall.once() == ["b"]


# Claims ---------------------------------------------------------------------------------------------------------------


def test_a_look_whose_claim_was_lost_is_neither_recorded_nor_told(hall: Hall) -> None:
    """Its process slept beyond the term; what its successor found stands."""

    def passed_by(before: Report) -> Look:
        hall.now_s += CLAIM_S + 1
        other = hall.fleet("heir")
        claim = other.claim(["a"])
        assert claim
        assert other.finish(claim, '{"heir": true}', due_in_s=60)
        return quiet(before)

    hall.comes_to["a"] = passed_by
    assert hall.once() == ["a"]
    assert hall.fleet().reports() == {"a": '{"heir": true}'}
    assert hall.told == []


def test_a_claim_lives_as_long_as_its_look(hall: Hall) -> None:
    renewals: list[bool] = []
    twice = threading.Event()

    class Watched(SqliteFleet):
        def renew(self, claim):  # type: ignore[no-untyped-def]
            if not renewals:
                renewals.append(False)
                raise StateError("away for a moment")
            renewals.append(super().renew(claim))
            if len(renewals) > 2:
                twice.set()
            return renewals[-1]

    fleet = Watched(hall.path, "me", term_s=0.06, clock=lambda: hall.now_s)
    hall.comes_to["a"] = lambda before: (twice.wait(30), quiet(before))[1]
    hall.controller(fleet=fleet).once()
    assert renewals[:3] == [False, True, True], "one that failed is tried again"


def test_a_database_that_goes_away_before_the_end_of_a_look_is_said_and_the_look_repeated(hall: Hall) -> None:
    def gone(before: Report) -> Look:
        hall.path.rename(hall.path.with_suffix(".away"))
        hall.path.write_text("no database " * 100)
        return quiet(before)

    hall.comes_to["a"] = gone
    hall.once()
    assert [type(one) for one in hall.troubles] == [StateError]
    hall.path.with_suffix(".away").rename(hall.path)
    hall.comes_to.clear()
    assert hall.once() == [], "the claim is still ours, and nobody works on it"
    assert hall.later(CLAIM_S + 1) == ["a"]


# The loop -------------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A loop in a thread of its own; `until` waits for something to become true, however long the machine takes."""

    hall: Hall
    stopped: threading.Event
    thread: threading.Thread

    def until(self, true: Callable[[], bool]) -> None:
        pause = threading.Event()
        while not true():
            assert self.thread.is_alive()
            pause.wait(0.005)


@pytest.fixture
def running(hall: Hall) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(**more: object) -> Running:
        stopped = threading.Event()
        thread = threading.Thread(target=hall.controller(**more).run, args=(stopped,), daemon=True)
        thread.start()
        started.append(Running(hall, stopped, thread))
        return started[-1]

    yield start
    for one in started:
        one.stopped.set()
        one.thread.join(60)
        assert not one.thread.is_alive()


def test_a_stack_that_takes_its_time_does_not_hold_up_the_others(hall: Hall, running: Callable[..., Running]) -> None:
    hall.names = ["a", *(f"s{number}" for number in range(10))]
    slow = threading.Event()
    hall.comes_to["a"] = lambda before: (slow.wait(60), quiet(before))[1]
    loop = running(workers=2)
    loop.until(lambda: len(hall.told) == 10)
    assert "a" not in [name for name, _ in hall.told]
    slow.set()
    loop.until(lambda: len(hall.told) == 11)


def test_nothing_is_claimed_for_which_no_hand_is_free(hall: Hall, running: Callable[..., Running]) -> None:
    """Another controller may have one."""
    hall.names = ["a", "b", "c"]
    slow, begun = threading.Event(), threading.Event()
    hall.comes_to["a"] = lambda before: (begun.set(), slow.wait(60), quiet(before))[2]
    loop = running(workers=1)
    loop.until(begun.is_set)
    other = hall.fleet("other")
    assert [other.claim(["b", "c"]) is not None for _ in "bc"] == [True, True]
    slow.set()
    loop.until(lambda: len(hall.told) == 1)
    assert hall.looked == ["a"]


def test_a_loop_that_was_told_to_stop_concludes_its_looks_and_begins_none(
    hall: Hall, running: Callable[..., Running]
) -> None:
    hall.names = ["a", "b", "c"]
    slow, begun = threading.Event(), threading.Event()
    hall.comes_to["a"] = lambda before: (begun.set(), slow.wait(60), quiet(before))[2]
    loop = running(workers=1)
    loop.until(begun.is_set)
    loop.stopped.set()
    slow.set()
    loop.thread.join(60)
    assert [name for name, _ in hall.told] == ["a"]
    assert hall.looked == ["a"]


def test_a_loop_goes_on_after_its_list_was_away(hall: Hall, running: Callable[..., Running]) -> None:
    away = hall.path.with_suffix(".away")
    loop = running()
    loop.until(lambda: len(hall.told) == 1)
    hall.path.rename(away)
    hall.path.write_text("no database " * 100)
    loop.until(lambda: bool(hall.troubles))
    away.rename(hall.path)
    hall.now_s += 60
    loop.until(lambda: len(hall.told) == 2)


def test_a_source_that_is_away_or_a_mistake_in_it_does_not_end_the_loop(
    hall: Hall, running: Callable[..., Running]
) -> None:
    left: list[Exception] = [StateError("away"), RuntimeError("a mistake")]

    def names() -> Sequence[str]:
        if left:
            raise left.pop()
        return ["a"]

    loop = running(names=names, troubled=lambda error: (hall.troubles.append(error), 1 / 0))
    loop.until(lambda: len(hall.told) == 1)
    assert [type(one) for one in hall.troubles] == [RuntimeError, StateError]


def test_stacks_that_come_and_go_are_noticed_while_it_runs(hall: Hall, running: Callable[..., Running]) -> None:
    loop = running()
    loop.until(lambda: len(hall.told) == 1)
    hall.names = ["b"]
    loop.until(lambda: len(hall.told) == 2)
    hall.now_s += 60
    loop.until(lambda: len(hall.told) == 3)
    assert hall.looked == ["a", "b", "b"]


def test_a_stop_before_the_first_look_is_one(hall: Hall) -> None:
    stopped = threading.Event()
    stopped.set()
    hall.controller().run(stopped)
    assert hall.controller().once(stopped) == 0
    assert hall.looked == []
