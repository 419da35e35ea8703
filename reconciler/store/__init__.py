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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol
from uuid import uuid4

from reconciler.clock import boottime
from reconciler.errors import StateCorrupt, StateError, StateLocked, StateLost, StateMismatch
from reconciler.state import Event, Intent, Record, Stamp, State, event_of, record_of
from reconciler.store import disk

SCHEMA = 2
TERM_S = 60.0  # a lease that showed no sign of life for so long may be taken from its holder
BEAT_S = TERM_S / 3
POLL_S = 0.5
HANG_S = 5.0  # how long a beat that hangs may hold up the end of its lease
TRIES = 3  # to record an answer of the service, before it goes into a rescue file
TABLES = (
    "create table states (name text primary key, stamp text not null, lineage text not null, epoch integer not null,"
    " serial integer not null, seal text not null, holder text not null, since text not null, beat integer not null)",
    "create table records (state text not null references states (name), kind text not null, key text not null,"
    " body text not null, primary key (state, kind, key))",
)


class Database(Protocol):
    """One transaction: statements with `?` for their values, and the rows they give."""

    def __call__(self, statement: str, *values: Any) -> Sequence[tuple[Any, ...]]: ...


class Header(NamedTuple):
    """Whose state it is and who holds it. `beat` moves while the holder lives; `seal` is over all that is recorded."""

    name: str
    stamp: str
    lineage: str
    epoch: int
    serial: int
    seal: str
    holder: str
    since: str
    beat: int


HEADER = ", ".join(Header._fields)
NOBODY = Header("", "", "", 0, 0, "", "", "", 0)


class Sighting(NamedTuple):
    """The lease of somebody else, and since when nothing about it moved, by the clock of whoever looks."""

    epoch: int
    beat: int
    since: float


class Lock(Protocol):
    """Held by this process until it is closed, or until the process ends in whatever way."""

    def keep(self) -> None:
        """Take it again where the medium may have lost it."""

    def close(self) -> None: ...


class _Kept(NamedTuple):
    """A state with the epoch it was read or written in, a digest of each of its rows, and their sum."""

    state: State
    epoch: int
    digests: dict[tuple[str, str], int]
    total: int = 0


class Store(ABC):
    """The state of one stack and environment on one account.

    Every method raises StateError for what the disk or the database has against it: StateMismatch when the state
    belongs to another endpoint, workspace or stack, StateCorrupt when it is none.
    """

    where: str
    """What a person calls the place: a path, or a database. Never a password."""
    shared: ClassVar[bool] = False
    """Whether programs on other machines see it too."""
    rescue: Path
    """How the names of the files begin that take answers of the service which the store itself would not."""

    def __init__(self, stamp: Stamp, *, clock: Callable[[], float] = boottime) -> None:
        self.stamp, self._clock = stamp, clock
        self.name = f"{stamp.stack}/{stamp.environment}"
        self._kept: _Kept | None = None
        self._beaten_at = clock()
        self.sightings: dict[str, Sighting] = {}
        """By place and name. Stores that share it see as much in several short looks as one does that waits long."""

    # The contract -----------------------------------------------------------------------------------------------

    def load(self) -> State:
        """What is recorded; an empty State where there is none yet. Writes nothing."""
        return self._read().state

    @contextmanager
    def lease(self, *, wait_s: float = 0, sleep: Callable[[float], None] = time.sleep) -> Iterator[int]:
        """The right to write, as an epoch that grows with every holder; kept alive while the block runs.

        A dead holder's lease is free at once. One that lives and shows no sign of it for `TERM_S` is taken over, if
        `wait_s` is long enough to see that. Raises StateLocked when another holder keeps it longer than `wait_s`.
        """
        with ExitStack() as held:
            epoch, lock = self._taken(held, wait_s, sleep)
            held.enter_context(self._beating(epoch, lock))
            self._take_in_rescued(epoch)
            yield epoch

    def commit(self, epoch: int, *events: Event) -> State:
        """Record events in one durable transaction and return the state after them.

        Raises StateLost when somebody else holds the lease now: nothing is recorded then. Raises any other StateError
        when it is not recorded, or when nobody can say; in either case nothing may be sent on the strength of it.
        """
        kept, began = self._kept or self._read(), self._clock()
        self._kept = None  # until this is known to be recorded, what the medium holds is to be read and not believed
        if kept.epoch != epoch:
            raise self._lost(epoch)
        records = [*{record[:2]: record for record in map(record_of, events)}.values()]
        state = kept.state.fold(events).written(kept.state.serial + 1)
        digests = {record[:2]: _digest(record) for record in records}
        total = kept.total + sum(digests.values()) - sum(kept.digests.get(name, 0) for name in digests)
        try:
            with self._usable(), self._writing() as db:
                self._advance(db, epoch, state, total)
                for record in records:
                    self._write(db, record)
        except StateLost:
            raise
        except StateError:
            if not self._landed(epoch, state.serial):
                raise
        kept.digests.update(digests)
        self._kept, self._beaten_at = _Kept(state, epoch, kept.digests, total), began
        return state

    def record(self, epoch: int, *events: Event, sleep: Callable[[float], None] = time.sleep) -> State:
        """Like `commit`, for what the service has already done: it must not be lost to a full disk.

        Tries again with all the room there is; then leaves the events in a rescue file, which the next lease takes
        in, and raises the StateError.
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
        path = self._left_for_rescue(events)
        raise type(refusal)(
            f"{refusal}; what the service answered is in {path}", hint="the next run takes it from there"
        ) from refusal

    def fresh_until(self) -> float:
        """Until when, by the store's clock, nobody can have taken the lease over; it moves on while we live."""
        return self._beaten_at + TERM_S

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

    def whose(self) -> Stamp | None:
        """The account that a state of this stack belongs to, whichever it is; None where there is none yet."""
        with self._usable(), self._reading() as db:
            rows = db("select stamp from states where name = ?", self.name) if db else ()
        return self._stamp(rows[0][0]) if rows else None

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
        """One durable transaction, brought to this version first: all of the block, or nothing of it."""

    @abstractmethod
    def _grab(self, epoch: int) -> Lock | None:
        """The lock that the holder of an epoch has while it lives; None where it does."""

    def _secure(self) -> None:  # noqa: B027  # a database is made by its first transaction and backed up by its owner
        """Make what `_writing` needs, or keep a copy of what is there. Only ever called by the next holder."""

    def _make_room(self) -> None:  # noqa: B027  # a database has no disk of ours to clear
        """Free what was kept aside for recording an answer on a full disk."""

    # Rows -------------------------------------------------------------------------------------------------------

    def _read(self) -> _Kept:
        with self._usable(), self._reading() as db:
            header = self._header(db) if db else None
            if db is None or header is None:
                return _Kept(State(self.stamp), 0, {})
            return self._unsealed(header, self._records(db))

    def _header(self, db: Database) -> Header | None:
        """The one line about this state, known to be of this account."""
        found = db(f"select {HEADER} from states where name = ?", self.name)
        return self._checked(found[0]) if found else None

    def _checked(self, row: tuple[Any, ...]) -> Header:
        if [type(value) for value in row] != [type(value) for value in NOBODY]:
            raise self._damaged()
        header = Header(*row)
        recorded = self._stamp(header.stamp)
        for (name, was), now in zip(asdict(recorded).items(), asdict(self.stamp).values(), strict=True):
            if was != now:
                raise StateMismatch(
                    f"the state in {self.where} belongs to {name} {was or '(none)'}, not to {now or '(none)'}",
                    hint="point at that one again, or give the stack another state",
                )
        return header

    def _stamp(self, text: str) -> Stamp:
        try:
            return Stamp(**json.loads(text))
        except (ValueError, TypeError):
            raise self._damaged() from None

    def _records(self, db: Database) -> Sequence[Record]:
        rows = db("select kind, key, body from records where state = ?", self.name)
        if not all(isinstance(value, str) for row in rows for value in row):
            raise self._damaged()
        return [Record(*row) for row in sorted(rows)]

    def _unsealed(self, header: Header, records: Sequence[Record]) -> _Kept:
        """A flipped bit may leave a row that reads well, of another id; or a row fewer, and with it a purchase more."""
        digests = {record[:2]: _digest(record) for record in records}
        total = sum(digests.values())
        if header.seal != _seal(header, total) and header.seal != _sorted_seal(header, records):
            raise self._damaged()
        state = State(self.stamp, lineage=header.lineage, serial=header.serial)
        return _Kept(state.fold(map(event_of, records)), header.epoch, digests, total)

    def _begin(self, db: Database) -> None:
        """The line of a state that is new; nothing where there is one."""
        new = NOBODY._replace(name=self.name, stamp=json.dumps(asdict(self.stamp)), lineage=uuid4().hex)
        new = new._replace(seal=_seal(new, 0))
        places = ", ".join("?" * len(new))
        db(f"insert into states ({HEADER}) values ({places}) on conflict do nothing", *new)

    def _reseal(self, db: Database) -> None:
        """The seal of a state whose rows a migration changed."""
        header = self._header(db)
        if header is not None:
            seal = _seal(header, sum(map(_digest, self._records(db))))
            db("update states set seal = ? where name = ?", seal, self.name)

    def _advance(self, db: Database, epoch: int, state: State, total: int) -> None:
        """The next serial, if the lease is still ours; until this transaction ends nobody else can take it."""
        serial = state.serial
        line = NOBODY._replace(name=self.name, lineage=state.lineage, serial=serial)
        fenced = (
            "update states set serial = ?, seal = ?, beat = beat + 1"
            " where name = ? and epoch = ? and serial = ? returning serial"
        )
        if not db(fenced, serial, _seal(line, total), self.name, epoch, serial - 1):
            raise self._lost(epoch)

    def _write(self, db: Database, record: Record) -> None:
        if record.body is None:
            db("delete from records where state = ? and kind = ? and key = ?", self.name, record.kind, record.key)
        else:
            upsert = (
                "insert into records (state, kind, key, body) values (?, ?, ?, ?)"
                " on conflict (state, kind, key) do update set body = excluded.body"
            )
            db(upsert, self.name, *record)

    def _landed(self, epoch: int, serial: int) -> bool:
        """Whether a transaction that failed was recorded all the same: only its answer was lost.

        Asks by writing, which waits for one that is still under way; reading would not see it.
        """
        with suppress(StateError):
            return self._beat(epoch) == serial
        return False

    def _lost(self, epoch: int) -> StateLost:
        return StateLost(f"another run took over the state (our epoch was {epoch}); nothing was recorded")

    def _damaged(self) -> StateCorrupt:
        return StateCorrupt(
            f"what {self.where} holds is not a state, or it is damaged",
            hint="restore a backup of it; never delete it while objects it records are live",
        )

    # The lease --------------------------------------------------------------------------------------------------

    def _taken(self, held: ExitStack, wait_s: float, sleep: Callable[[float], None]) -> tuple[int, Lock]:
        """The epoch that is ours from here on. Two locks: the last holder's, to know that it is gone, and our own."""
        deadline, place = self._clock() + wait_s, f"{self.where}\n{self.name}"
        while True:
            seen, now = self.header() or NOBODY, self._clock()
            before = self.sightings.get(place)
            if before is None or (seen.epoch, seen.beat) != before[:2]:
                before = self.sightings[place] = Sighting(seen.epoch, seen.beat, now)
            with ExitStack() as tried:
                expired = now - before.since >= TERM_S
                if expired or self._locked(tried, seen.epoch):
                    lock = self._locked(tried, seen.epoch + 1)
                    if lock and self._succeeded(seen):
                        held.push(tried.pop_all())
                        return seen.epoch + 1, lock
            if self._clock() >= deadline:
                raise StateLocked(seen.holder or "a process that left no name", seen.since or "an unknown time")
            sleep(POLL_S)

    def _locked(self, held: ExitStack, epoch: int) -> Lock | None:
        with self._usable():
            lock = self._grab(epoch)
        if lock is not None:
            held.callback(lock.close)
        return lock

    def _succeeded(self, seen: Header) -> bool:
        """Whether the next epoch is ours: not if somebody was quicker, or the holder stirred."""
        statement = (
            "update states set epoch = epoch + 1, holder = ?, since = ?, beat = 0"
            " where name = ? and epoch = ? and beat = ? returning epoch"
        )
        self._kept, began = None, self._clock()
        with self._usable():
            self._secure()
            with self._writing() as db:
                self._begin(db)
                rows = db(statement, _myself(), _now(), self.name, seen.epoch, seen.beat)
        self._beaten_at = began
        return bool(rows)

    @contextmanager
    def _beating(self, epoch: int, lock: Lock) -> Iterator[None]:
        """Show that we live, until the block ends."""
        over = threading.Event()

        def beat() -> None:
            lost = False
            while not lost and not over.wait(BEAT_S):
                with suppress(Exception):  # whatever fails here, the next commit finds it and can say so
                    lock.keep()
                    lost = self._beat(epoch) is None

        thread = threading.Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(HANG_S)

    def _beat(self, epoch: int) -> int | None:
        """Renew the lease; the serial of what is recorded, or None where it is no longer ours."""
        began = self._clock()
        with self._usable(), self._writing() as db:
            rows = db(
                "update states set beat = beat + 1 where name = ? and epoch = ? returning serial", self.name, epoch
            )
        if not rows:
            return None
        self._beaten_at = began
        return int(rows[0][0])

    # What a full disk would have cost -----------------------------------------------------------------------------

    def _left_for_rescue(self, events: Sequence[Event]) -> Path:
        try:
            return disk.leave(self.rescue, events)
        except OSError as error:
            ids = ", ".join(event.result_id for event in events if isinstance(event, Intent) and event.result_id)
            raise StateError(
                f"neither {self.where} nor a file beside {self.rescue} can be written ({error.strerror})",
                hint=f"the service made {ids}: keep this line, and run again when there is room" if ids else "",
            ) from error

    def _take_in_rescued(self, epoch: int) -> None:
        """Answers that could not be recorded in time; those whose operation was decided since are left out."""
        for path in disk.rescued(self.rescue):
            events = disk.events_in(path)
            known = self.load().intents
            if any(isinstance(one, Intent) and one.op_id in known and known[one.op_id].is_open for one in events):
                try:
                    self.commit(epoch, *events)
                except StateCorrupt as error:
                    raise StateError(f"{path} does not fit the state: {error}", hint=disk.UNREADABLE) from error
            with suppress(OSError):  # one that stays is decided by now, and left out the next time
                path.unlink()


def _seal(header: Header, total: int) -> str:
    """Over everything a commit decides; what the lease moves is left out.

    Of the rows it takes the sum of their digests, which one more row changes without a look at the others.
    """
    return _hash(header.name, header.lineage, str(header.serial), f"{total % 2**256:x}")


def _sorted_seal(header: Header, records: Iterable[Record]) -> str:
    """As it was made before, and states of then still have it: of the digests of all rows in their order."""
    digests = sorted(_hash(*record) for record in records)  # type: ignore[arg-type]
    return _hash(header.name, header.lineage, str(header.serial), *digests)


def _digest(record: Record) -> int:
    """A number for a row; 0 for one that is gone. Neither kind nor key holds a line end."""
    if record.body is None:
        return 0
    text = f"{record.kind}\n{record.key}\n{record.body}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


def _hash(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def is_here(header: Header) -> bool:
    """Whether a holder runs, or ran, on this computer: only then does a free lock say that it is gone."""
    return header.holder.endswith(f" on {socket.gethostname()}")


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
