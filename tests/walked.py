"""Pages as a reader follows them: files written and commands given, in order, and what is shown held to the page.

- A YAML block that begins with `# NAME.yaml` is written to that file.
- In a `console` block what follows `$ ` is carried out in the folder, and the lines up to the next `$ ` are what it
  prints on both streams: `...` for any lines, `[exit N]` at the end where it is not 0, `^C` where it is pressed. A
  command without any has to end well.
- Blocks of other languages are only read.

Ids, times, digests and what an estimate learnt are another each time. `python -m tests.walked PAGE [COMMAND...]` renews
a page, for a reader who gave these commands of ours before; what shows a part of what is printed is renewed by hand.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from reconciler.adapters.cli import run
from tests.adapters.conftest import Shell

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.M)
NAMED_FILE = re.compile(r"# ([\w./-]+\.(?:yaml|jsonl))\b.*\n")
ANYTHING = "..."
INTERRUPT = "^C\n"
PORT = "8700"
CHANGES = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "FILE"),
    (r"[\w.-]+-ft-\d{12}-\w{4}(?:-[\w-]+)?", "MODEL"),
    (r"ft-\d{12}-\w{4}", "JOB"),
    (r"vocab-\w+(?:-\w+)?", "VOCABULARY"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?(?: UTC)?", "TIME"),
    (r"\b[0-9a-f]{8,}…?(?![\w-])", "DIGEST"),
    (r" x [01]\.\d+ \(±\d+ %, ", " x FACTOR ("),
    (r"127\.0\.0\.1:\d+", "127.0.0.1"),
    (r"\b\d\.\d{3,4}\b", "LOSS"),
)


class Step(NamedTuple):
    """A file to write, or a command with what it shows; `line` of the page."""

    line: int
    command: str = ""
    shown: str = ""
    file: str = ""
    text: str = ""


def steps(page: str) -> Iterator[Step]:
    """What a reader does, in the order of the page."""
    for block in BLOCK.finditer(page):
        language, body = block.groups()
        begins = block.start(2)
        if language in ("yaml", "json") and (named := NAMED_FILE.match(body)):
            yield Step(_line(page, begins), file=named[1], text=body)
        if language == "console":
            for found in COMMAND.finditer(body):
                yield Step(_line(page, begins + found.start()), command=found[1], shown=found[2])


def _line(page: str, offset: int) -> int:
    return page.count("\n", 0, offset) + 1


def blocks(page: str) -> list[str]:
    return [block[2] for block in BLOCK.finditer(page)]


def without_comments(block: str) -> str:
    """Comments may be in the language of the page."""
    return re.sub(r"(^|\s+)# .*$", "", block, flags=re.M)


@dataclass
class Reader:
    """Somebody in a folder with a page. `width` is that of the terminal."""

    folder: Path
    width: int = 100
    port: str = field(default_factory=lambda: str(_free_port()))
    variables: dict[str, str] = field(default_factory=dict)
    left: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def follow(self, page: str) -> Iterator[tuple[Step, str]]:
        """Each command with what it printed."""
        with self.left:
            for step in steps(page):
                if step.file:
                    path = self.folder / step.file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(step.text, encoding="utf-8")
                else:
                    yield (
                        step,
                        self.give(step.command, step.shown.partition(INTERRUPT)[0] if INTERRUPT in step.shown else ""),
                    )

    def checks(self, page: str) -> None:
        """Follows the page, and fails with every command that prints something else than the page shows."""
        wrong = [
            f"line {step.line}: $ {step.command}\n{printed}"
            for step, printed in self.follow(page)
            if not (same(step.shown, printed) if step.shown else "[exit " not in printed)
        ]
        if wrong:
            raise AssertionError("the page shows something else than:\n" + "\n".join(wrong))

    def give(self, line: str, until: str = "") -> str:
        """What the command printed, and how it ended. Ctrl-C is pressed once it said the last line of `until`."""
        line = line.replace("\\\n", " ").replace(PORT, self.port)
        words = shlex.split(line, comments=True)
        if line.endswith(" &"):
            return self._start(line.removesuffix(" &"))
        ours = words[0] == "reconciler" and not re.search(r"[|&;<>$]", line)
        if until:
            text, code = self._interrupted(words[1:], until.splitlines()[-1].split()[1:])
        else:
            text, code = self._ours(words[1:]) if ours else self._other(line)
        text = text.replace(str(self.folder), ".").replace(self.port, PORT)
        return text + (f"[exit {code}]\n" if code else "")

    def _ours(self, arguments: list[str]) -> tuple[str, int]:
        """In this process: a new one would spend a second on imports. As on a terminal that nobody types at."""
        shown = io.BytesIO()
        streams = {"stdout": _Terminal(shown, "utf-8"), "stderr": io.TextIOWrapper(shown, "utf-8", write_through=True)}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            environment = self.environment()
            for name in os.environ.keys() - environment.keys():
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.StringIO(""))
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            code = run(arguments)
        text = shown.getvalue().decode()
        for stream in streams.values():
            stream.detach()
        return text, code

    def _other(self, line: str) -> tuple[str, int]:
        name = named[1] if (named := re.match(r"(\w+)=\$\(", line)) else ""
        done = subprocess.run(
            ["bash", "-c", f'{line} && printf %s "${name}"' if name else line],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=60,
        )
        if name:
            self.variables[name] = done.stdout
        return "" if name else done.stdout, done.returncode

    def _interrupted(self, arguments: list[str], last: list[str]) -> tuple[str, int]:
        hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        process = subprocess.Popen(
            [sys.executable, "-c", f"{hears}\nfrom reconciler.adapters.cli import main\nmain()", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.split()[1:] == last:
                process.send_signal(signal.SIGINT)
                said.append(INTERRUPT)
        return "".join(said), process.wait()

    def _start(self, line: str) -> str:
        """A program that goes on until the page ends; what it says first."""
        process = subprocess.Popen(
            Shell.command(*shlex.split(line)[1:]),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        self.left.callback(process.wait)
        self.left.callback(process.terminate)
        assert process.stdout is not None
        return process.stdout.readline()

    def environment(self) -> Mapping[str, str]:
        """One without anything of ours, with the program on the PATH and a name for git."""
        program = self.folder.parent / "bin/reconciler"
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n', encoding="utf-8")
            program.chmod(0o755)
        names = {
            f"GIT_{who}_{what}": "reader@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        plain = {
            "NO_COLOR": "1",
            "COLUMNS": str(self.width),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HOME": str(self.folder.parent),
        }
        path = f"{program.parent}:{os.environ['PATH']}"
        return {**Shell.environment(None), **names, **plain, "PATH": path, **self.variables}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class _Terminal(io.TextIOWrapper):
    """What is printed here is broken at the width of a terminal."""

    def __init__(self, shown: io.BytesIO, encoding: str) -> None:
        super().__init__(shown, encoding, write_through=True)

    def isatty(self) -> bool:
        return True


def same(shown: str, printed: str) -> bool:
    """Whether a page may say this of what was printed."""
    wanted = [_plain(part) for part in re.split(rf"^{re.escape(ANYTHING)}\n", shown, flags=re.M)]
    return re.fullmatch(r".*".join(re.escape(part) for part in wanted), _plain(printed), re.S) is not None


def _plain(text: str) -> str:
    """Without what is another each time. An id that is longer or shorter breaks lines elsewhere and pads otherwise."""
    text = " ".join([*text.split(), ""])
    for pattern, name in CHANGES:
        text = re.sub(pattern, name, text)
    return text


def renewed(page: str, reader: Reader) -> str:
    """The page with what its commands print now, but for those that show a part of it."""
    lines = page.splitlines(keepends=True)
    for step, printed in reversed(list(reader.follow(page))):
        if step.shown and (ANYTHING + "\n") not in step.shown and not same(step.shown, printed):
            first = step.line + step.command.count("\n")
            lines[first : first + step.shown.count("\n")] = [printed]
    return "".join(lines)


def _twin_of(page: str, twin: str) -> str:
    """The page in another language with what is shown in this one; comments and prose stay."""
    ours = iter(BLOCK.findall(page))

    def shown(theirs: re.Match[str]) -> str:
        language, body = next(ours)
        return f"```{language}\n{body}```" if language == "console" else theirs[0]

    return BLOCK.sub(shown, twin)


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    renewed_page = Path(sys.argv[1])
    with TemporaryDirectory() as name:
        reader = Reader(Path(name) / "reader")
        for before in sys.argv[2:]:
            reader.give(f"reconciler {before}")
        text = renewed(renewed_page.read_text(encoding="utf-8"), reader)
    renewed_page.write_text(text, encoding="utf-8")
    other = renewed_page.with_name(f"{renewed_page.stem}.zh.md")
    if other.exists():
        other.write_text(_twin_of(text, other.read_text(encoding="utf-8")), encoding="utf-8")
