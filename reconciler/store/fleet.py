"""Who looks at which stack next: a row a stack with the time it is due, and a claim that ends by itself.

Decides nothing: a claim keeps two controllers from doing the same work twice, and never from buying something twice,
which is the lease of the state (`store/__init__.py`). One process on a SQLite file and a hundred on PostgreSQL do the
same. Times are those of the database.
"""

from __future__ import annotations

import json
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.errors import StateError
from reconciler.store import Database

CLAIM_S = 60.0  # a claim that was not renewed for so long is anybody's
SILENT_S = 900.0  # how long a stack at rest may be looked at without a word to others
AT_ONCE = 0.0  # the time at which a stack is due that was asked for; it keeps that also while somebody looks at it
FLEET_TABLES = (
    "create table if not exists fleet (scope text not null, name text not null, due double precision not null,"
    " holder text not null, until double precision not null, epoch integer not null, report text not null,"
    " primary key (scope, name))",
    "create table if not exists fleet_lists (scope text not null, name text not null, lists text not null,"
    " primary key (scope, name))",
)
"""A report is two lines of text. The second is long and seldom changes, so it lies apart and is written only then."""


class Claim(NamedTuple):
    """The right to look at one stack, until it is finished or was not renewed for a term."""

    name: str
    epoch: int
    report: str


class Queue(NamedTuple):
    """How many stacks there are, how many of them are due and free, and how many are being looked at."""

    stacks: int
    due: int
    claimed: int


class Fleet(ABC):
    """The stacks that controllers of one `scope` share. Raises StateError for what the medium has against it.

    `holder` is what a person calls this process, `term_s` how long a claim lives without a sign.
    """

    def __init__(self, holder: str, *, scope: str = "", term_s: float = CLAIM_S) -> None:
        self.holder, self.scope, self.term_s = holder, scope, term_s

    def enlist(self, names: Iterable[str]) -> None:
        """Make sure that each of these has a row; a new one is due at once. Writes nothing where all have one."""
        with self._transaction(writes=False) as db:
            known = {name for (name,) in db("select name from fleet where scope = ?", self.scope)}
        missing = [name for name in names if name not in known]
        if not missing:
            return
        with self._transaction() as db:
            now = self._now(db)
            for name in missing:
                new = "insert into fleet values (?, ?, ?, '', 0, 0, '') on conflict do nothing"
                db(new, self.scope, name, now)

    def claim(self, names: Sequence[str]) -> Claim | None:
        """The one of these that has been due longest and that nobody holds; None where there is none."""
        if not names:
            return None
        chosen = (
            f"select name from fleet where scope = ? and name in ({_places(names)}) and due <= ? and until <= ?"
            f" order by due, name limit 1 {self._skipping}"
        )
        taken = "update fleet set holder = ?, until = ?, due = ?, epoch = epoch + 1"
        take = f"{taken} where scope = ? and name = ({chosen}) returning name, epoch, report"
        with self._transaction() as db:
            now = self._now(db)
            rows = db(take, self.holder, now + self.term_s, now, self.scope, self.scope, *names, now, now)
            if not rows:
                return None
            name, epoch, first = rows[0]
            kept = db("select lists from fleet_lists where scope = ? and name = ?", self.scope, name)
        return Claim(name, epoch, _joined(first, kept[0][0] if kept else ""))

    def renew(self, claim: Claim) -> bool:
        """Keep a claim; False where it is finished, or another's by now."""
        kept = "update fleet set until = ? where scope = ? and name = ? and epoch = ? and holder <> '' returning epoch"
        with self._transaction() as db:
            return bool(db(kept, self._now(db) + self.term_s, self.scope, claim.name, claim.epoch))

    def finish(self, claim: Claim, report: str, *, due_in_s: float, at_rest: bool = False) -> bool:
        """Give a claim back with what the look came to; False, and nothing written, where it is another's by now.

        `at_rest`: it found nothing new, and whoever need not tell others of it may keep it to itself.
        """
        ended = (
            f"update fleet set due = case when due = {AT_ONCE} then due else ? end, until = 0, holder = '', report = ?"
            " where scope = ? and name = ? and epoch = ? and holder <> '' returning epoch"
        )
        first, _, lists = report.partition("\n")
        with self._transaction() as db:
            ours = bool(db(ended, self._now(db) + due_in_s, first, self.scope, claim.name, claim.epoch))
            if ours and lists != claim.report.partition("\n")[2]:
                upsert = "insert into fleet_lists values (?, ?, ?) on conflict (scope, name) do update set lists = ?"
                db(f"{upsert} returning name", self.scope, claim.name, lists, lists)
        return ours

    def hurry(self, names: Sequence[str]) -> None:
        """Make these due at once; one that is being looked at, once more after that."""
        if not names:
            return
        hurried = f"update fleet set due = {AT_ONCE} where scope = ? and name in ({_places(names)})"
        with self._transaction() as db:
            db(hurried, self.scope, *names)

    def due_in_s(self) -> Mapping[str, float]:
        """Seconds until every stack is looked at next, by name; 0 where it is due, or looked at now."""
        with self._transaction(writes=False) as db:
            now, rows = self._now(db), db("select name, due from fleet where scope = ? order by name", self.scope)
        return {name: max(0.0, due - now) for name, due in rows}

    def next_due_in_s(self, names: Sequence[str]) -> float | None:
        """Seconds until one of these is due and free; 0 where one is; None where there is none at all."""
        if not names:
            return None
        free = "min(case when until > due then until else due end)"
        with self._transaction(writes=False) as db:
            ((first,),) = db(
                f"select {free} from fleet where scope = ? and name in ({_places(names)})", self.scope, *names
            )
            return None if first is None else max(0.0, first - self._now(db))

    def reports(self) -> Mapping[str, str]:
        """What the last look at every stack came to, by name; "" where nobody looked yet."""
        with self._transaction(writes=False) as db:
            firsts = db("select name, report from fleet where scope = ? order by name", self.scope)
            lists = dict(db("select name, lists from fleet_lists where scope = ?", self.scope))
        return {name: _joined(first, lists.get(name, "")) for name, first in firsts}

    def queue(self, names: Sequence[str] | None = None) -> Queue:
        """What there is to do at this moment, of all stacks or of these."""
        if names is not None and not names:
            return Queue(0, 0, 0)
        among = f" and name in ({_places(names)})" if names is not None else ""
        free, taken = (
            "sum(case when " + when + " then 1 else 0 end)" for when in ("due <= ? and until <= ?", "until > ?")
        )
        with self._transaction(writes=False) as db:
            now, mine = self._now(db), f"from fleet where scope = ?{among}"
            counted = db(f"select count(*), {free}, {taken} {mine}", now, now, now, self.scope, *names or ())
        ((stacks, due, claimed),) = counted
        return Queue(int(stacks), int(due or 0), int(claimed or 0))

    @property
    @abstractmethod
    def _skipping(self) -> str:
        """What keeps two claimants from waiting for each other."""

    @abstractmethod
    def _transaction(self, *, writes: bool = True) -> AbstractContextManager[Database]:
        """One transaction, on a table that is there."""

    @abstractmethod
    def _now(self, db: Database) -> float:
        """The clock that all claimants share, in seconds."""


_OVER = (
    "pragma temp_store=memory",
    "create temp table resting (scope, name, epoch, due, until, report)",
    # A row that others moved is as it is; one that was asked for is due, and is claimed for all to see.
    "create temp view fleet as select row.scope, row.name, row.holder, row.epoch,"
    f" case when row.due = {AT_ONCE} then row.due else coalesce(ours.due, row.due) end as due,"
    " coalesce(ours.until, row.until) as until, coalesce(ours.report, row.report) as report,"
    f" ours.name is not null and row.due <> {AT_ONCE} as alone"
    " from main.fleet as row left join resting as ours on ours.scope = row.scope and ours.name = row.name"
    " and ours.epoch = row.epoch and row.holder = ''",
)


class Resting(NamedTuple):
    """A stack at rest as only we know it, on top of the row of this epoch. `until` is 0 but while we look at it.

    `told` is when the row was written last.
    """

    epoch: int
    due: float
    until: float
    report: str
    told: float


class SqliteFleet(Fleet):
    """A file beside the projects, for the controllers of one machine.

    Whoever looked last at a stack at rest looks at it again without a word in the file, until there is something new or
    `SILENT_S` have passed. Others find it due there, and may claim it; then whoever had it to itself is passed by like
    one that slept.
    """

    _skipping = ""  # one writer at a time

    def __init__(
        self,
        path: Path,
        holder: str,
        *,
        scope: str = "",
        term_s: float = CLAIM_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(holder, scope=scope, term_s=term_s)
        self.path, self._clock = path, clock
        self._resting: dict[str, Resting] = {}

    def claim(self, names: Sequence[str]) -> Claim | None:
        if not names:
            return None
        due = (
            f"select name, alone from fleet where scope = ? and name in ({_places(names)}) and due <= ? and until <= ?"
            " order by due, name limit 1"
        )
        with self._transaction(writes=False) as db:
            now = self._now(db)
            rows = db(due, self.scope, *names, now, now)
        if not rows:
            return None
        ((name, alone),) = rows
        return self._claimed_alone(name, now) if alone else super().claim([name])

    def _claimed_alone(self, name: str, now: float) -> Claim:
        rests = self._resting[name] = self._resting[name]._replace(until=now + self.term_s)
        with self._transaction(writes=False) as db:
            kept = db("select lists from fleet_lists where scope = ? and name = ?", self.scope, name)
        return Claim(name, rests.epoch, _joined(rests.report, kept[0][0] if kept else ""))

    def renew(self, claim: Claim) -> bool:
        """A look that takes its time is told to the others from here on."""
        return self._told(claim) and super().renew(claim)

    def finish(self, claim: Claim, report: str, *, due_in_s: float, at_rest: bool = False) -> bool:
        now, told = self._clock(), self._resting[claim.name].told if self._held_alone(claim) else 0.0
        done = at_rest and now - told < SILENT_S and self._is_alone(claim)
        if not done:
            told, done = now, self._told(claim) and super().finish(claim, report, due_in_s=due_in_s)
        if done and at_rest:
            self._resting[claim.name] = Resting(claim.epoch, now + due_in_s, 0.0, report.partition("\n")[0], told)
        return done

    def _is_alone(self, claim: Claim) -> bool:
        """Whether a claim is known to us alone, and nobody else claimed the stack since."""
        if not self._held_alone(claim):
            return False
        with self._transaction(writes=False) as db:
            return bool(db("select 1 from fleet where scope = ? and name = ? and alone", self.scope, claim.name))

    def _held_alone(self, claim: Claim) -> bool:
        rests = self._resting.get(claim.name)
        return rests is not None and rests.epoch == claim.epoch and rests.until > 0

    def _told(self, claim: Claim) -> bool:
        """Put a claim that is known to us alone into the file; False where the stack is another's by now."""
        is_ours = True
        if self._held_alone(claim):
            take = (
                "update fleet set holder = ?, until = ? where scope = ? and name = ? and epoch = ? and holder = ''"
                " returning epoch"
            )
            with self._transaction() as db:
                until = self._now(db) + self.term_s
                is_ours = bool(db(take, self.holder, until, self.scope, claim.name, claim.epoch))
        self._resting.pop(claim.name, None)
        return is_ours

    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[Database]:
        """Opened for the moment, as the state's file is; where nothing changes nothing is written.

        Who reads sees what is at rest in place of its rows.
        """
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as db:
                db.execute("pragma journal_mode=delete")
                db.execute("pragma synchronous=full")
                ((there,),) = db.execute("select count(*) from sqlite_master where type = 'table'")
                if there < len(FLEET_TABLES):
                    for table in FLEET_TABLES:
                        db.execute(table)
                if not writes:
                    self._lay_over(db)
                db.execute("begin immediate" if writes else "begin")
                yield lambda statement, *values: db.execute(statement, values).fetchall()
                db.execute("commit")
        except sqlite3.Error as error:
            raise StateError(
                f"the list of stacks in {self.path} cannot be used: {error}",
                hint="it only says when to look next: moved away, it is made anew",
            ) from error

    def _lay_over(self, db: sqlite3.Connection) -> None:
        """A view under the name of the table, which goes with the connection."""
        rows = [(self.scope, name, *rests[:-1]) for name, rests in [*self._resting.items()]]
        for statement in _OVER:
            db.execute(statement)
        db.executemany("insert into resting values (?, ?, ?, ?, ?, ?)", rows)

    def _now(self, db: Database) -> float:
        return self._clock()


def _places(names: Sequence[str]) -> str:
    return ", ".join("?" * len(names))


def _joined(first: str, lists: str) -> str:
    return f"{first}\n{lists}" if lists else first


def packed(data: Mapping[str, Any]) -> str:
    """A report as two lines of text: its single values, which each look writes, and its lists."""
    lists = {name: value for name, value in data.items() if isinstance(value, (list, tuple))}
    singles = {name: value for name, value in data.items() if name not in lists}
    return f"{json.dumps(singles, sort_keys=True)}\n{json.dumps(lists, sort_keys=True)}"


def unpacked(report: str) -> Mapping[str, Any] | None:
    """The data of a report; None where there is none, or none that this version can read."""
    data: dict[str, Any] = {}
    try:
        for line in report.split("\n"):
            data |= json.loads(line)
    except (ValueError, TypeError):
        return None
    return data
