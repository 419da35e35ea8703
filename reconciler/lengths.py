"""How long the rows of training data are, in tokens: what a greatest length would cost, and which one costs little.

A value without a row in it. It is exact however many rows there are: rows of k different lengths hold k²/2 tokens or
more, so that the largest file the service takes has some 25,000 of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise


@dataclass(frozen=True)
class Lengths:
    """Each length that occurs with the number of rows that have it, ascending. `tokens` is what is billed for.

    Of a preference row the longer answer counts towards its length, and both towards `tokens`. `counted`: by the
    vocabulary of the model; else it is all an estimate. The chat template is in none of it.
    """

    counts: tuple[tuple[int, int], ...]
    tokens: int
    counted: bool

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.counts)

    @property
    def longest(self) -> int:
        return self.counts[-1][0] if self.counts else 0

    @property
    def is_sound(self) -> bool:
        """Whether it can have come from counting: to be asked of one that was read from a disk."""
        lengths = [-1, *(length for length, _ in self.counts)]
        return all(before < after for before, after in pairwise(lengths)) and all(rows > 0 for _, rows in self.counts)

    def over(self, limit: int) -> int:
        """How many rows are longer."""
        return sum(rows for length, rows in self.counts if length > limit)

    def share_over(self, limit: int) -> Fraction:
        """How many of all rows are longer."""
        return Fraction(self.over(limit), self.rows) if self.counts else Fraction(0)

    def lost(self, limit: int, *, truncated: bool) -> Fraction:
        """The share of tokens that is not learnt from, where longer rows are cut off or else left out."""
        kept = limit if truncated else 0
        gone = sum((length - kept) * rows for length, rows in self.counts if length > limit)
        return Fraction(gone, sum(length * rows for length, rows in self.counts)) if gone else Fraction(0)

    def keeping(self, percent: int) -> int:
        """The smallest length that is enough for so many of the rows."""
        wanted, kept = -(-self.rows * percent // 100), 0
        for length, rows in self.counts:
            kept += rows
            if kept >= wanted:
                return length
        return self.longest

    def histogram(self) -> tuple[tuple[int, int, int], ...]:
        """The rows from one length up to another: each range ends at twice the length of the one before."""
        bars: Counter[int] = Counter()
        for length, rows in self.counts:
            bars[length.bit_length()] += rows
        return (
            tuple((1 << bits >> 1, (1 << bits) - 1, bars[bits]) for bits in range(min(bars), max(bars) + 1))
            if bars
            else ()
        )


def merged(several: Iterable[Lengths]) -> Lengths | None:
    """All of them as one; None of nothing. It is counted where every one is."""
    found = list(several)
    if len(found) == 1:
        return found[0]
    total: Counter[int] = Counter()
    for one in found:
        for length, rows in one.counts:
            total[length] += rows
    counted = all(one.counted for one in found)
    return Lengths(tuple(sorted(total.items())), sum(one.tokens for one in found), counted) if found else None
