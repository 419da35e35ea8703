"""The controller over HTTP: its health, its figures, its pages. Reads what looks left behind; decides nothing.

Each module here has routes, and `app` puts them together behind one door.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from reconciler.adapters.web.access import Tokens
from reconciler.adapters.web.door import Door, Guard, Near
from reconciler.adapters.web.live import KEPT_ALONE_S, KEPT_S, Busy, Live, Watched
from reconciler.adapters.web.pages import OPEN_PATHS, Pages
from reconciler.errors import ReconcilerError
from reconciler.render.errors import error_text


def app(
    watched: Watched,
    tokens: Tokens,
    closing: threading.Event,
    *,
    hosts: Iterable[str] = (),
    others: Sequence[Route] = (),
    nearby: Sequence[Route] = (),
) -> ASGIApp:
    """Everything behind the door. `hosts` are names the page is called by.

    `others` have access rules of their own, as a hook with its signature; `nearby` need no token from this computer, as
    what a scraper beside us reads.
    """
    live = Live(watched, kept_s=KEPT_S if watched.fleet else KEPT_ALONE_S)
    pages = Pages(live, tokens, closing)
    guarded = Guard(_router(pages), tokens, OPEN_PATHS, pages.refused)
    near = [Route(one.path, Near(one.app, tokens), methods=one.methods) for one in nearby]
    return Door(Starlette(routes=[*others, *near, Mount("/", app=guarded)]), hosts)


def _router(pages: Pages) -> ASGIApp:
    async def unanswered(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await run_in_threadpool(pages.failed, request, error.status_code)

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, ReconcilerError)
        return await run_in_threadpool(
            pages.failed, request, 503 if isinstance(error, Busy) else 502, error_text(error)
        )

    handlers = {HTTPException: unanswered, ReconcilerError: failed}
    return Starlette(routes=pages.routes(), exception_handlers=handlers)
