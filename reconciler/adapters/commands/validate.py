"""`reconciler validate`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.manifests
@options.output("text", "json")
@options.color
def validate(target: Target, output: str) -> int:
    """Check the manifests and the files they name. Needs no network and no key."""
    from reconciler.adapters import stack, terminal
    from reconciler.errors import ManifestError
    from reconciler.render.data import json_text
    from reconciler.render.errors import problem_json
    from reconciler.render.words import count

    try:
        project = stack.read(target)
    except ManifestError as error:
        if output == "text":
            raise
        terminal.say(json_text({"ok": False, "problems": [problem_json(one) for one in error.problems]}))
        return error.exit_code
    documents = len(project.documents) + (project.stack is not None)
    if output == "json":
        warnings = [problem_json(one) for one in project.warnings]
        terminal.say(json_text({"ok": True, "documents": documents, "warnings": warnings}))
    else:
        terminal.say(f"{count(documents, 'document')}, ok")
    return 0
