"""The reference as Markdown: every kind with every field, and what else can be explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler.catalogue import ProfileCatalogue
from reconciler.render.explain import CHOSEN, SHARED, Entry, Pairs, entry, exit_codes
from reconciler.resource import API_VERSION, Spec

_OPENING = f"""# Reference

Every document has `apiVersion: {API_VERSION}`, `kind`, `metadata` and `spec`, and may have `lifecycle`. A field that
is not written is not ours: neither compared nor sent. Money is CNY.

The last column says what a change of a field comes to: it is *changed in place*, or *a new object replaces it*, or it
is *ours alone, never sent*; what is *{CHOSEN}* may not be written. `reconciler explain KIND.FIELD` says the same.
"""


def reference(kinds: Mapping[str, type[Spec]], profile: ProfileCatalogue) -> str:
    """The whole page."""
    sections = [_section(entry([name], kinds, profile), "##") for name in {**kinds, **SHARED}]
    return "\n".join([_OPENING, *sections, "## Exit codes\n", table(("code", "meaning"), exit_codes().items())])


def entry_markdown(one: Entry) -> str:
    """A kind or field with everything below it."""
    return _section(one, "#")


def pairs_markdown(rows: Pairs) -> str:
    return table(("name", "meaning"), rows.items())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of which nothing can end a cell."""
    lines = (header, ["---"] * len(header), *rows)
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _section(one: Entry, heading: str) -> str:
    paragraphs = [f"{heading} {one.name}", *(" ".join(part.split()) for part in one.about.split("\n\n"))]
    if one.type:
        paragraphs.append(", ".join(filter(None, (f"`{one.type}`", _default(one), one.change))))
    if one.fields:
        rows = [_row(field, len(one.path)) for field in one.below()]
        paragraphs.append(table(("field", "what it is", "type", "default", "when changed"), rows).rstrip("\n"))
    if one.deletion:
        paragraphs.append(f"`deletionPolicy` unless written: `{one.deletion}`")
    return "\n\n".join(paragraphs) + "\n"


def _row(one: Entry, depth: int) -> tuple[str, ...]:
    return (f"`{'.'.join(one.path[depth:])}`", " ".join(one.about.split()), f"`{one.type}`", _default(one), one.change)


def _default(one: Entry) -> str:
    if one.default is not None:
        return f"`{one.default}`"
    return "required" if one.required and one.change != CHOSEN else ""
