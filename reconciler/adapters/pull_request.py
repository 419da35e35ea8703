"""From the variables that a forge's CI sets to the pull request that a comment is for. No message holds any token."""

from __future__ import annotations

import os
import re

from reconciler.adapters.connection import checked_url
from reconciler.api import Key
from reconciler.errors import NotAuthorised, UsageError
from reconciler.forge import Forge, github, gitlab

GITHUB_API = "https://api.github.com"


def pull_request(forge: str, number: int | None) -> Forge:
    """The pull request of `number`, else the one that this CI job is about. UsageError for what is missing."""
    return _github(number) if forge == "github" else _gitlab(number)


def _github(number: int | None) -> Forge:
    found = re.fullmatch(r"refs/pull/([0-9]{1,9})/(?:merge|head)", os.environ.get("GITHUB_REF", ""))
    number = number or (int(found[1]) if found else None)
    repository, token = _all_of("GITHUB_REPOSITORY", "GITHUB_TOKEN")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}", repository):
        raise UsageError("GITHUB_REPOSITORY names no repository", hint="it is OWNER/NAME")
    if number is None:
        raise UsageError("GITHUB_REF names no pull request", hint="say which one with --pull N")
    return github(_api("GITHUB_API_URL", GITHUB_API), _token("GITHUB_TOKEN", token), repository, number)


def _gitlab(number: int | None) -> Forge:
    (project, _) = _all_of("CI_PROJECT_ID", "CI_API_V4_URL")
    given = os.environ.get("CI_MERGE_REQUEST_IID", "")
    number = number or (int(given) if re.fullmatch(r"[0-9]{1,9}", given) else None)
    if number is None:
        raise UsageError("CI_MERGE_REQUEST_IID names no merge request", hint="say which one with --pull N")
    name = "GITLAB_TOKEN" if os.environ.get("GITLAB_TOKEN") else "CI_JOB_TOKEN"
    token = os.environ.get(name, "")
    if not token:
        raise UsageError("neither GITLAB_TOKEN nor CI_JOB_TOKEN is set", hint="docs/report.md says what it must allow")
    return gitlab(_api("CI_API_V4_URL", ""), _token(name, token), project, number, of_job=name == "CI_JOB_TOKEN")


def _all_of(*names: str) -> tuple[str, ...]:
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise UsageError(f"not set: {', '.join(missing)}", hint="CI sets these; docs/report.md says which are needed")
    return tuple(os.environ[name] for name in names)


def _api(name: str, otherwise: str) -> str:
    return checked_url(os.environ.get(name) or otherwise, name)


def _token(name: str, value: str) -> Key:
    if not re.fullmatch(r"[\x21-\x7e]{1,1000}", value):
        raise NotAuthorised(f"{name} holds a character that no token has", hint="was it pasted as a whole, and alone?")
    return Key(value)
