"""How many requests things take. Only counted: a request more is a request more, however fast the machine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import engine
from reconciler.approvals import Mode
from reconciler.observe import list_all, look, observe
from reconciler.plan import Choices
from reconciler.resource import Action, Collection, Slot
from reconciler.state import Owned, Role
from tests.desk import WIRE, Desk, document, emulator, lines, multiply, texts

N = 250
DATASET = document("Dataset", "d", {"source": "d.jsonl", "format": "sft"})
JOB = document(
    "FineTuneJob",
    "j",
    {
        "model": "qwen3-8b",
        "trainingType": "efficient_sft",
        "training": ["d"],
        "hyperParameters": {"n_epochs": 1, "batch_size": 8, "max_length": 2048},
    },
)
SERVED = document("Deployment", "p", {"model": {"fineTuneJob": "j"}, "plan": "mu", "deploySpec": "MU1", "capacity": 4})
WORDS = [{"text": "热词", "weight": 4}]
TABLE = document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": WORDS})
LIST = document("HotwordTable", "v", {"targetModel": "paraformer-v1", "words": WORDS})
EVERYTHING = (DATASET, JOB, SERVED, TABLE, LIST)
LISTED = ("deployments", "files", "jobs", "phrases", "vocabularies")


@pytest.fixture
def settled(tmp_path: Path) -> Iterator[Desk]:
    """One object of every kind, applied and at rest; read in a later second than it was made in."""
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service", speed=100_000.0) as service:
        desk = Desk(tmp_path / "project", service)
        desk.rows("d.jsonl", texts(40))
        desk.declare(*EVERYTHING)
        desk.apply()
        desk.sent.clear()
        yield desk


def most(collection: Collection, count: int) -> int:
    """Requests that a list of so many may take: its pages, and one that finds nothing more."""
    return math.ceil(count / collection.page_size) + 1


@pytest.mark.parametrize("recorded", [True, False], ids=["ours", "nobody's"])
def test_a_refresh_takes_its_pages_and_one_more_of_each_kind(settled: Desk, tmp_path: Path, recorded: bool) -> None:
    for name in LISTED:
        multiply(tmp_path / "service", name, N)
    with settled.session() as session:
        api, rows = session.api, list[Owned]()
        known = session.collections
        seen = {name: list_all(api, known[name]) for name in LISTED}
        assert {name: len(objects) for name, objects in seen.items()} == dict.fromkeys(LISTED, N)
        if recorded:
            read = {"read": "2099-01-01 00:00:00"}
            rows = [
                Owned(Slot(f"Any/{number}"), name, key, Role.CURRENT, "", {}, {**one.outputs, **read})
                for name, objects in seen.items()
                for number, (key, one) in enumerate(objects.items())
            ]
        settled.sent.clear()
        world = observe(api, known, LISTED, rows)
    assert {name: len(objects) for name, objects in world.objects.items()} == dict.fromkeys(LISTED, N)
    taken = Counter(settled.sent)
    assert taken.keys() == {f"{name}.list" for name in LISTED}
    for name in LISTED:
        assert taken[f"{name}.list"] <= most(known[name], N), taken


def test_a_plan_without_a_change_reads_lists_alone(settled: Desk) -> None:
    """No object is asked for by its id, and nothing is written."""
    assert lines(settled.plan()) == []
    assert Counter(settled.sent) == Counter(f"{name}.list" for name in LISTED)


def test_a_controller_at_rest_asks_what_a_plan_asks(settled: Desk) -> None:
    for mode in (Mode.APPLY, Mode.OBSERVE):
        settled.sent.clear()
        assert settled.look(mode).progress == ()
        assert Counter(settled.sent) == Counter(f"{name}.list" for name in LISTED)


def test_what_is_waited_for_costs_requests_and_nothing_else_does(desk: Desk, tmp_path: Path) -> None:
    """One job under way among hundreds of objects at rest: however long it takes, only jobs are asked about."""
    desk.rows("d.jsonl", texts(40))
    desk.declare(DATASET, TABLE, document("Deployment", "base", {**SERVED["spec"], "model": "qwen3-8b"}))
    desk.apply()
    for name in ("files", "deployments"):
        multiply(tmp_path / "service", name, 150)
    desk.sent.clear()
    desk.plan()
    refresh = Counter(desk.sent)
    desk.declare(DATASET, TABLE, document("Deployment", "base", {**SERVED["spec"], "model": "qwen3-8b"}), JOB)
    desk.sent.clear()
    desk.apply()
    taken = Counter(desk.sent)
    assert taken["jobs.list"] > 20, "it took its time"
    others = {operation: count for operation, count in taken.items() if not operation.startswith("jobs.")}
    assert all(count <= 3 * refresh[operation] for operation, count in others.items()), (others, refresh)


@pytest.mark.parametrize("count", [1, 3])
def test_a_status_is_asked_for_in_proportion_to_what_is_active(settled: Desk, tmp_path: Path, count: int) -> None:
    """The list of all jobs has three pages; the newest are on the first of them, and so are those under way."""
    multiply(tmp_path / "service", "jobs", 300)
    with settled.session() as session:
        jobs = session.collections["jobs"]
        newest = [*list_all(session.api, jobs).values()][:count]
        rows = [Owned(Slot("Any/one"), "jobs", one.id, Role.NEXT, "", {}) for one in newest]
        settled.sent.clear()
        assert look(session.api, jobs, rows).keys() == {one.id for one in newest}
        assert settled.sent == ["jobs.list"]


def test_an_old_object_is_found_without_reading_all_that_is_newer(settled: Desk, tmp_path: Path) -> None:
    multiply(tmp_path / "service", "jobs", 300)
    with settled.session() as session:
        jobs = session.collections["jobs"]
        [*_, oldest] = list_all(session.api, jobs).values()
        row = Owned(Slot("Any/one"), "jobs", oldest.id, Role.NEXT, "", {})
        settled.sent.clear()
        assert look(session.api, jobs, [row])[oldest.id].fields == oldest.fields
        assert settled.sent == ["jobs.list", "jobs.get"]
        settled.sent.clear()
        assert look(session.api, jobs, [replace(row, id="ft-202611021405-none")]) == {}
        assert settled.sent == ["jobs.list", "jobs.get", "jobs.get"], "absence is never concluded from a list"


def test_making_phrase_lists_reads_again_no_more_than_the_newest(settled: Desk, tmp_path: Path) -> None:
    """Before each of them it must be known what is there already: three pages once, and then the first page alone."""
    multiply(tmp_path / "service", "phrases", N)
    settled.sent.clear()
    settled.plan()
    refresh = Counter(settled.sent)["phrases.list"]
    names = "abcdef"
    settled.declare(*EVERYTHING, *(document("HotwordTable", name, LIST["spec"]) for name in names))
    settled.sent.clear()
    settled.apply()
    taken = Counter(settled.sent)
    assert taken["phrases.create"] == len(names)
    assert taken["phrases.list"] == refresh + refresh + len(names), "the plan, before the first, after each of them"


def test_many_files_are_looked_at_together(desk: Desk) -> None:
    """While more are on their way one look is soon enough: it tells of those too."""
    names = [f"d{number}" for number in range(40)]
    for name in names:
        desk.rows(f"{name}.jsonl", texts(40))
    desk.declare(*(document("Dataset", name, {"source": f"{name}.jsonl", "format": "sft"}) for name in names))
    desk.apply()
    taken = Counter(desk.sent)
    assert taken["files.create"] == len(names)
    assert taken["files.list"] < len(names) / 4


def test_a_server_that_enforces_its_rate_refuses_nothing(tmp_path: Path) -> None:
    """Apply, plan and a refresh of long lists, each by a client that knows of the others nothing but the rate."""
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service", rate_per_s=50) as service:
        desk = Desk(tmp_path / "project", service)
        desk.rows("d.jsonl", texts(40))
        desk.declare(DATASET, TABLE, LIST)
        desk.apply()
        for name in ("files", "vocabularies", "phrases"):
            multiply(tmp_path / "service", name, N)
        assert lines(desk.plan()) == []
        assert len(desk.sent) > 35
        told = WIRE.get(f"{service.origin}/_emulator/info").json()
    assert (told["rate_per_s"], told["burst"], told["throttled"]) == (50, 1, 0)


# A look that begins early -------------------------------------------------------------------------------------------


def test_a_plan_that_looked_ahead_asks_no_more_and_comes_to_the_same(settled: Desk) -> None:
    with settled.session() as session:
        plain, asked = engine.plan(session, Choices()), Counter(settled.sent)
        settled.sent.clear()
        early = engine.plan(engine.looking_ahead(session), Choices())
    assert Counter(settled.sent) == asked
    assert early.plan == plain.plan
    assert early.state == plain.state
    assert early.world.objects.keys() == plain.world.objects.keys()


def test_what_is_declared_and_not_recorded_is_looked_at_all_the_same(tmp_path: Path) -> None:
    """Nothing is known beforehand of what a first plan is about."""
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service") as service:
        desk = Desk(tmp_path / "project", service)
        desk.declare(TABLE)
        with desk.session() as session:
            early = engine.plan(engine.looking_ahead(session), Choices())
    assert early.world.objects.keys() == {"vocabularies"}
    assert [op.action for op in early.plan.operations] == [Action.CREATE]
