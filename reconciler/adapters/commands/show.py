"""`reconciler show`."""

from __future__ import annotations

import click

from reconciler.adapters import options


@click.command()
@click.argument("plan_file", metavar="PLANFILE", type=click.Path())
@options.output("text", "json", "yaml", "markdown")
@options.color
def show(plan_file: str, output: str) -> int:
    """Show a plan that `plan --out` saved: the same page, offline and without a key.

    A file that was altered or cut off is refused. Whether the plan can still be applied is known only at apply.
    """
    from reconciler import catalogue, engine, kinds
    from reconciler.adapters import connection, planfile
    from reconciler.adapters.output import result
    from reconciler.errors import BrokenPlan
    from reconciler.render.plan import Heading, plan_markdown
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
        endpoint=connection.name_of(bound.stamp.endpoint),
        emulated=connection.is_emulated(bound.stamp.endpoint),
        profile=bound.profile,
        prices_of=bound.prices_of,
        workspace=bound.stamp.workspace,
        declared=bound.declared,
    )

    def page(width: int | None) -> str:
        return saved_text(saved, heading, collections, file=plan_file, at=engine.today(), width=width)

    result(
        output,
        lambda: plan_json(heading, saved.plan, collections, saved=saved),
        page,
        markdown=lambda: plan_markdown(heading, saved.plan, collections, page(None)),
    )
    return 0
