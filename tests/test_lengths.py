"""Lengths against a plain list of them: whatever is asked, the answer is that of counting rows one by one."""

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from reconciler.lengths import Lengths, merged

rows = st.lists(st.integers(0, 300), min_size=1, max_size=80)


def of(lengths: list[int], *, counted: bool = True) -> Lengths:
    return Lengths(tuple(sorted(Counter(lengths).items())), sum(lengths), counted)


@given(rows, st.integers(0, 320))
def test_what_a_limit_costs(lengths: list[int], limit: int) -> None:
    found, longer = of(lengths), [length for length in lengths if length > limit]
    assert found.rows == len(lengths)
    assert found.longest == max(lengths)
    assert found.over(limit) == len(longer)
    assert found.share_over(limit) == Fraction(len(longer), len(lengths))
    total = max(1, sum(lengths))
    assert found.lost(limit, truncated=False) == Fraction(sum(longer), total)
    assert found.lost(limit, truncated=True) == Fraction(sum(length - limit for length in longer), total)


@given(rows, st.integers(1, 100))
def test_the_smallest_length_that_keeps_a_share_is_enough_and_one_less_is_not(lengths: list[int], percent: int) -> None:
    found = of(lengths)
    enough = found.keeping(percent)
    assert 100 * (found.rows - found.over(enough)) >= percent * found.rows
    assert 100 * (found.rows - found.over(enough - 1)) < percent * found.rows


@given(rows)
def test_every_row_is_in_the_bar_that_holds_its_length(lengths: list[int]) -> None:
    bars = of(lengths).histogram()
    assert sum(count for _, _, count in bars) == len(lengths)
    assert all(count == sum(least <= one <= greatest for one in lengths) for least, greatest, count in bars)


@given(rows, rows)
def test_several_together_are_all_their_rows(some: list[int], others: list[int]) -> None:
    assert merged([of(some), of(others)]) == of([*some, *others])
    assert merged([of(some), of(others, counted=False)]) == of([*some, *others], counted=False)


def test_nothing_is_no_lengths_and_no_rows_lose_nothing() -> None:
    assert merged([]) is None
    empty = of([])
    assert (empty.rows, empty.longest, empty.keeping(99), empty.histogram()) == (0, 0, 0, ())
    assert empty.share_over(10) == empty.lost(10, truncated=False) == 0


def test_what_no_counting_comes_to_is_not_sound() -> None:
    """It may have been read from a disk that somebody wrote to."""
    assert of([0, 3, 3]).is_sound
    for counts in (((3, 1), (2, 1)), ((2, 1), (2, 1)), ((-1, 1),), ((2, 0),), ((2, -1),)):
        assert not Lengths(counts, 5, True).is_sound
