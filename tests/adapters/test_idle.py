"""A controller with nothing to do: what did not change is not done again, and whatever did is found at once."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import conditions, engine, kinds, planning, project, surgery
from reconciler.adapters.looking import Looker
from reconciler.apply import Terms
from reconciler.approvals import Mode
from reconciler.conditions import Health, Report, Sync
from reconciler.controller import Controller, Pace, report_of
from reconciler.source import Folder
from reconciler.store import Store
from reconciler.store.fleet import SqliteFleet
from tests.calls import calls_of
from tests.desk import DATASET, JOB, WORDS, Desk, texts

HYPER = {"n_epochs": 1, "batch_size": 8, "max_length": 2048}
PARSERS = [cls.parse for kind in kinds.RESOURCES.values() for cls in kind.collections]
THOUGHT = (
    project.load,
    Store.load,
    planning.make_plan,
    conditions.after_look,
    conditions.from_data,
    *PARSERS,
)


@dataclass
class Watch:
    """A controller of a desk's stack that runs on and on; looks are a minute apart."""

    desk: Desk
    mode: Mode = Mode.OBSERVE
    now_s: float = 1000.0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = self.listed("me")
        look = Looker(
            Folder(self.desk.root),
            self.mode,
            endpoint=self.desk.emulator.origin,
            called=lambda operation, outcome: self.asked.append(operation),
            clock=lambda: self.now_s,
        )
        self.controller = Controller(self.fleet, lambda: ["."], look, Pace(quiet_s=60, busy_s=60))

    def listed(self, holder: str) -> SqliteFleet:
        """The list as another process would open it."""
        return SqliteFleet(self.desk.root / ".reconciler/fleet.db", holder, clock=lambda: self.now_s)

    def look(self, after_s: float = 61) -> Report:
        self.thoughts(after_s)
        return report_of(".", self.fleet.reports()["."])

    def rest(self) -> Report:
        """After so many looks nothing is new any more, and all files have looked the same for long enough."""
        return [self.look() for _ in range(3)][-1]

    def thoughts(self, after_s: float = 61) -> Counter[str]:
        """What one more look does again."""
        self.asked.clear()
        self.now_s += after_s
        if after_s < 60:
            self.fleet.hurry(["."])
        with calls_of(*THOUGHT) as calls:
            assert self.controller.once() == 1
        return calls


@pytest.fixture
def watch(desk: Desk) -> Watch:
    desk.rows("d.jsonl", texts(40))
    desk.declare(DATASET, JOB, WORDS)
    desk.apply()
    desk.clock.sleep(3600)
    return Watch(desk)


def files(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """All that is kept beside the manifests, so that one more write would show, even of the same."""
    kept = (path for path in (root / ".reconciler").rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in kept}


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.APPLY])
def test_an_idle_look_asks_the_service_and_does_nothing_else(watch: Watch, mode: Mode) -> None:
    watch = replace(watch, mode=mode)
    first = watch.rest()
    asked, kept = list(watch.asked), files(watch.desk.root)
    assert watch.thoughts() == Counter()
    assert sorted(watch.asked) == sorted(asked)
    assert files(watch.desk.root) == kept
    assert (first.sync, first.health, len(first.conditions)) == (Sync.SYNCED, Health.READY, 3)
    last = watch.look()
    assert (last.conditions, last.events, last.fresh) == (first.conditions, first.events, 0)


def test_a_look_that_found_nothing_is_told_of_all_the_same(watch: Watch) -> None:
    told: list[str] = []
    watch.controller.looked = lambda name, look: told.append(look.report.succeeded_at)
    watch.rest()
    watch.look()
    assert len(told) == 4
    assert watch.fleet.due_in_s()["."] == 60
    watch.now_s += 61
    assert (watch.fleet.due_in_s()["."], watch.fleet.queue()) == (0, (1, 1, 0))


def _edited_unseen(watch: Watch) -> None:
    """As long as before, and with the time of before."""
    path = watch.desk.root / "stack.yaml"
    facts, text = path.stat(), path.read_text(encoding="utf-8")
    path.write_text(text.replace("weight: 4", "weight: 5"), encoding="utf-8")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _another_file(watch: Watch) -> None:
    watch.desk.write("more/words.yaml", json.dumps({**WORDS, "metadata": {"name": "x"}}))


def _other_rows(watch: Watch) -> None:
    path = watch.desk.root / "d.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("question 7", "question 9"), encoding="utf-8")


def _changed_by_hand(watch: Watch) -> None:
    (row,) = [row for row in watch.desk.state().owned.values() if row.collection == "vocabularies"]
    words = [{"text": "别", "weight": 1}]
    changed = {"action": "update_vocabulary", "vocabulary_id": row.id, "vocabulary": words}
    watch.desk.emulator.call("POST", "/services/audio/asr/customization", {"model": "speech-biasing", "input": changed})


def _forgotten(watch: Watch) -> None:
    with watch.desk.session() as session:
        engine.operate(session, lambda state, deed: surgery.remove(state, next(iter(state._rows)), deed))


@pytest.mark.parametrize("change", [_edited_unseen, _another_file, _other_rows, _changed_by_hand, _forgotten])
def test_whatever_changed_is_found_by_the_very_next_look(watch: Watch, change: Callable[[Watch], object]) -> None:
    assert watch.rest().sync is Sync.SYNCED
    change(watch)
    found = watch.look()
    assert found.sync is Sync.OUT_OF_SYNC
    assert found.fresh, "and it is an event"


def test_a_pause_is_seen_although_nothing_else_moved(watch: Watch) -> None:
    watch.rest()
    with watch.desk.session() as session:
        engine.operate(session, lambda state, deed: surgery.pause(state, [""], deed))
    assert watch.look().health is Health.PAUSED


def test_a_file_that_is_gone_is_a_mistake_at_once(watch: Watch) -> None:
    watch.rest()
    (watch.desk.root / "d.jsonl").unlink()
    assert "d.jsonl" in watch.look().error
    watch.desk.rows("d.jsonl", texts(40))
    assert watch.look().error == ""


def test_files_are_read_until_they_have_looked_the_same_for_longer_than_any_clock_is_coarse(watch: Watch) -> None:
    """git's rule: one more change in the same moment would leave them looking the same."""
    assert [watch.thoughts(after_s)["load"] for after_s in (61, 0.5, 1, 0.5, 0.5)] == [1, 1, 1, 1, 0]


def test_files_that_are_touched_and_say_the_same_change_nothing(watch: Watch) -> None:
    """What they say is what decides, not when somebody wrote it."""
    watch.rest()
    os.utime(watch.desk.root / "stack.yaml")
    watch.desk.rows("d.jsonl", texts(40))
    assert watch.thoughts() == Counter({"load": 1})


def test_what_time_alone_can_change_is_thought_out_at_each_look(watch: Watch) -> None:
    """A run that goes on: it may be over time, without a word of its list being another."""
    longer = {**JOB, "spec": {**JOB["spec"], "hyperParameters": {**HYPER, "n_epochs": 2}}}
    second: dict[str, Any] = {**longer, "metadata": {"name": "k"}}
    watch.desk.declare(DATASET, JOB, second, WORDS)
    watch.desk.apply(Terms(wait="created"))
    for _ in range(4):
        assert watch.thoughts()["make_plan"] == 1
    assert watch.look().health is Health.PROGRESSING


def test_another_controller_on_the_list_takes_over_and_the_first_notices(watch: Watch) -> None:
    other = watch.listed("other")
    watch.rest()
    watch.now_s += 61
    claim = other.claim(["."])
    assert claim
    assert watch.controller.once() == 0, "it is being looked at"
    assert other.finish(claim, claim.report, due_in_s=60)
    assert watch.controller.once() == 0, "and was, just now"
    assert watch.look().sync is Sync.SYNCED
