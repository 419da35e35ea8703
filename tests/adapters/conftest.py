"""A user's shell in a folder of its own: commands in, exit code, stdout and stderr out."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.adapters.cli import run
from tests.desk import sft

REPOSITORY = Path(__file__).parent.parent.parent
STACK = """\
apiVersion: bailian.reconciler/v1alpha1
kind: Stack
metadata: {name: tiny}
spec: {endpoint: emulator, profile: "2026"}
---
apiVersion: bailian.reconciler/v1alpha1
kind: Dataset
metadata: {name: rows}
spec: {source: data/rows.jsonl, format: sft, lint: {minRows: 30}}
---
apiVersion: bailian.reconciler/v1alpha1
kind: FineTuneJob
metadata: {name: tuned}
spec:
  model: qwen3.5-9b
  trainingType: efficient_sft
  training: [rows]
  hyperParameters: {n_epochs: 1, batch_size: 8, max_length: 2048}
---
apiVersion: bailian.reconciler/v1alpha1
kind: Deployment
metadata: {name: prod}
spec: {model: {fineTuneJob: tuned}, plan: mu, deploySpec: MU1, capacity: 4}
---
apiVersion: bailian.reconciler/v1alpha1
kind: HotwordTable
metadata: {name: meds}
spec:
  targetModel: paraformer-v2
  words: [{text: 吉非替尼, weight: 3, lang: zh}, {text: 易瑞沙, weight: 2, lang: zh}]
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """Runs the program in `folder`, with none of our own environment that could matter."""

    folder: Path

    def __call__(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """One command, in this process: a new one would spend a second on imports."""
        streams = [io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8") for text in (stdin, "", "")]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name in os.environ.keys() - self.environment(env).keys():
                patch.delenv(name)
            for name, value in self.environment(env).items():
                patch.setenv(name, value)
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            code = run(arguments)
        return Result(code, *(_written(stream) for stream in streams[1:]))

    def process(self, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        """One command as a process of its own."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, first: str = "") -> subprocess.Popen[str]:
        """The program under way, to be interrupted; `first` is what its interpreter runs before.

        It hears a SIGINT also where the tests run in the background; said by itself, for this process has threads.
        """
        hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"{hears}\n{first}\nfrom reconciler.adapters.cli import main\nmain()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env=self.environment(None),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "reconciler", *arguments]

    @staticmethod
    def environment(more: Mapping[str, str] | None) -> dict[str, str]:
        ours = ("DASHSCOPE", "RECONCILER", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", **(more or {})}

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


@pytest.fixture
def empty(tmp_path: Path) -> Shell:
    """A shell in a folder without anything."""
    return Shell(tmp_path)


@pytest.fixture
def shell(empty: Shell) -> Shell:
    """A shell in the folder of a tiny stack that was never applied."""
    declare(empty)
    return empty


@pytest.fixture(scope="session")
def applied_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny stack that was applied, with its state and its emulator's memory. Never changed: it is copied."""
    made = Shell(tmp_path_factory.mktemp("applied"))
    declare(made)
    result = made("apply", "-y")
    assert result.code == 0, result.err
    return made.folder


@pytest.fixture
def applied(applied_once: Path, tmp_path: Path) -> Shell:
    """A shell in the folder of a tiny stack that was applied before."""
    shutil.copytree(applied_once, tmp_path / "stack")
    return Shell(tmp_path / "stack")


def declare(shell: Shell) -> None:
    shell.write("stack.yaml", STACK)
    rows = [sft(f"question {number}") for number in range(30)]
    shell.write("data/rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
