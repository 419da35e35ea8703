"""`reconciler controller`."""

from __future__ import annotations

from collections.abc import Callable

import click

from reconciler.adapters import options


def _listed(command: Callable[..., int]) -> Callable[..., int]:
    """Which list of stacks is meant: `--home`, `--fleet`."""
    home = click.option(
        "--home", default=".", type=click.Path(), help="The folder that its list is in.", show_default=True
    )
    return home(
        click.option("--fleet", default="", metavar="NAME", help="The list that controllers of this name share.")(
            command
        )
    )


@click.group()
def controller() -> None:
    """A loop that keeps stacks true: looks, does what is free, proposes what is not, and does that once approved."""


@controller.command()
@click.argument("root", default=".")
@click.option("--branch", default="", metavar="NAME", help="Of a repository.  [default: its own choice]")
@click.option(
    "--stacks",
    multiple=True,
    default=(".",),
    metavar="PATTERN",
    help="Folders below ROOT that hold a stack each, as `teams/*`; may be repeated.  [default: .]",
)
@click.option(
    "-e",
    "--env",
    "environments",
    multiple=True,
    metavar="NAME",
    help="Each stack in this environment, if it has it, as STACK@NAME; may be repeated.  [default: the base alone]",
)
@click.option(
    "--home",
    default="",
    type=click.Path(),
    help="The folder whose .reconciler/ keeps the list of stacks, and of a repository the checkouts and the records."
    "  [default: ROOT; of a repository .]",
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
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="A line a look."
)
@click.option(
    "--notify",
    default="",
    envvar="RECONCILER_NOTIFY_URL",
    metavar="URL",
    help="A webhook that is told what a person may want to know; also RECONCILER_NOTIFY_URL.",
)
@click.option("--http", default="", metavar="ADDRESS:PORT", help="Serve the page, the health and the webhook there.")
@click.option("--tls-cert", default="", type=click.Path(), metavar="FILE", help="Its certificate, with --tls-key.")
@click.option("--tls-key", default="", type=click.Path(), metavar="FILE", help="The key of the certificate.")
@click.option("--host", multiple=True, metavar="NAME", help="A name under which browsers reach it; may be repeated.")
@click.option("--approve-from-page", is_flag=True, help="Let everybody with a token approve, not only those named so.")
@click.option(
    "--hook-secret",
    default="",
    type=click.Path(),
    metavar="FILE",
    help="What the forge signs its webhook with (mode 0600); also RECONCILER_WEBHOOK_SECRET.",
)
@click.option("--endpoint", default="", metavar="URL", help="Another service than the Stacks name.")
@click.option("--key-file", default="", type=click.Path(), help="A file (mode 0600) with the API key.")
def run(
    root: str,
    branch: str,
    stacks: tuple[str, ...],
    environments: tuple[str, ...],
    home: str,
    mode: str,
    interval: float,
    workers: int,
    fleet: str,
    once: bool,
    dry_run: bool,
    endpoint: str,
    key_file: str,
    log_format: str,
    notify: str,
    http: str,
    tls_cert: str,
    tls_key: str,
    host: tuple[str, ...],
    approve_from_page: bool,
    hook_secret: str,
) -> int:
    """Run until SIGTERM or Ctrl-C; a look that is under way is concluded first. ROOT is a folder, or a URL for git.

    Nobody waits: what takes minutes or hours goes on by itself, and a later look takes it up.
    """
    from reconciler.adapters import running

    return running.run(
        root,
        stacks,
        environments=environments,
        branch=branch,
        home=home,
        mode="observe" if dry_run else mode,
        interval_s=interval,
        workers=workers,
        once=once,
        endpoint=endpoint,
        key_file=key_file,
        log_format=log_format,
        notify=notify,
        page=running.Page(http, tls_cert, tls_key, host, approve_from_page, hook_secret),
        fleet=fleet,
    )


@controller.command()
@_listed
@click.option("--events", type=click.IntRange(0, 200), default=0, metavar="COUNT", help="Also the newest events.")
@options.output("text", "json", "yaml")
@options.color
def status(home: str, fleet: str, events: int, output: str) -> int:
    """How every stack was when a controller last looked at it, and what waits for somebody.

    Asks nothing of the service and needs no key; the newest events are those of all stacks, in JSON of each.
    """
    from reconciler.adapters import running
    from reconciler.adapters.output import result
    from reconciler.render.controller import fleet_json, fleet_text

    known = running.known(home, fleet)
    result(output, lambda: fleet_json(known, events=events), lambda width: fleet_text(known, width, events=events))
    return 0


@controller.command()
@click.argument("stacks", nargs=-1, metavar="[STACK]...")
@_listed
def look(stacks: tuple[str, ...], home: str, fleet: str) -> int:
    """Let the controller look at these stacks now, or at all: the same as its webhook.

    STACK is a name as the controller tells it: FOLDER, or FOLDER@ENVIRONMENT.
    """
    from reconciler.adapters import running, terminal
    from reconciler.render.words import clean

    for name in running.look(stacks, home, fleet):
        terminal.say(f"due now: {clean(name)}")
    return 0
