"""`reconciler describe`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("address", metavar="KIND/NAME")
@options.service
@options.output("text", "json", "yaml")
@options.color
def describe(target: Target, address: str, output: str) -> int:
    """Everything known of one object: what is declared, what was made, the journal, what an apply would do."""
    from reconciler import engine
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.output import result
    from reconciler.plan import Choices
    from reconciler.render.plan_json import plan_json
    from reconciler.render.state import describe_json, describe_text

    with stack.opened(target) as opened:
        session, snapshot = opened.session, engine.plan(opened.session, Choices())
        address = inventory.address_named(address, session, snapshot.state)
        document = next((one for one in session.project.documents if one.address == address), None)
        parts = session.project.parts.get(address, ())
        lengths = next((part.lengths for part in parts if part.lengths), None)
        items = inventory.live(session, snapshot, address) + inventory.retired(session, snapshot, address)
        planned = plan_json(opened.heading, snapshot.plan, session.collections)["operations"]
        changes = [operation for operation in planned if operation["address"] == address]
        about = (address, document, items, snapshot.state)
        result(
            output,
            lambda: describe_json(*about, changes, lengths),
            lambda width: describe_text(*about, snapshot.plan, session.collections, width, lengths),
        )
    return 0
