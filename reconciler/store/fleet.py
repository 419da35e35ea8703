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
TABLE = (
    "create table if not exists fleet (name text primary key, due double precision not null, holder text not null,"
    " until double precision not null, epoch integer not null, report text not null)"
)


class Claim(NamedTuple):
    """The right to look at one stack, until it is finished or was not renewed for `CLAIM_S`."""

    name: str
    epoch: int
    report: str


class Fleet(ABC):
    """The stacks that controllers share. Raises StateError for what the medium has against it."""

    holder: str

    def enlist(self, names: Iterable[str]) -> None:
        """Make sure that each of these has a row; a new one is due at once."""
        with self._writing() as db:
            now = self._now(db)
            for name in names:
                db("insert into fleet values (?, ?, '', 0, 0, '') on conflict do nothing", name, now)

    def claim(self, names: Sequence[str]) -> Claim | None:
        """The one of these that has been due longest and that nobody holds; None where there is none."""
        if not names:
            return None
        places = ", ".join("?" * len(names))
        chosen = (
            f"select name from fleet where name in ({places}) and due <= ? and until <= ?"
            f" order by due, name limit 1 {self._skipping}"
        )
        taken = "update fleet set holder = ?, until = ?, epoch = epoch + 1"
        take = f"{taken} where name = ({chosen}) returning name, epoch, report"
        with self._writing() as db:
            now = self._now(db)
            rows = db(take, self.holder, now + CLAIM_S, *names, now, now)
        return Claim(*rows[0]) if rows else None

    def renew(self, claim: Claim) -> bool:
        """Keep a claim; False where it is another's by now."""
        with self._writing() as db:
            kept = "update fleet set until = ? where name = ? and epoch = ? returning epoch"
            return bool(db(kept, self._now(db) + CLAIM_S, claim.name, claim.epoch))

    def finish(self, claim: Claim, report: str, *, due_in_s: float) -> bool:
        """Give a claim back with what the look came to; False, and nothing written, where it is another's by now."""
        ended = (
            "update fleet set due = ?, until = 0, holder = '', report = ? where name = ? and epoch = ? returning epoch"
        )
        with self._writing() as db:
            return bool(db(ended, self._now(db) + due_in_s, report, claim.name, claim.epoch))

    def hurry(self, names: Sequence[str]) -> None:
        """Make these due at once."""
        with self._writing() as db:
            for name in names:
                db("update fleet set due = ? where name = ?", self._now(db), name)

    def due_in_s(self) -> Mapping[str, float]:
        """Seconds until every stack is looked at next, by name; 0 where it is due, or looked at now."""
        with self._writing() as db:
            now = self._now(db)
            return {name: max(0.0, due - now) for name, due in db("select name, due from fleet order by name")}

    def next_due_in_s(self, names: Sequence[str]) -> float | None:
        """Seconds until one of these is due and free; 0 where one is; None where there is none at all."""
        if not names:
            return None
        places = ", ".join("?" * len(names))
        with self._writing() as db:
            later = f"select min(case when until > due then until else due end) from fleet where name in ({places})"
            ((first,),) = db(later, *names)
            return None if first is None else max(0.0, first - self._now(db))

    def reports(self) -> Mapping[str, str]:
        """What the last look at every stack came to, by name; "" where nobody looked yet."""
        with self._writing() as db:
            return dict(db("select name, report from fleet order by name"))

    @property
    @abstractmethod
    def _skipping(self) -> str:
        """What keeps two claimants from waiting for each other."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Database]:
        """One transaction."""

    @abstractmethod
    def _now(self, db: Database) -> float:
        """The clock that all claimants share, in seconds."""


class SqliteFleet(Fleet):
    """A file beside the projects, for the controllers of one machine."""

    _skipping = ""  # one writer at a time

    def __init__(self, path: Path, holder: str, *, clock: Callable[[], float] = time.time) -> None:
        self.path, self.holder, self._clock = path, holder, clock

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as db:
                db.execute("begin immediate")
                db.execute(TABLE)
                yield lambda statement, *values: db.execute(statement, values).fetchall()
                db.execute("commit")
        except sqlite3.Error as error:
            raise StateError(f"the list of stacks in {self.path} cannot be used: {error}") from error

    def _now(self, db: Database) -> float:
        return self._clock()


def packed(data: Mapping[str, Any]) -> str:
    """A report as the text that a row keeps."""
    return json.dumps(data, sort_keys=True)


def unpacked(report: str) -> Mapping[str, Any] | None:
    """The data of a row's report; None where there is none, or none that this version can read."""
    try:
        data = json.loads(report)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
