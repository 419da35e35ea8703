"""What YAML may say here, what it may not, and that nothing makes the reader crash, hang or guess."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import Position
from reconciler.yamltext import (
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_NODES,
    MAX_PROBLEMS,
    Written,
    Yaml,
    _carefully,
    overlaid,
    plain_value,
    read_yaml,
)
from reconciler.yamltext import Path as ValuePath


def read(text: str | bytes) -> Yaml:
    return read_yaml("f.yaml", text.encode() if isinstance(text, str) else text)


def value(text: str) -> object:
    source = read(text)
    assert not source.problems
    return source.documents[0].value


def problem(text: str | bytes) -> str:
    source = read(text)
    assert len(source.problems) == 1, source.problems
    return str(source.problems[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", 4),
        ("-4", -4),
        ("+4", 4),
        ("0", 0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-5", 1e-5),
        ("5E-6", 5e-6),
        ("1.6e5", 1.6e5),
        ("true", True),
        ("False", False),
        ("text", "text"),
        ("1.2.3", "1.2.3"),
        ("2026-11-22-run", "2026-11-22-run"),
        ("1%", "1%"),
        ("数据", "数据"),
        ("sk-learn", "sk-learn"),
    ],
)
def test_what_both_versions_of_yaml_read_alike_is_read_so(text: str, expected: object) -> None:
    """1e-5 is the exception that learning rates need: YAML 1.1 wants a dot in it."""
    assert value(f"a: {text}") == {"a": expected}
    assert type(plain_value(text)) is type(expected)


@pytest.mark.parametrize(
    "text",
    "no No NO yes on off y N 010 -010 0o17 0x1F 0b1 1_000 1_000.5 1:30 12:30:45 190:20:30.15 2026-01-01 "
    "2026-1-1T00:00:00Z .inf -.INF .nan = << ４ １２ ~ null NULL 1e999 1e-999 1234567890123456789".split(),
)
def test_what_two_readers_would_take_differently_is_refused_with_a_way_out(text: str) -> None:
    source = read(f"a: {text}")
    assert len(source.problems) == 1
    assert source.problems[0].at == Position("f.yaml", 1, 4)
    assert source.problems[0].hint
    assert not source.documents[0].sound


@pytest.mark.parametrize("text", ["no", "010", "2026-01-01", "~", "", "1_000", "="])
def test_quotes_make_a_text_of_anything(text: str) -> None:
    assert value(f'a: "{text}"') == {"a": text}
    assert value(f"a: '{text}'") == {"a": text}


def test_an_empty_value_is_refused_because_it_would_be_null() -> None:
    assert "leave the field out" in problem("a:\nb: 1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x 1", "anchor"),
        ("a: *x", "alias"),
        ("<<: {a: 1}", "<<"),
        ("a: !!str 1", "tag"),
        ("a: ! b", "tag"),
        ("!x {a: 1}", "tag"),
        ("%YAML 1.1\n---\na: 1", "directive"),
        ("? [a]\n: 1", "key"),
        ("? {a: 1}\n: {b: 2}", "key"),
        ("a: 1\n'a': 2", "twice"),
        ('a: 1\n"\\x61": 2', "twice"),
        ("4: 1", "quote it"),
        ("true: 1", "quote it"),
        ("a: [1", "not YAML"),
        ("a: b: c", "not YAML"),
        ("a:\n\t- 1", "not YAML"),
    ],
)
def test_what_surprises_is_refused(text: str, words: str) -> None:
    assert words in problem(text)


def test_every_mistake_of_a_file_is_found_and_the_rest_is_still_read() -> None:
    source = read("a: no\nb: [010, &x 1, 5]\nc: {d: 1, d: 2}\ne: fine\n")
    assert [found.at.line for found in source.problems if found.at] == [1, 2, 2, 3]
    assert source.documents[0].value == {"a": None, "b": [None, 1, 5], "c": {"d": 1}, "e": "fine"}


def test_a_syntax_error_ends_its_file_but_keeps_the_documents_before_it() -> None:
    source = read("a: 1\n---\nb: [\n")
    assert [written.value for written in source.documents] == [{"a": 1}]
    assert not source.whole


def test_places_are_those_an_editor_shows() -> None:
    written = read(
        "# note\nspec:\n  名字: 值\n  list:\n  - a\n  - {b: |\n      x}\n".replace("|\n      x", "1")
    ).documents[0]
    assert written.at[("spec",)] == Position("f.yaml", 2, 1)  # of a mapping: its key
    assert written.at[("spec", "名字")] == Position("f.yaml", 3, 7)  # of a scalar: the value, in characters
    assert written.keys[("spec", "名字")] == Position("f.yaml", 3, 3)
    assert written.at[("spec", "list", 0)] == Position("f.yaml", 5, 5)
    assert written.at[("spec", "list", 1, "b")] == Position("f.yaml", 6, 9)
    assert written.position(("spec", "list", 1, "none")) == written.at[("spec", "list", 1)]


def test_texts_of_several_lines_and_windows_line_ends_are_fine() -> None:
    assert value("a: |\r\n  one\r\n  two\tx\r\n") == {"a": "one\ntwo\tx\n"}


def test_a_mark_at_the_beginning_is_not_a_character() -> None:
    assert value("\ufeffa: 1") == {"a": 1}


def test_empty_documents_are_none() -> None:
    assert read("---\n---\n# nothing\n---\na: 1\n...\n").documents[0].value == {"a": 1}
    assert read("") == Yaml((), (), whole=True)


@pytest.mark.parametrize(
    "letter", ["\x00", "\x1b", "\x85", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\ue000", "\u0378", "\x7f"]
)
def test_what_nobody_sees_is_refused_raw_and_escaped(letter: str) -> None:
    """Otherwise a review shows something else than what is applied."""
    assert f"U+{ord(letter):04X}" in problem(f"a: x{letter}y")
    assert f"U+{ord(letter):04X}" in problem(f'a: "x\\u{ord(letter):04x}y"')
    assert "invisible" in problem(f"# {letter}")


def test_a_carriage_return_of_its_own_is_refused() -> None:
    assert "U+000D" in problem("a: 1 # x\rb: 2")


@pytest.mark.parametrize("letter", ["\u3000", "\u00a0", "\u200d", "😀", "é"])
def test_what_texts_need_is_not(letter: str) -> None:
    assert value(f"a: x{letter}y") == {"a": f"x{letter}y"}


@pytest.mark.parametrize(
    "data", [b"a: \xff", b"\xff\xfea\x00", b"a: \xed\xa0\x80", b"a: \xf8\x88\x80\x80\x80", b'a: "\\ud800"']
)
def test_what_is_not_unicode_is_refused(data: bytes) -> None:
    assert read(data).problems
    assert not any(written.sound for written in read(data).documents)


@pytest.mark.parametrize(
    "text",
    [
        "a: sk-0123456789abcdef0123456789abcdef",
        "# sk-ws-0a1b2c3d4e5f6a7b8c",
        'a: "sk\\x2d0123456789abcdef0123456789abcdef"',
        "[sk-0123456789abcdef0]",
    ],
)
def test_a_pasted_key_is_refused_and_never_repeated(text: str) -> None:
    source = read(text)
    assert "API key" in str(source.problems[0])
    assert "a1b2" not in repr(source)
    assert "0123456789abcdef" not in repr(source)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        "{a: " * 200_000,
        "- " * 500_000,
        "a: [" + "1," * MAX_NODES + "]",
        "---\na: 1\n" * (MAX_DOCUMENTS + 1),
        "a: no\n" * 100_000,
        "sk-" * 300_000,
        "x" * (1 << 20) + "y",
        "&a [*a, *a]\n" * 1000,
    ],
    ids=lambda text: text[:6],
)
def test_size_and_depth_are_bounded(text: str) -> None:
    """libyaml's own composer dies on 100,000 brackets; here every bound is a problem like any other."""
    source = read(text)
    assert len(source.problems) <= MAX_PROBLEMS + 1
    assert source.problems or source.documents


def test_what_is_beyond_a_bound_is_named_by_it() -> None:
    assert "more than 100,000 values" in problem("a: [" + "1," * MAX_NODES + "]")
    assert "more than 1,000 documents" in problem("---\na: 1\n" * (MAX_DOCUMENTS + 1))
    assert "more than 1,048,576 bytes" in problem("x" * (1 << 20) + "y")
    assert "more than 64 levels deep" in problem("[" * 1_000_000)


def test_the_deepest_nesting_that_is_allowed_is_allowed() -> None:
    assert not read("[" * MAX_DEPTH + "]" * MAX_DEPTH).problems
    assert read("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).problems


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="ab:-[]{}&*!?|>'\"#%@` \n\t0x1e.~<=,é\u202e", max_size=80).map(str.encode),
    )
)
def test_no_bytes_make_it_raise_and_no_message_holds_a_control_character(data: bytes) -> None:
    source = read(data)
    assert all(str(found).isprintable() for found in source.problems)
    assert source.problems or all(written.sound for written in source.documents)


# One document over another ------------------------------------------------------------------------------------------

SCALARS = st.integers(-9, 9) | st.booleans() | st.sampled_from(["", "a", "b"])


def mappings(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)


DOCUMENTS = mappings(
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | mappings(inner), max_leaves=6),
)


def written(file: str, value: Any) -> Written:
    (document,) = read_yaml(file, json.dumps(value).encode()).documents
    return document


def leaves(value: Any, path: ValuePath = ()) -> dict[ValuePath, Any]:
    """What is replaced as a whole, by path: everything but a mapping that holds something."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {deep: leaf for key, inner in value.items() for deep, leaf in leaves(inner, (*path, key)).items()}


def assigned(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The lower document after each leaf of the upper one was assigned to its path."""
    result = copy.deepcopy(below)
    for path, leaf in leaves(above).items():
        here: Any = result
        for step in path[:-1]:
            here[step] = here[step] if isinstance(here.get(step), dict) else {}
            here = here[step]
        if path and not (leaf == {} and isinstance(here.get(path[-1]), dict)):
            here[path[-1]] = leaf
    return result


def paths(value: Any, path: ValuePath = ()) -> set[ValuePath]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path}.union(*(paths(item, (*path, key)) for key, item in inner))


def at(value: Any, path: ValuePath) -> Any:
    for step in path:
        value = value[step]
    return value


def exactly(value: Any) -> str:
    """As text, where true and 1 differ."""
    return json.dumps(value, sort_keys=True)


@given(DOCUMENTS)
def test_an_empty_overlay_changes_nothing(value: dict[str, Any]) -> None:
    base = written("base.yaml", value)
    assert overlaid(base, written("over.yaml", {})) == base


@given(DOCUMENTS, DOCUMENTS)
def test_an_overlay_assigns_each_of_its_leaves(below: dict[str, Any], above: dict[str, Any]) -> None:
    both = overlaid(written("base.yaml", below), written("over.yaml", above))
    assert exactly(both.value) == exactly(assigned(below, above))
    assert overlaid(both, written("over.yaml", above)).value == both.value


@given(DOCUMENTS, DOCUMENTS)
def test_every_value_has_its_place_in_the_file_that_it_is_from(below: dict[str, Any], above: dict[str, Any]) -> None:
    """And no place is left of what was replaced."""
    base, over = written("base.yaml", below), written("over.yaml", above)
    both = overlaid(base, over)
    assert both.at.keys() == paths(both.value)
    for path, place in both.at.items():
        source = over if place.file == "over.yaml" else base
        assert source.at[path] == place
        assert isinstance(at(both.value, path), dict) or at(source.value, path) == at(both.value, path)
    assert set(both.keys) == {path for path in both.at if path and isinstance(path[-1], str)}
    assert all(both.keys[path].file == both.at[path].file for path in both.keys)


@pytest.mark.parametrize(
    ("below", "above", "both"),
    [
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        ({"a": "text"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": True}, {"a": 1}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "d": 4}}, {"a": {"b": 3, "c": 2, "d": 4}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
    ],
)
def test_lists_are_replaced_and_mappings_are_merged(below: Any, above: Any, both: Any) -> None:
    found = overlaid(written("base.yaml", below), written("over.yaml", above)).value
    assert exactly(found) == exactly(both)


def test_what_was_refused_in_either_makes_the_whole_unsound() -> None:
    (doubtful,) = read("a: ~").documents
    fine = written("f.yaml", {"b": 1})
    assert not overlaid(fine, doubtful).sound
    assert not overlaid(doubtful, fine).sound


# Quickly and carefully ----------------------------------------------------------------------------------------------

LINES = [
    *("---", "---", "--- # next", "--- {a: 1}", "--- |", "--- text", "---x: 1", "--- !t", "...", "# note", ""),
    *("%YAML 1.1", "%TAG ! x", "a: 1", "b: [x, 'y', \"z\"]", "c: {d: 1.5, e: true}", "f: |+", "f: >-", "   text"),
    *("   --- no", "g:", "  h: x", "  - 1", "- 1", 'i: "\\x61"', 'i: "\\u202e"', 'i: "x', 'y"', "'---'", "j: &x 1"),
    *("k: *x", "? l", ": 1", "m: no", "n: ~", "a: 2", "o: 数据", "p: \u202e", "q: sk-0123456789abcdef0", "{r: 1}"),
    *('q: "sk\\x2d0123456789abcdef0"', "1: x", "\ts: 1", "t: 'a", "b'", "u: x\r", "v: x\ry", "x: [1, {y: [z]}]"),
    "w: " + "[" * 70 + "]" * 70,
]


def facts(yaml: Yaml) -> object:
    return (
        [(exactly(one.value), dict(one.at), dict(one.keys), one.sound, one.members) for one in yaml.documents],
        yaml.problems,
        yaml.whole,
    )


def assert_alike(data: bytes) -> None:
    """However a file is read, and whatever was read before, it says the same at the same places."""
    carefully = facts(_carefully("f.yaml", data))
    quickly = read_yaml("f.yaml", data)
    assert facts(quickly) == carefully
    assert facts(read_yaml("f.yaml", b"---\nbefore: 1\n" + data, quickly.pieces)) == facts(
        _carefully("f.yaml", b"---\nbefore: 1\n" + data)
    )
    assert facts(read_yaml("f.yaml", data, quickly.pieces)) == carefully


@given(st.lists(st.sampled_from(LINES), max_size=9), st.sampled_from(["\n", "\n", "\r\n"]), st.booleans())
@settings(max_examples=1000)
def test_lines_are_read_quickly_as_they_are_carefully(lines: list[str], end: str, ended: bool) -> None:
    assert_alike((end.join(lines) + (end if ended else "")).encode())


@given(st.lists(DOCUMENTS, max_size=4), st.integers(0, 5))
def test_documents_are_read_quickly_as_they_are_carefully(values: list[Any], indent: int) -> None:
    """Also as other programs write them."""
    assert_alike("---\n".join(json.dumps(value, indent=indent) + "\n" for value in values).encode())
    assert_alike(yaml.safe_dump_all(values, indent=indent or None).encode())


ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted(map(str, (*ROOT.glob("manifests/**/*.yaml"), *ROOT.glob("docs/**/*.yaml")))))
def test_every_manifest_of_ours_is_read_quickly_as_it_is_carefully(path: str) -> None:
    assert_alike(Path(path).read_bytes())


def test_only_what_is_sound_is_known_again() -> None:
    source = read("a: 1\n---\nb: [2, 3]\n---\n# nothing\n")
    assert [(piece.values, piece.members) for piece in source.pieces.values()] == [(3, {"a": "1"}), (5, {"b": "[2,3]"})]
    for doubtful in ("a: no", "a: *x", "- 1", "a: 1\n---\nb: [", "a: \u202e"):
        assert read("c: 1\n---\n" + doubtful).pieces == {}


def test_the_bounds_of_a_file_hold_for_what_is_known() -> None:
    document = "---\na: [" + "1," * 999 + "]\n"
    known = read(document).pieces
    assert known
    assert not read_yaml("f.yaml", document.encode() * 99, known).problems
    assert "more than 100,000 values" in str(read_yaml("f.yaml", document.encode() * 100, known).problems)
    known = read("---\na: 1\n").pieces
    assert "more than 1,000 documents" in str(read_yaml("f.yaml", b"---\na: 1\n" * 1001, known).problems)
