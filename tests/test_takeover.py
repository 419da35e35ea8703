"""The last look before an account is taken over: a manifest whose first plan is not empty is not let in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import engine
from reconciler.drafts import Draft
from reconciler.resource import Observed, Phase
from reconciler.state import State
from reconciler.takeover import unsettled
from tests.desk import Desk, document, emulator
from tests.test_adoption import SERVING, deploy, pass_time, take_in


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "project").mkdir()
    with emulator(tmp_path / "service") as service:
        yield Desk(tmp_path / "project", service)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SERVING, ""),
        ({**SERVING, "capacity": 8}, "its first plan would not be empty: ~ update"),
        ({**SERVING, "suffix": "other"}, "its first plan would not be empty: ± create"),
    ],
)
def test_what_a_plan_would_change_is_left_alone(desk: Desk, spec: dict[str, object], said: str) -> None:
    """Nobody knows every way in which a service can show one thing and mean another; a plan tells all the same."""
    made = deploy(desk.emulator)
    pass_time(desk)
    desk.declare(document("Deployment", "p", SERVING))
    take_in(desk, "Deployment/p", made)
    desk.declare(document("Deployment", "p", spec))
    seen = Observed(made, Phase.READY, "RUNNING")
    with desk.session() as session:
        state, world = engine.look_around(session)
        draft = Draft("Deployment", "p", "deployments", seen, spec, None)
        found = unsettled(session.project, state, world, {draft.address: draft}, session)
        assert found == ({draft.key: said} if said else {})
        assert draft.key in unsettled(session.project, State(), world, {draft.address: draft}, session)
