"""`reconciler plan`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

CHANGES = 2


@click.command()
@options.service
@options.choices
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 where there are changes.")
@options.output("text", "json", "yaml")
@options.color
def plan(
    target: Target,
    prune: bool,
    replace: tuple[str, ...],
    allow: tuple[tuple[str, str], ...],
    detailed_exitcode: bool,
    output: str,
) -> int:
    """Show what an apply would do, why, in which order, and what it would cost. Changes nothing anywhere."""
    from reconciler import engine
    from reconciler.adapters import stack, terminal
    from reconciler.plan import Choices
    from reconciler.render.data import json_text, yaml_text
    from reconciler.render.plan_json import plan_json

    with stack.opened(target) as opened:
        stack.check_addresses(opened.session.project, (*replace, *options.addresses(allow)))
        choices = Choices(prune=prune, replace=frozenset(replace), allow=frozenset(allow))
        snapshot = engine.plan(opened.session, choices)
        if output == "text":
            terminal.say(opened.plan_page(snapshot, width=terminal.width()))
        else:
            data = plan_json(opened.heading, snapshot.plan, opened.session.collections)
            terminal.say(json_text(data) if output == "json" else yaml_text(data))
    return CHANGES if detailed_exitcode and snapshot.plan.changes else 0
