"""Where stacks come from: folders, and real Git repositories, some of them hostile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler import source
from reconciler.errors import ManifestError, SourceError, UsageError
from reconciler.files import FileRefused
from reconciler.project import load
from reconciler.source import Folder, Git, is_git, shown_url, split, stacks
from tests.remote import Remote


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return Remote(tmp_path / "git")


def contents(git: Git, revision: str = "") -> dict[str, str]:
    """Every file of a checkout."""
    with git.checkout(revision, age_s=0) as checkout:
        root = checkout.root
        return {str(path.relative_to(root)): path.read_bytes().decode() for path in root.rglob("*") if path.is_file()}


def left(git: Git) -> set[str]:
    return {path.name for path in git.folder.iterdir()}


# Folders ------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    """An unmounted disk must not read as everything removed."""
    with pytest.raises(SourceError), Folder(tmp_path / "gone").checkout():
        pass


@pytest.fixture
def teams(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("a", "b", "b/envs/prod", "b/envs/test", "c/envs/prod", "c", ".hidden", "no-manifest"):
        (root / "teams" / name).mkdir(parents=True, exist_ok=True)
        if name != "no-manifest":
            (root / "teams" / name / "stack.yaml").write_text("")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "stack.yml").write_text("")
    (root / "teams" / "linked").symlink_to(outside)
    (root / "stack.yml").write_text("")
    return root


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (".", ["."]),
        ("teams/*", ["teams/a", "teams/b", "teams/c"]),
        ("teams/*/", ["teams/a", "teams/b", "teams/c"]),
        ("teams/a", ["teams/a"]),
        ("teams/linked", []),
        ("teams/.hidden", []),
        ("teams/b/envs/*", []),
        ("teams", []),
        ("**", [".", "teams/a", "teams/b", "teams/c"]),
    ],
)
def test_a_pattern_means_folders_with_manifests_below_the_root(teams: Path, pattern: str, found: list[str]) -> None:
    assert list(stacks(teams, [pattern])) == found


@pytest.mark.parametrize("pattern", ["../outside", "/etc", "teams/../..", "~", "a\nb", ""])
def test_a_pattern_never_leads_out_of_the_root(teams: Path, pattern: str) -> None:
    with pytest.raises(FileRefused):
        stacks(teams, [pattern])


def test_a_stack_is_in_each_of_the_environments_that_it_has(teams: Path) -> None:
    assert list(stacks(teams, ["teams/*"], ["prod", "test"])) == ["teams/b@prod", "teams/b@test", "teams/c@prod"]
    assert split("teams/b@prod", by_environment=True) == ("teams/b", "prod")
    assert split("odd@name", by_environment=False) == ("odd@name", "")


# Git ----------------------------------------------------------------------------------------------------------------


def test_a_checkout_is_what_was_committed_under_the_name_of_the_commit(remote: Remote) -> None:
    commit = remote.push(a__stack="one", b="zwei\r\n中文")
    git = remote.source()
    with git.checkout() as checkout:
        assert (checkout.revision, checkout.root.stat().st_mode & 0o777) == (commit, 0o700)
    assert contents(git) == {"a/stack": "one", "b": "zwei\r\n中文"}, "and no .git"
    assert left(git) == {commit}


def test_a_new_commit_supersedes_and_an_old_one_can_still_be_had(remote: Remote) -> None:
    first = remote.push(f="1")
    git = remote.source()
    assert contents(git) == {"f": "1"}
    remote.push(f="2")
    assert contents(git) == {"f": "2"}
    assert contents(git, first) == {"f": "1"}


def test_what_is_known_of_the_newest_may_be_as_old_as_its_user_takes(remote: Remote) -> None:
    """Names are asked for each second, and the repository is not."""
    now = [0.0]
    git = remote.source(clock=lambda: now[0])
    remote.push(f="1")
    contents(git)
    second = remote.push(f="2")
    now[0] = 50.0
    with git.checkout(age_s=60) as checkout:
        assert checkout.revision != second
    with git.checkout() as checkout:
        assert checkout.revision == second


def test_a_forced_push_is_a_push(remote: Remote) -> None:
    first = remote.push(f="1")
    remote.push(f="2")
    git = remote.source()
    contents(git)
    remote.git("reset", "--quiet", "--hard", first)
    remote.write("f", "3")
    third = remote.pushed("--force")
    with git.checkout(age_s=0) as checkout:
        assert checkout.revision == third


def test_a_commit_is_fetched_once(remote: Remote) -> None:
    commit = remote.push(f="1")
    git = remote.source()
    with git.checkout() as checkout:
        made = checkout.root.stat().st_ino
    with remote.source().checkout(commit) as checkout:
        assert checkout.root.stat().st_ino == made


def test_only_the_newest_and_what_stacks_rest_on_is_kept(remote: Remote) -> None:
    first, git = remote.push(f="1"), remote.source()
    contents(git)
    second = remote.push(f="2")
    git = remote.source(in_force=lambda: {first})
    contents(git)
    third = remote.push(f="3")
    contents(git)
    assert left(git) == {first, third} != second
    (git.folder / "new-killed").mkdir()
    remote.push(f="4")
    contents(git)
    assert len(left(git)) == 2


def test_a_checkout_that_somebody_uses_stays_whole(remote: Remote) -> None:
    """Half a dataset reads as another one, which somebody would be asked to pay for."""
    remote.push(f="1")
    git = remote.source()
    with git.checkout() as first:
        remote.push(f="2")
        contents(remote.source())
        assert (first.root / "f").read_text() == "1"
    remote.push(f="3")
    contents(remote.source())
    assert first.revision not in left(git)


def test_many_hands_share_one_checkout(remote: Remote) -> None:
    commit = remote.push(**{f"f{number}": "x" for number in range(50)})
    git = remote.source()
    start = threading.Barrier(6)

    def look(_: int) -> int:
        start.wait()
        return len(contents(git))

    with ThreadPoolExecutor(6) as hands:
        assert set(hands.map(look, range(6))) == {50}
    assert left(git) == {commit}


# What is wrong with it ----------------------------------------------------------------------------------------------


def broken(git: Git) -> str:
    """What is said instead of a checkout."""
    with pytest.raises(SourceError) as caught, git.checkout(age_s=0):
        pass
    assert not [name for name in left(git) if name.startswith("new-")]
    return f"{caught.value} {caught.value.hint}"


def test_a_repository_without_a_commit_is_no_empty_one(remote: Remote) -> None:
    assert "has no commit" in broken(remote.source())


def test_an_unknown_branch_is_said(remote: Remote) -> None:
    remote.push(f="1")
    assert "has no branch 'nope'" in broken(remote.source(branch="nope"))


def test_a_branch_is_that_of_exactly_this_name(remote: Remote) -> None:
    """ls-remote takes a name for the end of one."""
    remote.push(f="1")
    remote.git("push", "--quiet", "origin", "HEAD:refs/heads/x/refs/heads/main2")
    assert "has no branch" in broken(remote.source(branch="main2"))


def test_what_cannot_be_reached_is_said_and_asked_again_after_a_while(remote: Remote) -> None:
    remote.push(f="1")
    now = [0.0]
    git = remote.source(clock=lambda: now[0])
    remote.bare.rename(remote.folder / "away")
    assert "cannot be read" in broken(git)
    (remote.folder / "away").rename(remote.bare)
    now[0] = 20.0
    assert "cannot be read" in broken(git), "a hundred stacks need not find out one after another"
    now[0] = 31.0
    assert contents(git) == {"f": "1"}


def test_a_commit_that_is_no_longer_served_is_said(remote: Remote) -> None:
    remote.push(f="1")
    with pytest.raises(SourceError), remote.source().checkout("0" * 40):
        pass


def test_a_revision_is_a_commit(remote: Remote) -> None:
    with pytest.raises(SourceError), remote.source().checkout("../../etc"):
        pass


@pytest.mark.parametrize(
    "limits", [{"files_max": 3}, {"bytes_max": 1000}, {"bytes_max": 300_000}], ids=["files", "bytes", "while it grows"]
)
def test_a_repository_that_is_too_big_is_left_alone(remote: Remote, limits: dict[str, int]) -> None:
    remote.push(**{f"f{number}": os.urandom(100_000) for number in range(4)})
    assert "is too big" in broken(remote.source(**limits))


def test_a_small_pack_may_hold_a_huge_file(remote: Remote) -> None:
    """Sizes are known before anything is written."""
    remote.push(f=b"\0" * 20_000_000)
    git = remote.source(bytes_max=10_000_000)
    assert "20,000,000 bytes" in broken(git)


def test_git_that_does_not_end_is_ended_with_all_it_started(
    remote: Remote, tmp_path: Path, script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_ASK_WITHIN_S", 1.0)
    script(f"echo $$ > {tmp_path}/pid; exec sleep 300")
    assert "gave no answer within" in broken(remote.source(url="ssh://host/x"))
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_controller_that_is_to_end_does_not_wait_for_git(
    remote: Remote, tmp_path: Path, script: Callable[[str], None]
) -> None:
    script(f"echo $$ > {tmp_path}/pid; exec sleep 300")
    git = remote.source(url="ssh://host/x", stopped=(tmp_path / "pid").exists)
    assert "stopped" in broken(git)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What git runs in place of ssh."""

    def write(text: str) -> None:
        path = tmp_path / "ssh"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        monkeypatch.setenv("GIT_SSH_COMMAND", str(path))

    return write


def gone(pid: int) -> bool:
    """Whether a process ends; one that nobody has waited for yet counts. A busy machine takes its time to end one."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_git_knows_the_users_access_and_none_of_our_secrets(
    remote: Remote, tmp_path: Path, script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DASHSCOPE_API_KEY", "RECONCILER_STATE_DSN", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret-word")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    script(f"env > {tmp_path}/env; exit 1")
    broken(remote.source(url="git@host:team/stacks.git"))
    told = (tmp_path / "env").read_text()
    assert "secret-word" not in told
    assert {"SSH_AUTH_SOCK=/run/agent", "GIT_TERMINAL_PROMPT=0"} <= set(told.splitlines())


def test_a_password_is_never_shown(remote: Remote) -> None:
    said = broken(remote.source(url="https://ada:hunter2@127.0.0.1:1/x.git"))
    assert "127.0.0.1:1/x.git" in said
    assert "hunter2" not in said
    assert "ada" not in said
    assert shown_url("ssh://git@host/x") == "ssh://git@host/x"


# Hostile repositories -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh%20-c%20touch%20x",
        "--upload-pack=touch x",
        "--upload-pack=x",
        "-oProxyCommand=x:y",
        "ssh://-oProxyCommand=x/y",
        "http://example.com/x",
        "git://example.com/x",
        "fd::3",
        "https://",
        "https://a b/",
        "https://host/\x1b[0m",
        "host:-x",
        "x",
    ],
)
def test_a_url_that_git_could_take_for_more_than_one_never_reaches_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError):
        Git(url, "", tmp_path)


@pytest.mark.parametrize(
    "branch", ["--upload-pack=x", "-x", "a..b", "a b", "a\x00b", "x:y", "refs/*", "@{-1}", "a.lock", "/a", "a/", "@"]
)
def test_a_branch_that_git_could_take_for_more_than_one_never_reaches_it(tmp_path: Path, branch: str) -> None:
    with pytest.raises(UsageError):
        Git("https://host/x", branch, tmp_path)


@pytest.mark.parametrize("branch", ["main", "feature/x-1", "a@b", "发布"])
def test_a_branch_may_be_called_what_git_lets_it(tmp_path: Path, branch: str) -> None:
    assert Git("https://host/x", branch, tmp_path).branch == branch


def test_what_is_a_folder_and_what_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name").mkdir()
    assert [is_git(one) for one in (".", "teams/a", "/srv/x", "odd:name")] == [False] * 4
    assert all(map(is_git, ("https://h/x", "git@h:x", "file:///x", "ext::x")))


def test_no_program_that_a_repository_or_a_template_names_is_run(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks, filters, fsmonitor: everything that git itself would run where somebody's settings and files say so."""
    ran = tmp_path / "ran"
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("reference-transaction", "post-checkout", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (hooks / name).chmod(0o700)
    config = tmp_path / "config"
    config.write_text(
        f'[filter "evil"]\n\tsmudge = touch {ran}\n\tprocess = touch {ran}\n\trequired = true\n'
        f"[init]\n\ttemplateDir = {tmp_path}/template\n[core]\n\thooksPath = {hooks}\n\tfsmonitor = touch {ran}\n"
        f'[protocol "ext"]\n\tallow = always\n'
    )
    remote.push(
        **{".gitattributes": "* filter=evil ident text eol=crlf export-subst\nsecret export-ignore\n"},
        f="$Id$\n$Format:%H$\n",
        secret="x",
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    assert contents(remote.source())["f"] == "$Id$\n$Format:%H$\n", "as committed, byte for byte"
    assert not ran.exists()


def test_settings_that_lead_to_another_protocol_lead_nowhere(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f'[url "ext::sh -c touch% {tmp_path}/ran "]\n\tinsteadOf = https://host/\n[protocol "ext"]\n\tallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    assert "not allowed" in broken(remote.source(url="https://host/x"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("named", [False, True], ids=["around", "named"])
def test_another_repository_does_not_count(remote: Remote, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around the controller's folder, or of whatever started it: its settings would send us elsewhere."""
    remote.push(f="1")
    remote.git("init", "--quiet", ".", where=remote.folder)
    (remote.folder / ".git" / "config").write_text('[url "file:///nowhere"]\n\tinsteadOf = "file://"\n')
    if named:
        monkeypatch.setenv("GIT_DIR", str(remote.folder / ".git"))
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")
    assert contents(remote.source()) == {"f": "1"}


def test_a_submodule_is_left_out(remote: Remote) -> None:
    other = Remote(remote.folder / "other")
    other.push(inside="x")
    remote.git("submodule", "--quiet", "add", other.url, "sub")
    remote.push(f="1")
    assert set(contents(remote.source())) == {".gitmodules", "f"}


def test_a_link_leads_nowhere_and_is_named(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    (remote.work / "s").mkdir()
    (remote.work / "s" / "rows.jsonl").symlink_to(tmp_path / "rows.jsonl")
    (remote.work / "t").symlink_to("s")
    remote.declare("s", {"apiVersion": "bailian.reconciler/v1alpha1", "kind": "Dataset", "metadata": {"name": "d"},
                         "spec": {"source": "rows.jsonl", "format": "sft"}})  # fmt: skip
    with remote.source().checkout() as checkout:
        assert not (checkout.root / "s" / "rows.jsonl").exists()
        assert stacks(checkout.root, ["*"]) == ("s",)
        with pytest.raises(ManifestError, match="1 problem") as caught:
            load([str(checkout.root / "s")])
    assert "links are not followed" in str(caught.value.problems[0])


def test_a_pointer_of_lfs_is_named_as_one(remote: Remote) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
    remote.push(**{".gitattributes": "*.jsonl filter=lfs\n", "s__rows.jsonl": pointer})
    remote.declare("s", {"apiVersion": "bailian.reconciler/v1alpha1", "kind": "Dataset", "metadata": {"name": "d"},
                         "spec": {"source": "rows.jsonl", "format": "sft"}})  # fmt: skip
    with remote.source().checkout() as checkout, pytest.raises(ManifestError) as caught:
        load([str(checkout.root / "s")])
    assert "a pointer of Git LFS" in str(caught.value.problems[0])


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT"])
def test_a_tree_made_by_hand_never_leads_out_of_the_checkout(remote: Remote, name: bytes) -> None:
    """No git would commit these, and a server may send them."""
    remote.push(f="1")
    blob = bytes.fromhex(remote.git("hash-object", "-w", "--stdin", stdin=b"x", where=remote.bare))
    inner = _tree(remote, b"100644 escaped\0" + blob)
    _point(remote, _tree(remote, b"40000 " + name + b"\0" + bytes.fromhex(inner)))
    git = remote.source()
    assert "a path that no file may have" in broken(git)
    assert not list(remote.folder.rglob("escaped"))


def test_a_link_is_no_way_to_write_elsewhere(remote: Remote, tmp_path: Path) -> None:
    """A tree may hold a link and a folder of one name: what lies in the one must not follow the other."""
    (tmp_path / "target").mkdir()
    link = bytes.fromhex(
        remote.git("hash-object", "-w", "--stdin", stdin=str(tmp_path / "target").encode(), where=remote.bare)
    )
    blob = bytes.fromhex(remote.git("hash-object", "-w", "--stdin", stdin=b"x", where=remote.bare))
    inner = bytes.fromhex(_tree(remote, b"100644 written\0" + blob))
    _point(remote, _tree(remote, b"120000 a\0" + link + b"40000 a\0" + inner))
    broken(remote.source())
    assert not list((tmp_path / "target").iterdir())


def _tree(remote: Remote, entries: bytes) -> str:
    return remote.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=entries, where=remote.bare)


def _point(remote: Remote, tree: str) -> None:
    commit = remote.git("commit-tree", tree, "-m", "by hand", where=remote.bare)
    remote.git("update-ref", "refs/heads/main", commit, where=remote.bare)
