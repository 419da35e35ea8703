"""Tokens in their file, and where the page may listen."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import httpx
import pytest

from reconciler.adapters.web import app
from reconciler.adapters.web.access import FILE, Tokens, kept, read
from reconciler.adapters.web.serving import place, serve
from reconciler.errors import ReconcilerError, UsageError
from tests.adapters.web.conftest import CHIEF, Site
from tests.certificates import Authority


def test_the_first_start_makes_a_token_that_only_its_owner_reads_and_the_next_one_finds_it(tmp_path: Path) -> None:
    tokens, fresh = kept(tmp_path)
    path = tmp_path / ".reconciler" / FILE
    assert fresh
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(fresh.secret) == 64
    again, none = kept(tmp_path)
    assert none is None
    assert again == tokens
    assert not fresh.approves


def test_two_first_starts_make_two_tokens(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert kept(one) != kept(other)


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / FILE
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_may_name_several_and_say_who_approves(tmp_path: Path) -> None:
    path = written(tmp_path, f"# the team\nwang approve {'w' * 40}\n\nwall-screen read {'s' * 40}\n")
    tokens = read(path)
    assert [(one.name, one.approves) for one in tokens.known] == [("wang", True), ("wall-screen", False)]
    assert tokens.by_secret("w" * 40) == tokens.known[0]
    assert tokens.by_cookie(tokens.known[1].cookie) == tokens.known[1]
    assert all(one.approves for one in tokens.all_approving().known)


@pytest.mark.parametrize(
    "text",
    [
        "wang approve short\n",
        f"wang write {'w' * 40}\n",
        f"wang {'w' * 40}\n",
        f"<script> read {'w' * 40}\n",
        f"a read {'w' * 40}\na read {'v' * 40}\n",
        "",
        "# nobody\n",
    ],
)
def test_a_line_that_is_no_token_stops_the_start_and_is_not_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(ReconcilerError) as caught:
        read(written(tmp_path, text))
    assert "www" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_read_holds_no_secrets(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ReconcilerError, match="others may read"):
        read(written(tmp_path, f"wang read {'w' * 40}\n", mode))


def test_a_link_is_no_file_of_ours(tmp_path: Path) -> None:
    written(tmp_path, f"wang read {'w' * 40}\n")
    (tmp_path / "link").symlink_to(tmp_path / FILE)
    with pytest.raises(ReconcilerError):
        read(tmp_path / "link")


def test_a_token_does_not_show_itself() -> None:
    assert CHIEF.secret not in f"{CHIEF!r} {Tokens((CHIEF,))!r}"


# Where --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0:80", "10.0.0.7:8080", "[::]:80", "[2001:db8::1]:443"])
def test_an_address_that_others_reach_is_refused_without_tls(address: str) -> None:
    with pytest.raises(UsageError, match="without TLS"):
        place(address)


@pytest.mark.parametrize("text", ["", "8080", ":8080", "example.com:80", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_address_with_a_port_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UsageError, match="no address with a port"):
        place(text)


@pytest.mark.parametrize(("text", "url"), [("localhost:1", "http://127.0.0.1:1"), ("[::1]:1", "http://[::1]:1")])
def test_loopback_needs_no_certificate(text: str, url: str) -> None:
    assert place(text).url == url


def test_a_certificate_without_its_key_and_one_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both"):
        place("0.0.0.0:443", "cert.pem")
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for certificate in (broken, tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match="cannot be used"):
            place("0.0.0.0:443", str(certificate), str(certificate))


def test_elsewhere_it_is_served_over_tls_with_the_token_and_a_cookie_for_tls_alone(
    own_site: Site, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    authority.signed("IP:127.0.0.1")
    pem, key = authority.folder / "host.pem", authority.folder / "host.key"
    at = place("0.0.0.0:0", str(pem), str(key))
    trusting = ssl.create_default_context(cafile=str(authority.file))
    with serve(lambda closing: app(own_site.watched, Tokens((CHIEF,)), closing), at) as origin:
        port = origin.rpartition(":")[2]
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting, trust_env=False) as client:
            assert client.get("/stacks").status_code == 401
            asked = {"X-Reconciler": "page", "Origin": f"https://127.0.0.1:{port}"}
            answer = client.post("/login", json={"token": CHIEF.secret}, headers=asked)
            assert "Secure" in answer.headers["set-cookie"]
            assert client.get("/stacks").status_code == 200


def test_a_port_that_is_taken_is_said_so(site: Site) -> None:
    taken = place(site.origin.removeprefix("http://"))
    with pytest.raises(ReconcilerError, match="cannot listen"), serve(lambda closing: None, taken):  # type: ignore[arg-type,return-value]
        pass


def test_the_app_learns_when_it_is_to_end(own_site: Site) -> None:
    """A page that updates itself would keep the process for as long as its browser is open."""
    told: list[threading.Event] = []

    def make(closing: threading.Event):  # type: ignore[no-untyped-def]
        told.append(closing)
        return app(own_site.watched, Tokens((CHIEF,)), closing)

    with serve(make, place("127.0.0.1:0")):
        assert not told[0].is_set()
    assert told[0].is_set()
