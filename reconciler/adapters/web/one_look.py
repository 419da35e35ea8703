"""The page of one stack without a loop: looked at whenever somebody looks."""

from __future__ import annotations

import getpass
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from reconciler.adapters import stack
from reconciler.adapters.options import Target
from reconciler.adapters.stack import Opened
from reconciler.adapters.web import app
from reconciler.adapters.web.access import Tokens, made
from reconciler.adapters.web.live import Watched
from reconciler.adapters.web.serving import place, serve
from reconciler.errors import UsageError
from reconciler.project import load


def run(target: Target, http: str, *, approves: bool, announce: Callable[[str], None]) -> None:
    """Until a signal. `announce` gets the address that signs its caller in."""
    if "-" in target.files:
        raise UsageError("the page reads no manifests from stdin", hint="name files with -f")
    at, name = place(http), stack.read(target).name
    token = made(getpass.getuser(), approves=approves)
    watched = Watched(lambda: [name], opener(lambda _: _found(target)))
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serve(lambda closing: app(watched, Tokens((token,)), closing), at) as origin:
            announce(f"{origin}/login#{token.secret}")
            stopped.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _found(target: Target) -> Iterator[Target]:
    yield target


class opener:  # reads as a verb where it is used
    """Opens stacks whose targets `find` finds by name. Warnings of manifests are not told at every look."""

    def __init__(self, find: Callable[[str], AbstractContextManager[Target]]) -> None:
        self.find = find

    @contextmanager
    def __call__(self, name: str, *, writes: bool = False) -> Iterator[Opened]:
        with self.find(name) as target:
            project = load(target.files, environment=target.environment)
            with stack.connected(project, target, writes=writes) as opened:
                yield opened
