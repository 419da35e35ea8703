"""A whole project: what it comes to, and every mistake of every file at once."""

import cProfile
import gc
import json
import os
import pstats
import random
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from reconciler import project as module
from reconciler import yamltext
from reconciler.cache import Cache
from reconciler.errors import ManifestError
from reconciler.kinds import RESOURCES
from reconciler.project import Project, load
from reconciler.resource import API_VERSION, Known, Slot

API = "apiVersion: bailian.reconciler/v1alpha1\n"
STACK = API + 'kind: Stack\nmetadata: {name: care}\nspec: {endpoint: emulator, profile: "2026"}\n'
DATASET = (
    API
    + """kind: Dataset
metadata: {name: chat}
spec: {source: data/chat.jsonl, format: sft, split: {validation: 0.2, seed: 7}, lint: {minRows: 1}}
"""
)
JOB = (
    API
    + """kind: FineTuneJob
metadata: {name: support}
spec:
  model: qwen3.5-9b
  trainingType: efficient_sft
  training: [chat]
  hyperParameters: {n_epochs: 3, batch_size: 16, max_length: 2048, learning_rate: 1e-4}
"""
)
DEPLOYMENT = (
    API
    + """kind: Deployment
metadata: {name: prod}
spec: {model: {fineTuneJob: support}, plan: mu, deploySpec: MU1, capacity: 4}
"""
)
WORDS = (
    API + "kind: HotwordTable\nmetadata: {name: meds}\nspec: {targetModel: paraformer-v2, wordsFrom: words/meds.yaml}\n"
)
SAMPLES = Path(__file__).parent.parent / "manifests"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of five documents, its folder being the current one."""
    rows = (
        {"messages": [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "a"}]}
        for number in range(100)
    )
    write(tmp_path / "data/chat.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "words/meds.yaml", "- {text: 厄洛替尼, weight: 4, lang: zh}\n")
    for name, text in {"stack": STACK, "chat": DATASET + "---\n" + JOB, "prod": DEPLOYMENT, "words": WORDS}.items():
        write(tmp_path / f"{name}.yaml", text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def problems(*paths: str, stdin: bytes | None = None) -> list[str]:
    with pytest.raises(ManifestError) as failed:
        load(paths or ["."], stdin=stdin)
    return [str(problem) for problem in failed.value.problems]


def test_a_project_is_its_documents_in_order_with_their_parts(folder: Path) -> None:
    project = load(["."])
    assert (project.name, project.root, project.profile.profile) == ("care", Path("."), "2026")
    assert [document.address for document in project.documents] == [
        "Dataset/chat",
        "HotwordTable/meds",
        "FineTuneJob/support",
        "Deployment/prod",
    ]
    assert [part.slot.part for part in project.parts["Dataset/chat"]] == ["train", "validation"]
    assert project.parts["HotwordTable/meds"][0].fields["words"] == {"厄洛替尼": {"weight": 4, "lang": "zh"}}
    assert project.parts["Deployment/prod"][0].fields["model"] == Known(Slot("FineTuneJob/support"), "model")
    assert project.parts["Deployment/prod"][0].base == "qwen3.5-9b"
    assert project.warnings == ()


def test_neither_the_order_of_documents_nor_their_files_mean_anything(folder: Path) -> None:
    def facts(project: Project) -> object:
        return [
            (document.address, document.spec, [(part.slot, part.fields) for part in project.parts[document.address]])
            for document in project.documents
        ]

    expected = facts(load(["."]))
    documents = [STACK, DATASET, JOB, DEPLOYMENT, WORDS]
    for name in ("stack", "chat", "prod", "words"):
        (folder / f"{name}.yaml").unlink()
    for seed in range(3):
        random.Random(seed).shuffle(documents)
        write(folder / "all.yaml", "---\n".join(documents))
        assert facts(load(["all.yaml"])) == expected


def test_every_mistake_of_every_step_comes_at_once(folder: Path) -> None:
    write(
        folder / "prod.yaml",
        DEPLOYMENT.replace("capacity: 4", "capacity: 4.0")
        + "---\n"
        + DEPLOYMENT.replace("prod", "test").replace("support", "suport"),
    )
    write(folder / "chat.yaml", DATASET + "---\n" + JOB.replace("qwen3.5-9b", "qwen3.5-9x"))
    write(folder / "data/chat.jsonl", '{"messages": []}\n')
    write(folder / "words/meds.yaml", "- {text: a, weight: x}\n")
    said = problems()
    for start in (
        "chat.yaml:10:10  FineTuneJob/support: ",
        "data/chat.jsonl:1:14  messages must be",
        "prod.yaml:4:76  spec.capacity must be a whole number",
        "prod.yaml:9:29  Deployment/test names FineTuneJob/suport, which no manifest declares (did you mean support?)",
        "words/meds.yaml:1:13  weight must be a whole number",
    ):
        assert any(problem.startswith(start) for problem in said), (start, said)


def test_what_refers_to_a_broken_document_is_not_told_to_dangle(folder: Path) -> None:
    write(folder / "chat.yaml", DATASET + "---\n" + JOB.replace("model:", "modl:"))
    assert [problem.partition(":")[0] for problem in problems()] == ["chat.yaml", "chat.yaml"]
    write(folder / "chat.yaml", DATASET + "---\n" + JOB + "  x: [")
    assert all(problem.startswith("chat.yaml") for problem in problems())


def test_without_a_stack_the_folder_is_the_root_and_the_name_is_default(folder: Path) -> None:
    (folder / "stack.yaml").unlink()
    project = load([str(folder)])
    assert (project.stack, project.name, project.root) == (None, "default", folder)
    os.chdir("/")
    assert load([str(folder / name) for name in ("chat.yaml", "prod.yaml")]).root == folder


def test_the_folder_of_the_stack_is_the_root_and_all_else_lies_below_it(folder: Path) -> None:
    write(folder / "inner/stack.yaml", STACK)
    (folder / "stack.yaml").unlink()
    said = problems()
    assert next(problem for problem in said if "outside the project root 'inner'" in problem).startswith(
        "chat.yaml:1:1"
    )


def test_two_stacks_are_refused_with_both_places(folder: Path) -> None:
    write(folder / "b/stack.yaml", STACK.replace("care", "other"))
    assert any("a second Stack (there is one at" in problem for problem in problems())


def test_what_is_removed_and_declared_is_named_with_both_places(folder: Path) -> None:
    tombstone = (
        "kind: Removed\nmetadata: {name: old}\nspec: {addresses: [FineTuneJob/support, Deployment/gone, Box/b]}\n"
    )
    write(folder / "old.yaml", f"apiVersion: {API_VERSION}\n{tombstone}")
    said = problems()
    assert any(
        one.startswith("old.yaml:4:20  FineTuneJob/support is removed here and declared as well") for one in said
    )
    assert any(one.startswith("old.yaml:4:58  'Box/b': there is no kind 'Box'") for one in said)
    assert len(said) == 2


def test_a_tombstone_is_part_of_a_project(folder: Path) -> None:
    tombstone = "kind: Removed\nmetadata: {name: old}\nspec: {addresses: [Deployment/gone]}\n"
    write(folder / "old.yaml", f"apiVersion: {API_VERSION}\n{tombstone}")
    project = load([str(folder)])
    assert list(project.removed) == ["Deployment/gone"]
    assert "Removed/old" not in [document.address for document in project.documents]


def test_a_broken_stack_makes_no_other_document_look_wrong(folder: Path) -> None:
    """Its profile is unknown then, and checking the others by the default one would invent mistakes."""
    write(folder / "stack.yaml", STACK.replace('"2026"', "dec-2024").replace("emulator", "emulater"))
    assert [problem.partition(":")[0] for problem in problems()] == ["stack.yaml"]


def test_nothing_declared_is_an_error_because_it_must_never_mean_delete_everything(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert "holds no manifest" in problems("empty")[0]
    write(folder / "empty/a.yaml", "# nothing\n---\n")
    assert "no document in any of the manifests" in problems("empty")[0]
    assert "there is no such file" in problems("none.yaml")[0]


def test_standard_input_is_a_manifest_of_the_current_folder(folder: Path) -> None:
    for name in ("stack", "chat", "prod", "words"):
        (folder / f"{name}.yaml").unlink()
    project = load(["-"], stdin="---\n".join([STACK, DATASET, JOB]).encode())
    assert [document.address for document in project.documents] == ["Dataset/chat", "FineTuneJob/support"]
    assert problems("-", stdin=STACK.replace("care", "Care").encode())[0].startswith("<stdin>:3:18")
    assert problems("-")


def test_a_file_named_twice_is_read_once(folder: Path) -> None:
    assert load([".", "prod.yaml", "./prod.yaml", str(folder)]).documents


def test_yaml_that_is_no_manifest_is_an_error_unless_a_table_names_it(folder: Path) -> None:
    write(folder / "words/other.yaml", "- {text: a, weight: 1}\n")
    assert problems()[0].startswith("words/other.yaml:1:1  a document must be a mapping")


def test_a_table_that_names_a_manifest_as_its_words_does_not_make_it_vanish(folder: Path) -> None:
    write(folder / "words.yaml", WORDS.replace("words/meds.yaml", "prod.yaml"))
    assert any("a file of words is one list" in problem for problem in problems())


def test_overlays_are_not_read(folder: Path) -> None:
    write(folder / "envs/prod/prod.yaml", "not: ours")
    assert load(["."])


def test_a_link_is_refused_as_manifest_and_as_data(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_text("key: value")
    (folder / "link.yaml").symlink_to(outside)
    (folder / "data/chat.jsonl").unlink()
    (folder / "data/chat.jsonl").symlink_to(outside)
    said = problems()
    assert len(said) == 2
    assert all("link" in problem and "value" not in problem for problem in said)


def test_a_warning_does_not_stop_anything(folder: Path) -> None:
    write(folder / "prod.yaml", DEPLOYMENT.replace("capacity: 4", "capacity: 5"))
    warnings = load(["."]).warnings
    assert [str(warning.at) for warning in warnings] == ["prod.yaml:4:76"]


def test_a_cycle_is_named_and_nothing_else_breaks(folder: Path) -> None:
    loop = (
        JOB.replace("qwen3.5-9b", "{fineTuneJob: b}").replace("support", "a")
        + "---\n"
        + JOB.replace("qwen3.5-9b", "{fineTuneJob: a}").replace("support", "b")
    )
    write(folder / "loop.yaml", loop)
    assert any("a cycle: FineTuneJob/a -> FineTuneJob/b -> FineTuneJob/a" in problem for problem in problems())


def outlines(folder: Path) -> list[Project]:
    """What is told of a project before its documents are looked at, whatever becomes of them."""
    told: list[Project] = []
    with suppress(ManifestError):
        load([str(folder)], known=told.append)
    return told


def test_whose_project_it_is_is_told_before_its_documents_are_looked_at(folder: Path) -> None:
    """So that its service can be asked meanwhile. A mistake in another document is no reason not to."""
    write(folder / "prod.yaml", DEPLOYMENT.replace("capacity: 4", "capacity: many"))
    (outline,) = outlines(folder)
    write(folder / "prod.yaml", DEPLOYMENT)
    whole = load([str(folder)])
    assert outline.documents == ()
    about = [(one.root, one.stack, one.name, one.profile, one.environment, one.home) for one in (outline, whole)]
    assert about[0] == about[1]


@pytest.mark.parametrize(
    "stack",
    ["", STACK.replace("kind: Stack", "kind: Stack\nspecs: {}"), STACK + "---\n" + STACK],
    ids=["none", "wrong", "two"],
)
def test_where_nobody_can_say_whose_project_it_is_nobody_is_told(folder: Path, stack: str) -> None:
    write(folder / "stack.yaml", stack)
    assert outlines(folder) == []


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.iterdir() if path.is_dir()))
def test_the_samples_are_sound(sample: str, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / sample, tmp_path / sample)
    project = load([str(tmp_path / sample)])
    assert {document.kind for document in project.documents} == set(RESOURCES)
    assert project.warnings == ()


def test_a_thousand_documents_take_no_quadratic_time(folder: Path) -> None:
    """Ten times the documents may take some ten times the work, counted here in calls and not in seconds."""

    def calls(count: int) -> int:
        jobs = "---\n".join(DEPLOYMENT.replace("prod", f"d{number}") for number in range(count))
        write(folder / "many.yaml", jobs)
        profile = cProfile.Profile()
        profile.runcall(load, ["."])
        return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]

    few, many = calls(50), calls(500)
    assert many < 12 * few


CATALOGUE_STACK = """
apiVersion: bailian.reconciler/v1alpha1
kind: Stack
metadata: {name: s}
spec: {catalogue: prices.yaml}
---
apiVersion: bailian.reconciler/v1alpha1
kind: Deployment
metadata: {name: d}
spec: {model: qwen3-8b, plan: mu, deploySpec: MU1, capacity: 4}
"""


def test_a_stack_lays_its_own_models_and_prices_over_the_catalogue(tmp_path: Path) -> None:
    """A price list of one's own, or a model newer than this package: declared once, used by every check and plan."""
    (tmp_path / "stack.yaml").write_text(CATALOGUE_STACK, encoding="utf-8")
    (tmp_path / "prices.yaml").write_text(
        'model_units: {MU1: {hour: 12.5}}\nmodels: [{code: qwen3-8b, profiles: {"2026": {training_price: 0.5}}}]\n',
        "utf-8",
    )
    project = load([str(tmp_path)])
    assert project.profile.training_price("qwen3-8b") == Decimal("0.5")
    assert project.profile.hourly_price("qwen3-8b", plan="mu", deploy_spec="MU1", capacity=4) == 50


def test_a_wrong_catalogue_is_a_mistake_of_the_stack(tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(CATALOGUE_STACK, encoding="utf-8")
    (tmp_path / "prices.yaml").write_text("modles: []\n", "utf-8")
    with pytest.raises(ManifestError) as refused:
        load([str(tmp_path)])
    assert any("modles" in problem.what and "models" in problem.what for problem in refused.value.problems)


# A job and its data -------------------------------------------------------------------------------------------------


def chats(numbers: Iterable[int]) -> str:
    said = ([{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "a"}] for number in numbers)
    return "".join(json.dumps({"messages": messages}) + "\n" for messages in said)


def with_second_dataset(folder: Path, rows: str, change: Callable[[str], str]) -> None:
    write(folder / "data/other.jsonl", rows)
    other = (
        API
        + """kind: Dataset
metadata: {name: other}
spec: {source: data/other.jsonl, format: sft, lint: {minRows: 1}}
"""
    )
    write(folder / "chat.yaml", "---\n".join([DATASET, other, change(JOB)]))


def test_a_batch_needs_more_rows_than_it_takes(folder: Path) -> None:
    """Of exactly one batch the pages say two things (contract §2.8); rows of all files of a Dataset count together."""
    write(folder / "data/part/a.jsonl", chats(range(8)))
    whole = DATASET.replace("data/chat.jsonl", "data/part/*.jsonl").replace("split: {validation: 0.2, seed: 7}, ", "")
    write(folder / "chat.yaml", whole + "---\n" + JOB)
    write(folder / "data/part/b.jsonl", chats(range(8, 15)))
    assert [problem.partition("  ")[2] for problem in problems()] == [
        "FineTuneJob/support: 15 rows are fewer than one batch of 16: the job would fail (lower it)"
    ]
    write(folder / "data/part/b.jsonl", chats(range(8, 16)))
    assert ["16 rows are only one batch of 16" in warning.what for warning in load(["."]).warnings] == [True]
    write(folder / "data/part/b.jsonl", chats(range(8, 17)))
    assert load(["."]).warnings == ()


def test_rows_both_trained_and_validated_on_are_a_warning(folder: Path) -> None:
    """The shares of one split are no such pair, whatever the rows."""
    assert load(["."]).warnings == ()
    with_second_dataset(folder, chats(range(3)), lambda job: job.replace("spec:", "spec:\n  validation: [other]", 1))
    (warning,) = load(["."]).warnings
    assert warning.what.startswith("FineTuneJob/support: ")
    assert "rows of Dataset/other:data/other.jsonl are also trained on" in warning.what
    with_second_dataset(
        folder, chats(range(100, 103)), lambda job: job.replace("spec:", "spec:\n  validation: [other]", 1)
    )
    assert load(["."]).warnings == ()


def test_a_second_dataset_may_hold_what_the_first_one_validates_on(folder: Path) -> None:
    with_second_dataset(
        folder, chats(range(400)), lambda job: job.replace("training: [chat]", "training: [chat, other]")
    )
    (warning,) = load(["."]).warnings
    assert "Dataset/chat:validation are also trained on" in warning.what


# Read again ---------------------------------------------------------------------------------------------------------


class Parsed:
    """Counts how many documents were made from YAML."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        true = yamltext._piece

        def noted(text: str) -> yamltext.Piece | None:
            self.count += 1
            return true(text)

        monkeypatch.setattr(yamltext, "_piece", noted)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    return Parsed(monkeypatch)


MANY = 200
TABLES = 2  # the list of words is no mapping, and is read as what may be a manifest and as a table
KEPT = ".reconciler/cache/manifests"


@pytest.fixture
def many(folder: Path) -> Path:
    """A project of so many documents that it is worth to remember them, with an environment."""
    deployments = [DEPLOYMENT.replace("prod", f"d{number}") for number in range(MANY)]
    write(folder / "many.yaml", "---\n".join(deployments))
    write(folder / "envs/test/over.yaml", "kind: Deployment\nmetadata: {name: d3}\nspec: {capacity: 8}\n")
    return folder


def everything(project: Project) -> object:
    """With the place of every value of every document."""
    return (
        project,
        project.warnings,
        [dict(document.at) for document in project.documents],
        [{part.slot: dict(part.at) for part in parts} for parts in project.parts.values()],
    )


@pytest.mark.parametrize("environment", ["", "test"])
def test_what_was_read_before_is_the_same_again(many: Path, parsed: Parsed, environment: str) -> None:
    cold = everything(load(["."], environment=environment))
    assert parsed.count > MANY
    parsed.count = 0
    assert everything(load(["."], environment=environment)) == cold
    assert parsed.count == TABLES


def test_a_second_look_writes_nothing(many: Path) -> None:
    old = partial(Cache, clock=lambda: 1 << 62)
    load(["."], cache=old)
    before = {path: path.stat().st_mtime_ns for path in many.rglob("*")}
    load(["."], cache=old)
    assert {path: path.stat().st_mtime_ns for path in many.rglob("*")} == before


def test_only_the_document_that_changed_is_read_again(many: Path, parsed: Parsed) -> None:
    """Wherever the others have moved to."""
    load(["."])
    parsed.count, text = 0, (many / "many.yaml").read_text()
    first, rest = text.split("---\n", 1)
    write(many / "many.yaml", first + "---\n# a note\n---\n" + rest.replace("{name: d7}", "{name: other}"))
    project = load(["."])
    assert parsed.count == TABLES + 2  # the note says nothing, and is read again each time
    last, other = (one for one in project.documents if one.metadata.name in ("other", "d199"))
    assert (other.position("spec", "capacity").line, last.position("spec", "capacity").line) == (41, 2 + 5 * 199 + 4)


def test_mistakes_are_the_same_again_and_at_their_places(many: Path) -> None:
    write(many / "wrong.yaml", "---\n".join([DEPLOYMENT.replace("mu", "nu"), DEPLOYMENT.replace("prod", "d5")]))
    said = problems()
    assert [one.partition(" ")[0] for one in said] == ["wrong.yaml:4:45", "wrong.yaml:8:18"]
    assert (many / KEPT).exists()
    assert problems() == said


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"MU1", b"MU8")),
        lambda path: path.write_bytes(b""),
        lambda path: path.chmod(0o666),
    ],
    ids=["truncated", "changed", "empty", "open to all"],
)
def test_a_memory_that_others_may_have_touched_is_not_believed(
    many: Path, parsed: Parsed, spoil: Callable[[Path], None]
) -> None:
    cold = everything(load(["."]))
    spoil(many / KEPT)
    parsed.count = 0
    assert everything(load(["."])) == cold
    assert parsed.count > MANY


def test_a_few_documents_are_not_worth_a_memory(folder: Path) -> None:
    load(["."])
    assert not (folder / KEPT).exists()


def test_a_memory_does_not_grow_with_every_edit(many: Path) -> None:
    text = (many / "many.yaml").read_text()
    for number in range(4):
        write(many / "many.yaml", text.replace("capacity: 4", f"capacity: {4 * number + 4}"))
        load(["."])
    assert len(Cache(many).pieces) <= 2 * (MANY + 10)


def test_what_is_recorded_elsewhere_is_remembered_there(many: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As a controller does, whose checkouts come and go."""
    records = tmp_path_factory.mktemp("records")
    load(["."], records=records)
    assert (records / KEPT).exists()
    assert not (many / ".reconciler").exists()


def test_a_slow_yaml_is_told_of_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IS_FAST", False)
    assert ["libyaml" in warning.what for warning in load(["."]).warnings] == [True]


def test_the_garbage_collector_is_left_as_it_was(folder: Path) -> None:
    assert gc.isenabled()
    load(["."])
    with pytest.raises(ManifestError):
        load(["none.yaml"])
    assert gc.isenabled()
