"""The files that are made from the program. `python -m tests.pages` writes them anew; tests/test_pages.py compares."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from reconciler import catalogue
from reconciler.adapters.cli import GROUPS, cli
from reconciler.kinds import KINDS
from reconciler.render.data import json_text
from reconciler.render.reference import reference, table
from reconciler.render.schema import FILE, manifest_schema

REPOSITORY = Path(__file__).parent.parent
MADE = "<!-- Made by `python -m tests.pages` from the program itself: change the words there. -->\n\n"
OPENING = """# Commands

`reconciler COMMAND --help` prints the same. What each exit code means: [exit-codes.md](exit-codes.md).
"""


def pages() -> Mapping[str, str]:
    """Each file, by its path in the repository."""
    offered = catalogue.load().for_profile("2026")
    return {
        "docs/reference.md": MADE + reference(KINDS, offered),
        "docs/commands.md": MADE + "\n".join([OPENING, *commands()]),
        f"manifests/{FILE}": json_text(manifest_schema(KINDS, offered)) + "\n",
    }


def commands() -> Iterator[str]:
    top = click.Context(cli, info_name="reconciler")
    for title, names in GROUPS.items():
        yield f"## {title}\n"
        for name in names:
            command = cli.get_command(top, name)
            assert command is not None
            yield from described(command, click.Context(command, info_name=name, parent=top))


def described(command: click.Command, context: click.Context) -> Iterator[str]:
    """The command with its options, and every command below it."""
    pieces = [piece for piece in command.collect_usage_pieces(context) if not piece.startswith("[OPTIONS")]
    yield f"### `{' '.join([context.command_path, *pieces])}`\n\n{prose(command.help or '')}\n"
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    records = [found for option in options if (found := option.get_help_record(context))]
    rows = [(f"`{names}`", meaning) for names, meaning in records if "--help" not in names]
    if rows:
        yield table(("option", "meaning"), rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from described(below, click.Context(below, info_name=name, parent=context))


def prose(text: str) -> str:
    """Help as Markdown: what a terminal may not wrap is quoted."""
    paragraphs = inspect.cleandoc(text).partition("\f")[0].strip().split("\n\n")
    return "\n\n".join(
        f"```\n{part.removeprefix(chr(8)).strip()}\n```" if part.startswith("\b") else re.sub(r"\s*\n\s*", " ", part)
        for part in paragraphs
    )


if __name__ == "__main__":
    for name, text in pages().items():
        (REPOSITORY / name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")
