"""`reconciler apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from reconciler.adapters import options
from reconciler.adapters.options import Manner, Target

if TYPE_CHECKING:
    from reconciler.selection import Selectors


@click.command()
@click.argument("plan_file", required=False, default="", metavar="[PLANFILE]", type=click.Path())
@click.option(
    "--replan",
    type=click.Choice(["never", "if-equal"]),
    default="never",
    show_default=True,
    help="What becomes of a PLANFILE made from other inputs: refused, or done if its work is still the same.",
)
@options.service
@options.selection
@options.choices
@options.carrying_out
@options.output("text", "json")
@options.color
def apply(
    target: Target,
    plan_file: str,
    replan: Literal["never", "if-equal"],
    selectors: Selectors,
    prune: bool,
    replace: tuple[str, ...],
    allow: tuple[tuple[str, str], ...],
    max_cost: float | None,
    manner: Manner,
    output: str,
) -> int:
    """Show the plan, ask, do it, and wait until everything is ready.

    A request that buys something is recorded before it is sent and never sent twice: an apply that was interrupted, or
    whose connection broke, is simply applied again. Ctrl-C stops cleanly and says what goes on remotely.

    With a PLANFILE that `plan --out` saved: does that plan, once and unasked, if it is still the plan; else exits 4 and
    says what changed. One that was interrupted goes on where it was.

    With -o json every line on stdout is one event; the last one is a summary.
    """
    from reconciler.adapters import planfile, stack, terminal
    from reconciler.adapters.carry_out import carry_out
    from reconciler.errors import UsageError
    from reconciler.plan import Choices
    from reconciler.render.words import clean
    from reconciler.selection import EVERYTHING

    saved = planfile.load(plan_file) if plan_file else None
    if saved and (prune or replace or allow or selectors != EVERYTHING):
        raise UsageError("a saved plan holds its own choices", hint="give --prune, --target and the like to plan --out")
    if not saved and replan != "never":
        raise UsageError("--replan is about a saved plan", hint="reconciler apply PLANFILE --replan=if-equal")
    if saved and saved.made_from != target.files:
        made, given = (" ".join(f"-f {clean(path)}" for path in paths) for paths in (saved.made_from, target.files))
        terminal.mention(f"the plan was made with {made}; this is {given}")
    if saved:
        planfile.check_environment(saved, plan_file, target.environment)
    with stack.opened(target, writes=True, max_cost=max_cost) as opened:
        stack.check_addresses(opened.session.project, (*replace, *options.addresses(allow)))
        return carry_out(
            opened,
            Choices(prune=prune, replace=frozenset(replace), allow=frozenset(allow), selectors=selectors),
            manner,
            output=output,
            question="Apply?",
            saved=saved,
            if_equal=replan == "if-equal",
        )
