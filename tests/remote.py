"""A Git repository that somebody pushes to, as a controller sees it: a URL."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from reconciler.source import Git
from tests.desk import document

ALONE = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-c", "protocol.file.allow=always")


@dataclass
class Remote:
    """A bare repository below `folder`, and a clone to push from."""

    folder: Path
    bare: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.bare, self.work = self.folder / "remote.git", self.folder / "work"
        self.folder.mkdir(exist_ok=True)
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.bare), where=self.folder)
        self.git("init", "--quiet", "--initial-branch=main", str(self.work), where=self.folder)
        self.git("remote", "add", "origin", str(self.bare))

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def git(self, *arguments: str, where: Path | None = None, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *AUTHOR, *arguments],
            cwd=where or self.work,
            env={**os.environ, **ALONE},
            input=stdin,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def write(self, name: str, text: str | bytes) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def push(self, **files: str | bytes) -> str:
        """Commit everything there is, with these, and push it; `__` in a name is `/`."""
        for name, text in files.items():
            self.write(name.replace("__", "/"), text)
        return self.pushed()

    def pushed(self, *options: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        self.git("push", "--quiet", *options, "origin", "HEAD")
        return self.git("rev-parse", "HEAD")

    def declare(self, folder: str, *documents: dict[str, Any]) -> str:
        """A stack in a folder, pushed."""
        stack = document("Stack", "desk", {"endpoint": "emulator", "profile": "2026"})
        self.write(f"{folder}/stack.yaml", yaml.safe_dump_all([stack, *documents], allow_unicode=True, sort_keys=False))
        return self.pushed()

    def source(self, **options: Any) -> Git:
        """A source of its own for each call, with its checkouts in one place."""
        checkouts = self.folder / "checkouts"
        checkouts.mkdir(exist_ok=True)
        options = {"url": self.url, "branch": "", "folder": checkouts, **options}
        return Git(**options)
