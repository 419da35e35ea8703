"""`reconciler discover`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.option("--billable", is_flag=True, help="Only what costs something an hour, and uploads that nothing refers to.")
@options.service
@options.output("text", "json", "yaml", "markdown")
@options.color
def discover(target: Target, billable: bool, output: str) -> int:
    """What the account holds that is not ours, costs something needlessly, or serves nothing. Changes nothing.

    Whether anybody calls a deployment the service does not tell, so no deployment in use is ever called idle.
    """
    from reconciler import engine
    from reconciler.adapters import stack
    from reconciler.adapters.output import result
    from reconciler.discover import UNREFERENCED, silent
    from reconciler.discover import discover as found_in
    from reconciler.render.discover import finds_json, finds_markdown, finds_text

    with stack.opened(target) as opened:
        session = opened.session
        state, world = engine.look_around(session)
        found = found_in(session.desired, state, world, session.collections)
        if billable:
            found = tuple(one for one in found if one.billable or one.sort == UNREFERENCED)
        unseen = silent(world, session.collections)
        result(
            output,
            lambda: finds_json(opened.heading, found, silent=unseen),
            lambda width: finds_text(opened.heading, found, silent=unseen, width=width),
            markdown=lambda: finds_markdown(opened.heading, found, silent=unseen),
        )
    return 0
