"""Rows of training data: strict JSON, the shape each format asks for, and constant memory."""

import io
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.findings import MAX_ERRORS, MAX_FINDINGS, MAX_WRONG_BYTES, RULES, Findings, Level
from reconciler.rows import (
    MAX_BRACKETS,
    MAX_COMMAS,
    MAX_LINE_BYTES,
    RowFault,
    answer_of,
    column_of,
    parse_row,
    plain_row,
    read_rows,
    row_faults,
    text_of,
    token_twentieths,
)

FORMATS = ("sft", "sft-image", "dpo", "cpt")
SAID = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
GOOD = json.dumps({"messages": [SAID, ANSWER]}).encode()


def read(data: bytes, format: str = "sft", profile: str = "2026") -> Findings:
    findings = Findings("f.jsonl", profile)
    for _ in read_rows(io.BytesIO(data), format, findings):
        pass
    return findings


def found(data: bytes, format: str = "sft") -> list[str]:
    return [str(problem).removeprefix("f.jsonl:") for problem in read(data, format).problems]


def test_good_rows_pass_with_either_line_end_and_without_the_last() -> None:
    assert found(GOOD + b"\r\n" + GOOD + b"\n" + GOOD) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "a blank line"),
        (b"  ", "a blank line"),
        (b"[1]", "a row must be a JSON object"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} {"b": 2}', "not JSON"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "more than 18 digits"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "the key 'b' is there twice"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "x\\u0000"}', "NUL"),
        (b'{"a": "x\x00"}', "not JSON"),
        (b'{"a": "\xff"}', "this is not UTF-8"),
    ],
)
def test_what_another_reader_might_take_differently_is_refused(line: bytes, said: str) -> None:
    findings = found(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    assert len(findings) == 1
    assert findings[0].startswith("2:")
    assert said in findings[0]


@pytest.mark.parametrize("text", ["\u2028", "\x85", "\U0001f600", "\\ud83d\\ude00", "\\\\u0000", "\u202e"])
def test_what_is_legal_inside_json_is_data(text: str) -> None:
    """str.splitlines() would cut a row at the first two."""
    row = '{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}]}'.replace("?", text)
    assert found(row.encode()) == []


def test_a_column_counts_characters() -> None:
    assert found('{"中文": x}\n'.encode())[0].startswith("1:8  ")
    assert found('{"中文": "'.encode() + b'\xff"}\n')[0].startswith("1:9  ")


def test_a_mark_at_the_beginning_a_pointer_and_nothing_at_all_are_named() -> None:
    assert "byte-order mark" in found(b"\xef\xbb\xbf" + GOOD)[0]
    assert found(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n") == [
        "1:1  a pointer of Git LFS, not the data itself (git lfs pull)"
    ]
    assert found(b"") == ["1:1  the file is empty"]


def test_a_row_without_an_end_is_skipped_in_pieces_and_the_next_is_read() -> None:
    findings = found(b'{"a": "' + b"x" * (2 * MAX_LINE_BYTES) + b'"}\nnot json\n')
    assert findings[0].startswith("1:1  a row of more than")
    assert findings[1].startswith("2:1  not JSON")


def test_after_twenty_findings_only_the_number_of_others_is_told() -> None:
    findings = found(b"x\n" * 1020)
    assert len(findings) == MAX_FINDINGS + 1
    assert "and 1,000 more" in findings[-1]


def test_a_file_of_nothing_but_errors_is_not_read_to_its_end() -> None:
    """A hundred million wrong lines would take minutes, and nobody wants to know their number."""
    findings = found(b"x\n" * (MAX_ERRORS + 500))
    assert f"and {MAX_ERRORS - MAX_FINDINGS:,} more in f.jsonl, the rest of which was not read" in findings[-1]
    large = b'{"a": "' + b"x" * (MAX_WRONG_BYTES // 3) + b'"}\n'
    assert "perhaps more in f.jsonl, the rest of which was not read" in found(large * 6, "cpt")[-1]
    assert "not read" not in found(large * 2, "cpt")[-1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"a": [' + b"[]," * MAX_BRACKETS + b"0]}", f"more than {MAX_BRACKETS:,} brackets and keys"),
        (b"{" + b'"a":0,' * MAX_BRACKETS + b'"b":0}', f"more than {MAX_BRACKETS:,} brackets and keys"),
        (b'{"a": [' + b"0," * (MAX_COMMAS + 1) + b"0]}", f"more than {MAX_COMMAS:,} commas"),
    ],
)
def test_a_row_of_too_many_values_is_refused_before_it_takes_memory(line: bytes, said: str) -> None:
    with pytest.raises(RowFault, match=said):
        parse_row(line)
    assert plain_row(line, "cpt") is None


def test_one_key_of_very_many_that_is_there_twice_is_found_at_once() -> None:
    """It used to be looked for by counting every key among all others."""
    row = b"{" + b"".join(b'"%x":0,' % number for number in range(100_000)) + b'"z":0,"z":1}'
    assert found(row) == ["1:1  the key 'z' is there twice"]


@pytest.mark.parametrize("length", [1000, MAX_LINE_BYTES - 100])
def test_a_long_row_within_the_cap_is_a_row_like_any_other(length: int) -> None:
    row = b'{"text": "' + b"x" * (length - 12) + b'"}'
    assert read(row, "cpt").problems == ()


# The rules ----------------------------------------------------------------------------------------------------------


def think(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def listed(*items: object, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(items)}


CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"name": "f"}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}
SYSTEM = {"role": "system", "content": "s"}
THOUGHT = "<think>\nhm\n</think>\n\na"
TEXT, IMAGE = {"text": "q"}, {"image": "a.png"}
SEEN = [listed(IMAGE, TEXT), listed({"text": "a"}, role="assistant")]


def chat(*messages: object, **more: object) -> dict[str, Any]:
    return {"messages": list(messages), **more}


@pytest.mark.parametrize(
    ("format", "row", "said"),
    [
        ("sft", {}, ["messages messages", "no-answer"]),
        ("sft", {"messages": []}, ["messages messages", "no-answer"]),
        ("sft", chat("a", ANSWER), ["messages messages[0]", "turns messages[1]", "no-user messages"]),
        ("sft", chat({"role": "bot", "content": "a"}, SAID, ANSWER), ["role messages[0].role"]),
        ("sft", chat({"role": ["user"], "content": "a"}, SAID, ANSWER), ["role messages[0].role"]),
        ("sft", chat(SAID, think(["a"])), ["content messages[1].content"]),  # type: ignore[arg-type]
        ("sft", chat(SAID), ["no-answer"]),
        ("sft", chat(SAID, think(" \n")), ["empty-content messages[1].content"]),
        ("sft", chat(SAID, ANSWER, SYSTEM, SAID, ANSWER), ["late-system messages[2]"]),
        ("sft", chat(SYSTEM, SYSTEM, SAID, ANSWER), ["late-system messages[1]"]),
        ("sft", chat(SAID, SAID, ANSWER), ["turns messages[1]"]),
        ("sft", chat(SYSTEM, ANSWER), ["turns messages[1]", "no-user messages"]),
        ("sft", chat({**SAID, "name": "x"}, {**ANSWER, "weight": 0}), ["unsupported-field messages[0].name",
                                                                        "unsupported-field messages[1].weight"]),
        ("sft", chat(SAID, {**ANSWER, "loss_weight": 0.5}), []),
        ("sft", chat(SAID, {**ANSWER, "loss_weight": 1.5}), ["loss-weight messages[1].loss_weight"]),
        ("sft", chat(SAID, {**ANSWER, "loss_weight": True}), ["loss-weight messages[1].loss_weight"]),
        ("sft", chat(SAID, {**ANSWER, "loss_weight": 0}), ["loss-weight-place messages[1].loss_weight"]),
        ("sft", chat({**SAID, "loss_weight": 1}, ANSWER), ["loss-weight-place messages[0].loss_weight"]),
        ("sft", chat(SAID, {**ANSWER, "loss_weight": 1}, SAID, think(THOUGHT)),
         ["loss-weight-place messages[1].loss_weight"]),
        ("sft", chat(SAID, think(THOUGHT)), []),
        ("sft", chat(SAID, think("<think>\n\n</think>\n\na")), []),
        ("sft", chat(SAID, think(THOUGHT), SAID, ANSWER), ["thinking-place messages[1].content"]),
        ("sft", chat(SAID, think("<think>hm</think>a")), ["thinking-form messages[1].content"]),
        ("sft", chat(SAID, think("<think>\nhm\n</think>\na")), ["thinking-form messages[1].content"]),
        ("sft", chat(SAID, think("<think>\n</think>\n\na")), ["thinking-form messages[1].content"]),
        ("sft", chat(SAID, think(THOUGHT + THOUGHT)), ["thinking-form messages[1].content"]),
        ("sft", chat(SAID, think("no thought </think> at all")), ["thinking-form messages[1].content"]),
        ("sft", chat(SAID, think("write <think> to begin one")), []),
        ("sft", chat(SAID, CALL, RESULT, ANSWER, tools=[{"type": "function"}]), []),
        ("sft", chat(SAID, {"role": "assistant", "tool_calls": CALL["tool_calls"]}, RESULT, ANSWER), []),
        ("sft", chat(SAID, ANSWER, tools={}), ["tools tools"]),
        ("sft", chat(SAID, ANSWER, tools=[]), ["tools tools"]),
        ("sft", chat(SAID, {**CALL, "tool_calls": [4]}, RESULT, ANSWER),
         ["tools messages[1].tool_calls", "tool-call-unknown messages[2].tool_call_id"]),
        ("sft", chat(SAID, CALL, {"role": "tool", "content": "4"}, ANSWER), ["tool-call-id messages[2].tool_call_id"]),
        ("dpo", chat(SAID, chosen=ANSWER, rejected=think("b")), []),
        ("dpo", chat(SAID, chosen=ANSWER, rejected=ANSWER), ["pair-alike rejected"]),
        ("dpo", chat(SAID, ANSWER, chosen=ANSWER, rejected=think("b")), ["pair-ending messages[1]"]),
        ("dpo", chat(SAID, chosen=SAID), ["pair-answers chosen", "pair-answers rejected"]),
        ("dpo", chat(SAID, chosen=[ANSWER], rejected="b"), ["pair-answers chosen", "pair-answers rejected"]),
        ("dpo", chat(SAID, chosen=think(""), rejected=think("b")), ["empty-content chosen.content"]),
        ("dpo", chat(SAID, chosen={**ANSWER, "loss_weight": 0.5}, rejected={**think("b"), "loss_weight": 0.5}),
         ["loss-weight-place rejected.loss_weight"]),
        ("cpt", {"text": "a"}, []),
        ("cpt", {"text": " "}, ["text text"]),
        ("cpt", chat(SAID), ["text text"]),
        ("sft-image", chat(*SEEN), []),
        ("sft-image", chat(SAID, SEEN[1]), ["content messages[0].content"]),
        ("sft-image", chat(SYSTEM, *SEEN), ["content messages[0].content"]),
        ("sft-image", chat(SEEN[0], listed({"text": "a", "image": "b"}, 4, {"image": 4}, role="assistant")),
         [f"content messages[1].content[{index}]" for index in range(3)]),
        ("sft-image", chat(listed({"text": " "}), SEEN[1]), ["empty-content messages[0].content"]),
        ("sft-image", chat(listed({**IMAGE, "resized_width": 28, "resized_height": 0}), SEEN[1]),
         ["resized messages[0].content[0].resized_height"]),
        ("sft-image", chat(SEEN[0], listed({"text": "<think>x"}, role="assistant")),
         ["thinking-form messages[1].content"]),
    ],
)  # fmt: skip
def test_each_rule_names_the_place_that_breaks_it(format: str, row: dict[str, Any], said: list[str]) -> None:
    faults = [(fault.rule, fault.path) for fault in row_faults(row, format, "2026")]
    assert [f"{rule} {dotted(path)}".strip() for rule, path in faults] == said


def dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


@pytest.mark.parametrize(
    ("format", "row", "errors", "warnings"),
    [
        ("sft", chat(SAID, think("<think>x")), [], ["thinking-form"]),
        ("sft", chat(SAID, {**ANSWER, "loss_weight": 7}), [], ["loss-weight"]),
        ("sft", chat(SAID, ANSWER, tools=[{}]), ["tools"], []),
        ("sft", chat(SAID, CALL, RESULT, ANSWER), ["role", "tools"], []),
        ("sft-image", chat(listed({**IMAGE, "resized_width": 0}), SEEN[1]), [], ["resized"]),
    ],
)
def test_what_december_2024_did_not_know_is_told_otherwise_there(
    format: str, row: dict[str, Any], errors: list[str], warnings: list[str]
) -> None:
    findings = read(json.dumps(row).encode(), format, "dec-2024")
    assert [problem.rule for problem in findings.problems] == errors
    assert [problem.rule for problem in findings.warnings] == warnings


def test_a_warning_is_told_once_with_its_first_place_and_their_number() -> None:
    row = json.dumps(chat({**SAID, "name": "x"}, {**ANSWER, "name": "y"})).encode() + b"\n"
    findings = read(GOOD + b"\n" + row * 500)
    assert findings.problems == ()
    assert [str(warning) for warning in findings.warnings] == [
        "f.jsonl:2:56  messages[0].name is not supported, and 999 more like it (leave it out)"
    ]


def test_every_rule_has_a_level_in_each_profile_and_a_source() -> None:
    for name, rule in RULES.items():
        assert {rule.in_profile("2026"), rule.in_profile("dec-2024")} <= set(Level), name
        assert rule.source == "ours" or rule.source.startswith("§"), name


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values, st.integers(0, 2) | st.none(), st.booleans(), st.lists(st.integers(0, 2), max_size=3))
def test_a_column_is_that_of_the_value_or_of_what_is_around_it(
    value: object, indent: int | None, ascii_only: bool, turns: list[int]
) -> None:
    """Whatever spaces and escapes lie between."""
    text = json.dumps({"a": value, "b": [value, {"c": value}]}, indent=indent, ensure_ascii=ascii_only)
    line = text.replace("\n", "\t").encode("utf-8", "replace")
    place = column_of(line, ("b", 1, "c"))
    read_back, _ = json.JSONDecoder().raw_decode(line.decode(), place - 1)
    assert read_back == json.loads(line)["b"][1]["c"]
    assert column_of(line, ("b", 1, "nothing", 4)) == column_of(line, ("b", 1))
    assert column_of(line, ("zz",)) == 1


# Rows of the common sort --------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ['{"messages": [', '{"role": "user", "content": "', '{"role": "assistant", "content": "', '"}', ", ", "]}", '"',
     "q", '\\"', "\\u0022", "\\u0000", "\\ud83d", "\\ude00", "\\\\", '"role": "user", ', '"name": "x", ', "<think>",
     " ", '{"text": "', '"}', '], "chosen": ', '"rejected": ', "}", "\x00", "é", "\u2028"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FORMATS), st.lists(PIECES, max_size=14).map("".join))
@example("cpt", '{"text": "a", "text": "b"}')
@example("cpt", '{"text": "\\u0022\\u0022", "text": "\\u0022\\u0022"}')
@example(
    "sft", '{"messages": [{"role": "user", "role" : "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
)
@example("cpt", '{"text": "\\ud800"}')
@example("cpt", '{"text": "x\\u0000"}')
def test_the_quick_reader_is_never_more_lenient_than_the_strict_one(format: str, text: str) -> None:
    line = text.encode()
    if (row := plain_row(line, format)) is not None:
        assert row == parse_row(line)
        assert list(row_faults(row, format, "2026")) == []
        assert list(row_faults(row, format, "dec-2024")) == []


def test_a_row_of_the_common_sort_is_read_quickly() -> None:
    """Else the above would prove nothing, and a file take ten times as long."""
    pair = chat(SYSTEM, SAID, chosen=ANSWER, rejected=think('b "quoted" \\ \u2028'))
    for format, row in (("sft", chat(SAID, ANSWER, SAID, think("中"))), ("dpo", pair), ("cpt", {"text": '"'})):
        for ascii_only in (True, False):
            assert plain_row(json.dumps(row, ensure_ascii=ascii_only).encode() + b"\r\n", format) == row


# What a row holds ---------------------------------------------------------------------------------------------------


def test_text_and_answer_of_each_format() -> None:
    assert (text_of(chat(SAID, ANSWER)), answer_of(chat(SAID, ANSWER))) == ("qa", "a")
    pair = chat(SAID, chosen=ANSWER, rejected=think("b"))
    assert (text_of(pair), answer_of(pair)) == ("qab", "a")
    assert (text_of({"text": "t"}), answer_of({"text": "t"})) == ("t", "t")
    assert (text_of(chat(*SEEN)), answer_of(chat(*SEEN))) == ("qa", "a")
    assert (text_of({"messages": [4]}), answer_of({"messages": [4]}), answer_of({"chosen": 4})) == ("", "", "")


def test_tokens_are_estimated_from_the_text_alone() -> None:
    """0.7 for each Chinese character, one for 4 bytes of the rest, in twentieths."""
    assert token_twentieths("你好ab") == 2 * 14 + 2 * 5
    assert token_twentieths("abcdé") == 20 + 10
    assert token_twentieths("한글カナ。" + "\U0001f600") == 5 * 14 + 20
    assert token_twentieths("") == 0


shapes = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(["user", "assistant", "tool", "a", "<think>\n", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "image", "tool_calls", "id", "tool_call_id", "loss_weight"]),
            inner,
        )
    ),
)
rows = st.fixed_dictionaries(
    {}, optional={name: shapes | st.lists(shapes) for name in ("messages", "chosen", "rejected", "text", "tools")}
)
lines = st.one_of(
    st.binary(max_size=80),
    st.text(alphabet='{}[]":,\\ud80041eE-.Nnrtl ', max_size=60).map(str.encode),
    rows.map(lambda row: json.dumps(row).encode()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(lines, max_size=40).map(b"\n".join), st.sampled_from(FORMATS), st.sampled_from(["2026", "dec-2024"]))
def test_no_bytes_make_it_raise_and_findings_stay_few_and_printable(data: bytes, format: str, profile: str) -> None:
    findings = read(data, format, profile)
    assert len(findings.problems) <= MAX_FINDINGS + 1
    assert len(findings.warnings) <= MAX_FINDINGS
    for problem in (*findings.problems, *findings.warnings):
        assert str(problem).isprintable()
        assert len(str(problem)) < 400
        assert problem.at
        assert problem.rule in RULES


def test_a_row_comes_back_as_it_was_written() -> None:
    rows = list(read_rows(io.BytesIO(GOOD + b"\r\n"), "sft", Findings("f", "2026")))
    assert (rows[0].number, rows[0].line, rows[0].body) == (1, GOOD + b"\r\n", GOOD)
    assert rows[0].value == parse_row(GOOD)
