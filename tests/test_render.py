"""What a person and a program read: literals in, text out. Golden pages are rewritten with UPDATE_GOLDEN=1.

A golden file changes only on purpose: its difference is what the reviewer reads.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import unicodedata
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler import catalogue, kinds
from reconciler.apply import Progress, Stage
from reconciler.diff import Change
from reconciler.discover import Orphan, Orphans
from reconciler.engine import Applied, Snapshot
from reconciler.errors import ManifestError, NotAuthorised, Position, Problem, StalePlan, UsageError
from reconciler.plan import Choices, Note, Operation, Plan, Totals, Verb, World
from reconciler.recover import Candidate, Finding
from reconciler.render import explain, graph
from reconciler.render.cost import billed_text
from reconciler.render.data import json_text, yaml_text
from reconciler.render.discover import orphans_text
from reconciler.render.errors import error_text
from reconciler.render.plan import Heading, entries, plan_text
from reconciler.render.plan_json import PlanJson, plan_json, plan_schema
from reconciler.render.progress import event_text, finding_text, heartbeat_text, summary_json, summary_text, waited_text
from reconciler.render.record import paused_text, resumed_text
from reconciler.render.reference import reference
from reconciler.render.saved import saved_text
from reconciler.render.schema import manifest_schema
from reconciler.render.state import Item, pause_text, status_text, table_text
from reconciler.render.words import (
    Line,
    clean,
    columns,
    duration,
    money,
    page,
    size_text,
    table,
    value_text,
    wrapped,
)
from reconciler.resource import Action, Content, Known, Mark, Observed, Part, Phase, Price, Slot, marks
from reconciler.saved import Bound, Saved
from reconciler.state import Intent, IntentPhase, Owned, Pause, Resumed, Role, Stamp, State

GOLDEN = Path(__file__).parent / "golden"
OFFERED = catalogue.load().for_profile("2026")
COLLECTIONS = kinds.collections(OFFERED)
HEADING = Heading("support", "emulator", True, "2026", dt.date(2026, 5, 26))
HOSTILE = "\x1b[31mred\x1b[0m\n+ Dataset/forged  upload\r\u202eevil\u2066\x9b2J\x7f\x00\u200b\ue000\U000e0041"
OLD, NEW = "a1b2c3d4" * 4 + "-231201", "e5f6a7b8" * 4 + "-240115"


def golden(name: str, text: str) -> None:
    path, text = GOLDEN / f"{name}.txt", click.unstyle(text) + "\n"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 rewrites it; then read the difference"


# Operations as literals ---------------------------------------------------------------------------------------------


def operation(action: Action, verb: Verb, slot: Slot, collection: str, **facts: Any) -> Operation:
    return Operation(f"{verb} {slot}", action, verb, slot, collection, **facts)


def plan(*operations: Operation, notes: tuple[Note, ...] = (), totals: Totals | None = None) -> Plan:
    return Plan(operations, notes, totals or Totals(Decimal(0), Decimal(0), Decimal(0)))


def at(line: int, file: str = "support.yaml") -> Position:
    return Position(file, line, 3)


DATA = Slot("Dataset/support-sft", "train")
JOB, PROD, MEDS = Slot("FineTuneJob/support"), Slot("Deployment/support-prod"), Slot("HotwordTable/meds")
MODEL = Known(JOB, "model")
UPLOAD = operation(
    Action.CREATE,
    Verb.CREATE,
    DATA,
    "files",
    part=Part(DATA, {"source": NEW}, content=Content("s.jsonl", ("s.jsonl",), 231_201, "e5", rows=840, tokens=61_204)),
    reasons=(Change(("source",), OLD, NEW, at(6)),),
)
RUN = operation(
    Action.RUN,
    Verb.CREATE,
    JOB,
    "jobs",
    part=Part(JOB, {"training": (Known(DATA, "id", digest=NEW),)}, base="qwen3.5-9b"),
    fields={"model": "qwen3.5-9b", "trainingType": "efficient_sft", "hyperParameters": {"n_epochs": 3}},
    after=(UPLOAD.id,),
    reasons=(Change(("training",), [OLD], [NEW], at(14)),),
    price=Price(
        once=Decimal("3.67224"), basis="about 61,204 tokens x 3 epochs x 0.02 CNY/1k (±8 %, from 4 finished runs)"
    ),
    needs_consent=True,
)
SWAP = operation(
    Action.SWAP,
    Verb.CREATE,
    PROD,
    "deployments",
    part=Part(PROD, {"model": MODEL}, base="qwen3.5-9b"),
    fields={"model": MODEL},
    after=(RUN.id,),
    reasons=(Change(("model",), "qwen3.5-9b-ft-202611021405-a1b2", MODEL, at(25)),),
    price=Price(hour=Decimal(216), basis="mu MU1 x 4, billed from RUNNING, a started minute counts whole"),
)
OLD_SIDE = operation(
    Action.SWAP,
    Verb.DELETE,
    PROD,
    "deployments",
    target_id="qwen3.5-9b-ft-202611021405-a1b2-x",
    after=(SWAP.id,),
    why="superseded",
    was=Price(hour=Decimal(216)),
    price=Price(once=Decimal(36)),
)
WORDS = operation(
    Action.UPDATE,
    Verb.UPDATE,
    MEDS,
    "vocabularies",
    target_id="vocab-1",
    reasons=(
        Change(("words", "厄洛替尼"), None, {"weight": 4}, at(9, "hotwords.yaml")),
        Change(("words", "吉非替尼", "weight"), 3, 5, at(9, "hotwords.yaml")),
        Change(("words", "易瑞沙"), {"weight": 2, "lang": "zh"}, None, at(9, "hotwords.yaml")),
    ),
)
STALE = operation(Action.DELETE, Verb.DELETE, DATA, "files", target_id="5dc69d27", after=(RUN.id,), why="superseded")
CHANGED = plan(
    UPLOAD,
    WORDS,
    RUN,
    SWAP,
    OLD_SIDE,
    STALE,
    notes=(Note("", "1 in deployments, other-1, that no manifest names (216.00 CNY/h)"),),
    totals=Totals(Decimal("39.67224"), Decimal(216), Decimal(216)),
)


# A plan as a page ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [None, 80, 50])
def test_a_plan_reads_as_the_golden_page(width: int | None) -> None:
    """Stages, one entry a slot with a swap's two sides merged, reasons with places, money, the sums."""
    golden(f"plan-{width or 'piped'}", plan_text(HEADING, CHANGED, COLLECTIONS, objects=3, width=width))


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_unless_a_word_is(width: int) -> None:
    lines = click.unstyle(plan_text(HEADING, CHANGED, COLLECTIONS, objects=3, width=width)).splitlines()
    assert [line for line in lines if columns(line) > width] == []


def test_chinese_names_keep_the_columns_aligned() -> None:
    """A Chinese character takes two columns, so padding counts columns and not characters."""
    rows = [["数据集/客服", "uploaded", "1"], ["Dataset/a", "RUNNING", "2"]]
    lines = table(("OBJECT", "STATUS", "ID"), rows).splitlines()
    assert len({columns(line[: line.rindex(" ")]) for line in lines}) == 1


def test_no_change_is_one_line() -> None:
    text = click.unstyle(plan_text(HEADING, plan(), COLLECTIONS, objects=7))
    assert text.splitlines()[1:-1] == ["no changes: 7 objects are as declared"]


def test_every_plan_ends_with_its_money_and_the_date_of_its_prices() -> None:
    """Also where nothing is to do: the run rate goes on. Prices that the Stack brings are told as its own."""
    text = plan_text(HEADING, plan(totals=Totals(Decimal(0), Decimal(216), Decimal(216))), COLLECTIONS, objects=7)
    footer = "once 0.00 CNY     run rate 216.00 -> 216.00 CNY/h (157,680.00 a month)     prices of 2026-05-26"
    assert click.unstyle(text).splitlines()[-1] == footer
    own = plan_text(replace(HEADING, own_prices="prices.yaml"), plan(), COLLECTIONS, objects=7)
    assert click.unstyle(own).endswith("prices of 2026-05-26 under those of prices.yaml")


def test_work_that_goes_on_is_told_and_is_no_change() -> None:
    wait = operation(Action.WAIT, Verb.WAIT, JOB, "jobs", why="ft-1 is RUNNING")
    text = click.unstyle(plan_text(HEADING, plan(wait), COLLECTIONS, objects=2))
    assert text.splitlines()[1:-1] == [
        "no changes: 2 objects are as declared",
        "  … FineTuneJob/support  ft-1 is RUNNING",
    ]


def test_an_unknown_price_is_unknown_and_never_nothing() -> None:
    """Promise four: unknown is "unknown", never 0; what is known of it is said as the least."""
    unpriced = operation(
        Action.RUN, Verb.CREATE, Slot("FineTuneJob/x"), "jobs", price=Price(once=None, basis="no price is known")
    )
    text = plan_text(HEADING, plan(RUN, unpriced, totals=Totals(None, None, None)), COLLECTIONS, objects=0)
    assert "price unknown: no price is known" in text
    assert "once unknown (at least 3.67 CNY)" in text
    assert "run rate unknown -> unknown CNY/h" in text


def test_a_blocked_line_says_why_and_what_to_do() -> None:
    blocked = operation(
        Action.BLOCKED,
        Verb.NOTHING,
        JOB,
        "jobs",
        why="a new paid run needs consent (retrain: Manual)",
        hint="--allow retrain=FineTuneJob/support",
        code=3,
    )
    golden("plan-blocked", plan_text(HEADING, plan(blocked), COLLECTIONS, objects=0))


def test_a_saved_plan_reads_as_the_golden_page() -> None:
    """What it is, the plan as it was shown, and what can be done with it; too old, that instead."""
    stamp = Stamp("emulator:1", "", "support")
    files = {"stack.yaml": "1", "support.yaml": "2"}
    bound = Bound(CHANGED, stamp, "", True, "2026", dt.date(2026, 5, 26), "", files, {}, {}, {}, {}, 3)
    made_at = dt.datetime(2026, 5, 26, 10, tzinfo=dt.UTC)
    choices = Choices(prune=True, allow=frozenset({("retrain", "FineTuneJob/support")}))
    saved = Saved("1", made_at, made_at + dt.timedelta(days=3), ("manifests",), choices, bound, "0.1.0")
    page = partial(saved_text, saved, HEADING, COLLECTIONS, file="plan.json")
    golden("saved", page(at=made_at).replace(saved.digest[:12], "(digest)"))
    late = click.unstyle(page(at=saved.expires_at)).splitlines()
    assert late[-1] == "it expired 2026-05-29 10:00 UTC: plan again"
    assert "reconciler apply" not in late[-2]


def test_reasons_against_a_saved_plan_are_a_line_each_and_bounded() -> None:
    told = [f"reason {HOSTILE} {number}" for number in range(25)]
    error = StalePlan("no longer holds", reasons=told, hint="plan again")
    lines = error_text(error).splitlines()
    assert (lines[0], *lines[-2:]) == ("error: no longer holds", "  and 5 more reasons", "  plan again")
    assert len(lines) == 23
    assert all(map(harmless, lines))


def test_stages_follow_only_what_takes_long() -> None:
    """An upload is not a stage; a run is, and what waits for its deployment comes after both."""
    stages = {entry.lead.id: entry.stage for entry in entries(CHANGED, COLLECTIONS)}
    assert stages[UPLOAD.id] == stages[RUN.id] == "now"
    assert stages[SWAP.id] == stages[STALE.id] == "after FineTuneJob/support is ready"


def test_several_requests_for_one_update_are_one_entry() -> None:
    first = operation(Action.UPDATE, Verb.UPDATE, PROD, "deployments", reasons=(Change(("capacity",), 4, 8, at(3)),))
    second = operation(Action.UPDATE, Verb.UPDATE, PROD, "deployments", price=Price(hour=Decimal(432)))
    found = entries(plan(first, Operation(**{**vars(second), "id": "update 2"})), COLLECTIONS)
    assert [len(entry.operations) for entry in found] == [2]


def test_the_page_says_where_it_would_happen() -> None:
    real = Heading(
        "a", "dashscope.aliyuncs.com (beijing)", False, "2026", dt.date(2026, 5, 26), workspace="llm-1", declared=False
    )
    assert plan_text(real, plan(), COLLECTIONS, objects=0).splitlines()[0] == (
        "stack a (no manifest declares a Stack) · dashscope.aliyuncs.com (beijing) · workspace llm-1 · profile 2026"
        " · prices of 2026-05-26"
    )


# A plan for programs ------------------------------------------------------------------------------------------------


def test_the_json_is_what_its_own_schema_and_page_promise() -> None:
    data = plan_json(HEADING, CHANGED, COLLECTIONS)
    assert PlanJson.model_validate_json(json_text(data)).model_dump(mode="json") == data
    with pytest.raises(ValidationError):
        PlanJson.model_validate({**data, "surprise": 1})
    members = set(plan_schema()["properties"]) | set(plan_schema()["$defs"]["OperationJson"]["properties"])
    page_text = (Path(__file__).parent.parent / "docs/plan-json.md").read_text(encoding="utf-8").replace("[]", "")
    missing = [name for name in sorted(members) if f"`{name}`" not in page_text and f".{name}`" not in page_text]
    assert missing == []


def test_unknown_money_is_null_and_a_late_value_is_named() -> None:
    data = plan_json(HEADING, plan(SWAP, totals=Totals(None, None, None)), COLLECTIONS)
    assert data["totals"] == {"once_cny": None, "hour_before_cny": None, "hour_after_cny": None}
    assert data["operations"][0]["reasons"][0]["after"] == {"known_after_apply": "FineTuneJob/support model"}
    assert data["operations"][0]["reasons"][0]["at"] == {"file": "support.yaml", "line": 25, "column": 3}


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_json_and_yaml_lose_nothing_and_show_nothing_hidden(data: dict[str, Any]) -> None:
    """Unlike the text pages they are read by programs: an escape of the format, not a replacement."""
    assert json.loads(json_text(data)) == data
    assert all(harmless(line) for line in json_text(data).split("\n"))
    if all(not 0xD800 <= ord(letter) < 0xE000 for letter in str(data)):
        assert yaml.safe_load(yaml_text(data)) == data
        assert all(harmless(line) for line in yaml_text(data).split("\n"))


# Text from outside --------------------------------------------------------------------------------------------------


def harmless(line: str) -> bool:
    hidden = any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for letter in line)
    return not hidden


@given(st.text(max_size=300))
def test_the_sink_lets_nothing_through(text: str) -> None:
    """No control, bidi, format, private or unassigned character, no line feed, no order to a CI runner."""
    safe = clean(text)
    assert harmless(safe)
    assert not re.search(r"(?<!\S)::|##\[", safe)


def test_the_sink_cuts_and_shows_what_it_replaced() -> None:
    assert clean("a\x1b[2J\nb\u202ec") == r"a\x1b[2J\nb\u202ec"
    assert (
        clean("::set-env name=x::y and ##[error] at ::once") == r"\x3a:set-env name=x::y and \x23#[error] at \x3a:once"
    )
    assert clean("字" * 300) == "字" * 199 + "…"


def test_hostile_names_and_answers_stay_within_their_line() -> None:
    """Every page, over a plan, a state and errors that are made of control codes, forged lines and commands."""
    slot = Slot(f"Dataset/{HOSTILE}", HOSTILE)
    nasty = operation(
        Action.CREATE,
        Verb.CREATE,
        slot,
        "files",
        fields={HOSTILE: HOSTILE, "more": {HOSTILE: {HOSTILE: HOSTILE}}},
        reasons=(Change((HOSTILE,), HOSTILE, [HOSTILE], Position(HOSTILE, 1, 1)),),
        why=HOSTILE,
        hint=HOSTILE,
        target_id=HOSTILE,
        price=Price(once=None, hour=None, basis=HOSTILE),
    )
    heading = Heading(HOSTILE, HOSTILE, False, HOSTILE, dt.date(2026, 1, 1), workspace=HOSTILE)
    row = Owned(slot, "files", HOSTILE, Role.NEXT, "g", {HOSTILE: HOSTILE}, failure=HOSTILE, applied_at=HOSTILE)
    one = Item(slot, row, Observed(HOSTILE, Phase.FAILED, HOSTILE, outputs={"created": HOSTILE}))
    intent = Intent(HOSTILE, slot, "files", "create", "g", HOSTILE, 0, 1, HOSTILE, {})
    state = State(intents={HOSTILE: intent})
    made = plan(nasty, notes=(Note(HOSTILE, HOSTILE, HOSTILE),))
    progress = Progress(nasty, Stage.FAILED, HOSTILE, HOSTILE)
    held = Pause(HOSTILE, HOSTILE, HOSTILE)
    lost = Orphan("files", Observed(HOSTILE, Phase.READY, HOSTILE, outputs={"mark": HOSTILE}), None, slot)
    pages = [
        plan_text(heading, made, COLLECTIONS, objects=0),
        *(plan_text(heading, plan(vary(nasty, verb)), COLLECTIONS, objects=0) for verb in Verb),
        status_text(heading, [one], state, made, None),
        table_text([one], None),
        waited_text([progress, replace(progress, stage=Stage.DETACHED)], None),
        pause_text(held),
        paused_text([held], [], [row], None),
        resumed_text([Resumed(HOSTILE)], State().fold([held]), None),
        orphans_text(heading, Orphans((lost, replace(lost, operation=intent)), (intent,), ()), str, width=None),
        billed_text(HOSTILE, ()),
        event_text(progress, 1.0),
        finding_text(Finding(intent, HOSTILE, (Candidate(HOSTILE, HOSTILE, HOSTILE, None, None),))),
        finding_text(Finding(replace(intent, phase=IntentPhase.ADOPTED), HOSTILE)),
        heartbeat_text([Progress(nasty, Stage.WAITING, HOSTILE)], 1.0),
        summary_text(Applied(Snapshot(made, state, World()), (progress,)), emulated=False),
        error_text(NotAuthorised(HOSTILE, request_id=HOSTILE, hint=HOSTILE)),
        error_text(ManifestError([Problem(HOSTILE, Position(HOSTILE, 1, 1), HOSTILE)])),
        graph.tree_text({HOSTILE: (HOSTILE * 2,), HOSTILE * 2: ()}),
    ]
    for text in pages:
        lines = click.unstyle(text).split("\n")
        assert [line for line in lines if not harmless(line)] == []
        assert not [line for line in lines if line.startswith("+ Dataset/forged")]


def vary(op: Operation, verb: Verb) -> Operation:
    return Operation(**{**vars(op), "verb": verb})


# Small words --------------------------------------------------------------------------------------------------------


def test_money_never_rounds_to_nothing() -> None:
    assert [money(Decimal(x)) for x in ("0", "0.004", "3.08742", "1234.5")] == ["0.00", "0.004", "3.09", "1,234.50"]
    assert money(None) == "unknown"


def test_sizes_and_times() -> None:
    assert [size_text(x) for x in (999, 1_500, 231_201, 5 * 10**9)] == ["999 bytes", "1.5 kB", "231 kB", "5.0 GB"]
    assert [duration(x) for x in (0.4, 59.6, 200, 7_500)] == ["0 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]


def test_a_digest_is_shown_short_with_its_size() -> None:
    assert value_text(OLD) == "a1b2c3d4… (231 kB)"
    assert value_text(None) == "(not set)"
    assert value_text(MODEL) == "(known after apply)"


@given(st.text(alphabet="ab 中文字,.", max_size=80), st.integers(8, 40))
def test_breaking_a_line_loses_no_letter(text: str, room: int) -> None:
    rows = wrapped(text, room, hang=2)
    assert "".join("".join(rows).split()) == "".join(text.split())


def test_chinese_breaks_between_characters() -> None:
    assert wrapped("词" * 10, 10) == ["词" * 5, "词" * 5]
    assert wrapped("头 中文字", 8) == ["头", "中文字"], "what fits on a row of its own stays whole"
    assert page([Line("头 " + "词" * 10, indent=2, hang=4)], 24) == "  头 词词词词词词词词词\n      词"


# Progress and its end -----------------------------------------------------------------------------------------------


def test_a_summary_tells_failures_causes_and_what_goes_on() -> None:
    progress = (
        Progress(UPLOAD, Stage.DONE),
        Progress(WORDS, Stage.FAILED, detail="vocabularies.update: Throttled", code=5),
        Progress(RUN, Stage.DETACHED, "RUNNING", code=6),
        Progress(SWAP, Stage.SKIPPED, detail="because of: create FineTuneJob/support"),
        Progress(OLD_SIDE, Stage.SKIPPED, detail="because of: create FineTuneJob/support"),
    )
    applied = Applied(Snapshot(CHANGED, State(), World()), progress)
    golden("summary", summary_text(applied, emulated=True, stopped=True))
    data = summary_json(applied, exit_code=130)
    assert data["counts"] == {"detached": 1, "done": 1, "failed": 1, "skipped": 2}
    assert [one["operation"] for one in data["not_done"]] == [WORDS.id, RUN.id, SWAP.id, OLD_SIDE.id]


def test_an_event_says_when_what_and_how_far() -> None:
    assert event_text(Progress(RUN, Stage.WAITING, "RUNNING", "loss 1.2"), 75.4) == (
        "  1:15  FineTuneJob/support  RUNNING: loss 1.2"
    )
    waiting = [Progress(RUN, Stage.WAITING, "QUEUING", elapsed_s=90)]
    assert heartbeat_text(waiting, 3600) == " 60:00  waiting for FineTuneJob/support QUEUING for 1 min 30 s"


# Looking things up --------------------------------------------------------------------------------------------------


def test_the_schema_takes_what_the_manifests_take_and_no_null() -> None:
    schema = manifest_schema(kinds.KINDS, OFFERED)
    assert {ref["$ref"].rpartition("/")[2] for ref in schema["oneOf"]} == {f"{kind}Document" for kind in kinds.KINDS}
    text = json.dumps(schema)
    assert '"null"' not in text
    used = set(re.findall(r'"#/\$defs/([\w.]+)"', text))
    assert used <= schema["$defs"].keys(), "every reference leads somewhere"
    assert schema["$defs"]["Deployment"]["properties"]["capacity"] == {
        "type": "integer",
        "minimum": 1,
        "exclusiveMaximum": 1000,
        "description": "How many units are bought, a multiple of the base capacity.",
    }


def test_two_kinds_may_have_parts_of_one_name() -> None:
    """Both FineTuneJob and Deployment have a `TunedModel`; neither may stand in for the other."""
    definitions = manifest_schema(kinds.KINDS, OFFERED)["$defs"]
    assert {"Deployment.TunedModel", "FineTuneJob.TunedModel"} <= definitions.keys()


def test_what_the_service_chooses_is_not_in_the_schema() -> None:
    """An editor must not offer what no manifest may hold."""
    definitions = manifest_schema(kinds.KINDS, OFFERED)["$defs"]
    chosen = [
        (name, field) for name, kind in kinds.KINDS.items() for field, of in marks(kind).items() if Mark.COMPUTED in of
    ]
    assert len(chosen) >= 4
    assert [(name, field) for name, field in chosen if field in definitions[name]["properties"]] == []


def test_the_schema_offers_the_keys_that_the_catalogue_knows_and_takes_others() -> None:
    keys = manifest_schema(kinds.KINDS, OFFERED)["$defs"]["FineTuneJob"]["properties"]["hyperParameters"]
    assert {*keys["properties"]} == {rule.name for rule in OFFERED.hyper_parameters}
    assert keys["properties"]["n_epochs"]["maximum"] == 200
    assert keys["additionalProperties"], "a catalogue of the user's own may know more"


UNITS = "CNY|epochs?|rows?|tokens|share|steps?|units|objects|runs|dimensions|unit|length|checkpoints|requests"
EVERYTHING = [
    field for name in (*kinds.KINDS, *explain.SHARED) for field in explain.entry([name], kinds.KINDS, OFFERED).below()
]


@pytest.mark.parametrize("field", EVERYTHING, ids=lambda field: field.name)
def test_every_field_says_in_a_sentence_what_it_is(field: explain.Entry) -> None:
    """With the unit of a number: whoever reads `capacity` or `onceCny` must not have to guess one."""
    assert re.fullmatch(r"[A-Z].{8,}\.", field.about), field.about
    if "number" in field.type and not field.fields:
        assert re.search(rf"\b({UNITS})\b", field.about, re.I), f"in what unit is {field.about}"
    text = click.unstyle(explain.entry_text(field, None)).splitlines()
    assert (text[0], text[1].strip()) == (f"{field.name}  {field.type}", field.about)
    assert field.change in text[2]


def test_what_is_said_to_change_in_place_the_service_can_change() -> None:
    for name, kind in kinds.RESOURCES.items():
        in_place = {f.path[-1] for f in explain.entry([name], kinds.KINDS, OFFERED).fields if "in place" in f.change}
        assert in_place == set().union(*(collection.changeable for collection in kind.collections))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("Deployment.limits.rpm", "whole number from 1|requests a minute|optional, changed in place"),
        ("Deployment.model", "text or object|its code|required, a new object replaces it"),
        ("Deployment.smoke.expect", "object|optional, ours alone, never sent|contains  text"),
        ("Deployment.deployedModel", "text|Its id|\n  chosen by the service"),
        ("Deployment.lifecycle.ignore", "list of text|neither compared nor sent|ours alone, never sent"),
        ("Stack.budget.onceCny", "number from 0|in CNY|optional, ours alone, never sent"),
        ("Stack.onUnknown", "Recreate | Ask|optional, default Recreate"),
        (
            "HotwordTable.words",
            "list of object|changed in place, as a whole, not always shown back|weight  whole number",
        ),
        ("FineTuneJob.hyperParameters.n_epochs", "whole number from 1 to 200|in epochs|a new object replaces it"),
        ("metadata.name", "text|required, a new object replaces it"),
    ],
)
def test_a_field_is_explained_down_to_its_leaves(path: str, said: str) -> None:
    text = click.unstyle(explain.entry_text(explain.entry(path.split("."), kinds.KINDS, OFFERED), None))
    assert [words for words in re.split(r"(?<! )\|(?! )", said) if words not in text] == []


def test_an_unknown_field_is_refused_with_what_was_probably_meant() -> None:
    for path, hint in {
        "Deployment.smoke.expct": "did you mean expect?",
        "Deployment.lifecycl": "did you mean lifecycle?",
        "FineTuneJob.hyperParameters.epochs": "did you mean n_epochs?",
        "Deployment.capacity.more": "",
        "Deployment.lifecycle.lifecycle": "it may be ",
    }.items():
        with pytest.raises(UsageError) as refused:
            explain.entry(path.split("."), kinds.KINDS, OFFERED)
        assert hint in refused.value.hint
        assert (refused.value.exit_code, bool(refused.value.hint)) == (64, bool(hint))


def test_nothing_in_a_cell_of_the_reference_ends_it() -> None:
    page = reference(kinds.KINDS, OFFERED)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines() if line.startswith("| `")}
    assert widths == {6}


def test_every_model_is_listed_and_can_be_explained() -> None:
    listing = explain.models_text(OFFERED, None)
    for model in (*OFFERED.models, *OFFERED.speech_models):
        assert model.code in listing
        assert explain.model_text(OFFERED, model.code, {}, None)


def test_the_exit_codes_are_those_of_the_page() -> None:
    """Two tellings of one table must not drift apart; 141 is the shell's own convention and is only explained."""
    text = (Path(__file__).parent.parent / "docs/exit-codes.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text.replace("`", ""), re.M))
    assert {code: meaning for code, meaning in explain.EXIT_CODES.items() if str(code) in told} == {
        int(code): meaning for code, meaning in told.items()
    }


def test_a_tree_shows_what_is_shared_once() -> None:
    edges = {"D/a": (), "J/a": ("D/a",), "P/a": ("J/a",), "P/b": ("J/a",)}
    assert graph.tree_text(edges).splitlines() == [
        "P/a",
        "└─ J/a",
        "   └─ D/a",
        "P/b",
        "└─ J/a (above)",
    ]
    assert '"P/a" -> "J/a";' in graph.dot_text(edges)
    assert "n2 --> n1" in graph.mermaid_text(edges)
