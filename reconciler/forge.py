"""The one comment of ours below a pull request: found by its mark and edited, else made. Knows nothing of plans.

A forge is another far side than the service. Its token goes to its one host and into no message; no redirect is
followed. A comment is never sent again blindly: where an answer was lost, the comment is looked for first. Only what we
wrote ourselves is edited: whoever else writes our mark under a pull request could change it again afterwards.
"""

from __future__ import annotations

import json
import math
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from reconciler.api import Key
from reconciler.clock import boottime
from reconciler.errors import ApiError, NeverSent, NotAuthorised, NotFound, Rejected, Throttled, Unavailable
from reconciler.transport import Transport, read_body

WITHIN_S, TOTAL_S = 30.0, 180.0  # one exchange, connect to last byte; everything, pauses included
TRIES = 4
OBEYED_S = 60.0  # the longest pause that a forge may ask for
A_PAGE, PAGES = 100, 100  # comments: as many as both forges give at once, and where the search ends
GITHUB_VERSION = "2022-11-28"


@dataclass(frozen=True)
class Forge:
    """What the forges do differently, for one pull request.

    `comments` is the path of the list, `one` that of a comment before its id; `edit` the method that changes one.
    `me` is asked who the token is, `writer` the member of a comment that says who wrote it. `signed` is the header of
    the token and what stands before it. `longest` is in characters, `needs` what the token must be allowed.
    """

    name: str
    api: str
    token: Key
    signed: tuple[str, str]
    headers: Mapping[str, str]
    comments: str
    order: Mapping[str, str]
    one: str
    edit: str
    me: str
    writer: str
    longest: int
    needs: str


def github(api: str, token: Key, repository: str, pull: int) -> Forge:
    """A pull request of GitHub, whose comments are those of the issue of the same number."""
    below = f"/repos/{quote(repository)}/issues"
    return Forge(
        name="GitHub",
        api=api.rstrip("/"),
        token=token,
        signed=("Authorization", "Bearer "),
        headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": GITHUB_VERSION},
        comments=f"{below}/{pull}/comments",
        order={},  # oldest first, always
        one=f"{below}/comments",
        edit="PATCH",
        me="/user",
        writer="user",
        longest=65_536,
        needs="the token needs `pull-requests: write`; that of a pull request from a fork never has it",
    )


def gitlab(api: str, token: Key, project: str, merge_request: int, *, of_job: bool = False) -> Forge:
    """A merge request of GitLab. `of_job`: the token is that of a CI job, which may read comments and not write any."""
    comments = f"/projects/{quote(project, safe='')}/merge_requests/{merge_request}/notes"
    needs = "the token needs the scope `api` and the role Reporter or above"
    job_needs = f"a job token reads comments and writes none: set GITLAB_TOKEN; {needs}"
    return Forge(
        name="GitLab",
        api=api.rstrip("/"),
        token=token,
        signed=("JOB-TOKEN" if of_job else "PRIVATE-TOKEN", ""),
        headers={"Accept": "application/json"},
        comments=comments,
        order={"sort": "asc", "order_by": "created_at"},
        one=comments,
        edit="PUT",
        me="/job" if of_job else "/user",
        writer="author",
        longest=1_000_000,
        needs=job_needs if of_job else needs,
    )


class Posted(NamedTuple):
    """What became of a text: `done` is made, edited or unchanged. `others` wrote so many comments with our mark."""

    id: int
    done: str
    others: int


def post(
    forge: Forge,
    text: str,
    *,
    clock: Callable[[], float] = boottime,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> Posted:
    """Make this text our comment: the one with the same first line is edited.

    Raises ApiError: NotAuthorised, NotFound, Rejected, Throttled for what the forge refused; Unavailable where it
    cannot be told that the comment is there.
    """
    if len(text) > forge.longest:
        raise Rejected(f"the comment has {len(text):,} characters, and {forge.name} takes {forge.longest:,}")
    with _Wire(forge, clock, sleep, jitter) as wire:
        return _posted(wire, text)


def _posted(wire: _Wire, text: str) -> Posted:
    forge, mark, is_me = wire.forge, text.partition("\n")[0], _recogniser(wire)
    done = ""
    for attempt in range(1, TRIES + 1):
        alike = [one for one in _comments(wire) if _first_line(one) == mark]
        ours = [one for one in alike if is_me(one)]
        others = len(alike) - len(ours)
        if ours and _same(ours[0]["body"], text):
            return Posted(ours[0]["id"], done or "unchanged", others)
        try:
            if ours:
                done = "edited"
                sent = wire.exchange(forge.edit, f"{forge.one}/{ours[0]['id']}", body={"body": text})
            else:
                done = "made"
                sent = wire.exchange("POST", forge.comments, body={"body": text})
        except ApiError as error:
            gone_since = isinstance(error, NotFound) and bool(ours)  # somebody deleted it between the two
            if attempt == TRIES or not (error.retryable or gone_since):
                raise
            wire.rest(attempt, error.after_s)
            continue
        if (number := _number(sent)) is not None:
            return Posted(number, done, others)
        wire.rest(attempt, 0)  # accepted without being shown: the next round finds it
    raise Unavailable(f"{forge.name} accepted the comment and does not show it")


def _recogniser(wire: _Wire) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a comment is by whoever the token is. The token of a workflow may not ask; such a one is a bot's."""
    forge = wire.forge

    def by(member: str, wanted: Any, comment: Mapping[str, Any]) -> bool:
        writer = comment.get(forge.writer)
        return isinstance(writer, dict) and writer.get(member) == wanted

    try:
        told = wire.asked(forge.me)
    except NotAuthorised as error:
        if error.status != 403 or forge.name != "GitHub":
            raise
        return partial(by, "type", "Bot")
    told = told.get("user", told) if isinstance(told, dict) else None
    if (number := _number(told)) is None:
        raise Unavailable(f"{forge.name} does not say whose the token is")
    return partial(by, "id", number)


def _comments(wire: _Wire) -> Iterator[dict[str, Any]]:
    """Everything that people and programs wrote under the pull request, oldest first."""
    for page in range(1, PAGES + 1):
        found = wire.asked(wire.forge.comments, {**wire.forge.order, "per_page": str(A_PAGE), "page": str(page)})
        if not isinstance(found, list):
            raise Unavailable(f"{wire.forge.name} answered with no list of comments")
        yield from (one for one in found if isinstance(one, dict) and _number(one) is not None)
        if len(found) < A_PAGE:
            return
    raise Rejected(f"there are more than {PAGES * A_PAGE:,} comments: ours cannot be looked for among so many")


def _first_line(comment: Mapping[str, Any]) -> str:
    body = comment.get("body")
    return body.partition("\n")[0].rstrip() if isinstance(body, str) else ""


def _same(body: str, text: str) -> bool:
    """Whether a forge shows what it was given: line ends and what is blank at the end are its own."""
    return body.replace("\r\n", "\n").rstrip() == text.rstrip()


def _number(told: Any) -> int | None:
    number = told.get("id") if isinstance(told, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


# On the wire ----------------------------------------------------------------------------------------------------------


class _Wire:
    """Requests to one forge, all of them over by one moment."""

    def __init__(
        self,
        forge: Forge,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
    ) -> None:
        self.forge, self._clock, self._sleep, self._jitter = forge, clock, sleep, jitter
        self._ends_at = clock() + TOTAL_S
        verify = ssl.create_default_context() if forge.api.startswith("https:") else None
        self._line = Transport(verify, keep_alive=0, clock=clock)
        header, before = forge.signed
        signed = {header: f"{before}{forge.token.reveal()}", "User-Agent": "bailian-reconciler"}
        self._headers = {**forge.headers, **signed}

    def __enter__(self) -> _Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()

    def asked(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The answer to a question, which may be put again."""
        for attempt in range(1, TRIES + 1):
            try:
                return self.exchange("GET", path, query=query)
            except ApiError as error:
                if attempt == TRIES or not error.retryable:
                    raise
                self.rest(attempt, error.after_s)
        raise AssertionError("unreachable")

    def rest(self, attempt: int, asked_s: float) -> None:
        """A pause before the next try. Raises Unavailable where there is no time left for one."""
        pause_s = max(asked_s, 2.0 ** (attempt - 1) * (0.5 + self._jitter() / 2))
        if self._clock() + pause_s >= self._ends_at:
            raise Unavailable(f"{self.forge.name} took too long", hint="try again later")
        self._sleep(pause_s)

    def exchange(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, str] | None = None
    ) -> Any:
        """One request and what the forge said, as JSON; None for a success that is none."""
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
        payload: dict[str, Any] = {"content": json.dumps(body).encode()} if body else {}
        with self._line.exchange(min(self._clock() + WITHIN_S, self._ends_at)) as exchange:
            try:
                url = f"{self.forge.api}{path}"
                with self._line.stream(method, url, params=query, headers=headers, **payload) as response:
                    said = _json(read_body(response))
            except httpx.HTTPError as error:
                raise self._lost(error, unsent=exchange.sent_bytes == 0) from None  # its request holds the token
        if 200 <= response.status_code < 300:
            return said
        raise self._refusal(response.status_code, said, response.headers)

    def _lost(self, error: httpx.HTTPError, *, unsent: bool) -> ApiError:
        name, why = self.forge.name, self._quoted(str(error) or type(error).__name__)
        if unsent:
            distrust = "CERTIFICATE_VERIFY_FAILED" in str(error)
            return NeverSent(f"{name} cannot be reached: {why}", untrusted=distrust, hint="is the address right?")
        return Unavailable(f"{name} gave no complete answer: {why}")

    def _refusal(self, status: int, said: Any, headers: Mapping[str, str]) -> ApiError:
        forge, words = self.forge, self._quoted(_message(said))
        told = f" and {words}" if words else ""
        if 300 <= status < 400:
            what = f"{forge.name} answered with a redirect, and none is ever followed"
            return Rejected(what, status=status, hint="is the address of its API right?")
        if status == 429 or (status == 403 and _is_limit(headers)):
            after_s = _after_s(headers)
            what = f"{forge.name} answers no more for now: wait {after_s:,.0f} s"
            return Throttled(what, quota=after_s > OBEYED_S, status=status, after_s=after_s, hint="try again later")
        if status >= 500 or status == 408:
            return Unavailable(f"{forge.name} failed with status {status}{told}", status=status)
        if status == 401:
            return NotAuthorised(f"{forge.name} does not accept the token{told}", status=status, hint=forge.needs)
        if status == 403:
            return NotAuthorised(f"{forge.name} forbids it{told}", status=status, hint=forge.needs)
        if status == 404:
            what = f"{forge.name} knows no such pull request, or hides it from the token"
            return NotFound(what, status=status, hint=f"are repository and number right? {forge.needs}")
        return Rejected(f"{forge.name} refused the comment with status {status}{told}", status=status)

    def _quoted(self, said: str) -> str:
        """Words of the forge, short and without the token."""
        said = said.replace(self.forge.token.reveal(), "***")
        return said if len(said) <= 200 else f"{said[:199]}…"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _message(said: Any) -> str:
    """Why a forge refuses, in its own words: GitHub's errors beside its message, GitLab's message or error."""
    if not isinstance(said, dict):
        return ""
    told = said.get("message") or said.get("error") or ""
    errors = said.get("errors")
    details = [one.get("message") for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    words = [told if isinstance(told, str) else json.dumps(told), *(one for one in details if isinstance(one, str))]
    return ": ".join(filter(None, words))


def _is_limit(headers: Mapping[str, str]) -> bool:
    """Whether a 403 is GitHub's way to say "not now"."""
    return "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"


def _after_s(headers: Mapping[str, str]) -> float:
    """The pause asked for: in seconds, or until a moment of the forge's clock."""
    for name, now in (("retry-after", 0.0), ("x-ratelimit-reset", time.time()), ("ratelimit-reset", time.time())):
        with suppress(ValueError):
            asked = float(headers.get(name, ""))
            if math.isfinite(asked):
                return max(0.0, asked - now)
    return 0.0
