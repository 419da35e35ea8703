"""A plan that was saved: one JSON text, bound by digest to all it rests on, to be applied once. Pure.

What is carried out is never taken from the file. At apply the plan is made again, under the lease, and compared with
the saved one: equal, it is done; otherwise every difference is named. So a file that somebody edited can be refused,
and can never do anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from reconciler import __version__
from reconciler.catalogue import ProfileCatalogue
from reconciler.errors import BrokenPlan
from reconciler.plan import Choices, Desired, Operation, Plan, Verb, World, facts, references_of, sums
from reconciler.resource import Collection, Known, Match, Observed, Slot
from reconciler.state import MADE, Intent, IntentPhase, Owned, Role, Stamp, State, canonical, generation, tag

FORMAT = "1.0"
BYTES_MAX = 16 * 2**20
GOOD_FOR = timedelta(days=3)
_REPEATS = 3  # how many earlier attempts of a lost state are recognised by their marks


@dataclass(frozen=True)
class Bound:
    """A plan with all it rests on, each as a digest: the manifests, what they declare, the data, prices and objects.

    `objects` are those that an operation touches or refers to, by key. `twins` are, for each creation, ids of objects
    that are not ours and could be what it makes. `lineage` is "" where nothing was recorded yet; `held` counts the
    declared slots that hold something.
    """

    plan: Plan
    stamp: Stamp
    lineage: str
    declared: bool
    profile: str
    prices_of: date
    prices: str
    manifests: Mapping[str, str]
    parts: Mapping[str, str]
    data: Mapping[str, str]
    objects: Mapping[str, str]
    twins: Mapping[str, tuple[str, ...]]
    held: int


@dataclass(frozen=True)
class Saved:
    """A bound plan with its name, its age, and what the operator decided. `made_from` are the `-f` paths as given."""

    id: str
    made_at: AwareDatetime
    expires_at: AwareDatetime
    made_from: tuple[str, ...]
    choices: Choices
    bound: Bound
    tool: str = __version__
    format: str = FORMAT

    @property
    def plan(self) -> Plan:
        return self.bound.plan

    @property
    def digest(self) -> str:
        """The name under which it can be applied once."""
        return _digest(self)


class Reason(NamedTuple):
    """Something that speaks against applying a saved plan; one that is `firm` does so even where the work is equal."""

    what: str
    firm: bool = True


# To and from text ---------------------------------------------------------------------------------------------------


def text(saved: Saved) -> str:
    """The one text of a saved plan."""
    return json.dumps({"digest": saved.digest, **_plain(saved)}, indent=1) + "\n"


def read(name: str, data: bytes) -> Saved:
    """The plan that `text` wrote into the file `name`. BrokenPlan for every other text, be it one byte."""
    again = "plan again: reconciler plan --out FILE"
    if len(data) > BYTES_MAX:
        raise BrokenPlan(f"{name} is longer than {BYTES_MAX:,} bytes: no saved plan is", hint=again)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise BrokenPlan(f"{name} is no saved plan, or was cut off: it is not JSON", hint=again) from None
    version = body.get("format") if isinstance(body, dict) else None
    if not isinstance(version, str):
        raise BrokenPlan(f"{name} is no saved plan", hint=again)
    if version != FORMAT:
        hint = "apply it with the version that saved it, or plan again: reconciler plan --out FILE"
        raise BrokenPlan(f"{name} has the format {version[:20]!r}, and this version reads {FORMAT}", hint=hint)
    try:
        saved = _adapter(Saved).validate_python(_revived({n: body[n] for n in body if n != "digest"}))
    except (ValidationError, RecursionError):
        saved = None
    if not isinstance(saved, Saved) or text(saved).encode() != data or not _sound(saved.plan):
        tool = body.get("tool", __version__)
        other = f"was saved by version {str(tool)[:20]!r} of reconciler, or altered: it cannot be verified here"
        ours = "was altered or damaged: it is not the plan that was saved"
        raise BrokenPlan(f"{name} {ours if tool == __version__ else other}", hint=again)
    return saved


def _sound(plan: Plan) -> bool:
    """Whether it is a plan that could have been made: each operation after those it waits for, and its own sums."""
    done: set[str] = set()
    for op in plan.operations:
        if op.id in done or not done.issuperset(op.after) or not all(change.path for change in op.reasons):
            return False
        done.add(op.id)
    return plan.totals == sums(plan.operations, plan.totals.hour_before)


@cache
def _adapter(form: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def _plain(value: Any) -> Any:
    """A value as JSON holds it; what an author or the service wrote can not be taken for a reference."""
    if isinstance(value, Known):
        return {"known after apply": [*value.slot, value.output, value.digest]}
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {_whole(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal | str):
        return _whole(str(value))
    return value.isoformat() if hasattr(value, "isoformat") else value


def _whole(text: str) -> str:
    """The text without half characters, which the service may send and no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _revived(value: Any) -> Any:
    """Plain values as the plan has them: references and tuples."""
    match value:
        case {"known after apply": [str(address), str(part), str(output), str(digest)]} if len(value) == 1:
            return Known(Slot(address, part), output, digest)
        case dict():
            return {key: _revived(item) for key, item in value.items()}
        case list():
            return tuple(_revived(item) for item in value)
        case _:
            return value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(value), separators=(",", ":")).encode()).hexdigest()


# Binding ------------------------------------------------------------------------------------------------------------


def bind(
    plan: Plan,
    state: State,
    world: World,
    *,
    desired: Desired,
    collections: Mapping[str, Collection],
    profile: ProfileCatalogue,
    manifests: Mapping[str, str],
    declared: bool,
) -> Bound:
    """A plan with digests of all that it was made from. `declared`: a manifest declares the Stack."""
    parts = [part for address in sorted(desired.parts) for part in desired.parts[address]]
    assert state.stamp is not None
    bound = Bound(
        plan=plan,
        stamp=state.stamp,
        lineage=state.lineage if state.serial else "",
        declared=declared,
        profile=profile.profile,
        prices_of=profile.as_of,
        prices=_digest(profile),
        manifests=dict(sorted(manifests.items())),
        parts={str(part.slot): _digest([part.fields, part.probes]) for part in parts if part.content is None},
        data={str(part.slot): part.content.digest for part in parts if part.content is not None},
        objects={row.key: _seen(row, world.get(row)) for row in _touched(plan, state)},
        twins=dict(_twins(plan, state, world, collections)),
        held=sum(1 for part in parts if state.row(part.slot, Role.CURRENT)),
    )
    made: Bound = _adapter(Bound).validate_python(_revived(_plain(bound)))  # as it will be read back
    return made


def _touched(plan: Plan, state: State) -> list[Owned]:
    """Our objects that an operation changes, lets go or refers to."""
    keys: set[str] = set()
    for op in plan.operations:
        if op.verb in (Verb.NOTHING, Verb.WAIT):
            continue
        current = [state.row(known.slot, Role.CURRENT) for known in (references_of(op.part) if op.part else ())]
        keys |= {row.key for row in current if row} | {f"{op.collection}/{op.target_id}", *op.drops}
    return [state.owned[key] for key in sorted(keys & state.owned.keys())]


def _seen(row: Owned, observed: Observed | None) -> str:
    """What an object was seen to be, whether the service told all of it this time or only what had changed; "": gone.

    How far it is and when it last moved are left out: they change by themselves.
    """
    if observed is None:
        return ""
    applied = row.last_applied
    told = {name: _as_applied(value, applied.get(name)) for name, value in {**applied, **observed.fields}.items()}
    return hashlib.sha256(canonical(told).encode()).hexdigest()


def _as_applied(seen: Any, applied: Any) -> Any:
    """The entries of a mapping; of one that we wrote only what we wrote, as the service may fill in the rest."""
    if not isinstance(seen, Mapping) or not isinstance(applied, Mapping):
        return seen
    return {name: _written(value, applied[name]) if name in applied else value for name, value in seen.items()}


def _written(seen: Any, applied: Any) -> Any:
    if not isinstance(seen, Mapping) or not isinstance(applied, Mapping):
        return seen
    return {name: seen[name] for name in applied if name in seen}


def _twins(
    plan: Plan, state: State, world: World, collections: Mapping[str, Collection]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Objects that are not ours and bear the mark of a creation, as after the same plan was applied from elsewhere."""
    assert state.stamp is not None
    for op in plan.operations:
        if op.verb is not Verb.CREATE or op.part is None or references_of(replace(op.part, fields=op.fields)):
            continue  # what waits for another creation has no mark yet, and cannot come before it
        collection = collections[op.collection]
        version = generation(op.collection, collection.lasting(op.fields))
        attempts = range(state.attempts(op.slot, version) + state.losses(op.slot, version) + _REPEATS)
        marks = [tag(state.stamp, op.slot, version, attempt) for attempt in attempts]
        yield (
            op.id,
            tuple(
                key
                for key, one in state.unowned(op.collection, world.objects.get(op.collection, {})).items()
                if any(collection.matches(mark, op.fields, one) is not Match.NO for mark in marks)
            ),
        )


# Comparing ----------------------------------------------------------------------------------------------------------


def settled(saved: Saved, state: State) -> frozenset[Slot]:
    """The slots for which a plan that was begun has made its object, whatever became of it since."""
    return _Since(saved, state).made


def stale(saved: Saved, now: Bound, state: State, *, at: datetime) -> tuple[Reason, ...]:
    """Everything that speaks against applying a saved plan at this moment, `now` being the same plan made again.

    What moves by itself is no reason, nor is what the plan itself did before it was interrupted. One that ended is not
    judged here.
    """
    was, since = saved.bound, _Since(saved, state)
    return (
        *_elsewhere(was, now, since),
        *_inputs(saved, now, at),
        *_Work(was.plan, now.plan, since).reasons(),
        *_objects(was, now, since),
        *_doubles(was, now),
    )


class _Since:
    """What happened since a saved plan was begun; nothing to one that was not."""

    def __init__(self, saved: Saved, state: State) -> None:
        self.state, ticket = state, state.tickets.get(saved.digest)
        self.begun = ticket is not None
        first = ticket.epoch if ticket else 0
        intents: list[Intent] = [i for i in state.intents.values() if ticket and i.epoch >= first]
        self.made = frozenset(i.slot for i in intents if i.verb == Verb.CREATE and i.phase in MADE)
        self.asked = {i.op_id for i in intents}
        changing = (Verb.UPDATE, Verb.DELETE, Verb.DISCARD)
        asked = [i for i in intents if i.verb in changing and i.phase is not IntentPhase.REJECTED]
        self.touched = {f"{i.collection}/{name}" for i in asked for name in i.known_before}
        made = {f"{i.collection}/{i.result_id}" for i in intents if i.result_id}
        waited = {_key(op) for op in saved.plan.operations if op.verb in (Verb.WAIT, Verb.ADOPT)}
        rows = [row for row in state.owned.values() if row.role is Role.CURRENT and row.key in made | waited]
        self.outputs = {row.slot: row.outputs for row in rows}

    def resolved(self, value: Any) -> Any:
        """A value of the saved plan with what became known of the objects it made or waited for."""
        if isinstance(value, Known):
            return self.outputs.get(value.slot, {}).get(value.output, value)
        if isinstance(value, Mapping):
            return {name: self.resolved(item) for name, item in value.items()}
        return tuple(map(self.resolved, value)) if isinstance(value, list | tuple) else value

    def over(self, op: Operation) -> bool:
        """Whether an operation that is no longer planned was done."""
        if not self.begun:
            return False
        match op.verb:
            case Verb.CREATE:
                return op.slot in self.made
            case Verb.UPDATE | Verb.DISCARD:
                return _key(op) in self.touched
            case Verb.ADOPT:
                return _key(op) in self.state.owned
            case _:
                return _key(op) not in self.state.owned


def _key(op: Operation) -> str:
    return f"{op.collection}/{op.target_id}"


def _elsewhere(was: Bound, now: Bound, since: _Since) -> Iterator[Reason]:
    for one in fields(Stamp):
        before, after = getattr(was.stamp, one.name), getattr(now.stamp, one.name)
        if before != after:
            yield Reason(f"it is for {one.name} {before or '(none)'}, and this is {after or '(none)'}")
    if was.lineage != now.lineage and (was.lineage or not since.begun):
        then = (
            "of another state than the one here" if was.lineage else "when nothing was recorded yet, and now there is"
        )
        yield Reason(f"it was made {then}")


def _inputs(saved: Saved, now: Bound, at: datetime) -> Iterator[Reason]:
    """Age, and what the plan was made from: reasons to make it again and see whether it is the same."""
    was = saved.bound
    if at >= saved.expires_at:
        yield Reason(f"it expired at {saved.expires_at:%Y-%m-%d %H:%M} UTC", firm=False)
    if saved.tool != __version__:
        yield Reason(f"version {saved.tool} of reconciler saved it, and this is {__version__}", firm=False)
    if was.manifests.keys().isdisjoint(now.manifests):
        here = f"the manifests given here are {_listed(now.manifests)}"
        yield Reason(
            f"it was made from {_listed(was.manifests)} (-f {' -f '.join(saved.made_from)}); {here}", firm=False
        )
    else:
        yield from _changed(was.manifests, now.manifests, "{} changed", "{} is new", "{} is no longer there")
    yield from _changed(was.data, now.data, "{}: its data changed", "{} is new", "{} is no longer declared")
    yield from _changed(was.parts, now.parts, "{} is declared otherwise", "{} is new", "{} is no longer declared")
    if was.profile != now.profile:
        yield Reason(f"it is for profile {was.profile}, and this is {now.profile}", firm=False)
    elif was.prices != now.prices:
        yield Reason(f"the price table changed: that of {was.prices_of} then, of {now.prices_of} now", firm=False)


def _changed(was: Mapping[str, str], now: Mapping[str, str], other: str, new: str, gone: str) -> Iterator[Reason]:
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            words = other if name in was and name in now else new if name in now else gone
            yield Reason(words.format(name), firm=False)


def _listed(names: Iterable[str], most: int = 5) -> str:
    first, *rest = sorted(names) or ["nothing"]
    return ", ".join([first, *rest[: most - 1]]) + (f" and {len(rest) - most + 1} more" if len(rest) >= most else "")


def _objects(was: Bound, now: Bound, since: _Since) -> Iterator[Reason]:
    for key in sorted(was.objects.keys() | now.objects.keys()):
        if since.begun and (key in since.touched or key not in was.objects or key not in now.objects):
            continue
        if key not in was.objects:
            yield Reason(f"{key} would be touched, and the plan does not name it")
        elif key in now.objects and now.objects[key] != was.objects[key]:
            yield Reason(f"{key} {'was changed on' if now.objects[key] else 'is gone from'} the service")


def _doubles(was: Bound, now: Bound) -> Iterator[Reason]:
    for name, ids in now.twins.items():
        if fresh := sorted(set(ids) - set(was.twins.get(name, ids))):
            what = name.removeprefix("create ")
            yield Reason(f"{_listed(fresh)} may be what it makes for {what}: was it applied from another folder?")


class _Work:
    """The operations of then and now, matched. One without its like is a difference, unless the plan's own work or
    waiting explains it."""

    def __init__(self, was: Plan, now: Plan, since: _Since) -> None:
        self.was, self.now, self.since = was, now, since
        self.blocked = {op.slot for op in now.blocked}
        self.adopted = {op.slot for op in now.operations if op.verb is Verb.ADOPT}
        self.held: set[str] = set()

    def reasons(self) -> Iterator[Reason]:
        left = [op for op in self.was.operations if not self._made(op)]
        unknown = []
        for op in self.now.operations:
            twin = next((one for one in left if self._same(one, op)), None)
            if twin is not None:
                left.remove(twin)
                yield from self._dearer(twin, op)
            elif not self._explained(op):
                unknown.append(op)
        for op in unknown:
            before = next((one for one in left if (one.slot, one.verb) == (op.slot, op.verb)), None)
            if before is not None:
                left.remove(before)
            yield Reason(self._unlike(before, op))
        answered = {op.slot for op in unknown}
        for op in left:
            if not self._no_longer_needed(op) and op.slot not in answered:
                yield Reason(f"{op.slot}: {_doing(op)} is no longer planned")

    def _made(self, op: Operation) -> bool:
        return op.verb is Verb.CREATE and op.slot in self.since.made

    def _same(self, was: Operation, now: Operation) -> bool:
        if (was.slot, was.verb, was.target_id) != (now.slot, now.verb, now.target_id):
            return False
        if self.since.begun and was.verb is Verb.UPDATE and was.request == now.request:
            return True  # the rest of an update of several requests
        return not self._differing(was, now)

    def _differing(self, was: Operation, now: Operation) -> list[str]:
        before, after = facts(was), facts(now)
        return [
            name
            for name in before.keys() - {"price"}
            if canonical(after[name]) not in (canonical(before[name]), canonical(self.since.resolved(before[name])))
        ]

    def _explained(self, op: Operation) -> bool:
        """Waiting sends nothing. A begun plan may be blocked on its way, forgets what it had deleted, and takes in what
        it had made and given up."""
        if op.verb is Verb.WAIT:
            return True
        forgets = op.verb is Verb.FORGET and _key(op) in self.since.touched
        takes_in = op.verb is Verb.ADOPT and op.intent in self.since.asked
        return self.since.begun and (op.verb is Verb.NOTHING or forgets or takes_in)

    def _no_longer_needed(self, op: Operation) -> bool:
        if op.verb is Verb.WAIT or self.since.over(op):
            return True
        if self.since.begun and op.verb is Verb.CREATE and op.slot in self.adopted:
            return True
        if self.since.begun and (op.slot in self.blocked or self.held & set(op.after)):
            self.held.add(op.id)
        return op.id in self.held

    def _dearer(self, was: Operation, now: Operation) -> Iterator[Reason]:
        """An approval holds up to the price that was shown."""
        for before, after, unit in ((was.price.once, now.price.once, ""), (was.price.hour, now.price.hour, "/h")):
            if before is not None and (after is None or after > before):
                price = "is unknown now" if after is None else f"rose from {before} to {after} CNY{unit}"
                yield Reason(f"{now.slot}: its price {price}")

    def _unlike(self, was: Operation | None, now: Operation) -> str:
        if now.verb is Verb.CREATE and now.slot in self.since.made:
            return f"{now.slot}: it was made by this plan before, and would be made again"
        if now.verb is Verb.NOTHING:
            return f"{now.slot} is blocked now: {now.why}"
        if was is None:
            return f"{now.slot}: {_doing(now)} is planned now, and was not"
        names = set(self._differing(was, now))
        if "fields" in names:
            names = {*names - {"fields", "changes"}, *_unequal(was.fields, now.fields)}
        return f"{now.slot}: {_doing(now)} differs in {', '.join(sorted(names)) or 'what it is about'}"


def _doing(op: Operation) -> str:
    return "what is blocked" if op.verb is Verb.NOTHING else f"to {op.verb} {op.target_id or 'it'}"


def _unequal(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = before.keys() | after.keys()
    return sorted(name for name in names if canonical(before.get(name)) != canonical(after.get(name)))
