"""The emulator's memory: one SQLite file, the uploaded bytes beside it, and one transaction per request.

Several server processes may share a folder; each request takes the write lock, so what it sees is the whole truth of
that moment. Emulated time is kept here too, and stands still while no server runs. It knows collections of JSON
objects, a ledger and a clock; what the objects mean is for the modules that have routes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import random
import secrets
import sqlite3
import string
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO

from reconciler.emulator import clock
from reconciler.emulator.catalogue import Catalogue, read
from reconciler.emulator.clock import Clock
from reconciler.emulator.fields import Json
from reconciler.emulator.switches import Switches
from reconciler.emulator.traffic import Traffic

FORMAT = 1
SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE clock (emulated_s REAL, monotonic_s REAL, speed REAL, seen_s REAL);
CREATE TABLE draw (collection TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE ledger (seq INTEGER PRIMARY KEY AUTOINCREMENT, entry TEXT NOT NULL);
CREATE TABLE object (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, collection TEXT NOT NULL, id TEXT NOT NULL, gone_at_s REAL,
    body TEXT NOT NULL, UNIQUE (collection, id));
CREATE INDEX object_gone ON object (gone_at_s) WHERE gone_at_s IS NOT NULL;
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER ledger_is_kept BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""
INDEXES = """
CREATE INDEX object_order ON object (collection);
CREATE INDEX object_suffix ON object (collection, json_extract(body, '$.suffix'));
CREATE INDEX object_end ON object (collection, json_extract(body, '$.schedule[#-1][0]'));
CREATE TABLE tally (collection TEXT PRIMARY KEY, count INTEGER NOT NULL, size INTEGER NOT NULL);
INSERT INTO tally
    SELECT collection, count(*), sum(coalesce(json_extract(body, '$.size'), 0)) FROM object GROUP BY collection;
CREATE TRIGGER object_comes AFTER INSERT ON object BEGIN
    INSERT INTO tally VALUES (new.collection, 1, coalesce(json_extract(new.body, '$.size'), 0))
        ON CONFLICT DO UPDATE SET count = count + 1, size = size + excluded.size; END;
CREATE TRIGGER object_goes AFTER DELETE ON object BEGIN
    UPDATE tally SET count = count - 1, size = size - coalesce(json_extract(old.body, '$.size'), 0)
        WHERE collection = old.collection; END;
"""
"""What keeps a request as quick among 25,000 objects as among none; made from the objects wherever it is missing."""
FAULTS = "CREATE TABLE fault (position INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL)"
TOKEN_FILE = "control-token"
TAIL_CHARACTERS = string.digits + string.ascii_lowercase


class Backend:
    """An open data folder. `transaction` is the only way to what is in it."""

    def __init__(
        self,
        data: Path,
        *,
        profile: str,
        speed: float,
        seed: int,
        switches: Mapping[str, object],
        wall_s: float,
        traffic: Traffic | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens or creates the folder (0700, its files 0600). `wall_s` is where emulated time begins, the first time.

        Raises ValueError for an unknown switch, an impossible speed and a folder of another format.
        """
        if not 0 <= speed <= clock.SPEED_MAX:
            raise ValueError(f"the speed is a number from 0 to {clock.SPEED_MAX:.0f}, not {speed}")
        self.profile, self.seed, self.traffic = profile, seed, traffic or Traffic()
        self.switches = Switches(profile, switches)
        self.catalogue: Catalogue = read(profile)
        self.uploads = data / "uploads"
        self.closing = threading.Event()  # long answers end when it is set
        self.monotonic = monotonic
        self._lock = threading.Lock()
        for folder in (data, self.uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        self._presence = _private(data / "servers.lock")
        alone = _lock_alone(self._presence)
        self._db = _open(data / "emulator.db")
        if alone:
            self._begin(data, speed=speed, wall_s=wall_s)
        self._settle_in()

    def _begin(self, data: Path, *, speed: float, wall_s: float) -> None:
        """What only the first server of a folder does: create, let time go on, forget faults, sweep."""
        if not self._db.execute("PRAGMA user_version").fetchone()[0]:
            self._db.executescript(f"BEGIN; {SCHEMA}")
            self._db.execute("INSERT INTO clock VALUES (?, ?, ?, ?)", (wall_s, self.monotonic(), speed, wall_s))
            self._db.execute("INSERT INTO fact VALUES ('install_id', ?)", (uuid.uuid4().hex,))
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute("COMMIT")
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'tally'").fetchone():
            self._db.executescript(f"BEGIN; {INDEXES} COMMIT;")
        _save(self._db, _load(self._db).resumed(self.monotonic(), speed=speed))
        self._db.execute("DELETE FROM fact WHERE name = 'thawed_speed'")
        self._db.execute("DROP TABLE IF EXISTS fault")
        self._db.execute(FAULTS)
        if not (data / TOKEN_FILE).exists():
            with _private(data / TOKEN_FILE) as file:
                file.write(secrets.token_hex(16))
        known = {row[0] for row in self._db.execute("SELECT id FROM object WHERE collection = 'files'")}
        for path in self.uploads.iterdir():
            if path.name not in known:
                path.unlink()

    def _settle_in(self) -> None:
        """From here on other servers may come."""
        fcntl.flock(self._presence, fcntl.LOCK_SH)
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found != FORMAT:
            self.close()
            raise ValueError(f"the emulator's data folder has format {found}, this version reads {FORMAT}")
        (self.install_id,) = self._db.execute("SELECT value FROM fact WHERE name = 'install_id'").fetchone()
        self._clock = _load(self._db)

    def now_s(self) -> float:
        """Emulated now, without asking the disk."""
        return self._clock.now_s(self.monotonic())

    def shared_now_s(self) -> float:
        """Emulated now, with jumps that another server of the folder was asked for."""
        with self._lock:
            self._clock = _load(self._db)
        return self.now_s()

    def has_faults(self) -> bool:
        with self._lock:
            return self._db.execute("SELECT 1 FROM fault LIMIT 1").fetchone() is not None

    @contextlib.contextmanager
    def transaction(self, operation: str = "") -> Iterator[Transaction]:
        """All or nothing, except time: what was seen in a refused request was seen all the same."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                tx = self._enter(operation)
                try:
                    yield tx
                except BaseException:
                    self._db.execute("ROLLBACK TO work")
                    tx.after_commit.clear()
                    raise
            finally:
                self._db.execute("COMMIT")
                self._clock = _load(self._db)
            for step in tx.after_commit:
                step()

    def _enter(self, operation: str) -> Transaction:
        clock_now = _load(self._db)
        now_s = clock_now.now_s(self.monotonic())
        _save(self._db, clock_now.seen(now_s))
        self._db.execute("DELETE FROM object WHERE gone_at_s <= ?", (now_s,))
        self._db.execute("SAVEPOINT work")
        return Transaction(self, self._db, operation, now_s)

    def close(self) -> None:
        self.closing.set()
        with self._lock:
            self._db.close()
            self._presence.close()


@dataclass(frozen=True)
class Paging:
    """How numbered pages lie, as they do to somebody who turns them while others write.

    From the second page on, `insert` shows the last item again, as if something new had come, and `delete` skips one,
    as if something had gone; `repeat` shows the page before, `reorder` every even page in the opposite order.
    """

    shift: str | None = None
    total: int = 0

    def order_and_offset(self, number: int, size: int) -> tuple[str, int]:
        turned = number > 1
        moved = {"insert": -1, "delete": 1, "repeat": -size}.get(self.shift or "", 0) if turned else 0
        order = "ASC" if self.shift == "reorder" and number % 2 == 0 else "DESC"
        return order, (number - 1) * size + moved


class Transaction:
    """One request's view of everything, at one emulated moment.

    `hidden` are ids that this request does not see, `paging` how its lists lie, `faults_met` what its entries in the
    ledger say of that; `recorded` are the ids it has entered there.
    """

    def __init__(self, backend: Backend, db: sqlite3.Connection, operation: str, now_s: float) -> None:
        self.backend, self.operation, self.now_s = backend, operation, now_s
        self.profile, self.switches, self.catalogue = backend.profile, backend.switches, backend.catalogue
        self.after_commit: list[Callable[[], object]] = []
        self.recorded: list[str] = []
        self.faults_met: tuple[str, ...] = ()
        self.hidden: Collection[str] = ()
        self.paging = Paging()
        self._db = db

    # Objects

    def get(self, collection: str, id: str) -> Json | None:
        row = self._db.execute("SELECT body FROM object WHERE collection = ? AND id = ?", (collection, id)).fetchone()
        return json.loads(row[0]) if row and id not in self.hidden else None

    def page(self, collection: str, number: int, size: int, **equal: object) -> tuple[int, list[Json]]:
        """How many there are, and one page of them, newest first; past the last page: none, and the same total."""
        where, values = self._where(collection, equal)
        if equal or self.hidden:
            (total,) = self._db.execute(f"SELECT count(*) FROM object {where}", values).fetchone()
        else:
            total, _ = self.count_and_size(collection)
        order, offset = self.paging.order_and_offset(number, size)
        chosen = f"SELECT seq FROM object {where} ORDER BY seq {order} LIMIT ? OFFSET ?"  # by the index alone
        rows = self._db.execute(
            f"SELECT body FROM object WHERE seq IN ({chosen}) ORDER BY seq {order}", (*values, size, offset)
        )
        return max(0, total + self.paging.total), [json.loads(body) for (body,) in rows]

    def all(self, collection: str, **equal: object) -> list[Json]:
        """Oldest first."""
        return self._all(*self._where(collection, equal))

    def unfinished(self, collection: str) -> list[Json]:
        """Those whose schedule has not come to its last entry, or comes to it now. Oldest first."""
        where, values = self._where(collection, {})
        return self._all(f"{where} AND json_extract(body, '$.schedule[#-1][0]') >= ?", (*values, self.now_s))

    def _all(self, where: str, values: tuple[object, ...]) -> list[Json]:
        rows = self._db.execute(f"SELECT body FROM object {where} ORDER BY seq", values)
        return [json.loads(body) for (body,) in rows]

    def count_and_size(self, collection: str) -> tuple[int, int]:
        """How many objects there are, and the sum of their `size`, which never changes."""
        row = self._db.execute("SELECT count, size FROM tally WHERE collection = ?", (collection,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def ids(self, collection: str, *, after_seq: int = 0, created_after_s: float = -math.inf) -> set[str]:
        """Of the objects that came after the one of this number and after this emulated time."""
        rows = self._db.execute(
            "SELECT id FROM object WHERE collection = ? AND seq > ? AND json_extract(body, '$.created_s') > ?",
            (collection, after_seq, created_after_s),
        )
        return {id for (id,) in rows}

    def newest_seq(self) -> int:
        """The number of the object that came last, of any collection."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'object'").fetchone()
        return int(row[0]) if row else 0

    def insert(self, collection: str, id: str, body: Json) -> None:
        self._db.execute("INSERT INTO object (collection, id, body) VALUES (?, ?, ?)", (collection, id, _dump(body)))

    def replace(self, collection: str, id: str, body: Json) -> None:
        self._db.execute("UPDATE object SET body = ? WHERE collection = ? AND id = ?", (_dump(body), collection, id))

    def remove(self, collection: str, id: str, *, at_s: float | None = None) -> None:
        """At once, or at an emulated time to come."""
        gone_at_s = self.now_s if at_s is None else at_s
        self._db.execute("UPDATE object SET gone_at_s = ? WHERE collection = ? AND id = ?", (gone_at_s, collection, id))
        self._db.execute("DELETE FROM object WHERE gone_at_s <= ?", (self.now_s,))

    def draw(self, collection: str) -> random.Random:
        """Chance for the next object of a collection: the same for the same seed and sequence of objects."""
        (count,) = self._db.execute(
            "INSERT INTO draw VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count", (collection,)
        ).fetchone()
        return random.Random(f"{self.backend.seed}/{collection}/{count}")

    def fresh_tail(self, chance: random.Random, collection: str, prefix: str) -> str:
        """Four characters that end no id of the collection yet, as the service ends the ids of jobs (contract §2.3)."""
        while True:
            tail = "".join(chance.choices(TAIL_CHARACTERS, k=4))
            if self.get(collection, prefix + tail) is None:
                return tail

    def _where(self, collection: str, equal: Mapping[str, object]) -> tuple[str, tuple[object, ...]]:
        where, values = "WHERE collection = ?", (collection, *equal.values())
        where += "".join(f" AND json_extract(body, '$.{member}') = ?" for member in equal)
        if not self.hidden:
            return where, values
        return f"{where} AND id NOT IN (SELECT value FROM json_each(?))", (*values, json.dumps(list(self.hidden)))

    # The ledger

    def record(self, id: str, *, price_cny: Decimal | None = Decimal(0), unit: str = "once", **facts: object) -> None:
        """Appends what this request commits under its operation; None is a price nobody knows, 0 is free."""
        entry = {
            "at": clock.spaced(self.now_s),
            "operation": self.operation,
            "id": id,
            "price_cny": None if price_cny is None else float(price_cny),
            "unit": unit,
            **({"faults": list(self.faults_met)} if self.faults_met else {}),
            **facts,
        }
        self.recorded.append(id)
        self._db.execute("INSERT INTO ledger (entry) VALUES (?)", (_dump(entry),))

    def ledger(self) -> list[Json]:
        rows = self._db.execute("SELECT seq, entry FROM ledger ORDER BY seq")
        return [{"seq": seq, **json.loads(entry)} for seq, entry in rows]

    # The world

    @property
    def read_only(self) -> bool:
        return self._db.execute("SELECT 1 FROM fact WHERE name = 'read_only'").fetchone() is not None

    def set_read_only(self, on: bool) -> None:
        self._db.execute("DELETE FROM fact WHERE name = 'read_only'")
        if on:
            self._db.execute("INSERT INTO fact VALUES ('read_only', 'on')")

    @property
    def speed(self) -> float:
        """0 while time stands still."""
        return _load(self._db).speed

    @property
    def frozen(self) -> bool:
        return self._thawed_speed() is not None

    def advance(self, by_s: float) -> None:
        """Emulated time jumps ahead; from the next request on everybody sees it."""
        _save(self._db, _load(self._db).advanced(by_s))

    def set_speed(self, speed: float) -> None:
        """At once, or, while time is frozen, once it thaws."""
        if self.frozen:
            self._db.execute("UPDATE fact SET value = ? WHERE name = 'thawed_speed'", (str(speed),))
        else:
            self._pace(speed)

    def freeze(self) -> None:
        """Time stands still, except for jumps, until it thaws or the last server of the folder has stopped."""
        if not self.frozen:
            self._db.execute("INSERT INTO fact VALUES ('thawed_speed', ?)", (str(self.speed),))
            self._pace(0)

    def thaw(self) -> None:
        speed = self._thawed_speed()
        if speed is not None:
            self._db.execute("DELETE FROM fact WHERE name = 'thawed_speed'")
            self._pace(speed)

    def _thawed_speed(self) -> float | None:
        row = self._db.execute("SELECT value FROM fact WHERE name = 'thawed_speed'").fetchone()
        return float(row[0]) if row else None

    def _pace(self, speed: float) -> None:
        _save(self._db, _load(self._db).paced(self.backend.monotonic(), speed=speed))

    # Faults

    def faults(self) -> list[Json]:
        """In their order."""
        return [json.loads(body) for (body,) in self._db.execute("SELECT body FROM fault ORDER BY position")]

    def set_faults(self, rows: Iterable[Json]) -> None:
        self._db.execute("DELETE FROM fault")
        self._db.executemany("INSERT INTO fault (body) VALUES (?)", [(_dump(row),) for row in rows])


def _private(path: Path) -> IO[str]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")


def _lock_alone(presence: IO[str]) -> bool:
    """Every server holds a shared lock. Who gets the exclusive one is the first, and keeps it until all is set up."""
    try:
        fcntl.flock(presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(presence, fcntl.LOCK_SH)
        return False
    return True


def _open(path: Path) -> sqlite3.Connection:
    _private(path).close()
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
    try:
        db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        db.close()
        raise ValueError(f"{path.name} in the data folder cannot be used: {error}") from error
    db.execute("PRAGMA synchronous = OFF")  # survives a killed process; losing power may lose an emulator
    return db


def _load(db: sqlite3.Connection) -> Clock:
    return Clock(*db.execute("SELECT emulated_s, monotonic_s, speed, seen_s FROM clock").fetchone())


def _save(db: sqlite3.Connection, clock_now: Clock) -> None:
    db.execute(
        "UPDATE clock SET emulated_s = ?, monotonic_s = ?, speed = ?, seen_s = ?",
        (clock_now.emulated_s, clock_now.monotonic_s, clock_now.speed, clock_now.seen_s),
    )


def _dump(body: Json) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
