"""From a project and the operator's word to a service: which host, which key, and whether it is only the emulator.

A manifest may name the emulator or an official region and nothing else; any other host comes from a flag or the
environment, over https unless it is this computer. The key comes from the environment or a private file, is wrapped at
once and goes to that one host; no emulator ever receives one of the real form.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import SplitResult, urlsplit

from reconciler.api import LOOPBACK, Api, Key
from reconciler.errors import NotAuthorised, ReconcilerError, Refused, UsageError
from reconciler.kinds.stack import Stack
from reconciler.project import Project

REGIONS = {"beijing": "https://dashscope.aliyuncs.com", "singapore": "https://dashscope-intl.aliyuncs.com"}
KEY_VARIABLE, ENDPOINT_VARIABLE = "DASHSCOPE_API_KEY", "DASHSCOPE_HTTP_BASE_URL"
FOLDER = ".reconciler"
_EMULATOR_SPEED = 600.0
_MADE_UP = "the-emulator-needs-no-key"
_REAL_KEY = re.compile(r"sk-[0-9a-f]{32}")
_KEY_BYTES_MAX = 1000


@dataclass(frozen=True)
class Service:
    """Where requests go. `name` is what a person calls it."""

    name: str
    origin: str
    key: Key
    emulated: bool


@contextmanager
def connect(
    project: Project,
    *,
    endpoint: str,
    key_file: str,
    keyless: Callable[[NotAuthorised], None] | None = None,
    lasting: bool = True,
) -> Iterator[Service]:
    """The service for a project, while it is used: the embedded emulator runs only so long. `endpoint` is the flag.

    With `keyless` a key that cannot be had is told there, and none is sent. Not `lasting`: an embedded emulator that
    has no memory in the project yet is given none.
    """
    spec = project.stack.spec if project.stack else Stack()
    assert isinstance(spec, Stack)
    if endpoint := endpoint or _from_environment(spec):
        yield _named_by_operator(endpoint, key_file, keyless)
    elif spec.endpoint == "emulator":
        with _embedded(project, lasting) as origin:
            yield Service("emulator", origin, Key(_MADE_UP), emulated=True)
    else:
        name = name_of(urlsplit(REGIONS[spec.endpoint]).hostname or "")
        yield Service(name, REGIONS[spec.endpoint], _key_or_none(key_file, keyless), emulated=False)


def is_embedded(project: Project, endpoint: str) -> bool:
    """Whether its service is the emulator that runs only while it is used."""
    spec = project.stack.spec if project.stack else Stack()
    assert isinstance(spec, Stack)
    return spec.endpoint == "emulator" and not (endpoint or _from_environment(spec))


def name_of(endpoint: str) -> str:
    """What a person calls the endpoint of a stamp."""
    regions = {urlsplit(origin).hostname: region for region, origin in REGIONS.items()}
    if is_emulated(endpoint):
        return "emulator"
    return f"{endpoint} ({regions[endpoint]})" if endpoint in regions else endpoint


def is_emulated(endpoint: str) -> bool:
    """Whether the endpoint of a stamp is an emulator, where nothing is bought."""
    return endpoint.startswith("emulator:")


# The operator's endpoint --------------------------------------------------------------------------------------------


def _from_environment(spec: Stack) -> str:
    """The environment's endpoint, or "". Perhaps set for other programs, it alone never turns play into money."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "").strip()
    if endpoint and spec.endpoint == "emulator" and urlsplit(origin_of(endpoint)).hostname not in LOOPBACK:
        raise Refused(
            f"the stack is meant for the emulator, but {ENDPOINT_VARIABLE} names another service",
            hint="unset it, or name that service with --endpoint",
        )
    return endpoint


def _named_by_operator(endpoint: str, key_file: str, keyless: Callable[[NotAuthorised], None] | None) -> Service:
    origin = origin_of(endpoint)
    host = urlsplit(origin).hostname
    if host in LOOPBACK and _is_emulator(origin):
        return Service(f"emulator at {origin}", origin, Key(_harmless(key_file)), emulated=True)
    return Service(host or origin, origin, _key_or_none(key_file, keyless), emulated=False)


def origin_of(endpoint: str) -> str:
    """Scheme and host of an endpoint that may or may not end in `/api/v1`. UsageError for anything else."""
    hint = "write https://HOST or https://HOST/api/v1"
    parts = urlsplit(checked_url(endpoint, "the endpoint", hint=hint))
    if parts.path.rstrip("/") not in ("", "/api/v1"):
        raise UsageError("the endpoint cannot be used: its path is not /api/v1", hint=hint)
    return f"{parts.scheme}://{parts.netloc}"


def checked_url(url: str, what: str, *, hint: str = "write https://HOST", query: bool = False) -> str:
    """A URL that a secret may be sent to. UsageError for any other; `what` is what a person calls it."""
    try:
        problem = _problem(url, urlsplit(url), query=query)
    except ValueError:
        problem = "it is no URL"
    if problem:
        raise UsageError(f"{what} cannot be used: {problem}", hint=hint)
    return url


def _problem(url: str, parts: SplitResult, *, query: bool) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:/._\[\]@?#%&=-]+", url):
        return "it holds characters that no host name has"
    if "@" in parts.netloc:
        return "it holds a user or a password"
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return "it is no https URL"
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        return "http is for this computer only"
    if "xn--" in parts.hostname:
        return "international host names look like others too easily"
    if (parts.query and not query) or parts.fragment:
        return f"nothing may follow its {'query' if query else 'path'}"
    return "" if parts.port is None or parts.port else "its port is 0"


def _is_emulator(origin: str) -> bool:
    """Asked without a key."""
    with Api(origin, Key("")) as api:
        api.identify()
        return bool(api.emulator)


# Keys ---------------------------------------------------------------------------------------------------------------


def _key_or_none(key_file: str, keyless: Callable[[NotAuthorised], None] | None) -> Key:
    try:
        return Key(_key(key_file))
    except NotAuthorised as error:
        if keyless is None:
            raise
        keyless(error)
        return Key("")


def _key(key_file: str) -> str:
    """The operator's key. No message ever holds any of it."""
    key = private_text(key_file, "the key file") if key_file else os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        hint = f"set {KEY_VARIABLE}, or name a file with --key-file; on `endpoint: emulator` none is needed"
        raise NotAuthorised(f"there is no API key: {KEY_VARIABLE} is not set", hint=hint)
    if not re.fullmatch(r"[!-~]{1,500}", key):
        raise NotAuthorised("the API key holds characters that no key has", hint="was it pasted as a whole, and alone?")
    return key


def _harmless(key_file: str) -> str:
    """A key for an emulator that somebody started: their made-up one if there is one, never one of the real form."""
    try:
        key = _key(key_file)
    except NotAuthorised:
        return _MADE_UP
    return _MADE_UP if _REAL_KEY.fullmatch(key) else key


def private_text(path: str, what: str, *, most: int = _KEY_BYTES_MAX) -> str:
    """The small secret that a file of its owner's alone holds; `what` is what a person calls it. NotAuthorised."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotAuthorised(f"{what} cannot be opened: {error.strerror}", hint="links are not followed") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
            raise NotAuthorised(f"{what} is not a small regular file")
        if facts.st_mode & 0o077:
            raise NotAuthorised(f"others may read {what}", hint="chmod 600 it, and think about a new one")
        return os.read(descriptor, most).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)


# The embedded emulator ----------------------------------------------------------------------------------------------


@contextmanager
def _embedded(project: Project, lasting: bool) -> Iterator[str]:
    from reconciler.emulator.server import serve

    with ExitStack() as running:
        if lasting or (project.home / FOLDER / "emulator").exists():
            data = private_folder(project.home) / "emulator"
        else:
            data = Path(running.enter_context(TemporaryDirectory(prefix="reconciler-")))
        try:
            origin = running.enter_context(serve(data, profile=project.profile.profile, speed=_EMULATOR_SPEED))
        except (OSError, ValueError) as error:
            raise ReconcilerError(f"the emulator cannot start on {data}: {error}") from error
        yield origin


def private_folder(root: Path) -> Path:
    """`.reconciler/` in the project: for its owner alone, and never committed."""
    folder = root / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_mode & 0o002:
            raise ReconcilerError(f"{folder} is a link, or open to everybody", hint="make it a folder with mode 0700")
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise ReconcilerError(f"{folder} cannot be used: {error.strerror}") from error
    return folder
