"""A controller as a process: its stacks, its list of what is due, its signals, and a line for each look."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.adapters import connection, terminal
from reconciler.adapters.interrupts import Interrupts
from reconciler.adapters.looking import Looker, mistake
from reconciler.adapters.watching import Watch, webhook
from reconciler.approvals import Mode
from reconciler.conditions import Reason, Report
from reconciler.controller import Controller, Look, Pace, report_of, reports
from reconciler.errors import ReconcilerError, SourceError, StateError, UsageError
from reconciler.files import FileRefused, check_pattern
from reconciler.gauges import Tally
from reconciler.render.errors import error_text
from reconciler.source import FRESH_S, Folder, Git, Source, is_git, shown_url, stacks
from reconciler.store.fleet import Fleet, SqliteFleet
from reconciler.wording import did_you_mean, shown

LIST = "fleet.db"
SHORTEST_S = 1.0  # between two looks at a stack
AGAIN_S = 60.0  # what is said once is over when it was not heard of for so long
STOPPING = "stopping: looks that are under way are concluded first; once more leaves at once"
LEFT = "left: what was sent and not answered is looked for by the next look"


@dataclass(frozen=True)
class Page:
    """Where a controller serves its page, its health and its webhook, and who may do what there; "" is nowhere."""

    address: str = ""
    certificate: str = ""
    key: str = ""
    hosts: Sequence[str] = ()
    approves: bool = False
    hook_secret: str = ""


NO_PAGE = Page()


def run(
    root: str,
    patterns: Sequence[str],
    *,
    environments: Collection[str] = (),
    branch: str = "",
    home: str = "",
    mode: str,
    interval_s: float,
    workers: int,
    once: bool,
    endpoint: str,
    key_file: str,
    log_format: str = "text",
    notify: str = "",
    fleet: str = "",
    page: Page = NO_PAGE,
) -> int:
    """The exit code: 0, for what goes wrong with a stack is said of that stack."""
    _check(patterns, environments, interval_s)
    watch, stopped = Watch(log_format, webhook(notify)), threading.Event()
    mishaps = _Mishaps(watch.say)

    def stop() -> None:
        stopped.set()
        terminal.say_at_once(STOPPING)

    with Interrupts(stop, lambda: terminal.say_last(LEFT)) as signals:
        signals.arm()
        private = connection.private_folder(home_of(root, home))
        shared = fleet_of(fleet, private / LIST)
        source, records = source_of(root, branch, private, shared, stopped.is_set)
        listing = Listing(source, patterns, environments, age_s=interval_s, known=set(_watched(shared)))
        look = Looker(
            source=source,
            mode=Mode(mode),
            by_environment=bool(environments),
            records=records,
            endpoint=endpoint,
            key_file=key_file,
            stopped=stopped.is_set,
            called=watch.tally.called,
            many=bool(fleet),
        )

        def looked(name: str, look: Look) -> None:
            watch.looked(name, look)
            listing.looked(name)

        pace = Pace(quiet_s=interval_s, busy_s=min(15.0, interval_s))
        if not listing() and (once or isinstance(source, Folder)):
            if listing.trouble:  # told already
                return listing.trouble.exit_code
            what = f"no folder below {shown_url(root)} that matches {' '.join(patterns)} holds a manifest"
            raise UsageError(what + _of(environments), hint="--stacks 'teams/*'")
        loop = Controller(
            shared,
            listing,
            watch.over(look),
            pace,
            workers,
            looked=looked,
            troubled=mishaps.troubled,
            excuse=mishaps.excuse,
        )
        with watch, _served(page, loop, look, watch.tally, private.parent):
            loop.once(stopped) if once else loop.run(stopped)
    return 0


@contextmanager
def _served(page: Page, loop: Controller, look: Looker, tally: Tally, folder: Path) -> Iterator[None]:
    """The page beside the loop, where one is wanted."""
    if not page.address:
        yield
        return
    try:
        from reconciler.adapters.web import health, hooks, hosting
    except ImportError as error:
        raise ReconcilerError(
            "the page needs a package that is not installed", hint="pip install 'bailian-reconciler[web]'"
        ) from error
    from reconciler.adapters.web.live import Watched
    from reconciler.adapters.web.serving import place

    def look_now() -> None:
        _hurry(loop.fleet, loop.names())

    probes = health.routes(loop.fleet, tally, loop.names)
    figures = [route for route in probes if route.path == "/metrics"]
    with hosting.beside(
        Watched(loop.names, look.opened, loop.fleet),
        place(page.address, page.certificate, page.key),
        folder,
        approves=page.approves,
        hosts=page.hosts,
        others=[
            *hooks.routes(look_now, hooks.secret_of(page.hook_secret)),
            *(route for route in probes if route not in figures),
        ],
        nearby=figures,
        announce=terminal.mention,
    ):
        yield


def fleet_of(name: str, path: Path) -> Fleet:
    """The list that controllers of this name share, on any machine; without a name, the one in a file."""
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    if not name:
        return SqliteFleet(path, holder)
    try:
        from reconciler.store.postgres import DSN, PostgresFleet
    except ImportError as error:
        raise StateError(
            "a fleet shares its work through PostgreSQL, and the driver for it is not installed",
            hint="pip install 'bailian-reconciler[postgres]'",
        ) from error
    return PostgresFleet(os.environ.get(DSN, ""), holder, scope=name)


class _Mishaps:
    """Words for what is wrong with the program or its surroundings, the same thing only once at a time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._mistake = say, ""
        self._said, self._said_at = "", 0.0

    def excuse(self, error: Exception) -> str:
        """A mistake of ours, and the file that a report of it can start from."""
        self._mistake = mistake(error, self._mistake)
        return self._mistake

    def troubled(self, error: Exception) -> None:
        text = error_text(error) if isinstance(error, ReconcilerError) else self.excuse(error)
        now = time.monotonic()
        if text != self._said or now - self._said_at > AGAIN_S:
            self._say(text)
        self._said, self._said_at = text, now


def look(names: Sequence[str], home: str, fleet: str = "") -> Sequence[str]:
    """Make these due, or all there are, and say which."""
    listed = _listed(home, fleet)
    there_are = sorted(listed.reports())
    for name in names:
        if name not in there_are:
            hint = did_you_mean(name, there_are) or f"there are {', '.join(there_are)}"
            raise UsageError(f"the controller has no stack {shown(name)}", hint=hint)
    _hurry(listed, names or there_are)
    return names or there_are


def _hurry(listed: Fleet, names: Sequence[str]) -> None:
    time.sleep(FRESH_S)  # what a repository said until now may be taken for its newest word until then
    listed.hurry(names)


def known(home: str, fleet: str = "") -> list[Report]:
    """What the last looks of the controllers of a list came to, by name; none where nobody looked yet."""
    return reports(_listed(home, fleet)) if fleet or _list_of(home).is_file() else []


def _listed(home: str, fleet: str) -> Fleet:
    if not fleet and not _list_of(home).is_file():
        raise UsageError(f"no controller has run in {shown(home)}", hint="--home names the folder it keeps its list in")
    return fleet_of(fleet, _list_of(home))


def _list_of(home: str) -> Path:
    return Path(home) / connection.FOLDER / LIST


def home_of(root: str, home: str) -> Path:
    """Where a controller keeps its list: beside a folder's stacks, for a repository where it is told, or here."""
    folder = Path(home or ("." if is_git(root) else root))
    if not folder.is_dir():
        raise UsageError(f"there is no folder {shown(str(folder))}")
    return folder


def source_of(
    root: str, branch: str, private: Path, fleet: Fleet, stopped: Callable[[], bool]
) -> tuple[Source, Path | None]:
    """A folder; or a repository, whose checkouts lie in a private folder, and where what outlives them is kept."""
    if not is_git(root):
        if branch:
            raise UsageError("--branch is for a repository, and a folder has none", hint="name a URL")
        return Folder(Path(root)), None
    checkouts, records = private / "checkouts", private / "stacks"
    git = Git(root, branch, checkouts, lambda: {one.revision for one in _reports(fleet).values()}, stopped)
    for folder in (checkouts, records):
        folder.mkdir(mode=0o700, exist_ok=True)
    return git, records


@dataclass
class Listing:
    """The names of a source's stacks now. What is wrong with the source is told once, and those `known` then stay.

    One that disappeared is told once as well, and listed until it was looked at for the last time.
    """

    source: Source
    patterns: Sequence[str]
    environments: Collection[str] = ()
    age_s: float = FRESH_S
    known: set[str] = field(default_factory=set)
    tell: Callable[[str], None] = lambda text: terminal.say_anyway(text, err=True)
    trouble: ReconcilerError | None = None
    _leaving: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> Sequence[str]:
        with self._lock:
            try:
                now = self._now()
            except (SourceError, FileRefused) as error:
                if str(error) != str(self.trouble):
                    self.tell(error_text(error))
                self.trouble = error
            else:
                self.trouble = None
                self._leaving |= self._told(self.known - now)
                self.known = now
            return sorted(self.known | self._leaving)

    def looked(self, name: str) -> None:
        with self._lock:
            self._leaving.discard(name)

    def _now(self) -> set[str]:
        try:
            with self.source.checkout(age_s=self.age_s) as checkout:
                return set(stacks(checkout.root, self.patterns, self.environments))
        except OSError as error:
            raise SourceError(f"the folders cannot be read: {error.strerror}") from error

    def _told(self, gone: set[str]) -> set[str]:
        for name in sorted(gone):
            self.tell(f"{shown(name)} is no longer a stack of this controller; nothing of it is deleted")
        return gone


def _reports(fleet: Fleet) -> dict[str, Report]:
    return {name: report_of(name, kept) for name, kept in fleet.reports().items()}


def _watched(fleet: Fleet) -> list[str]:
    """Those that an earlier process looked at, but for what was gone by then."""
    return [name for name, one in _reports(fleet).items() if not (one.events and one.events[-1].reason == Reason.GONE)]


def _check(patterns: Sequence[str], environments: Collection[str], interval_s: float) -> None:
    if interval_s < SHORTEST_S:
        raise UsageError(f"--interval is less than {SHORTEST_S:.0f} s")
    if "" in environments:
        raise UsageError("-e is empty: name an environment, or leave it out for the base")
    for pattern in patterns:
        try:
            if pattern != ".":
                check_pattern(pattern.removesuffix("/"))
        except FileRefused as error:
            raise UsageError(f"--stacks {error}", hint=error.hint) from error


def _of(environments: Collection[str]) -> str:
    return f" and has an environment {' or '.join(sorted(environments))}" if environments else ""
