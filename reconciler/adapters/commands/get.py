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
    from reconciler.adapters import inventory, stack, terminal
    from reconciler.plan import Choices
    from reconciler.render.data import json_text, yaml_text
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
        match output:
            case "text":
                terminal.say(table_text(items, terminal.width()))
            case "name":
                terminal.say("\n".join(clean(one.slot) for one in items))
            case _:
                data = {"items": [item_json(one) for one in items]}
                terminal.say(json_text(data) if output == "json" else yaml_text(data))
    return 0
