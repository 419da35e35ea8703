"""What a controller tells of its looks."""

from __future__ import annotations

from decimal import Decimal

from reconciler.conditions import Report
from reconciler.render.words import clean, money
from reconciler.state import Approval


def look_text(name: str, report: Report) -> str:
    """One line a look: which stack, how it is, and what it waits for."""
    if report.error:
        why = "\n  ".join(clean(line, 600) for line in report.error.splitlines())
        return f"{report.looked_at}  {clean(name)}  {why}"
    words = [report.looked_at, clean(name), report.sync.value, report.health.value]
    if report.proposal:
        words.append(f"{len(report.held)} wait for approval: reconciler approve {report.proposal}")
    return "  ".join(words)


def proposal_text(proposed: Approval) -> str:
    """What somebody is asked to agree to."""
    lines = [f"proposed {proposed.proposed_at} UTC{f' at {clean(proposed.revision)}' if proposed.revision else ''}"]
    lines += (
        f"  {one.action} {clean(one.slot)}  once {_cny(one.once)} CNY, {_cny(one.hour)} CNY/h more"
        for one in proposed.held
    )
    return "\n".join(lines)


def _cny(amount: str | None) -> str:
    return money(None if amount is None else Decimal(amount))
