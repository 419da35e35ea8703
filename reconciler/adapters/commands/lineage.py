"""`reconciler lineage`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("word", metavar="KIND/NAME|ID|HASH")
@options.service
@options.output("text", "json", "yaml")
@options.color
def lineage(target: Target, word: str, output: str) -> int:
    """From data to the deployed model and back: what something was made from, and what was made from it.

    WORD is an address, an id of the service, a model, or the md5 of an upload or its beginning. What was superseded or
    is gone is told as far as the record goes.
    """
    from reconciler.adapters import stack
    from reconciler.adapters.output import result
    from reconciler.errors import UsageError
    from reconciler.lineage import lineage as all_of
    from reconciler.render.lineage import lineage_json, lineage_text
    from reconciler.wording import did_you_mean, shown

    with stack.opened(target) as opened:
        known = all_of(opened.session.store.load())
    found = known.find(word)
    if not found:
        names = {name for node in known.nodes.values() for name in (node.id, node.address) if name}
        raise UsageError(f"the record knows nothing of {shown(word)}", hint=did_you_mean(word, names))
    result(output, lambda: lineage_json(known, found), lambda width: lineage_text(known, found, width))
    return 0
