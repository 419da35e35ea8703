"""Starts the commands that are measured, one at a time: an order a line on stdin, what it cost a line on stdout.

The peak memory of a process begins with that of the process it was forked from. This one stays small however much the
benchmark holds by then.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(started(**json.loads(line))), flush=True)


def started(
    command: list[str], folder: str, environment: dict[str, str], said: str, timeout_s: float
) -> list[float | None]:
    """Exit code, seconds of wall-clock and of cpu, peak memory in MiB, bytes written.

    What has not ended after `timeout_s` is killed, and has no exit code.
    """
    with open(said, "wb") as output:  # a memfd: what is printed is not what is written to the disk
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        fd = os.pidfd_open(process.pid)
        in_time = bool(select.select([fd], [], [], timeout_s)[0])
        if not in_time:
            process.kill()
            select.select([fd], [], [])
        os.close(fd)
        wall_s = time.perf_counter() - began
    written = disk_written(process.pid)  # readable until it is reaped
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    code = process.returncode if in_time else None
    return [code, wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, written]


def disk_written(pid: int) -> int:
    """Bytes a process, and those it waited for, caused to be written. 0 on a file system in memory."""
    with open(f"/proc/{pid}/io") as file:
        return int(next(line for line in file if line.startswith("write_bytes")).split()[1])


if __name__ == "__main__":
    main()
