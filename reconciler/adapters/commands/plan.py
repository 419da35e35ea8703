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
@options.output("text", "json", "yaml", "markdown")
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
    from reconciler.adapters import stack, terminal
    from reconciler.adapters.output import result
    from reconciler.plan import Choices
    from reconciler.render.plan import plan_markdown
    from reconciler.render.plan_json import plan_json
    from reconciler.render.words import clean

    if out:
        from reconciler.adapters import planfile

        planfile.check(out)
    with stack.opened_early(target, max_cost=max_cost) as opened:
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
        collections = opened.session.collections
        result(
            output,
            lambda: plan_json(opened.heading, snapshot.plan, collections),
            lambda width: opened.plan_page(snapshot, width=width),
            markdown=lambda: plan_markdown(
                opened.heading, snapshot.plan, collections, opened.plan_page(snapshot, width=None)
            ),
        )
    if out:
        until = f"{saved.expires_at:%Y-%m-%d %H:%M} UTC"
        where = f" -e {target.environment}" if target.environment else ""
        terminal.mention(
            f"saved, good until {until}\n  reconciler apply {clean(out)}{where} does exactly this, once and unasked"
        )
    return CHANGES if detailed_exitcode and not snapshot.plan.is_empty else 0
