"""`reconciler logs`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("address", metavar="KIND/NAME")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines to begin with.")
@options.service_without_f
@options.color
def logs(target: Target, address: str, follow: bool, tail: int | None) -> int:
    """The log of a fine-tune job: of the run under way if there is one, else of the one in use.

    As in kubectl, -f follows here; name the manifests with --file.
    """
    import time

    from reconciler import engine
    from reconciler.adapters import inventory, stack, terminal
    from reconciler.render.words import clean
    from reconciler.resource import Phase

    with stack.opened(target) as opened:
        session, state = opened.session, opened.session.store.load()
        _, row = inventory.logged(address, session, state)
        collection = session.collections[row.collection]
        lines = list(engine.whole_log(session, row))
        for line in lines[-tail:] if tail else [] if tail == 0 else lines:
            terminal.say(clean(line, 2000))
        told, under_way = len(lines), follow
        while under_way:
            seen = engine.read(session, row)
            under_way = seen is not None and seen.phase in (Phase.PENDING, Phase.UNKNOWN)
            while more := engine.logs(session, row, told):
                told += len(more)
                terminal.say("\n".join(clean(line, 2000) for line in more))
            if under_way:
                time.sleep(max(0.5, collection.poll_s[0] / session.hurry))
    return 0
