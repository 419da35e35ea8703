"""Who may look at the page, and who may approve on it: named tokens in a file that only its owner reads.

A browser holds no token, only a word derived from it, so that what leaks from a browser opens no other door.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.adapters import connection
from reconciler.errors import ReconcilerError

FILE = "page-tokens"
FIRST = "page"  # the name of the token that a first start makes
SECRET_MIN = 32
_BYTES_MAX = 64_000
_LINE = re.compile(rf"([A-Za-z0-9][\w.@-]{{0,63}}) (read|approve) ([\w+/=.-]{{{SECRET_MIN},200}})", re.ASCII)


@dataclass(frozen=True)
class Token:
    """One who may look. `name` is what is recorded of an approval."""

    name: str
    secret: str
    approves: bool = False

    @property
    def cookie(self) -> str:
        """What a browser holds in its place."""
        return hmac.digest(self.secret.encode(), b"page cookie", "sha256").hex()

    def __repr__(self) -> str:
        return f"Token({self.name!r})"


@dataclass(frozen=True)
class Tokens:
    """Those who may look."""

    known: tuple[Token, ...]

    def by_secret(self, secret: str) -> Token | None:
        return self._same(secret, [(one, one.secret) for one in self.known])

    def by_cookie(self, cookie: str) -> Token | None:
        return self._same(cookie, [(one, one.cookie) for one in self.known])

    @staticmethod
    def _same(given: str, known: Iterable[tuple[Token, str]]) -> Token | None:
        """Compares with every one, so that time tells nothing."""
        raw, found = given.encode("utf-8", "replace"), None
        for token, word in known:
            found = token if hmac.compare_digest(raw, word.encode()) else found
        return found

    def all_approving(self) -> Tokens:
        return Tokens(tuple(replace(one, approves=True) for one in self.known))


def made(name: str, *, approves: bool = False) -> Token:
    """A new token."""
    return Token(name, secrets.token_hex(32), approves)


def kept(root: Path) -> tuple[Tokens, Token | None]:
    """The tokens of the controller whose folder this is, and the one that was made just now, at its first start."""
    path = connection.private_folder(root) / FILE
    fresh = made(FIRST)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return read(path), None
    except OSError as error:
        raise ReconcilerError(f"{path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{fresh.name} read {fresh.secret}\n")
    return Tokens((fresh,)), fresh


def read(path: Path) -> Tokens:
    """One token a line: NAME, `read` or `approve`, and the secret. No message ever holds any of a secret."""
    text = connection.private_text(str(path), "the file of the page's tokens", most=_BYTES_MAX)
    found: list[Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if not parts or any(one.name == parts[1] for one in found):
            hint = (
                f"NAME read SECRET or NAME approve SECRET, each name once, a secret of {SECRET_MIN} characters or more"
            )
            raise ReconcilerError(f"{path}:{number} is no token", hint=hint)
        found.append(Token(parts[1], parts[3], parts[2] == "approve"))
    if not found:
        raise ReconcilerError(f"{path} holds no token", hint="remove it: the next start makes one")
    return Tokens(tuple(found))
