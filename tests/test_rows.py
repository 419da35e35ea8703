"""Rows of training data: strict JSON, the shape each format asks for, and constant memory."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.rows import MAX_FINDINGS, MAX_LINE_BYTES, Findings, parse_row, read_rows, row_faults, token_twentieths

SAID = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
GOOD = json.dumps({"messages": [SAID, ANSWER]}).encode()


def found(data: bytes, format: str = "sft") -> list[str]:
    findings = Findings("f.jsonl")
    for _ in read_rows(io.BytesIO(data), format, findings):
        pass
    return [str(problem).removeprefix("f.jsonl:") for problem in findings.problems]


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


@pytest.mark.parametrize(
    ("format", "row", "said"),
    [
        ("sft", {}, ["messages must be a list", "no message of the assistant"]),
        ("sft", {"messages": []}, ["messages must be a list", "no message of the assistant"]),
        ("sft", {"messages": ["a", ANSWER]}, ["messages[0] must be an object"]),
        ("sft", {"messages": [{"role": "bot", "content": "a"}, ANSWER]}, ["messages[0].role must be one of"]),
        ("sft", {"messages": [{"role": ["user"], "content": "a"}, ANSWER]}, ["messages[0].role must be one of"]),
        ("sft", {"messages": [SAID, {"role": "assistant", "content": ["a"]}]}, ["messages[1].content must be a text"]),
        ("sft", {"messages": [SAID]}, ["no message of the assistant"]),
        ("sft", {"messages": [SAID, {"role": "assistant", "tool_calls": [1]}, {"role": "tool", "content": "4"}]}, []),
        ("dpo", {"messages": [SAID], "chosen": ANSWER, "rejected": ANSWER}, []),
        ("dpo", {"messages": [SAID, ANSWER], "chosen": ANSWER, "rejected": ANSWER}, ["messages must end with"]),
        ("dpo", {"messages": [SAID], "chosen": SAID}, ["chosen must be one", "rejected must be one"]),
        ("cpt", {"text": "a"}, []),
        ("cpt", {"text": " "}, ["text must be"]),
        ("cpt", {"messages": [SAID]}, ["text must be"]),
        (
            "sft-image",
            {
                "messages": [
                    {"role": "user", "content": [{"image": "a.png"}, {"text": "q"}]},
                    {"role": "assistant", "content": [{"text": "a"}]},
                ]
            },
            [],
        ),
        (
            "sft-image",
            {"messages": [SAID, {"role": "assistant", "content": [{"text": "a"}]}]},
            ["messages[0].content must be a list"],
        ),
        (
            "sft-image",
            {"messages": [{"role": "assistant", "content": [{"text": "a", "image": "b"}, 4, {"image": 4}]}]},
            ["messages[0].content[0]", "messages[0].content[1]", "messages[0].content[2]"],
        ),
    ],
)
def test_each_format_has_its_shape(format: str, row: dict[str, object], said: list[str]) -> None:
    faults = list(row_faults(row, format))
    assert len(faults) == len(said), faults
    assert all(fault.startswith(start) for fault, start in zip(faults, said, strict=True)), faults


def test_tokens_are_estimated_from_the_texts_alone() -> None:
    """0.7 for each Chinese character, one for 4 bytes of the rest, in twentieths."""
    assert token_twentieths({"messages": [{"role": "user", "content": "你好ab"}]}) == 2 * 14 + 2 * 5
    assert token_twentieths({"messages": [], "chosen": {"content": "abcd"}, "rejected": {"content": "é"}}) == 20 + 10
    assert token_twentieths({"text": "x" * 8, "other": "y" * 80}) == 40


@given(st.one_of(st.binary(max_size=80), st.text(alphabet='{}[]":,\\ud80041eE-.Nnrtl ', max_size=60).map(str.encode)))
def test_no_line_makes_it_raise_anything_but_a_finding(line: bytes) -> None:
    assert all(finding.isprintable() for finding in found(line))


def test_a_row_comes_back_as_it_was_written() -> None:
    rows = list(read_rows(io.BytesIO(GOOD + b"\r\n"), "sft", Findings("f")))
    assert (rows[0].number, rows[0].line, rows[0].body) == (1, GOOD + b"\r\n", GOOD)
    assert rows[0].value == parse_row(GOOD)
