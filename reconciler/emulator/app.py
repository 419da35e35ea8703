"""The HTTP face: every route in one table, who may pass, and the two shapes an answer has.

One request is one `_perform`: a transaction, the operation's name, the handler. Every answer, of whatever kind, says
that it comes from the emulator and is dated by emulated time.
"""

from __future__ import annotations

import hmac
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

import anyio
from starlette import routing
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.emulator import (
    checkpoints,
    clock,
    control,
    deployments,
    files,
    inference,
    jobs,
    models,
    phrases,
    vocabularies,
)
from reconciler.emulator.backend import Backend, Paging
from reconciler.emulator.delivery import FIRED, delivered, held, instead
from reconciler.emulator.fates import edited, impose
from reconciler.emulator.faults import did_you_mean
from reconciler.emulator.fields import Json
from reconciler.emulator.firing import NOTHING, Fired, fire
from reconciler.emulator.refusal import Refusal, bad_key, denied, internal, invalid, not_found, throttled
from reconciler.emulator.wire import Bare, Call, Frames, Reply, Route, Stored, discard, is_read

API = (
    *files.ROUTES,
    *phrases.ROUTES,  # before the jobs: `/fine-tunes/outputs` is no job
    *jobs.ROUTES,
    *checkpoints.ROUTES,
    *models.ROUTES,  # before the deployments: `/deployments/models` is no deployment
    *deployments.ROUTES,
    *vocabularies.ROUTES,
    *inference.ROUTES,
)
ROUTES = (*API, *control.routes(API))
OPERATIONS = frozenset(operation for route in API for operation in route.operations)
CONTROL_HEADER = "x-emulator-control"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_REAL_KEY = re.compile("sk-[0-9a-fA-F]{32}")


def make_app(backend: Backend, *, api_key: str | None, control_token: str) -> ASGIApp:
    """The application of one server. With `api_key` only that key is accepted, else any that is not a real one."""
    app = Starlette(
        routes=[
            routing.Route(route.path, _endpoint(route, backend, api_key, control_token), methods=[route.method])
            for route in ROUTES
            if backend.profile in route.profiles
        ],
        exception_handlers={HTTPException: _no_route, Exception: _broken},
    )
    app.router.redirect_slashes = False
    return delivered(_signed(app, backend), backend)


def _endpoint(
    route: Route, backend: Backend, api_key: str | None, control_token: str
) -> Callable[[Request], Awaitable[Response]]:
    traffic, is_api = backend.traffic, route.access == "key"

    async def paced(request: Request) -> Response:
        came_s = traffic.clock()
        response = await answer(request)
        if is_api and (wait_s := traffic.wait_s(came_s)):
            await anyio.sleep(wait_s)
        return response

    async def answer(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        refused = partial(_refused, request_id=request_id, openai=route.openai)
        try:
            _admit(route, request, api_key, control_token)
            if is_api and not traffic.admits():
                raise throttled()
            call = replace(await route.receive(request, backend), request_id=request_id)
            try:
                fired, reply = await run_in_threadpool(_met, backend, route, call)
                if reply is not None:
                    return _response(reply, request_id, fired)
                request.scope["state"][FIRED] = fired
                return await _answer(backend, route, call, fired, refused)
            finally:
                discard(call.uploads)
        except Refusal as refusal:
            return refused(refusal)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is left to read it

    return paced


def _met(backend: Backend, route: Route, call: Call) -> tuple[Fired, Reply | None]:
    """The rules that meet a call. Where none does, it is carried out at once: one way to another thread is enough."""
    fired = fire(backend, route, call)
    return fired, None if fired.rules else _perform(backend, route, call, fired)


async def _answer(
    backend: Backend, route: Route, call: Call, fired: Fired, refused: Callable[[Refusal], Response]
) -> Response:
    """The call carried out and answered, each as far as the faults that met it allow."""
    await held(backend, fired.holds("before"))
    if fired.dropped_before:
        return Response()
    if fired.refusal:
        return instead(fired.refusal, Response(), now_s=backend.now_s(), refused=refused)
    try:
        response = _response(await run_in_threadpool(_perform, backend, route, call, fired), call.request_id, fired)
    except Refusal as refusal:
        response = refused(refusal)
    await held(backend, fired.holds("after"))
    if fired.answer:
        return instead(fired.answer, response, now_s=backend.now_s(), refused=refused)
    return response


def _perform(backend: Backend, route: Route, call: Call, fired: Fired) -> Reply:
    """One request, one transaction: what the handler wrote is committed when this returns."""
    operation = route.operation_of(call)
    with backend.transaction(operation) as tx:
        tx.faults_met, tx.hidden = fired.titles, fired.hidden
        tx.paging = Paging(fired.pages.shift, fired.pages.total) if fired.pages else Paging()
        if route.access == "key" and tx.read_only and not is_read(operation):
            raise denied("Access denied: the emulator is read-only.")
        _check_members(route, call, tx.switches.choice("http.unknown_field"))
        reply = route.handler(tx, call)
        for fate in fired.fates:
            impose(tx, fate)
    return reply


def _check_members(route: Route, call: Call, unknown: str) -> None:
    refuse = unknown == "refuse" or (unknown == "by-endpoint" and route.openai)
    if route.access != "key":
        for name in sorted(call.body.keys() - route.members):
            raise invalid(f"Unknown member {name!r}{did_you_mean(name, route.members)}")
    if refuse and route.members and not route.more_members:
        for name in sorted(call.body.keys() - route.members):
            raise invalid(f"Unknown parameter: {name}")


# Who may pass


def _admit(route: Route, request: Request, api_key: str | None, control_token: str) -> None:
    if route.access == "key":
        _check_key(request.headers.get("authorization", ""), api_key)
        return
    host = request.headers.get("host", "")
    if re.sub(r":\d+$", "", host).lower() not in LOOPBACK_HOSTS:
        raise denied("The emulator's own routes answer only a loopback host.")
    if route.access == "control" and not _same(request.headers.get(CONTROL_HEADER, ""), control_token):
        raise denied(f"This route needs the header {CONTROL_HEADER} with the token in the data folder.")


def _check_key(authorization: str, api_key: str | None) -> None:
    scheme, _, key = authorization.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise bad_key()
    if _REAL_KEY.fullmatch(key):
        raise bad_key("This is a local emulator: it refuses keys of the real form, which must not be sent here.")
    if api_key is not None and not _same(key, api_key):
        raise bad_key()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


# Answers


def _response(reply: Reply, request_id: str, fired: Fired) -> Response:
    if isinstance(reply, Stored):
        return FileResponse(reply.path, media_type="application/octet-stream")
    if isinstance(reply, Frames):
        return StreamingResponse(reply.frames, media_type="text/event-stream")
    body = reply.body if isinstance(reply, Bare) else {**reply, "request_id": request_id}
    return _json(HTTPStatus.OK, edited(body, fired.edits) if fired.edits else body)


def _refused(refusal: Refusal, request_id: str, *, openai: bool) -> Response:
    if openai:
        kind = "invalid_request_error" if refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        error = {"message": refusal.message, "type": kind, "code": refusal.code, "param": None}
        return _json(refusal.status, {"error": error, "request_id": request_id})
    body = {"code": refusal.code, "message": refusal.message, "request_id": request_id}
    return _json(refusal.status, body)


def _json(status: int, body: Json) -> Response:
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return Response(raw, status_code=status, media_type="application/json")


async def _no_route(request: Request, error: Exception) -> Response:
    """Unknown paths and unknown methods alike: a client that strayed must not take the answer for a success."""
    return _refused(not_found(), str(uuid.uuid4()), openai=request.url.path.startswith("/compatible-mode"))


async def _broken(request: Request, error: Exception) -> Response:
    return _refused(internal(), str(uuid.uuid4()), openai=request.url.path.startswith("/compatible-mode"))


def _signed(app: ASGIApp, backend: Backend) -> ASGIApp:
    name = f"{backend.install_id}; nothing is bought".encode()

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                fired: Fired = scope["state"].get(FIRED, NOTHING)
                date = clock.http_date(backend.now_s() + fired.date_offset_s).encode()
                message["headers"] = [*message["headers"], (b"x-bailian-emulator", name), (b"date", date)]
            await send(message)

        await app(scope, receive, send_signed)

    return signed
