"""`reconciler destroy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.adapters import options
from reconciler.adapters.options import Manner, Target

if TYPE_CHECKING:
    from reconciler.selection import Selectors


@click.command()
@options.service
@options.selection
@options.carrying_out
@options.output("text", "json")
@options.color
def destroy(
    target: Target,
    selectors: Selectors,
    manner: Manner,
    output: str,
) -> int:
    """Delete what the stack owns, users before what they use; what is Orphan stays, what is protected stops it.

    Only objects that this stack made and recorded are touched.
    """
    from reconciler.adapters import stack
    from reconciler.adapters.carry_out import carry_out
    from reconciler.plan import Choices

    with stack.opened(target, writes=True) as opened:
        return carry_out(
            opened,
            Choices(destroy=True, selectors=selectors),
            manner,
            output=output,
            question="Destroy all of it?",
        )
