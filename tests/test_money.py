"""What money comes to beyond one price, what finished runs teach, and what an account is held against before a bill."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any
from xml.dom import minidom

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler import catalogue, kinds
from reconciler.apply import Stage
from reconciler.discover import IDLE, UNMANAGED, UNREFERENCED, discover, silent
from reconciler.errors import Refused
from reconciler.guards import NO_LIMITS, breaches
from reconciler.lineage import lineage
from reconciler.money import Calibration, Run, a_month, bought, calibrated, calibration, counts_passes, overlap, spent
from reconciler.money import total as sum_of
from reconciler.observe import offers
from reconciler.plan import Choices, Desired, Operation, Plan, Totals, Verb, World, sums
from reconciler.quotas import Need, needs, notes
from reconciler.render import chart
from reconciler.render.words import columns
from reconciler.resource import Action, Content, Measurement, Observed, Part, Phase, Price, Slot
from reconciler.state import Intent, IntentPhase, Owned, Role, State
from tests.desk import Desk, document, texts

OFFERED = catalogue.load().for_profile("2026")
COLLECTIONS = kinds.collections(OFFERED)
JOB, PROD = Slot("FineTuneJob/tuned"), Slot("Deployment/prod")
DAY = "2026-11-02 10:00:00"
HYPER = {"n_epochs": 3, "batch_size": 8, "max_length": 2048}
ROWS = document("Dataset", "rows", {"source": "rows.jsonl", "format": "sft"})
TUNED = document(
    "FineTuneJob",
    "tuned",
    {
        "model": "qwen3.5-9b",
        "trainingType": "efficient_sft",
        "training": ["rows"],
        "hyperParameters": HYPER,
        "retrain": "Auto",
    },
)


def deployment(capacity: int, model: Any = "qwen3.5-9b") -> dict[str, Any]:
    return document("Deployment", "prod", {"model": model, "plan": "mu", "deploySpec": "MU1", "capacity": capacity})


# Rates ----------------------------------------------------------------------------------------------------------------


def test_an_unknown_amount_makes_every_sum_unknown_and_never_nothing() -> None:
    assert sum_of([Decimal(1), None]) is a_month(None) is overlap(None) is None
    assert (sum_of([]), sum_of([Decimal(1), Decimal(2)]), a_month(Decimal(2))) == (0, 3, 1460)


def test_the_old_side_of_a_swap_costs_ten_minutes_more() -> None:
    assert overlap(Decimal(216)) == Decimal(36)
    assert overlap(Decimal(20)) == Decimal("3.33")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"plan": "mu", "deploySpec": "MU1", "capacity": 4}, "a started minute counts whole"),
        ({"plan": "lora"}, "billed per token, nothing while idle"),
        ({"plan": "cu", "capacity": 1}, "no hourly price is known for qwen3.5-9b under cu"),
    ],
)
def test_a_plan_says_how_its_time_is_rounded(fields: Mapping[str, Any], words: str) -> None:
    assert words in COLLECTIONS["deployments"].price(fields, base="qwen3.5-9b").basis


def test_instances_are_billed_by_the_started_hour_and_sold_by_the_month() -> None:
    instances = kinds.collections(catalogue.load().for_profile("dec-2024"))["deployments"]
    price = instances.price({"capacity": 2}, base="qwen2.5-14b-instruct")
    assert (price.hour, price.prepaid) == (80, 40_000)
    assert "a started hour counts whole" in price.basis


# What finished runs teach ---------------------------------------------------------------------------------------------


def run(tokens: int | None = 1000, used: int | None = 1000, passes: int = 1, **facts: Any) -> Run:
    plain: dict[str, Any] = {
        "slot": JOB, "collection": "jobs", "id": "ft-1", "at": DAY, "status": "SUCCEEDED", "base": "qwen3.5-9b",
        "counted": False, "failed": False, "token_price": Decimal("0.00002"),
    }  # fmt: skip
    return Run(tokens=tokens, used=used, passes=passes, **(plain | facts))


def learnt(*runs: Run, base: str = "qwen3.5-9b", counted: bool = False) -> Calibration | None:
    return calibration(runs, base=base, counted=counted)


def test_without_a_finished_run_nothing_is_learnt() -> None:
    assert learnt() is None
    assert learnt(run(used=None), run(tokens=None), run(failed=True)) is None, "none of these can be held against it"


def test_only_runs_of_the_same_base_counted_in_the_same_way_teach() -> None:
    """Another tokeniser misses by another factor, and so does an estimate that was made otherwise."""
    assert learnt(run(used=1200), base="qwen3-8b") is None
    assert learnt(run(used=1200), counted=True) is None


def test_one_run_teaches_its_factor_and_its_miss() -> None:
    assert learnt(run(used=1100)) == (Decimal("1.1"), Decimal("0.1"), 1)


def test_the_error_is_the_worst_miss_of_this_method_on_its_own_runs() -> None:
    """Each run as the median of the others would have foreseen it: 1.1 by 1.0 misses by 10 %, 1.0 by 1.05 by 5 %."""
    assert learnt(run(used=1000), run(used=1000), run(used=1100)) == (1, Decimal("0.1"), 3)


def test_one_odd_run_moves_the_bar_and_not_the_estimate() -> None:
    told = learnt(*[run(used=1000)] * 4, run(used=2000))
    assert told == (1, 1, 5)


@pytest.mark.parametrize(("per_pass", "used"), [(True, 3300), (False, 1100)])
def test_whether_usage_counts_every_pass_is_told_by_the_runs(per_pass: bool, used: int) -> None:
    """No page says; three passes make a factor of three, which no estimate misses by."""
    runs = [run(used=used, passes=3)]
    assert counts_passes(runs) is per_pass
    assert learnt(*runs) == (Decimal("1.1"), Decimal("0.1"), 1)
    assert spent(runs[0], runs) == Decimal("0.066"), "the bill is the same, whichever way it is counted"


def test_a_usage_that_cannot_be_one_teaches_nothing() -> None:
    assert learnt(run(used=10**30), run(used=0), run(used=1)) is None


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**12), st.integers(1, 9)), max_size=8))
def test_any_runs_come_to_a_factor_within_their_own(found: list[tuple[int, int, int]]) -> None:
    runs = [run(tokens=tokens, used=used, passes=passes) for tokens, used, passes in found]
    told = calibration(runs, base="qwen3.5-9b", counted=False)
    if told is not None:
        every = counts_passes(runs)
        teachers = [one for one in runs if one.teaches]
        ratios = [Fraction(one.used or 0, (one.tokens or 1) * (one.passes if every else 1)) for one in teachers]
        slack = Fraction(1, 1000)
        assert min(ratios) - slack <= Fraction(told.factor) <= max(ratios) + slack
        assert told.runs == len(ratios)


def test_a_price_is_corrected_in_words() -> None:
    price = Price(once=Decimal(100), basis="about 5 tokens")
    told = calibrated(price, Calibration(Decimal("1.100"), Decimal("0.071"), 4))
    assert (told.once, told.basis) == (110, "about 5 tokens x 1.1 (±8 %, from 4 finished runs)")
    exact = calibrated(price, Calibration(Decimal("1.000"), Decimal("0.000"), 1))
    assert exact.basis == "about 5 tokens (±1 %, from 1 finished run)", "nothing is foreseen better than that"


def test_an_unknown_price_stays_unknown_whatever_was_learnt() -> None:
    unknown = Price(once=None, basis="nobody counted the tokens")
    assert calibrated(unknown, Calibration(Decimal(2), Decimal(0), 9)) == unknown


# What was bought ------------------------------------------------------------------------------------------------------


def intent(number: int, tokens: int | None = 1000, phase: IntentPhase = IntentPhase.DONE, epoch: int = 1) -> Intent:
    fields = {"model": "qwen3.5-9b", "hyperParameters": {"n_epochs": 2}}
    return Intent(
        f"op-{number}", JOB, "jobs", "create", "g", "t", 0, epoch, DAY, fields, base="qwen3.5-9b",
        phase=phase, result_id=f"ft-{number}", tokens=tokens,
    )  # fmt: skip


def seen(number: int, phase: Phase, **outputs: Any) -> Observed:
    return Observed(f"ft-{number}", phase, phase.value.upper(), outputs=outputs)


def bills(intents: list[Intent], shown: list[Observed], *rows: Owned) -> list[Decimal | None]:
    state = State().fold([*intents, *rows])
    runs = bought(state, {"jobs": {one.id: one for one in shown}}, COLLECTIONS)
    return [spent(one, runs) for one in runs]


def test_what_was_bought_costs_what_was_counted_else_what_was_foreseen() -> None:
    succeeded = seen(1, Phase.READY, tokens=2200)
    assert bills([intent(1), intent(2)], [succeeded, seen(2, Phase.PENDING)]) == [Decimal("0.044"), Decimal("0.04")]


def test_a_count_that_still_grows_is_no_bill() -> None:
    assert bills([intent(1)], [seen(1, Phase.PENDING, tokens=7)]) == [Decimal("0.04")]


def test_what_failed_is_free_and_what_was_canceled_is_paid_as_far_as_it_got() -> None:
    shown = [seen(1, Phase.FAILED), seen(2, Phase.FAILED, tokens=500)]
    assert bills([intent(1), intent(2)], shown) == [0, Decimal("0.01")]


def test_a_run_whose_record_is_gone_from_the_service_is_still_counted_by_ours() -> None:
    row = Owned(JOB, "jobs", "ft-1", Role.RETIRED, "g", {}, {"tokens": 2000})
    assert bills([intent(1)], [], row) == [Decimal("0.04")]


def test_what_nobody_counted_is_unknown_and_what_was_never_made_is_nothing() -> None:
    assert bills([intent(1, tokens=None)], []) == [None]
    assert bills([intent(1, phase=IntentPhase.REJECTED), intent(2, phase=IntentPhase.ABSENT)], []) == []


def test_a_saved_plan_learns_nothing_from_what_it_did_itself() -> None:
    """Its second run must not become dearer than was approved because its first one finished before an interruption."""
    state = State().fold([intent(1, epoch=1), intent(2, epoch=2)])
    assert [one.id for one in bought(state, {}, COLLECTIONS, before=2)] == ["ft-1"]


# On the emulator ------------------------------------------------------------------------------------------------------


def lengthy(count: int) -> list[str]:
    """Texts that the emulator counts by characters as half as many tokens again as the model has words for."""
    return [f"{text}: international responsibility of organisations" for text in texts(count)]


def test_finished_runs_correct_the_next_estimate(desk: Desk) -> None:
    """The emulator counts otherwise than we do; after two runs the third is foreseen within what the bar says."""
    for count in (40, 80):
        desk.rows("rows.jsonl", lengthy(count))
        desk.declare(ROWS, TUNED)
        desk.apply()
    desk.rows("rows.jsonl", lengthy(120))
    third = next(op for op in desk.plan().operations if op.verb is Verb.CREATE and op.slot == JOB)
    assert "from 2 finished runs)" in third.price.basis
    desk.apply()
    runs = [entry for entry in desk.emulator.ledger() if entry["operation"] == "jobs.create"]
    paid = Decimal(str(runs[-1]["price_cny"]))
    state = desk.state()
    assert third.price.once == pytest.approx(paid, rel=Decimal("0.05"))
    with desk.session() as session:
        ours = bought(state, {}, session.collections)
    assert sum_of(spent(one, ours) for one in ours) == sum(Decimal(str(entry["price_cny"])) for entry in runs)


def test_a_saved_plan_that_is_resumed_is_no_dearer_for_what_it_did_itself(desk: Desk) -> None:
    """Its first run used more than was foreseen. Learning from that would void the approval of the second."""
    first = TUNED | {"metadata": {"name": "first"}}
    again = TUNED | {"spec": TUNED["spec"] | {"model": {"fineTuneJob": "first"}}}
    desk.rows("rows.jsonl", lengthy(40))
    desk.declare(ROWS, first, again)
    saved = desk.save()

    def first_is_over() -> bool:
        return any(one.stage is Stage.DONE and str(one.operation.slot) == "FineTuneJob/first" for one in desk.told)

    desk.apply(plan=saved, stopped=first_is_over)
    assert desk.emulator.operations().count("jobs.create") == 1
    dearer = next(op for op in desk.plan().operations if op.slot == JOB)
    approved = next(op for op in saved.plan.operations if op.slot == JOB)
    assert dearer.price.once is not None
    assert dearer.price.once > (approved.price.once or 0), "a plan of now has learnt from it"
    desk.apply(plan=saved)
    assert desk.emulator.operations().count("jobs.create") == 2


def test_a_swap_shows_its_overlap_and_its_sum_holds_it(desk: Desk) -> None:
    desk.declare(deployment(4))
    desk.apply()
    desk.declare(deployment(4, "qwen3-8b"))
    plan = desk.plan()
    old = next(op for op in plan.operations if op.verb is Verb.DELETE)
    assert (old.price.once, plan.totals.once) == (Decimal(36), Decimal(36))
    assert plan.totals.hour_before == plan.totals.hour_after == 216


def test_what_overlaps_with_an_unknown_price_costs_nobody_knows_what() -> None:
    swap = Operation("d", Action.SWAP, Verb.DELETE, PROD, "deployments", price=Price(once=overlap(None)))
    assert sums([swap], None).once is None


# Capacity -------------------------------------------------------------------------------------------------------------


def test_a_capacity_that_the_service_would_refuse_is_blocked_before_anything_is_sent(desk: Desk) -> None:
    desk.declare(deployment(6))
    (blocked,) = desk.plan().operations
    assert (blocked.action, blocked.code) == (Action.BLOCKED, 1)
    assert blocked.why == "capacity 6 is not a multiple of 4, the base capacity of qwen3.5-9b"
    assert blocked.hint == "write 4 or 8"
    desk.apply()
    assert "deployments.create" not in desk.emulator.operations()


def test_a_scale_that_would_be_refused_is_blocked_and_keeps_what_runs(desk: Desk) -> None:
    desk.declare(deployment(4))
    desk.apply()
    desk.declare(deployment(7))
    assert [op.action for op in desk.plan().operations] == [Action.BLOCKED]


def test_a_model_that_is_still_to_be_trained_is_judged_by_its_base_which_only_warns(desk: Desk) -> None:
    desk.rows("rows.jsonl", texts(40))
    desk.declare(ROWS, TUNED, deployment(6, {"fineTuneJob": "tuned"}))
    plan = desk.plan()
    assert not plan.blocked
    assert [note.what for note in plan.notes if note.warning] == [
        "capacity 6 is not a multiple of 4, the base capacity of qwen3.5-9b"
    ]


TEMPLATES = [{"template_id": "MU1", "roles": {"unified": {"capacity_unit_per_instance": 4}}}]
NEWEST = {"model_name": "m", "plans": [{"plan": "mu", "templates": TEMPLATES}]}


@pytest.mark.parametrize(
    ("fields", "offer", "told"),
    [
        ({"plan": "mu", "deploySpec": "MU1", "capacity": 8}, NEWEST, []),
        ({"plan": "mu", "deploySpec": "MU1", "capacity": 2}, NEWEST, ["write 4"]),
        ({"plan": "mu", "deploySpec": "MU2", "capacity": 8}, NEWEST, ["unverified"]),
        ({"plan": "mu", "deploySpec": "MU1", "capacity": 8}, {"model_name": "m", "base_capacity": 3}, ["unverified"]),
        ({"capacity": 4}, {"model_name": "m", "base_capacity": 3}, ["write 3 or 6"]),
        ({"capacity": 4}, {"model_name": "m", "base_capacity": 0, "plans": "none"}, ["unverified"]),
        ({"plan": "lora", "capacity": 3}, NEWEST, []),
        ({"plan": "ptu", "ptuCapacity": {"inputTpm": 1}}, NEWEST, []),
    ],
)
def test_what_the_list_of_models_says_of_a_capacity(fields: Any, offer: Any, told: list[str]) -> None:
    """The old form of the list names no spec, so under plan mu it proves nothing."""
    found = list(COLLECTIONS["deployments"].fits({"model": "m", **fields}, "", [offer]))
    assert len(found) == len(told)
    assert all(word in f"{finding.what} {finding.hint}" for finding, word in zip(found, told, strict=True))


def test_where_the_list_of_models_cannot_be_had_a_plan_goes_on_without(desk: Desk) -> None:
    desk.declare(deployment(6))
    fault = {"operation": "deployments.models", "refuse": {"status": 404}}
    desk.emulator.control("faults", {"faults": [fault]})
    with desk.session() as session:
        assert offers(session.api, session.collections["deployments"]) is None
    assert not desk.plan().blocked


# Quotas ---------------------------------------------------------------------------------------------------------------


def making(collection: str, count: int, size: int = 1) -> list[Operation]:
    content = Content("f", ("f",), size, "0" * 32)
    return [
        Operation(f"c{n}", Action.CREATE, Verb.CREATE, slot, collection, part=Part(slot, {}, content=content))
        for n in range(count)
        for slot in (Slot("X/x", str(n)),)
    ]


def letting_go(collection: str, remote_id: str, why: str = "") -> Operation:
    return Operation(
        f"d {remote_id}", Action.DELETE, Verb.DELETE, Slot("X/y"), collection, target_id=remote_id, why=why
    )


def needed(collection: str, held: int, *operations: Operation, size: int = 0) -> tuple[Need, ...]:
    objects = {str(n): Observed(str(n), Phase.READY, "OK", outputs={"size": size}) for n in range(held)}
    plan = Plan(operations, (), Totals(Decimal(0), Decimal(0), Decimal(0)))
    others = catalogue.other_limits("2026")
    return needs(plan, World({collection: objects}), COLLECTIONS, OFFERED.limits, others)


def verdicts(*found: Need) -> tuple[int, int]:
    """How many stop an apply, how many only warn."""
    nothing = Plan((), (), Totals(Decimal(0), Decimal(0), Decimal(0)))
    stops = breaches(nothing, NO_LIMITS, Choices(), owned=0, needs=found)
    assert {stop.override for stop in stops} <= {"--allow quota=yes"}
    allowed = breaches(nothing, NO_LIMITS, Choices(allow=frozenset({("quota", "yes")})), owned=0, needs=found)
    assert allowed == ()
    return len(stops), len(list(notes(found)))


def test_the_eleventh_vocabulary_stops_an_apply() -> None:
    assert verdicts(*needed("vocabularies", 9, *making("vocabularies", 1))) == (0, 0)
    assert verdicts(*needed("vocabularies", 10, *making("vocabularies", 1))) == (1, 0)
    assert needed("vocabularies", 12) == (), "what is over already and grows no further is not this plan's doing"


def test_a_deletion_that_may_come_first_makes_room_and_one_that_comes_after_does_not() -> None:
    pruned = letting_go("vocabularies", "3")
    replaced = letting_go("vocabularies", "3", why="superseded")
    assert verdicts(*needed("vocabularies", 10, *making("vocabularies", 1), pruned)) == (0, 1)
    assert verdicts(*needed("vocabularies", 10, *making("vocabularies", 1), replaced)) == (1, 0)


def test_jobs_that_failed_do_not_count() -> None:
    objects = {str(n): Observed(str(n), Phase.READY, "SUCCEEDED") for n in range(19)}
    objects |= {f"f{n}": Observed(f"f{n}", Phase.FAILED, "FAILED") for n in range(9)}
    for count, wanted in ((1, False), (2, True)):
        plan = Plan(tuple(making("jobs", count)), (), Totals(Decimal(0), Decimal(0), Decimal(0)))
        (need,) = needs(plan, World({"jobs": objects}), COLLECTIONS, OFFERED.limits, ())
        assert need.certain is wanted


def test_a_limit_that_pages_dispute_only_warns_until_all_of_them_are_reached() -> None:
    """One page says 100 files and 5 GB, another 10,000 and 100 GB (contract §1.3)."""
    assert verdicts(*needed("files", 99, *making("files", 1))) == (0, 0)
    assert verdicts(*needed("files", 100, *making("files", 1))) == (0, 1)
    assert verdicts(*needed("files", 10_000, *making("files", 1))) == (1, 0)
    assert verdicts(*needed("files", 10, *making("files", 1, size=10**9), size=6 * 10**8)) == (0, 1)
    assert verdicts(*needed("files", 10, *making("files", 1, size=10**9), size=2 * 10**10)) == (1, 0)
    (warning,) = notes(needed("files", 100, *making("files", 1)))
    assert warning.what == "would be 101 of 100, or 10,000 by other pages of the service"


def test_live_use_is_held_against_the_limit_before_anything_is_sent(desk: Desk) -> None:
    """Ten tables made by somebody else leave no room; who knows better says so, and then the service decides."""
    for number in range(10):
        words = [{"text": f"w{number}", "weight": 2}]
        body = {"action": "create_vocabulary", "target_model": "paraformer-v2", "prefix": f"a{number}"}
        call = {"model": "speech-biasing", "input": {**body, "vocabulary": words}}
        desk.emulator.call("POST", "/services/audio/asr/customization", call)
    desk.declare(
        document("HotwordTable", "meds", {"targetModel": "paraformer-v2", "words": [{"text": "词", "weight": 2}]})
    )
    with pytest.raises(Refused, match="quota: 11 vocabularies, and the limit is 10 an account") as caught:
        desk.apply()
    assert caught.value.hint == "--allow quota=yes"
    assert desk.emulator.operations().count("vocabularies.create") == 10
    desk.apply(allow=frozenset({("quota", "yes")}))
    assert desk.emulator.operations().count("vocabularies.create") == 10, "the service refused it"


# Discover -------------------------------------------------------------------------------------------------------------


def running(remote_id: str, **outputs: Any) -> Observed:
    fields = {"model": "qwen3.5-9b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    return Observed(remote_id, Phase.READY, "RUNNING", fields, {"base": "qwen3.5-9b", **outputs})


def owned(remote_id: str, role: Role = Role.CURRENT, slot: Slot = PROD, **facts: Any) -> Owned:
    return Owned(slot, "deployments", remote_id, role, "g", {"plan": "mu"}, base="qwen3.5-9b", **facts)


def found(desired: Desired, rows: list[Owned], objects: Mapping[str, Mapping[str, Observed]]) -> list[tuple[Any, ...]]:
    world = World(objects)
    return [(one.sort, one.id, one.hour) for one in discover(desired, State().fold(rows), world, COLLECTIONS)]


DECLARED = Desired(parts={PROD.address: (Part(PROD, {}),)})


def test_what_is_not_ours_is_found_with_its_price_the_dearest_first() -> None:
    stopped = Observed("stopped", Phase.FAILED, "STOPPED", {"plan": "mu"})
    strange = Observed("strange", Phase.READY, "RUNNING", {"plan": "ptu", "model": "qwen3.5-9b"})
    objects = {"deployments": {one.id: one for one in (stopped, running("theirs"), running("ours"), strange)}}
    assert found(DECLARED, [owned("ours")], objects) == [
        (UNMANAGED, "strange", None),
        (UNMANAGED, "theirs", Decimal(216)),
        (UNMANAGED, "stopped", Decimal(0)),
    ]


@pytest.mark.parametrize(
    ("row", "declared", "wanted"),
    [
        (owned("d"), True, []),
        (owned("d"), False, [IDLE]),
        (owned("d", Role.RETIRED), True, [IDLE]),
        (owned("d", Role.NEXT, failure="smoke"), True, [IDLE]),
        (owned("d", Role.NEXT), True, []),
    ],
)
def test_ours_is_idle_only_where_the_record_says_so(row: Owned, declared: bool, wanted: list[str]) -> None:
    """The service tells of no deployment whether anybody calls it, so one in use is never called idle."""
    desired = DECLARED if declared else Desired()
    assert [sort for sort, _, _ in found(desired, [row], {"deployments": {"d": running("d")}})] == wanted


def test_an_upload_is_waste_only_where_nothing_at_all_refers_to_it() -> None:
    files = {name: Observed(name, Phase.READY, "uploaded") for name in ("alone", "used", "named", "shown")}
    jobs = {"ft-1": Observed("ft-1", Phase.READY, "SUCCEEDED", outputs={"inputs": ("shown",)})}
    rows = [Owned(JOB, "jobs", "ft-1", Role.CURRENT, "g", {}, uses=("files/used",))]
    rows += [Owned(Slot("Dataset/r", name), "files", name, Role.CURRENT, "g", {}) for name in files]
    desired = Desired(parts={"FineTuneJob/x": (Part(Slot("FineTuneJob/x"), {"training": ("named",)}),)})
    world = {"files": files, "jobs": jobs}
    assert found(desired, rows, world) == [(UNREFERENCED, "alone", Decimal(0))]
    assert silent(World(world), COLLECTIONS) == 0
    assert silent(World({"jobs": {"ft-2": Observed("ft-2", Phase.READY, "SUCCEEDED")}}), COLLECTIONS) == 1


# Lineage --------------------------------------------------------------------------------------------------------------

MD5, OTHER = "a" * 32, "b" * 32


def lost(number: int, slot: Slot, collection: str, remote_id: str, fields: Mapping[str, Any], *uses: str) -> Intent:
    """What the journal keeps of an object that is gone."""
    return replace(intent(number), slot=slot, collection=collection, result_id=remote_id, fields=fields, uses=uses)


def ancestry() -> State:
    """Two generations: of the first the upload and the deployment are gone, as after a swap."""
    rows = [
        Owned(Slot("Dataset/r", "r"), "files", "f-2", Role.CURRENT, "g", {"source": f"{OTHER}-7"}),
        Owned(JOB, "jobs", "ft-1", Role.RETIRED, "g", {"training": [f"{MD5}-9"]}, {"model": "m-1"}, ("files/f-1",)),
        Owned(JOB, "jobs", "ft-2", Role.CURRENT, "g", {"training": [f"{OTHER}-7"]}, {"model": "m-2"}, ("files/f-2",)),
        Owned(PROD, "deployments", "d-2", Role.CURRENT, "g", {"model": "m-2"}, uses=("jobs/ft-2",)),
    ]
    gone = [
        lost(1, Slot("Dataset/r", "r"), "files", "f-1", {"source": f"{MD5}-9"}),
        lost(2, PROD, "deployments", "d-1", {"model": "m-1"}, "jobs/ft-1"),
    ]
    return State().fold([*rows, *gone])


@pytest.mark.parametrize("word", [MD5, MD5[:6], "f-1", "ft-1", "m-1", "d-1"])
def test_every_name_leads_to_the_whole_line_also_where_most_of_it_is_gone(word: str) -> None:
    known = lineage(ancestry())
    (node,) = known.find(word)
    line = {f"data {MD5}-9", "files/f-1", "jobs/ft-1", "model m-1", "deployments/d-1"}
    assert known.around(node.key) == line
    assert known.after[f"data {MD5}-9"] == ("files/f-1",)
    assert known.before["deployments/d-1"] == ("model m-1",), "by the model, not past it"


def test_an_address_stands_for_all_that_it_ever_held() -> None:
    assert [node.id for node in lineage(ancestry()).find("FineTuneJob/tuned")] == ["ft-1", "ft-2"]
    assert [node.role for node in lineage(ancestry()).find("Dataset/r")] == ["current", "gone"]
    assert lineage(ancestry()).find("aaaaa") == (), "five letters are too few to mean a hash"


def test_a_run_whose_upload_nobody_remembers_still_knows_its_data() -> None:
    row = Owned(JOB, "jobs", "ft-1", Role.CURRENT, "g", {"training": [f"{MD5}-9"]}, {"model": "m"}, ("files/x",))
    known = lineage(State().fold([row]))
    assert known.before["jobs/ft-1"] == (f"data {MD5}-9", "files/x")


def test_a_record_that_goes_round_in_circles_still_ends() -> None:
    rows = [
        Owned(Slot("X/a"), "jobs", "a", Role.CURRENT, "g", {}, uses=("jobs/b",)),
        Owned(Slot("X/b"), "jobs", "b", Role.CURRENT, "g", {}, uses=("jobs/a",)),
    ]
    assert lineage(State().fold(rows)).around("jobs/a") == {"jobs/a", "jobs/b"}


# Measurements and their curve -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"step": 5, "loss": 2.41, "learning_rate": 9.9e-05}', (5, {"loss": 2.41, "learning_rate": 9.9e-05})),
        ("2026-11-02 [x] {'step': 50, 'eval_loss': 1.2}", (50, {"eval_loss": 1.2})),
        ("step=7 loss: 1 lr=0.1", (7, {"loss": 1, "lr": 0.1})),
        ("loss = 0.5", (1, {"loss": 0.5})),
        ("Actual number of consumed tokens is 240!", None),
        ("job ft-1 accepted: 30 rows, 240 tokens", None),
        ("loss: nan", None),
        ("loss" * 50_000, None),
    ],
)
def test_what_a_log_line_measured(line: str, wanted: Any) -> None:
    """No page says how a log reads, so anything that names a loss and its number counts, and nothing else."""
    assert COLLECTIONS["jobs"].measurements([line]) == ((Measurement(*wanted),) if wanted else ())


MEASURED = (
    Measurement(5, {"loss": 2.5, "lr": 0.1}),
    Measurement(10, {"loss": 1.5}),
    Measurement(10, {"eval_loss": 1.7}),
    Measurement(15, {"loss": 1.25}),
)


@given(
    st.lists(
        st.builds(
            Measurement,
            st.integers(-(10**6), 10**12),
            st.fixed_dictionaries({"loss": st.floats(-1e12, 1e12)}, optional={"eval_loss": st.floats(0, 1e300)}),
        ),
        max_size=12,
    ),
    st.integers(20, 120),
)
@example([Measurement(-14107, {"loss": -1.674695131156559e-127})], 20)
def test_any_measurements_can_be_drawn(measured: list[Measurement], width: int) -> None:
    for plain in (True, False):
        rows = chart.chart_text("t", measured, width, plain=plain).splitlines()
        assert all(columns(row) <= max(width, 30) for row in rows[1:-2])
        assert not plain or all(row.isascii() for row in rows)
    minidom.parseString(chart.svg_text("t", measured))
    assert len(chart.csv_text(measured).splitlines()) == 1 + len({one.step for one in measured})
    json.dumps(chart.measured_json("a", "i", measured))


def test_a_falling_loss_falls_from_left_to_right() -> None:
    rows = chart.chart_text("t", MEASURED, 80, plain=True).splitlines()
    drawn = [row.partition("|")[2] for row in rows[1:-4]]
    first, last = (next(n for n, row in enumerate(drawn) if row[at] == "*") for at in (0, -1))
    assert (first, last > 8) == (0, True), "from the top left to near the bottom right"
    assert rows[-2:] == [
        "* loss: 2.5 -> 1.25 at step 15, lowest 1.25",
        "x eval_loss: 1.7 -> 1.7 at step 10, lowest 1.7",
    ]


def test_a_picture_names_its_axes_and_says_nothing_that_is_markup() -> None:
    picture = minidom.parseString(chart.svg_text('<script>"&\x1b', MEASURED))
    told = [node.firstChild.data for node in picture.getElementsByTagName("text")]
    assert {"step", "loss", "eval_loss"} <= set(told)
    assert told[0] == '<script>"&\\x1b'
    assert picture.getElementsByTagName("script") == []
    assert len(picture.getElementsByTagName("polyline")) == 2


def test_lines_about_one_step_are_one_row() -> None:
    rows = list(csv.reader(io.StringIO(chart.csv_text(MEASURED))))
    assert rows == [
        ["step", "loss", "lr", "eval_loss"],
        ["5", "2.5", "0.1", ""],
        ["10", "1.5", "", "1.7"],
        ["15", "1.25", "", ""],
    ]


def test_nothing_measured_is_said() -> None:
    assert chart.chart_text("t", (), 80, plain=False) == "t: nothing was measured yet"
    assert "nothing was measured yet" in chart.svg_text("t", ())
    assert chart.csv_text(()) == "step"
