"""What commands print for programs: whole documents, the same in each form, every member of them on docs/json.md."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any
from xml.etree import ElementTree

import click
import pytest
import yaml
from markdown_it import MarkdownIt

from reconciler.adapters import views
from reconciler.adapters.cli import cli
from reconciler.errors import Position, Problem
from reconciler.findings import Level
from reconciler.recover import Candidate, Finding
from reconciler.render.forge import junit
from reconciler.render.progress import finding_json
from tests.adapters.conftest import REPOSITORY, STACK, Shell
from tests.adapters.test_drift import scale
from tests.adapters.test_state_commands import forget_everything, objects, question, record
from tests.desk import emulator

PAGE = (REPOSITORY / "docs/json.md").read_text(encoding="utf-8")
STREAMS = ("apply", "destroy", "cancel", "retry")
PLANS = ("plan", "show")  # tests/test_render.py holds them to their schema and their page


def spoilt(shell: Shell) -> None:
    shell.write("data/rows.jsonl", json.dumps({"messages": 4}) + "\n")


def asked(shell: Shell) -> None:
    record(shell, question())


def longer(shell: Shell) -> None:
    shell.change("stack.yaml", "n_epochs: 1", "n_epochs: 2")


def undeclared(shell: Shell) -> None:
    forget_everything(shell)
    shell.write("stack.yaml", STACK.partition("---")[0])


def doubted(shell: Shell) -> None:
    assert shell("state", "rm", "HotwordTable/meds", "-y").code == 0
    record(shell, question())


def forgotten(shell: Shell) -> str:
    remote_id = objects(shell)["HotwordTable/meds"]
    assert shell("state", "rm", "HotwordTable/meds", "-y").code == 0
    return remote_id


def paused(shell: Shell) -> None:
    for which in ((), ("Deployment/prod",)):
        assert shell("pause", *which, "--reason", "audit").code == 0


def carried_out(shell: Shell) -> None:
    """A run is bought that lasts long enough for something to be measured, and a budget would not have allowed it."""
    shell.change("stack.yaml", "n_epochs: 1", "n_epochs: 5")
    assert shell("plan", "--out", "plan.json", "--allow", "retrain=FineTuneJob/tuned").code == 0
    assert shell("apply", "plan.json").code == 0
    shell.change("stack.yaml", 'profile: "2026"', 'profile: "2026", budget: {onceCny: 0.001}')


def proposed(shell: Shell) -> None:
    longer(shell)
    assert shell("controller", "run", "--once", "--mode", "plan").code == 0


# Each command with a document, as it is given, in a state of things where it has something to tell. The name of the
# command is what stands before its first argument; what the preparation returns is its last one.
SAMPLES: tuple[tuple[str, str, Callable[[Shell], str | None] | None], ...] = (
    ("status", "", None),
    ("get", "", None),
    ("describe", "FineTuneJob/tuned", longer),
    ("cost", "", None),
    ("discover", "", forget_everything),
    ("discover", "--write taken --marked -y", undeclared),
    ("drift", "", scale),
    ("orphans", "", doubted),
    ("wait", "FineTuneJob/tuned", None),
    ("pause", "", None),
    ("resume", "", paused),
    ("import", "HotwordTable/meds", forgotten),
    ("report", "plan.json", carried_out),
    ("status", "", paused),
    ("describe", "Deployment/prod", paused),
    ("lineage", "FineTuneJob/tuned", None),
    ("graph", "", None),
    ("metrics", "FineTuneJob/tuned", None),
    ("doctor", "", None),
    ("plan", "", longer),
    ("show", "plan.json", lambda shell: print(shell("plan", "--out", "plan.json").err)),
    ("validate", "", None),
    ("validate", "", spoilt),
    ("lint", "", None),
    ("lint", "", spoilt),
    ("state list", "", None),
    ("state show", "FineTuneJob/tuned", None),
    ("state history", "", None),
    ("state mv", "HotwordTable/meds HotwordTable/drugs", None),
    ("state rm", "HotwordTable/meds -y", None),
    ("state rebuild", "-y", forget_everything),
    ("ops list", "--all", asked),
    ("ops show", "op-1", asked),
    ("ops resolve", "op-1 --absent --reason x", asked),
    ("version", "", None),
    ("approve", "", proposed),
    ("controller status", "", proposed),
    ("explain", "", None),
    ("explain", "exit-codes", None),
    ("explain", "switches", None),
    ("explain", "Deployment.limits", None),
    ("explain", "models", None),
    ("explain", "qwen3.5-9b", None),
    ("explain", "paraformer-v2", None),
)
# No two of their documents are equal: times.
MOVED = {"doctor", "drift", "state mv", "state rm", "state rebuild", "ops resolve", "show", "import", "pause", "resume"}
SAMPLED = [pytest.param(*one, id=" ".join([*one[:2], one[2].__name__ if one[2] else ""]).strip()) for one in SAMPLES]


@pytest.fixture
def warned(applied: Shell) -> Shell:
    """A stack that was applied, and that every command which reads its manifests has to warn of."""
    applied.change("stack.yaml", ", lint: {minRows: 30}", "")
    return applied


def in_form(shell: Shell, command: str, arguments: str, form: str) -> Any:
    """The document that is printed, on a copy where nothing was done yet."""
    own = Shell(shell.folder.with_name(form))
    shutil.copytree(shell.folder, own.folder)
    result = own(*command.split(), *arguments.split(), "-o", form)
    assert result.code in (0, 1), result.err
    assert "internal error" not in result.err
    return json.loads(result.out) if form == "json" else yaml.safe_load(result.out)


def members(value: Any, path: str = "") -> Iterator[str]:
    """`objects[].id` and the like."""
    if isinstance(value, dict):
        for name, item in value.items():
            below = f"{path}.{name}" if path else name
            yield below
            yield from members(item, below)
    elif isinstance(value, list):
        for item in value:
            yield from members(item, f"{path}[]")


@dataclass
class Promised:
    """The members that a section of the page names; what is below an open one follows something else."""

    named: set[str] = field(default_factory=lambda: {"format_version"})
    open: set[str] = field(default_factory=set)

    def holds(self, member: str) -> bool:
        return member in self.named or any(member.startswith((f"{one}.", f"{one}[]")) for one in self.open)


@cache
def sections() -> dict[str, str]:
    """Sections by the names in their titles, commands and shapes alike."""
    found: dict[str, str] = {}
    for part in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        found |= dict.fromkeys([*re.findall(r"`([^`]+)`", title), title.lower().replace(" ", "-")], body)
    return found


def promised(section: str, prefix: str = "", into: Promised | None = None) -> Promised:
    told = Promised() if into is None else into
    for line in sections()[section].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        names = re.findall(r"`([^`]+)`", cells[0]) if line.startswith("| `") else [""] if "](#" in line else []
        for name in names:
            place = f"{prefix}{name}"
            told.named |= {place.removesuffix("[]")}
            told.named |= {f"{place}.{word}" for word in re.findall(r"`([^`]+)`", cells[-1])} if name else set()
            told.open |= {place.removesuffix("[]")} if re.search(r"\bopen$", cells[-1]) else set()
            for shape in re.findall(r"\]\(#([\w-]+)\)", cells[-1]):
                promised(shape, f"{place}." if name else prefix, told)
    return told


def undocumented(data: Any, section: str) -> list[str]:
    told = promised(section)
    return [member for member in dict.fromkeys(members(data)) if not told.holds(member)]


def commands(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        elif command:
            yield " ".join((*before, name)), command


FORMATS = {
    name: tuple(option.type.choices)
    for name, command in commands(cli)
    for option in command.params
    if option.name == "output" and isinstance(option.type, click.Choice)
}


def test_every_command_for_programs_has_yaml_a_sample_and_a_section() -> None:
    """A new command with JSON is to be added to SAMPLES and to the page."""
    documents = [name for name, formats in FORMATS.items() if "json" in formats and name not in STREAMS]
    assert len(documents) > 15, "the walk works"
    assert [name for name in documents if "yaml" not in FORMATS[name]] == []
    assert set(documents) == {command for command, _, _ in SAMPLES}
    assert set(documents) - sections().keys() - {*PLANS} == set()


@pytest.mark.parametrize(("command", "arguments", "before"), SAMPLED)
def test_a_document_is_whole_versioned_documented_and_the_same_in_yaml(
    warned: Shell, command: str, arguments: str, before: Callable[[Shell], str | None] | None
) -> None:
    if before:
        arguments = f"{arguments} {before(warned) or ''}"
    data, same = (in_form(warned, command, arguments, form) for form in ("json", "yaml"))
    assert re.fullmatch(r"1\.\d+", data["format_version"])
    assert next(iter(data)) == "format_version"
    assert sorted(set(members(data))) == sorted(set(members(same)))
    assert data == same or command in MOVED
    assert command in PLANS or undocumented(data, command) == []


def test_a_member_that_the_page_does_not_name_is_found() -> None:
    assert undocumented({"ok": True, "problems": [{"what": "x", "at": {"line": 1}}]}, "validate") == []
    assert undocumented({"ok": True, "why": 1, "problems": [{"rule": "x"}]}, "validate") == ["why", "problems[].rule"]
    assert undocumented({"objects": [{"fields": {"a": {"b": 1}}, "colour": 1}]}, "status") == ["objects[].colour"]


def test_the_text_names_every_object_that_the_json_names(applied: Shell) -> None:
    for command, most in (("status", "objects"), ("get", "items"), ("cost", "objects"), ("state list", "objects")):
        listed = json.loads(applied(*command.split(), "-o", "json").out)[most]
        assert listed
        for form in {"text", "markdown"} & {*FORMATS[command]}:
            page = applied(*command.split(), "-o", form).out
            assert [one["id"] for one in listed if one["id"] not in page] == []


# Events -------------------------------------------------------------------------------------------------------------


def test_every_event_is_versioned_and_documented_and_a_silence_is_filled(
    shell: Shell, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that waits must be able to tell a slow service from a dead connection."""
    monkeypatch.setattr(views, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr("reconciler.apply.REST_S_MAX", 0.3)
    with emulator(tmp_path_factory.mktemp("service"), speed=600.0) as service:
        hold = {"operation": "jobs.create", "nth": 1, "hold": {"real_s": 2}}
        service.control("faults", {"faults": [hold]})
        result = shell("apply", "-y", "-o", "json", "--endpoint", service.origin)
    events = [json.loads(line) for line in result.out.splitlines()]
    assert (result.code, result.err) == (0, "")
    assert events[-1]["event"] == "summary"
    assert {event["event"] for event in events} == {"plan", "progress", "heartbeat", "summary"}
    for event in events:
        assert event["format_version"] == "1.0"
        assert undocumented(event, "apply") == []
    beats = [event for event in events if event["event"] == "heartbeat"]
    waiting = [one["address"] for beat in beats for one in beat["waiting_for"]]
    assert "FineTuneJob/tuned" in waiting
    assert [beat["elapsed_s"] for beat in beats] == sorted(beat["elapsed_s"] for beat in beats)


def test_what_became_of_a_lost_answer_is_documented_too() -> None:
    finding = Finding(question(), "looks alike", (Candidate("ft-1", "2026-11-02", "RUNNING", Decimal("1.5"), None),))
    assert undocumented(finding_json(finding), "apply") == []


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("plan --endpoint http://127.0.0.1:9", 1),
        ("status --endpoint http://127.0.0.1:9", 1),
        ("apply -y --endpoint http://127.0.0.1:9", 1),
        ("describe Deployment/prd", 64),
        ("show nothing.json", 1),
        ("cost -f nothing.yaml", 1),
        ("lint Dataset/row", 64),
        ("state show Deployment/prd", 64),
        ("ops show op-7", 64),
    ],
)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_an_error_is_told_in_words_on_stderr_and_stdout_stays_empty(
    shell: Shell, arguments: str, code: int, form: str
) -> None:
    given = arguments.split()
    if form not in FORMATS[given[0] if given[0] not in ("state", "ops") else " ".join(given[:2])]:
        form = "json"
    result = shell(*given, "-o", form)
    assert (result.code, result.out) == (code, "")
    assert result.err
    assert not result.err.lstrip().startswith("{")


# For a forge --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "lint"])
def test_mistakes_for_a_forge(shell: Shell, command: str) -> None:
    """Both forms hold every mistake, under the file that it is in, and end with the exit code of the text."""
    spoilt(shell)
    text, sarif, junit = (shell(command, "-o", form) for form in ("text", "sarif", "junit"))
    assert text.code == sarif.code == junit.code == 1
    results = json.loads(sarif.out)["runs"][0]["results"]
    suites = ElementTree.fromstring(junit.out)
    assert len(suites.findall(".//failure")) == len([one for one in results if one["level"] == "error"]) > 0
    assert suites.get("failures") == str(len(suites.findall(".//failure")))
    assert suites.get("tests") == str(len(suites.findall(".//testcase")))
    rules = json.loads(sarif.out)["runs"][0]["tool"]["driver"]["rules"]
    assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in results)
    assert "data/rows.jsonl" in results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def test_where_nothing_is_wrong_a_forge_sees_cases_that_passed(shell: Shell) -> None:
    suites = ElementTree.fromstring(shell("validate", "-o", "junit").out)
    assert (suites.get("tests"), suites.get("failures")) == ("1", "0")
    assert [case.get("name") for case in suites.iter("testcase")] == ["stack.yaml"]
    assert json.loads(shell("validate", "-o", "sarif").out)["runs"][0]["results"] == []
    assert "warning" not in shell("lint", "-o", "junit").out


def test_a_mistake_in_a_manifest_without_a_rule_of_lint_has_one_that_a_code_view_accepts(shell: Shell) -> None:
    shell.change("stack.yaml", "capacity: 4", "capcity: 4")
    (result,) = json.loads(shell("validate", "-o", "sarif").out)["runs"][0]["results"]
    assert result["ruleId"] == "manifest"
    assert result["locations"][0]["physicalLocation"]["region"]["startLine"] > 1


def test_xml_parses_whatever_a_manifest_holds(empty: Shell) -> None:
    """XML knows no control characters, not even as references."""
    empty.write("evil.yaml", 'kind: "a\\u0000\\u0008\\uffff]]>&<x>\\u202e\\ud83d\\ude00 中文"\n')
    for command, arguments in (("validate", ()), ("lint", ("évil\x01中.jsonl",))):
        if arguments:
            empty.write(arguments[0], '{"messages": [{"role": "\x01\x08"}]}\n')
        result = empty(command, *arguments, "-o", "junit")
        assert result.code == 1
        assert ElementTree.fromstring(result.out).find(".//failure") is not None
    evil = "\x00\x08\x1b\uffff\ud800 ]]>&<x> \U0001f600"
    problem = Problem(evil, Position(evil, 1, 1), evil)
    suites = ElementTree.fromstring(junit("reconciler", {evil: [(Level.ERROR, problem), (Level.WARNING, problem)]}))
    assert (suites.get("tests"), suites.get("failures")) == ("1", "1")


@pytest.mark.parametrize("command", ["plan", "show"])
def test_markdown_shows_names_from_outside_and_obeys_none(shell: Shell, command: str) -> None:
    """What the author of a branch writes must not ping a team, load a picture or hide the rest of a comment."""
    evil = "@team #1 <img src=x> ![p](http://e.example/p.png) ``` | [x](http://e.example)"
    assert shell("plan", "--out", "plan.json").code == 0
    shell.change("stack.yaml", "text: 易瑞沙", f"text: '{evil[:10]}'")
    shell.change("stack.yaml", "metadata: {name: meds}", f"metadata: {{name: meds, description: '{evil}'}}")
    result = shell(command, *(["plan.json"] if command == "show" else []), "-o", "markdown")
    assert result.code == 0, result.err
    tokens = MarkdownIt("commonmark").enable("table").parse(result.out)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert kinds & {"html_block", "html_inline", "link_open", "image", "heading_open"} == set()
    plain = "".join(child.content for token in tokens for child in token.children or () if child.type == "text")
    assert not re.search(r"[@#]\w", plain)
    assert "CNY" in result.out
