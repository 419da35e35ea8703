"""`reconciler pause`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("which", nargs=-1, metavar="[KIND/NAME ...]")
@click.option("--reason", default="", metavar="TEXT", help="Why; the state keeps it, and every plan says it.")
@options.lock_timeout
@options.service
@options.output("text", "json", "yaml")
@options.color
def pause(target: Target, which: tuple[str, ...], reason: str, lock_timeout: float, output: str) -> int:
    """Hold back objects, or without a name the whole stack, until `resume`: nothing is planned for what is paused.

    What is under way on the service already goes on, and is billed: `cancel` stops a run. While the whole stack is
    paused, `apply` and `destroy` are refused (exit 3).
    """
    from reconciler import engine, surgery
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.output import result
    from reconciler.render.record import paused_text, pauses_json

    with stack.opened(target, writes=True) as opened:
        session = opened.session
        state = session.store.load()
        held = [inventory.address_named(word, session, state) for word in which] or [""]
        events = engine.operate(
            session, lambda state, deed: surgery.pause(state, held, deed), reason=reason, lock_timeout_s=lock_timeout
        )
        after = session.store.load()
        going = [row for row in engine.under_way(after) if "" in held or row.slot.address in held]
    result(
        output,
        lambda: pauses_json(events, after, going),
        lambda width: paused_text([after.pauses[address] for address in held], events, going, width),
    )
    return 0
