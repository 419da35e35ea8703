"""What a report looks at beside its plan: data, limits, and what became of it, as far as they can be seen from here."""

from __future__ import annotations

from reconciler import engine, kinds
from reconciler.adapters import manifests, operator, stack, terminal
from reconciler.adapters.options import Target
from reconciler.errors import ReconcilerError, UsageError
from reconciler.guards import breaches
from reconciler.project import Project
from reconciler.render.words import clean
from reconciler.report import Aftermath, Found, Report, aftermath, findings
from reconciler.saved import Saved


def reviewed(saved: Saved, target: Target, *, given: bool, insisted: bool) -> Report:
    """The report of a plan. What cannot be looked at is told on stderr and is not in it.

    Manifests that were `given` must be readable; where somebody `insisted`, the apply must be, and the service.
    """
    if "-" in target.files:
        raise UsageError("report reads no manifests from stdin", hint="name files with -f")
    try:
        lint = _lint(target)
    except ReconcilerError as error:
        if given or insisted:
            raise
        terminal.mention(f"the report is of the plan alone: {clean(error, 300)}")
        return Report(saved)
    try:
        project = manifests.read(target)
    except ReconcilerError as error:
        if insisted:
            raise
        terminal.mention(f"limits, and what the apply came to, are not in the report: {clean(error, 300)}")
        return Report(saved, lint)
    limits = engine.limits_of(project, [operator.budget(project.root)])
    over = breaches(saved.plan, limits, saved.choices, owned=saved.bound.held)
    return Report(saved, lint, over, _aftermath(project, target, saved, insisted))


def _lint(target: Target) -> tuple[Found, ...]:
    described = {address: read() for address, read in manifests.described(target).items()}
    return tuple(
        one for address, found in described.items() for one in findings(address, found.problems, found.warnings)
    )


def _aftermath(project: Project, target: Target, saved: Saved, insisted: bool) -> Aftermath | None:
    """What the apply came to, if it was begun. Where the service cannot be asked, what is recorded, unless insisted."""
    came = None
    try:
        came = aftermath(saved, engine.recorded_state(project), kinds.collections(project.profile))
        if came:
            with stack.connected(project, target) as opened:
                return engine.aftermath(opened.session, saved)
    except ReconcilerError as error:
        if insisted:
            raise
        terminal.mention(f"the report is of {'what is recorded' if came else 'the plan'} alone: {clean(error, 300)}")
        return came
    if insisted:
        raise UsageError("this plan was not begun here", hint="reconciler apply PLANFILE does it, once")
    return None
