"""YAML text to plain values with the place of each, or every mistake in it.

Promises that no bytes make it crash, hang or guess: what YAML 1.1 and 1.2 read differently, and what is there only to
surprise (anchors, tags, invisible characters), is refused with what to write instead. It knows nothing of manifests.

Where nothing is wrong with a file it is read quickly, document by document and without the place of anything, so that
what was read of a document before is known by its bytes. Whatever is doubtful then, and every place that somebody asks
for, is the business of the careful builder.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import Any, NamedTuple

import yaml
from pydantic_core import to_json  # three times as fast as json
from yaml import MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent, StreamEndEvent

from reconciler.errors import Position, Problem
from reconciler.wording import is_hidden, shown, visible

MAX_FILE_BYTES = 1 << 20  # libyaml needs seconds for a megabyte of brackets, so this cap is also the bound in time
MAX_DOCUMENTS = 1_000
MAX_NODES = 100_000
MAX_DEPTH = 64
MAX_DIGITS = 18
MAX_PROBLEMS = 50  # a file: more than anybody reads at once
NO_VALUE = "no value"  # what is said of null

Path = tuple[str | int, ...]


class Built(NamedTuple):
    """A document with all that is known of it.

    `at` holds where each value was written (of a mapping or list inside a mapping: its key), `keys` where each key was.
    """

    value: Any
    at: Mapping[Path, Position]
    keys: Mapping[Path, Position]


@dataclass(frozen=True, eq=False)
class Written:
    """One YAML document as plain values. None stands for what was refused; `sound` says that nothing was.

    `members` are those of a mapping, each as JSON; all else is there once it is asked for.
    """

    members: Mapping[str, str]
    sound: bool
    build: Callable[[], Built] = field(repr=False)

    @classmethod
    def of(cls, built: Built, *, sound: bool) -> Written:
        return cls(_members(built.value), sound, lambda: built)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written) and (self.sound, self._built) == (other.sound, other._built)

    @cached_property
    def _built(self) -> Built:
        return self.build()

    @property
    def value(self) -> Any:
        return self._built.value

    @property
    def at(self) -> Mapping[Path, Position]:
        return self._built.at

    @property
    def keys(self) -> Mapping[Path, Position]:
        return self._built.keys

    @property
    def is_mapping(self) -> bool:
        return bool(self.members) or isinstance(self.value, dict)

    def member(self, name: str) -> Any:
        """What a mapping holds under this key; None where it holds nothing, or is none."""
        return json.loads(self.members[name]) if name in self.members else None

    def position(self, path: Path) -> Position:
        """Where a path was written; the nearest parent that was, if it was not written itself."""
        while path not in self.at:
            path = path[:-1]
        return self.at[path]


class Places(Mapping[Path, Position]):
    """Where the values of a document were written: found out when somebody asks, for hardly anybody does."""

    def __init__(self, written: Written) -> None:
        self._build = written.build

    @cached_property
    def _at(self) -> Mapping[Path, Position]:
        return self._build().at

    def __getitem__(self, path: Path) -> Position:
        return self._at[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)


def _members(value: Any) -> dict[str, str]:
    return {name: to_json(member).decode() for name, member in value.items()} if isinstance(value, dict) else {}


def overlaid(base: Written, over: Written) -> Written:
    """One document laid over another: mappings key by key, anything else as a whole. Every value keeps its place."""
    replaced: set[Path] = set()
    value = _laid_over(base.value, over.value, (), replaced)

    def places(below: Mapping[Path, Position], above: Mapping[Path, Position]) -> Mapping[Path, Position]:
        kept = {path: place for path, place in below.items() if not _is_within(path, replaced)}
        return kept | {path: place for path, place in above.items() if _is_within(path, replaced)}

    built = Built(value, places(base.at, over.at), places(base.keys, over.keys))
    return Written.of(built, sound=base.sound and over.sound)


def _laid_over(base: Any, over: Any, path: Path, replaced: set[Path]) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        replaced.add(path)
        return over
    news = {key: value for key, value in over.items() if key not in base}
    replaced |= {(*path, key) for key in news}
    both = {key: _laid_over(base[key], over[key], (*path, key), replaced) for key in over if key in base}
    return {**base, **both, **news}


def _is_within(path: Path, places: set[Path]) -> bool:
    return any(path[:length] in places for length in range(len(path) + 1))


class Piece(NamedTuple):
    """What the bytes of one sound mapping say: how many values there are in it, and its members, each as JSON."""

    values: int
    members: dict[str, str]


Pieces = dict[str, Piece]  # by the sha256 of their bytes


class Yaml(NamedTuple):
    """What one file holds. `whole` is False where a part of it could not be read at all.

    `pieces` are what need not be read again wherever the same bytes are a document.
    """

    documents: tuple[Written, ...]
    problems: tuple[Problem, ...]
    whole: bool
    pieces: Pieces = {}


def read_yaml(file: str, data: bytes, known: Pieces | None = None) -> Yaml:
    """The documents of a file in YAML 1.2 core, without anchors, aliases, tags, directives and nulls."""
    try:
        return _quickly(file, data, known or {})
    except _Doubt:
        return _carefully(file, data)


def _carefully(file: str, data: bytes) -> Yaml:
    try:
        text, problems = _readable(file, data)
    except _Unreadable as error:
        return Yaml((), error.problems, whole=False)
    builder = _Builder(file, problems)
    try:
        for event in _events(file, text):
            builder.take(event)
    except _Unreadable as error:
        return Yaml(tuple(builder.documents), (*builder.problems, *error.problems), whole=False)
    return Yaml(tuple(builder.documents), tuple(builder.problems), whole=True)


# Quickly ------------------------------------------------------------------------------------------------------------


class _Doubt(Exception):
    """Something may be wrong, or is too rare to be read quickly."""


_BEGIN = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)  # nothing else can such a line be, inside whatever it lies


def _quickly(file: str, data: bytes, known: Pieces) -> Yaml:
    """A file of sound mappings, document by document; _Doubt for any other."""
    found: dict[str, Piece] = {}
    documents: list[Written] = []
    checked, values, line = False, 0, 0
    for source in _pieces(data.removeprefix(codecs.BOM_UTF8)):
        digest = hashlib.sha256(source).hexdigest()
        piece = known.get(digest)
        if piece is None:
            checked = checked or _is_plain(file, data)
            piece = _piece(source.decode())
        values += piece.values if piece else 1
        if piece:
            found[digest] = piece
            documents.append(Written(piece.members, True, partial(_rebuilt, file, source, line)))
        line += source.count(b"\n")
    if values > MAX_NODES or len(documents) > MAX_DOCUMENTS:
        raise _Doubt
    return Yaml(tuple(documents), (), True, found)


def _pieces(data: bytes) -> Iterator[bytes]:
    """The bytes of each document, `---` being the first of all but one."""
    start = 0
    for begin in _BEGIN.finditer(data):
        yield data[start : begin.start()]
        start = begin.start()
    yield data[start:]


def _is_plain(file: str, data: bytes) -> bool:
    try:
        _, problems = _readable(file, data)
    except _Unreadable as error:
        raise _Doubt from error
    if problems:
        raise _Doubt
    return True


def _piece(text: str) -> Piece | None:
    """One document without the place of anything; None where there is none, _Doubt where `_Builder` may refuse it."""
    try:
        take = _LOADER(text).get_event
        take()
        if type(take()) is StreamEndEvent:
            return None
        root = take()
        is_empty = type(root) is ScalarEvent and not (root.value or root.style or root.anchor or root.tag)
        value, values = (None, 1) if is_empty else _value(root, take)
        take()
        if type(take()) is not StreamEndEvent:  # a directive lies before its `---`, so in a piece that cannot be read
            raise _Doubt
    except (yaml.YAMLError, Doubtful, ValueError, OverflowError) as error:
        raise _Doubt from error
    if isinstance(value, dict):
        return Piece(values, _members(value))
    if is_empty:
        return None
    raise _Doubt


def _value(event: Any, take: Callable[[], Any]) -> tuple[Any, int]:
    """What an event and those after it stand for, and how many values that is. One loop: most of all time goes here."""
    outer: list[tuple[Any, str | None]] = []
    here: Any = None
    key, values, value = None, 1, None
    while True:
        kind = type(event)
        if kind is ScalarEvent:
            if event.anchor or event.tag:
                raise _Doubt
            value = _quoted(event) if event.style else plain_value(event.value)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            if event.anchor or event.tag or len(outer) == MAX_DEPTH:
                raise _Doubt
            outer.append((here, key))
            here, key = {} if kind is MappingStartEvent else [], None
            event = take()
            continue
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            value, values = here, values + len(here) * (2 if kind is MappingEndEvent else 1)
            here, key = outer.pop()
        else:
            raise _Doubt
        if not outer:
            return value, values
        if type(here) is list:
            here.append(value)
        elif key is not None:
            here[key], key = value, None
        elif type(value) is str and value not in here:
            key = value
        else:
            raise _Doubt
        event = take()


def _quoted(event: Any) -> str:
    """A text in quotes, or a block. Only behind escapes can hide in it what the file as a whole does not hold."""
    text: str = event.value
    if event.style == '"' and (_API_KEY.search(text) or not visible(text)):
        raise _Doubt
    return text


def _rebuilt(file: str, source: bytes, line: int) -> Built:
    """A document that was read quickly, with the place of everything; its first line is `line` lines down the file."""
    builder = _Builder(file, [], line)
    for event in _events(file, source.decode()):
        builder.take(event)
    (written,) = builder.documents
    return written.build()


# Bytes to text ------------------------------------------------------------------------------------------------------


class _Unreadable(Exception):
    """The rest of the file cannot be read."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


def _readable(file: str, data: bytes) -> tuple[str, list[Problem]]:
    """The text of a file, API keys in it made unreadable and reported."""
    if len(data) > MAX_FILE_BYTES:
        what = f"more than {MAX_FILE_BYTES:,} bytes of YAML"
        raise _Unreadable(Problem(what, Position(file, 1, 1), "split the file"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        place = _place(file, before, len(before))
        raise _Unreadable(Problem("this is not UTF-8", place, "save the file as UTF-8")) from error
    if hidden := tuple(islice(_hidden(file, text), MAX_PROBLEMS)):
        raise _Unreadable(*hidden)
    if "sk-" not in text:
        return text, []
    keys = islice(_API_KEY.finditer(text), MAX_PROBLEMS)
    problems = [_key_problem(_place(file, text, key.start())) for key in keys]
    return _API_KEY.sub(lambda key: "sk-".ljust(len(key[0]), "x"), text), problems


def _hidden(file: str, text: str) -> Iterator[Problem]:
    """Every invisible character, and a carriage return without a line feed: only YAML would see a line end there."""
    suspects = sorted(letter for letter in set(text) - {"\r"} if is_hidden(letter))
    for found in re.finditer("|".join((*map(re.escape, suspects), "\r(?!\n)")), text):
        yield _hidden_problem(found[0], _place(file, text, found.start()))


def _hidden_problem(letter: str, at: Position) -> Problem:
    return Problem(f"an invisible character, U+{ord(letter):04X}", at, "remove it")


# Bounded throughout, so that a file made of "sk-sk-sk-" takes no longer than any other.
_API_KEY = re.compile(r"(?<![A-Za-z0-9])sk-(?:[a-z]{1,8}-){0,3}(?=[A-Za-z_]{0,40}[0-9])[A-Za-z0-9_.]{16,}")


def _key_problem(at: Position) -> Problem:
    what = "this looks like an API key, and no file of a project is a place for one"
    return Problem(what, at, "revoke it, and set DASHSCOPE_API_KEY to a new one")


def _place(file: str, text: str, offset: int) -> Position:
    return Position(file, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


# Text to events to values -------------------------------------------------------------------------------------------


def _events(file: str, text: str) -> Iterator[yaml.Event]:
    """The event stream. Never the composer: it is recursive, and libyaml's dies on 100,000 brackets."""
    last: yaml.Event | None = None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            last = event
            yield event
    except yaml.MarkedYAMLError as error:
        what = error.problem or "it cannot be understood"
        at = _position(file, error.problem_mark or (last and last.start_mark))
        if "nesting depth" in what:  # a bound of libyaml's own, which looks ahead of its events
            raise _Unreadable(Problem(_TOO_DEEP, at)) from error
        raise _Unreadable(Problem(f"not YAML: {what}", at, _SYNTAX_HINTS.get(what, ""))) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # what the pure Python loader raises for bad escapes
        raise _Unreadable(Problem("not YAML from here on", _position(file, last and last.start_mark))) from error


_TOO_DEEP = f"more than {MAX_DEPTH} levels deep"
IS_FAST: bool = yaml.__with_libyaml__
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_SYNTAX_HINTS = {
    "mapping values are not allowed in this context": "quote a text that holds a colon",
    "found character that cannot start any token": "indent with spaces; quote a text that begins with @, ` or %",
    "did not find expected key": "look at the indentation, and for an unclosed bracket or quote above",
}


def _position(file: str, mark: Any) -> Position:
    return Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)


@dataclass
class _Frame:
    """A mapping or list under construction. `path` is None below a place that was refused, `key` where the key was."""

    container: Any
    path: Path | None
    awaits_key: bool
    key: str | None = None


class _Builder:
    """Builds documents from events. After a mistake it goes on, so that all of them are found."""

    def __init__(self, file: str, problems: list[Problem], line: int = 0) -> None:
        self.documents: list[Written] = []
        self.problems = problems
        self._file, self._line, self._nodes = file, line, 0
        self._frames: list[_Frame] = []
        self._begin()

    def take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._begin()
                if event.version or event.tags:
                    self._refuse("a directive (%YAML, %TAG)", event, "leave it out")
            case yaml.DocumentEndEvent():
                self._finish(event)
            case yaml.AliasEvent():
                self._refuse("an alias (*)", event, "write the value out")
                self._put(None, event)
            case ScalarEvent():
                self._scalar(event)
            case MappingStartEvent() | SequenceStartEvent():
                self._open(event)
            case MappingEndEvent() | SequenceEndEvent():
                self._frames.pop()

    def _begin(self) -> None:
        self._root: Any = None
        self._at: dict[Path, Position] = {}
        self._keys: dict[Path, Position] = {}
        self._problems_before = len(self.problems)

    def _finish(self, event: Any) -> None:
        if not self._at:  # nothing was written between two `---`
            return
        if len(self.documents) == MAX_DOCUMENTS:
            self._stop(f"more than {MAX_DOCUMENTS:,} documents in one file", event, "split the file")
        sound = len(self.problems) == self._problems_before
        self.documents.append(Written.of(Built(self._root, self._at, self._keys), sound=sound))

    def _open(self, event: Any) -> None:
        self._check(event)
        if len(self._frames) == MAX_DEPTH:
            self._stop(_TOO_DEEP, event)
        is_mapping = isinstance(event, MappingStartEvent)
        container: Any = {} if is_mapping else []
        self._frames.append(_Frame(container, self._put(container, event), awaits_key=is_mapping))

    def _scalar(self, event: Any) -> None:
        self._check(event)
        is_plain = not event.style  # the two loaders disagree on how to say so
        if is_plain and not event.value and not self._frames:
            return  # an empty document
        value = self._resolve(event) if is_plain else event.value
        if isinstance(value, str):
            value = self._clean(value, event)
        if self._frames and self._frames[-1].awaits_key:
            self._take_key(value, event)
        else:
            self._put(value, event)

    def _check(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(f"more than {MAX_NODES:,} values in one file", event, "split the file")
        if event.anchor:
            self._refuse("an anchor (&)", event, "write the value out wherever it is needed")
        if event.tag:
            self._refuse("a tag (!)", event, "leave it out")

    def _resolve(self, event: Any) -> Any:
        try:
            return plain_value(event.value)
        except Doubtful as doubt:
            self._refuse(doubt.what, event, doubt.hint)
            return None

    def _clean(self, value: str, event: Any) -> str | None:
        """The text, or None where it hides behind escapes what the file itself may not hold."""
        holds_key = bool(_API_KEY.search(value))
        if visible(value) and not holds_key:  # as nearly all of them
            return value
        at, hidden = self._place(event), sorted(letter for letter in set(value) if is_hidden(letter))
        self.problems += (_hidden_problem(letter, at) for letter in hidden)
        if holds_key:
            self.problems.append(_key_problem(at))
        return None if hidden or holds_key else value

    def _take_key(self, key: Any, event: Any) -> None:
        """Remembers the key of the value to come; the value is dropped where the key is refused."""
        frame = self._frames[-1]
        frame.awaits_key, frame.key = False, None
        if key is None or frame.path is None:
            return
        if not isinstance(key, str):
            self._refuse("a key must be a text", event, f'quote it: "{event.value}"')
        elif key in frame.container:
            first = self._keys[(*frame.path, key)]
            self._refuse(f"the key {shown(key)} is written twice", event, f"first in line {first.line}")
        else:
            frame.key = key
            self._keys[(*frame.path, key)] = self._place(event)

    def _put(self, value: Any, event: Any) -> Path | None:
        """Puts a value where it belongs and returns its path; None where that place was refused."""
        path = self._next_path(event)
        if path is None:
            return None
        self._at[path] = self._place(event)
        if not self._frames:
            self._root = value
        elif isinstance(container := self._frames[-1].container, list):
            container.append(value)
        else:
            container[path[-1]] = value
            if isinstance(value, dict | list):
                self._at[path] = self._keys[path]
        return path

    def _next_path(self, event: Any) -> Path | None:
        if not self._frames:
            return ()
        frame = self._frames[-1]
        if isinstance(frame.container, list):
            return None if frame.path is None else (*frame.path, len(frame.container))
        if frame.awaits_key:
            self._refuse("a mapping, a list or an alias as a key", event, "a key is a text")
            frame.awaits_key, frame.key = False, None
            return None
        frame.awaits_key = True
        return None if frame.path is None or frame.key is None else (*frame.path, frame.key)

    def _refuse(self, what: str, event: Any, hint: str) -> None:
        self.problems.append(Problem(what, self._place(event), hint))
        if len(self.problems) >= MAX_PROBLEMS:
            self._stop("too many mistakes to go on", event)

    def _place(self, event: Any) -> Position:
        return Position(self._file, self._line + event.start_mark.line + 1, event.start_mark.column + 1)

    def _stop(self, what: str, event: Any, hint: str = "") -> None:
        raise _Unreadable(Problem(what, self._place(event), hint))


# Plain scalars ------------------------------------------------------------------------------------------------------


class Doubtful(Exception):
    """A plain scalar that is refused rather than guessed."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def plain_value(text: str) -> str | int | float | bool:
    """An unquoted scalar by YAML 1.2 core; Doubtful where YAML 1.1 reads another value, or there is none."""
    if text[:1].isalpha() and text.lower() not in _SPECIAL:  # nearly all of them
        return text
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    if text in ("", "~", "null", "Null", "NULL"):
        raise Doubtful(NO_VALUE, 'leave the field out, or write "" for an empty text')
    if text.lower() in ("y", "yes", "on", "n", "no", "off"):
        meant = "true" if text.lower() in ("y", "yes", "on") else "false"
        raise Doubtful(f"{text} is {meant} to some readers of YAML", f'write {meant}, or quote it: "{text}"')
    if len(text) <= 100 and _NUMBER_LIKE.fullmatch(text):
        raise Doubtful(f"{text} is a number or a date to some readers of YAML", f'quote it: "{text}"')
    if text in ("=", "<<"):
        raise Doubtful(f"{text} has a meaning of its own in YAML", f'quote it: "{text}"; nothing can be merged in')
    return text


_SPECIAL = frozenset("true false null y yes on n no off".split())
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NUMBER_LIKE = re.compile(  # \d on purpose: Python reads digits of every script as numbers
    r"""[-+]?( 0[box][\da-f_]+                                  # 0o17 0x1f
      | (\d[\d_]*(\.[\d_]*)? | \.\d[\d_]*)(e[-+]?\d+)?          # 010 1_000
      | \d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?                         # 12:30:45
      | \.(inf|nan) )
      | \d{4}-\d\d?-\d\d?([t\s].*)?                             # 2026-01-01
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _integer(text: str) -> int:
    if len(text.lstrip("+-")) > MAX_DIGITS:
        raise Doubtful(f"a number of more than {MAX_DIGITS} digits", "quote it if it is a text")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    lost = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])
    if len(text) > 40 or math.isinf(value) or lost:
        raise Doubtful("a number that is too long, too large or too small", "quote it if it is a text")
    return value
