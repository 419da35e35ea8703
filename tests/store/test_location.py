"""Where a Stack may say that its state is, and what the documentation says of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reconciler import engine
from reconciler.kinds.stack import StateLocation
from reconciler.state import Fact, Intent, Owned, Pause, Stamp, Ticket
from reconciler.store import Header
from tests.desk import Desk

DOCS = Path(__file__).parents[2] / "docs" / "state.md"


@pytest.mark.parametrize("path", ["state.db", "some/where/.state", "状态.db"])
def test_a_file_below_the_root_may_be_named(path: str) -> None:
    assert StateLocation.model_validate({"path": path}).path == path


@pytest.mark.parametrize(
    "path", ["/etc/state.db", "../state.db", "a/../../b", "~/state.db", "", "a//b", "./a", "a/", "a\\b", "a\0b", "a\nb"]
)
def test_a_file_elsewhere_may_not(path: str) -> None:
    """A manifest comes from a pull request; it must not make a program write to any place it likes."""
    with pytest.raises(ValidationError):
        StateLocation.model_validate({"path": path})


@pytest.mark.parametrize(
    "location",
    [
        {"backend": "postgres", "path": "state.db"},
        {"backend": "postgres", "dsn": "postgresql://me:secret@db/states"},
        {"backend": "mysql"},
    ],
)
def test_two_places_at_once_or_a_password_are_refused(location: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StateLocation.model_validate(location)


def test_without_a_word_the_state_is_a_file_beside_the_stack(desk: Desk) -> None:
    desk.declare()
    store = engine.open_store(desk.project(), Stamp("emulator:1f", "", "desk"))
    assert store.where == str(desk.root / ".reconciler" / "state.db")


@pytest.mark.parametrize("row", [Owned, Intent, Fact, Ticket, Pause, Stamp])
def test_the_documentation_names_every_field_that_is_stored(row: type) -> None:
    """A field that nobody documents is one that nobody has asked whether it may be stored."""
    text = DOCS.read_text("utf-8")
    assert [field.name for field in fields(row) if f"`{field.name}`" not in text] == []


def test_the_documentation_names_every_field_of_the_line() -> None:
    text = DOCS.read_text("utf-8")
    assert [name for name in Header._fields if f"`{name}`" not in text] == []
