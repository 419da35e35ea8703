"""The rules between the rows of a state, and the names that must come out the same in every run."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import StateCorrupt
from reconciler.resource import Known, Slot
from reconciler.state import (
    Gone,
    Intent,
    IntentPhase,
    Owned,
    Pause,
    Resumed,
    Role,
    Stamp,
    State,
    canonical,
    event_of,
    generation,
    intent_from,
    owned_from,
    record_of,
    tag,
    to_json,
)

SLOT = Slot("Deployment/p")
STAMP = Stamp("dashscope.aliyuncs.com", "llm-1", "support")


def owned(remote_id: str = "p-1", role: Role = Role.CURRENT, **facts: Any) -> Owned:
    known = {"slot": SLOT, "collection": "deployments", "generation": "g", "last_applied": {"capacity": 4}}
    return Owned(**{**known, "id": remote_id, "role": role, **facts})


def intent(op_id: str = "1", **facts: Any) -> Intent:
    plain: dict[str, Any] = {
        "slot": SLOT, "collection": "deployments", "verb": "create", "generation": "g", "tag": "abcdefgh", "attempt": 0,
        "epoch": 1, "at": "2026-11-02 14:05:00", "fields": {"capacity": 4},
    }  # fmt: skip
    return Intent(op_id, **{**plain, **facts})


# Rules --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.NEXT, Role.CURRENT])
def test_a_slot_has_one_current_and_one_next_object(role: Role) -> None:
    """With two of them nobody could say what a reference resolves to."""
    state = State().fold([owned("p-1", role)])
    with pytest.raises(StateCorrupt, match=f"two {role}"):
        state.fold([owned("p-2", role)])


def test_a_swap_and_its_history_fit_in_one_slot() -> None:
    rows = [owned("a", Role.RETIRED), owned("b", Role.RETIRED), owned("c", Role.CURRENT), owned("d", Role.NEXT)]
    state = State().fold(rows)
    assert state.rows(SLOT) == tuple(rows)
    assert state.row(SLOT, Role.CURRENT) == rows[2]
    assert state.rows(Slot("Deployment/other")) == ()


def test_a_slot_has_one_open_creation() -> None:
    """A second one would be the double purchase that the journal exists to prevent."""
    state = State().fold([intent("1")])
    with pytest.raises(StateCorrupt, match="two open creations"):
        state.fold([intent("2", phase=IntentPhase.UNKNOWN)])
    assert state.fold([intent("2", verb="update")]).open_intents() == (intent("1"), intent("2", verb="update"))


def test_a_promotion_is_one_step_in_any_order_of_its_events() -> None:
    """The rules hold between commits, not between the events of one."""
    state = State().fold([owned("a", Role.CURRENT), owned("b", Role.NEXT)])
    events = [owned("b", Role.CURRENT), owned("a", Role.RETIRED)]
    assert state.fold(events) == state.fold(reversed(events))


def test_a_refused_event_leaves_the_state_as_it_was() -> None:
    state = State().fold([owned("a")])
    with pytest.raises(StateCorrupt):
        state.fold([Gone("nothing"), owned("b")])
    assert state.owned == {"deployments/a": owned("a")}


def test_an_object_that_is_gone_is_no_longer_recorded() -> None:
    assert State().fold([owned("a"), Gone("deployments/a")]).owned == {}


def test_history_uses_nothing() -> None:
    """A retired run must not keep the data of the next one from being let go."""
    state = State().fold([owned("a", Role.RETIRED, uses=("files/f",)), owned("b", uses=("files/f", "files/g"))])
    assert [row.id for row in state.users("files/f")] == ["b"]


def test_only_what_was_made_counts_as_an_attempt() -> None:
    """The attempt is part of the tag: a creation that never happened must be repeated under the same name."""
    phases = list(IntentPhase)
    journal = [intent(str(n), phase=phase, slot=Slot("X/x", str(n))) for n, phase in enumerate(phases)]
    state = State().fold(journal)
    made = [phase for n, phase in enumerate(phases) if state.attempts(Slot("X/x", str(n)), "g")]
    assert made == [IntentPhase.DONE, IntentPhase.ADOPTED]
    assert State(intents={"1": intent(phase=IntentPhase.DONE)}).attempts(SLOT, "another") == 0
    assert State(intents={"1": intent(phase=IntentPhase.DONE, verb="update")}).attempts(SLOT, "g") == 0


def test_a_creation_is_open_until_its_outcome_is_known() -> None:
    undecided = [IntentPhase.INTENT, IntentPhase.UNKNOWN, IntentPhase.NEEDS_HUMAN]
    assert [phase for phase in IntentPhase if intent(phase=phase).is_open] == undecided


def test_what_an_intent_made_is_what_it_said_it_would() -> None:
    """Adoption after a crash must record the same row that the lost answer would have."""
    made = intent(uses=("jobs/j",), deletion="Protect", base="qwen3-8b").owned("p-9", "2026-11-02 14:06:00")
    assert made == owned(
        "p-9", Role.NEXT, uses=("jobs/j",), deletion="Protect", base="qwen3-8b", applied_at="2026-11-02 14:06:00"
    )


# What is held back --------------------------------------------------------------------------------------------------


def test_an_object_is_held_back_by_its_own_pause_or_by_that_of_the_stack() -> None:
    own, whole = Pause("Deployment/p", "2026-11-02", "audit"), Pause("", "2026-11-03")
    state = State().fold([own, whole])
    assert (state.paused("Deployment/p"), state.paused("Deployment/q")) == (own, whole)
    assert state.fold([Resumed("")]).paused("Deployment/q") is None
    assert state.fold([Resumed("Deployment/p")]).paused("Deployment/p") == whole


@pytest.mark.parametrize("address", ["", "Deployment/p", "Dataset/热词"])
def test_a_pause_and_its_end_are_read_as_they_were_written(address: str) -> None:
    """The end of a pause must not be taken for the end of an object that is filed under the same name."""
    for event in (Pause(address, "2026-11-02", "why"), Resumed(address), Gone(address)):
        assert event_of(record_of(event)) == event


# Names --------------------------------------------------------------------------------------------------------------


def test_tags_and_generations_never_change_between_versions_of_this_program() -> None:
    """A lost state finds its objects by recomputing them: another algorithm would orphan all that was ever made."""
    version = generation("deployments", {"model": "qwen3-8b", "capacity": 4})
    assert version == "7c874dfa32a5f40d"
    assert tag(STAMP, SLOT, version, 0) == "jiwii1s3"


@given(st.text(), st.text(), st.integers(0, 9))
def test_a_tag_fits_where_the_service_shows_it_again(name: str, part: str, attempt: int) -> None:
    """A suffix of a deployment is at most eight lower-case letters and digits."""
    assert re.fullmatch("[0-9a-z]{8}", tag(STAMP, Slot(name, part), "g", attempt))


def test_everything_that_makes_a_creation_its_own_is_in_its_tag() -> None:
    """Two creations with one tag would each be taken for the other."""
    tags = [
        tag(STAMP, SLOT, "g", 0),
        tag(STAMP, SLOT, "g", 1),
        tag(STAMP, SLOT, "h", 0),
        tag(STAMP, Slot("Deployment/p", "x"), "g", 0),
        tag(STAMP, Slot("Deployment/q"), "g", 0),
        tag(replace(STAMP, stack="other"), SLOT, "g", 0),
        tag(replace(STAMP, environment="prod"), SLOT, "g", 0),
    ]
    assert len(set(tags)) == len(tags)


def test_a_tag_does_not_depend_on_where_the_service_listens() -> None:
    """A lost state may be rebuilt through another host name of the same account."""
    assert tag(replace(STAMP, endpoint="elsewhere", workspace=""), SLOT, "g", 0) == tag(STAMP, SLOT, "g", 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (1, 1.0),
        (4.0, Decimal("4.000")),
        (1.6e-5, Decimal("0.000016")),
        ([1, 2], (1, 2)),
        (Known(SLOT, "id", digest="x"), Known(SLOT, "id", digest="y")),
    ],
)
def test_equal_values_have_one_text(one: Any, other: Any) -> None:
    """Every spelling in which the service or a file gives a value back must compare as the same."""
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        (1, "1"),
        ([1, 2], [2, 1]),
        (None, ""),
        ({}, []),
        (Known(SLOT, "id"), Known(SLOT, "model")),
    ],
)
def test_different_values_have_different_texts(one: Any, other: Any) -> None:
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf"), Decimal("nan"), Decimal("1e400")])
def test_numbers_that_are_none_have_a_text_too(odd: Any) -> None:
    """Python's parser takes NaN and 1e400 from an answer of the service: a comparison must not fall over them."""
    assert canonical({"learning_rate": odd}) == canonical({"learning_rate": odd})
    assert canonical(odd) != canonical(1)


# Rows as text -------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(FIELDS, FIELDS, st.sampled_from(Role), st.lists(st.text(), max_size=2), st.text())
def test_a_row_is_read_as_it_was_written(fields: Any, outputs: Any, role: Role, uses: list[str], failure: str) -> None:
    row = owned("p", role, last_applied=fields, outputs=outputs, uses=tuple(uses), failure=failure)
    assert owned_from(to_json(row)) == row


@given(FIELDS, st.sampled_from(IntentPhase), st.lists(st.text(), max_size=2))
def test_a_journal_row_is_read_as_it_was_written(fields: Any, phase: IntentPhase, before: list[str]) -> None:
    row = intent(fields=fields, phase=phase, known_before=tuple(before), uses=("a",))
    assert intent_from(to_json(row)) == row


def test_half_a_character_in_an_answer_can_be_recorded() -> None:
    r"""JSON can say "\ud800", UTF-8 cannot: the row of a paid object must not be lost over the name of a file."""
    assert to_json(owned(outputs={"name": json.loads(r'"\ud800"')})).encode()


@pytest.mark.parametrize("body", ["", "{", "[]", "1", "null", '{"slot": 1}', '{"slot": ["a", "b", "c"]}'])
def test_what_is_no_row_is_refused_as_such(body: str) -> None:
    """A damaged state is an error with a hint, never a traceback."""
    with pytest.raises(StateCorrupt):
        owned_from(body)
    with pytest.raises(StateCorrupt):
        intent_from(body)


@pytest.mark.parametrize("wrong", [{"role": "boss"}, {"surprise": 1}, {"uses": 1}, {"slot": "ab/c"}])
def test_a_row_with_a_wrong_field_is_refused(wrong: dict[str, Any]) -> None:
    """A row of a newer program, or an edited one, must not be half understood."""
    body = json.loads(to_json(owned())) | wrong
    with pytest.raises(StateCorrupt):
        owned_from(json.dumps(body))


# The index ----------------------------------------------------------------------------------------------------------

SLOTS = st.sampled_from([Slot("Deployment/p"), Slot("Deployment/q"), Slot("Dataset/d", "train")])
KEYS = st.sampled_from(["1", "2", "3"])
EVENTS = st.one_of(
    st.builds(owned, KEYS, st.sampled_from(Role), slot=SLOTS),
    st.builds(Gone, KEYS.map("deployments/{}".format)),
    st.builds(
        intent, KEYS, slot=SLOTS, phase=st.sampled_from(IntentPhase), verb=st.sampled_from(["create", "delete"]),
        result_id=st.sampled_from(["", "1", "2"]),
    ),
)  # fmt: skip


by_key = attrgetter("key")


@given(st.lists(st.lists(EVENTS, max_size=3), max_size=12))
def test_what_is_found_does_not_depend_on_the_way_there(commits: list[list[Any]]) -> None:
    """Event by event a state keeps its index up to date; one that is made as a whole makes it anew."""
    state = State()
    for events in commits:
        with suppress(StateCorrupt):
            state = state.fold(events)
    anew = State(owned=state.owned, intents=state.intents)
    assert state == anew
    assert state.open_intents() == anew.open_intents()
    assert {intent.op_id for intent in state.open_intents()} == {i.op_id for i in state.intents.values() if i.is_open}
    for slot in {row.slot for row in state.owned.values()} | {SLOT}:
        there = sorted((row for row in state.owned.values() if row.slot == slot), key=by_key)
        assert sorted(state.rows(slot), key=by_key) == sorted(anew.rows(slot), key=by_key) == there
        assert state.attempts(slot, "g") == anew.attempts(slot, "g")
    for row in state.owned.values():
        made = [i for i in state.intents.values() if i.verb == "create" and i.result_id == row.id]
        assert (state.maker(row) in made) if made else (state.maker(row) is None)


@given(st.lists(EVENTS, max_size=12))
def test_a_state_that_is_made_as_a_whole_is_checked_as_every_event_is(events: list[Any]) -> None:
    rows = {event.key: event for event in events if isinstance(event, Owned)}
    intents = {event.op_id: event for event in events if isinstance(event, Intent)}

    def made(*ways: Any) -> list[bool]:
        came = []
        for way in ways:
            try:
                came.append(bool(way()))
            except StateCorrupt:
                came.append(False)
        return came

    whole, folded = made(
        lambda: State(owned=rows, intents=intents), lambda: State().fold([*rows.values(), *intents.values()])
    )
    assert whole == folded
