"""`reconciler status`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.labels
@options.service
@options.output("text", "json", "yaml")
@options.color
def status(target: Target, selector: tuple[str, ...], output: str) -> int:
    """Every object of the stack as the service shows it now, what it costs an hour, and what is not settled."""
    from reconciler import engine
    from reconciler.adapters import inventory, stack, terminal
    from reconciler.plan import Choices
    from reconciler.render.data import json_text, yaml_text
    from reconciler.render.state import item_json, status_text

    with stack.opened(target) as opened:
        snapshot = engine.plan(opened.session, Choices())
        items = inventory.labelled(inventory.live(opened.session, snapshot), opened.session, selector)
        if output == "text":
            terminal.say(status_text(opened.heading, items, snapshot.state, snapshot.plan, terminal.width()))
            return 0
        rate = snapshot.plan.totals.hour_before
        data = {
            "stack": opened.heading.stack,
            "environment": opened.heading.environment,
            "endpoint": opened.heading.endpoint,
            "objects": [item_json(one) for one in items],
            "hour_cny": None if rate is None else str(rate),
            "open_operations": [intent.op_id for intent in snapshot.state.open_intents()],
        }
        terminal.say(json_text(data) if output == "json" else yaml_text(data))
    return 0
