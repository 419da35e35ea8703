"""`reconciler approve`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("digest", required=False)
@options.approval
@options.service
@options.output("text", "json", "yaml")
@options.color
def approve(target: Target, digest: str | None, auto_approve: bool, output: str) -> int:
    """Agree to what a controller proposed under DIGEST; its next look does it. Without DIGEST, list what waits.

    The yes holds for exactly those operations at no higher a price, once. It is recorded with who gave it and when.
    DIGEST may be cut short to its first 8 characters. The list needs no key.
    """
    import socket

    from reconciler import approvals, engine
    from reconciler.adapters import manifests, operator, stack, terminal
    from reconciler.adapters.output import result
    from reconciler.render.controller import approved_text, proposal_json, proposal_text, proposals_text

    if digest is None:
        waiting = approvals.open_proposals(engine.recorded_state(manifests.read(target)).approvals)
        data = {"proposals": [proposal_json(one) for one in waiting]}
        result(output, lambda: data, lambda _: proposals_text(waiting))
        return 0
    with stack.opened(target, writes=True) as opened:
        proposed = approvals.find(opened.session.store.load().approvals, digest)
        terminal.mention(proposal_text(proposed))
        agreed = terminal.agreed("Approve it?", approved=auto_approve)
        if agreed:
            proposed = engine.agree(opened.session, proposed.digest, by=f"{operator.name()} on {socket.gethostname()}")
    if agreed or output != "text":
        done = {"done": agreed, "proposal": proposal_json(proposed)}
        result(output, lambda: done, lambda _: approved_text(proposed))
    return 0 if agreed else 3
