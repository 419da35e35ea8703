"""What somebody names, and what has to come along: `tests/cases/selection.yaml` holds what becomes of it in a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import UsageError
from reconciler.kinds import KINDS
from reconciler.manifest import parse
from reconciler.resource import API_VERSION, Document
from reconciler.selection import EVERYTHING, Selection, Selectors, Term, matching, select, terms
from reconciler.state import State


def deployment(name: str, model: str = "qwen3-8b", tier: str = "any") -> str:
    return f"""
apiVersion: {API_VERSION}
kind: Deployment
metadata: {{name: {name}, labels: {{tier: {tier}}}}}
spec: {{model: {model}, plan: mu, deploySpec: MU1, capacity: 4}}
"""


def job(name: str, model: str = "qwen3-8b") -> str:
    return f"""
apiVersion: {API_VERSION}
kind: FineTuneJob
metadata: {{name: {name}}}
spec:
  model: {model}
  trainingType: efficient_sft
  training: [{{fileId: f}}]
  hyperParameters: {{n_epochs: 1, batch_size: 16, max_length: 2048}}
"""


def declared(*texts: str) -> tuple[Document, ...]:
    parsed = parse("m.yaml", "\n---\n".join(texts).encode(), KINDS)
    assert not parsed.problems
    return parsed.documents


CHAIN = declared(
    job("a"),
    job("b", "{fineTuneJob: a}"),
    deployment("c", "{fineTuneJob: b}", tier="prod"),
    deployment("d", tier="test"),
)


def chosen(*, destroy: bool = False, labels: str = "", **said: tuple[str, ...]) -> Selection | None:
    selectors = Selectors(said.get("targets", ()), said.get("excludes", ()), terms(labels) if labels else ())
    return select(CHAIN, State(), selectors, destroy=destroy)


def test_nothing_said_is_everything() -> None:
    assert select(CHAIN, State(), EVERYTHING, destroy=False) is None


def test_a_target_brings_what_it_needs() -> None:
    found = chosen(targets=("FineTuneJob/b",))
    assert found == Selection(("FineTuneJob/b",), ("FineTuneJob/a",))


def test_to_destroy_it_brings_what_needs_it() -> None:
    found = chosen(targets=("FineTuneJob/b",), destroy=True)
    assert found == Selection(("FineTuneJob/b",), ("Deployment/c",))


def test_what_rests_on_something_excluded_is_left_out_and_told() -> None:
    found = chosen(excludes=("FineTuneJob/a",))
    assert found is not None
    assert found.asked == ("Deployment/d",)
    assert found.without == ("Deployment/c", "FineTuneJob/b")


def test_targets_and_labels_choose_together() -> None:
    found = chosen(targets=("FineTuneJob/a",), labels="tier=test")
    assert found == Selection(("Deployment/d", "FineTuneJob/a"))


def test_an_address_that_nobody_knows_is_a_mistake_with_a_guess() -> None:
    with pytest.raises(UsageError, match="Deployment/cc") as error:
        chosen(targets=("Deployment/cc",))
    assert "Deployment/c" in error.value.hint


def test_to_be_left_with_nothing_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="nothing is left"):
        chosen(targets=("Deployment/c",), excludes=("FineTuneJob/a",))
    with pytest.raises(UsageError, match="nothing is left"):
        chosen(labels="tier=nowhere")


@given(
    targets=st.lists(st.sampled_from([one.address for one in CHAIN]), unique=True),
    excludes=st.lists(st.sampled_from([one.address for one in CHAIN]), unique=True),
    destroy=st.booleans(),
)
def test_a_selection_is_closed_and_free_of_what_is_excluded(
    targets: list[str], excludes: list[str], destroy: bool
) -> None:
    needs = {"FineTuneJob/b": "FineTuneJob/a", "Deployment/c": "FineTuneJob/b"}
    try:
        found = select(CHAIN, State(), Selectors(tuple(targets), tuple(excludes)), destroy=destroy)
    except UsageError:
        return
    if found is None:
        return
    everything = {*found.asked, *found.along}
    assert not everything & set(excludes)
    for user, needed in needs.items():
        first, second = (needed, user) if destroy else (user, needed)
        assert first not in everything or second in everything


LABELS = {"team": "care", "tier": "prod"}


@pytest.mark.parametrize(
    ("written", "holds"),
    [
        ("team=care", True),
        ("team==care", True),
        ("team=sales", False),
        ("team!=sales", True),
        ("other!=x", True),  # what has no such label has no such value, as elsewhere
        ("team", True),
        ("!team", False),
        ("!other", True),
        ("team in (care, sales)", True),
        ("team notin (care, sales)", False),
        ("team=care,tier=prod", True),
        ("team=care,tier=test", False),
        ("team in (a,b),tier=prod", False),
    ],
)
def test_conditions_read_as_kubectl_reads_them(written: str, holds: bool) -> None:
    assert all(term.holds(LABELS) for term in terms(written)) is holds


@pytest.mark.parametrize("written", ["", "=x", "team=", "team in ()", "team in care", "team=care,,tier=x", "a b"])
def test_anything_else_is_refused(written: str) -> None:
    with pytest.raises(UsageError):
        terms(written)


def test_a_condition_reads_back_as_it_was() -> None:
    for written in ("team", "!team", "team in (care)", "team notin (a, b)"):
        (term,) = terms(written)
        assert str(term) == written
        assert terms(str(term)) == (term,)


def test_no_condition_matches_nothing() -> None:
    assert matching(CHAIN, ()) == ()
    assert matching(CHAIN, [Term("tier", frozenset({"prod"}))]) == ("Deployment/c",)
