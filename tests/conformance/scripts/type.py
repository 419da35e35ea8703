"""The far side of `vendor.Prompt`: runs lines of the `dashscope` command, each in a process forked for it.

Runs in the vendor's environment and imports nothing of the project. The process that forks has loaded what the release
stands on and nothing of the release itself, whose modules read the environment when they are loaded.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from contextlib import suppress


def main():
    """Answers until there is nothing more to type; in a process forked for a line, it is that line."""
    for name in stands_on():
        with suppress(Exception):
            importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        typed = json.loads(line)
        pid = os.fork()
        if not pid:
            sit_down(typed)
            runpy.run_path(typed["command"], run_name="__main__")
            return
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def stands_on():
    """The modules that the command loads and that are not the release's own, found by a process that loads it."""
    read, write = os.pipe()
    if not os.fork():
        importlib.import_module("dashscope.cli")
        with os.fdopen(write, "w") as told:
            json.dump([name for name in sys.modules if name.partition(".")[0] != "dashscope"], told)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        names = json.load(told)
    os.wait()
    return names


def sit_down(typed):
    """From here on this process has what a shell would have given to the command."""
    signal.alarm(typed["timeout_s"])
    for number, path in enumerate((os.devnull, typed["out"], typed["err"])):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.chdir(typed["cwd"])
    os.environ.clear()
    os.environ.update(typed["env"])
    sys.path[0] = os.path.dirname(typed["command"])
    sys.argv = [typed["command"], *typed["arguments"]]


if __name__ == "__main__":
    main()
