"""The controller over HTTP: its health, its figures, its pages. Reads what looks left behind; decides nothing.

Each module here has routes, and `app` puts them together behind one door.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from reconciler.adapters.web.access import Tokens
from reconciler.adapters.web.door import Door, Guard
from reconciler.adapters.web.live import Live, Watched
from reconciler.adapters.web.pages import OPEN_PATHS, Pages


def app(
    watched: Watched,
    tokens: Tokens,
    closing: threading.Event,
    *,
    hosts: Iterable[str] = (),
    others: Sequence[Route] = (),
) -> ASGIApp:
    """Everything behind the door. `hosts` are names the page is called by; `others` have access rules of their own."""
    pages = Pages(Live(watched), tokens, closing)
    guarded = Guard(_router(pages), tokens, OPEN_PATHS, pages.refused)
    return Door(Starlette(routes=[*others, Mount("/", app=guarded)]), hosts)


def _router(pages: Pages) -> ASGIApp:
    async def said(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return pages.failed(request, error.status_code)

    return Starlette(routes=pages.routes(), exception_handlers={HTTPException: said})
