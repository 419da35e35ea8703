"""Pages are held to what they name, show and link to: commands, manifests, tests, exit codes, other pages."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import click
import pytest

from reconciler.adapters import operator
from reconciler.adapters.cli import cli
from reconciler.kinds import KINDS
from reconciler.project import load
from reconciler.render.explain import EXIT_CODES
from reconciler.resource import API_VERSION
from tests.command_lines import check, in_markdown
from tests.desk import sft
from tests.walked import Reader, blocks, steps, without_comments

REPOSITORY = Path(__file__).parent.parent
FAILURES = (REPOSITORY / "docs/failures.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", FAILURES)))


@cache
def functions_of(path: str) -> frozenset[str]:
    file = REPOSITORY / path
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_said_to_prove_something_exists(path: str, name: str) -> None:
    assert name in functions_of(path)


def test_every_failure_names_its_proof() -> None:
    rows = [line for line in FAILURES.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 44))
    assert all("`tests/" in row.split("|")[-2] for row in rows)


# What a reader types ------------------------------------------------------------------------------------------------

PAGES = sorted([*REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("README*.md"), REPOSITORY / "manifests/README.md"])
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in zip(NAMES, PAGES, strict=True)}
OF_A_STACK = ["docs/json.md", "docs/operations.md", "docs/plan-json.md", "docs/report.md", "docs/saved-plans.md"]
FROM_NOTHING = ["docs/environments.md"]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_line_of_a_page_is_one(name: str) -> None:
    for arguments in in_markdown(TEXTS[name]):
        check(arguments)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_named_in_a_sentence_exists(name: str) -> None:
    """And so do its options; its arguments may be left out, or stand for others."""
    prose = re.sub(r"^```.*?^```$", "", TEXTS[name], flags=re.M | re.S)
    for call in re.findall(r"`reconciler ([^`]+)`", prose):
        assert unknown(call.split()) == [], call


def unknown(words: Sequence[str]) -> list[str]:
    """Those of the words that are neither commands of ours nor options of them."""
    command: click.Command | None = cli
    for place, word in enumerate(words):
        if not isinstance(command, click.Group) or word in ("COMMAND", "foo"):
            options = {one for option in command.params for one in option.opts} | {"--help"}
            return [one for one in words[place:] if one.startswith("-") and one.partition("=")[0] not in options]
        command = command.get_command(click.Context(command), word)
        if command is None:
            return [word]
    return []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small stack that was applied."""
    reader = Reader(tmp_path_factory.mktemp("applied") / "reader")
    assert [
        text for text in (reader.give("reconciler init"), reader.give("reconciler apply -y")) if "[exit " in text
    ] == []
    return reader.folder


@pytest.mark.parametrize("name", OF_A_STACK)
def test_a_page_about_a_stack_is_as_its_reader_finds_it(name: str, stack: Path, tmp_path: Path) -> None:
    shutil.copytree(stack, tmp_path / "reader")
    Reader(tmp_path / "reader").checks(TEXTS[name])


@pytest.mark.parametrize("name", FROM_NOTHING)
def test_a_page_is_as_its_reader_finds_it(name: str, tmp_path: Path) -> None:
    Reader(tmp_path / "reader").checks(TEXTS[name])


def test_the_readme_is_as_a_newcomer_finds_it(tmp_path: Path) -> None:
    """The first command, then the samples' own page, and the plan that the README shows."""
    reader = Reader(tmp_path / "clone", width=125)
    shutil.copytree(REPOSITORY / "manifests", reader.folder / "manifests", ignore=shutil.ignore_patterns(".reconciler"))
    first = next(in_markdown(TEXTS["README.md"]))
    assert reader.give(f"reconciler {shlex.join(first)}").endswith("applied: 10 ready\nemulator: nothing was bought\n")
    reader.checks(TEXTS["manifests/README.md"])
    reader.checks(TEXTS["README.md"])


def test_every_page_with_a_prompt_is_walked() -> None:
    prompted = {name for name, text in TEXTS.items() if any(step.command for step in steps(text))}
    elsewhere = {"README.md", "README.zh.md", "manifests/README.md", "docs/guide.md", "docs/guide.zh.md"}
    assert prompted == {*OF_A_STACK, *FROM_NOTHING, *elsewhere}


# What a reader copies -----------------------------------------------------------------------------------------------

YAML = [
    (f"{name}:{TEXTS[name].count(chr(10), 0, found.start()) + 1}", found[1])
    for name in NAMES
    for found in re.finditer(r"^```yaml\n(.*?)^```$", TEXTS[name], re.M | re.S)
]
FRAGMENT = re.compile(r"# of (?:a|the) (\w+)\n")
WHOLE = [(place, text) for place, text in YAML if not FRAGMENT.match(text) and API_VERSION in text]
FRAGMENTS = [(place, text) for place, text in YAML if FRAGMENT.match(text)]
BESIDE = {  # what a page may refer to
    "Dataset/support-sft": "{source: data/support/*.jsonl, format: sft}",
    "FineTuneJob/support": "{model: qwen3.5-9b, trainingType: efficient_sft, training: [support-sft],"
    " hyperParameters: {n_epochs: 1, batch_size: 16, max_length: 2048}}",
    "Stack/support": "{endpoint: emulator}",
}


def document(address: str, spec: str) -> str:
    kind, _, name = address.partition("/")
    return f"apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def loaded(folder: Path, manifests: Mapping[str, str], environment: str = "") -> set[str]:
    """The addresses of what these files declare, beside data."""
    rows = "".join(json.dumps(sft(f"question {n}")) + "\n" for n in range(1_000))
    data = dict.fromkeys(("data/support/rows.jsonl", "data/assistant.jsonl"), rows)
    for name, text in {**data, **manifests}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    project = load([str(folder)], environment=environment)
    declared = (*project.documents, *project.removed.values(), project.stack)
    return {document.address for document in declared if document}


@pytest.mark.parametrize(("place", "text"), WHOLE)
def test_a_manifest_of_a_page_loads(place: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, beside what it refers to."""
    told = {f"{kind}/{name}" for kind, name in re.findall(r"^kind: (\w+)\nmetadata:\s+\{?name: ([\w-]+)", text, re.M)}
    if told == {"Operator/ci"}:
        (tmp_path / "operator.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setenv(operator.VARIABLE, str(tmp_path / "operator.yaml"))
        assert operator.budget(tmp_path / "project")
        return
    kinds = {address.partition("/")[0] for address in told}
    missing = {one: spec for one, spec in BESIDE.items() if one not in told and one not in text}
    beside = [
        document(one, spec) for one, spec in missing.items() if not (one.startswith("Stack/") and "Stack" in kinds)
    ]
    assert told <= loaded(tmp_path, {"page.yaml": text, "beside.yaml": "---\n".join(beside)})
    assert told, place


@pytest.mark.parametrize(("place", "text"), FRAGMENTS)
def test_a_fragment_of_a_page_fits_what_it_says_it_is_of(place: str, text: str, tmp_path: Path) -> None:
    fragment = FRAGMENT.match(text)
    assert fragment
    (address,) = (one for one in BESIDE if one.startswith(f"{fragment[1]}/"))
    files = {f"{one.replace('/', '-')}.yaml": document(one, spec) for one, spec in BESIDE.items()}
    overlay = f"kind: {fragment[1]}\nmetadata: {{name: {address.partition('/')[2]}}}\n{text}"
    assert address in loaded(tmp_path, {**files, "envs/page/page.yaml": overlay}, "page"), place


def test_what_is_neither_says_where_it_belongs() -> None:
    """An overlay, or the configuration of another program."""
    rest = [text for place, text in YAML if (place, text) not in (*WHOLE, *FRAGMENTS)]
    assert [text for text in rest if not text.startswith(("# envs/", "repos:", "groups:"))] == []


# What a reader looks for --------------------------------------------------------------------------------------------

MADE = ("docs/commands.md", "docs/reference.md")
PROSE = "\n".join(text for name, text in TEXTS.items() if name not in MADE)


def commands(group: click.Group, above: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{above}{name}"
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


@pytest.mark.parametrize("name", [*commands(cli)])
def test_a_command_is_told_of_beside_its_reference(name: str) -> None:
    assert re.search(rf"(?:reconciler |`|‘){name}\b", PROSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_told_of_beside_its_reference(kind: str) -> None:
    assert re.search(rf"\b{kind}\b", PROSE)


def test_every_exit_code_says_what_to_do() -> None:
    rows = re.findall(r"^\| (\d+) \| \S.*? \| \S.*? \|$", TEXTS["docs/operations.md"], re.M)
    assert [int(code) for code in rows] == [*EXIT_CODES]


def test_every_module_is_one_guess_away() -> None:
    page = TEXTS["docs/architecture.md"]
    here = REPOSITORY / "reconciler"
    files = [path.relative_to(here) for folder in (here, here / "adapters") for path in folder.glob("*.py")]
    assert [str(file) for file in files if not file.stem.startswith("__") and f"`{file}`" not in page] == []
    folders = [path.name for path in here.iterdir() if (path / "__init__.py").exists()]
    assert [name for name in folders if f"`{name}/" not in page] == []


# Where a reader goes ------------------------------------------------------------------------------------------------


def links(name: str) -> Iterator[tuple[str, str]]:
    """File, by its path in the repository, and anchor of each link that stays in the repository."""
    text = re.sub(r"^```.*?^```$", "", TEXTS[name], flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            here = REPOSITORY / name
            yield os.path.relpath((here.parent / path if path else here).resolve(), REPOSITORY), anchor


def anchors(name: str) -> set[str]:
    """As forges make them from headings."""
    text = re.sub(r"^```.*?^```$", "", TEXTS[name], flags=re.M | re.S)
    headings = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ (.*)$", text, re.M)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_a_link_leads_somewhere(name: str) -> None:
    for target, anchor in links(name):
        assert (REPOSITORY / target).exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


@pytest.mark.parametrize("start", ["README.md", "README.zh.md"])
def test_every_page_is_found_from_the_readme(start: str) -> None:
    found, new = set[str](), {start}
    while new:
        found |= new
        new = {target for name in new for target, _ in links(name) if target in TEXTS} - found
    assert set(NAMES) - found == set()
    direct = {target for target, _ in links(start)}
    assert [name for name in NAMES if re.fullmatch(r"docs/[\w-]+\.md", name) and name not in direct] in (
        [],
        ["docs/guide.md"],
    )


def test_both_readmes_say_the_same() -> None:
    """What is typed and shown, and where to look."""
    ours, theirs = TEXTS["README.md"], TEXTS["README.zh.md"]
    assert [*map(without_comments, blocks(theirs))] == [*map(without_comments, blocks(ours))]
    named = [
        [re.sub(r"\.zh\.md$", ".md", target) for target, _ in links(name)][1:] for name in ("README.md", "README.zh.md")
    ]
    assert named[0] == named[1]
    assert ours.count("\n## ") == theirs.count("\n## ")
