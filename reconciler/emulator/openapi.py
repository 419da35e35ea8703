"""The description of what is served, made from the routes themselves: OpenAPI 3.1.

It says what may be sent and what comes back, as loosely as the service does; it promises that a route that is served
is described and that nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.emulator.fields import Json
from reconciler.emulator.schemas import BYTES, TEXT, nullable, shape
from reconciler.emulator.wire import Route, form_call

NATIVE_ERROR = shape({"code": TEXT, "message": TEXT, "request_id": TEXT})
OPENAI_ERROR = shape(
    {"error": shape({"message": TEXT, "type": TEXT, "code": TEXT}, {"param": nullable(TEXT)}), "request_id": TEXT}
)
SECURITY: Json = {
    "key": {"type": "http", "scheme": "bearer", "description": "Any made-up key."},
    "control": {"type": "apiKey", "in": "header", "name": "X-Emulator-Control", "description": "In the data folder."},
}


def describe(routes: Iterable[Route], profile: str) -> Json:
    """The routes of a profile."""
    paths: Json = {}
    for route in routes:
        if profile in route.profiles:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Emulator of Bailian fine-tuning, profile {profile}", "version": profile},
        "paths": paths,
        "components": {"securitySchemes": SECURITY},
    }


def _operation(route: Route) -> Json:
    """`x-operations` are the names that rules for faults and the ledger use."""
    module, name = route.handler.__module__.rpartition(".")[2], route.handler.__name__
    described: Json = {
        "operationId": f"{module}.{name}",
        "tags": [route.operations[0].partition(".")[0]],
        "x-operations": list(route.operations),
        "parameters": [
            *(_parameter(name, "path", TEXT, required=True) for name in re.findall(r"{(\w+)}", route.path)),
            *(_parameter(name, "query", it, required=name in route.required) for name, it in route.query.items()),
        ],
        "responses": {"200": _success(route), "default": _error(route)},
        "security": [] if route.access == "loopback" else [{route.access: []}],
    }
    return {**described, "requestBody": _body(route)} if route.body else described


def _parameter(name: str, place: str, schema: Json, *, required: bool) -> Json:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _body(route: Route) -> Json:
    form = route.receive is form_call
    members = {
        name: schema if form or name in route.required else nullable(schema) for name, schema in route.body.items()
    }
    schema = {"type": "object", "properties": members, "required": sorted(route.required)}
    return {"required": True, "content": {"multipart/form-data" if form else "application/json": {"schema": schema}}}


def _success(route: Route) -> Json:
    media = BYTES["contentMediaType"] if route.answer is BYTES else "application/json"
    content: Json = {} if route.streams == "always" else {media: {"schema": route.answer}}
    if route.streams != "never":
        content["text/event-stream"] = {}  # 3.1 has no words for what one event holds
    return {"description": "done", "content": content}


def _error(route: Route) -> Json:
    schema = OPENAI_ERROR if route.openai else NATIVE_ERROR
    return {"description": "refused", "content": {"application/json": {"schema": schema}}}
