"""One look of a controller at one stack: from a checkout over the engine to a report. Whatever goes wrong is in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

from reconciler import engine
from reconciler.adapters import stack
from reconciler.adapters.options import Target
from reconciler.apply import Progress, Stage
from reconciler.approvals import Leash, Mode
from reconciler.conditions import Happened, Report, after_error, after_look
from reconciler.controller import Look, Verdict
from reconciler.engine import Applied
from reconciler.errors import ManifestError, ReconcilerError
from reconciler.plan import Choices, Verb
from reconciler.render.errors import error_text
from reconciler.source import Checkout, Source
from reconciler.state import written


@dataclass(frozen=True)
class Looker:
    """Looks at stacks by name: the folder below the source's root that holds one ("." for the root itself)."""

    source: Source
    mode: Mode
    environment: str = ""
    endpoint: str = ""
    key_file: str = ""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    stopped: Callable[[], bool] = lambda: False

    def __call__(self, name: str, before: Report) -> Look:
        before = replace(before, mode=self.mode.value)
        revision = ""
        try:
            with self.source.checkout() as checkout:
                revision = checkout.revision
                return self._looked(name, before, checkout)
        except ManifestError as error:
            return Look(after_error(before, error_text(error), at=self._at(), revision=revision), Verdict.STUCK)
        except ReconcilerError as error:
            return Look(after_error(before, error_text(error), at=self._at(), revision=revision), Verdict.FAILED)

    def _looked(self, name: str, before: Report, checkout: Checkout) -> Look:
        folder = str(checkout.root / PurePosixPath(name))
        target = Target((folder,), self.endpoint, self.key_file, self.environment)
        with stack.opened(target, writes=self.mode is not Mode.OBSERVE) as opened:
            session = opened.session
            loop = getattr(session.project.stack.spec, "controller", None) if session.project.stack else None
            leash = Leash(self.mode, paid_too=getattr(loop, "paid", "") == "Auto", revision=checkout.revision)
            told: list[Progress] = []
            applied = engine.reconcile(session, leash, report=told.append, stopped=self.stopped)
            snapshot = engine.plan(session, Choices(), leash) if applied.progress else applied.snapshot
            report = after_look(
                before,
                session.desired,
                snapshot.plan,
                snapshot.state,
                snapshot.world,
                at=self._at(),
                revision=checkout.revision,
                held=snapshot.held,
                happened=_happened(applied, self._at()),
                limit=session.limits.hour,
            )
        return Look(report, _verdict(applied))

    def _at(self) -> str:
        return written(self.now())


def _happened(applied: Applied, at: str) -> list[Happened]:
    """What this look did, an event for each operation that came to an end, well or not."""
    words = {Stage.DONE: "Done", Stage.FAILED: "Failed", Stage.UNKNOWN: "OutcomeUnknown", Stage.DETACHED: "Started"}
    return [
        Happened(at, str(one.operation.slot), f"{one.operation.verb.value.title()}{words[one.stage]}", one.detail)
        for one in applied.progress
        if one.stage in words and one.operation.verb is not Verb.WAIT
    ]


def _verdict(applied: Applied) -> Verdict:
    """Whether it is worth looking again soon: something was sent, goes on, or makes room for what comes next."""
    busy = any(one.stage in (Stage.DONE, Stage.DETACHED, Stage.UNKNOWN) for one in applied.progress)
    waits = any(op.verb is Verb.WAIT for op in applied.snapshot.plan.operations)
    return Verdict.BUSY if busy or waits else Verdict.QUIET
