"""`reconciler destroy`."""

from __future__ import annotations

from typing import Literal

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.service
@options.carrying_out
@options.output("text", "json")
@options.color
def destroy(
    target: Target,
    auto_approve: bool,
    wait: Literal["ready", "created", "none"],
    timeout: float | None,
    parallelism: int,
    lock_timeout: float,
    output: str,
) -> int:
    """Delete what the stack owns, users before what they use; what is Orphan stays, what is protected stops it.

    Only objects that this stack made and recorded are touched.
    """
    from reconciler.adapters import stack
    from reconciler.adapters.carry_out import carry_out
    from reconciler.apply import Terms
    from reconciler.plan import Choices

    with stack.opened(target, writes=True) as opened:
        return carry_out(
            opened,
            Choices(destroy=True),
            Terms(wait=wait, timeout_s=timeout, parallelism=parallelism),
            output=output,
            approved=auto_approve,
            question="Destroy all of it?",
            lock_timeout_s=lock_timeout,
        )
