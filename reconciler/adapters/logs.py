"""The log of a controller: one line an entry, as text or as JSON, and never a secret in it.

Entries are made of values that hold none. As a second net the operator's own secrets, by their values, and whatever has
the form of a key are struck out of every line.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.adapters import terminal
from reconciler.adapters.connection import KEY_VARIABLE
from reconciler.render.data import json_text

TEXT, JSON = "text", "json"
NAME = "reconciler"
SECRET_MIN = 6  # characters: striking out every "a" would leave nothing to read
_KEY = re.compile(r"sk-[\w.-]{4,}")
_FIELDS = "fields"


def opened(form: str, secrets: Iterable[str] = ()) -> logging.Logger:
    """The one log of this process; entries of other libraries are not in it."""
    handler = _Handler()
    handler.setFormatter(_Formatter(form, secrets))
    log = logging.getLogger(NAME)
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return log


def enter(log: logging.Logger, text: str, fields: Mapping[str, Any], *, bad: bool = False) -> None:
    """One entry: `text` for people, `fields` for programs."""
    log.log(logging.WARNING if bad else logging.INFO, "%s", text, extra={_FIELDS: dict(fields)})


class _Handler(logging.Handler):
    """Writes to stdout; a reader that went away stops nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        terminal.say_anyway(self.format(record))


class _Formatter(logging.Formatter):
    """Both forms of a line, with the second net under them."""

    def __init__(self, form: str, secrets: Iterable[str]) -> None:
        super().__init__()
        known = {*secrets, os.environ.get(KEY_VARIABLE, "").strip()}
        self._secrets = sorted((one for one in known if len(one) >= SECRET_MIN), key=len, reverse=True)
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        if self._form == TEXT:
            return str(self._safe(record.getMessage()))
        at = datetime.fromtimestamp(record.created, UTC)
        entry = {"at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z", "level": record.levelname.lower()}
        fields = getattr(record, _FIELDS, None) or {"event": "said", "message": record.getMessage()}
        return json_text(self._safe({**entry, **fields}), indent=None)

    def _safe(self, value: Any) -> Any:
        """The same without secrets: struck out before anything is escaped, for an escape would hide them from here."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
            return _KEY.sub("***", value)
        if isinstance(value, Mapping):
            return {name: self._safe(item) for name, item in value.items()}
        return [self._safe(item) for item in value] if isinstance(value, list | tuple) else value
