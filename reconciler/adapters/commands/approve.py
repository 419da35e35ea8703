"""`reconciler approve`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("digest")
@options.approval
@options.service
@options.color
def approve(target: Target, digest: str, auto_approve: bool) -> int:
    """Agree to what a controller proposed under DIGEST; its next look does it.

    The yes holds for exactly those operations at no higher a price, once. It is recorded with who gave it and when.
    """
    import getpass
    import socket

    from reconciler import approvals, engine
    from reconciler.adapters import stack, terminal
    from reconciler.render.controller import proposal_text

    with stack.opened(target, writes=True) as opened:
        proposed = approvals.find(opened.session.store.load().approvals, digest)
        terminal.mention(proposal_text(proposed))
        if not terminal.agreed("Approve it?", approved=auto_approve):
            return 3
        by = f"{getpass.getuser()} on {socket.gethostname()}"
        agreed = engine.agree(opened.session, proposed.digest, by=by)
    terminal.say(f"approved by {agreed.by} at {agreed.approved_at} UTC")
    return 0
