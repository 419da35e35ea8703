"""The state lost, damaged or old: what is ours is found by its marks, nothing is made twice, doubt is said."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler import engine
from reconciler.apply import Terms
from reconciler.engine import Restored
from reconciler.errors import StalePlan, StateCorrupt, StateLocked
from reconciler.plan import Choices
from reconciler.resource import Action, Slot
from reconciler.state import Role, Stamp
from reconciler.store.sqlite import SqliteStore
from tests.desk import Desk, document, emulator, lines, texts
from tests.test_kinds import HYPER, dataset, deployment, hotwords, job, phrases

EVERYTHING: Mapping[str, tuple[dict[str, Any], ...]] = {
    "2026": (
        dataset(),
        dataset("e", split={"validation": 0.2, "seed": 7}),
        job(),
        job("k", outputSuffix="mine", hyperParameters={**HYPER, "n_epochs": 3, "save_total_limit": 3}),
        job("again", model={"fineTuneJob": "j"}, training=["e"]),
        deployment(),
        deployment("q", model={"fineTuneJob": "k", "checkpoint": "checkpoint-5"}),
        document("Deployment", "cheap", {"model": {"fineTuneJob": "j"}, "plan": "lora"}),
        hotwords(),
    ),
    "dec-2024": (
        dataset(),
        job(model="qwen2.5-14b-instruct"),
        document("Deployment", "p", {"model": {"fineTuneJob": "j"}, "capacity": 2}),
        hotwords(),
    ),
}


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """A desk with rows to train on."""
    return with_data(desk)


def with_data(desk: Desk) -> Desk:
    desk.rows("data/d.jsonl", texts(40))
    desk.rows("data/e.jsonl", texts(40, start=100))
    return desk


def restore(desk: Desk) -> Restored:
    with desk.session() as opened:
        return engine.restore(opened, approve=lambda proposed: True)


def lose(desk: Desk) -> None:
    shutil.rmtree(desk.root / ".reconciler")


@pytest.mark.parametrize("profile", EVERYTHING)
def test_everything_marked_is_found_again_and_nothing_is_bought(tmp_path: Path, profile: str) -> None:
    """Every kind of both profiles: apply, lose the file, rebuild: the next plan is empty and the bill the same."""
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service", profile=profile) as running:
        desk = with_data(Desk(tmp_path / "project", running))
        desk.declare(*EVERYTHING[profile], profile=profile)
        desk.apply()
        before, bought = desk.state(), desk.emulator.ledger()
        assert lines(desk.plan()) == []
        lose(desk)
        restored = restore(desk)
        assert restored.rebuilt.undecided == ()
        assert restored.rebuilt.missing == ()
        assert restored.rebuilt.strays == ()
        assert lines(desk.plan()) == []
        after = desk.state()
        assert {row.key: (row.slot, row.role, row.uses, row.last_applied) for row in after.owned.values()} == {
            row.key: (row.slot, row.role, row.uses, row.last_applied) for row in before.owned.values()
        }
        desk.apply()
        assert desk.emulator.ledger() == bought


def test_a_mark_outlives_what_was_changed_in_place(desk: Desk) -> None:
    """Capacity and words are no part of it: an object that was scaled since is still found, and not bought again."""
    desk.declare(dataset(), job(), deployment(), hotwords())
    desk.apply()
    changed = (dataset(), job(), deployment(capacity=8), hotwords(words=[{"text": "gefitinib", "weight": 5}]))
    desk.declare(*changed)
    desk.apply()
    lose(desk)
    assert restore(desk).rebuilt.undecided == ()
    assert lines(desk.plan()) == []
    lose(desk)
    desk.declare(dataset(), job(), deployment(), hotwords())
    restore(desk)
    assert sorted(lines(desk.plan())) == ["~ update Deployment/p", "~ update HotwordTable/w"]


def test_what_was_made_from_older_data_is_ours_and_recorded_as_what_it_is(desk: Desk) -> None:
    """State lost, then the rows changed: the run is known by its mark, and a new one still needs consent."""
    desk.declare(dataset(), job(), deployment())
    desk.apply()
    lose(desk)
    desk.rows("data/d.jsonl", texts(50))
    restored = restore(desk)
    assert [(found.row.slot.address, found.declared) for found in restored.rebuilt.found] == [
        ("Dataset/d", False), ("FineTuneJob/j", False), ("Deployment/p", True),
    ]  # fmt: skip
    assert lines(desk.plan(unattended=True)) == ["+ create Dataset/d:data/d.jsonl", "! nothing FineTuneJob/j"]
    assert lines(desk.plan()) == [
        "+ create Dataset/d:data/d.jsonl",
        "> create FineTuneJob/j",
        "± create Deployment/p",
        "± delete Deployment/p",
        "- delete Dataset/d:data/d.jsonl",
    ]


def test_a_swap_under_way_goes_on_with_both_sides(desk: Desk) -> None:
    """Which of two that run is in use is not on the service: the new one is tried before the old one goes."""
    desk.declare(deployment(model="qwen3-8b"))
    desk.apply()
    desk.declare(deployment(model="qwen3-32b"))
    desk.apply(Terms(wait="created"))
    desk.clock.sleep(3600)
    lose(desk)
    restore(desk)
    assert lines(desk.plan()) == ["… wait Deployment/p", "± delete Deployment/p"]
    desk.apply()
    assert desk.emulator.operations().count("deployments.create") == 2
    assert lines(desk.plan()) == []


def test_of_several_with_its_mark_none_is_guessed_and_none_is_made(desk: Desk) -> None:
    """A deliberate repeat has a mark of its own; with the state its number is lost, so a person says which it is."""
    desk.declare(dataset(), job())
    desk.apply()
    desk.apply(replace=frozenset({"FineTuneJob/j"}))
    bought = desk.emulator.ledger()
    (current,) = (
        row.id for row in desk.state().owned.values() if row.collection == "jobs" and row.role is Role.CURRENT
    )
    lose(desk)
    (undecided,) = restore(desk).rebuilt.undecided
    assert len(undecided.candidates) == 2
    assert [(op.action, op.code) for op in desk.plan().operations] == [(Action.BLOCKED, 7)]
    desk.apply()
    assert desk.emulator.ledger() == bought
    assert undecided.intent is not None
    with desk.session() as opened:
        listed = engine.candidates(opened, opened.store.load(), undecided.intent)
        engine.adopt(opened, undecided.intent.op_id, current)
    assert {one.seen.id for one in listed} == {one.id for one in undecided.candidates}
    desk.apply()
    assert desk.emulator.ledger() == bought
    assert lines(desk.plan()) == []


def test_what_is_made_from_what_was_just_decided_is_looked_for_when_its_turn_comes(desk: Desk) -> None:
    """The plan cannot know its mark, which holds the model that comes first: the apply looks before it sends."""
    desk.declare(dataset(), dataset("e"), job(), job("again", model={"fineTuneJob": "j"}, training=["e"]))
    desk.apply()
    desk.apply(replace=frozenset({"FineTuneJob/j"}))
    desk.apply(allow=frozenset({("retrain", "FineTuneJob/again")}))
    bought, state = desk.emulator.ledger(), desk.state()
    used = state.row(Slot("FineTuneJob/j"), Role.CURRENT)
    assert used is not None
    lose(desk)
    first = next(one for one in restore(desk).rebuilt.undecided if one.slot == used.slot)
    assert first.intent is not None
    with desk.session() as opened:
        engine.adopt(opened, first.intent.op_id, used.id)
    applied = desk.apply()
    assert [(p.operation.slot.address, p.code) for p in applied.progress if p.code] == [("FineTuneJob/again", 7)]
    assert desk.emulator.ledger() == bought
    restore(desk)
    assert lines(desk.plan()) == []


def test_what_shows_no_mark_is_asked_about(desk: Desk) -> None:
    """A phrase list shows nothing of ours, an own suffix may be anybody's: a person says that they are."""
    desk.declare(phrases(), deployment(model="qwen3-8b", suffix="mine"))
    desk.apply()
    bought, ids = desk.emulator.ledger(), {row.collection: row.id for row in desk.state().owned.values()}
    lose(desk)
    undecided = restore(desk).rebuilt.undecided
    assert {one.slot.address for one in undecided} == {"HotwordTable/w", "Deployment/p"}
    with desk.session() as opened:
        for one in undecided:
            assert one.intent is not None
            engine.adopt(opened, one.intent.op_id, ids[one.intent.collection])
    assert all(row.inferred for row in desk.state().owned.values())
    desk.apply()
    assert desk.emulator.ledger() == bought
    assert lines(desk.plan()) == ["~ update HotwordTable/w"], "its words are never shown, so they are set again"


def test_a_person_may_say_that_nothing_is_ours(desk: Desk) -> None:
    """Somebody else's phrase list for the same model keeps our slot closed until then, and no longer."""
    body = {"model": "paraformer-v1", "training_file_ids": [], "training_type": "compile_asr_phrase",
            "hyper_parameters": {"phrase_list": {"词": 2}}}  # fmt: skip
    desk.emulator.call("POST", "/fine-tunes", body)
    desk.declare(phrases())
    (undecided,) = restore(desk).rebuilt.undecided
    assert undecided.intent is not None
    with desk.session() as opened:
        engine.absent(opened, undecided.intent.op_id, reason="the speech team's")
    desk.apply()
    assert desk.emulator.operations().count("phrases.create") == 2
    assert lines(desk.plan()) == []


def test_the_objects_of_another_stack_are_left_alone_and_named(desk: Desk) -> None:
    """Same account, same names: the mark holds the stack, so what it does not prove is not ours."""
    desk.declare(dataset(), job(), hotwords())
    desk.apply()
    lose(desk)
    text = (desk.root / "stack.yaml").read_text()
    desk.write("stack.yaml", text.replace("name: desk", "name: other"))
    rebuilt = restore(desk).rebuilt
    assert rebuilt.found == ()
    assert [one.slot.address for one in rebuilt.undecided] == ["FineTuneJob/j"], "under this name, so it is asked about"
    assert {name for name, _ in rebuilt.strays} == {"files", "vocabularies"}


def test_what_no_manifest_declares_is_named_and_not_taken(desk: Desk) -> None:
    desk.declare(dataset(), hotwords())
    desk.apply()
    lose(desk)
    desk.declare(dataset("e"), hotwords("other"))
    rebuilt = restore(desk).rebuilt
    assert rebuilt.found == ()
    assert [name for name, _ in rebuilt.strays] == ["files", "vocabularies"]
    assert [slot.address for slot in rebuilt.missing] == ["Dataset/e", "HotwordTable/other"]


def test_a_lost_state_refuses_to_make_anything_again(desk: Desk) -> None:
    """The next command after the loss is as likely an apply as a rebuild."""
    desk.declare(dataset(), job(), deployment(), hotwords())
    desk.apply()
    bought = desk.emulator.ledger()
    lose(desk)
    plan = desk.plan()
    assert {(op.action, op.slot.address, op.code) for op in plan.operations} == {
        (Action.BLOCKED, "Dataset/d", 7),
        (Action.BLOCKED, "FineTuneJob/j", 3),
        (Action.BLOCKED, "Deployment/p", 3),
        (Action.BLOCKED, "HotwordTable/w", 7),
    }
    assert "state rebuild" in plan.operations[0].hint
    desk.apply()
    assert desk.emulator.ledger() == bought


def test_destroyed_and_declared_again_is_made_again(desk: Desk) -> None:
    """What the journal knows to be let go is no lost object, although the run and its data are still there."""
    desk.declare(dataset(), job())
    desk.apply()
    desk.apply(destroy=True)
    desk.apply()
    assert desk.emulator.operations().count("jobs.create") == 2
    assert lines(desk.plan()) == []


def test_every_earlier_copy_of_a_state_buys_nothing_twice(desk: Desk) -> None:
    """A backup of before: whatever it lacks is looked for on the service, and taken in by a rebuild."""
    desk.declare(dataset(), job(), deployment(), hotwords())
    copies: list[bytes] = []
    file = desk.root / ".reconciler/state.db"
    with desk.session() as opened:
        engine.apply(
            opened, Choices(), Terms(), approve=lambda snapshot: True,
            report=lambda progress: copies.append(file.read_bytes()), clock=desk.clock, sleep=desk.clock.sleep,
        )  # fmt: skip
    desk.declare(dataset(), job(), deployment(capacity=8), hotwords())
    desk.apply()
    created = sorted(name for name in desk.emulator.operations() if name.endswith(".create"))
    for copy in dict.fromkeys(copies):
        file.write_bytes(copy)
        desk.apply()
        assert sorted(name for name in desk.emulator.operations() if name.endswith(".create")) == created
        assert restore(desk).rebuilt.undecided == ()
        desk.apply()
        assert sorted(name for name in desk.emulator.operations() if name.endswith(".create")) == created
        assert lines(desk.plan()) == []
    assert len(set(copies)) > 8, "the copies were not taken at different moments"


def test_a_renamed_document_is_found_under_its_former_name(desk: Desk) -> None:
    desk.declare(hotwords())
    desk.apply()
    lose(desk)
    renamed = hotwords("x")
    desk.declare(renamed | {"metadata": {"name": "x", "movedFrom": "w"}})
    restore(desk)
    assert lines(desk.plan()) == []


# The file itself ----------------------------------------------------------------------------------------------------


def test_a_damaged_state_is_put_away_whole_and_never_deleted(desk: Desk) -> None:
    desk.declare(hotwords())
    desk.apply()
    file = desk.root / ".reconciler/state.db"
    file.write_bytes(b"\0" * 5000)
    with pytest.raises(StateCorrupt):
        desk.state()
    restored = restore(desk)
    assert "damaged" in restored.damaged
    assert [Path(path).read_bytes() for path in restored.aside] == [b"\0" * 5000]
    assert lines(desk.plan()) == []


def test_what_is_kept_beside_a_state_goes_with_it(tmp_path: Path) -> None:
    """A journal of SQLite's left behind would be played into the file that takes its place."""
    store = SqliteStore(tmp_path / "state.db", Stamp("emulator:1", "", "desk"))
    names = ["state.db", "state.db-journal", "state.db.backup", "state.db.rescue-1"]
    for name in names:
        (tmp_path / name).write_text(name)
    aside = store.set_aside()
    assert [Path(path).read_text() for path in aside] == names
    assert sorted(str(path) for path in tmp_path.iterdir()) == sorted(aside)
    assert store.load().owned == {}, "nothing that is left looks like a state of before"
    with store.lease():
        pass
    assert Path(aside[-1]).read_text() == names[-1], "nor like an answer that waits to be taken in"


def test_a_state_that_went_away_beside_its_copy_is_rebuilt_too(desk: Desk) -> None:
    """The copy is an older state: it is put away as well, or it would go on saying that one is missing."""
    desk.declare(hotwords())
    desk.apply()
    desk.apply()
    (desk.root / ".reconciler/state.db").unlink()
    with pytest.raises(StateCorrupt, match="missing"):
        desk.state()
    assert [Path(path).suffix for path in restore(desk).aside] == [".backup"]
    assert lines(desk.plan()) == []


def test_no_leaves_everything_as_it_was(desk: Desk) -> None:
    desk.declare(hotwords())
    desk.apply()
    file = desk.root / ".reconciler/state.db"
    file.write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    with desk.session() as opened:
        declined = engine.restore(opened, approve=lambda proposed: False)
    assert not declined.done
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before


def test_a_damaged_state_that_somebody_works_with_stays(desk: Desk) -> None:
    """Epochs begin anew in a new file: a run of before would pass for one of ours."""
    desk.declare(hotwords())
    desk.apply()
    file = desk.root / ".reconciler/state.db"
    with desk.session() as opened, opened.store.lease():
        file.write_bytes(b"damaged")
        with pytest.raises(StateLocked), desk.session() as other:
            engine.restore(other, approve=lambda proposed: True)
        assert file.read_bytes() == b"damaged"


def test_what_changed_after_it_was_shown_is_not_recorded(desk: Desk) -> None:
    desk.declare(hotwords())
    desk.apply()
    (made,) = desk.state().owned.values()
    lose(desk)

    def change(proposed: Restored) -> bool:
        request = {"model": "speech-biasing", "input": {"action": "delete_vocabulary", "vocabulary_id": made.id}}
        desk.emulator.call("POST", "/services/audio/asr/customization", request)
        return True

    with desk.session() as opened, pytest.raises(StalePlan):
        engine.restore(opened, approve=change)
    assert desk.state().owned == {}


def test_a_whole_state_has_nothing_to_rebuild(desk: Desk) -> None:
    desk.declare(dataset(), job(), deployment(), hotwords())
    desk.apply()
    with desk.session() as opened:
        restored = engine.restore(opened, approve=lambda proposed: pytest.fail("nothing to ask"))
    assert restored.rebuilt.events == ()
    assert restored.rebuilt.undecided == ()
