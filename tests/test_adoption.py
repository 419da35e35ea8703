"""What was made by hand becomes ours: by its id, by its likeness, after the record was lost. Nothing is ever bought."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import apply, engine, surgery
from reconciler.apply import Stage, Terms
from reconciler.errors import ReconcilerError, Refused, UsageError
from reconciler.plan import Choices, Verb
from reconciler.resource import Slot
from reconciler.state import PERSON, Intent, IntentPhase, Owned, Role
from tests.desk import KEY, WIRE, Desk, Emulator, document, emulator, lines, sft, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 500}
JOB = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": HYPER}
DATA = document("Dataset", "d", {"source": "d.jsonl", "format": "sft"})
RUN = document("FineTuneJob", "j", JOB)
SERVING = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
WORDS = {"targetModel": "paraformer-v2", "words": [{"text": "词", "weight": 4}]}
PHRASES = {"targetModel": "paraformer-v1", "words": [{"text": "词", "weight": 4}]}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service") as service:
        made = Desk(tmp_path / "project", service)
        made.rows("d.jsonl", texts(40))
        yield made


# By hand ------------------------------------------------------------------------------------------------------------


def rows(count: int = 40) -> bytes:
    return "".join(json.dumps(sft(text), ensure_ascii=False) + "\n" for text in texts(count)).encode()


def upload(service: Emulator, content: bytes, name: str = "d.jsonl") -> str:
    """As the console or a line of curl would; its id."""
    form = {"files": (name, content)}
    answer = WIRE.post(f"{service.origin}/api/v1/files", files=form, headers={"Authorization": f"Bearer {KEY}"})
    return str(answer.raise_for_status().json()["data"]["uploaded_files"][0]["file_id"])


def train(service: Emulator, *files: str, **more: Any) -> str:
    body = {
        "model": "qwen3-8b",
        "training_type": "efficient_sft",
        "training_file_ids": list(files),
        "hyper_parameters": HYPER,
        **more,
    }
    return str(service.call("POST", "/fine-tunes", body)["output"]["job_id"])


def deploy(service: Emulator, **more: Any) -> str:
    body = {"model_name": "qwen3-8b", "capacity": 4, "plan": "mu", "deploy_spec": "MU1", "billing_method": "POST_PAY"}
    return str(service.call("POST", "/deployments", body | more)["output"]["deployed_model"])


def recognise(service: Emulator, words: list[dict[str, Any]]) -> str:
    wanted = {"action": "create_vocabulary", "target_model": "paraformer-v2", "prefix": "hand", "vocabulary": words}
    return str(speech(service, **wanted)["output"]["vocabulary_id"])


def speech(service: Emulator, **wanted: Any) -> dict[str, Any]:
    return service.call("POST", "/services/audio/asr/customization", {"model": "speech-biasing", "input": wanted})


def model_of(service: Emulator, job: str) -> str:
    return str(service.call("GET", f"/fine-tunes/{job}")["output"]["finetuned_output"])


def pass_time(desk: Desk, hours: float = 2) -> None:
    desk.clock.sleep(3600 * hours)


def take_in(desk: Desk, slot: str, remote_id: str, reason: str = "") -> None:
    address, _, part = slot.partition(":")
    with desk.session() as session:
        engine.take_in(session, Slot(address, part), remote_id, reason=reason)


def row_of(desk: Desk, slot: str) -> Owned:
    address, _, part = slot.partition(":")
    (found,) = desk.state().rows(Slot(address, part))
    return found


# By its id ----------------------------------------------------------------------------------------------------------


def test_a_chain_made_by_hand_is_imported_and_its_plan_is_empty(desk: Desk) -> None:
    """Files, the run made from them, the deployment of its model: each by its id, what is referred to first."""
    file = upload(desk.emulator, rows())
    job = train(desk.emulator, file)
    pass_time(desk)
    deployed = deploy(desk.emulator, model_name=model_of(desk.emulator, job), suffix="hand")
    table = recognise(desk.emulator, WORDS["words"])
    pass_time(desk)
    before = desk.emulator.ledger()
    serving = {**SERVING, "model": {"fineTuneJob": "j"}}
    desk.declare(DATA, RUN, document("Deployment", "p", serving), document("HotwordTable", "w", WORDS))
    for slot, remote_id in (("Dataset/d", file), ("FineTuneJob/j", job), ("Deployment/p", deployed)):
        take_in(desk, slot, remote_id, reason="made last spring")
    take_in(desk, "HotwordTable/w", table)
    plan = desk.plan()
    assert (lines(plan), plan.notes) == ([], ())
    assert desk.emulator.ledger() == before
    run = row_of(desk, "FineTuneJob/j")
    assert (run.role, run.inferred, run.uses) == (Role.CURRENT, False, (f"files/{file}",))
    entry = next(i for i in desk.state().intents.values() if i.slot.address == "Deployment/p")
    assert (entry.verb, entry.phase, entry.by, entry.result_id) == ("import", IntentPhase.DONE, PERSON, deployed)
    assert entry.reason == "made last spring"


def test_what_can_be_changed_is_changed_by_the_next_apply(desk: Desk) -> None:
    """And by that alone: importing sends nothing."""
    deployed = deploy(desk.emulator, capacity=8)
    pass_time(desk)
    desk.declare(document("Deployment", "p", SERVING))
    take_in(desk, "Deployment/p", deployed)
    assert lines(desk.plan()) == ["~ update Deployment/p"]
    desk.apply()
    assert lines(desk.plan()) == []
    assert desk.emulator.operations() == ["deployments.create", "deployments.scale"]


def test_words_that_are_never_shown_are_set_by_the_next_apply(tmp_path: Path) -> None:
    """Nobody can know them, so they are sent once more; that costs nothing."""
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service", profile="dec-2024") as service:
        desk = Desk(tmp_path / "project", service)
        body = {"model": "paraformer-v1", "training_type": "compile_asr_phrase", "training_file_ids": []}
        made = service.call("POST", "/fine-tunes", body | {"hyper_parameters": {"phrase_list": {"别的": 1}}})
        desk.declare(document("HotwordTable", "v", PHRASES), profile="dec-2024")
        take_in(desk, "HotwordTable/v", made["output"]["finetuned_output"])
        assert "words" not in row_of(desk, "HotwordTable/v").last_applied
        assert lines(desk.plan()) == ["~ update HotwordTable/v"]
        desk.apply()
        assert lines(desk.plan()) == []
        assert service.operations() == ["phrases.create", "phrases.update"]


def test_a_run_under_way_is_waited_for(desk: Desk) -> None:
    file = upload(desk.emulator, rows())
    job = train(desk.emulator, file)
    desk.declare(DATA, RUN)
    take_in(desk, "Dataset/d", file)
    take_in(desk, "FineTuneJob/j", job)
    assert row_of(desk, "FineTuneJob/j").role is Role.NEXT
    assert lines(desk.plan()) == ["… wait FineTuneJob/j"]
    desk.apply()
    assert row_of(desk, "FineTuneJob/j").role is Role.CURRENT
    assert desk.emulator.operations() == ["files.create", "jobs.create"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "qwen3-14b"}, "model (is qwen3-14b, declared qwen3-8b)"),
        ({"training_type": "sft"}, "trainingType (is sft, declared efficient_sft)"),
        ({"hyper_parameters": {**HYPER, "n_epochs": 3}}, "declares: hyperParameters.n_epochs (is 3, declared 1)"),
        (
            {"hyper_parameters": {**HYPER, "n_epochs": 3}, "model": "qwen3-14b"},
            "hyperParameters.n_epochs (is 3, declared 1), model (is qwen3-14b, declared qwen3-8b)",
        ),
    ],
)
def test_another_run_than_the_declared_one_is_refused_field_by_field(
    desk: Desk, more: dict[str, Any], said: str
) -> None:
    """To manage it would mean that the next plan pays for the declared one."""
    file = upload(desk.emulator, rows())
    job = train(desk.emulator, file, **more)
    pass_time(desk)
    desk.declare(DATA, RUN)
    take_in(desk, "Dataset/d", file)
    with pytest.raises(Refused, match="is not what FineTuneJob/j declares") as refused:
        take_in(desk, "FineTuneJob/j", job)
    assert said in str(refused.value)
    assert "declare it as it is" in refused.value.hint
    assert not desk.state().rows(Slot("FineTuneJob/j"))


def test_a_run_made_from_another_upload_is_refused(desk: Desk) -> None:
    """The bytes may even be the same: what the record would say it was made from must be what it was made from."""
    ours, other = upload(desk.emulator, rows()), upload(desk.emulator, rows(39))
    job = train(desk.emulator, other)
    desk.declare(DATA, RUN)
    take_in(desk, "Dataset/d", ours)
    with pytest.raises(Refused, match=rf"training \(is {other}, declared {ours}\)"):
        take_in(desk, "FineTuneJob/j", job)


def test_files_in_another_order_are_the_same_files(desk: Desk) -> None:
    first, second = upload(desk.emulator, rows()), upload(desk.emulator, rows(39))
    job = train(desk.emulator, first, second)
    spec = {**JOB, "training": [{"fileId": second}, {"fileId": first}]}
    desk.declare(document("FineTuneJob", "j", spec))
    take_in(desk, "FineTuneJob/j", job)
    assert lines(desk.plan()) == ["… wait FineTuneJob/j"]


def test_what_the_author_ignores_contradicts_nothing(desk: Desk) -> None:
    deployed = deploy(desk.emulator)
    pass_time(desk)
    desk.declare(document("Deployment", "p", {**SERVING, "suffix": "other"}, ignore=["suffix"]))
    take_in(desk, "Deployment/p", deployed)
    assert lines(desk.plan()) == []


def test_what_it_is_made_from_is_imported_first(desk: Desk) -> None:
    job = train(desk.emulator, upload(desk.emulator, rows()))
    desk.declare(DATA, RUN)
    with pytest.raises(Refused, match=r"is made from what is not recorded yet: Dataset/d:d\.jsonl") as refused:
        take_in(desk, "FineTuneJob/j", job)
    assert refused.value.hint == "import that first"


def test_other_content_is_refused(desk: Desk) -> None:
    file = upload(desk.emulator, rows(39))
    desk.declare(DATA)
    with pytest.raises(Refused, match="source"):
        take_in(desk, "Dataset/d", file)


def test_a_run_that_failed_or_was_canceled_is_refused(desk: Desk) -> None:
    file = upload(desk.emulator, rows())
    job = train(desk.emulator, file)
    desk.emulator.call("POST", f"/fine-tunes/{job}/cancel")
    pass_time(desk)
    desk.declare(DATA, RUN)
    take_in(desk, "Dataset/d", file)
    with pytest.raises(Refused, match=f"{job} is CANCELED"):
        take_in(desk, "FineTuneJob/j", job)


@pytest.mark.parametrize("wrong", ["nothing-there", "../files", "", "ft-\x1b[2J", "x" * 300, "数据"])
def test_an_id_of_nothing_is_refused(desk: Desk, wrong: str) -> None:
    """Also one that could climb out of its place in a path."""
    desk.declare(document("Deployment", "p", SERVING))
    with pytest.raises(ReconcilerError) as refused:
        take_in(desk, "Deployment/p", wrong)
    assert "\x1b" not in str(refused.value)
    assert desk.state().owned == {}


def test_what_is_another_slots_or_fills_no_free_slot_is_refused(desk: Desk) -> None:
    one, two = deploy(desk.emulator, suffix="a"), deploy(desk.emulator, suffix="b")
    pass_time(desk)
    desk.declare(document("Deployment", "p", SERVING), document("Deployment", "q", SERVING))
    take_in(desk, "Deployment/p", one)
    with pytest.raises(Refused, match="is recorded already, as Deployment/p") as refused:
        take_in(desk, "Deployment/q", one)
    assert refused.value.hint == "reconciler state mv Deployment/p Deployment/q"
    with pytest.raises(Refused, match=f"Deployment/p already holds {one}"):
        take_in(desk, "Deployment/p", two)


@pytest.mark.parametrize("slot", ["Deployment/p", "Deployment/q"])
def test_what_an_open_creation_may_have_made_is_decided_there(desk: Desk, slot: str) -> None:
    """Else the same object would stand in two rows once that operation is resolved."""
    made = deploy(desk.emulator, suffix="abcdefgh")
    desk.declare(document("Deployment", "p", SERVING), document("Deployment", "q", SERVING))
    sent = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    facts = {"generation": "g", "attempt": 0, "epoch": 1, "at": "2026-01-01 00:00:00", "fields": sent}
    lost = Intent("op-1", Slot("Deployment/p"), "deployments", "create", tag="abcdefgh", **facts)  # type: ignore[arg-type]
    with desk.session() as session, session.store.lease() as epoch:
        session.store.commit(epoch, lost)
    with pytest.raises(Refused, match="operation op-1 of Deployment/p is open") as refused:
        take_in(desk, slot, made)
    assert "reconciler ops resolve op-1" in refused.value.hint


def test_what_no_manifest_declares_cannot_be_imported(desk: Desk) -> None:
    desk.rows("e.jsonl", texts(39))
    desk.declare(document("Dataset", "two", {"source": ["d.jsonl", "e.jsonl"], "format": "sft"}))
    with pytest.raises(UsageError, match="no manifest declares"):
        take_in(desk, "Dataset/tow", "x")
    with pytest.raises(UsageError, match="is not one object") as refused:
        take_in(desk, "Dataset/two", "x")
    assert refused.value.hint == "name one of Dataset/two:d.jsonl, Dataset/two:e.jsonl"


def test_each_part_of_a_dataset_is_imported_by_itself(desk: Desk) -> None:
    desk.rows("e.jsonl", texts(39))
    desk.declare(document("Dataset", "two", {"source": ["d.jsonl", "e.jsonl"], "format": "sft"}))
    first, second = upload(desk.emulator, rows()), upload(desk.emulator, rows(39))
    take_in(desk, "Dataset/two:e.jsonl", second)
    take_in(desk, "Dataset/two:d.jsonl", first)
    assert lines(desk.plan()) == []


def test_what_is_only_observed_can_be_recorded(desk: Desk) -> None:
    """Nothing is ever done about it, whatever differs."""
    deployed = deploy(desk.emulator, capacity=8)
    pass_time(desk)
    desk.declare(document("Deployment", "p", SERVING, observeOnly=True))
    (note,) = desk.plan().notes[:1]
    assert note.hint == "reconciler import Deployment/p ID takes one in"
    take_in(desk, "Deployment/p", deployed)
    assert lines(desk.plan()) == []
    assert lines(desk.plan(destroy=True)) == []


def test_another_holder_of_the_state_keeps_an_import_out(desk: Desk) -> None:
    deployed = deploy(desk.emulator)
    desk.declare(document("Deployment", "p", SERVING))
    with desk.session() as other, other.store.lease(), pytest.raises(ReconcilerError, match="hold"):
        take_in(desk, "Deployment/p", deployed)


# By its likeness ----------------------------------------------------------------------------------------------------


def chain(**lifecycle: Any) -> list[dict[str, Any]]:
    serving = {**SERVING, "model": {"fineTuneJob": "j"}, "suffix": "hand"}
    return [
        {**DATA, "lifecycle": lifecycle},
        {**RUN, "lifecycle": lifecycle},
        document("Deployment", "p", serving, **lifecycle),
        document("HotwordTable", "w", WORDS, **lifecycle),
    ]


@pytest.mark.parametrize("adoption", ["IfExists", "Required"])
def test_a_lost_state_is_made_up_from_what_is_there_and_nothing_is_bought(desk: Desk, adoption: str) -> None:
    """The story of an afternoon: somebody's laptop with the state is gone, and the manifests are not."""
    job = train(desk.emulator, upload(desk.emulator, rows()))
    pass_time(desk)
    deploy(desk.emulator, model_name=model_of(desk.emulator, job), suffix="hand")
    recognise(desk.emulator, WORDS["words"])
    pass_time(desk)
    before = desk.emulator.ledger()
    desk.declare(*chain(adoption=adoption))
    for _ in range(2):
        assert lines(desk.plan()) == [
            "= adopt Dataset/d:d.jsonl",
            "= adopt HotwordTable/w",
            "= adopt FineTuneJob/j",
            "= adopt Deployment/p",
        ]
        applied = desk.apply()
        assert {one.stage for one in applied.progress} == {Stage.DONE}
        assert lines(desk.plan()) == []
        assert all(row.inferred and row.role is Role.CURRENT for row in desk.state().owned.values())
        assert {entry.verb for entry in desk.state().intents.values()} == {"import"}
        for path in (desk.root / ".reconciler").glob("state.db*"):
            path.unlink()
    assert desk.emulator.ledger() == before


def test_what_only_the_list_shows_is_not_forgotten_by_a_closer_look(desk: Desk) -> None:
    """A deployment by compute units shows its plan in the list alone (contract §3.3)."""
    wanted = {"model_name": "qwen3.5-9b", "plan": "cu", "capacity": 2, "suffix": "cu"}
    made = desk.emulator.call("POST", "/deployments", wanted)["output"]["deployed_model"]
    pass_time(desk)
    spec = {"model": "qwen3.5-9b", "plan": "cu", "capacity": 2}
    desk.declare(document("Deployment", "p", spec, adoption="Required"))
    desk.apply()
    assert row_of(desk, "Deployment/p").id == made
    assert lines(desk.plan()) == []


def test_two_alike_are_named_and_neither_is_taken(desk: Desk) -> None:
    one, two = sorted((deploy(desk.emulator, suffix="a"), deploy(desk.emulator, suffix="b")))
    pass_time(desk)
    desk.declare(document("Deployment", "p", SERVING, adoption="IfExists"))
    (op,) = desk.plan().operations
    assert (op.why, op.code) == (f"several objects are as declared: {one}, {two}", 3)
    assert op.hint == "reconciler import Deployment/p ID takes one in"
    desk.apply()
    take_in(desk, "Deployment/p", two)
    assert lines(desk.plan()) == []
    assert desk.emulator.operations() == ["deployments.create"] * 2


def forget_words(desk: Desk, made: str) -> None:
    """Somebody deletes the table."""
    speech(desk.emulator, action="delete_vocabulary", vocabulary_id=made)


def other_words(desk: Desk, made: str) -> None:
    """Somebody changes it."""
    words = [{"text": "别的", "weight": 1}]
    speech(desk.emulator, action="update_vocabulary", vocabulary_id=made, vocabulary=words)


def another_owner(desk: Desk, made: str) -> None:
    """Somebody records it for another slot."""
    take_in(desk, "HotwordTable/x", made)


@pytest.mark.parametrize(
    ("happens", "said"),
    [(forget_words, "is gone"), (other_words, "is not as declared any more"), (another_owner, "belongs to")],
)
def test_what_changes_between_plan_and_record_is_not_recorded(
    desk: Desk, happens: Callable[[Desk, str], None], said: str
) -> None:
    """Minutes pass while somebody reads the plan."""
    made = recognise(desk.emulator, WORDS["words"])
    pass_time(desk)
    desk.declare(document("HotwordTable", "w", WORDS, adoption="IfExists"), document("HotwordTable", "x", WORDS))
    with desk.session() as session:
        snapshot = engine.plan(session, Choices())
    only = replace(snapshot.plan, operations=tuple(op for op in snapshot.plan.operations if op.verb is Verb.ADOPT))
    happens(desk, made)
    before = desk.state().owned
    with desk.session() as session, session.store.lease() as epoch:
        (one,) = apply.run(
            only,
            snapshot.world,
            store=session.store,
            epoch=epoch,
            api=session.api,
            collections=session.collections,
            terms=Terms(),
            report=lambda progress: None,
        )
    assert (one.stage, one.code) == (Stage.FAILED, 4)
    assert said in one.detail
    assert desk.state().owned == before


def test_a_saved_plan_adopts_once_and_is_over_then(desk: Desk) -> None:
    deploy(desk.emulator)
    pass_time(desk)
    desk.declare(document("Deployment", "p", SERVING, adoption="Required"))
    plan = desk.save()
    applied = desk.apply(plan=plan)
    assert [one.stage for one in applied.progress] == [Stage.DONE]
    with pytest.raises(ReconcilerError, match="applied once"):
        desk.apply(plan=plan)
    assert desk.emulator.operations() == ["deployments.create"]


def test_what_was_adopted_by_its_looks_is_not_let_go_without_a_word(desk: Desk) -> None:
    """It may be somebody's: its likeness proves what it is, and never whose."""
    deployed = deploy(desk.emulator)
    pass_time(desk)
    desk.declare(document("Deployment", "p", SERVING, adoption="IfExists"))
    desk.apply()
    (op,) = desk.plan(destroy=True).operations
    assert op.hint == f"--allow inferred={deployed} lets it go"


def test_data_that_moves_keeps_its_upload_when_the_record_moves_with_it(desk: Desk) -> None:
    """Its part is named after its path, and `Required` would rather stop than upload it again."""
    upload(desk.emulator, rows())
    desk.declare({**DATA, "lifecycle": {"adoption": "Required"}})
    desk.apply()
    desk.rows("data/e.jsonl", texts(40))
    moved = document("Dataset", "d", {"source": "data/e.jsonl", "format": "sft"}, adoption="Required")
    desk.declare(moved)
    assert "! nothing Dataset/d:data/e.jsonl" in lines(desk.plan())
    with desk.session() as session:
        old, new = Slot("Dataset/d", "d.jsonl"), Slot("Dataset/d", "data/e.jsonl")
        engine.operate(session, lambda state, deed: surgery.move(state, old, new, deed))
    assert lines(desk.plan()) == []
