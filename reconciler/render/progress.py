"""How an apply goes and what it came to: a line or a JSON object for each event, and the summary at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.apply import Progress, Stage
from reconciler.engine import Applied
from reconciler.plan import Verb
from reconciler.recover import Candidate, Finding
from reconciler.render.data import cny
from reconciler.render.words import Line, clean, duration, money, page

_SENDING: Mapping[Verb, str] = {
    Verb.CREATE: "creating",
    Verb.UPDATE: "updating",
    Verb.DELETE: "deleting",
    Verb.DISCARD: "stopping",
    Verb.CANCEL: "canceling",
}
_DONE: Mapping[Verb, str] = {
    Verb.CREATE: "ready",
    Verb.UPDATE: "updated",
    Verb.DELETE: "deleted",
    Verb.DISCARD: "stopped",
    Verb.CANCEL: "canceled",
    Verb.FORGET: "forgotten",
    Verb.ADOPT: "ready",
    Verb.WAIT: "ready",
}
_STAGES: Mapping[Stage, str] = {
    Stage.TODO: "to do",
    Stage.FAILED: "failed",
    Stage.SKIPPED: "skipped",
    Stage.DETACHED: "goes on without us",
    Stage.UNKNOWN: "outcome unknown",
    Stage.BLOCKED: "blocked",
}
STYLES: Mapping[Stage, Mapping[str, Any]] = {
    Stage.DONE: {"fg": "green"},
    Stage.FAILED: {"fg": "red", "bold": True},
    Stage.UNKNOWN: {"fg": "red", "bold": True},
    Stage.BLOCKED: {"fg": "red"},
    Stage.SKIPPED: {"fg": "yellow"},
    Stage.DETACHED: {"fg": "cyan"},
}

STOPPING = "stopping: what is in flight is still concluded and recorded; once more to leave at once"


def left_text(progress: Iterable[Progress]) -> str:
    """The last words of a run that does not wait for its answers: what is open, and what closes it."""
    sent = [f"{clean(one.operation.slot)} (operation {clean(one.op_id)})" for one in tuple(progress) if one.op_id]
    if not sent:
        return "left at once: whatever the service accepted is recorded"
    return f"left at once: not answered yet: {', '.join(sent)}\n  the next apply looks for it before anything else"


def stage_text(progress: Progress) -> str:
    """How far an operation is, in the service's own word where it has one."""
    match progress.stage:
        case Stage.SENDING:
            return "asking the smoke prompts" if progress.status == "smoke" else _SENDING[progress.operation.verb]
        case Stage.WAITING:
            return "accepted" if progress.status in ("", "sent") else clean(progress.status)
        case Stage.DONE:
            return _DONE[progress.operation.verb]
        case _:
            return _STAGES[progress.stage]


def event_text(progress: Progress, elapsed_s: float) -> str:
    """One line of an apply that nobody watches: minutes and seconds since its start, slot, state, detail."""
    clock = f"{int(elapsed_s) // 60:3d}:{int(elapsed_s) % 60:02d}"
    return f"{clock}  {outcome_text(progress)}"


def outcome_text(progress: Progress) -> str:
    """One operation, in one line: slot, state, detail."""
    line = f"{clean(progress.operation.slot)}  {stage_text(progress)}"
    return line + (f": {clean(progress.detail, 400)}" if progress.detail else "")


def live_texts(progress: Progress) -> tuple[str, str, str]:
    """One operation under way: slot, state, and the number worth watching."""
    return clean(progress.operation.slot), stage_text(progress), clean(progress.detail)


def _under_way(progress: Iterable[Progress]) -> list[Progress]:
    return [one for one in progress if one.stage in (Stage.SENDING, Stage.WAITING)]


def heartbeat_text(progress: Iterable[Progress], elapsed_s: float) -> str:
    """What an apply waits for, said now and then so that nobody thinks it is dead."""
    waiting = _under_way(progress)
    told = [
        f"{clean(p.operation.slot)} {stage_text(p)} for {duration(p.elapsed_s)}"
        + (f" ({clean(p.detail)})" if p.detail else "")
        for p in waiting[:3]
    ]
    more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
    return f"{int(elapsed_s) // 60:3d}:{int(elapsed_s) % 60:02d}  waiting for {', '.join(told) or 'an answer'}{more}"


def finding_text(finding: Finding) -> str:
    """What became of a creation whose answer was never seen; where a person must tell, all that is needed for it."""
    slot, what = clean(finding.intent.slot), clean(finding.what, 600)
    return "\n".join(_question(finding)) if finding.open else f"recovered: {slot} {what}"


def _question(finding: Finding) -> Iterator[str]:
    intent = finding.intent
    op_id = clean(intent.op_id)
    yield f"not resolved: {clean(intent.slot)}: {clean(finding.what, 600)}"
    yield f"  sent at {clean(intent.at)} by operation {op_id}, with the mark {clean(intent.tag) or '(none)'}"
    yield f"  looked for in {clean(intent.collection)}; its slot stays closed"
    yield from (f"  may be {candidate_text(one)}" for one in finding.candidates)
    named = clean(finding.candidates[0].id) if len(finding.candidates) == 1 else "ID"
    yield f"  reconciler ops resolve {op_id} --adopt {named}"
    yield f"  reconciler ops resolve {op_id} --absent --reason TEXT"


def candidate_text(one: Candidate) -> str:
    """An object that an open operation may have made: id, time, status, cost."""
    cost = f"{money(one.once)} CNY once" if one.once != 0 else f"{money(one.hour)} CNY/h" if one.hour != 0 else ""
    created = f"created {one.created}" if one.created else ""
    return ", ".join(clean(word) for word in (one.id, created, one.status, cost) if word)


# The summary --------------------------------------------------------------------------------------------------------


def summary_text(applied: Applied, *, emulated: bool, stopped: bool = False, width: int | None = None) -> str:
    """Counts, then everything that did not go well with its reason, then what goes on remotely and what it costs."""
    lines = []
    head = "stopped" if stopped else "applied"
    counts = _counts(applied.progress)
    lines.append(Line(f"{head}: {counts or 'nothing to do'}", {"bold": True}))
    for stage in (Stage.FAILED, Stage.UNKNOWN, Stage.BLOCKED, Stage.SKIPPED):
        told = {line.text: line for line in (_outcome(one) for one in applied.progress if one.stage is stage)}
        lines += told.values()
    going = [one for one in applied.progress if one.stage is Stage.DETACHED]
    lines += [_going(one) for one in going]
    if going:
        lines.append(Line("the next apply picks it up; nothing is bought twice", indent=2))
    if emulated:
        lines.append(Line("emulator: nothing was bought"))
    return page(lines, width)


def _counts(progress: Sequence[Progress]) -> str:
    words = Counter(word for _, word in dict.fromkeys((one.operation.slot, stage_text(one)) for one in progress))
    return ", ".join(f"{number} {word}" for word, number in words.items())


def _outcome(one: Progress) -> Line:
    why = clean(one.detail or one.operation.why, 600)
    hint = f" ({clean(one.operation.hint, 400)})" if one.operation.hint else ""
    text = f"{_STAGES[one.stage]}: {clean(one.operation.slot)}"
    return Line(f"{text}: {why}{hint}", STYLES[one.stage], indent=2, head=len(text))


def _going(one: Progress) -> Line:
    status = f" ({clean(one.status)})" if one.status else ""
    price = one.operation.price
    cost = f", {money(price.once)} CNY" if price.once != 0 else ""
    cost += f", {money(price.hour)} CNY/h once it runs" if price.hour != 0 else ""
    return Line(f"goes on: {clean(one.operation.slot)}{status}{cost}", STYLES[Stage.DETACHED], indent=2)


# A wait -------------------------------------------------------------------------------------------------------------


def waited_text(progress: Sequence[Progress], width: int | None) -> str:
    """How each object that was waited for is now."""
    if not progress:
        return "nothing is under way"
    return page((Line(_waited(one), STYLES.get(one.stage)) for one in progress), width)


def _waited(one: Progress) -> str:
    status = f" ({clean(one.status)})" if one.status else ""
    detail = f": {clean(one.detail, 600)}" if one.detail else ""
    word = "not yet" if one.stage is Stage.DETACHED else stage_text(one)
    return f"{clean(one.operation.slot)}  {clean(one.operation.target_id)}  {word}{status}{detail}"


def waited_json(progress: Sequence[Progress], goal: str, *, exit_code: int) -> dict[str, Any]:
    """The same for programs. `outcome` is the goal, "failed", or "waiting" where the time was over."""
    outcomes = {Stage.DONE: goal, Stage.FAILED: "failed"}
    return {
        "for": goal,
        "exit_code": exit_code,
        "objects": [
            {
                "address": one.operation.slot.address,
                "part": one.operation.slot.part,
                "id": one.operation.target_id,
                "outcome": outcomes.get(one.stage, "waiting"),
                "status": one.status,
                "detail": one.detail,
            }
            for one in progress
        ],
    }


# For programs -------------------------------------------------------------------------------------------------------


def event_json(progress: Progress) -> dict[str, Any]:
    """One event of `apply -o json`."""
    return {"event": "progress", **_facts(progress)}


def _facts(progress: Progress) -> dict[str, Any]:
    op = progress.operation
    return {
        "operation": op.id,
        "address": op.slot.address,
        "part": op.slot.part,
        "verb": op.verb.value,
        "stage": progress.stage.value,
        "status": progress.status,
        "detail": progress.detail,
        "elapsed_s": round(progress.elapsed_s, 1),
    }


def heartbeat_json(progress: Iterable[Progress], elapsed_s: float) -> dict[str, Any]:
    """That it still waits, `elapsed_s` after its start, and for what as that was last told."""
    return {
        "event": "heartbeat",
        "elapsed_s": round(elapsed_s, 1),
        "waiting_for": [_facts(one) for one in _under_way(progress)],
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    intent = finding.intent
    return {
        "event": "recovered",
        "operation": intent.op_id,
        "address": intent.slot.address,
        "part": intent.slot.part,
        "phase": intent.phase.value,
        "what": finding.what,
        "candidates": [candidate_json(one) for one in finding.candidates],
    }


def candidate_json(one: Candidate) -> dict[str, Any]:
    """A candidate for programs; null is unknown."""
    costs = {"once_cny": cny(one.once), "hour_cny": cny(one.hour)}
    return {"id": one.id, "created": one.created, "status": one.status, **costs}


def summary_json(applied: Applied, *, exit_code: int) -> dict[str, Any]:
    """The last event: how many operations ended how, each that did not go well, and the exit code."""
    stages = Counter(one.stage.value for one in applied.progress)
    troubled = [one for one in applied.progress if one.stage is not Stage.DONE]
    return {
        "event": "summary",
        "exit_code": exit_code,
        "declined": applied.declined,
        "counts": dict(sorted(stages.items())),
        "not_done": [_facts(one) for one in troubled],
    }
