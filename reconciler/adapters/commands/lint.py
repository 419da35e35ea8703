"""`reconciler lint`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

if TYPE_CHECKING:
    from reconciler.render.lint import Linted

TOOL = "reconciler lint"
FORMATS = ("sft", "sft-image", "dpo", "cpt")
_ADDRESS = re.compile(r"[A-Z][A-Za-z]*/[a-z0-9-]+")


@click.command()
@click.argument("what", nargs=-1, metavar="[FILE | Dataset/NAME]...")
@options.manifests
@click.option("--format", type=click.Choice(FORMATS), help="How the rows of a FILE read.  [default: by its first rows]")
@click.option(
    "--profile",
    type=click.Choice(("2026", "dec-2024")),
    default="2026",
    show_default=True,
    help="The rules a FILE is held to; a Dataset is held to those of its stack.",
)
@options.output("text", "json", "yaml", "sarif", "junit")
@options.color
def lint(what: tuple[str, ...], target: Target, format: str | None, profile: str, output: str) -> int:
    """Check training data against every rule of docs/lint.md, and say what is in it.

    A FILE needs no manifest. Without arguments every Dataset of the manifests is checked. Exits 1 where there is an
    error. Needs no network and no key.
    """
    from reconciler.adapters.output import result
    from reconciler.render import forge
    from reconciler.render import lint as words
    from reconciler.render.data import json_text

    datasets = [one for one in what if _ADDRESS.fullmatch(one)]
    linted = [_file(one, format, profile) for one in what if one not in datasets]
    if datasets or not what:
        linted += _datasets(target, datasets)
    result(
        output,
        lambda: words.lint_json(linted),
        lambda width: words.lint_text(linted, width),
        sarif=lambda: json_text(forge.sarif(TOOL, words.findings(linted))),
        junit=lambda: forge.junit(TOOL, {one.name: list(words.findings([one])) for one in linted}),
    )
    return 1 if any(one.found.problems for one in linted) else 0


def _file(path: str, format: str | None, profile: str) -> Linted:
    from reconciler import catalogue
    from reconciler.data import describe, guess_format
    from reconciler.errors import Position
    from reconciler.files import FileRefused, Tree
    from reconciler.render.lint import Linted
    from reconciler.resource import Source

    known = catalogue.load().for_profile(profile)
    tree, name = Tree(Path(path).parent), Path(path).name
    try:
        guessed = None if format else guess_format(tree, name, known)
    except FileRefused:
        guessed = None  # it is refused once more, with its place
    wanted = format or guessed or "sft"
    how = "as asked for" if format else "by its first rows" if guessed else "for want of a row that tells"
    found = describe(tree, Source((name,), wanted, ()), known, at=Position(path, 1, 1))
    return Linted(path, f"{wanted}, {how}, profile {profile}", found)


def _datasets(target: Target, wanted: list[str]) -> Iterator[Linted]:
    from reconciler.adapters import manifests
    from reconciler.errors import UsageError
    from reconciler.render.lint import Linted
    from reconciler.wording import did_you_mean, shown

    known = manifests.described(target)
    for address in wanted:
        if address not in known:
            raise UsageError(f"no manifest declares data as {shown(address)}", hint=did_you_mean(address, known))
    for address in wanted or known:
        yield Linted(address, "", known[address]())
