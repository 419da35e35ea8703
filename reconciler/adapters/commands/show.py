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
    from reconciler import engine
    from reconciler.adapters import planfile
    from reconciler.adapters.output import result
    from reconciler.render.plan import plan_markdown
    from reconciler.render.plan_json import plan_json
    from reconciler.render.saved import saved_text

    saved, heading, collections = planfile.explained(plan_file)

    def page(width: int | None) -> str:
        return saved_text(saved, heading, collections, file=plan_file, at=engine.today(), width=width)

    result(
        output,
        lambda: plan_json(heading, saved.plan, collections, saved=saved),
        page,
        markdown=lambda: plan_markdown(heading, saved.plan, collections, page(None)),
    )
    return 0
