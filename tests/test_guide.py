"""The guide as a reader follows it. Whoever changes what a command prints sees here whom it was told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.walked import Reader, Step, blocks, same, steps, without_comments

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = (DOCS / "guide.md").read_text(encoding="utf-8")


def test_the_guide_is_as_its_reader_finds_it(tmp_path: Path) -> None:
    Reader(tmp_path / "reader").checks(GUIDE)


def test_the_guide_is_the_same_in_both_languages() -> None:
    """What is typed, written and shown; so carrying out one of them is enough."""
    other = (DOCS / "guide.zh.md").read_text(encoding="utf-8")
    assert [*map(without_comments, blocks(other))] == [*map(without_comments, blocks(GUIDE))]
    sections = [[line for line in text.splitlines() if line.startswith("## ")] for text in (GUIDE, other)]
    assert len(sections[0]) == len(sections[1])


def test_a_reader_writes_files_and_gives_commands_in_order() -> None:
    page = "```yaml\n# a/b.yaml: empty\n```\n```console\n$ one \\\n  two\nshown\n$ three\n```\n```sh\nfour\n```\n"
    assert [*steps(page)] == [
        Step(2, file="a/b.yaml", text="# a/b.yaml: empty\n"),
        Step(5, command="one \\\n  two", shown="shown\n"),
        Step(8, command="three"),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "is_so"),
    [
        ("ready\n", "ready\n", True),
        ("ready\n", "not ready\n", False),
        ("ready\n", "ready\n[exit 1]\n", False),
        ("a\n...\nc\n", "a\nb\nc\n", True),
        ("a\n...\nc\n", "a\nb\nc\nd\n", False),
        ("...\nc\n", "c\n", True),
        (
            "made 2026-11-26 16:13 UTC by ft-202611262113-ab12\n",
            "made 2027-01-02 03:04 UTC by ft-202701020304-zz99\n",
            True,
        ),
        ("216.00 CNY/h\n", "217.00 CNY/h\n", False),
        ("a long line\n", "a long\n  line\n", True),
    ],
)
def test_a_page_is_compared_with_what_was_printed(shown: str, printed: str, is_so: bool) -> None:
    """Else a walk through the guide could not fail, or would each time."""
    assert same(shown, printed) is is_so
