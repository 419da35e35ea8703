"""The words of the project: what is read off a spec's annotations, and off JSON that nobody vouches for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from reconciler.errors import Position
from reconciler.resource import (
    Content,
    Document,
    Lifecycle,
    Mark,
    Metadata,
    Phase,
    Probe,
    Ref,
    Reference,
    Slot,
    Spec,
    authored,
    dig,
    marks,
    references,
    rows,
    said,
    segment,
    text,
    whole,
)


class Literally(Spec):
    """The literal twin of a reference."""

    file_id: str


class Named(Spec):
    other_one: Annotated[str, Ref("Other")]


Item = Annotated[str, Ref("Thing")] | Literally


class Specimen(Spec):
    """Every shape in which a field may hold a reference."""

    plain: Annotated[str, Ref("Plain"), Mark.IMMUTABLE, Field(min_length=1)] = "default"
    optional: Annotated[str, Ref("Optional")] | None = None
    items: Annotated[list[Item] | None, Mark.IMMUTABLE, Field(description="many")] = None
    nested: str | Named = "code"
    deep: list[Named] = []
    word: Literal["a", "b"] | Named = "a"
    local_only: Annotated[int, Mark.LOCAL, Mark.CLOSED] = 0
    renamed_: Annotated[str, Mark.WRITE_ONLY, Field(alias="renamed")] = ""


def specimen(**fields: Any) -> Specimen:
    return Specimen.model_validate(fields)


def found(**fields: Any) -> list[tuple[str, tuple[str | int, ...]]]:
    return [(reference.address, reference.path) for reference in references(specimen(**fields))]


# Annotations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"plain": "x"}, [("Plain/x", ("plain",))]),
        ({"optional": "x"}, [("Optional/x", ("optional",))]),
        ({"items": ["x", {"fileId": "f"}, "y"]}, [("Thing/x", ("items", 0)), ("Thing/y", ("items", 2))]),
        ({"nested": {"otherOne": "x"}}, [("Other/x", ("nested", "otherOne"))]),
        ({"deep": [{"otherOne": "x"}, {"otherOne": "y"}]},
         [("Other/x", ("deep", 0, "otherOne")), ("Other/y", ("deep", 1, "otherOne"))]),
        ({"word": {"otherOne": "x"}}, [("Other/x", ("word", "otherOne"))]),
        ({"word": "b", "nested": "code"}, []),
    ],
)  # fmt: skip
def test_references_are_found_in_every_shape_with_the_path_the_author_wrote(fields: Any, expected: Any) -> None:
    """A reference that is missed is an edge that is missed: the order of creation would be wrong."""
    assert found(**fields) == expected


def test_a_default_that_nobody_wrote_is_no_reference() -> None:
    assert found() == []


def test_a_reference_has_an_address() -> None:
    assert Reference(("training", 0), "Dataset", "d").address == "Dataset/d"


def test_marks_are_read_by_the_authors_names() -> None:
    """Every later decision (replace, ignore, compare) looks a field up by the name in the manifest."""
    assert marks(Specimen) == {
        "plain": {Mark.IMMUTABLE}, "optional": set(), "items": {Mark.IMMUTABLE}, "nested": set(), "deep": set(),
        "word": set(), "localOnly": {Mark.LOCAL, Mark.CLOSED}, "renamed": {Mark.WRITE_ONLY},
    }  # fmt: skip


def test_only_what_was_written_is_authored_however_deep() -> None:
    """A default that is compared or sent would take a field over that the author never claimed."""
    assert authored(specimen(items=["x", {"fileId": "f"}], localOnly=0)) == {
        "items": ["x", {"fileId": "f"}],
        "localOnly": 0,
    }
    assert authored(specimen()) == {}


def test_a_path_without_a_place_of_its_own_has_that_of_its_nearest_parent() -> None:
    """A message about a default must still lead somewhere."""
    at = {(): Position("a.yaml", 1, 1), ("spec",): Position("a.yaml", 5, 1)}
    document = Document("Specimen", Metadata(name="s"), specimen(), Lifecycle(), at)
    assert document.position("spec", "items", 3) == Position("a.yaml", 5, 1)
    assert document.position("lifecycle") == Position("a.yaml", 1, 1)


def test_slots_and_contents_have_one_name() -> None:
    assert str(Slot("Dataset/d", "train")) == "Dataset/d:train"
    assert str(Slot("Deployment/p")) == "Deployment/p"
    assert Content("d.jsonl", ("d.jsonl",), 12, "abc").digest == "abc-12"


# Ids ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remote_id", ["", ".", "..", "...", "a/b", "../x", "a?b", "a#b", "a b", "a\n", "%2e", "a\\b"])
def test_an_id_that_could_leave_its_path_is_refused(remote_id: str) -> None:
    """Ids come from the service: one with a slash in it would delete something else."""
    with pytest.raises(ValueError, match="not an id"):
        segment(remote_id)


@pytest.mark.parametrize("remote_id", ["ft-202611021405-a1b2", "qwen3.5-9b", "ft-1:checkpoint-3", "a..b", "x" * 200])
def test_ids_of_the_service_are_taken(remote_id: str) -> None:
    assert segment(remote_id).replace("%3A", ":") == remote_id


@given(st.text(max_size=30))
def test_whatever_an_id_holds_it_is_one_segment(remote_id: str) -> None:
    try:
        path = segment(remote_id)
    except ValueError:
        return
    assert path
    assert path.strip(".")
    assert not set(path) & set("/?#\\ \r\n")


# Untrusted JSON -----------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(4, 4), (4.0, 4), ("4", 4), ("-3", -3), (0, 0), (4.5, None), ("4.5", None), (True, None), (None, None), ("", None),
     ("٤", None), (float("nan"), None), (float("inf"), None), ("9" * 16, None), ([4], None)],
)  # fmt: skip
def test_whole_numbers_in_every_spelling_of_the_service(value: Any, expected: int | None) -> None:
    assert whole(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (4, "4"), (4.5, "4.5"), (True, ""), (False, ""), (None, ""), ({}, ""), (["a"], "")],
)
def test_text_is_a_string_or_a_number_and_nothing_else(value: Any, expected: str) -> None:
    """A yes or no where a name is expected is no name."""
    assert text(value) == expected


@given(JSON)
def test_readers_take_any_json(value: Any) -> None:
    """A surprise in an answer must never cost more than the one field."""
    assert isinstance(text(value), str)
    assert isinstance(whole(value), int | None)
    assert all(isinstance(row, dict) for row in rows(value))
    dig(value, "a", "b")


def test_what_the_service_does_not_mention_is_absent() -> None:
    """Nothing and "" mean silence, which is compared with what was last applied; 0 and False are words."""
    assert said(a=None, b="", c=0, d=False, e=[]) == {"c": 0, "d": False, "e": []}


def test_an_unknown_status_is_neither_success_nor_failure() -> None:
    assert set(Phase) == {Phase.PENDING, Phase.READY, Phase.FAILED, Phase.UNKNOWN}


@pytest.mark.parametrize(
    ("probe", "answer", "fails"),
    [
        (Probe("q"), "anything", False),
        (Probe("q"), "  \n", True),
        (Probe("q", contains="no"), "yes", True),
        (Probe("q", contains="ye"), "yes", False),
        (Probe("q", regex="^y.s$"), "yes", False),
        (Probe("q", regex="^y$"), "yes", True),
    ],
)
def test_an_answer_is_good_enough_or_says_why_not(probe: Probe, answer: str, fails: bool) -> None:
    """An empty answer fails even where nothing is expected of it: smoke fails closed."""
    assert bool(probe.failure(answer)) is fails
