"""The pages, and each of them as JSON: all stacks, one stack, one object, one plan; and what may be done on them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from reconciler import __version__, engine
from reconciler.adapters.web import chain, sights
from reconciler.adapters.web.access import Token, Tokens
from reconciler.adapters.web.door import LOGINS, LOGINS_PER_S, Bucket, cookie_name
from reconciler.adapters.web.live import Busy, Live, Seen
from reconciler.adapters.web.texts import LANGUAGES, Words, chosen
from reconciler.conditions import Report, to_data
from reconciler.errors import ReconcilerError, Refused, StateLocked, UsageError
from reconciler.render.cost import costs_json
from reconciler.render.data import json_text
from reconciler.render.errors import error_text
from reconciler.render.picture import picture
from reconciler.render.state import item_json
from reconciler.render.words import clean
from reconciler.report import Trained

HERE = Path(__file__).parent
OPEN_PATHS = ("/login", "/icon.svg", "/static/page.css", "/static/page.js")
PATHS = ("/stacks", "/stack", "/object", "/plan", "/login")
TEXT_MAX = 2_000  # of one value on a page
BODY_S = 10.0  # that a body may take to arrive
LOCK_S = 5.0  # for a run that holds the state while somebody approves
STREAMS_MAX = 32  # pages that update themselves
BEAT_S, NEWS_S = 15.0, 1.0
CURVE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # of a picture that is opened by itself


@dataclass(frozen=True)
class Shown:
    """What one address has to show: values for its template, and the same for programs."""

    template: str
    values: Mapping[str, Any]
    data: Mapping[str, Any]


class Pages:
    """Handlers over what is `live`. `closing` ends what would go on by itself."""

    def __init__(self, live: Live, tokens: Tokens, closing: threading.Event) -> None:
        self.live, self.tokens, self.closing = live, tokens, closing
        self.templates = _templates()
        self.logins = Bucket(LOGINS, LOGINS_PER_S)
        self.streams = 0

    def routes(self) -> list[Route]:
        return [
            Route("/", lambda request: RedirectResponse("/stacks"), methods=["GET"]),
            *self._twins("/stacks", self._overview),
            *self._twins("/stack", self._stack),
            *self._twins("/object", self._object),
            *self._twins("/plan", self._plan),
            Route("/curve.svg", self._curve, methods=["GET"]),
            Route("/news", self._news, methods=["GET"]),
            Route("/approve", self._approve, methods=["POST"]),
            Route("/login", self._login, methods=["GET", "POST"]),
            *(Route(f"/static/{name}", _file(f"static/{name}"), methods=["GET"]) for name in ("page.css", "page.js")),
            Route("/icon.svg", _file("static/icon.svg"), methods=["GET"]),
        ]

    # Reading ----------------------------------------------------------------------------------------------------------

    def _twins(self, path: str, show: Callable[[Request], Shown]) -> list[Route]:
        def page(request: Request) -> Response:
            shown = show(request)
            return _json(shown.data) if _wants_json(request) else self._page(request, shown.template, shown.values)

        return [Route(written, page, methods=["GET"]) for written in (path, f"{path}.json")]

    def failed(self, request: Request, status: int, text: str = "") -> Response:
        """Says what is wrong: to a person on a page, to a program as JSON."""
        if _wants_json(request):
            return _json({"error": text or _STATUS_KEYS.get(status, "error"), "status": status}, status)
        words = _words(request)
        key = _STATUS_KEYS.get(status, "")
        values = {"title": str(status), "text": words(key) if key else "", "lines": text.splitlines()}
        return self._page(request, "error.html", values, status)

    def refused(self, scope: Scope, status: int) -> ASGIApp:
        """The answer of the door: whoever is not known may say who it is."""
        request = Request(scope)
        if status == 401 and not _wants_json(request) and request.method == "GET":
            return self._page(request, "login.html", {}, status)
        return self.failed(request, status)

    def _page(self, request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> Response:
        words = _words(request)
        token: Token | None = request.scope.get("state", {}).get("token")
        text = self.templates.get_template(template).render(
            t=words,
            token=token,
            version=__version__,
            languages=[(name, _here(request, lang=name)) for name in LANGUAGES],
            **{"news": "", **values},
        )
        response = Response(text, status, media_type="text/html")
        response.headers["Vary"] = "Accept-Language, Accept, Cookie"
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie("lang", words.language, max_age=31_536_000, samesite="strict", httponly=True)
        return response

    def _overview(self, request: Request) -> Shown:
        values = sights.overview(self.live.reports(), self.live.due_in_s())
        data = {
            "stacks": [_report_json(one.report, one.due_in_s) for one in values["stacks"]],
            "hour_cny": _text(values["hour"]),
            "month_cny": _text(values["month"]),
        }
        return Shown("overview.html", {**values, "news": "/news"}, data)

    def _stack(self, request: Request) -> Shown:
        name = self._named(request)
        try:
            seen = self.live.stack(name)
        except ReconcilerError as error:
            if isinstance(error, Busy):
                raise
            return self._unseen(name, error_text(error))
        find = request.query_params.get("find", "")[:100]
        cards = chain.cards(seen, find)
        values = {**sights.stack(seen, cards), "find": find, "news": _url("/news", stack=name)}
        data = {
            **_report_json(seen.report, self.live.due_in_s().get(name)),
            "seen_at": seen.at,
            "objects": [item_json(one) for one in seen.items],
            "edges": [list(edge) for edge in chain.edges(cards)],
            "cost": costs_json(seen.opened.heading, seen.costs),
        }
        return Shown("stack.html", values, data)

    def _unseen(self, name: str, error: str) -> Shown:
        """What is left to show of a stack that cannot be opened now: what the last look said."""
        report = self.live.reports()[name]
        data = {**_report_json(report, self.live.due_in_s().get(name)), "seen_error": error}
        values = {**sights.unseen(report), "trouble": error.splitlines(), "news": _url("/news", stack=name)}
        return Shown("stack.html", values, data)

    def _object(self, request: Request) -> Shown:
        seen, address = self._addressed(request)
        row = sights.logged(seen, address)
        run = self.live.run(seen.name, row) if row else None
        values, data = sights.object_(seen, address, run)
        return Shown("object.html", {**values, "news": _url("/news", stack=seen.name)}, data)

    def _plan(self, request: Request) -> Shown:
        seen = self.live.stack(self._named(request))
        values, data = sights.plan(seen)
        return Shown("plan.html", {**values, "news": _url("/news", stack=seen.name)}, data)

    def _curve(self, request: Request) -> Response:
        seen, address = self._addressed(request)
        row = sights.logged(seen, address)
        run = self.live.run(seen.name, row) if row else None
        if run is None:
            raise HTTPException(404)
        narrow = "narrow" in request.query_params
        size, title = ((360, 300), "") if narrow else ((900, 420), f"{address} {run.row.id}")
        drawn = picture(title, [Trained(run.row.slot, run.row.id, run.measured)], size=size, alone=True)
        return Response(drawn, media_type="image/svg+xml", headers={"Content-Security-Policy": CURVE_POLICY})

    def _named(self, request: Request) -> str:
        """The stack that is asked for; 404 for any that is not ours."""
        name = request.query_params.get("stack", "")
        if name not in self.live.names():
            raise HTTPException(404)
        return name

    def _addressed(self, request: Request) -> tuple[Seen, str]:
        seen = self.live.stack(self._named(request))
        address = request.query_params.get("address", "")
        if address not in {card.address for card in chain.cards(seen)}:
            raise HTTPException(404)
        return seen, address

    # News -------------------------------------------------------------------------------------------------------------

    async def _news(self, request: Request) -> Response:
        """Server-sent events: `changed` whenever there is another report than before, of one stack or of any."""
        name = request.query_params.get("stack", "")
        if name:
            await run_in_threadpool(self._named, request)
        if self.streams >= STREAMS_MAX:
            return Response("too many pages are open", 503, media_type="text/plain", headers={"Retry-After": "30"})
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(request, name), media_type="text/event-stream", headers=headers)

    async def _events(self, request: Request, name: str) -> AsyncIterator[str]:
        self.streams += 1
        try:
            known, silent_s = await self._version(name), 0.0
            yield f"retry: 3000\nevent: open\ndata: {known}\n\n"
            while not self.closing.is_set() and not await request.is_disconnected():
                await anyio.sleep(NEWS_S)
                silent_s += NEWS_S
                version = await self._version(name)
                if version != known:
                    known, silent_s = version, 0.0
                    yield f"event: changed\ndata: {known}\n\n"
                elif silent_s >= BEAT_S:
                    silent_s = 0.0
                    yield ": still here\n\n"
        finally:
            self.streams -= 1

    async def _version(self, name: str) -> str:
        """A word for what there is to see, another one as soon as that is something else; for this process alone."""
        try:
            reports = await run_in_threadpool(self.live.reports)
        except ReconcilerError:
            return "none"
        return f"{hash(tuple(report for key, report in sorted(reports.items()) if name in ('', key))):x}"

    # Doing ------------------------------------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        """Takes a token, and gives the browser what stands for it."""
        if request.method == "GET":
            return await run_in_threadpool(self._page, request, "login.html", {})
        if not self.logins.takes(0):
            return _json({"error": "too many tokens were tried", "status": 429}, 429)
        token = self.tokens.by_secret((await _body(request)).get("token", "").strip())
        if token is None:
            self.logins.takes()
            return _json({"error": "this token is not valid", "status": 401}, 401)
        answer = _json({"name": token.name})
        secure = request.url.scheme == "https"
        answer.set_cookie(cookie_name(request.scope), token.cookie, samesite="strict", httponly=True, secure=secure)
        return answer

    async def _approve(self, request: Request) -> Response:
        token: Token = request.state.token
        if not token.approves:
            return _json({"error": "this token only reads", "status": 403}, 403)
        told = await _body(request)
        return await run_in_threadpool(self._agree, token, told.get("stack", ""), told.get("digest", ""))

    def _agree(self, token: Token, name: str, digest: str) -> Response:
        """The whole digest, as it was shown: what was proposed since then is something else."""
        try:
            if name not in self.live.names():
                return _json({"error": "there is no such stack", "status": 404}, 404)
            if len(digest) != 64:
                raise UsageError("this is not the whole digest of a proposal")
            with self.live.watched.opened(name, writes=True) as opened:
                agreed = engine.agree(opened.session, digest, by=f"{token.name} on the page", lock_timeout_s=LOCK_S)
        except ReconcilerError as error:
            status = 409 if isinstance(error, UsageError | StateLocked | Refused) else 502
            return _json({"error": error_text(error), "status": status}, status)
        self.live.forget(name)
        return _json({"digest": agreed.digest, "approved_at": agreed.approved_at, "by": agreed.by})


_STATUS_KEYS = {401: "login", 404: "gone", 429: "too_many", 500: "internal", 503: "busy"}


# Small things -------------------------------------------------------------------------------------------------------


def _templates() -> Any:
    """Everything that a template is given is escaped for HTML, after `clean` made it visible."""
    try:
        import jinja2
    except ImportError as error:
        raise ReconcilerError(
            "the pages are written by Jinja2, which is not installed", hint="pip install 'bailian-reconciler[web]'"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    environment.globals.update(url=_url)
    return environment


def _seen(value: Any) -> Any:
    """What a template's own blocks made is no text from outside; everything else is."""
    return value if hasattr(value, "__html__") else clean(value, TEXT_MAX)


def _url(path: str, **query: str) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _here(request: Request, **query: str) -> str:
    kept = {name: value for name, value in request.query_params.items() if name in ("stack", "address", "find")}
    path = request.scope["path"]
    return _url(path if path in PATHS else PATHS[0], **kept, **query)  # a path from outside may lead elsewhere


def _words(request: Request) -> Words:
    asked = request.query_params.get("lang", "") or request.cookies.get("lang", "")
    return Words(chosen(asked, request.headers.get("accept-language", "")))


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return (
        request.url.path.endswith(".json")
        or request.method == "POST"
        or ("application/json" in accepted and "text/html" not in accepted)
    )


def _json(data: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json_text(data), status, media_type="application/json")


async def _body(request: Request) -> dict[str, str]:
    """The strings of a small JSON object; the door has seen to its size."""
    try:
        async with asyncio.timeout(BODY_S):
            data = json.loads(await request.body())
    except TimeoutError:
        raise HTTPException(408) from None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise HTTPException(400)
    return {name: value for name, value in data.items() if isinstance(value, str)}


def _file(name: str) -> Callable[[Request], Response]:
    """One file of ours: no folder is listed, and no path leads anywhere else."""
    text = (HERE / name).read_bytes()
    kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[name.rpartition(".")[2]]

    def answer(request: Request) -> Response:
        return Response(text, media_type=kind)

    return answer


def _report_json(report: Report, due_in_s: float | None) -> dict[str, Any]:
    said = {"sync": report.sync.value, "health": report.health.value}
    return {**to_data(report), **said, "due_in_s": None if due_in_s is None else round(due_in_s, 1)}


def _text(amount: Any) -> str | None:
    return None if amount is None else str(amount)
