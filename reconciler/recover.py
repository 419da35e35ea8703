"""Finds out what became of a creation whose answer never came: looks for its effect, adopts it, or proves it absent.

Reads only, then one transaction for each, so that dying here costs nothing. What cannot be decided stays open for a
person, and an open creation keeps its slot from being created again. docs/journal.md has the rules in words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from reconciler.api import BEIJING, Api
from reconciler.observe import list_all, read_one
from reconciler.plan import NOT_YET
from reconciler.resource import Collection, Match, Observed
from reconciler.state import Event, Intent, IntentPhase, Owned, Role, State, canonical, reopened
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
    stopped: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Finding, ...]:
    """Decide every open operation that can be decided; one finding for each creation.

    With `ask` a person decides whenever nothing is found, though the rules would allow to create again. Once `stopped`,
    what would have to be waited for stays open for the next run.
    """
    _reopen_unseen(store, epoch, api, collections)
    findings = []
    for intent in store.load().open_intents():
        collection = collections[intent.collection]
        if intent.verb == "create" and collection.list(1) is not None:
            findings.append(_Search(store, epoch, api, collection, intent, ask).run(stopped, sleep))
        else:  # an update, a delete or a repeatable publication is planned again from what the service shows
            store.commit(epoch, replace(intent, phase=IntentPhase.ABSENT, reason="found open"))
    return tuple(finding for finding in findings if finding is not None)


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


@dataclass(frozen=True)
class _Search:
    """One open creation and where its effect is looked for."""

    store: Store
    epoch: int
    api: Api
    collection: Collection
    intent: Intent
    ask: bool

    def run(self, stopped: Callable[[], bool], sleep: Callable[[float], None]) -> Finding | None:
        """Listings until something strong is found, or what is not there cannot come any more; None once stopped."""
        settled, quiet, before = self._settled(), 0, frozenset[str]()
        while True:
            state, seen = self.store.load(), list_all(self.api, self.collection)
            found = suspects(state, self.collection, self.intent, seen)
            if found.strong:
                return self._by_mark(found.strong)
            if found.weak and self._free and not self._shown(state):
                return self._adopt(found.weak[:1])
            late_s = (settled - self.api.now()).total_seconds()
            quiet = quiet + 1 if late_s <= 0 and (quiet == 0 or seen.keys() == before) else 0
            before = frozenset(seen)
            if quiet >= LISTINGS:
                return self._by_looks(state, found.weak, seen)
            if stopped():
                return None
            sleep(max(min(late_s / 4, POLL_S_MAX) / self.api.hurry, 0.2))

    def _settled(self) -> datetime:
        """From here on absent means absent: long after the last moment at which it can have been sent.

        That is never further off than it was when it was written: then a clock went back in between.
        """
        began, last = parse_time(self.intent.at), parse_time(self.intent.deadline or self.intent.at)
        return min(last, self.api.now() + (last - began)) + timedelta(seconds=self.collection.settle_s)

    # Deciding ---------------------------------------------------------------------------------------------------

    def _by_mark(self, strong: tuple[Observed, ...]) -> Finding:
        whole = tuple(seen for seen in strong if self._as_sent(seen))
        if not whole and self._free:  # half an upload is waste, and no reason not to upload again
            waste = (replace(self._row(seen), role=Role.RETIRED) for seen in strong)
            return self._close(IntentPhase.ABSENT, "came out otherwise than it was sent", events=waste)
        if len(strong) == 1 or self._free:
            return self._adopt((*whole, *(seen for seen in strong if seen not in whole)))
        return self._needs_human("more than one object carries its mark", strong)

    def _by_looks(self, state: State, weak: tuple[Observed, ...], seen: Mapping[str, Observed]) -> Finding:
        """Nothing carries the mark. What only looks alike counts where marks are not known to be shown."""
        if self.intent.status == CONFLICT and not weak:
            blocking = [one for one in seen.values() if self._match(one) is not Match.NO]
            if blocking:
                what = f"{blocking[0].id} exists already and this operation did not make it"
                return self._close(IntentPhase.REJECTED, f"was refused: {what}; take another suffix, or import it")
        if weak and not self._shown(state):
            return self._by_weak(state, weak, seen)
        if why := self._why_absence_is_no_proof(state):
            return self._needs_human(why, ())
        return self._close(IntentPhase.ABSENT, "was not created: nothing on the service carries its mark")

    def _by_weak(self, state: State, weak: tuple[Observed, ...], seen: Mapping[str, Observed]) -> Finding:
        if len(weak) > 1:
            return self._needs_human("several objects look like what it made", weak)
        if _strangers(state, self.collection, weak[0], seen):
            return self._needs_human("what looks like it was made by another account", weak)
        if any(other.generation == self.intent.generation for other in self._other_open(state)):
            return self._needs_human("another open operation may have made what looks like it", weak)
        return self._adopt(weak, inferred=True)

    def _why_absence_is_no_proof(self, state: State) -> str:
        """Why a person must say that nothing was made, or ""."""
        if self._free:
            return ""
        if self.intent.account and self.intent.account != self.api.account:
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

    def _other_open(self, state: State) -> Iterable[Intent]:
        return (one for one in state.open_intents() if one.verb == "create" and one.op_id != self.intent.op_id)

    # Recording --------------------------------------------------------------------------------------------------

    def _row(self, seen: Observed, *, inferred: bool = False) -> Owned:
        return self.intent.owned(seen.id, f"{self.api.now():%Y-%m-%d %H:%M:%S}", inferred=inferred)

    def _adopt(self, found: tuple[Observed, ...], *, inferred: bool = False) -> Finding:
        """The first is ours and in its place; others, which cost nothing, are ours to let go."""
        first, *extras = found
        rows = [self._row(first, inferred=inferred), *(replace(self._row(one), role=Role.RETIRED) for one in extras)]
        how = "found by what it looks like" if inferred else "found by its mark"
        what = f"was created as {first.id}: adopted, nothing is created twice"
        if inferred:
            what += "; its mark is not shown, so letting it go will want a word of its own"
        return self._close(IntentPhase.ADOPTED, what, reason=how, result_id=first.id, events=rows)

    def _close(
        self, phase: IntentPhase, what: str, *, reason: str = "", result_id: str = "", events: Iterable[Event] = ()
    ) -> Finding:
        intent = replace(self.intent, phase=phase, reason=(reason or what)[:300], result_id=result_id)
        self.store.commit(self.epoch, intent, *events)
        return Finding(intent, what)

    def _needs_human(self, why: str, found: tuple[Observed, ...]) -> Finding:
        intent = replace(self.intent, phase=IntentPhase.NEEDS_HUMAN, reason=why)
        if intent != self.intent:
            self.store.commit(self.epoch, intent)
        return Finding(intent, why, tuple(candidate(self.collection, one) for one in found))


def suspects(state: State, collection: Collection, intent: Intent, seen: Mapping[str, Observed]) -> Suspects:
    """What a creation might have made; never an object that was there before or that the state already holds."""
    fresh = [
        observed
        for remote_id, observed in sorted(seen.items(), key=lambda item: str(item[1].outputs.get("created", "")))
        if remote_id not in intent.known_before and f"{collection.name}/{remote_id}" not in state.owned
    ]
    own_inputs = _inputs_of_its_own(state, intent)
    graded = [(_grade(collection, intent, observed, own_inputs), observed) for observed in fresh]
    strong = tuple(observed for match, observed in graded if match is Match.STRONG)
    weak = tuple(observed for match, observed in graded if match is Match.WEAK and _in_its_time(intent, observed))
    return Suspects(strong, weak)


def candidate(collection: Collection, seen: Observed) -> Candidate:
    """An object as a person is asked about it."""
    price = collection.price(seen.fields, base=str(seen.outputs.get("base") or seen.fields.get("model", "")))
    return Candidate(seen.id, str(seen.outputs.get("created", "")), seen.status, price.once, price.hour)


def parse_time(text: str) -> datetime:
    """A time of the service, with or without a `T` and a fraction; Beijing's where it names no zone (contract §1.2)."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=BEIJING)


def _grade(collection: Collection, intent: Intent, seen: Observed, own_inputs: frozenset[str]) -> Match:
    match = collection.matches(intent.tag, intent.fields, seen)
    if match is Match.WEAK and own_inputs & set(seen.outputs.get("inputs", ())):
        return Match.STRONG  # nothing else of ours was made from this upload, and nobody else can have it
    return match


def _inputs_of_its_own(state: State, intent: Intent) -> frozenset[str]:
    """Ids of uploads that only this creation used."""
    others = {key for row in state.owned.values() for key in row.uses}
    others |= {key for one in state.intents.values() if one.op_id != intent.op_id for key in one.uses}
    return frozenset(key.partition("/")[2] for key in intent.uses if key not in others)


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
