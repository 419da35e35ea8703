"""References: an order that does not depend on the order of documents, and every mistake in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Position
from reconciler.graph import check, dependencies, ordered
from reconciler.resource import Document, Lifecycle, Metadata, Ref, Spec
from reconciler.wording import MAX_HINTS


class Node(Spec):
    needs: list[Annotated[str, Ref("Node")]] = []


class Leaf(Spec):
    pass


def node(name: str, *needs: str, line: int = 1, kind: str = "Node") -> Document:
    at = {(): Position("f.yaml", line, 1)}
    at |= {("spec", "needs", index): Position("f.yaml", line, 10 + index) for index in range(len(needs))}
    spec = Node(needs=list(needs)) if kind == "Node" else Leaf()
    return Document(kind, Metadata(name=name), spec, Lifecycle(), at)


def said(documents: Sequence[Document], broken: Sequence[str] = ()) -> list[str]:
    return [str(problem) for problem in check(documents, broken=broken)]


def test_what_is_needed_comes_first_and_names_decide_the_rest() -> None:
    documents = [node("d", "b", "c"), node("c", "a"), node("b", "a"), node("a"), node("z")]
    assert [document.metadata.name for document in ordered(documents)] == ["a", "z", "b", "c", "d"]
    assert dependencies(documents)["Node/d"] == ("Node/b", "Node/c")


@given(st.data())
def test_the_order_of_documents_means_nothing(data: st.DataObject) -> None:
    names = [str(number) for number in range(8)]
    documents = [
        node(name, *data.draw(st.sets(st.sampled_from(names[:index])) if index else st.just(set())))
        for index, name in enumerate(names)
    ]
    expected = [document.address for document in ordered(documents)]
    assert [document.address for document in ordered(data.draw(st.permutations(documents)))] == expected
    for document in documents:
        for needed in dependencies(documents)[document.address]:
            assert expected.index(needed) < expected.index(document.address)


def test_one_identity_twice_names_both_places() -> None:
    assert said([node("a", line=9), node("a", line=3)]) == [
        "f.yaml:9:1  Node/a is declared twice (first in f.yaml:3:1)"
    ]


def test_the_same_name_of_two_kinds_is_two_things() -> None:
    assert said([node("a"), node("a", kind="Leaf")]) == []


def test_a_reference_to_nothing_suggests_what_was_meant() -> None:
    assert said([node("support"), node("x", "suport", line=2)]) == [
        "f.yaml:2:10  Node/x names Node/suport, which no manifest declares (did you mean support?)"
    ]


def test_a_reference_to_another_kind_says_so() -> None:
    assert said([node("a", kind="Leaf"), node("x", "a")]) == [
        "f.yaml:1:10  Node/x names Node/a, which no manifest declares (a is a Leaf, not a Node)"
    ]


def test_a_reference_to_a_broken_document_is_not_dangling() -> None:
    """It is named already, with its own mistake; a second message would send the author after the wrong one."""
    assert said([node("x", "lost")], broken=["lost"]) == []
    assert said([node("x", "lost")], broken=[""]) == []
    assert len(said([node("x", "lost")], broken=["other"])) == 1


def test_a_cycle_is_named_whole_from_its_first_member() -> None:
    documents = [node("c", "a", line=3), node("a", "b", line=1), node("b", "c", line=2), node("d", "a", line=4)]
    assert said(documents) == [
        "f.yaml:1:10  a cycle: Node/a -> Node/b -> Node/c -> Node/a (one of them must go without the other)"
    ]


def test_every_cycle_is_named_and_a_document_may_be_one_alone() -> None:
    documents = [node("a", "a"), node("b", "c"), node("c", "b")]
    assert sorted(text.split("  ")[1].split(" (")[0] for text in said(documents)) == [
        "a cycle: Node/a -> Node/a",
        "a cycle: Node/b -> Node/c -> Node/b",
    ]


def test_a_chain_of_thousands_does_not_exhaust_the_stack() -> None:
    documents = [node("n0"), *(node(f"n{number}", f"n{number - 1}") for number in range(1, 5000))]
    assert [document.metadata.name for document in ordered(documents)][-1] == "n4999"
    assert said([*documents[1:], node("n0", "n4999")])[0].count("->") == 5000


def test_only_the_first_of_many_that_dangle_get_a_hint() -> None:
    """A hint looks at every name: ten thousand of them would take hours."""
    documents = [node(f"node-{number}", f"nude-{number}") for number in range(3 * MAX_HINTS)]
    found = check(documents)
    assert len(found) == 3 * MAX_HINTS
    assert sum(bool(problem.hint) for problem in found) == MAX_HINTS
