"""`reconciler status`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.labels
@options.service
@options.output("text", "json", "yaml", "markdown")
@options.color
def status(target: Target, selector: tuple[str, ...], output: str) -> int:
    """Every object of the stack as the service shows it now, what it costs an hour, and what is not settled."""
    from reconciler import engine
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.output import result
    from reconciler.plan import Choices
    from reconciler.render.state import status_json, status_markdown, status_text

    with stack.opened(target) as opened:
        snapshot = engine.plan(opened.session, Choices())
        items = inventory.labelled(inventory.live(opened.session, snapshot), opened.session, selector)
        about = (opened.heading, items, snapshot.state, snapshot.plan)
        result(
            output,
            lambda: status_json(*about),
            lambda width: status_text(*about, width),
            markdown=lambda: status_markdown(*about),
        )
    return 0
