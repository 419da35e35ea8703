"""What the doctor sees, what it takes for a fact of the account, and that it only looks."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler import catalogue, engine, kinds
from reconciler.api import Key, Patience
from reconciler.apply import Terms
from reconciler.doctor import Check, Examination, Verdict, examine, findings, not_connected, region_of
from reconciler.engine import Session
from reconciler.errors import NeverSent, NotAuthorised
from reconciler.render.doctor import examination_json, examination_text
from reconciler.resource import Slot
from reconciler.state import Fact, Intent, IntentPhase, Owned, Role, State
from tests.desk import Desk, document, emulator, texts
from tests.far_end import Answer, FarEnd, Received, error, far_end, raw, reply

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
CHAIN = (
    document("Dataset", "rows", {"source": "rows.jsonl", "format": "sft"}),
    document(
        "FineTuneJob",
        "tuned",
        {"model": "qwen3.5-9b", "trainingType": "efficient_sft", "training": ["rows"], "hyperParameters": HYPER},
    ),
    document("Deployment", "prod", {"model": "qwen3.5-9b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}),
    document("HotwordTable", "meds", {"targetModel": "paraformer-v2", "words": [{"text": "词", "weight": 2}]}),
)
NOW = "2026-11-02 14:05:00"


def furnish(desk: Desk, wait: Any = "ready") -> Desk:
    """A stack with one object of every kind, applied."""
    desk.rows("rows.jsonl", texts(40))
    desk.declare(*CHAIN)
    desk.apply(Terms(wait=wait))
    return desk


@pytest.fixture(scope="module")
def furnished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An applied stack and its service's memory. Never changed: it is copied."""
    folder = tmp_path_factory.mktemp("furnished")
    (folder / "project").mkdir()
    with emulator(folder / "service") as service:
        furnish(Desk(folder / "project", service))
    return folder


@pytest.fixture
def furnished(furnished_once: Path, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose stack was applied before."""
    shutil.copytree(furnished_once, tmp_path / "furnished")
    with emulator(tmp_path / "furnished/service") as service:
        yield Desk(tmp_path / "furnished/project", service)


def look(desk: Desk, key: str = "any") -> Examination:
    with engine.session(desk.project(), desk.emulator.origin, Key(key), patience=Patience(tries=1)) as session:
        return examine(session)


def check(examination: Examination, name: str) -> Check:
    return next(check for check in examination.checks if check.name == name)


def facts(examination: Examination) -> dict[str, bool | None]:
    return {one.name: one.fact.holds if one.fact else None for one in examination.facts}


def told(examination: Examination, *verdicts: Verdict) -> list[str]:
    return [check.name for check in examination.checks if check.verdict in verdicts]


# A stack on its emulator ----------------------------------------------------------------------------------------------


def test_all_is_well_and_what_was_found_out_is_kept(furnished: Desk) -> None:
    examination = look(furnished)
    assert examination.exit_code == 0
    assert told(examination, Verdict.WARNING, Verdict.FAILED, Verdict.UNKNOWN) == []
    assert facts(examination) == {
        "files.mark": True,
        "files.purpose": False,
        "jobs.mark": True,
        "jobs.name": True,
        "jobs.suffix": True,
        "jobs.early_output": None,
        "jobs.echo": True,
        "deployments.mark": True,
        "deployments.name": False,
        "vocabularies.mark": True,
    }
    state = furnished.state()
    assert state.shows("jobs.mark")
    assert not state.shows("files.purpose")
    assert "jobs.early_output" not in state.facts, "no job was seen under way, and nothing is guessed"


def test_what_is_kept_already_is_not_written_again(furnished: Desk) -> None:
    """A lease is a write, and takes the place of the copy that was made before the last apply."""
    look(furnished)
    before = furnished.state()
    examination = look(furnished)
    assert "nothing that the state does not hold" in check(examination, "findings").what
    assert furnished.state() == before
    assert furnished.state().serial == before.serial


def test_a_fact_that_no_object_shows_any_more_is_told_from_the_state(furnished: Desk) -> None:
    look(furnished)
    furnished.declare(*CHAIN[:3])
    furnished.apply(prune=True)
    assert facts(look(furnished))["vocabularies.mark"] is True


def test_it_only_looks(furnished: Desk) -> None:
    """Every write is a 403 here, and would stand in the ledger elsewhere."""
    before = furnished.emulator.ledger()
    furnished.emulator.control("read-only", {"on": True})
    assert look(furnished).exit_code == 0
    assert furnished.emulator.ledger() == before


def test_without_a_state_none_is_made(desk: Desk) -> None:
    desk.rows("rows.jsonl", texts(40))
    desk.declare(*CHAIN)
    before = sorted(desk.root.rglob("*"))
    examination = look(desk)
    assert examination.exit_code == 0
    assert "none in" in check(examination, "state").what
    assert set(facts(examination).values()) == {None}
    assert [path for path in sorted(desk.root.rglob("*")) if ".reconciler" not in path.parts] == before
    assert {path.name for path in (desk.root / ".reconciler").iterdir()} == {"cache"}


def test_a_state_that_another_run_holds_is_left_alone(furnished: Desk) -> None:
    with furnished.session() as other, other.store.lease():
        examination = look(furnished)
    findings_check = check(examination, "findings")
    assert findings_check.verdict is Verdict.WARNING
    assert "held by process" in findings_check.what
    assert facts(examination)["jobs.mark"] is True, "it is told all the same"
    assert "files.purpose" not in furnished.state().facts
    assert examination.exit_code == 0


def test_an_open_operation_is_named(furnished: Desk) -> None:
    with furnished.session() as opened, opened.store.lease() as epoch:
        made = next(intent for intent in opened.store.load().intents.values() if intent.collection == "jobs")
        opened.store.commit(epoch, Intent(**{**vars(made), "op_id": "op-2", "phase": IntentPhase.UNKNOWN}))
    operations = check(look(furnished), "operations")
    assert operations.verdict is Verdict.WARNING
    assert "1 open: create FineTuneJob/tuned" in operations.what


def test_when_the_state_was_last_copied_and_who_held_it(furnished: Desk) -> None:
    assert check(look(furnished), "backup").what == "none was made yet"
    assert check(look(furnished), "backup").what.startswith("made 20")
    assert "last taken by process" in check(look(furnished), "lease").what


def test_a_damaged_state_is_one_failure_and_everything_else_is_looked_at(furnished: Desk) -> None:
    (furnished.root / ".reconciler/state.db").write_bytes(b"no state at all" * 100)
    examination = look(furnished)
    assert told(examination, Verdict.FAILED) == ["state"]
    assert examination.exit_code == 1
    assert facts(examination)["jobs.echo"] is True, "what needs no ownership is seen without a state"
    assert facts(examination)["jobs.mark"] is None


def test_the_state_of_another_account_exits_8(furnished: Desk, tmp_path: Path) -> None:
    with emulator(tmp_path / "another") as another:
        examination = look(Desk(furnished.root, another))
    assert "belongs to endpoint emulator:" in check(examination, "state").what
    assert examination.exit_code == 8


def test_a_wrong_key_says_what_was_answered_and_what_to_do(furnished: Desk, tmp_path: Path) -> None:
    """And it is asked once, not once for each list."""
    with emulator(tmp_path / "locked", api_key="another") as locked:
        examination = look(Desk(furnished.root, locked))
    key = check(examination, "key")
    assert key.verdict is Verdict.FAILED
    assert "401: files.list: InvalidApiKey" in key.what
    assert "region" in key.hint
    assert check(examination, "endpoint").verdict is Verdict.OK
    assert check(examination, "clock").verdict is Verdict.OK
    assert check(examination, "workspace").verdict is Verdict.UNKNOWN
    assert examination.exit_code == 8


@pytest.mark.parametrize(("offset_s", "verdict"), [(30, "ok"), (-30, "ok"), (600, "warning"), (-600, "warning")])
def test_a_clock_that_is_wrong_is_told_in_seconds(desk: Desk, offset_s: int, verdict: str) -> None:
    desk.declare(*CHAIN[3:])
    desk.emulator.control("faults", {"faults": [{"operation": "*.list", "date_offset_s": offset_s}]})
    clock = check(look(desk), "clock")
    assert clock.verdict.value == verdict
    if verdict == "warning":
        seconds = int(clock.what.split("clock is ")[1].split(" s ")[0])
        assert abs(seconds - 600) <= 5
        assert ("ahead" if offset_s > 0 else "behind") in clock.what


def test_a_slow_way_is_told(desk: Desk) -> None:
    desk.declare(*CHAIN[3:])
    now = iter(range(0, 1000, 3))
    with desk.session() as session:
        examination = examine(session, clock=lambda: float(next(now)))
    assert check(examination, "round trip").verdict is Verdict.WARNING
    assert "3000 ms" in check(examination, "round trip").what


def test_a_model_that_is_retired_is_named(desk: Desk) -> None:
    """By the service's date: the profile of 2024 offers what is history now."""
    old = {"model": "qwen1.5-7b-chat", "trainingType": "efficient_sft", "training": [{"fileId": "f-1"}]}
    desk.declare(document("FineTuneJob", "old", old), profile="dec-2024")
    models = check(look(desk), "models")
    assert models.verdict is Verdict.WARNING
    assert "qwen1.5-7b-chat retired on 2026-03-30" in models.what


# Both positions of what no page settles ------------------------------------------------------------------------------

POSITIONS = [
    ("files.native_stores_purpose", "on", "files.purpose", True, "purpose of"),
    ("files.native_stores_purpose", "off", "files.purpose", False, "purpose of"),
    ("jobs.echo_datasets", "ids", "jobs.echo", True, "training_file_ids of"),
    ("jobs.echo_datasets", "datasets", "jobs.echo", True, "training_datasets of"),
    ("jobs.early_finetuned_output", "on", "jobs.early_output", True, "PENDING"),
    ("jobs.early_finetuned_output", "off", "jobs.early_output", False, "PENDING"),
    ("deployments.id_style", "plain", "deployments.mark", True, "qwen3.5-9b-"),
    ("deployments.id_style", "hash+suffix", "deployments.mark", True, "qwen3.5-9b-"),
    ("deployments.id_style", "hash", "deployments.mark", False, "qwen3.5-9b-"),
    ("deployments.returns_name", "on", "deployments.name", True, "qwen3.5-9b"),
    ("deployments.returns_name", "off", "deployments.name", False, "qwen3.5-9b"),
]


@pytest.mark.parametrize(("switch", "position", "name", "holds", "evidence"), POSITIONS)
def test_what_the_account_does_is_found_out(
    tmp_path: Path, switch: str, position: str, name: str, holds: bool, evidence: str
) -> None:
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service", switches={switch: position}) as service:
        desk = furnish(Desk(tmp_path / "project", service), wait="created")
        look(desk)
        fact = desk.state().facts[name]
    assert fact.holds is holds
    assert evidence in fact.evidence


# What counts as shown -------------------------------------------------------------------------------------------------

TAG = "ab12cd34"
COLLECTIONS = kinds.collections(catalogue.load().for_profile("2026"))
OLD = kinds.collections(catalogue.load().for_profile("dec-2024"))


def made(collection: str, remote_id: str, *, fields: Mapping[str, Any] | None = None, **intent: Any) -> State:
    """A state that holds one object of this collection, created with TAG."""
    slot = Slot("Any/thing")
    row = Intent("op-1", slot, collection, "create", "g", TAG, 0, 1, NOW, fields or {}, phase=IntentPhase.DONE)
    journal = Intent(**{**vars(row), "result_id": remote_id, **intent})
    owned = Owned(slot, collection, remote_id, Role.CURRENT, "g", fields or {})
    return State(owned={owned.key: owned}, intents={journal.op_id: journal})


def shown(state: State, collections: Mapping[str, Any] = COLLECTIONS, **listed: Any) -> dict[str, bool]:
    return {fact.name: fact.holds for fact in findings(state, listed, collections, NOW)}


def job(status: str = "SUCCEEDED", **members: Any) -> tuple[dict[str, Any]]:
    return ({"job_id": "j", "status": status, "training_file_ids": ["f"], **members},)


@pytest.mark.parametrize(
    ("item", "mark"),
    [
        (job(job_name=f"x-{TAG}", finetuned_output=f"m-{TAG}-ft"), True),
        (job("PENDING", job_name=f"x-{TAG}"), True),
        (job("PENDING", job_name="j", finetuned_output=f"m-{TAG}-ft"), True),
        (job("QUEUING", job_name="j", finetuned_output=f"m-{TAG}-ft"), True),
        (job("RUNNING", job_name="j", finetuned_output=f"m-{TAG}-ft"), None),
        (job("SUCCEEDED", job_name="j", finetuned_output=f"m-{TAG}-ft"), None),
        (job("PENDING", job_name="j"), False),
        (job("RUNNING", job_name="j"), False),
        (job("SUCCEEDED", job_name="j", finetuned_output="m-ft"), False),
        (job("NEW_WORD", job_name="j", finetuned_output=f"m-{TAG}-ft"), None),
        (job("FAILED"), False),
    ],
)
def test_a_mark_that_comes_with_success_is_no_mark_to_recover_by(item: Any, mark: bool | None) -> None:
    """Recovery looks minutes after a creation: a model that is named hours later would make it buy a second time."""
    assert shown(made("jobs", "j"), jobs=item).get("jobs.mark") is mark


def test_an_authors_own_suffix_proves_nothing() -> None:
    own = made("jobs", "j", fields={"outputSuffix": "mine"})
    seen = shown(own, jobs=job(job_name="j", finetuned_output="m-mine-ft"))
    assert "jobs.mark" not in seen
    assert "jobs.suffix" not in seen
    assert shown(own, jobs=job(job_name=f"x-{TAG}"))["jobs.mark"] is True
    deployed = made("deployments", "m-instruct", fields={"suffix": "instruct"})
    assert "deployments.mark" not in shown(deployed, deployments=({"deployed_model": "m-instruct"},))


def test_what_the_old_service_was_never_given_it_cannot_show() -> None:
    """December 2024 knows neither job_name nor purpose."""
    seen = shown(made("jobs", "j"), OLD, jobs=job("RUNNING", finetuned_output=f"m-{TAG}-ft"))
    assert seen == {"jobs.early_output": True, "jobs.echo": True, "jobs.suffix": True}
    file = ({"file_id": "f", "description": f"reconciler {TAG} Dataset/x"},)
    assert shown(made("files", "f"), OLD, files=file) == {"files.mark": True}


@pytest.mark.parametrize(
    "state",
    [
        State(),
        made("files", "another"),
        made("files", "f", phase=IntentPhase.ADOPTED),
        made("files", "f", verb="adopt"),
        made("files", "f", by="person"),
        State(
            owned={
                "files/f": Owned(Slot("A/b"), "files", "f", Role.CURRENT, "g", {}, inferred=True),
            },
            intents=made("files", "f").intents,
        ),
        State(intents=made("files", "f").intents),
    ],
    ids=["empty", "another's", "adopted", "imported", "decided by a person", "inferred", "no longer ours"],
)
def test_only_what_we_certainly_made_shows_what_became_of_our_mark(state: State) -> None:
    """A file of somebody else's may have come by the endpoint that does keep a purpose; one that was found by its mark
    shows that mark by definition."""
    file = ({"file_id": "f", "description": f"reconciler {TAG} Dataset/x", "purpose": "fine-tune"},)
    assert shown(state, files=file) == {}


def test_one_object_to_the_contrary_is_enough() -> None:
    first, second = made("files", "f-1"), made("files", "f-2", op_id="op-2")
    both = State(
        owned={
            "files/f-1": first.owned["files/f-1"],
            "files/f-2": Owned(Slot("A/b"), "files", "f-2", Role.NEXT, "g", {}),
        },
        intents={**first.intents, **second.intents},
    )
    good, bad = ({"file_id": "f-1", "description": f"reconciler {TAG}"}, {"file_id": "f-2", "description": ""})
    for order in ((good, bad), (bad, good)):
        (mark,) = (fact for fact in findings(both, {"files": order}, COLLECTIONS, NOW) if fact.name == "files.mark")
        assert (mark.holds, mark.evidence) == (False, "description of f-2")


@pytest.mark.parametrize(
    ("members", "echo"),
    [
        ({"training_file_ids": ["f"]}, True),
        ({"training_file_ids": [], "training_datasets": [{"file_id": "f"}]}, True),
        ({"training_file_ids": [], "training_datasets": [{"mount_storage": {"bucket": "b"}}]}, None),
        ({"training_file_ids": []}, False),
        ({"training_file_ids": None}, False),
        ({"training_file_ids": None, "training_datasets": "odd"}, False),
    ],
)
def test_which_data_a_job_shows(members: dict[str, Any], echo: bool | None) -> None:
    assert shown(State(), jobs=job(**members)).get("jobs.echo") is echo


def test_a_fact_is_one_that_its_collection_describes() -> None:
    """A sign that no page of the doctor lists would be kept and never told."""
    state = made("jobs", "j")
    for name, holds in shown(state, jobs=job("PENDING", finetuned_output=f"m-{TAG}")).items():
        collection, _, fact = name.partition(".")
        assert fact in COLLECTIONS[collection].facts, (name, holds)


# A real service, played -----------------------------------------------------------------------------------------------

Lists = Mapping[str, Any]


def service(**answers: Any) -> Callable[[Received], Answer]:
    """A service that is no emulator: each list has these members, or this answer."""

    def respond(request: Received) -> Answer:
        path = request.target.partition("?")[0].rpartition("/")[2]
        given = answers.get({"fine-tunes": "jobs", "customization": "vocabularies"}.get(path, path), [])
        if isinstance(given, Answer):
            return given
        if path == "info":
            return error(404, "NotFound", "Not found!")
        page = {"total": len(given), path.replace("fine-tunes", "jobs"): given, "vocabulary_list": given}
        return reply(200, {"request_id": "r", "data": page, "output": page}, **answers.get("headers", {}))

    return respond


@contextmanager
def real(
    desk: Desk, respond: Callable[[Received], Answer], workspace: str = "", meant: str = "beijing"
) -> Iterator[tuple[Session, FarEnd]]:
    """The stack on what is played for the real service."""
    desk.declare(CHAIN[3])
    stack = (desk.root / "stack.yaml").read_text().replace("endpoint: emulator", f"endpoint: {meant}")
    (desk.root / "stack.yaml").write_text(stack)
    with far_end(respond) as end:
        patience = Patience(tries=1)
        key = Key("a-key")
        with engine.session(desk.project(), end.origin, key, workspace=workspace, patience=patience) as session:
            yield session, end


def examined(desk: Desk, respond: Callable[[Received], Answer], **options: Any) -> Examination:
    with real(desk, respond, **options) as (session, _):
        return examine(session)


def test_an_account_that_holds_nothing_is_fine(desk: Desk) -> None:
    examination = examined(desk, service())
    assert examination.exit_code == 0
    assert told(examination, Verdict.UNKNOWN) == ["clock"], "a service without a Date tells no time"
    assert "not an emulator" in check(examination, "service").what
    assert check(examination, "key").verdict is Verdict.OK


def test_a_clock_is_compared_with_the_date_of_the_answer(desk: Desk) -> None:
    examination = examined(desk, service(headers={"Date": "Mon, 02 Nov 2020 06:05:00 GMT"}))
    clock = check(examination, "clock")
    assert clock.verdict is Verdict.WARNING
    assert "behind" in clock.what


def test_a_real_service_where_the_emulator_was_meant_fails(desk: Desk) -> None:
    """The samples promise that nothing is bought."""
    examination = examined(desk, service(), meant="emulator")
    assert check(examination, "service").verdict is Verdict.FAILED
    assert examination.exit_code == 1


def test_an_emulator_where_a_real_service_was_meant_is_told(desk: Desk) -> None:
    desk.declare(CHAIN[3])
    desk.write("stack.yaml", (desk.root / "stack.yaml").read_text().replace("endpoint: emulator", "endpoint: beijing"))
    examination = look(desk)
    assert check(examination, "service").verdict is Verdict.WARNING
    assert "meant for beijing" in check(examination, "service").what


def test_objects_of_another_workspace_exit_8(desk: Desk) -> None:
    jobs = list(job(workspace_id="llm-theirs"))
    examination = examined(desk, service(jobs=jobs), workspace="llm-mine")
    assert told(examination, Verdict.FAILED) == ["workspace"]
    assert check(examination, "workspace").what == "the Stack names llm-mine, objects are in llm-theirs"
    assert examination.exit_code == 8
    assert check(examined(desk, service(jobs=jobs), workspace="llm-theirs"), "workspace").verdict is Verdict.OK
    assert "llm-theirs" in check(examined(desk, service(jobs=jobs)), "workspace").what


def test_a_workspace_that_an_emulator_does_not_have_is_only_a_warning(furnished: Desk) -> None:
    with engine.session(furnished.project(), furnished.emulator.origin, Key("any"), workspace="llm-mine") as session:
        examination = examine(session)
    assert check(examination, "workspace").verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("status", "code"), [(404, "WorkSpaceNotFound"), (403, "Workspace.AccessDenied"), (401, "NOT AUTHORIZED")]
)
def test_a_refused_workspace_is_not_blamed_on_the_key(desk: Desk, status: int, code: str) -> None:
    with real(desk, service(files=error(status, code, "no such place")), workspace="llm-mine") as (session, end):
        examination = examine(session)
        asked = [request for request in end.received if "_emulator" not in request.target]
    assert told(examination, Verdict.FAILED) == ["workspace"]
    assert code in check(examination, "workspace").what
    assert check(examination, "key").verdict is Verdict.UNKNOWN
    assert examination.exit_code == 8
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (401, "InvalidApiKey", "region"),
        (400, "Arrearage", "pay"),
        (429, "PostpaidBillOverdue", "pay"),
        (403, "AccessDenied.Unpurchased", "activate"),
        (403, "AccessDenied", "console"),
        (403, "SomethingNew", "standing"),
    ],
)
def test_a_refusal_is_told_with_the_vendors_code_and_what_to_do(desk: Desk, status: int, code: str, hint: str) -> None:
    refusal = error(status, code, "no")
    lists = dict.fromkeys(("files", "jobs", "deployments", "vocabularies", "outputs"), refusal)
    examination = examined(desk, service(**lists))
    key = check(examination, "key")
    assert key.verdict is Verdict.FAILED
    assert code in key.what
    assert hint in key.hint
    assert told(examination, Verdict.FAILED) == ["key"], "one cause is one failure"
    assert examination.exit_code == 8


def test_a_key_of_another_region_may_be_what_a_wrong_key_is(desk: Desk) -> None:
    region = check(examined(desk, service(files=error(401, "InvalidApiKey", "no"))), "region")
    assert region.verdict is Verdict.UNKNOWN
    assert "another region" in region.what


def test_a_list_that_the_stack_needs_not_is_a_warning(desk: Desk) -> None:
    refusal = error(403, "AccessDenied", "no")
    examination = examined(desk, service(deployments=refusal))
    assert check(examination, "deployments").verdict is Verdict.WARNING
    assert examination.exit_code == 0
    needed = examined(desk, service(vocabularies=refusal))
    assert check(needed, "vocabularies").verdict is Verdict.FAILED
    assert needed.exit_code == 8


@pytest.mark.parametrize("answer", [error(500, "InternalError", "oops"), reply(200, b"<html>", kind="text/html")])
def test_a_service_that_answers_nothing_usable_fails(desk: Desk, answer: Answer) -> None:
    lists = dict.fromkeys(("files", "jobs", "deployments", "vocabularies", "outputs"), answer)
    examination = examined(desk, service(**lists))
    assert told(examination, Verdict.FAILED)
    assert check(examination, "key").verdict is Verdict.UNKNOWN
    assert examination.exit_code == 1


def test_a_service_that_gives_no_answer_is_not_asked_for_every_list(desk: Desk) -> None:
    """Each would take its whole time-out."""
    with real(desk, service(files=raw(b""))) as (session, end):
        examination = examine(session)
        asked = [request for request in end.received if "_emulator" not in request.target]
    assert told(examination, Verdict.FAILED) == ["endpoint"]
    assert len(asked) == 1


def test_quotas_are_told_before_they_are_reached(desk: Desk) -> None:
    jobs = [{"job_id": f"j-{number}", "status": "SUCCEEDED"} for number in range(16)]
    jobs += [{"job_id": f"k-{number}", "status": "FAILED"} for number in range(9)]
    files = [{"file_id": f"f-{number}", "size": 6 * 10**7} for number in range(79)]
    vocabularies = [{"vocabulary_id": f"v-{number}"} for number in range(7)]
    examination = examined(desk, service(jobs=jobs, files=files, vocabularies=vocabularies))
    assert check(examination, "jobs that run or succeeded").what == "16 of 20"
    assert check(examination, "files").what == "79 of 10,000 (of 100 by other pages)"
    assert check(examination, "storage").what == "4.7 GB of 107.4 GB (of 5.4 GB by other pages)"
    assert told(examination, Verdict.WARNING) == ["storage", "jobs that run or succeeded"]


@pytest.mark.parametrize(
    ("origin", "region"),
    [
        ("https://dashscope.aliyuncs.com", "cn-beijing"),
        ("https://dashscope-intl.aliyuncs.com", "ap-southeast-1"),
        ("https://llm-1.cn-beijing.maas.aliyuncs.com", "cn-beijing"),
        ("https://maas.aliyuncs.com", ""),
        ("https://dashscope.aliyuncs.com.example.org", ""),
        ("http://127.0.0.1:8700", ""),
    ],
)
def test_the_region_of_a_host(origin: str, region: str) -> None:
    assert region_of(origin) == region


def test_without_a_key_the_rest_is_looked_at_and_none_is_sent(desk: Desk) -> None:
    desk.declare(CHAIN[3])
    missing = NotAuthorised("there is no API key", hint="set it")
    with far_end(service(files=error(401, "InvalidApiKey", "no"))) as end:
        with engine.session(desk.project(), end.origin, Key(""), patience=Patience(tries=1)) as session:
            examination = examine(session, keyless=missing)
        assert all("authorization" not in request.headers for request in end.received)
    assert check(examination, "endpoint").verdict is Verdict.OK
    assert (check(examination, "key").what, check(examination, "key").hint) == ("there is no API key", "set it")
    assert check(examination, "region").verdict is Verdict.UNKNOWN
    assert check(examination, "state").verdict is Verdict.OK
    assert examination.exit_code == 8


# No way there ---------------------------------------------------------------------------------------------------------


def unreachable(desk: Desk, origin: str) -> NeverSent:
    with (
        pytest.raises(NeverSent) as caught,
        engine.session(desk.project(), origin, Key("any"), patience=Patience(tries=1)),
    ):
        pass
    return caught.value


def test_a_closed_port_and_a_port_without_tls_are_told_apart(desk: Desk) -> None:
    desk.declare(CHAIN[3])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    closed = not_connected(unreachable(desk, f"http://127.0.0.1:{port}"))
    assert str(port) in check(closed, "endpoint").what
    assert "nothing listens there" in check(closed, "endpoint").hint
    assert told(closed, Verdict.FAILED) == ["endpoint"]
    assert closed.exit_code == 1
    plain = not_connected(unreachable(desk, desk.emulator.origin.replace("http:", "https:")))
    assert "TLS failed" in check(plain, "endpoint").hint


def test_a_name_without_an_address_is_told_as_that() -> None:
    error = NeverSent("https://nowhere.example cannot be reached")
    error.__cause__ = OSError()
    error.__cause__.__cause__ = socket.gaierror(-2, "Name or service not known")
    assert "name has no address" in check(not_connected(error), "endpoint").hint


# The page -------------------------------------------------------------------------------------------------------------


def test_every_verdict_is_a_word_in_its_column_and_nothing_hidden_gets_through(furnished: Desk) -> None:
    """The evidence is a name that the service chose."""
    with furnished.session() as opened, opened.store.lease() as epoch:
        opened.store.commit(epoch, Fact("jobs.early_output", False, "of \x1b[2Jj\n::error", NOW))
    examination = look(furnished)
    page = examination_text(None, examination, None)
    assert "\x1b[2J" not in page
    assert r"of \x1b[2Jj\n" in page
    rows = page.splitlines()[: len(examination.checks)]
    column = rows[0].index("ok")
    assert {row[column:].split()[0] for row in rows} == {"ok"}
    assert "files.purpose      does not hold" in page
    data = examination_json(examination)
    assert [one["holds"] for one in data["facts"] if one["name"] == "jobs.mark"] == [True]
    assert {one["verdict"] for one in data["checks"]} == {"ok"}
