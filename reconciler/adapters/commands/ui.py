"""`reconciler ui`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.command()
@options.service
@click.option(
    "--http",
    default="127.0.0.1:0",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where the page is. Port 0: any that is free.",
)
@click.option(
    "--approve-from-page", is_flag=True, help="Let whoever has the address approve; else the page only reads."
)
def ui(target: Target, http: str, approve_from_page: bool) -> None:
    """The stack as a page in a browser of this computer, until Ctrl-C: what it is, costs and would change.

    Nothing is done by itself: `controller run` is the loop, and has the same page with --http.
    """
    from reconciler.adapters import terminal
    from reconciler.adapters.web import hosting

    def announce(url: str) -> None:
        terminal.say(url)
        terminal.mention("open it in a browser of this computer; it is for you alone. Ctrl-C ends it")

    hosting.alone(target, http, approves=approve_from_page, announce=announce)
