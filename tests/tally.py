"""Counts for the end of a test run, gathered from all the processes that it was divided among."""

from __future__ import annotations

import os
from collections import Counter

import pytest

Tally = Counter[tuple[str, str]]


LONG = os.environ.get("RECONCILER_LONG") == "1"


class Counting:
    """One table, as a plug-in of the run: tests count into `tally`."""

    def __init__(self, name: str, heading: str) -> None:
        self.name, self.heading = name, heading
        self.tally: Tally = Counter()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[self.name] = [[*key, count] for key, count in self.tally.items()]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """A process of the run has ended; one that crashed has nothing to tell."""
        for client, surface, count in getattr(node, "workeroutput", {}).get(self.name, ()):
            self.tally[client, surface] += count

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.tally:
            return
        terminalreporter.section(self.heading)
        widest = max(len(client) for client, _ in self.tally)
        for (client, surface), count in sorted(self.tally.items()):
            terminalreporter.line(f"{count:6}  {client:<{widest}} {surface}")
        terminalreporter.line(f"{self.tally.total():6}  in all")


CONFORMANCE = Counting("conformance", "conformance: checks that held, by client and surface")
CRASH = Counting("crash", "crash: " + ("everything" if LONG else "a sample; RECONCILER_LONG=1 runs everything"))
