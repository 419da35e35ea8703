"""Vocabularies: contract §4."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulator.stand import HOTWORDS, Emulator, Start, hotwords

WORD = {"text": "厄洛替尼", "weight": 4, "lang": "zh"}
GOOD: dict[str, Any] = {"target_model": "paraformer-v2", "prefix": "meds", "vocabulary": [WORD]}


def make(emulator: Emulator, **members: Any) -> str:
    vocabulary_id: str = emulator.vocabulary("create_vocabulary", **{**GOOD, **members})["vocabulary_id"]
    return vocabulary_id


def refused(emulator: Emulator, action: str, **wanted: Any) -> tuple[int, str, str]:
    return emulator.refused("POST", HOTWORDS, json=hotwords(action, **wanted))


def test_a_vocabulary_is_read_back_word_for_word(emulator: Emulator) -> None:
    """Plain words come back without what was not sent, so an unwritten `lang` is no difference."""
    words = [WORD, {"text": "EGFR", "weight": 1}]
    vocabulary_id = make(emulator, vocabulary=words)
    assert vocabulary_id.startswith("vocab-meds-")
    assert emulator.vocabulary("query_vocabulary", vocabulary_id=vocabulary_id) == {
        "vocabulary": words,
        "target_model": "paraformer-v2",
        "gmt_create": "2026-11-02 14:05:00",
        "gmt_modified": "2026-11-02 14:05:00",
        "status": "OK",
    }


def test_every_answer_counts_one_use(emulator: Emulator) -> None:
    body = emulator.ok("POST", HOTWORDS, json={**hotwords("create_vocabulary", **GOOD), "parameters": {}})
    assert body["usage"] == {"count": 1}


def test_the_list_has_no_words_and_no_total(emulator: Emulator) -> None:
    ids = [make(emulator, prefix=prefix) for prefix in ("a", "b", "a")]
    output = emulator.vocabulary("list_vocabulary")
    assert output.keys() == {"vocabulary_list"}
    assert [item["vocabulary_id"] for item in output["vocabulary_list"]] == ids[::-1]
    assert output["vocabulary_list"][0].keys() == {"vocabulary_id", "gmt_create", "gmt_modified", "status"}
    only = emulator.vocabulary("list_vocabulary", prefix="a")["vocabulary_list"]
    assert [item["vocabulary_id"] for item in only] == [ids[2], ids[0]]


def test_pages_count_from_zero_and_end_with_a_short_one(emulator: Emulator) -> None:
    ids = [make(emulator) for _ in range(3)]
    pages = [emulator.vocabulary("list_vocabulary", page_index=n, page_size=2)["vocabulary_list"] for n in range(3)]
    assert [[item["vocabulary_id"] for item in page] for page in pages] == [[ids[2], ids[1]], [ids[0]], []]


def test_an_update_replaces_all_words_and_moves_the_time(emulator: Emulator) -> None:
    vocabulary_id = make(emulator)
    emulator.advance(300)
    words = [{"text": "吉非替尼", "weight": 5}]
    assert emulator.vocabulary("update_vocabulary", vocabulary_id=vocabulary_id, vocabulary=words) == {}
    now = emulator.vocabulary("query_vocabulary", vocabulary_id=vocabulary_id)
    assert now["vocabulary"] == words
    assert (now["gmt_create"], now["gmt_modified"]) == ("2026-11-02 14:05:00", "2026-11-02 14:10:00")


def test_a_deleted_vocabulary_is_gone_for_every_verb(emulator: Emulator) -> None:
    vocabulary_id = make(emulator)
    assert emulator.vocabulary("delete_vocabulary", vocabulary_id=vocabulary_id) == {}
    missing = (400, "BadRequest.ResourceNotExist", "The Required resource not exist.")
    assert refused(emulator, "query_vocabulary", vocabulary_id=vocabulary_id) == missing
    assert refused(emulator, "update_vocabulary", vocabulary_id=vocabulary_id, vocabulary=[WORD]) == missing
    assert refused(emulator, "delete_vocabulary", vocabulary_id=vocabulary_id) == missing


def test_creating_twice_makes_two(emulator: Emulator) -> None:
    """No key tells a repeat from a second wish."""
    assert make(emulator) != make(emulator)


@pytest.mark.parametrize(
    "members",
    [
        {"target_model": "paraformer-v1"},
        {"target_model": "no-such-model"},
        {"target_model": None},
        {"prefix": ""},
        {"prefix": "Meds"},
        {"prefix": "a" * 11},
        {"vocabulary": []},
        {"vocabulary": None},
        {"vocabulary": {"text": "x", "weight": 1}},
        {"vocabulary": [WORD] * 501},
        {"vocabulary": ["word"]},
        {"vocabulary": [{"weight": 4}]},
        {"vocabulary": [{"text": "x"}]},
        {"vocabulary": [{"text": "x", "weight": 0}]},
        {"vocabulary": [{"text": "x", "weight": 6}]},
        {"vocabulary": [{"text": "x", "weight": True}]},
        {"vocabulary": [{"text": "x", "weight": "4"}]},
        {"vocabulary": [{"text": "x", "weight": 4, "lang": "tlh"}]},
        {"vocabulary": [{"text": "长" * 16, "weight": 4}]},
        {"vocabulary": [{"text": "中 a b c d e f g h i", "weight": 4}]},
        {"vocabulary": [{"text": "a b c d e f g h", "weight": 4}]},
        {"vocabulary": [{"text": "  ", "weight": 4}]},
    ],
)
def test_a_wrong_vocabulary_is_refused(emulator: Emulator, members: Any) -> None:
    assert refused(emulator, "create_vocabulary", **{**GOOD, **members})[:2] == (400, "InvalidParameter")
    assert emulator.ledger() == []


@pytest.mark.parametrize("text", ["长" * 15, "a b c d e f g", "中 a b c d e"])
def test_the_longest_texts_fit(emulator: Emulator, text: str) -> None:
    assert make(emulator, vocabulary=[{"text": text, "weight": 4}])


def test_five_hundred_words_fit(emulator: Emulator) -> None:
    assert make(emulator, vocabulary=[{"text": f"w{n}", "weight": 1} for n in range(500)])


def test_ten_vocabularies_fit_an_account(emulator: Emulator) -> None:
    ids = [make(emulator) for _ in range(10)]
    quota = (400, "Throttling.AllocationQuota", "Free allocated quota exceeded.")
    assert refused(emulator, "create_vocabulary", **GOOD) == quota
    emulator.vocabulary("delete_vocabulary", vocabulary_id=ids[0])
    assert make(emulator)


@pytest.mark.parametrize(("settle_s", "status"), [(0, "OK"), (120, "UNDEPLOYED")])
def test_how_long_a_written_vocabulary_settles(start: Start, settle_s: int, status: str) -> None:
    emulator = start(vocab__settle_s=settle_s)
    vocabulary_id = make(emulator)
    assert emulator.vocabulary("query_vocabulary", vocabulary_id=vocabulary_id)["status"] == status
    emulator.advance(120)
    assert emulator.vocabulary("list_vocabulary")["vocabulary_list"][0]["status"] == "OK"
    emulator.vocabulary("update_vocabulary", vocabulary_id=vocabulary_id, vocabulary=[WORD])
    assert emulator.vocabulary("list_vocabulary")["vocabulary_list"][0]["status"] == status


@pytest.mark.parametrize(
    "body",
    [
        {"model": "speech-biasing"},
        {"model": "speech-biasing", "input": {"action": "drop_vocabulary"}},
        {"model": "speech-biasing", "input": {"action": ["list_vocabulary"]}},
        {"model": "other", "input": {"action": "list_vocabulary"}},
        {"input": {"action": "list_vocabulary"}},
    ],
)
def test_a_verb_nobody_knows_is_refused(emulator: Emulator, body: Any) -> None:
    assert emulator.refused("POST", HOTWORDS, json=body)[:2] == (400, "InvalidParameter")


def test_the_ledger_tells_writes_from_reads(emulator: Emulator) -> None:
    """All five are POSTs to one address."""
    vocabulary_id = make(emulator)
    emulator.vocabulary("list_vocabulary")
    emulator.vocabulary("query_vocabulary", vocabulary_id=vocabulary_id)
    emulator.vocabulary("update_vocabulary", vocabulary_id=vocabulary_id, vocabulary=[WORD])
    emulator.vocabulary("delete_vocabulary", vocabulary_id=vocabulary_id)
    entries = emulator.ledger()
    assert [entry["operation"] for entry in entries] == [
        *("vocabularies.create", "vocabularies.update", "vocabularies.delete"),
    ]
    assert {entry["price_cny"] for entry in entries} == {0}
    assert (entries[0]["prefix"], entries[0]["target_model"]) == ("meds", "paraformer-v2")


def test_december_2024_has_one_model_with_vocabularies(old: Emulator) -> None:
    assert make(old)
    assert refused(old, "create_vocabulary", **{**GOOD, "target_model": "paraformer-8k-v2"})[0] == 400
