"""What reaches a client over a real connection that a fault has to do with, and what the service kept all the same."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.desk import KEY, Emulator, emulator

CREATE = {
    "model": "speech-biasing",
    "input": {
        "action": "create_vocabulary",
        "target_model": "paraformer-v2",
        "prefix": "a",
        "vocabulary": [{"text": "x", "weight": 1}],
    },
}
PATH = "/api/v1/services/audio/asr/customization"
OPERATION = "vocabularies.create"
CLOSED, RESET = "closed", "reset"
IMPATIENT = httpx.Timeout(60, read=0.3)


@dataclass(frozen=True)
class Heard:
    """All bytes of one answer, and how they ended."""

    head: bytes
    body: bytes
    end: str

    @property
    def length(self) -> int:
        """The length that the head announces."""
        lines = self.head.lower().split(b"\r\n")
        return int(next(line for line in lines if line.startswith(b"content-length:")).partition(b":")[2])


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Emulator]:
    with emulator(tmp_path / "far") as running:
        yield running


def play(far: Emulator, **effect: Any) -> None:
    far.control("faults", {"faults": [{"operation": OPERATION, **effect}]})


def create(far: Emulator, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(far.origin + PATH, json=CREATE, headers=headers, trust_env=False, **options)


def hear(far: Emulator, *, enough: int = 1 << 30, slow: bool = False) -> Heard:
    """One create and what comes back until the end or until that is enough; `slow` is a reader that begins late."""
    host, port = far.origin.removeprefix("http://").split(":")
    raw = json.dumps(CREATE).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    received, end = b"", CLOSED
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        time.sleep(0.3 if slow else 0)
        try:
            while len(received) < enough and (chunk := connection.recv(65_536)):
                received += chunk
        except ConnectionResetError:
            end = RESET
    answer_head, _, body = received.partition(b"\r\n\r\n")
    return Heard(answer_head, body, end)


# The connection ends


@pytest.mark.parametrize(("moment", "committed"), [("before", []), ("after", [OPERATION])])
@pytest.mark.parametrize(("how", "end"), [("reset", RESET), ("close", CLOSED)])
def test_an_answer_may_be_lost_before_or_after_the_commit(
    far: Emulator, moment: str, committed: list[str], how: str, end: str
) -> None:
    """The client cannot tell the two apart, which is what its journal is for."""
    play(far, drop={"moment": moment, "how": how})
    assert hear(far) == Heard(b"", b"", end)
    assert far.operations() == committed
    far.control("faults", {"faults": []})
    assert create(far).status_code == 200


@pytest.mark.parametrize(
    ("drop", "error"),
    [({"how": "reset"}, httpx.ReadError), ({"how": "close"}, httpx.RemoteProtocolError), ({}, httpx.ReadError)],
    ids=str,
)
def test_an_http_client_has_a_name_for_each_end(far: Emulator, drop: Any, error: type[Exception]) -> None:
    play(far, drop=drop)
    with pytest.raises(error):
        create(far)
    assert far.operations() == [OPERATION]


@pytest.mark.parametrize(("how", "end"), [("reset", RESET), ("close", CLOSED)])
@pytest.mark.parametrize("after_bytes", [0, 1, 20])
def test_the_body_may_break_off(far: Emulator, after_bytes: int, how: str, end: str) -> None:
    """The head promised more than came."""
    play(far, cut={"after_bytes": after_bytes, "how": how})
    heard = hear(far)
    assert (len(heard.body), heard.end) == (after_bytes, end)
    assert heard.head.startswith(b"HTTP/1.1 200")
    assert heard.length > 20
    assert far.operations() == [OPERATION]


@pytest.mark.parametrize(("how", "end"), [("reset", RESET), ("close", CLOSED)])
@pytest.mark.parametrize("after_bytes", [0, 9, 60])
def test_the_head_may_break_off(far: Emulator, after_bytes: int, how: str, end: str) -> None:
    play(far, cut={"after_bytes": after_bytes, "part": "head", "how": how})
    heard = hear(far)
    assert heard.head == b"HTTP/1.1 200 OK\r\n"[:after_bytes] or len(heard.head) == after_bytes
    assert (heard.body, heard.end) == (b"", end)
    assert far.operations() == [OPERATION]


@pytest.mark.parametrize("beyond", [0, 1000])
def test_an_answer_that_is_shorter_than_its_cut_comes_whole(far: Emulator, beyond: int) -> None:
    whole = hear(far)
    play(far, cut={"after_bytes": whole.length + beyond})
    heard = hear(far)
    assert (len(heard.body), heard.end) == (heard.length, CLOSED)


@pytest.mark.parametrize("slow", [False, True])
def test_a_long_answer_is_cut_where_the_rule_says(far: Emulator, slow: bool) -> None:
    """More than one buffer of the machine holds: what was sent before a reset must arrive, however late it is read."""
    play(far, edit={"set": {"padding": "x" * 3_000_000}}, cut={"after_bytes": 2_000_000})
    heard = hear(far, slow=slow)
    assert (len(heard.body), heard.end) == (2_000_000, RESET)


def test_an_event_stream_may_break_off(tmp_path: Path) -> None:
    rule = {"operation": "models.generate", "cut": {"after_bytes": 30}}
    with emulator(tmp_path, switches={"deployments.visibility_lag_s": 0}) as far:
        body = {"model_name": "qwen3.5-9b", "plan": "mu", "deploy_spec": "MU1", "capacity": 4}
        model = far.call("POST", "/deployments", body)["output"]["deployed_model"]
        far.control("clock", {"advance_s": 3600})
        far.control("faults", {"faults": [rule]})
        headers = {"Authorization": f"Bearer {KEY}", "X-DashScope-SSE": "enable"}
        prompt = {"model": model, "input": {"prompt": "x"}}
        path = f"{far.origin}/api/v1/services/aigc/text-generation/generation"
        heard: list[bytes] = []
        asked = httpx.stream("POST", path, json=prompt, headers=headers, trust_env=False)
        with asked as answer, pytest.raises(httpx.ReadError):
            heard.extend(answer.iter_raw())
        assert len(b"".join(heard)) == 30


# The answer takes its time


def test_a_dripping_answer_comes_whole_in_the_end(far: Emulator) -> None:
    play(far, drip={"bytes_per_s": 2000})
    heard = hear(far)
    assert len(heard.body) == heard.length
    assert json.loads(heard.body)["output"]["vocabulary_id"]


def test_a_dripping_answer_lets_its_reader_wait(far: Emulator) -> None:
    """The head and some of the body are there, and the rest is not: a timeout between two bytes never strikes."""
    play(far, drip={"bytes_per_s": 10})
    begun = len(hear(far, enough=1).head) + 5
    heard = hear(far, enough=begun)
    assert len(heard.body) < heard.length


def test_a_drip_may_end_in_a_cut(far: Emulator) -> None:
    play(far, drip={"bytes_per_s": 1000}, cut={"after_bytes": 15})
    heard = hear(far)
    assert (len(heard.body), heard.end) == (15, RESET)


def test_an_endless_answer_never_becomes_a_document(far: Emulator) -> None:
    """A client without a bound would read until its memory is full."""
    play(far, endless=True)
    heard = hear(far, enough=3_000_000)
    assert len(heard.body) > 2_000_000
    assert b"content-length" not in heard.head.lower()
    with pytest.raises(json.JSONDecodeError):
        json.loads(heard.body)
    assert far.operations() == [OPERATION]
    assert far.call("POST", "/services/audio/asr/customization", {**CREATE, "input": {"action": "list_vocabulary"}})


def test_a_server_stops_while_answers_drip_and_never_end(tmp_path: Path) -> None:
    rules = [
        {"operation": OPERATION, "drip": {"bytes_per_s": 1}, "nth": 1},
        {"operation": OPERATION, "endless": True, "nth": 2},
    ]
    with ThreadPoolExecutor(2) as pool:
        with emulator(tmp_path) as far:
            far.control("faults", {"faults": rules})
            answers = [pool.submit(hear, far) for _ in rules]
            until(lambda: len(far.operations()) == 2)
        assert {answer.result(60).end for answer in answers} <= {CLOSED, RESET}


@pytest.mark.parametrize(("moment", "committed"), [("before", []), ("after", [OPERATION])])
def test_a_pause_before_or_after_the_commit(far: Emulator, moment: str, committed: list[str]) -> None:
    """In emulated time, which stands still here: the answer comes when a test lets time go on."""
    play(far, hold={"emulated_s": 60, "moment": moment})
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(create, far, timeout=60)
        until(lambda: fired(far) == 1 and far.operations() == committed)
        far.control("clock", {"advance_s": 59})
        assert not answer.done()
        far.control("clock", {"advance_s": 2})
        assert answer.result(60).status_code == 200
    assert far.operations() == [OPERATION]


def test_a_client_that_gives_up_waiting_has_bought_all_the_same(far: Emulator) -> None:
    play(far, hold={"emulated_s": 60})
    with pytest.raises(httpx.ReadTimeout):
        create(far, timeout=IMPATIENT)
    assert far.operations() == []
    far.control("clock", {"advance_s": 61})
    until(lambda: far.operations() == [OPERATION])


@pytest.mark.parametrize(("moment", "committed"), [("before", []), ("after", [OPERATION])])
def test_a_pause_in_our_own_time(far: Emulator, moment: str, committed: list[str]) -> None:
    play(far, hold={"real_s": 3600, "moment": moment})
    with pytest.raises(httpx.ReadTimeout):
        create(far, timeout=IMPATIENT)
    until(lambda: fired(far) == 1 and far.operations() == committed)
    play(far, hold={"real_s": 0.01, "moment": moment})
    assert create(far).status_code == 200


def test_a_server_that_stops_commits_nothing_it_held(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with emulator(tmp_path) as far:
            play(far, hold={"real_s": 3600})
            heard = pool.submit(hear, far)
            until(lambda: fired(far) == 1)
        assert not heard.result(60).head.startswith(b"HTTP/1.1 200")
    with emulator(tmp_path) as far:
        assert far.operations() == []


def fired(far: Emulator) -> int:
    rules = httpx.get(f"{far.origin}/_emulator/faults", trust_env=False).json()["faults"]
    return sum(rule["fired"] for rule in rules)


def until(true: Callable[[], bool]) -> None:
    """Waits for what must come to pass; the runner's timeout is for when it does not."""
    while not true():
        time.sleep(0.01)


# Another answer


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        ({"body": "garbage"}, 200, "application/json"),
        ({"body": "html"}, 200, "text/html; charset=utf-8"),
        ({"body": "html", "status": 502}, 502, "text/html; charset=utf-8"),
        ({"body": "truncated"}, 200, "application/json"),
        ({"text": "upstream connect error"}, 200, "text/plain; charset=utf-8"),
        ({"text": "[1, 2]", "status": 503}, 503, "text/plain; charset=utf-8"),
    ],
    ids=str,
)
def test_a_body_that_is_no_answer(far: Emulator, answer: Any, status: int, kind: str) -> None:
    play(far, answer=answer)
    response = create(far)
    assert (response.status_code, response.headers["content-type"]) == (status, kind)
    assert not isinstance(readable(response.content), dict)
    assert far.operations() == [OPERATION]


def readable(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def test_a_truncated_body_is_the_first_half_of_the_true_one(far: Emulator) -> None:
    play(far, answer={"body": "truncated"})
    assert create(far).content.startswith(b'{"output":{"vocabulary_id":"vocab-a-')


@pytest.mark.parametrize("status", [200, 204, 304, 500])
def test_a_body_may_be_empty(far: Emulator, status: int) -> None:
    play(far, answer={"status": status, "body": "empty"})
    response = create(far)
    assert (response.status_code, response.content) == (status, b"")
    assert create(far).status_code == status  # the connection is still good: no byte too many


@pytest.mark.parametrize("status", [201, 202, 299])
def test_another_success_keeps_the_true_body(far: Emulator, status: int) -> None:
    play(far, answer={"status": status})
    response = create(far)
    assert (response.status_code, response.json()["output"].keys()) == (status, {"vocabulary_id"})


@pytest.mark.parametrize("effect", ["answer", "refuse"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect(far: Emulator, status: int, effect: str) -> None:
    """A client that followed it would hand its key to a stranger."""
    play(far, **{effect: {"status": status, "location": "http://elsewhere.example/"}})
    response = create(far)
    assert (response.status_code, response.headers["location"]) == (status, "http://elsewhere.example/")
    assert response.content == b""
    assert far.operations() == ([OPERATION] if effect == "answer" else [])


@pytest.mark.parametrize(("given", "sent"), [(7, "7"), (0.5, "0.5"), ("soon", "soon"), (-1, "-1")])
def test_how_long_to_wait_in_seconds_or_in_nonsense(far: Emulator, given: Any, sent: str) -> None:
    play(far, refuse={"status": 429, "retry_after": given})
    response = create(far)
    assert (response.status_code, response.headers["retry-after"]) == (429, sent)


@pytest.mark.parametrize("ahead_s", [120, -120])
def test_how_long_to_wait_as_a_date(far: Emulator, ahead_s: int) -> None:
    """Of the emulator's clock, which stands still here."""
    play(far, refuse={"status": 503, "retry_after_date_s": ahead_s})
    response = create(far)
    asked, now = (parsedate_to_datetime(response.headers[name]) for name in ("retry-after", "date"))
    assert abs((asked - now).total_seconds() - ahead_s) <= 1  # dates have no fractions


@pytest.mark.parametrize("offset_s", [3600, -86_400])
def test_the_date_may_be_wrong(far: Emulator, offset_s: int) -> None:
    right = parsedate_to_datetime(create(far).headers["date"])
    play(far, date_offset_s=offset_s)
    response = create(far)
    assert response.status_code == 200
    assert len(response.headers.get_list("date")) == 1
    assert (parsedate_to_datetime(response.headers["date"]) - right).total_seconds() == offset_s


@pytest.mark.parametrize(
    "effect", [{"answer": {"body": "garbage"}}, {"refuse": {"status": 502, "body": "html"}}], ids=str
)
def test_every_answer_still_says_what_it_comes_from(far: Emulator, effect: Any) -> None:
    """However wrong it is made: a tool may have to know that nothing was bought."""
    play(far, **effect)
    assert create(far).headers["x-bailian-emulator"].endswith("; nothing is bought")


def test_effects_add_up(far: Emulator) -> None:
    """One answer, after a pause, committed, an error page instead, cut off, with a wrong date."""
    play(
        far,
        hold={"real_s": 0.01},
        answer={"status": 504, "body": "html"},
        cut={"after_bytes": 10},
        date_offset_s=-86_400,
    )
    heard = hear(far)
    assert (heard.head[:12], heard.body, heard.end) == (b"HTTP/1.1 504", b"<!DOCTYPE ", RESET)
    assert far.operations() == [OPERATION]
