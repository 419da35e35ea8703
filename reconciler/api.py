"""Sends a Request and returns what the service answered, or one of our errors. The only user of httpx in the package.

It knows nothing of kinds, plans or state. Whether a request may be sent again follows from its `effect` alone: a create
is never repeated unless the service said a well-formed "not now", or not one byte of it left this machine.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, NoReturn
from uuid import uuid4

import httpx

from reconciler.errors import (
    ApiError,
    Conflict,
    NeverSent,
    NotAuthorised,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unavailable,
)
from reconciler.resource import Content, Effect, Json, Request, dig, text
from reconciler.transport import Transport

REPLY_BYTES_MAX = 16 * 2**20
READ_WITHIN_S, WRITE_WITHIN_S = 60.0, 120.0  # a whole exchange, connect to last byte
UPLOAD_BYTES_PER_S = 64 * 1024  # the slowest line on which an upload is still given the time it needs
RATE_PER_S = 10.0  # no page states a limit for these endpoints (contract §8.2), so we keep one that no service minds
BEIJING = timezone(timedelta(hours=8))  # the zone of every timestamp without one (contract §1.2)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_REACH = "is the endpoint right?"
_FORBIDDEN = frozenset(
    "AccessDenied Arrearage CommodityNotPurchased InvalidApiKey PostpaidBillOverdue PrepaidBillOverdue"
    " WorkSpaceNotFound".split()
) | {"NOT AUTHORIZED"}
_QUOTA_TEXTS = ("running or succeeded allowed", "allocated quota exceeded")


@dataclass(frozen=True)
class Reply:
    """A success: the JSON object, and the service's own name for the exchange."""

    body: Json
    request_id: str


class Key:
    """The API key: shown to the one host it is for and to nothing else."""

    def __init__(self, value: str) -> None:
        """Raises NotAuthorised for what no header can carry: the library below would quote it in its complaint."""
        if not re.fullmatch(r"[\x21-\x7e]*", value):
            raise NotAuthorised("the API key holds a character that no key has", hint="look for a blank or a line end")
        self._value = value

    def __repr__(self) -> str:
        return "Key(***)"

    __str__ = __repr__

    def reveal(self) -> str:
        """The value, for the header of a request."""
        return self._value


@dataclass(frozen=True)
class Patience:
    """How often and how long a request that may be repeated is repeated; pauses double, with jitter."""

    tries: int = 5
    first_s: float = 0.5
    longest_s: float = 20.0


class Api:
    """One account of one service. `origin` is scheme and host, `base` the path all requests share.

    `contents` yields the bytes of an upload. `sleep` and `jitter` are arguments so that a test need not wait.
    """

    def __init__(
        self,
        origin: str,
        key: Key,
        *,
        workspace: str = "",
        base: str = "/api/v1",
        contents: Callable[[Content], Iterator[bytes]] = lambda content: iter(()),
        patience: Patience | None = None,
        rate_per_s: float | None = RATE_PER_S,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.origin, self._base, self._contents = origin.rstrip("/"), base, contents
        self._patience, self._sleep, self._jitter = patience or Patience(), sleep, jitter
        self._headers = {"User-Agent": "bailian-reconciler"}
        if key.reveal():
            self._headers["Authorization"] = f"Bearer {key.reveal()}"
        self.account = hashlib.sha256(f"{self.origin}\n{workspace}\n{key.reveal()}".encode()).hexdigest()[:16]
        if workspace:
            self._headers["X-DashScope-WorkSpace"] = workspace
        verify = ssl.create_default_context() if origin.startswith("https:") else None
        self._shared = _Line(Transport(verify, keep_alive=10))
        self._fresh = _Line(Transport(verify, keep_alive=0))  # on a used connection "did it arrive?" is undecidable
        self._bucket = Bucket(rate_per_s, sleep)
        self.skew: timedelta | None = None  # how far ahead of ours the service's clock was at its last answer
        self.emulator = ""
        self.hurry = 1.0  # how much faster than ours the service's time runs; only an emulator's does

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shared.client.close()
        self._fresh.client.close()

    def send(self, request: Request, *, until: float | None = None) -> Reply:
        """The answer to one request, repeated only where that is safe; after `until` (`awake_s`) nothing of it is sent.

        Raises ApiError: NotFound, Conflict, Rejected, NotAuthorised, Throttled for what the service refused;
        Unavailable for a read without a usable answer; NeverSent or OutcomeUnknown for a write without one.
        """
        for attempt in range(1, self._patience.tries + 1):
            self._bucket.take()
            try:
                return self._send_once(request, until)
            except ApiError as error:
                if attempt == self._patience.tries or not _repeatable(request, error):
                    raise
                pause_s = self._pause(attempt, error.after_s)
                if until is not None and awake_s() + pause_s >= until:
                    raise
                if isinstance(error, Throttled):
                    self._bucket.hold(pause_s)  # for every thread: the account is throttled, not the request
                self._sleep(pause_s)
        raise AssertionError("unreachable")

    def now(self) -> datetime:
        """The service's clock, by the `Date` of its last answer, in Beijing time."""
        return (datetime.now(UTC) + (self.skew or timedelta(0))).astimezone(BEIJING)

    def identify(self) -> str:
        """Whose service this is, for the stamp of the state: the host, or `emulator:<install id>` whatever the port."""
        host = httpx.URL(self.origin).host
        if host not in LOOPBACK:
            return host
        try:
            with self._shared.transport.exchange(READ_WITHIN_S):
                response = self._shared.client.get(f"{self.origin}/_emulator/info")
        except httpx.HTTPError as error:
            raise NeverSent(f"{self.origin} cannot be reached: {_reason(error)}", hint=_REACH) from error
        self._note(response.headers)
        if not self.emulator:
            return host
        self._bucket = Bucket(None, self._sleep)  # nobody else has a share in an emulator
        speed = dig(_json(response.content), "speed")
        self.hurry = max(1.0, float(speed)) if isinstance(speed, int | float) else 1.0
        return f"emulator:{self.emulator}"

    # One exchange -----------------------------------------------------------------------------------------------

    def _send_once(self, request: Request, until: float | None) -> Reply:
        left_s = within_s(request) if until is None else min(within_s(request), until - awake_s())
        if left_s <= 0:
            raise NeverSent(f"{request.operation} was not sent: its time was over, was this computer asleep?")
        line = self._fresh if request.effect is Effect.ONCE else self._shared
        with line.transport.exchange(left_s) as exchange:
            try:
                with line.client.stream(
                    request.method,
                    f"{self.origin}{self._base}{request.path}",
                    params=dict(request.query),
                    **self._payload(request),
                ) as response:
                    self._note(response.headers)
                    body = _read(response)
            except httpx.HTTPError as error:
                if exchange.sent_bytes == 0:
                    raise NeverSent(f"{self.origin} cannot be reached: {_reason(error)}", hint=_REACH) from error
                _lost(request, f"{self.origin} gave no complete answer to {request.operation}: {_reason(error)}", error)
        return self._answer(request, response, body)

    def _payload(self, request: Request) -> dict[str, Any]:
        headers = dict(self._headers)
        if request.content is not None:
            boundary = uuid4().hex
            head, tail = _multipart(boundary, request.form, request.content.filename)
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
            headers["Content-Length"] = str(len(head) + request.content.size + len(tail))
            return {"headers": headers, "content": _chain(head, self._contents(request.content), tail)}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            return {"headers": headers, "content": json.dumps(request.body, ensure_ascii=False).encode()}
        return {"headers": headers}

    def _answer(self, request: Request, response: httpx.Response, body: bytes) -> Reply:
        status = response.status_code
        if 300 <= status < 400:
            target = response.headers.get("location", "elsewhere")
            _lost(request, f"{self.origin} answered with a redirect to {target}; redirects are never followed", None)
        parsed = _json(body)
        if 200 <= status < 300 and parsed is not None:
            return Reply(parsed, text(parsed.get("request_id")))
        if parsed is None or not (text(parsed.get("code")) or status in (401, 403)):
            kind = response.headers.get("content-type", "no content type").split(";")[0]
            _lost(
                request,
                f"{self.origin} answered {request.operation} with status {status} and {kind}, no API answer",
                None,
            )
        raise self._refusal(request, status, parsed, response.headers)

    def _refusal(self, request: Request, status: int, body: Json, headers: Mapping[str, str]) -> ApiError:
        code, said = text(body.get("code")), text(body.get("message"))
        facts: dict[str, Any] = {
            "status": status,
            "code": code,
            "request_id": text(body.get("request_id")),
            "after_s": self._after_s(headers.get("retry-after", "")),
        }
        message = f"{request.operation}: {code or status}: {said}"
        if status >= 500 or status == 408:  # first of all: whatever it calls itself, the write may have happened
            return Unavailable(message, **facts) if request.effect is Effect.READ else OutcomeUnknown(message, **facts)
        if status in (401, 403) or code in _FORBIDDEN or code.startswith("AccessDenied"):
            return NotAuthorised(
                message, hint="check DASHSCOPE_API_KEY, its workspace and the account's standing", **facts
            )
        if status == 429 or code.startswith("Throttling"):
            quota = any(words in said.lower() for words in _QUOTA_TEXTS) or status == 400
            return Throttled(message, quota=quota, **facts)
        if status == 404 or code.endswith("ResourceNotExist") or "not found" in said.lower():
            return NotFound(message, **facts)
        return Conflict(message, **facts) if status == 409 else Rejected(message, **facts)

    def _note(self, headers: Mapping[str, str]) -> None:
        self.emulator = headers.get("x-bailian-emulator", "").split(";")[0].strip()
        try:
            self.skew = parsedate_to_datetime(headers.get("date", "")) - datetime.now(UTC)
        except (ValueError, TypeError):
            return  # no Date: keep the skew known so far

    def _after_s(self, asked: str) -> float:
        """A pause in seconds, or a date by the service's clock (RFC 9110 §10.2.3); what is neither asks for none."""
        try:
            return max(0.0, float(asked))
        except ValueError:
            pass
        try:
            return max(0.0, (parsedate_to_datetime(asked) - self.now()).total_seconds())
        except (ValueError, TypeError):
            return 0.0

    def _pause(self, attempt: int, asked_s: float) -> float:
        longest = self._patience.longest_s
        doubled: float = min(self._patience.first_s * 2 ** (attempt - 1), longest)
        return max(min(asked_s, longest), doubled * (0.5 + self._jitter() / 2))


class _Line:
    """One way to the service: its connections, and the client that writes HTTP on them."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.client = httpx.Client(transport=transport, follow_redirects=False, trust_env=False)


class Bucket:
    """At most `rate_per_s` requests a second for one account, in bursts of as many; None is no limit. Thread-safe."""

    def __init__(self, rate_per_s: float | None, sleep: Callable[[float], None]) -> None:
        self._rate, self._sleep, self._lock = rate_per_s, sleep, threading.Lock()
        self._tokens, self._at = rate_per_s or 0.0, time.monotonic()

    def take(self) -> None:
        """Wait for the right to send one request."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._rate, self._tokens + max(0.0, now - self._at) * self._rate)
            self._at = max(self._at, now)
            self._tokens -= 1
            wait_s = max(0.0, -self._tokens / self._rate) + max(0.0, self._at - now)
        if wait_s:
            self._sleep(wait_s)

    def hold(self, seconds: float) -> None:
        """Nobody sends for so long: the service said so."""
        with self._lock:
            self._at, self._tokens = max(self._at, time.monotonic() + seconds), min(self._tokens, 1.0)


def awake_s() -> float:
    """Seconds on a clock that goes on while the machine is suspended, where the platform has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def within_s(request: Request) -> float:
    """Seconds that a request may take in all, from its connection to the last byte of its answer."""
    if request.content is not None:
        return WRITE_WITHIN_S + request.content.size / UPLOAD_BYTES_PER_S
    return READ_WITHIN_S if request.effect is Effect.READ else WRITE_WITHIN_S


def _repeatable(request: Request, error: ApiError) -> bool:
    if isinstance(error, OutcomeUnknown):
        return request.effect is Effect.REPEATABLE
    return error.retryable


def _lost(request: Request, message: str, cause: Exception | None) -> NoReturn:
    """No trustworthy answer: harmless for a read, undecided for a write."""
    error = Unavailable(message) if request.effect is Effect.READ else OutcomeUnknown(message)
    raise error from cause


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > REPLY_BYTES_MAX:
            raise httpx.ReadError(f"the answer is longer than {REPLY_BYTES_MAX} bytes")
    return bytes(body)


def _json(body: bytes) -> Json | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _multipart(boundary: str, form: Mapping[str, str], filename: str) -> tuple[bytes, bytes]:
    """The bytes before and after the one file of an upload (RFC 7578)."""
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in form.items()]
    safe = filename.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{safe}"\r\n'
    head = "".join(parts) + file + "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


def _chain(head: bytes, chunks: Iterator[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    yield from chunks
    yield tail
