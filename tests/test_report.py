"""A report: what it says of a plan and of its apply, what it never says, and that no forge reads anything into it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from reconciler import engine
from reconciler.apply import Terms
from reconciler.errors import Position, Problem
from reconciler.findings import Level
from reconciler.guards import Breach
from reconciler.money import Run
from reconciler.plan import Choices, Note, Operation, Plan, Totals, Verb
from reconciler.render.plan import plan_text
from reconciler.render.report import LIMIT_BYTES, Page, mark, markdown, report_json, report_page, report_text
from reconciler.render.words import hidden
from reconciler.report import Aftermath, Bill, Ending, Found, Outcome, Report, Trained, aftermath, findings
from reconciler.resource import Action, Measurement, Slot
from reconciler.saved import Bound, Saved
from reconciler.state import Intent, IntentPhase, Owned, Role, Stamp, State, Ticket
from tests.desk import Desk, texts
from tests.test_apply import DATASET, HYPER, WORDS, deployment, job
from tests.test_docs import REPOSITORY
from tests.test_render import CHANGED, COLLECTIONS, HEADING, JOB, PROD, RUN, SWAP, at, golden, operation, plan

MADE_AT = dt.datetime(2026, 5, 26, 10, tzinfo=dt.UTC)
EVIL = (
    "@everyone #1 [x](https://evil.example) ![i](https://evil.example/p.png) <img src=x> </details> | a | `b` ```` c\n"
    "/close\r\n```\n````\n::error::x\n##[add-path]/x \x1b[31m\u202e --> <!-- www.evil.example\n/merge"
)


def saved(made: Plan = CHANGED, stack: str = "support", environment: str = "") -> Saved:
    stamp = Stamp("emulator:1", "", stack, environment)
    bound = Bound(made, stamp, "", True, "2026", dt.date(2026, 5, 26), "", {"stack.yaml": "1"}, {}, {}, {}, {}, 3)
    return Saved("1", MADE_AT, MADE_AT + dt.timedelta(days=3), (".",), Choices(), bound, "0.1.0")


def run(slot: Slot = JOB, id: str = "ft-1", **facts: Any) -> Run:
    plain = {"tokens": 61_204, "counted": True, "passes": 3, "used": 180_000, "failed": False}
    return Run(slot, "jobs", id, "", "SUCCEEDED", "qwen3.5-9b", **{**plain, "token_price": Decimal("0.00002"), **facts})


BOUGHT = Bill(run(), 180_000, Decimal("3.67224"), Decimal("3.6"))
FALLING = tuple(Measurement(step, {"loss": 2.0 / step}) for step in range(1, 40))
CAME = Aftermath(
    "2026-05-26 10:01:00 UTC",
    "2026-05-26 11:01:00 UTC",
    True,
    (Outcome(RUN, Ending.DONE, "ft-1"), Outcome(SWAP, Ending.REFUSED, "", 400)),
    (BOUGHT,),
    (Trained(JOB, "ft-1", FALLING),),
)
LINT = (
    Found("Dataset/a", Level.ERROR, "role", at(3, "data/a.jsonl")),
    Found("Dataset/a", Level.WARNING, "few-rows", at(6)),
    Found("Dataset/a", Level.WARNING, "", None),
)
BREACH = Breach("cost", "39.67 CNY once", "10.00 CNY once", "--allow cost=40")


def page(report: Report, **how: Any) -> Page:
    return report_page(report, HEADING, COLLECTIONS, **how)


def comment(report: Report, **how: Any) -> str:
    return markdown(page(report), **how)


# The text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_report_reads_as_the_golden_comment(when: str) -> None:
    told = Report(saved(), LINT, (BREACH,), CAME if when == "after" else None)
    text = markdown(page(told, picture="loss.svg")).replace(told.saved.digest[:12], "(digest)")
    golden(f"report-{when}", text)


def test_the_first_line_is_a_mark_that_nobody_sees_and_the_second_the_sums() -> None:
    first, second, third = comment(Report(saved())).splitlines()[:3]
    assert first == "<!-- reconciler report: support -->"
    assert second == "**1 upload, 1 paid run, 1 update, 1 swap, 1 deletion · once 39.67 CNY · 216.00 -> 216.00 CNY/h**"
    assert third == ""


def test_each_stack_and_environment_has_a_mark_of_its_own_that_nothing_ends() -> None:
    marks = {mark(saved(stack=stack, environment=env)) for stack in ("a", "a-b", "--> x") for env in ("", "prod")}
    assert len(marks) == 6
    assert mark(saved(stack="a", environment="prod")) == "<!-- reconciler report: a/prod -->"
    assert all(one.count("-->") == 1 and one.endswith(" -->") and "\n" not in one for one in marks)


def test_what_is_unknown_is_said_to_be_unknown_in_the_first_line() -> None:
    text = comment(Report(saved(plan(RUN, totals=Totals(None, None, None)))))
    assert text.splitlines()[1] == "**1 paid run · once unknown (at least 3.67 CNY) · unknown -> unknown CNY/h**"


def test_the_page_of_the_plan_is_there_to_the_letter() -> None:
    assert plan_text(HEADING, CHANGED, COLLECTIONS, objects=3).split("\n") == [*page(Report(saved())).parts[0].lines]
    fences = [token.content for token in parsed(comment(Report(saved()))) if token.type == "fence"]
    assert "swap:" in fences[1]
    assert "\x1b" not in "".join(fences), "colours are for a terminal"


def test_why_an_apply_would_stop_stands_above_what_is_folded() -> None:
    blocked = operation(Action.BLOCKED, Verb.NOTHING, JOB, "jobs", why="no consent", hint="--allow it", code=3)
    asked = replace(RUN, needs_consent=True)
    notes = (Note("Deployment/x", "is slow", warning=True), Note("", "is left alone"))
    text = comment(Report(saved(plan(blocked, asked, notes=notes)), breaches=(BREACH,)))
    shown = text[: text.index("<details>")]
    assert "blocked: FineTuneJob/support: no consent (--allow it)" in shown
    assert "needs consent: FineTuneJob/support:" in shown
    assert "over the limit: cost: 39.67 CNY once, and the limit is 10.00 CNY once (--allow cost=40)" in shown
    assert "warning: Deployment/x is slow" in shown
    assert "left alone" not in shown


def test_what_was_not_looked_at_is_said() -> None:
    unseen = comment(Report(saved()))
    assert "the training data were not looked at" in unseen
    assert "limits and budgets were not looked at" in unseen
    seen = comment(Report(saved(), (), ()))
    assert "not looked at" not in seen
    assert "training data: nothing found" in seen
    assert "the service was not asked" in comment(Report(saved(), aftermath=replace(CAME, asked=False)))


def test_a_run_without_an_end_is_billed_by_its_estimate_and_one_that_failed_by_nothing() -> None:
    going = Bill(run(used=None), 183_612, Decimal("3.67"), Decimal("3.67"))
    failed = Bill(run(used=None, failed=True, id="ft-2"), 0, Decimal("3.67"), Decimal(0))
    odd = Bill(run(token_price=None, id="ft-3"), None, None, None)
    text = comment(Report(saved(), aftermath=replace(CAME, bills=(going, failed))))
    assert "about 183,612" in text
    assert "bought 3.67 CNY, estimated 7.34 CNY" in text
    assert "billed by its estimate until it ends" in text
    assert "bought unknown CNY, estimated unknown CNY" in comment(
        Report(saved(), aftermath=replace(CAME, bills=(odd,)))
    )


def test_a_page_for_a_terminal_has_the_same_parts_whole() -> None:
    told = Report(saved(), LINT, (BREACH,), CAME)
    text = report_text(page(told, width=80))
    for part in ("What it came to", "Loss", "The bill", "The plan", "What it costs", "Training data: 1 error"):
        assert part in text
    assert "```" not in text
    assert "<details>" not in text


def test_in_the_data_null_is_unknown() -> None:
    empty = report_json(Report(saved()), HEADING, COLLECTIONS)
    assert [*empty] == ["mark", "plan", "lint", "over_limits", "applied"]
    assert (empty["lint"], empty["over_limits"], empty["applied"]) == (None, None, None)
    told = report_json(Report(saved(), LINT, (BREACH,), CAME), HEADING, COLLECTIONS)
    at_line = {"file": "data/a.jsonl", "line": 3, "column": 3}
    assert told["lint"][0] == {"address": "Dataset/a", "level": "error", "rule": "role", "at": at_line}
    assert told["over_limits"] == [BREACH._asdict()]
    assert told["applied"]["outcomes"][1]["http_status"] == 400
    assert (told["applied"]["bought_cny"], told["applied"]["estimated_cny"]) == ("3.6", "3.67224")
    assert told["applied"]["losses"][0]["measurements"][0] == {"step": 1, "loss": 2.0}


# What no forge reads into it ------------------------------------------------------------------------------------------

FREE = re.compile(r"[\w \n,.:%()·<>→&;/*`-]*")  # what stands outside fences: our words, numbers, and folds


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def tame(text: str) -> None:
    """Outside of fences there are only our words, and what folds them; no line is a command to a forge or a runner."""
    inside = False
    for token in parsed(text):
        assert token.type in {
            "html_block", "fence", "paragraph_open", "paragraph_close", "inline", "bullet_list_open",
            "bullet_list_close", "list_item_open", "list_item_close",
        }, token  # fmt: skip
        if token.type == "html_block":
            marked = r"<!-- reconciler report: [\w%/.~-]* -->\n"
            assert re.fullmatch(rf"{marked}|<details><summary>[\w ,:]+</summary>\n|</details>\n?", token.content), token
        if token.type == "fence":
            inside = True
            assert all(len(run) < len(token.markup) for run in re.findall("`+", token.content)), token
        for child in token.children or ():
            assert child.type in {"text", "softbreak", "strong_open", "strong_close", "code_inline"}, child
            assert FREE.fullmatch(child.content), child.content
            assert "@" not in child.content
    assert inside
    for line in text.splitlines():
        assert not re.match(r"\s*(/|::|##\[)", line), line
        assert not any(map(hidden, line)), line
    assert text.splitlines() == text.split("\n")


def evil(words: str) -> Report:
    """A report in which everything that anybody else could write is this."""
    slot = Slot(words, words)
    op = operation(Action.BLOCKED, Verb.NOTHING, slot, "jobs", why=words, hint=words, target_id=words)
    made = plan(
        replace(op, id="1"), replace(RUN, slot=slot, why=words), notes=(Note(words, words, words, warning=True),)
    )
    told = replace(saved(made, stack=words, environment=words), tool=words)
    where = Position(words, 1, 1)
    lint = [*findings(words, [Problem(words, where, words, words), Problem(words, where, words, "role")], [])]
    trained = Trained(slot, words, (Measurement(1, {f"{words}loss": 1.0}), Measurement(2, {f"{words}loss": 0.5})))
    bills = (Bill(run(slot, words), 1, None, None),)
    outcomes = (Outcome(op, Ending.FAILED, words), Outcome(op, Ending.DONE, words))
    came = Aftermath(words, words, True, outcomes, bills, (trained,))
    return Report(told, tuple(lint), (Breach(words, words, words, words),), came)


def test_nothing_that_others_wrote_is_read_by_a_forge() -> None:
    heading = replace(HEADING, stack=EVIL, endpoint=EVIL, workspace=EVIL, profile=EVIL, own_prices=EVIL)
    text = markdown(report_page(evil(EVIL), heading, COLLECTIONS, picture=EVIL))
    tame(text)
    assert text.count("<details>") == sum(token.type == "fence" for token in parsed(text)) - 1


@given(st.text(max_size=60) | st.text("`/@#<>|\n\r\\[]()!-:* \t", max_size=60))
def test_nothing_is_read_into_any_words(words: str) -> None:
    tame(markdown(report_page(evil(words), HEADING, COLLECTIONS, picture=words)))


# How long it is -------------------------------------------------------------------------------------------------------


def many(number: int, word: str = "长名字") -> Report:
    ops = [
        replace(RUN, needs_consent=False, id=f"{n}", slot=Slot(f"FineTuneJob/{word}-{n}"), after=())
        for n in range(number)
    ]
    lint = tuple(Found("Dataset/a", Level.ERROR, "role", at(n, f"数据/{n}.jsonl")) for n in range(number))
    outcomes = tuple(Outcome(op, Ending.DONE, "ft") for op in ops)
    return Report(saved(plan(*ops)), lint, (), replace(CAME, outcomes=outcomes))


@pytest.mark.parametrize("number", [1, 50, 400, 1500])
def test_it_is_never_longer_than_a_forge_takes_and_says_what_it_leaves_out(number: int) -> None:
    told = many(number)
    text = comment(told)
    assert len(text.encode()) <= LIMIT_BYTES
    tame(text)
    assert text.splitlines()[1].startswith(f"**applied: {number:,} done")
    fences = [token.content.splitlines() for token in parsed(text) if token.type == "fence"]
    parts = page(told).parts
    assert len(fences) == len(parts)
    for lines, part in zip(fences, parts, strict=True):
        left_out = re.fullmatch(r"… truncated: ([\d,]+) more lines?", lines[-1])
        kept = len(lines) - bool(left_out)
        assert kept + int(left_out[1].replace(",", "") if left_out else 0) == len(part.lines)
        assert kept > 10 or not left_out, "each part keeps some of it"
    assert ("truncated" in text) == (number > 50)


@settings(max_examples=30)
@given(st.integers(26_000, LIMIT_BYTES), st.integers(1, 90))
def test_any_limit_is_kept(limit_bytes: int, number: int) -> None:
    text = comment(many(number, "`" * 7), limit_bytes=limit_bytes)
    assert len(text.encode()) <= limit_bytes
    tame(text)


def test_warnings_are_bounded_as_well() -> None:
    blocked = [
        operation(Action.BLOCKED, Verb.NOTHING, Slot(f"FineTuneJob/{n}"), "jobs", why="长" * 400, hint="长" * 400)
        for n in range(200)
    ]
    text = comment(Report(saved(plan(*(replace(op, id=str(n)) for n, op in enumerate(blocked))))))
    assert len(text.encode()) <= LIMIT_BYTES
    assert "truncated" in text[: text.index("<details>")]
    assert "<summary>The plan</summary>" in text


# Training data --------------------------------------------------------------------------------------------------------


def test_findings_keep_the_rule_and_the_place_and_nothing_of_a_row() -> None:
    """What lint says of a row may name its keys, and its labels are its answers."""
    wrong = Problem("the role 'CANARY' is unknown", at(3), "did you mean CANARY?", "role")
    (found,) = findings("Dataset/a", [], [wrong])
    assert found == Found("Dataset/a", Level.WARNING, "role", at(3))
    assert "CANARY" not in comment(Report(saved(), (found,)))


def test_what_the_service_says_of_a_failure_is_left_out() -> None:
    """A refusal may quote the row that it is about."""
    state = State().fold([TICKET, intent("1", phase=IntentPhase.REJECTED, reason="row CANARY is odd", status=400)])
    told = Report(SAVED, aftermath=aftermath(SAVED, state, COLLECTIONS))
    text = comment(told)
    assert "refused (status 400)" in text
    assert "CANARY" not in text + report_text(page(told)) + str(report_json(told, HEADING, COLLECTIONS))
    row = replace(owned("ft-1"), failure="row CANARY is odd", role=Role.NEXT)
    text = comment(Report(SAVED, aftermath=aftermath(SAVED, State().fold([TICKET, intent("1"), row]), COLLECTIONS)))
    assert "failed: FineTuneJob/support" in text
    assert "CANARY" not in text


# What became of it ----------------------------------------------------------------------------------------------------

SAVED = saved(plan(RUN, SWAP))
TICKET = Ticket(SAVED.digest, "2026-05-26 10:01:00 UTC", epoch=5)


def intent(op_id: str, epoch: int = 5, slot: Slot = JOB, verb: str = "create", **facts: Any) -> Intent:
    plain = {"phase": IntentPhase.DONE, "result_id": f"ft-{op_id}", "tokens": 1000, "base": "qwen3.5-9b"}
    fields = {"model": "qwen3.5-9b", "hyperParameters": {"n_epochs": 2}}
    collection = {JOB: "jobs", PROD: "deployments"}[slot]
    return Intent(
        op_id, slot, collection, verb, "g", "t", 0, epoch, f"2026-05-26 10:0{op_id}:00", fields, **plain | facts
    )


def owned(id: str, slot: Slot = JOB, **facts: Any) -> Owned:
    collection = {JOB: "jobs", PROD: "deployments"}[slot]
    return Owned(slot, collection, id, **{"role": Role.CURRENT, "generation": "g", "last_applied": {}, **facts})


def endings(made: Saved, *events: Any) -> list[str]:
    came = aftermath(made, State().fold([replace(TICKET, digest=made.digest), *events]), COLLECTIONS)
    assert came
    return [one.ending.value for one in came.outcomes]


def test_a_plan_that_was_never_begun_here_came_to_nothing_that_could_be_told() -> None:
    assert aftermath(SAVED, State(), COLLECTIONS) is None


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        ([], "not done"),
        ([intent("1")], "done"),  # made, and gone since
        ([intent("1"), owned("ft-1")], "done"),
        ([intent("1"), owned("ft-1", role=Role.NEXT)], "under way"),
        ([intent("1"), owned("ft-1", role=Role.NEXT, failure="x")], "failed"),
        ([intent("1"), owned("ft-1", role=Role.RETIRED)], "done"),
        ([intent("1", phase=IntentPhase.UNKNOWN)], "outcome unknown"),
        ([intent("1", phase=IntentPhase.NEEDS_HUMAN)], "outcome unknown"),
        ([intent("1", phase=IntentPhase.REJECTED)], "refused"),
        ([intent("1", phase=IntentPhase.ABSENT)], "not done"),
        ([intent("1", phase=IntentPhase.ADOPTED)], "done"),
        ([intent("1", phase=IntentPhase.REJECTED), intent("2")], "done"),
        ([intent("1", phase=IntentPhase.ABSENT), intent("2", phase=IntentPhase.REJECTED)], "refused"),
        ([intent("1", epoch=4)], "not done"),  # before the plan
        ([Ticket("other", "", epoch=6), intent("1", epoch=6)], "not done"),  # the next plan's
        ([intent("1", verb="update")], "not done"),
    ],
)
def test_a_creation_ended_as_the_journal_says(events: list[Any], ending: str) -> None:
    assert endings(SAVED, *events) == [ending, "not done"]


def test_the_steps_of_one_change_are_told_apart() -> None:
    """Two requests of one update look alike in the journal: they are granted in turn."""
    first = operation(Action.UPDATE, Verb.UPDATE, PROD, "deployments", target_id="d-1")
    made = saved(plan(first, replace(first, id="second")))
    facts: Mapping[str, Any] = {"slot": PROD, "verb": "update", "known_before": ("d-1",), "result_id": ""}
    done, refused = intent("1", **facts), intent("2", **facts, phase=IntentPhase.REJECTED)
    assert endings(made) == ["not done", "not done"]
    assert endings(made, done) == ["done", "not done"]
    assert endings(made, done, refused) == ["done", "refused"]
    assert endings(made, refused) == ["refused", "not done"]
    assert endings(made, done, refused, intent("3", **facts)) == ["done", "done"]
    assert endings(made, replace(done, known_before=("d-2",))) == ["not done", "not done"]


def test_what_goes_is_done_when_it_is_gone() -> None:
    gone = operation(Action.DELETE, Verb.DELETE, PROD, "deployments", target_id="d-1")
    facts: Mapping[str, Any] = {"slot": PROD, "verb": "delete", "known_before": ("d-1",), "result_id": ""}
    asked, refused = intent("1", **facts), intent("1", **facts, phase=IntentPhase.REJECTED, status=409)
    made = saved(plan(gone))
    assert endings(made, owned("d-1", PROD)) == ["not done"]
    assert endings(made, asked, owned("d-1", PROD)) == ["under way"]
    assert endings(made, refused, owned("d-1", PROD)) == ["refused"]
    assert endings(made, asked) == endings(made, refused) == ["done"]
    forgotten = saved(plan(replace(gone, verb=Verb.FORGET, action=Action.FORGET)))
    assert endings(forgotten, owned("d-1", PROD)) == ["not done"]
    assert endings(forgotten) == ["done"]


def test_what_is_waited_for_and_what_is_blocked() -> None:
    def ending(verb: Verb, *events: Any) -> list[str]:
        return endings(saved(plan(Operation("1", Action.WAIT, verb, JOB, "jobs", target_id="ft-1"))), *events)

    assert ending(Verb.WAIT, owned("ft-1")) == ending(Verb.ADOPT, owned("ft-1")) == ["done"]
    assert ending(Verb.WAIT, owned("ft-1", role=Role.NEXT)) == ["under way"]
    assert ending(Verb.WAIT) == ["not done"]
    assert ending(Verb.NOTHING, intent("1")) == ["not done"]


@pytest.fixture
def chain(desk: Desk) -> Desk:
    """A desk with data, a run on them, a deployment of what it makes, and words."""
    desk.rows("data/d.jsonl", texts(40))
    desk.declare(DATASET, job(), deployment(), WORDS)
    return desk


def came_to(desk: Desk, made: Saved) -> Aftermath | None:
    with desk.session() as opened:
        return engine.aftermath(opened, made)


def test_an_applied_plan_is_told_with_its_bill_and_its_loss(chain: Desk) -> None:
    made = chain.save()
    assert came_to(chain, made) is None
    chain.apply(plan=made)
    came = came_to(chain, made)
    assert came is not None
    assert {one.ending for one in came.outcomes} == {Ending.DONE}
    (bill,) = came.bills
    (entry,) = [one for one in chain.emulator.ledger() if one["operation"] == "jobs.create"]
    assert bill.run.id == entry["id"]
    assert bill.run.token_price is not None
    assert bill.tokens == bill.run.used
    assert bill.cost == bill.tokens * bill.run.token_price
    assert (came.ended != "", came.asked) == (True, True)
    assert [one.id for one in came.trained] == [bill.run.id]
    assert any("loss" in one.values for one in came.trained[0].measured)


def test_a_run_that_failed_is_told_and_costs_nothing(chain: Desk) -> None:
    fate = {"statuses": [[0, "PENDING"], [60, "FAILED"]]}
    chain.emulator.control("faults", {"faults": [{"operation": "jobs.create", "fate": fate}]})
    made = chain.save()
    chain.apply(plan=made)
    came = came_to(chain, made)
    assert came is not None
    told = {one.operation.slot.address: one.ending for one in came.outcomes}
    assert told["FineTuneJob/j"] is Ending.FAILED
    assert told["Deployment/p"] is Ending.LEFT
    assert (came.ended, came.bills[0].cost) == ("", 0)


def test_a_plan_that_goes_on_is_told_as_far_as_it_got(chain: Desk) -> None:
    made = chain.save()
    chain.apply(Terms(wait="none"), plan=made)
    came = came_to(chain, made)
    assert came is not None
    assert came.ended == ""
    assert Ending.LEFT in {one.ending for one in came.outcomes}


def test_what_later_plans_bought_is_on_their_own_bills(chain: Desk) -> None:
    first = chain.save()
    chain.apply(plan=first)
    chain.declare(DATASET, job(hyperParameters={**HYPER, "n_epochs": 2}), deployment(), WORDS)
    second = chain.save(allow=frozenset({("retrain", "FineTuneJob/j")}))
    chain.apply(plan=second)
    came = [came_to(chain, made) for made in (first, second)]
    ids = [[bill.run.id for bill in one.bills] for one in came if one]
    assert [len(one) for one in ids] == [1, 1]
    assert ids[0] != ids[1]
    assert {one.ending for told in came if told for one in told.outcomes} == {Ending.DONE}


# Its page -------------------------------------------------------------------------------------------------------------


def test_the_page_names_every_ending_and_the_limit() -> None:
    text = (REPOSITORY / "docs/report.md").read_text(encoding="utf-8")
    assert [ending for ending in Ending if f"`{ending}`" not in text] == []
    assert f"{LIMIT_BYTES:,} bytes" in text
