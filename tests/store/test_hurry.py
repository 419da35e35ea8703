"""Looking now rather than later."""

from __future__ import annotations

from pathlib import Path

from reconciler.store.fleet import SqliteFleet


def test_what_is_hurried_is_due_sooner_and_never_later(tmp_path: Path) -> None:
    """A webhook that comes again and again must not put off the look it asks for."""
    now = [0.0]
    fleet = SqliteFleet(tmp_path / "fleet.db", "me", clock=lambda: now[0])
    fleet.enlist(["a"])
    claim = fleet.claim(["a"])
    assert claim
    fleet.finish(claim, "", due_in_s=60)
    fleet.hurry(["a"], in_s=2)
    assert fleet.next_due_in_s(["a"]) == 2
    now[0] = 1.0
    fleet.hurry(["a"], in_s=2)
    assert fleet.next_due_in_s(["a"]) == 1
