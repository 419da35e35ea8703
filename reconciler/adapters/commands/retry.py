"""`reconciler retry`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Manner, Target


@click.command()
@click.argument("address", metavar="KIND/NAME")
@options.service
@options.allow
@options.max_cost
@options.carrying_out
@options.output("text", "json")
@options.color
def retry(
    target: Target,
    address: str,
    allow: tuple[tuple[str, str], ...],
    max_cost: float | None,
    manner: Manner,
    output: str,
) -> int:
    """Make again what failed: shows the plan and what it costs, asks, and does it. A new run is bought anew."""
    from reconciler import engine
    from reconciler.adapters import inventory, stack
    from reconciler.adapters.carry_out import carry_out
    from reconciler.plan import Choices
    from reconciler.selection import Selectors

    with stack.opened(target, writes=True, max_cost=max_cost) as opened:
        session = opened.session
        address = inventory.address_named(address, session, session.store.load())
        stack.check_addresses(session.project, (address, *options.addresses(allow)))
        sound = engine.sound_slots(session, address)
        return carry_out(
            opened,
            Choices(
                replace=frozenset({address}),
                settled=sound,
                allow=frozenset(allow),
                selectors=Selectors(targets=(address,)),
            ),
            manner,
            output=output,
            question="Make it again?",
        )
