"""The manifests that the command line names, read and checked. Loads neither the engine nor an HTTP client."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from reconciler import project
from reconciler.adapters import terminal
from reconciler.adapters.options import Target
from reconciler.data import Described
from reconciler.errors import UsageError
from reconciler.project import Bought, Project, load
from reconciler.render.errors import warnings_text
from reconciler.wording import shown
from reconciler.yamltext import MAX_FILE_BYTES

RECORDS = "RECONCILER_RECORDS"  # the folder whose .reconciler/ counts, for a stack that a controller has from Git


def read(target: Target, known: Callable[[Project], Bought | None] = lambda outline: None) -> Project:
    """The project that the command line names, its warnings told. ManifestError holds every mistake.

    `known` is told whose project it is before its documents are looked at, and may answer what of it was bought.
    """
    project = loaded(target, known)
    if project.warnings:
        terminal.mention(warnings_text(project.warnings))
    return project


def loaded(target: Target, known: Callable[[Project], Bought | None] = lambda outline: None) -> Project:
    """The same without a word, for who reads it again and again."""
    elsewhere = os.environ.get(RECORDS)
    records = Path(elsewhere) if elsewhere else None
    if records and not records.is_dir():
        raise UsageError(f"{RECORDS} names {shown(elsewhere or '')}, which is no folder")
    return load(target.files, environment=target.environment, stdin=_stdin(target), records=records, known=known)


def described(target: Target) -> dict[str, Callable[[], Described]]:
    """The Datasets of the manifests by address, each to be read when it is called for."""
    return project.described(target.files, environment=target.environment, stdin=_stdin(target))


def _stdin(target: Target) -> bytes | None:
    if "-" not in target.files:
        return None
    data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"the manifests on stdin are longer than {MAX_FILE_BYTES:,} bytes")
    return data
