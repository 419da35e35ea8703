"""What a controller tells of its looks: lines, a table, data, log entries and notifications."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from reconciler.approvals import DIGITS
from reconciler.conditions import Condition, Happened, Health, News, Reason, Report, Sync, rate
from reconciler.money import a_month
from reconciler.render.state import reason_text
from reconciler.render.words import Line, clean, count, money, page, table
from reconciler.state import Approval, canonical

NOTICE_VERSION = 1
NOTICES: Mapping[str, str] = {
    Reason.DRIFTED: "drift",
    Reason.GONE: "drift",
    Reason.FAILED: "failed",
    Reason.NEXT_FAILED: "failed",
    Reason.DUPLICATE: "duplicate",
    News.FINISHED: "finished",
    News.APPROVAL_NEEDED: "approval-needed",
    News.BUDGET_NEAR: "budget-near",
    News.LOOK_FAILED: "look-failed",
    News.NOT_IN_FORCE: "look-failed",
    News.RECOVERED: "recovered",
}
"""Which events are told to a webhook, and as what."""


def look_text(name: str, report: Report) -> str:
    """One line a look: which stack, how it is, and what it waits for."""
    if report.error:
        why = "\n  ".join(clean(line, 600) for line in report.error.splitlines())
        return f"{report.looked_at}  {clean(name)}  {why}"
    words = [report.looked_at, clean(name), report.sync.value, report.health.value]
    if report.proposal:
        words.append(f"{len(report.held)} wait for approval: reconciler approve {report.proposal}")
    return "  ".join(words)


def event_text(name: str, event: Happened) -> str:
    """One line an event."""
    words = (event.at, clean(name), clean(event.slot), clean(event.reason), clean(event.message))
    return "  ".join(filter(None, words))


def look_entry(name: str, report: Report, verdict: str, took_s: float | None) -> dict[str, Any]:
    """One look as an entry of a log; members that say nothing are left out."""
    entry = {
        "event": "look",
        "stack": name,
        "verdict": verdict,
        "sync": report.sync.value,
        "health": report.health.value,
        "revision": report.revision,
        "took_s": None if took_s is None else round(took_s, 3),
        "hour_cny": report.hour,
        "held": len(report.held) or None,
        "proposal": report.proposal,
        "failures": report.failures or None,
        "cause": report.cause,
        "error": report.error,
    }
    return {name: value for name, value in entry.items() if value not in (None, "")}


def event_entry(name: str, event: Happened) -> dict[str, Any]:
    """One event the same way."""
    entry = {"event": event.reason, "stack": name, "object": event.slot, "message": event.message}
    return {name: value for name, value in entry.items() if value}


def notices(name: str, report: Report) -> Iterator[dict[str, Any]]:
    """What a webhook is told of the last look (docs/watching.md). The same event always has the same `id`."""
    for event in report.news:
        kind = _kind(event)
        if not kind:
            continue
        told = [name, event.at, event.slot, event.reason, event.message]
        yield {
            "version": NOTICE_VERSION,
            "id": hashlib.sha256(canonical(told).encode()).hexdigest()[:32],
            "kind": kind,
            "at": _utc(event.at),
            "stack": name,
            "object": event.slot or None,
            "reason": event.reason,
            "message": event.message,
            "revision": report.revision,
            "status": _status_json(report),
        }


def _kind(event: Happened) -> str:
    """What a webhook is told of it as, "" for nothing."""
    if event.reason == News.APPROVAL_NEEDED and event.slot:
        return ""  # told with that of the stack, once
    if event.reason == Reason.GONE and not event.slot:
        return NOTICES[News.LOOK_FAILED]  # the stack itself is no longer in its source
    return NOTICES.get(event.reason, "")


def _utc(at: str) -> str | None:
    return f"{at.replace(' ', 'T')}Z" if at else None


def _status_json(report: Report) -> dict[str, Any]:
    return {
        "sync": report.sync.value,
        "health": report.health.value,
        "hour_cny": report.hour,
        "limit_cny": report.limit,
        "held": list(report.held),
        "proposal": report.proposal,
    }


# All stacks ---------------------------------------------------------------------------------------------------------


def fleet_text(reports: Sequence[Report], width: int | None, *, events: int = 0) -> str:
    """A line a stack, then what waits for somebody, what went wrong, and the newest events of all of them."""
    if not reports:
        return "no controller has looked at anything here yet"
    header = ("STACK", "SYNC", "HEALTH", "REVISION", "LOOKED AT", "SUCCEEDED AT", "CNY/H", "WAITS")
    rows = [_row(report) for report in reports]
    hour = rate(reports)
    lines = [Line(f"run rate {money(hour)} CNY/h ({money(a_month(hour))} a month)", {"bold": True})]
    lines += [Line(_waits_text(report)) for report in reports if report.proposal]
    lines += [Line(f"{clean(r.stack)}: {_first_line(r.error)}", {"fg": "red"}) for r in reports if r.error]
    lines += [
        Line(f"{clean(report.stack)}: {clean(one.slot)}: {reason_text(one)}")
        for report in reports
        for one in report.conditions
        if _wants_somebody(one)
    ]
    newest = sorted(((e.at, r.stack, n, e) for r in reports for n, e in enumerate(r.events)), key=lambda told: told[:3])
    lines += [Line(event_text(stack, event), {"dim": True}) for _, stack, _, event in newest[-events:] if events]
    return "\n".join([table(header, rows, width), page(lines, width)])


def _row(report: Report) -> tuple[str, ...]:
    return (
        clean(report.stack),
        report.sync.value,
        report.health.value,
        clean(report.revision, 13),
        report.looked_at or "never",
        report.succeeded_at or "never",
        "" if not report.succeeded_at or report.hour == "0" else money(_amount(report.hour)),
        str(len(report.held) or ""),
    )


def _wants_somebody(one: Condition) -> bool:
    return one.health in (Health.DEGRADED, Health.FAILED) or one.sync is Sync.UNKNOWN


def _waits_text(report: Report) -> str:
    what = count(len(report.held), "operation")
    return f"{clean(report.stack)}: {what} for approval: reconciler approve {clean(report.proposal)}"


def _first_line(error: str) -> str:
    first, _, more = error.partition("\n")
    return clean(first, 400) + (" …" if more else "")


def fleet_json(reports: Sequence[Report], *, events: int | None = None) -> dict[str, Any]:
    """The same for programs: all there is; of the events the newest of each stack, where a number is given."""
    hour = rate(reports)
    return {
        "hour_cny": None if hour is None else str(hour),
        "stacks": [report_json(report, events=events) for report in reports],
    }


def report_json(report: Report, *, events: int | None = None) -> dict[str, Any]:
    """One stack for programs; null where there is nothing, or it is not known."""
    kept = report.events if events is None else report.events[len(report.events) - min(events, len(report.events)) :]
    return {
        "stack": report.stack,
        "mode": report.mode or None,
        "revision": report.revision or None,
        "looked_at": _utc(report.looked_at),
        "succeeded_at": _utc(report.succeeded_at),
        "failures": report.failures,
        "error": report.error or None,
        "cause": report.cause or None,
        **_status_json(report),
        "objects": [_condition_json(one) for one in report.conditions],
        "events": [
            {"at": _utc(e.at), "object": e.slot or None, "reason": e.reason, "message": e.message} for e in kept
        ],
    }


def _condition_json(one: Condition) -> dict[str, Any]:
    return {
        "object": one.slot,
        "sync": one.sync.value,
        "health": one.health.value,
        "reason": one.reason.value,
        "message": one.message,
        "since": _utc(one.since),
        "status": one.status or None,
    }


# Approvals ----------------------------------------------------------------------------------------------------------


def proposals_text(proposed: Sequence[Approval]) -> str:
    """Everything that waits for a yes, with the command that gives it."""
    if not proposed:
        return "nothing waits for approval"
    return "\n".join(f"{proposal_text(one)}\n  reconciler approve {one.digest[:DIGITS]}" for one in proposed)


def proposal_text(proposed: Approval) -> str:
    """What somebody is asked to agree to."""
    revision = f" for {clean(proposed.revision)}" if proposed.revision else ""
    lines = [f"proposed at {clean(proposed.proposed_at)} Beijing time{revision}"]
    lines += (
        f"  {clean(one.action)} {clean(one.slot)}  once {_cny(one.once)} CNY, {_cny(one.hour)} CNY/h more"
        for one in proposed.held
    )
    return "\n".join(lines)


def proposal_json(proposed: Approval) -> dict[str, Any]:
    """The same for programs; an amount that nobody knows is null."""
    return {
        "digest": proposed.digest,
        "proposed_at": _of_the_service(proposed.proposed_at),
        "revision": proposed.revision or None,
        "approved_at": _of_the_service(proposed.approved_at),
        "by": proposed.by or None,
        "operations": [
            {"action": one.action, "object": one.slot, "once_cny": one.once, "hour_cny": one.hour}
            for one in proposed.held
        ],
    }


def _of_the_service(at: str) -> str | None:
    """A time of the service's clock, which is that of Beijing (contract §1.2)."""
    return f"{at.replace(' ', 'T')}+08:00" if at else None


def _cny(amount: str | None) -> str:
    return money(_amount(amount))


def _amount(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)


def approved_text(agreed: Approval) -> str:
    return f"approved by {clean(agreed.by)} at {agreed.approved_at} Beijing time"
