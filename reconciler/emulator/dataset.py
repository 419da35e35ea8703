"""What a training file holds, as the service sees it once a job names it (contract §7).

A survey counts rows and tokens and stops at the first row that does not fit the training type. Tokens are counted by a
stated stand-in, 0.7 for a CJK character and one for every four bytes of the rest, 256 for a picture: near enough for
schedules and bills of an emulator, and no tokeniser. Whole files are never held in memory.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from reconciler.emulator.fields import Json

ROW_BYTES_MAX = 16 << 20
IMAGE_TOKENS = 256
IMAGE_SUFFIXES = frozenset({"bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp"})
ROLES = frozenset({"system", "user", "assistant", "tool"})
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+")


@dataclass(frozen=True)
class Survey:
    """`rows` and `tokens` are what would be trained; `dropped` rows are longer than max_length (contract §2.8).

    `problem` is empty or says, in a sentence, why the file cannot be trained on. `archive`: it is a zip with pictures.
    """

    rows: int = 0
    tokens: int = 0
    dropped: int = 0
    archive: bool = False
    problem: str = ""


MOUNTED = Survey(rows=1000, tokens=200_000)
"""A data set mounted from object storage, which the emulator cannot read: an assumption that is always the same."""
LOST = Survey(problem="its content is gone")


def survey(path: Path, *, training_type: str, max_length: int) -> Survey:
    archive = zipfile.is_zipfile(path)
    rows = tokens = dropped = 0
    try:
        for row_tokens in _archive_rows(path, training_type) if archive else _text_rows(path, training_type):
            if row_tokens > max_length:
                dropped += 1
            else:
                rows, tokens = rows + 1, tokens + row_tokens
    except _Unusable as error:
        return Survey(rows, tokens, dropped, archive, str(error))
    return Survey(rows, tokens, dropped, archive)


def count_tokens(text: str) -> int:
    cjk = "".join(_CJK.findall(text))
    return math.ceil(0.7 * len(cjk) + (len(text.encode("utf-8", "replace")) - len(cjk.encode())) / 4)


class _Unusable(Exception):
    """Why a file cannot be trained on."""


def _text_rows(path: Path, training_type: str) -> Iterator[int]:
    with path.open("rb") as file:
        yield from _tokens(file, training_type, images=None)


def _archive_rows(path: Path, training_type: str) -> Iterator[int]:
    """Pictures and one text file: `data.jsonl` at the root, or the only .jsonl of one flat folder (contract §7.2)."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/")]
            texts = [name for name in members if name.endswith(".jsonl")]
            if "data.jsonl" not in texts and len(texts) != 1:
                raise _Unusable("the archive has no data.jsonl")
            images = {name.rpartition("/")[2] for name in members if _is_image(name)}
            with archive.open("data.jsonl" if "data.jsonl" in texts else texts[0]) as file:
                yield from _tokens(file, training_type, images=images)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error) as error:
        raise _Unusable("the archive cannot be read") from error


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _tokens(file: IO[bytes], training_type: str, *, images: set[str] | None) -> Iterator[int]:
    count = _COUNTERS.get(training_type, _chat)
    number = 0
    while line := file.readline(ROW_BYTES_MAX):
        number += 1
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _Unusable(f"line {number} is not JSON in UTF-8") from error
        try:
            if not isinstance(row, dict):
                raise _Unusable("is not a JSON object")
            yield count(row, images)
        except _Unusable as error:
            raise _Unusable(f"line {number} {error}") from None


def _chat(row: Json, images: set[str] | None) -> int:
    messages = _messages(row)
    if not any(message["role"] == "assistant" for message in messages):
        raise _Unusable("has no message of the assistant")
    return sum(_message_tokens(message, images) for message in messages)


def _preference(row: Json, images: set[str] | None) -> int:
    messages = _messages(row)
    if messages[-1]["role"] != "user":
        raise _Unusable("does not end its messages with the user")
    answers = [row.get("chosen"), row.get("rejected")]
    for answer in answers:
        if not isinstance(answer, dict) or answer.get("role") != "assistant":
            raise _Unusable("needs chosen and rejected, each a message of the assistant")
    return sum(_message_tokens(message, images) for message in (*messages, *answers) if message)


def _plain(row: Json, images: set[str] | None) -> int:
    if not isinstance(row.get("text"), str) or not row["text"]:
        raise _Unusable("has no text")
    return count_tokens(row["text"])


_COUNTERS: dict[str, Callable[[Json, set[str] | None], int]] = {
    "sft": _chat,
    "efficient_sft": _chat,
    "dpo_full": _preference,
    "dpo_lora": _preference,
    "cpt": _plain,
}


def _messages(row: Json) -> list[Json]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Unusable("has no messages")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise _Unusable("has a message without a role of system, user or assistant")
    return messages


def _message_tokens(message: Json, images: set[str] | None) -> int:
    content = message.get("content")
    if isinstance(content, str) and images is None:
        return count_tokens(content)
    if isinstance(content, list) and images is not None:
        return sum(_item_tokens(item, images) for item in content)
    if content in (None, "") and message.get("tool_calls"):
        return count_tokens(json.dumps(message["tool_calls"], ensure_ascii=False))
    wanted = "a list of text and image items" if images is not None else "text"
    raise _Unusable(f"has content that is not {wanted}")


def _item_tokens(item: Any, images: set[str]) -> int:
    if isinstance(item, dict) and isinstance(item.get("text"), str):
        return count_tokens(item["text"])
    if isinstance(item, dict) and isinstance(item.get("image"), str):
        if item["image"] not in images:
            raise _Unusable(f"names the picture {item['image'][:100]!r}, which the archive does not hold")
        return IMAGE_TOKENS
    raise _Unusable("has content that is not a list of text and image items")
