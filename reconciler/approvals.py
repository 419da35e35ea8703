"""What a loop may do by itself, and what waits until somebody says yes. Pure.

A yes belongs to operations and what they may cost, under one digest: progress elsewhere does not void it, a price that
rose does, and it is used up by what it let happen, so that nothing is bought twice on one word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from enum import StrEnum

from reconciler.errors import UsageError
from reconciler.plan import NO_PRICE, Operation, Plan, Verb, sums
from reconciler.resource import Action, Price
from reconciler.state import MADE, Approval, Held, State, Withdrawn, canonical
from reconciler.wording import shown

DIGITS_MIN = 8
DIGITS = 12  # of a digest, where a person reads or types it


class Mode(StrEnum):
    """How far a loop goes."""

    OBSERVE = "observe"  # tells what differs, and does nothing
    PLAN = "plan"  # proposes, and does what was approved
    APPLY = "apply"  # does what costs nothing at once, and the rest once it was approved


@dataclass(frozen=True)
class Leash:
    """How far a loop may go by itself.

    `paid_too`: the Stack lets what costs money happen by itself. What takes the place of something that is gone from
    the service, and a run that wants consent, are asked about all the same: the platform took the one, and the other
    was bought before. `revision` names what was read, for whoever is to agree.
    """

    mode: Mode
    paid_too: bool = False
    revision: str = ""

    def held(self, plan: Plan, state: State) -> tuple[Operation, ...]:
        """The operations of a plan that nobody has agreed to yet; who only observes asks for nothing."""
        if self.mode is Mode.OBSERVE:
            return ()
        asked = (op for op in plan.operations if op.verb is not Verb.NOTHING and op.verb is not Verb.WAIT)
        return tuple(op for op in asked if self._wants_a_word(op) and not _approved(op, state))

    def _wants_a_word(self, op: Operation) -> bool:
        if self.mode is not Mode.APPLY or op.needs_consent:
            return True
        return costs(op) and (not self.paid_too or bool(op.drops))

    def proposed(self, held: Sequence[Operation], state: State, at: str) -> tuple[Approval | Withdrawn, ...]:
        """What to record of what waits: a proposal that is new, and the end of those that are out of date."""
        now = proposal(held, at=at, revision=self.revision) if held else None
        old = [one.digest for one in open_proposals(state.approvals) if now is None or one.digest != now.digest]
        fresh = [now] if now and now.digest not in state.approvals else []
        return (*map(Withdrawn, old), *fresh)


def costs(op: Operation) -> bool:
    """Whether it raises what is paid, once or by the hour; an unknown price does."""
    if op.verb is Verb.CREATE and op.price.once != 0:
        return True
    rises = op.price.hour is None or op.was.hour is None or op.price.hour > op.was.hour
    return op.verb in (Verb.CREATE, Verb.UPDATE) and rises


def hold(plan: Plan, held: Sequence[Operation]) -> Plan:
    """The plan with these operations stopped; what rests on them is not reached then."""
    if not held:
        return plan
    stopped = {op.id for op in held}
    hint = f"reconciler approve {proposal(held, at='').digest[:DIGITS]}"
    operations = tuple(_stopped(op, hint) if op.id in stopped else op for op in plan.operations)
    return replace(plan, operations=operations, totals=sums(operations, plan.totals.hour_before))


def _stopped(op: Operation, hint: str) -> Operation:
    what = "costs money" if costs(op) else "changes something"
    common = replace(op, action=Action.BLOCKED, verb=Verb.NOTHING, was=NO_PRICE, price=NO_PRICE, needs_consent=False)
    return replace(common, why=f"{what} and waits for approval", hint=hint, code=3)


def proposal(held: Sequence[Operation], *, at: str, revision: str = "") -> Approval:
    """What is to be approved, under the digest of all of it."""
    asked = tuple(_held(op) for op in held)
    digest = hashlib.sha256(canonical([asdict(one) for one in asked]).encode()).hexdigest()
    return Approval(digest, asked, proposed_at=at, revision=revision)


def _held(op: Operation) -> Held:
    return Held(_key(op), str(op.slot), op.action.value, _text(op.price.once), _text(_hour(op.price, op.was)))


def _approved(op: Operation, state: State) -> bool:
    """Whether somebody agreed to this very operation at this price or more, and it has not happened since."""
    key = _key(op)
    return any(
        one.key == key
        and _within(op.price.once, one.once)
        and _within(_hour(op.price, op.was), one.hour)
        and not _happened(op, state, approval.approved_at)
        for approval in state.approvals.values()
        if approval.approved_at
        for one in approval.held
    )


def _key(op: Operation) -> str:
    """The same for an operation as long as it is to do the same, whatever became known of its references meanwhile."""
    part, target = op.part, "" if op.verb is Verb.CREATE else op.target_id
    content = part.content.digest if part and part.content else ""
    told = [op.verb, op.slot, op.collection, target, part.fields if part else {}, content]
    return hashlib.sha256(canonical(told).encode()).hexdigest()[:16]


def _happened(op: Operation, state: State, since: str) -> bool:
    made = (intent for intent in state.intents.values() if intent.slot == op.slot and intent.verb == op.verb)
    return any(intent.phase in MADE and intent.at >= since for intent in made)


def _hour(price: Price, was: Price) -> Decimal | None:
    return None if price.hour is None or was.hour is None else price.hour - was.hour


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _within(amount: Decimal | None, ceiling: str | None) -> bool:
    """What nobody knew is approved by whoever was told so; what was known is not, once nobody knows it any more."""
    return ceiling is None or (amount is not None and amount <= Decimal(ceiling))


def open_proposals(approvals: Mapping[str, Approval]) -> tuple[Approval, ...]:
    """Those that nobody has answered, the newest first."""
    unanswered = [one for one in approvals.values() if not one.approved_at]
    return tuple(sorted(unanswered, key=lambda one: (one.proposed_at, one.digest), reverse=True))


def find(approvals: Mapping[str, Approval], digest: str) -> Approval:
    """What was proposed under a digest, or the beginning of one. UsageError for none and for several."""
    found = [one for one in open_proposals(approvals) if len(digest) >= DIGITS_MIN and one.digest.startswith(digest)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.digest[:DIGITS] for one in open_proposals(approvals))
    hint = f"what waits for approval: {names}" if names else "nothing waits for approval"
    raise UsageError(f"{'several proposals begin' if found else 'no proposal begins'} with {shown(digest)}", hint=hint)
