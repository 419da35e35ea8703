"""`import` and `discover --write` as their user meets them: an account made by hand, taken over without a purchase."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import engine
from reconciler.adapters import terminal
from reconciler.api import Key
from reconciler.project import load
from tests.adapters.conftest import Result, Shell
from tests.desk import KEY, Desk, Emulator, dpo, emulator, sft
from tests.test_adoption import HYPER, deploy, model_of, recognise, rows, train, upload

STACK = "apiVersion: bailian.reconciler/v1alpha1\nkind: Stack\nmetadata: {name: team}\nspec: {endpoint: emulator}\n"
HOSTILE = "\x1b[2J\u202e::error::../../x"
SECRETS = re.compile(r"Signature|Expires|_emulator/files")


@dataclass(frozen=True)
class Account:
    """A folder with nothing but a Stack, on an account that others have used."""

    shell: Shell
    service: Emulator

    def __call__(self, *arguments: str) -> Result:
        at = {"DASHSCOPE_HTTP_BASE_URL": f"{self.service.origin}/api/v1", "DASHSCOPE_API_KEY": KEY}
        result = self.shell(*arguments, env=at)
        assert not SECRETS.search(result.out + result.err), "a link to content is a secret"
        assert "\x1b" not in result.out + result.err
        assert "\u202e" not in result.out + result.err
        return result

    def written(self, *more: str, folder: str = "adopted") -> dict[str, Any]:
        result = self("discover", "--write", folder, "-y", "-o", "json", *more)
        assert result.code == 0, result.err
        return dict(json.loads(result.out))

    def manifests(self) -> dict[str, dict[str, Any]]:
        found = (yaml.safe_load(path.read_text("utf-8")) for path in self.shell.folder.glob("adopted/**/*.yaml"))
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}

    def pass_time(self) -> None:
        self.service.control("clock", {"advance_s": 24 * 3600})

    def lose_the_state(self) -> None:
        for path in (self.shell.folder / ".reconciler").glob("state.db*"):
            path.unlink()


@contextmanager
def account_in(folder: Path, **options: Any) -> Iterator[Account]:
    shell = Shell(folder / "project")
    shell.write("stack.yaml", STACK)
    with emulator(folder / "service", **options) as service:
        yield Account(shell, service)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with account_in(tmp_path) as made:
        yield made


@pytest.fixture
def used(account: Account) -> Account:
    """Data, a run made from it, its deployment, one of a base model, and a table of words."""
    job = train(account.service, upload(account.service, rows(), "support.jsonl"), job_name="support")
    account.pass_time()
    deploy(account.service, model_name=model_of(account.service, job))
    deploy(account.service, suffix="base")
    recognise(account.service, [{"text": "厄洛替尼", "weight": 4}])
    account.pass_time()
    return account


# discover --write ---------------------------------------------------------------------------------------------------


def test_an_account_is_taken_over_at_one_go(used: Account) -> None:
    """Named after what people called it, each by its own kind; the plan after it is empty, and so is what is left."""
    before = used.service.ledger()
    told = used.written("--download")
    assert sorted(used.manifests()) == [
        "Dataset/support",
        "Deployment/base",
        "Deployment/qwen3-8b",
        "FineTuneJob/support",
        "HotwordTable/hand",
    ]
    job = used.manifests()["FineTuneJob/support"]
    assert job["spec"]["training"] == ["support"]
    assert job["lifecycle"] == {"adoption": "Required", "deletionPolicy": "Orphan"}
    assert used.manifests()["Deployment/qwen3-8b"]["spec"]["model"] == {"fineTuneJob": "support"}
    assert (told["format_version"], told["done"], told["left_alone"]) == ("1.0", True, [])
    assert "no changes: 5 objects are as declared" in used("plan", "--detailed-exitcode").out
    assert "nothing found" in used("discover").out
    data = used.shell.folder / "adopted/data/support.jsonl"
    assert data.read_bytes() == rows()
    assert data.stat().st_mode & 0o777 == 0o600
    assert used.service.ledger() == before


def test_a_manifest_says_what_it_declares_and_what_that_costs(used: Account) -> None:
    used.written("--download")
    (text,) = [path.read_text("utf-8") for path in used.shell.folder.glob("adopted/deployments/base.yaml")]
    assert re.match(r"# deployments/qwen3-8b-[0-9a-f]{8}-base: RUNNING since \S+, 216\.00 CNY/h\n", text)


def test_after_the_state_was_lost_everything_is_adopted_and_nothing_bought(used: Account) -> None:
    """The very reason why what is written says `adoption: Required`."""
    used.written("--download")
    before = used.service.ledger()
    used.lose_the_state()
    plan = used("plan")
    assert plan.out.count("  = ") == 5
    assert "216.00 CNY/h, as before: nothing is bought" in plan.out
    assert "5 adoptions" in plan.out
    assert used("apply", "-y").code == 0
    assert "no changes: 5 objects are as declared" in used("plan").out
    assert used.service.ledger() == before


def test_pruning_what_was_adopted_deletes_nothing(used: Account) -> None:
    """`deletionPolicy: Orphan`: adopting an account must never be the way to lose it."""
    used.written("--download")
    before = used.service.ledger()
    for path in used.shell.folder.glob("adopted/**/*.yaml"):
        path.unlink()
    assert used("apply", "-y", "--prune").code == 0
    assert used.service.ledger() == before
    assert "unmanaged" in used("discover").out


def test_forty_objects_take_one_command(account: Account) -> None:
    """Alike in much: the same names, the same bytes, runs by the dozen from one upload."""
    files = [upload(account.service, rows(40 + number), "data.jsonl") for number in range(12)]
    jobs = [train(account.service, file, job_name="chat", hyper_parameters={**HYPER, "n_epochs": 1 + number % 5})
            for number, file in enumerate(files + files[:3])]  # fmt: skip
    account.service.control("clock", {"advance_s": 30 * 24 * 3600})
    for number, job in enumerate(jobs[:8]):
        deploy(account.service, model_name=model_of(account.service, job), suffix=f"s{number}")
    for number in range(5):
        recognise(account.service, [{"text": f"word {number}", "weight": 3}])
    account.pass_time()
    before = account.service.ledger()
    told = account.written("--download")
    assert (len(told["objects"]), told["left_alone"]) == (40, [])
    assert {"Dataset/data", "Dataset/data-2", "Dataset/data-12", "FineTuneJob/chat-15"} <= account.manifests().keys()
    assert "no changes: 40 objects are as declared" in account("plan").out
    account.lose_the_state()
    assert len(json.loads(account("plan", "-o", "json").out)["operations"]) == 40
    assert account("apply", "-y").code == 0
    assert "no changes: 40 objects are as declared" in account("plan").out
    assert account.service.ledger() == before


def test_a_copy_in_the_project_is_used_where_it_lies(used: Account) -> None:
    used.shell.write("data/old/rows.jsonl", rows().decode())
    told = used.written()
    assert used.manifests()["Dataset/support"]["spec"]["source"] == "data/old/rows.jsonl"
    assert [one["fetched"] for one in told["objects"]] == [None] * 5


def test_data_that_lies_nowhere_is_left_alone_and_named_by_its_id(used: Account) -> None:
    """The run is managed all the same; what it was trained on is said by the id that the service gave."""
    told = used.written()
    (left,) = told["left_alone"]
    assert left["why"] == "no file of the project has its content: --download fetches it"
    assert used.manifests()["FineTuneJob/support"]["spec"]["training"] == [{"fileId": left["id"]}]
    assert "no changes: 4 objects are as declared" in used("plan").out
    used.lose_the_state()
    assert len(json.loads(used("plan", "-o", "json").out)["operations"]) == 4


def test_what_comes_later_is_taken_over_by_the_same_command(used: Account) -> None:
    """References to what is managed already go by its name."""
    used.written("--download")
    (job,) = [one for one in used.manifests() if one.startswith("FineTuneJob")]
    found = json.loads(used("state", "show", job, "-o", "json").out)["objects"][0]
    deploy(used.service, model_name=found["outputs"]["model"], suffix="more")
    told = used.written("--download")
    assert [one["address"] for one in told["objects"]] == ["Deployment/more"]
    assert used.manifests()["Deployment/more"]["spec"]["model"] == {"fineTuneJob": "support"}


def test_a_dry_run_prints_the_manifests_and_writes_nothing(used: Account) -> None:
    result = used("discover", "--write", "adopted", "--download", "--dry-run")
    documents = list(yaml.safe_load_all(result.out))
    assert (result.code, len(documents)) == (0, 5)
    assert "to be fetched" in result.err
    assert [path.name for path in used.shell.folder.iterdir() if path.name != ".reconciler"] == ["stack.yaml"]
    assert used("state", "list").out == "nothing recorded\n"


def test_where_nobody_can_agree_nothing_is_written(used: Account) -> None:
    result = used("discover", "--write", "adopted", "--download")
    assert (result.code, result.out) == (3, "")
    assert "nobody is there to approve this" in result.err
    assert not (used.shell.folder / "adopted").exists()


def test_whoever_is_asked_sees_it_all_first(used: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(terminal, "agreed", lambda question, *, approved: asked.append(question) or False)
    result = used("discover", "--write", "adopted", "--download")
    assert (result.code, asked) == (3, ["Write and record this?"])
    assert "= Deployment/base" in result.err


def test_nothing_is_written_over(used: Account) -> None:
    """Neither by the first run nor by half of it: what stands there is somebody's."""
    used.shell.write("adopted/deployments/base.yaml", "# mine\n")
    result = used("discover", "--write", "adopted", "--download", "-y")
    assert result.code == 1
    assert "is there already, and nothing is written over" in result.err
    assert [path.name for path in used.shell.folder.glob("adopted/**/*") if path.is_file()] == ["base.yaml"]
    assert used("state", "list").out == "nothing recorded\n"


@pytest.mark.parametrize("folder", ["..", "/tmp", "../elsewhere", ".hidden", "a/envs/b", ".reconciler/x"])
def test_a_folder_that_is_outside_or_never_read_is_a_wrong_command_line(account: Account, folder: str) -> None:
    result = account("discover", "--write", folder, "-y")
    assert (result.code, result.out) == (64, "")


def test_a_link_out_of_the_project_is_no_way_out(used: Account, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (used.shell.folder / "adopted").symlink_to(tmp_path / "elsewhere")
    assert used("discover", "--write", "adopted", "--download", "-y").code == 64
    (used.shell.folder / "inner").mkdir()
    (used.shell.folder / "inner/jobs").symlink_to(tmp_path / "elsewhere")
    result = used("discover", "--write", "inner", "--download", "-y")
    assert result.code == 1
    assert "link" in result.err
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["--write", "x", "--billable"], ["--download"], ["--dry-run"], ["--marked"], ["-y"]],
)
def test_options_that_mean_nothing_together_are_a_wrong_command_line(account: Account, arguments: list[str]) -> None:
    assert account("discover", *arguments).code == 64


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../x.jsonl", "x"),
        ("客服问答.jsonl", "dataset-1"),
        ("客服-SFT v2.jsonl", "sft-v2"),
        ("Ünïcode.jsonl", "unicode"),
        ("a" * 300 + ".jsonl", "a" * 50),
        (f"{HOSTILE}.jsonl", "x"),
        ("- {}: !!x.jsonl", "x"),
        (".jsonl", "dataset-1"),
    ],
)
def test_whatever_a_file_is_called_its_name_is_one_that_a_manifest_can_have(
    account: Account, given: str, name: str
) -> None:
    upload(account.service, rows(), given)
    told = account.written("--download")
    assert [one["address"] for one in told["objects"]] == [f"Dataset/{name}"], told
    assert "no changes: 1 object is as declared" in account("plan").out


def test_hostile_words_reach_manifests_and_terminals_as_escapes_or_not_at_all(account: Account) -> None:
    job = train(account.service, upload(account.service, rows(), f"{HOSTILE}.jsonl"), job_name=HOSTILE)
    recognise(account.service, [{"text": "a\x1b[2J", "weight": 3}])
    account.pass_time()
    assert job
    told = account.written("--download")
    for path in account.shell.folder.glob("adopted/**/*.yaml"):
        assert "\x1b" not in path.read_text("utf-8")
    assert account("discover", "--write", "other", "--dry-run").code == 0
    assert {one["address"].partition("/")[0] for one in told["objects"]} >= {"Dataset", "FineTuneJob"}


def test_what_failed_or_was_canceled_is_left_alone_and_said(account: Account) -> None:
    job = train(account.service, upload(account.service, rows()))
    account.service.call("POST", f"/fine-tunes/{job}/cancel")
    account.pass_time()
    told = account.written("--download")
    assert [(one["id"], one["why"]) for one in told["left_alone"]] == [
        (job, "is CANCELED: there is nothing in it to manage")
    ]


def test_rows_that_are_no_training_data_or_have_mistakes_are_left_alone(account: Account) -> None:
    """One bad file must not keep the other thirty-nine objects out; what was fetched of it does not stay behind."""
    upload(account.service, b'{"a": 1}\n' * 5, "odd.jsonl")
    upload(account.service, rows() + b'{"messages": []}\n', "broken.jsonl")
    upload(account.service, rows(), "good.jsonl")
    told = account.written("--download")
    assert [one["address"] for one in told["objects"]] == ["Dataset/good"]
    whys = sorted(one["why"] for one in told["left_alone"])
    assert whys[0].startswith("its manifest would not do: ")
    assert "read like no training data" in whys[1]
    assert [path.name for path in (account.shell.folder / "adopted/data").iterdir()] == ["good.jsonl"]


def test_each_format_is_told_by_its_rows(account: Account) -> None:
    upload(account.service, rows(), "chat.jsonl")
    pairs = "".join(json.dumps(dpo(f"question {number}")) + "\n" for number in range(40))
    upload(account.service, pairs.encode(), "pairs.jsonl")
    plain = "".join(json.dumps({"text": f"Paragraph {number}."}) + "\n" for number in range(40))
    upload(account.service, plain.encode(), "plain.jsonl")
    account.written("--download")
    formats = {name: one["spec"]["format"] for name, one in account.manifests().items()}
    assert formats == {"Dataset/chat": "sft", "Dataset/pairs": "dpo", "Dataset/plain": "cpt"}


def test_what_carries_a_mark_is_taken_over_only_when_asked_to(account: Account, tmp_path: Path) -> None:
    """Another stack on the same account would go on managing it."""
    other = Desk(tmp_path / "other", account.service)
    other.root.mkdir()
    other.write("d.jsonl", "".join(json.dumps(sft(f"question {number}")) + "\n" for number in range(40)))
    other.declare({
        "apiVersion": "bailian.reconciler/v1alpha1", "kind": "Dataset",
        "metadata": {"name": "d"}, "spec": {"source": "d.jsonl", "format": "sft"},
    })  # fmt: skip
    other.apply()
    told = account.written("--download")
    assert told["objects"] == []
    assert "carries a mark like those that stacks give" in told["left_alone"][0]["why"]
    assert [one["address"] for one in account.written("--download", "--marked")["objects"]] == ["Dataset/d"]
    account.lose_the_state()
    (op,) = json.loads(account("plan", "-o", "json").out)["operations"]
    assert (op["action"], op["exit_code"]) == ("blocked", 3)


def test_content_that_is_not_what_the_service_says_is_not_kept(account: Account) -> None:
    file = upload(account.service, rows())
    (stored,) = (account.shell.folder.parent / "service").rglob(file)
    stored.write_bytes(rows().replace(b"question", b"answers!"))
    told = account.written("--download")
    assert told["objects"] == []
    assert "is not what the service says it is" in told["left_alone"][0]["why"]
    assert not list(account.shell.folder.glob("adopted/**/*.jsonl"))


def test_where_another_run_holds_the_state_nothing_stays_behind(used: Account) -> None:
    used.written("--download", folder="first")
    used.lose_the_state()
    for path in [*used.shell.folder.glob("first/**/*.yaml"), *used.shell.folder.glob("first/**/*.jsonl")]:
        path.unlink()
    assert used("plan").code == 0
    with (
        engine.session(load([str(used.shell.folder)]), used.service.origin, Key(KEY)) as session,
        session.store.lease(),
    ):
        result = used("discover", "--write", "adopted", "--download", "-y")
    assert result.code == 4
    assert [path for path in used.shell.folder.glob("adopted/**/*") if path.is_file()] == []


def test_manifests_from_stdin_cannot_be_read_back_with_what_is_written(account: Account) -> None:
    result = account.shell("discover", "--write", "x", "-y", "-f", "-", stdin=STACK)
    assert result.code == 64
    assert "stdin" in result.err


def test_what_comes_between_question_and_answer_is_left_alone(used: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody agreed to what they saw, and to nothing else; nor is a file touched that came in between."""

    def agreed(question: str, *, approved: bool) -> bool:
        deploy(used.service, suffix="late")
        used.shell.write("adopted/data/support.jsonl", "mine\n")
        return True

    monkeypatch.setattr(terminal, "agreed", agreed)
    result = used("discover", "--write", "adopted", "--download", "-o", "json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert [one["why"] for one in told["left_alone"] if one["id"].endswith("-late")] == [
        "came after this was shown: run it again"
    ]
    assert "Deployment/base" in [one["address"] for one in told["objects"]]
    assert (used.shell.folder / "adopted/data/support.jsonl").read_text() == "mine\n"


# import -------------------------------------------------------------------------------------------------------------


def test_import_records_one_object_and_says_so(used: Account) -> None:
    used.shell.write(
        "base.yaml",
        "apiVersion: bailian.reconciler/v1alpha1\nkind: Deployment\nmetadata: {name: base}\n"
        "spec: {model: qwen3-8b, plan: mu, deploySpec: MU1, capacity: 4}\n",
    )
    listed = json.loads(used("discover", "-o", "json").out)["found"]
    (remote_id,) = [one["id"] for one in listed if one["id"].endswith("-base")]
    before = used.service.ledger()
    result = used("import", "Deployment/base", remote_id, "--reason", "made in spring")
    assert (result.code, "error" in result.err) == (0, False)
    assert result.out == (f"Deployment/base: deployments/{remote_id} is recorded; nothing changed on the service\n")
    assert "import Deployment/base" in used("state", "history").out
    assert "no changes: 1 object is as declared" in used("plan").out
    again = used("import", "Deployment/base", remote_id)
    assert (again.code, again.out) == (3, "")
    assert used.service.ledger() == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["Deployment/base", "x"], 64, "no manifest declares"),
        (["base", "x"], 64, "names no object"),
        (["Deployment/base"], 64, "Missing argument"),
    ],
)
def test_a_wrong_import_says_what_to_write(account: Account, arguments: list[str], code: int, said: str) -> None:
    result = account("import", *arguments)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
