"""What one look at a stack comes to: commits that come into force and those that do not, and nothing ever deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler import engine
from reconciler.adapters.looking import Looker
from reconciler.adapters.running import Listing
from reconciler.approvals import Mode
from reconciler.conditions import Health, Reason, Report, Sync, from_data, to_data
from reconciler.controller import Verdict
from reconciler.errors import SourceError
from reconciler.source import FRESH_S, Checkout, Folder
from tests.desk import Emulator, document
from tests.remote import Remote


def words(*weights: int) -> dict[str, Any]:
    """A table that costs nothing, so that a loop makes it by itself."""
    said = [{"text": f"热词{number}", "weight": weight} for number, weight in enumerate(weights)]
    return document("HotwordTable", "w", {"targetModel": "paraformer-v2", "words": said})


@dataclass
class Watch:
    """One stack in a repository, looked at again and again as a controller would."""

    remote: Remote
    service: Emulator
    report: Report
    now_s: float = 0.0

    def look(self, name: str = "s", **options: Any) -> Verdict:
        self.now_s += 60
        look = self.looker(**options)(name, from_data(to_data(self.report)))
        self.report = look.report
        return look.verdict

    def looker(self, **options: Any) -> Looker:
        source = self.remote.source(clock=lambda: self.now_s, in_force=lambda: {self.report.revision})
        records = self.remote.folder / "records"
        usual = {"source": source, "mode": Mode.APPLY, "records": records, "endpoint": self.service.origin}
        return Looker(**{**usual, **options})

    def settle(self) -> None:
        for _ in range(3):
            self.look()

    def reasons(self) -> list[str]:
        return [one.reason for one in self.report.events if not one.slot]

    def deleted(self) -> list[str]:
        return [one for one in self.service.operations() if "delete" in one]


@pytest.fixture
def watch(tmp_path: Path, service: Emulator, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return Watch(Remote(tmp_path / "git"), service, Report("s"))


def test_a_commit_comes_into_force_and_the_next_one_supersedes_it(watch: Watch) -> None:
    first = watch.remote.declare("s", words(1))
    watch.settle()
    assert (watch.report.revision, watch.report.sync, watch.report.health) == (first, Sync.SYNCED, Health.READY)
    second = watch.remote.declare("s", words(2))
    watch.settle()
    assert watch.report.revision == second
    counts = watch.service.operations()
    assert (counts.count("vocabularies.create"), counts.count("vocabularies.update")) == (1, 1)
    assert watch.reasons() == ["InForce", "InForce"]
    assert f"{first} -> {second}" in [one.message for one in watch.report.events]


def test_what_is_recorded_outlives_every_checkout(watch: Watch) -> None:
    """A state that went with its checkout would buy everything again."""
    for weight in (1, 2, 3, 4):
        watch.remote.declare("s", words(weight))
        watch.settle()
    assert watch.service.operations().count("vocabularies.create") == 1
    assert len(list((watch.remote.folder / "checkouts").iterdir())) <= 2
    assert (watch.remote.folder / "records" / "s" / ".reconciler" / "state.db").exists()


def test_a_broken_commit_leaves_the_one_before_in_force_and_says_where_it_is_broken(watch: Watch) -> None:
    first = watch.remote.declare("s", words(1))
    watch.settle()
    second = watch.remote.declare("s", words(2), document("HotwordTabel", "x", {}))
    watch.settle()
    assert watch.report.revision == first
    assert f"commit {second[:12]} is not in force, {first[:12]} stays in force: s/stack.yaml:" in watch.report.error
    assert "HotwordTabel" in watch.report.error
    assert str(watch.remote.folder) not in watch.report.error
    assert watch.report.sync is Sync.UNKNOWN
    assert watch.reasons() == ["InForce", "NotInForce"], "told once"
    watch.remote.declare("s", words(3))
    watch.settle()
    assert (watch.report.error, watch.report.sync) == ("", Sync.SYNCED)


def test_what_stays_in_force_is_still_kept_true(watch: Watch) -> None:
    watch.remote.declare("s", words(1))
    watch.settle()
    watch.remote.write("s/stack.yaml", "kind: [")
    watch.remote.pushed()
    watch.settle()
    (table,) = watch.service.call("POST", "/services/audio/asr/customization", _listed())["output"]["vocabulary_list"]
    changed = {
        "action": "update_vocabulary",
        "vocabulary_id": table["vocabulary_id"],
        "vocabulary": [{"text": "别", "weight": 1}],
    }
    watch.service.call("POST", "/services/audio/asr/customization", {"model": "speech-biasing", "input": changed})
    before = watch.service.operations().count("vocabularies.update")
    watch.settle()
    assert watch.service.operations().count("vocabularies.update") == before + 1
    assert "stays in force" in watch.report.error


def _listed() -> dict[str, Any]:
    return {"model": "speech-biasing", "input": {"action": "list_vocabulary", "page_index": 0, "page_size": 10}}


def test_a_first_commit_that_is_broken_does_nothing(watch: Watch) -> None:
    commit = watch.remote.declare("s", document("HotwordTabel", "x", {}))
    assert watch.look() is Verdict.STUCK
    assert f"commit {commit[:12]} is not in force, nor is any before it" in watch.report.error
    assert watch.service.ledger() == []


def test_a_commit_that_failed_only_on_the_service_is_in_force_all_the_same(watch: Watch) -> None:
    """Else a broken commit after it would bring back the one before it, which was left already."""
    watch.remote.declare("s", words(1))
    watch.settle()
    second = watch.remote.declare("s", words(2))
    assert watch.look(endpoint="http://127.0.0.1:9") is Verdict.FAILED
    watch.remote.write("s/stack.yaml", "kind: [")
    watch.remote.pushed()
    watch.look()
    assert watch.report.revision == second
    assert f"{second[:12]} stays in force" in watch.report.error


def test_what_a_report_keeps_of_very_many_mistakes_is_bounded(watch: Watch) -> None:
    watch.remote.declare("s", *(document("HotwordTabel", f"x{number}", {}) for number in range(100)))
    watch.look()
    told = watch.report.error.splitlines()
    assert len(told) == 20
    assert told[-2:] == ["and 82 more", "100 problems"]


def test_a_repository_that_cannot_be_reached_changes_nothing(watch: Watch) -> None:
    first = watch.remote.declare("s", words(1))
    watch.settle()
    watch.remote.bare.rename(watch.remote.folder / "away")
    watch.settle()
    assert watch.report.revision == first
    assert "cannot be read" in watch.report.error
    assert (watch.report.health, watch.report.failures, watch.deleted()) == (Health.READY, 0, [])


def test_a_repository_that_never_could_be_reached_is_tried_again_later_and_later(watch: Watch) -> None:
    watch.remote.bare.rename(watch.remote.folder / "away")
    assert [watch.look() for _ in range(3)] == [Verdict.FAILED] * 3
    assert watch.report.failures == 3


def test_a_branch_that_went_away_changes_nothing(watch: Watch) -> None:
    watch.remote.declare("s", words(1))
    watch.settle()
    watch.remote.git("update-ref", "-d", "refs/heads/main", where=watch.remote.bare)
    watch.settle()
    assert "no commit on its default branch" in watch.report.error
    assert watch.deleted() == []


def test_a_forced_push_back_brings_the_older_commit_into_force(watch: Watch) -> None:
    first = watch.remote.declare("s", words(1))
    watch.settle()
    watch.remote.declare("s", words(2))
    watch.settle()
    watch.remote.git("reset", "--quiet", "--hard", first)
    watch.remote.pushed("--force")
    watch.settle()
    assert (watch.report.sync, watch.reasons()) == (Sync.SYNCED, ["InForce"] * 3)
    assert watch.deleted() == []


def test_a_stack_that_lost_all_its_manifests_loses_nothing_else(watch: Watch) -> None:
    watch.remote.declare("s", words(1))
    watch.settle()
    watch.remote.git("rm", "--quiet", "-r", "s")
    watch.remote.push(README="empty")
    watch.settle()
    assert "no such stack any more" in watch.report.error
    assert (watch.report.events[-1].reason, watch.deleted()) == (Reason.GONE, [])


def test_an_empty_manifest_deletes_nothing(watch: Watch) -> None:
    watch.remote.declare("s", words(1))
    watch.settle()
    watch.remote.write("s/stack.yaml", "")
    watch.remote.pushed()
    watch.settle()
    assert "no document in any of the manifests" in watch.report.error
    assert watch.deleted() == []


def test_data_that_is_only_a_pointer_keeps_a_commit_from_coming_into_force(watch: Watch) -> None:
    first = watch.remote.declare("s", words(1))
    watch.settle()
    watch.remote.write("s/d.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    watch.remote.declare("s", words(1), document("Dataset", "d", {"source": "d.jsonl", "format": "sft"}))
    watch.settle()
    assert "s/d.jsonl:1:1  a pointer of Git LFS" in watch.report.error
    assert watch.report.revision == first


def test_only_observing_follows_commits_too(watch: Watch) -> None:
    first = watch.remote.declare("s", words(1))
    watch.look(mode=Mode.OBSERVE)
    assert (watch.report.revision, watch.report.sync) == (first, Sync.OUT_OF_SYNC)
    assert watch.service.ledger() == []


def test_somebody_agrees_to_what_was_proposed_at_the_commit_in_force(watch: Watch) -> None:
    """Also while a newer commit cannot come into force."""
    watch.remote.declare("s", words(1))
    watch.look(mode=Mode.PLAN)
    asked, revision = watch.report.proposal, watch.report.revision
    watch.remote.write("s/stack.yaml", "kind: [")
    watch.remote.pushed()
    with watch.looker(mode=Mode.PLAN).opened("s", revision=revision, writes=True) as opened:
        engine.agree(opened.session, asked, by="ada")
    watch.look(mode=Mode.PLAN)
    assert watch.service.operations() == ["vocabularies.create"]


def test_each_environment_of_a_stack_has_a_record_of_its_own(watch: Watch) -> None:
    watch.remote.write(
        "s/envs/prod/x.yaml", "kind: HotwordTable\nmetadata: {name: w}\nspec: {targetModel: paraformer-v1}\n"
    )
    watch.remote.declare("s", words(1))
    watch.look("s@prod", by_environment=True)
    assert watch.report.error == ""
    assert (watch.remote.folder / "records" / "s" / ".reconciler" / "state.prod.db").exists()


# A plain folder, and what is ours ------------------------------------------------------------------------------------


def test_a_folder_with_mistakes_is_told_and_nothing_is_done(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "stack.yaml").write_text("kind: [")
    assert watch.look(source=Folder(tmp_path), records=None) is Verdict.STUCK
    assert "stack.yaml:2:1  not YAML" in watch.report.error
    assert watch.service.ledger() == []


@dataclass(frozen=True)
class Faulty:
    """A source with a mistake of ours in it."""

    @contextmanager
    def checkout(self, revision: str = "", *, age_s: float = FRESH_S) -> Iterator[Checkout]:
        raise RuntimeError("with a row of training data")
        yield


def test_a_mistake_of_ours_is_said_and_ends_nothing(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert [watch.look(source=Faulty()) for _ in range(2)] == [Verdict.FAILED] * 2
    assert "internal error: RuntimeError at test_looking.py" in watch.report.error
    assert "training data" not in watch.report.error
    assert len(list(tmp_path.glob("reconciler-report-*"))) == 1, "one file for all its repetitions"


# Which stacks there are, over time -----------------------------------------------------------------------------------


def test_a_stack_that_disappears_is_told_once_and_listed_for_a_last_look(tmp_path: Path) -> None:
    told: list[str] = []
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "stack.yaml").write_text("")
    listing = Listing(Folder(tmp_path), ["*"], tell=told.append)
    assert listing() == ["a", "b"]
    (tmp_path / "b" / "stack.yaml").unlink()
    assert [listing(), listing()] == [["a", "b"]] * 2
    assert told == ["'b' is no longer a stack of this controller; nothing of it is deleted"]
    listing.looked("b")
    assert [listing(), listing()] == [["a"]] * 2
    (tmp_path / "b" / "stack.yaml").write_text("")
    assert listing() == ["a", "b"]
    assert len(told) == 1


def test_a_source_in_trouble_keeps_its_stacks_and_says_so_once(tmp_path: Path) -> None:
    told: list[str] = []
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "stack.yaml").write_text("")
    listing = Listing(Folder(root), ["*"], tell=told.append)
    listing()
    root.rename(tmp_path / "away")
    assert [listing() for _ in range(3)] == [["a"]] * 3
    assert len(told) == 1
    assert isinstance(listing.trouble, SourceError)
    (tmp_path / "away").rename(root)
    assert (listing(), listing.trouble) == (["a"], None)


def test_what_an_earlier_process_looked_at_is_known_before_the_source_answers(tmp_path: Path) -> None:
    """Else a controller that restarts while the repository is away would look at nothing."""
    listing = Listing(Folder(tmp_path / "away"), ["*"], known={"a"}, tell=lambda text: None)
    assert listing() == ["a"]
