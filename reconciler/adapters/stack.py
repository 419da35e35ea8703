"""What most commands begin with: read the manifests and connect them to their service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from reconciler import engine
from reconciler.adapters import connection, operator
from reconciler.adapters.manifests import read
from reconciler.adapters.options import Target
from reconciler.api import Called, uncounted
from reconciler.engine import Memory, Session, Snapshot
from reconciler.errors import ReconcilerError, UsageError
from reconciler.project import Bought, Project
from reconciler.render.plan import Heading, plan_text
from reconciler.resource import Budget
from reconciler.state import Role
from reconciler.wording import did_you_mean, shown


@dataclass(frozen=True)
class Opened:
    """A stack on its service, and how it is headed on every page."""

    session: Session
    heading: Heading

    def plan_page(self, snapshot: Snapshot, *, width: int | None) -> str:
        """The plan as text."""
        slots = {part.slot for parts in self.session.project.parts.values() for part in parts}
        held = sum(1 for slot in slots if snapshot.state.row(slot, Role.CURRENT))
        limits = (self.session.limits, snapshot.breaches)
        return plan_text(
            self.heading, snapshot.plan, self.session.collections, objects=held, limits=limits, width=width
        )


@contextmanager
def opened(
    target: Target, *, writes: bool = False, max_cost: float | None = None, called: Called = uncounted
) -> Iterator[Opened]:
    """The project on its service. Offline mistakes are told before a key is asked for or anything is started."""
    with connected(read(target), target, writes=writes, max_cost=max_cost, called=called) as ready:
        yield ready


@contextmanager
def opened_early(target: Target, *, max_cost: float | None = None) -> Iterator[Opened]:
    """The same for a look: the service is read while the manifests are checked, where it need not be started for that.

    Offline mistakes are still told first, and alone.
    """
    early: list[Opened] = []
    with ExitStack() as held:

        def begin(outline: Project) -> Bought | None:
            with suppress(ReconcilerError):  # whatever it is, it is met again once the manifests are known to be right
                if not connection.is_embedded(outline, target.endpoint):
                    ready = held.enter_context(connected(outline, target, max_cost=max_cost))
                    ahead = engine.looking_ahead(ready.session)
                    early.append(replace(ready, session=ahead))
                    return partial(engine.is_made, ahead)
            return None

        project = read(target, begin)
        ready = early[0] if early else held.enter_context(connected(project, target, max_cost=max_cost))
        yield replace(ready, session=replace(ready.session, project=project))


@contextmanager
def connected(
    project: Project,
    target: Target,
    *,
    writes: bool = False,
    max_cost: float | None = None,
    called: Called = uncounted,
    memory: Memory | None = None,
) -> Iterator[Opened]:
    """A project that was read already, on its service."""
    budgets = (operator.budget(project.root), Budget.model_validate({"onceCny": max_cost}))
    if writes:
        connection.private_folder(project.home)
    with connection.connect(project, endpoint=target.endpoint, key_file=target.key_file) as service:
        heading = headed(project, service)
        with engine.session(
            project,
            service.origin,
            service.key,
            workspace=heading.workspace,
            budgets=budgets,
            called=called,
            memory=memory,
        ) as session:
            yield Opened(session, heading)


def headed(project: Project, service: connection.Service) -> Heading:
    """How every page about this project on this service begins."""
    return Heading(
        stack=project.name,
        environment=project.environment,
        endpoint=service.name,
        emulated=service.emulated,
        profile=project.profile.profile,
        prices_of=project.profile.as_of,
        workspace=(getattr(project.stack.spec, "workspace", None) if project.stack else None) or "",
        declared=project.stack is not None,
        own_prices=(getattr(project.stack.spec, "catalogue", None) if project.stack else None) or "",
    )


def check_addresses(project: Project, addresses: tuple[str, ...]) -> None:
    """UsageError for an address that no manifest declares."""
    declared = [document.address for document in project.documents]
    for address in addresses:
        if address not in declared:
            raise UsageError(f"no manifest declares {shown(address)}", hint=did_you_mean(address, declared))
