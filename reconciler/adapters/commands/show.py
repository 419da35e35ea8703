"""`reconciler show`."""

from __future__ import annotations

import click

from reconciler.adapters import options


@click.command()
@click.argument("plan_file", metavar="PLANFILE", type=click.Path())
@options.output("text", "json", "yaml")
@options.color
def show(plan_file: str, output: str) -> int:
    """Show a plan that `plan --out` saved: the same page, offline and without a key.

    A file that was altered or cut off is refused. Whether the plan can still be applied is known only at apply.
    """
    from reconciler import catalogue, engine, kinds
    from reconciler.adapters import connection, planfile, terminal
    from reconciler.errors import BrokenPlan
    from reconciler.render.data import json_text, yaml_text
    from reconciler.render.plan import Heading
    from reconciler.render.plan_json import plan_json
    from reconciler.render.saved import saved_text
    from reconciler.wording import shown

    saved = planfile.load(plan_file)
    bound, prices = saved.bound, catalogue.load()
    collections = kinds.collections(prices.for_profile(bound.profile)) if bound.profile in prices.profiles else {}
    if not {op.collection for op in saved.plan.operations} <= collections.keys():
        raise BrokenPlan(f"{shown(plan_file)} is of a profile or of collections that this version does not know")
    heading = Heading(
        stack=bound.stamp.stack,
        environment=bound.stamp.environment,
        endpoint=connection.name_of(bound.stamp.endpoint),
        emulated=connection.is_emulated(bound.stamp.endpoint),
        profile=bound.profile,
        prices_of=bound.prices_of,
        workspace=bound.stamp.workspace,
        declared=bound.declared,
    )
    if output == "text":
        page = saved_text(saved, heading, collections, file=plan_file, at=engine.today(), width=terminal.width())
        terminal.say(page)
    else:
        data = plan_json(heading, saved.plan, collections, saved=saved)
        terminal.say(json_text(data) if output == "json" else yaml_text(data))
    return 0
