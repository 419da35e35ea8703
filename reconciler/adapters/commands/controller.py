"""`reconciler controller`."""

from __future__ import annotations

import click

from reconciler.adapters import options


@click.group()
def controller() -> None:
    """A loop that keeps stacks true: looks, does what is free, proposes what is not, and does that once approved."""


@controller.command()
@click.argument("root", type=click.Path(exists=True, file_okay=False), default=".")
@click.option(
    "--stacks",
    multiple=True,
    default=(".",),
    metavar="PATTERN",
    help="Folders below ROOT that hold a stack each, as `teams/*`; may be repeated.  [default: .]",
)
@click.option(
    "--mode",
    type=click.Choice(["observe", "plan", "apply"]),
    default="apply",
    show_default=True,
    help="observe: tell what differs. plan: do only what was approved. apply: do what is free at once.",
)
@click.option("--interval", type=options.Duration(), default="60s", show_default=True, help="Between looks at rest.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Stacks looked at at once.")
@click.option(
    "--fleet",
    default="",
    metavar="NAME",
    help="Share the stacks with every controller of this name, through the PostgreSQL of the states.",
)
@click.option("--once", is_flag=True, help="Look at what is due, then end.")
@click.option("--dry-run", is_flag=True, help="The same as --mode observe.")
@click.option("--endpoint", default="", metavar="URL", help="Another service than the Stacks name.")
@click.option("--key-file", default="", type=click.Path(), help="A file (mode 0600) with the API key.")
def run(
    root: str,
    stacks: tuple[str, ...],
    mode: str,
    interval: float,
    workers: int,
    fleet: str,
    once: bool,
    dry_run: bool,
    endpoint: str,
    key_file: str,
) -> int:
    """Run until SIGTERM or Ctrl-C; a look that is under way is concluded first.

    Nobody waits: what takes minutes or hours goes on by itself, and a later look takes it up.
    """
    from reconciler.adapters import running

    return running.run(
        root,
        stacks,
        mode="observe" if dry_run else mode,
        interval_s=interval,
        workers=workers,
        once=once,
        endpoint=endpoint,
        key_file=key_file,
        fleet=fleet,
    )
