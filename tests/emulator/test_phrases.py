"""Phrase lists: contract §5, riding the fine-tune endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulator.stand import Emulator

JOBS, OUTPUTS = "/api/v1/fine-tunes", "/api/v1/fine-tunes/outputs"


def body(phrases: Any, **members: Any) -> dict[str, Any]:
    """What every official client sends."""
    return {
        "model": "paraformer-v1",
        "training_file_ids": [],
        "validation_file_ids": [],
        "training_type": "compile_asr_phrase",
        "hyper_parameters": {"phrase_list": phrases},
        **members,
    }


def write(emulator: Emulator, phrases: Any, **members: Any) -> Any:
    return emulator.ok("POST", JOBS, json=body(phrases, **members))["output"]


def test_a_list_is_final_in_one_call(old: Emulator) -> None:
    output = write(old, {"厄洛替尼": 4, "hello world": -6})
    assert output["status"] == "SUCCEEDED"
    assert output["finetuned_output"] == f"paraformer-v1-{output['job_id']}"
    assert output["job_id"].startswith("ft-202611021405-")
    assert output["training_type"] == "compile_asr_phrase"
    assert output["create_time"] == "2026-11-02 14:05:00"
    assert "code" not in output


def test_an_update_keeps_the_id_and_changes_the_job(old: Emulator) -> None:
    """The only sign of a change anybody can read, since words are never shown."""
    first = write(old, {"a": 1})
    old.advance(60)
    second = write(old, {"b": 2}, finetuned_output=first["finetuned_output"])
    assert second["finetuned_output"] == first["finetuned_output"]
    assert second["job_id"] != first["job_id"]
    shown = old.ok("GET", f"{OUTPUTS}/{first['finetuned_output']}")["output"]
    assert (shown["job_id"], shown["create_time"]) == (second["job_id"], "2026-11-02 14:06:00")


def test_the_words_are_never_shown(old: Emulator) -> None:
    phrase_id = write(old, {"厄洛替尼": 4})["finetuned_output"]
    answers = [old.call("GET", f"{OUTPUTS}/{phrase_id}").text, old.call("GET", OUTPUTS).text]
    assert not any("厄洛替尼" in answer for answer in answers)


def test_the_list_has_the_name_the_clients_read(old: Emulator) -> None:
    """An empty `jobs` beside it would hide it from the 2.x client."""
    made = [write(old, {"a": 1})["finetuned_output"] for _ in range(3)]
    output = old.ok("GET", f"{OUTPUTS}?page_no=1&page_size=2")["output"]
    assert output.keys() == {"page_no", "page_size", "total", "finetuned_outputs"}
    assert output["total"] == 3
    assert [item["finetuned_output"] for item in output["finetuned_outputs"]] == [made[2], made[1]]
    assert output["finetuned_outputs"][0]["output_type"] == "custom_resource"


def test_a_phrase_job_is_no_job(old: Emulator) -> None:
    output = write(old, {"a": 1})
    assert old.ok("GET", JOBS)["output"]["total"] == 0
    assert old.refused("GET", f"{JOBS}/{output['job_id']}")[0] == 404


def test_a_deleted_list_is_gone(old: Emulator) -> None:
    phrase_id = write(old, {"a": 1})["finetuned_output"]
    assert old.ok("DELETE", f"{OUTPUTS}/{phrase_id}")["output"] == {"finetuned_output": phrase_id}
    for method in ("GET", "DELETE"):
        assert old.refused(method, f"{OUTPUTS}/{phrase_id}") == (404, "NotFound", "Not found!")
    assert old.refused("POST", JOBS, json=body({"a": 1}, finetuned_output=phrase_id))[0] == 404


@pytest.mark.parametrize(
    ("phrases", "members"),
    [
        ({}, {}),
        (None, {}),
        (["a"], {}),
        ({"a": 0}, {}),
        ({"a": 6}, {}),
        ({"a": -7}, {}),
        ({"a": 2.5}, {}),
        ({"a": "2"}, {}),
        ({"": 1}, {}),
        ({"长" * 11: 1}, {}),
        ({"a b c d e f": 1}, {}),
        ({f"w{n}": 1 for n in range(501)}, {}),
        ({"a": 1}, {"model": "paraformer-v2"}),
        ({"a": 1}, {"model": "qwen-turbo"}),
    ],
)
def test_a_wrong_list_is_refused(old: Emulator, phrases: Any, members: Any) -> None:
    assert old.refused("POST", JOBS, json=body(phrases, **members))[:2] == (400, "InvalidParameter")
    assert old.ledger() == []


@pytest.mark.parametrize("phrases", [{"长" * 10: 5}, {"a b c d e": 1}, {f"w{n}": -1 for n in range(500)}])
def test_the_largest_lists_fit(old: Emulator, phrases: Any) -> None:
    assert write(old, phrases)["status"] == "SUCCEEDED"


def test_the_model_of_a_list_never_changes(old: Emulator) -> None:
    phrase_id = write(old, {"a": 1})["finetuned_output"]
    other = body({"a": 1}, model="paraformer-8k-v1", finetuned_output=phrase_id)
    assert old.refused("POST", JOBS, json=other)[0] == 400


def test_the_ledger_names_each_write(emulator: Emulator) -> None:
    phrase_id = write(emulator, {"a": 1})["finetuned_output"]
    write(emulator, {"b": 1}, finetuned_output=phrase_id)
    emulator.ok("DELETE", f"{OUTPUTS}/{phrase_id}")
    entries = emulator.ledger()
    assert [entry["operation"] for entry in entries] == ["phrases.create", "phrases.update", "phrases.delete"]
    assert {(entry["id"], entry["price_cny"]) for entry in entries} == {(phrase_id, 0)}


def test_a_client_that_confuses_its_paths_gets_no_success(old: Emulator) -> None:
    """After one dropped connection the 1.20 manager sends job calls below `outputs` (see the clients' own fault)."""
    job_id = old.job()["job_id"]
    assert old.refused("POST", OUTPUTS, json=body({"a": 1}))[:2] == (404, "NotFound")
    assert old.refused("GET", f"{OUTPUTS}/{job_id}")[:2] == (404, "NotFound")
