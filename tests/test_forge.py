"""The one comment on the wire: made once, found again, edited; what a forge refuses, and where the token never goes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.api import Key
from reconciler.errors import ApiError, NotAuthorised, NotFound, Rejected, Throttled, Unavailable
from reconciler.forge import A_PAGE, TOTAL_S, Forge, Posted, github, gitlab, post
from tests.comments import ME, TOKEN, Comments, refusal
from tests.far_end import CLOSED, RESET, FarEnd, far_end, raw, reply

MARK = "<!-- reconciler report: tiny -->"
TEXT, OTHER = f"{MARK}\n**1 upload**\n", f"{MARK}\n**2 uploads**\n"


@dataclass
class Talk:
    """A forge on loopback, and a clock that passes only while somebody sleeps."""

    comments: Comments
    end: FarEnd
    forge: Forge
    pauses: list[float] = field(default_factory=list)

    def post(self, text: str = TEXT) -> Posted:
        return post(self.forge, text, clock=lambda: sum(self.pauses), sleep=self.pauses.append, jitter=lambda: 0.0)

    def sent(self, method: str) -> list[str]:
        return [one.target for one in self.end.received if one.method == method]


@contextmanager
def talk(on: str, **options: Any) -> Iterator[Talk]:
    comments = Comments(gitlab=on != "github", **options)
    with far_end(comments) as end:
        yield Talk(comments, end, forge(on, end.origin))


def forge(on: str, origin: str) -> Forge:
    if on == "github":
        return github(origin, Key(TOKEN), "team/models", 5)
    return gitlab(f"{origin}/api/v4", Key(TOKEN), "42", 5, of_job=on == "gitlab job")


BOTH = pytest.mark.parametrize("on", ["github", "gitlab"])


@BOTH
def test_the_second_text_is_an_edit_of_the_same_comment(on: str) -> None:
    with talk(on) as there:
        assert there.post() == Posted(100, "made", 0)
        assert there.post(OTHER) == Posted(100, "edited", 0)
        assert [one["body"] for one in there.comments.kept] == [OTHER]
        assert len(there.sent("POST")) == 1


@BOTH
def test_the_same_text_is_not_sent_again(on: str) -> None:
    with talk(on) as there:
        there.post()
        there.comments.kept[0]["body"] = TEXT.replace("\n", "\r\n").rstrip()  # as a forge may give it back
        before = len(there.end.received)
        assert there.post() == Posted(100, "unchanged", 0)
        assert {one.method for one in there.end.received[before:]} == {"GET"}


def test_requests_are_as_github_documents_them() -> None:
    """https://docs.github.com/rest/issues/comments"""
    with talk("github") as there:
        there.post()
        there.post(OTHER)
        assert there.sent("POST") == ["/repos/team/models/issues/5/comments"]
        assert there.sent("PATCH") == ["/repos/team/models/issues/comments/100"]
        assert there.sent("GET")[:2] == ["/user", "/repos/team/models/issues/5/comments?per_page=100&page=1"]
        for one in there.end.received:
            assert one.headers["accept"] == "application/vnd.github+json"
            assert one.headers["x-github-api-version"] == "2022-11-28"
            assert one.headers["authorization"] == f"Bearer {TOKEN}"
            assert one.headers["user-agent"] == "bailian-reconciler"
        written = [one for one in there.end.received if one.method != "GET"]
        assert [one.json for one in written] == [{"body": TEXT}, {"body": OTHER}]
        assert all(one.headers["content-type"] == "application/json" for one in written)


@pytest.mark.parametrize(
    ("on", "header", "me"), [("gitlab", "private-token", "user"), ("gitlab job", "job-token", "job")]
)
def test_requests_are_as_gitlab_documents_them(on: str, header: str, me: str) -> None:
    """https://docs.gitlab.com/api/notes/"""
    with talk(on) as there:
        there.post()
        there.post(OTHER)
        notes = "/api/v4/projects/42/merge_requests/5/notes"
        assert there.sent("POST") == [notes]
        assert there.sent("PUT") == [f"{notes}/100"]
        assert there.sent("GET")[:2] == [
            f"/api/v4/{me}",
            f"{notes}?sort=asc&order_by=created_at&per_page=100&page=1",
        ]
        assert all(one.headers[header] == TOKEN and "authorization" not in one.headers for one in there.end.received)


def test_a_project_may_be_named_by_its_path() -> None:
    assert "/projects/group%2Fmodels/merge_requests/5/notes" in gitlab("https://g", Key(""), "group/models", 5).comments


@BOTH
def test_it_is_found_on_the_third_page(on: str) -> None:
    with talk(on) as there:
        for number in range(2 * A_PAGE + 5):
            there.comments.write(f"talk {number}")
        there.comments.write(TEXT, by=ME)
        there.comments.write("after it")
        assert there.post(OTHER) == Posted(100 + 2 * A_PAGE + 5, "edited", 0)
        assert [target.rpartition("page=")[2] for target in there.sent("GET")[1:]] == ["1", "2", "3"]


@BOTH
@pytest.mark.parametrize(
    "lost", [RESET, CLOSED, raw(b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"), reply(502)]
)
def test_an_answer_lost_after_the_comment_was_made_makes_no_second_one(on: str, lost: Any) -> None:
    with talk(on, odd={"POST": [lost]}, late=True) as there:
        assert there.post() == Posted(100, "made", 0)
        assert [one["body"] for one in there.comments.kept] == [TEXT]
        assert len(there.sent("POST")) == 1


@BOTH
def test_a_request_lost_before_anything_was_made_is_sent_again_after_looking(on: str) -> None:
    with talk(on, odd={"POST": [RESET]}) as there:
        assert there.post().done == "made"
        assert len(there.comments.kept) == 1
        methods = [one.method for one in there.end.received]
        assert methods == ["GET", "GET", "POST", "GET", "POST"], "it was looked for in between"


@BOTH
def test_a_success_that_shows_nothing_is_looked_for(on: str) -> None:
    with talk(on, odd={"POST": [reply(201, b"<html>", kind="text/html")]}, late=True) as there:
        assert there.post() == Posted(100, "made", 0)
        assert len(there.comments.kept) == 1


@BOTH
def test_a_comment_that_was_deleted_in_between_is_made_anew(on: str) -> None:
    with talk(on) as there:
        there.post()
        gone = reply(200, [there.comments.kept.pop()])
        there.comments.odd[f"GET {there.comments.list_path}"] = [gone]
        assert there.post(OTHER) == Posted(100, "made", 0)


@BOTH
def test_what_somebody_else_wrote_under_our_mark_is_left_alone(on: str) -> None:
    """They could change it again afterwards: a plan that nobody made would stand there."""
    with talk(on) as there:
        there.comments.write(f"{MARK}\r\n**no changes**")
        assert there.post() == Posted(101, "made", 1)
        assert there.post(OTHER) == Posted(101, "edited", 1)
        assert there.comments.kept[0]["body"] == f"{MARK}\r\n**no changes**"


def test_the_token_of_a_workflow_may_not_ask_who_it_is_and_edits_what_a_bot_wrote() -> None:
    with talk("github", knows_me=False) as there:
        there.comments.write(TEXT)
        assert there.post() == Posted(101, "made", 1)
        assert there.post(OTHER) == Posted(101, "edited", 1)


@BOTH
def test_a_mark_in_the_middle_of_a_comment_is_none(on: str) -> None:
    with talk(on) as there:
        there.comments.write(f"look:\n{TEXT}", by=ME)
        there.comments.write(f"{MARK} and more", by=ME)
        there.comments.kept.append({"id": "odd", "body": None})
        assert there.post().done == "made"


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "status", "kind", "words", "hint"),
    [
        ("github", 401, NotAuthorised, "GitHub does not accept the token and Nope", "`pull-requests: write`"),
        ("github", 403, NotAuthorised, "GitHub forbids it and Nope", "from a fork never has it"),
        ("github", 404, NotFound, "GitHub knows no such pull request, or hides it", "`pull-requests: write`"),
        ("github", 422, Rejected, "GitHub refused the comment with status 422 and Nope", ""),
        (
            "gitlab",
            401,
            NotAuthorised,
            "GitLab does not accept the token and Nope",
            "scope `api` and the role Reporter",
        ),
        ("gitlab job", 403, NotAuthorised, "GitLab forbids it and Nope", "set GITLAB_TOKEN"),
        ("gitlab job", 401, NotAuthorised, "GitLab does not accept", "a job token reads comments and writes none"),
        ("gitlab", 400, Rejected, "GitLab refused the comment with status 400 and Nope", ""),
    ],
)
def test_a_refusal_says_what_to_do_and_is_final(
    on: str, status: int, kind: type[ApiError], words: str, hint: str
) -> None:
    with talk(on, odd={"POST": [refusal(status, "Nope")]}) as there:
        with pytest.raises(kind) as error:
            there.post()
        assert str(error.value).startswith(words)
        assert hint in error.value.hint
        assert len(there.sent("POST")) == 1


@pytest.mark.parametrize("on", ["gitlab", "github"])
def test_a_token_that_is_no_good_is_found_out_by_the_first_question(on: str) -> None:
    with talk(on, odd={"GET": [refusal(401, "Bad credentials")]}) as there:
        with pytest.raises(NotAuthorised):
            there.post()
        assert len(there.end.received) == 1


def test_the_details_of_a_refusal_are_told() -> None:
    """GitHub says in `errors` what its message leaves out; GitLab's message may be a mapping, or be called error."""
    github_says = {"message": "Validation Failed", "errors": [{"field": "data", "message": "Body is too long"}, 3]}
    for on, said, words in (
        ("github", github_says, "Validation Failed: Body is too long"),
        ("gitlab", {"message": {"note": ["is too long"]}}, '{"note": ["is too long"]}'),
        ("gitlab", {"error": "insufficient_scope"}, "insufficient_scope"),
        ("gitlab", ["odd"], "status 422"),
    ):
        with talk(on, odd={"POST": [reply(422, said)]}) as there, pytest.raises(Rejected) as error:
            there.post()
        assert words in str(error.value)


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_limit_is_waited_for_as_long_as_the_forge_asks(on: str, method: str) -> None:
    with talk(on, odd={method: [refusal(429, "slow down", {"Retry_After": "7"})]}) as there:
        assert there.post().done == "made"
        assert there.pauses == [7.0]
        assert len(there.comments.kept) == 1


@pytest.mark.parametrize("headers", [{"Retry_After": "9"}, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1"}])
def test_github_says_not_now_with_a_403_too(headers: dict[str, str]) -> None:
    with talk("github", odd={"POST": [refusal(403, "secondary rate limit", headers)]}) as there:
        assert there.post().done == "made"
        assert len(there.pauses) == 1


@BOTH
def test_a_limit_that_lasts_long_is_told_and_not_waited_for(on: str) -> None:
    with talk(on, odd={"POST": [refusal(429, "slow down", {"Retry_After": "3600"})]}) as there:
        with pytest.raises(Throttled, match=r"answers no more for now: wait 3,600 s"):
            there.post()
        assert there.pauses == []


@BOTH
def test_everything_is_over_in_time(on: str) -> None:
    with talk(on, odd={"GET": [refusal(429, "slow down", {"Retry_After": "60"})] * 9}) as there:
        with pytest.raises(ApiError):
            there.post()
        assert sum(there.pauses) < TOTAL_S


@BOTH
def test_a_forge_that_fails_is_asked_again_and_then_told(on: str) -> None:
    with talk(on, odd={"GET": [reply(503)] * 2}) as there:
        assert there.post().done == "made"
    with talk(on, odd={"GET": [reply(503)] * 9}) as there, pytest.raises(Unavailable, match="failed with status 503"):
        there.post()


@BOTH
def test_a_page_of_something_else_is_no_empty_list(on: str) -> None:
    """Taken for one, it would be a reason to make another comment."""
    with talk(on) as there:
        there.comments.odd[f"GET {there.comments.list_path}"] = [reply(200, b"<html>", kind="text/html")]
        with pytest.raises(Unavailable, match="no list of comments"):
            there.post()
        assert there.sent("POST") == []


@BOTH
def test_what_is_too_long_is_never_sent(on: str) -> None:
    with talk(on) as there:
        with pytest.raises(Rejected, match="characters, and Git"):
            there.post(TEXT + "x" * there.forge.longest)
        assert there.end.received == []


# The token ------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_takes_the_token_along(on: str, method: str, status: int) -> None:
    with far_end(lambda request: reply(200, {"id": 1})) as other, talk(on) as there:
        there.comments.odd[method] = [reply(status, {}, Location=f"{other.origin}/user")]
        with pytest.raises(Rejected, match="a redirect, and none is ever followed"):
            there.post()
        assert other.received == []


@BOTH
@pytest.mark.parametrize("answer", [RESET, CLOSED, raw(b"nonsense"), refusal(500, TOKEN), refusal(400, f"no {TOKEN}")])
def test_no_error_holds_the_token(on: str, answer: Any) -> None:
    with talk(on, odd={"GET": [answer] * 9}) as there:
        with pytest.raises(ApiError) as error:
            there.post()
        told = "".join(traceback.format_exception(error.value)) + repr(error.value) + error.value.hint
        assert TOKEN not in told + repr(there.forge)


def test_nobody_there_is_told_as_that() -> None:
    with far_end(lambda request: reply(200)) as gone:
        origin = gone.origin
    pauses: list[float] = []
    with pytest.raises(ApiError, match="GitHub cannot be reached"):
        post(forge("github", origin), TEXT, sleep=pauses.append)
    assert len(pauses) == 3
