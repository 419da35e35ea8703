"""`reconciler cancel`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Manner, Target


@click.command()
@click.argument("address", metavar="KIND/NAME")
@options.service
@options.allow
@options.carrying_out
@options.output("text", "json")
@options.color
def cancel(
    target: Target,
    address: str,
    allow: tuple[tuple[str, str], ...],
    manner: Manner,
    output: str,
) -> int:
    """Stop the run of a fine-tune job that is under way. What was trained until then is billed.

    Its slot then shows the failure, and nothing is made in its place until `retry` or a changed input. A run that is
    ready before the service has stopped it is put in use all the same (exit 5).
    """
    from reconciler import engine, money
    from reconciler.adapters import inventory, stack, terminal
    from reconciler.adapters.carry_out import carry_out
    from reconciler.plan import Choices
    from reconciler.render.cost import billed_text

    with stack.opened(target, writes=True) as opened:
        address, row = inventory.cancelable(address, opened.session, opened.session.store.load())
        code = carry_out(
            opened,
            Choices(allow=frozenset(allow)),
            manner,
            output=output,
            question="Cancel it?",
            cancel=address,
        )
        if code == 0 and output == "text":
            state, world = engine.look_around(opened.session)
            terminal.say(billed_text(row.id, money.bought(state, world.objects, opened.session.collections)))
    return code
