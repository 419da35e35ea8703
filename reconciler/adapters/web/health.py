"""Whether the controller lives, whether it is ready, and its figures: for a cluster and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from reconciler import gauges
from reconciler.conditions import Report
from reconciler.controller import report_of
from reconciler.errors import ReconcilerError, StateError
from reconciler.gauges import Tally
from reconciler.store.fleet import Fleet

_FRESH = {"Cache-Control": "no-store"}


def routes(fleet: Fleet, tally: Tally, names: Callable[[], Sequence[str]]) -> list[Route]:
    """`/healthz`, `/readyz` and `/metrics`. They read the list of stacks and ask nothing of the service.

    `names` are the stacks that this process looks at: one that is gone stays in the list, and is due for nobody.
    """
    read: dict[str, tuple[str, Report]] = {}

    def alive(request: Request) -> Response:
        return _text("ok", 200)

    def ready(request: Request) -> Response:
        """Ready once a look was finished, here or where this process has nothing to do."""
        try:
            queue = fleet.queue(names())
        except StateError:
            return _text("the list of stacks cannot be read", 503)
        if tally.looks or not queue.due:
            return _text("ok", 200)
        return _text("no look is finished yet", 503)

    def metrics(request: Request) -> Response:
        try:
            queue, reports = fleet.queue(names()), _reports(fleet, read)
        except StateError:
            queue, reports = None, []
        try:
            body, kind = gauges.exposition(tally, reports, queue)
        except ReconcilerError as error:
            return _text(f"{error}: {error.hint}", 501)
        return Response(body, headers={"Content-Type": kind, **_FRESH})

    return [Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", metrics)]


def _reports(fleet: Fleet, read: dict[str, tuple[str, Report]]) -> list[Report]:
    """Every report, parsed only where it is another than at the last scrape."""
    before, texts = dict(read), fleet.reports()
    now = {
        name: kept if (kept := before.get(name)) and kept[0] == text else (text, report_of(name, text))
        for name, text in texts.items()
    }
    read.clear()
    read.update(now)
    return [now[name][1] for name in sorted(now)]


def _text(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers=_FRESH)
