"""The author's YAML, under an environment's overlays, to Documents; or every mistake with its place and what to write.

Promises that a document it returns has passed its kind's types, and that no message repeats a key pasted by mistake. It
opens no file, follows no reference, and knows the kinds only as the classes it is handed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache as once
from operator import is_
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from reconciler.errors import Position, Problem
from reconciler.resource import (
    API_VERSION,
    NAME_PATTERN,
    Document,
    Lifecycle,
    Metadata,
    Path,
    Resource,
    Spec,
    dig,
    text,
)
from reconciler.wording import MAX_HINTS, did_you_mean, shown, suggestion
from reconciler.yamltext import NO_VALUE, Places, Written, Yaml, overlaid, read_yaml

Identity = tuple[str, str]
MAX_FAULTS = 50  # a section of a document: more than anybody reads at once


class Broken(NamedTuple):
    """A document that was left out, as far as it could be read: "" stands for what could not."""

    kind: str
    name: str


class Parsed(NamedTuple):
    """What one file holds. An unreadable rest of the file counts as one broken document without kind and name."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    broken: tuple[Broken, ...]


def parse(file: str, data: bytes, kinds: Mapping[str, type[Spec]]) -> Parsed:
    """Every document of one manifest file. That a file holds none is no problem here."""
    return checked(read_yaml(file, data), kinds)


def checked(source: Yaml, kinds: Mapping[str, type[Spec]]) -> Parsed:
    """The same of one that was read already."""
    problems = list(source.problems)
    documents: list[Document] = []
    broken = [] if source.whole else [Broken("", "")]
    for written in source.documents:
        document = _document(written, kinds, problems)
        if document and written.sound:
            documents.append(document)
        else:
            broken.append(Broken(*identity(written)))
    return Parsed(tuple(documents), tuple(problems), tuple(broken))


def identity(written: Written) -> Identity:
    """The kind and the name of a document before anything else is known of it; "" stands for what cannot be read."""
    return text(written.member("kind")), text(dig(written.member("metadata"), "name"))


# Environments -------------------------------------------------------------------------------------------------------

_NAMED_AT: tuple[Path, ...] = (("kind",), ("metadata", "name"))


def merged(base: Sequence[Yaml], overlays: Sequence[Yaml]) -> tuple[list[Yaml], list[Yaml]]:
    """The files of the base with what an environment lays over their documents, and the files of the overlays with what
    only they declare. Mistakes in how they go together are problems of the overlays. What nothing is laid over is the
    very same file.

    Documents are told apart by kind and name. Which is laid over which is settled before anything else is read in them.
    """
    if not overlays:
        return [*base], []
    declared = {identity(written): None for yaml in base for written in yaml.documents}
    laid: dict[Identity, Written] = {}
    rest = [_sorted_out(yaml, declared, laid) for yaml in overlays]
    return [_laid_under(yaml, laid) for yaml in base], rest


def _laid_under(yaml: Yaml, laid: Mapping[Identity, Written]) -> Yaml:
    documents = tuple(_under(written, laid) for written in yaml.documents)
    return yaml if all(map(is_, documents, yaml.documents)) else yaml._replace(documents=documents)


def _under(base: Written, laid: Mapping[Identity, Written]) -> Written:
    """The document with its overlay; its name stays where the base has it."""
    over = laid.get(identity(base))
    if over is None:
        return base
    result = overlaid(base, over)
    built = result.build()
    named = {path: base.at[path] for path in _NAMED_AT}
    return Written.of(built._replace(at={**built.at, **named}), sound=result.sound)


def _sorted_out(yaml: Yaml, declared: Iterable[Identity], laid: dict[Identity, Written]) -> Yaml:
    """An overlay file without the documents that go over one of the base, which are added to `laid`."""
    alone, problems = [], [_no_removal(problem) for problem in yaml.problems]
    for written in yaml.documents:
        name = identity(written)
        if not written.is_mapping:
            alone.append(written)
        elif not all(name):
            what = "an overlay says by kind and metadata.name what it is laid over"
            problems.append(Problem(what, written.position(())))
        elif name in laid:
            first = _named_at(laid[name])
            problems.append(Problem(f"a second overlay for {_address(name)}", _named_at(written), f"first in {first}"))
        elif name in declared:
            laid[name] = written
        elif "apiVersion" in written.members:
            alone.append(written)
        else:
            what = f"an overlay for {_address(name)}, which no manifest declares"
            known = ["/".join(one) for one in declared] if len(problems) < MAX_HINTS else []
            near = did_you_mean("/".join(name), known)
            hint = near or f"to declare it here, begin with apiVersion: {API_VERSION}"
            problems.append(Problem(what, _named_at(written), hint))
    return yaml._replace(documents=tuple(alone), problems=tuple(problems))


def _no_removal(problem: Problem) -> Problem:
    if problem.what != NO_VALUE:
        return problem
    return replace(problem, hint="an overlay can replace a field and never remove it: leave the field out of the base")


def _address(name: Identity) -> str:
    return shown("/".join(name))


def _named_at(written: Written) -> Position:
    return written.position(("metadata", "name"))


# One document -------------------------------------------------------------------------------------------------------


def _document(written: Written, kinds: Mapping[str, type[Spec]], problems: list[Problem]) -> Document | None:
    """The document, or None with its mistakes added to `problems`."""
    before = len(problems)
    if not written.is_mapping:
        if written.value is not None:
            what = f"a document must be a mapping, not {_described(written.value)}"
            problems.append(Problem(what, written.position(()), f"it begins with apiVersion: {API_VERSION}"))
        return None
    name = text(written.member("kind"))
    problems += _envelope_problems(written, name, kinds)
    metadata = _validated(Metadata, written, "metadata", problems)
    lifecycle = _validated(Lifecycle, written, "lifecycle", problems) if "lifecycle" in written.members else _unsaid()
    kind = kinds.get(name)
    spec = _validated(kind, written, "spec", problems) if kind else None
    if metadata:
        problems += _metadata_problems(metadata, written)
    if lifecycle and kind:
        problems += _ignore_problems(lifecycle, kind, written)
        problems += _history_problems(lifecycle, kind, written)
    if len(problems) > before or not (metadata and lifecycle and spec):
        return None
    return Document(name, metadata, spec, lifecycle, Places(written))


@once
def _unsaid() -> Lifecycle:
    return Lifecycle()


def _envelope_problems(written: Written, kind: str, kinds: Mapping[str, type[Spec]]) -> Iterator[Problem]:
    """What stands beside the spec: the version, the kind, and nothing unknown."""
    for name in written.members:
        if name not in _TOP_LEVEL:
            hint = "the service writes it: leave it out" if name == "status" else suggestion(name, _TOP_LEVEL)
            yield Problem(f"unknown field {shown(name)}", written.keys[(name,)], hint)
    for name in ("apiVersion", "kind", "metadata"):
        if name not in written.members:
            hint = {"apiVersion": f"write apiVersion: {API_VERSION}", "kind": suggestion("", kinds)}.get(name, "")
            yield Problem(f"{name} is missing", written.position(()), hint)
    if written.members.get("apiVersion", _OURS) != _OURS and written.member("apiVersion") is not None:
        yield Problem("an apiVersion that is not ours", written.position(("apiVersion",)), f"write {API_VERSION}")
    if kind not in kinds and written.member("kind") is not None:
        what = f"unknown kind {_quoted(written.member('kind'))}"
        yield Problem(what, written.position(("kind",)), suggestion(kind, kinds))


_OURS = json.dumps(API_VERSION)
_TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "lifecycle")


def _metadata_problems(metadata: Metadata, written: Written) -> Iterator[Problem]:
    hint = "lower-case letters, digits and dashes, at most 63, beginning and ending with a letter or digit"
    for key, name in (("name", metadata.name), ("movedFrom", metadata.moved_from)):
        if name is not None and not re.fullmatch(NAME_PATTERN, name):
            yield Problem(f"metadata.{key}: {shown(name)} is not a name", written.position(("metadata", key)), hint)
    for key, value in metadata.labels.items():
        path = ("metadata", "labels", key)
        if not _LABEL_KEY.fullmatch(key):
            hint = "up to 63 ASCII letters, digits and ._/-"
            yield Problem(f"{shown(key)} is not a label", written.position(path), hint)
        if not _LABEL_VALUE.fullmatch(value):
            at = written.position(path)
            yield Problem(f"the value of label {shown(key)} is not one", at, "1 to 63 letters, digits and ._/-")


_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w./-]{1,63}")


def _ignore_problems(lifecycle: Lifecycle, kind: type[Spec], written: Written) -> Iterator[Problem]:
    for index, name in enumerate(lifecycle.ignore):
        fields = _known_fields(kind, ())
        first, _, member = name.partition(".")
        members = _known_fields(kind, (first,))
        at = written.position(("lifecycle", "ignore", index))
        if first not in fields:
            yield Problem(f"lifecycle.ignore names {shown(name)}, which is no field", at, suggestion(name, fields))
        elif members and member and member not in members:
            what = f"lifecycle.ignore names {shown(name)}, and {first} has no such member"
            yield Problem(what, at, suggestion(member, members))


def _history_problems(lifecycle: Lifecycle, kind: type[Spec], written: Written) -> Iterator[Problem]:
    if lifecycle.keep_last is None:
        return
    at = written.position(("lifecycle", "keepLast"))
    if not (issubclass(kind, Resource) and kind.collections[0].keeps_superseded):
        yield Problem(f"a {kind.__name__} keeps no history that keepLast could bound", at, "fine-tune jobs do")
    elif lifecycle.deletion_policy == "Protect":
        yield Problem("keepLast lets old runs go, and deletionPolicy: Protect none", at, "write one of the two")


# pydantic's findings in our words -----------------------------------------------------------------------------------

Model = TypeVar("Model", bound=Spec)


def _validated(model: type[Model], written: Written, section: str, problems: list[Problem]) -> Model | None:
    """One section of a document as its model. What was not written counts as empty.

    Goes through JSON, where strict mode takes a list for a tuple and a word for an enumeration but never 4.0 for 4.
    What the YAML reader refused is null there: said already, so no finding at or below it is said again.
    """
    try:
        return model.model_validate_json(written.members.get(section, "{}"))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    value = written.value.get(section, {})
    if section not in written.members:
        if section != "metadata":  # the envelope has said so
            problems.append(Problem(f"{section} is missing", written.position(())))
        return None
    faults = [_Fault(entry["loc"], entry["type"], entry.get("ctx", {})) for entry in found]
    faults = [fault for fault in _resolved(faults, value) if not _was_refused(value, fault.loc)]
    problems += (_problem(fault, model, value, section, written) for fault in faults[:MAX_FAULTS])
    if (more := len(faults) - MAX_FAULTS) > 0:
        problems.append(Problem(f"and {more:,} more mistakes below {section}", written.position((section,))))
    return None


@dataclass(frozen=True)
class _Fault:
    """One finding of pydantic. Before `_resolved`, `loc` also names members of unions; after it, it is a path."""

    loc: Path
    type: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def _resolved(faults: Iterable[_Fault], value: Any, base: Path = ()) -> Iterator[_Fault]:
    """The findings with true paths, and one voice for each union instead of one a member."""
    unions: dict[Path, dict[str | int, list[_Fault]]] = {}
    for fault in faults:
        length = _written_length(fault, value)
        path, rest = (*base, *fault.loc[:length]), fault.loc[length:]
        if rest:
            unions.setdefault(path, {}).setdefault(rest[0], []).append(_Fault(rest[1:], fault.type, fault.facts))
        else:
            yield _Fault(path, fault.type, fault.facts)
    for path, members in unions.items():
        inner = _follow(value, path[len(base) :])
        yield from _one_voice([list(_resolved(member, inner, path)) for member in members.values()], path)


def _written_length(fault: _Fault, value: Any) -> int:
    """How much of a location leads through what was written; the rest begins with a word of pydantic's own."""
    for length, step in enumerate(fault.loc):
        is_last = length == len(fault.loc) - 1
        if isinstance(value, dict) and (step in value or (is_last and fault.type == "missing")):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            value = value[step]
        else:
            return length
    return len(fault.loc)


def _one_voice(members: list[list[_Fault]], path: Path) -> list[_Fault]:
    """What to say of a union: the findings inside the member that was meant, else all that would have been right."""
    mismatches = [fault for faults in members for fault in faults if fault.loc == path and fault.type in _EXPECTED]
    meant = [faults for faults in members if any(fault not in mismatches for fault in faults)]
    if meant:
        return min(meant, key=len)
    expected = dict.fromkeys(_expected(fault) for fault in mismatches)
    *others, last = [words for words in expected if words != _WHOLE or _NUMBER not in expected]
    return [_Fault(path, "union", {"expected": f"{', '.join(others)} or {last}" if others else last})]


def _follow(value: Any, path: Path) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else value[step]
    return value


def _was_refused(value: Any, path: Path) -> bool:
    for step in path:
        if value is None:
            return True
        if isinstance(value, dict) and step not in value:
            return False
        value = value[step]
    return value is None


def _problem(fault: _Fault, model: type[Spec], value: Any, section: str, written: Written) -> Problem:
    path = (section, *fault.loc)
    if fault.type == "extra_forbidden":
        name = str(fault.loc[-1])
        hint = suggestion(name, _known_fields(model, fault.loc[:-1]))
        return Problem(f"unknown field {shown(name)}", written.keys.get(path, written.position(path)), hint)
    if fault.type == "missing":
        return Problem(f"{_dotted(path)} is missing", written.position(path[:-1]))
    what, hint = _worded(fault, _follow(value, fault.loc))
    return Problem(f"{_dotted(path)} {what}", written.position(path), hint)


def _worded(fault: _Fault, value: Any) -> tuple[str, str]:
    """What is wrong with a value, and what to write instead. pydantic's text is never shown: it echoes the input."""
    facts = fault.facts
    if fault.type in ("literal_error", "enum"):
        hint = did_you_mean(value, _choices(fault)) if isinstance(value, str) else ""
        return f"must be {_expected(fault)}, not {_quoted(value)}", hint
    if fault.type in _EXPECTED or fault.type == "union":
        return f"must be {_expected(fault)}, not {_described(value)}", _how_to_write(fault, value)
    if fault.type in ("value_error", "assertion_error"):
        return f"is not right: {facts['error']}", ""
    if fault.type in _BOUNDS:
        words, key = _BOUNDS[fault.type]
        return f"{words} {facts[key]}", ""
    if fault.type in _LENGTHS:
        words, key, unit = _LENGTHS[fault.type]
        return f"{words} {facts[key]} {unit}{'s' if facts[key] != 1 else ''}", ""
    if fault.type == "string_pattern_mismatch":
        return "does not have the form it must have", f"it must match {facts['pattern']}"
    return "is not accepted here", ""


_WHOLE, _NUMBER = "a whole number", "a number"

_EXPECTED = {
    "string_type": "a text",
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "literal_error": "",
    "enum": "",
}

_BOUNDS = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
    "multiple_of": ("must be a multiple of", "multiple_of"),
}

_LENGTHS = {
    "too_short": ("needs at least", "min_length", "entry"),
    "too_long": ("takes at most", "max_length", "entry"),
    "string_too_short": ("needs at least", "min_length", "character"),
    "string_too_long": ("takes at most", "max_length", "character"),
}


def _expected(fault: _Fault) -> str:
    if fault.type == "union":
        return str(fault.facts["expected"])
    return _EXPECTED.get(fault.type) or f"one of {', '.join(_choices(fault))}"


def _choices(fault: _Fault) -> list[str]:
    """The words a literal or an enumeration allows; pydantic hands them over as one quoted sentence."""
    return re.findall(r"'([^']*)'", str(fault.facts.get("expected", "")))


def _how_to_write(fault: _Fault, value: Any) -> str:
    expected = _expected(fault)
    if _WHOLE in expected and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    if "number" in expected and isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return "write it without quotes"
    if "a text" in expected and isinstance(value, bool | int):
        return f'quote it: "{str(value).lower()}"'
    if "a text" in expected and isinstance(value, float):
        return "put it in quotes"
    if "a list" in expected and not isinstance(value, dict):
        return "a list is written [a, b], also with one entry"
    return ""


def _described(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case int():
            return "a number"
        case float():
            return "a number with a fraction or an exponent"
        case str():
            return "a text"
        case list():
            return "a list"
    return "a mapping"


def _quoted(value: Any) -> str:
    return shown(value) if isinstance(value, str) else _described(value)


def _dotted(path: Path) -> str:
    """A path as people write it: spec.training[0].fileId."""
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{step if step.isidentifier() else shown(step)}" for step in path
    )
    return "".join(steps).removeprefix(".")


def _known_fields(annotation: Any, path: Path) -> set[str]:
    """The fields a mapping at `path` below a type may have, over all members of a union."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _known_fields(arguments[0], path)
    if origin in (Union, UnionType):
        return {name for member in arguments for name in _known_fields(member, path)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {info.alias or name: info.annotation for name, info in annotation.model_fields.items()}
        return _known_fields(fields.get(str(path[0])), path[1:]) if path else set(fields)
    return _known_fields(arguments[-1 if origin is dict else 0], path[1:]) if arguments and path else set()
