"""One look of a controller at one stack: from a checkout over the engine to a report. Whatever goes wrong is in it.

Where a commit cannot come into force, the one that was in force before stays so, and is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from reconciler import engine, project
from reconciler.adapters import crash, stack
from reconciler.adapters.options import Target
from reconciler.adapters.stack import Opened
from reconciler.api import Called, uncounted
from reconciler.apply import Progress, Stage
from reconciler.approvals import Mode
from reconciler.cache import GRAIN_NS
from reconciler.clock import boottime
from reconciler.conditions import (
    Happened,
    Reason,
    Report,
    after_error,
    after_look,
    drift,
    in_force,
    not_in_force,
    unmoved,
)
from reconciler.controller import KEPT_MAX, Look, Verdict
from reconciler.engine import Applied
from reconciler.errors import ManifestError, ReconcilerError, Refused, SourceError, StateLocked
from reconciler.files import Stamps, noting, still_look
from reconciler.plan import Choices, Operation, Plan, Verb
from reconciler.project import Project
from reconciler.render.errors import error_text
from reconciler.resource import Part
from reconciler.source import SHORT, Checkout, Source, split
from reconciler.state import Role, written
from reconciler.store import Sighting

LINES_MAX = 20  # of an error, which a report keeps


@dataclass
class Remembered:
    """One stack as its last look left it: what was read of it, and what came of that.

    git's rule for its index: how a file looks proves nothing while one more change could leave it looking the same. So
    what was read is `sure` only if all of it had looked so for that long already.
    """

    key: tuple[str, str] = ("", "")
    project: Project | None = None
    stamps: Stamps = field(default_factory=dict)
    since: float = 0.0
    sure: bool = False
    memory: engine.Memory = field(default_factory=engine.Memory)
    plan: Plan | None = None
    report: Report | None = None

    def read(self, key: tuple[str, str], load: Callable[[], Project], clock: Callable[[], float]) -> Project:
        """What is declared; read again unless nothing of it can have changed."""
        if self.project and self.sure and self.key == key and still_look(self.stamps):
            return self.project
        began, before, self.project = clock(), self.project, None
        with noting() as stamps:
            read = load()
        if self.key != key or self.stamps != stamps:
            self.key, self.stamps, self.since = key, stamps, clock()
        self.sure = (began - self.since) * 1e9 >= GRAIN_NS
        self.project = before if before and _same(before, read) else read
        return self.project

    @property
    def size(self) -> int:
        return len(self.project.documents) if self.project else 0

    def after(self, before: Report, plan: Plan, make: Callable[[], Report], *, at: str) -> Report:
        """The report of a look that came to this plan: where it is the very same, nothing moved but the time."""
        same = self.plan is plan and self.report == before
        self.plan, self.report = plan, unmoved(before, at) if same else make()
        return self.report


def _same(before: Project, read: Project) -> bool:
    """Whether two readings are of the same bytes, and of data that came to the same."""
    if (before.root, before.manifests) != (read.root, read.manifests):
        return False
    return before.profile == read.profile and _unplaced(before) == _unplaced(read)


def _unplaced(read: Project) -> list[Part]:
    """Its parts but for where they were written, which takes reading their documents once more."""
    return [replace(part, at={}) for parts in read.parts.values() for part in parts]


@dataclass(frozen=True)
class Looker:
    """Looks at stacks by the names that `source.stacks` gives them.

    `records` is the folder for what is recorded of a source whose checkouts come and go; None: beside the manifests.
    """

    source: Source
    mode: Mode
    by_environment: bool = False
    records: Path | None = None
    endpoint: str = ""
    key_file: str = ""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    stopped: Callable[[], bool] = lambda: False
    called: Called = uncounted
    many: bool = False  # controllers on other machines look at the same stacks
    sightings: dict[str, Sighting] = field(default_factory=dict)
    clock: Callable[[], float] = boottime
    remembered: dict[str, Remembered] = field(default_factory=dict)

    def __call__(self, name: str, before: Report) -> Look:
        before = replace(before, mode=self.mode.value)
        try:
            return self._newest(name, before)
        except ReconcilerError as error:
            return self._failed(before, _words(error), error)
        except Exception as error:  # our own mistake, which must not keep the others from being looked at
            return self._failed(before, mistake(error, before.error), error)

    @contextmanager
    def opened(self, name: str, *, revision: str = "", writes: bool = False) -> Iterator[Opened]:
        """A stack as a look opens it, at this revision or at what is declared now."""
        with (
            self.source.checkout(revision) as checkout,
            self._connected(self._read(name, checkout), writes=writes) as opened,
        ):
            yield opened

    def _newest(self, name: str, before: Report) -> Look:
        """At what is declared now, else at what was in force before."""
        which = ""
        try:
            with self.source.checkout() as checkout:
                which = f"commit {checkout.revision[:SHORT]} is not in force, " if checkout.revision else ""
                try:
                    return self._looked(name, before, checkout)
                except ManifestError as error:
                    why = _words(error, checkout)
        except SourceError as error:
            if self.stopped():
                return Look(before, Verdict.BUSY)
            if not before.revision:
                raise
            why = _words(error)
        if before.revision:
            return self._before(name, before, f"{which}{before.revision[:SHORT]} stays in force: {why}")
        why = f"{which}nor is any before it: {why}" if which else why
        return self._failed(before, why, verdict=Verdict.STUCK)

    def _before(self, name: str, before: Report, why: str) -> Look:
        """At what was in force before, which is not what is declared now: `why`."""
        try:
            with self.source.checkout(before.revision) as checkout:
                look = self._looked(name, before, checkout)
        except ReconcilerError as error:
            return self._failed(before, f"{why}\n{_words(error)}", error)
        return replace(look, report=not_in_force(before, look.report, why))

    def _looked(self, name: str, before: Report, checkout: Checkout) -> Look:
        """ManifestError where what is declared cannot come into force; what goes wrong once it has is in the look."""
        if not self._folder(name, checkout).is_dir():
            self.remembered.pop(name, None)
            return self._gone(before, checkout)
        last = self.remembered.pop(name, Remembered())
        read = last.read((name, str(checkout.root)), lambda: self._read(name, checkout), self.clock)
        if len(read.documents) + sum(one.size for one in [*self.remembered.values()]) <= KEPT_MAX:
            self.remembered[name] = last
        before = in_force(before, checkout.revision, at=self._at())
        try:
            return self._reconciled(before, read, last)
        except ReconcilerError as error:
            return self._failed(before, _words(error, checkout), error)

    def _reconciled(self, before: Report, read: Project, last: Remembered) -> Look:
        with self._connected(read, writes=self.mode is not Mode.OBSERVE, memory=last.memory) as opened:
            session = opened.session
            session.store.sightings = self.sightings
            if self.many and not session.store.shared:
                raise Refused(
                    "a fleet looks at this stack, and its state is a file that the other machines do not see",
                    hint="write `state: {backend: postgres}` into the Stack (docs/fleet.md)",
                )
            leash = engine.leash_of(read, self.mode, before.revision)
            told: list[Progress] = []
            applied = engine.reconcile(session, leash, report=told.append, stopped=self.stopped)
            snapshot = engine.plan(session, Choices(), leash) if applied.progress else applied.snapshot
            at = self._at()
            report = last.after(
                before,
                snapshot.plan,
                lambda: after_look(
                    before,
                    session.desired,
                    snapshot.plan,
                    snapshot.state,
                    snapshot.world,
                    at=at,
                    revision=before.revision,
                    held=snapshot.held,
                    happened=_happened(applied, at),
                    limit=session.limits.hour,
                ),
                at=at,
            )
        return Look(report, _verdict(applied))

    def _read(self, name: str, checkout: Checkout) -> Project:
        path, environment = split(name, by_environment=self.by_environment)
        return project.load([str(checkout.root / path)], environment=environment, records=self._records(path))

    def _connected(
        self, read: Project, *, writes: bool, memory: engine.Memory | None = None
    ) -> AbstractContextManager[Opened]:
        target = Target(files=(), environment=read.environment, endpoint=self.endpoint, key_file=self.key_file)
        return stack.connected(read, target, writes=writes, called=self.called, memory=memory)

    def _folder(self, name: str, checkout: Checkout) -> Path:
        return checkout.root / split(name, by_environment=self.by_environment)[0]

    def _records(self, path: str) -> Path | None:
        if self.records is None:
            return None
        folder = self.records / path
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ReconcilerError(f"{folder} cannot be used: {error.strerror}") from error
        return folder

    def _gone(self, before: Report, checkout: Checkout) -> Look:
        which = f" in commit {checkout.revision[:SHORT]}" if checkout.revision else ""
        why = f"there is no such stack any more{which}: it is no longer looked at, and nothing of it is deleted"
        return Look(after_error(before, why, at=self._at(), reason=Reason.GONE), Verdict.STUCK)

    def _failed(
        self, before: Report, why: str, error: Exception | None = None, verdict: Verdict = Verdict.FAILED
    ) -> Look:
        cause = type(error).__name__ if error else ManifestError.__name__
        if isinstance(error, StateLocked):  # it will be free again without anybody's doing
            verdict = Verdict.BUSY
        return Look(after_error(before, why, at=self._at(), cause=cause), verdict)

    def _at(self) -> str:
        return written(self.now())


def _words(error: ReconcilerError, checkout: Checkout | None = None) -> str:
    """What an error says, bounded; paths as the repository has them, for where it lies says nothing to its author."""
    lines = error_text(error).removeprefix("error: ").splitlines()
    if len(lines) > LINES_MAX:
        lines[LINES_MAX - 2 : -1] = [f"and {len(lines) - LINES_MAX + 1} more"]
    text = "\n".join(lines)
    return text.replace(f"{checkout.root}/", "") if checkout and checkout.revision else text


def mistake(error: Exception, before: str) -> str:
    """What to say of a mistake of ours; one that was said `before` leaves no second file."""
    return before if before.startswith(crash.said(error)) else crash.reported(error)


def _happened(applied: Applied, at: str) -> list[Happened]:
    """What this look did, an event for each operation that came to an end, well or not; drift that it put right too."""
    words = {Stage.DONE: "Done", Stage.FAILED: "Failed", Stage.UNKNOWN: "OutcomeUnknown", Stage.DETACHED: "Started"}
    drifted = [
        Happened(at, str(one.operation.slot), *found)
        for one in applied.progress
        if one.stage is Stage.DONE and (found := _put_right(one.operation, applied))
    ]
    return drifted + [
        Happened(at, str(one.operation.slot), f"{one.operation.verb.value.title()}{words[one.stage]}", one.detail)
        for one in applied.progress
        if one.stage in words and one.operation.verb is not Verb.WAIT
    ]


def _put_right(op: Operation, applied: Applied) -> tuple[str, str] | None:
    """What somebody else had done to an object, where the operation undid it."""
    if op.verb is Verb.CREATE and op.drops:
        return Reason.GONE, op.why
    fields = drift(op, applied.snapshot.state.row(op.slot, Role.CURRENT))
    return (Reason.DRIFTED, f"differed in {fields}, which was put right") if fields else None


def _verdict(applied: Applied) -> Verdict:
    """Whether it is worth looking again soon: something was sent, goes on, or makes room for what comes next."""
    busy = any(one.stage in (Stage.DONE, Stage.DETACHED, Stage.UNKNOWN) for one in applied.progress)
    busy = busy or any(one.open for one in applied.recovered)
    waits = any(op.verb is Verb.WAIT for op in applied.snapshot.plan.operations)
    return Verdict.BUSY if busy or waits else Verdict.QUIET
