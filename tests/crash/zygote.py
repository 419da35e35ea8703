"""One process that has imported everything and opened nothing, and forks a child for each run.

An order a line on stdin, an answer a line on stdout. It waits for its children and ends none but them.
"""

from __future__ import annotations

from tests.crash import seam

seam.install()

import gc  # noqa: E402  # time has to be ours before anything else takes hold of it
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from importlib import import_module  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402
from typing import Any  # noqa: E402

import click  # noqa: E402
import httpx  # noqa: E402
import rich.console  # noqa: E402, F401

import tests.desk  # noqa: E402, F401
from reconciler.adapters.cli import COMMANDS, cli  # noqa: E402
from reconciler.emulator import server  # noqa: E402
from reconciler.project import load  # noqa: E402
from tests.crash import far, near, scenes  # noqa: E402
from tests.crash.points import BROKEN  # noqa: E402

for name in (*COMMANDS, *("carry_out", "stack", "terminal", "views")):
    if name in COMMANDS:
        cli.get_command(click.Context(cli), name)
    else:
        import_module(f"reconciler.adapters.{name}")


def main() -> None:
    _warm()
    for line in sys.stdin:
        order = json.loads(line)
        answer = {"far": _far, "near": _near, "go on": _go_on, "end": _end}[order["do"]](order)
        print(json.dumps(answer), flush=True)


def _warm() -> None:
    """What every run would otherwise compute anew; it closes whatever it opens, for a fork must share none of it."""
    with TemporaryDirectory() as folder:
        project = Path(folder)
        scenes.teach(project, 40)
        scenes.declare(project, scenes.documents())
        for _ in range(2):  # from the files, and from what is kept of them
            load([folder])
        with server.serve(project / "service") as origin:
            httpx.get(f"{origin}/_emulator/info", trust_env=False).raise_for_status()
    gc.collect()
    gc.freeze()


def _forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(0)
        os.open(os.devnull, os.O_RDONLY)
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(BROKEN)


def _far(order: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    pid = _forked(lambda: far.run(Path(order["data"]), Path(order["state"]), write, order["options"]))
    os.close(write)
    with os.fdopen(read) as ready:
        return {"pid": pid, **json.loads(ready.readline())}


def _near(order: dict[str, Any]) -> dict[str, Any]:
    return _waited(_forked(lambda: near.run(order)))


def _go_on(order: dict[str, Any]) -> dict[str, Any]:
    seam.pass_by(order["after_s"])
    os.kill(order["pid"], signal.SIGCONT)
    return _waited(order["pid"])


def _end(order: dict[str, Any]) -> dict[str, Any]:
    os.kill(order["pid"], signal.SIGKILL)
    return _waited(order["pid"])


def _waited(pid: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    return {"pid": pid, "stopped": stopped, "code": None if stopped else os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    main()
