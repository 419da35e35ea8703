"""`reconciler schema`."""

from __future__ import annotations

import click


@click.command()
@click.option("--plan", "of_plan", is_flag=True, help="The schema of `plan -o json` instead.")
def schema(of_plan: bool) -> None:
    """The JSON Schema of the manifests, for editors. Save it beside them as reconciler.schema.json, and name it in the
    first line of each document, also after a `---`:

    \b
    # yaml-language-server: $schema=reconciler.schema.json
    """
    from reconciler import catalogue
    from reconciler.kinds import KINDS
    from reconciler.render.data import json_text
    from reconciler.render.plan_json import plan_schema
    from reconciler.render.schema import manifest_schema

    keys = catalogue.load().for_profile("2026")  # of hyper-parameters: those of every profile
    click.echo(json_text(plan_schema() if of_plan else manifest_schema(KINDS, keys)))
