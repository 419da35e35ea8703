"""An answer that breaks off at any byte is no answer, and no reason to send again."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reconciler.api import Api, Key, Patience
from reconciler.errors import OutcomeUnknown
from reconciler.resource import Effect, Request
from tests.crash.conftest import LONG, Tally
from tests.crash.lab import World
from tests.crash.scenes import APPLY, Scene
from tests.crash.trials import Together, report, some, trial
from tests.far_end import Answer, Received, far_end

ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "files.create": {"data": {"uploaded_files": [{"file_id": "f-1", "name": "d"}], "failed_uploads": []}},
    "jobs.create": {"output": {"job_id": "ft-202611021405-a1b2", "status": "PENDING", "model": "qwen3-8b"}},
    "deployments.create": {"output": {"deployed_model": "qwen3-8b-a1b2c3d4", "status": "PENDING", "capacity": 4}},
    "vocabularies.create": {"output": {"vocabulary_id": "vocab-vabc-0123"}, "usage": {"count": 1}},
    "phrases.create": {"output": {"finetuned_output": "paraformer-v1-ft-1", "job_id": "ft-1", "status": "SUCCEEDED"}},
}
"""As the service answers (contract §1 to §5)."""
SAMPLE = 3
ENDS = ("close", "reset") if LONG else ("close",)


def whole(body: Mapping[str, Any]) -> bytes:
    data = json.dumps({"request_id": "r-1", **body}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("operation", ANSWERS)
def test_every_byte_of_every_create_answer(operation: str, end: str, tally: Tally) -> None:
    """All but the whole is unknown, after one request; the whole names what was made."""
    answer = whole(ANSWERS[operation])
    cuts: Iterator[int] = iter(range(len(answer)))
    how = {"close": "closed", "reset": "reset"}[end]

    def respond(request: Received) -> Answer:
        return Answer((answer[: next(cuts)],), how)

    request = Request(operation, "POST", "/any", effect=Effect.ONCE, body={"a": 1})
    with far_end(respond) as end_, Api(end_.origin, Key("k"), rate_per_s=None, patience=Patience(first_s=0)) as api:
        for _ in range(len(answer)):
            with pytest.raises(OutcomeUnknown):
                api.send(request)
        assert len(end_.received) == len(answer), "each was sent once"
    with far_end(lambda request: Answer((answer,), "closed")) as end_, Api(end_.origin, Key("k")) as api:
        assert api.send(request).body == {"request_id": "r-1", **ANSWERS[operation]}
    tally["answers cut", operation] += len(answer)


def test_every_byte_of_a_request(tally: Tally) -> None:
    """A far end that goes away after so many bytes of a request: once one has left, nobody can know."""
    request = Request("jobs.create", "POST", "/any", effect=Effect.ONCE, body={"a": 1})
    with far_end(lambda request: Answer((whole({}),), "closed")) as end, Api(end.origin, Key("k")) as api:
        api.send(request)
        size = sum(len(name) + len(value) + 4 for name, value in end.received[0].headers.items())
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as far:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Api(origin, Key("k"), rate_per_s=None, patience=Patience(first_s=0)) as api:
            for taken in range(1, size):
                gone = far.submit(_take, listener, taken)
                with pytest.raises(OutcomeUnknown):
                    api.send(request)
                gone.result()
    tally["requests cut", "jobs.create"] += size - 1


def _take(listener: socket.socket, size: int) -> None:
    """So many bytes of one connection, and then a reset."""
    listener.settimeout(10)
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while size > 0:
            piece = connection.recv(size)
            assert piece, "the request ended before"
            size -= len(piece)


def cut(operation: str, part: str, after_bytes: int, how: str) -> Callable[[World], None]:
    """The answer is cut, and the run that got it ends as it may."""

    def go_wrong(copy: World) -> None:
        rule = {"after_bytes": after_bytes, "part": part, "how": how}
        copy.faults({"operation": operation, "nth": 1, "cut": rule})
        copy.run(*APPLY)
        copy.faults()

    return go_wrong


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("operation", ANSWERS)
def test_a_run_whose_answer_is_cut(
    operation: str, scene: Callable[[str], Scene], yard: Path, together: Together, tally: Tally
) -> None:
    """What was made is found and adopted: nothing is made twice. Byte by byte in the long run."""
    made = scene("create")
    cuts = [(part, size) for part, longest in (("head", 120), ("body", 260)) for size in range(longest)]
    tried = [(part, int(size)) for part, size in (one.split() for one in some([f"{p} {s}" for p, s in cuts], SAMPLE))]
    ways = [cut(operation, part, size, ("close", "reset")[size % 2]) for part, size in tried]
    failures = together([trial(made, yard, way, looked_at=False) for way in ways])
    tally["runs with a cut answer", operation] += len(ways)
    report(failures, len(ways))
