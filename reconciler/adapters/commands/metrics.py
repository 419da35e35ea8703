"""`reconciler metrics`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("address", metavar="KIND/NAME")
@options.service
@options.output("text", "json", "yaml", "csv", "svg")
@options.color
def metrics(target: Target, address: str, output: str) -> int:
    """The loss of a fine-tune job, read from its log: of the run under way if there is one, else of the one in use."""
    from reconciler import engine
    from reconciler.adapters import inventory, stack, terminal
    from reconciler.adapters.output import result
    from reconciler.render import chart

    with stack.opened(target) as opened:
        session, state = opened.session, opened.session.store.load()
        address, row = inventory.logged(address, session, state)
        measured = engine.measured(session, row)
    title = f"{address} {row.id}"
    result(
        output,
        lambda: chart.measured_json(address, row.id, measured),
        lambda width: chart.chart_text(title, measured, width, plain=not terminal.draws()),
        csv=lambda: chart.csv_text(measured),
        svg=lambda: chart.svg_text(title, measured),
    )
    return 0
