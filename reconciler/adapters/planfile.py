"""Saved plans on disk: for their owner alone, whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from reconciler.errors import ReconcilerError, StalePlan, UsageError
from reconciler.files import MANIFEST_SUFFIXES, Tree
from reconciler.saved import BYTES_MAX, Saved, read, text
from reconciler.wording import shown


def load(path: str) -> Saved:
    """The plan that `keep` wrote to this path; BrokenPlan or FileRefused for anything else."""
    given = Path(path)
    return read(shown(path), Tree(given.parent).read(given.name, limit_bytes=BYTES_MAX))


def check_environment(saved: Saved, path: str, environment: str) -> None:
    """StalePlan where it was made for another one, before that one's state is touched."""
    meant = saved.bound.stamp.environment
    if meant != environment:
        made, here = (f"environment {shown(name)}" if name else "no environment" for name in (meant, environment))
        again = f"reconciler apply {path}" + (f" -e {meant}" if meant else "")
        raise StalePlan(f"the saved plan was made for {made}, and this is {here}", hint=f"it is applied with: {again}")


def check(path: str) -> None:
    """UsageError for a path that would make trouble, before any work is put into a plan."""
    if path.endswith(MANIFEST_SUFFIXES):
        raise UsageError(f"{shown(path)} would be read as a manifest", hint="a saved plan is JSON: name it plan.json")
    if Path(path).is_dir() or not Path(path).parent.is_dir():
        raise UsageError(f"{shown(path)} is a folder, or in none that exists", hint="name a file: --out plan.json")


def keep(path: str, saved: Saved) -> None:
    """Write it in one step, readable for its owner alone; what was there before is replaced as a whole."""
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text(saved))
            file.flush()
            os.fsync(descriptor)
        os.replace(unfinished, target)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise ReconcilerError(f"{shown(path)} cannot be written: {error.strerror}") from error
