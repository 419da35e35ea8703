"""A state and a service that hold many units, made from what a real apply of one unit left in both.

    python -m tests.bench.seed PROJECT SERVICE UNITS

Every row that is about unit 0 is written once for each other unit, with names, ids and marks of its own: the objects
into the emulator's file, the rows into our state in one transaction. It is a process of its own, since it loads us.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from reconciler.state import Event, Record, Stamp, event_of, record_of
from reconciler.store.sqlite import SqliteStore

NAME = re.compile(r"\b([djph])000000(?!\d)")  # of what belongs to unit 0 (`shapes.py`)
JOB = re.compile(r"ft-\d{12}-[0-9a-z]{4}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def main(project: Path, service: Path, units: int) -> None:
    path = project / ".reconciler/state.db"
    stamp = SqliteStore(path, Stamp("", "", "bench")).whose()
    assert stamp
    store = SqliteStore(path, stamp)
    state = store.load()
    owned = [row for row in state.owned.values() if NAME.search(row.slot.address)]
    intents = [row for row in state.intents.values() if NAME.search(row.slot.address)]
    copied = copier([row.id for row in owned], [row.tag for row in intents], [row.op_id for row in intents])
    ids = {row.id for row in owned}
    with sqlite3.connect(service / "emulator.db") as db:
        multiply(db, ids, copied, units)
    records = [record_of(event) for event in (*owned, *intents)]
    with store.lease() as epoch:
        store.commit(epoch, *events(records, copied, units))


def copier(ids: list[str], marks: list[str], operations: list[str]) -> Callable[[str, int], str]:
    """A text about unit 0, as one about another unit."""
    jobs = sorted({found for one in ids for found in JOB.findall(one)})
    files = [one for one in ids if UUID.fullmatch(one)]
    known = [*jobs, *files, *marks, *operations]
    pattern = re.compile("|".join([NAME.pattern, *map(re.escape, sorted(known, key=len, reverse=True))]))
    place = {text: position for position, text in enumerate(known)}

    def named(old: str, unit: int) -> str:
        number = unit * len(known) + place[old]
        if old in files:
            return str(uuid5(NAMESPACE_OID, f"{number}"))
        if old in operations:
            return f"{number:016x}-5eed00"
        return f"ft-202001010000-{digits(number, 4)}" if old in jobs else digits(number, 8)

    def copy(text: str, unit: int) -> str:
        return pattern.sub(lambda found: f"{found[1]}{unit:06}" if found[1] else named(found[0], unit), text)

    return copy


def digits(number: int, length: int) -> str:
    text = ""
    for _ in range(length):
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text


def events(records: list[Record], copied: Callable[[str, int], str], units: int) -> Iterator[Event]:
    for unit in range(1, units):
        for kind, key, body in records:
            yield event_of(Record(kind, copied(key, unit), copied(body or "", unit)))


def multiply(db: sqlite3.Connection, ids: set[str], copied: Callable[[str, int], str], units: int) -> None:
    """Whatever columns an object has there: its number is given anew, and texts are those of its unit."""
    columns = [name for (name,) in db.execute("SELECT name FROM pragma_table_info('object')") if name != "seq"]
    found = [row for row in db.execute(f"SELECT id, {', '.join(columns)} FROM object ORDER BY seq") if row[0] in ids]
    rows = (
        [copied(value, unit) if isinstance(value, str) else value for value in row[1:]]
        for unit in range(1, units)
        for row in found
    )
    places = ", ".join("?" * len(columns))
    db.executemany(f"INSERT INTO object ({', '.join(columns)}) VALUES ({places})", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
