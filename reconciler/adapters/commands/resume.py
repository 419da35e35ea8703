"""`reconciler resume`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("which", nargs=-1, metavar="[KIND/NAME ...]")
@options.reason
@options.lock_timeout
@options.service
@options.output("text", "json", "yaml")
@options.color
def resume(target: Target, which: tuple[str, ...], reason: str, lock_timeout: float, output: str) -> int:
    """End the pause of objects, or without a name that of the whole stack. Does nothing else: `plan` shows what is due.

    An object that was paused by its own name stays so when the stack is resumed.
    """
    from reconciler import engine, surgery
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.output import result
    from reconciler.render.record import pauses_json, resumed_text

    with stack.opened(target, writes=True) as opened:
        session = opened.session
        state = session.store.load()
        ended = [inventory.address_named(word, session, state) for word in which] or [""]
        events = engine.operate(
            session, lambda state, deed: surgery.resume(state, ended, deed), reason=reason, lock_timeout_s=lock_timeout
        )
        after = session.store.load()
    result(output, lambda: pauses_json(events, after), lambda width: resumed_text(events, after, width))
    return 0
