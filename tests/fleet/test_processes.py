"""Controllers that are killed, stopped, cut off or robbed of their database, in the middle of work that costs money."""

from __future__ import annotations

from pathlib import Path

from tests.fleet.yard import Gate, Worker, Yard, quiet
from tests.store.conftest import Server
from tests.tally import LONG

STACKS = 16 if LONG else 3


def begun(fleet: Yard) -> None:
    """Work that costs money is under way, and most of it is still to come."""
    fleet.declare(STACKS)
    fleet.start(2)
    fleet.until(lambda: fleet.bought("jobs.create"))


def busy(fleet: Yard) -> Worker:
    """One that is looking at a stack at this moment."""
    while True:
        for worker in fleet.workers:
            if worker.process.poll() is None and fleet.held_by(worker):
                return worker


def settles(fleet: Yard) -> None:
    """Everything comes to what is declared, once."""
    fleet.settle()
    quiet(fleet.service)
    assert fleet.broken() == []
    assert (fleet.bought("jobs.create"), fleet.bought("deployments.create")) == (STACKS, STACKS)


def test_a_fleet_divides_the_work_and_buys_everything_once(fleet: Yard) -> None:
    begun(fleet)
    settles(fleet)
    assert fleet.at_rest() == []
    assert all("Synced  Ready" in worker.said for worker in fleet.workers), "each of them did some"


def test_one_that_is_killed_is_missed_for_a_term_at_most(fleet: Yard) -> None:
    """The stacks that it was looking at are looked at by others, the others all the while."""
    begun(fleet)
    for _ in range(3 if LONG else 2):
        victim = busy(fleet)
        victim.kill()
        held = {name: fleet.rows()[name].epoch for name in fleet.held_by(victim)}
        fleet.until(lambda held=held: all(fleet.rows()[name].epoch > epoch for name, epoch in held.items()))
        fleet.start()
    settles(fleet)


def test_one_that_is_stopped_beyond_its_term_is_passed_by_and_does_no_harm_when_it_goes_on(fleet: Yard) -> None:
    begun(fleet)
    sleeper = busy(fleet)
    sleeper.stop()
    held = {name: fleet.rows()[name].epoch for name in fleet.held_by(sleeper)}
    fleet.until(lambda: all(fleet.rows()[name].epoch > epoch for name, epoch in held.items()))
    fleet.settle()  # without it, what it held included
    sleeper.go_on()
    fleet.look_at_all(2)
    settles(fleet)
    assert sleeper.process.poll() is None


def test_a_database_that_restarts_in_the_middle_of_everything(fleet: Yard, server: Server) -> None:
    begun(fleet)
    for _ in range(3 if LONG else 2):
        busy(fleet)
        server.stop()
        server.start()
        fleet.look_at_all()
    settles(fleet)
    assert all(worker.process.poll() is None for worker in fleet.workers)


def test_one_that_is_cut_off_from_the_database_does_nothing_that_it_cannot_record(
    fleet: Yard, gate: tuple[Gate, Path]
) -> None:
    fleet.declare(STACKS)
    (lonely,) = fleet.start(gate=gate, workers=4)
    fleet.until(lambda: fleet.bought("jobs.create"))
    gate[0].shut()
    fleet.start(2)
    fleet.settle()
    assert "cannot be used" in lonely.said
    gate[0].open()
    before = lonely.said.count("Synced  Ready")
    fleet.until(lambda: lonely.said.count("Synced  Ready") > before)
    settles(fleet)


def test_a_controller_that_is_told_to_end_records_what_it_sent_and_begins_nothing(fleet: Yard) -> None:
    """SIGTERM while the service makes up its mind; whoever comes next goes on from there."""
    fleet.declare(STACKS)
    fleet.service.control(
        "faults", {"faults": [{"operation": "jobs.create", "hold": {"real_s": 1.5, "moment": "after"}}]}
    )
    (worker,) = fleet.start(workers=1)
    fleet.until(lambda: fleet.bought("jobs.create"))
    assert worker.end() == 0
    assert fleet.bought("jobs.create") == 1
    assert "stopping" in worker.said
    assert [intent for kept in fleet.kept() for intent in kept.open] == []
    assert fleet.held_by(worker) == []
    fleet.service.control("faults", {"faults": []})
    fleet.start(2)
    settles(fleet)


def test_stacks_that_are_wrong_keep_none_of_the_others(fleet: Yard) -> None:
    """Nor is one looked at whose state is a file: each machine would find nothing recorded, and buy."""
    fleet.declare(3)
    (fleet.stacks / "s000" / "stack.yaml").write_text("kind: {")
    alone = fleet.stacks / "s001" / "stack.yaml"
    alone.write_text(alone.read_text().replace("backend: postgres", "backend: sqlite"))
    fleet.start(1, workers=1)
    fleet.until(lambda: len(fleet.reports()) == 3 and fleet.reports()["s002"].health.value == "Ready")
    assert fleet.reports()["s000"].error
    assert "do not see" in fleet.reports()["s001"].error
    assert (fleet.bought("jobs.create"), len(fleet.kept())) == (1, 1)
    fleet.declare(2)
    fleet.settle()


def test_a_second_signal_does_not_wait(fleet: Yard) -> None:
    """What was sent stays open in the journal, and is found by its mark."""
    fleet.declare(1)
    fleet.service.control(
        "faults", {"faults": [{"operation": "vocabularies.create", "hold": {"real_s": 5, "moment": "after"}}]}
    )
    (worker,) = fleet.start(workers=1)
    fleet.until(lambda: fleet.bought("vocabularies.create"))
    worker.process.terminate()
    fleet.until(lambda: "stopping" in worker.said)
    worker.process.terminate()
    assert worker.process.wait(60) == 130
    assert "vocabularies" in [one.collection for kept in fleet.kept() for one in kept.open]
    fleet.service.control("faults", {"faults": []})
    fleet.start(1)
    fleet.settle()
    assert fleet.broken() == []
