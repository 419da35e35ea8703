"""A report of our own mistake: where it happened, and nothing that anybody wrote or was told.

What an exception says is left out, for it quotes what it stumbled over: a row of training data, a link, a key. So are
the values of variables, and the folders that the program lies in.
"""

from __future__ import annotations

import os
import platform
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath

from reconciler import __version__

FIRST, LAST, CAUSES = 20, 40, 5  # frames of each error, and errors behind the error
KEY_VARIABLE = "DASHSCOPE_API_KEY"
_KEY = re.compile(r"sk-[\w.-]+")


def said(error: BaseException) -> str:
    """That it is a mistake of ours, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{PurePath(frame.filename).name}:{frame.lineno}"
    return f"internal error: {type(error).__name__} at {place}, please report it"


def reported(error: BaseException) -> str:
    """The same, with the file that a report can start from, where one could be written."""
    path = write_report(error)
    return said(error) + (f"\n  with {path}, which holds where it happened and no data" if path else "")


def write_report(error: BaseException) -> str:
    """The path of a file that only its owner may read; "" where none could be written, which hides no error."""
    with suppress(Exception):
        text = _without_keys("\n".join(_lines(error)) + "\n")
        descriptor, path = tempfile.mkstemp(prefix="reconciler-report-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return path
    return ""


def _lines(error: BaseException) -> Iterator[str]:
    yield f"reconciler {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    cause: BaseException | None = error
    for _ in range(CAUSES):
        if cause is None:
            return
        number = getattr(cause, "errno", None)
        yield f"{type(cause).__module__}.{type(cause).__qualname__}" + (f" {number}" if number else "")
        way = [_place(frame) for frame in traceback.extract_tb(cause.__traceback__)]
        yield from way if len(way) <= FIRST + LAST else (*way[:FIRST], "  ...", *way[-LAST:])
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _place(frame: traceback.FrameSummary) -> str:
    return f"  {'/'.join(PurePath(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"


def _without_keys(text: str) -> str:
    key = os.environ.get(KEY_VARIABLE, "")
    return _KEY.sub("***", text.replace(key, "***") if key else text)
