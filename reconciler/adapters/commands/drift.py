"""`reconciler drift`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

DRIFT = 2


@click.command()
@click.argument("which", nargs=-1, metavar="[KIND/NAME]...")
@options.labels
@options.service
@click.option(
    "--allow",
    type=click.Choice(("vanished=all",)),
    help="Most of what is ours is gone at once, and truly was deleted.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 where there is drift.")
@options.output("text", "json", "yaml", "markdown", "junit")
@options.color
def drift(
    target: Target,
    which: tuple[str, ...],
    selector: tuple[str, ...],
    allow: str | None,
    detailed_exitcode: bool,
    output: str,
) -> int:
    """Show field by field what is no longer as last applied, who likely did it, and whether an apply corrects it.

    Of all that is ours, or of these documents. Sends only reads and changes nothing anywhere. What goes on by itself is
    progress, and no drift. Exits 3 where most of what is ours is gone at once: that is rather the wrong account.
    """
    from reconciler import engine
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.output import result
    from reconciler.plan import Choices
    from reconciler.render import drift as words
    from reconciler.state import live_rows

    with stack.opened(target) as opened:
        allowed = frozenset([("vanished", "all")] if allow else ())
        drifting = engine.drift(opened.session, Choices(allow=allowed))
        state, world = drifting.snapshot.state, drifting.snapshot.world
        wanted = {inventory.address_named(word, opened.session, state) for word in which}
        rows = [row for row in live_rows(state) if not wanted or row.slot.address in wanted]
        rows = inventory.labelled(rows, opened.session, selector)
        keys = {row.key for row in rows}
        found = [one for one in drifting.found if one.row.key in keys]
        result(
            output,
            lambda: words.drift_json(opened.heading, found, rows, at=world.at),
            lambda width: words.drift_text(opened.heading, found, rows, width),
            markdown=lambda: words.drift_markdown(opened.heading, found, rows),
            junit=lambda: words.drift_junit(found, rows),
        )
    return DRIFT if detailed_exitcode and found else 0
