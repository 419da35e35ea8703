"""`reconciler schema`."""

from __future__ import annotations

import click


@click.command()
@click.option("--plan", "of_plan", is_flag=True, help="The schema of `plan -o json` instead.")
def schema(of_plan: bool) -> None:
    """The JSON Schema of the manifests. Save it, and name it in the first line of a manifest:

    \b
    # yaml-language-server: $schema=reconciler.schema.json
    """
    from reconciler.kinds import KINDS
    from reconciler.render.data import json_text
    from reconciler.render.plan_json import plan_schema
    from reconciler.render.schema import manifest_schema

    click.echo(json_text(plan_schema() if of_plan else manifest_schema(KINDS)))
