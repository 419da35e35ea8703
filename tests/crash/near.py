"""The near side of a trial: one command of the real command line, in a process forked for it."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from reconciler import api, apply, engine, observe, store
from reconciler.adapters import cli
from tests.crash import patches, points, seam

HANGS_S = 60  # of real time; a run takes a fraction of a second


def run(order: dict[str, Any]) -> None:
    """Never returns: the process ends with the exit code of the command."""
    paper = Path(order["paper"])
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(paper / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    report = os.open(paper / "points", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    gc.disable()  # collecting would copy what is shared with the zygote
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["folder"])
    os.environ.update(order["env"])
    seen = points.Points(order["mode"], order["at"], report)
    seam.start()
    _hurry(seen)
    if mistake := order["patch"]:
        patches.PATCHES[mistake].install()
    points.install(seen)
    if order["trace"]:
        _be_traced(order["trace"])
    try:
        code = cli.run(order["argv"])
    except BaseException:
        traceback.print_exc()
        code = 70
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if order["mode"] == "record":
        seen.tell()
    points._exit(code)


def _done(work: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future


def _be_traced(trace: str) -> None:
    """Have a tracer attached to this process and its threads to come, or end."""
    anybody, allow = -1, 0x59616D61
    ctypes.CDLL(None).prctl(allow, anybody, 0, 0, 0)
    calls = trace.partition(":")[0]
    tracer = ["strace", "-f", "-q", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={trace}"]
    running = subprocess.Popen([*tracer, "-p", str(os.getpid())], stderr=subprocess.DEVNULL)
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        if running.poll() is not None:
            points._exit(points.UNTRACED)
        seam.wait_truly(0.002)


def _hurry(seen: points.Points) -> None:
    """What would only cost real time: no pace of requests, a heartbeat by the emulated clock, no fine-grained wait.

    And one collection is read after the other, and nothing more is done before the one request under way is answered:
    points have names by their order.
    """
    waits: Any = store
    waits.POLL_S = 5.0
    gathers: Any = apply
    gathers.GATHER_S = HANGS_S
    init: Any = api.Api.__init__
    init.__kwdefaults__["rate_per_s"] = None
    for reads in (observe, engine, apply):
        reads.begun = _done  # type: ignore[attr-defined]

    @contextmanager
    def beating(self: store.Store, epoch: int, lock: store.Lock) -> Iterator[None]:
        last = seam.slept_s()

        def beat() -> None:
            nonlocal last
            if seam.slept_s() - last >= store.BEAT_S:
                last = seam.slept_s()
                with seen.quiet():
                    lock.keep()
                    partial(store.Store._beat, self)(epoch)

        seam.woken.append(beat)
        try:
            yield
        finally:
            seam.woken.remove(beat)

    places: Any = store.Store
    places._beating = beating
