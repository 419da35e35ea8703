"""What can go wrong, on one page.

Every error keeps its facts as attributes; `str()` is one sentence and `hint` says what to do next. `exit_code` is the
command line's answer to it (docs/exit-codes.md). This module words nothing else and imports nothing of ours.

    ReconcilerError              1
    ├─ UsageError                64   the command line itself is wrong
    ├─ ManifestError             1    .problems: all of the author's mistakes, each with its place
    ├─ Refused                   3    a guard, a missing consent, a protected object
    ├─ StalePlan                 4    .reasons: what moved since the plan was saved
    ├─ BrokenPlan                1    the file is no saved plan, or no longer the one that was saved
    ├─ SourceError               1    what a controller looks after cannot be read: never the same as nothing declared
    ├─ StateError                1
    │  ├─ StateLocked            4    somebody else is applying
    │  ├─ StateLost              4    somebody else took the lease over while we were away
    │  ├─ StateMismatch          8    the state belongs to another endpoint or workspace
    │  └─ StateCorrupt           1    the file cannot be read as a state
    ├─ ApiError                  1    .status .code .request_id .retryable
    │  ├─ NotAuthorised          8    the key, the workspace or the bill
    │  ├─ Rejected               5    the service refused this request; sending it again changes nothing
    │  ├─ NotFound               5
    │  ├─ Conflict               5
    │  ├─ Throttled              5    .quota tells "later" from "never"
    │  ├─ Unavailable            1    no usable answer to a read
    │  ├─ NeverSent              1    not one byte of the request left
    │  └─ OutcomeUnknown         7    a write was sent and its answer is not known
    ├─ UnusableId                1    an id of the service that cannot stand in a path
    └─ Ambiguous                 7    a creation's outcome must be decided by a person
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """A place in a file the user wrote: path as given, line and column counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One mistake of the author: what is wrong, where, and what to write instead; `rule` is that of lint behind it."""

    what: str
    at: Position | None = None
    hint: str = ""
    rule: str = ""

    def __str__(self) -> str:
        place = f"{self.at}  " if self.at else ""
        return f"{place}{self.what}" + (f" ({self.hint})" if self.hint else "")


class ReconcilerError(Exception):
    """Anything the tool says to its user instead of a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ReconcilerError):
    exit_code = 64


class ManifestError(ReconcilerError):
    """The manifests, or the files they name, are wrong. `problems` holds every mistake found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.at is None, p.at or Position("", 0, 0), p.what)))
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the manifests")


class Refused(ReconcilerError):
    """A rule stopped the apply. Names the rule, what was found, the limit and the exact override."""

    exit_code = 3


class StalePlan(ReconcilerError):
    """The world moved since the plan was made. `reasons` are what speaks against a saved one, each in a sentence."""

    exit_code = 4

    def __init__(self, message: str, *, reasons: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reasons = tuple(reasons)


class BrokenPlan(ReconcilerError):
    """What was given as a saved plan cannot be trusted to be one."""


class SourceError(ReconcilerError):
    """Where manifests come from gives none now. Whatever was declared before stays so."""


class StateError(ReconcilerError):
    """The recorded state cannot be used."""


class StateLocked(StateError):
    exit_code = 4

    def __init__(self, owner: str, since: str) -> None:
        super().__init__(
            f"another apply holds the state: {owner}, since {since}",
            hint="wait for it, or give --lock-timeout 60 to wait here",
        )
        self.owner, self.since = owner, since


class StateLost(StateError):
    """Our lease went to another run; nothing of what was to be recorded is."""

    exit_code = 4


class StateMismatch(StateError):
    exit_code = 8


class StateCorrupt(StateError):
    pass


class ApiError(ReconcilerError):
    """The service, or the way to it, did not do what was asked.

    `status` is 0 where there was no answer; `code` and `request_id` are the service's own words, cleaned when printed.
    `str()` ends with the request id, the one thing its support asks for.
    """

    retryable = False

    def __init__(
        self, message: str, *, status: int = 0, code: str = "", request_id: str = "", hint: str = "", after_s: float = 0
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.code, self.request_id, self.after_s = status, code, request_id, after_s

    def __str__(self) -> str:
        return super().__str__() + (f" (request id {self.request_id})" if self.request_id else "")


class NotAuthorised(ApiError):
    exit_code = 8


class Rejected(ApiError):
    exit_code = 5


class NotFound(ApiError):
    exit_code = 5


class Conflict(ApiError):
    exit_code = 5


class Throttled(ApiError):
    """429. `quota` is true where waiting does not help (a count of objects, an exhausted grant)."""

    exit_code = 5

    def __init__(self, message: str, *, quota: bool, **facts: object) -> None:
        super().__init__(message, **facts)  # type: ignore[arg-type]  # facts are ApiError's own keywords
        self.quota = quota
        self.retryable = not quota


class Unavailable(ApiError):
    retryable = True


class NeverSent(ApiError):
    """DNS, connect or TLS failed: no byte of the request left, so nothing can have happened.

    `untrusted` is true where the far side could not prove who it is; then nothing is tried again.
    """

    def __init__(self, message: str, *, untrusted: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.untrusted = untrusted
        self.retryable = not untrusted


class OutcomeUnknown(ApiError):
    """A write was sent and no trustworthy answer came back: it may or may not have happened."""

    exit_code = 7


class UnusableId(ReconcilerError, ValueError):
    """An id that could climb out of its place in a path is never put into one."""


class Ambiguous(ReconcilerError):
    """A creation whose outcome the tool cannot find out. `candidates` are the ids it might have made."""

    exit_code = 7

    def __init__(self, message: str, *, candidates: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.candidates = candidates


_WORST_FIRST = (7, 8, 1, 5, 4, 3, 6, 2, 0)


def worst(codes: Iterable[int]) -> int:
    """The exit code that stands for several outcomes at once."""
    return min(codes, key=_WORST_FIRST.index, default=0)
