"""The exact rules of both hotword APIs (contract §4, §5): lengths, weights, languages, counts, repeats."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler import catalogue
from reconciler.kinds.hotword_table import HotwordTable
from reconciler.resource import Finding, Inputs

PROFILE = catalogue.load().for_profile("2026")
V2, V1 = "paraformer-v2", "paraformer-v1"


def found(model: str, *words: tuple[Any, ...]) -> list[Finding]:
    """What is wrong with words given as text, weight and perhaps a language."""
    items = [dict(zip(("text", "weight", "lang"), word, strict=False)) for word in words]
    table = HotwordTable.model_validate({"targetModel": model, "words": items})
    return list(table.fits(Inputs(), PROFILE))


@pytest.mark.parametrize(
    ("model", "text", "problem"),
    [
        (V2, "词" * 15, ""),
        (V2, "词" * 16, "16 characters are more than 15"),
        (V2, "x" * 14 + "词", ""),
        (V2, "x" * 15 + "词", "16 characters are more than 15"),
        (V2, "a b c d e f g", ""),
        (V2, "a b c d e f g h", "8 words are more than 7"),
        (V2, "x" * 40, ""),
        (V1, "词" * 10, ""),
        (V1, "词" * 11, "11 characters are more than 10"),
        (V1, "a b c d e", ""),
        (V1, "a b c d e f", "6 words are more than 5"),
        (V1, "阿 b c d e f", "6 words are more than 5"),
    ],
)
def test_how_long_a_word_may_be(model: str, text: str, problem: str) -> None:
    assert [one.what for one in found(model, (text, 4))] == ([f"{text}: {problem}"] if problem else [])


@pytest.mark.parametrize(("model", "good"), [(V2, {1, 2, 3, 4, 5}), (V1, {*range(-6, 0), *range(1, 6)})])
def test_which_weights_it_may_have(model: str, good: set[int]) -> None:
    assert {weight for weight in range(-9, 10) if not found(model, ("词", weight))} == good


def test_languages_are_the_models_and_phrase_lists_have_none() -> None:
    assert found(V2, ("词", 4, "zh")) == []
    assert [one.what for one in found(V2, ("词", 4, "it"))] == ["词: paraformer-v2 has no language it"]
    assert next(one.what for one in found(V1, ("词", 4, "zh"))) == "词: a phrase list has no languages: leave lang out"


@pytest.mark.parametrize("model", [V1, V2])
def test_how_many_words_there_may_be(model: str) -> None:
    words = [(f"w{number}", 1) for number in range(501)]
    assert found(model, *words[:500]) == []
    assert [one.what for one in found(model, *words)] == [f"501 words are more than the 500 that {model} takes"]


def test_the_same_word_twice_is_a_mistake() -> None:
    """The service would take one of the two weights, and nobody says which."""
    (finding,) = found(V2, ("词", 4), ("词", 2))
    assert (finding.what, finding.path, finding.warning) == ("词 is listed twice", ("words", 1), False)


@pytest.mark.parametrize(("one", "other"), [("CT", "ct"), ("CT", "ＣＴ"), ("new york", "new  york"), ("①", "1")])
def test_words_that_differ_only_in_writing_are_warned_of(one: str, other: str) -> None:
    (finding,) = found(V2, (one, 4), (other, 4))
    assert finding.warning
    assert finding.what == f"{other} and {one} are written differently and heard alike"


def test_a_repeat_is_told_as_such_whatever_is_like_it() -> None:
    assert [one.warning for one in found(V2, ("a", 1), ("A", 1), ("A", 1))] == [True, False]


def test_a_table_needs_a_word() -> None:
    assert [one.what for one in found(V2)] == ["a hotword table needs at least one word"]
