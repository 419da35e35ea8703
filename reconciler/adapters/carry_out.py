"""What apply and destroy share: show the plan, get an answer, do it while a view tells of it, say what it came to."""

from __future__ import annotations

from dataclasses import replace

import click

from reconciler import engine
from reconciler.adapters import interrupts, terminal
from reconciler.adapters.interrupts import Interrupts
from reconciler.adapters.options import Manner
from reconciler.adapters.output import event
from reconciler.adapters.stack import Opened
from reconciler.adapters.views import Json, Live, View, for_people
from reconciler.apply import Progress, Stage, Terms
from reconciler.engine import Applied, Snapshot
from reconciler.errors import worst
from reconciler.plan import Choices
from reconciler.render.plan_json import plan_json
from reconciler.render.progress import STOPPING, left_text, summary_json, summary_text
from reconciler.saved import Saved
from reconciler.state import Role

DECLINED = 3


def carry_out(
    opened: Opened,
    choices: Choices,
    manner: Manner,
    *,
    output: str,
    question: str,
    saved: Saved | None = None,
    if_equal: bool = False,
    cancel: str = "",
) -> int:
    """The exit code of a whole apply. Without a terminal and without approval nothing is done, whatever the plan.

    A `saved` plan is its own approval, and brings its own choices. With an address to `cancel` that is all it does.
    """
    attended, approved = terminal.somebody_is_there(), manner.approved or saved is not None
    choices = replace(choices, unattended=approved or not attended)
    if not (approved or attended):
        return _only_shown(opened, choices, output, cancel)
    view = _view(output)
    latest: dict[str, Progress] = {}

    def report(progress: Progress) -> None:
        latest[progress.operation.id] = progress
        view.report(progress)

    def farewell() -> None:
        terminal.say_last(left_text(latest.values()))

    with Interrupts(lambda: terminal.say_at_once(STOPPING), farewell) as signals:

        def approve(snapshot: Snapshot) -> bool:
            _show(opened, snapshot, output)
            if snapshot.breaches:
                return False
            if not approved and not click.confirm(question, err=True):
                return False
            signals.arm()
            view.begin()
            return True

        def stopped() -> bool:
            view.tick()
            return signals.requested

        try:
            applied = engine.apply(
                opened.session,
                choices,
                Terms(manner.wait, manner.timeout_s, manner.parallelism, watch=isinstance(view, Live)),
                approve=approve,
                report=report,
                noticed=view.notice,
                stopped=stopped,
                lock_timeout_s=manner.lock_timeout_s,
                saved=saved,
                if_equal=if_equal,
                cancel=cancel,
            )
        finally:
            view.end()
    return _conclude(opened, applied, output, stopped=signals.requested)


def _view(output: str) -> View:
    if output == "json":
        return Json()
    return for_people()


def _show(opened: Opened, snapshot: Snapshot, output: str) -> None:
    if output == "json":
        data = plan_json(opened.heading, snapshot.plan, opened.session.collections)
        event({"event": "plan", "plan": data})
    else:
        terminal.say_anyway(opened.plan_page(snapshot, width=terminal.width()) + "\n")


def _only_shown(opened: Opened, choices: Choices, output: str, cancel: str) -> int:
    """Nobody is there to ask: the plan, and why it was not carried out."""
    session = opened.session
    snapshot = engine.canceling(session, cancel, choices) if cancel else engine.plan(session, choices)
    _show(opened, snapshot, output)
    declined = bool(snapshot.plan.work or snapshot.plan.moves)
    code = DECLINED if declined else worst(op.code for op in snapshot.plan.blocked)
    if output == "json":
        event(summary_json(Applied(snapshot, declined=declined), exit_code=code))
    if declined:
        terminal.mention("refused: nobody is there to approve this plan\n  --auto-approve (-y) applies it unasked")
    return code


def _conclude(opened: Opened, applied: Applied, output: str, *, stopped: bool) -> int:
    code = interrupts.EXIT_CODE if stopped else _exit_code(opened, applied)
    if output == "json":
        if not applied.snapshot.plan.work:
            _show(opened, applied.snapshot, output)
        event(summary_json(applied, exit_code=code))
    elif applied.declined:
        terminal.say_anyway("declined: nothing was done")
    elif not applied.snapshot.plan.work:
        _show(opened, applied.snapshot, output)
    else:
        page = summary_text(applied, emulated=opened.heading.emulated, stopped=stopped, width=terminal.width())
        terminal.say_anyway(page)
    return code


def _exit_code(opened: Opened, applied: Applied) -> int:
    """The worst of all. A creation whose answer was lost is no longer a riddle where it was found, or found absent."""
    if applied.declined:
        return DECLINED
    codes = [one.code for one in applied.progress if one.stage is not Stage.UNKNOWN]
    unknown = [one.operation.slot for one in applied.progress if one.stage is Stage.UNKNOWN]
    if unknown:
        state = opened.session.store.load()
        riddles = {intent.slot for intent in state.open_intents()}
        codes += [7 if slot in riddles else 6 if state.row(slot, Role.NEXT) else 1 for slot in unknown]
    return worst(codes)
