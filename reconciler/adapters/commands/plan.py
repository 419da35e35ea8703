"""`reconciler plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

if TYPE_CHECKING:
    from reconciler.selection import Selectors

CHANGES = 2


@click.command()
@options.service
@options.selection
@options.choices
@click.option("--destroy", is_flag=True, help="Plan what `destroy` would do.")
@click.option(
    "--out",
    default="",
    type=click.Path(),
    metavar="FILE",
    help="Save it: `apply FILE` does it once, unasked, if nothing it rests on has changed by then.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 where there are changes.")
@options.output("text", "json", "yaml")
@options.color
def plan(
    target: Target,
    selectors: Selectors,
    prune: bool,
    replace: tuple[str, ...],
    allow: tuple[tuple[str, str], ...],
    max_cost: float | None,
    destroy: bool,
    out: str,
    detailed_exitcode: bool,
    output: str,
) -> int:
    """Show what an apply would do, why, in which order, and what it would cost. Changes nothing anywhere.

    With --out the plan is saved as well. A run that needs consent is blocked in it, unless --allow gives that now.
    """
    from reconciler import engine
    from reconciler.adapters import planfile, stack, terminal
    from reconciler.plan import Choices
    from reconciler.render.data import json_text, yaml_text
    from reconciler.render.plan_json import plan_json
    from reconciler.render.words import clean

    if out:
        planfile.check(out)
    with stack.opened(target, max_cost=max_cost) as opened:
        stack.check_addresses(opened.session.project, (*replace, *options.addresses(allow)))
        choices = Choices(
            destroy=destroy,
            prune=prune,
            replace=frozenset(replace),
            allow=frozenset(allow),
            unattended=bool(out),
            selectors=selectors,
        )
        snapshot = engine.plan(opened.session, choices)
        if out:
            saved = engine.save(opened.session, snapshot, choices, made_from=target.files)
            planfile.keep(out, saved)
        if output == "text":
            terminal.say(opened.plan_page(snapshot, width=terminal.width()))
        else:
            data = plan_json(opened.heading, snapshot.plan, opened.session.collections)
            terminal.say(json_text(data) if output == "json" else yaml_text(data))
    if out:
        until = f"{saved.expires_at:%Y-%m-%d %H:%M} UTC"
        where = f" -e {target.environment}" if target.environment else ""
        terminal.mention(
            f"saved, good until {until}\n  reconciler apply {clean(out)}{where} does exactly this, once and unasked"
        )
    return CHANGES if detailed_exitcode and snapshot.plan.changes else 0
