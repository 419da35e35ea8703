"""Saved plans on disk: for their owner alone, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from reconciler import catalogue, kinds
from reconciler.adapters import connection
from reconciler.errors import BrokenPlan, ReconcilerError, StalePlan, UsageError
from reconciler.files import MANIFEST_SUFFIXES, Tree
from reconciler.render.plan import Heading
from reconciler.resource import Collection
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


def explained(path: str) -> tuple[Saved, Heading, Mapping[str, Collection]]:
    """The plan of a file with all that it takes to word it, offline. BrokenPlan also for what this version lacks."""
    saved, prices = load(path), catalogue.load()
    bound = saved.bound
    collections = kinds.collections(prices.for_profile(bound.profile)) if bound.profile in prices.profiles else {}
    if not {op.collection for op in saved.plan.operations} <= collections.keys():
        raise BrokenPlan(f"{shown(path)} is of a profile or of collections that this version does not know")
    heading = Heading(
        stack=bound.stamp.stack,
        environment=bound.stamp.environment,
        endpoint=connection.name_of(bound.stamp.endpoint),
        emulated=connection.is_emulated(bound.stamp.endpoint),
        profile=bound.profile,
        prices_of=bound.prices_of,
        workspace=bound.stamp.workspace,
        declared=bound.declared,
    )
    return saved, heading, collections


def check(path: str) -> None:
    """UsageError for a path that would make trouble, before any work is put into a plan."""
    if path.endswith(MANIFEST_SUFFIXES):
        raise UsageError(f"{shown(path)} would be read as a manifest", hint="a saved plan is JSON: name it plan.json")
    if Path(path).is_dir() or not Path(path).parent.is_dir():
        raise UsageError(f"{shown(path)} is a folder, or in none that exists", hint="name a file: --out plan.json")


def keep(path: str, saved: Saved) -> None:
    """Write it, readable for its owner alone."""
    write(path, text(saved))


def write(path: str, content: str) -> None:
    """A file in one step, readable for its owner alone; what was there before is replaced as a whole."""
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(unfinished, target)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise ReconcilerError(f"{shown(path)} cannot be written: {error.strerror}") from error
