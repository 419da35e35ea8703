"""Rows of training data: one strict JSON object a line, and what each format asks of it (docs/contract.md §7).

Promises constant memory whatever a file holds, and that no message repeats a row. A new check is one small function in
`_RULES`, and its level one line in `findings`. It opens no file.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from pydantic_core import from_json

from reconciler.findings import DEC_2024, Findings
from reconciler.resource import Json
from reconciler.wording import shown

MAX_LINE_BYTES = 32 * 1024 * 1024
MAX_BRACKETS = 131_072  # with keys, in one row: as many tokens are more than any run reads of one
MAX_COMMAS = 1_000_000

_LONG = 1 << 17
_BOM = b"\xef\xbb\xbf"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Row(NamedTuple):
    """One line as it was written, its end included. `value` is None where it is no JSON object."""

    number: int
    line: bytes
    value: Json | None

    @property
    def body(self) -> bytes:
        return self.line.rstrip(b"\r\n")


def read_rows(file: BinaryIO, format: str, findings: Findings) -> Iterator[Row]:
    """Every row of a file, with all its mistakes added to `findings`.

    A pointer of Git LFS ends it at once, and so do very many errors.
    """
    number = 0
    for number, line in _lines(file, findings):
        if number == 1 and line.startswith(_LFS_POINTER):
            findings.add("git-lfs", 1, "a pointer of Git LFS, not the data itself", "git lfs pull")
            return
        if number == 1 and line.startswith(_BOM):
            findings.add("encoding", 1, "a byte-order mark", "save the file as UTF-8 without one")
            line = line.removeprefix(_BOM)
        row = Row(number, line, plain_row(line, format) or _checked(number, line, format, findings))
        findings.passed(len(line))
        yield row
        if findings.hopeless:
            return
    if not number:
        findings.add("empty-file", 1, "the file is empty")


def _lines(file: BinaryIO, findings: Findings) -> Iterator[tuple[int, bytes]]:
    """Numbered lines. Only a line feed ends one: U+2028 and its like are legal inside JSON."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            findings.add("row-size", number, f"a row of more than {MAX_LINE_BYTES:,} bytes")
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
        else:
            yield number, line


def _checked(number: int, line: bytes, format: str, findings: Findings) -> Json | None:
    try:
        row = parse_row(line)
    except RowFault as fault:
        findings.add(fault.rule, number, fault.what, fault.hint, column=fault.column)
        return None
    for rule, path, what, hint in row_faults(row, format, findings.profile):
        where = _dotted(path)
        said = f"{where} {what}" if where else what
        findings.add(rule, number, said, hint, column=partial(column_of, line, path))
    return row


# One row ------------------------------------------------------------------------------------------------------------


class RowFault(Exception):
    """A line that is no strict JSON object; `column` counts from 1."""

    def __init__(self, rule: str, what: str, column: int = 1, hint: str = "") -> None:
        super().__init__(what)
        self.rule, self.what, self.column, self.hint = rule, what, column, hint


def parse_row(line: bytes) -> Json:
    """Strict JSON: no NaN, no key twice, nothing that another reader would take for something else."""
    if not line.strip():
        raise RowFault("blank-line", "a blank line")
    if len(line) > _LONG:
        _check_size(line)
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise RowFault("encoding", "this is not UTF-8", len(line[: error.start].decode("utf-8")) + 1) from error
    except json.JSONDecodeError as error:
        raise RowFault("json", f"not JSON: {error.msg[0].lower()}{error.msg[1:]}", error.pos + 1) from error
    except RecursionError as error:
        raise RowFault("json", "nested too deeply") from error
    if not isinstance(value, dict):
        raise RowFault("json", "a row must be a JSON object")
    if "\\u" in text:
        _check_escapes(text, value)
    return value


def _check_size(line: bytes) -> None:
    """Refuses what would take a hundred times its length in memory, before it does."""
    if line.count(b"{") + line.count(b"[") + line.count(b'":') > MAX_BRACKETS:
        raise RowFault("row-size", f"a row of more than {MAX_BRACKETS:,} brackets and keys")
    if line.count(b",") > MAX_COMMAS:
        raise RowFault("row-size", f"a row of more than {MAX_COMMAS:,} commas")


def _check_escapes(text: str, value: Json) -> None:
    """Refuses the two characters that are legal JSON and that a database or an encoder then chokes on."""
    if found := _NUL.search(text):
        raise RowFault("character", "a NUL character", found.start() + 1)
    if (found := _SURROGATE.search(text)) and not _encodable(value):
        raise RowFault("character", "half of a surrogate pair", found.start() + 1)


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise RowFault("duplicate-key", f"the key {shown(twice)} is there twice")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 19:
        raise RowFault("json", "a whole number of more than 18 digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise RowFault("json", "a number too large for any reader")
    return value


def _constant(name: str) -> float:
    raise RowFault("json", f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _encodable(value: Json) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


# A row of the common sort -------------------------------------------------------------------------------------------


def plain_row(line: bytes, format: str) -> Json | None:
    """The row, where its line is of the common sort of which no rule has anything to say; else None.

    Ten times as fast as the strict reader and the rules, and never more lenient: a key given twice shows by its
    quotes, of which a line has those of the names and texts that were read and no others.
    """
    if len(line) > _LONG or b"think>" in line or (b"\\" in line and b"\\u00" in line):
        return None  # an escaped quote or NUL may be in it, or more than fits into memory
    try:
        row = from_json(line, allow_inf_nan=False)
    except ValueError:
        return None
    if type(row) is not dict or _PLAIN[format](row) != line.count(b'"'):
        return None
    return row


_ODD = -(1 << 40)  # no line has so few quotes, whatever is added to it


def _plain_chat(row: Json) -> int:
    return 2 + _plain_turns(row.get("messages"), "assistant") if len(row) == 1 else _ODD


def _plain_pair(row: Json) -> int:
    if len(row) != 3 or row.get("chosen") == row.get("rejected"):
        return _ODD
    answers = [row.get("chosen")], [row.get("rejected")]
    turns = _plain_turns(row.get("messages"), "user")
    return 6 + turns + sum(_plain_turns(answer, "assistant", before="user") for answer in answers)


def _plain_text_row(row: Json) -> int:
    text = row.get("text")
    if len(row) != 1 or type(text) is not str or not text or text.isspace():
        return _ODD
    return 4 + text.count('"')


def _plain_turns(messages: Any, last: str, before: str = "") -> int:
    """How many quotes messages take that are role and text and nothing else, in their usual order."""
    quotes = 0
    if type(messages) is not list:
        return _ODD
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return _ODD
        role, content = message.get("role"), message.get("content")
        if role not in _FOLLOWS[before] or type(content) is not str or not content or content.isspace():
            return _ODD
        quotes += 8 + content.count('"')
        before = role
    return quotes if before == last else _ODD


_FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
}
_PLAIN: Mapping[str, Callable[[Json], int]] = {
    "sft": _plain_chat,
    "sft-image": lambda row: _ODD,
    "dpo": _plain_pair,
    "cpt": _plain_text_row,
}


# What each format asks of a row -------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """What one row does against a rule, and where in the row."""

    rule: str
    path: Path
    what: str
    hint: str = ""


Path = tuple[str | int, ...]
Check = Callable[[Json, str], Iterator[Fault]]


def row_faults(row: Json, format: str, profile: str) -> Iterator[Fault]:
    """What is wrong with a row, rule by rule."""
    for check in _RULES[format]:
        yield from check(row, profile)


def _messages(row: Json) -> Iterator[tuple[Path, Json]]:
    messages = row.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            yield ("messages", index), message


def _answers(row: Json) -> Iterator[tuple[Path, Json]]:
    for name in ("chosen", "rejected"):
        if isinstance(answer := row.get(name), dict):
            yield (name,), answer


def _roles(profile: str) -> tuple[str, ...]:
    return ("system", "user", "assistant") if profile == DEC_2024 else ("system", "user", "assistant", "tool")


def _messages_are_there(row: Json, profile: str) -> Iterator[Fault]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        yield Fault("messages", ("messages",), "must be a list with at least one message")
        return
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            yield Fault("messages", ("messages", index), "must be an object with role and content")


def _roles_are_known(row: Json, profile: str) -> Iterator[Fault]:
    for path, message in _messages(row):
        if message.get("role") not in _roles(profile):
            yield Fault("role", (*path, "role"), f"must be one of {', '.join(_roles(profile))}")


def _order_is_usual(row: Json, profile: str) -> Iterator[Fault]:
    speaker = ""
    for path, message in _messages(row):
        role = message.get("role")
        if role == "system" and path[1] != 0:
            yield Fault("late-system", path, "is of the system, which speaks first and once")
        if role not in ("user", "assistant") or message.get("tool_calls"):
            continue
        if role == speaker or (not speaker and role == "assistant"):
            yield Fault("turns", path, f"is of the {role}, where the other was expected", "one message for each turn")
        speaker = role
    roles = [message.get("role") for _, message in _messages(row)]
    if roles and "user" not in roles:
        yield Fault("no-user", ("messages",), "have none of the user")


def _texts_are_texts(row: Json, profile: str) -> Iterator[Fault]:
    for path, message in _messages(row):
        content = message.get("content")
        if content is None and message.get("tool_calls"):
            continue
        if not isinstance(content, str):
            yield Fault("content", (*path, "content"), "must be a text")
        elif not content.strip() and not message.get("tool_calls"):
            yield Fault("empty-content", (*path, "content"), "is empty")


def _contents_are_lists(row: Json, profile: str) -> Iterator[Fault]:
    for path, message in _messages(row):
        content = message.get("content")
        if not isinstance(content, list) or not content:
            yield Fault(
                "content", (*path, "content"), 'must be a list of {"text": ...} and {"image": ...}', "also for system"
            )
            continue
        for index, item in enumerate(content):
            yield from _item_faults((*path, "content", index), item)
        if not any(isinstance(item, dict) and ("image" in item or str(item.get("text")).strip()) for item in content):
            yield Fault("empty-content", (*path, "content"), "is empty")


def _item_faults(path: Path, item: Any) -> Iterator[Fault]:
    values = [item[key] for key in ("text", "image") if key in item] if isinstance(item, dict) else []
    if len(values) != 1 or not isinstance(values[0], str):
        yield Fault("content", path, "must hold either a text or an image, as text")
        return
    for name in ("resized_width", "resized_height"):
        if name in item and not (type(item[name]) is int and item[name] > 0):
            yield Fault("resized", (*path, name), "must be a whole number above 0")


def _assistant_speaks(row: Json, profile: str) -> Iterator[Fault]:
    if not any(message.get("role") == "assistant" for _, message in _messages(row)):
        yield Fault("no-answer", (), "no message of the assistant, so there is nothing to learn")


def _fields_are_supported(row: Json, profile: str) -> Iterator[Fault]:
    for path, message in (*_messages(row), *_answers(row)):
        for name in ("name", "weight"):
            if name in message:
                yield Fault("unsupported-field", (*path, name), "is not supported", "leave it out")


def _weights_fit(row: Json, profile: str) -> Iterator[Fault]:
    trained = _trained(row)
    for path, message in (*_messages(row), *_answers(row)):
        if "loss_weight" not in message:
            continue
        weight, place = message["loss_weight"], (*path, "loss_weight")
        if profile == DEC_2024:
            yield Fault("loss-weight", place, f"is not known in profile {profile}")
        elif type(weight) not in (int, float) or not 0 <= weight <= 1:
            yield Fault("loss-weight", place, "must be a number from 0 to 1")
        elif path not in trained:
            yield Fault("loss-weight-place", place, "is on a message that is not trained")
        elif weight == 0:
            yield Fault("loss-weight-place", place, "is 0, and the newest page wants more", "leave the message out")


def _trained(row: Json) -> Sequence[Path]:
    """The messages that a run learns from: of a pair the chosen one, beside thinking the last, else all."""
    if "chosen" in row:
        return (("chosen",),)
    assistant = [(path, message) for path, message in _messages(row) if message.get("role") == "assistant"]
    paths = [path for path, _ in assistant]
    return paths[-1:] if any(thinks(message) for _, message in assistant) else paths


def thinks(message: Json) -> bool:
    """Whether a message has a thought in it, well-formed or not."""
    said = _said(message)
    return said.lstrip().startswith("<think>") or "</think>" in said


def _thoughts_are_last(row: Json, profile: str) -> Iterator[Fault]:
    assistant = [(path, message) for path, message in _messages(row) if message.get("role") == "assistant"]
    for path, message in assistant:
        if not thinks(message):
            continue
        place = (*path, "content")
        if profile == DEC_2024:
            yield Fault("thinking-form", place, f"holds a thought, which is plain text to profile {profile}")
        elif path != assistant[-1][0]:
            yield Fault("thinking-place", place, "holds a thought, which only the last of the assistant may")
        elif not _is_thought(_said(message)):
            hint = r"it begins with <think>\n...\n</think>\n\n, line ends included"
            yield Fault("thinking-form", place, "holds a thought that is not written as one", hint)


def _is_thought(said: str) -> bool:
    """One thought at the beginning, with a line end on each side of its end and two after it."""
    end = said.find("</think>")
    return (
        said.startswith("<think>\n")
        and end > len("<think>\n")
        and said[end - 1] == "\n"
        and said.startswith("</think>\n\n", end)
        and "think>" not in said[end + len("</think>") :]
    )


def _said(message: Json) -> str:
    """All the text of a message."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    items = content if isinstance(content, list) else ()
    return "".join(item["text"] for item in items if isinstance(item, dict) and isinstance(item.get("text"), str))


def _tools_fit(row: Json, profile: str) -> Iterator[Fault]:
    given: list[tuple[Path, Any]] = [(("tools",), row["tools"])] if "tools" in row else []
    given += [((*path, "tool_calls"), one["tool_calls"]) for path, one in _messages(row) if "tool_calls" in one]
    for place, value in given:
        if profile == DEC_2024:
            yield Fault("tools", place, f"is not known in profile {profile}")
        elif not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            yield Fault("tools", place, "must be a list of objects")
    if profile != DEC_2024:
        yield from _tools_answer_calls(row)


def _tools_answer_calls(row: Json) -> Iterator[Fault]:
    called = set[str]()
    for path, message in _messages(row):
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict) and isinstance(call.get("id"), str):
                called.add(call["id"])
        if message.get("role") != "tool":
            continue
        answered = message.get("tool_call_id")
        if not isinstance(answered, str) or not answered:
            yield Fault("tool-call-id", (*path, "tool_call_id"), "must be the id of a call, as text")
        elif answered not in called:
            yield Fault("tool-call-unknown", (*path, "tool_call_id"), "is the id of no call before it")


def _user_speaks_last(row: Json, profile: str) -> Iterator[Fault]:
    messages = list(_messages(row))
    if messages and messages[-1][1].get("role") != "user":
        yield Fault("pair-ending", messages[-1][0], "is the last, and must be of the user")


def _two_answers(row: Json, profile: str) -> Iterator[Fault]:
    for name in ("chosen", "rejected"):
        answer = row.get(name)
        content = answer.get("content") if isinstance(answer, dict) and answer.get("role") == "assistant" else None
        if not isinstance(content, str):
            hint = f'"{name}": {{"role": "assistant", "content": "..."}}'
            yield Fault("pair-answers", (name,), "must be one message of the assistant", hint)
        elif not content.strip():
            yield Fault("empty-content", (name, "content"), "is empty")


def _answers_differ(row: Json, profile: str) -> Iterator[Fault]:
    contents = [answer.get("content") for _, answer in _answers(row)]
    if len(contents) == 2 and isinstance(contents[0], str) and contents[0] == contents[1]:
        yield Fault("pair-alike", ("rejected",), "is the same as chosen, so the pair teaches nothing")


def _plain_text(row: Json, profile: str) -> Iterator[Fault]:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        yield Fault("text", ("text",), "must be a text that is not empty")


_SPOKEN = (_messages_are_there, _roles_are_known, _order_is_usual, _fields_are_supported, _weights_fit)
_RULES: Mapping[str, tuple[Check, ...]] = {
    "sft": (*_SPOKEN, _texts_are_texts, _assistant_speaks, _thoughts_are_last, _tools_fit),
    "sft-image": (*_SPOKEN, _contents_are_lists, _assistant_speaks, _thoughts_are_last, _tools_fit),
    "dpo": (*_SPOKEN, _texts_are_texts, _user_speaks_last, _two_answers, _answers_differ, _tools_fit),
    "cpt": (_plain_text,),
}


# Where in the line --------------------------------------------------------------------------------------------------


def _dotted(path: Path) -> str:
    """`messages[3].role`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def column_of(line: bytes, path: Path) -> int:
    """The column where the value at `path` begins, or that of the innermost one around it which is there."""
    text, at = line.decode("utf-8"), 0
    for step in path:
        inner = next((start for name, start in _members(text, at) if name == step), None)
        if inner is None:
            break
        at = inner
    return len(text[:at]) + 1


def _members(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """The names, or numbers, of what the sound JSON value at `at` consists of, and where each begins."""
    at, index = _after_space(text, at), 0
    is_object, more = text[at] == "{", text[at] in "{["
    while more and text[at := _after_space(text, at + 1)] not in "}]":
        name: str | int = index
        if is_object:
            name, at = _ANY.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)
        yield name, at
        _, at = _ANY.raw_decode(text, at)
        at, index = _after_space(text, at), index + 1
        more = text[at] == ","


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


_SPACE = re.compile(r"[ \t\r\n]*")
_ANY = json.JSONDecoder()


# How much a row is --------------------------------------------------------------------------------------------------

TOKEN = 20  # the unit of `token_twentieths`


def token_twentieths(text: str) -> int:
    """An estimate of a text's tokens, in twentieths so that a running sum stays exact.

    0.7 tokens for each Chinese, Japanese or Korean character and one for every 4 UTF-8 bytes of anything else; the chat
    template is not counted. A tokeniser of the base model differs by some 10 % either way.
    """
    data = text.encode("utf-8", "replace")
    east_asian = count_east_asian(data)
    return 14 * east_asian + 5 * (len(data) - 3 * east_asian)


def count_east_asian(data: bytes) -> int:
    """Chinese, Japanese and Korean characters in UTF-8, told by the first of their three bytes."""
    return 0 if data.isascii() else len(data.translate(None, _OTHER_BYTES))


_OTHER_BYTES = bytes({*range(256)} - {*range(0xE3, 0xEE), 0xEF})


def texts(row: Json) -> tuple[list[str], list[str]]:
    """The texts of a row that are read together, and the answers of which one at a time is read with them."""
    shared = [message.get("content") for _, message in _messages(row)] + [row.get("text")]
    answers = [row[name].get("content") for name in ("chosen", "rejected") if isinstance(row.get(name), dict)]
    return [text for text in shared if isinstance(text, str)], [text for text in answers if isinstance(text, str)]


def text_of(row: Json) -> str:
    """All the text of a row: its messages and its answers, or the one text it is."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        return _said({"content": row.get("text")})
    if len(row) > 1:
        messages = [*messages, row.get("chosen"), row.get("rejected")]
    return "".join([_said(message) for message in messages if isinstance(message, dict)])


def answer_of(row: Json) -> str:
    """What a run learns to say: the last message, the chosen one, or the whole text; "" where there is none."""
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {"content": row.get("text")}
    answer = row.get("chosen", last)
    return _said(answer) if isinstance(answer, dict) else ""


def image_names(row: Json) -> Iterator[tuple[Path, str]]:
    """Each image a row names, with the place in the row."""
    for path, message in _messages(row):
        content = message.get("content")
        for index, item in enumerate(content if isinstance(content, list) else ()):
            if isinstance(item, dict) and isinstance(item.get("image"), str):
                yield (*path, "content", index, "image"), item["image"]
