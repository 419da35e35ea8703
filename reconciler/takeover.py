"""A whole account is taken over: manifests for what nobody declares are written, and their objects recorded.

Nothing changes on the service. What is written is at once read back as any manifest is: where that fails, or where the
first plan would not be empty, the object is left alone, and why is told. Files and record come together or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler import adoption, data, engine, kinds
from reconciler.apply import operation_id
from reconciler.drafts import Account, Draft, Drafts, drafts
from reconciler.engine import Session
from reconciler.errors import ManifestError, ReconcilerError, StateError, UsageError
from reconciler.files import OVERLAYS, FileMissing, FileRefused, Tree
from reconciler.plan import Choices, Desired, Verb, World
from reconciler.planning import make_plan
from reconciler.project import Project, load
from reconciler.resource import Observed, Source
from reconciler.state import Event, State, written
from reconciler.surgery import Deed
from reconciler.wording import shown

DATA = "data"  # what is fetched is put here, below the folder of the manifests
NO_CONTENT = "no file of the project has its content: --download fetches it"


@dataclass(frozen=True)
class Order:
    """What the operator wants: where the manifests are put, relative to the root, and which ones are read anyway."""

    folder: str
    paths: tuple[str, ...]
    download: bool = False
    marked: bool = False

    def place(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True)
class Takeover:
    """What is, or would be, written and recorded. `fetched` says by key where a content is put that lies nowhere."""

    drafts: Drafts
    fetched: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    done: bool = False


def order(root: Path, folder: str, paths: Sequence[str], *, download: bool, marked: bool) -> Order:
    """UsageError for a folder that lies outside the project, or of which no manifest is ever read."""
    if "-" in paths:
        raise UsageError("what is read from stdin cannot be read back with what is written", hint="give a folder")
    base, given = root.resolve(), Path(folder).resolve()
    if not given.is_relative_to(base):
        raise UsageError(f"{shown(folder)} lies outside the project root", hint=f"name a folder below {root}")
    below = given.relative_to(base).parts
    if any(part.startswith(".") or part == OVERLAYS for part in below):
        raise UsageError(f"manifests in {shown(folder)} are never read", hint="name another folder")
    return Order("/".join(below), (*paths, *([str(root.joinpath(*below))] if below else [])), download, marked)


def propose(session: Session, wanted: Order) -> Takeover:
    """What would be written now. Sends reads only and writes nothing; what is to be fetched is not yet."""
    account = _account(session, wanted)
    contents = _Contents()
    _find_contents(session, wanted, account, contents)
    found = drafts(account, contents.sources, contents.refused)
    _check_places(session, wanted, found.drafts)
    return Takeover(found, _of(found, contents.fetched))


def take_over(
    session: Session, wanted: Order, approved: Takeover, text: Callable[[Draft], str], *, reason: str = ""
) -> Takeover:
    """Write the manifests, read the project again with them, and record their objects: all of it, or nothing.

    Whatever was not shown when it was approved is left alone.
    """
    contents, made = _Contents(), Takeover(Drafts())
    try:
        _find_contents(session, wanted, _account(session, wanted), contents, fetch=approved)
        with session.store.lease() as epoch:
            attempt = _Attempt(session, wanted, approved, contents.sources, text, contents.refused)
            found, events = attempt.settle(Deed(operation_id(), epoch, written(session.api.now()), reason))
            try:
                session.store.commit(epoch, *events)
            except BaseException:
                attempt.withdraw()
                raise
            made = Takeover(found, _of(found, contents.fetched), events, done=True)
    finally:
        for path in set(contents.fetched.values()) - set(made.fetched.values()):
            Tree(session.project.root).remove(path)
    return made


def _unseen(account: Account, approved: Takeover) -> Iterator[tuple[str, str]]:
    """What was left alone when it was shown stays so, with the reason of then where there was one."""
    shown_before = {draft.key for draft in approved.drafts.drafts}
    left = {f"{one.collection}/{one.id}": one.why for one in approved.drafts.left}
    for collection, seen in account.unmanaged():
        if (key := f"{collection.name}/{seen.id}") not in shown_before:
            yield key, left.get(key, "came after this was shown: run it again")


def _of(found: Drafts, fetched: Mapping[str, str]) -> dict[str, str]:
    return {draft.key: fetched[draft.key] for draft in found.drafts if draft.key in fetched}


def _account(session: Session, wanted: Order) -> Account:
    state, world = engine.look_around(session, closely=True)
    of = {one.name: kind for kind, resource in kinds.RESOURCES.items() for one in resource.collections}
    return Account(state, session.desired, world, session.collections, of, wanted.marked)


def _check_places(session: Session, wanted: Order, found: Iterable[Draft]) -> None:
    for draft in found:
        with suppress(FileMissing):
            Tree(session.project.root).stamp(wanted.place(draft.file))
            raise FileRefused(wanted.place(draft.file), "is there already, and nothing is written over")


# Content ------------------------------------------------------------------------------------------------------------


@dataclass
class _Contents:
    """By key: where the content of an object lies, what is fetched to where, of what there is none, and why."""

    sources: dict[str, Source] = field(default_factory=dict)
    fetched: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def _find_contents(
    session: Session, wanted: Order, account: Account, found: _Contents, *, fetch: Takeover | None = None
) -> None:
    """What lies in the project already is used as it lies there; the rest is fetched, as far as that was approved."""
    tree = Tree(session.project.root)
    holding = {
        f"{collection.name}/{seen.id}": seen
        for collection, seen in account.unmanaged()
        if collection.material and "source" in seen.fields
    }
    local, missing = _local(tree, holding.values())
    absent = [key for key, seen in holding.items() if seen.fields["source"] not in local and wanted.download]
    places = fetch.fetched if fetch else dict(_places(wanted, tree, account, absent))
    for key, seen in holding.items():
        path, why = local.get(seen.fields["source"], ""), missing
        if not path and key in places:
            why = _fetch(session, key, seen, places[key]) if fetch else ""
            path = "" if why else places[key]
            found.fetched |= {key: path} if path else {}
        if not path:
            found.refused[key] = why
        elif form := _format(session, tree, path):
            found.sources[key] = Source((path,), form, ("source",))
        else:
            found.refused[key] = f"the rows of {path} read like no training data"


_AS_IF = Source(("data.jsonl",), "", ("source",))  # of what is only to be named


def _local(tree: Tree, holding: Iterable[Observed]) -> tuple[dict[str, str], str]:
    """Files of the project by their `md5-size`, and what to say of a content that is none of them."""
    digests = {str(seen.fields["source"]) for seen in holding}
    try:
        return data.located(tree, digests) if digests else {}, NO_CONTENT
    except FileRefused as error:
        return {}, f"no file of the project was searched for its content: {error.reason}"


def _format(session: Session, tree: Tree, path: str) -> str | None:
    """How the rows of a file read; of one that is not there yet, how those of its suffix mostly do."""
    if not _is_there(tree, path):
        return data.usual_format(path)
    return data.guess_format(tree, path, session.project.profile)


def _places(wanted: Order, tree: Tree, account: Account, keys: Collection[str]) -> Iterator[tuple[str, str]]:
    """Where the content of each object is put that can be declared: by its name, and never over something."""
    named = drafts(account, dict.fromkeys(keys, _AS_IF), {}).drafts
    for draft in named:
        if draft.key not in keys:
            continue
        suffix = ".zip" if str(draft.seen.outputs.get("name", "")).lower().endswith(".zip") else ".jsonl"
        path, number = wanted.place(f"{DATA}/{draft.name}{suffix}"), 2
        while _is_there(tree, path):
            path, number = wanted.place(f"{DATA}/{draft.name}-{number}{suffix}"), number + 1
        yield draft.key, path


def _is_there(tree: Tree, path: str) -> bool:
    try:
        tree.stamp(path)
    except FileMissing:
        return False
    return True


def _fetch(session: Session, key: str, seen: Observed, path: str) -> str:
    """Puts the content of an object in its place, once it is known to be that; or why it cannot."""
    digest = str(seen.fields["source"])
    size = int(digest.rpartition("-")[2])
    collection, limit = session.collections[key.partition("/")[0]], session.project.profile.limits.file_bytes
    if size > limit:
        return f"its {size:,} bytes are more than the {limit:,} that can be uploaded"
    try:
        link = collection.content(session.api.send(collection.read(seen.id)).body)
        if not link:
            return "the service gives no link to its content"
        chunks = data.verified(session.api.fetch(link, size), digest)
        Tree(session.project.root).create(path, chunks)
    except ReconcilerError as error:
        return f"its content cannot be fetched: {error}"
    return ""


# Manifests and record -----------------------------------------------------------------------------------------------


@dataclass
class _Attempt:
    """Writes, reads back, and withdraws until every manifest that is left stands."""

    session: Session
    wanted: Order
    approved: Takeover
    sources: Mapping[str, Source]
    text: Callable[[Draft], str]
    refused: dict[str, str]
    written: list[str] = field(default_factory=list)

    def settle(self, deed: Deed) -> tuple[Drafts, tuple[Event, ...]]:
        account = _account(self.session, self.wanted)
        self.refused |= dict(_unseen(account, self.approved))
        while True:
            found = drafts(account, self.sources, self.refused)
            self._write(found.drafts)
            try:
                fresh, events = self._read_back(found, account, deed)
            except BaseException:
                self.withdraw()
                raise
            if not fresh:
                return found, events
            self.withdraw()
            self.refused |= fresh

    def withdraw(self) -> None:
        """Take away what was written."""
        for path in self.written:
            self._tree.remove(path)
        self.written.clear()

    def _write(self, found: Iterable[Draft]) -> None:
        try:
            for draft in found:
                path = self.wanted.place(draft.file)
                self._tree.create(path, [self.text(draft).encode()], mode=0o644)
                self.written.append(path)
        except BaseException:
            self.withdraw()
            raise

    def _read_back(self, found: Drafts, account: Account, deed: Deed) -> tuple[dict[str, str], tuple[Event, ...]]:
        """What of it does not stand, and why; and the rows of all that does."""
        if not found.drafts:
            return {}, ()
        try:
            project = load(self.wanted.paths, environment=self.session.project.environment)
        except ManifestError as error:
            fresh = dict(self._broken(found.drafts, error))
            if not fresh:
                raise
            return fresh, ()
        return self._recorded(project, {one.address: one for one in found.drafts}, account, deed)

    def _broken(self, found: Iterable[Draft], error: ManifestError) -> Iterator[tuple[str, str]]:
        """Drafts whose manifest, or whose data, has a mistake."""
        for draft in found:
            source = self.sources.get(draft.key)
            files = [self.wanted.place(draft.file), *(source.patterns if source else ())]
            own = [os.path.realpath(self.session.project.root / file) for file in files]
            for problem in error.problems:
                at = os.path.realpath(problem.at.file) if problem.at else ""
                if any(at == file or at.startswith(f"{file}/") for file in own):
                    yield draft.key, f"its manifest would not do: {problem.what}"
                    break

    def _recorded(
        self, project: Project, found: Mapping[str, Draft], account: Account, deed: Deed
    ) -> tuple[dict[str, str], tuple[Event, ...]]:
        state, events, fresh = account.state, list[Event](), dict[str, str]()
        for document in project.documents:
            draft = found.get(document.address)
            if draft is None:
                continue
            collection, parts = self.session.collections[draft.collection], project.parts[document.address]
            part, deletion = parts[0], document.lifecycle.deletion_policy or ""
            try:
                rows = adoption.taken_in(
                    state, part, collection, draft.seen, deed, deletion=deletion, inferred=False, number=len(events)
                )
            except StateError as error:
                fresh[draft.key] = str(error)
                continue
            events += rows
            state = state.fold(rows)
        return fresh | unsettled(project, state, account.world, found, self.session), tuple(events)

    @property
    def _tree(self) -> Tree:
        return Tree(self.session.project.root)


def unsettled(
    project: Project, state: State, world: World, found: Mapping[str, Draft], session: Session
) -> dict[str, str]:
    """By key, drafts whose first plan would not be empty, and what it would begin with."""
    plan = make_plan(Desired(project.documents, project.parts), state, world, session.collections, Choices())
    told: dict[str, str] = {}
    for op in plan.operations:
        draft = found.get(op.slot.address)
        if draft and op.verb is not Verb.WAIT:
            why = f"its first plan would not be empty: {op.action.value} {op.verb} {op.why}"
            told.setdefault(draft.key, why.rstrip())
    return told
