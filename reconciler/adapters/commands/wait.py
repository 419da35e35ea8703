"""`reconciler wait`."""

from __future__ import annotations

from typing import Literal

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@click.argument("which", nargs=-1, metavar="[KIND/NAME ...]")
@click.option(
    "--for",
    "goal",
    type=click.Choice(["ready", "gone"]),
    default="ready",
    show_default=True,
    help="What to wait for.",
)
@click.option("--timeout", type=options.Duration(), help="Give up after this long (exit 6).")
@options.service
@options.output("text", "json", "yaml")
@options.color
def wait(
    target: Target, which: tuple[str, ...], goal: Literal["ready", "gone"], timeout: float | None, output: str
) -> int:
    """Wait until objects are ready, or gone: those named, else all that are under way. Changes and records nothing.

    For whatever an apply left to go on by itself. A new object that is ready is put in use by the next apply.
    """
    from reconciler import engine
    from reconciler.adapters import inventory, stack, views
    from reconciler.adapters.output import result
    from reconciler.errors import worst
    from reconciler.render.progress import waited_json, waited_text

    with stack.opened(target) as opened:
        session = opened.session
        rows = inventory.awaited(which, session, goal)
        view = views.for_people()
        view.begin()
        try:
            ended = engine.wait(session, rows, goal, report=view.report, timeout_s=timeout, tick=view.tick)
        finally:
            view.end()
    code = worst(one.code for one in ended)
    result(output, lambda: waited_json(ended, goal, exit_code=code), lambda width: waited_text(ended, width))
    return code
