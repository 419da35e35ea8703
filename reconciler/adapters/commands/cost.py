"""`reconciler cost`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.service
@options.output("text", "json", "yaml", "markdown")
@options.color
def cost(target: Target, output: str) -> int:
    """What runs by the hour and the month, what was bought so far, and what the declared state would cost."""
    from reconciler import engine, money
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.output import result
    from reconciler.plan import Choices
    from reconciler.render.cost import costs, costs_json, costs_markdown, costs_text

    with stack.opened(target) as opened:
        session, snapshot = opened.session, engine.plan(opened.session, Choices())
        items = [*inventory.live(session, snapshot), *inventory.left_running(session, snapshot)]
        runs = money.bought(snapshot.state, snapshot.world.objects, session.collections)
        told = costs(items, runs, session.desired, snapshot.plan, session.collections)
        result(
            output,
            lambda: costs_json(opened.heading, told),
            lambda width: costs_text(opened.heading, told, width),
            markdown=lambda: costs_markdown(opened.heading, told),
        )
    return 0
