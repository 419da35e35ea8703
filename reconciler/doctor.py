"""Whether a stack could work on its account now, and which undocumented facts that account shows (docs/doctor.md).

Reads the service's lists once and judges them; every judgement is a function of what was read. The one thing written is
what was found out, into a state that exists and that nobody holds.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from reconciler import catalogue, quotas
from reconciler.api import Api
from reconciler.catalogue import RETIRES_SOON_DAYS, ProfileCatalogue
from reconciler.engine import Session
from reconciler.errors import (
    ApiError,
    NeverSent,
    NotAuthorised,
    ReconcilerError,
    StateError,
    StateLocked,
    Unavailable,
    worst,
)
from reconciler.observe import Page, pages
from reconciler.project import Project
from reconciler.resource import NOTHING, Collection, Json, Resource, Sign, text
from reconciler.state import Fact, Intent, IntentPhase, State, live_rows, written
from reconciler.store import Store

SKEW_S, SLOW_S = 60, 2.0
NEARLY = 0.8  # of a quota
EVIDENCE_MAX = 200
BAD_KEY = "InvalidApiKey"
NO_WORKSPACE = frozenset({"WorkSpaceNotFound", "Workspace.AccessDenied", "NOT AUTHORIZED"})
REGION_OF = {"dashscope.aliyuncs.com": "cn-beijing", "dashscope-intl.aliyuncs.com": "ap-southeast-1"}
WHAT_TO_DO = {
    BAD_KEY: "is it whole, not revoked, and from the console of this endpoint's region?",
    "AccessDenied": "let the key's user and workspace use fine-tuning and deployment, in the console",
    "AccessDenied.Unpurchased": "activate Model Studio for this account, in the console",
    "CommodityNotPurchased": "activate Model Studio for this account, in the console",
    "Arrearage": "the key is good: pay what is due",
    "PrepaidBillOverdue": "the key is good: pay what is due",
    "PostpaidBillOverdue": "the key is good: pay what is due",
}


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `exit_code` is what it comes to where it failed."""

    name: str
    verdict: Verdict
    what: str
    hint: str = ""
    exit_code: int = 1


class Learnt(NamedTuple):
    """One fact that an account can show: what it says, and what was found; None while no object has shown it."""

    name: str
    about: str
    fact: Fact | None


@dataclass(frozen=True)
class Examination:
    checks: tuple[Check, ...]
    facts: tuple[Learnt, ...] = ()

    @property
    def exit_code(self) -> int:
        return worst(check.exit_code for check in self.checks if check.verdict is Verdict.FAILED)


@dataclass(frozen=True)
class Answers:
    """What the service said when it was asked for every list: entries as it wrote them, or its refusal.

    `skew` is how far its `Date` is from the time we took it to have; None where it sent none. `trip_s` is the quickest
    answer.
    """

    listed: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    refused: Mapping[str, ApiError] = field(default_factory=dict)
    skew: timedelta | None = None
    trip_s: float | None = None

    @property
    def answered(self) -> bool:
        return bool(self.listed) or any(error.status for error in self.refused.values())

    @property
    def barred(self) -> NotAuthorised | None:
        """Why nothing at all may be read, if that is so."""
        errors = [error for error in self.refused.values() if isinstance(error, NotAuthorised)]
        return errors[0] if errors and not self.listed else None


def examine(
    session: Session, *, keyless: NotAuthorised | None = None, clock: Callable[[], float] = time.monotonic
) -> Examination:
    """Look at everything once. `keyless` is why there is no key to send, if there is none."""
    answers = survey(session.api, session.collections, clock)
    emulated, profile = bool(session.api.emulator), session.project.profile
    state, kept = _recorded(session.store)
    known = state or State()
    found = findings(known, answers.listed, session.collections, written(session.api.now()))
    needed = {row.collection for row in known.owned.values()}
    needed |= {one.spec.collection for one in session.project.documents if isinstance(one.spec, Resource)}
    checks = [
        _endpoint(session.api.origin, answers),
        _service(session.project, answers, emulated),
        _key(answers, emulated, keyless),
        *([] if emulated else [_region(session.api.origin, answers, keyless)]),
        _workspace(session.store.stamp.workspace, answers, emulated),
        _clock(answers, session.api.hurry),
        _round_trip(answers),
        *_lists(answers, needed),
        *_quotas(answers, session.collections, profile),
        *_models(_words_in_use(session.project, known), profile, session.api.now().date()),
        *kept,
        _keep(session.store, state, found),
    ]
    return Examination(tuple(checks), tuple(_learnt(session.collections, {**known.facts, **_by_name(found)})))


def not_connected(error: ReconcilerError) -> Examination:
    """What can be said where it is not even known which service it is, and so not whose state to open."""
    asked = ("service", "key", "region", "workspace", "clock", "round trip", "state")
    rest = (Check(name, Verdict.UNKNOWN, "nothing was asked") for name in asked)
    return Examination((Check("endpoint", Verdict.FAILED, str(error), _cause(error) or error.hint), *rest))


# Reading ------------------------------------------------------------------------------------------------------------


def survey(api: Api, collections: Mapping[str, Collection], clock: Callable[[], float] = time.monotonic) -> Answers:
    """Ask for every list. What bars one request bars them all, so after that nothing more is asked."""
    expected = api.skew or timedelta(0)  # an emulator has a time of its own, and told it before
    listed: dict[str, tuple[Json, ...]] = {}
    refused: dict[str, ApiError] = {}
    trips: list[float] = []
    for name, collection in collections.items():
        if collection.list(1) is None:
            continue
        try:
            listed[name] = tuple(i for page in _timed(pages(api, collection), clock, trips) for i in page.items)
        except ApiError as error:
            refused[name] = error
            if _bars(error) or not (trips or error.status):
                break
    asked = bool(trips or any(error.status for error in refused.values()))
    skew = api.skew - expected if asked and api.skew is not None else None
    return Answers(listed, refused, skew, min(trips, default=None))


def _timed(answers: Iterator[Page], clock: Callable[[], float], trips: list[float]) -> Iterator[Page]:
    began = clock()
    for answer in answers:
        trips.append(clock() - began)
        yield answer
        began = clock()


def _bars(error: ApiError) -> bool:
    return isinstance(error, NeverSent) or error.status == 401 or error.code in NO_WORKSPACE


# The way there ------------------------------------------------------------------------------------------------------


def _endpoint(origin: str, answers: Answers) -> Check:
    if answers.answered:
        return Check("endpoint", Verdict.OK, f"{origin} answers")
    error = next(iter(answers.refused.values()))
    hint = _cause(error) or ("is it the API that answers there, or a proxy?" if isinstance(error, Unavailable) else "")
    return Check("endpoint", Verdict.FAILED, str(error), hint or error.hint)


def _cause(error: BaseException | None) -> str:
    """What to do about the failure at the bottom of a connection that did not come about."""
    while error is not None:
        match error:
            case socket.gaierror():
                return "the name has no address: is it spelt right, and does DNS work here?"
            case ssl.SSLCertVerificationError():
                return "its certificate is not trusted here: a proxy in between, or a clock that is wrong?"
            case ssl.SSLError():
                return "TLS failed: a proxy in between?"
            case ConnectionRefusedError():
                return "nothing listens there: is the port right, and is it started?"
            case TimeoutError():
                return "no answer in time: is a firewall or a proxy in between?"
        error = error.__cause__ or error.__context__
    return ""


def _service(project: Project, answers: Answers, emulated: bool) -> Check:
    """A stack says which kind it is meant for; without one nothing is meant."""
    declared = getattr(project.stack.spec, "endpoint", "") if project.stack else ""
    if not answers.answered:
        return Check("service", Verdict.UNKNOWN, "nothing answered")
    if emulated and declared not in ("", "emulator"):
        return Check("service", Verdict.WARNING, f"an emulator answers, the stack is meant for {declared}")
    if emulated:
        return Check("service", Verdict.OK, "the emulator: nothing is bought")
    if declared == "emulator":
        what = "the stack is meant for the emulator, and no emulator answers: what is applied there is paid for"
        return Check("service", Verdict.FAILED, what, "drop --endpoint, or write the region into the Stack")
    return Check("service", Verdict.OK, "not an emulator: what is applied is paid for")


def _key(answers: Answers, emulated: bool, keyless: NotAuthorised | None) -> Check:
    if keyless:
        return Check("key", Verdict.FAILED, str(keyless), keyless.hint, exit_code=8)
    barred = answers.barred
    if barred and barred.code in NO_WORKSPACE:
        return Check("key", Verdict.UNKNOWN, "the workspace was refused first")
    if barred:
        hint = WHAT_TO_DO.get(barred.code, barred.hint)
        return Check("key", Verdict.FAILED, f"refused with {barred.status}: {barred}", hint, exit_code=8)
    if not answers.listed:
        return Check("key", Verdict.UNKNOWN, "nothing was answered")
    return Check("key", Verdict.OK, "accepted" + (", as any key that is not of the real form" if emulated else ""))


def region_of(origin: str) -> str:
    """The region that a host of the vendor's is in; "" for any other host."""
    host = urlsplit(origin).hostname or ""
    parts = host.split(".")
    return parts[1] if host.endswith(".maas.aliyuncs.com") and len(parts) == 5 else REGION_OF.get(host, "")


def _region(origin: str, answers: Answers, keyless: NotAuthorised | None) -> Check:
    """Keys do not cross regions, and one of another region is refused in the words for a wrong one (contract §8.4)."""
    here, shown = region_of(origin), _values(answers, "region")
    if keyless:
        return Check("region", Verdict.UNKNOWN, "no key was sent")
    if answers.barred and answers.barred.code == BAD_KEY:
        where = f"the endpoint is in {here}" if here else "ask whose endpoint it is"
        what = "a key of another region is refused like a wrong one"
        return Check("region", Verdict.UNKNOWN, what, f"{where}; use a key made in the console of that region")
    if here and shown and shown != {here}:
        what = f"the endpoint is in {here}, its files say {', '.join(sorted(shown))}"
        return Check("region", Verdict.WARNING, what, "is something in between that sends requests elsewhere?")
    if not answers.listed:
        return Check("region", Verdict.UNKNOWN, "nothing was answered")
    return Check("region", Verdict.OK, " ".join(filter(None, (here or "not the vendor's own host", *_said(shown)))))


def _said(shown: frozenset[str]) -> tuple[str, ...]:
    return (f"(its files say {', '.join(sorted(shown))})",) if shown else ()


def _workspace(wanted: str, answers: Answers, emulated: bool) -> Check:
    shown = _values(answers, "workspace_id")
    if answers.barred and answers.barred.code in NO_WORKSPACE:
        what = f"{wanted or 'the workspace of the key'} was refused with {answers.barred.status}: {answers.barred}"
        hint = "is `workspace` of the Stack spelt right, and may this key use it?"
        return Check("workspace", Verdict.FAILED, what, hint, exit_code=8)
    if not answers.listed:
        return Check("workspace", Verdict.UNKNOWN, "nothing was answered")
    names = ", ".join(sorted(shown))
    if wanted and shown - {wanted}:
        what = f"the Stack names {wanted}, objects are in {names}"
        if emulated:
            return Check("workspace", Verdict.WARNING, what, "an emulator has one workspace, whatever is asked for")
        hint = "use a key of that workspace, or name the workspace of this key in the Stack"
        return Check("workspace", Verdict.FAILED, what, hint, exit_code=8)
    if wanted:
        return Check("workspace", Verdict.OK, f"{wanted}" + ("" if shown else ", which no object shows yet"))
    return Check("workspace", Verdict.OK, f"the key's own{f': {names}' if names else ''}; the Stack names none")


def _values(answers: Answers, name: str) -> frozenset[str]:
    shown = {text(item.get(name)) for items in answers.listed.values() for item in items}
    return frozenset(shown - {""})


def _clock(answers: Answers, hurry: float) -> Check:
    if answers.skew is None:
        return Check("clock", Verdict.UNKNOWN, "the service told no time")
    seconds = round(answers.skew.total_seconds())
    if abs(seconds) <= SKEW_S * hurry:
        return Check("clock", Verdict.OK, f"within {SKEW_S} s of the service's")
    what = f"the service's clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} ours"
    return Check("clock", Verdict.WARNING, what, "set the clock of this machine; recovery goes by the service's")


def _round_trip(answers: Answers) -> Check:
    if answers.trip_s is None:
        return Check("round trip", Verdict.UNKNOWN, "nothing was answered")
    verdict = Verdict.WARNING if answers.trip_s > SLOW_S else Verdict.OK
    return Check("round trip", verdict, f"{answers.trip_s * 1000:.0f} ms for the quickest list")


# The account --------------------------------------------------------------------------------------------------------


def _lists(answers: Answers, needed: set[str]) -> Iterator[Check]:
    """The lists that did not come, unless what kept them all from coming was told before."""
    for name, error in answers.refused.items():
        if answers.answered and not answers.barred:
            verdict = Verdict.FAILED if name in needed else Verdict.WARNING
            unused = "" if name in needed else " (this stack needs none)"
            code = 8 if isinstance(error, NotAuthorised) else 1
            yield Check(name, verdict, f"{error}{unused}", WHAT_TO_DO.get(error.code, error.hint), code)


def _quotas(answers: Answers, collections: Mapping[str, Collection], profile: ProfileCatalogue) -> Iterator[Check]:
    """Against the limits of this profile, and of others where their pages tell another number (contract §1.3)."""
    others = catalogue.other_limits(profile.profile)
    for name, items in answers.listed.items():
        seen = tuple(map(collections[name].parse, items))
        told = [collections[name].quotas(seen, limits) for limits in (profile.limits, *others)]
        for quota, *rest in zip(*told, strict=True):
            limits = sorted({other.limit for other in rest} - {quota.limit})
            amount = partial(quotas.amount, of_bytes=quota.of_bytes)
            what = f"{amount(quota.used)} of {amount(quota.limit)}"
            what += f" (of {' or '.join(map(amount, limits))} by other pages)" if limits else ""
            near = quota.used >= NEARLY * min([quota.limit, *limits])
            hint = "what goes beyond it is refused: delete what nobody uses, or have it raised" if near else ""
            yield Check(quota.what, Verdict.WARNING if near else Verdict.OK, what, hint)


def _words_in_use(project: Project, state: State) -> frozenset[str]:
    """Every word that could name a model, declared or applied."""
    parts = [(part.base, part.fields) for parts in project.parts.values() for part in parts]
    applied = [(row.base, row.last_applied) for row in live_rows(state)]
    return frozenset(
        word for base, fields in (*parts, *applied) for word in (base, *fields.values()) if isinstance(word, str)
    )


def _models(words: frozenset[str], profile: ProfileCatalogue, today: date) -> Iterator[Check]:
    ends = {word: end for word in sorted(words) if (end := profile.retires(word)) is not None}
    soon = {word: end for word, end in ends.items() if (end - today).days <= RETIRES_SOON_DAYS}
    for word, end in soon.items():
        what = f"{word} retire{'d' if end <= today else 's'} on {end}"
        hint = "from then on nothing new is tuned or deployed with it; what exists goes on"
        yield Check("models", Verdict.WARNING, what, hint)
    if not soon:
        yield Check("models", Verdict.OK, f"none in use retires within {RETIRES_SOON_DAYS} days")


# The state ----------------------------------------------------------------------------------------------------------


def _recorded(store: Store) -> tuple[State | None, tuple[Check, ...]]:
    """The state, where there is one that can be read, and what there is to say of it."""
    try:
        state, header = store.load(), store.header()
    except StateError as error:
        return None, (Check("state", Verdict.FAILED, str(error), error.hint, error.exit_code),)
    if header is None:
        return None, (Check("state", Verdict.OK, f"none in {store.where} yet: the first apply makes it"),)
    whose = f"stack {store.stamp.stack}, {store.stamp.endpoint}"
    holder = f"last taken by {header.holder} at {header.since}" if header.holder else "never taken"
    return state, (
        Check("state", Verdict.OK, f"{store.where}: {whose}, {len(state.owned)} objects, write {state.serial}"),
        _operations(state.open_intents()),
        _backup(store),
        Check("lease", Verdict.OK, holder),
    )


def _operations(opened: Sequence[Intent]) -> Check:
    if not opened:
        return Check("operations", Verdict.OK, "none is open")
    told = ", ".join(f"{intent.verb} {intent.slot} of {intent.at}" for intent in opened[:3])
    more = f" and {len(opened) - 3} more" if len(opened) > 3 else ""
    hint = "their outcome is not known yet; reconciler apply looks for it first of all"
    return Check("operations", Verdict.WARNING, f"{len(opened)} open: {told}{more}", hint)


def _backup(store: Store) -> Check:
    made = store.copied_at()
    return Check("backup", Verdict.OK, f"made {made:%Y-%m-%d %H:%M:%S} UTC" if made else "none was made yet")


def _keep(store: Store, state: State | None, found: Sequence[Fact]) -> Check:
    """Record what the state does not say yet."""
    if state is None:
        return Check("findings", Verdict.OK, "not kept: no state to keep them in")
    news = [fact for fact in found if fact.name not in state.facts or state.facts[fact.name].holds != fact.holds]
    if not news:
        return Check("findings", Verdict.OK, "nothing that the state does not hold already")
    names = ", ".join(fact.name for fact in news)
    try:
        with store.lease() as epoch:
            store.commit(epoch, *news)
    except StateLocked as error:
        what = f"not kept: {names}; the state is held by {error.owner}, since {error.since}"
        return Check("findings", Verdict.WARNING, what, "run doctor again when that is over")
    except StateError as error:
        return Check("findings", Verdict.WARNING, f"not kept: {names}; {error}", error.hint)
    return Check("findings", Verdict.OK, f"kept in the state: {names}")


# Facts of the account -------------------------------------------------------------------------------------------------


def findings(
    state: State, listed: Mapping[str, tuple[Json, ...]], collections: Mapping[str, Collection], at: str
) -> tuple[Fact, ...]:
    """What these objects show of the account. A fact that none of them shows is left out.

    One object to the contrary is enough: where a mark is known to show, recovery takes absence for a proof.
    """
    ours, shown = _ours(state), dict[str, Sign]()
    for name, items in sorted(listed.items()):
        for item in items:
            intent = ours.get(f"{name}/{collections[name].parse(item).id}")
            tag, fields = (intent.tag, intent.fields) if intent else ("", NOTHING)
            for sign in collections[name].signs(item, tag, fields):
                before = shown.setdefault(f"{name}.{sign.name}", sign)
                if before.holds and not sign.holds:
                    shown[f"{name}.{sign.name}"] = sign
    return tuple(Fact(name, sign.holds, sign.evidence[:EVIDENCE_MAX], at) for name, sign in sorted(shown.items()))


def _ours(state: State) -> Mapping[str, Intent]:
    """The creations that the service answered with the id of an object that is still ours, by its key.

    One that was adopted proves nothing: it was taken for ours by what it shows.
    """
    made = {
        f"{intent.collection}/{intent.result_id}": intent
        for intent in state.intents.values()
        if intent.verb == "create" and intent.phase is IntentPhase.DONE and not intent.by
    }
    return {key: made[key] for key, row in state.owned.items() if key in made and not row.inferred}


def _by_name(found: Sequence[Fact]) -> dict[str, Fact]:
    return {fact.name: fact for fact in found}


def _learnt(collections: Mapping[str, Collection], facts: Mapping[str, Fact]) -> Iterator[Learnt]:
    for name, collection in collections.items():
        for fact, about in collection.facts.items():
            yield Learnt(f"{name}.{fact}", about, facts.get(f"{name}.{fact}"))
