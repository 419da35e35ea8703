"""HotwordTable: words with weights for speech recognition. The target model decides the API (contract §4, §5)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from reconciler.catalogue import Limits, ProfileCatalogue
from reconciler.resource import (
    Collection,
    Document,
    Effect,
    Finding,
    Inputs,
    Json,
    Mark,
    Match,
    Names,
    Observed,
    Paged,
    Part,
    Phase,
    Quota,
    Request,
    Resource,
    Sign,
    Slot,
    Source,
    Spec,
    authored,
    dig,
    entries,
    identifier,
    named,
    said,
    string,
    text,
    whole,
)


class Vocabularies(Collection):
    """v2: one endpoint, the verb in `input.action`. The list shows neither words nor a total (contract §4)."""

    name: ClassVar[str] = "vocabularies"
    changeable = frozenset({"words"})
    page_size = 10  # the only size the pages state, and more than an account may hold
    facts: ClassVar[Mapping[str, str]] = {"mark": "the id of a vocabulary holds its prefix (contract §4)"}

    def list(self, page: int) -> Request:
        return self._call("list", page_index=page - 1, page_size=self.page_size)

    def items(self, reply: Json) -> tuple[Json, ...] | None:
        return entries(dig(reply, "output", "vocabulary_list"))

    def read(self, remote_id: str) -> Request:
        return self._call("query", vocabulary_id=remote_id)

    def item(self, remote_id: str, reply: Json) -> Json:
        return named(dig(reply, "output"), "vocabulary_id", remote_id)

    def parse(self, item: Json) -> Observed:
        remote_id, status = string(item.get("vocabulary_id")), text(item.get("status"))
        return Observed(
            id=remote_id,
            phase={"OK": Phase.READY, "UNDEPLOYED": Phase.PENDING}.get(status, Phase.UNKNOWN),
            status=status,
            fields=said(
                targetModel=text(item.get("target_model")),
                words=_by_text(entries(item.get("vocabulary"))),
            ),
            outputs=said(
                id=remote_id,
                created=text(item.get("gmt_create")),
                modified=text(item.get("gmt_modified")),
                mark=remote_id,
            ),
        )

    def create(self, part: Part, tag: str) -> Request:
        fields = part.fields
        return self._call(
            "create",
            effect=Effect.ONCE,
            target_model=fields["targetModel"],
            prefix=f"v{tag}",
            vocabulary=_as_list(fields["words"]),
        )

    def created_id(self, reply: Json, request: Request | None) -> str | None:
        return identifier(dig(reply, "output", "vocabulary_id")) or None

    def update(self, remote_id: str, part: Part, changed: frozenset[str]) -> tuple[Request, ...]:
        """Replaces every word (contract §4)."""
        words = _as_list(part.fields["words"])
        return (self._call("update", effect=Effect.ONCE, vocabulary_id=remote_id, vocabulary=words),)

    def same(self, fields: Mapping[str, Any], seen: Observed) -> bool:
        """Two tables of one model differ in nothing but their words."""
        told = self.told(seen)
        return all(name in told and fields[name] == told[name] for name in ("targetModel", "words"))

    def label(self, seen: Observed) -> str:
        return seen.id.removeprefix("vocab-").rpartition("-")[0]

    def spec(self, seen: Observed, names: Names, source: Source | None) -> Json | str:
        fields = seen.fields
        if missing := {"targetModel", "words"} - fields.keys():
            return f"the service does not show its {' and '.join(sorted(missing))}"
        return {"targetModel": fields["targetModel"], "words": _as_list(fields["words"])}

    def signed(self, seen: Observed) -> bool:
        return re.match(r"vocab-v[0-9a-z]{8}-", seen.id) is not None

    def delete(self, remote_id: str) -> Request:
        return self._call("delete", effect=Effect.REPEATABLE, vocabulary_id=remote_id)

    def stale(self, seen: Observed, recorded: Mapping[str, Any]) -> bool:
        """Read again where the table's time moved."""
        return seen.outputs.get("modified") != recorded.get("modified") or self.unsettled(recorded)

    def unsettled(self, outputs: Mapping[str, Any]) -> bool:
        """Read in the second of its last change: its time shows no smaller part."""
        return str(outputs.get("read", "")) <= str(outputs.get("modified", ""))

    def signs(self, item: Json, tag: str, fields: Mapping[str, Any]) -> Iterator[Sign]:
        remote_id = text(item.get("vocabulary_id"))
        if tag:
            yield Sign("mark", f"v{tag}" in remote_id, f"vocabulary_id {remote_id}")

    def quotas(self, seen: Sequence[Observed], limits: Limits, making: Sequence[Part] = ()) -> tuple[Quota, ...]:
        return (Quota("vocabularies", len(seen), limits.vocabularies, wanted=len(making)),)

    def _call(self, verb: str, effect: Effect = Effect.READ, **fields: Any) -> Request:
        plural = "vocabularies." + {"query": "get"}.get(verb, verb)
        body = {"model": "speech-biasing", "input": {"action": f"{verb}_vocabulary", **fields}}
        return Request(plural, "POST", "/services/audio/asr/customization", effect=effect, body=body)


class Phrases(Paged):
    """v1: rides the fine-tune endpoint, is final in one call, and never shows its words again (contract §5)."""

    name: ClassVar[str] = "phrases"
    path = "/fine-tunes/outputs"
    members = "finetuned_outputs"
    id_field = "finetuned_output"
    changeable = hidden = frozenset({"words"})

    def parse(self, item: Json) -> Observed:
        remote_id, fields = string(item.get("finetuned_output")), said(targetModel=text(item.get("model")))
        return Observed(
            id=remote_id,
            phase=Phase.READY if fields else Phase.UNKNOWN,  # it has no status: to be shown is to be there
            status="SUCCEEDED" if fields else "",
            fields=fields,
            outputs=said(id=remote_id, job=text(item.get("job_id")), created=text(item.get("create_time"))),
        )

    def create(self, part: Part, tag: str) -> Request:
        return self._compile("phrases.create", part)

    def update(self, remote_id: str, part: Part, changed: frozenset[str]) -> tuple[Request, ...]:
        return (self._compile("phrases.update", part, finetuned_output=remote_id),)

    def foreign(self, seen: Observed, recorded: Mapping[str, Any]) -> frozenset[str]:
        """Every change makes a new job, so another job than the recorded one is another author's change."""
        return frozenset({"words"}) if recorded.get("job") not in (None, seen.outputs.get("job")) else frozenset()

    def marks(self, fields: Mapping[str, Any]) -> bool:
        return False

    def matches(self, tag: str, part_fields: Mapping[str, Any], seen: Observed) -> Match:
        """Nothing we choose comes back: the model alone is never a strong sign."""
        return Match.WEAK if seen.fields.get("targetModel") == part_fields.get("targetModel") else Match.NO

    def same(self, fields: Mapping[str, Any], seen: Observed) -> bool:
        return False

    def spec(self, seen: Observed, names: Names, source: Source | None) -> Json | str:
        return "the service never shows its words: declare them by hand, then import it by its id"

    @staticmethod
    def _compile(operation: str, part: Part, **extra: str) -> Request:
        phrases = {word: item["weight"] for word, item in part.fields["words"].items()}
        body = {
            "model": part.fields["targetModel"],
            "training_file_ids": [],
            "validation_file_ids": [],
            "training_type": "compile_asr_phrase",
            "hyper_parameters": {"phrase_list": phrases},
            **extra,
        }
        return Request(operation, "POST", "/fine-tunes", effect=Effect.ONCE, body=body)


def _by_text(items: tuple[Json, ...] | None) -> dict[str, dict[str, Any]] | None:
    """Words keyed by their text, since order means nothing to the service; None where one of them cannot be read."""
    if items is None or not all(string(item.get("text")) and whole(item.get("weight")) is not None for item in items):
        return None
    return {item["text"]: said(weight=whole(item["weight"]), lang=text(item.get("lang"))) for item in items}


def _as_list(words: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"text": word, **item} for word, item in words.items()]


class Word(Spec):
    """One word: how it is written, how strongly it is preferred, in which language."""

    text: Annotated[str, Field(min_length=1, max_length=200, description="The word as it is written.")]
    weight: Annotated[
        int,
        Field(
            description="How strongly it is preferred, from 1 to 5 and without a unit; in phrase lists -6 to -1 make it"
            " less likely."
        ),
    ]
    lang: Annotated[
        str | None, Field(description="The code of its language, such as zh or en; phrase lists know none.")
    ] = None


class HotwordTable(Resource):
    """Words for one recognition model: a vocabulary (v2 models) or a phrase list (v1 models). Free of charge."""

    collections = (Vocabularies, Phrases)

    target_model: Annotated[
        str,
        Mark.IMMUTABLE,
        Field(min_length=1, description="The recognition model that uses the words; it decides which API holds them."),
    ]
    words: Annotated[
        list[Word] | None,
        Mark.CLOSED,
        Mark.WRITE_ONLY,
        Field(description="The words themselves; either these or wordsFrom."),
    ] = None
    words_from: Annotated[
        str | None,
        Mark.LOCAL,
        Field(
            min_length=1,
            max_length=400,
            description="A csv, tsv or yaml file of words, below the project root, read as words.",
        ),
    ] = None

    vocabulary_id: Annotated[str | None, Mark.COMPUTED, Field(description="Its id, for recognition calls.")] = None

    @model_validator(mode="after")
    def _one_source(self) -> HotwordTable:
        if (self.words is None) == (self.words_from is None):
            raise ValueError("write either words or wordsFrom")
        return self

    @property
    def collection(self) -> str:
        """Only v1 models of Paraformer use phrase lists, and their names say v1 (contract §5)."""
        return Phrases.name if self.target_model.endswith("-v1") else Vocabularies.name

    @property
    def source(self) -> Source | None:
        return Source((self.words_from,), "words", ("wordsFrom",)) if self.words_from else None

    def check(self, profile: ProfileCatalogue) -> Iterator[Finding]:
        if profile.speech_model(self.target_model) is None:
            near = profile.suggest(self.target_model)
            known = ", ".join(model.code for model in profile.speech_models)
            hint = f"did you mean {near}?" if near else f"it knows {known}"
            yield Finding(
                ("targetModel",),
                f"profile {profile.profile} has no speech model {self.target_model} that takes hotwords",
                hint,
            )

        if warning := profile.retirement(self.target_model):
            yield Finding(("targetModel",), warning, warning=True)

    def fits(self, inputs: Inputs, profile: ProfileCatalogue) -> Iterator[Finding]:
        words, path = self._written(inputs), "words" if self.words is not None else "wordsFrom"
        model, seen = profile.speech_model(self.target_model), set[str]()
        heard: dict[str, str] = {}
        if not words:
            yield Finding((path,), "a hotword table needs at least one word")
        if model and len(words) > model.max_words:
            yield Finding((path,), f"{len(words)} words are more than the {model.max_words} that {model.code} takes")
        for index, word in enumerate(words):
            where = (path, index) if self.words is not None else (path,)
            rule = _phrase_problem if self.collection == Phrases.name else _vocabulary_problem
            if problem := rule(word):
                yield Finding(where, f"{word['text']}: {problem}")
            if "lang" in word and model and model.languages and word["lang"] not in model.languages:
                yield Finding(
                    where, f"{word['text']}: {model.code} has no language {word['lang']}", ", ".join(model.languages)
                )
            if word["text"] in seen:
                yield Finding(where, f"{word['text']} is listed twice")
            elif (alike := heard.setdefault(_heard(word["text"]), word["text"])) != word["text"]:
                what = f"{word['text']} and {alike} are written differently and heard alike"
                yield Finding(where, what, "keep one of them", warning=True)
            seen.add(word["text"])

    def parts(self, document: Document, inputs: Inputs) -> tuple[Part, ...]:
        words = {word["text"]: {key: word[key] for key in word if key != "text"} for word in self._written(inputs)}
        path = "words" if self.words is not None else "wordsFrom"
        return (
            Part(
                slot=Slot(document.address),
                fields={"targetModel": self.target_model, "words": words},
                at=document.places({"targetModel": ("targetModel",), "words": (path,)}),
            ),
        )

    def _written(self, inputs: Inputs) -> tuple[Mapping[str, Any], ...]:
        return inputs.words if self.words is None else tuple(authored(word) for word in self.words)


def _heard(word: str) -> str:
    """What tells words apart that are spoken: not their width, case or blanks."""
    return " ".join(unicodedata.normalize("NFKC", word).casefold().split())


def _vocabulary_problem(word: Mapping[str, Any]) -> str:
    """Contract §4: any non-ASCII character: at most 15 characters; pure ASCII: at most 7 pieces; weight 1 to 5."""
    if not 1 <= word["weight"] <= 5:
        return f"weight {word['weight']} is not between 1 and 5"
    if word["text"].isascii():
        pieces = len(word["text"].split(" "))
        return f"{pieces} words are more than 7" if pieces > 7 else ""
    return f"{len(word['text'])} characters are more than 15" if len(word["text"]) > 15 else ""


def _phrase_problem(word: Mapping[str, Any]) -> str:
    """Contract §5: pure Chinese: at most 10 characters; English or mixed: at most 5 pieces; weight 1..5 or -6..-1."""
    if word["weight"] not in (*range(-6, 0), *range(1, 6)):
        return f"weight {word['weight']} is not between 1 and 5 or between -6 and -1"
    if "lang" in word:
        return "a phrase list has no languages: leave lang out"
    if re.fullmatch(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+", word["text"]):
        return f"{len(word['text'])} characters are more than 10" if len(word["text"]) > 10 else ""
    pieces = len(word["text"].split(" "))
    return f"{pieces} words are more than 5" if pieces > 5 else ""
