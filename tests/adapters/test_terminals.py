"""Terminals of every kind: narrow, dumb, without colour, without Unicode; closed pipes; names in East Asian script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import yaml

from reconciler.render.words import columns
from tests.adapters.conftest import STACK, Shell, declare
from tests.adapters.test_cli import on_a_terminal

READING = (
    "plan", "status", "get", "cost", "discover", "drift", "orphans", "wait", "graph", "lint", "validate",
    "doctor", "state list", "state history", "ops list --all", "describe FineTuneJob/tuned", "describe Dataset/rows",
    "lineage FineTuneJob/tuned", "metrics FineTuneJob/tuned", "explain", "explain Deployment", "explain models",
    "explain exit-codes", "version",
)  # fmt: skip
DESCRIPTION = "客服问答数据，来自二〇二六年上半年的真实工单，已经脱敏处理，并由三位同事逐条核对过 고객 상담 데이터 é 💊"
FILE = "数据/客服问答—第一批𠮷.jsonl"  # the last letter lies beyond 16 bits


@pytest.fixture(scope="session")
def asian_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack with Chinese file names, words and descriptions that was applied, and then changed."""
    made = Shell(tmp_path_factory.mktemp("asian"))
    declare(made)
    (made.folder / "数据").mkdir()
    shutil.move(made.folder / "data/rows.jsonl", made.folder / FILE)
    text = STACK.replace("data/rows.jsonl", FILE).replace("n_epochs: 1", "n_epochs: 3")
    text = text.replace("{name: rows}", f"{{name: rows, description: '{DESCRIPTION}'}}")
    made.write("stack.yaml", text)
    assert made("apply", "-y").code == 0
    made.change("stack.yaml", "weight: 2", "weight: 4")
    made.change("stack.yaml", "n_epochs: 3", "n_epochs: 2")
    made.change("stack.yaml", ", lint: {minRows: 30}", "")
    return made.folder


@pytest.fixture
def asian(asian_once: Path, tmp_path: Path) -> Shell:
    shutil.copytree(asian_once, tmp_path / "stack")
    return Shell(tmp_path / "stack")


def too_long(text: str, width: int) -> list[str]:
    """Lines beyond the width that could have been broken: no word of theirs is too long by itself."""
    lines = [line for line in click.unstyle(text).split("\n") if columns(line) > width]
    return [line for line in lines if columns(line) - columns(line.lstrip()) + 8 + widest(line) <= width]


def widest(line: str) -> int:
    return max(map(columns, line.split()), default=0)


# Narrow -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60])
@pytest.mark.parametrize("line", READING)
def test_no_line_is_longer_than_the_terminal_and_nothing_is_cut(asian: Shell, line: str, width: int) -> None:
    """But for words that no row can hold. What a wide terminal shows, a narrow one shows as well."""
    code, narrow = on_a_terminal(asian, line.split(), columns=width, NO_COLOR="1")
    assert code == 0, narrow
    assert too_long(narrow, width) == []
    assert "…" not in narrow.replace("… (", "")
    wide = asian(*line.split()).out
    words = set(re.findall(r"[\w-]{12,}", wide)) - set(re.findall(r"[\w-]*[一-鿿][\w-]*", wide))
    joined = re.sub(r"\s", "", narrow)
    assert [word for word in words if word not in joined] == []


@pytest.mark.parametrize("line", ["pause Deployment/prod", "resume", "state mv HotwordTable/meds HotwordTable/drugs"])
def test_what_was_done_is_told_within_the_width(asian: Shell, line: str) -> None:
    asian("pause", "--reason", DESCRIPTION)
    code, narrow = on_a_terminal(asian, line.split(), columns=40, NO_COLOR="1")
    assert code == 0, narrow
    assert too_long(narrow, 40) == []


def test_errors_and_progress_are_broken_at_the_width_of_their_terminal(asian: Shell) -> None:
    asian.change("stack.yaml", "capacity: 4", f"capcity: 4, '{'很长的名字' * 6}': 1")
    code, text = on_a_terminal(asian, ["plan"], columns=40, NO_COLOR="1")
    assert code == 1
    assert "did you mean capacity" in re.sub(r"\n +", " ", text)
    assert too_long(text, 40) == []


def test_a_live_view_on_a_narrow_terminal_shows_names_states_and_times_whole(asian: Shell) -> None:
    arguments = ["apply", "-y", "--allow", "retrain=FineTuneJob/tuned"]
    code, text = on_a_terminal(asian, arguments, columns=40, NO_COLOR="1")
    assert code == 0, text
    assert "…" not in text
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"Deployment/prod  (accepted|DEPLOYING)  \d+ s", shown)
    assert too_long(shown.replace("\r", "\n"), 40) == []


# East Asian ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "heading"), [("status", "STATUS"), ("get", "ROLE"), ("state list", "ROLE")])
def test_columns_stand_below_their_headings_whatever_the_script(asian: Shell, line: str, heading: str) -> None:
    rows = asian(*line.split()).out.splitlines()
    head = next(row for row in rows if heading in row)
    at = drawn(head[: head.index(heading)])
    table = rows[rows.index(head) + 1 :][:4]
    assert any("客服问答" in row for row in table)
    for row in table:
        before, cell = _split(row, at)
        assert before.endswith("  "), row
        assert cell[:1].isalpha(), row


def _split(row: str, at: int) -> tuple[str, str]:
    """A row before and from a column of the terminal."""
    for index in range(len(row)):
        if drawn(row[:index]) == at:
            return row[:index], row[index:]
    return row, ""


def drawn(text: str) -> int:
    """By the Unicode standard and not by the program."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def test_wide_and_combining_characters_are_counted_as_a_terminal_draws_them() -> None:
    for text, width in (("吉非替尼", 8), ("상담", 4), ("カナ", 4), ("e\u0301", 1), ("💊", 2), ("𠮷", 2), ("（）", 4)):
        assert columns(text) == width, text
    assert columns(click.style("吉", fg="red")) == 2


# Orders to the terminal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["plan", "status", "validate", "apply -y --allow retrain=FineTuneJob/tuned"])
def test_a_dumb_terminal_and_a_pipe_get_no_escape_sequence(asian: Shell, line: str) -> None:
    code, text = on_a_terminal(asian, line.split(), TERM="dumb")
    assert code == 0, text
    assert "\x1b" not in text
    result = asian.process(*line.split())
    assert result.code == 0
    assert "\x1b" not in result.out + result.err


def test_without_colour_a_live_view_moves_the_cursor_and_colours_nothing(asian: Shell) -> None:
    _, text = on_a_terminal(asian, ["apply", "-y"], NO_COLOR="1")
    assert set(re.findall(r"\x1b\[[0-9;]*m", text)) <= {"\x1b[0m", "\x1b[2m", "\x1b[1m"}


# Pipes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["plan -o json", "explain models", "schema", "status", "lint -o sarif", "plan -o markdown"]
)
def test_a_reader_that_takes_one_line_gets_it_and_nothing_is_said(asian: Shell, line: str) -> None:
    command = f"{sys.executable} -m reconciler {line} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=asian.folder,
        env=asian.environment(None),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert len(done.stdout.splitlines()) == 1
    assert [line for line in done.stderr.splitlines() if not line.startswith("warning: ")] == []


# Without Unicode ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb18030"])
@pytest.mark.parametrize("line", ["plan", "describe Dataset/rows", "graph"])
def test_a_stdout_that_is_not_utf_8_gets_what_it_can_hold(asian: Shell, line: str, encoding: str) -> None:
    """A stream that says ASCII is taken for one that nobody set up, and written as UTF-8."""
    out, err = poorly(asian, line, encoding)
    text = (out + err).decode("utf-8" if encoding == "ascii" else encoding)
    assert "Traceback" not in text
    assert "Dataset/rows" in text or "prices of" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb18030"])
def test_programs_read_the_very_same_whatever_stdout_is(asian: Shell, encoding: str) -> None:
    rich = json.loads(asian("describe", "Dataset/rows", "-o", "json").out)
    poor = [
        poorly(asian, f"describe Dataset/rows -o {form}", encoding)[0].decode(encoding) for form in ("json", "yaml")
    ]
    assert json.loads(poor[0]) == yaml.safe_load(poor[1]) == rich
    assert "𠮷" in str(rich)
    junit = poorly(asian, f"lint {FILE} -o junit", encoding)[0]
    assert "客服" in ElementTree.tostring(ElementTree.fromstring(junit), encoding="unicode")


def poorly(shell: Shell, line: str, encoding: str) -> tuple[bytes, bytes]:
    done = subprocess.run(
        shell.command(*line.split()),
        cwd=shell.folder,
        env=shell.environment({"LANG": "C", "PYTHONIOENCODING": encoding}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_name_that_file_names_cannot_hold_is_a_mistake_with_a_way_out(asian: Shell) -> None:
    """In a container without a locale, say. Nothing is planned: what such names stand for would be another upload."""
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for pattern in (FILE, "数据/*.jsonl", "*/*.jsonl"):
        asian.change("stack.yaml", FILE, f"'{pattern}'")
        result = asian.process("plan", env=bare)
        assert (result.code, result.out) == (1, "")
        assert "file names are ascii here" in result.err
        assert "PYTHONUTF8=1" in result.err
        asian.change("stack.yaml", f"'{pattern}'", FILE)
    assert asian.process("plan", env={**bare, "PYTHONUTF8": "1"}).code == 0


def test_the_sample_in_chinese_is_chinese_throughout() -> None:
    """The test's own names: one that lost its script would prove nothing."""
    assert any(unicodedata.east_asian_width(letter) == "W" for letter in FILE)
