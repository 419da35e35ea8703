"""`reconciler validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

if TYPE_CHECKING:
    from reconciler.errors import Problem
    from reconciler.project import Project

TOOL = "reconciler validate"


@click.command()
@options.manifests
@options.output("text", "json", "yaml", "sarif", "junit")
@options.color
def validate(target: Target, output: str) -> int:
    """Check the manifests and the files they name. Needs no network and no key."""
    from reconciler.adapters import manifests
    from reconciler.adapters.output import result
    from reconciler.errors import ManifestError
    from reconciler.findings import Level
    from reconciler.render import forge
    from reconciler.render.data import json_text
    from reconciler.render.errors import validated_json
    from reconciler.render.words import count

    project: Project | None = None
    problems: tuple[Problem, ...] = ()
    try:
        project = manifests.read(target)
    except ManifestError as error:
        if output == "text":
            raise
        problems = error.problems
    documents = [*project.documents, *([project.stack] if project.stack else [])] if project else []
    warnings = project.warnings if project else ()
    found = [*((Level.ERROR, one) for one in problems), *((Level.WARNING, one) for one in warnings)]
    result(
        output,
        lambda: validated_json(len(documents), problems, warnings),
        lambda width: f"{count(len(documents), 'document')}, ok",
        sarif=lambda: json_text(forge.sarif(TOOL, found)),
        junit=lambda: forge.junit(TOOL, forge.by_file((one.position().file for one in documents), found)),
    )
    return 1 if problems else 0
