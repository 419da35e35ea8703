"""`reconciler state`."""

from __future__ import annotations

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

REFUSED, UNDECIDED = 3, 7


@click.group()
def state() -> None:
    """What is recorded, and surgery on it: journalled, and never on an object itself."""


@state.command("list")
@options.manifests
@options.output("text", "json", "yaml")
@options.color
def list_(target: Target, output: str) -> int:
    """Every recorded object. Offline, and without a key."""
    from reconciler import engine
    from reconciler.adapters import manifests
    from reconciler.adapters.output import result
    from reconciler.render.record import rows_json, rows_text

    recorded = engine.recorded_state(manifests.read(target))
    result(output, lambda: rows_json(recorded), lambda width: rows_text(recorded, width))
    return 0


@state.command()
@click.argument("address", metavar="KIND/NAME[:PART]")
@options.manifests
@options.output("text", "json", "yaml")
@options.color
def show(target: Target, address: str, output: str) -> int:
    """Everything recorded of one object. Offline, and without a key."""
    from reconciler import engine, surgery
    from reconciler.adapters import manifests
    from reconciler.adapters.output import result
    from reconciler.render.record import row_json, row_text

    rows = surgery.held(engine.recorded_state(manifests.read(target)), surgery.slot_named(address))
    result(output, lambda: {"objects": [row_json(row) for row in rows]}, lambda width: row_text(rows, width))
    return 0


@state.command()
@click.argument("address", required=False, metavar="[KIND/NAME[:PART]]")
@options.manifests
@options.output("text", "json", "yaml")
@options.color
def history(target: Target, address: str | None, output: str) -> int:
    """The journal, oldest first: what was sent or decided, how it ended, by whom, why. Offline, and without a key."""
    from reconciler import engine, surgery
    from reconciler.adapters import manifests
    from reconciler.adapters.output import result
    from reconciler.render.record import entry_json, journal_text

    slot = surgery.slot_named(address) if address else None
    entries = surgery.history(engine.recorded_state(manifests.read(target)), slot)
    result(
        output,
        lambda: {"entries": [entry_json(entry) for entry in entries]},
        lambda width: journal_text(entries, width),
    )
    return 0


@state.command()
@click.argument("source", metavar="FROM")
@click.argument("goal", metavar="TO")
@options.reason
@options.service
@options.output("text", "json", "yaml")
@options.color
def mv(target: Target, source: str, goal: str, reason: str, output: str) -> int:
    """Record what FROM holds under the name TO, of the same kind. The objects themselves do not change."""
    from reconciler import engine, surgery
    from reconciler.adapters import stack
    from reconciler.adapters.output import result
    from reconciler.render.record import done_json, done_text

    old, new = surgery.slot_named(source), surgery.slot_named(goal)
    with stack.opened(target, writes=True) as opened:
        events = engine.operate(opened.session, lambda state, deed: surgery.move(state, old, new, deed), reason=reason)
    result(output, lambda: done_json(events), lambda width: done_text(events, width))
    return 0


@state.command()
@click.argument("address", metavar="KIND/NAME[:PART]")
@options.reason
@options.approval
@options.service
@options.output("text", "json", "yaml")
@options.color
def rm(target: Target, address: str, reason: str, auto_approve: bool, output: str) -> int:
    """Forget what is recorded of an object. It stays on the service; an apply that finds it declared makes another."""
    from reconciler import engine, surgery
    from reconciler.adapters import stack, terminal
    from reconciler.adapters.output import result
    from reconciler.render.record import done_json, done_text, forget_text

    slot = surgery.slot_named(address)
    with stack.opened(target, writes=True) as opened:
        terminal.mention(forget_text(surgery.held(opened.session.store.load(), slot)))
        if not terminal.agreed("Forget it?", approved=auto_approve):
            return REFUSED
        events = engine.operate(opened.session, lambda state, deed: surgery.remove(state, slot, deed), reason=reason)
    result(output, lambda: done_json(events), lambda width: done_text(events, width))
    return 0


@state.command()
@click.argument("epoch", required=False, type=click.IntRange(min=0))
@click.option("-y", "--yes", is_flag=True, help="Take it from a holder on another computer, unasked.")
@options.service
@options.color
def unlock(target: Target, epoch: int | None, yes: bool) -> int:
    """Show who holds the state; with the EPOCH that this shows, take it from them.

    Nothing that the holder still tries to record will be kept, so its last creation may have to be looked for. A lease
    whose holder is gone is free without this.
    """
    from reconciler import engine
    from reconciler.adapters import stack, terminal
    from reconciler.errors import Refused, UsageError
    from reconciler.render.record import holder_text
    from reconciler.store import is_here

    with stack.opened(target) as opened:
        held = opened.session.store.holder()
        if held is None:
            terminal.say("nobody holds the state")
            return 0
        who = holder_text(held.holder, held.since, held.epoch)
        if epoch is not None and epoch != held.epoch:
            raise UsageError(f"the lease is not {epoch}'s any more", hint=who)
        if epoch is None and (is_here(held) or not yes):
            lives = ", and lives" if is_here(held) else ""
            raise Refused(who + lives, hint=f"reconciler state unlock {held.epoch} takes it all the same")
        engine.unlock(opened.session, held)
        terminal.say(f"taken: {who}, no more")
    return 0


@state.command()
@options.approval
@options.service
@options.output("text", "json", "yaml")
@options.color
def rebuild(target: Target, auto_approve: bool, output: str) -> int:
    """Find what is ours by the marks on the service, after the state was lost, damaged, or replaced by an old copy.

    Shows what it would record, asks, and records it at once. What the marks do not decide becomes an open operation for
    a person (exit 7). A damaged state is put away beside the new one, never deleted. Nothing is created or deleted.
    """
    from reconciler import engine
    from reconciler.adapters import stack, terminal
    from reconciler.adapters.output import result
    from reconciler.engine import Restored
    from reconciler.render.record import rebuild_json, rebuild_text

    with stack.opened(target, writes=True) as opened:

        def page(restored: Restored, width: int | None) -> str:
            return rebuild_text(restored, opened.session.collections, width)

        def approve(proposed: Restored) -> bool:
            if not auto_approve:
                terminal.mention(page(proposed, None))
            return terminal.agreed("Record this?", approved=auto_approve)

        restored = engine.restore(opened.session, approve=approve)
        declined = not restored.done and bool(restored.rebuilt.events or restored.damaged)
        if output != "text" or not declined:
            result(output, lambda: rebuild_json(restored), lambda width: page(restored, width))
    if declined:
        return REFUSED
    return UNDECIDED if restored.rebuilt.undecided else 0
