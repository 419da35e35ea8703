"""`reconciler get`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("which", required=False, metavar="[KIND | KIND/NAME]")
@options.labels
@options.service
@options.output("text", "json", "yaml", "name")
@options.color
def get(target: Target, which: str | None, selector: tuple[str, ...], output: str) -> int:
    """A table of objects: all of them, those of a KIND, or those of one document."""
    from reconciler import engine
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.output import result
    from reconciler.plan import Choices
    from reconciler.render.state import item_json, table_text
    from reconciler.render.words import clean

    with stack.opened(target) as opened:
        snapshot = engine.plan(opened.session, Choices())
        if which and "/" in which:
            items = inventory.live(
                opened.session, snapshot, inventory.address_named(which, opened.session, snapshot.state)
            )
        else:
            kind = f"{inventory.kind_named(which)}/" if which else ""
            items = [one for one in inventory.live(opened.session, snapshot) if one.slot.address.startswith(kind)]
        items = inventory.labelled(items, opened.session, selector)
        result(
            output,
            lambda: {"items": [item_json(one) for one in items]},
            lambda width: table_text(items, width),
            name=lambda: "\n".join(clean(one.slot) for one in items),
        )
    return 0
