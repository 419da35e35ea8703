"""Every rule of `lint` on one page: what it asks, whether breaking it is an error or a warning, and who says so.

An error is what the service refuses or what two readers would read differently; a warning is what its pages only
advise, or what costs money for nothing. The profile decides between them. Which rows break a rule is the business of
`rows`, `archive` and `lint`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from reconciler.errors import Position, Problem

MAX_FINDINGS = 20  # a file: the rest is counted
MAX_ERRORS = 10_000  # a file: with that many the rest is not worth reading,
MAX_WRONG_BYTES = 32 << 20  # nor with that much in the rows that have them

DEC_2024 = "dec-2024"


class Level(StrEnum):
    """What breaking a rule means. The words are SARIF's."""

    ERROR = "error"
    WARNING = "warning"


class Rule(NamedTuple):
    """What is asked, by which section of docs/contract.md or by us, and the level in each profile."""

    about: str
    source: str
    level: Level
    level_2024: Level

    def in_profile(self, profile: str) -> Level:
        return self.level_2024 if profile == DEC_2024 else self.level


def _error(about: str, source: str, *, in_2024: Level = Level.ERROR) -> Rule:
    return Rule(about, source, Level.ERROR, in_2024)


def _warning(about: str, source: str) -> Rule:
    return Rule(about, source, Level.WARNING, Level.WARNING)


_OURS = "ours"
_UNKNOWN_THEN = Level.WARNING  # the pages of December 2024 say nothing of it

RULES: Mapping[str, Rule] = {
    # Text
    "unreadable": _error("the file can be read: below the root, regular, within the upload limit", "§1.3"),
    "file-type": _error("rows are a .jsonl file, rows with images a .zip file", "§1.3"),
    "git-lfs": _error("the file holds the data, not a pointer of Git LFS", _OURS),
    "empty-file": _error("the file holds a row", _OURS),
    "encoding": _error("UTF-8 without a byte-order mark", "§7.3"),
    "blank-line": _error("no blank line", "§7.3"),
    "row-size": _error("a row has at most 32 MiB, 131,072 brackets and keys, and a million commas", _OURS),
    "json": _error("each line is one object of strict JSON: no NaN, no number that readers round or refuse", "§7.1"),
    "duplicate-key": _error("no key twice in an object", _OURS),
    "character": _error("no NUL and no half of a surrogate pair", _OURS),
    # Messages
    "messages": _error("messages is a list of at least one object", "§7.3"),
    "role": _error("a role is system, user or assistant; from 2026 also tool", "§7.1, §7.3"),
    "content": _error("content is a text; with images a list of texts and images", "§7.1, §7.3"),
    "no-answer": _error("a message of the assistant", "§7.1"),
    "empty-content": _warning("no content is empty", _OURS),
    "late-system": _warning("a system message comes first", "§7.3"),
    "turns": _warning("user and assistant take turns", "§7.3"),
    "no-user": _warning("a message of the user", "§7.3"),
    "unsupported-field": _warning("no name and no weight in a message: neither is supported", "§7.1"),
    "loss-weight": _error("loss_weight is a number from 0 to 1", "§7.1", in_2024=Level.WARNING),
    "loss-weight-place": _warning(
        "loss_weight is above 0 and on what is trained: assistant; the last one beside thinking; chosen", "§7.1"
    ),
    # Thinking and tools
    "thinking-place": _error("only the last assistant message thinks", "§7.1", in_2024=_UNKNOWN_THEN),
    "thinking-form": _error("a thought is <think>\\n...\\n</think>\\n\\n", "§7.1", in_2024=_UNKNOWN_THEN),
    "tools": _error("tools and tool_calls are lists of objects; unknown in dec-2024", "§7.1"),
    "tool-call-id": _error("a tool message has a tool_call_id", "§7.1"),
    "tool-call-unknown": _warning("a tool_call_id is the id of a call before it", "§7.1"),
    # Pairs and plain text
    "pair-ending": _error("messages of a pair end with the user", "§7.1"),
    "pair-answers": _error("chosen and rejected are one message of the assistant each", "§7.1"),
    "pair-alike": _warning("chosen and rejected differ", _OURS),
    "text": _error("text is a text that is not empty", "§7.1"),
    "cpt": _error("continued pre-training is there from 2026 on", "§7.1"),
    # Archives
    "zip": _error("a plain zip archive: nothing around, between or over its files, no encryption, no link", _OURS),
    "zip-path": _error("no name leads out of the archive or is two names", _OURS),
    "zip-name": _error("names are of ASCII letters, digits, _ and -, with one suffix", "§7.2", in_2024=_UNKNOWN_THEN),
    "zip-layout": _error("data.jsonl at the top; images with unique names", "§7.2"),
    "zip-folder": _warning("images lie beside data.jsonl (dec-2024 only)", "§7.2"),
    "zip-size": _error("at most 50,000 files, 2 GiB in all and 200 times what the archive has", "§7.2"),
    "image-bytes": _error("an image has at most 10 MiB", "§7.2", in_2024=_UNKNOWN_THEN),
    "image-type": _error("an image is what its suffix says: bmp, jpeg, jpg, png, tif, tiff or webp", "§7.2"),
    "image-pixels": _error("an image has at most 1,024 pixels a side", "§7.2", in_2024=_UNKNOWN_THEN),
    "image-missing": _error("every image that a row names is in the archive", "§7.2"),
    "image-unused": _warning("every image in the archive is named by a row", _OURS),
    "resized": _error("resized_width and resized_height are whole numbers above 0", "§7.1", in_2024=_UNKNOWN_THEN),
    # The whole
    "duplicates": _warning("no row twice", _OURS),
    "near-duplicates": _warning("less than 1 % of the rows are another one but for case, spaces and marks", _OURS),
    "few-rows": _warning(
        "1,000 rows for sft, 100 for dpo, 10 million tokens for cpt, or what lint.minRows says", "§7.3"
    ),
    "split": _error("a split leaves no share empty or above the upload limit; an archive has none", _OURS),
}


class Findings:
    """What is wrong with one file, as far as it is shown: the first errors, and of each rule the first warning.

    Both are at most `MAX_FINDINGS`; the rest is counted.
    """

    def __init__(self, file: str, profile: str) -> None:
        self.file, self.profile = file, profile
        self._errors: list[Problem] = []
        self._warnings: dict[str, Problem] = {}
        self._counts: Counter[str] = Counter()
        self._error_count = self._errors_passed = self._wrong_bytes = 0

    def add(self, rule: str, line: int, what: str, hint: str = "", *, column: Callable[[], int] | int = 1) -> None:
        """Notes one. `column` may be costly, and is asked for only where it will be shown."""
        is_error = RULES[rule].in_profile(self.profile) is Level.ERROR
        self._error_count += is_error
        self._counts[rule] += 1
        if len(self._errors) == MAX_FINDINGS if is_error else self._counts[rule] > 1:
            return
        at = Position(self.file, line, column if isinstance(column, int) else column())
        problem = Problem(what, at, hint, rule)
        if is_error:
            self._errors.append(problem)
        else:
            self._warnings[rule] = problem

    def passed(self, size: int) -> None:
        """A row of so many bytes is done with."""
        if self._error_count > self._errors_passed:
            self._wrong_bytes += size
        self._errors_passed = self._error_count

    @property
    def hopeless(self) -> bool:
        """Whether there are so many errors that nobody needs the rest."""
        return self._error_count >= MAX_ERRORS or self._wrong_bytes > MAX_WRONG_BYTES

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The errors. The last one says how many more there are."""
        more = self._error_count - MAX_FINDINGS
        if not self._errors or (more <= 0 and not self.hopeless):
            return tuple(self._errors)
        last = self._errors[-1]
        what = f"and {more:,} more in {self.file}" if more > 0 else f"and perhaps more in {self.file}"
        what += ", the rest of which was not read" if self.hopeless else ""
        return (*self._errors, Problem(what, last.at, rule=last.rule))

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings, one for each rule and with the number of places."""
        return tuple(self._counted(warning) for warning in self._warnings.values())

    def _counted(self, warning: Problem) -> Problem:
        more = self._counts[warning.rule] - 1
        what = warning.what + (f", and {more:,} more like it" if more else "")
        return Problem(what, warning.at, warning.hint, warning.rule)
