"""What the journal costs a create, and how long the recovery of a thousand open operations takes.

    python -m tests.bench.journal [OPERATIONS]

The store is on the disk of the temporary folder; the service is the emulator on loopback, its clock a number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from reconciler import catalogue, kinds
from reconciler.api import Api, Key
from reconciler.recover import recover
from reconciler.resource import Content, Effect, Request, Slot
from reconciler.state import Intent, IntentPhase, Stamp, tag
from reconciler.store.sqlite import SqliteStore
from tests.desk import KEY, Clock, Emulator, emulator

AT = "2026-11-02 14:05:00"


def main(operations: int) -> None:
    with (
        TemporaryDirectory() as name,
        emulator(Path(name) / "service") as service,
        Api(service.origin, Key(KEY)) as api,
    ):
        stamp = Stamp(api.identify(), "", "bench")
        per_create(Path(name), stamp, api)
        recovery(Path(name), stamp, api, service, operations)


def per_create(folder: Path, stamp: Stamp, api: Api) -> None:
    """Two transactions a create: the intent, and the answer with its row."""
    store = SqliteStore(folder / "create.db", stamp)
    with store.lease() as epoch:

        def journalled(number: int) -> None:
            one = intent(stamp, number)
            store.commit(epoch, one)
            done = replace(one, phase=IntentPhase.DONE, result_id=f"f-{number}")
            store.record(epoch, done, one.owned(f"f-{number}", AT))

        journal_ms = each_ms(journalled, 200)
    request = Request("jobs.list", "GET", "/fine-tunes")
    call_ms = each_ms(lambda number: api.send(request), 200)
    print(f"journal of one create: {journal_ms:.2f} ms (median of 200); a list call on loopback: {call_ms:.2f} ms")


def recovery(folder: Path, stamp: Stamp, api: Api, service: Emulator, operations: int) -> None:
    """Vocabulary lists are few on an account, so the open operations are uploads: all made, no answer recorded."""
    store = SqliteStore(folder / "recover.db", stamp)
    intents = [intent(stamp, number) for number in range(operations)]
    for one in intents:
        form = {"descriptions": f"reconciler {one.tag} {one.slot}"}
        upload(api, form, one.slot.part)
    with store.lease() as epoch:
        store.commit(epoch, *(replace(one, at=f"{api.now():%Y-%m-%d %H:%M:%S}") for one in intents))
        collections = kinds.collections(catalogue.load().for_profile("2026"))
        began = time.perf_counter()
        found = recover(store, epoch, api, collections, sleep=Clock(service).sleep)
        took_s = time.perf_counter() - began
    adopted = sum(one.intent.phase is IntentPhase.ADOPTED for one in found)
    print(f"recovery of {operations} open operations: {took_s:.2f} s, {adopted} adopted")


def upload(api: Api, form: dict[str, str], name: str) -> None:
    content = Content(name, (name,), 0, "d41d8cd98f00b204e9800998ecf8427e")
    api.send(Request("files.create", "POST", "/files", effect=Effect.ONCE, form=form, content=content))


def intent(stamp: Stamp, number: int) -> Intent:
    slot, fields = Slot("Dataset/d", f"{number}.jsonl"), {"source": "d41d8cd98f00b204e9800998ecf8427e-0"}
    mark = tag(stamp, slot, "g", 0)
    return Intent(f"{number:08x}-bench", slot, "files", "create", "g", mark, 0, 1, AT, fields)


def each_ms(deed: Callable[[int], object], times: int) -> float:
    taken = []
    for number in range(times):
        began = time.perf_counter()
        deed(number)
        taken.append(time.perf_counter() - began)
    return 1000 * median(taken)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
