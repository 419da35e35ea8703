"""Saved plans: their one text, what they are bound to, and that each is applied once, by whoever holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import engine
from reconciler.api import Key
from reconciler.apply import Stage, Terms
from reconciler.diff import Change
from reconciler.errors import BrokenPlan, Position, StalePlan
from reconciler.plan import Choices, Note, Operation, Plan, Verb, facts, sums
from reconciler.resource import Action, Content, Effect, Known, Part, Price, Probe, Request, Share, Slot
from reconciler.saved import BYTES_MAX, Bound, Saved, read, stale, text
from reconciler.state import Stamp, State
from tests.desk import KEY, Desk, document, lines, texts
from tests.lossy import lossy
from tests.test_apply import DATASET, HYPER, WORDS, deployment, job

WORD_TABLE = {"targetModel": "paraformer-v2", "words": [{"text": "热词", "weight": 5}]}


def serving(**spec: Any) -> dict[str, Any]:
    return deployment(model="qwen3-8b", **spec)


PLAIN = serving()
MADE_AT = datetime(2026, 5, 26, 10, tzinfo=UTC)


def reasons(desk: Desk, saved: Saved, **how: Any) -> list[str]:
    """Why this saved plan is refused; nothing was sent then."""
    before = len(desk.emulator.ledger())
    with pytest.raises(StalePlan) as refused:
        desk.apply(plan=saved, **how)
    assert len(desk.emulator.ledger()) == before
    assert refused.value.exit_code == 4
    assert "plan again: reconciler plan --out" in refused.value.hint
    return list(refused.value.reasons)


def forged(saved: Saved, *edits: tuple[str, str]) -> Saved:
    """The file edited by somebody who knows how the digest is made."""
    edited = text(saved)
    for old, new in edits:
        assert old in edited
        edited = edited.replace(old, new)
    body = json.loads(edited)
    del body["digest"]
    digest = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()
    return read("plan.json", (json.dumps({"digest": digest, **body}, indent=1) + "\n").encode())


@pytest.fixture
def declared(desk: Desk) -> Desk:
    """A desk with three things declared that do not need each other, and nothing applied."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, PLAIN, WORDS)
    return desk


@pytest.fixture
def chain(desk: Desk) -> Desk:
    """A desk with data, a run on them and a deployment of what it makes."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment(), WORDS)
    return desk


@pytest.fixture
def running(declared: Desk) -> Desk:
    declared.apply()
    return declared


# The text -----------------------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
slots = st.builds(Slot, words, words)
amounts = st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=0, max_value=10**6)
prices = st.builds(Price, amounts, amounts, words)
plain = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | words
values = st.recursive(
    plain | st.builds(Known, slots, words, words),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(words, values, max_size=3)
positions = st.builds(Position, words, st.integers(1, 999), st.integers(1, 99))
shares = st.builds(Share, st.sampled_from(["train", "validation"]), st.floats(0.1, 0.9), st.integers(0, 9))
contents = st.builds(
    Content, words, st.lists(words, max_size=2).map(tuple), st.integers(0), words, share=st.none() | shares
)
parts = st.builds(
    Part,
    slots,
    mappings,
    at=st.dictionaries(words, positions, max_size=2),
    content=st.none() | contents,
    probes=st.lists(st.builds(Probe, words, st.none() | words), max_size=2).map(tuple),
    tokens=st.none() | st.integers(0),
)
requests = st.builds(
    Request, words, words, words, st.sampled_from(Effect),
    query=st.dictionaries(words, words | st.integers(), max_size=2), body=st.none() | mappings,
)  # fmt: skip
changes = st.builds(Change, st.lists(words, min_size=1, max_size=3).map(tuple), values, values, st.none() | positions)
operations = st.builds(
    Operation, words, st.sampled_from(Action), st.sampled_from(Verb), slots, words, st.none() | parts, mappings, words,
    st.none() | requests, reasons=st.lists(changes, max_size=2).map(tuple), was=prices, price=prices,
)  # fmt: skip
digests = st.dictionaries(words, words, max_size=3)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans as they can be: every name once, each operation after those it waits for, sums that are sums."""
    ops: list[Operation] = []
    for op in draw(st.lists(operations, max_size=3, unique_by=lambda op: op.id)):
        after = draw(st.lists(st.sampled_from(ops), max_size=2)) if ops else []
        ops.append(replace(op, after=tuple(one.id for one in after)))
    notes = draw(st.lists(st.builds(Note, words, words, words), max_size=2))
    return Plan(tuple(ops), tuple(notes), sums(ops, draw(amounts)))


bounds = st.builds(
    Bound, plans(), st.builds(Stamp, words, words, words, words), words, st.booleans(), words, st.dates(), words,
    digests, digests, digests, digests, st.dictionaries(words, st.lists(words, max_size=2).map(tuple), max_size=2),
    st.integers(0, 99),
)  # fmt: skip
moments = st.datetimes(timezones=st.just(UTC))
choices = st.builds(
    Choices,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.frozensets(st.tuples(words, words), max_size=2),
    st.frozensets(words, max_size=2),
)
saveds = st.builds(Saved, words, moments, moments, st.lists(words, max_size=2).map(tuple), choices, bounds)


@given(saveds)
@settings(max_examples=60)
def test_reading_gives_back_what_was_written(saved: Saved) -> None:
    again = read("plan.json", text(saved).encode())
    assert again == saved
    assert text(again) == text(saved)
    assert [facts(op) for op in again.plan.operations] == [facts(op) for op in saved.plan.operations]


def a_small_plan() -> Saved:
    slot = Slot("Deployment/p")
    op = Operation(f"create {slot}", Action.CREATE, Verb.CREATE, slot, "deployments", price=Price(hour=Decimal(216)))
    stamp = Stamp("emulator:1", "", "s")
    plan = Plan((op,), (), sums([op], Decimal(0)))
    bound = Bound(plan, stamp, "", True, "2026", MADE_AT.date(), "", {"s.yaml": "1"}, {}, {}, {}, {}, 0)
    return Saved("1", MADE_AT, MADE_AT + timedelta(days=3), (".",), Choices(), bound)


def test_any_other_byte_is_another_plan_and_refused() -> None:
    """Whichever byte is flipped: in the digest, a name, a price, or only a blank between them."""
    data = text(a_small_plan()).encode()
    for place in range(len(data)):
        with pytest.raises(BrokenPlan):
            read("plan.json", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_a_plan_cut_off_anywhere_is_refused() -> None:
    data = text(a_small_plan()).encode()
    for length in range(0, len(data), 7):
        with pytest.raises(BrokenPlan):
            read("plan.json", data[:length])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b"[1, 2]", "is no saved plan"),
        (b'{"format": 1}', "is no saved plan"),
        (b'{"format": "1.0"}', "was altered or damaged"),
        (b'{"format": "1.0", "tool": "9.9"}', "was saved by version '9.9' of reconciler, or altered"),
        (b'{"format": "2.0", "digest": "x"}', "has the format '2.0', and this version reads 1.0"),
        (b"[" * 200_000, "is not JSON"),
        (b" " * (BYTES_MAX + 1), "is longer than"),
        (b"\xff\xfe", "is not JSON"),
    ],
)
def test_anything_else_is_refused_in_words(data: bytes, said: str) -> None:
    with pytest.raises(BrokenPlan, match=r"plan\.json") as refused:
        read("plan.json", data)
    assert said in str(refused.value)
    assert "reconciler plan --out" in refused.value.hint


def test_a_page_can_not_be_made_to_show_other_sums_than_its_operations_have() -> None:
    """Nobody but the reader of `show` adds them up, so a forged sum with a fitting digest would be believed."""
    with pytest.raises(BrokenPlan):
        forged(a_small_plan(), ('"hour_after": "216"', '"hour_after": "2"'))


def test_it_holds_no_key_and_no_row_of_data(declared: Desk) -> None:
    written = text(declared.save())
    assert KEY not in written
    assert "question 1" not in written


# Once ---------------------------------------------------------------------------------------------------------------


def test_a_plan_is_applied_once(declared: Desk) -> None:
    saved = declared.save()
    assert {one.stage for one in declared.apply(plan=saved).progress} == {Stage.DONE}
    assert lines(declared.plan()) == []
    (reason,) = reasons(declared, saved)
    assert "it was applied already, at " in reason


def test_a_first_plan_is_not_applied_twice_from_two_folders(chain: Desk) -> None:
    """Nothing recorded here says so: what the first apply made bears the marks that the second would give."""
    saved = chain.save()
    chain.apply(plan=saved)
    (chain.root / ".reconciler/state.db").unlink()
    told = reasons(chain, saved)
    assert [one.split("may be what it makes for ")[1].split(":")[0] for one in told] == [
        "Dataset/d", "HotwordTable/w", "FineTuneJob/j",
    ]  # fmt: skip


def test_a_first_plan_is_not_for_a_stack_that_was_applied_since(declared: Desk) -> None:
    saved = declared.save()
    declared.apply()
    assert "it was made when nothing was recorded yet, and now there is" in reasons(declared, saved)


def test_a_plan_with_nothing_to_do_counts_as_applied_too(running: Desk) -> None:
    saved = running.save()
    assert running.apply(plan=saved).progress == ()
    assert "applied already" in reasons(running, saved)[0]


def test_two_copies_of_a_folder_do_not_update_twice(running: Desk) -> None:
    """With a copy of the state, and so without the ticket: what is to be done is not what it was."""
    running.declare(DATASET, PLAIN, document("HotwordTable", "w", WORD_TABLE))
    saved, state = running.save(), (running.root / ".reconciler/state.db").read_bytes()
    running.clock.sleep(5)
    running.apply(plan=saved)
    (running.root / ".reconciler/state.db").write_bytes(state)
    told = reasons(running, saved)
    assert len(told) == 1
    assert told[0].startswith("HotwordTable/w: to update vocab-")
    assert told[0].endswith("is no longer planned")


# What it is bound to ------------------------------------------------------------------------------------------------


def restack(desk: Desk, **spec: Any) -> None:
    """The same manifests under another Stack."""
    path = desk.root / "stack.yaml"
    stack, *rest = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    stack["spec"] |= spec
    path.write_text(yaml.safe_dump_all([stack, *rest], allow_unicode=True, sort_keys=False), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda desk: desk.write("stack.yaml", read_text(desk) + "# a comment\n"), ["stack.yaml changed"]),
        (lambda desk: desk.write("more.yaml", "# nothing\n"), ["more.yaml is new"]),
        (
            lambda desk: desk.rows("data/d.jsonl", texts(41)),
            ["Dataset/d:data/d.jsonl: its data changed", "Dataset/d:data/d.jsonl: to create it differs in"],
        ),
        (
            lambda desk: desk.declare(DATASET, serving(capacity=8), WORDS),
            [
                "stack.yaml changed",
                "Deployment/p is declared otherwise",
                "Deployment/p: to create it differs in capacity",
            ],
        ),
        (
            lambda desk: desk.declare(DATASET, WORDS),
            ["Deployment/p is no longer declared", "Deployment/p: to create it is no longer planned"],
        ),
        (
            lambda desk: desk.write("prices.yaml", "model_units: {MU1: {hour: 60}}\n"),
            ["the price table changed", "Deployment/p: its price rose from 200 to 240 CNY/h"],
        ),
        (
            lambda desk: desk.write("prices.yaml", "model_units: {MU1: {hour: 40}}\n"),
            ["the price table changed: that of 2026-05-26 then, of 2026-05-26 now"],
        ),
    ],
)  # fmt: skip
def test_it_is_refused_when_something_it_was_made_from_changed(
    declared: Desk, change: Callable[[Desk], None], named: list[str]
) -> None:
    declared.write("prices.yaml", "model_units: {MU1: {hour: 50}}\n")
    restack(declared, catalogue="prices.yaml")
    saved = declared.save()
    change(declared)
    if "catalogue" not in read_text(declared):
        restack(declared, catalogue="prices.yaml")
    told = reasons(declared, saved)
    for name in named:
        assert any(reason.startswith(name) for reason in told), told


def read_text(desk: Desk) -> str:
    return (desk.root / "stack.yaml").read_text(encoding="utf-8")


def test_it_is_refused_when_it_is_too_old(declared: Desk) -> None:
    saved = declared.save()
    told = reasons(declared, saved, now=lambda: saved.expires_at)
    assert told == [f"it expired at {saved.expires_at:%Y-%m-%d %H:%M} UTC"]
    declared.apply(plan=saved, now=lambda: saved.expires_at - timedelta(seconds=1))


def test_other_manifests_are_named_with_those_it_was_made_from(declared: Desk) -> None:
    saved = declared.save()
    (declared.root / "stack.yaml").rename(declared.root / "other.yaml")
    assert "it was made from stack.yaml (-f .); the manifests given here are other.yaml" in reasons(declared, saved)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"stack": "desk"', '"stack": "other"', "stack other, and this is desk"),
        ('"endpoint": "emulator:', '"endpoint": "emulator:x', "endpoint emulator:x"),
        ('"workspace": ""', '"workspace": "llm-1"', "workspace llm-1, and this is (none)"),
        ('"environment": ""', '"environment": "prod"', "environment prod, and this is (none)"),
    ],
)
def test_a_plan_for_elsewhere_is_refused(declared: Desk, old: str, new: str, said: str) -> None:
    """Another stack, endpoint, workspace or environment; both are in the message."""
    (reason,) = reasons(declared, forged(declared.save(), (old, new)))
    assert reason.startswith(f"it is for {said}")


def test_a_plan_of_another_workspace_is_refused_where_nothing_is_recorded_yet(declared: Desk) -> None:
    saved = declared.save()
    with (
        engine.session(declared.project(), declared.emulator.origin, Key(KEY), workspace="llm-1") as there,
        pytest.raises(StalePlan) as refused,
    ):
        engine.apply(there, Choices(), Terms(), approve=lambda _: True, report=declared.told.append, saved=saved)
    assert "it is for workspace (none), and this is llm-1" in refused.value.reasons
    assert declared.emulator.operations() == []


def test_a_plan_of_another_version_is_made_again(declared: Desk) -> None:
    saved = replace(declared.save(), tool="0.0.9")
    assert reasons(declared, saved)[0].startswith("version 0.0.9 of reconciler saved it")
    declared.apply(plan=saved, if_equal=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"lineage": "', '"lineage": "0', "it was made of another state than the one here"),
        ('"capacity": 4', '"capacity": 8', "Deployment/p: to create it differs in capacity"),
        ('"verb": "create"', '"verb": "forget"', "Deployment/p: to create it is planned now, and was not"),
        ('"action": "+"', '"action": "~"', "Deployment/p: to create it differs in action"),
    ],
)
def test_a_file_edited_with_a_digest_that_fits_does_nothing(running: Desk, old: str, new: str, said: str) -> None:
    """What is done comes from planning again, so an edit can only make the two differ."""
    running.declare(DATASET, WORDS)
    running.apply(prune=True)
    running.declare(DATASET, PLAIN, WORDS)
    assert said in reasons(running, forged(running.save(), (old, new)))


def test_objects_it_touches_are_named_when_somebody_changed_them(running: Desk) -> None:
    """Limits are not in the manifest, so the deletion is still the same: but not of the same thing."""
    (remote_id,) = [e["id"] for e in running.emulator.ledger() if e["operation"] == "deployments.create"]
    saved = running.save(destroy=True)
    running.emulator.call("PUT", f"/deployments/{remote_id}/update", {"rpm_limit": 7})
    running.clock.sleep(600)
    assert f"deployments/{remote_id} was changed on the service" in reasons(running, saved)


def test_objects_it_touches_are_named_when_they_are_gone(running: Desk) -> None:
    (remote_id,) = [e["id"] for e in running.emulator.ledger() if e["operation"] == "deployments.create"]
    saved = running.save(destroy=True)
    running.emulator.call("DELETE", f"/deployments/{remote_id}")
    running.clock.sleep(600)
    assert f"deployments/{remote_id} is gone from the service" in reasons(running, saved)


def test_progress_and_what_is_not_ours_are_no_reason(chain: Desk) -> None:
    """A job went on and a stranger made something: nothing that the plan touches is another."""
    chain.apply(Terms(wait="none"))
    saved = chain.save()
    assert "… wait FineTuneJob/j" in lines(saved.plan)
    chain.clock.sleep(7200)
    body = {
        "model_name": "qwen3-8b",
        "plan": "mu",
        "deploy_spec": "MU1",
        "capacity": 4,
        "name": "x",
        "suffix": "other1",
    }
    chain.emulator.call("POST", "/deployments", {**body, "billing_method": "POST_PAY"})
    assert {one.stage for one in chain.apply(plan=saved).progress} == {Stage.DONE}
    assert lines(chain.plan()) == []


def test_a_table_that_moved_without_a_change_is_the_same_table(running: Desk) -> None:
    """`gmt_modified` moves when the same words are written again: a counter, and no other table."""
    (remote_id,) = [e["id"] for e in running.emulator.ledger() if e["operation"] == "vocabularies.create"]
    running.declare(DATASET, PLAIN, document("HotwordTable", "w", WORD_TABLE))
    saved = running.save()
    running.clock.sleep(60)
    same = {"action": "update_vocabulary", "vocabulary_id": remote_id, "vocabulary": [{"text": "热词", "weight": 4}]}
    running.emulator.call("POST", "/services/audio/asr/customization", {"model": "speech-biasing", "input": same})
    assert {one.stage for one in running.apply(plan=saved).progress} == {Stage.DONE}


# --replan=if-equal --------------------------------------------------------------------------------------------------


def test_other_inputs_that_come_to_the_same_work_may_be_forgiven(declared: Desk) -> None:
    saved = declared.save()
    declared.write("stack.yaml", read_text(declared) + "# a comment\n")
    with pytest.raises(StalePlan, match="no longer holds") as refused:
        declared.apply(plan=saved)
    assert "--replan=if-equal" in refused.value.hint
    declared.apply(plan=saved, if_equal=True, now=lambda: saved.expires_at)
    assert lines(declared.plan()) == []


def test_other_work_is_never_forgiven(declared: Desk) -> None:
    saved = declared.save()
    declared.declare(DATASET, serving(capacity=8), WORDS)
    told = reasons(declared, saved, if_equal=True)
    assert told == ["Deployment/p: to create it differs in capacity"]


def test_a_lower_price_is_forgiven_and_a_higher_one_is_not(declared: Desk) -> None:
    """An approval holds up to the price that was shown."""
    declared.write("prices.yaml", "model_units: {MU1: {hour: 50}}\n")
    restack(declared, catalogue="prices.yaml")
    saved = declared.save()
    declared.write("prices.yaml", "model_units: {MU1: {hour: 51}}\n")
    assert reasons(declared, saved, if_equal=True) == ["Deployment/p: its price rose from 200 to 204 CNY/h"]
    declared.write("prices.yaml", "model_units: {MU1: {hour: 49}}\n")
    declared.apply(plan=saved, if_equal=True)


def test_once_is_once_whatever_is_forgiven(declared: Desk) -> None:
    saved = declared.save()
    declared.apply(plan=saved)
    assert "applied already" in reasons(declared, saved, if_equal=True)[0]


# Interrupted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reports", [1, 3, 6, 10])
def test_an_interrupted_plan_goes_on_and_buys_nothing_twice(chain: Desk, reports: int) -> None:
    """Stopped after so many reports, and again each time it goes on."""
    saved = chain.save()
    for _ in range(20):
        start = len(chain.told)
        applied = chain.apply(plan=saved, stopped=lambda start=start: len(chain.told) - start >= reports)  # type: ignore[misc]
        if all(one.stage is Stage.DONE for one in applied.progress):
            break
        chain.clock.sleep(600)
    creates = [name for name in chain.emulator.operations() if name.endswith(".create")]
    assert sorted(creates) == ["deployments.create", "files.create", "jobs.create", "vocabularies.create"]
    assert lines(chain.plan()) == []
    assert "applied already" in reasons(chain, saved)[0]


def test_a_plan_that_replaces_does_not_replace_again_when_it_goes_on(running: Desk) -> None:
    """`--replace` is not a difference that goes away when it is done: the plan itself remembers."""
    saved = running.save(replace=frozenset({"Deployment/p"}))
    assert lines(saved.plan) == ["± create Deployment/p", "± delete Deployment/p"]
    running.apply(Terms(wait="none"), plan=saved)
    running.clock.sleep(7200)
    running.apply(Terms(wait="none"), plan=saved)
    running.clock.sleep(7200)
    running.apply(plan=saved)
    assert running.emulator.operations().count("deployments.create") == 2
    assert running.emulator.operations().count("deployments.delete") == 1
    assert "applied already" in reasons(running, saved)[0]


def test_an_update_of_two_requests_goes_on_with_the_second(running: Desk) -> None:
    running.declare(DATASET, serving(capacity=8, limits={"rpm": 10}), WORDS)
    saved = running.save()
    running.apply(plan=saved, stopped=lambda: any(one.stage is Stage.WAITING for one in running.told[-1:]))
    running.clock.sleep(600)
    assert lines(running.plan()) == ["~ update Deployment/p"]
    running.apply(plan=saved)
    assert running.emulator.operations()[-2:] == ["deployments.scale", "deployments.update"]
    assert "applied already" in reasons(running, saved)[0]


def test_what_goes_on_is_still_bound(declared: Desk) -> None:
    """Data that changed between two halves of a plan are as much a reason as before the first."""
    saved = declared.save()
    declared.apply(Terms(wait="none"), plan=saved)
    declared.rows("data/d.jsonl", texts(41))
    told = reasons(declared, saved)
    assert "Dataset/d:data/d.jsonl: its data changed" in told


def test_a_price_that_rose_between_two_halves_is_refused(chain: Desk) -> None:
    chain.write("prices.yaml", "model_units: {MU1: {hour: 50}}\n")
    restack(chain, catalogue="prices.yaml")
    saved = chain.save()
    chain.apply(plan=saved, stopped=lambda: bool(chain.told))
    chain.write("prices.yaml", "model_units: {MU1: {hour: 51}}\n")
    assert "Deployment/p: its price rose from 200 to 204 CNY/h" in reasons(chain, saved, if_equal=True)


def test_a_failed_run_is_not_bought_again_by_going_on(chain: Desk) -> None:
    """What needed the run is skipped and the rest done; going on says so again, and buys nothing."""
    fate = {"statuses": [[0, "PENDING"], [60, "FAILED"]]}
    chain.emulator.control("faults", {"faults": [{"operation": "jobs.create", "fate": fate}]})
    saved = chain.save()
    for _ in range(2):
        assert 5 in {one.code for one in chain.apply(plan=saved).progress}
    operations = chain.emulator.operations()
    assert (operations.count("jobs.create"), operations.count("deployments.create")) == (1, 0)


def test_a_creation_whose_answer_was_lost_is_the_plans_own(chain: Desk) -> None:
    """Found again by its mark it counts as made, so going on does not make it a second time."""
    saved, lost = chain.save(replace=frozenset({"FineTuneJob/j"})), []

    def loses(method: str, path: str, body: bytes) -> bool:
        if method != "POST" or lost or not path.endswith("/fine-tunes"):
            return False
        lost.append(path)
        return True

    with lossy(chain.emulator.origin, loses) as door:
        Desk(chain.root, replace(chain.emulator, origin=door)).apply(plan=saved)
    assert len(lost) == 1
    assert {one.stage for one in chain.apply(plan=saved).progress} == {Stage.DONE}
    assert chain.emulator.operations().count("jobs.create") == 1
    assert "applied already" in reasons(chain, saved)[0]


def test_what_was_made_and_is_gone_since_is_not_made_again(declared: Desk) -> None:
    saved = declared.save()
    declared.apply(plan=saved, stopped=lambda: "files.create" in declared.emulator.operations())
    (file_id,) = [e["id"] for e in declared.emulator.ledger() if e["operation"] == "files.create"]
    declared.emulator.call("DELETE", f"/files/{file_id}")
    declared.clock.sleep(600)  # until then it might only not be visible yet
    told = reasons(declared, saved)
    assert "Dataset/d:data/d.jsonl: it was made by this plan before, and would be made again" in told


def test_a_rerun_is_in_the_plan_only_with_its_consent(chain: Desk) -> None:
    """Nobody is asked when a saved plan is applied, so it is blocked in the plan unless allowed there."""
    chain.apply()
    chain.declare(DATASET, job(hyperParameters={**HYPER, "n_epochs": 2}), deployment(), WORDS)
    blocked = chain.save()
    assert lines(blocked.plan) == ["! nothing FineTuneJob/j"]
    assert [one.code for one in chain.apply(plan=blocked).progress] == [3]
    allowed = chain.save(allow=frozenset({("retrain", "FineTuneJob/j")}))
    assert {one.stage for one in chain.apply(plan=allowed).progress} == {Stage.DONE}
    assert chain.emulator.operations().count("jobs.create") == 2


# Values -------------------------------------------------------------------------------------------------------------


def test_an_unknown_price_that_was_approved_stays_approved_and_a_known_one_does_not_become_unknown() -> None:
    saved = a_small_plan()

    def priced(amount: Decimal | None) -> Bound:
        (op,) = saved.plan.operations
        return replace(saved.bound, plan=Plan((replace(op, price=Price(hour=amount)),), (), saved.plan.totals))

    empty = State(saved.bound.stamp)
    assert stale(saved, priced(Decimal(216)), empty, at=MADE_AT) == ()
    (reason,) = stale(saved, priced(None), empty, at=MADE_AT)
    assert reason.what == "Deployment/p: its price is unknown now"
    unknown = replace(saved, bound=priced(None))
    assert stale(unknown, priced(Decimal(999)), empty, at=MADE_AT) == ()
