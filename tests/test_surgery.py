"""What a person may do to the state: every act is journalled, and none of them lets a thing be made twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import catalogue
from reconciler.engine import operate
from reconciler.errors import ReconcilerError, Refused, UsageError
from reconciler.kinds import collections
from reconciler.resource import Document, Lifecycle, Match, Metadata, Observed, Phase, Slot, Spec
from reconciler.state import PERSON, Event, Intent, IntentPhase, Owned, Pause, Role, Stamp, State, event_of, record_of
from reconciler.surgery import (
    Deed,
    absent,
    adopt,
    candidates,
    differs,
    held,
    history,
    move,
    overlaid,
    pause,
    remove,
    renamed,
    resume,
    slot_named,
)
from tests.desk import Desk, lines
from tests.test_kinds import hotwords

STAMP = Stamp("emulator:1", "", "desk")
DEED = Deed("op-9", 3, "2026-11-02 15:00:00", "because")
COLLECTIONS = collections(catalogue.load().for_profile("2026"))
P, J = Slot("Deployment/p"), Slot("FineTuneJob/j")
SENT = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}


def row(slot: Slot = P, remote_id: str = "p-1", role: Role = Role.CURRENT, **facts: Any) -> Owned:
    collection = {"Deployment": "deployments", "FineTuneJob": "jobs", "Dataset": "files"}[slot.address.split("/")[0]]
    return Owned(slot, collection, remote_id, role, "g", {}, **facts)


def intent(slot: Slot = P, op_id: str = "op-1", phase: IntentPhase = IntentPhase.UNKNOWN, **facts: Any) -> Intent:
    made = Intent(op_id, slot, "deployments", "create", "g", "abcdefgh", 0, 1, "2026-11-02 14:05:00", SENT, phase=phase)
    return replace(made, **facts)


def state(*rows: Event) -> State:
    return State(STAMP).fold(rows)


def seen(remote_id: str = "qwen3-8b-abcdefgh", **fields: Any) -> Observed:
    return Observed(remote_id, Phase.READY, "RUNNING", {**SENT, **fields})


# Moving and forgetting ----------------------------------------------------------------------------------------------


def test_a_moved_object_keeps_its_history_and_its_old_name_never_gives_its_mark_again() -> None:
    before = state(row(), row(remote_id="p-0", role=Role.RETIRED), intent(phase=IntentPhase.DONE))
    after = before.fold(move(before, P, Slot("Deployment/q"), DEED))
    assert {one.slot for one in after.owned.values()} == {Slot("Deployment/q")}
    assert after.attempts(P, "g") == 1, "declared again, the old name is the second attempt"
    assert [entry.verb for entry in history(after, Slot("Deployment/q"))] == ["create", "move"]
    assert [entry.verb for entry in history(after, P)] == ["create"]
    (entry,) = (one for one in after.intents.values() if one.verb == "move")
    assert (entry.by, entry.reason, entry.epoch, entry.phase) == (PERSON, "because", 3, IntentPhase.DONE)


def test_an_address_moves_with_all_its_parts() -> None:
    parts = [Slot("Dataset/d", name) for name in ("train", "validation")]
    before = state(*(row(slot, f"f-{slot.part}") for slot in parts))
    after = before.fold(move(before, Slot("Dataset/d"), Slot("Dataset/e"), DEED))
    assert {str(one.slot) for one in after.owned.values()} == {"Dataset/e:train", "Dataset/e:validation"}
    assert len({one.op_id for one in after.intents.values()}) == 2


def test_what_was_made_from_a_moved_object_still_is() -> None:
    before = state(row(J, "ft-1"), row(uses=("jobs/ft-1",)))
    after = before.fold(move(before, J, Slot("FineTuneJob/k"), DEED))
    assert [one.id for one in after.users("jobs/ft-1")] == ["p-1"]


@pytest.mark.parametrize(
    ("source", "target", "error", "said"),
    [
        ("Deployment/x", "Deployment/y", UsageError, "holds nothing"),
        ("Deployment/p", "FineTuneJob/p", UsageError, "different kinds"),
        ("Deployment/p", "Deployment/p", UsageError, "already"),
        ("Deployment/p", "Deployment/q", Refused, "already holds q-1"),
        ("Deployment/o", "Deployment/n", Refused, "open operation, op-1"),
        ("Deployment/p", "Deployment/m", Refused, "open operation, op-2"),
        ("Dataset/d", "Dataset/e:train", UsageError, "several parts"),
    ],
)
def test_a_move_that_would_lose_something_is_refused(
    source: str, target: str, error: type[ReconcilerError], said: str
) -> None:
    before = state(
        row(), row(Slot("Deployment/q"), "q-1"), row(Slot("Deployment/o"), "o-1"),
        row(Slot("Dataset/d", "train"), "f-1"),
        intent(Slot("Deployment/o")), intent(Slot("Deployment/m"), "op-2"),
    )  # fmt: skip
    with pytest.raises(error, match=said):
        move(before, slot_named(source), slot_named(target), DEED)


def test_a_forgotten_object_leaves_its_trace() -> None:
    before = state(row(), row(remote_id="p-0", role=Role.RETIRED))
    after = before.fold(remove(before, P, DEED))
    assert after.owned == {}
    assert [(one.verb, one.known_before) for one in history(after)] == [("remove", ("p-0",)), ("remove", ("p-1",))]


def test_nothing_is_forgotten_while_its_outcome_is_open() -> None:
    with pytest.raises(Refused, match="op-1"):
        remove(state(row(), intent()), P, DEED)


def test_one_part_is_forgotten_and_no_other() -> None:
    before = state(*(row(Slot("Dataset/d", name), f"f-{name}") for name in ("a:b", "c")))
    assert [one.id for one in held(before, slot_named("Dataset/d:a:b"))] == ["f-a:b"]
    assert len(held(before, slot_named("Dataset/d"))) == 2
    with pytest.raises(UsageError, match="holds nothing"):
        held(before, slot_named("Dataset/d:a"))


@pytest.mark.parametrize("word", ["", "p", "/p", "Deployment/", ":train"])
def test_a_word_that_names_no_object_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="names no object"):
        slot_named(word)


# Renaming by manifest -----------------------------------------------------------------------------------------------


def renaming(desk: Desk, *others: dict[str, Any]) -> None:
    desk.declare(hotwords("new") | {"metadata": {"name": "new", "movedFrom": "w"}}, *others)


def test_a_renamed_document_keeps_its_object_without_a_request(desk: Desk) -> None:
    """The plan says so, the apply records it, and the journal tells the whole story under the new name."""
    desk.declare(hotwords())
    desk.apply()
    renaming(desk)
    plan = desk.plan()
    assert lines(plan) == []
    assert plan.moves == ((Slot("HotwordTable/new"), Slot("HotwordTable/w")),)
    assert not plan.is_empty, "whoever skips an apply because of it would lose the name, and buy anew later"
    desk.apply()
    after = desk.state()
    assert [one.slot.address for one in after.owned.values()] == ["HotwordTable/new"]
    assert [one.verb for one in history(after, Slot("HotwordTable/new"))] == ["create", "move"]
    assert desk.emulator.operations() == ["vocabularies.create"]
    assert desk.plan().is_empty


def test_a_name_that_is_still_declared_keeps_what_it_has(desk: Desk) -> None:
    """Two documents and one object: the second is a copy, not a new name."""
    desk.declare(hotwords())
    desk.apply()
    renaming(desk, hotwords())
    assert lines(desk.plan()) == ["+ create HotwordTable/new"]


def test_a_name_with_an_object_of_its_own_takes_no_other(desk: Desk) -> None:
    """movedFrom may stay in a manifest for good, also when the old name is used again."""
    desk.declare(hotwords(), hotwords("new"))
    desk.apply()
    renaming(desk)
    plan = desk.plan()
    assert lines(plan) == []
    assert [note.about for note in plan.notes] == ["HotwordTable/w"], "still ours, and declared nowhere"


def test_while_a_creation_of_the_former_name_is_open_none_is_made_under_the_new(desk: Desk) -> None:
    """It may have happened, and would be bought again."""
    desk.declare(hotwords())
    opened = intent(Slot("HotwordTable/w"), collection="vocabularies", phase=IntentPhase.NEEDS_HUMAN)
    with desk.session() as session, session.store.lease() as epoch:
        session.store.commit(epoch, opened)
    renaming(desk)
    assert ("HotwordTable/new", 7) in [(op.slot.address, op.code) for op in desk.plan().blocked]


# Open operations ----------------------------------------------------------------------------------------------------


def decided(before: State, shown: Observed, reason: str = "") -> State:
    deed = replace(DEED, reason=reason)
    return before.fold(adopt(before, before.intents["op-1"], COLLECTIONS["deployments"], shown, deed))


def test_what_a_person_adopts_is_ours_and_says_who_said_so() -> None:
    after = decided(state(intent()), seen())
    (made,) = after.owned.values()
    assert (made.id, made.role, made.inferred, made.last_applied) == (seen().id, Role.NEXT, False, SENT)
    closed = after.intents["op-1"]
    assert (closed.phase, closed.by, closed.result_id) == (IntentPhase.ADOPTED, PERSON, seen().id)
    assert after.attempts(P, "g") == 1


def test_without_our_mark_it_is_ours_by_a_persons_word() -> None:
    """The same fields, and no mark: letting it go later needs a word of its own."""
    (made,) = decided(state(intent()), seen("qwen3-8b-other")).owned.values()
    assert made.inferred


def test_what_differs_from_what_was_sent_needs_a_reason_and_is_recorded_as_it_is() -> None:
    """Recorded as sent, the difference would never be planned."""
    other = seen("qwen3-32b-other", model="qwen3-32b")
    assert differs(intent(), other) == ("model",)
    with pytest.raises(Refused, match="model") as refused:
        decided(state(intent()), other)
    assert "--reason" in refused.value.hint
    (made,) = decided(state(intent()), other, "I made it in the console").owned.values()
    assert made.last_applied["model"] == "qwen3-32b"


def test_the_object_of_another_slot_is_not_adopted() -> None:
    before = state(intent(), row(Slot("Deployment/q"), seen().id))
    with pytest.raises(Refused, match="belongs to Deployment/q"):
        decided(before, seen())


def test_a_failed_attempt_that_waited_is_history_once_another_is_adopted() -> None:
    """A slot has one next object."""
    after = decided(state(intent(), row(role=Role.NEXT, failure="no")), seen())
    assert after.owned["deployments/p-1"].role is Role.RETIRED


def test_what_the_service_never_shows_is_set_again() -> None:
    """Nobody knows the words of a phrase list: recorded as sent, wrong ones would stay for good."""
    sent = {"targetModel": "paraformer-v1", "words": {"词": {"weight": 2}}}
    opened = intent(Slot("HotwordTable/w"), collection="phrases", fields=sent)
    shown = Observed("p-9", Phase.READY, "SUCCEEDED", {"targetModel": "paraformer-v1"})
    before = state(opened)
    after = before.fold(adopt(before, opened, COLLECTIONS["phrases"], shown, DEED))
    assert after.owned["phrases/p-9"].last_applied == {"targetModel": "paraformer-v1"}


def test_an_update_made_nothing_that_could_be_adopted() -> None:
    with pytest.raises(Refused, match="update"):
        decided(state(intent(verb="update")), seen())


@pytest.mark.parametrize("phase", [phase for phase in IntentPhase if not replace(intent(), phase=phase).is_open])
def test_a_closed_operation_stays_as_it_ended(phase: IntentPhase) -> None:
    before = state(intent(phase=phase))
    with pytest.raises(UsageError, match="not open"):
        decided(before, seen(), "I know better")
    with pytest.raises(UsageError, match="not open"):
        absent(before.intents["op-1"], DEED)


def test_absence_needs_a_reason_and_is_the_persons() -> None:
    """It counts as no loss of ours: the tool may still try again by itself once."""
    with pytest.raises(UsageError, match="reason"):
        absent(intent(), replace(DEED, reason="  "))
    after = state(intent()).fold(absent(intent(), DEED))
    assert (after.intents["op-1"].phase, after.intents["op-1"].reason) == (IntentPhase.ABSENT, "because")
    assert after.losses(P, "g") == 0
    assert after.open_intents() == ()


def test_candidates_are_nobodys_and_new_the_marked_one_first() -> None:
    shown = {one.id: one for one in (seen("a-aaaaaaaa"), seen(), seen("b-bbbbbbbb"), seen("c-cccccccc"), seen("d"))}
    before = state(intent(known_before=("b-bbbbbbbb",)), row(Slot("Deployment/q"), "c-cccccccc"))
    found = candidates(before, before.intents["op-1"], COLLECTIONS["deployments"], shown)
    assert [(one.seen.id, one.match) for one in found] == [(seen().id, Match.STRONG), ("a-aaaaaaaa", Match.WEAK)]


# Laws ---------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["Deployment/p", "Deployment/q", "Deployment/r"])
ACTS = st.lists(st.tuples(st.sampled_from(["move", "remove", "adopt", "absent"]), NAMES, NAMES), max_size=12)


@given(ACTS)
def test_whatever_is_done_the_state_stays_sound_and_the_journal_only_grows(acts: list[tuple[str, str, str]]) -> None:
    """Each act folds into a valid state or is refused; what it records can be read back; no entry is ever lost."""
    now = state(row(), row(Slot("Deployment/q"), "q-1"), intent(Slot("Deployment/r")))
    for number, (act, one, other) in enumerate(acts):
        deed, slot = replace(DEED, op_id=f"op-{number + 10}"), slot_named(one)
        pending = next((i for i in now.open_intents() if i.slot == slot), intent(phase=IntentPhase.DONE))
        try:
            events = {
                "move": lambda: move(now, slot, slot_named(other), deed),  # noqa: B023  # called at once
                "remove": lambda: remove(now, slot, deed),  # noqa: B023
                "adopt": lambda: adopt(now, pending, COLLECTIONS["deployments"], seen(), deed),  # noqa: B023
                "absent": lambda: absent(pending, deed),  # noqa: B023
            }[act]()
        except ReconcilerError:
            continue
        assert [event_of(record_of(event)) for event in events] == list(events)
        after = now.fold(events)
        assert now.intents.keys() <= after.intents.keys()
        now = after


@given(st.recursive(st.integers() | st.text(), lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3)))
def test_what_is_overlaid_has_the_fields_it_had(value: Any) -> None:
    """The service may show more than was written: that stays the service's."""
    fields = {"a": value, "b": 1}
    assert overlaid(fields, {}) == fields
    assert overlaid(fields, fields) == fields
    assert overlaid(fields, {"c": value}) == fields


# Holding back ---------------------------------------------------------------------------------------------------------

HELD = Pause("Deployment/p", "2026-11-02 15:00:00", "because")


def test_who_pauses_and_who_resumes_is_journalled_with_the_reason() -> None:
    before = state(row())
    paused = before.fold(pause(before, ["Deployment/p", ""], DEED))
    assert paused.pauses == {"Deployment/p": HELD, "": Pause("", "2026-11-02 15:00:00", "because")}
    after = paused.fold(resume(paused, ["Deployment/p", ""], replace(DEED, op_id="op-a")))
    assert after.pauses == {}
    told = [(one.verb, one.slot.address, one.by, one.reason) for one in history(after)]
    assert told == [(verb, name, PERSON, "because") for verb in ("pause", "resume") for name in ("Deployment/p", "")]


def test_a_second_pause_neither_moves_the_first_nor_writes_anything() -> None:
    """Since when it is held back is a fact; the second word would hide the first one's reason."""
    paused = state(HELD)
    assert pause(paused, ["Deployment/p"], replace(DEED, at="2027-01-01 00:00:00", reason="")) == ()


@pytest.mark.parametrize(
    ("held", "ended", "hint"),
    [
        ((), "", "nothing is"),
        ((HELD,), "", "reconciler resume Deployment/p"),
        ((Pause("", "2026"),), "Deployment/p", "reconciler resume"),
    ],
)
def test_what_is_not_paused_cannot_be_resumed_and_what_is_is_named(
    held: tuple[Pause, ...], ended: str, hint: str
) -> None:
    with pytest.raises(UsageError, match="is not paused") as caught:
        resume(state(*held), [ended], DEED)
    assert caught.value.hint == hint


def test_a_new_name_does_not_end_a_pause() -> None:
    """Else a rename in a pull request would let an apply do what somebody held back."""
    before = state(row(), HELD)
    after = before.fold(move(before, P, Slot("Deployment/q"), DEED))
    assert list(after.pauses) == ["Deployment/q"]


def test_of_what_is_moved_in_part_both_names_stay_paused() -> None:
    parts = [Slot("Dataset/d", name) for name in ("train", "validation")]
    before = state(*(row(slot, f"f-{slot.part}") for slot in parts), Pause("Dataset/d", "2026"))
    after = before.fold(move(before, parts[0], Slot("Dataset/e", "train"), DEED))
    assert sorted(after.pauses) == ["Dataset/d", "Dataset/e"]


def declared(name: str, former: str | None = None) -> Document:
    return Document("Deployment", Metadata(name=name, movedFrom=former), Spec(), Lifecycle(), {})


@pytest.mark.parametrize("rows", [(), (row(),)])
def test_a_pause_follows_moved_from_whether_anything_was_made_yet_or_not(rows: tuple[Owned, ...]) -> None:
    before = state(HELD, *rows)
    assert list(renamed(before, [declared("q", "p")]).pauses) == ["Deployment/q"]
    assert list(renamed(before, [declared("q", "p"), declared("p")]).pauses) == ["Deployment/p"]


def test_an_apply_records_the_pause_under_the_new_name(desk: Desk) -> None:
    desk.declare(hotwords("w"))
    desk.apply()
    with desk.session() as opened:
        operate(opened, lambda state, deed: pause(state, ["HotwordTable/w"], deed))
    desk.declare(hotwords("new") | {"metadata": {"name": "new", "movedFrom": "w"}})
    desk.apply()
    assert list(desk.state().pauses) == ["HotwordTable/new"]
