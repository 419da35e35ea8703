"""The webhook over loopback: who is heard, and that nobody else costs anything."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from reconciler.adapters.web import hooks
from reconciler.errors import NotAuthorised, StateError, UsageError

SECRET = b"a secret of thirty-two characters"


@dataclass
class Hooked:
    """A page on loopback with nothing but the hook."""

    port: int = 0
    now_s: float = 0.0
    looks: int = 0
    broken: bool = False
    thread: threading.Thread = field(default_factory=threading.Thread)

    def look(self) -> None:
        if self.broken:
            raise StateError("away")
        self.looks += 1

    def send(self, body: bytes = b"{}", method: str = "POST", **headers: str) -> int:
        """The status of an answer; `_` in the name of a header is a dash."""
        caller = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        caller.request(method, "/hooks/look", body, named)
        answer = caller.getresponse()
        answer.read()
        caller.close()
        return answer.status

    def signed(self, body: bytes = b"{}", secret: bytes = SECRET) -> int:
        return self.send(body, X_Hub_Signature_256=signature(body, secret))


def signature(body: bytes, secret: bytes = SECRET) -> str:
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


@pytest.fixture
def hooked() -> Iterator[Hooked]:
    here = Hooked()
    app = Starlette(routes=hooks.routes(here.look, SECRET, clock=lambda: here.now_s))
    listener = socket.create_server(("127.0.0.1", 0))
    here.port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield here
    server.should_exit = True
    thread.join()
    listener.close()


def test_what_github_signs_is_heard_whatever_it_says(hooked: Hooked) -> None:
    assert [hooked.signed(body) for body in (b'{"ref": "x"}', b"", b"\xff not JSON")] == [202] * 3
    assert hooked.looks == 3


def test_what_gitlab_signs_is_heard(hooked: Hooked) -> None:
    assert hooked.send(X_Gitlab_Token=SECRET.decode()) == 202
    assert hooked.looks == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X_Hub_Signature_256": "sha256="},
        {"X_Hub_Signature_256": signature(b"another body")},
        {"X_Hub_Signature_256": signature(b"{}", b"another secret")},
        {"X_Hub_Signature_256": signature(b"{}").upper()},
        {"X_Hub_Signature_256": "é"},
        {"X_Hub_Signature": "sha1=" + hmac.new(SECRET, b"{}", hashlib.sha1).hexdigest()},
        {"X_Gitlab_Token": ""},
        {"X_Gitlab_Token": SECRET.decode()[:-1]},
        {"X_Gitlab_Token": "wrong", "X_Hub_Signature_256": signature(b"{}")},
    ],
)
def test_what_is_not_signed_is_not_heard(hooked: Hooked, headers: dict[str, str]) -> None:
    assert hooked.send(**headers) == 401
    assert hooked.looks == 0


def test_an_unsigned_body_is_not_even_waited_for(hooked: Hooked) -> None:
    with socket.create_connection(("127.0.0.1", hooked.port), timeout=30) as caller:
        caller.sendall(b"POST /hooks/look HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("told", [b"Content-Length: 65537", b"Transfer-Encoding: chunked"])
def test_a_long_body_is_not_read_to_its_end(hooked: Hooked, told: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hooked.port), timeout=30) as caller:
        caller.sendall(
            b"POST /hooks/look HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=0\r\n" + told + b"\r\n\r\n"
        )
        if b"chunked" in told:
            caller.sendall(b"10001\r\n" + b"x" * 0x10001 + b"\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 413")
    assert hooked.looks == 0


def test_a_body_at_the_limit_is_heard(hooked: Hooked) -> None:
    assert hooked.signed(b"x" * hooks.BYTES_MAX) == 202


def test_a_body_that_never_comes_is_not_waited_for_for_ever(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "BODY_S", 0.2)
    with socket.create_connection(("127.0.0.1", hooked.port), timeout=30) as caller:
        caller.sendall(
            b"POST /hooks/look HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=0\r\nContent-Length: 5\r\n\r\nab"
        )
        assert caller.recv(100).startswith(b"HTTP/1.1 408")


def test_so_many_are_heard_at_once_and_others_cannot_use_them_up(hooked: Hooked) -> None:
    assert {hooked.send() for _ in range(hooks.BURST * 2)} == {401}
    assert [hooked.signed() for _ in range(hooks.BURST + 1)] == [202] * hooks.BURST + [429]
    hooked.now_s += hooks.EACH_S
    assert [hooked.signed(), hooked.signed()] == [202, 429]


def test_a_database_that_is_away_is_said_and_not_hidden(hooked: Hooked) -> None:
    """The forge then shows it, and sends it again if somebody asks."""
    hooked.broken = True
    assert hooked.signed() == 503


def test_nothing_else_is_answered(hooked: Hooked) -> None:
    assert hooked.send(method="GET") == 405


def test_without_a_secret_there_is_no_hook() -> None:
    assert hooks.routes(lambda: None, b"") == []


# The secret ---------------------------------------------------------------------------------------------------------


def test_the_secret_is_from_a_private_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.SECRET, "from the environment")
    assert hooks.secret_of("") == b"from the environment"
    file = tmp_path / "secret"
    file.write_text("from a private file\n")
    file.chmod(0o600)
    assert hooks.secret_of(str(file)) == b"from a private file"
    file.chmod(0o644)
    with pytest.raises(NotAuthorised, match="others may read the webhook's secret"):
        hooks.secret_of(str(file))


def test_a_secret_that_could_be_guessed_is_refused_unshown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.SECRET, "hunter2")
    with pytest.raises(UsageError) as caught:
        hooks.secret_of("")
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_no_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hooks.SECRET, raising=False)
    assert hooks.secret_of("") == b""
