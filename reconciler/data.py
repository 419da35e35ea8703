"""Training data on disk to `Content`: which rows make up an upload, what they hash to, and what is wrong with them.

Promises constant memory, that rows are judged in one reading, and that the same files and seed give the same bytes for
ever: no row is written to disk, a share is cut anew whenever it is sent. It knows no kind and sends nothing.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from reconciler.archive import ROWS, UNREADABLE, read_archive, row_lines
from reconciler.cache import Cache, Found
from reconciler.catalogue import ProfileCatalogue
from reconciler.errors import Position, Problem
from reconciler.files import FileMissing, FileRefused, Tree
from reconciler.findings import Findings, Level
from reconciler.lint import MAX_REMEMBERED, Census, Lint, fingerprint, judge
from reconciler.resource import Content, Json, Share, Source
from reconciler.rows import MAX_LINE_BYTES, TOKEN, Row, RowFault, parse_row, read_rows, text_of, token_twentieths
from reconciler.wording import did_you_mean, shown

CHUNK_BYTES = 1 << 20
MAX_DISTINCT = 1_000  # distinct rows are counted up to here, and only to explain an empty share

_ARCHIVE = "sft-image"


class Described(NamedTuple):
    """What a source comes to: its uploads, what is wrong with its files, what is only unwise, and its census.

    There is no census where nothing was read.
    """

    contents: tuple[Content, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    lint: Lint | None


def describe(
    tree: Tree,
    source: Source,
    profile: ProfileCatalogue,
    *,
    at: Position | None = None,
    cache: Cache | None = None,
) -> Described:
    """The uploads of a source, and everything there is to say of its rows. `at` is where the author wrote the source.

    Unsplit there is one upload a file. Split there are two over the union of all files in path order: each row goes
    where its hash with the seed says, so that identical rows stay together and a new row moves no other. A file with a
    mistake yields no upload. Files that all look as they did when the cache learnt of them are not read.
    """
    survey = _Survey(tree, source, profile)
    if cache is None:
        contents, warnings = survey.found()
    else:
        way = repr((source._replace(path=()), profile.profile, profile.limits.file_bytes, tree.display("")))
        contents, warnings = cache.files(tree, survey.paths, way, survey.found, sound=lambda: not survey.problems)
    return Described(contents, _placed(survey.problems, at), _placed(warnings, at), survey.lint)


def _placed(problems: Iterable[Problem], at: Position | None) -> tuple[Problem, ...]:
    """What is of the source as a whole is said where the author wrote it, wherever that has moved since."""
    return tuple(replace(problem, at=problem.at or at) for problem in problems)


def guess_format(tree: Tree, path: str, profile: ProfileCatalogue) -> str | None:
    """How the rows of a file seem to read, by its suffix and its first rows; None where they tell nothing."""
    if path.endswith(".zip"):
        return _ARCHIVE
    with tree.open(path, limit_bytes=profile.limits.file_bytes) as file:
        for _ in range(_FIRST_ROWS):
            try:
                row = parse_row(file.readline(MAX_LINE_BYTES))
            except RowFault:
                continue
            if "messages" in row:
                return "dpo" if {"chosen", "rejected"} & row.keys() else "sft"
            if "text" in row:
                return "cpt"
    return None


_FIRST_ROWS = 5


def usual_format(path: str) -> str:
    """How the rows of a file of this suffix mostly read."""
    return _ARCHIVE if path.endswith(".zip") else "sft"


def located(tree: Tree, digests: Collection[str]) -> dict[str, str]:
    """Where below the project root contents lie that are given as `md5-size`: the first of several.

    FileRefused where there is too much to look through. What a manifest could not name is passed over.
    """
    found: dict[str, str] = {}
    sizes = {int(digest.rpartition("-")[2]) for digest in digests}
    paths = sorted(path for suffix in (".jsonl", ".zip") for path in tree.glob(f"**/*{suffix}"))
    for path in paths:
        with suppress(FileRefused):
            if not {"*", "?"} & {*path} and (size := tree.stamp(path).size) in sizes:
                digest = f"{_file_md5(tree, path, size)}-{size}"
                if digest in digests:
                    found.setdefault(digest, path)
    return found


def _file_md5(tree: Tree, path: str, size: int) -> str:
    md5 = _md5()
    with tree.open(path, limit_bytes=size) as file:
        while chunk := file.read(CHUNK_BYTES):
            md5.update(chunk)
    return md5.hexdigest()


def verified(chunks: Iterable[bytes], digest: str) -> Iterator[bytes]:
    """The chunks as they come. FileRefused at their end where they are not what hashes to this `md5-size`."""
    md5, size = _md5(), 0
    for chunk in chunks:
        md5.update(chunk)
        size += len(chunk)
        yield chunk
    if f"{md5.hexdigest()}-{size}" != digest:
        raise FileRefused("the content that was fetched", "is not what the service says it is")


def stream(tree: Tree, content: Content) -> Iterator[bytes]:
    """The bytes of an upload, in chunks. FileRefused if they are no longer those that were described.

    The last chunk is held back until all are verified, so that a changed file never makes a complete upload.
    """
    md5, size, held = _md5(), 0, b""
    for chunk in _share(tree, content, content.share) if content.share else _file(tree, content):
        md5.update(chunk)
        size += len(chunk)
        if size > content.size:
            break
        if held:
            yield held
        held = chunk
    if size != content.size or md5.hexdigest() != content.md5:
        raise _changed(content)
    yield held


def values(tree: Tree, content: Content) -> Iterator[Json]:
    """The rows of an upload that was described. FileRefused where they are no longer those."""
    for line in _lines(stream(tree, content)):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _changed(content) from error
        if not isinstance(value, dict):
            raise _changed(content)
        yield value


def rows_in_common(tree: Tree, content: Content, others: Iterable[Content]) -> int:
    """How many rows of an upload, among the first of each, are also in one of the others. FileRefused as above."""
    known = {met for other in others for met in _fingerprints(tree, other)}
    return sum(met in known for met in _fingerprints(tree, content))


def are_apart(content: Content, other: Content) -> bool:
    """Whether they are the two shares of one split, which have no row in common."""
    one, two = content.share, other.share
    return bool(one and two and content.paths == other.paths and one[1:] == two[1:] and one.part != two.part)


def _fingerprints(tree: Tree, content: Content) -> Sequence[int]:
    bodies = (line.rstrip(b"\r\n") for line in _row_lines(tree, content))
    found = array("q", map(fingerprint, islice(bodies, MAX_REMEMBERED)))
    for _ in bodies:
        pass  # only at its end it is known to be what was described
    return found


def _row_lines(tree: Tree, content: Content) -> Iterator[bytes]:
    if content.tokens is not None:
        yield from _lines(stream(tree, content))
        return
    for _ in stream(tree, content):
        pass
    try:
        with tree.open(content.paths[0], limit_bytes=_ANY_SIZE) as file:
            yield from row_lines(file)
    except UNREADABLE as error:
        raise _changed(content) from error


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _changed(content: Content) -> FileRefused:
    return FileRefused(content.paths[0], "changed since the plan", hint="plan again")


# Describing ---------------------------------------------------------------------------------------------------------


@dataclass
class _Survey:
    """One reading of the files of a source, collecting what is wrong with them."""

    tree: Tree
    source: Source
    profile: ProfileCatalogue
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    census: Census = field(default_factory=Census)
    lint: Lint | None = None

    def found(self) -> Found:
        contents = tuple(self.whole() if self.source.validation is None else self.split(self.source.validation))
        self.lint = self.census.lint
        self.judge(self.lint, contents)
        return Found(contents, tuple(self.warnings))

    def whole(self) -> Iterable[Content]:
        describe_file = self._archive if self.source.format == _ARCHIVE else self._rows_of_one
        return _named_apart([content for path in self.paths if (content := describe_file(path))])

    def split(self, validation: float) -> Iterable[Content]:
        if self.source.format == _ARCHIVE:
            hint = "leave split out, and give a second archive for validation"
            self._add("split", "an archive of images cannot be split", hint)
            return ()
        paths = self.paths
        tallies = {part: _Tally() for part in _PARTS}
        distinct: set[bytes] = set()
        for path in paths:
            for row in self._rows(path):
                tallies[_part(row.body, validation, self.source.seed)].take(row.body + b"\n", self._met(row))
                if len(distinct) < MAX_DISTINCT:
                    distinct.add(hashlib.blake2b(row.body, digest_size=16).digest())
        if self.problems or self._is_lopsided(tallies.values(), len(distinct), validation):
            return ()
        stem = PurePosixPath(paths[0]).stem
        return [
            tally.content(f"{stem}.{part}.jsonl", paths, Share(part, validation, self.source.seed))
            for part, tally in tallies.items()
        ]

    def _is_lopsided(self, tallies: Iterable[_Tally], distinct: int, validation: float) -> bool:
        """Whether a share is empty or too big to send, which is then a problem."""
        sizes = [tally.size for tally in tallies]
        rows = sum(tally.rows for tally in tallies)
        if min(sizes) == 0:
            about = f"{distinct:,} different" if distinct < MAX_DISTINCT else "different"
            what = f"the split leaves a share empty: identical rows stay together, and {rows:,} rows hold {about} ones"
            self._add("split", what, f"add data, or choose another validation than {validation:g} or another seed")
        if max(sizes) > self.profile.limits.file_bytes:
            what = f"a share has {max(sizes):,} bytes, and the limit is {self.profile.limits.file_bytes:,}"
            self._add("split", what, "name fewer files")
        return min(sizes) == 0 or max(sizes) > self.profile.limits.file_bytes

    def _rows_of_one(self, path: str) -> Content | None:
        before, tally = len(self.problems), _Tally()
        for row in self._rows(path):
            tally.take(row.line, self._met(row))
        return None if len(self.problems) > before else tally.content(PurePosixPath(path).name, (path,))

    def _rows(self, path: str) -> Iterator[Row]:
        findings = Findings(self.tree.display(path), self.profile.profile)
        self.census.begin(findings.file)
        try:
            with self.tree.open(path, limit_bytes=self.profile.limits.file_bytes) as file:
                yield from read_rows(file, self.source.format, findings)
        except FileRefused as error:
            self._refused(error)
        self._found(findings)

    def _archive(self, path: str) -> Content | None:
        """An archive is uploaded as it is; what it costs to read its pictures nobody knows."""
        before, md5, size = len(self.problems), _md5(), 0
        display = self.tree.display(path)
        of_archive, of_rows = (Findings(name, self.profile.profile) for name in (display, f"{display}/{ROWS}"))
        self.census.begin(of_rows.file)
        try:
            with self.tree.open(path, limit_bytes=self.profile.limits.file_bytes) as file:
                while chunk := file.read(CHUNK_BYTES):
                    md5.update(chunk)
                    size += len(chunk)
                tally = _Tally()
                for row in read_archive(file, of_archive, of_rows):
                    tally.take(b"", self._met(row))
        except FileRefused as error:
            self._refused(error)
            return None
        self._found(of_archive)
        self._found(of_rows)
        if len(self.problems) > before:
            return None
        content = tally.content(PurePosixPath(path).name, (path,))
        return replace(content, size=size, md5=md5.hexdigest(), tokens=None)

    def _met(self, row: Row) -> int:
        """Counts a row; its tokens in twentieths."""
        if row.value is None:
            return 0
        text = text_of(row.value)
        self.census.take(row, fingerprint(row.body), text)
        return token_twentieths(text)

    def _found(self, findings: Findings) -> None:
        self.problems += findings.problems
        self.warnings += findings.warnings

    def judge(self, lint: Lint, contents: Sequence[Content]) -> None:
        """What there is to say of the whole, once all was read."""
        tokens = sum(content.tokens for content in contents if content.tokens is not None) if contents else None
        for level, problem in judge(lint, self.source.checks, self.source.format, tokens=tokens):
            (self.problems if level is Level.ERROR else self.warnings).append(problem)

    @cached_property
    def paths(self) -> list[str]:
        """The files that the patterns name, each once, in path order."""
        found: set[str] = set()
        for pattern in self.source.patterns:
            found.update(self._matches(pattern))
        return sorted(found)

    def _matches(self, pattern: str) -> Sequence[str]:
        suffix = ".zip" if self.source.format == _ARCHIVE else ".jsonl"
        try:
            paths = self.tree.glob(pattern) if {"*", "?"} & {*pattern} else (pattern,)
        except FileRefused as error:
            self._refused(error)
            return ()
        if not paths:
            self._add("unreadable", f"{shown(pattern)} names no file", _near(self.tree, pattern))
        for path in paths:
            if not path.endswith(suffix):
                self._add("file-type", f"{shown(path)}: data of format {self.source.format} is a {suffix} file")
        return [path for path in paths if path.endswith(suffix)]

    def _refused(self, error: FileRefused) -> None:
        hint = _near(self.tree, error.path) if isinstance(error, FileMissing) else error.hint
        self._add("unreadable", str(error), hint)

    def _add(self, rule: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(what, None, hint, rule))


class _Tally:
    """Runs over the bytes and rows of one upload."""

    def __init__(self) -> None:
        self.size = self.rows = self._twentieths = 0
        self._md5 = _md5()

    def take(self, line: bytes, twentieths: int) -> None:
        self._md5.update(line)
        self.size += len(line)
        self.rows += 1
        self._twentieths += twentieths

    def content(self, filename: str, paths: Sequence[str], share: Share | None = None) -> Content:
        return Content(
            filename,
            tuple(paths),
            self.size,
            self._md5.hexdigest(),
            self.rows,
            tokens=-(-self._twentieths // TOKEN),
            share=share,
        )


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)  # the service answers with md5, so contents are compared by it


def _named_apart(contents: list[Content]) -> Iterator[Content]:
    """Files of one base name are told apart by their whole paths."""
    bases = Counter(content.filename for content in contents)
    taken = {name for name, count in bases.items() if count == 1}
    for content in contents:
        name = content.filename
        if bases[name] > 1:
            name = content.paths[0].replace("/", "-")
            while name in taken:
                name = f"_{name}"
            taken.add(name)
        yield replace(content, filename=name)


def _near(tree: Tree, path: str) -> str:
    folder, slash, _ = path.rpartition("/")
    try:
        names = tree.glob(f"{folder}{slash}*")
    except FileRefused:
        return ""
    return did_you_mean(path, names)


# Splitting and sending ----------------------------------------------------------------------------------------------

_PARTS: tuple[Literal["train"], Literal["validation"]] = ("train", "validation")


def _part(body: bytes, validation: float, seed: int) -> Literal["train", "validation"]:
    """The share of a row. Published behaviour: another hash would turn every split data set into a new one."""
    digest = hashlib.blake2b(body, digest_size=8, key=str(seed).encode()).digest()
    return "validation" if int.from_bytes(digest) < int(validation * 2**64) else "train"


def _file(tree: Tree, content: Content) -> Iterator[bytes]:
    with tree.open(content.paths[0], limit_bytes=_ANY_SIZE) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _share(tree: Tree, content: Content, share: Share) -> Iterator[bytes]:
    gathered = bytearray()
    for path in content.paths:
        with tree.open(path, limit_bytes=_ANY_SIZE) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                body = line.rstrip(b"\r\n")
                if _part(body, share.validation, share.seed) == share.part:
                    gathered += body + b"\n"
                if len(gathered) >= CHUNK_BYTES:
                    yield bytes(gathered)
                    gathered.clear()
    if gathered:
        yield bytes(gathered)


_ANY_SIZE = 1 << 40  # what is read is compared with the description anyway
