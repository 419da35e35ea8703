"""`reconciler orphans`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.service
@options.output("text", "json", "yaml")
@options.color
def orphans(target: Target, output: str) -> int:
    """What the account holds that carries a mark like ours and is recorded nowhere, and what to do. Changes nothing.

    Also the operations whose outcome is not known, and creations of the last day that were taken for not having
    happened. A mark tells that a reconciler made it, not which: another stack of the account has marks of that form.
    """
    from reconciler import engine
    from reconciler.adapters import stack
    from reconciler.adapters.output import result
    from reconciler.kinds import kind_in
    from reconciler.render.discover import orphans_json, orphans_text

    with stack.opened(target) as opened:
        told = engine.orphans(opened.session)
        result(
            output,
            lambda: orphans_json(opened.heading, told, kind_in),
            lambda width: orphans_text(opened.heading, told, kind_in, width=width),
        )
    return 0
