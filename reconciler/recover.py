"""Finds out what became of a creation whose answer never came: looks for its effect, adopts it, or proves it absent.

Reads only, then one conditional transaction, so that dying here costs nothing. What cannot be decided stays open, and
an open creation keeps its slot from being created again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from reconciler.api import BEIJING, Api
from reconciler.observe import list_all
from reconciler.resource import Collection, Match, Observed
from reconciler.state import Intent, IntentPhase, State
from reconciler.store import Store

SETTLE = timedelta(seconds=120)  # longer than any request of ours can live: after it, absent means absent
LISTINGS = 3


class Finding(NamedTuple):
    """What one open operation came to, in words, and the objects it might have made where that is undecided."""

    intent: Intent
    what: str
    candidates: tuple[str, ...] = ()


def recover(
    store: Store,
    epoch: int,
    api: Api,
    collections: Mapping[str, Collection],
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Finding, ...]:
    """Decide every open operation that can be decided; one finding for each."""
    findings = []
    for intent in store.load().open_intents():
        if intent.phase is IntentPhase.NEEDS_HUMAN:
            continue
        if intent.verb == "create":
            findings.append(_resolve(store, epoch, api, collections[intent.collection], intent, sleep))
        else:  # an update or a delete is planned again from what the service shows
            store.commit(epoch, replace(intent, phase=IntentPhase.ABSENT, reason="found open"))
    return tuple(findings)


def _resolve(
    store: Store,
    epoch: int,
    api: Api,
    collection: Collection,
    intent: Intent,
    sleep: Callable[[float], None],
) -> Finding:
    settled = datetime.strptime(intent.at, "%Y-%m-%d %H:%M:%S").replace(tzinfo=BEIJING) + SETTLE
    quiet = 0
    while quiet < LISTINGS:
        strong, weak = _candidates(store.load(), collection, intent, list_all(api, collection))
        found = strong or (weak if _free(collection, intent) else ())
        if len(found) == 1 or (found and _free(collection, intent)):
            return _adopt(store, epoch, api, intent, found[0])
        if found or weak:
            ids = tuple(seen.id for seen in strong + weak)
            return Finding(intent, "several objects, or none for certain, may be what it made", ids)
        late = (settled - api.now()).total_seconds()
        quiet = quiet + 1 if late <= 0 else 0
        if quiet < LISTINGS:
            sleep(min(max(late / 4, 0.2), 10.0))
    store.commit(epoch, replace(intent, phase=IntentPhase.ABSENT, reason="not on the service after the settle time"))
    return Finding(intent, "was not created: nothing on the service carries its mark")


def _candidates(
    state: State, collection: Collection, intent: Intent, seen: Mapping[str, Observed]
) -> tuple[tuple[Observed, ...], tuple[Observed, ...]]:
    """Objects with our mark, and objects that merely look alike; never one that was there before or is already ours."""
    fresh = [
        observed
        for remote_id, observed in sorted(seen.items(), key=lambda item: str(item[1].outputs.get("created", "")))
        if remote_id not in intent.known_before and f"{collection.name}/{remote_id}" not in state.owned
    ]
    graded = [(collection.matches(intent.tag, intent.fields, observed), observed) for observed in fresh]
    strong = tuple(observed for match, observed in graded if match is Match.STRONG)
    weak = tuple(observed for match, observed in graded if match is Match.WEAK)
    return strong, weak


def _free(collection: Collection, intent: Intent) -> bool:
    """Whether a wrong guess could cost nothing."""
    price = collection.price(intent.fields, base=intent.base)
    return price.once == 0 and price.hour == 0 and not collection.slow


def _adopt(store: Store, epoch: int, api: Api, intent: Intent, seen: Observed) -> Finding:
    row = intent.owned(seen.id, at=f"{api.now():%Y-%m-%d %H:%M:%S}")
    store.commit(epoch, replace(intent, phase=IntentPhase.ADOPTED, result_id=seen.id, reason="found by its mark"), row)
    return Finding(intent, f"was created as {seen.id}: adopted, nothing is created twice")
