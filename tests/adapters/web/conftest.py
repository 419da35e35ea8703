"""A controller's page on loopback, with a stack whose loop proposed something, and two who may look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from reconciler.adapters import stack
from reconciler.adapters.options import Target
from reconciler.adapters.stack import Opened
from reconciler.adapters.web import app
from reconciler.adapters.web.access import Token, Tokens
from reconciler.adapters.web.live import Watched
from reconciler.adapters.web.serving import Place, serve
from reconciler.conditions import Report, to_data
from reconciler.errors import ReconcilerError
from reconciler.project import load
from reconciler.state import State
from reconciler.store.fleet import SqliteFleet, packed
from tests.adapters.conftest import Shell, declare

READER = Token("reader", "r" * 64)
CHIEF = Token("chief", "c" * 64, approves=True)
NAME = "."


@dataclass
class Site:
    """The page, and what lies behind it. `opened` are the stacks that were opened for it, in order."""

    folder: Path
    fleet: SqliteFleet
    origin: str = ""
    more: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    @property
    def watched(self) -> Watched:
        return Watched(lambda: [NAME, *self.more], self.open, self.fleet)

    @contextmanager
    def open(self, name: str, *, writes: bool = False) -> Iterator[Opened]:
        self.opened.append(name)
        if name != NAME:
            raise ReconcilerError(f"there is nothing to open in {name}")
        with stack.connected(load([str(self.folder)]), Target((str(self.folder),)), writes=writes) as opened:
            yield opened

    def client(self, token: Token | None = CHIEF, **headers: str) -> httpx.Client:
        """A program, with its token."""
        known = {"Authorization": f"Bearer {token.secret}"} if token else {}
        return httpx.Client(base_url=self.origin, headers={**known, **headers}, trust_env=False, timeout=60)

    @contextmanager
    def browser(self, token: Token = CHIEF) -> Iterator[httpx.Client]:
        """What a browser has after signing in: a cookie."""
        with self.client(None) as client:
            answer = client.post("/login", json={"token": token.secret}, headers=self.asked)
            assert answer.status_code == 200, answer.text
            yield client

    @property
    def asked(self) -> dict[str, str]:
        """What a page of ours sends with a change."""
        return {"X-Reconciler": "page", "Origin": self.origin}

    def report(self, report: Report) -> None:
        """Leaves a report as a look would, of a stack that is not there to be opened."""
        if report.stack not in self.more:
            self.more.append(report.stack)
        self.fleet.enlist([report.stack])
        self.fleet.hurry([report.stack])
        claim = self.fleet.claim([report.stack])
        assert claim
        assert self.fleet.finish(claim, packed(to_data(report)), due_in_s=36_000)

    def rest(self) -> None:
        """As if the loop had looked at the stack just now."""
        self.fleet.hurry([NAME])
        claim = self.fleet.claim([NAME])
        assert claim
        assert self.fleet.finish(claim, claim.report, due_in_s=36_000)

    def state(self) -> State:
        with self.open(NAME) as opened:
            return opened.session.store.load()

    def digest(self) -> str:
        """Of what waits for approval."""
        (proposal,) = [one for one in self.state().approvals.values() if not one.approved_at]
        return proposal.digest


@contextmanager
def served(folder: Path) -> Iterator[Site]:
    site = Site(folder, SqliteFleet(folder / ".reconciler/fleet.db", "a test"))
    with serve(lambda closing: app(site.watched, Tokens((READER, CHIEF)), closing), Place("127.0.0.1", 0)) as origin:
        site.origin = origin
        yield site


@pytest.fixture(scope="session")
def looked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack that was applied, then declared otherwise, and looked at by a loop that only proposes.

    Its run takes steps enough for a curve.
    """
    folder = tmp_path_factory.mktemp("looked")
    shell = Shell(folder)
    declare(shell)
    shell.change("stack.yaml", "n_epochs: 1", "n_epochs: 8")
    assert shell("apply", "-y").code == 0
    shell.change("stack.yaml", "capacity: 4", "capacity: 8")
    result = shell("controller", "run", "--once", "--mode", "plan")
    assert result.code == 0, result.err
    assert "approve" in result.out
    return folder


@pytest.fixture(scope="session")
def site(looked_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page for whoever only looks."""
    folder = tmp_path_factory.mktemp("site") / "stack"
    shutil.copytree(looked_once, folder)
    with served(folder) as running:
        yield running


@pytest.fixture
def own_site(looked_once: Path, tmp_path: Path) -> Iterator[Site]:
    """A page of its own for a test that changes something."""
    shutil.copytree(looked_once, tmp_path / "stack")
    with served(tmp_path / "stack") as running:
        yield running
