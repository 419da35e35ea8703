"""Two languages that say the same."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from reconciler.adapters import web
from reconciler.adapters.web.texts import EN, STATES, ZH, Words, chosen
from reconciler.conditions import Health, Sync
from reconciler.render.changes import ACTION_WORDS

FOLDER = Path(web.__file__).parent
USED = "".join(path.read_text(encoding="utf-8") for path in (*FOLDER.glob("*.py"), *FOLDER.glob("templates/*.html")))


def test_both_languages_have_the_same_texts() -> None:
    assert EN.keys() == ZH.keys()


@pytest.mark.parametrize("key", EN)
def test_both_languages_fill_in_the_same(key: str) -> None:
    assert sorted(re.findall(r"\{\w+\}", EN[key])) == sorted(re.findall(r"\{\w+\}", ZH[key]))
    assert EN[key]
    assert ZH[key]


@pytest.mark.parametrize("key", EN)
def test_no_text_is_left_that_no_page_says(key: str) -> None:
    built = key.startswith(("action.", "lineage."))
    assert built or f'"{key}"' in USED


def test_every_text_that_a_page_says_is_there() -> None:
    said = set(re.findall(r"\bt\(\"([\w.]+)\"[,)]", USED))
    assert said
    assert said <= EN.keys()


@pytest.mark.parametrize("word", [*Sync, *Health])
def test_every_state_has_a_sign_of_its_own_and_a_chinese_word_beside_the_english_one(word: str) -> None:
    """Color alone says nothing to whoever does not see it."""
    sign, chinese = STATES[word]
    assert Words("en").state(word) == f"{sign} {word}"
    assert Words("zh").state(word) == f"{sign} {word} {chinese}"
    assert [other[0] for other in STATES.values()].count(sign) == 1


def test_every_action_of_a_plan_has_a_word() -> None:
    assert {f"action.{word}" for word in ACTION_WORDS.values()} <= EN.keys()


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "en-US,en;q=0.9,zh;q=0.8", "en"),
        ("", "de,fr;q=0.9", "en"),
        ("", "en;q=0.1, zh-TW;q=0.2", "zh"),
        ("", "zh;q=0, en;q=0.5", "en"),
        ("en", "zh", "en"),
        ("zh", "en", "zh"),
        ("xx", "zh", "zh"),
        ("", "zh;q=x,,;;q=,en", "en"),
        ("", "\x00" * 100_000, "en"),
    ],
)
def test_the_language_is_that_of_the_browser_unless_one_is_asked_for(asked: str, accepted: str, language: str) -> None:
    assert chosen(asked, accepted) == language


def test_money_and_times_in_both() -> None:
    en, zh = Words("en"), Words("zh")
    assert (en.rate("216"), zh.rate("216")) == ("216.00 CNY/h", "216.00 元/小时")
    assert (en.month("216"), zh.month("216")) == ("157,680.00 CNY a month", "每月 157,680.00 元")
    assert (en.cny(None), zh.cny(None)) == ("unknown", "未知")
    assert (en.more("-216"), zh.more(Decimal("216"))) == ("−216.00 CNY/h", "+216.00 元/小时")
    assert en.when("2026-11-26 16:00:49") == "2026-11-26 16:00:49 UTC"
    assert zh.when("2026-11-26 16:00:49") == "2026年11月26日 16:00:49 UTC"
    assert (en.when(""), zh.when("")) == ("never", "从未")
    assert (en.soon(75), zh.soon(75)) == ("in 1 min 15 s", "1 分 15 秒后")
    assert (en.soon(0.2), zh.soon(None)) == ("now", "")
