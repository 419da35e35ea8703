"""Finds out what became of a creation whose answer never came: looks for its effect, adopts it, or proves it absent.

Reads only, then one transaction for each listing, so that dying here costs nothing. What cannot be decided stays open
for a person, and an open creation keeps its slot from being created again. docs/journal.md has the rules in words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from reconciler.api import BEIJING, Api
from reconciler.observe import list_all, read_one
from reconciler.plan import NOT_YET
from reconciler.resource import Collection, Match, Observed
from reconciler.state import Event, Intent, IntentPhase, Owned, Role, State, canonical, reopened, written
from reconciler.store import Store

LISTINGS = 3  # that must agree before absence is believed
SLACK = timedelta(seconds=62)  # two for clocks that show whole seconds, a minute for ones that differ
POLL_S_MAX = 10.0
CONFLICT = 409


class Candidate(NamedTuple):
    """An object that an open operation might have made. Prices in CNY; None is unknown."""

    id: str
    created: str
    status: str
    once: Decimal | None
    hour: Decimal | None


class Finding(NamedTuple):
    """What one open operation came to, in words, and the objects it might have made where a person must tell."""

    intent: Intent
    what: str
    candidates: tuple[Candidate, ...] = ()

    @property
    def open(self) -> bool:
        return self.intent.is_open


def recover(
    store: Store,
    epoch: int,
    api: Api,
    collections: Mapping[str, Collection],
    *,
    ask: bool = False,
    patient: bool = True,
    stopped: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Finding, ...]:
    """Decide every open operation that can be decided; one finding for each creation.

    With `ask` a person decides whenever nothing is found, though the rules would allow to create again. Once `stopped`,
    and where it is not `patient`, what would have to be waited for stays open for the next run.
    """
    _reopen_unseen(store, epoch, api, collections)
    cases: dict[str, list[_Case]] = {}
    for intent in store.load().open_intents():
        if intent.phase is IntentPhase.NEEDS_HUMAN and not intent.tag:
            continue  # a rebuild asks what is there already; nothing was sent whose effect could be looked for
        collection = collections[intent.collection]
        if intent.verb == "create" and collection.list(1) is not None:
            settled = _settled(intent, collection, api.now())
            cases.setdefault(collection.name, []).append(_Case(collection, intent, api.account, ask, settled))
        else:  # an update, a delete or a repeatable publication is planned again from what the service shows
            store.commit(epoch, replace(intent, phase=IntentPhase.ABSENT, reason="found open"))
    findings: list[Finding] = []
    for name in sorted(cases):
        findings += _decided(store, epoch, api, cases[name], patient, stopped, sleep)
    return tuple(findings)


def _decided(
    store: Store,
    epoch: int,
    api: Api,
    cases: list[_Case],
    patient: bool,
    stopped: Callable[[], bool],
    sleep: Callable[[float], None],
) -> Iterator[Finding]:
    """Listings of one collection until each case is decided, by what is there or by what cannot come any more."""
    collection = cases[0].collection
    before: frozenset[str] = frozenset()
    while cases:
        listing = Listing(store.load(), collection, list_all(api, collection))
        same, now = listing.seen.keys() == before, api.now()
        for case in cases:
            case.quiet = case.quiet + 1 if case.settled <= now and (same or not case.quiet) else 0
        found = {case: verdict for case in cases if (verdict := case.decide(listing, now))}
        events = [event for verdict in found.values() for event in verdict.events]
        if events:
            store.commit(epoch, *events)
        yield from (Finding(verdict.intent, verdict.what, verdict.candidates) for verdict in found.values())
        cases, before = [case for case in cases if case not in found], frozenset(listing.seen)
        if cases and stopped():
            return
        if cases:
            late_s = min((case.settled - now).total_seconds() for case in cases)
            if late_s > 0 and not patient:
                return
            sleep(max(min(late_s / 4, POLL_S_MAX) / api.hurry, 0.2))


def _settled(intent: Intent, collection: Collection, now: datetime) -> datetime:
    """From then on absent means absent: long after the last moment at which it can have been sent.

    That is never further off than it was when it was written: then a clock went back in between.
    """
    began, last = parse_time(intent.at), parse_time(intent.deadline or intent.at)
    return min(last, now + (last - began)) + timedelta(seconds=collection.settle_s)


def _reopen_unseen(store: Store, epoch: int, api: Api, collections: Mapping[str, Collection]) -> None:
    """A new object that nobody ever saw and that the service does not know: the id in the answer was not its own."""
    state = store.load()
    for row in state.owned.values():
        if row.role is not Role.NEXT or row.outputs or api.now() - parse_time(row.applied_at) < NOT_YET:
            continue
        if read_one(api, collections[row.collection], row.id) is None and (made := state.maker(row)):
            store.commit(epoch, *reopened(row, made))


class Suspects(NamedTuple):
    """Objects with our mark, and objects that merely look alike; in order of their creation."""

    strong: tuple[Observed, ...]
    weak: tuple[Observed, ...]


class Listing:
    """One look at a collection beside what is recorded: what is there and nobody's yet. Remembers what was adopted."""

    def __init__(self, state: State, collection: Collection, seen: Mapping[str, Observed]) -> None:
        self.state, self.collection, self.seen = state, collection, seen
        others = state.unowned(collection.name, seen)
        in_time = sorted(seen, key=lambda key: str(seen[key].outputs.get("created", "")))
        self._unowned = {key: seen[key] for key in in_time if key in others}
        made = (one for one in state.intents.values() if one.verb == "create" and one.result_id)
        makers = {f"{one.collection}/{one.result_id}": one.op_id for one in made}
        used = [(key, makers.get(row.key, row.key)) for row in state.owned.values() for key in row.uses]
        used += [(key, intent.op_id) for intent in state.intents.values() for key in intent.uses]
        self._users: dict[str, set[str]] = {}
        for key, user in used:
            self._users.setdefault(key, set()).add(user)

    def suspects(self, intent: Intent) -> Suspects:
        """What a creation might have made; never what was there before it."""
        fresh = [seen for key, seen in self._unowned.items() if key not in intent.known_before]
        own_inputs = {key.partition("/")[2] for key in intent.uses if self._users.get(key, set()) <= {intent.op_id}}
        graded = [(_grade(self.collection, intent, seen, own_inputs), seen) for seen in fresh]
        strong = tuple(seen for match, seen in graded if match is Match.STRONG)
        weak = tuple(seen for match, seen in graded if match is Match.WEAK and _in_its_time(intent, seen))
        return Suspects(strong, weak)

    def take(self, found: Iterable[Observed]) -> None:
        """From here on these are somebody's."""
        for seen in found:
            self._unowned.pop(seen.id, None)


class _Verdict(NamedTuple):
    """What one case comes to, and what is to be recorded of it."""

    intent: Intent
    what: str
    events: tuple[Event, ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass(eq=False)
class _Case:
    """One open creation. Decides from values alone; `quiet` counts the listings since absence can mean absence."""

    collection: Collection
    intent: Intent
    account: str
    ask: bool
    settled: datetime
    quiet: int = 0

    def decide(self, listing: Listing, now: datetime) -> _Verdict | None:
        """What this listing says for certain; None where only more of them can."""
        found = listing.suspects(self.intent)
        if found.strong:
            return self._by_mark(listing, found.strong, now)
        if found.weak and self._free and not self._shown(listing.state):
            return self._adopt(listing, found.weak[:1], now)
        return self._by_looks(listing, found.weak, now) if self.quiet >= LISTINGS else None

    def _by_mark(self, listing: Listing, strong: tuple[Observed, ...], now: datetime) -> _Verdict:
        whole = tuple(seen for seen in strong if self._as_sent(seen))
        if not whole and self._free:  # half an upload is waste, and no reason not to upload again
            listing.take(strong)
            waste = tuple(replace(self._row(seen, now), role=Role.RETIRED) for seen in strong)
            return self._close(IntentPhase.ABSENT, "came out otherwise than it was sent", waste)
        if len(strong) == 1 or self._free:
            return self._adopt(listing, (*whole, *(seen for seen in strong if seen not in whole)), now)
        return self._needs_human("more than one object carries its mark", strong)

    def _by_looks(self, listing: Listing, weak: tuple[Observed, ...], now: datetime) -> _Verdict:
        """Nothing carries the mark. What only looks alike counts where marks are not known to be shown."""
        if self.intent.status == CONFLICT and not weak:
            blocking = next((one for one in listing.seen.values() if self._match(one) is not Match.NO), None)
            if blocking:
                what = f"was refused: {blocking.id} exists already and this operation did not make it"
                return self._close(IntentPhase.REJECTED, f"{what}; take another suffix, or import it")
        if weak and not self._shown(listing.state):
            why = self._why_weak_is_no_proof(listing, weak)
            return self._needs_human(why, weak) if why else self._adopt(listing, weak, now, inferred=True)
        if why := self._why_absence_is_no_proof(listing.state):
            return self._needs_human(why, ())
        return self._close(IntentPhase.ABSENT, "was not created: nothing on the service carries its mark")

    def _why_weak_is_no_proof(self, listing: Listing, weak: tuple[Observed, ...]) -> str:
        if len(weak) > 1:
            return "several objects look like what it made"
        if _strangers(listing.state, self.collection, weak[0], listing.seen):
            return "what looks like it was made by another account"
        others = (one for one in listing.state.open_intents() if one.op_id != self.intent.op_id)
        if any(one.generation == self.intent.generation for one in others):
            return "another open operation may have made what looks like it"
        return ""

    def _why_absence_is_no_proof(self, state: State) -> str:
        """Why a person must say that nothing was made, or ""."""
        if self._free:
            return ""
        if self.intent.account and self.intent.account != self.account:
            return "nothing was found, but it was sent with another key than the one in use now"
        if self.ask:
            return "nothing was found, and the stack wants to be asked (onUnknown: Ask)"
        if state.losses(self.intent.slot, self.intent.generation):
            return "nothing was found, and this is the second time that its outcome is unknown"
        if not (self._shown(state) or self.collection.unique_mark):
            return "nothing was found, but it was never seen that this account shows the marks we give"
        return ""

    def _shown(self, state: State) -> bool:
        """Whether what it made, if anything, must show our mark."""
        return self.collection.marks(self.intent.fields) and state.shows(f"{self.collection.name}.mark")

    @property
    def _free(self) -> bool:
        """Whether a wrong guess could cost nothing."""
        price = self.collection.price(self.intent.fields, base=self.intent.base)
        return price.once == 0 and price.hour == 0 and not self.collection.slow

    def _as_sent(self, seen: Observed) -> bool:
        sent = self.intent.fields
        fixed = self.collection.verified & sent.keys() & seen.fields.keys()
        return all(canonical(sent[name]) == canonical(seen.fields[name]) for name in fixed)

    def _match(self, seen: Observed) -> Match:
        return self.collection.matches(self.intent.tag, self.intent.fields, seen)

    # What it comes to -------------------------------------------------------------------------------------------

    def _row(self, seen: Observed, now: datetime, *, inferred: bool = False) -> Owned:
        return self.intent.owned(seen.id, written(now), inferred=inferred)

    def _adopt(
        self, listing: Listing, found: tuple[Observed, ...], now: datetime, *, inferred: bool = False
    ) -> _Verdict:
        """The first is ours and in its place; others, which cost nothing, are ours to let go."""
        listing.take(found)
        first, *extras = found
        more = (replace(self._row(one, now), role=Role.RETIRED) for one in extras)
        how = "found by what it looks like" if inferred else "found by its mark"
        what = f"was created as {first.id}: adopted, nothing is created twice"
        if inferred:
            what += "; its mark is not shown, so letting it go will want a word of its own"
        intent = replace(self.intent, phase=IntentPhase.ADOPTED, reason=how, result_id=first.id)
        return _Verdict(intent, what, (intent, self._row(first, now, inferred=inferred), *more))

    def _close(self, phase: IntentPhase, what: str, events: tuple[Event, ...] = ()) -> _Verdict:
        intent = replace(self.intent, phase=phase, reason=what[:300])
        return _Verdict(intent, what, (intent, *events))

    def _needs_human(self, why: str, found: tuple[Observed, ...]) -> _Verdict:
        intent = replace(self.intent, phase=IntentPhase.NEEDS_HUMAN, reason=why)
        known = intent == self.intent
        return _Verdict(
            intent, why, () if known else (intent,), tuple(candidate(self.collection, one) for one in found)
        )


def candidate(collection: Collection, seen: Observed) -> Candidate:
    """An object as a person is asked about it."""
    price = collection.price(seen.fields, base=str(seen.outputs.get("base") or seen.fields.get("model", "")))
    return Candidate(seen.id, str(seen.outputs.get("created", "")), seen.status, price.once, price.hour)


def parse_time(text: str) -> datetime:
    """A time of the service, with or without a `T` and a fraction; Beijing's where it names no zone (contract §1.2)."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=BEIJING)


def _grade(collection: Collection, intent: Intent, seen: Observed, own_inputs: set[str]) -> Match:
    match = collection.matches(intent.tag, intent.fields, seen)
    if match is Match.WEAK and own_inputs & set(seen.outputs.get("inputs", ())):
        return Match.STRONG  # nothing else of ours was made from this upload, and nobody else can have it
    return match


def _in_its_time(intent: Intent, seen: Observed) -> bool:
    """Whether it was created while the request can have been under way; where nobody says when, it may have been."""
    try:
        created = parse_time(str(seen.outputs["created"]))
    except (KeyError, ValueError):
        return True
    last = parse_time(intent.deadline or intent.at)
    return parse_time(intent.at) - SLACK <= created <= last + SLACK


def _strangers(state: State, collection: Collection, found: Observed, seen: Mapping[str, Observed]) -> bool:
    """Whether we know who makes our objects here, and this was somebody else."""
    ours = {one.outputs.get("creator") for key, one in seen.items() if f"{collection.name}/{key}" in state.owned}
    return bool(ours - {None}) and found.outputs.get("creator") not in ours
