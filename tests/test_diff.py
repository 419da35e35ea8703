"""What differs between what is declared and what is there: only what was written, however the service spells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.diff import Change, Compared, differences
from reconciler.errors import Position
from reconciler.resource import Known, Mark, Observed, Part, Phase, Slot

SLOT = Slot("Gadget/g")
MARKS: Mapping[str, frozenset[Mark]] = {
    "model": frozenset({Mark.IMMUTABLE}),
    "training": frozenset({Mark.IMMUTABLE}),
    "hyper": frozenset({Mark.IMMUTABLE}),
    "capacity": frozenset(),
    "limits": frozenset(),
    "words": frozenset({Mark.CLOSED}),
}


def diff(
    desired: Mapping[str, Any],
    *,
    applied: Mapping[str, Any] | None = None,
    seen: Mapping[str, Any] | None = None,
    ignore: tuple[str, ...] = (),
    foreign: tuple[str, ...] = (),
) -> list[tuple[str, Any, Any]]:
    """The changes as (path, before, after). Without `seen` the object is not there."""
    observed = None if seen is None else Observed("g-1", Phase.READY, "OK", fields=seen)
    rules = Compared(MARKS, frozenset(ignore), frozenset(foreign))
    changes = differences(Part(SLOT, desired), desired, applied or {}, observed, rules)
    return [(".".join(change.path), change.before, change.after) for change in changes]


class Asked(dict[str, Position]):
    """Where fields were written, and which of them somebody asked for."""

    def __init__(self, *names: str) -> None:
        super().__init__({name: Position("a.yaml", line, 1) for line, name in enumerate(names, 1)})
        self.asked: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.append(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Position:
        self.asked.append(name)
        return super().__getitem__(name)


def test_where_a_field_was_written_is_asked_for_only_where_it_differs() -> None:
    """The answer takes reading its document once more."""
    declared, places = {"model": "a", "capacity": 4}, Asked("model", "capacity")
    seen = Observed("g-1", Phase.READY, "OK", fields={"capacity": 8})
    (change,) = differences(Part(SLOT, declared, at=places), declared, {"model": "a"}, seen, Compared(MARKS))
    assert (change.at, places.asked) == (Position("a.yaml", 2, 1), ["capacity"])


# Whose field it is --------------------------------------------------------------------------------------------------


def test_a_mutable_field_is_compared_with_what_the_service_shows() -> None:
    """Somebody scaled it in the console: what was last applied says nothing about that."""
    assert diff({"capacity": 4}, applied={"capacity": 4}, seen={"capacity": 8}) == [("capacity", 8, 4)]


def test_what_no_call_can_change_is_compared_with_what_was_bought() -> None:
    """A new paid run must never follow from how the service spells an old one today."""
    assert diff({"model": "a"}, applied={"model": "a"}, seen={"model": "a-2026-latest"}) == []
    assert diff({"model": "b"}, applied={"model": "a"}, seen={"model": "b"}) == [("model", "a", "b")]


def test_what_the_service_does_not_say_is_compared_with_what_was_last_applied() -> None:
    assert diff({"capacity": 4}, applied={"capacity": 4}, seen={}) == []
    assert diff({"capacity": 4}, applied={"capacity": 2}, seen={}) == [("capacity", 2, 4)]


def test_what_was_never_recorded_is_compared_with_what_the_service_shows() -> None:
    """An author who writes down the value that holds anyway changes nothing."""
    assert diff({"model": "a"}, applied={}, seen={"model": "a"}) == []


def test_what_nobody_knows_is_a_change() -> None:
    assert diff({"capacity": 4}, seen={}) == [("capacity", None, 4)]
    assert diff({"capacity": 4}) == [("capacity", None, 4)]


def test_an_ignored_field_never_differs() -> None:
    assert diff({"capacity": 4, "model": "b"}, applied={"model": "a"}, seen={}, ignore=("capacity", "model")) == []


def test_a_field_that_others_changed_differs_although_nobody_shows_how() -> None:
    """The words of a phrase list are never returned: that a new job made them is all there is to see."""
    words = {"词": {"weight": 4}}
    assert diff({"words": words}, applied={"words": words}, seen={}, foreign=("words",)) == [("words", None, words)]


# Mappings -----------------------------------------------------------------------------------------------------------


def test_an_open_mapping_is_ours_by_key() -> None:
    """The service fills in what was not sent: only the keys the author wrote count."""
    seen = {"limits": {"rpm": 10, "tpm": 5}}
    assert diff({"limits": {"rpm": 10}}, seen=seen) == []
    assert diff({"limits": {"rpm": 20}}, seen=seen) == [("limits.rpm", 10, 20)]


def test_a_key_that_the_author_dropped_is_released() -> None:
    assert diff({"hyper": {"n_epochs": 1}}, applied={"hyper": {"n_epochs": 1, "batch_size": 8}}) == []


def test_a_key_that_the_author_added_is_a_change_against_what_was_bought() -> None:
    applied = {"hyper": {"n_epochs": 1}}
    wanted = {"hyper": {"n_epochs": 1, "lora_rank": 8}}
    assert diff(wanted, applied=applied, seen={}) == [("hyper.lora_rank", None, 8)]


def test_a_key_the_service_keeps_to_itself_is_compared_with_what_was_last_applied() -> None:
    """Half an echo is no drift: else the missing half would be sent again for ever."""
    applied, seen = {"limits": {"rpm": 10, "tpm": 5}}, {"limits": {"rpm": 10}}
    assert diff({"limits": {"rpm": 10, "tpm": 5}}, applied=applied, seen=seen) == []
    assert diff({"limits": {"rpm": 10, "tpm": 6}}, applied=applied, seen=seen) == [("limits.tpm", 5, 6)]


def test_writing_down_what_the_service_chose_buys_nothing() -> None:
    """The service shows the rank it trained with; an author who adds it to the manifest asks for nothing new."""
    wanted = {"hyper": {"n_epochs": 1, "lora_rank": 8}}
    assert diff(wanted, applied={"hyper": {"n_epochs": 1}}, seen={"hyper": {"n_epochs": 1, "lora_rank": 8}}) == []


def test_a_closed_mapping_is_ours_as_a_whole() -> None:
    """A word that the author removed must go; so must one that somebody else added."""
    seen = {"words": {"a": {"weight": 4}, "b": {"weight": 1}}}
    wanted = {"words": {"a": {"weight": 5}, "c": {"weight": 2}}}
    assert diff(wanted, applied=wanted, seen=seen) == [
        ("words.a.weight", 4, 5),
        ("words.b", {"weight": 1}, None),
        ("words.c", None, {"weight": 2}),
    ]


def test_also_what_has_nothing_in_common_differs_field_by_field() -> None:
    """Somebody replaced every word: each that went and each that came is told."""
    seen, wanted = {"words": {"a": {"weight": 4}, "b": {"weight": 1}}}, {"words": {"c": {"weight": 2}}}
    assert diff(wanted, seen=seen) == [
        ("words.a", {"weight": 4}, None),
        ("words.b", {"weight": 1}, None),
        ("words.c", None, {"weight": 2}),
    ]


def test_the_entries_of_a_closed_mapping_are_ours_by_key() -> None:
    """The service may add a language to a word, or not repeat the one it was given."""
    seen = {"words": {"a": {"weight": 4, "lang": "zh"}, "b": {"weight": 1}}}
    wanted = {"words": {"a": {"weight": 4}, "b": {"weight": 1, "lang": "en"}}}
    assert diff(wanted, applied=wanted, seen=seen) == []


@pytest.mark.parametrize("name", ["__init__", "root['x']", "a.b", "", "'", '"', "[0]", "词", "root"])
def test_any_key_can_differ(name: str) -> None:
    """Keys are text out of a manifest; none may mean something to the library that compares them."""
    assert diff({"words": {name: {"weight": 4}}}, seen={"words": {}}) == [(f"words.{name}", None, {"weight": 4})]
    assert diff({"words": {}}, seen={"words": {name: {"weight": 4}}}) == [(f"words.{name}", {"weight": 4}, None)]
    changed = diff({"words": {name: {"weight": 4}}}, seen={"words": {name: {"weight": 1}}})
    assert changed == [(f"words.{name}.weight", 1, 4)]


# Values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "before"),
    [(1, 1.0), (1.6e-5, 0.000016), (("a", "b"), ["a", "b"]), ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}), ([], ())],
)
def test_another_spelling_is_no_change(after: Any, before: Any) -> None:
    assert diff({"hyper": after}, applied={"hyper": before}) == []
    assert diff({"hyper": {"x": after}}, applied={"hyper": {"x": before}}) == []


@pytest.mark.parametrize(
    ("after", "before"),
    [(1, 2), (True, False), (True, 1), ("a", "b"), (["a", "b"], ["b", "a"]), ([1], [1, 2]), ({"a": 1}, 1),
     (1, {"a": 1}), (0, None), ("", None), (False, 0), ("1", 1)],
)  # fmt: skip
def test_another_value_is_a_change_wherever_it_stands(after: Any, before: Any) -> None:
    """The comparison that finds a difference and the one that tells where it is must never disagree."""
    assert diff({"hyper": after}, applied={"hyper": before})
    assert diff({"hyper": {"x": after}}, applied={"hyper": {"x": before}})


def test_a_reference_that_is_not_known_yet_differs_from_everything() -> None:
    known = Known(Slot("FineTuneJob/j"), "model")
    assert diff({"model": known}, applied={"model": "qwen3-8b"}) == [("model", "qwen3-8b", known)]
    assert diff({"training": (known,)}, applied={"training": ["f"]}) == [("training", ["f"], (known,))]


def test_changes_come_in_field_order_each_with_its_place() -> None:
    """The author reads them beside the manifest."""
    at = {"model": Position("a.yaml", 3, 1), "capacity": Position("a.yaml", 5, 1)}
    fields = {"model": "b", "capacity": 4}
    found = differences(Part(SLOT, fields, at), fields, {"model": "a", "capacity": 2}, None, Compared(MARKS))
    assert found == (
        Change(("model",), "a", "b", Position("a.yaml", 3, 1)),
        Change(("capacity",), 2, 4, Position("a.yaml", 5, 1)),
    )


# Laws ---------------------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(MARKS)), VALUES, max_size=4)


@given(FIELDS, FIELDS)
def test_what_was_applied_and_is_seen_is_no_difference(fields: dict[str, Any], extra: dict[str, Any]) -> None:
    """Whatever else the service shows: a field that the author did not write is not ours."""
    assert diff(fields, applied={**extra, **fields}, seen={**extra, **fields}) == []


@given(FIELDS, FIELDS)
def test_a_silent_service_changes_nothing(fields: dict[str, Any], applied: dict[str, Any]) -> None:
    assert diff(fields, applied=fields, seen={}) == []
    assert bool(diff(fields, applied=applied, seen={})) == bool(diff(fields, applied=applied))


@given(FIELDS, FIELDS, FIELDS)
def test_only_written_fields_change(fields: dict[str, Any], applied: dict[str, Any], seen: dict[str, Any]) -> None:
    changed = {path.partition(".")[0] for path, _, _ in diff(fields, applied=applied, seen=seen)}
    assert changed <= fields.keys()
