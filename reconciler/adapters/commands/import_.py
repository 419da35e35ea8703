"""`reconciler import`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command("import")
@click.argument("address", metavar="KIND/NAME[:PART]")
@click.argument("remote_id", metavar="ID")
@options.reason
@options.service
@options.output("text", "json", "yaml")
@options.color
def import_(target: Target, address: str, remote_id: str, reason: str, output: str) -> int:
    """Record that what the manifests declare as KIND/NAME is the object ID, which somebody made by hand.

    Nothing changes on the service. Refused where what no call can change is not as declared, since the next plan would
    pay for another; what can be changed, the next apply changes.
    """
    from reconciler import engine, surgery
    from reconciler.adapters import stack
    from reconciler.adapters.output import result
    from reconciler.render.record import done_json, done_text

    slot = surgery.slot_named(address)
    with stack.opened(target, writes=True) as opened:
        events = engine.take_in(opened.session, slot, remote_id, reason=reason)
    result(output, lambda: done_json(events), lambda width: done_text(events, width))
    return 0
