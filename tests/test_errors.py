"""The errors keep their facts, and several outcomes come to the worst of them."""

from __future__ import annotations

from itertools import permutations

import pytest

from reconciler import errors
from reconciler.errors import ManifestError, Position, Problem, StateLocked, Throttled, worst

WORST_FIRST = (7, 8, 1, 5, 4, 3, 6, 2, 0)


def test_several_outcomes_come_to_the_worst_of_them() -> None:
    """A script sees one number: an undecided purchase must not hide behind a harmless failure."""
    for place, code in enumerate(WORST_FIRST):
        for better in WORST_FIRST[place:]:
            assert worst([better, code, better]) == code


def test_the_order_of_outcomes_does_not_matter() -> None:
    assert {worst(codes) for codes in permutations((0, 6, 3, 5))} == {5}


def test_nothing_done_is_a_success() -> None:
    assert worst([]) == 0


@pytest.mark.parametrize(
    ("name", "code"),
    {
        "UsageError": 64, "Refused": 3, "StalePlan": 4, "StateLocked": 4, "StateMismatch": 8, "StateCorrupt": 1,
        "NotAuthorised": 8, "Rejected": 5, "NotFound": 5, "Conflict": 5, "Throttled": 5, "Unavailable": 1,
        "NeverSent": 1, "SourceError": 1, "OutcomeUnknown": 7, "Ambiguous": 7,
    }.items(),
)  # fmt: skip
def test_every_error_stands_for_its_exit_code(name: str, code: int) -> None:
    """The command line promises these numbers to scripts."""
    assert getattr(errors, name).exit_code == code


def test_mistakes_are_told_in_file_order_and_those_without_a_place_last() -> None:
    """An author walks through a file once, from top to bottom."""
    first, second, third = Position("a.yaml", 2, 1), Position("a.yaml", 10, 1), Position("b.yaml", 1, 1)
    given = [Problem("nowhere"), Problem("c", third), Problem("b", second), Problem("a", first)]
    assert [problem.what for problem in ManifestError(given).problems] == ["a", "b", "c", "nowhere"]


@pytest.mark.parametrize(("count", "said"), [(0, "0 problems"), (1, "1 problem "), (2, "2 problems")])
def test_mistakes_are_counted(count: int, said: str) -> None:
    assert said in str(ManifestError([Problem(str(number)) for number in range(count)]))


def test_a_problem_names_its_place_what_is_wrong_and_what_to_write() -> None:
    assert str(Problem("no such field", Position("a.yaml", 3, 5), "leave it out")) == (
        "a.yaml:3:5  no such field (leave it out)"
    )


def test_only_a_rate_is_worth_waiting_for() -> None:
    """429 has two meanings: later, and never."""
    assert Throttled("too fast", quota=False).retryable
    assert not Throttled("too many jobs", quota=True).retryable


def test_a_lock_names_its_holder() -> None:
    error = StateLocked("process 7 on box", "noon")
    assert (error.owner, error.since) == ("process 7 on box", "noon")
    assert "process 7 on box" in str(error)
