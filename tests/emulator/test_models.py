"""What can be deployed, in the classic list and in the newer one: contract §3.1."""

from __future__ import annotations

from typing import Any

from tests.emulator.stand import Emulator

MODELS = "/api/v1/deployments/models"


def listed(emulator: Emulator, query: str = "") -> Any:
    return emulator.ok("GET", f"{MODELS}?page_size=100{query}")["output"]


def test_the_classic_list_gives_base_capacities(emulator: Emulator) -> None:
    job = emulator.trained()
    output = listed(emulator)
    models = {model["model_name"]: model for model in output["models"]}
    assert output["total"] == len(models)
    assert models["qwen3.5-9b"] == {"model_name": "qwen3.5-9b", "base_capacity": 4}
    assert models[job["finetuned_output"]]["base_capacity"] == 4
    assert "qwen-turbo" not in models


def test_the_new_list_gives_plans_with_templates(emulator: Emulator) -> None:
    job = emulator.trained()
    models = {model["model_name"]: model for model in listed(emulator, "&version=v1.0")["models"]}
    plans = {plan["plan"]: plan["templates"] for plan in models[job["finetuned_output"]]["plans"]}
    assert set(plans) == {"mu", "cu", "ptu", "lora"}
    template = plans["mu"][0]
    assert (template["template_id"], template["template_type"]) == ("MU1", "COUPLED")
    assert template["roles"] == {"unified": {"model_unit_spec": "MU1", "capacity_unit_per_instance": 4}}
    assert "lora" not in {plan["plan"] for plan in models["qwen3.5-9b"]["plans"]}


def test_the_new_list_filters_by_source(emulator: Emulator) -> None:
    job = emulator.trained()
    custom = listed(emulator, "&version=v1.0&model_source=custom")["models"]
    assert [model["model_name"] for model in custom] == [job["finetuned_output"]]
    base = listed(emulator, "&version=v1.0&model_source=base")["models"]
    assert job["finetuned_output"] not in {model["model_name"] for model in base}
    assert emulator.call("GET", f"{MODELS}?version=v1.0&model_source=ours").status_code == 400


def test_a_model_is_listed_from_the_moment_its_job_succeeded(emulator: Emulator) -> None:
    job = emulator.job()
    assert listed(emulator, "&version=v1.0&model_source=custom")["models"] == []
    emulator.advance(7200)
    assert len(listed(emulator, "&version=v1.0&model_source=custom")["models"]) == 1
    assert emulator.job_now(job["job_id"])["status"] == "SUCCEEDED"


def test_pages_are_bounded(emulator: Emulator) -> None:
    output = emulator.ok("GET", f"{MODELS}?page_no=2&page_size=3")["output"]
    assert (output["page_no"], output["page_size"], len(output["models"])) == (2, 3, 3)
    assert emulator.call("GET", f"{MODELS}?page_size=201").status_code == 400
    assert emulator.call("GET", f"{MODELS}?page_size=101&version=v1.0").status_code == 400


def test_december_2024_counts_instances(old: Emulator) -> None:
    models = {model["model_name"]: model["base_capacity"] for model in listed(old, "&version=v1.0")["models"]}
    assert models["qwen-turbo"] == 1
