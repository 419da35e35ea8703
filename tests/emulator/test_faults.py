"""How rules are read, and which calls a rule meets: values in, values out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.emulator.app import OPERATIONS
from reconciler.emulator.faults import EFFECTS, RULES_MAX, Rule, parse

GET = {"operation": "jobs.get"}
REFUSED = {**GET, "refuse": {}}
EVERYTHING = {
    "name": "all at once",
    "operation": "deployments.*",
    "nth": [1, 3],
    "from": 1,
    "every": 1,
    "probability": 0.5,
    "seed": 7,
    "times": 2,
    "hold": {"real_s": 0.5, "moment": "after"},
    "drop": {"moment": "before", "how": "close"},
    "cut": {"after_bytes": 9, "part": "head", "how": "close"},
    "drip": {"bytes_per_s": 10},
    "endless": True,
    "answer": {"status": 502, "body": "html", "retry_after": 3, "retry_after_date_s": -5, "location": "/elsewhere"},
    "hide": {"reads": 3},
    "pages": {"shift": "insert", "total": -1},
    "edit": {"set": {"output.status": "ODD", "output.flux": [1, {"a": None}]}, "remove": ["output.plan"]},
    "fate": {"statuses": [[0, "PENDING"], [60, "ODD"]], "ready_capacity": [[0, 4]], "code": "C", "message": "m"},
    "date_offset_s": -3600,
}


def met(rule: dict[str, Any], calls: int = 12, seed: int = 0) -> list[int]:
    """The numbers of the calls that a rule meets, fired as it goes."""
    parsed, fired = Rule.model_validate({**REFUSED, **rule}), 0
    numbers = []
    for number in range(1, calls + 1):
        if parsed.meets(number, fired=fired, seed=seed):
            numbers.append(number)
            fired += 1
    return numbers


# Reading


def test_a_rule_with_everything_is_read_and_can_be_kept() -> None:
    """What lies in the database is the rule as JSON, so nothing of it may be lost on the way."""
    (rule,) = parse([EVERYTHING], OPERATIONS)
    assert set(rule.effects) == {*EFFECTS} - {"refuse", "throttle"}
    assert Rule.model_validate_json(rule.model_dump_json(by_alias=True, exclude_defaults=True)) == rule


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_operation_can_have_a_fault(operation: str) -> None:
    assert parse([{"operation": operation, "refuse": {}}], OPERATIONS)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({**GET, "refuze": {}}, "faults[0].refuze: unknown; did you mean 'refuse'?"),
        ({**REFUSED, "From": 2}, "faults[0].From: unknown; did you mean 'from'?"),
        ({**REFUSED, "from_": 2}, "faults[0].from_: unknown; did you mean 'from'?"),
        ({**GET, "hold": {"reals": 1}}, "faults[0].hold.reals: unknown; did you mean 'real_s'?"),
        ({**GET, "answer": {"stauts": 500}}, "faults[0].answer.stauts: unknown; did you mean 'status'?"),
        ({**GET, "edit": {"delete": []}}, "faults[0].edit.delete: unknown"),
        ({"operation": "job.get", "refuse": {}}, "no operation is called 'job.get'; did you mean 'jobs.get'?"),
        ({"operation": "qqq*", "refuse": {}}, "faults[0].operation: no operation is called 'qqq*'"),
        ({"refuse": {}}, "faults[0].operation: field required"),
        (GET, f"faults[0]: has no effect; one is needed of {', '.join(EFFECTS)}"),
        ({**REFUSED, "throttle": "rate"}, "faults[0]: takes one of refuse, throttle and answer"),
        ({**GET, "throttle": "speed"}, "faults[0].throttle: input should be 'rate' or 'quota'"),
        ({**GET, "drop": {"moment": "during"}}, "faults[0].drop.moment: input should be 'before' or 'after'"),
        ({**GET, "endless": False}, "faults[0].endless: input should be True"),
        ({**GET, "hold": {}}, "faults[0].hold: takes either real_s or emulated_s"),
        ({**GET, "hold": {"real_s": 1, "emulated_s": 1}}, "faults[0].hold: takes either real_s or emulated_s"),
        ({**GET, "hide": {}}, "faults[0].hide: takes either emulated_s or reads"),
        ({**GET, "hide": {"emulated_s": 1, "reads": 1}}, "faults[0].hide: takes either emulated_s or reads"),
        ({**GET, "answer": {"body": "html", "text": "x"}}, "faults[0].answer: takes either body or text"),
        ({**GET, "answer": {"status": 204, "text": "x"}}, "faults[0].answer: has status 204, which has no body"),
        ({**GET, "answer": {"status": 304, "body": "kept"}}, "faults[0].answer: has status 304, which has no body"),
        ({**GET, "answer": {"status": 101}}, "faults[0].answer.status: input should be greater than or equal to 200"),
        ({**GET, "refuse": {"body": "kept"}}, "faults[0].refuse.body: input should be 'error', 'garbage', 'html'"),
        ({**GET, "refuse": {"retry_after": "1\r\nSet-Cookie: a"}}, "faults[0].refuse.retry_after: takes printable"),
        ({**GET, "refuse": {"location": "/我"}}, "faults[0].refuse.location: takes printable ASCII"),
        ({**GET, "fate": {"statuses": []}}, "faults[0].fate.statuses: list should have at least 1 item"),
        ({**GET, "fate": {"statuses": [[9, "A"], [1, "B"]]}}, "faults[0].fate: must be in order of time"),
        ({**GET, "fate": {"statuses": [["A", 1]]}}, "faults[0].fate.statuses[0][0]: input should be a valid number"),
        ({**REFUSED, "nth": 0}, "faults[0].nth[0]: input should be greater than or equal to 1"),
        ({**REFUSED, "nth": []}, "faults[0].nth: list should have at least 1 item"),
        ({**REFUSED, "nth": "1"}, "faults[0].nth[0]: input should be a valid integer"),
        ({**REFUSED, "every": 0}, "faults[0].every: input should be greater than or equal to 1"),
        ({**REFUSED, "times": True}, "faults[0].times: input should be a valid integer"),
        ({**REFUSED, "probability": 1.5}, "faults[0].probability: input should be less than or equal to 1"),
        ({**REFUSED, "probability": float("nan")}, "faults[0]: Out of range float values"),
        ({**REFUSED, ("a", "b"): 1}, "faults[0]: keys must be str"),
        ("jobs.get", "faults[0]: input should be an object"),
        (None, "faults[0]: input should be an object"),
    ],
)
def test_a_mistake_is_named_with_its_place(rule: Any, problem: str) -> None:
    """A misspelt rule that never fires would make a test pass for the wrong reason."""
    with pytest.raises(ValueError, match="faults") as caught:
        parse([rule], OPERATIONS)
    assert problem in str(caught.value)


def test_every_mistake_of_every_rule_is_named_at_once() -> None:
    with pytest.raises(ValueError, match="flux") as caught:
        parse([{**REFUSED, "flux": 1, "every": 0}, REFUSED, {"operation": "x"}], OPERATIONS)
    assert [problem.split(":")[0] for problem in str(caught.value).split("; ") if problem.startswith("faults")] == [
        "faults[0].every",
        "faults[0].flux",
        "faults[2]",
    ]


@pytest.mark.parametrize("rules", [None, {}, "", REFUSED, [REFUSED] * (RULES_MAX + 1)], ids=str)
def test_rules_are_a_list_with_an_end(rules: Any) -> None:
    with pytest.raises(ValueError, match="takes a list of at most 1000 rules"):
        parse(rules, OPERATIONS)


_words = st.sampled_from([*Rule.model_fields, "from", "status", "moment", "statuses", "emulated_s", "body", "set"])
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["jobs.get"])
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words | st.text(max_size=3), inner, max_size=4),
)


@settings(max_examples=150)
@given(_values)
def test_whatever_comes_is_read_or_refused_in_words(rules: Any) -> None:
    """The control route and the scenario file hand over what they were given."""
    try:
        parse(rules, OPERATIONS)
    except ValueError as error:
        assert str(error)  # noqa: PT017  # either outcome is right, nothing else is


# Meeting


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ({}, [*range(1, 13)]),
        ({"nth": 2}, [2]),
        ({"nth": [2, 5]}, [2, 5]),
        ({"from": 10}, [10, 11, 12]),
        ({"every": 5}, [5, 10]),
        ({"times": 2}, [1, 2]),
        ({"from": 4, "every": 3, "times": 2}, [6, 9]),
        ({"nth": [2, 3], "every": 2}, [2]),
        ({"probability": 0}, []),
    ],
)
def test_conditions_count_from_one_and_must_all_hold(rule: dict[str, Any], numbers: list[int]) -> None:
    assert met(rule) == numbers


def test_chance_is_the_same_for_the_same_seed() -> None:
    """A failure that a seed has found must come back with it, whatever the other rules did meanwhile."""
    half = {"probability": 0.5}
    first = met(half, calls=200, seed=1)
    assert 60 < len(first) < 140
    assert first == met(half, calls=200, seed=1) != met(half, calls=200, seed=2)
    own = {**half, "seed": 5}
    assert met(own, calls=200, seed=1) == met(own, calls=200, seed=2) != first
    assert met({**half, "name": "another"}, calls=200, seed=1) != first
