"""What a request and an answer are to the modules that have routes, and how a request is read off the wire.

A `Route` names its operation, so that the ledger, the read-only guard and whoever counts requests speak of the same
thing. Bodies are bounded here: a JSON body of 16 MiB, an upload of 1 GiB.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from reconciler.emulator import schemas
from reconciler.emulator.backend import Backend, Transaction
from reconciler.emulator.dataset import Survey
from reconciler.emulator.fields import Json, query_integer
from reconciler.emulator.refusal import invalid, too_large
from reconciler.emulator.schemas import Schemas
from reconciler.emulator.switches import PROFILES

JSON_BYTES_MAX = 16 << 20
UPLOAD_BYTES_MAX = 1 << 30
READS = frozenset({"get", "list", "logs", "stream", "models", "generate", "info", "ledger", "content"})


@dataclass(frozen=True)
class Upload:
    """One file part, already on disk under a name of ours. `field` is the part's name, `filename` the sender's."""

    field: str
    filename: str
    path: Path
    size: int
    md5: str


@dataclass(frozen=True)
class Call:
    """One request. A form's plain fields are lists in `body`; `surveys` are the training files of a job, by id."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Json = field(default_factory=dict)
    uploads: tuple[Upload, ...] = ()
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True)
class Frames:
    """An answer of server-sent events: each string one frame with its blank line."""

    frames: AsyncIterator[str] | Iterable[str]


@dataclass(frozen=True)
class Bare:
    """An answer that is shown as it is, without a request id in it."""

    body: Json


@dataclass(frozen=True)
class Stored:
    """An answer that is the bytes of an upload."""

    path: Path


Reply = Json | Frames | Bare | Stored
Receive = Callable[[Request, Backend], Awaitable[Call]]


async def json_call(request: Request, backend: Backend) -> Call:
    raw = b"".join([chunk async for chunk in bounded(request, JSON_BYTES_MAX)])
    return Call(request.path_params, request.query_params, request.headers, parse_object(raw) if raw else {})


async def form_call(request: Request, backend: Backend) -> Call:
    uploads: list[Upload] = []
    try:
        parser = MultiPartParser(request.headers, bounded(request, UPLOAD_BYTES_MAX), max_files=100, max_fields=300)
        form = await parser.parse()
        body: Json = {}
        try:
            for name, value in form.multi_items():
                _check_text(name, (value.filename or "") if isinstance(value, UploadFile) else value)
                if isinstance(value, UploadFile):
                    uploads.append(await run_in_threadpool(_keep, backend.uploads, name, value))
                else:
                    body.setdefault(name, []).append(value)
        finally:
            await form.close()
    except (MultiPartException, KeyError, UnicodeEncodeError) as error:
        discard(uploads)
        raise invalid("Required body invalid, please check the request body format.") from error
    except BaseException:
        discard(uploads)
        raise
    return Call(request.path_params, request.query_params, request.headers, body, tuple(uploads))


@dataclass(frozen=True)
class Route:
    """One operation of the API, and what there is to say of it in its description (`openapi.py`).

    `body` and `query` are schemas by name. The names in `body` are those a request may hold, as far as anybody
    documents them; with `more_members` there are others. Without those in `required` a request is refused. `answer` is
    the schema of the whole answer, `streams` whether it comes as events. Where the operation shows only in the request,
    `several` names those it may be.
    """

    method: str
    path: str
    operation: str | Callable[[Call], str]
    handler: Callable[[Transaction, Call], Reply]
    body: Schemas = field(default_factory=dict)
    query: Schemas = field(default_factory=dict)
    required: tuple[str, ...] = ()
    answer: Json = field(default_factory=schemas.answer)
    streams: Literal["never", "asked", "always"] = "never"
    receive: Receive = json_call
    profiles: tuple[str, ...] = PROFILES
    access: Literal["key", "loopback", "control"] = "key"
    several: tuple[str, ...] = ()
    more_members: bool = False

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self.body)

    @property
    def operations(self) -> tuple[str, ...]:
        return (self.operation,) if isinstance(self.operation, str) else self.several

    @property
    def openai(self) -> bool:
        return self.path.startswith("/compatible-mode")

    def operation_of(self, call: Call) -> str:
        return self.operation if isinstance(self.operation, str) else self.operation(call)


def is_read(operation: str) -> bool:
    return operation.rpartition(".")[2] in READS


def page(call: Call, *, size: int, most: int, names: tuple[str, str] = ("page_no", "page_size")) -> tuple[int, int]:
    """Number and size of the page asked for; `size` is the default, `most` the largest allowed."""
    return (
        query_integer(call.query, names[0], 1, least=1, most=10**6),
        query_integer(call.query, names[1], size, least=1, most=most),
    )


def discard(uploads: Iterable[Upload]) -> None:
    """Removes what no file record took over."""
    for upload in uploads:
        upload.path.unlink(missing_ok=True)


async def bounded(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks, refused as soon as it is known that they are too many."""
    length = request.headers.get("content-length", "")
    received = int(length) if length.isdigit() else 0
    if received > most:
        raise too_large(f"Request body of {received} B exceeds the limit of {most} B.")
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most:
            raise too_large(f"Request body exceeds the limit of {most} B.")
        yield chunk


def parse_object(raw: bytes) -> Json:
    """A JSON object that can be written again: no NaN, no infinity, no half of a surrogate pair."""
    try:
        body = json.loads(raw.decode("utf-8"))
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise invalid("Required body invalid, please check the request body format.") from error
    if not isinstance(body, dict):
        raise invalid("Required body invalid, please check the request body format.")
    return body


def _check_text(*texts: str) -> None:
    """Raises UnicodeEncodeError for half of a surrogate pair, which some charsets of a form can spell."""
    for text in texts:
        text.encode("utf-8")


def _keep(folder: Path, name: str, part: UploadFile) -> Upload:
    path = folder / f"incoming-{uuid.uuid4().hex}"
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for chunk in _chunks(part.file):
            digest.update(chunk)
            size += file.write(chunk)
    filename = (part.filename or "").replace("\\", "/").rpartition("/")[2]
    return Upload(name, filename, path, size, digest.hexdigest())


def _chunks(file: BinaryIO) -> Iterable[bytes]:
    while chunk := file.read(1 << 20):
        yield chunk
