"""What the service would find in a training file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator.dataset import IMAGE_TOKENS, Survey, count_tokens, survey
from tests.emulator.stand import archive, chat_row, chat_rows, dpo_rows, image_rows, lines

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "ho"}


def examine(folder: Path, content: bytes, training_type: str = "sft", max_length: int = 2048) -> Survey:
    path = folder / "file"
    path.write_bytes(content)
    return survey(path, training_type=training_type, max_length=max_length)


def test_tokens_are_the_stated_stand_in() -> None:
    """0.7 for a CJK character, a quarter for every other byte: the ledger's prices rest on it."""
    assert count_tokens("abcdefgh") == 2
    assert count_tokens("厄洛替尼厄洛替尼厄洛") == 7
    assert count_tokens("厄洛替尼厄洛替尼厄洛abcd") == 8
    assert count_tokens("") == 0


@pytest.mark.parametrize(
    ("training_type", "content"),
    [
        ("sft", chat_rows(3)),
        ("efficient_sft", chat_rows(3)),
        ("dpo_full", dpo_rows(3)),
        ("dpo_lora", dpo_rows(3)),
        ("cpt", lines({"text": "plain text"} for _ in range(3))),
    ],
)
def test_each_training_type_has_its_row_shape(tmp_path: Path, training_type: str, content: bytes) -> None:
    found = examine(tmp_path, content, training_type)
    assert (found.rows, found.problem) == (3, "")
    assert found.tokens > 0


def test_the_tokens_of_all_messages_count(tmp_path: Path) -> None:
    row = {"messages": [{"role": "system", "content": "abcd"}, *chat_row("abcdefgh", "abcdefghijkl")["messages"]]}
    assert examine(tmp_path, lines([row])).tokens == 1 + 2 + 3


def test_rows_longer_than_max_length_are_dropped_and_counted(tmp_path: Path) -> None:
    content = lines([chat_row("a" * 40, "b"), chat_row("a" * 400, "b"), chat_row("a" * 4000, "b")])
    found = examine(tmp_path, content, max_length=500)
    assert (found.rows, found.dropped) == (2, 1)


@pytest.mark.parametrize(
    ("training_type", "row", "problem"),
    [
        ("sft", "not json", "line 2 is not JSON in UTF-8"),
        ("sft", "", "line 2 is not JSON in UTF-8"),
        ("sft", [1], "line 2 is not a JSON object"),
        ("sft", {"text": "hi"}, "line 2 has no messages"),
        ("sft", {"messages": []}, "line 2 has no messages"),
        ("sft", {"messages": [USER]}, "line 2 has no message of the assistant"),
        ("sft", {"messages": [USER, {"role": "bot", "content": "x"}]}, "line 2 has a message without a role"),
        ("sft", {"messages": [USER, {"role": "assistant", "content": 5}]}, "line 2 has content that is not text"),
        ("dpo_lora", {"messages": [USER, ASSISTANT]}, "line 2 does not end its messages with the user"),
        ("dpo_lora", {"messages": [USER], "chosen": ASSISTANT}, "line 2 needs chosen and rejected"),
        ("cpt", {"text": ""}, "line 2 has no text"),
    ],
)
def test_the_first_row_that_does_not_fit_is_named(tmp_path: Path, training_type: str, row: Any, problem: str) -> None:
    """The message has to lead a person to the line."""
    good = {"sft": chat_rows(1), "dpo_lora": dpo_rows(1), "cpt": lines([{"text": "x"}])}[training_type]
    bad = row if isinstance(row, str) else json.dumps(row)
    assert examine(tmp_path, good + bad.encode() + b"\n", training_type).problem.startswith(problem)


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\xff\xfe"])
def test_a_byte_order_mark_is_no_json(tmp_path: Path, start: bytes) -> None:
    assert examine(tmp_path, start + chat_rows(1)).problem == "line 1 is not JSON in UTF-8"


def test_deep_nesting_is_a_bad_row_and_no_crash(tmp_path: Path) -> None:
    assert examine(tmp_path, b"[" * 100_000).problem == "line 1 is not JSON in UTF-8"


def test_an_archive_of_pictures_is_read_through_its_data_file(tmp_path: Path) -> None:
    found = examine(tmp_path, archive({"data.jsonl": image_rows(9), "img/a.png": b"x"}))
    assert (found.rows, found.archive, found.problem) == (9, True, "")
    assert found.tokens > 9 * IMAGE_TOKENS


def test_the_old_layout_has_pictures_beside_any_one_text_file(tmp_path: Path) -> None:
    assert examine(tmp_path, archive({"set/rows.jsonl": image_rows(2), "set/a.png": b"x"})).problem == ""


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"a.png": b"x"}, "the archive has no data.jsonl"),
        ({"data.jsonl": image_rows(1)}, "line 1 names the picture 'a.png', which the archive does not hold"),
        ({"data.jsonl": chat_rows(1)}, "line 1 has content that is not a list of text and image items"),
        ({"data.jsonl": b"{"}, "line 1 is not JSON in UTF-8"),
    ],
)
def test_an_archive_that_cannot_be_trained_on_says_why(tmp_path: Path, members: dict[str, bytes], problem: str) -> None:
    assert examine(tmp_path, archive(members)).problem == problem


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_broken_archive_says_so(tmp_path: Path, compression: int) -> None:
    """Damage shows at the checksum or in the middle of the compressed stream, and in neither case as a crash."""
    packed = bytearray(archive({"data.jsonl": image_rows(50), "a.png": b"x"}, compression))
    place = packed.index(b"data.jsonl") + 30 if compression else packed.index(b"what")
    packed[place : place + 4] = b"WHAT"
    assert examine(tmp_path, bytes(packed)).problem == "the archive cannot be read"
