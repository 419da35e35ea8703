"""Signals during an apply: once to stop cleanly, twice to leave; what the shell had ignored stays ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.adapters.interrupts import Interrupts
from tests.adapters.conftest import REPOSITORY, Result, Shell
from tests.desk import WIRE, Emulator, emulator

JOB = "FineTuneJob/tuned"
LEFT = "left at once: not answered yet: "
LATE_S = 2.5  # so long the service has the job in its hands before it takes it


@pytest.fixture(autouse=True)
def hears() -> Iterator[None]:
    """A shell starts what runs in its background deaf to SIGINT, and our children would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_before_anything_is_in_flight_it_interrupts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts(lambda: None):
        os.kill(os.getpid(), signal.SIGINT)


def test_then_it_only_asks_to_stop_and_says_so() -> None:
    told: list[str] = []
    with Interrupts(lambda: told.append("stopping")) as signals:
        signals.arm()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested
    assert told == ["stopping"]


def test_what_ended_in_time_is_not_ended_again() -> None:
    """The limit is for what is in flight; afterwards it would kill a program that went on to something else."""
    with Interrupts(lambda: None) as signals:
        signals.arm()
        os.kill(os.getpid(), signal.SIGTERM)
        timers = (one for one in threading.enumerate() if isinstance(one, threading.Timer))
        (limit,) = (one for one in timers if not one.finished.is_set())  # one of the test before may be on its way out
    limit.join(timeout=60)
    assert not limit.is_alive()
    assert limit.finished.is_set()


@pytest.mark.parametrize("farewell", ["lambda: None", "lambda: 1 / 0"])
def test_the_second_time_leaves_at_once(farewell: str) -> None:
    """Whoever presses twice does not want to wait for an answer; the journal makes that safe."""
    code = (
        "import os, signal; from reconciler.adapters.interrupts import Interrupts\n"
        f"with Interrupts(lambda: None, {farewell}) as signals:\n"
        "    signals.arm()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "raise SystemExit('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, timeout=60, check=False
    )
    assert done.returncode == 130


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(lambda: None) as signals:
            signals.arm()
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.requested
    finally:
        signal.signal(signal.SIGHUP, before)


# A whole apply, with a request in the service's hands -----------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A tiny stack and a service of its own, which is slow to take the job."""

    shell: Shell
    service: Emulator

    def play(self, *rules: dict[str, Any]) -> None:
        self.service.control("faults", {"faults": list(rules)})

    def start(self, wanted: str, *, first: str = "") -> subprocess.Popen[str]:
        """An apply that has just told `wanted` of the job."""
        running = self.shell.start("apply", "-y", "--endpoint", self.service.origin, first=first)
        assert running.stderr is not None
        for line in running.stderr:
            if f"{JOB}  {wanted}" in line:
                return running
        raise AssertionError("it ended before that")

    def next(self) -> Result:
        """Another apply, which waits for nothing: the lease must be free, and nothing forgotten."""
        result = self.shell("apply", "-y", "--wait", "none", "--endpoint", self.service.origin)
        assert result.code in (0, 6), result.err
        return result

    def faults(self) -> list[dict[str, Any]]:
        return list(WIRE.get(f"{self.service.origin}/_emulator/faults").raise_for_status().json()["faults"])

    def creating(self, *, first: str = "") -> subprocess.Popen[str]:
        """An apply whose request for the job has arrived."""
        running = self.start("creating", first=first)
        while not self.faults()[0]["fired"]:
            time.sleep(0.02)
        return running

    @property
    def jobs(self) -> int:
        return self.service.operations().count("jobs.create")


@pytest.fixture
def bench(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with emulator(tmp_path_factory.mktemp("service"), speed=120.0) as service:
        made = Bench(shell, service)
        made.play({"operation": "jobs.create", "nth": 1, "hold": {"real_s": LATE_S}})
        yield made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_once_waits_for_the_answer_and_records_it(bench: Bench, number: int) -> None:
    running = bench.creating()
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopping" in err
    assert "left at once" not in err
    assert f"goes on: {JOB}" in out
    assert bench.jobs == 1
    assert "recovered" not in bench.next().err, "there was nothing to look for"
    assert bench.jobs == 1


@pytest.mark.parametrize(("pause_s", "number"), [(0, signal.SIGTERM), (0.5, signal.SIGINT), (2, signal.SIGINT)])
def test_twice_leaves_at_once_and_the_next_run_finds_what_was_sent(bench: Bench, pause_s: float, number: int) -> None:
    """The last words name the operation; its request arrives after we have gone, and is ours all the same.

    Two equal signals at one moment are one to the kernel.
    """
    running = bench.creating()
    running.send_signal(signal.SIGINT)
    time.sleep(pause_s)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert LEFT in err
    assert f"{JOB} (operation " in err.partition(LEFT)[2]
    assert "the next apply looks for it before anything else" in err
    assert f"recovered: {JOB} was created as" in bench.next().err
    assert bench.jobs == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_waits_only_so_long(bench: Bench, number: int) -> None:
    """Whoever ends us kills us a little later: before that we leave with our last words said and the lease free."""
    running = bench.creating(first="import reconciler.adapters.interrupts as i; i.GRACE_S = 0.2")
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"{JOB} (operation " in err.partition(LEFT)[2]
    assert f"recovered: {JOB} was created as" in bench.next().err
    assert bench.jobs == 1


def test_asked_to_stop_it_does_not_wait_for_what_became_of_a_lost_answer(bench: Bench) -> None:
    """That takes a quarter of an hour on a real service, and the next run does it first of all."""
    bench.play({"operation": "jobs.create", "refuse": {"status": 500}})
    running = bench.start("outcome unknown")
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"outcome unknown: {JOB}" in out


def test_a_signal_while_an_earlier_run_is_cleared_up_changes_nothing(bench: Bench) -> None:
    bench.play({"operation": "jobs.create", "drop": {"moment": "before"}})
    running = bench.start("outcome unknown")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    bench.play({"operation": "jobs.list", "hold": {"real_s": 0}})
    again = bench.shell.start("apply", "-y", "--endpoint", bench.service.origin)
    while not bench.faults()[0]["calls"]:
        time.sleep(0.02)
    again.send_signal(signal.SIGINT)
    _, err = again.communicate(timeout=60)
    assert (again.returncode, err.strip()) == (130, "interrupted")
    plan = bench.shell("plan", "--endpoint", bench.service.origin)
    assert f"! {JOB}" in plan.out
    assert "is not resolved" in plan.out


@pytest.mark.parametrize("reader", ["head -n 1", "true"])
def test_a_reader_that_leaves_early_changes_neither_the_work_nor_its_exit_code(shell: Shell, reader: str) -> None:
    command = f"{sys.executable} -m reconciler apply -y | {reader}; echo ${{PIPESTATUS[0]}} >&2"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=shell.folder,
        env=shell.environment(None),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.stderr.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr
    assert shell("plan", "--detailed-exitcode").code == 0


def test_the_last_words_of_a_run_whose_reader_is_gone_do_not_keep_it(bench: Bench) -> None:
    """Both streams are closed: nothing can be said, and leaving works all the same."""
    running = bench.creating()
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    running.stderr.close()
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=60) == 130
    assert f"recovered: {JOB}" in bench.next().err
    assert bench.jobs == 1
