"""The page beside what it shows: `reconciler ui`, and a controller's."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from reconciler.adapters.looking import Looker
from reconciler.adapters.web.access import FILE
from reconciler.adapters.web.hosting import beside
from reconciler.adapters.web.serving import place
from reconciler.approvals import Mode
from reconciler.controller import Controller
from reconciler.source import Folder
from tests.adapters.conftest import Shell
from tests.adapters.web.conftest import NAME, Site


def signed_in(address: str) -> httpx.Client:
    origin, secret = re.fullmatch(r"(http://127\.0\.0\.1:[0-9]+)/login#([0-9a-f]{64})", address).groups()  # type: ignore[union-attr]
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=origin, headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ui_shows_the_stack_of_this_folder_and_ends_at_a_signal(looked_once: Path, tmp_path: Path, stop: int) -> None:
    shutil.copytree(looked_once, tmp_path / "stack")
    before = sorted(path.name for path in (tmp_path / "stack/.reconciler").iterdir())
    process = Shell(tmp_path / "stack").start("ui")
    try:
        assert process.stdout
        with signed_in(process.stdout.readline().strip()) as client:
            (shown,) = client.get("/stacks.json").json()["stacks"]
            assert (shown["stack"], shown["hour"]) == ("tiny", "216")
            assert shown["due_in_s"] is None  # nobody looks by themselves
            assert shown["proposal"]
            digest = client.get("/plan.json?stack=tiny").json()["proposals"][0]["digest"]
            asked = {"X-Reconciler": "page"}
            assert client.post("/approve", json={"stack": "tiny", "digest": digest}, headers=asked).status_code == 403
            assert client.get("/object?stack=tiny&address=FineTuneJob/tuned").status_code == 200
        process.send_signal(stop)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert (
        sorted(path.name for path in (tmp_path / "stack/.reconciler").iterdir()) == before
    )  # its token is kept nowhere


def test_what_is_mended_in_a_file_is_seen_without_a_new_start(looked_once: Path, tmp_path: Path) -> None:
    shutil.copytree(looked_once, tmp_path / "stack")
    shell = Shell(tmp_path / "stack")
    process = shell.start("ui", "--approve-from-page")
    try:
        assert process.stdout
        with signed_in(process.stdout.readline().strip()) as client:
            shell.change("stack.yaml", "kind: Deployment", "kind: Deploymint")
            (shown,) = client.get("/stacks.json").json()["stacks"]
            assert "Deploymint" in shown["error"]
            assert "did you mean Deployment?" in client.get("/stack?stack=tiny", headers={"Accept": "text/html"}).text
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--http", "0.0.0.0:80"], "without TLS"),
        (["--http", "nonsense"], "no address with a port"),
        (["-f", "-"], "no manifests from stdin"),
    ],
)
def test_ui_says_what_it_cannot_do(shell: Shell, arguments: list[str], says: str) -> None:
    result = shell("ui", *arguments)
    assert (result.code, result.out) == (64, "")
    assert says in result.err


def test_without_its_libraries_it_says_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = shell("ui")
    assert result.code == 1
    assert "pip install 'bailian-reconciler[web]'" in result.err


@pytest.mark.parametrize("approves", [False, True])
def test_a_controllers_token_is_told_once_and_approves_only_where_that_was_asked_for(
    own_site: Site, approves: bool
) -> None:
    told: list[str] = []
    at, folder = place("127.0.0.1:0"), own_site.folder
    body, headers = {"stack": NAME, "digest": own_site.digest()}, {"X-Reconciler": "page"}
    with (
        beside(own_site.watched, at, folder, approves=approves, announce=told.append),
        signed_in(told[0].removeprefix("page: ")) as client,
    ):
        answer = client.post("/approve", json=body, headers=headers)
    assert answer.status_code == (200 if approves else 403)
    with beside(own_site.watched, at, folder, announce=told.append):
        pass
    secret = told[0].rpartition("#")[2]
    assert secret in (folder / ".reconciler" / FILE).read_text()
    assert secret not in told[1]
    assert FILE in told[1]


def test_what_was_approved_on_the_page_is_what_the_loop_does_next(own_site: Site) -> None:
    look = Looker(source=Folder(own_site.folder), mode=Mode.PLAN)
    loop = Controller(own_site.fleet, lambda: [NAME], look)
    with own_site.client(**own_site.asked) as client:
        assert client.post("/approve", json={"stack": NAME, "digest": own_site.digest()}).status_code == 200
        assert loop.once() == 1
        assert own_site.fleet.reports()
        page = client.get(f"/object.json?stack={NAME}&address=Deployment/prod").json()
    assert page["objects"][0]["last_applied"]["capacity"] == 8
