"""The far side of a fleet: one emulator in a process of its own, and the witness of `tests/crash/far.py` before it.

    python -m tests.fleet.far FOLDER DSN SPEED

What is recorded when a write arrives is read from the database, for all stacks together. Where it runs is the first
line on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.crash import far


def recorded(dsn: Any) -> dict[str, Any]:
    """What the database holds; a database that is away is waited for, since its answer is what the trial is about."""
    while True:
        try:
            with psycopg.connect(str(dsn)) as db:
                rows = db.execute("select kind, body from reconciler.records").fetchall()
            break
        except psycopg.errors.UndefinedTable:
            rows = []
            break
        except psycopg.OperationalError:
            time.sleep(0.05)
    bodies = [(kind, json.loads(body)) for kind, body in rows]
    still = ("intent", "unknown", "needs human")
    return {
        "open": [body for kind, body in bodies if kind == "intent" and body["phase"] in still],
        "owned": [f"{body['collection']}/{body['id']}" for kind, body in bodies if kind == "owned"],
    }


if __name__ == "__main__":
    where: Any = far
    where.recorded = recorded
    folder, dsn, speed = sys.argv[1:]
    far.run(Path(folder), dsn, 1, {"speed": float(speed)})  # type: ignore[arg-type]
