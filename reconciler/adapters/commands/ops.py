"""`reconciler ops`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target


@click.group()
def ops() -> None:
    """Operations whose outcome is not known: look at them, and decide them."""


@ops.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are closed.")
@options.manifests
@options.output("text", "json", "yaml")
@options.color
def list_(target: Target, everything: bool, output: str) -> int:
    """Open operations; with --all the whole journal, the open ones first. Offline, and without a key."""
    from reconciler import engine, surgery
    from reconciler.adapters import manifests
    from reconciler.adapters.output import result
    from reconciler.render.record import entry_json, operations_text

    entries = surgery.history(engine.recorded_state(manifests.read(target)))
    told = [one for one in entries if one.is_open]
    told += [one for one in entries if everything and not one.is_open]
    data = {"operations": [{**entry_json(one), "open": one.is_open} for one in told]}
    result(output, lambda: data, lambda width: operations_text(told, width))
    return 0


@ops.command()
@click.argument("name", metavar="OPERATION")
@options.service
@options.output("text", "json", "yaml")
@options.color
def show(target: Target, name: str, output: str) -> int:
    """Everything of one operation and, where it is open, what the service has that it may have made.

    Without a key, or when the service is away, what is recorded is shown all the same.
    """
    from reconciler import engine, kinds, surgery
    from reconciler.adapters import manifests, stack
    from reconciler.adapters.output import result
    from reconciler.errors import ReconcilerError
    from reconciler.render.record import operation_json, operation_text

    project = manifests.read(target)
    state = engine.recorded_state(project)
    entry, found, unseen = surgery.operation(state, name), None, ""
    if entry.is_open and entry.verb == "create":
        try:
            with stack.connected(project, target) as opened:
                found = engine.candidates(opened.session, opened.session.store.load(), entry)
        except ReconcilerError as error:
            unseen = str(error)
    collection = kinds.collections(project.profile).get(entry.collection)
    about = (entry, found, unseen, collection)
    result(output, lambda: operation_json(*about), lambda width: operation_text(*about, width))
    return 0


@ops.command()
@click.argument("name", metavar="OPERATION")
@click.option("--adopt", default="", metavar="ID", help="It made this object, which exists.")
@click.option("--absent", is_flag=True, help="It made nothing.")
@click.option("--reason", default="", metavar="TEXT", help="How you know; the journal keeps it.")
@options.service
@options.output("text", "json", "yaml")
@options.color
def resolve(target: Target, name: str, adopt: str, absent: bool, reason: str, output: str) -> int:
    """Decide an open operation: --adopt ID, or --absent --reason TEXT."""
    from reconciler import engine
    from reconciler.adapters import stack, terminal
    from reconciler.adapters.output import result
    from reconciler.errors import UsageError
    from reconciler.render.record import done_json, done_text, inferred_text

    if bool(adopt) == absent:
        raise UsageError("say what it came to", hint="--adopt ID, or --absent --reason TEXT")
    with stack.opened(target, writes=True) as opened:
        if adopt:
            events = engine.adopt(opened.session, name, adopt, reason=reason)
        else:
            events = engine.absent(opened.session, name, reason=reason)
    if warning := inferred_text(events):
        terminal.mention(warning)
    result(output, lambda: done_json(events), lambda width: done_text(events, width))
    return 0
