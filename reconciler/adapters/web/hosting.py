"""The page beside what it shows: of one stack that is looked at whenever somebody looks, or of a controller's."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from starlette.routing import Route

from reconciler.adapters import manifests, operator, stack
from reconciler.adapters.connection import FOLDER
from reconciler.adapters.options import Target
from reconciler.adapters.stack import Opened
from reconciler.adapters.web import app
from reconciler.adapters.web.access import FILE, Tokens, kept, made
from reconciler.adapters.web.live import Watched
from reconciler.adapters.web.serving import Place, place, serve
from reconciler.errors import UsageError

NAP_S = 0.1


def alone(target: Target, http: str, *, approves: bool, announce: Callable[[str], None]) -> None:
    """The page of one stack, for its caller alone, until a signal. `announce` gets the address that signs one in."""
    if "-" in target.files:
        raise UsageError("the page reads no manifests from stdin", hint="name files with -f")
    at, name = place(http), manifests.read(target).name
    token, signals = made(operator.name(), approves=approves), list[int]()
    watched = Watched(lambda: [name], lambda _, *, writes=False: _opened(target, writes=writes))
    before = {
        number: signal.signal(number, lambda n, _: signals.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with serve(lambda closing: app(watched, Tokens((token,)), closing), at) as origin:
            announce(f"{origin}/login#{token.secret}")
            while not signals:  # an event that a handler sets could be one that this thread waits for
                time.sleep(NAP_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _opened(target: Target, *, writes: bool) -> Iterator[Opened]:
    """Reads the manifests anew; their warnings are not told at every look."""
    with stack.connected(manifests.loaded(target), target, writes=writes) as opened:
        yield opened


@contextmanager
def beside(
    watched: Watched,
    at: Place,
    folder: Path,
    *,
    approves: bool = False,
    hosts: Iterable[str] = (),
    others: Sequence[Route] = (),
    nearby: Sequence[Route] = (),
    announce: Callable[[str], None],
) -> Iterator[str]:
    """The page of a controller, whose tokens lie in its `folder`, while it runs; yields its origin.

    `others` and `nearby` are as `app` has them. A token is announced once: when it is made.
    """
    tokens, fresh = kept(folder)
    tokens = tokens.all_approving() if approves else tokens
    with serve(lambda closing: app(watched, tokens, closing, hosts=hosts, others=others, nearby=nearby), at) as origin:
        known = f"{origin}, its tokens are in {folder / FOLDER / FILE}"
        announce(f"page: {origin}/login#{fresh.secret}" if fresh else f"page: {known}")
        yield origin
