"""Anything in any order: edits, applies, kills, lost and late answers, hands behind our back, jumps of the clock."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.crash import invariants
from tests.crash.conftest import LONG, Tally
from tests.crash.lab import Aim, World, Zygote, world
from tests.crash.scenes import APPLY, Scene, declare, documents, teach

COMMAND = (*APPLY, "--prune", "--allow", "retrain=FineTuneJob/j")
EXAMPLES, STEPS = (2000, 40) if LONG else (8, 14)
_numbers = count()


class Simulation(RuleBasedStateMachine):
    """One world and whatever happens to it. After each step what must never happen has not; at the end it settles."""

    zygote: ClassVar[Zygote]
    yard: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.root = self.yard / f"simulation-{next(_numbers)}"
        self.opened = world(self.zygote, self.root)
        self.world: World = self.opened.__enter__()
        self.shape: dict[str, Any] = {"capacity": 4, "words": ("热词",)}
        self.left_out: set[str] = set()
        self.scene = Scene("simulation", self.root, COMMAND, (), 0, None, 1000, frozenset())
        teach(self.world.project, 20)
        self._write()

    def _write(self) -> None:
        everything = documents(**self.shape)
        declare(self.world.project, [d for d in everything if d["metadata"]["name"] not in self.left_out])

    # The author

    @rule(capacity=st.sampled_from([4, 8, 12]))
    def scales(self, capacity: int) -> None:
        self.shape["capacity"] = capacity
        self._write()

    @rule(words=st.sets(st.sampled_from(["热词", "冷词", "新词"]), min_size=1))
    def speaks(self, words: set[str]) -> None:
        self.shape["words"] = tuple(sorted(words))
        self._write()

    @rule(rows=st.sampled_from([20, 24, 30]))
    def teaches(self, rows: int) -> None:
        teach(self.world.project, rows)

    @rule(name=st.sampled_from(["p", "w", "f"]))
    def leaves_out_or_takes_back(self, name: str) -> None:
        self.left_out ^= {name}
        self._write()

    # The tool

    @rule()
    def plans(self) -> None:
        self._told(invariants.survived(self.world))

    @rule()
    def applies(self) -> None:
        self.world.run(*COMMAND)
        self._check()

    @rule(number=st.integers(1, 700))
    def applies_and_is_killed(self, number: int) -> None:
        self.world.run(*COMMAND, aim=Aim("kill", f"#{number}"))
        self._check()

    @rule(number=st.integers(1, 700))
    def applies_and_is_interrupted(self, number: int) -> None:
        self.world.run(*COMMAND, aim=Aim("interrupt", f"#{number}"))
        self._check()

    # The world around it

    @rule(
        what=st.sampled_from(["*.create", "*.update", "*.delete", "*.scale", "*.list", "*.get"]),
        nth=st.integers(1, 3),
        effect=st.sampled_from(
            [
                {"drop": {"moment": "before"}},
                {"drop": {"moment": "after"}},
                {"answer": {"status": 502}},
                {"answer": {"body": "truncated"}},
                {"answer": {"body": "html"}},
                {"refuse": {"status": 503}},
                {"throttle": "rate"},
            ]
        ),
    )
    def the_service_falters(self, what: str, nth: int, effect: dict[str, Any]) -> None:
        self.world.faults({"operation": what, "nth": nth, **effect})

    @rule(seconds=st.sampled_from([1, 30, 100]))
    def lists_are_late(self, seconds: int) -> None:
        self.world.faults({"operation": "*.list", "hide": {"emulated_s": seconds}})

    @rule(seconds=st.sampled_from([1, 3600, 86_400]))
    def time_jumps(self, seconds: int) -> None:
        self.world.service.control("clock", {"advance_s": seconds})

    @rule()
    def somebody_scales(self) -> None:
        for id, shown in self.world.live("deployments").items():
            if shown["status"] == "RUNNING":
                self.world.service.call(
                    "PUT", f"/deployments/{id}/scale", {"capacity": 4 if shown["capacity"] > 4 else 8}
                )
                return

    @rule()
    def somebody_deletes_words(self) -> None:
        for id in sorted(self.world.live("vocabularies"))[:1]:
            body = {"model": "speech-biasing", "input": {"action": "delete_vocabulary", "vocabulary_id": id}}
            self.world.service.call("POST", "/services/audio/asr/customization", body)

    # What must hold

    def _check(self) -> None:
        self._told(
            [line for line in invariants.broken(self.world, self.scene) if line[:2] in ("I1", "I3", "I7", "I8", "I9")]
        )

    def _told(self, problems: list[str]) -> None:
        assert not problems, "\n".join([*problems, str(self.world)])

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.faults()
            problems = [*invariants.converged(self.world, self.scene), *invariants.broken(self.world, self.scene)]
            self._told(problems)
        finally:
            self.opened.__exit__(None, None, None)
            shutil.rmtree(self.root)


def _lost_then_scaled_by_hand(state: Simulation) -> None:
    """Not a failure of the past, but the shape of one: the steps as Hypothesis prints them."""
    state.the_service_falters(effect={"drop": {"moment": "after"}}, nth=1, what="*.create")
    state.applies_and_is_killed(number=300)
    state.lists_are_late(seconds=100)
    state.applies()
    state.somebody_scales()
    state.teaches(rows=30)
    state.applies_and_is_killed(number=450)
    state.leaves_out_or_takes_back(name="p")
    state.applies()


PAST: tuple[Callable[[Simulation], None], ...] = (_lost_then_scaled_by_hand,)
"""Steps that once found something, as they were printed; played on every change."""


@pytest.mark.parametrize("steps", PAST)
def test_the_past(steps: Callable[[Simulation], None], zygote: Zygote, yard: Path, tally: Tally) -> None:
    Simulation.zygote, Simulation.yard = zygote, yard
    state = Simulation()
    state.begin()
    try:
        steps(state)
    finally:
        state.teardown()
    tally["simulations of the past", ""] += 1


@pytest.mark.timeout(100_000)
def test_simulation(zygote: Zygote, yard: Path, tally: Tally) -> None:
    """Derandomised, so that a change is judged by its own doing; the long run draws anew each time."""
    steps: Counter[str] = Counter()

    class Counted(Simulation):
        def teardown(self) -> None:
            steps["simulations"] += 1
            super().teardown()

    Counted.zygote, Counted.yard = zygote, yard
    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not LONG,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    tally["simulations", ""] += steps["simulations"]
