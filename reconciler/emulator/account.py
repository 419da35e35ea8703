"""Who the emulated account is: the ids the service would show in its objects, made from the install id."""

from __future__ import annotations

from reconciler.emulator.backend import Transaction


def account_id(tx: Transaction) -> str:
    """The main account: sixteen digits, as in `user_identity`, `creator` and `modifier` (contract §2.3)."""
    return f"1{int(tx.backend.install_id, 16) % 10**15:015d}"


def workspace_id(tx: Transaction) -> str:
    """`llm-` and sixteen characters (contract §8.3). The workspace header does not change it: nobody says it would."""
    return f"llm-{tx.backend.install_id[:16]}"
