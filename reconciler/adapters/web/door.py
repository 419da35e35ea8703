"""The door in front of the pages: everything that is refused before a request is read any further.

Outside, for whatever is served: the Host, how often, and what every answer carries. Inside, for the pages alone: how
large, who, and whether a change was asked for by a page of ours.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.adapters.crash import reported
from reconciler.adapters.terminal import say_anyway
from reconciler.adapters.web.access import Token, Tokens

ASKED_BY = "x-reconciler"  # no form and no link of another site can send it
BODY_MAX, TARGET_MAX = 4_096, 4_096  # bytes of what is sent to a page, and of its path with its query
BURST, PER_S = 120, 30.0  # requests of one address
LOGINS, LOGINS_PER_S = 10, 0.1  # wrong tokens, of everybody together
_ADDRESSES_MAX = 1_024

POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Bucket:
    """So many at once, and so many a second after that."""

    def __init__(self, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.burst, self.per_s, self.clock = burst, per_s, clock
        self.left, self.at = burst, clock()

    def takes(self, count: float = 1) -> bool:
        """Whether one more is within it; 0 asks without taking."""
        now = self.clock()
        self.left, self.at = min(self.burst, self.left + (now - self.at) * self.per_s), now
        if self.left < max(count, 1):
            return False
        self.left -= count
        return True


class Door:
    """The outer door. `hosts` are the names under which the page may be called, beside its own address."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.hosts, self.clock = app, frozenset(host.lower() for host in hosts), clock
        self.buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        try:
            if refused := self._refused(scope):
                await refused(scope, receive, answer.send)
            else:
                await self.app(scope, receive, answer.send)
        except Exception as error:
            say_anyway(f"page: {reported(error)}", err=True)
            if not answer.begun:
                await PlainTextResponse("internal error", 500)(scope, receive, answer.send)

    def _refused(self, scope: Scope) -> PlainTextResponse | None:
        if not self._within_rate(scope):
            return PlainTextResponse("too many requests", 429, {"Retry-After": "1"})
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or not is_ours(hosts[0], scope, self.hosts):
            return PlainTextResponse("this is not the host that was asked for", 421)
        return None

    def _within_rate(self, scope: Scope) -> bool:
        address = scope["client"][0] if scope.get("client") else ""
        bucket = self.buckets.pop(address, None) or Bucket(BURST, PER_S, self.clock)
        self.buckets[address] = bucket
        if len(self.buckets) > _ADDRESSES_MAX:
            self.buckets.popitem(last=False)
        return bucket.takes()


def is_ours(host: str, scope: Scope, names: Iterable[str]) -> bool:
    """Whether a Host names this very server: by the address that the connection came to, or by a name of ours.

    A name that somebody else controls may point here (DNS rebinding); an address cannot point anywhere else.
    """
    here, port = scope.get("server") or ("", None)
    name, _, given = host.lower().rpartition(":") if not host.endswith("]") and ":" in host else (host.lower(), "", "")
    if given and given != str(port):
        return name in names  # behind a port that is forwarded
    if name in names:
        return True
    try:
        return ip_address(name.strip("[]")) == ip_address(here)
    except ValueError:
        return name == "localhost" and is_loopback(here)


def is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class _Answer:
    """An answer with what every one of them carries; one that says so itself has its own word."""

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


class Guard:
    """The inner door. `refuse` words what is refused; `open_paths` are for everybody."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        open_paths: Iterable[str],
        refuse: Callable[[Scope, int], ASGIApp],
    ) -> None:
        self.app, self.tokens, self.open_paths, self.refuse = app, tokens, frozenset(open_paths), refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, token = self._verdict(scope)
        scope.setdefault("state", {})["token"] = token
        await (self.refuse(scope, status) if status else self.app)(scope, receive, send)

    def _verdict(self, scope: Scope) -> tuple[int, Token | None]:
        """The status of a refusal, or 0; and who it is."""
        headers = Headers(scope=scope)
        if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > TARGET_MAX:
            return 414, None
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, None
        if "transfer-encoding" in headers or not headers.get("content-length", "0").isdecimal():
            return 411, None
        told = headers.get("content-length", "0").lstrip("0")
        if len(told) > len(str(BODY_MAX)) or int(told or 0) > BODY_MAX:
            return 413, None
        token, by_browser = self._who(scope, headers)
        if scope["method"] == "POST" and not _asked_here(scope, headers, by_browser):
            return 403, token
        if token is None and scope["path"] not in self.open_paths:
            return 401, None
        return 0, token

    def _who(self, scope: Scope, headers: Headers) -> tuple[Token | None, bool]:
        """Whose request it is, and whether a browser may have been made to send it."""
        if (secret := _bearer(headers)) is not None:
            return self.tokens.by_secret(secret), False
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return None, True
        found = cookies.get(cookie_name(scope))
        return (self.tokens.by_cookie(found.value) if found else None), True


class Near:
    """The door of what needs no token from this computer, and one from anywhere else."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self.app, self.tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        near = bool(scope.get("client")) and is_loopback(scope["client"][0])
        known = near or self.tokens.by_secret(_bearer(Headers(scope=scope)) or "")
        await (self.app if known else PlainTextResponse("no token", 401))(scope, receive, send)


def _bearer(headers: Headers) -> str | None:
    """The token that a program sends; None where it sends none."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def _asked_here(scope: Scope, headers: Headers, by_browser: bool) -> bool:
    """Whether a page of ours, or a program with a token, asks for a change."""
    origin = headers.get("origin")
    if headers.get(ASKED_BY) != "page" or (origin is None and by_browser):
        return False
    return origin is None or origin == f"{scope['scheme']}://{headers.get('host', '')}"


def cookie_name(scope: Scope) -> str:
    """Cookies are not told apart by port, so that their names are."""
    return f"reconciler-{(scope.get('server') or ('', ''))[1]}"
