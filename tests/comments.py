"""A stand-in for the comments of one pull request on a forge, to be answered from by a far end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.far_end import Answer, Received, reply

TOKEN = "ghs_canary0123456789"
ME, SOMEBODY = 7, 8
BOT = {"id": ME, "login": "github-actions[bot]", "type": "Bot"}


@dataclass
class Comments:
    """What stands below the pull request. `odd` are answers that come instead of the next ones, by method.

    An odd answer to what writes is given after it was done if it is in `late`, else nothing was done.
    """

    gitlab: bool = False
    knows_me: bool = True
    kept: list[dict[str, Any]] = field(default_factory=list)
    odd: dict[str, list[Answer]] = field(default_factory=dict)
    late: bool = False

    @property
    def writer(self) -> str:
        return "author" if self.gitlab else "user"

    @property
    def list_path(self) -> str:
        return "/api/v4/projects/42/merge_requests/5/notes" if self.gitlab else "/repos/team/models/issues/5/comments"

    def write(self, body: str, by: int = SOMEBODY, **more: Any) -> None:
        person = {"id": by, "type": "User", **more}
        self.kept.append({"id": 100 + len(self.kept), "body": body, self.writer: person})

    def __call__(self, request: Received) -> Answer:
        path = urlsplit(request.target).path
        odd = self.odd.get(f"{request.method} {path}") or self.odd.get(request.method)
        if odd and not (self.late and request.method != "GET"):
            return odd.pop(0)
        answer = self._answer(request, path)
        return odd.pop(0) if odd else answer

    def _answer(self, request: Received, path: str) -> Answer:
        one = re.fullmatch(r".*/(?:comments|notes)/([0-9]+)", path)
        if path in ("/user", "/api/v4/user"):
            return reply(200, BOT) if self.knows_me else refusal(403, "Resource not accessible by integration")
        if path == "/api/v4/job":
            return reply(200, {"id": 99, "user": {"id": ME}})
        if one and request.method == ("PUT" if self.gitlab else "PATCH"):
            found = next((kept for kept in self.kept if kept["id"] == int(one[1])), None)
            if found is None:
                return refusal(404, "Not Found")
            found["body"] = request.json["body"]
            return reply(200, found)
        if path != self.list_path:
            return refusal(404, "Not Found")
        if request.method == "POST":
            self.write(request.json["body"], by=ME, type="Bot")
            return reply(201, self.kept[-1])
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
        size, page = int(query["per_page"]), int(query["page"])
        return reply(200, self.kept[size * (page - 1) : size * page])


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    return reply(status, {"message": message, "documentation_url": "https://docs.example"}, **(headers or {}))
