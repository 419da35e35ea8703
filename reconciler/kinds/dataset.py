"""Dataset: one or more local files, uploaded. The content hash is the version (contract §1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reconciler.catalogue import Limits, ProfileCatalogue
from reconciler.resource import (
    Action,
    Checks,
    Content,
    Document,
    Effect,
    Finding,
    Inputs,
    Json,
    Mark,
    Names,
    Observed,
    Paged,
    Part,
    Percent,
    Phase,
    Quota,
    Request,
    Resource,
    Sign,
    Slot,
    Source,
    Spec,
    dig,
    identifier,
    percent,
    rows,
    said,
    string,
    text,
    whole,
)


class Files(Paged):
    """`/files`: the native endpoint, which alone keeps a description and answers with md5 (contract §1.1, §1.2)."""

    name: ClassVar[str] = "files"
    path = "/files"
    envelope = "data"
    members = "files"
    id_field = "file_id"
    replaced_as = Action.CREATE
    material = True
    verified = frozenset({"source"})
    facts: ClassVar[Mapping[str, str]] = {
        "mark": "a file shows the description it was uploaded with (contract §1.2)",
        "purpose": "a file shows the purpose it was uploaded with (contract §1.1)",
    }

    def parse(self, item: Json) -> Observed:
        """`url` is a signed download link, so a secret: it is not read at all (contract §1.2)."""
        md5, size = string(item.get("md5")).lower(), whole(item.get("size"))
        fields = said(source=f"{md5}-{size}" if re.fullmatch("[0-9a-f]{32}", md5) and size is not None else None)
        facts = said(
            name=text(item.get("name")),
            created=text(item.get("gmt_create")),
            mark=text(item.get("description")),
            size=size,
        )
        return Observed(
            id=string(item.get("file_id")),
            phase=Phase.READY if fields or facts else Phase.UNKNOWN,  # it has no status: to be shown is to be there
            status="uploaded" if fields or facts else "",
            fields=fields,
            outputs={**said(id=string(item.get("file_id"))), **facts},
        )

    def stale(self, seen: Observed, recorded: Mapping[str, Any]) -> bool:
        """Without what it hashes to, nobody knows whether all of it arrived."""
        return "source" not in seen.fields

    def signs(self, item: Json, tag: str, fields: Mapping[str, Any]) -> Iterator[Sign]:
        """A purpose on a file that is not ours says nothing: it may have come by the OpenAI-shaped endpoint (§1.5)."""
        if not tag:
            return
        remote_id = text(item.get("file_id"))
        yield Sign("mark", tag in text(item.get("description")), f"description of {remote_id}")
        if self.profile.profile != "dec-2024":
            yield Sign("purpose", bool(text(item.get("purpose"))), f"purpose of {remote_id}")

    def quotas(self, seen: Sequence[Observed], limits: Limits, making: Sequence[Part] = ()) -> tuple[Quota, ...]:
        used = sum(one.outputs.get("size", 0) for one in seen)
        wanted = sum(part.content.size for part in making if part.content)
        return (
            Quota("files", len(seen), limits.files, wanted=len(making)),
            Quota("storage", used, limits.total_bytes, of_bytes=True, wanted=wanted),
        )

    def create(self, part: Part, tag: str) -> Request:
        purpose = {"purpose": "fine-tune"} if self.profile.profile != "dec-2024" else {}
        return Request(
            "files.create",
            "POST",
            "/files",
            effect=Effect.ONCE,
            form={"descriptions": f"reconciler {tag} {part.slot}", **purpose},
            content=part.content,
        )

    def created_id(self, reply: Json, request: Request | None) -> str | None:
        uploaded = rows(dig(reply, "data", "uploaded_files"))
        return identifier(uploaded[0].get("file_id")) or None if uploaded else None

    def signed(self, seen: Observed) -> bool:
        return re.fullmatch(r"reconciler [0-9a-z]{8} .+", str(seen.outputs.get("mark", ""))) is not None

    def resembles(self, slot: Slot, fields: Mapping[str, Any], seen: Observed) -> bool:
        """All that its mark is made from is shown, so what no mark proves is another stack's."""
        return False

    def label(self, seen: Observed) -> str:
        return str(seen.outputs.get("name", "")).rpartition("/")[2].partition(".")[0]

    def spec(self, seen: Observed, names: Names, source: Source | None) -> Json | str:
        if source is None:
            return "no file of the project has its content"
        return {"source": source.patterns[0], "format": source.format}

    def content(self, reply: Json) -> str:
        return string(dig(reply, "data", "url"))

    def refusal(self, reply: Json) -> str:
        """A 200 may say that the one file was refused (contract §1.1)."""
        failed = rows(dig(reply, "data", "failed_uploads"))
        return f"{text(failed[0].get('code'))}: {text(failed[0].get('message'))}" if failed else ""


class Split(Spec):
    """Two uploads instead of one: each row goes to one side by its hash and the seed, identical rows together."""

    validation: Annotated[
        float, Field(gt=0, lt=1, description="Which share of the rows is for validation, such as 0.1 for a tenth.")
    ]
    seed: Annotated[
        int, Field(ge=0, lt=2**31, description="Any number without a unit; another one divides the rows otherwise.")
    ] = 0


Word = Literal["ignore", "warn", "error"]


class Lint(Spec):
    """What is said of the rows as a whole; what single rows must be is not a matter of choice (docs/lint.md)."""

    duplicates: Annotated[Word, Field(description="What is said of rows that are there twice.")] = "warn"
    near_duplicates: Annotated[
        Word,
        Field(
            description="What is said of rows that are another one but for case, spaces and marks; warn: from 1 % on."
        ),
    ] = "warn"
    min_rows: Annotated[
        int | None,
        Field(
            ge=1,
            le=10**9,
            description="How many rows there must be: fewer are an error; unset: fewer than advised are a warning.",
        ),
    ] = None
    max_dropped: Annotated[
        Percent | None,
        Field(
            description="Which share of the rows, such as 1%, a job may leave out for being too long; more is an error."
        ),
    ] = None


Pattern = Annotated[str, Field(min_length=1, max_length=400)]


class Dataset(Resource):
    """One or more local files or a glob, uploaded; with `split`, as a training and a validation share."""

    collections = (Files,)

    source_: Annotated[
        Pattern | Annotated[list[Pattern], Field(min_length=1, max_length=100)],
        Mark.IMMUTABLE,
        Field(
            alias="source",
            description="A path, a glob, or a list of them, below the project root; the content is the version.",
        ),
    ]
    format: Annotated[
        Literal["sft", "sft-image", "dpo", "cpt"],
        Mark.LOCAL,
        Field(description="How the rows read: answers, answers to pictures, pairs of answers, or plain text."),
    ]
    split: Annotated[
        Split | None,
        Mark.LOCAL,
        Field(description="How rows become a training and a validation upload; another split, others."),
    ] = None
    lint: Annotated[Lint, Mark.LOCAL, Field(description="What is said of the rows before anything is uploaded.")] = (
        Lint()
    )

    file_id: Annotated[str | None, Mark.COMPUTED, Field(description="The id of the file, one for each upload.")] = None

    @property
    def source(self) -> Source:
        patterns = (self.source_,) if isinstance(self.source_, str) else tuple(self.source_)
        share, seed = (self.split.validation, self.split.seed) if self.split else (None, 0)
        checks = Checks(self.lint.duplicates, self.lint.near_duplicates, self.lint.min_rows)
        return Source(patterns, self.format, ("source",), share, seed, checks)

    def check(self, profile: ProfileCatalogue) -> Iterator[Finding]:
        if self.format == "cpt" and profile.profile == "dec-2024":
            yield Finding(("format",), "profile dec-2024 has no continued pre-training", "use sft or dpo")

    def parts(self, document: Document, inputs: Inputs) -> tuple[Part, ...]:
        return tuple(self._part(document, content) for content in inputs.files)

    def _part(self, document: Document, content: Content) -> Part:
        fields: Mapping[str, Any] = {"source": content.digest}
        name = content.share.part if content.share else content.paths[0]
        return Part(
            slot=Slot(document.address, name),
            fields=fields,
            at=document.places({"source": ("source",)}),
            content=content,
            tokens=content.tokens,
            format=self.format,
            max_dropped=percent(self.lint.max_dropped) if self.lint.max_dropped else None,
        )
