"""The catalogue against facts typed by hand from the published pages, so that a slip in the data file cannot pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest

from reconciler.catalogue import Catalogue, Model, ProfileCatalogue, Retirement, load

DOCUMENT = json.loads(files("reconciler").joinpath("catalogue.json").read_text("utf-8"))
TUNED = "-ft-202611021405-a1b2"


@pytest.fixture(scope="module")
def now() -> ProfileCatalogue:
    return load().for_profile("2026")


@pytest.fixture(scope="module")
def then() -> ProfileCatalogue:
    return load().for_profile("dec-2024")


# the data


@pytest.mark.parametrize(
    ("code", "price", "training_types"),
    [
        ("qwen3.5-9b", "0.02", "sft efficient_sft"),
        ("qwen3.5-27b", "0.05", "sft efficient_sft"),
        ("qwen3-32b", "0.04", "cpt sft efficient_sft dpo_full dpo_lora"),
        ("qwen3-8b", "0.006", "sft efficient_sft dpo_full dpo_lora"),
        ("qwen3-0.6b", "0.003", "cpt sft efficient_sft dpo_full dpo_lora"),
        ("qwen3-1.7b", "0.0045", "cpt sft efficient_sft dpo_full dpo_lora"),
        ("qwen3-vl-8b-instruct", "0.015", "sft efficient_sft"),
        ("qwen3.6-flash-2026-04-16", "0.05", "sft"),
        ("qwen2.5-72b-instruct", "0.15", "cpt sft efficient_sft dpo_full dpo_lora"),
    ],
)
def test_models_of_2026_are_those_of_the_newest_pages(
    now: ProfileCatalogue, code: str, price: str, training_types: str
) -> None:
    """Contract §2.9 and the price table of 2026-05-26."""
    model = now.model(code)
    assert model is not None
    assert model.training_price == Decimal(price)
    assert model.training_types == tuple(training_types.split())


@pytest.mark.parametrize(
    ("code", "price", "training_types", "token_max_length", "instance"),
    [
        ("qwen-turbo", "0.03", "sft efficient_sft", 8192, None),
        ("qwen-plus-0723", "0.15", "efficient_sft dpo_lora", 32768, "standard"),
        ("qwen2-7b-instruct", "0.006", "sft efficient_sft dpo_full dpo_lora", 8192, "basic"),
        ("qwen2.5-14b-instruct", "0.03", "sft efficient_sft", 131072, "basic"),
        ("qwen-14b-chat", None, "sft efficient_sft", 2048, None),
        ("chatglm-6b-v2", None, "efficient_sft", None, None),
    ],
)
def test_models_of_the_end_of_2024(
    then: ProfileCatalogue,
    code: str,
    price: str | None,
    training_types: str,
    token_max_length: int | None,
    instance: str | None,
) -> None:
    """Contract §2.9 and §2.11; what no page prints is unknown, not guessed from a sister model."""
    model = then.model(code)
    assert model is not None
    assert model.training_price == (None if price is None else Decimal(price))
    assert model.training_types == tuple(training_types.split())
    assert model.token_max_length == token_max_length
    assert model.instance == instance


def test_each_profile_offers_its_own_models(now: ProfileCatalogue, then: ProfileCatalogue) -> None:
    """Of the 20 tunable models of 2024 only three were still offered in May 2026 (contract §2.10)."""
    assert len(then.models) == 20
    assert {model.code for model in then.models} & {model.code for model in now.models} == {
        "qwen2.5-72b-instruct",
        "qwen2.5-32b-instruct",
        "qwen2.5-14b-instruct",
    }
    assert "cpt" in now.training_types
    assert "cpt" not in then.training_types


def test_the_speech_model_decides_the_hotword_service(now: ProfileCatalogue, then: ProfileCatalogue) -> None:
    """All v1 models take phrases, all v2 models vocabularies, and 2024 knows one v2 model (contract §4, §5)."""
    assert {model.code: model.service for model in then.speech_models} == {
        "paraformer-v1": "phrase",
        "paraformer-8k-v1": "phrase",
        "paraformer-mtl-v1": "phrase",
        "paraformer-realtime-v1": "phrase",
        "paraformer-realtime-8k-v1": "phrase",
        "paraformer-v2": "vocabulary",
    }
    realtime = now.speech_model("paraformer-realtime-v2")
    assert realtime is not None
    assert (realtime.service, realtime.max_words) == ("vocabulary", 500)
    assert "yue" in realtime.languages


def test_every_code_is_listed_once() -> None:
    """Two rows with one code would make a price depend on the order of lines."""
    for section in ("models", "speech_models"):
        codes = [row["code"] for row in DOCUMENT[section]]
        assert len(codes) == len(set(codes))


def test_no_price_is_zero() -> None:
    """Unknown is null: a price of 0 would let a paid run pass every budget."""
    prices = list(_prices())
    assert len(prices) > 60
    assert all(price is None or price > 0 for price in prices)


def test_every_entry_cites_a_source_that_the_file_describes() -> None:
    cited = [key for section in ("models", "speech_models", "hyper_parameters", "model_units", "instances", "limits")
             for row in _rows(DOCUMENT[section]) for key in _citations(row)]  # fmt: skip
    assert {key for key in cited if key not in DOCUMENT["sources"]} == set()
    for code, offer in _offers():
        assert offer["sources"], code
    for section in ("hyper_parameters", "model_units", "instances", "training_types"):
        assert all(row["source"] in DOCUMENT["sources"] for row in _rows(DOCUMENT[section])), section
    assert all(row["sources"] for row in _rows(DOCUMENT["speech_models"]))


def test_no_described_source_is_left_uncited() -> None:
    """A page nobody cites is a fact that was dropped, or a leftover."""
    cited = {key for section in DOCUMENT.values() if isinstance(section, dict | list) for row in _rows(section)
             for key in _citations(row)}  # fmt: skip
    assert set(DOCUMENT["sources"]) - cited == set()


def test_retirement_dates_are_dates_and_agree_with_the_notices(then: ProfileCatalogue, now: ProfileCatalogue) -> None:
    """Contract §2.10."""
    assert {model.retired.date for model in then.models if model.retired} == {
        date(2025, 5, 8), date(2025, 7, 2), date(2026, 1, 30), date(2026, 3, 30), date(2026, 5, 13), date(2026, 10, 10),
    }  # fmt: skip
    assert all(model.retired for model in then.models)
    assert {model.code for model in now.models if not model.retired} >= {"qwen3.5-9b", "qwen3.5-27b"}
    assert {model.retired.date for model in now.speech_models if model.retired} == {date(2026, 10, 10)}


def test_limits_grew_between_the_profiles(then: ProfileCatalogue, now: ProfileCatalogue) -> None:
    """Contract §1.3: 5 GB and 100 files became 100 GB and 10,000 files; one file stays at 300 MB."""
    assert (then.limits.total_bytes, then.limits.files) == (5 * 1024**3, 100)
    assert (now.limits.total_bytes, now.limits.files) == (100 * 1024**3, 10_000)
    assert then.limits.file_bytes == now.limits.file_bytes == 300 * 1024**2


def test_core_hyper_parameters_are_required_in_2026_only(then: ProfileCatalogue, now: ProfileCatalogue) -> None:
    """Contract §2.8 and §10: `{}` was accepted in 2024."""
    assert set(now.required_hyper_parameters) == {"n_epochs", "batch_size", "max_length"}
    assert then.required_hyper_parameters == ()


def test_hyper_parameters_say_what_values_they_take(now: ProfileCatalogue) -> None:
    batch_size = now.hyper_parameter("batch_size")
    assert batch_size is not None
    assert (batch_size.type, batch_size.min, batch_size.max) == ("int", 8, 1024)
    scheduler = now.hyper_parameter("lr_scheduler_type")
    assert scheduler is not None
    assert scheduler.fold
    assert "cosine" in scheduler.enum
    rank = now.hyper_parameter("lora_rank")
    assert rank is not None
    assert rank.training_types == ("efficient_sft", "dpo_lora")
    frozen = now.hyper_parameter("freeze_vit")
    assert frozen is not None
    assert (frozen.modality, frozen.default) == ("vl", True)
    assert now.hyper_parameter("epochs") is None


def test_a_list_in_a_string_is_bounded_element_by_element(now: ProfileCatalogue) -> None:
    """`augmentation_ratio: "0.5,1.0"` is text, its elements are numbers (contract §2.8)."""
    ratio = now.hyper_parameter("augmentation_ratio")
    assert ratio is not None
    assert ratio.each is not None
    assert (ratio.type, ratio.each.type, ratio.each.max) == ("string", "float", 2.0)


def test_the_bound_itself_is_inside_the_range(now: ProfileCatalogue) -> None:
    """A Decimal bound of 0.2 is smaller than the float 0.2 that YAML gives, and would refuse it."""
    decay = now.hyper_parameter("weight_decay")
    assert decay is not None
    assert decay.max is not None
    assert decay.max >= 0.2


# the questions


@pytest.mark.parametrize(
    ("tuned", "base"),
    [
        (f"qwen3.5-9b{TUNED}", "qwen3.5-9b"),
        (f"qwen3.5-9b-support{TUNED}", "qwen3.5-9b"),
        (f"qwen3-8b-two-words{TUNED}", "qwen3-8b"),
        (f"qwen3-8b-ft-202601011200-zz99-again{TUNED}", "qwen3-8b"),
        (f"qwen3-8b{TUNED}-e0f1a2b3", "qwen3-8b"),
        (f"qwen9-9b-support{TUNED}", None),
        (f"qwen3.5-9bx{TUNED}", None),
        ("qwen3.5-9b-support", None),
        ("qwen3.5-9b", None),
        ("", None),
    ],
)
def test_the_base_of_a_tuned_model_is_read_from_its_id(now: ProfileCatalogue, tuned: str, base: str | None) -> None:
    """The two forms of contract §2.3, tuned twice, deployed under a hash; and ids that are no such thing."""
    assert now.base_of(tuned) == base


def test_the_longest_base_wins(then: ProfileCatalogue) -> None:
    """`qwen-turbo` is a prefix of `qwen-turbo-0624`, and their prices need not stay equal."""
    assert then.base_of(f"qwen-turbo-0624-faq{TUNED}") == "qwen-turbo-0624"
    assert then.base_of(f"qwen-turbo-faq{TUNED}") == "qwen-turbo"


def test_a_run_costs_tokens_times_epochs_times_price(now: ProfileCatalogue) -> None:
    """Contract §2.13, to the last digit: 61,204 x 3 x 0.02 / 1000."""
    assert now.training_cost(tokens=61_204, epochs=3, model="qwen3.5-9b") == Decimal("3.67224")
    assert now.training_cost(tokens=1, epochs=1, model="qwen3.5-9b") == Decimal("0.00002")


def test_tuning_a_tuned_model_again_costs_what_its_base_costs(now: ProfileCatalogue) -> None:
    assert now.training_price(f"qwen3.5-27b-care{TUNED}") == Decimal("0.05")


@pytest.mark.parametrize("code", ["qwen3.5-flash-2026-02-23", "qwen9", f"qwen9{TUNED}"])
def test_an_unknown_price_makes_an_unknown_cost(now: ProfileCatalogue, code: str) -> None:
    """The flash model is offered without a published price; the others are not offered at all."""
    assert now.training_cost(tokens=1000, epochs=1, model=code) is None


@pytest.mark.parametrize(
    ("model", "plan", "deploy_spec", "capacity", "price"),
    [
        ("qwen3.5-9b", "mu", "MU1", 4, "216"),
        (f"qwen3.5-9b-support{TUNED}", "mu", "MU8", 2, "94"),
        ("qwen3-8b", "mu", "MU2", 8, "504"),
        ("qwen3-8b", "lora", None, 1, "0"),
        ("qwen3-14b", "mu", "MU1", 4, None),
        ("qwen3.5-9b", "mu", "MU2", 8, None),
        ("qwen3.5-9b", "mu", None, 4, None),
        ("qwen3.5-9b", "ptu", None, 1, None),
        ("qwen3.5-9b", None, None, 1, None),
        ("qwen9", "mu", "MU1", 4, None),
    ],
)
def test_an_hour_of_a_deployment_in_2026(
    now: ProfileCatalogue, model: str, plan: str | None, deploy_spec: str | None, capacity: int, price: str | None
) -> None:
    """Units times unit price; lora is free when idle; a spec the price table lists for other models only is unknown."""
    hour = now.hourly_price(model, plan=plan, deploy_spec=deploy_spec, capacity=capacity)
    assert hour == (None if price is None else Decimal(price))


@pytest.mark.parametrize(
    ("model", "plan", "capacity", "price"),
    [
        ("qwen2.5-14b-instruct", None, 2, "80"),
        (f"qwen-plus-0723-x{TUNED}", None, 1, "160"),
        ("qwen-turbo", None, 2, None),
        ("qwen2.5-14b-instruct", "mu", 4, None),
        ("qwen2.5-14b-instruct", "lora", 1, None),
    ],
)
def test_an_hour_of_a_deployment_in_2024(
    then: ProfileCatalogue, model: str, plan: str | None, capacity: int, price: str | None
) -> None:
    """Instances times instance price (contract §3.7); that generation has no plans."""
    hour = then.hourly_price(model, plan=plan, deploy_spec="MU1" if plan == "mu" else None, capacity=capacity)
    assert hour == (None if price is None else Decimal(price))


def test_base_capacity_is_known_for_two_specs_and_for_instances(then: ProfileCatalogue, now: ProfileCatalogue) -> None:
    """Contract §3.1 and §3.2; a guess for the others would refuse a right capacity."""
    assert now.base_capacity("mu", "MU1") == 4
    assert now.base_capacity("mu", "MU2") == 8
    assert now.base_capacity("mu", "MU9") is None
    assert now.base_capacity("mu", "MU77") is None
    assert now.base_capacity("ptu", None) is None
    assert now.base_capacity("lora", None) == 1
    assert then.base_capacity(None, None) == 1


def test_a_misspelt_model_is_suggested(now: ProfileCatalogue) -> None:
    assert now.suggest("Qwen3.5_9b") == "qwen3.5-9b"
    assert now.suggest("parafomer-v2") == "paraformer-v2"
    assert now.suggest("gpt") is None


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no profile '2025' in the catalogue, only dec-2024, 2026"):
        load().for_profile("2025")


# overrides


def test_an_override_changes_one_fact_and_nothing_else() -> None:
    """A negotiated price, written as YAML gives it: a float, which must not become a binary fraction."""
    mine = load({"models": [{"code": "qwen3.5-9b", "profiles": {"2026": {"training_price": 0.018}}}]})
    assert mine.for_profile("2026").training_price("qwen3.5-9b") == Decimal("0.018")
    before, after = _by_code(load()), _by_code(mine)
    assert {code for code in before if before[code] != after[code]} == {"qwen3.5-9b"}
    assert after["qwen3.5-9b"].training_types == before["qwen3.5-9b"].training_types


def test_the_packaged_catalogue_survives_an_override() -> None:
    """The file is read once a process, so an override that wrote into it would reach everybody else."""
    load({"model_units": {"MU1": {"hour": 1}}})
    assert load().for_profile("2026").model_units["MU1"].hour == 54


def test_an_override_adds_a_model_that_the_service_offers_since() -> None:
    added = {"code": "qwen4-9b", "profiles": {"2026": {"training_types": ["sft"]}}}
    mine = load({"models": [added]}).for_profile("2026")
    model = mine.model("qwen4-9b")
    assert model is not None
    assert (model.training_types, model.training_price, model.modality) == (("sft",), None, "text")
    assert mine.base_of(f"qwen4-9b{TUNED}") == "qwen4-9b"


def test_an_override_can_take_a_fact_back_to_unknown() -> None:
    mine = load({"models": [{"code": "qwen3.5-9b", "profiles": {"2026": {"training_price": None}}}]})
    assert mine.for_profile("2026").training_price("qwen3.5-9b") is None


def test_an_override_may_carry_dates_as_yaml_reads_them() -> None:
    model = _by_code(load({"models": [{"code": "qwen3.5-9b", "retired": {"date": date(2027, 1, 1)}}]}))["qwen3.5-9b"]
    assert model.retired == Retirement(date=date(2027, 1, 1), source=None)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"modles": []}, "no section 'modles', did you mean 'models'"),
        ({"models": {}}, "catalogue.models: expected a list"),
        ({"models": None}, "catalogue.models: expected a value"),
        ({"models": [{"name": "x"}]}, "code of a model: expected text"),
        ({"models": [{"code": "x"}]}, "models.x.profiles: expected an object"),
        ({"models": [{"code": "x", "profiles": {"2027": {}}}]}, "expected one of dec-2024, 2026, found '2027'"),
        ({"models": [{"code": "qwen3.5-9b", "trainning_price": 1}]}, "did you mean 'training_price'"),
        ({"models": [{"code": "qwen3.5-9b", "modality": "audio"}]}, "modality: expected one of text, vl"),
        ({"models": [{"code": "qwen3.5-9b", "retired": {"date": "soon"}}]}, "expected a date such as"),
        ({"models": [{"code": "qwen3.5-9b", "token_max_length": 0}]}, "expected a whole number above 0, found 0"),
        ({"model_units": {"MU1": {"hour": 0}}}, "MU1.hour: expected a price above 0"),
        ({"model_units": {"MU1": {"hour": float("nan")}}}, "MU1.hour: expected a price above 0"),
        ({"model_units": {"MU1": {"hour": "54"}}}, "MU1.hour: expected a price above 0"),
        ({"model_units": {"MU1": None}}, "MU1: expected an object"),
        ({"hyper_parameters": {"n_epochs": {"max": "many"}}}, "n_epochs.max: expected a number"),
        ({"hyper_parameters": {"n_epochs": {"default": []}}}, "n_epochs.default: expected a single value"),
        ({"hyper_parameters": {"lr_scheduler_type": {"fold": 1}}}, "fold: expected true or false"),
        ({"limits": {"2026": {"files": -1}}}, "files: expected a whole number above 0"),
    ],
)
def test_a_wrong_override_is_refused_with_its_place(overrides: dict[str, Any], complaint: str) -> None:
    """A typing slip in a price must not leave the published one standing in silence."""
    with pytest.raises(ValueError, match="catalogue") as refusal:
        load(overrides)
    assert complaint in str(refusal.value)


def _by_code(catalogue: Catalogue) -> dict[str, Model]:
    return {model.code: model for model in catalogue.for_profile("2026").models}


def _offers() -> Iterator[tuple[str, dict[str, Any]]]:
    for row in DOCUMENT["models"]:
        for offer in row["profiles"].values():
            yield row["code"], offer


def _rows(section: Any) -> list[dict[str, Any]]:
    rows = section.values() if isinstance(section, dict) else section
    return [row for row in rows if isinstance(row, dict)]


def _citations(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _citations(item)
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "source" or key.endswith("_source"):
                yield item
            elif key == "sources":
                yield from item
            else:
                yield from _citations(item)


def _prices() -> Iterator[float | None]:
    for _, offer in _offers():
        yield offer["training_price"]
        yield from (offer.get("token_price") or {}).values()
    for row in (*DOCUMENT["model_units"].values(), *DOCUMENT["instances"].values()):
        yield from (row["hour"], row["month"])
