"""What was made from the program is still what the program would make."""

from __future__ import annotations

import pytest

from reconciler.adapters.cli import COMMANDS
from reconciler.kinds import KINDS
from reconciler.render.explain import EXIT_CODES, SHARED
from tests.pages import REPOSITORY, pages

MADE = pages()


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_made_file_is_up_to_date(name: str) -> None:
    """It is renewed by `python -m tests.pages`."""
    assert (REPOSITORY / name).read_text(encoding="utf-8") == MADE[name], "python -m tests.pages"


def test_the_reference_holds_every_kind_and_exit_code() -> None:
    text = MADE["docs/reference.md"]
    assert all(f"\n## {name}\n" in text for name in (*KINDS, *SHARED))
    assert all(f"\n| {code} | {meaning} |\n" in text for code, meaning in EXIT_CODES.items())


def test_every_command_has_its_section() -> None:
    text = MADE["docs/commands.md"]
    assert all(f"\n### `reconciler {name}" in text for name in COMMANDS)
    assert "\n### `reconciler state mv FROM TO`\n" in text, "and the commands below it"
    options = [line for line in text.splitlines() if line.startswith("| `-")]
    assert "| `-o, --output [text\\|json\\|yaml\\|markdown]` | How it is printed.  [default: text] |" in options
    assert [line for line in options if line.endswith("|  |")] == [], "an option without a word of help"
