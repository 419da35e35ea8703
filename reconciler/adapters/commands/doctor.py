"""`reconciler doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.adapters import options
from reconciler.adapters.options import Target

if TYPE_CHECKING:
    from reconciler.doctor import Examination
    from reconciler.errors import NotAuthorised
    from reconciler.project import Project
    from reconciler.render.plan import Heading


@click.command()
@options.service
@options.output("text", "json", "yaml")
@options.color
def doctor(target: Target, output: str) -> int:
    """Check endpoint, key, region, workspace, clock, quotas, models and state.

    Sends only reads, so nothing is bought. What the objects of the stack show of facts that no page settles is kept in
    the state, if there is one. Exits 0 where nothing failed, 8 for key or workspace, else 1.
    """
    from reconciler.adapters import manifests
    from reconciler.adapters.output import result
    from reconciler.render.doctor import examination_json, examination_text

    heading, examination = _examined(manifests.read(target), target)
    result(output, lambda: examination_json(examination), lambda width: examination_text(heading, examination, width))
    return examination.exit_code


def _examined(project: Project, target: Target) -> tuple[Heading | None, Examination]:
    """What a command would stop at is here one of the findings."""
    from reconciler import engine
    from reconciler.adapters import connection, stack
    from reconciler.api import Patience
    from reconciler.doctor import examine, not_connected
    from reconciler.errors import NeverSent, Refused

    missing: list[NotAuthorised] = []
    heading = None
    try:
        with connection.connect(
            project, endpoint=target.endpoint, key_file=target.key_file, keyless=missing.append, lasting=False
        ) as service:
            heading = stack.headed(project, service)
            with engine.session(
                project, service.origin, service.key, workspace=heading.workspace, patience=Patience(tries=2)
            ) as session:
                return heading, examine(session, keyless=missing[0] if missing else None)
    except (NeverSent, Refused) as error:
        return heading, not_connected(error)
