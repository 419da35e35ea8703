"""Deployments: contract §3, by moving the clock."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.emulator.stand import CORE, MINUTE, Emulator, Start, chat_rows, dpo_rows

DEPLOYMENTS = "/api/v1/deployments"
GOOD = {"model_name": "qwen3.5-9b", "plan": "mu", "deploy_spec": "MU1", "capacity": 4}


def statuses(emulator: Emulator, deployed_model: str, *, for_s: float = 15 * MINUTE) -> list[str]:
    """Every status passed through, each once; "gone" when the service no longer knows it."""
    seen: list[str] = []
    for _ in range(int(for_s / 10)):
        answer = emulator.call("GET", f"{DEPLOYMENTS}/{deployed_model}")
        status = answer.json()["output"]["status"] if answer.status_code == 200 else "gone"
        if status not in seen[-1:]:
            seen.append(status)
        emulator.advance(10)
    return seen


def running(emulator: Emulator, **members: Any) -> str:
    deployed_model: str = emulator.deploy(**members)["deployed_model"]
    emulator.advance(11 * MINUTE)
    assert emulator.deployment_now(deployed_model)["status"] == "RUNNING"
    return deployed_model


def old_running(old: Emulator, **members: Any) -> str:
    body = {"model_name": "qwen2-7b-instruct", "capacity": 2, **members}
    deployed_model: str = old.ok("POST", DEPLOYMENTS, json=body)["output"]["deployed_model"]
    old.advance(11 * MINUTE)
    return deployed_model


# The object


def test_a_new_deployment_shows_what_the_page_says(emulator: Emulator) -> None:
    deployment = emulator.deploy(suffix="care1", rpm_limit=60, max_context_length=8192, enable_thinking=False)
    assert re.fullmatch("qwen3.5-9b-[0-9a-f]{8}-care1", deployment["deployed_model"])
    shown = ("model_name", "base_model", "status", "base_capacity", "capacity", "ready_capacity", "charge_type", "plan")
    assert [deployment[name] for name in shown] == [
        *("qwen3.5-9b", "qwen3.5-9b", "PENDING", 4, 4, 0, "post_paid", "mu"),
    ]
    assert (deployment["model_unit_spec"], deployment["rpm_limit"]) == ("MU1", 60)
    assert (deployment["max_context_length"], deployment["enable_thinking"]) == (8192, False)
    assert deployment["gmt_create"] == deployment["gmt_modified"] == "2026-11-02T14:05:00"
    assert not {"name", "suffix", "deploy_spec", "billing_method"} & deployment.keys()


def test_a_fraction_of_a_second_shows_on_write_replies_only(emulator: Emulator) -> None:
    emulator.advance(0.25)
    deployment = emulator.deploy()
    assert deployment["gmt_create"] == "2026-11-02T14:05:00.25"
    assert emulator.deployment_now(deployment["deployed_model"])["gmt_create"] == "2026-11-02T14:05:00"


def test_december_2024_needs_neither_plan_nor_unit(old: Emulator) -> None:
    """The plan that the 2.0.2 command always sends is taken all the same."""
    body = {"model_name": "qwen2-7b-instruct", "capacity": 2, "plan": "mu", "suffix": "care1"}
    deployment = old.ok("POST", DEPLOYMENTS, json=body)["output"]
    assert deployment["deployed_model"] == "qwen2-7b-instruct-care1"
    assert (deployment["base_capacity"], deployment["capacity"]) == (1, 2)
    assert not {"plan", "workspace_id", "model_unit_spec"} & deployment.keys()


@pytest.mark.parametrize(("position", "shown"), [("on", "Shown"), ("off", None)])
def test_whether_the_display_name_comes_back(start: Start, position: str, shown: str | None) -> None:
    emulator = start(deployments__returns_name=position)
    assert emulator.deploy(name="Shown").get("name") == shown


@pytest.mark.parametrize(
    ("position", "plain", "with_suffix"),
    [
        ("plain", "{model}", "{model}-care1"),
        ("hash", "{model}-[0-9a-f]{{8}}", "{model}-[0-9a-f]{{8}}"),
        ("hash+suffix", "{model}-[0-9a-f]{{8}}", "{model}-[0-9a-f]{{8}}-care1"),
        ("mixed", "{model}", "{model}-[0-9a-f]{{8}}-care1"),
    ],
)
def test_how_the_id_of_a_tuned_models_deployment_looks(
    start: Start, position: str, plain: str, with_suffix: str
) -> None:
    emulator = start(deployments__id_style=position)
    model = emulator.trained()["finetuned_output"]
    for pattern, members in ((plain, {}), (with_suffix, {"suffix": "care1"})):
        made = emulator.deploy(model_name=model, **members)["deployed_model"]
        assert re.fullmatch(pattern.format(model=re.escape(model)), made)


# Plans


def test_a_lora_model_is_deployed_per_call(emulator: Emulator) -> None:
    model = emulator.trained()["finetuned_output"]
    deployment = emulator.deploy(model_name=model, plan="lora", deploy_spec=None, capacity=None)
    assert (deployment["plan"], deployment["deployed_model"]) == ("lora", model)
    assert "model_unit_spec" not in deployment
    assert emulator.ledger()[-1]["price_cny"] == 0


def test_reserved_tokens_are_described_and_not_priced(emulator: Emulator) -> None:
    reserved = {"input_tpm": 10_000, "output_tpm": 1_000}
    deployment = emulator.deploy(plan="ptu", deploy_spec=None, ptu_capacity=reserved)
    assert deployment["ptu_capacity"] == reserved
    assert emulator.ledger()[-1]["price_cny"] is None


def test_compute_units_show_their_plan_only_in_the_list(emulator: Emulator) -> None:
    deployment = emulator.deploy(plan="cu", deploy_spec=None, capacity=1)
    assert "plan" not in deployment
    assert "plan" not in emulator.deployment_now(deployment["deployed_model"])
    assert emulator.ok("GET", DEPLOYMENTS)["output"]["deployments"][0]["plan"] == "cu"


def test_the_commands_template_id_is_the_unit(emulator: Emulator) -> None:
    body = {"model_name": "qwen3.5-9b", "plan": "mu", "template_id": "MU1", "capacity": 4}
    assert emulator.ok("POST", DEPLOYMENTS, json=body)["output"]["model_unit_spec"] == "MU1"


@pytest.mark.parametrize(
    ("members", "refusal"),
    [
        ({"plan": None}, "Required parameter(plan) missing or invalid"),
        ({"plan": "dtu"}, "Required parameter(plan) missing or invalid"),
        ({"plan": "lora"}, "The model qwen3.5-9b does not exist or is not deployable"),
        ({"deploy_spec": None}, "Required parameter(deploy_spec) missing or invalid"),
        ({"deploy_spec": "MU2"}, "Required parameter(deploy_spec) missing or invalid"),
        ({"billing_method": "PRE_PAY"}, "Required parameter(billing_method) missing or invalid"),
        ({"capacity": None}, "Required parameter(capacity) missing or invalid"),
        ({"capacity": 2.0}, "Required parameter(capacity) missing or invalid"),
        ({"capacity": True}, "Required parameter(capacity) missing or invalid"),
        ({"capacity": 3}, "Invalid capacity (3), capacity must be larger than or equal to 0 and multiples of 4"),
        ({"capacity": 0}, "Invalid capacity (0)"),
        ({"capacity": -4}, "Invalid capacity (-4)"),
        ({"capacity": 1000}, "Invalid capacity (1000)"),
        ({"suffix": "ninechars"}, "Required parameter(suffix) missing or invalid"),
        ({"suffix": "Upper"}, "Required parameter(suffix) missing or invalid"),
        ({"suffix": "a-b"}, "Required parameter(suffix) missing or invalid"),
        ({"rpm_limit": 0}, "Required parameter(rpm_limit) missing or invalid"),
        ({"max_context_length": 262_145}, "Required parameter(max_context_length) missing or invalid"),
        ({"enable_thinking": "no"}, "Required parameter(enable_thinking) missing or invalid"),
        ({"plan": "ptu"}, "Miss ptu capacity info"),
        ({"plan": "ptu", "ptu_capacity": {"input_tpm": 1}}, "Required parameter(output_tpm) missing or invalid"),
    ],
)
def test_a_wrong_request_is_refused_and_costs_nothing(emulator: Emulator, members: Any, refusal: str) -> None:
    status, code, message = emulator.refused("POST", DEPLOYMENTS, json=GOOD | members)
    assert (status, code) == (400, "InvalidParameter")
    assert message.startswith(refusal)
    assert emulator.ledger() == []


def test_a_model_nobody_knows(emulator: Emulator) -> None:
    refused = emulator.refused("POST", DEPLOYMENTS, json=GOOD | {"model_name": "gpt-4"})
    assert refused == (404, "NotFound", "Model: gpt-4 not found!")


def test_a_model_that_is_still_trained_is_not_deployable(emulator: Emulator) -> None:
    name = emulator.job()["finetuned_output"]
    message = f"The model {name} does not exist or is not deployable"
    assert emulator.refused("POST", DEPLOYMENTS, json=GOOD | {"model_name": name})[::2] == (400, message)


def test_only_efficient_sft_can_be_served_per_call(emulator: Emulator) -> None:
    job = emulator.trained(model="qwen3-8b", training_type="dpo_lora", content=dpo_rows(40))
    body = {"model_name": job["finetuned_output"], "plan": "lora"}
    assert emulator.refused("POST", DEPLOYMENTS, json=body)[0] == 400


def test_december_2024_takes_any_positive_number_of_instances(old: Emulator) -> None:
    body = {"model_name": "qwen2-7b-instruct"}
    assert old.refused("POST", DEPLOYMENTS, json=body)[2].startswith("Required parameter(capacity)")
    assert old.refused("POST", DEPLOYMENTS, json={**body, "capacity": 0})[2].startswith("Invalid capacity (0)")
    assert old.ok("POST", DEPLOYMENTS, json={**body, "capacity": 3})["output"]["capacity"] == 3


# Uniqueness


@pytest.mark.parametrize("position", ["plain", "hash", "hash+suffix", "mixed"])
def test_a_suffix_is_unique_however_ids_look(start: Start, position: str) -> None:
    """It is the only thing that turns a doubled create into a refusal."""
    emulator = start(deployments__id_style=position)
    first = emulator.deploy(suffix="care1")["deployed_model"]
    message = f"Deployed model {first} already exists, please specify a suffix."
    again = GOOD | {"suffix": "care1", "model_name": "qwen3-8b"}
    assert emulator.refused("POST", DEPLOYMENTS, json=again) == (409, "Conflict", message)
    assert emulator.ok("GET", DEPLOYMENTS)["output"]["total"] == 1


def test_a_plain_id_can_be_taken_only_once(emulator: Emulator) -> None:
    model = emulator.trained()["finetuned_output"]
    emulator.deploy(model_name=model)
    refused = emulator.refused("POST", DEPLOYMENTS, json=GOOD | {"model_name": model})
    assert refused == (409, "Conflict", f"Deployed model {model} already exists, please specify a suffix.")


def test_a_suffix_is_free_once_its_deployment_is_gone(emulator: Emulator) -> None:
    deployed_model = emulator.deploy(suffix="care1")["deployed_model"]
    emulator.ok("DELETE", f"{DEPLOYMENTS}/{deployed_model}")
    assert emulator.call("POST", DEPLOYMENTS, json=GOOD | {"suffix": "care1"}).status_code == 409
    emulator.advance(2 * MINUTE)
    assert emulator.deploy(suffix="care1")["status"] == "PENDING"


def test_without_a_suffix_a_repeated_create_buys_twice(emulator: Emulator) -> None:
    """The danger itself, kept visible: newer ids get a random part."""
    assert emulator.deploy()["deployed_model"] != emulator.deploy()["deployed_model"]


# Life


def test_a_deployment_runs_within_five_to_ten_minutes(emulator: Emulator) -> None:
    deployed_model = emulator.deploy()["deployed_model"]
    emulator.advance(5 * MINUTE)
    assert emulator.deployment_now(deployed_model)["ready_capacity"] == 0
    emulator.advance(5 * MINUTE)
    assert emulator.deployment_now(deployed_model)["ready_capacity"] == 4


def test_the_statuses_of_a_life(emulator: Emulator) -> None:
    deployed_model = emulator.deploy()["deployed_model"]
    assert statuses(emulator, deployed_model) == ["PENDING", "DEPLOYING", "RUNNING"]
    emulator.ok("PUT", f"{DEPLOYMENTS}/{deployed_model}/scale", json={"capacity": 8})
    assert statuses(emulator, deployed_model) == ["UPDATING", "RUNNING"]
    emulator.ok("PUT", f"{DEPLOYMENTS}/{deployed_model}/update", json={"rpm_limit": 10})
    assert statuses(emulator, deployed_model) == ["PENDING", "RUNNING"]
    emulator.ok("DELETE", f"{DEPLOYMENTS}/{deployed_model}")
    assert statuses(emulator, deployed_model) == ["DELETING", "gone"]


def test_december_2024_knows_no_updating(old: Emulator) -> None:
    deployed_model = old_running(old)
    old.ok("PUT", f"{DEPLOYMENTS}/{deployed_model}/scale", json={"capacity": 4})
    assert statuses(old, deployed_model) == ["PENDING", "DEPLOYING", "RUNNING"]
    assert old.call("PUT", f"{DEPLOYMENTS}/{deployed_model}/update", json={"rpm_limit": 1}).status_code == 404


def test_scaling_shows_the_new_capacity_at_once_and_is_ready_later(emulator: Emulator) -> None:
    """The body repeats the id, as the SDK does."""
    deployed_model = running(emulator)
    body = {"deployed_model": deployed_model, "capacity": 12}
    scaled = emulator.ok("PUT", f"{DEPLOYMENTS}/{deployed_model}/scale", json=body)["output"]
    assert (scaled["status"], scaled["capacity"], scaled["ready_capacity"]) == ("UPDATING", 12, 4)
    emulator.advance(3 * MINUTE)
    now = emulator.deployment_now(deployed_model)
    assert (now["status"], now["capacity"], now["ready_capacity"]) == ("RUNNING", 12, 12)
    assert now["gmt_modified"] > now["gmt_create"]


@pytest.mark.parametrize("capacity", [3, -4, 1000, None, "8"])
def test_a_capacity_that_cannot_be_is_refused(emulator: Emulator, capacity: Any) -> None:
    path = f"{DEPLOYMENTS}/{running(emulator)}/scale"
    assert emulator.refused("PUT", path, json={"capacity": capacity})[:2] == (400, "InvalidParameter")


def test_scaling_to_nothing_serves_nothing(emulator: Emulator) -> None:
    """The service's own message allows 0."""
    deployed_model = running(emulator)
    emulator.ok("PUT", f"{DEPLOYMENTS}/{deployed_model}/scale", json={"capacity": 0})
    emulator.advance(3 * MINUTE)
    assert emulator.deployment_now(deployed_model)["ready_capacity"] == 0
    assert emulator.ledger()[-1]["price_cny"] == 0


def test_a_change_must_wait_for_the_one_before(emulator: Emulator) -> None:
    deployed_model = emulator.deploy()["deployed_model"]
    refused = emulator.refused("PUT", f"{DEPLOYMENTS}/{deployed_model}/scale", json={"capacity": 8})
    assert refused == (400, "UnsupportedOperation", "The deployment can not be changed because it is pending")


def test_per_call_capacity_cannot_be_scaled(emulator: Emulator) -> None:
    model = emulator.trained()["finetuned_output"]
    deployed_model = running(emulator, model_name=model, plan="lora")
    refused = emulator.refused("PUT", f"{DEPLOYMENTS}/{deployed_model}/scale", json={"capacity": 2})
    assert refused[:2] == (400, "UnsupportedOperation")


def test_reserved_tokens_scale_in_one_direction(emulator: Emulator) -> None:
    reserved = {"input_tpm": 10_000, "output_tpm": 1_000}
    deployed_model = running(emulator, plan="ptu", ptu_capacity=reserved)
    path = f"{DEPLOYMENTS}/{deployed_model}/scale"
    both_ways = {"input_tpm": 20_000, "output_tpm": 500}
    assert emulator.refused("PUT", path, json={"ptu_capacity": both_ways})[0] == 400
    more = {"input_tpm": 20_000, "output_tpm": 1_000}
    assert emulator.ok("PUT", path, json={"ptu_capacity": more})["output"]["ptu_capacity"] == more


def test_rate_limits_change_in_place(emulator: Emulator) -> None:
    deployed_model = running(emulator)
    path = f"{DEPLOYMENTS}/{deployed_model}/update"
    assert emulator.ok("PUT", path, json={"tpm_limit": 5})["output"]["status"] == "PENDING"
    emulator.advance(2 * MINUTE)
    now = emulator.deployment_now(deployed_model)
    assert (now["status"], now["tpm_limit"], now["ready_capacity"]) == ("RUNNING", 5, 4)
    assert emulator.refused("PUT", path, json={})[:2] == (400, "InvalidParameter")


def test_rate_limits_belong_to_model_units(emulator: Emulator) -> None:
    deployed_model = running(emulator, plan="cu", capacity=1)
    refused = emulator.refused("PUT", f"{DEPLOYMENTS}/{deployed_model}/update", json={"rpm_limit": 1})
    assert refused[:2] == (400, "UnsupportedOperation")


def test_deleting_answers_the_whole_object_and_ends_in_not_found(emulator: Emulator) -> None:
    deployed_model = running(emulator)
    deleted = emulator.ok("DELETE", f"{DEPLOYMENTS}/{deployed_model}")["output"]
    assert (deleted["status"], deleted["capacity"], deleted["ready_capacity"]) == ("DELETING", 4, 0)
    emulator.ok("DELETE", f"{DEPLOYMENTS}/{deployed_model}")
    emulator.advance(2 * MINUTE)
    missing = (404, "NotFound", f"Model: {deployed_model} not found!")
    for method, path in (("GET", ""), ("DELETE", ""), ("PUT", "/scale"), ("PUT", "/update")):
        assert emulator.refused(method, f"{DEPLOYMENTS}/{deployed_model}{path}") == missing
    assert emulator.ok("GET", DEPLOYMENTS)["output"]["total"] == 0


@pytest.mark.parametrize(("position", "status"), [("off", 200), ("on", 400)])
def test_whether_a_running_deployment_can_be_deleted_is_disputed(start: Start, position: str, status: int) -> None:
    emulator = start(deployments__delete_requires_stopped=position)
    assert emulator.call("DELETE", f"{DEPLOYMENTS}/{running(emulator)}").status_code == status


def test_the_list_pages_newest_first(emulator: Emulator) -> None:
    made = [emulator.deploy()["deployed_model"] for _ in range(3)]
    output = emulator.ok("GET", f"{DEPLOYMENTS}?page_no=1&page_size=2")["output"]
    assert (output["total"], output["page_no"], output["page_size"]) == (3, 1, 2)
    assert [item["deployed_model"] for item in output["deployments"]] == [made[2], made[1]]
    assert emulator.call("GET", f"{DEPLOYMENTS}?page_size=201").status_code == 400


# The ledger


def test_the_ledger_has_the_hourly_price_after_each_operation(emulator: Emulator) -> None:
    deployed_model = running(emulator, suffix="care1", name="shown")
    emulator.ok("PUT", f"{DEPLOYMENTS}/{deployed_model}/scale", json={"capacity": 8})
    emulator.advance(3 * MINUTE)
    emulator.ok("DELETE", f"{DEPLOYMENTS}/{deployed_model}")
    entries = emulator.ledger()
    assert [(entry["operation"], entry["price_cny"], entry["unit"]) for entry in entries] == [
        ("deployments.create", 216, "hour"),
        ("deployments.scale", 432, "hour"),
        ("deployments.delete", 0, "hour"),
    ]
    marks = ("suffix", "name", "plan", "deploy_spec", "capacity")
    assert [entries[0][name] for name in marks] == ["care1", "shown", "mu", "MU1", 4]


def test_the_ledger_of_december_2024_counts_instance_hours(old: Emulator) -> None:
    old_running(old, capacity=2)
    assert old.ledger()[-1]["price_cny"] == 80
    old_running(old, model_name="qwen-turbo", suffix="x")
    assert old.ledger()[-1]["price_cny"] is None


def test_deploying_the_model_of_a_job_in_december_2024(old: Emulator) -> None:
    job = old.trained(content=chat_rows(40), hyper_parameters=CORE)
    body = {"model_name": job["finetuned_output"], "capacity": 2}
    assert old.ok("POST", DEPLOYMENTS, json=body)["output"]["deployed_model"] == job["finetuned_output"]
