"""What the rows of one source are as a whole: how many, how alike, how long, in which script, with which answers.

A census is taken while the rows are read for their hash, at constant memory; it judges none of them by itself. What is
wrong with single rows is found in `rows` and `archive`. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reconciler.errors import Position, Problem
from reconciler.findings import Level
from reconciler.resource import Checks
from reconciler.rows import Row, answer_of, count_east_asian
from reconciler.wording import shown

MAX_REMEMBERED = 100_000  # different rows; among later ones only repetitions of these are found
ADVISED_ROWS: Mapping[str, int] = {"sft": 1000, "sft-image": 1000, "dpo": 100}  # docs/contract.md §7.3
ADVISED_CPT_TOKENS = 10_000_000  # the lower of two figures

_FEW = 100  # one row in so many that is nearly another is chance
_LABEL_LENGTH = 40
_MOST_LABELS = 50
_LABELS_COUNTED = 1000
_HEAD = 120  # characters of an answer that tell its script


class Repeats(NamedTuple):
    """Rows that are like an earlier one: how many, and where the first of them is and what it is like."""

    rows: int
    places: tuple[Position, Position] | None = None


class Lengths(NamedTuple):
    """How long rows are: altogether, the longest and its place, and how many stay below each power of two."""

    total: int = 0
    longest: int = 0
    at: Position | None = None
    below: Mapping[int, int] = {}


@dataclass(frozen=True)
class Lint:
    """The census of a source. `scripts` and `labels` count answers; `labels` is empty where answers are no labels.

    `complete` is false where there were more different rows than are remembered; repeats are then at least as many.
    """

    rows: int
    repeated: Repeats
    alike: Repeats
    complete: bool
    characters: Lengths
    scripts: Mapping[str, int]
    labels: Mapping[str, int]
    thoughts: int

    @property
    def different(self) -> int:
        return self.rows - self.repeated.rows


class Census:
    """Taken row by row; `lint` is what it has come to."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._rows = self._thoughts = self._total = self._longest = self._longest_at = 0
        self._same, self._near = _Seen(), _Seen()
        self._sizes: Counter[int] = Counter()
        self._scripts: Counter[str] = Counter()
        self._labels: Counter[str] | None = Counter()

    def begin(self, file: str) -> None:
        """The rows that follow are those of this file."""
        self._files.append(file)

    def take(self, row: Row, fingerprint: int, text: str) -> None:
        """A sound row and all its text."""
        assert row.value is not None
        self._rows += 1
        place = len(self._files) << 32 | row.number
        is_new = self._same.is_new(fingerprint, place)
        if is_new:
            self._near.is_new(near_fingerprint(row.body), place)
        self._total += len(text)
        self._sizes[len(text).bit_length()] += 1
        if len(text) > self._longest:
            self._longest, self._longest_at = len(text), place
        answer = answer_of(row.value)
        self._scripts[script_of(answer[:_HEAD])] += 1
        self._thoughts += "</think>" in answer
        if self._labels is not None and is_new:
            self._label(answer)

    def _label(self, answer: str) -> None:
        """Answers are counted as long as they may be labels."""
        assert self._labels is not None
        self._labels[answer] += 1
        if len(answer) > _LABEL_LENGTH or len(self._labels) > _LABELS_COUNTED:
            self._labels = None

    @property
    def lint(self) -> Lint:
        return Lint(
            rows=self._rows,
            repeated=self._repeats(self._same),
            alike=self._repeats(self._near),
            complete=len(self._same.places) < MAX_REMEMBERED,
            characters=Lengths(
                self._total,
                self._longest,
                self._place(self._longest_at) if self._longest_at else None,
                {1 << bits: count for bits, count in sorted(self._sizes.items())},
            ),
            scripts=dict(self._scripts.most_common()),
            labels=self._found_labels(),
            thoughts=self._thoughts,
        )

    def _found_labels(self) -> Mapping[str, int]:
        """Answers are labels where few short ones are given over and over."""
        counted: Mapping[str, int] = self._labels or {}
        few = len(counted) <= _MOST_LABELS and sum(counted.values()) >= 10 * len(counted)
        return dict(Counter(counted).most_common()) if few else {}

    def _repeats(self, seen: _Seen) -> Repeats:
        return Repeats(seen.repeats, seen.first and (self._place(seen.first[0]), self._place(seen.first[1])))

    def _place(self, place: int) -> Position:
        return Position(self._files[(place >> 32) - 1], place & 0xFFFFFFFF, 1)


class _Seen:
    """Fingerprints with the place where each was first met."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.repeats = 0
        self.first: tuple[int, int] | None = None

    def is_new(self, fingerprint: int, place: int) -> bool:
        before = self.places.get(fingerprint)
        if before is None:
            if len(self.places) < MAX_REMEMBERED:
                self.places[fingerprint] = place
            return True
        self.first = self.first or (place, before)
        self.repeats += 1
        return False


# One row ------------------------------------------------------------------------------------------------------------


def fingerprint(body: bytes) -> int:
    """64 bits that tell rows apart within this process; keyed by Python anew in each, so that nobody can aim at one."""
    return hash(body)


def near_fingerprint(body: bytes) -> int:
    """The same for rows that differ only in the case of ASCII letters, spaces, and common punctuation."""
    plain = body.translate(_LOWER, _MARKS)
    if not plain.isascii():
        for mark in _WIDE_MARKS:
            plain = plain.replace(mark, b"")
    return hash(plain)


_LOWER = bytes(range(256)).lower()
_MARKS = bytes(code for code in range(128) if not chr(code).isalnum())
_WIDE_MARKS = tuple(mark.encode() for mark in "，。！？")


def script_of(text: str) -> str:
    """The script a text is mostly in: Chinese, Japanese, Korean, Latin, or other."""
    if 4 * count_east_asian(text.encode("utf-8", "replace")) >= len(text) > 0:
        return "Japanese" if _KANA.search(text) else "Korean" if _HANGUL.search(text) else "Chinese"
    return "Latin" if _LATIN.search(text) else "other"


_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_KANA = re.compile("[\u3041-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7af]")


# The whole ----------------------------------------------------------------------------------------------------------


def judge(lint: Lint, checks: Checks, format: str, *, tokens: int | None) -> Iterator[tuple[Level, Problem]]:
    """What is wrong with the whole. What has no place of its own is a matter of the source."""
    least = "" if lint.complete else "at least "
    if (level := _LEVELS[checks.duplicates]) and lint.repeated.places:
        at_first, like = lint.repeated.places
        what = f"{least}{lint.repeated.rows:,} of {lint.rows:,} rows repeat an earlier one"
        what += f", here {_seen_from(at_first, like)}: {lint.different:,} are different"
        yield level, Problem(what, at_first, "each is paid for, and learnt by heart", "duplicates")
    level = _LEVELS[checks.near_duplicates]
    if level and lint.alike.places and (level is Level.ERROR or _FEW * lint.alike.rows >= lint.rows):
        at_first, like = lint.alike.places
        what = f"{least}{lint.alike.rows:,} of {lint.rows:,} rows are an earlier one in other case, spaces or marks"
        what += f", here {_seen_from(at_first, like)}"
        yield level, Problem(what, at_first, "", "near-duplicates")
    yield from _too_few(lint, checks, format, tokens)


_LEVELS: Mapping[str, Level | None] = {"ignore": None, "warn": Level.WARNING, "error": Level.ERROR}


def _seen_from(at: Position, other: Position) -> str:
    return f"line {other.line:,}" if at.file == other.file else f"{shown(other.file)} line {other.line:,}"


def _too_few(lint: Lint, checks: Checks, format: str, tokens: int | None) -> Iterator[tuple[Level, Problem]]:
    if not lint.rows:
        return
    if checks.min_rows is not None:
        if lint.rows < checks.min_rows:
            what = f"{lint.rows:,} rows, and lint.minRows wants {checks.min_rows:,}"
            yield Level.ERROR, Problem(what, None, "", "few-rows")
    elif format == "cpt":
        if tokens is not None and tokens < ADVISED_CPT_TOKENS:
            what = f"about {tokens:,} tokens, and {ADVISED_CPT_TOKENS:,} or more are advised for cpt"
            yield Level.WARNING, Problem(what, None, _HINT.format(lint.rows), "few-rows")
    elif lint.rows < ADVISED_ROWS[format]:
        what = f"{lint.rows:,} rows, and {ADVISED_ROWS[format]:,} or more are advised for {format}"
        yield Level.WARNING, Problem(what, None, _HINT.format(lint.rows), "few-rows")


_HINT = "if they are enough, say so: lint: {{minRows: {}}}"
