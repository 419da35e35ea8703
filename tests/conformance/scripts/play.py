"""The far side of `vendor.Player`: plays scenes of one script, each asked for in a line of JSON and answered in one.

Runs in the vendor's environment and imports nothing of the project. A scene is a function of that script that takes a
`Stage`; standard output belongs to the conversation, so whatever the SDK prints goes to standard error.
"""

import importlib
import json
import os
import sys
import time
import traceback

POLLS_MAX = 300


class Stage:
    """What a scene is given: where the emulator is, what it holds, and somebody who writes down what is found."""

    def __init__(self, origin, token, key, facts):
        self.origin, self.key, self.facts = origin, key, facts
        self.base_url = f"{origin}/api/v1"
        self.checks = []
        os.environ["EMULATOR_ORIGIN"], os.environ["EMULATOR_TOKEN"] = origin, token

    def equal(self, what, got, wanted):
        self._write(what, got, wanted, got == wanted)

    def contains(self, what, got, wanted):
        self._write(what, got, wanted, wanted in got)

    def true(self, what, fact, seen=None):
        self._write(what, seen if seen is not None else fact, True, bool(fact))

    def until(self, what, read, wanted):
        """Reads every 30 seconds until it is as wanted; what the clients' own waiting does where there is one."""
        for _ in range(POLLS_MAX):
            seen = read()
            if seen == wanted:
                break
            time.sleep(30)
        self.equal(what, seen, wanted)

    def _write(self, what, got, wanted, holds):
        self.checks.append({"what": what, "got": _shown(got), "wanted": _shown(wanted), "holds": holds})


def _shown(value):
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def main():
    answers, sys.stdout = sys.stdout, sys.stderr
    scenes = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        wanted = json.loads(line)
        stage = Stage(wanted["origin"], wanted["token"], wanted["key"], wanted["facts"])
        error = ""
        try:
            getattr(scenes, wanted["scene"])(stage)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"checks": stage.checks, "error": error}), file=answers, flush=True)


if __name__ == "__main__":
    main()
