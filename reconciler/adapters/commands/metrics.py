"""`reconciler metrics`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("address", metavar="KIND/NAME")
@options.service
@options.output("text", "csv", "svg", "json")
@options.color
def metrics(target: Target, address: str, output: str) -> int:
    """The loss of a fine-tune job, read from its log: of the run under way if there is one, else of the one in use."""
    from reconciler import engine
    from reconciler.adapters import inventory, stack, terminal
    from reconciler.render import chart
    from reconciler.render.data import json_text

    with stack.opened(target) as opened:
        session, state = opened.session, opened.session.store.load()
        address, row = inventory.logged(address, session, state)
        measured = engine.measured(session, row)
    title = f"{address} {row.id}"
    match output:
        case "csv":
            terminal.say(chart.csv_text(measured))
        case "svg":
            terminal.say(chart.svg_text(title, measured))
        case "json":
            terminal.say(json_text(chart.measured_json(address, row.id, measured)))
        case _:
            terminal.say(chart.chart_text(title, measured, terminal.width(), plain=not terminal.draws()))
    return 0
