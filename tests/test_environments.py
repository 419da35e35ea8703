"""Overlays of an environment: what they come to, where their mistakes are, which state and which objects are theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from reconciler import engine
from reconciler.api import Key
from reconciler.apply import Terms
from reconciler.engine import Applied
from reconciler.errors import ManifestError, Problem, StateMismatch, UsageError
from reconciler.plan import Choices
from reconciler.project import Project, described, load
from reconciler.resource import Document
from reconciler.state import Stamp
from tests.desk import KEY, Desk, document, sft

STACK = """\
apiVersion: bailian.reconciler/v1alpha1
kind: Stack
metadata: {name: care}
spec: {endpoint: emulator, profile: "2026", budget: {onceCny: 5}}
"""
PROD = """\
apiVersion: bailian.reconciler/v1alpha1
kind: Deployment
metadata: {name: prod, labels: {team: care}}
spec:
  model: qwen3.5-9b
  plan: mu
  deploySpec: MU1
  capacity: 4
  smoke: [{prompt: Hello?}, {prompt: Well?}]
"""
WORDS = """\
apiVersion: bailian.reconciler/v1alpha1
kind: HotwordTable
metadata: {name: meds}
spec: {targetModel: paraformer-v2, wordsFrom: words/meds.yaml}
"""
LIST = "- {text: 厄洛替尼, weight: 4, lang: zh}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack and a deployment, its folder being the current one; `envs/prod` changes the capacity."""
    write(tmp_path / "stack.yaml", STACK)
    write(tmp_path / "prod.yaml", PROD)
    write(tmp_path / "envs/prod/prod.yaml", "kind: Deployment\nmetadata: {name: prod}\nspec:\n  capacity: 8\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def overlay(folder: Path, text: str, name: str = "prod/prod.yaml") -> None:
    write(folder / "envs" / name, text)


def declared(project: Project, address: str) -> Document:
    return next(one for one in project.documents if one.address == address)


def problems(environment: str = "prod", paths: Sequence[str] = (".",)) -> list[str]:
    return [str(problem) for problem in mistakes(environment, paths)]


def mistakes(environment: str, paths: Sequence[str]) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as failed:
        load(paths, environment=environment)
    return failed.value.problems


# What they come to --------------------------------------------------------------------------------------------------


def test_an_overlay_changes_what_it_writes_and_nothing_else(folder: Path) -> None:
    """The base by itself is as if there were no environments."""
    base, prod = load(["."]), load(["."], environment="prod")
    assert (base.environment, prod.environment, prod.name) == ("", "prod", "care")
    below, above = declared(base, "Deployment/prod"), declared(prod, "Deployment/prod")
    assert (below.spec.capacity, above.spec.capacity) == (4, 8)  # type: ignore[attr-defined]
    assert above.spec.model_copy(update={"capacity": 4}) == below.spec
    assert above.metadata == below.metadata


def test_every_value_is_placed_where_it_was_written(folder: Path) -> None:
    """Plans cite these places; a name stays where the base has it."""
    overlay(folder, "kind: Deployment\nmetadata: {name: prod}\nspec:\n  smoke: [{prompt: Ready?}]\n  capacity: 8\n")
    prod = declared(load(["."], environment="prod"), "Deployment/prod")
    assert str(prod.position("spec", "capacity")) == "envs/prod/prod.yaml:5:13"
    assert str(prod.position("spec", "smoke", 0, "prompt")) == "envs/prod/prod.yaml:4:20"
    assert str(prod.position("spec", "smoke", 1, "prompt")) == "envs/prod/prod.yaml:4:3", "of a list that is gone"
    assert str(prod.position("spec", "plan")) == "prod.yaml:6:9"
    assert str(prod.position("metadata", "name")) == "prod.yaml:3:18"


def test_lifecycle_and_metadata_are_laid_over_too(folder: Path) -> None:
    overlay(
        folder,
        "kind: Deployment\nmetadata: {name: prod, labels: {tier: gold}}\nlifecycle: {deletionPolicy: Protect}\n",
    )
    prod = declared(load(["."], environment="prod"), "Deployment/prod")
    assert prod.lifecycle.deletion_policy == "Protect"
    assert prod.metadata.labels == {"team": "care", "tier": "gold"}


def test_a_stack_has_another_budget_and_profile_in_an_environment(folder: Path) -> None:
    """All documents are then held to that profile, and messages about it are placed in the overlay."""
    overlay(folder, 'kind: Stack\nmetadata: {name: care}\nspec: {profile: dec-2024, budget: {hourlyCny: "300.5"}}\n')
    said = problems()
    assert [one.partition("  ")[0] for one in said] == ["envs/prod/prod.yaml:3:47"], "a price is a number"
    overlay(folder, "kind: Stack\nmetadata: {name: care}\nspec: {profile: dec-2024, budget: {hourlyCny: 300.5}}\n")
    assert any("Deployment/prod: " in one and one.startswith("prod.yaml:") for one in problems()), "no plans in 2024"
    overlay(folder, 'kind: Stack\nmetadata: {name: care}\nspec: {profile: "2026", budget: {hourlyCny: 300.5}}\n')
    stack = load(["."], environment="prod").stack
    assert stack is not None
    assert stack.spec.budget.once_cny == 5  # type: ignore[attr-defined]
    assert stack.spec.budget.hourly_cny == Decimal("300.5")  # type: ignore[attr-defined]


def test_a_document_of_an_environment_alone_is_whole_and_only_there(folder: Path) -> None:
    overlay(folder, PROD.replace("name: prod", "name: canary"), "prod/more/canary.yml")
    found = [[one.address for one in load(["."], environment=name).documents] for name in ("", "prod")]
    assert found == [["Deployment/prod"], ["Deployment/canary", "Deployment/prod"]]
    overlay(folder, PROD.replace("name: prod", "name: canary").replace("  plan: mu\n", ""), "prod/more/canary.yml")
    assert any("envs/prod/more/canary.yml" in one and "plan is missing" in one for one in problems())


def test_what_the_base_leaves_to_its_environments_is_missing_without_one(folder: Path) -> None:
    write(folder / "prod.yaml", PROD.replace("  capacity: 4\n", ""))
    assert load(["."], environment="prod")
    assert any("capacity is missing" in one for one in problems(""))


def test_an_environment_may_be_the_base(folder: Path) -> None:
    """One without any file may also be a checkout that went wrong, and would be applied as the base."""
    overlay(folder, "# as the base\n", "staging/staging.yaml")
    assert declared(load(["."], environment="staging"), "Deployment/prod").spec.capacity == 4  # type: ignore[attr-defined]
    (folder / "envs/staging/staging.yaml").unlink()
    assert problems("staging") == [
        "'envs/staging' holds no overlay (where it is to be as the base, write a file with nothing but a comment)"
    ]


def test_the_root_is_that_of_the_base_and_paths_start_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is run, and however the manifests are given."""
    overlay(folder, STACK.replace("care", "other"), "prod/inner/stack.yaml")
    assert problems()[0].startswith("envs/prod/inner/stack.yaml:1:1  a second Stack (there is one at stack.yaml:1:1;")
    (folder / "envs/prod/inner/stack.yaml").unlink()
    monkeypatch.chdir("/")
    project = load([str(folder / "prod.yaml"), str(folder / "stack.yaml")], environment="prod")
    assert project.root == folder
    assert str(declared(project, "Deployment/prod").position("spec", "capacity")).startswith(f"{folder}/envs/prod/")


def test_overlays_are_part_of_what_a_plan_is_bound_to(folder: Path) -> None:
    before = load(["."], environment="prod").manifests
    assert set(before) == {"stack.yaml", "prod.yaml", "envs/prod/prod.yaml"}
    overlay(folder, "kind: Deployment\nmetadata: {name: prod}\nspec:\n  capacity: 12\n")
    after = load(["."], environment="prod").manifests
    assert [name for name in before if before[name] != after[name]] == ["envs/prod/prod.yaml"]


def test_hotwords_and_prices_of_an_environment_are_data(folder: Path) -> None:
    """Also those of the base that no document names any more once the overlay is there."""
    write(folder / "words.yaml", WORDS)
    write(folder / "words/meds.yaml", LIST)
    overlay(folder, LIST.replace("4", "2"), "prod/meds.yaml")
    overlay(folder, "models: []\n", "prod/prices.yaml")
    overlay(
        folder,
        "kind: HotwordTable\nmetadata: {name: meds}\nspec: {wordsFrom: envs/prod/meds.yaml}\n---\n"
        "kind: Stack\nmetadata: {name: care}\nspec: {catalogue: envs/prod/prices.yaml}\n",
    )
    project = load(["."], environment="prod")
    words = project.parts["HotwordTable/meds"][0].fields["words"]
    assert words == {"厄洛替尼": {"weight": 2, "lang": "zh"}}
    assert set(project.manifests) == {"stack.yaml", "prod.yaml", "words.yaml", "envs/prod/prod.yaml"}


def test_the_data_of_a_dataset_are_those_of_its_environment(folder: Path) -> None:
    rows = [json.dumps(sft(f"q{number}")) for number in range(20)]
    write(folder / "data/all.jsonl", "\n".join(rows))
    write(folder / "data/few.jsonl", "\n".join(rows[:5]))
    data = document("Dataset", "chat", {"source": "data/few.jsonl", "format": "sft", "lint": {"minRows": 1}})
    write(folder / "chat.yaml", yaml.safe_dump(data))
    overlay(folder, "kind: Dataset\nmetadata: {name: chat}\nspec: {source: data/all.jsonl}\n", "prod/chat.yaml")
    counts = [described(["."], environment=name)["Dataset/chat"]().contents[0].rows for name in ("", "prod")]
    assert counts == [5, 20]


# Mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spec:\n  capacity: 8.0\n", "4:13  spec.capacity must be a whole number"),
        ("spec:\n  capcity: 8\n", "4:3  unknown field 'capcity' (did you mean capacity?)"),
        ("spec:\n  smoke: Hello?\n", "4:10  spec.smoke must be a list, not a text"),
        ("spec: 4\n", "3:7  spec must be a mapping, not a number"),
        ("spec:\n  capacity: ~\n", "4:13  no value (an overlay can replace a field and never remove it: leave the fi"),
        ("lifecycle: {ignore: [capcity]}\n", "3:22  lifecycle.ignore names 'capcity', which is no field (did you mea"),
        ("apiVersion: v2\nspec: {}\n", "3:13  an apiVersion that is not ours"),
        ("status: {}\n", "3:1  unknown field 'status'"),
        ("spec: [\n", "4:1  not YAML"),
    ],
)
def test_a_mistake_in_an_overlay_is_told_at_its_place(folder: Path, text: str, said: str) -> None:
    overlay(folder, "kind: Deployment\nmetadata: {name: prod}\n" + text)
    (found,) = problems()
    assert found.startswith(f"envs/prod/prod.yaml:{said}")


def test_mistakes_of_base_and_overlay_come_at_once(folder: Path) -> None:
    write(folder / "prod.yaml", PROD.replace("plan: mu", "plan: mo"))
    overlay(folder, "kind: Deployment\nmetadata: {name: prod}\nspec: {capacity: no}\n")
    assert [one.partition("  ")[0] for one in problems()] == ["envs/prod/prod.yaml:3:18", "prod.yaml:6:9"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "kind: Deployment\nmetadata: {name: prd}\nspec: {capacity: 8}\n",
            "2:18  an overlay for 'Deployment/prd', which no manifest declares (did you mean Deployment/prod?)",
        ),
        (
            "kind: Dataset\nmetadata: {name: rows}\n",
            "2:18  an overlay for 'Dataset/rows', which no manifest declares (to declare it here, begin with apiVer",
        ),
        (
            "kind: Deployment\nspec: {capacity: 8}\n",
            "1:1  an overlay says by kind and metadata.name what it is laid ov",
        ),
        ("metadata: {name: prod}\n", "1:1  an overlay says by kind and metadata.name what it is laid over"),
        ("- a\n", "1:1  a document must be a mapping, not a list"),
    ],
)
def test_an_overlay_of_nothing_says_what_was_probably_meant(folder: Path, text: str, said: str) -> None:
    """Silence would leave production with the values of the base."""
    overlay(folder, text)
    (found,) = problems()
    assert found.startswith(f"envs/prod/prod.yaml:{said}")


def test_two_overlays_for_one_document_are_refused_with_both_places(folder: Path) -> None:
    """Which of two files counts must not be a matter of their names."""
    overlay(folder, "kind: Deployment\nmetadata: {name: prod}\nspec: {capacity: 12}\n", "prod/b/other.yaml")
    assert problems() == [
        "envs/prod/prod.yaml:2:18  a second overlay for 'Deployment/prod' (first in envs/prod/b/other.yaml:2:18)"
    ]


def test_a_link_is_refused_as_an_overlay(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.yaml"
    outside.write_text("key: value")
    (folder / "envs/prod/link.yaml").symlink_to(outside)
    assert ["link" in one and "value" not in one for one in problems()] == [True]
    (folder / "envs").rename(folder / ".elsewhere")
    (folder / "envs").symlink_to(".elsewhere")
    assert ["links are not followed" in one for one in problems()] == [True]
    assert load(["."]).warnings == (), "what is no folder holds no environments"


# Which environments there are ---------------------------------------------------------------------------------------


def test_a_base_with_environments_says_that_it_is_the_base(folder: Path) -> None:
    overlay(folder, "# as the base\n", "staging/staging.yaml")
    overlay(folder, "not: ours", "notes.yaml")
    (warning,) = load(["."]).warnings
    assert str(warning) == "this is the base alone, without an environment (-e names one: prod, staging)"
    assert load(["."], environment="staging").warnings == ()
    for name in ("prod/prod.yaml", "staging/staging.yaml"):
        (folder / "envs" / name).unlink()
        (folder / "envs" / name).parent.rmdir()
    assert load(["."]).warnings == ()


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("prd", "there is no environment 'prd': 'envs' holds prod", "did you mean prod?"),
        ("x", "there is no environment 'x': 'envs' holds prod", ""),
        ("..", "'..' is not the name of an environment", "lower-case letters"),
        ("prod/../prod", "'prod/../prod' is not the name", "lower-case letters"),
        ("Prod", "'Prod' is not the name", "lower-case letters"),
        ("prod\n", r"'prod\n' is not the name", "lower-case letters"),
    ],
)
def test_another_environment_is_a_wrong_command_line(folder: Path, name: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(["."], environment=name)
    assert str(refused.value).startswith(said)
    assert refused.value.hint.startswith(hint)


def test_where_there_are_no_environments_none_can_be_named(folder: Path) -> None:
    (folder / "envs").rename(folder / "elsewhere")
    (folder / "elsewhere/prod/prod.yaml").unlink()
    with pytest.raises(UsageError, match="'envs' holds no folder"):
        load(["."], environment="prod")


def test_the_example_of_the_documentation_is_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent / "docs/environments.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        write(tmp_path / re.split(r"[:\s]", block)[1], block)
    monkeypatch.chdir(tmp_path)
    found = [declared(load(["."], environment=name), "Deployment/assistant") for name in ("", "staging", "prod")]
    assert [one.spec.capacity for one in found] == [4, 4, 8]  # type: ignore[attr-defined]
    assert f"`{found[-1].position('spec', 'capacity')}`" in page


# Their states and objects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "environment", "file"),
    [
        (".reconciler/state.db", "", ".reconciler/state.db"),
        (".reconciler/state.db", "prod", ".reconciler/state.prod.db"),
        ("states/v1.2/care", "prod", "states/v1.2/care.prod.db"),
        ("care", "backup", "care.backup.db"),
        (".state", "prod", ".state.prod.db"),
        ("a.b.db", "prod", "a.b.prod.db"),
    ],
)
def test_each_environment_has_a_state_file_of_its_own(folder: Path, path: str, environment: str, file: str) -> None:
    write(folder / "stack.yaml", STACK.replace("endpoint:", f"state: {{path: {path}}}, endpoint:"))
    overlay(folder, "# as the base\n", "backup/none.yaml")
    project = load(["."], environment=environment)
    store = engine.open_store(project, Stamp("emulator:1", "", "care", environment))
    assert (store.where, store.name) == (file, f"care/{environment}")


def test_each_environment_has_rows_of_its_own_in_postgresql(folder: Path) -> None:
    pytest.importorskip("psycopg")
    write(folder / "stack.yaml", STACK.replace("endpoint:", "state: {backend: postgres}, endpoint:"))
    stores = [engine.open_store(load(["."], environment=e), Stamp("x", "", "care", e)) for e in ("", "prod")]
    assert [(store.name, store.rescue.name) for store in stores] == [
        ("care/", "care.rescue"),
        ("care/prod", "care@prod.rescue"),
    ]


DEPLOYMENT = document(
    "Deployment", "d", {"model": "qwen3-8b", "plan": "mu", "deploySpec": "MU1", "capacity": 4}
)  # fmt: skip


def apply(desk: Desk, environment: str, choices: Choices = Choices()) -> Applied:  # noqa: B008  # a frozen value
    project = load([str(desk.root)], environment=environment)
    with engine.session(project, desk.emulator.origin, Key(KEY)) as session:
        return engine.apply(
            session,
            choices,
            Terms(),
            approve=lambda snapshot: True,
            report=desk.told.append,
            clock=desk.clock,
            sleep=desk.clock.sleep,
        )


def owned(desk: Desk, environment: str) -> set[str]:
    project = load([str(desk.root)], environment=environment)
    with engine.session(project, desk.emulator.origin, Key(KEY)) as session:
        return set(session.store.load().owned)


def test_two_environments_of_one_account_own_objects_of_their_own(desk: Desk) -> None:
    """None adopts, changes or deletes what another one made, however alike."""
    desk.declare(DEPLOYMENT)
    desk.write("envs/staging/none.yaml", "# as the base\n")
    desk.write("envs/prod/d.yaml", "kind: Deployment\nmetadata: {name: d}\nspec: {capacity: 8}\n")
    for environment in ("staging", "prod"):
        apply(desk, environment)
    staging, prod = owned(desk, "staging"), owned(desk, "prod")
    assert (len(staging), len(prod), staging & prod) == (1, 1, set())
    assert owned(desk, "") == set()
    apply(desk, "prod", Choices(destroy=True))
    assert (owned(desk, "staging"), owned(desk, "prod")) == (staging, set())
    assert not apply(desk, "staging").snapshot.plan.work
    made = [entry["operation"] for entry in desk.emulator.ledger()]
    assert (made.count("deployments.create"), made.count("deployments.delete")) == (2, 1)


def test_a_lost_state_is_found_again_by_its_own_marks(desk: Desk) -> None:
    desk.declare(DEPLOYMENT)
    desk.write("envs/prod/none.yaml", "# as the base\n")
    for environment in ("", "prod"):
        apply(desk, environment)
    prod = owned(desk, "prod")
    for file in (desk.root / ".reconciler").glob("state.prod.db*"):
        file.unlink()
    with engine.session(load([str(desk.root)], environment="prod"), desk.emulator.origin, Key(KEY)) as session:
        engine.restore(session, approve=lambda restored: True)
    assert owned(desk, "prod") == prod


def test_the_state_of_another_environment_is_refused_even_in_the_place_of_ours(desk: Desk) -> None:
    desk.declare(DEPLOYMENT)
    desk.write("envs/prod/none.yaml", "# as the base\n")
    apply(desk, "prod")
    folder = desk.root / ".reconciler"
    (folder / "state.prod.db").rename(folder / "state.db")
    with pytest.raises(StateMismatch, match=r"belongs to environment prod, not to \(none\)"):
        desk.state()
    with pytest.raises(StateMismatch, match="belongs to stack desk/prod, not to desk"):
        engine.recorded(desk.project())
