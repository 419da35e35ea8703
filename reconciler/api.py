"""Sends a Request and returns what the service answered, or one of our errors.

It knows nothing of kinds, plans or state. Whether a request may be sent again follows from its `effect` alone: a create
is never repeated unless the service said a well-formed "not now", or not one byte of it left this machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from reconciler.clock import boottime
from reconciler.errors import (
    ApiError,
    Conflict,
    NeverSent,
    NotAuthorised,
    NotFound,
    OutcomeUnknown,
    Refused,
    Rejected,
    Throttled,
    Unavailable,
)
from reconciler.resource import Content, Effect, Json, Request, dig, text
from reconciler.transport import Exchange, Transport, read_body

DEPTH_MAX = 64  # of a JSON answer: what is deeper would exhaust the stack of whoever walks through it
READ_WITHIN_S, WRITE_WITHIN_S = 60.0, 120.0  # a whole exchange, connect to last byte
UPLOAD_BYTES_PER_S = 64 * 1024  # the slowest line on which an upload is still given the time it needs
RATE_PER_S = 10.0  # no page states a limit for these endpoints (contract §8.2), so we keep one that no service minds
EMULATOR_RATE_PER_S = 1000.0  # it is there to be asked, unless it says how often
_LATE_S = 0.02  # as late as a busy scheduler may wake somebody
_INSTANT_S = 1e-6  # a wait that rounding alone makes
BEIJING = timezone(timedelta(hours=8))  # the zone of every timestamp without one (contract §1.2)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SKEW_MAX = timedelta(days=100 * 366)  # an emulator may be years ahead; beyond that a date would leave the calendar
_REACH = "is the endpoint right?"
_STANDING = "check DASHSCOPE_API_KEY, its workspace and the account's standing; what runs is billed all the same"
_PAGE = "does a proxy or a login page stand in between?"
_SIGNED = re.compile(
    r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]+"
)  # what follows the ? of a link may be all it takes to open it
_FORBIDDEN = frozenset(
    "AccessDenied Arrearage CommodityNotPurchased InvalidApiKey PostpaidBillOverdue PrepaidBillOverdue"
    " WorkSpaceNotFound".split()
) | {"NOT AUTHORIZED"}
_QUOTA_TEXTS = ("running or succeeded allowed", "allocated quota exceeded")


OK = "ok"
Called = Callable[[str, str], None]
"""Told the operation of a request and what came of it: `OK`, or the name of our error."""


def uncounted(operation: str, outcome: str) -> None:
    """Nobody counts."""


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
    """How often and how long a request that may be repeated is repeated; pauses double, with jitter.

    A pause the service asks for is made in full up to `obeyed_s`. After `total_s` nothing is repeated any more.
    """

    tries: int = 5
    first_s: float = 0.5
    longest_s: float = 20.0
    obeyed_s: float = 60.0
    total_s: float = 180.0


class Api:
    """One account of one service. `origin` is scheme and host, `base` the path all requests share.

    `contents` yields the bytes of an upload; `called` is told of every request that was sent, repeats too. `clock`,
    `sleep` and `jitter` are arguments so that a test need not wait.
    """

    def __init__(
        self,
        origin: str,
        key: Key,
        *,
        workspace: str = "",
        base: str = "/api/v1",
        contents: Callable[[Content], Iterator[bytes]] = lambda content: iter(()),
        called: Called = uncounted,
        patience: Patience | None = None,
        rate_per_s: float | None = RATE_PER_S,
        clock: Callable[[], float] = boottime,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.origin, self._base, self._contents, self._called = origin.rstrip("/"), base, contents, called
        self.clock, self._sleep, self._jitter = clock, sleep, jitter
        self._patience, self._key = patience or Patience(), key.reveal()
        self._headers = {"User-Agent": "bailian-reconciler"}
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._workspace, self._service = workspace, self.origin
        if workspace:
            self._headers["X-DashScope-WorkSpace"] = workspace
        verify = ssl.create_default_context() if origin.startswith("https:") else None
        self._shared = Transport(verify, keep_alive=10, clock=clock)
        # On a used connection nobody can tell whether a request arrived: what may happen once only gets a fresh one.
        self._fresh = Transport(verify, keep_alive=0, clock=clock)
        self._bucket = Bucket(rate_per_s, clock, sleep)
        self.skew: timedelta | None = None  # how far ahead of ours the service's clock was at its last answer
        self._shown: tuple[datetime, float] | None = None  # what it showed then, and when that was by `clock`
        self.emulator = ""
        self.hurry = 1.0  # how much faster than ours the service's time runs; only an emulator's does

    @property
    def account(self) -> str:
        """Whose service is asked with which key and workspace, as a hash. An emulator has another port each time."""
        return hashlib.sha256(f"{self._service}\n{self._workspace}\n{self._key}".encode()).hexdigest()[:16]

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shared.close()
        self._fresh.close()

    def send(
        self,
        request: Request,
        *,
        since: float | None = None,
        by: float = math.inf,
        sent: Callable[[int], None] = lambda size: None,
        patient: bool = False,
    ) -> Reply:
        """The answer to one request, repeated only where that is safe.

        `since` is when the request was decided upon, by `clock`: a creation and all its repeats are over `lasts_s`
        later, and whoever was stopped for so long in between sends nothing; nor does anything leave after `by`. `sent`
        is told how many bytes of the upload have left, and cannot disturb it. Where all wait for the right to send, the
        `patient` let others go first.

        Raises ApiError: NotFound, Conflict, Rejected, NotAuthorised, Throttled for what the service refused;
        Unavailable for a read without a usable answer; NeverSent or OutcomeUnknown for a write without one.
        """
        began = self.clock() if since is None else since
        ends_at = min(began + self.lasts_s(request), by)
        too_late = ends_at - min(_within_s(request), ends_at - began) / 2  # to begin once more
        for attempt in range(1, self._patience.tries + 1):
            self._bucket.take(patient=patient)
            try:
                reply = self._send_once(request, ends_at, sent)
            except ApiError as error:
                self._called(request.operation, type(error).__name__)
                pause_s = self._pause(attempt, error.after_s)
                in_time = self.clock() + pause_s < too_late
                if attempt == self._patience.tries or not _repeatable(request, error) or not in_time:
                    raise
                if isinstance(error, Throttled):
                    self._bucket.hold(pause_s)  # for every thread: the account is throttled, not the request
                self._sleep(pause_s)
                continue
            self._called(request.operation, OK)
            return reply
        raise AssertionError("unreachable")

    def fetch(self, link: str, size: int) -> Iterator[bytes]:
        """The content behind a link that the service gave, chunk by chunk; never more than `size` bytes of it.

        The link is a secret, and no message holds any of it. It is followed into the vendor's object storage alone, or
        on an emulator back to this computer; the key stays here. Raises Unavailable, or Refused for another place.
        """
        if not self._may_fetch(link):
            place = self._quoted(_host(link))
            raise Refused(f"the content lies at {place}, which is not the vendor's object storage: it is not fetched")
        self._bucket.take()
        ends_at, had = self.clock() + READ_WITHIN_S + size / UPLOAD_BYTES_PER_S, 0
        headers = {"User-Agent": self._headers["User-Agent"]}
        try:
            with (
                self._fresh.exchange(ends_at),
                self._fresh.stream("GET", link, headers=headers) as got,
            ):
                if got.status_code != 200:
                    raise Unavailable(f"object storage answered with status {got.status_code}", status=got.status_code)
                for chunk in got.iter_raw():
                    had += len(chunk)
                    if had > size:
                        raise Unavailable(f"the content is longer than the {size:,} bytes that the service says it has")
                    yield chunk
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"object storage gave no complete answer: {type(error).__name__}") from None

    def _may_fetch(self, link: str) -> bool:
        """Read by the library that would send it, so that no other reading of the link can lead elsewhere."""
        try:
            url = httpx.URL(link if re.fullmatch(r"[\x21-\x7e]{1,4000}", link) else "")
        except httpx.InvalidURL:
            return False
        if self.emulator and url.host in LOOPBACK:
            return url.scheme == "http" and url.port == httpx.URL(self.origin).port and not url.userinfo
        storage = re.fullmatch(r"[a-z0-9.-]+\.aliyuncs\.com", url.host)
        return bool(storage) and url.scheme == "https" and url.port is None and not url.userinfo

    def lasts_s(self, request: Request) -> float:
        """How long after it was decided upon a request may still be under way, repeats included."""
        within_s = _within_s(request)
        return within_s if request.effect is Effect.ONCE else max(within_s, self._patience.total_s)

    def now(self) -> datetime:
        """The service's clock, by the `Date` of its last answer, in Beijing time. Ours may be set in between."""
        if self._shown is None:
            return datetime.now(UTC).astimezone(BEIJING)
        date, seen_at = self._shown
        return (date + timedelta(seconds=self.clock() - seen_at)).astimezone(BEIJING)

    def identify(self) -> str:
        """Whose service this is, for the stamp of the state: the host, or `emulator:<install id>` whatever the port."""
        host = httpx.URL(self.origin).host
        if host not in LOOPBACK:
            return host
        asked = Request("identify", "GET", "/_emulator/info")
        keyless = {"headers": {"User-Agent": self._headers["User-Agent"]}}
        url, ends_at = f"{self.origin}{asked.path}", self.clock() + READ_WITHIN_S
        _, body = self._exchange(self._shared, asked, url, keyless, ends_at)
        if not self.emulator:
            return host
        told = _json(body)
        speed, rate, burst = (_positive(dig(told, name)) for name in ("speed", "rate_per_s", "burst"))
        self._bucket.pace(rate or EMULATOR_RATE_PER_S, burst if rate else None)
        self.hurry = max(1.0, speed)
        self._service = f"emulator:{self.emulator}"
        return self._service

    # One exchange -----------------------------------------------------------------------------------------------

    def _send_once(self, request: Request, ends_at: float, sent: Callable[[int], None]) -> Reply:
        line = self._fresh if request.effect is Effect.ONCE else self._shared
        payload = {"params": dict(request.query), **self._payload(request, sent)}
        url, ends_at = f"{self.origin}{self._base}{request.path}", min(ends_at, self.clock() + _within_s(request))
        response, body = self._exchange(line, request, url, payload, ends_at)
        return self._answer(request, response, body)

    def _exchange(
        self, line: Transport, request: Request, url: str, payload: Mapping[str, Any], ends_at: float
    ) -> tuple[httpx.Response, bytes]:
        with line.exchange(ends_at) as exchange:
            try:
                with line.stream(request.method, url, **payload) as response:
                    self._note(response.headers)
                    return response, read_body(response)
            except httpx.HTTPError as error:
                if exchange.sent_bytes == 0:
                    raise self._unsent(request, exchange, error) from error
                why = f"{self.origin} gave no complete answer to {request.operation}: {_reason(error)}"
                raise _lost(request, why) from error

    def _unsent(self, request: Request, exchange: Exchange, error: httpx.HTTPError) -> NeverSent:
        distrust = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if distrust:
            why = f"{self.origin} cannot be trusted: {distrust.verify_message or _reason(distrust)}"
            return NeverSent(
                why, untrusted=True, hint="a certificate is never ignored; SSL_CERT_FILE names authorities"
            )
        if self.clock() >= exchange.ends_at:
            return NeverSent(f"{request.operation} was not sent: its time was over before it could leave")
        return NeverSent(f"{self.origin} cannot be reached: {_reason(error)}", hint=_REACH)

    def _payload(self, request: Request, sent: Callable[[int], None]) -> dict[str, Any]:
        headers = dict(self._headers)
        if request.content is not None:
            boundary = uuid4().hex
            head, tail = _multipart(boundary, request.form, request.content.filename)
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
            headers["Content-Length"] = str(len(head) + request.content.size + len(tail))
            return {"headers": headers, "content": _chain(head, self._contents(request.content), tail, sent)}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            return {"headers": headers, "content": json.dumps(request.body, ensure_ascii=False).encode()}
        return {"headers": headers}

    def _answer(self, request: Request, response: httpx.Response, body: bytes) -> Reply:
        status, parsed = response.status_code, _json(body)
        if 300 <= status < 400:
            target = self._quoted(_host(response.headers.get("location", "")))
            why = f"{self.origin} answered {request.operation} with a redirect to {target}; none is ever followed"
            raise _lost(request, why, status=status, hint=_PAGE)
        if 200 <= status < 300 and parsed is not None and not _refuses(parsed):
            return Reply(parsed, self._request_id(parsed, response.headers))
        if parsed is None or not (text(parsed.get("code")) or status in (401, 403)):
            what, hint = self._described(response, body)
            why = f"{self.origin} answered {request.operation} with status {status} and {what}"
            raise _lost(request, why, status=status, hint=hint)
        raise self._refusal(request, status, parsed, response.headers)

    def _described(self, response: httpx.Response, body: bytes) -> tuple[str, str]:
        """What came instead of an answer, with its first words, and what may have sent it."""
        first = " ".join(body[:2000].decode("utf-8", "replace").split())
        kind = response.headers.get("content-type", "").split(";")[0].strip()[:50]
        if not first:
            return "nothing", ""
        if "html" in kind or first.startswith("<"):
            return f"an HTML page: {self._quoted(first, 200)}", _PAGE
        return f"{kind or 'no content type'}, no API answer: {self._quoted(first, 200)}", ""

    def _refusal(self, request: Request, status: int, body: Json, headers: Mapping[str, str]) -> ApiError:
        code, said = self._quoted(text(body.get("code")), 100), self._quoted(text(body.get("message")))
        facts: dict[str, Any] = {
            "status": status,
            "code": code,
            "request_id": self._request_id(body, headers),
            "after_s": self._after_s(headers.get("retry-after", "")),
        }
        message = f"{request.operation}: {code or status}: {said}"
        if status >= 500 or status < 300 or status == 408:  # whatever it calls itself, the write may have happened
            return Unavailable(message, **facts) if request.effect is Effect.READ else OutcomeUnknown(message, **facts)
        if status in (401, 403) or code in _FORBIDDEN or code.startswith("AccessDenied"):
            return NotAuthorised(message, hint=_STANDING, **facts)
        if status == 429 or code.startswith("Throttling"):
            quota = any(words in said.lower() for words in _QUOTA_TEXTS) or status == 400
            return Throttled(message, quota=quota, **facts)
        if status == 404 or code.endswith("ResourceNotExist") or "not found" in said.lower():
            return NotFound(message, **facts)
        return Conflict(message, **facts) if status == 409 else Rejected(message, **facts)

    def _request_id(self, body: Json, headers: Mapping[str, str]) -> str:
        return self._quoted(text(body.get("request_id")) or headers.get("x-request-id", ""), 100)

    def _quoted(self, said: str, limit: int = 300) -> str:
        """Words of the far side, fit to be kept: short, without our key, without the secret half of a link."""
        said = _SIGNED.sub(r"\1?…", said.replace(self._key, "***") if self._key else said)
        return said if len(said) <= limit else f"{said[: limit - 1]}…"

    def _note(self, headers: Mapping[str, str]) -> None:
        self.emulator = headers.get("x-bailian-emulator", "").split(";")[0].strip()
        date = _date(headers.get("date", ""))
        skew = date - datetime.now(UTC) if date else None
        if date is not None and skew is not None and abs(skew) < _SKEW_MAX:
            self.skew, self._shown = skew, (date, self.clock())

    def _after_s(self, asked: str) -> float:
        """A pause in seconds, or a date by the service's clock (RFC 9110 §10.2.3); what is neither asks for none."""
        with suppress(ValueError):
            return max(0.0, float(asked))
        until = _date(asked)
        return max(0.0, (until - self.now()).total_seconds()) if until else 0.0

    def _pause(self, attempt: int, asked_s: float) -> float:
        doubled: float = min(self._patience.first_s * 2 ** (attempt - 1), self._patience.longest_s)
        return max(min(asked_s, self._patience.obeyed_s), doubled * (0.5 + self._jitter() / 2))


class Bucket:
    """At most `rate_per_s` requests a second for one account; None is no limit. Thread-safe.

    `burst` may go at once, else as many as the rate. The right to send is given when it is used and not before: after a
    pause of the whole machine nobody finds a heap of rights that fell due meanwhile. Only who wakes a little late does
    not delay those behind.
    """

    def __init__(
        self,
        rate_per_s: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        burst: float | None = None,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._turn, self._lock = threading.Lock(), threading.Lock()  # who waits holds the first, never the second
        self._line = threading.Lock()  # the patient stand in it: but one of them at a time is in the way of others
        self._due = clock()  # when the next request would be due if none had been sent early
        self._rate, self._early_s = rate_per_s, _early_s(rate_per_s, burst)

    def take(self, *, patient: bool = False) -> None:
        """Wait for the right to send one request."""
        with self._line if patient else nullcontext(), self._turn:
            while wait_s := self._wait_s():
                self._sleep(wait_s)

    def _wait_s(self) -> float:
        """0 where one may go now, which is then counted; else how long it is until the next may."""
        with self._lock:
            if self._rate is None:
                return 0.0
            now = self._clock()
            wait_s = self._due - self._early_s - now
            if wait_s > _INSTANT_S:
                return wait_s
            self._due = max(self._due, now - _LATE_S) + 1 / self._rate
            return 0.0

    def pace(self, rate_per_s: float, burst: float | None = None) -> None:
        """From now on at this rate, where there is a limit at all."""
        with self._lock:
            if self._rate is not None:
                self._rate, self._early_s = rate_per_s, _early_s(rate_per_s, burst)

    def hold(self, seconds: float) -> None:
        """Nobody sends for so long, and then one at a time: the service said so."""
        with self._lock:
            self._due = max(self._due, self._clock() + seconds + self._early_s)


def _early_s(rate_per_s: float | None, burst: float | None) -> float:
    """How long before it is due the last of a burst goes."""
    return (max(1.0, burst or rate_per_s) - 1) / rate_per_s if rate_per_s else 0.0


def _within_s(request: Request) -> float:
    """Seconds that one exchange may take, from its connection to the last byte of its answer."""
    if request.content is not None:
        return WRITE_WITHIN_S + request.content.size / UPLOAD_BYTES_PER_S
    return READ_WITHIN_S if request.effect is Effect.READ else WRITE_WITHIN_S


def _repeatable(request: Request, error: ApiError) -> bool:
    if isinstance(error, OutcomeUnknown):
        return request.effect is Effect.REPEATABLE
    return error.retryable


def _lost(request: Request, message: str, **facts: Any) -> ApiError:
    """No trustworthy answer: harmless for a read, undecided for a write."""
    return (Unavailable if request.effect is Effect.READ else OutcomeUnknown)(message, **facts)


def _refuses(parsed: Json) -> bool:
    """Whether a success status carries the body of a refusal (contract §8.1): a code, and nothing that was asked."""
    return bool(text(parsed.get("code"))) and "output" not in parsed and "data" not in parsed


def _positive(value: Any) -> float:
    """A number that means something here, else 0."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0.0


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _host(location: str) -> str:
    """Where a redirect points to; its path and its query may hold what nobody should see."""
    try:
        parts = urlsplit(location)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme or 'https'}://{parts.hostname}{port}" if parts.hostname else "another path"


def _date(value: str) -> datetime | None:
    """A date as HTTP writes it, or None for whatever is none."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else None


# Reading JSON ---------------------------------------------------------------------------------------------------------


def _json(body: bytes) -> Json | None:
    """The object that an answer is. None where it is none, or could be read in more than one way."""
    try:
        value = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not _shallow(value):
        return None
    if rb"\u" not in body:
        return value
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, written as an escape: no file and no terminal takes it
        return dict(json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")))
    return value


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is there twice")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("not a number that anything could have")
    return value


def _shallow(value: Any) -> bool:
    """Whether nothing lies deeper than `DEPTH_MAX`, found out without descending."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) is dict or type(child) is list  # as the parser makes them; every value of a page passes here
        ]
        if not level:
            return True
    return False


# Uploads --------------------------------------------------------------------------------------------------------------


def _multipart(boundary: str, form: Mapping[str, str], filename: str) -> tuple[bytes, bytes]:
    """The bytes before and after the one file of an upload (RFC 7578)."""
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in form.items()]
    safe = filename.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{safe}"\r\n'
    head = "".join(parts) + file + "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


def _chain(head: bytes, chunks: Iterator[bytes], tail: bytes, sent: Callable[[int], None]) -> Iterator[bytes]:
    """One piece after the other, each asked for when the one before it was written."""
    yield head
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        with suppress(Exception):
            sent(done)
    yield tail
