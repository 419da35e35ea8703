"""`reconciler apply`."""

from __future__ import annotations

from typing import Literal

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.service
@options.choices
@options.carrying_out
@options.output("text", "json")
@options.color
def apply(
    target: Target,
    prune: bool,
    replace: tuple[str, ...],
    allow: tuple[tuple[str, str], ...],
    auto_approve: bool,
    wait: Literal["ready", "created", "none"],
    timeout: float | None,
    parallelism: int,
    lock_timeout: float,
    output: str,
) -> int:
    """Show the plan, ask, do it, and wait until everything is ready.

    A request that buys something is recorded before it is sent and never sent twice: an apply that was interrupted, or
    whose connection broke, is simply applied again. Ctrl-C stops cleanly and says what goes on remotely.

    With -o json every line on stdout is one event; the last one is a summary.
    """
    from reconciler.adapters import stack
    from reconciler.adapters.carry_out import carry_out
    from reconciler.apply import Terms
    from reconciler.plan import Choices

    with stack.opened(target, writes=True) as opened:
        stack.check_addresses(opened.session.project, (*replace, *options.addresses(allow)))
        return carry_out(
            opened,
            Choices(prune=prune, replace=frozenset(replace), allow=frozenset(allow)),
            Terms(wait=wait, timeout_s=timeout, parallelism=parallelism),
            output=output,
            approved=auto_approve,
            question="Apply?",
            lock_timeout_s=lock_timeout,
        )
