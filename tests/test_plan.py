"""From what is declared, recorded and observed to operations: each case stands in `cases/`, and laws hold for all.

A file of cases first gives names to compact `documents`. A case says why it exists (`reason`) and what must be planned
(`plan`, one line an operation). `applied` is what the last apply left behind, `manifests` what is declared now (left
out: the same); `next` and `retired` are documents whose objects wait beside those in use, or were superseded by them.
`contents` describes the files of Datasets, `before` what they held then. `observed` says where the service shows
something else than what was applied: members of its own JSON, or `gone`; `state` does so for our record, and `open`
lists operations whose outcome is not known. `history` names superseded runs of jobs, `sends` what is sent to a slot.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler import catalogue, graph
from reconciler.kinds import KINDS, collections
from reconciler.kinds.removed import Removed
from reconciler.manifest import parse
from reconciler.plan import Choices, Desired, Operation, Plan, Verb, World, references_of
from reconciler.planning import make_plan
from reconciler.resource import (
    API_VERSION,
    Action,
    Content,
    Inputs,
    Known,
    Observed,
    Part,
    Resource,
    Share,
    Slot,
)
from reconciler.selection import Selectors, terms
from reconciler.state import Intent, Owned, Role, Stamp, State

STAMP = Stamp("emulator:1", "", "cases")
Case = Mapping[str, Any]


# Cases --------------------------------------------------------------------------------------------------------------


def read_cases() -> dict[str, Case]:
    """Every case of every file, named after its file and its place there."""
    files = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
    return {
        f"{path.stem}-{number}": case
        for path in files
        for number, case in enumerate(yaml.safe_load(path.read_text("utf-8"))["cases"], start=1)
    }


CASES = read_cases()


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    known = {
        "reason", "profile", "contents", "before", "applied", "next", "retired", "manifests", "observed", "state",
        "open", "choices", "plan", "notes", "totals", "reasons", "history", "sends",
    }  # fmt: skip
    assert case["reason"]
    assert case.keys() <= known, "a misspelt key would test nothing"
    plan = planned(case)
    assert [line(op) for op in plan.operations] == case["plan"], case["reason"]
    if "reasons" in case:
        told = [
            f"{'.'.join(c.path)}: {plain(c.before)} -> {plain(c.after)}" for op in plan.operations for c in op.reasons
        ]
        assert told == case["reasons"], case["reason"]
    for slot, body in case.get("sends", {}).items():
        sent = [
            op.request.body if op.request else op.part and op.part.fields
            for op in plan.operations
            if str(op.slot) == slot
        ]
        assert body in sent, (sent, case["reason"])
    if "notes" in case:
        notes = [" ".join(filter(None, (note.about, note.what))) for note in plan.notes]
        assert len(notes) == len(case["notes"]), notes
        assert all(said in note for said, note in zip(case["notes"], notes, strict=True)), notes
    for total, amount in case.get("totals", {}).items():
        wanted = None if amount is None else Decimal(str(amount))
        assert getattr(plan.totals, total) == wanted, (total, case["reason"])


def line(op: Operation) -> str:
    """One operation as a line: glyph, verb, slot, object, reasons, what comes first, consent, exit code."""
    words = [op.action, op.verb, str(op.slot)]
    words += [f"of {op.target_id}"] if op.target_id else []
    words += ["because", ", ".join(dict.fromkeys(change.path[0] for change in op.reasons))] if op.reasons else []
    words += ["after", ", ".join(op.after)] if op.after else []
    words += ["asks"] if op.needs_consent else []
    words += [f"exit {op.code}"] if op.code else []
    return " ".join(words)


def plain(value: Any) -> str:
    return f"<{value.slot} {value.output}>" if isinstance(value, Known) else json.dumps(value, ensure_ascii=False)


# From a case to the arguments of make_plan --------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A case as values."""

    desired: Desired
    state: State
    world: World
    choices: Choices
    profile: str

    def plan(self) -> Plan:
        return make_plan(
            self.desired, self.state, self.world, collections(catalogue.load().for_profile(self.profile)), self.choices
        )


def planned(case: Case) -> Plan:
    return scene(case).plan()


def scene(case: Case) -> Scene:
    profile, contents, applied = case.get("profile", "2026"), case.get("contents", {}), case.get("applied", ())
    before = case.get("before", contents)
    owned = [
        *recorded(applied, (), before, Role.CURRENT, ""),
        *recorded(case.get("next", ()), applied, contents, Role.NEXT, "-next"),
        *recorded(case.get("retired", ()), applied, before, Role.RETIRED, "-old"),
    ]
    owned += history(owned, case.get("history", {}))
    rows = {row.key: row for row in owned}
    intents = [unresolved(number, *wanted) for number, wanted in enumerate(case.get("open", {}).items())]
    return Scene(
        declared(case.get("manifests", applied), contents),
        State(STAMP, dict(amended(rows, case.get("state", {}))), {one.op_id: one for one in intents}),
        World(shown(rows.values(), case.get("observed", {}), profile)),
        choices(case.get("choices", {})),
        profile,
    )


def declared(documents: Iterable[Mapping[str, Any]], contents: Mapping[str, Any]) -> Desired:
    """Compact documents, read as a project reads manifests, but with described contents in place of files."""
    whole = [full(document) for document in documents]
    text = "\n---\n".join(json.dumps(document, ensure_ascii=False) for document in whole)
    parsed = parse("case.yaml", text.encode(), KINDS)
    assert not parsed.problems, parsed.problems
    tombstones = [one for one in parsed.documents if isinstance(one.spec, Removed)]
    documents = [one for one in parsed.documents if one not in tombstones]
    assert not graph.check(documents)
    ordered = graph.ordered(documents)
    parts: dict[str, tuple[Part, ...]] = {}
    for document in ordered:
        assert isinstance(document.spec, Resource)
        files = (
            tuple(content(**one) for one in contents.get(document.metadata.name, ()))
            if document.kind == "Dataset"
            else ()
        )
        parts[document.address] = document.spec.parts(document, Inputs(files, (), parts))
    return Desired(ordered, parts, {address: one for one in tombstones for address in one.spec.addresses})  # type: ignore[attr-defined]


def full(document: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {name: document[name] for name in ("name", "labels") if name in document}
    body = {"apiVersion": API_VERSION, "kind": document["kind"], "metadata": metadata}
    return body | {name: document[name] for name in ("spec", "lifecycle") if name in document}


def content(*, md5: str, size: int = 100, path: str = "", share: str = "", **facts: Any) -> Content:
    name = path or f"{share}.jsonl"
    return Content(name, (name,), size, md5, share=Share(share, 0.2, 7) if share else None, **facts)  # type: ignore[arg-type]


def recorded(
    documents: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]], contents: Any, role: Role, suffix: str
) -> Iterator[Owned]:
    """One row for each part of these documents, as the apply that made it would have left it."""
    ours = {f"{document['kind']}/{document['name']}" for document in documents}
    beside = [document for document in others if f"{document['kind']}/{document['name']}" not in ours]
    desired = declared([*documents, *beside], contents)
    for document in desired.documents:
        for part in desired.parts[document.address] if document.address in ours else ():
            assert isinstance(document.spec, Resource)
            made = remote_id(part.slot) + suffix
            yield Owned(
                slot=part.slot,
                collection=part.collection or document.spec.collection,
                id=made,
                role=role,
                generation="g",
                last_applied={name: as_recorded(value) for name, value in part.fields.items()},
                outputs=outputs(made),
                uses=tuple(sorted({key_of(known.slot) for known in references_of(part)})),
                deletion=document.lifecycle.deletion_policy or "",
                base=part.base,
            )


def history(owned: Iterable[Owned], runs: Mapping[str, list[str]]) -> Iterator[Owned]:
    """Superseded runs of the jobs in use, the oldest first, each named; `!` before a name is one that failed."""
    current = {row.id: row for row in owned if row.role is Role.CURRENT}
    for name, made in runs.items():
        for day, run in enumerate(made, start=1):
            remote, failure = run.removeprefix("!"), "FAILED" if run.startswith("!") else ""
            facts = {"id": remote, "outputs": outputs(remote), "applied_at": f"2026-01-{day:02} 00:00:00"}
            yield replace(current[name], role=Role.RETIRED, failure=failure, **facts)  # type: ignore[arg-type]


def remote_id(slot: Slot) -> str:
    """`j` for FineTuneJob/j, `d-train` for Dataset/d:train."""
    return re.sub(r"[^\w.]+", "-", str(slot).partition("/")[2])


def key_of(slot: Slot) -> str:
    collection = {"Dataset": "files", "FineTuneJob": "jobs", "Deployment": "checkpoints"}[
        slot.address.partition("/")[0]
    ]
    return f"{collection}/{remote_id(slot)}"


def outputs(made: str) -> dict[str, str]:
    return {"id": made, "model": f"{made}-model", "modified": "2026-01-01", "read": "2026-01-02", "job": made}


def as_recorded(value: Any) -> Any:
    if isinstance(value, Known):
        return value.digest or outputs(remote_id(value.slot))[value.output]
    return [as_recorded(item) for item in value] if isinstance(value, tuple | list) else value


def amended(rows: Mapping[str, Owned], changes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Owned]]:
    assert changes.keys() <= rows.keys(), "a row that does not exist"
    for key, row in rows.items():
        facts = dict(changes.get(key, {}))
        if "last_applied" in facts:
            facts["last_applied"] = {**row.last_applied, **facts["last_applied"]}
        yield key, replace(row, **facts)


def shown(rows: Iterable[Owned], changes: Mapping[str, Any], profile: str) -> dict[str, dict[str, Observed]]:
    """What the lists of the service show of these rows, in its own JSON, with the changes of the case."""
    readers = collections(catalogue.load().for_profile(profile))
    items: dict[str, dict[str, Any]] = {row.key: as_shown(row) for row in rows}
    for key, change in changes.items():
        items[key] = {} if change == "gone" else {**items.get(key, named(key)), **change}
    found: dict[str, dict[str, Observed]] = {}
    for key, item in items.items():
        collection, _, id_ = key.partition("/")
        if item:
            found.setdefault(collection, {})[id_] = readers[collection].parse(item)
    return found


ID_MEMBER = {
    "files": "file_id",
    "jobs": "job_id",
    "deployments": "deployed_model",
    "vocabularies": "vocabulary_id",
    "phrases": "finetuned_output",
}


def named(key: str) -> dict[str, Any]:
    collection, _, id_ = key.partition("/")
    if collection == "checkpoints":  # its id is made of two members
        job, _, checkpoint = id_.partition(":")
        return {"job_id": job, "checkpoint": checkpoint}
    return {ID_MEMBER[collection]: id_}


def as_shown(row: Owned) -> dict[str, Any]:
    """A row as its list shows it when all is well: what the service keeps to itself is missing here too."""
    made, fields = row.id, row.last_applied
    match row.collection:
        case "files":
            md5, _, size = fields["source"].partition("-")
            return {"file_id": made, "md5": md5, "size": int(size), "gmt_create": "2026-01-01 00:00:00"}
        case "jobs":
            body = {"model": fields["model"], "training_type": fields["trainingType"]}
            hyper = {"hyper_parameters": fields.get("hyperParameters", {})}
            return {"job_id": made, "status": "SUCCEEDED", "finetuned_output": f"{made}-model", **body, **hyper}
        case "checkpoints":
            job, name = fields["job"], fields["checkpoint"]
            return {"job_id": job, "checkpoint": name, "status": "SUCCEEDED", "model_name": f"{made}-model"}
        case "deployments":
            capacity = fields.get("capacity", 1)
            units = {"capacity": capacity, "ready_capacity": capacity, "model_unit_spec": fields.get("deploySpec")}
            body = {"model_name": fields["model"], "base_model": row.base, "plan": fields.get("plan")}
            return {"deployed_model": made, "status": "RUNNING", **body, **units}
        case "vocabularies":
            return {"vocabulary_id": made, "status": "OK", "gmt_modified": "2026-01-01"}
        case _:
            return {"finetuned_output": made, "model": fields["targetModel"], "job_id": made}


def unresolved(number: int, slot: str, facts: Mapping[str, Any]) -> Intent:
    address, _, part = slot.partition(":")
    body = {"generation": "g", "tag": "abcdefgh", "attempt": 0, "epoch": 1, "at": "2026-01-01 00:00:00", "fields": {}}
    return Intent(op_id=f"op-{number}", slot=Slot(address, part), **{"verb": "create", **body, **facts})


def choices(given: Mapping[str, Any]) -> Choices:
    pairs = frozenset(tuple(pair.split("=")) for pair in given.get("allow", ()))
    flags = {name: given[name] for name in given if name not in ("allow", "replace", "target", "exclude", "labels")}
    labels = terms(given["labels"]) if "labels" in given else ()
    selectors = Selectors(tuple(given.get("target", ())), tuple(given.get("exclude", ())), labels)
    wanted = frozenset(given.get("replace", ()))
    return Choices(**flags, allow=pairs, replace=wanted, selectors=selectors)  # type: ignore[arg-type]


# Laws that hold for every case --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_plan_can_be_followed_from_top_to_bottom(name: str) -> None:
    """Each operation has its own name, and what it waits for is planned above it."""
    above: set[str] = set()
    for op in planned(CASES[name]).operations:
        assert op.id not in above
        assert set(op.after) <= above, op.id
        above.add(op.id)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_documents_does_not_matter(name: str) -> None:
    """An author sorts their files as they like."""
    case, shuffled = CASES[name], random.Random(name)
    expected = planned(case)
    for _ in range(3):
        mixed = {key: case[key] for key in case}
        for key in ("applied", "manifests", "next", "retired"):
            if key in case:
                mixed[key] = shuffled.sample(case[key], len(case[key]))
        assert [line(op) for op in planned(mixed).operations] == [line(op) for op in expected.operations]
        assert planned(mixed).fingerprint == expected.fingerprint


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_ours_is_touched(name: str) -> None:
    """What is adopted is only recorded: nothing is sent about it."""
    here = scene(CASES[name])
    for op in here.plan().operations:
        if op.verb is Verb.ADOPT:
            assert op.request is None
            assert f"{op.collection}/{op.target_id}" not in here.state.owned
        elif op.target_id:
            assert f"{op.collection}/{op.target_id}" in here.state.owned


@pytest.mark.parametrize("name", CASES)
def test_what_is_in_use_is_let_go_only_after_its_users(name: str) -> None:
    """Deletion is creation in reverse, and whoever stays keeps what it was made from."""
    here = scene(CASES[name])
    operations = here.plan().operations
    ends = {f"{op.collection}/{op.target_id}": op for op in operations if op.verb in (Verb.DELETE, Verb.FORGET)}
    for key in ends:
        for user in here.state.users(key):
            settled = {op.id for op in operations if op.slot == user.slot and op.verb in (Verb.CREATE, Verb.WAIT)}
            settled -= {op.id for op in operations if op.verb is Verb.WAIT and op.target_id == user.id}
            settled |= {ends[user.key].id} if user.key in ends else set()
            assert settled & set(ends[key].after), f"{key} goes although {user.key} uses it"


@pytest.mark.parametrize("name", CASES)
def test_money_is_never_negative(name: str) -> None:
    """A rate below nothing means that something was counted out that was never counted in."""
    totals = planned(CASES[name]).totals
    assert all(amount is None or amount >= 0 for amount in (totals.once, totals.hour_before, totals.hour_after))


@pytest.mark.parametrize("name", CASES)
def test_a_blocked_slot_says_what_it_comes_to(name: str) -> None:
    for op in planned(CASES[name]).blocked:
        assert op.code
        assert op.why


UNWRITTEN = ("creator", "workspace_id", "charge_type", "enable_thinking", "max_context_length", "x")


@given(
    st.sampled_from(sorted(CASES)),
    st.dictionaries(st.sampled_from(UNWRITTEN), st.integers(1, 9) | st.text(max_size=5) | st.booleans()),
)
def test_what_the_author_did_not_write_never_differs(name: str, extra: dict[str, Any]) -> None:
    """The service fills in what it likes, and may add members tomorrow; none of these is in any case's manifests."""
    case = CASES[name]
    here = scene(case)
    everything = {key: {**extra, **as_shown(row)} for key, row in here.state.owned.items()}
    observed = dict(case.get("observed", {}))
    for key in everything:
        if observed.get(key) != "gone":
            observed[key] = {**extra, **observed.get(key, {})}
    assert [line(op) for op in planned({**case, "observed": observed}).operations] == case["plan"]


def test_another_plan_has_another_fingerprint() -> None:
    """An approval names exactly these operations; cases that come to the same lines are the same plan."""
    seen: dict[str, list[Any]] = {}
    for case in CASES.values():
        plan = planned(case)
        facts = [[op.id, op.action, op.target_id, op.after, dict(op.fields)] for op in plan.operations]
        assert seen.setdefault(plan.fingerprint, facts) == facts


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """A saved plan is compared by another run of the program."""
    assert planned(CASES["chain-1"]).fingerprint == ("8559e9bb14879d2cb9efd92b5c0b9ae1fd357dacd765333abdacc16ccb5089ba")


def test_an_update_records_no_more_than_it_sent() -> None:
    """With the first of two requests the second is not done yet; an ignored field is never done."""
    spec = {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
    after = {**spec, "model": "qwen3-32b", "capacity": 8, "limits": {"rpm": 10}}
    ignoring = {"lifecycle": {"ignore": ["model"]}, "spec": after}
    p = {"kind": "Deployment", "name": "p"}
    first, second = planned({"applied": [{**p, "spec": spec}], "manifests": [{**p, **ignoring}]}).operations
    assert first.request is not None
    assert (first.request.operation, first.fields) == ("deployments.scale", {})
    assert second.request is not None
    assert (second.request.operation, second.fields) == ("deployments.update", {"capacity": 8, "limits": {"rpm": 10}})


def test_a_reference_that_is_ignored_stays_a_reference() -> None:
    """What is recorded of it is its content, which no request could name; and what is made from what must be known."""
    job = {"model": "qwen3-8b", "trainingType": "efficient_sft", "training": ["d"], "hyperParameters": {"n_epochs": 3}}
    dataset = {"kind": "Dataset", "name": "d", "spec": {"source": "d.jsonl", "format": "sft"}}
    before = {"kind": "FineTuneJob", "name": "j", "spec": job}
    after = {**before, "spec": {**job, "hyperParameters": {"n_epochs": 4}}, "lifecycle": {"ignore": ["training"]}}
    plan = planned(
        {
            "contents": {"d": [{"path": "d.jsonl", "md5": "dd"}]},
            "applied": [dataset, before],
            "manifests": [dataset, after],
        }
    )
    (run,) = [op for op in plan.operations if op.action is Action.RUN]
    assert run.part is not None
    assert [known.slot for known in references_of(run.part)] == [Slot("Dataset/d", "d.jsonl")]
