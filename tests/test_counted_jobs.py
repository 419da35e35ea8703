"""What a job is told of the rows it would learn from: how many tokens, which are too long, which length would do."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from reconciler import kinds, tokens
from reconciler.cache import Cache
from reconciler.errors import ManifestError
from reconciler.files import Tree
from reconciler.plan import Operation, Verb, facts
from reconciler.project import Bought, Project, load
from reconciler.resource import Action, Content, Part, Slot
from tests.desk import document

pytest.importorskip("tiktoken")  # tests/test_tokens.py fails in CI where it is missing

LONG_AFTER = 1 << 62


class Folder:
    """A project of one Stack and whatever is declared; rows of so many tokens each."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def rows(self, name: str, *lengths: int) -> None:
        """`x ` is one token, and so is a final `x`."""
        lines = [json.dumps({"messages": [{"role": "assistant", "content": " ".join("x" * n)}]}) for n in lengths]
        (self.root / name).write_text("\n".join(lines) + "\n")

    def pairs(self, name: str, *lengths: int) -> None:
        answers = [{"role": "assistant", "content": " ".join("x" * n)} for n in lengths]
        lines = [
            json.dumps({"messages": [{"role": "user", "content": "x"}], "chosen": one, "rejected": answers[0]})
            for one in answers
        ]
        (self.root / name).write_text("\n".join(lines) + "\n")

    def load(self, *documents: dict[str, object], profile: str = "2026", bought: Bought | None = None) -> Project:
        everything = [document("Stack", "s", {"endpoint": "emulator", "profile": profile}), *documents]
        (self.root / "stack.yaml").write_text("---\n".join(json.dumps(one) + "\n" for one in everything))
        memory = Cache(self.root, clock=lambda: LONG_AFTER)
        return load([str(self.root)], cache=lambda root: memory, known=lambda outline: bought)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def dataset(name: str = "d", source: str = "a.jsonl", **spec: object) -> dict[str, object]:
    return document("Dataset", name, {"source": source, "format": "sft", **spec})


def job(
    name: str = "j", model: object = "qwen3.5-9b", kind: str = "efficient_sft", data: str = "d", **hyper: object
) -> dict[str, object]:
    return document(
        "FineTuneJob",
        name,
        {
            "model": model,
            "trainingType": kind,
            "training": [data],
            "hyperParameters": {"n_epochs": 2, "batch_size": 8, "max_length": 500, **hyper},
        },
    )


def the(project: Project, address: str = "FineTuneJob/j") -> Part:
    return project.parts[address][0]


def warnings(project: Project) -> list[str]:
    """Those of jobs; what is said of their rows is not of interest here."""
    return [f"{one.what} | {one.hint}" for one in project.warnings if one.what.startswith("FineTuneJob/")]


def price(project: Project, part: Part) -> str:
    jobs = kinds.collections(project.profile)["jobs"]
    return jobs.price(part.fields, base=part.base, tokens=part.tokens, counted=part.counted).basis


def test_a_run_is_priced_by_what_its_own_model_counts(folder: Folder) -> None:
    (folder.root / "a.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "assistant", "content": "厄洛替尼 2026"}]}) + "\n" for _ in range(10)
        ),
        encoding="utf-8",
    )
    project = folder.load(dataset(), job("new"), job("old", model="qwen3-8b"))
    new, old = the(project, "FineTuneJob/new"), the(project, "FineTuneJob/old")
    assert (new.tokens, old.tokens) == (80, 90)
    assert price(project, new) == "80 tokens x 2 epochs x 0.02 CNY/1k"
    assert price(project, old) == "90 tokens x 2 epochs x 0.006 CNY/1k"
    upload = the(project, "Dataset/d").content
    assert upload
    assert not upload.counted  # two vocabularies, two counts: the upload alone has only its estimate


def test_an_upload_is_told_with_the_count_that_all_its_jobs_agree_on(folder: Folder) -> None:
    """Of the share that no job trains on nobody needs more than the estimate."""
    folder.rows("a.jsonl", *range(20, 70))
    project = folder.load(dataset(split={"validation": 0.2, "seed": 1}), job(), job("k"))
    train, rest = (part.content for part in project.parts["Dataset/d"])
    assert train is not None
    assert rest is not None
    assert (train.tokens, train.counted) == (the(project).tokens, True)
    assert not rest.counted


def test_a_tuned_model_counts_like_its_base(folder: Folder) -> None:
    folder.rows("a.jsonl", *[20] * 10)
    project = folder.load(dataset(), job("first"), job(model={"fineTuneJob": "first"}))
    assert (the(project).tokens, the(project).counted) == (200, True)


def test_rows_over_max_length_are_told_with_what_they_cost_and_what_would_do(folder: Folder) -> None:
    folder.rows("a.jsonl", *[100] * 96, 500, 501, 700, 900)
    project = folder.load(dataset(), job())
    said = "3 rows (3 %) are longer than max_length 500 and would be dropped, which loses 17.2 % of the tokens"
    assert warnings(project) == [f"FineTuneJob/j: {said} | 700 keeps 99 %"]
    assert the(project).remarks == (f"{said}: 700 keeps 99 %",)
    assert warnings(folder.load(dataset(), job(max_length=900))) == []


def test_where_99_percent_fit_already_it_tells_what_keeps_them_all(folder: Folder) -> None:
    folder.rows("a.jsonl", *[100] * 199, 501)
    assert warnings(folder.load(dataset(), job()))[0].endswith(", which loses 2.5 % of the tokens | 501 keeps them all")


def test_what_is_too_long_for_the_model_is_told_as_such(folder: Folder) -> None:
    """Contract §2.11: without max_length it is 2048, and qwen-14b-chat reads no more; of 2.5 nothing is in the way."""
    folder.rows("a.jsonl", *[10] * 90, *[2_049] * 10)
    project = folder.load(dataset(), bare("qwen-14b-chat"), profile="dec-2024")
    told = [one for one in warnings(project) if "longer" in one]
    assert told == [
        "FineTuneJob/j: 10 rows (10 %) are longer than the default max_length 2,048 and would be dropped, "
        "which loses 95.8 % of the tokens | it cannot be more"
    ]
    project = folder.load(dataset(), bare("qwen2.5-72b-instruct"), profile="dec-2024")
    assert next(one for one in warnings(project) if "longer" in one).endswith("| 2,049 keeps 99 %")


def bare(model: str) -> dict[str, object]:
    return document("FineTuneJob", "j", {"model": model, "trainingType": "efficient_sft", "training": ["d"]})


def test_a_model_that_reads_less_than_the_default_sets_the_limit(folder: Folder) -> None:
    (folder.root / "models.yaml").write_text("models: [{code: qwen-14b-chat, token_max_length: 1000}]\n")
    folder.rows("a.jsonl", *[10] * 99, 1_001)
    stack = document("Stack", "s", {"endpoint": "emulator", "profile": "dec-2024", "catalogue": "models.yaml"})
    everything = [stack, dataset(), bare("qwen-14b-chat")]
    (folder.root / "stack.yaml").write_text("---\n".join(json.dumps(one) + "\n" for one in everything))
    told = [one for one in warnings(load([str(folder.root / "stack.yaml")])) if "longer" in one]
    assert told == [
        "FineTuneJob/j: 1 row (1 %) is longer than the 1,000 tokens that qwen-14b-chat reads and would be dropped, "
        "which loses 50.3 % of the tokens | it cannot be more"
    ]


@pytest.mark.parametrize(
    ("profile", "model", "fate"),
    [("2026", "qwen3-8b", "dropped or truncated"), ("dec-2024", "qwen2-7b-instruct", "dropped")],
)
def test_preference_rows_are_as_long_as_their_longer_answer(
    folder: Folder, profile: str, model: str, fate: str
) -> None:
    """Contract §2.8: of late a page says that they are cut, another that they are left out."""
    folder.pairs("a.jsonl", *[10] * 49, 500)
    project = folder.load(dataset(format="dpo"), job(model=model, kind="dpo_lora"), profile=profile)
    told = [one for one in warnings(project) if "longer" in one]
    assert len(told) == 1
    assert f"1 row (2 %) is longer than max_length 500 and would be {fate}, " in told[0]
    assert told[0].endswith("| 501 keeps 99 %")
    assert the(project).tokens == 50 * (1 + 10) + 49 * 10 + 500


def test_too_few_rows_left_for_a_batch_are_told(folder: Folder) -> None:
    folder.rows("a.jsonl", *[10] * 7, *[600] * 3)
    assert "the 7 rows left are fewer than one batch of 8" in warnings(folder.load(dataset(), job()))[1]


def test_the_validation_share_is_neither_billed_nor_judged(folder: Folder) -> None:
    folder.rows("a.jsonl", *[100] * 20)
    folder.rows("b.jsonl", *[600] * 20)
    one = job()
    one["spec"]["validation"] = ["e"]  # type: ignore[index]
    project = folder.load(dataset(), dataset("e", "b.jsonl"), one)
    assert warnings(project) == []
    assert the(project).tokens == 2_000


def test_what_is_trained_and_validated_on_is_told_by_every_command(folder: Folder) -> None:
    """Also by one that reads none of it again."""
    folder.rows("a.jsonl", *range(100, 120))
    folder.rows("b.jsonl", *range(115, 125))
    one = job()
    one["spec"]["validation"] = ["e"]  # type: ignore[index]
    for _ in range(2):
        told = warnings(folder.load(dataset(), dataset("e", "b.jsonl"), one))
        assert len(told) == 1
        assert told[0].startswith("FineTuneJob/j: 5 rows of Dataset/e:b.jsonl are also trained on")
    folder.rows("b.jsonl", *range(121, 125))
    assert warnings(folder.load(dataset(), dataset("e", "b.jsonl"), one)) == []


def test_more_rows_that_are_too_long_than_a_dataset_allows_are_refused(folder: Folder) -> None:
    """A Dataset by itself, not what it is trained on with; just as many are allowed."""
    folder.rows("a.jsonl", *[100] * 98, 501, 700)
    folder.rows("b.jsonl", *[100] * 100)
    both = job()
    both["spec"]["training"] = ["d", "e"]  # type: ignore[index]
    strict = dataset(lint={"maxDropped": "1.9%"})
    with pytest.raises(ManifestError) as refused:
        folder.load(strict, dataset("e", "b.jsonl"), both)
    (problem,) = refused.value.problems
    said = "2 of 100 rows of Dataset/d are longer than max_length 500, and its lint.maxDropped is 1.9%"
    assert (problem.what, problem.hint) == (f"FineTuneJob/j: {said}", "501 keeps 99 %")
    assert problem.at
    assert folder.load(dataset(lint={"maxDropped": "2%"}), dataset("e", "b.jsonl"), both)
    assert folder.load(strict, dataset("e", "b.jsonl"), job(max_length=501))


def test_rows_that_are_only_cut_are_not_dropped(folder: Folder) -> None:
    (folder.root / "ours.yml").write_text('training_types: {efficient_sft: {overlong: {"2026": truncated}}}\n')
    folder.rows("a.jsonl", *[100] * 20, 501)
    stack = document("Stack", "s", {"endpoint": "emulator", "profile": "2026", "catalogue": "ours.yml"})
    everything = [stack, dataset(lint={"maxDropped": "0%"}), job()]
    (folder.root / "stack.yaml").write_text("---\n".join(json.dumps(one) + "\n" for one in everything))
    (told,) = warnings(load([str(folder.root / "stack.yaml")]))
    assert "would be truncated" in told


def test_an_archive_is_not_counted_and_no_part_of_a_run_is_taken_for_all_of_it(folder: Folder) -> None:
    folder.rows("a.jsonl", *[600] * 20)
    one = job()
    one["spec"]["training"] = ["d", {"fileId": "file-1"}]  # type: ignore[index]
    project = folder.load(dataset(), one)
    assert the(project).tokens is None
    assert "20 rows (100 %) are longer" in warnings(project)[0]


def test_without_the_extra_everything_says_about(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, known in [*tokens._VOCABULARIES.items()]:
        monkeypatch.setitem(tokens._VOCABULARIES, name, tokens._Vocabulary(name, "gone", known._letters))
    folder.rows("a.jsonl", *[100] * 90, *[2_000] * 10)
    project = folder.load(dataset(lint={"maxDropped": "5%"}), job())
    assert price(project, the(project)).startswith("about ")
    dropped, longer = warnings(project)  # an estimate is no ground to refuse anything
    assert "about 10 of 100 rows of Dataset/d are longer than max_length 500, and its lint.maxDropped is 5%" in dropped
    assert "about 10 rows (10 %) are longer than max_length 500" in longer


def test_rows_that_change_between_two_readings_are_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rows("a.jsonl", *[100] * 20)
    true, opened = Tree.open, list[str]()

    def meddled(tree: Tree, relative: str, *, limit_bytes: int):  # type: ignore[no-untyped-def]
        opened.append(relative)
        if opened.count("a.jsonl") == 2:
            (folder.root / "a.jsonl").write_text("what is this?\n" * 20)
        return true(tree, relative, limit_bytes=limit_bytes)

    monkeypatch.setattr(Tree, "open", meddled)
    with pytest.raises(ManifestError) as refused:
        folder.load(dataset(), job())
    assert "changed since the plan" in str(refused.value.problems[0])


def test_unchanged_rows_are_not_opened_again_by_the_next_command(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand files: neither described nor counted again, also the share of a split."""
    for number in range(1_000):
        folder.rows(f"{number}.jsonl", 1 + number % 50, 2, 3)
    documents = (
        dataset(source="*.jsonl"),
        dataset("e", "1*.jsonl", split={"validation": 0.1}),
        job(),
        job("k", data="e"),
    )
    first = folder.load(*documents)
    assert sum(part.content.rows or 0 for part in first.parts["Dataset/d"] if part.content) == 3_000
    opened: list[str] = []
    true = Tree.open

    def noted(tree: Tree, relative: str, *, limit_bytes: int):  # type: ignore[no-untyped-def]
        opened.append(relative)
        return true(tree, relative, limit_bytes=limit_bytes)

    monkeypatch.setattr(Tree, "open", noted)
    second = folder.load(*documents)
    assert opened == ["stack.yaml"]
    assert second.parts == first.parts


def test_how_an_upload_was_counted_does_not_make_it_another_operation() -> None:
    """A plan may be saved where the extra is installed and applied where it is not: its price is what is compared."""
    slot, content = Slot("Dataset/d", "a.jsonl"), Content("a.jsonl", ("a.jsonl",), 9, "0" * 32, 1, tokens=8)
    counted = Content("a.jsonl", ("a.jsonl",), 9, "0" * 32, 1, tokens=7, counted=True)
    made = [
        Operation("x", Action.CREATE, Verb.CREATE, slot, "files", part=Part(slot, {}, content=one))
        for one in (content, counted)
    ]
    assert facts(made[0]) == facts(made[1])


# What was bought ----------------------------------------------------------------------------------------------------


def test_what_was_bought_is_counted_only_to_be_bought_again(folder: Folder) -> None:
    """A plan in a fresh clone, which remembers no count, must not take a minute to find that nothing changed."""
    folder.rows("a.jsonl", *[20] * 90, *[600] * 10)
    documents = dataset(), job(), job("k")
    at_rest = folder.load(*documents, bought=lambda part: part.slot.address == "FineTuneJob/j")
    whole = folder.load(*documents)
    known, told = the(at_rest), the(whole)
    assert (known.counted, known.lengths, known.remarks) == (False, None, ())
    assert (told.counted, len(told.remarks)) == (True, 1)
    assert [line for line in warnings(whole) if "FineTuneJob/k" in line] == warnings(at_rest)
    assert the(at_rest, "FineTuneJob/k") == the(whole, "FineTuneJob/k")
    assert at_rest.count(known) == told == at_rest.count(known), "and as often as it is asked for"
    assert at_rest.count(the(at_rest, "FineTuneJob/k")) == the(whole, "FineTuneJob/k")


def test_what_is_bought_again_has_no_mistake_that_a_first_one_may_not_have(folder: Folder) -> None:
    folder.rows("a.jsonl", *[20] * 90, *[600] * 10)
    documents = dataset(lint={"maxDropped": "5%"}), job()
    project = folder.load(*documents, bought=lambda part: True)
    with pytest.raises(ManifestError) as first:
        folder.load(*documents)
    with pytest.raises(ManifestError) as again:
        project.count(the(project))
    assert [one.what for one in again.value.problems] == [one.what for one in first.value.problems]


def test_a_price_is_never_made_of_a_forgotten_share(folder: Folder) -> None:
    """Another seed is another share, with a count of its own."""
    folder.rows("a.jsonl", *range(1, 61))
    totals = set()
    for seed in range(4):
        part = the(folder.load(dataset(split={"validation": 0.5, "seed": seed}), job()))
        shares = folder.load(dataset(split={"validation": 0.5, "seed": seed}), job()).parts["Dataset/d"]
        assert part.tokens == next(one.content.tokens for one in shares if one.content and one.content.counted)
        totals.add(part.tokens)
    assert len(totals) > 1
    assert Decimal(max(total or 0 for total in totals)) < sum(range(1, 61))
