"""The one place where a result is printed in the format that was asked for.

A command gives its data and its page as functions, and only what is printed is made. A document goes out in one piece
after everything that can fail: stdout holds the whole of it or nothing, and an error is told on stderr (docs/json.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.adapters import terminal
from reconciler.render.data import json_text, versioned, yaml_text


def result(
    output: str, data: Callable[[], Mapping[str, Any]], text: Callable[[int | None], str], **forms: Callable[[], str]
) -> None:
    """`data` is printed by `-o json` and `-o yaml`, `text` at the width of the terminal; `forms` are all others."""
    match output:
        case "json":
            terminal.say(json_text(versioned(data()), ascii=not terminal.draws()))
        case "yaml":
            terminal.say(yaml_text(versioned(data()), ascii=not terminal.draws()))
        case "text":
            terminal.say(text(terminal.width()))
        case _:
            terminal.say(forms[output]())


def event(what: Mapping[str, Any]) -> None:
    """One line of a stream of JSON documents, for whoever still reads it."""
    terminal.say_anyway(json_text(versioned(what), indent=None, ascii=not terminal.draws()))
