"""The vendor's own clients: installed on demand, each release apart, and driven as other processes.

Promises that nothing of theirs is ever imported here, that no setting of this machine reaches them, and that when they
sleep, emulated time passes instead of real time. What they are made to do is written in `scripts/` and in the tests.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.desk import KEY, Emulator

OLD, NEW = "1.20.14", "2.0.2"
SCRIPTS = Path(__file__).parent / "scripts"
INSTALL_TIMEOUT_S = 240
COMMAND_TIMEOUT_S = 60


class NotInstalled(Exception):
    """Why a release cannot be had here."""


@dataclass(frozen=True)
class Environment:
    """One release of the SDK in a virtual environment of its own."""

    version: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def command(self) -> Path:
        return self.folder / "bin" / "dashscope"


def install(version: str) -> Environment:
    """The release, ready to run; kept in the user's cache for the next time.

    Raises NotInstalled where the index cannot be reached or the environment cannot be made.
    """
    abi = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
    environment = Environment(version, _cache() / f"dashscope-{version}-{abi}")
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    with environment.folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may want the same one
        complete = environment.folder / "complete"
        if not complete.exists():
            shutil.rmtree(environment.folder, ignore_errors=True)
            _make(environment)
            complete.touch()
    return environment


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "bailian-reconciler-tests"


def _make(environment: Environment) -> None:
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1")
    wanted = f"dashscope=={environment.version}"
    for step in (
        (sys.executable, "-m", "venv", str(environment.folder)),
        (str(environment.python), *pip, "install", wanted),
    ):
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise NotInstalled(f"{wanted}: no end within {INSTALL_TIMEOUT_S} s of {' '.join(step)}") from error
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise NotInstalled(f"{wanted}: {last}")


# The module API and the Client


@dataclass(frozen=True)
class Surface:
    """One of the ways into the SDK: a release, and the script of `scripts/` that speaks so."""

    version: str
    script: str

    def __str__(self) -> str:
        return f"{self.version}-{self.script}"


MODULE_OLD = Surface(OLD, "module_api")
MODULE = Surface(NEW, "module_api")
CLIENT = Surface(NEW, "client_api")
SURFACES = (MODULE_OLD, MODULE, CLIENT)


@dataclass(frozen=True)
class Check:
    """One thing that was compared in the other process."""

    what: str
    got: Any
    wanted: Any
    holds: bool

    def __str__(self) -> str:
        return f"{self.what}: got {self.got!r}, wanted {self.wanted!r}"


class _FarSide:
    """A process of a release that runs one of our scripts: asked in lines of JSON, and answering in them."""

    def __init__(self, environment: Environment, home: Path, *script: str) -> None:
        self._errors = home / f"{'-'.join(script)}-{environment.version}.log"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                (environment.python, SCRIPTS / script[0], *script[1:]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=surroundings(home),
                cwd=home,
                text=True,
            )

    def ask(self, **wanted: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process is gone:\n{self._errors.read_text()}"
        return dict(json.loads(answer))

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


class Player(_FarSide):
    """One process of a release that plays scenes of one script, so that the SDK is imported once and not each time."""

    def __init__(self, environment: Environment, script: str, home: Path) -> None:
        super().__init__(environment, home, "play.py", script)

    def play(self, scene: str, emulator: Emulator, facts: Mapping[str, Any]) -> tuple[Check, ...]:
        """What was checked. A scene that ends in an exception fails here, with the other side's traceback."""
        told = self.ask(scene=scene, origin=emulator.origin, token=emulator.token, key=KEY, facts=dict(facts))
        checks = tuple(Check(**check) for check in told["checks"])
        assert not told["error"], "\n".join([told["error"], *(str(check) for check in checks if not check.holds)])
        return checks


# The command


class Prompt(_FarSide):
    """Where lines of a release's `dashscope` are typed: each runs in a process of its own, and what the release stands
    on, which is most of what it loads, is loaded once.
    """

    def __init__(self, environment: Environment, home: Path) -> None:
        super().__init__(environment, home, "type.py")
        self._command = str(environment.command)

    def type(self, arguments: Sequence[str], home: Path, variables: Mapping[str, str]) -> tuple[int, str]:
        """The exit status, and everything printed on both streams."""
        out, err = home / "out", home / "err"
        typed = {"command": self._command, "arguments": arguments, "cwd": str(home), "env": dict(variables)}
        told = self.ask(**typed, out=str(out), err=str(err), timeout_s=COMMAND_TIMEOUT_S)
        printed = out.read_text("utf-8") + err.read_text("utf-8")
        for stream in (out, err):
            stream.unlink()
        return told["code"], printed


@dataclass(frozen=True)
class Typist:
    """Types `dashscope` lines of one release against one emulator; `held` is told how many checks a line stood."""

    prompt: Prompt
    emulator: Emulator
    home: Path
    held: Callable[[int], None]

    def __call__(self, *arguments: str, says: str | Sequence[str] = (), exits: int = 0, **variables: str) -> str:
        """Everything the line printed, on both streams: with this exit status, and with these texts in it."""
        around = surroundings(self.home) | settings(self.emulator) | variables
        code, printed = self.prompt.type(arguments, self.home, around)
        assert code == exits, printed
        texts = (says,) if isinstance(says, str) else says
        for text in texts:
            assert text in printed
        self.held(1 + len(texts))
        return printed


def surroundings(home: Path) -> dict[str, str]:
    """An environment with nothing of this machine's in it: no key, no settings file, no proxy."""
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": str(SCRIPTS / "clockwork"),
        "COLUMNS": "1000",  # the 2.0 command breaks its lines at the width of the terminal
    }


def settings(emulator: Emulator) -> dict[str, str]:
    return {
        "DASHSCOPE_API_KEY": KEY,
        "DASHSCOPE_HTTP_BASE_URL": f"{emulator.origin}/api/v1",
        "EMULATOR_ORIGIN": emulator.origin,
        "EMULATOR_TOKEN": emulator.token,
    }
