"""The state, kept: what is recorded, who may record, and transactions. Decides nothing about what the rows mean.

One contract, kept by two backends: a SQLite file (`sqlite.py`) for one machine, PostgreSQL (`postgres.py`) for a team.
What `commit` returned from survives a power cut. Reading never creates, migrates or writes anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from reconciler.clock import boottime
from reconciler.errors import StateCorrupt, StateError, StateLocked, StateLost, StateMismatch
from reconciler.state import Event, Intent, Record, Stamp, State, event_of, record_of

SCHEMA = 2
TERM_S = 60.0  # a lease that showed no sign of life for so long may be taken from its holder
BEAT_S = TERM_S / 3
POLL_S = 0.2
TRIES = 3  # to record an answer of the service, before it goes into the rescue file
TABLES = (
    "create table states (name text primary key, stamp text not null, lineage text not null, epoch integer not null,"
    " serial integer not null, holder text not null, since text not null, beat integer not null)",
    "create table records (state text not null, kind text not null, key text not null, body text not null,"
    " seal text not null, primary key (state, kind, key))",
)


class Database(Protocol):
    """One transaction: statements with `?` for their values, and the rows they give."""

    def __call__(self, statement: str, *values: Any) -> Sequence[tuple[Any, ...]]: ...


class Header(NamedTuple):
    """Whose state it is and who holds it. `beat` moves while the holder lives."""

    name: str
    stamp: str
    lineage: str
    epoch: int
    serial: int
    holder: str
    since: str
    beat: int


class Lock(Protocol):
    """Held by this process until it is closed, or until the process ends in whatever way."""

    def close(self) -> None: ...


class Store(ABC):
    """The state of one stack and environment on one account.

    Every method raises StateError for what the disk or the database has against it: StateMismatch when the state
    belongs to another endpoint, workspace or stack, StateCorrupt when it is none.
    """

    where: str
    """What a person calls the place: a path, or a database."""
    rescue: Path
    """The file that takes answers of the service which the store itself would not."""

    def __init__(self, stamp: Stamp, *, clock: Callable[[], float] = boottime) -> None:
        self.stamp, self._clock = stamp, clock
        self.name = f"{stamp.stack}/{stamp.environment}"
        self._state: State | None = None
        self._beaten_at = clock()

    # The contract -----------------------------------------------------------------------------------------------

    def load(self) -> State:
        """What is recorded; an empty State where there is none yet. Writes nothing."""
        with self._usable(), self._reading() as db:
            return self._loaded(db) if db else State(self.stamp)

    @contextmanager
    def lease(self, *, wait_s: float = 0, sleep: Callable[[float], None] = time.sleep) -> Iterator[int]:
        """The right to write, as an epoch that grows with every holder; kept alive while the block runs.

        A dead holder's lease is free at once. One that lives and shows no sign of it for `TERM_S` is taken over, if
        `wait_s` is long enough to see that. Raises StateLocked when another holder keeps it longer than `wait_s`.
        """
        with ExitStack() as held:
            epoch = self._taken(held, wait_s, sleep)
            held.enter_context(self._beating(epoch))
            self._take_in_rescued(epoch)
            yield epoch

    def commit(self, epoch: int, *events: Event) -> State:
        """Record events in one durable transaction and return the state after them.

        Raises StateLost when somebody else holds the lease now, StateError when it cannot be written. Then nothing is
        recorded.
        """
        state, began = (self._state or self.load()).fold(events), self._clock()
        with self._usable(), self._writing() as db:
            fenced = (
                "update states set serial = serial + 1, beat = beat + 1 where name = ? and epoch = ? returning serial"
            )
            serial = db(fenced, self.name, epoch)
            if not serial:
                raise self._lost(epoch)
            for event in events:
                self._write(db, record_of(event))
        self._beaten_at = began
        self._state = state.written(int(serial[0][0]))
        return self._state

    def record(self, epoch: int, *events: Event, sleep: Callable[[float], None] = time.sleep) -> State:
        """Like `commit`, for what the service has already done: it must not be lost to a full disk.

        Tries again with all the room there is; then leaves the events in the rescue file, which the next lease takes
        in, and raises StateError.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return self.commit(epoch, *events)
            except (StateCorrupt, StateLost) as error:
                refusal: StateError = error
                break
            except StateError as error:
                refusal = error
                self._make_room()
                if attempt < TRIES:
                    sleep(POLL_S * attempt)
        self._leave_for_rescue(events)
        raise StateError(
            f"{refusal}; what the service answered is in {self.rescue}", hint="the next run takes it from there"
        ) from refusal

    def fresh(self) -> bool:
        """Whether the lease was renewed so lately that nobody can have taken it over."""
        return self._clock() - self._beaten_at < TERM_S

    def unlock(self, epoch: int) -> None:
        """Take the lease from a holder that a person knows to be gone; refused once another one holds it.

        Its epoch ends here: whatever it still tries to record is refused.
        """
        with self._usable(), self._writing() as db:
            ended = "update states set epoch = epoch + 1, holder = '' where name = ? and epoch = ? returning epoch"
            if not db(ended, self.name, epoch):
                raise self._lost(epoch)

    def header(self) -> Header | None:
        """Whose state it is and who held it last; None where there is none yet."""
        with self._usable(), self._reading() as db:
            return self._header(db) if db else None

    def holder(self) -> Header | None:
        """Who holds the lease and lives, as far as can be seen from here; None where it is free."""
        header = self.header()
        with ExitStack() as tried:
            return header if header and header.holder and not self._locked(tried, header.epoch) else None

    def set_aside(self) -> tuple[str, ...]:
        """Put away a state that cannot be read, so that a new one can take its place; where it went. Deletes nothing.

        Raises StateLocked while somebody works with it.
        """
        raise StateError(f"{self.where} cannot be put away", hint="restore a backup of it")

    def copied_at(self) -> datetime | None:
        """When the copy of the state from before the last lease was made; None where there is none."""
        return None

    # What a backend supplies --------------------------------------------------------------------------------------

    @abstractmethod
    def _usable(self) -> AbstractContextManager[None]:
        """Turns what the medium raises inside the block into errors of the state."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Database | None]:
        """One consistent view; None where there is nothing yet. Writes nothing, whatever version it finds."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Database]:
        """One durable transaction over an existing state: all of the block, or nothing of it."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create or migrate what `_writing` needs, and keep a copy of what was there."""

    @abstractmethod
    def _grab(self, epoch: int) -> Lock | None:
        """The lock that the holder of an epoch has while it lives; None where it does."""

    def _make_room(self) -> None:  # noqa: B027  # a database has no disk of ours to clear
        """Free what was kept aside for recording an answer on a full disk."""

    # Rows -------------------------------------------------------------------------------------------------------

    def _loaded(self, db: Database) -> State:
        header = self._header(db)
        if header is None:
            return State(self.stamp)
        rows = db("select kind, key, body, seal from records where state = ? order by kind, key", header.name)
        state = State(self.stamp, lineage=header.lineage, serial=header.serial)
        return state.fold(event_of(self._unsealed(Record(*row), seal)) for *row, seal in rows)

    def _header(self, db: Database) -> Header | None:
        """The one line about this state, known to be of this account."""
        found = [Header(*row) for row in db("select * from states where name = ?", self.name)]
        if found:
            self._check_stamp(found[0].stamp)
        return found[0] if found else None

    def _check_stamp(self, text: str) -> None:
        try:
            recorded = Stamp(**json.loads(text))
        except (ValueError, TypeError):
            raise StateCorrupt(f"{self.where} does not say whose state it is") from None
        for (name, was), now in zip(asdict(recorded).items(), asdict(self.stamp).values(), strict=True):
            if was != now:
                raise StateMismatch(
                    f"the state in {self.where} belongs to {name} {was or '(none)'}, not to {now or '(none)'}",
                    hint="point at that one again, or give the stack another state",
                )

    def _write(self, db: Database, record: Record) -> None:
        if record.body is None:
            db("delete from records where state = ? and kind = ? and key = ?", self.name, record.kind, record.key)
        else:
            upsert = (
                "insert into records (state, kind, key, body, seal) values (?, ?, ?, ?, ?)"
                " on conflict (state, kind, key) do update set body = excluded.body, seal = excluded.seal"
            )
            db(upsert, self.name, *record, _seal(record))

    def _unsealed(self, record: Record, seal: str) -> Record:
        """A flipped bit in a file still reads as a row, of another id; a row from before there were seals has none."""
        if seal not in ("", _seal(record)):
            raise StateCorrupt(f"{self.where}: the row {record.key[:100]!r} was altered or is damaged")
        return record

    def _begin(self, db: Database) -> None:
        """The line of a state that is new."""
        columns = "name, stamp, lineage, epoch, serial, holder, since, beat"
        insert = f"insert into states ({columns}) values (?, ?, ?, 0, 0, '', '', 0) on conflict do nothing"
        db(insert, self.name, json.dumps(asdict(self.stamp)), uuid4().hex)

    # The lease --------------------------------------------------------------------------------------------------

    def _taken(self, held: ExitStack, wait_s: float, sleep: Callable[[float], None]) -> int:
        """The epoch that is ours from here on. Two locks: the last holder's, to know that it is gone, and our own."""
        deadline, since, before = self._clock() + wait_s, self._clock(), None
        with self._usable():
            self._prepare()
        while True:
            seen = self._required()
            if before is None or seen.epoch != before.epoch or seen.beat != before.beat:
                since, before = self._clock(), seen
            with ExitStack() as tried:
                expired = self._clock() - since >= TERM_S
                if (expired or self._locked(tried, seen.epoch)) and self._locked(tried, seen.epoch + 1):
                    epoch = self._advance(seen)
                    if epoch is not None:
                        held.push(tried.pop_all())
                        return epoch
            if self._clock() >= deadline:
                raise StateLocked(seen.holder or "a process that left no name", seen.since or "an unknown time")
            sleep(POLL_S)

    def _required(self) -> Header:
        header = self.header()
        if header is None:
            raise StateError(f"{self.where} went away")
        return header

    def _locked(self, held: ExitStack, epoch: int) -> bool:
        with self._usable():
            lock = self._grab(epoch)
        if lock is None:
            return False
        held.callback(lock.close)
        return True

    def _advance(self, seen: Header) -> int | None:
        """Our epoch, unless somebody was quicker, or the holder stirred."""
        self._state, self._beaten_at = None, self._clock()
        statement = (
            "update states set epoch = epoch + 1, holder = ?, since = ?, beat = 0"
            " where name = ? and epoch = ? and beat = ? returning epoch"
        )
        with self._usable(), self._writing() as db:
            rows = db(statement, _myself(), _now(), self.name, seen.epoch, seen.beat)
        return int(rows[0][0]) if rows else None

    @contextmanager
    def _beating(self, epoch: int) -> Iterator[None]:
        """Show that we live, until the block ends. What fails here is found by the next commit."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                with suppress(StateError):
                    self._beat(epoch)

        thread = threading.Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat(self, epoch: int) -> None:
        began = self._clock()
        with self._usable(), self._writing() as db:
            if db("update states set beat = beat + 1 where name = ? and epoch = ? returning beat", self.name, epoch):
                self._beaten_at = began

    def _lost(self, epoch: int) -> StateLost:
        return StateLost(f"another run took over the state (our epoch was {epoch}); nothing was recorded")

    # What a full disk would have cost -----------------------------------------------------------------------------

    def _leave_for_rescue(self, events: Sequence[Event]) -> None:
        line = json.dumps({"state": self.name, "records": [record_of(event) for event in events]}) + "\n"
        try:
            self.rescue.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.rescue, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, line.encode())
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            ids = ", ".join(event.result_id for event in events if isinstance(event, Intent) and event.result_id)
            raise StateError(
                f"neither {self.where} nor {self.rescue} can be written ({error.strerror})",
                hint=f"the service made {ids}: keep this line, and run again when there is room" if ids else "",
            ) from error

    def _take_in_rescued(self, epoch: int) -> None:
        """Answers that could not be recorded in time; those whose operation was decided since are left out."""
        try:
            lines = self.rescue.read_text().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(f"{self.rescue} cannot be read: {error.strerror}") from error
        for line in lines:
            events = self._rescued(line)
            known = self.load().intents
            if any(isinstance(one, Intent) and one.op_id in known and known[one.op_id].is_open for one in events):
                self.commit(epoch, *events)
        self.rescue.unlink()

    def _rescued(self, line: str) -> tuple[Event, ...]:
        """The events of one line; none where it was cut off, or belongs to another state of the same folder."""
        try:
            body = json.loads(line)
            if body["state"] != self.name:
                return ()
            return tuple(event_of(Record(*record)) for record in body["records"])
        except (ValueError, KeyError, TypeError):
            return ()


def _seal(record: Record) -> str:
    return hashlib.sha256("\n".join((record.kind, record.key, record.body or "")).encode()).hexdigest()[:16]


def is_here(header: Header) -> bool:
    """Whether a holder runs, or ran, on this computer: only then does a free lock say that it is gone."""
    return header.holder.endswith(f" on {socket.gethostname()}")


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
