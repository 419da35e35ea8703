"""A webhook that says nothing but "look now": whoever pushes need not wait for the next look.

What it sends is measured and its signature is checked, and not a word of it is read: where the stacks come from, and
what they declare, is the source's to say.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from reconciler.adapters import connection
from reconciler.adapters.web.door import Bucket
from reconciler.errors import StateError, UsageError

PATH = "/hooks/look"
SECRET = "RECONCILER_WEBHOOK_SECRET"
BYTES_MAX = 64 << 10
BODY_S = 10.0  # that a body may take to arrive
SECRET_MIN = 16
BURST, EACH_S = 10, 3.0  # so many at once, and one more every so often

_GITHUB, _GITLAB = "X-Hub-Signature-256", "X-Gitlab-Token"


def secret_of(file: str) -> bytes:
    """The secret that the forge signs with: from a private file, else the environment. b"" where there is none.

    UsageError for one that could be guessed; no message ever holds any of it.
    """
    what = "the webhook's secret"
    secret = connection.private_text(file, what) if file else os.environ.get(SECRET, "").strip()
    if secret and len(secret) < SECRET_MIN:
        raise UsageError(f"{what} has fewer than {SECRET_MIN} characters", hint="openssl rand -hex 32 makes one")
    return secret.encode()


def routes(look_now: Callable[[], None], secret: bytes, *, clock: Callable[[], float] = time.monotonic) -> list[Route]:
    """`POST /hooks/look`, in GitHub's form or GitLab's. None without a secret: an unsigned one is never heard."""
    if not secret:
        return []
    rate = Bucket(BURST, 1 / EACH_S, clock)

    async def look(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_S):
                signed = await _signed(request, secret)
        except _TooLong:
            return _answer(413, f"more than {BYTES_MAX:,} bytes")
        except (TimeoutError, ClientDisconnect):
            return _answer(408, "it took too long")
        if not signed:
            return _answer(401, "it is not signed with this controller's secret")
        if not rate.takes():
            return _answer(429, "too many", {"Retry-After": f"{EACH_S:.0f}"})
        try:
            await run_in_threadpool(look_now)
        except StateError:
            return _answer(503, "the list of stacks cannot be used now")
        return _answer(202, "looking")

    return [Route(PATH, look, methods=["POST"])]


class _TooLong(Exception):
    """The body is longer than any that is heard."""


async def _signed(request: Request, secret: bytes) -> bool:
    """Whether it was sent by somebody who knows the secret; of anybody else's the body is not even read."""
    token, signature = request.headers.get(_GITLAB), request.headers.get(_GITHUB)
    if token is not None:
        if is_theirs := hmac.compare_digest(token.encode(), secret):
            await _body(request)
        return is_theirs
    if signature is None:
        return False
    wanted = "sha256=" + hmac.new(secret, await _body(request), hashlib.sha256).hexdigest()
    return hmac.compare_digest(signature.encode(), wanted.encode())


async def _body(request: Request) -> bytes:
    told = request.headers.get("Content-Length", "0")
    if not re.fullmatch("[0-9]{1,9}", told) or int(told) > BYTES_MAX:
        raise _TooLong
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BYTES_MAX:
            raise _TooLong
    return body


def _answer(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)
