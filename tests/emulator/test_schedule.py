"""Reading and rewriting what was drawn once."""

from __future__ import annotations

from reconciler.emulator.schedule import at, from_json, since, then

LIFE = ((0.0, "PENDING"), (10.0, "RUNNING"), (20.0, "SUCCEEDED"))


def test_answers_at_every_moment() -> None:
    assert [at(LIFE, now_s) for now_s in (-1, 0, 9.9, 10, 19, 20, 1e9)] == [
        *("PENDING", "PENDING", "PENDING", "RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"),
    ]


def test_a_later_event_keeps_the_past_and_replaces_the_future() -> None:
    canceled = then(LIFE, 12.0, (12.0, "CANCELING"), (15.0, "CANCELED"))
    assert canceled == ((0.0, "PENDING"), (10.0, "RUNNING"), (12.0, "CANCELING"), (15.0, "CANCELED"))
    assert [at(canceled, now_s) for now_s in (5, 11)] == [at(LIFE, now_s) for now_s in (5, 11)]


def test_tells_when_something_was_entered_last() -> None:
    assert since(LIFE, "RUNNING") == 10
    assert since(LIFE, "FAILED") is None


def test_comes_back_from_json_as_it_went() -> None:
    assert from_json([list(entry) for entry in LIFE]) == LIFE
