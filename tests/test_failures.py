"""Failure by failure, what the engine does: docs/failures.md has the table, the sections here are in its order.

The emulator misbehaves as it is told, the clock is a number: days of waiting cost nothing. What buys something is
counted in the service's own ledger, never by what we believe.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler import engine
from reconciler.api import Api, Patience, Reply
from reconciler.apply import UNHEARD, Progress, Stage, Terms
from reconciler.errors import ManifestError, NotAuthorised, Unavailable
from reconciler.plan import Choices, Verb
from reconciler.recover import parse_time
from reconciler.render import changes
from reconciler.resource import Request
from reconciler.state import IntentPhase, Role
from tests.desk import WIRE, Desk, document, lines, texts
from tests.far_end import far_end, reply, scripted
from tests.lossy import lossy
from tests.test_recover import (
    DATASET,
    KINDS,
    LOST,
    NEVER,
    PAID,
    WORDS,
    WORLD,
    bought,
    converges,
    creation,
    deployment,
    job,
    knows,
    play,
)

DAY = 86_400.0


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries nobody waits: how long is for test_api.py to say."""
    monkeypatch.setattr("reconciler.api.Patience", partial(Patience, first_s=0.001))


@pytest.fixture
def ready(desk: Desk) -> Desk:
    """A project with one object of each collection on an account that is known to show our marks; none is applied."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(*WORLD)
    knows(desk, *KINDS)
    return desk


@pytest.fixture
def serving(desk: Desk) -> Desk:
    """Data, a job and a deployment of what it made, all applied."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment(model={"fineTuneJob": "j"}))
    desk.apply()
    return desk


def counted(desk: Desk) -> list[dict[str, Any]]:
    """The rules that play, with how often each was asked and met a call."""
    rules = WIRE.get(f"{desk.emulator.origin}/_emulator/faults").raise_for_status().json()["faults"]
    return list(rules)


def remote(desk: Desk, collection: str) -> str:
    """The id of our one object in use."""
    (found,) = [
        row.id for row in desk.state().owned.values() if row.collection == collection and row.role is Role.CURRENT
    ]
    return found


def ends(desk: Desk, terms: Terms | None = None, **choices: Any) -> dict[str, Progress]:
    return {one.operation.id: one for one in desk.apply(terms, **choices).progress}


def until(true: Callable[[], bool], *, within_s: float = 30) -> None:
    """What happens on the other side happens a little later."""
    for _ in range(int(within_s / 0.02)):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never happened")


def fate(operation: str, *statuses: tuple[float, str], **more: Any) -> dict[str, Any]:
    return {"operation": operation, "fate": {"statuses": [list(entry) for entry in statuses], **more}}


# 2, 7, 9, 10, 11, 12: an answer that is none ------------------------------------------------------------------------

NO_ANSWER: dict[str, dict[str, Any]] = {
    "cut in the body": {"cut": {"after_bytes": 10}},
    "cut in the head": {"cut": {"after_bytes": 20, "part": "head"}},
    "endless": {"endless": True},
    "garbage": {"answer": {"body": "garbage"}},
    "truncated": {"answer": {"body": "truncated"}},
    "deep": {"answer": {"text": "[" * 100_000}},
    "a member twice": {"answer": {"text": '{"output": {}, "output": {"job_id": "other"}}'}},
    "a page with 200": {"answer": {"status": 200, "body": "html"}},
    "nothing with 200": {"answer": {"status": 200, "body": "empty"}},
    "204": {"answer": {"status": 204}},
    "redirect": {"answer": {"status": 307, "location": "http://127.0.0.1:9/elsewhere"}},
    "408": {"answer": {"status": 408}},
    "500": {"answer": {"status": 500}},
    "503": {"answer": {"status": 503, "retry_after": "1"}},
    "504 page": {"answer": {"status": 504, "body": "html"}},
}


@pytest.mark.parametrize("how", NO_ANSWER)
def test_a_paid_creation_that_is_not_answered_is_sent_once_and_found(ready: Desk, how: str) -> None:
    """Whatever came instead of an answer, the job is there and was bought once."""
    play(ready, {"operation": "jobs.create", **NO_ANSWER[how]})
    applied = ready.apply()
    assert [one.intent.phase for one in applied.recovered] == [IntentPhase.ADOPTED]
    assert "adopted, nothing is created twice" in applied.recovered[0].what
    assert counted(ready)[0]["calls"] == 1
    assert converges(ready)
    assert bought(ready, "jobs") == 1


@pytest.mark.parametrize("how", NO_ANSWER)
def test_a_list_that_is_not_answered_stops_the_plan_in_words(ready: Desk, how: str) -> None:
    """A read is repeated so often and no more; then it is an error of one sentence, and nothing was believed."""
    ready.apply()
    before = ready.state()
    play(ready, {"operation": "deployments.list", **NO_ANSWER[how]})
    with pytest.raises(Unavailable) as caught:
        ready.plan()
    assert "deployments" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert counted(ready)[0]["calls"] == Patience().tries
    assert ready.state() == before
    play(ready)
    assert lines(ready.plan()) == []


def test_a_redirect_is_told_with_its_host_and_never_followed(ready: Desk) -> None:
    with far_end(scripted(reply(200, {}))) as other:
        play(ready, {"operation": "*", "answer": {"status": 302, "location": f"{other.origin}/x?token=secret"}})
        with pytest.raises(Unavailable, match=r"a redirect to http://127\.0\.0\.1:\d+; none is ever followed$"):
            ready.plan()
        assert other.received == []


# 3: the list does not show it yet -----------------------------------------------------------------------------------


@pytest.mark.parametrize("collection", PAID)
def test_a_new_object_that_is_not_visible_yet_is_waited_for(ready: Desk, collection: str) -> None:
    """For two minutes a 404 by its id says "not yet": neither is it made again nor is it taken for gone."""
    play(
        ready,
        {"operation": f"{collection}.list", "hide": {"emulated_s": 100}},
        {"operation": f"{collection}.get", "hide": {"emulated_s": 100}},
    )
    ready.apply(Terms(wait="created"))
    row = next(row for row in ready.state().owned.values() if row.collection == collection)
    assert f"… wait {row.slot}" in lines(ready.plan())
    assert all(one.stage is Stage.DONE for one in ready.apply().progress)
    assert bought(ready, collection) == 1


# 4: the request arrives after we gave up ----------------------------------------------------------------------------


@pytest.fixture
def brief_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write is given up after two seconds of ours; the far side holds it for as long as it likes."""
    monkeypatch.setattr("reconciler.api.WRITE_WITHIN_S", 2.0)


@pytest.mark.usefixtures("brief_writes")
@pytest.mark.parametrize("collection", PAID)
def test_what_arrives_late_refuses_the_second_and_is_adopted(ready: Desk, collection: str) -> None:
    """The second request carries the first one's suffix: the service answers 409 instead of billing twice."""
    ready.declare(*ONE[collection])
    play(ready, {"operation": f"{collection}.create", "nth": 1, "hold": {"emulated_s": 2000}})
    ready.apply()
    assert creation(ready, collection) == [IntentPhase.ABSENT]
    play(ready, {"operation": f"{collection}.list", "hide": {"emulated_s": 200}})
    ready.clock.sleep(2000)
    until(lambda: bought(ready, collection) == 1)
    found = ready.apply().recovered
    assert [(one.intent.phase, one.intent.status) for one in found] == [(IntentPhase.ADOPTED, 409)]
    assert converges(ready)
    assert bought(ready, collection) == 1


@pytest.mark.usefixtures("brief_writes")
@pytest.mark.parametrize("collection", PAID)
def test_what_arrives_after_the_second_is_refused_by_the_service(ready: Desk, collection: str) -> None:
    """The other order of the same two. Where no suffix is checked it is a duplicate: see test_recover.py."""
    ready.declare(*ONE[collection])
    play(ready, {"operation": f"{collection}.create", "nth": 1, "hold": {"emulated_s": 6000}})
    ready.apply()
    assert creation(ready, collection) == [IntentPhase.ABSENT]
    ready.apply()
    ready.clock.sleep(6000)
    with suppress(AssertionError):
        until(lambda: bought(ready, collection) == 2, within_s=0.5)
    assert bought(ready, collection) == 1
    assert lines(ready.plan()) == []


ONE = {"jobs": (DATASET, job()), "deployments": (deployment(),)}


# 5, 6: not now, and no answer to reads ------------------------------------------------------------------------------


@pytest.mark.parametrize("collection", KINDS)
def test_a_quota_ends_it_at_once_in_the_services_words_and_stops_nothing_else(ready: Desk, collection: str) -> None:
    play(ready, {"operation": f"{collection}.create", "throttle": "quota"})
    ended = ready.apply().progress
    failed = [one for one in ended if one.stage is Stage.FAILED]
    assert [one.operation.collection for one in failed] == [collection]
    assert "Only 20 fine-tune job in running or succeeded allowed per user." in failed[0].detail
    assert failed[0].code == 5
    assert counted(ready)[0]["calls"] == 1, "waiting would not help"
    assert {one.stage for one in ended} <= {Stage.DONE, Stage.FAILED, Stage.SKIPPED}
    assert converges(ready)


def test_a_rate_is_waited_for_by_everything_that_is_sent(ready: Desk) -> None:
    """Each first call of each operation is refused for a moment: nothing fails, nothing is made twice."""
    names = ("files.create", "jobs.create", "deployments.create", "vocabularies.create", "phrases.create", "jobs.list")
    play(ready, *({"operation": name, "nth": 1, "refuse": {"status": 429, "retry_after": "0"}} for name in names))
    assert all(one.stage is Stage.DONE for one in ready.apply().progress)
    assert {name: bought(ready, name) for name in KINDS} == dict.fromkeys(KINDS, 1)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_reads_that_fail_now_and_then_are_repeated(ready: Desk, status: int) -> None:
    play(ready, *({"operation": f"*.{name}", "every": 3, "refuse": {"status": status}} for name in ("list", "get")))
    assert all(one.stage is Stage.DONE for one in ready.apply().progress)
    assert lines(ready.plan()) == []


def test_a_service_that_is_away_while_work_is_waited_for_costs_nothing(ready: Desk) -> None:
    """Reads fail for a while longer than they are repeated: it is told, waited through, and nothing is made again."""
    play(ready, {"operation": "jobs.list", "nth": list(range(4, 24)), "refuse": {"status": 503}})
    assert all(one.stage is Stage.DONE for one in ready.apply().progress)
    assert any("not visible" in one.detail for one in ready.told)
    assert bought(ready, "jobs") == 1


# 8: nothing was sent ------------------------------------------------------------------------------------------------


def test_a_service_that_cannot_be_reached_is_named_and_its_creation_is_not_lost(ready: Desk) -> None:
    """Creations take a connection of their own; where none is to be had, no byte left and nothing is undecided."""
    with refusing(ready, "POST /api/v1/fine-tunes") as door:
        ended = Desk(ready.root, replace(ready.emulator, origin=door)).apply().progress
    failed = next(one for one in ended if one.operation.slot.address == "FineTuneJob/j")
    assert failed.stage is Stage.FAILED
    assert "cannot be reached" in failed.detail
    assert creation(ready, "jobs") == [IntentPhase.REJECTED]
    assert converges(ready)
    first, second = (one for one in ready.state().intents.values() if one.collection == "jobs")
    assert first.tag == second.tag
    assert bought(ready, "jobs") == 1


@contextmanager
def refusing(desk: Desk, wanted: str) -> Iterator[str]:
    """An origin that nobody can connect to for the requests that begin like this; the patch is of the wire alone."""
    opening = Api._send_once

    def sent(self: Api, request: Request, ends_at: float, told: Callable[[int], None]) -> Reply:
        asked = copy(self)  # other threads are sending by this very object
        if f"{request.method} /api/v1{request.path}".startswith(wanted):
            asked.origin = "http://127.0.0.1:9"
        return opening(asked, request, ends_at, told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "_send_once", sent)
        yield desk.emulator.origin


# 13: words nobody documents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("collection", PAID)
def test_a_status_nobody_documents_is_waited_for_and_told_once(ready: Desk, collection: str) -> None:
    """It is neither success nor failure: nothing is repaired by buying, nothing that depends on it begins."""
    end = "SUCCEEDED" if collection == "jobs" else "RUNNING"
    play(ready, fate(f"{collection}.create", (0, "PENDING"), (60, "HIBERNATING"), (7200, end)))
    ready.apply(Terms(timeout_s=3600))
    row = next(row for row in ready.state().owned.values() if row.collection == collection)
    (waits,) = [op for op in ready.plan().operations if op.slot == row.slot]
    assert waits.verb is Verb.WAIT
    assert "HIBERNATING, a status this program does not know" in waits.why
    assert all(one.stage is Stage.DONE for one in ready.apply().progress)
    assert UNHEARD in {one.detail for one in ready.told if one.status == "HIBERNATING"}
    assert bought(ready, collection) == 1


def test_a_deployment_in_use_with_a_status_nobody_documents_is_left_alone(serving: Desk) -> None:
    """Even where its capacity is not as declared."""
    edit = {"output.deployments.*.status": "HIBERNATING", "output.deployments.*.capacity": 8}
    play(serving, {"operation": "deployments.list", "edit": {"set": edit}})
    assert lines(serving.plan()) == ["… wait Deployment/p"]
    before = serving.emulator.operations()
    serving.apply(Terms(timeout_s=600))
    assert serving.emulator.operations() == before


# 14: the key, the bill ----------------------------------------------------------------------------------------------

LOCKED_OUT = {"status": 401, "code": "InvalidApiKey", "message": "Invalid API-key provided."}


@pytest.mark.parametrize("first", [1, 2, 3, 5, 8, 13, 21, 34, 55])
def test_a_key_that_ends_in_the_middle_ends_the_run_with_everything_recorded(ready: Desk, first: int) -> None:
    """From the n-th call on: nothing more is started, the journal is whole, and the next key goes on from there."""
    play(ready, {"operation": "*", "from": first, "refuse": LOCKED_OUT})
    told = []
    try:
        ended = ready.apply().progress
    except NotAuthorised as error:
        told = [f"{error} ({error.hint})"]
    else:
        told = [one.detail for one in ended if one.code == 8]
        assert {one.stage for one in ended} <= {Stage.DONE, Stage.FAILED, Stage.DETACHED, Stage.SKIPPED}
    assert told
    assert all("InvalidApiKey" in detail and "what runs is billed all the same" in detail for detail in told)
    assert counted(ready)[0]["fired"] <= 5, "what was in flight, at most a list of each collection, and no more"
    assert ready.state().open_intents() == ()
    assert converges(ready)
    assert {name: bought(ready, name) for name in KINDS} == dict.fromkeys(KINDS, 1)


def test_the_call_that_was_refused_is_named(ready: Desk) -> None:
    play(ready, {"operation": "jobs.create", "refuse": LOCKED_OUT})
    failed = next(one for one in ready.apply().progress if one.stage is Stage.FAILED)
    assert failed.detail.startswith("jobs.create: InvalidApiKey: Invalid API-key provided.")


def test_a_key_that_ends_during_the_smoke_prompts_says_nothing_of_the_deployment(ready: Desk) -> None:
    """It is not failed, so it need not be bought again: with a good key it is asked once more."""
    ready.declare(deployment(smoke=[{"prompt": "hello"}]))
    play(ready, {"operation": "models.generate", "refuse": LOCKED_OUT})
    (ended,) = ready.apply().progress
    assert (ended.stage, ended.code) == (Stage.DETACHED, 8)
    play(ready)
    assert [one.stage for one in ready.apply().progress] == [Stage.DONE]
    assert bought(ready, "deployments") == 1


@pytest.mark.parametrize("code", ["Arrearage", "PostpaidBillOverdue"])
def test_an_unpaid_bill_is_told_as_such_and_not_waited_for(ready: Desk, code: str) -> None:
    play(ready, {"operation": "deployments.create", "refuse": {"status": 400, "code": code, "message": "Overdue."}})
    failed = next(one for one in ready.apply().progress if one.operation.collection == "deployments")
    assert (failed.stage, failed.code) == (Stage.FAILED, 8)
    assert f"{code}: Overdue." in failed.detail
    assert counted(ready)[0]["calls"] == 1
    assert converges(ready)


def test_a_deployment_that_an_unpaid_bill_stopped_is_not_bought_again(serving: Desk) -> None:
    edit = {"output.deployments.*.status": "ARREARS_DOWN", "output.deployments.*.ready_capacity": 0}
    play(serving, {"operation": "deployments.list", "edit": {"set": edit}})
    (blocked,) = serving.plan().operations
    assert (blocked.verb, blocked.code) == (Verb.NOTHING, 5)
    assert "ARREARS_DOWN" in blocked.why
    serving.apply()
    assert bought(serving, "deployments") == 1
    play(serving)
    assert lines(serving.plan()) == []


# 16, 17: changed and deleted behind our back ------------------------------------------------------------------------


def test_words_changed_behind_our_back_are_shown_word_by_word_and_put_right(desk: Desk) -> None:
    desk.declare(WORDS)
    desk.apply()
    body = {
        "model": "speech-biasing",
        "input": {
            "action": "update_vocabulary",
            "vocabulary_id": remote(desk, "vocabularies"),
            "vocabulary": [{"text": "热词", "weight": 1}, {"text": "别的", "weight": 2}],
        },
    }
    desk.emulator.call("POST", "/services/audio/asr/customization", body)
    (update,) = desk.plan().operations
    assert update.verb is Verb.UPDATE
    assert {change.path[1] for change in update.reasons} == {"热词", "别的"}
    desk.apply()
    assert lines(desk.plan()) == []


@pytest.mark.parametrize(
    ("operation", "edit"),
    [
        ("jobs.list", {"output.jobs.*.hyper_parameters.n_epochs": "1.0"}),
        ("jobs.list", {"output.jobs.*.hyper_parameters.max_length": "2048"}),
        ("jobs.list", {"output.jobs.*.hyper_parameters.learning_rate": "1e-4"}),
        ("deployments.list", {"output.deployments.*.capacity": 4.0}),
        ("deployments.list", {"output.deployments.*.plan": None}),
    ],
)
def test_another_spelling_of_the_same_is_no_difference(serving: Desk, operation: str, edit: dict[str, Any]) -> None:
    play(serving, {"operation": operation, "edit": {"set": edit}})
    assert lines(serving.plan()) == []


@pytest.mark.parametrize(
    ("collection", "wanted"), [("files", "Dataset/d:data/d.jsonl"), ("deployments", "Deployment/p")]
)
def test_what_was_deleted_behind_our_back_is_made_again_with_its_price_shown(
    serving: Desk, collection: str, wanted: str
) -> None:
    serving.emulator.call("DELETE", f"/{collection}/{remote(serving, collection)}")
    serving.clock.sleep(600)
    plan = serving.plan()
    assert lines(plan) == [f"+ create {wanted}"]
    assert "is gone from the service" in plan.operations[0].why
    assert plan.totals.hour_after == 216
    serving.apply()
    assert lines(serving.plan()) == []
    assert bought(serving, "jobs") == 1


def test_a_paid_run_whose_record_was_deleted_is_not_bought_again(serving: Desk) -> None:
    """What it made is still there, and is what the deployment runs."""
    serving.clock.sleep(600)
    play(serving, *removed_from_sight("jobs"))
    plan = serving.plan()
    assert lines(plan) == []
    assert "its record" in plan.notes[0].what
    assert "is gone from the service" in plan.notes[0].what
    assert "--replace FineTuneJob/j" in plan.notes[0].hint


def removed_from_sight(collection: str) -> tuple[dict[str, Any], ...]:
    return (
        {"operation": f"{collection}.list", "hide": {"emulated_s": 1e7}},
        {"operation": f"{collection}.get", "refuse": {"status": 404}},
    )


@pytest.mark.parametrize("collection", ["files", "jobs", "deployments"])
def test_one_404_that_comes_too_easily_is_not_believed(serving: Desk, collection: str) -> None:
    """Gone from the list and from one read by its id; the second read finds it."""
    serving.clock.sleep(600)
    play(
        serving,
        {"operation": f"{collection}.list", "hide": {"emulated_s": 1e7}},
        {"operation": f"{collection}.get", "nth": 1, "refuse": {"status": 404}},
    )
    assert lines(serving.plan()) == []


# 18: lists that move under their reader -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pages",
    [
        *({"shift": shift} for shift in ("insert", "delete", "repeat", "reorder")),
        *({"total": off} for off in (1, -1, 100)),
    ],
    ids=str,
)
def test_a_list_that_moves_or_lies_makes_nothing_vanish(ready: Desk, pages: dict[str, Any]) -> None:
    """Whatever the pages do, what is ours is there, and what cannot be told is an error rather than an absence."""
    ready.apply()
    play(ready, {"operation": "*.list", "pages": pages})
    with suppress(Unavailable):
        assert lines(ready.plan()) == []
    with suppress(Unavailable):
        ready.apply()
    assert {name: bought(ready, name) for name in KINDS} == dict.fromkeys(KINDS, 1)


# 19: the data change under our hands --------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines(keepends=True)[0])


def replaced(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes().replace(b"question", b"QUESTION"))
    other.rename(path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [truncated, appended, replaced, removed])
def test_data_that_change_after_the_plan_are_not_uploaded(ready: Desk, change: Callable[[Path], None]) -> None:
    """Not even where they have the same size: nothing is uploaded, nothing is trained, and why is said."""
    with ready.session() as opened:
        progress = engine.apply(
            opened,
            Choices(),
            Terms(),
            approve=lambda snapshot: change(ready.root / "data/d.jsonl") is None,
            report=ready.told.append,
            clock=ready.clock,
            sleep=ready.clock.sleep,
        ).progress
    failed = next(one for one in progress if one.stage is Stage.FAILED)
    assert failed.operation.slot.address == "Dataset/d"
    assert "changed since the plan" in failed.detail or "no such file" in failed.detail
    assert (bought(ready, "files"), bought(ready, "jobs")) == (0, 0)
    ready.rows("data/d.jsonl", texts(40))
    assert creation(ready, "files") == [IntentPhase.REJECTED]
    assert converges(ready)


def test_data_that_change_all_the_time_are_uploaded_as_they_were_planned_or_not_at_all(ready: Desk) -> None:
    """A writer that never rests, from the first hash to the last byte: what arrives is what its plan said."""
    path, over = ready.root / "data/d.jsonl", threading.Event()
    whole = path.read_bytes()

    def write() -> None:
        while not over.is_set():
            for change in (appended, replaced, truncated):
                change(path)
                over.wait(0.002)
            path.write_bytes(whole)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(6):
            with suppress(ManifestError):  # half a row was read
                ready.apply(Terms(wait="created"), allow=frozenset({("retrain", "FineTuneJob/j")}))
    finally:
        over.set()
        writer.join()
    arrived = {entry["md5"] for entry in ready.emulator.ledger() if entry["operation"] == "files.create"}
    path.write_bytes(whole)
    uploads = [one for one in ready.state().intents.values() if (one.collection, one.verb) == ("files", "create")]
    assert arrived <= {one.fields["source"][:32] for one in uploads}
    assert converges(ready)


# 20: uploads that do not arrive whole -------------------------------------------------------------------------------


@pytest.mark.parametrize("cut_at", range(0, 512 * 1024, 64 * 1024))
def test_an_upload_that_breaks_off_is_sent_again_and_trained_on_once(ready: Desk, cut_at: int) -> None:
    """Wherever it broke off, no part of it is taken for the whole."""
    ready.rows("data/d.jsonl", [f"{number} {'word ' * 650}" for number in range(80)])
    lost: list[str] = []

    def takes(method: str, path: str) -> int | None:
        if method == "POST" and path.endswith("/files") and not lost:
            lost.append(path)
            return cut_at
        return None

    with lossy(ready.emulator.origin, lambda method, path, body: False, takes=takes) as door:
        through = Desk(ready.root, replace(ready.emulator, origin=door))
        through.apply(Terms(wait="created"))
    assert lost
    assert converges(ready)
    assert (bought(ready, "files"), bought(ready, "jobs")) == (1, 1)


def test_a_200_that_names_a_failed_upload_is_a_failure_in_its_words(ready: Desk) -> None:
    body = {
        "data.uploaded_files": [],
        "data.failed_uploads": [{"name": "d", "code": "Bad", "message": "No such type."}],
    }
    play(ready, {"operation": "files.create", "nth": 1, "edit": {"set": body}})
    failed = next(one for one in ready.apply().progress if one.stage is Stage.FAILED)
    assert "Bad: No such type." in failed.detail
    assert bought(ready, "jobs") == 0


def test_a_200_that_names_no_upload_at_all_is_looked_for(ready: Desk) -> None:
    body = {"data.uploaded_files": [], "data.failed_uploads": []}
    play(ready, {"operation": "files.create", "nth": 1, "edit": {"set": body}})
    assert [one.intent.phase for one in ready.apply().recovered] == [IntentPhase.ADOPTED]
    assert converges(ready)
    assert bought(ready, "files") == 1


def test_an_upload_with_another_hash_is_never_trained_on_and_is_sent_again(ready: Desk) -> None:
    other = hashlib.md5(b"other", usedforsecurity=False).hexdigest()
    play(ready, *({"operation": f"files.{name}", "edit": {"set": {path: other}}} for name, path in MD5.items()))
    ended = ends(ready)
    assert ended["create Dataset/d:data/d.jsonl"].stage is Stage.FAILED
    assert "another source than was sent" in ended["create Dataset/d:data/d.jsonl"].detail
    assert bought(ready, "jobs") == 0
    play(ready)
    assert "is not what was sent" in ready.plan().operations[0].why
    assert converges(ready)
    assert ready.emulator.operations().count("files.delete") == 1, "the waste is let go"
    assert bought(ready, "jobs") == 1


MD5 = {"list": "data.files.*.md5", "get": "data.md5"}


# 31: clocks ---------------------------------------------------------------------------------------------------------


class Ours(datetime):
    """The clock on our wall, which somebody sets."""

    off = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.off


OFF = [timedelta(hours=1), timedelta(days=1), timedelta(days=3660)]


@pytest.mark.parametrize("off", [*OFF, *(-one for one in OFF)], ids=str)
@pytest.mark.parametrize("collection", PAID)
def test_whatever_our_clock_says_the_journal_keeps_the_services_time(
    ready: Desk, collection: str, off: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set while a request is decided upon, and again before its effect is looked for: nothing is bought twice."""
    monkeypatch.setattr("reconciler.api.datetime", Ours)
    monkeypatch.setattr(Ours, "off", timedelta(0))

    def turned(progress: Progress) -> None:
        ready.told.append(progress)
        Ours.off += off if progress.stage is Stage.SENDING else timedelta(0)

    play(ready, {"operation": f"{collection}.create", "nth": 1, **NEVER}, {"operation": "files.create", **LOST})
    with ready.session() as opened:
        engine.apply(
            opened,
            Choices(),
            Terms(),
            approve=lambda snapshot: True,
            report=turned,
            clock=ready.clock,
            sleep=ready.clock.sleep,
        )
    for intent in ready.state().intents.values():
        began, ended = parse_time(intent.at), parse_time(intent.deadline)
        assert timedelta(0) <= ended - began < timedelta(hours=1)
        assert abs(began - service_time(ready)) < timedelta(days=1)
    assert converges(ready)
    assert bought(ready, collection) == 1


def service_time(desk: Desk) -> datetime:
    return parse_time(WIRE.get(f"{desk.emulator.origin}/_emulator/info").json()["now"])


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Kiritimati"])
def test_the_zone_of_this_machine_means_nothing(ready: Desk, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        play(ready, {"operation": "jobs.create", "nth": 1, **LOST})
        ready.apply()
        assert creation(ready, "jobs") == [IntentPhase.ADOPTED]
        assert converges(ready)
        assert bought(ready, "jobs") == 1
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("off_s", [3600.0, 10 * 365 * DAY])
def test_a_time_that_the_service_took_back_does_not_keep_anybody_waiting_for_years(ready: Desk, off_s: float) -> None:
    """Its clock was ahead when the request was written down: the end of it is never further off than it was then."""
    play(ready, {"operation": "*", "date_offset_s": off_s}, {"operation": "jobs.create", **NEVER})
    ready.apply(stopped=lambda: any(one.stage is Stage.UNKNOWN for one in ready.told))
    play(ready)
    began = ready.clock.now_s
    assert [one.intent.phase for one in ready.apply(Terms(wait="none")).recovered] == [IntentPhase.ABSENT]
    assert ready.clock.now_s - began < 3600


# 32: asked to stop ---------------------------------------------------------------------------------------------------


def test_asked_to_stop_nobody_waits_for_what_became_of_a_lost_creation(ready: Desk) -> None:
    play(ready, {"operation": "jobs.create", **NEVER})
    began = ready.clock.now_s
    applied = ready.apply(stopped=lambda: any(one.stage is Stage.UNKNOWN for one in ready.told))
    assert applied.recovered == ()
    assert creation(ready, "jobs") == [IntentPhase.UNKNOWN]
    assert ready.clock.now_s - began < 240
    assert converges(ready)
    assert bought(ready, "jobs") == 1


# 35: days in a queue ------------------------------------------------------------------------------------------------


def test_three_days_in_a_queue_are_waited_for_with_ever_fewer_looks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.apply.REST_S_MAX", 300.0)  # a heartbeat every ten seconds would be the test's time
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job())
    queue = fate("jobs.create", (0, "PENDING"), (60, "QUEUING"), (3 * DAY, "RUNNING"), (3 * DAY + 3600, "SUCCEEDED"))
    play(desk, queue, {"operation": "jobs.list", "hold": {"real_s": 0}})
    ended = ends(desk, Terms(timeout_s=3600))
    assert (ended["create FineTuneJob/j"].stage, ended["create FineTuneJob/j"].code) == (Stage.DETACHED, 6)
    assert ended["create FineTuneJob/j"].status == "QUEUING"
    assert lines(desk.plan()) == ["… wait FineTuneJob/j"]
    assert [one.stage for one in desk.apply().progress] == [Stage.DONE]
    assert desk.clock.now_s > 3 * DAY
    looks = counted(desk)[1]["calls"]
    assert looks < 3 * DAY / 300 + 60
    assert desk.emulator.operations() == ["files.create", "jobs.create"]


# 36: the job comes to nothing ---------------------------------------------------------------------------------------

TO_NOTHING: dict[str, tuple[dict[str, Any], ...]] = {
    "FAILED": (
        fate("jobs.create", (0, "PENDING"), (300, "RUNNING"), (600, "FAILED"), code="InvalidData", message="Bad row."),
    ),
    "CANCELED": (fate("jobs.create", (0, "PENDING"), (300, "CANCELING"), (600, "CANCELED")),),
    "without an output": (
        fate("jobs.create", (0, "PENDING"), (600, "SUCCEEDED")),
        {"operation": "jobs.list", "edit": {"remove": ["output.jobs.*.finetuned_output"]}},
        {"operation": "jobs.get", "edit": {"remove": ["output.finetuned_output"]}},
    ),
}


@pytest.mark.parametrize("end", TO_NOTHING)
def test_a_first_run_that_comes_to_nothing_leaves_its_dependants_unborn_and_is_not_repeated(
    desk: Desk, end: str
) -> None:
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment(model={"fineTuneJob": "j"}))
    play(desk, *TO_NOTHING[end])
    ended = ends(desk)
    assert (ended["create FineTuneJob/j"].stage, ended["create FineTuneJob/j"].code) == (Stage.FAILED, 5)
    assert ended["create Deployment/p"].stage is Stage.SKIPPED
    (row,) = [row for row in desk.state().owned.values() if row.collection == "jobs"]
    assert {"FAILED": "InvalidData Bad row.", "CANCELED": "CANCELED", "without an output": "without naming a model"}[
        end
    ] in row.failure
    for _ in range(2):
        assert {one.code for one in desk.apply().progress} == {5, 3}
    assert (bought(desk, "jobs"), bought(desk, "deployments")) == (1, 0)
    play(desk)
    desk.apply(replace=frozenset({"FineTuneJob/j"}))
    assert lines(desk.plan()) == []
    assert (bought(desk, "jobs"), bought(desk, "deployments")) == (2, 1), "asked for, it is"


@pytest.mark.parametrize("end", TO_NOTHING)
def test_a_later_run_that_comes_to_nothing_leaves_what_serves_as_it_is(serving: Desk, end: str) -> None:
    before = serving.emulator.operations()
    serving.rows("data/d.jsonl", texts(50))
    play(serving, *TO_NOTHING[end])
    serving.apply()
    serving.apply()
    made = serving.emulator.operations()[len(before) :]
    assert made == ["files.create", "jobs.create"]
    assert remote(serving, "deployments")
    assert serving.state().rows(next(iter(serving.plan().blocked)).slot, Role.CURRENT), "the model in use stays"


def test_the_end_of_its_log_is_kept_with_a_failed_run(desk: Desk) -> None:
    """What failed is often said nowhere else."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job())
    play(desk, *TO_NOTHING["FAILED"])
    desk.apply()
    (row,) = [row for row in desk.state().owned.values() if row.collection == "jobs"]
    assert "(log: " in row.failure
    assert len(row.failure) < 600
    assert row.failure in desk.plan().operations[0].why


# 37, 38: deployments that fail, half-scale, or are swapped ----------------------------------------------------------


def test_a_deployment_that_fails_is_shown_and_not_followed_by_a_second(ready: Desk) -> None:
    ready.declare(deployment())
    play(ready, fate("deployments.create", (0, "PENDING"), (300, "FAILED")))
    (ended,) = ready.apply().progress
    assert (ended.stage, ended.code) == (Stage.FAILED, 5)
    ready.apply()
    assert bought(ready, "deployments") == 1
    assert "FAILED" in ready.plan().operations[0].why
    play(ready)
    ready.apply(replace=frozenset({"Deployment/p"}))
    assert lines(ready.plan()) == []
    assert ready.emulator.operations().count("deployments.delete") == 1, "the failed one is let go"


def test_a_deployment_that_half_scales_is_waited_for_and_told(ready: Desk) -> None:
    ready.declare(deployment())
    play(ready, fate("deployments.create", (0, "PENDING"), (60, "RUNNING"), ready_capacity=[[0, 0], [60, 2]]))
    (ended,) = ready.apply(Terms(timeout_s=3600)).progress
    assert (ended.stage, ended.code) == (Stage.DETACHED, 6)
    assert "2 of 4 ready" in {one.detail for one in ready.told}
    assert lines(ready.plan()) == ["… wait Deployment/p"]
    assert bought(ready, "deployments") == 1


@pytest.mark.parametrize("end", ["FAILED", "half"])
def test_the_old_side_of_a_swap_serves_until_the_new_one_runs(serving: Desk, end: str) -> None:
    old = remote(serving, "deployments")
    serving.declare(DATASET, job(), deployment(model="qwen3-8b"))
    plan = serving.plan()
    assert lines(plan) == ["± create Deployment/p", "± delete Deployment/p"]
    assert plan.operations[1].after == (plan.operations[0].id,)
    assert "both sides are billed for about 10 min (36.00 CNY)" in changes.cost(plan.operations)
    half = {"ready_capacity": [[0, 0], [60, 2]]} if end == "half" else {}
    play(serving, fate("deployments.create", (0, "PENDING"), (60, "RUNNING" if half else end), **half))
    serving.apply(Terms(timeout_s=3600))
    assert remote(serving, "deployments") == old
    assert "deployments.delete" not in serving.emulator.operations()
    assert serving.emulator.call("GET", f"/deployments/{old}")["output"]["status"] == "RUNNING"


# 39: deletions ------------------------------------------------------------------------------------------------------


def test_what_was_already_gone_is_deleted(serving: Desk) -> None:
    play(serving, {"operation": "deployments.delete", "refuse": {"status": 404}})
    ended = next(one for one in serving.apply(destroy=True).progress if one.operation.collection == "deployments")
    assert (ended.stage, ended.detail) == (Stage.DONE, "was already gone")
    assert not [row for row in serving.state().owned.values() if row.collection == "deployments"]


def test_a_deletion_that_conflicts_is_a_failure_and_the_object_stays_ours(serving: Desk) -> None:
    play(
        serving, {"operation": "deployments.delete", "refuse": {"status": 409, "code": "Conflict", "message": "Busy."}}
    )
    ended = next(one for one in serving.apply(destroy=True).progress if one.operation.collection == "deployments")
    assert (ended.stage, ended.code) == (Stage.FAILED, 5)
    assert "Busy." in ended.detail
    assert remote(serving, "deployments")
    play(serving)
    serving.apply(destroy=True)
    assert not [row for row in serving.state().owned.values() if row.role is Role.CURRENT]


UNSUPPORTED = {"status": 400, "code": "UnsupportedOperation", "message": "Can not delete."}


def test_a_record_that_the_service_keeps_is_forgotten_with_a_word(serving: Desk) -> None:
    serving.declare(DATASET, job() | {"lifecycle": {"deletionPolicy": "Delete"}})
    serving.apply(prune=True)
    play(serving, {"operation": "jobs.delete", "refuse": UNSUPPORTED})
    ended = next(one for one in serving.apply(destroy=True).progress if one.operation.collection == "jobs")
    assert (ended.stage, ended.detail) == (Stage.DONE, "the service keeps the record; it is no longer ours")
    assert not [row for row in serving.state().owned.values() if row.collection == "jobs"]


def test_a_deployment_that_may_not_be_deleted_stays_ours_because_it_costs(serving: Desk) -> None:
    play(serving, {"operation": "deployments.delete", "refuse": UNSUPPORTED})
    ended = next(one for one in serving.apply(destroy=True).progress if one.operation.collection == "deployments")
    assert (ended.stage, ended.code) == (Stage.FAILED, 5)
    assert remote(serving, "deployments")


def test_nobody_waits_for_ever_for_a_deletion(serving: Desk) -> None:
    """It was accepted and does not end: told, recorded as still ours, and what waits for it is not touched."""
    play(
        serving,
        {"operation": "deployments.delete", "refuse": {"status": 200, "text": '{"output": {}}'}},
        {"operation": "deployments.list", "edit": {"set": {"output.deployments.*.status": "DELETING"}}},
    )
    began = serving.clock.now_s
    ended = {one.operation.collection: one for one in serving.apply(destroy=True).progress}
    assert (ended["deployments"].stage, ended["deployments"].code) == (Stage.DETACHED, 6)
    assert "is still DELETING" in ended["deployments"].detail
    assert 1800 < serving.clock.now_s - began < 3600
    assert remote(serving, "deployments")
    assert "files.delete" not in serving.emulator.operations()


# 40: nothing to read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", ["empty folder", "no folder", "broken", "half a file", "a pointer for data", "no data"]
)
def test_a_read_that_came_to_nothing_deletes_nothing(serving: Desk, what: str) -> None:
    """Neither with --prune nor with destroy: an error, and not one request that writes."""
    before, manifest = serving.emulator.operations(), serving.root / "stack.yaml"
    text = manifest.read_text()
    match what:
        case "empty folder":
            manifest.unlink()
        case "no folder":
            serving.root.rename(serving.root.with_name("elsewhere"))
        case "broken":
            manifest.write_text(text.replace("spec:", "spec", 1))
        case "half a file":
            manifest.write_text(text[: len(text) - 30])
        case "a pointer for data":
            (serving.root / "data/d.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
        case "no data":
            (serving.root / "data/d.jsonl").unlink()
    for choices in ({}, {"prune": True}, {"destroy": True}):
        with pytest.raises(ManifestError) as caught:
            serving.apply(**choices)
        assert caught.value.problems
    if what == "a pointer for data":
        assert "Git LFS" in str(caught.value.problems[0])
    assert serving.emulator.operations() == before


def test_half_a_checkout_deletes_nothing_unasked(serving: Desk) -> None:
    """Documents that are missing are told; only --prune takes that for a wish, and a trained model stays even then."""
    serving.declare(DATASET)
    plan = serving.plan()
    assert lines(plan) == []
    assert {note.about for note in plan.notes} == {"FineTuneJob/j", "Deployment/p"}
    serving.apply(prune=True)
    assert "jobs.delete" not in serving.emulator.operations()


# 41: some of many ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 3, 5])
def test_one_of_many_that_fails_takes_only_its_own_branch_along(desk: Desk, nth: int) -> None:
    tables = [
        document(
            "HotwordTable", f"w{number}", {"targetModel": "paraformer-v2", "words": [{"text": "热词", "weight": 4}]}
        )
        for number in range(5)
    ]
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(*tables, DATASET, job(), deployment(model={"fineTuneJob": "j"}))
    knows(desk, *KINDS)
    bad = {"status": 400, "code": "InvalidParameter", "message": "No."}
    play(
        desk,
        {"operation": "vocabularies.create", "nth": nth, "refuse": bad},
        {"operation": "jobs.create", "nth": 1, "refuse": bad},
    )
    stages = [one.stage for one in desk.apply().progress]
    assert {stage: stages.count(stage) for stage in set(stages)} == {Stage.DONE: 5, Stage.FAILED: 2, Stage.SKIPPED: 1}
    assert converges(desk)
    assert (bought(desk, "vocabularies"), bought(desk, "jobs"), bought(desk, "deployments")) == (5, 1, 1)


# 43: our own mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", [MemoryError, RecursionError, RuntimeError, ZeroDivisionError])
@pytest.mark.parametrize("operation", ["files.create", "jobs.create", "deployments.create"])
def test_a_mistake_in_the_thread_that_sends_is_as_good_as_a_kill(
    ready: Desk, operation: str, mistake: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was answered and nobody could hear it: the operation stays open, and is found."""
    sends = Api.send

    def fails(self: Api, request: Request, **more: Any) -> Reply:
        answer = sends(self, request, **more)
        if request.operation == operation:
            raise mistake
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Api, "send", fails)
        with pytest.raises(mistake):
            ready.apply()
    (left,) = ready.state().open_intents()
    assert (f"{left.collection}.create", left.phase) == (operation, IntentPhase.INTENT)
    assert converges(ready)
    assert {name: bought(ready, name) for name in KINDS} == dict.fromkeys(KINDS, 1)


@pytest.mark.parametrize("stage", [Stage.SENDING, Stage.WAITING])
def test_a_mistake_while_it_is_told_loses_nothing_that_is_in_flight(ready: Desk, stage: Stage) -> None:
    def stumbles(progress: Progress) -> None:
        if progress.operation.collection == "jobs" and progress.stage is stage:
            raise MemoryError

    with ready.session() as opened, pytest.raises(MemoryError):
        engine.apply(
            opened,
            Choices(),
            Terms(),
            approve=lambda snapshot: True,
            report=stumbles,
            clock=ready.clock,
            sleep=ready.clock.sleep,
        )
    assert converges(ready)
    assert {name: bought(ready, name) for name in KINDS} == dict.fromkeys(KINDS, 1)
