"""What a forge makes of untrusted text, by a parser of its Markdown: it is shown, and nothing of it is obeyed."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.discover import Find
from reconciler.plan import Plan, Totals
from reconciler.render.cost import Costs, costs_markdown
from reconciler.render.discover import finds_markdown
from reconciler.render.markdown import BLOCK_BYTES, ROWS_MAX, escaped, fenced, points, table
from reconciler.render.plan import Heading, plan_markdown
from reconciler.render.state import Item, status_markdown
from reconciler.resource import Observed, Phase, Price, Slot
from reconciler.state import Owned, Role, State

FORGE = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ORDERS = (
    "@team", "a@b.example", "#12", "!12", "owner/repo#1", "[x](http://e.example)", "![x](http://e.example/p.png)",
    "<img src=x onerror=y>", "<!-- reconciler -->", "http://e.example", "www.e.example", "a|b", r"a\|b", r"a\\|b", "`",
    "``` x", "a ``b`` c", "`a`", "$x$", ":tada:", "**b**", "_i_", "~~s~~", "# head", "- item", "1. item", "---", "> q",
    "/close", "%12", "~label", "&epic", "930386c9e8b7", "GH-12", "\\", "\x1b[31mred", "a\nb", "‮abc", "[ ] todo",
)  # fmt: skip
ANYTHING = st.one_of(st.sampled_from(ORDERS), st.text(max_size=30), st.text(alphabet="`|\\ a<[]()!#@-\n", max_size=30))


def shown(markdown: str) -> tuple[set[str], list[str]]:
    """The sorts of token that the parser finds, and the texts that stand for themselves, code or plain."""
    sorts, texts = set(), []
    for token in FORGE.parse(markdown):
        sorts.add(token.type)
        for child in token.children or ():
            sorts.add(child.type)
            texts += [child.content] if child.content else []
    return sorts, texts


@pytest.mark.parametrize("order", ORDERS)
def test_what_a_forge_would_obey_stands_in_a_code_span(order: str) -> None:
    assert shown(escaped(order))[0] == {"paragraph_open", "inline", "paragraph_close", "code_inline"}


@given(ANYTHING)
def test_one_line_of_anything_stays_one_line_of_text_or_code(text: str) -> None:
    sorts, texts = shown(escaped(text))
    assert sorts <= {"paragraph_open", "inline", "paragraph_close", "code_inline", "text"}
    assert len(texts) <= 1
    assert "\n" not in escaped(text)


def test_plain_words_and_figures_stay_as_they_are() -> None:
    """A page of nothing but code spans reads badly."""
    for words in (
        "FineTuneJob/support",
        "216.00",
        "1.1 % of it",
        "2026-11-26 08:00",
        "药品名（吉非替尼）",
        "qwen3.5-9b",
        "",
    ):
        assert escaped(words) == words
    assert escaped("two uploads, 1 paid run (3.67 CNY): ok") == "two uploads, 1 paid run (3.67 CNY): ok"


@given(st.lists(st.tuples(ANYTHING, ANYTHING), min_size=1, max_size=4))
@example([(r"a\|b", "||"), ("|", r"\\|")])
def test_a_table_keeps_its_shape_whatever_its_cells_hold(rows: list[tuple[str, str]]) -> None:
    tokens = [token.type for token in FORGE.parse(table(("ONE", "TWO"), rows))]
    assert tokens[0] == "table_open"
    assert tokens[-1] == "table_close"
    assert tokens.count("td_open") == 2 * len(rows)
    for line in table(("ONE", "TWO"), rows).splitlines():
        """The other reading of backslashes, cmark's: a pair of them escapes nothing that follows."""
        assert len(re.findall(r"\\.|(\|)", line)) - len(re.findall(r"\\.", line)) == 3


@given(st.lists(ANYTHING, max_size=5).map("\n".join))
@example("```\n````\n@all")
@example("``\x1b[0m``")
def test_nothing_inside_closes_a_fence(text: str) -> None:
    (token,) = FORGE.parse(fenced(text))
    assert token.type == "fence"
    assert token.info == "text"


def test_a_block_is_bounded_and_says_what_it_leaves_out() -> None:
    lines = fenced("0123456789\n" * 10_000).splitlines()
    assert BLOCK_BYTES - 100 < len("\n".join(lines).encode()) <= BLOCK_BYTES
    assert lines[-2] == f"… truncated: {10_001 - (len(lines) - 3):,} more lines"
    assert len(fenced("名" * 100, limit_bytes=50)) < 100


def test_of_a_long_table_the_first_rows_are_shown_and_the_others_counted() -> None:
    lines = table(("N",), ([number] for number in range(ROWS_MAX + 3))).splitlines()
    assert lines[-3:] == [f"| {ROWS_MAX - 1} |", "", "… truncated: 3 more rows"]


@pytest.mark.parametrize("evil", ORDERS)
def test_no_page_lets_a_forge_obey_what_came_from_outside(evil: str) -> None:
    """Names of the author's and words of the service's, on every page that a forge may show."""
    heading = Heading(evil, evil, False, evil, dt.date(2026, 1, 1), workspace=evil)
    row = Owned(Slot(evil, evil), "files", evil, Role.NEXT, "g", {}, failure=evil, applied_at=evil)
    one = Item(row.slot, row, Observed(evil, Phase.FAILED, evil, outputs={"created": evil}), Decimal(1))
    plan = Plan((), (), Totals(Decimal(0), Decimal(0), Decimal(0)))
    price = Price(hour=Decimal(1), basis=evil)
    found = Find("unmanaged", "files", evil, evil, evil, evil, Decimal(1))
    pages = {
        status_markdown(heading, [one], State(), plan): 1,
        costs_markdown(heading, Costs(((one, price),), (), (price,), plan)): 1,
        finds_markdown(heading, [found], silent=0): 1,
        plan_markdown(heading, plan, {}, f"{evil}\n{evil}"): 0,
        points([evil, evil]): 0,
    }
    plain = {
        "paragraph_open", "paragraph_close", "inline", "text", "code_inline", "fence", "strong_open", "strong_close",
        "table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close", "tr_open", "tr_close",
        "th_open", "th_close", "td_open", "td_close", "bullet_list_open", "bullet_list_close", "list_item_open",
        "list_item_close",
    }  # fmt: skip
    for page, tables in pages.items():
        assert shown(page)[0] <= plain
        tokens = FORGE.parse(page)
        assert sum(token.type == "table_open" for token in tokens) == tables
        words = [child.content for token in tokens for child in token.children or () if child.type == "text"]
        assert not any(re.search(r"[@#!~&$]\w|://|www\.|:\w+:", word) for word in words), words
