"""Known-bad patches: mistakes that others have made, each as a few lines that a run can be given.

Each names the promise (`promises.py`) that must be broken under it, and the invariant that must say so: a suite that
stays green under one of them proves nothing.
"""

from __future__ import annotations

import random
import sqlite3
import string
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from reconciler import api, apply, engine, observe, recover, store
from reconciler.adapters import carry_out, cli
from reconciler.errors import OutcomeUnknown, Rejected
from reconciler.kinds.dataset import Files
from reconciler.kinds.fine_tune_job import Jobs
from reconciler.plan import Verb
from reconciler.resource import Json, dig
from reconciler.state import IntentPhase
from reconciler.store import sqlite


@dataclass(frozen=True)
class Patch:
    """A mistake, the promise it breaks, and how the break begins in words."""

    install: Callable[[], None]
    promise: str
    words: str


PATCHES: dict[str, Patch] = {}


def mistake(promise: str, words: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def known(install: Callable[[], None]) -> Callable[[], None]:
        PATCHES[install.__name__.replace("_", " ")] = Patch(install, promise, words)
        return install

    return known


def put(place: Any, name: str, value: Any) -> None:
    setattr(place, name, value)


@mistake("a 500 is no invitation to send again", "I2")
def a_post_is_sent_again_on_500() -> None:
    put(api, "_repeatable", lambda request, error: error.retryable or isinstance(error, OutcomeUnknown))


@mistake("a lost answer is looked for", "I")
def an_unknown_outcome_counts_as_refused() -> None:
    refused = apply._Apply._refused

    def forgetful(self: Any, op: Any, intent: Any, error: Exception) -> None:
        refused(self, op, intent, error if not isinstance(error, OutcomeUnknown) else Rejected(str(error)))

    put(apply._Apply, "_refused", forgetful)


@mistake("a lost answer is looked for", "I3")
def the_intent_is_written_after_the_request_is_sent() -> None:
    def leave(self: Any, op: Any) -> list[Any]:
        request, intent = self._created(op) if op.verb is Verb.CREATE else self._changed(op)
        with ThreadPoolExecutor(1) as pool:
            flight = pool.submit(self.api.send, request)
        self._commit(intent)
        self.flights[flight] = apply._Flight(op, request, intent)
        return []

    put(apply._Apply, "_ready_to_leave", leave)


@mistake("a request that never left is sent with its first mark", "I1: the tag")
def every_attempt_has_a_mark_of_its_own() -> None:
    digits = string.ascii_lowercase + string.digits
    put(apply, "tag", lambda *about: "".join(random.choices(digits, k=8)))


@mistake("what a list leaves out is still there", "I")
def absence_in_a_list_is_deletion() -> None:
    for place, name in ((observe, "survey"), (apply, "look")):
        put(place, name, lambda service, collection, rows: observe.list_all(service, collection))


@mistake("a list that is late is waited for", "I2")
def absence_is_believed_at_once() -> None:
    put(recover._Case, "settled", property(lambda self: recover.parse_time(self.intent.at) - timedelta(1)))
    put(recover, "LISTINGS", 1)


@mistake("a killed creation is looked for", "I")
def an_open_operation_counts_as_absent() -> None:
    def forget(keeper: Any, epoch: int, *rest: Any, **how: Any) -> tuple[()]:
        for intent in keeper.load().open_intents():
            keeper.commit(epoch, replace(intent, phase=IntentPhase.ABSENT, reason="forgotten"))
        return ()

    put(recover, "recover", forget)


@mistake("what was there before is not ours", "adopted")
def what_was_there_before_is_adopted() -> None:
    suspects = recover.Listing.suspects

    def blind(self: Any, intent: Any) -> Any:
        return suspects(self, replace(intent, known_before=()))

    put(recover.Listing, "suspects", blind)


@mistake("an odd answer costs no id", "the id")
def the_answer_is_checked_before_its_id_is_kept() -> None:
    def strict(self: Any, reply: Json, request: Any) -> str | None:
        known = isinstance(dig(reply, "output", "status"), str)
        return str(dig(reply, "output", "job_id")) if known else None

    put(Jobs, "created_id", strict)


@mistake("nobody acts beside a holder that lives", "a second run")
def the_lease_is_released_before_the_work() -> None:
    lease = store.Store.lease

    @contextmanager
    def brief(self: Any, **how: Any) -> Iterator[int]:
        with lease(self, **how) as epoch:
            pass
        yield epoch

    put(store.Store, "lease", brief)


@mistake("who was passed by records nothing", "after it was passed by")
def a_commit_does_not_ask_whose_lease_it_is() -> None:
    commit = store.Store.commit

    def unfenced(self: Any, epoch: int, *events: Any) -> Any:
        self._kept = None
        return commit(self, self.header().epoch, *events)

    put(store.Store, "commit", unfenced)


@mistake("a new state is there as a whole or not at all", "I5")
def the_state_file_is_made_in_place() -> None:
    secure = sqlite.SqliteStore._secure

    def in_place(self: Any) -> None:
        if self._is_new():
            with closing(sqlite3.connect(self.path)) as db:
                for table in store.TABLES:
                    db.execute(table)
            self.path.unlink()
        secure(self)

    put(sqlite.SqliteStore, "_secure", in_place)


@mistake("what is not finished is said", "I8")
def everything_ends_with_0() -> None:
    put(carry_out, "_exit_code", lambda opened, applied: 0)


@mistake("a broken disk ends in words", "I8")
def an_error_leaves_as_a_traceback() -> None:
    def failed(error: Exception) -> int:
        raise error

    put(cli, "_failed", failed)


@mistake("a service that is busy is left in peace", "I11")
def a_read_is_repeated_at_once() -> None:
    put(api.Api, "_pause", lambda self, attempt, asked_s: 0.0)


@mistake("looking changes nothing", "I12")
def a_plan_takes_the_lease() -> None:
    plan = engine.plan

    def greedy(session: Any, choices: Any) -> Any:
        if session.store._kept is None:
            with session.store.lease():
                return plan(session, choices)
        return plan(session, choices)

    put(engine, "plan", greedy)


@mistake("what is secret stays where it is", "I9")
def the_signed_link_is_recorded() -> None:
    parse = Files.parse

    def chatty(self: Any, item: Json) -> Any:
        seen = parse(self, item)
        return replace(seen, outputs={**seen.outputs, "url": f"{item.get('url')}?Signature=0a1b2c"})

    put(Files, "parse", chatty)
