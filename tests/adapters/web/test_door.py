"""Every rule of the door, each with the request that it is there to refuse."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from reconciler.adapters.web import app, pages, serving
from reconciler.adapters.web.access import Tokens
from reconciler.adapters.web.door import BODY_MAX, BURST, LOGINS, TARGET_MAX, Bucket, Door, is_ours
from tests.adapters.web.conftest import CHIEF, READER, Site, served

PAGES = ("/", "/stacks", "/stacks.json", "/stack?stack=.", "/object?stack=.", "/plan?stack=.", "/curve.svg", "/news")


def port(site: Site) -> str:
    return site.origin.rpartition(":")[2]


# Who ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_shown_to_whoever_has_no_token(site: Site, path: str) -> None:
    with site.client(None) as client:
        answer = client.get(path)
    assert answer.status_code == 401
    assert "tuned" not in answer.text


@pytest.mark.parametrize("secret", ["", "r", "R" * 64, "r" * 63, "r" * 65, READER.cookie])
def test_a_token_that_is_not_quite_right_is_none(site: Site, secret: str) -> None:
    with site.client(None, Authorization=f"Bearer {secret}".strip()) as client:
        assert client.get("/stacks.json").status_code == 401


def test_a_token_in_the_address_opens_nothing(site: Site) -> None:
    """Addresses end up in histories and logs."""
    with site.client(None) as client:
        assert client.get(f"/stacks?token={CHIEF.secret}").status_code == 401


@pytest.mark.parametrize("cookie", ["", "x", CHIEF.secret, '\\"', "a;b==;;"])
def test_a_made_up_cookie_opens_nothing(site: Site, cookie: str) -> None:
    with site.client(None, Cookie=f"reconciler-{port(site)}={cookie}") as client:
        assert client.get("/stacks").status_code == 401


def test_a_browser_gets_a_cookie_that_is_not_the_token_and_that_no_script_and_no_other_site_can_use(site: Site) -> None:
    with site.client(None) as client:
        answer = client.post("/login", json={"token": READER.secret}, headers=site.asked)
        kept = answer.headers["set-cookie"]
        assert client.get("/stacks").status_code == 200
    assert "HttpOnly" in kept
    assert "SameSite=strict" in kept
    assert READER.secret not in kept


def test_tokens_cannot_be_tried_without_end(own_site: Site) -> None:
    with own_site.client(None) as client:
        tries = [client.post("/login", json={"token": "?" * 64}, headers=own_site.asked) for _ in range(LOGINS + 2)]
        late = client.post("/login", json={"token": READER.secret}, headers=own_site.asked)
    assert [one.status_code for one in tries] == [401] * LOGINS + [429, 429]
    assert late.status_code == 429


# Host and Origin ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "127.0.0.2:{port}", "", "[::1]"]
)
def test_another_host_is_not_served_even_with_the_token(site: Site, host: str) -> None:
    """A name that somebody else controls may point here: a page of theirs would read ours (DNS rebinding)."""
    with site.client(Host=host.format(port=port(site))) as client:
        assert client.get("/stacks").status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_our_own_address_is_served(site: Site, host: str) -> None:
    with site.client(Host=host.format(port=port(site))) as client:
        assert client.get("/stacks.json").status_code == 200


def test_two_hosts_are_none() -> None:
    """Which of them a proxy before us went by nobody knows."""
    door = Door(PlainTextResponse("ok"), ["page", "other"])
    assert asked(door, headers=[("Host", "page"), ("Host", "other")]).status_code == 421
    assert asked(door, headers=[("Host", "page")]).status_code == 200


@pytest.mark.parametrize(
    ("host", "here", "names", "ours"),
    [
        ("[::1]:80", "::1", (), True),
        ("[0:0:0:0:0:0:0:1]:80", "::1", (), True),
        ("localhost:80", "10.0.0.7", (), False),
        ("page.corp:80", "10.0.0.7", ("page.corp",), True),
        ("page.corp:443", "10.0.0.7", ("page.corp",), True),
        ("page.corp.evil.example:80", "10.0.0.7", ("page.corp",), False),
        ("10.0.0.7", "10.0.0.7", (), True),
        ("10.0.0.8:80", "10.0.0.7", (), False),
    ],
)
def test_a_host_is_ours_by_the_address_of_the_connection_or_by_a_name_we_were_given(
    host: str, here: str, names: tuple[str, ...], ours: bool
) -> None:
    assert is_ours(host, {"server": (here, 80)}, names) is ours


@pytest.mark.parametrize(
    "change",
    [
        {"X-Reconciler": ""},
        {"X-Reconciler": "other"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
    ],
)
def test_a_change_that_no_page_of_ours_asked_for_is_refused(site: Site, change: dict[str, str]) -> None:
    with site.browser() as client:
        headers = {name: value for name, value in {**site.asked, **change}.items() if value}
        answer = client.post("/approve", json={"stack": ".", "digest": site.digest()}, headers=headers)
    assert answer.status_code == 403
    assert not any(one.approved_at for one in site.state().approvals.values())


def test_a_foreign_origin_is_refused_even_with_a_token(site: Site) -> None:
    with site.client(**{**site.asked, "Origin": "https://evil.example"}) as client:
        assert client.post("/approve", json={}).status_code == 403


def test_looking_never_changes_anything(site: Site) -> None:
    with site.client() as client:
        assert client.get("/approve", params={"stack": ".", "digest": site.digest()}).status_code == 405
        assert client.request("PUT", "/stacks").status_code == 405


# Size and rate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [str(BODY_MAX + 1), f"{BODY_MAX + 1:020}"])
def test_a_large_body_is_refused_before_it_is_read(site: Site, told: str) -> None:
    host, number = site.origin.removeprefix("http://").split(":")
    head = f"POST /login HTTP/1.1\r\nHost: {host}:{number}\r\nContent-Length: {told}\r\n\r\n"
    with socket.create_connection((host, int(number)), timeout=30) as wire:
        wire.sendall(head.encode())  # and not one byte of the body
        assert wire.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_size_is_refused(site: Site) -> None:
    with site.client(**site.asked) as client:
        assert client.post("/login", content=iter([b"{}"])).status_code == 411


def test_a_long_address_is_refused(site: Site) -> None:
    with site.client() as client:
        assert client.get("/stack", params={"stack": "x" * TARGET_MAX}).status_code == 414


def test_whoever_connects_and_says_nothing_whole_is_let_go(looked_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many connections are served at once; a few idle ones must not be all of them."""
    monkeypatch.setattr(serving, "HEAD_S", 0.05)
    with served(looked_once) as site:
        host, number = site.origin.removeprefix("http://").split(":")
        with socket.create_connection((host, int(number)), timeout=30) as wire:
            wire.sendall(b"GET /stacks HTTP/1.1\r\nHost:")
            assert wire.recv(100) == b""
        with site.client() as client:
            assert client.get("/stacks.json").status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(looked_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "BODY_S", 0.05)
    with served(looked_once) as site:
        host, number = site.origin.removeprefix("http://").split(":")
        lines = [f"POST /login HTTP/1.1\r\nHost: {host}:{number}", "Content-Length: 10"]
        lines += [f"{name}: {value}" for name, value in site.asked.items()]
        with socket.create_connection((host, int(number)), timeout=30) as wire:
            wire.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            assert wire.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b'"x"', b"[" * 4000, b"\xff", b'{"token": 1}'])
def test_a_body_that_is_no_object_of_strings_is_no_mistake_of_ours(own_site: Site, body: bytes) -> None:
    with own_site.client(None) as client:
        assert client.post("/login", content=body, headers=own_site.asked).status_code in (400, 401)


def test_one_address_may_ask_so_often_and_others_do_not_suffer() -> None:
    now = [0.0]
    door = Door(PlainTextResponse("ok"), ["page"], clock=lambda: now[0])
    assert [asked(door, by="10.0.0.1").status_code for _ in range(BURST + 1)] == [200] * BURST + [429]
    assert asked(door, by="10.0.0.2").status_code == 200
    now[0] = 1.0
    assert asked(door, by="10.0.0.1").status_code == 200


def test_a_bucket_fills_with_time_and_never_over_its_brim() -> None:
    now = [0.0]
    bucket = Bucket(2, 0.5, clock=lambda: now[0])
    assert [bucket.takes(), bucket.takes(), bucket.takes()] == [True, True, False]
    now[0] = 2.0
    assert [bucket.takes(), bucket.takes()] == [True, False]
    now[0] = 1000.0
    assert [bucket.takes(), bucket.takes(), bucket.takes()] == [True, True, False]


def asked(
    app: ASGIApp, path: str = "/", *, by: str = "10.0.0.1", headers: Sequence[tuple[str, str]] = (("Host", "page"),)
) -> httpx.Response:
    """One request that needs no server."""

    async def ask() -> httpx.Response:
        wire = httpx.ASGITransport(app, raise_app_exceptions=False, client=(by, 1))
        async with httpx.AsyncClient(transport=wire, base_url="http://page") as client:
            return await client.get(path, headers=list(headers))

    return anyio.run(ask)


# What every answer carries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/stacks", "/stacks.json", "/nowhere", "/static/page.js", "/stack?stack=nowhere"])
def test_every_answer_forbids_what_no_page_of_ours_needs(site: Site, path: str) -> None:
    with site.client() as client:
        headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_what_the_door_refuses_carries_the_same(site: Site) -> None:
    with site.client(Host="evil.example") as client:
        assert "content-security-policy" in client.get("/").headers


def test_a_mistake_of_ours_is_said_without_its_traceback() -> None:
    async def broken(scope, receive, send):  # type: ignore[no-untyped-def]
        raise RuntimeError("the secret is 1234")

    answer = asked(Door(broken, ["page"]))
    assert (answer.status_code, answer.text) == (500, "internal error")
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    "path", ["/static/", "/static", "/static/../pages.py", "/static/%2e%2e/pages.py", "/templates/base.html", "/..%2f"]
)
def test_no_folder_is_listed_and_no_path_leads_out(site: Site, path: str) -> None:
    with site.client() as client:
        assert client.get(path).status_code == 404


def test_only_what_an_empty_page_needs_is_open_to_everybody(site: Site) -> None:
    with site.client(None) as client:
        codes = {path: client.get(path).status_code for path in ("/login", "/icon.svg", "/static/page.css")}
    assert set(codes.values()) == {200}


def test_routes_of_others_are_behind_the_outer_door_only(own_site: Site) -> None:
    """A probe of a cluster has no token; but a page of somebody else's must not read it either."""

    def alive(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    served = app(
        own_site.watched,
        Tokens((CHIEF,)),
        threading.Event(),
        hosts=["page"],
        others=[Route("/healthz", alive)],
        nearby=[Route("/metrics", alive)],
    )
    strange = [("Host", "evil.example")]
    assert asked(served, "/healthz").text == "ok"
    assert asked(served, "/healthz", headers=strange).status_code == 421
    assert asked(served, "/stacks").status_code == 401
    assert asked(served, "/metrics", by="127.0.0.1").text == "ok"
    assert asked(served, "/metrics", by="127.0.0.1", headers=strange).status_code == 421
    assert asked(served, "/metrics").status_code == 401
    known = [("Host", "page"), ("Authorization", f"Bearer {CHIEF.secret}")]
    assert asked(served, "/metrics", headers=known).text == "ok"
