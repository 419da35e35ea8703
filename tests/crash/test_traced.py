"""The same without any co-operation: a tracer kills at the n-th system call, or has it fail, wherever that may be.

This also reaches into SQLite, between the writes of one commit. It goes on until no fault fires.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.crash.conftest import LONG, Tally
from tests.crash.lab import Aim, World, Zygote
from tests.crash.points import UNTRACED
from tests.crash.scenes import Scene
from tests.crash.trials import trial

DISK = "write,pwrite64,fsync,fdatasync,unlink,rename,link,ftruncate,openat"
WIRE = "sendto,recvfrom,connect,close"
EFFECTS = {
    "killed": f"{DISK}:signal=KILL",
    "killed on the wire": f"{WIRE}:signal=KILL",
    "no space": "write,pwrite64,fsync,ftruncate:error=ENOSPC",
    "broken disk": "write,pwrite64,fsync,fdatasync:error=EIO",
    "interrupted call": "write,pwrite64,sendto,recvfrom:error=EINTR",
}
SAMPLE = (37, 61, 150)
"""Which calls, where it is not every one: while the lease is taken, after an upload, after the first creations."""


@pytest.fixture
def tracer() -> None:
    if shutil.which("strace") is None:
        assert os.environ.get("CI") != "true", "there is no strace here"
        pytest.skip("there is no strace here")


@pytest.mark.timeout(100_000)
@pytest.mark.usefixtures("tracer")
@pytest.mark.parametrize("effect", EFFECTS)
def test_traced(effect: str, scene: Callable[[str], Scene], zygote: Zygote, yard: Path, tally: Tally) -> None:
    made, ended = scene("create"), False

    def strike(number: int) -> Callable[[World], list[str]]:
        def go_wrong(copy: World) -> list[str]:
            nonlocal ended
            run = copy.run(*made.command, aim=Aim("traced", trace=f"{EFFECTS[effect]}:when={number}"))
            if run.code == UNTRACED:
                pytest.skip("no process may be traced here")
            ended = run.code == 0
            expected = {-signal.SIGKILL} if "killed" in effect else {0, 1, 5, 6, 7}
            return [] if run.code in expected | {os.EX_OK} else [f"I8: {effect} at {number} ended with {run.code}"]

        return go_wrong

    for number in count(1) if LONG else SAMPLE:
        problem = trial(made, yard, strike(number), looked_at=LONG)(zygote)
        tally[f"traced: {effect}", "create"] += 1
        assert not problem, f"{effect} at {number}\n{problem}"
        if LONG and ended and "killed" in effect:
            return
        if LONG and number > 2 * len(made.points):
            return
