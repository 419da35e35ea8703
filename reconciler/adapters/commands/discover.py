"""`reconciler discover`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

REFUSED = 3


@click.command()
@click.option("--billable", is_flag=True, help="Only what costs something an hour, and uploads that nothing refers to.")
@click.option(
    "--write",
    "folder",
    type=click.Path(),
    metavar="FOLDER",
    help="Write manifests for what is not ours below FOLDER, and record it.",
)
@click.option("--download", is_flag=True, help="With --write: fetch uploads of which no file of the project is a copy.")
@click.option("--marked", is_flag=True, help="With --write: also what carries a mark like those that stacks give.")
@click.option("--dry-run", is_flag=True, help="With --write: print the manifests, and write and record nothing.")
@options.approval
@options.service
@options.output("text", "json", "yaml", "markdown")
@options.color
def discover(
    target: Target,
    billable: bool,
    folder: str | None,
    download: bool,
    marked: bool,
    dry_run: bool,
    auto_approve: bool,
    output: str,
) -> int:
    """What the account holds that is not ours, costs something needlessly, or serves nothing. Changes nothing there.

    Whether anybody calls a deployment the service does not tell, so no deployment in use is ever called idle.

    With --write what is not ours is taken over: its first plan is empty, and what could not be declared is said.
    """
    from reconciler import engine
    from reconciler.adapters import stack
    from reconciler.adapters.output import result
    from reconciler.discover import UNREFERENCED, silent
    from reconciler.discover import discover as found_in
    from reconciler.errors import UsageError
    from reconciler.render.discover import finds_json, finds_markdown, finds_text

    if folder is not None:
        if billable:
            raise UsageError("--billable lists, and --write takes everything over", hint="give one of them")
        return _write(
            target, folder, download=download, marked=marked, dry_run=dry_run, approved=auto_approve, output=output
        )
    if download or marked or dry_run or auto_approve:
        raise UsageError("--download, --marked, --dry-run and -y say how to --write", hint="--write FOLDER")
    with stack.opened(target) as opened:
        session = opened.session
        state, world = engine.look_around(session)
        found = found_in(session.desired, state, world, session.collections)
        if billable:
            found = tuple(one for one in found if one.billable or one.sort == UNREFERENCED)
        unseen = silent(world, session.collections)
        result(
            output,
            lambda: finds_json(opened.heading, found, silent=unseen),
            lambda width: finds_text(opened.heading, found, silent=unseen, width=width),
            markdown=lambda: finds_markdown(opened.heading, found, silent=unseen),
        )
    return 0


def _write(
    target: Target, folder: str, *, download: bool, marked: bool, dry_run: bool, approved: bool, output: str
) -> int:
    from reconciler import takeover
    from reconciler.adapters import stack, terminal
    from reconciler.adapters.output import result
    from reconciler.render.takeover import draft_text, drafts_text, takeover_json, takeover_markdown, takeover_text

    with stack.opened(target, writes=not dry_run) as opened:
        session = opened.session
        wanted = takeover.order(session.project.root, folder, target.files, download=download, marked=marked)
        found = takeover.propose(session, wanted)
        if not approved or dry_run or not found.drafts.drafts:
            terminal.mention(takeover_text(found, wanted, terminal.width()))
        if found.drafts.drafts and not dry_run:
            if not terminal.agreed("Write and record this?", approved=approved):
                return REFUSED
            found = takeover.take_over(session, wanted, found, draft_text, reason=f"discover --write {folder}")
        if output != "text" or dry_run or found.done:
            result(
                output,
                lambda: takeover_json(found, wanted),
                lambda width: drafts_text(found) if dry_run else takeover_text(found, wanted, width),
                markdown=lambda: takeover_markdown(found, wanted),
            )
    return 0
