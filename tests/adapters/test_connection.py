"""Which host and which key: nothing a manifest says may lead a key astray, and no message may hold one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.adapters import connection
from reconciler.adapters.connection import REGIONS, connect, origin_of, private_folder
from reconciler.errors import NotAuthorised, ReconcilerError, Refused, UsageError
from reconciler.project import Project, load
from tests.adapters.conftest import Shell

KEY = "sk-secretsecretsecret"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have both set."""
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    monkeypatch.delenv("DASHSCOPE_HTTP_BASE_URL", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "stack.yaml").write_text(
        "apiVersion: bailian.reconciler/v1alpha1\nkind: Stack\nmetadata: {name: a}\nspec: {endpoint: beijing}\n"
    )
    return load([str(tmp_path)])


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://dashscope.aliyuncs.com", "https://dashscope.aliyuncs.com"),
        ("https://dashscope.aliyuncs.com/api/v1", "https://dashscope.aliyuncs.com"),
        ("https://dashscope.aliyuncs.com/api/v1/", "https://dashscope.aliyuncs.com"),
        ("http://127.0.0.1:8000/api/v1", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://proxy.example:8443/", "https://proxy.example:8443"),
    ],
)
def test_an_endpoint_with_or_without_its_path(written: str, origin: str) -> None:
    assert origin_of(written) == origin


@pytest.mark.parametrize(
    "written",
    [
        "dashscope.aliyuncs.com",
        "http://dashscope.aliyuncs.com",
        "http://127.0.0.1.evil.example",
        "https://user:password@dashscope.aliyuncs.com",
        "https://dashscope.aliyuncs.com@evil.example",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "https://dashscope.aliyuncs.com/?x=1",
        "https://dashscope.aliyuncs.com/#x",
        "https://xn--dashscpe-e4a.aliyuncs.com",
        "https://dashscоpe.aliyuncs.com",
        "https://evil.example\\@dashscope.aliyuncs.com",
        "https://evil.example\n.aliyuncs.com",
        "https://host:99999",
        "https://[::1",
        "ftp://dashscope.aliyuncs.com",
        "https://",
    ],
)
def test_a_doubtful_endpoint_is_refused(written: str) -> None:
    with pytest.raises(UsageError):
        origin_of(written)


def test_a_region_is_its_official_host_and_gets_the_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    with connect(project, endpoint="", key_file="") as service:
        assert service.origin == REGIONS["beijing"]
        assert service.key.reveal() == KEY
        assert not service.emulated
        assert KEY not in repr(service)


def test_an_endpoint_set_for_other_programs_never_turns_the_emulator_into_the_real_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples promise that nothing is bought; a variable left over from another tool must not break that."""
    (tmp_path / "stack.yaml").write_text(
        "apiVersion: bailian.reconciler/v1alpha1\nkind: Stack\nmetadata: {name: a}\nspec: {endpoint: emulator}\n"
    )
    project = load([str(tmp_path)])
    monkeypatch.setenv("DASHSCOPE_HTTP_BASE_URL", "https://dashscope-intl.aliyuncs.com/api/v1")
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    with pytest.raises(Refused, match="meant for the emulator"), connect(project, endpoint="", key_file=""):
        pass
    with connect(project, endpoint="https://dashscope-intl.aliyuncs.com/api/v1", key_file="") as service:
        assert service.origin == REGIONS["singapore"], "the flag is the operator's own word"


def test_a_key_file_is_read_only_when_it_is_private(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o640)
    with pytest.raises(NotAuthorised, match="others may read"), connect(project, endpoint="", key_file=str(file)):
        pass
    file.chmod(0o600)
    with connect(project, endpoint="", key_file=str(file)) as service:
        assert service.key.reveal() == KEY


@pytest.mark.parametrize("trap", ["link", "folder", "pipe", "missing", "big", "two lines", "empty"])
def test_what_is_no_key_file_is_refused_without_showing_it(project: Project, tmp_path: Path, trap: str) -> None:
    path = tmp_path / "key"
    match trap:
        case "link":
            (tmp_path / "real").write_text(KEY)
            path.symlink_to(tmp_path / "real")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path, 0o600)
        case "big":
            path.write_text(KEY * 100)
        case "two lines":
            path.write_text(f"{KEY}\n{KEY}\n")
        case "empty":
            path.write_text("\n")
    if path.is_file():
        path.chmod(0o600)
    with pytest.raises(NotAuthorised) as refused, connect(project, endpoint="", key_file=str(path)):
        pass
    assert KEY not in str(refused.value) + refused.value.hint


def test_a_key_with_a_line_feed_is_refused_without_showing_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would become a second header."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", f"{KEY}\nX-Evil: 1")
    with pytest.raises(NotAuthorised) as refused, connect(project, endpoint="", key_file=""):
        pass
    assert KEY not in str(refused.value) + refused.value.hint


def test_the_private_folder_is_private_and_never_committed(tmp_path: Path) -> None:
    folder = private_folder(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    assert private_folder(tmp_path) == folder


def test_a_private_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """Somebody else's pull request may bring a link; what we write must not land behind it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / connection.FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReconcilerError, match="is a link"):
        private_folder(tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("env", [{}, {"DASHSCOPE_API_KEY": "made-up"}], ids=["no key", "no service"])
def test_a_wrong_manifest_is_told_alone_whatever_there_is_against_the_service(
    shell: Shell, env: dict[str, str]
) -> None:
    """A plan asks its service while the manifests are checked: what comes of that matters once they are right."""
    shell.change("stack.yaml", "capacity: 4", "capacity: many")
    result = shell("plan", "-f", "stack.yaml", "--endpoint", "http://127.0.0.1:9", env=env)
    assert result.code == 1
    assert "spec.capacity must be a whole number" in result.err
    assert "127.0.0.1" not in result.err
    assert "key" not in result.err
