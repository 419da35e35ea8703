"""The author's files as one value: manifests read, checked and ordered, data described, every mistake reported at once.

Promises that a `Project` is sound as far as can be told offline, and that nothing outside its root was read. It sends
nothing, writes nothing but what spares reading unchanged data again (`cache.py`), and knows no state.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache as once
from functools import cached_property, partial
from graphlib import CycleError
from pathlib import Path
from typing import NamedTuple

from reconciler import catalogue, graph, tokens
from reconciler.cache import Cache
from reconciler.catalogue import ProfileCatalogue
from reconciler.data import Described, are_apart, describe, rows_in_common, values
from reconciler.errors import ManifestError, Position, Problem, UsageError
from reconciler.files import OVERLAYS, FileRefused, Manifest, Tree, find_manifests
from reconciler.kinds import KINDS, RESOURCES
from reconciler.kinds.removed import Removed
from reconciler.kinds.stack import Stack
from reconciler.lengths import Lengths
from reconciler.manifest import Parsed, checked, merged
from reconciler.resource import (
    NAME_PATTERN,
    Content,
    Document,
    Finding,
    Inputs,
    Part,
    Reading,
    Resource,
    Source,
    Spec,
)
from reconciler.wording import did_you_mean, shown, suggestion
from reconciler.words import read_words
from reconciler.yamltext import IS_FAST, MAX_FILE_BYTES, Yaml, read_yaml

STDIN = "<stdin>"
DEFAULT_NAME = "default"

WORTH_BYTES = 16 << 10  # of manifests, some fifty documents: fewer are read as soon as they are looked up

_STACK = json.dumps(Stack.__name__)
_WORDS = "words"  # the format of a source that is a list of hotwords, not rows of training data


@dataclass(frozen=True)
class Project:
    """Everything the author declared. `documents` are in graph order, `parts` by address, `removed` what is to go.

    `root` is as the user would type it; `stack` is None where no manifest declares one. `manifests` are the digests of
    all that was read, by path below the root; `environment` is "" for the base by itself. `records` is where what is
    recorded lies; None for beside the manifests. `count` has the tokens of a part counted, where that was put off
    because it was bought already.
    """

    root: Path
    stack: Document | None
    name: str
    profile: ProfileCatalogue
    documents: tuple[Document, ...]
    parts: Mapping[str, tuple[Part, ...]]
    remarked: Callable[[], Iterable[Problem]] = field(default=tuple, repr=False, compare=False)
    manifests: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    removed: Mapping[str, Document] = field(default_factory=dict)
    records: Path | None = None
    count: Callable[[Part], Part] = field(default=lambda part: part, compare=False, repr=False)

    @cached_property
    def warnings(self) -> tuple[Problem, ...]:
        """What is unwise, and where: its documents are read once more for that, so only where somebody asks."""
        return tuple(self.remarked())

    @property
    def home(self) -> Path:
        """The folder that what is recorded lies in, which outlives a checkout."""
        return self.records or self.root


Bought = Callable[[Part], bool]
"""Whether this very part was made already: what went into it is then not counted and judged anew."""


def load(
    paths: Sequence[str],
    *,
    environment: str = "",
    kinds: Mapping[str, type[Spec]] = KINDS,
    stdin: bytes | None = None,
    cache: Callable[[Path], Cache] = Cache,
    records: Path | None = None,
    known: Callable[[Project], Bought | None] = lambda outline: None,
) -> Project:
    """The project that `-f` paths stand for, `-` being the bytes of standard input. ManifestError holds every mistake.

    The root is the folder of the Stack, else the first path (of a file: its folder); every manifest must lie below it.
    The overlays of an environment lie in `envs/` there; UsageError where there is no such environment. `known` is told
    whose project it is, without a document of it, before those are looked at, unless the Stack has mistakes; it may
    answer what of it was bought.
    """
    bought: Bought | None = None

    def begin(root: Path, stack: Document) -> None:
        nonlocal bought
        profile, unusable = _profile(Tree(root), [stack])
        if not unusable:
            bought = known(
                Project(root, stack, stack.metadata.name, profile, (), {}, environment=environment, records=records)
            )

    with _undisturbed():
        return _load(paths, environment, kinds, stdin, cache, records, begin, lambda: bought)


def _load(
    paths: Sequence[str],
    environment: str,
    kinds: Mapping[str, type[Spec]],
    stdin: bytes | None,
    cache: Callable[[Path], Cache],
    records: Path | None,
    begin: Begin,
    bought: Callable[[], Bought | None],
) -> Project:
    first = _first(paths)
    memory = cache(records or first)
    root, files, problems = _read_all(paths, environment, kinds, stdin, memory, begin)
    if not records and root != first:
        memory = cache(root)
    declared = [document for file in files for document in file.parsed.documents]
    stacks = [document for document in declared if isinstance(document.spec, Stack)]
    documents = [document for document in declared if isinstance(document.spec, Resource)]
    tombstones = [document for document in declared if isinstance(document.spec, Removed)]
    broken = [lost for file in files for lost in file.parsed.broken]
    problems += (problem for file in files for problem in file.parsed.problems)
    problems += _layout_problems(root, files, stacks)
    problems += graph.check(documents, broken={lost.name for lost in broken})
    problems += _tombstone_problems(tombstones, documents)
    if not (declared or problems):
        problems.append(Problem("no document in any of the manifests", None, "nothing is deleted because of that"))
    profile, unusable = _profile(Tree(root), stacks)
    problems += unusable
    assembly = _Assembly(Tree(root), profile, memory, bought())
    order, base = _in_order(documents), _inside(root)
    assembly.take(documents, order, blind=not stacks and any(lost.kind in ("", Stack.__name__) for lost in broken))
    assembly.cache.save()
    if problems or assembly.problems:
        raise ManifestError([*problems, *assembly.problems])
    return Project(
        root=root,
        stack=stacks[0] if stacks else None,
        name=stacks[0].metadata.name if stacks else DEFAULT_NAME,
        profile=assembly.profile,
        documents=order,
        parts=assembly.counted_parts(),
        remarked=partial(_told, (*_slow(), *_left_out(Tree(root), environment)), tuple(assembly.warnings)),
        manifests={
            file.source.location.removeprefix(base): hashlib.sha256(file.source.data).hexdigest() for file in files
        },
        environment=environment,
        removed={address: one for one in tombstones for address in one.spec.addresses},  # type: ignore[attr-defined]
        records=records,
        count=assembly.count,
    )


def described(
    paths: Sequence[str],
    *,
    environment: str = "",
    kinds: Mapping[str, type[Spec]] = KINDS,
    stdin: bytes | None = None,
) -> dict[str, Callable[[], Described]]:
    """By address the documents that are made from rows, and a reading of each: also of those whose rows have mistakes.

    ManifestError holds the mistakes of the manifests themselves; whether they go together is not asked.
    """
    root, files, problems = _read_all(paths, environment, kinds, stdin, None)
    documents = [document for file in files for document in file.parsed.documents]
    profile, unusable = _profile(Tree(root), [one for one in documents if isinstance(one.spec, Stack)])
    problems += (*(problem for file in files for problem in file.parsed.problems), *unusable)
    if problems:
        raise ManifestError(problems)
    found: dict[str, Callable[[], Described]] = {}
    for document in documents:
        source = document.spec.source if isinstance(document.spec, Resource) else None
        if source and source.format != _WORDS:
            at = document.position("spec", *source.path)
            found[document.address] = partial(describe, Tree(root), source, profile, at=at)
    return found


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Nothing that is made here goes in circles, and looking for what does takes a fifth of a load of 10,000."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# Finding and reading ------------------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """One manifest as it was read. `location` tells files apart, `display` is what the user would type."""

    display: str
    location: str
    data: bytes
    yaml: Yaml = Yaml((), (), True)


class _File(NamedTuple):
    source: _Source
    parsed: Parsed


Begin = Callable[[Path, Document], object]
"""Told the root and the Stack as soon as they are known."""


def _read_all(
    paths: Sequence[str],
    environment: str,
    kinds: Mapping[str, type[Spec]],
    stdin: bytes | None,
    memory: Cache | None,
    begin: Begin = lambda root, stack: None,
) -> tuple[Path, list[_File], list[Problem]]:
    """The root, every manifest that is none of the data files named by one, and what cannot be read.

    Where the root is the base alone decides. What the base alone would name as data is data in every environment.
    What the manifests say is looked up in the memory of the first path, and kept there if that is the root.
    """
    sources, problems = _sources(paths, stdin)
    if sum(len(source.data) for source in sources) < WORTH_BYTES:
        memory = None
    base = _parsed(sources, memory)
    root = _root(paths, base)
    overlays: list[_Source] = []
    if environment:
        found, unreadable = _overlays(Tree(root), environment)
        overlays = _parsed(found, memory)
        problems += unreadable
    if memory and root == _first(paths):
        memory.keep({digest: piece for source in (*base, *overlays) for digest, piece in source.yaml.pieces.items()})
    under, rest = merged([source.yaml for source in base], [source.yaml for source in overlays])
    _begin(root, (*under, *rest), kinds, begin)
    pairs = zip((*base, *overlays), (*under, *rest), strict=True)
    files = [_File(source, checked(yaml, kinds)) for source, yaml in pairs]
    changed = [source for source, yaml in zip(base, under, strict=True) if yaml is not source.yaml]
    data = _data_files(root, [*files, *(_File(source, checked(source.yaml, kinds)) for source in changed)])
    return root, [file for file in files if file.source.location not in data], problems


def _begin(root: Path, yamls: Iterable[Yaml], kinds: Mapping[str, type[Spec]], begin: Begin) -> None:
    """Tells of the Stack where there is one, and nothing is wrong with it."""
    found = [written for yaml in yamls for written in yaml.documents if written.members.get("kind") == _STACK]
    stacks, problems, _ = checked(Yaml(tuple(found), (), whole=True), kinds)
    if len(found) == 1 and stacks and not problems:
        begin(root, stacks[0])


def _parsed(sources: Iterable[_Source], memory: Cache | None) -> list[_Source]:
    known = memory.pieces if memory else {}
    return [source._replace(yaml=read_yaml(source.display, source.data, known)) for source in sources]


def _overlays(tree: Tree, environment: str) -> tuple[list[_Source], list[Problem]]:
    """The overlays of an environment, and what cannot be read."""
    if not re.fullmatch(NAME_PATTERN, environment):
        what = f"{shown(environment)} is not the name of an environment"
        raise UsageError(what, hint="lower-case letters, digits and dashes, at most 63")
    try:
        known = tree.environments()
        if environment not in known:
            there = f"{shown(tree.display(OVERLAYS))} holds {', '.join(known) or 'no folder'}"
            raise UsageError(
                f"there is no environment {shown(environment)}: {there}", hint=did_you_mean(environment, known)
            )
        names = tree.overlays(environment)
    except FileRefused as error:
        return [], [Problem(str(error), None, error.hint)]
    if not names:
        what = f"{shown(tree.display(f'{OVERLAYS}/{environment}'))} holds no overlay"
        return [], [Problem(what, None, "where it is to be as the base, write a file with nothing but a comment")]
    return _all_read([Manifest(tree, name) for name in names])


def _slow() -> Iterator[Problem]:
    if not IS_FAST:
        what = "this PyYAML was built without libyaml, and reads manifests nine times slower"
        yield Problem(what, None, "its wheels on PyPI have it, and so has Debian's python3-yaml")


def _left_out(tree: Tree, environment: str) -> Iterator[Problem]:
    """A word to whoever may have forgotten that there are environments."""
    with suppress(FileRefused):
        if not environment and (known := tree.environments()):
            yield Problem("this is the base alone, without an environment", None, f"-e names one: {', '.join(known)}")


def _sources(paths: Sequence[str], stdin: bytes | None) -> tuple[list[_Source], list[Problem]]:
    """Every manifest under the paths, each once, and what cannot be read."""
    found: dict[str, _Source] = {}
    problems = []
    for path in paths:
        if path == "-":
            found[STDIN] = _Source(STDIN, STDIN, stdin or b"")
            continue
        try:
            manifests = find_manifests(path)
        except FileRefused as error:
            problems.append(Problem(str(error), None, error.hint))
            continue
        if not manifests:
            problems.append(Problem(f"{shown(path)} holds no manifest", None, "an empty read deletes nothing"))
        sources, unreadable = _all_read(manifests)
        problems += unreadable
        for source in sources:
            found.setdefault(source.location, source)
    return list(found.values()), problems


def _all_read(manifests: Sequence[Manifest]) -> tuple[list[_Source], list[Problem]]:
    sources, problems = [], []
    bases = {tree: str(tree.root.resolve()) for tree in {manifest.tree for manifest in manifests}}
    for manifest in manifests:
        try:
            data = manifest.tree.read(manifest.relative, limit_bytes=MAX_FILE_BYTES)
        except FileRefused as error:
            problems.append(Problem(str(error), Position(manifest.display, 1, 1), error.hint))
        else:
            location = os.path.join(bases[manifest.tree], manifest.relative)
            sources.append(_Source(manifest.display, location, data))
    return sources, problems


def _inside(root: Path) -> str:
    """What the location of everything below the root begins with."""
    return os.path.join(root.resolve(), "")


def _root(paths: Sequence[str], sources: Iterable[_Source]) -> Path:
    """The folder that holds the Stack, also one that has mistakes; without one the first path, or its folder."""
    for source in sources:
        if any(written.members.get("kind") == _STACK for written in source.yaml.documents):
            return Path(source.display).parent
    return _first(paths)


def _first(paths: Sequence[str]) -> Path:
    """The first path, or its folder."""
    first = Path("." if not paths or paths[0] == "-" else paths[0])
    return first if first.is_dir() else first.parent


def _data_files(root: Path, files: Iterable[_File]) -> set[str]:
    """The files that a document names as words or as a catalogue: data, although some of them are YAML."""
    base = _inside(root)
    specs = [document.spec for file in files for document in file.parsed.documents]
    sources = [spec.source for spec in specs if isinstance(spec, Resource)]
    named = [pattern for source in sources if source and source.format == _WORDS for pattern in source.patterns]
    named += [spec.catalogue for spec in specs if isinstance(spec, Stack) and spec.catalogue]
    return {base + name for name in named}


def _layout_problems(root: Path, files: Iterable[_File], stacks: Sequence[Document]) -> Iterator[Problem]:
    base = _inside(root)
    for file in files:
        if not file.source.location.startswith(base) and file.source.display != STDIN:
            what = f"the file lies outside the project root {shown(str(root))}"
            yield Problem(what, Position(file.source.display, 1, 1), "the root is the folder of the Stack")
    for stack in stacks[1:]:
        hint = f"there is one at {stacks[0].position()}; give its folder alone"
        yield Problem("a second Stack", stack.position(), hint)


def _tombstone_problems(tombstones: Iterable[Document], documents: Iterable[Document]) -> Iterator[Problem]:
    """What cannot be gone: objects that are declared, and what is no address."""
    declared = {document.address: document for document in documents}
    for tombstone in tombstones:
        assert isinstance(tombstone.spec, Removed)
        for index, address in enumerate(tombstone.spec.addresses):
            at, kind = tombstone.position("spec", "addresses", index), address.partition("/")[0]
            if kind not in RESOURCES:
                yield Problem(f"{shown(address)}: there is no kind {shown(kind)}", at, suggestion(kind, RESOURCES))
            elif address in declared:
                where = f"it is in {declared[address].position('metadata', 'name')}"
                yield Problem(f"{address} is removed here and declared as well", at, where)


def _profile(tree: Tree, stacks: Sequence[Document]) -> tuple[ProfileCatalogue, Sequence[Problem]]:
    """The catalogue the project is checked against: the built-in one, under what its Stack lays over it."""
    spec = stacks[0].spec if stacks else Stack()
    assert isinstance(spec, Stack)
    built_in = catalogue.load().for_profile(spec.profile)
    if not spec.catalogue:
        return built_in, ()
    at = stacks[0].position("spec", "catalogue")
    try:
        data = tree.read(spec.catalogue, limit_bytes=MAX_FILE_BYTES)
        yaml = read_yaml(tree.display(spec.catalogue), data)
        if yaml.problems or len(yaml.documents) != 1:
            return built_in, yaml.problems or (Problem("a catalogue is one document", at),)
        return catalogue.load(yaml.documents[0].value).for_profile(spec.profile), ()
    except FileRefused as error:
        return built_in, (Problem(str(error), at, error.hint),)
    except ValueError as error:
        return built_in, (Problem(f"{spec.catalogue}: {error}", at),)


# Putting together ---------------------------------------------------------------------------------------------------


@dataclass
class _Assembly:
    """Documents and their files on the way to parts, with everything that is wrong with them."""

    tree: Tree
    profile: ProfileCatalogue
    cache: Cache
    bought: Bought | None
    parts: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    later: dict[str, Callable[[], None]] = field(default_factory=dict)  # by address, what is left to do to be judged
    counts: dict[str, set[int]] = field(default_factory=dict)  # tokens of an upload, by whatever vocabularies count it
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Callable[[], Problem]] = field(default_factory=list)

    def take(self, documents: Sequence[Document], order: Iterable[Document], *, blind: bool) -> None:
        """Checks every document; `blind` where the profile is unknown, so that only the files can be looked at."""
        inputs = {id(document): self._inputs(document) for document in documents}
        if blind:
            return
        for document in documents:
            self._report(document, document.spec.check(self.profile))
        for document in order:
            self._make_parts(document, inputs[id(document)])

    def _inputs(self, document: Document) -> Inputs | None:
        """The files a document is made from, described; None where they have mistakes."""
        source = document.spec.source if isinstance(document.spec, Resource) else None
        if source is None:
            return _NO_FILES
        if source.format == _WORDS:
            words, problems = read_words(self.tree, source.patterns[0])
            inputs = Inputs(words=words)
        else:
            contents, problems, warnings, _ = describe(self.tree, source, self.profile, cache=self.cache)
            self.warnings += (partial(_placed, warning, document, source) for warning in warnings)
            inputs = Inputs(files=contents)
        self.problems += (_placed(problem, document, source) for problem in problems)
        return None if problems else inputs

    def _make_parts(self, document: Document, inputs: Inputs | None) -> None:
        """The parts of a document whose own files and references came through; any other waits for a correction."""
        spec, needed = document.spec, {found.address for found in document.references}
        if isinstance(spec, Resource) and inputs and needed <= self.parts.keys():
            inputs = Inputs(inputs.files, inputs.words, {address: self.parts[address] for address in needed})
            reading = spec.reading(inputs)
            if self.bought and reading.contents and any(map(self.bought, spec.parts(document, inputs))):
                self.later[document.address] = once(partial(self._judge, document, inputs, reading))
                reading = _UNREAD
            self._judge(document, inputs, reading)

    def _judge(self, document: Document, inputs: Inputs, reading: Reading) -> None:
        """The parts of a document, with what can be said against them in view of what a model would read."""
        spec = document.spec
        assert isinstance(spec, Resource)
        try:
            if reading.contents:
                inputs = replace(inputs, lengths=dict(self._lengths(reading)), learnt=dict(self._learnt(reading)))
        except FileRefused as error:
            self.problems.append(Problem(f"{document.address}: {error}", document.position(), error.hint))
            return
        findings = tuple(spec.fits(inputs, self.profile))
        self._report(document, findings)
        self.parts[document.address] = _remarked(spec.parts(document, inputs), findings)

    def count(self, part: Part) -> Part:
        """A part that is to be bought again, judged as if it never had been; ManifestError where it has mistakes."""
        if part.slot.address not in self.later:
            return part
        self.later[part.slot.address]()
        if self.problems:
            raise ManifestError(self.problems)
        made = next(one for one in self.parts[part.slot.address] if one.slot == part.slot)
        return replace(part, tokens=made.tokens, counted=made.counted, lengths=made.lengths, remarks=made.remarks)

    def _lengths(self, reading: Reading) -> Iterator[tuple[str, Lengths]]:
        """How long the rows are that a model would learn from, by the digest of their upload; of no archive."""
        counter = tokens.counter(self.profile.vocabulary(reading.model))
        for content in reading.contents:
            if content.tokens is None:
                continue
            lengths = self.cache.lengths(counter.cached_as, content, partial(self._measure, content, counter))
            yield content.digest, lengths
            if lengths.counted:
                self.counts.setdefault(content.digest, set()).add(lengths.tokens)

    def _measure(self, content: Content, counter: tokens.Counter) -> Lengths:
        return tokens.measure(values(self.tree, content), counter)

    def _learnt(self, reading: Reading) -> Iterator[tuple[str, int]]:
        """How many rows a model would both learn from and be validated on, by the digest of what validates it."""
        for content in reading.validating:
            others = [other for other in reading.contents if not are_apart(content, other)]
            count = partial(rows_in_common, self.tree, content, others)
            if others and (both := self.cache.in_common(content, others, count)):
                yield content.digest, both

    def counted_parts(self) -> dict[str, tuple[Part, ...]]:
        """The parts, their uploads with the number of tokens in place of its estimate where all jobs agree on one."""
        return {address: tuple(map(self._counted, parts)) for address, parts in self.parts.items()}

    def _counted(self, part: Part) -> Part:
        counts = self.counts.get(part.content.digest, set()) if part.content else set()
        if part.content is None or len(counts) != 1:
            return part
        return replace(part, content=replace(part.content, tokens=min(counts), counted=True))

    def _report(self, document: Document, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.warning:
                self.warnings.append(partial(_problem, document, finding))
            else:
                self.problems.append(_problem(document, finding))


_NO_FILES, _UNREAD = Inputs(), Reading()


def _told(of_all: Iterable[Problem], of_each: Iterable[Callable[[], Problem]]) -> Iterator[Problem]:
    yield from of_all
    yield from (make() for make in of_each)


def _problem(document: Document, finding: Finding) -> Problem:
    at = document.position("spec", *finding.path)
    return Problem(f"{document.address}: {finding.what}", at, finding.hint)


def _placed(problem: Problem, document: Document, source: Source) -> Problem:
    """What is of a source as a whole is said where the author wrote it."""
    return replace(problem, at=problem.at or document.position("spec", *source.path))


def _remarked(parts: tuple[Part, ...], findings: Sequence[Finding]) -> tuple[Part, ...]:
    """What is worth a warning is also worth knowing where it is decided to pay for it."""
    if not findings:
        return parts
    remarks = tuple(
        finding.what + (f": {finding.hint}" if finding.hint else "") for finding in findings if finding.warning
    )
    return (replace(parts[0], remarks=remarks), *parts[1:]) if parts and remarks else parts


def _in_order(documents: Sequence[Document]) -> tuple[Document, ...]:
    try:
        return graph.ordered(documents)
    except CycleError:  # it has been named; nothing can be put together before it is broken up
        return ()
