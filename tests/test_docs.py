"""Pages that name something are held to it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

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
