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
    from reconciler import engine
    from reconciler.adapters import planfile, terminal
    from reconciler.render.data import json_text, yaml_text
    from reconciler.render.plan_json import plan_json
    from reconciler.render.saved import saved_text

    saved, heading, collections = planfile.explained(plan_file)
    if output == "text":
        page = saved_text(saved, heading, collections, file=plan_file, at=engine.today(), width=terminal.width())
        terminal.say(page)
    else:
        data = plan_json(heading, saved.plan, collections, saved=saved)
        terminal.say(json_text(data) if output == "json" else yaml_text(data))
    return 0
