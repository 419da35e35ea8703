"""Documents out of YAML: every mistake once, in our words, at its place."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from reconciler.errors import Position
from reconciler.kinds import KINDS
from reconciler.manifest import MAX_FAULTS, Broken, Parsed, parse
from reconciler.resource import Spec


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Owner(Spec):
    owner_name: str


class Mount(Spec):
    mount: str
    mode: int


class Box(Spec):
    size: Annotated[int, Field(ge=1, lt=10, multiple_of=2)]
    ratio: float = 0.5
    lid: bool = False
    paint: Literal["matt", "gloss"] = "matt"
    colour: Colour = Colour.RED
    owner: str | Owner = "nobody"
    things: Annotated[list[str | Owner | Mount], Field(min_length=1, max_length=3)] = ["x"]
    pair: tuple[str, ...] = ()
    code: Annotated[str, Field(pattern=r"^[a-z]+$", max_length=5)] = "a"
    open_map: Mapping[str, int | float] = {}

    @model_validator(mode="after")
    def _fits(self) -> Box:
        if self.lid and self.size == 2:
            raise ValueError("a box of 2 has no lid")
        return self


HEAD = "apiVersion: bailian.reconciler/v1alpha1\nkind: Box\nmetadata: {name: b}\n"


def read(text: str) -> Parsed:
    return parse("f.yaml", text.encode(), {"Box": Box})


def problems(spec: str) -> list[str]:
    """What is said of one spec in flow style; the column counts within it."""
    found = read(HEAD + "spec:\n  " + spec).problems
    return [str(problem).removeprefix("f.yaml:") for problem in found]


def test_a_document_is_its_kind_its_spec_and_the_places_of_everything() -> None:
    parsed = read(
        HEAD
        + "spec:\n  size: 4\n  pair: [a, b]\n  colour: blue\nlifecycle: {deletionPolicy: Orphan, ignore: [paint]}\n"
    )
    assert parsed.problems == ()
    document = parsed.documents[0]
    assert document.address == "Box/b"
    assert document.spec == Box(size=4, pair=("a", "b"), colour=Colour.BLUE)
    assert document.spec.model_fields_set == {"size", "pair", "colour"}
    assert document.lifecycle.deletion_policy == "Orphan"
    assert document.position("spec", "size") == Position("f.yaml", 5, 9)
    assert document.position("spec", "ratio") == Position("f.yaml", 4, 1)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{}", ["4:1  spec.size is missing"]),
        ("{size: 4, sise: 4}", ["5:13  unknown field 'sise' (did you mean size?)"]),
        (
            "{size: 4.0}",
            ["5:10  spec.size must be a whole number, not a number with a fraction or an exponent (write 4)"],
        ),
        (
            "{size: 1e1}",
            ["5:10  spec.size must be a whole number, not a number with a fraction or an exponent (write 10)"],
        ),
        ('{size: "4"}', ["5:10  spec.size must be a whole number, not a text (write it without quotes)"]),
        ("{size: true}", ["5:10  spec.size must be a whole number, not true or false"]),
        ("{size: 0}", ["5:10  spec.size must be at least 1"]),
        ("{size: 10}", ["5:10  spec.size must be less than 10"]),
        ("{size: 3}", ["5:10  spec.size must be a multiple of 2"]),
        ("{size: [4]}", ["5:4  spec.size must be a whole number, not a list"]),
        ('{size: 4, lid: "true"}', ["5:18  spec.lid must be true or false, not a text"]),
        ("{size: 4, paint: mat}", ["5:20  spec.paint must be one of matt, gloss, not 'mat' (did you mean matt?)"]),
        ("{size: 4, colour: bleu}", ["5:21  spec.colour must be one of red, blue, not 'bleu' (did you mean blue?)"]),
        ("{size: 4, code: 2026}", ['5:19  spec.code must be a text, not a number (quote it: "2026")']),
        ("{size: 4, code: true}", ['5:19  spec.code must be a text, not true or false (quote it: "true")']),
        ("{size: 4, code: ABC}", ["5:19  spec.code does not have the form it must have (it must match ^[a-z]+$)"]),
        ("{size: 4, code: abcdef}", ["5:19  spec.code takes at most 5 characters"]),
        ("{size: 4, things: []}", ["5:13  spec.things needs at least 1 entry"]),
        (
            "{size: 4, things: x}",
            ["5:21  spec.things must be a list, not a text (a list is written [a, b], also with one entry)"],
        ),
        ("{size: 4, owner: 5}", ['5:20  spec.owner must be a text or a mapping, not a number (quote it: "5")']),
        (
            "{size: 4, owner: {ownerNme: x}}",
            ["5:13  spec.owner.ownerName is missing", "5:21  unknown field 'ownerNme' (did you mean ownerName?)"],
        ),
        (
            "{size: 4, owner: {ownerName: 5}}",
            ['5:32  spec.owner.ownerName must be a text, not a number (quote it: "5")'],
        ),
        (
            "{size: 4, things: [a, {mount: b, mode: c}]}",
            ["5:42  spec.things[1].mode must be a whole number, not a text"],
        ),
        ("{size: 4, openMap: {k: x}}", ["5:26  spec.openMap.k must be a number, not a text"]),
        ("{size: 2, lid: true}", ["4:1  spec is not right: a box of 2 has no lid"]),
        ("4", ["5:3  spec must be a mapping, not a number"]),
    ],
)
def test_each_mistake_is_said_once_and_says_what_to_write(spec: str, said: list[str]) -> None:
    assert sorted(problems(spec)) == sorted(said)


def test_all_mistakes_of_a_file_come_together() -> None:
    parsed = read(
        HEAD + "spec: {size: no, lid: 1, sise: 1}\nextra: 1\n---\n" + HEAD.replace("Box", "Bx") + "spec: {}\n"
    )
    assert len(parsed.problems) == 5
    assert parsed.broken == (Broken("Box", "b"), Broken("Bx", "b"))


def test_what_yaml_refused_is_not_said_again_by_the_types() -> None:
    assert len(problems("{size: ~}")) == 1
    assert len(problems("{size: 4, owner: {ownerName: *x}}")) == 1
    assert len(problems("{size: 4, things: [yes, *x]}")) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", ["1:1  apiVersion is missing", "1:1  kind is missing", "1:1  metadata is missing"]),
        ("[]", ["1:1  a document must be a mapping, not a list"]),
        ("text", ["1:1  a document must be a mapping, not a text"]),
        (
            HEAD.replace("v1alpha1", "v2") + "spec: {size: 2}",
            ["1:13  an apiVersion that is not ours (write bailian.reconciler/v1alpha1)"],
        ),
        (HEAD.replace("Box", "box") + "spec: {size: 2}", ["2:7  unknown kind 'box' (did you mean Box?)"]),
        (HEAD.replace("Box", "[Box]") + "spec: {size: 2}", ["2:1  unknown kind a list"]),
        (HEAD, ["1:1  spec is missing"]),
        (HEAD + "spec: {size: 2}\nstatus: {}", ["5:1  unknown field 'status' (the service writes it: leave it out)"]),
        (HEAD + "spec: {size: 2}\nmetdata: {}", ["5:1  unknown field 'metdata' (did you mean metadata?)"]),
        (HEAD.replace("{name: b}", "{}") + "spec: {size: 2}", ["3:1  metadata.name is missing"]),
        (HEAD.replace("name: b", "name: B_1") + "spec: {size: 2}", ["3:18  metadata.name: 'B_1' is not a name"]),
        (HEAD.replace("name: b", "name: -b") + "spec: {size: 2}", ["3:18  metadata.name: '-b' is not a name"]),
        (HEAD.replace("name: b", 'name: "b\\n"') + "spec: {size: 2}", ["3:18  metadata.name: 'b\\n' is not a name"]),
        (
            HEAD.replace("}", ", movedFrom: Box/a}") + "spec: {size: 2}",
            ["3:32  metadata.movedFrom: 'Box/a' is not a name"],
        ),
        (
            HEAD.replace("}", ", labels: {team: 1}}") + "spec: {size: 2}",
            ["3:36  metadata.labels.team must be a text, not a number"],
        ),
        (HEAD.replace("}", ", labels: {a=b: x}}") + "spec: {size: 2}", ["3:35  'a=b' is not a label"]),
        (HEAD.replace("}", ', labels: {a: "x,y"}}') + "spec: {size: 2}", ["3:33  the value of label 'a' is not one"]),
        (
            HEAD + "spec: {size: 2}\nlifecycle: {ignore: [sise]}",
            ["5:22  lifecycle.ignore names 'sise', which is no field (did you mean size?)"],
        ),
        (
            HEAD + "spec: {size: 2}\nlifecycle: {keepLast: 2}",
            ["5:23  a Box keeps no history that keepLast could bound (fine-tune jobs do)"],
        ),
        (
            HEAD + "spec: {size: 2}\nlifecycle: {observeOnly: 1}",
            ["5:26  lifecycle.observeOnly must be true or false, not a number"],
        ),
        (
            HEAD + "spec: {size: 2}\nlifecycle: {deletionPolicy: delete}",
            ["5:29  lifecycle.deletionPolicy must be one of Delete, Orphan, Protect, not 'delete' (did you"],
        ),
    ],
)
def test_what_stands_around_the_spec_is_checked_too(text: str, said: list[str]) -> None:
    found = [str(problem).removeprefix("f.yaml:") for problem in read(text).problems]
    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True)), found


def test_chinese_labels_are_labels() -> None:
    parsed = read(HEAD.replace("}", ", labels: {team: 客服}}") + "spec: {size: 2}")
    assert parsed.documents[0].metadata.labels == {"team": "客服"}


def test_an_unreadable_rest_of_a_file_counts_as_a_document_nobody_can_name() -> None:
    parsed = read(HEAD + "spec: {size: 2}\n---\na: [")
    assert [document.address for document in parsed.documents] == ["Box/b"]
    assert parsed.broken == (Broken("", ""),)


def test_a_thousand_mistakes_are_counted_and_not_printed() -> None:
    spec = "{size: 2, " + ", ".join(f"x{number}: 1" for number in range(1000)) + "}"
    assert len(problems(spec)) == MAX_FAULTS + 1
    assert "950 more" in problems(spec)[-1]


def test_a_key_in_the_wrong_field_is_not_repeated_by_any_message() -> None:
    """The value fails its pattern as well, and that message must not show it."""
    found = problems("{size: 4, code: sk-0123456789abcdef0123456789abcdef, paint: sk-0123456789abcdef0123456789abcdef}")
    assert any("API key" in problem for problem in found)
    assert not any("0123456789abcdef" in problem for problem in found)


@given(st.text(alphabet="abBox{}[]:, \n-1.0\"'sizehdkmprt\u202e\x1b", max_size=60))
def test_no_text_makes_it_raise_or_speak_in_control_characters(text: str) -> None:
    parsed = parse("f.yaml", (HEAD + "spec:\n  " + text).encode(), {"Box": Box})
    assert all(str(problem).isprintable() for problem in parsed.problems)
    assert parsed.problems or parsed.documents


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_empty_spec_of_every_kind_is_either_fine_or_said_to_lack_fields(kind: str) -> None:
    parsed = parse("f.yaml", HEAD.replace("Box", kind).encode() + b"spec: {}\n", KINDS)
    assert parsed.documents or all("missing" in str(problem) or "write" in str(problem) for problem in parsed.problems)
