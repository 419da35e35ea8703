"""Signals during an apply: once to stop cleanly, twice to leave; what the shell had ignored stays ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from reconciler.adapters.interrupts import Interrupts
from tests.adapters.conftest import REPOSITORY


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
        (limit,) = (one for one in threading.enumerate() if isinstance(one, threading.Timer))
    limit.join(timeout=60)
    assert not limit.is_alive()
    assert limit.finished.is_set()


def test_the_second_time_leaves_at_once() -> None:
    """Whoever presses twice does not want to wait for an answer; the journal makes that safe."""
    code = (
        "import os, signal; from reconciler.adapters.interrupts import Interrupts\n"
        "with Interrupts(lambda: None) as signals:\n"
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
