"""One account on the wire: what is sent, what is sent again, and what each answer is taken for."""

from __future__ import annotations

import json
import socket
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reconciler.api import DEPTH_MAX, Api, Bucket, Key, Patience
from reconciler.errors import (
    ApiError,
    Conflict,
    NeverSent,
    NotAuthorised,
    NotFound,
    OutcomeUnknown,
    Refused,
    Rejected,
    StalePlan,
    Throttled,
    Unavailable,
)
from reconciler.resource import Content, Effect, Request
from reconciler.transport import REPLY_BYTES_MAX, boottime
from tests.certificates import Authority
from tests.desk import emulator
from tests.far_end import CLOSED, RESET, SILENT, Answer, error, far_end, raw, reply, scripted

SECRET = "sk-0123456789abcdef0123456789abcdef"
READ = Request("things.list", "GET", "/things")
PUT = Request("things.scale", "PUT", "/things/1", effect=Effect.REPEATABLE, body={"capacity": 4})
DELETE = Request("things.delete", "DELETE", "/things/1", effect=Effect.REPEATABLE)
CREATE = Request("things.create", "POST", "/things", effect=Effect.ONCE, body={"name": "词"})
FINE = reply(200, {"request_id": "r-9", "output": {"id": "t-1"}})


class Sleeps(list[float]):
    """A sleep that takes no time and remembers how long it should have."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


class Clock:
    """A number: it moves when somebody sleeps, or at one of the looks at it."""

    def __init__(self, jumps_at: int = 0) -> None:
        self.now_s, self.looks, self.jumps_at, self.slept = 0.0, 0, jumps_at, []

    def __call__(self) -> float:
        self.looks += 1
        self.now_s += 1e6 * (self.looks == self.jumps_at)
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept.append(seconds)


@contextmanager
def api(origin: str, sleeps: Sleeps | None = None, **options: Any) -> Iterator[Api]:
    sleep = Sleeps() if sleeps is None else sleeps
    given = {"rate_per_s": None, "sleep": sleep, "jitter": lambda: 0.0, **options}
    with Api(origin, Key(SECRET), **given) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a minute for an answer that a test withholds."""
    monkeypatch.setattr("reconciler.api.READ_WITHIN_S", 2.0)
    monkeypatch.setattr("reconciler.api.WRITE_WITHIN_S", 20.0)


# What is sent again -------------------------------------------------------------------------------------------------

HTML = b"<html><body>Bad gateway</body></html>"
FAULTS: dict[str, Answer] = {
    "500": error(500, "InternalError", "Internal server error!"),
    "500 without a code": reply(500, {"message": "oops"}),
    "502 page": reply(502, HTML, kind="text/html"),
    "503": error(503, "ModelUnavailable"),
    "503 that calls itself a throttling": error(503, "Throttling.RateQuota", "later"),
    "500 that calls itself a refusal": error(500, "AccessDenied", "no"),
    "504": error(504, "RequestTimeOut"),
    "408": error(408, "RequestTimeOut"),
    "page with status 200": reply(200, HTML, kind="text/html"),
    "page with status 404": reply(404, HTML, kind="text/html"),
    "nothing with status 200": reply(200, b""),
    "nothing with status 204": raw(b"HTTP/1.1 204 -\r\n\r\n"),
    "JSON that is no object": reply(200, [1, 2]),
    "half the JSON": reply(200, b'{"output": {"id": "t-'),
    "bytes that are no text": reply(200, b"\xff\xfe\xfa\x00" * 9),
    "brackets without end": reply(200, b"[" * 200_000),
    "brackets that are too many": reply(200, b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1)),
    "a member twice": reply(200, b'{"output": {"id": "t-1", "id": "t-2"}}'),
    "a number that is none": reply(200, b'{"output": {"capacity": NaN}}'),
    "a number beyond all": reply(200, b'{"output": {"capacity": 1e999}}'),
    "a refusal with status 200": reply(200, {"code": "InvalidParameter", "message": "no", "request_id": "r-1"}),
    "a broken compression": reply(200, b"\x1f\x8bnonsense", Content_Encoding="gzip"),
    "an answer cut short": raw(b"HTTP/1.1 200 -\r\nContent-Length: 50\r\n\r\n{"),
    "half a head": raw(b"HTTP/1.1 200"),
    "no HTTP at all": raw(b"220 mail.example.org ESMTP\r\n"),
    "301": reply(301, {}, Location="/elsewhere"),
    "307": reply(307, {}, Location="/elsewhere"),
    "a close": CLOSED,
    "a reset": RESET,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("request_", [READ, PUT, DELETE], ids=lambda request: request.operation)
def test_what_does_no_harm_is_sent_again(request_: Request, fault: str) -> None:
    """A read, and a write that means the same twice, survive one bad answer of any kind."""
    with far_end(scripted(FAULTS[fault], FINE)) as end, api(end.origin) as opened:
        assert opened.send(request_).body["output"] == {"id": "t-1"}
    assert len(end.received) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_creation_is_never_sent_again_when_it_may_have_happened(fault: str) -> None:
    """The second request of a retrying client is the second bill."""
    with far_end(scripted(FAULTS[fault], FINE)) as end, api(end.origin) as opened, pytest.raises(OutcomeUnknown):
        opened.send(CREATE)
    assert len(end.received) == 1


@pytest.mark.parametrize(
    ("request_", "raised", "count"), [(READ, Unavailable, 3), (PUT, OutcomeUnknown, 3), (CREATE, OutcomeUnknown, 1)]
)
def test_silence_has_an_end(
    request_: Request, raised: type[ApiError], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.api.READ_WITHIN_S", 0.2)
    monkeypatch.setattr("reconciler.api.WRITE_WITHIN_S", 0.2)
    with (
        far_end(scripted(SILENT)) as end,
        api(end.origin, patience=Patience(tries=3)) as opened,
        pytest.raises(raised),
    ):
        opened.send(request_)
    assert len(end.received) == count


def test_an_answer_that_drips_for_ever_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the answer never does."""
    monkeypatch.setattr("reconciler.api.READ_WITHIN_S", 0.3)
    drops = (b"HTTP/1.1 200 -\r\nContent-Length: 100000\r\n\r\n", *[b" "] * 10_000)
    with (
        far_end(scripted(Answer(drops, pause_s=0.02))) as end,
        api(end.origin, patience=Patience(tries=1)) as opened,
        pytest.raises(Unavailable),
    ):
        opened.send(READ)


@pytest.mark.parametrize(("request_", "raised"), [(READ, Unavailable), (CREATE, OutcomeUnknown)])
def test_an_answer_without_end_is_not_held_in_memory(request_: Request, raised: type[ApiError]) -> None:
    head = f"HTTP/1.1 200 -\r\nContent-Length: {10**12}\r\n\r\n".encode()
    huge = Answer((head, *[b" " * 2**20] * (REPLY_BYTES_MAX // 2**20 + 2)))
    with (
        far_end(scripted(huge)) as end,
        api(end.origin, patience=Patience(tries=1)) as opened,
        pytest.raises(raised, match="longer than"),
    ):
        opened.send(request_)


def test_a_packed_answer_is_unpacked_only_so_far() -> None:
    """A few kilobytes that unpack to more than fits: nobody asked for it packed, and nobody holds it."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(200)) + packer.flush()
    answer = reply(200, bomb, Content_Encoding="gzip")
    with far_end(scripted(answer)) as end, api(end.origin, patience=Patience(tries=1)) as opened:
        tracemalloc.start()
        with pytest.raises(Unavailable, match="longer than"):
            opened.send(READ)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * REPLY_BYTES_MAX


def test_a_gateway_that_packs_unasked_is_understood() -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b'{"output": {"id": "t-1"}}') + packer.flush()
    with far_end(scripted(reply(200, packed, Content_Encoding="gzip"))) as end, api(end.origin) as opened:
        assert opened.send(READ).body == {"output": {"id": "t-1"}}
    assert end.received[0].headers["accept-encoding"] == "identity"


def test_half_a_character_is_not_passed_on() -> None:
    """JSON can spell it, and then no file and no terminal takes it: the id beside it would be lost on the way."""
    half = reply(200, b'{"output": {"id": "t-1", "\\ud800": "\\udfff\\ud83d\\ude00"}}')
    with far_end(scripted(half)) as end, api(end.origin) as opened:
        assert opened.send(CREATE).body == {"output": {"id": "t-1", "?": "?\N{GRINNING FACE}"}}


def test_patience_ends_and_grows_on_the_way() -> None:
    sleeps = Sleeps()
    with far_end(scripted(error(500))) as end, api(end.origin, sleeps) as opened, pytest.raises(Unavailable):
        opened.send(READ)
    assert len(end.received) == 5
    assert sleeps == [0.25, 0.5, 1.0, 2.0], "doubled, and by this jitter halved"


@pytest.mark.parametrize("request_", [READ, PUT, CREATE], ids=lambda request: request.operation)
def test_a_closed_port_means_that_nothing_was_sent(request_: Request) -> None:
    """So even a creation may be tried again, and nobody has to look for what it made."""
    sleeps = Sleeps()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with api(f"http://127.0.0.1:{port}", sleeps) as opened, pytest.raises(NeverSent) as caught:
        opened.send(request_)
    assert len(sleeps) == 4
    assert str(port) in str(caught.value)


@pytest.mark.parametrize("request_", [READ, PUT, CREATE], ids=lambda request: request.operation)
@pytest.mark.parametrize("origin", ["http://nobody.invalid", "https://nobody.invalid"])
def test_a_host_that_has_no_address_was_sent_nothing(request_: Request, origin: str) -> None:
    with api(origin, patience=Patience(tries=2)) as opened, pytest.raises(NeverSent, match=r"nobody\.invalid"):
        opened.send(request_)


@contextmanager
def greeting(first: bytes) -> Iterator[str]:
    """Somebody who speaks first, and no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(first)

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("request_", [READ, PUT, CREATE], ids=lambda request: request.operation)
def test_a_greeting_that_is_no_tls_was_sent_nothing(request_: Request) -> None:
    """It may pass, so it is tried again; nothing of the request, the key least of all, went out in clear."""
    sleeps = Sleeps()
    with (
        greeting(b"HTTP/1.1 400 -\r\n\r\n") as origin,
        api(origin, sleeps) as opened,
        pytest.raises(NeverSent) as caught,
    ):
        opened.send(request_)
    assert not caught.value.untrusted
    assert len(sleeps) == 4


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Trusted by this process, the way an operator names an authority of a company."""
    made = Authority(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return made


def test_a_host_that_proves_who_it_is_is_trusted(authority: Authority) -> None:
    with far_end(scripted(FINE), tls=authority.signed("IP:127.0.0.1")) as end, api(end.origin) as opened:
        assert opened.send(READ).request_id == opened.send(CREATE).request_id == "r-9"
        assert opened.identify() == "127.0.0.1"


DISTRUST: dict[str, tuple[dict[str, Any], str]] = {
    "wrong name": ({"host": "DNS:dashscope.aliyuncs.com"}, "not valid for '127.0.0.1'"),
    "expired": ({"host": "IP:127.0.0.1", "expired": True}, "expired"),
    "self-signed": ({"host": "IP:127.0.0.1", "by_itself": True}, "self-signed"),
}


@pytest.mark.parametrize("case", DISTRUST)
def test_a_certificate_that_proves_nothing_ends_it(case: str, authority: Authority) -> None:
    """Not one byte is sent, and nothing again: whoever may be in between is not gone because we ask twice."""
    how, said = DISTRUST[case]
    sleeps = Sleeps()
    with far_end(scripted(FINE), tls=authority.signed(**how)) as end, api(end.origin, sleeps) as opened:
        for request in (READ, PUT, CREATE):
            with pytest.raises(NeverSent, match=said) as caught:
                opened.send(request)
            assert caught.value.untrusted
        with pytest.raises(NeverSent, match=said):
            opened.identify()
    assert (end.received, sleeps, end.connections) == ([], [], 4)


# How long it may take -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [PUT, DELETE, CREATE], ids=lambda request: request.operation)
def test_a_write_that_was_decided_upon_too_long_ago_is_not_sent(request_: Request) -> None:
    """Stopped between the record of the intent and the request: by now somebody else may have acted in its place."""
    clock = Clock()
    with far_end(scripted(FINE)) as end, api(end.origin, clock=clock, sleep=clock.sleep) as opened:
        clock.now_s += 200
        with pytest.raises(NeverSent, match="its time was over"):
            opened.send(request_, since=0)
        assert opened.send(request_, since=199).request_id == "r-9"
    assert len(end.received) == 1


def test_whoever_is_stopped_on_the_way_sends_nothing() -> None:
    """Wherever the clock jumps, even after the connection is made: either it was seen, or a byte had left before."""
    sent_at = []
    for jumps_at in range(1, 30):
        clock = Clock(jumps_at)
        with far_end(scripted(FINE)) as end, api(end.origin, clock=clock, sleep=clock.sleep) as opened:
            try:
                opened.send(CREATE, since=0)
            except NeverSent:
                assert end.received == []
            except OutcomeUnknown:
                sent_at.append(jumps_at)
            else:
                sent_at.append(jumps_at)
    assert sent_at, "the clock is looked at often enough to see the first byte leave"
    assert sent_at == list(range(sent_at[0], 30)), "once a byte has left, it has left"
    assert sent_at[0] > 5, "the looks before the first byte"


def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    now = time.monotonic() if clock is None else time.clock_gettime(clock)
    assert 0 <= boottime() - now < 60


BUSY = "Too many fine-tune job in running, please retry later."


@pytest.mark.parametrize(
    ("request_", "answer", "slept"),
    [
        (READ, error(503, Retry_After="50"), [50.0, 50.0]),
        (PUT, error(503, Retry_After="50"), [50.0, 50.0]),
        (READ, error(429, "Throttling.RateQuota", Retry_After="100000"), [60.0, 60.0]),
        (CREATE, error(429, "Throttling", BUSY, Retry_After="50"), [50.0]),
    ],
    ids=["read", "write", "absurd", "create"],
)  # fmt: skip
def test_repeating_has_an_end_however_long_the_service_asks_for(
    request_: Request, answer: Answer, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last word is the service's own, and a creation is over when its intent says that it is."""
    monkeypatch.setattr("reconciler.api.READ_WITHIN_S", 60.0)
    monkeypatch.setattr("reconciler.api.WRITE_WITHIN_S", 120.0)
    clock = Clock()
    with far_end(scripted(answer)) as end, api(end.origin, clock=clock, sleep=clock.sleep) as opened:
        with pytest.raises(ApiError, match="request id r-1"):
            opened.send(request_)
        assert clock.now_s < opened.lasts_s(request_)
    assert clock.slept == slept


def test_one_bucket_paces_every_thread_of_an_account() -> None:
    clock = Clock()
    bucket = Bucket(2.0, clock, clock.sleep)
    for _ in range(5):
        bucket.take()
    assert clock.slept == [0.5, 0.5, 0.5], "two at once, then two a second"


def test_a_burst_is_as_large_as_it_is_said_to_be() -> None:
    clock = Clock()
    bucket = Bucket(20.0, clock, clock.sleep, burst=1)
    for _ in range(4):
        bucket.take()
    assert clock.slept == pytest.approx([0.05, 0.05, 0.05]), "(n - burst) / rate, and nothing more"


def test_who_wakes_a_little_late_does_not_delay_the_others() -> None:
    """A limiter that counted from each waking would lose as much of the rate as every sleep is too long."""
    clock = Clock()
    bucket = Bucket(20.0, clock, lambda seconds: clock.sleep(seconds + 0.01), burst=1)
    for _ in range(101):
        bucket.take()
    assert clock.now_s == pytest.approx(100 / 20 + 0.01)


def test_a_machine_that_slept_sends_nothing_twice_as_fast_afterwards() -> None:
    clock = Clock()
    bucket, went = Bucket(20.0, clock, clock.sleep, burst=1), []
    for number in range(20):
        bucket.take()
        went.append(clock.now_s)
        clock.now_s += 3.0 * (number == 10)
    assert min(later - sooner for sooner, later in pairwise(went)) >= 1 / 20 - 0.02 - 1e-9
    assert went[-1] - went[11] >= 8 / 20 - 0.02 - 1e-9


def test_every_thread_that_waits_gets_its_turn_at_the_rate() -> None:
    clock = Clock()
    bucket = Bucket(50.0, clock, clock.sleep, burst=1)
    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(bucket.take) for _ in range(200)]:
            done.result()
    assert clock.now_s == pytest.approx(199 / 50)


@pytest.mark.parametrize(
    ("told", "waits"),
    [
        ({"rate_per_s": 20, "burst": 2}, [0.05, 0.05]),
        ({"rate_per_s": 20, "burst": None}, []),
        ({"rate_per_s": None, "burst": None}, []),
        ({"rate_per_s": "20", "burst": 1}, []),
        ({"rate_per_s": True, "burst": 1}, []),
        ({}, []),
    ],
)
def test_an_emulator_is_asked_as_often_as_it_says(told: dict[str, Any], waits: list[float]) -> None:
    """What it does not say, or says so that it cannot be read, is no limit that anybody waits for."""
    clock = Clock()
    answer = reply(200, told, X_Bailian_Emulator="e1; nothing is bought")
    paced: dict[str, Any] = {"clock": clock, "sleep": clock.sleep, "rate_per_s": 10.0}
    with far_end(scripted(answer)) as end, api(end.origin, **paced) as opened:
        assert opened.identify() == "emulator:e1"
        for _ in range(4):
            opened.send(READ)
    assert clock.slept == pytest.approx(waits)


def test_a_throttled_account_is_silent_for_everybody() -> None:
    clock = Clock()
    bucket = Bucket(2.0, clock, clock.sleep)
    bucket.hold(30)
    bucket.take()
    bucket.take()
    assert clock.slept == [30.0, 0.5]


# Throttling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [READ, PUT, CREATE], ids=lambda request: request.operation)
def test_a_well_formed_not_now_is_obeyed_even_by_a_creation(request_: Request) -> None:
    """429 is the one answer that says for certain that nothing was made."""
    busy = error(429, "Throttling", BUSY)
    with far_end(scripted(busy, busy, FINE)) as end, api(end.origin) as opened:
        assert opened.send(request_).request_id == "r-9"
    assert len(end.received) == 3


@pytest.mark.parametrize(
    "refusal",
    [
        error(429, "Throttling", "Only 20 fine-tune job in running or succeeded allowed per user."),
        error(429, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
        error(400, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
    ],
)
def test_a_quota_is_not_waited_for(refusal: Answer) -> None:
    """It is the same code as a rate; only the words tell that waiting does not help."""
    with far_end(scripted(refusal, FINE)) as end, api(end.origin) as opened, pytest.raises(Throttled) as caught:
        opened.send(CREATE)
    assert caught.value.quota
    assert len(end.received) == 1


@pytest.mark.parametrize("code", ["CommodityNotPurchased", "PrepaidBillOverdue", "PostpaidBillOverdue"])
def test_an_unpaid_bill_is_not_waited_for(code: str) -> None:
    """These come with 429 as well (contract §8.2): a matter of the account, not of pace."""
    with far_end(scripted(error(429, code), FINE)) as end, api(end.origin) as opened, pytest.raises(NotAuthorised):
        opened.send(CREATE)
    assert len(end.received) == 1


def test_a_page_with_429_is_no_answer_of_the_service() -> None:
    page = reply(429, HTML, kind="text/html")
    with far_end(scripted(page, FINE)) as end, api(end.origin) as opened, pytest.raises(OutcomeUnknown):
        opened.send(CREATE)
    assert len(end.received) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_that_is_asked_for_is_made(status: int) -> None:
    sleeps = Sleeps()
    with far_end(scripted(error(status, Retry_After="7"), FINE)) as end, api(end.origin, sleeps) as opened:
        opened.send(READ)
    assert sleeps == [7.0]


def test_a_pause_may_be_asked_for_as_a_date() -> None:
    """By the service's clock, which need not be ours."""
    sleeps, now = Sleeps(), datetime(2030, 1, 1, tzinfo=UTC)
    until = format_datetime(now + timedelta(seconds=9), usegmt=True)
    busy = error(429, Retry_After=until, Date=format_datetime(now, usegmt=True))
    with far_end(scripted(busy, FINE)) as end, api(end.origin, sleeps) as opened:
        opened.send(READ)
    assert len(sleeps) == 1
    assert 5 < sleeps[0] <= 9


@pytest.mark.parametrize("absurd", ["-5", "315360000", "inf", "nan", "soon", "", "Mon, 01 Jan 0001 00:00:00 GMT"])
def test_an_absurd_pause_is_none(absurd: str) -> None:
    """Ten years from now nobody is waiting any more; a minute is believed."""
    sleeps = Sleeps()
    with far_end(scripted(error(429, Retry_After=absurd), FINE)) as end, api(end.origin, sleeps) as opened:
        opened.send(READ)
    assert len(sleeps) == 1
    assert 0 < sleeps[0] <= Patience().obeyed_s


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Tue, 01 Jan 2030 16:00:00 +9999",
        "Tue, 01 Jan 2030 16:00:00 +99999999999999999999",
        "Tue, 01 Jan 99999999999 16:00:00 GMT",
        "Tue, 99 Jan 2030 99:99:99 GMT",
    ],
)
def test_a_date_outside_the_calendar_stops_nobody(date: str) -> None:
    with far_end(scripted(error(429, Retry_After=date, Date=date), FINE)) as end, api(end.origin) as opened:
        assert opened.send(READ).request_id == "r-9"
        assert abs(opened.now() - datetime.now(UTC)) < timedelta(days=30 * 366)


# What an answer is taken for (contract §8.2) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "message", "raised"),
    [
        (400, "InvalidParameter", "Missing training files", Rejected),
        (400, "InvalidParameter", "File not found.", NotFound),
        (400, "Arrearage", "Access denied, please make sure your account is in good standing.", NotAuthorised),
        (400, "UnsupportedOperation", "The fine-tune job can not be deleted", Rejected),
        (400, "BadRequest.TooLarge", "Out of space", Rejected),
        (400, "BadRequest.ResourceNotExist", "The Required resource not exist.", NotFound),
        (400, "BadRequest.UnsupportedFileFormat", "", Rejected),
        (400, "DataInspectionFailed", "", Rejected),
        (401, "InvalidApiKey", "Invalid API-key provided.", NotAuthorised),
        (401, "NOT AUTHORIZED", "", NotAuthorised),
        (403, "AccessDenied", "", NotAuthorised),
        (403, "AccessDenied.Unpurchased", "", NotAuthorised),
        (403, "Model.AccessDenied", "", NotAuthorised),
        (403, "Workspace.AccessDenied", "", NotAuthorised),
        (403, "AllocationQuota.FreeTierOnly", "", NotAuthorised),
        (404, "NotFound", "Not found!", NotFound),
        (404, "ModelNotFound", "", NotFound),
        (404, "WorkSpaceNotFound", "", NotAuthorised),
        (409, "Conflict", "Deployed model x already exists, please specify a suffix.", Conflict),
        (413, "TooLarge", "", Rejected),
        (422, "Odd", "", Rejected),
    ],
)
@pytest.mark.parametrize("effect", Effect)
def test_every_refusal_has_its_error_and_is_final(
    status: int, code: str, message: str, raised: type[ApiError], effect: Effect
) -> None:
    """Its facts stay with it: the person who asks the vendor needs the code and the request id."""
    request = Request("things.do", "POST", "/things", effect=effect)
    with (
        far_end(scripted(error(status, code, message), FINE)) as end,
        api(end.origin) as opened,
        pytest.raises(ApiError) as caught,
    ):
        opened.send(request)
    assert type(caught.value) is raised
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, code, "r-1")
    assert len(end.received) == 1


def test_a_gateway_that_knows_no_route_is_not_the_service_that_knows_no_object() -> None:
    """Absence lets the plan buy again: it takes the service's own word, and that has a code."""
    lost = reply(404, {"message": "no Route matched with those values"})
    with (
        far_end(scripted(lost)) as end,
        api(end.origin, patience=Patience(tries=1)) as opened,
        pytest.raises(Unavailable),
    ):
        opened.send(READ)


# What an error says ---------------------------------------------------------------------------------------------------


def said(answer: Answer, request: Request = READ) -> ApiError:
    """What a person is told of this answer."""
    with (
        far_end(scripted(answer)) as end,
        api(end.origin, patience=Patience(tries=1)) as opened,
        pytest.raises(ApiError) as caught,
    ):
        opened.send(request)
    return caught.value


def test_a_refusal_ends_with_the_request_id() -> None:
    """It is the one thing the vendor's support asks for."""
    assert str(said(error(400, "InvalidParameter", "no such model"))) == (
        "things.list: InvalidParameter: no such model (request id r-1)"
    )
    long = said(error(400, "InvalidParameter", "no " * 1000))
    assert str(long).endswith("… (request id r-1)")
    assert len(str(long)) < 400


def test_a_request_id_may_come_in_a_header() -> None:
    answer = reply(400, {"code": "InvalidParameter", "message": "no"}, X_Request_Id="r-7")
    assert said(answer).request_id == "r-7"


def test_a_page_is_said_to_be_one_and_by_whom_it_may_be() -> None:
    page = b"<html>\n <title>Please   log in</title>" + b"x" * 5000
    shown = said(reply(200, page, kind="text/html"))
    assert "status 200 and an HTML page: <html> <title>Please log in</title>" in str(shown)
    assert "login page" in shown.hint
    assert len(str(shown)) < 400


def test_a_redirect_is_told_by_its_host_alone() -> None:
    shown = str(said(reply(302, {}, Location="https://u:p@evil.example:8443/a?token=canary")))
    assert "redirect to https://evil.example:8443; none is ever followed" in shown
    assert "an address that cannot be read" in str(said(reply(300, {}, Location="https://[::1")))


@pytest.mark.parametrize("request_", [READ, CREATE], ids=lambda request: request.operation)
def test_what_the_far_side_knows_of_us_is_not_repeated(request_: Request) -> None:
    """A proxy that echoes headers, or a service that quotes a signed link, must not write them into state and logs."""
    link = "https://oss.example/d.jsonl?Signature=canary&Expires=1"
    for answer in (
        error(400, "InvalidParameter", f"Bearer {SECRET} may not read {link}"),
        error(503, "InternalError", f"Bearer {SECRET} may not read {link}"),
        reply(502, f"<html>{SECRET} <a href='{link}'>".encode(), kind="text/html"),
        reply(200, f"{SECRET} {link}".encode(), kind="text/plain"),
    ):
        shown = said(answer, request_)
        assert "https://oss.example/d.jsonl?…" in str(shown)
        assert SECRET not in str(shown) + shown.code + shown.request_id
        assert "canary" not in str(shown)


# What goes out ------------------------------------------------------------------------------------------------------


def test_a_request_goes_out_as_it_was_asked_for() -> None:
    request = Request(
        "things.make", "POST", "/a/b", effect=Effect.ONCE, query={"page_no": 2, "q": "a b&c"}, body={"词": 1}
    )
    with far_end(scripted(FINE)) as end, api(end.origin, workspace="llm-1") as opened:
        opened.send(request)
    (seen,) = end.received
    assert (seen.method, seen.target) == ("POST", "/api/v1/a/b?page_no=2&q=a+b%26c")
    assert seen.json == {"词": 1}
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert seen.headers["x-dashscope-workspace"] == "llm-1"


def test_a_creation_has_a_connection_of_its_own() -> None:
    """On one that was used before, nobody can tell a request that never arrived from one whose answer was lost."""
    with far_end(scripted(FINE)) as end, api(end.origin) as opened:
        for request in (READ, READ, CREATE, READ, CREATE):
            opened.send(request)
    by_method: dict[str, set[int]] = {}
    for seen in end.received:
        by_method.setdefault(seen.method, set()).add(seen.connection)
    assert len(by_method["GET"]) == 1
    assert len(by_method["POST"]) == 2
    assert not by_method["GET"] & by_method["POST"]


def test_no_cookie_ties_one_request_to_another() -> None:
    crumb = reply(200, {"output": {"id": "t-1"}}, Set_Cookie="session=1; Path=/")
    with far_end(scripted(crumb)) as end, api(end.origin) as opened:
        for request in (READ, CREATE, READ, CREATE):
            opened.send(request)
    assert not any("cookie" in seen.headers for seen in end.received)


def upload(size: int, filename: str = "d.jsonl") -> Request:
    content = Content(filename, ("d.jsonl",), size, "0" * 32)
    return Request("files.create", "POST", "/files", effect=Effect.ONCE, form={"purpose": "fine-tune"}, content=content)


def test_an_upload_is_exactly_these_bytes() -> None:
    """The length is said before the first byte, and the rows are not touched on the way."""
    rows = [b'{"a": "\r\n--', "词".encode(), b"\x00\xff"]
    with far_end(scripted(FINE)) as end, api(end.origin, contents=lambda content: iter(rows)) as opened:
        opened.send(upload(sum(map(len, rows))))
    (seen,) = end.received
    kind, _, boundary = seen.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    assert seen.body == b"".join(
        [
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="d.jsonl"\r\n'.encode(),
            b"Content-Type: application/octet-stream\r\n\r\n",
            *rows,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
    )
    assert int(seen.headers["content-length"]) == len(seen.body)
    assert "transfer-encoding" not in seen.headers


@pytest.mark.parametrize("filename", ['a"; name="purpose', "a\r\nX-Evil: 1\r\n\r\n", "a\\", "词.jsonl"])
def test_a_file_name_stays_in_its_place(filename: str) -> None:
    with far_end(scripted(FINE)) as end, api(end.origin, contents=lambda content: iter([b"x"])) as opened:
        opened.send(upload(1, filename))
    head = end.received[0].body.split(b"\r\n\r\n")[1].decode()
    disposition, kind = head.split("\r\n")[-2:]
    assert kind == "Content-Type: application/octet-stream"
    assert disposition.startswith('Content-Disposition: form-data; name="files"; filename="')
    assert disposition.count('"') == 4
    assert disposition.endswith('"')


def test_an_upload_that_is_tried_again_begins_again() -> None:
    """A generator that was read to its end would send an empty file under the right length."""
    opened_times: list[str] = []

    def contents(content: Content) -> Iterator[bytes]:
        opened_times.append(content.filename)
        return iter([b"row\n"])

    with far_end(scripted(error(429), FINE)) as end, api(end.origin, contents=contents) as opened:
        opened.send(upload(4))
    assert [b"\r\n\r\nrow\n\r\n" in seen.body for seen in end.received] == [True, True]
    assert len(opened_times) == 2


def test_what_is_wrong_with_the_file_is_said_in_its_own_words() -> None:
    def changed(content: Content) -> Iterator[bytes]:
        yield b"x"
        raise StalePlan("d.jsonl changed while it was read")

    with (
        far_end(scripted(FINE)) as end,
        api(end.origin, contents=changed) as opened,
        pytest.raises(StalePlan, match=r"d\.jsonl changed"),
    ):
        opened.send(upload(10))


def test_a_large_upload_is_never_held_and_says_how_far_it_is() -> None:
    """64 MiB that are made as they are sent; what listens may fail and disturbs nothing."""
    total, chunk = 64 * 2**20, b"x" * 2**20
    heard: list[int] = []

    def listen(sent: int) -> None:
        heard.append(sent)
        raise RuntimeError("a view that broke")

    def contents(content: Content) -> Iterator[bytes]:
        return (chunk for _ in range(content.size // len(chunk)))

    with far_end(scripted(FINE)) as end, api(end.origin, contents=contents) as opened:
        tracemalloc.start()
        opened.send(upload(total), sent=listen)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert heard == [len(chunk) * number for number in range(1, 65)]
    assert end.received[0].size > total
    assert peak < total / 4


def test_an_upload_that_is_tried_again_counts_again() -> None:
    heard: list[int] = []
    with far_end(scripted(error(429), FINE)) as end, api(end.origin, contents=lambda content: iter([b"ab"])) as opened:
        opened.send(upload(2), sent=heard.append)
    assert heard == [2, 2]
    assert len(end.received) == 2


def endless(content: Content) -> Iterator[bytes]:
    return (b"x" * 2**16 for _ in range(content.size // 2**16))


def test_a_refusal_before_the_end_of_the_upload_is_heard() -> None:
    """The service needs no further byte to know that the file is too large."""
    refusal = error(413, "BadRequest.TooLarge", "Out of space")
    with (
        far_end(scripted(refusal), hasty=True) as end,
        api(end.origin, contents=endless) as opened,
        pytest.raises(Rejected, match="Out of space"),
    ):
        opened.send(upload(64 * 2**20))
    assert end.connections == 1


def test_a_reset_in_the_middle_of_an_upload_leaves_it_undecided() -> None:
    """Bytes left, and no answer came: whether they were enough is found out by looking, not by sending again."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        api(f"http://127.0.0.1:{listener.getsockname()[1]}", contents=endless) as opened,
    ):
        accepted: list[int] = []

        def cut() -> None:
            connection, _ = listener.accept()
            accepted.append(1)
            connection.recv(100_000)
            connection.close()  # with bytes unread, so a reset

        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(OutcomeUnknown):
            opened.send(upload(64 * 2**20))
        thread.join()
    assert accepted == [1]


def test_an_upload_that_nobody_reads_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.api.WRITE_WITHIN_S", 0.5)
    monkeypatch.setattr("reconciler.api.UPLOAD_BYTES_PER_S", 2**40)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        api(f"http://127.0.0.1:{listener.getsockname()[1]}", contents=endless) as opened,
        pytest.raises(OutcomeUnknown),
    ):
        opened.send(upload(64 * 2**20))


# Where the key goes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("request_", [READ, PUT, CREATE], ids=lambda request: request.operation)
def test_a_redirect_is_never_followed(request_: Request, status: int) -> None:
    """Whoever can make the service redirect would else be handed the key, or a second creation."""
    with far_end(scripted(FINE)) as thief, far_end(scripted(reply(status, {}, Location=f"{thief.origin}/x"))) as end:
        with api(end.origin, patience=Patience(tries=2)) as opened, pytest.raises((Unavailable, OutcomeUnknown)):
            opened.send(request_)
        assert thief.received == []
        assert {seen.target for seen in end.received} == {f"/api/v1{request_.path}"}


def test_neither_proxies_nor_passwords_of_the_environment_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A variable in a shell profile must not reroute the key or replace it."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    with far_end(scripted(FINE)) as proxy, far_end(scripted(FINE)) as end:
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.origin)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with api(end.origin) as opened:
            opened.send(READ)
        assert proxy.received == []
        assert end.received[0].headers["authorization"] == f"Bearer {SECRET}"


def test_asking_who_is_there_shows_no_key() -> None:
    """It is asked before anybody knows who listens on that port."""
    with far_end(scripted(reply(200, {}))) as end, api(end.origin) as opened:
        opened.identify()
    assert "authorization" not in end.received[0].headers


def shown(value: BaseException) -> str:
    return "".join(traceback.format_exception(value)) + repr(value) + str(vars(value))


@pytest.mark.parametrize("answer", [*FAULTS.values(), error(401, "InvalidApiKey"), error(429), SILENT])
def test_no_error_shows_the_key(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.api.WRITE_WITHIN_S", 0.5)
    with (
        far_end(scripted(answer)) as end,
        api(end.origin, patience=Patience(tries=1)) as opened,
        pytest.raises(ApiError) as caught,
    ):
        opened.send(CREATE)
    assert SECRET not in shown(caught.value)
    assert SECRET not in repr(opened) + str(opened)


@pytest.mark.parametrize("odd", ["\n", " ", "\r\nX-Evil: 1", "\0", "é", "键", "\ud800"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(odd: str) -> None:
    """The library below would quote it in its complaint, and only when a creation is being sent."""
    with pytest.raises(NotAuthorised) as caught:
        Key(SECRET + odd)
    assert SECRET not in shown(caught.value)


def test_a_key_shows_nothing_of_itself() -> None:
    assert SECRET not in f"{Key(SECRET)} {Key(SECRET)!r} {[Key(SECRET)]}"
    assert Key(SECRET).reveal() == SECRET


# Who and when -------------------------------------------------------------------------------------------------------


def test_the_clock_is_the_services() -> None:
    """Whether a creation can still appear is decided by the clock that stamps it; ours may be years off."""
    with far_end(scripted(reply(200, {}, Date="Tue, 01 Jan 2030 16:00:00 GMT"))) as end, api(end.origin) as opened:
        opened.send(READ)
        assert f"{opened.now():%Y-%m-%d %H}" == "2030-01-02 00", "shown in Beijing time"


@pytest.mark.parametrize("date", ["yesterday", "", "Tue, 01 Jan 2030 16:00:00 -0000"])
def test_a_date_that_is_none_moves_no_clock(date: str) -> None:
    with far_end(scripted(reply(200, {}, Date=date))) as end, api(end.origin) as opened:
        before = opened.now()
        opened.send(READ)
        assert abs(opened.now() - before) < timedelta(days=1)


def test_an_emulator_is_known_by_its_install_id_whatever_its_port() -> None:
    """A state of the emulator is found again after it was restarted on another port."""
    info = reply(200, {"speed": 600}, X_Bailian_Emulator="1f2e; x")
    with (
        far_end(scripted(info)) as one,
        far_end(scripted(info)) as other,
        api(one.origin) as first,
        api(other.origin) as second,
    ):
        assert first.identify() == second.identify() == "emulator:1f2e"


def test_whoever_listens_on_loopback_is_not_taken_for_an_emulator() -> None:
    with far_end(scripted(reply(404, HTML, kind="text/html"))) as end, api(end.origin) as opened:
        assert opened.identify() == "127.0.0.1"


def test_a_real_host_is_named_without_asking_it() -> None:
    with api("https://dashscope.aliyuncs.com") as opened:
        assert opened.identify() == "dashscope.aliyuncs.com"


def test_nobody_on_the_port_is_an_error_of_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with api(f"http://127.0.0.1:{port}") as opened, pytest.raises(NeverSent):
        opened.identify()


def test_answers_keep_the_services_name_for_the_exchange() -> None:
    with far_end(scripted(FINE)) as end, api(end.origin) as opened:
        assert json.dumps(opened.send(READ).body) == '{"request_id": "r-9", "output": {"id": "t-1"}}'
        assert opened.send(READ).request_id == "r-9"


def test_an_emulator_is_one_account_whatever_its_port(tmp_path: Path) -> None:
    """A creation is looked for by the next command, and each starts the embedded emulator on another port."""
    seen = []
    for _ in range(2):
        with emulator(tmp_path / "data") as service, Api(service.origin, Key("sk-test")) as api:
            api.identify()
            seen.append((service.origin, api.account))
    (first, account), (second, again) = seen
    assert first != second
    assert account == again


# Content ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        "http://bucket.oss-cn-beijing.aliyuncs.com/a?Signature=hush",
        "https://bucket.oss-cn-beijing.aliyuncs.com.example.com/a?Signature=hush",
        "https://examplealiyuncs.com/a?Signature=hush",
        "https://aliyuncs.com@example.com/a?Signature=hush",
        "https://bucket.aliyuncs.com:8443/a?Signature=hush",
        "https://169.254.169.254/latest?Signature=hush",
        "http://127.0.0.1:1/a?Signature=hush",
        "https://example.com\\.aliyuncs.com/a?Signature=hush",
        "https://example.com\\@a.aliyuncs.com/a?Signature=hush",
        "https://example.com#.aliyuncs.com/a?Signature=hush",
        "https://aliyuncs.com./a?Signature=hush",
        "file:///etc/passwd?Signature=hush",
        "https://[::1/a?Signature=hush",
        "https://bucket.aliyuncs.com/a b?Signature=hush",
        "https://bucket.aliyuncs.com/\r\nX: y?Signature=hush",
        "",
    ],
)
def test_a_link_that_leads_elsewhere_than_to_object_storage_is_not_followed(link: str) -> None:
    """It comes from an answer, and whoever follows it sends a request from this computer. It is never quoted either."""
    with far_end(lambda seen: pytest.fail("asked all the same")) as far, api(far.origin) as client:
        with pytest.raises(Refused) as refused:
            list(client.fetch(link, 100))
        assert "hush" not in str(refused.value)
        assert far.received == []


SIGNED = "/a?Signature=hush"


@pytest.mark.parametrize("place", ["oss-cn-beijing.aliyuncs.com", "a.oss-cn-beijing.aliyuncs.com:443"])
def test_a_link_into_object_storage_may_be_followed(place: str) -> None:
    with api("https://example.com") as client:
        assert client._may_fetch(f"https://{place}{SIGNED}")


@contextmanager
def own_storage(answer: Answer) -> Iterator[tuple[Any, Api]]:
    """An emulator whose content lies where it is itself."""
    with far_end(lambda seen: answer) as far, api(far.origin) as client:
        client.emulator = "1"
        yield far, client


def test_content_is_fetched_without_the_key() -> None:
    with own_storage(reply(200, b"rows", kind="application/octet-stream")) as (far, client):
        assert b"".join(client.fetch(f"{far.origin}/a?Signature=hush", 4)) == b"rows"
    (seen,) = far.received
    assert SECRET not in str(seen)
    assert "authorization" not in {name.lower() for name in seen.headers}


@pytest.mark.parametrize(
    "answer",
    [
        reply(302, b"", Location="https://example.com/?Signature=hush"),
        reply(403, b"<Error>hush</Error>"),
        reply(200, b"longer than it said"),
        RESET,
        raw(b"HTTP/1.1 200 -\r\nContent-Length: 9\r\n\r\nhalf"),
    ],
)
def test_content_that_does_not_come_whole_is_no_content(answer: Answer) -> None:
    with own_storage(answer) as (far, client):
        with pytest.raises(Unavailable) as failed:
            list(client.fetch(f"{far.origin}{SIGNED}", 9))
        assert "hush" not in "".join(traceback.format_exception(failed.value))
