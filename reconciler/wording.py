"""Words that came from outside: whether they can be seen, how to quote them, and which known word was probably meant.

Every reader of the author's files speaks through these, so that no message carries a control character or grows without
bound. Standard library only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

MAX_HINTS = 20  # of many mistakes alike: for each hint every name there is is looked at


def shown(word: str, *, limit: int = 100) -> str:
    """A word in quotes, with everything invisible written as an escape and cut to `limit` characters."""
    return repr(word if len(word) <= limit else word[: limit - 1] + "…")


def is_hidden(letter: str) -> bool:
    """Whether a character is one that nobody sees, and neither a space, a tab nor a line feed.

    Control, format, private, unassigned and surrogate characters are hidden; the two joiners that Persian and emoji
    need are not counted.
    """
    return not letter.isprintable() and letter not in "\n\t\u200c\u200d" and unicodedata.category(letter) != "Zs"


def visible(text: str) -> bool:
    """Whether a text holds no hidden character."""
    return text.isprintable() or not any(is_hidden(letter) for letter in set(text))


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint with the choice that was probably meant; empty if none is near."""
    near = get_close_matches(word[:200], sorted(choices), n=1)
    return f"did you mean {near[0]}?" if near else ""


def suggestion(word: str, choices: Iterable[str]) -> str:
    """A hint with the choice that was probably meant, else with all of them if they are few."""
    known = sorted(choices)
    few = f"it may be {', '.join(known)}" if 0 < len(known) <= 12 else ""
    return did_you_mean(word, known) or few
