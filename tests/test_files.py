"""Only what lies inside the root, and is an ordinary file of a bounded size, is ever opened."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler import files
from reconciler.files import (
    MAX_DEPTH,
    MAX_ENTRIES,
    FileMissing,
    FileRefused,
    Tree,
    find_manifests,
    noting,
    still_look,
)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data" / "a.jsonl").write_bytes(b"inside\n")
    (tmp_path / "secret").write_text("outside")
    return Tree(root)


def test_a_file_below_the_root_is_opened(tree: Tree) -> None:
    with tree.open("data/a.jsonl", limit_bytes=100) as file:
        assert file.read() == b"inside\n"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../secret",
        "data/../../secret",
        "data/..",
        "~/x",
        "~root",
        "C:/x",
        "c:x",
        r"data\a.jsonl",
        "data//a.jsonl",
        "./data/a.jsonl",
        "data/",
        "data/a.jsonl\0",
        "data/\u202ea",
        "file:///etc/passwd",
        "https://example.com/a",
        "/".join("d" * (MAX_DEPTH + 1)),
        "x" * 2000,
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused_before_anything_is_opened(tree: Tree, path: str) -> None:
    for use in (lambda: tree.open(path, limit_bytes=100), lambda: tree.glob(path)):
        with pytest.raises(FileRefused) as refused:
            use()
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("target", ["../../secret", "a.jsonl", "nowhere"])
def test_a_link_is_refused_wherever_it_leads(tree: Tree, target: str) -> None:
    (tree.root / "data" / "link").symlink_to(target)
    with pytest.raises(FileRefused, match="link"):
        tree.open("data/link", limit_bytes=100)


def test_a_link_on_the_way_is_refused_too(tree: Tree) -> None:
    (tree.root / "way").symlink_to("data")
    with pytest.raises(FileRefused, match="link"):
        tree.open("way/a.jsonl", limit_bytes=100)


def test_what_is_not_a_regular_file_is_refused_without_waiting_for_it(tree: Tree) -> None:
    os.mkfifo(tree.root / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tree.root)  # the name of a socket is limited in length
    listener.bind("socket")
    os.chdir(here)
    for name in ("pipe", "socket", "data"):
        with pytest.raises(FileRefused):
            tree.open(name, limit_bytes=100)
    listener.close()


def test_the_limit_holds_when_a_file_is_opened_and_while_it_is_read(tree: Tree) -> None:
    assert tree.read("data/a.jsonl", limit_bytes=7) == b"inside\n"
    with pytest.raises(FileRefused, match="too big: 7 bytes"):
        tree.open("data/a.jsonl", limit_bytes=6)


def test_a_missing_file_is_told_apart_so_that_a_near_name_can_be_suggested(tree: Tree) -> None:
    with pytest.raises(FileMissing):
        tree.open("data/b.jsonl", limit_bytes=100)
    with pytest.raises(FileMissing):
        tree.open("nowhere/b.jsonl", limit_bytes=100)


def test_no_refusal_leaves_a_descriptor_open(tree: Tree) -> None:
    (tree.root / "link").symlink_to("data")
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        for path in ("link/a", "data", "data/none", "data/a.jsonl/x"):
            with pytest.raises(FileRefused):
                tree.open(path, limit_bytes=1)
        tree.glob("**")
    assert len(os.listdir("/dev/fd")) == before


@pytest.fixture
def wide(tmp_path: Path) -> Tree:
    for name in (
        "a.jsonl",
        "b.jsonl",
        "a.txt",
        "x/a.jsonl",
        "x/y/a.jsonl",
        "x/y/.hidden.jsonl",
        ".git/a.jsonl",
        "[a].jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*.jsonl", ["[a].jsonl", "a.jsonl", "b.jsonl"]),
        ("?.jsonl", ["a.jsonl", "b.jsonl"]),
        ("[a].jsonl", ["[a].jsonl"]),
        ("*/a.jsonl", ["x/a.jsonl"]),
        ("**/a.jsonl", ["a.jsonl", "x/a.jsonl", "x/y/a.jsonl"]),
        ("x/**/a.jsonl", ["x/a.jsonl", "x/y/a.jsonl"]),
        ("x/**", ["x/a.jsonl", "x/y/a.jsonl"]),
        ("**/y/*", ["x/y/a.jsonl"]),
        (".git/*", [".git/a.jsonl"]),
        ("x/y/.*", ["x/y/.hidden.jsonl"]),
        ("x", []),
        ("none/*", []),
    ],
)
def test_patterns_match_as_in_a_shell_but_never_what_is_hidden(wide: Tree, pattern: str, paths: list[str]) -> None:
    assert list(wide.glob(pattern)) == paths


def test_two_stars_inside_a_name_are_refused_because_shells_disagree_on_them(wide: Tree) -> None:
    with pytest.raises(FileRefused, match="stands alone"):
        wide.glob("a**.jsonl")


def test_a_pattern_of_many_stars_takes_no_exponential_time(tmp_path: Path) -> None:
    (tmp_path / ("a" * 250)).touch()
    assert Tree(tmp_path).glob("*a" * 40 + "b") == ()


def test_links_to_folders_are_not_walked_but_links_to_files_are_named(wide: Tree) -> None:
    """A loop of folders would never end; a link left out silently would be data left out silently."""
    (wide.root / "loop").symlink_to(".")
    (wide.root / "c.jsonl").symlink_to("a.jsonl")
    assert "c.jsonl" in wide.glob("*.jsonl")
    assert wide.glob("loop/*.jsonl") == ()


def test_a_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a folder of ten thousand manifests, and what lies beside them, is no unbounded one."""
    assert MAX_ENTRIES >= 20_000
    monkeypatch.setattr(files, "MAX_ENTRIES", 100)
    for number in range(101):
        os.mknod(tmp_path / str(number))
    with pytest.raises(FileRefused, match="more than 100 files"):
        Tree(tmp_path).glob("*.jsonl")


def test_manifests_are_found_in_all_folders_but_hidden_ones_and_overlays(tmp_path: Path) -> None:
    for name in (
        "a.yaml",
        "b.yml",
        "c.json",
        ".d.yaml",
        "sub/e.yaml",
        ".git/f.yaml",
        "envs/prod/g.yaml",
        "sub/envs/h.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [found.relative for found in find_manifests(str(tmp_path))] == ["a.yaml", "b.yml", "sub/e.yaml"]


def test_a_path_is_displayed_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").touch()
    monkeypatch.chdir(tmp_path)
    for given, display in (
        ("sub", "sub/a.yaml"),
        (".", "sub/a.yaml"),
        ("sub/a.yaml", "sub/a.yaml"),
        ("../" + tmp_path.name, f"../{tmp_path.name}/sub/a.yaml"),
    ):
        assert [found.display for found in find_manifests(given)] == [display]


def test_a_named_file_may_have_any_suffix_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest").touch()
    assert len(find_manifests(str(tmp_path / "manifest"))) == 1
    with pytest.raises(FileMissing):
        find_manifests(str(tmp_path / "none.yaml"))


# Writing ------------------------------------------------------------------------------------------------------------


def test_a_new_file_is_written_with_its_folders_and_for_its_owner_alone(tree: Tree) -> None:
    tree.create("new/deep/b.jsonl", [b"one\n", b"two\n"])
    assert tree.read("new/deep/b.jsonl", limit_bytes=100) == b"one\ntwo\n"
    assert (tree.root / "new/deep/b.jsonl").stat().st_mode & 0o777 == 0o600
    tree.remove("new/deep/b.jsonl")
    tree.remove("new/deep/b.jsonl")
    tree.remove("never/was.jsonl")
    assert not (tree.root / "new/deep/b.jsonl").exists()


@pytest.mark.parametrize("path", ["data/a.jsonl", "data", "link/x", "data/a.jsonl/x", "../x", "dangling"])
def test_nothing_is_written_over_or_elsewhere(tree: Tree, tmp_path: Path, path: str) -> None:
    (tree.root / "link").symlink_to(tmp_path)
    (tree.root / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileRefused):
        tree.create(path, [b"x"])
    assert sorted(tmp_path.rglob("*")) == before
    assert (tree.root / "data/a.jsonl").read_bytes() == b"inside\n"


def test_of_what_does_not_come_to_its_end_nothing_is_left(tree: Tree) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise FileRefused("x", "is not whole")

    with pytest.raises(FileRefused, match="is not whole"):
        tree.create("data/b.jsonl", broken())
    assert not (tree.root / "data/b.jsonl").exists()


def test_overlays_of_an_environment_are_found_but_never_hidden_ones(tmp_path: Path) -> None:
    assert Tree(tmp_path).environments() == ()
    for name in (
        "prod/b.yaml",
        "prod/.c.yaml",
        "prod/a/b.yml",
        "prod/readme.md",
        "test/x.yaml",
        ".git/x.yaml",
        "y.yaml",
    ):
        (tmp_path / "envs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "envs" / name).touch()
    assert Tree(tmp_path).environments() == ("prod", "test")
    assert Tree(tmp_path).overlays("prod") == ("envs/prod/a/b.yml", "envs/prod/b.yaml")


# How all that was read looked ----------------------------------------------------------------------------------------


def _touched(root: Path) -> None:
    os.utime(root / "data/a.jsonl", ns=(0, 0))


def _replaced(root: Path) -> None:
    (root / "new").write_bytes(b"inside\n")
    (root / "new").rename(root / "data/a.jsonl")


def _linked(root: Path) -> None:
    (root / "data").rename(root / "elsewhere")
    (root / "data").symlink_to("elsewhere")


def _root_replaced(root: Path) -> None:
    root.rename(root.with_name("away"))
    root.mkdir()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "data/a.jsonl").write_bytes(b"insidE\n"),
        lambda root: (root / "data/b.jsonl").touch(),
        lambda root: (root / "b.yaml").touch(),
        lambda root: (root / "data/a.jsonl").unlink(),
        _touched,
        _replaced,
        _linked,
        _root_replaced,
    ],
)
def test_whatever_could_be_read_otherwise_looks_otherwise(tree: Tree, change: Callable[[Path], object]) -> None:
    for path in (tree.root, tree.root / "data", tree.root / "data/a.jsonl"):
        os.utime(path, ns=(10**9, 10**9))
    with noting() as stamps:
        for name in tree.glob("data/*"):
            tree.read(name, limit_bytes=100)
        tree.manifests()
    assert still_look(stamps)
    change(tree.root)
    assert not still_look(stamps)


def test_only_what_is_read_is_noted_and_only_while_somebody_asks(tree: Tree) -> None:
    (tree.root / "other").mkdir()
    with noting() as stamps:
        tree.read("data/a.jsonl", limit_bytes=100)
    tree.glob("other/*")
    below = str(tree.root)
    assert sorted(path.removeprefix(below) for path in stamps) == ["/", "/data/", "/data/a.jsonl"]
