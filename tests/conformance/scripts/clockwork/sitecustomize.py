"""Loaded by every Python of the vendor's clients at its start: to sleep is to let emulated time pass.

Both releases poll every 30 seconds and cannot be told otherwise. Here each such wait is one request to the emulator's
clock, and the test takes as long as its requests.
"""

import json
import os
import time


def pass_time(seconds):
    from urllib.request import ProxyHandler, Request, build_opener

    request = Request(
        os.environ["EMULATOR_ORIGIN"] + "/_emulator/clock",
        data=json.dumps({"advance_s": seconds}).encode(),
        headers={"Content-Type": "application/json", "X-Emulator-Control": os.environ["EMULATOR_TOKEN"]},
    )
    build_opener(ProxyHandler({})).open(request, timeout=10).close()


time.sleep = pass_time
