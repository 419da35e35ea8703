"""Rows of training data: one strict JSON object a line, and what each format asks of it (contract §7.1).

Promises constant memory whatever a file holds, and that no message repeats a row. A new check is one small function in
`_RULES`. It opens no file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from reconciler.errors import Position, Problem
from reconciler.resource import Json
from reconciler.wording import shown

MAX_LINE_BYTES = 32 * 1024 * 1024
MAX_FINDINGS = 20  # a file: the rest is counted

_BOM = b"\xef\xbb\xbf"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Findings:
    """The first mistakes in one file, each with its place, and the number of the others."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._first: list[Problem] = []
        self._count = 0

    def add(self, line: int, column: int, what: str, hint: str = "") -> None:
        self._count += 1
        if self._count <= MAX_FINDINGS:
            self._first.append(Problem(what, Position(self._file, line, column), hint))

    @property
    def problems(self) -> tuple[Problem, ...]:
        if self._count <= MAX_FINDINGS:
            return tuple(self._first)
        last = self._first[-1].at
        return (*self._first, Problem(f"and {self._count - MAX_FINDINGS:,} more in {self._file}", last))


class Row(NamedTuple):
    """One line as it was written, its end included. `value` is None where it is no JSON object."""

    number: int
    line: bytes
    value: Json | None

    @property
    def body(self) -> bytes:
        return self.line.rstrip(b"\r\n")


def read_rows(file: BinaryIO, format: str, findings: Findings) -> Iterator[Row]:
    """Every row of a file, with all its mistakes added to `findings`. A pointer of Git LFS ends it at once."""
    number = 0
    for number, line in _lines(file, findings):
        if number == 1 and line.startswith(_LFS_POINTER):
            findings.add(1, 1, "a pointer of Git LFS, not the data itself", "git lfs pull")
            return
        if number == 1 and line.startswith(_BOM):
            findings.add(1, 1, "a byte-order mark", "save the file as UTF-8 without one")
            line = line.removeprefix(_BOM)
        row = Row(number, line, _value(number, line, findings))
        for what in row_faults(row.value, format) if row.value is not None else ():
            findings.add(number, 1, what)
        yield row
    if not number:
        findings.add(1, 1, "the file is empty")


def _value(number: int, line: bytes, findings: Findings) -> Json | None:
    try:
        return parse_row(line)
    except RowFault as fault:
        findings.add(number, fault.column, fault.what)
        return None


def _lines(file: BinaryIO, findings: Findings) -> Iterator[tuple[int, bytes]]:
    """Numbered lines. Only a line feed ends one: U+2028 and its like are legal inside JSON."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            findings.add(number, 1, f"a row of more than {MAX_LINE_BYTES:,} bytes")
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
        else:
            yield number, line


# One row ------------------------------------------------------------------------------------------------------------


class RowFault(Exception):
    """A line that is no strict JSON object; `column` counts from 1."""

    def __init__(self, what: str, column: int = 1) -> None:
        super().__init__(what)
        self.what, self.column = what, column


def parse_row(line: bytes) -> Json:
    """Strict JSON: no NaN, no key twice, nothing that another reader would take for something else."""
    if not line.strip():
        raise RowFault("a blank line")
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise RowFault("this is not UTF-8", len(line[: error.start].decode("utf-8")) + 1) from error
    except json.JSONDecodeError as error:
        raise RowFault(f"not JSON: {error.msg[0].lower()}{error.msg[1:]}", error.pos + 1) from error
    except RecursionError as error:
        raise RowFault("nested too deeply") from error
    if not isinstance(value, dict):
        raise RowFault("a row must be a JSON object")
    if "\\u" in text:
        _check_escapes(text, value)
    return value


def _check_escapes(text: str, value: Json) -> None:
    """Refuses the two characters that are legal JSON and that a database or an encoder then chokes on."""
    if found := _NUL.search(text):
        raise RowFault("a NUL character", found.start() + 1)
    if (found := _SURROGATE.search(text)) and not _encodable(value):
        raise RowFault("half of a surrogate pair", found.start() + 1)


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise RowFault(f"the key {shown(next(key for key in keys if keys.count(key) > 1))} is there twice")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 19:
        raise RowFault("a whole number of more than 18 digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise RowFault("a number too large for any reader")
    return value


def _constant(name: str) -> float:
    raise RowFault(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _encodable(value: Json) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


# What each format asks of a row -------------------------------------------------------------------------------------

Rule = Callable[[Json], Iterator[str]]
_ROLES = ("system", "user", "assistant", "tool")


def row_faults(row: Json, format: str) -> Iterator[str]:
    """What is wrong with the shape of a row, in the order of its fields."""
    for rule in _RULES[format]:
        yield from rule(row)


def _spoken_messages(row: Json) -> Iterator[str]:
    for where, message in _messages(row):
        yield from _role_faults(where, message)
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            yield f"{where}.content must be a text"


def _shown_messages(row: Json) -> Iterator[str]:
    for where, message in _messages(row):
        yield from _role_faults(where, message)
        content = message.get("content")
        if not isinstance(content, list) or not content:
            yield f'{where}.content must be a list of {{"text": ...}} and {{"image": ...}}'
            continue
        for index, item in enumerate(content):
            values = [item[key] for key in ("text", "image") if key in item] if isinstance(item, dict) else []
            if len(values) != 1 or not isinstance(values[0], str):
                yield f"{where}.content[{index}] must hold either a text or an image, as text"


def _messages_are_there(row: Json) -> Iterator[str]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "messages must be a list with at least one message"
        return
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            yield f"messages[{index}] must be an object with role and content"


def _messages(row: Json) -> Iterator[tuple[str, Json]]:
    messages = row.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            yield f"messages[{index}]", message


def _role_faults(where: str, message: Json) -> Iterator[str]:
    if message.get("role") not in _ROLES:
        yield f"{where}.role must be one of {', '.join(_ROLES)}"


def _assistant_speaks(row: Json) -> Iterator[str]:
    if not any(message.get("role") == "assistant" for _, message in _messages(row)):
        yield "no message of the assistant, so there is nothing to learn"


def _user_speaks_last(row: Json) -> Iterator[str]:
    messages = [message for _, message in _messages(row)]
    if messages and messages[-1].get("role") != "user":
        yield "messages must end with one of the user"


def _two_answers(row: Json) -> Iterator[str]:
    for name in ("chosen", "rejected"):
        answer = row.get(name)
        if (
            not isinstance(answer, dict)
            or answer.get("role") != "assistant"
            or not isinstance(answer.get("content"), str)
        ):
            yield f"{name} must be one message of the assistant"


def _plain_text(row: Json) -> Iterator[str]:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        yield "text must be a text that is not empty"


_RULES: Mapping[str, tuple[Rule, ...]] = {
    "sft": (_messages_are_there, _spoken_messages, _assistant_speaks),
    "sft-image": (_messages_are_there, _shown_messages, _assistant_speaks),
    "dpo": (_messages_are_there, _spoken_messages, _user_speaks_last, _two_answers),
    "cpt": (_plain_text,),
}


# How much a row is --------------------------------------------------------------------------------------------------

TOKEN = 20  # the unit of `token_twentieths`


def token_twentieths(row: Json) -> int:
    """An estimate of a row's tokens, in twentieths so that a running sum stays exact.

    0.7 tokens for each Chinese, Japanese or Korean character and one for every 4 UTF-8 bytes of anything else, over the
    texts alone; the chat template is not counted. A tokeniser of the base model differs by some 10 % either way.
    """
    shared, answers = texts(row)
    return sum(text_twentieths(text) for text in (*shared, *answers))


def text_twentieths(text: str) -> int:
    """The same of one text."""
    if text.isascii():
        return 5 * len(text)
    rest = _CJK.sub("", text)
    return 14 * (len(text) - len(rest)) + 5 * len(rest.encode("utf-8", "replace"))


_CJK = re.compile("[\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+")


def texts(row: Json) -> tuple[list[str], list[str]]:
    """The texts of a row that are read together, and the answers of which one at a time is read with them."""
    shared = [message.get("content") for _, message in _messages(row)] + [row.get("text")]
    answers = [row[name].get("content") for name in ("chosen", "rejected") if isinstance(row.get(name), dict)]
    return [text for text in shared if isinstance(text, str)], [text for text in answers if isinstance(text, str)]


def image_names(row: Json) -> Iterator[tuple[str, str]]:
    """Each image a row names, with the place in the row."""
    for where, message in _messages(row):
        content = message.get("content")
        for index, item in enumerate(content if isinstance(content, list) else ()):
            if isinstance(item, dict) and isinstance(item.get("image"), str):
                yield f"{where}.content[{index}]", item["image"]
