"""report as a user, and a CI job, meet it: offline, after the apply, as a picture, and posted over the wire."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.dom import minidom

import pytest

from tests.adapters.conftest import STACK, Shell, declare
from tests.comments import TOKEN, Comments, refusal
from tests.desk import sft
from tests.far_end import FarEnd, far_end

CANARY = "canary-5f3b"


@pytest.fixture
def saved(shell: Shell) -> Shell:
    """A shell in the folder of a stack that was never applied, with a saved plan."""
    assert shell("plan", "--out", "plan.json").code == 0
    return shell


@pytest.fixture(scope="module")
def carried_out_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack whose saved plan was applied. Never changed: it is copied."""
    made = Shell(tmp_path_factory.mktemp("carried-out"))
    declare(made)
    made.change("stack.yaml", "n_epochs: 1", "n_epochs: 5")  # enough steps for something to be measured
    assert made("plan", "--out", "plan.json").code == 0
    assert made("apply", "plan.json").code == 0
    return made.folder


@pytest.fixture
def carried_out(carried_out_once: Path, tmp_path: Path) -> Shell:
    shutil.copytree(carried_out_once, tmp_path / "carried-out")
    return Shell(tmp_path / "carried-out")


def test_the_file_alone_is_enough(saved: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As in a job that has the plan as an artefact: no manifests, no key, nothing left behind."""
    elsewhere = Shell(tmp_path_factory.mktemp("elsewhere"))
    shutil.copy(saved.folder / "plan.json", elsewhere.folder)
    told = elsewhere("report", "plan.json")
    assert told.code == 0
    assert told.out.startswith("<!-- reconciler report: tiny -->\n**1 upload, 1 paid run, 2 creations · once 0.006 CNY")
    assert saved("plan").out.strip() in told.out
    assert "the training data were not looked at" in told.out
    assert told.err.startswith("the report is of the plan alone: ")
    assert [path.name for path in elsewhere.folder.iterdir()] == ["plan.json"]


def test_with_manifests_it_tells_of_data_and_limits(saved: Shell) -> None:
    """Also of data that got worse since: that is what the reviewer is to see."""
    told = saved("report", "plan.json")
    assert (told.code, told.err) == (0, "")
    assert "training data: nothing found" in told.out
    saved.change("stack.yaml", 'profile: "2026"', 'profile: "2026", budget: {onceCny: 0.001}')
    assert "over the limit: cost: 0.01 CNY once" in saved("report", "plan.json").out
    saved.write("data/rows.jsonl", json.dumps(sft("x")) * 2 + "\n")
    worse = saved("report", "plan.json", "-f", ".")
    assert worse.code == 0
    assert "<summary>Training data: 1 error</summary>" in worse.out
    assert "limits and budgets were not looked at: that takes manifests without a mistake" in worse.out
    assert worse.err == "limits, and what the apply came to, are not in the report: 1 problem in the manifests\n"
    assert "error: data/rows.jsonl:1:" in worse.out
    assert "[json]" in worse.out


def test_manifests_that_were_named_must_be_readable(saved: Shell) -> None:
    saved.write("stack.yaml", "kind: [")
    assert saved("report", "plan.json").code == 0
    assert saved("report", "plan.json", "-f", ".").code == 1
    assert saved("report", "plan.json", "-f", "-", stdin=STACK).code == 64


def test_an_altered_plan_is_not_reported(saved: Shell) -> None:
    saved.change("plan.json", '"capacity": 4', '"capacity": 5')
    refused = saved("report", "plan.json")
    assert (refused.code, refused.out) == (1, "")


def test_no_row_of_the_data_is_ever_in_it_and_no_words_of_a_manifest_stand_free(shell: Shell) -> None:
    """Rows never; words of a table and what describes an object may be in the page of the plan, which is fenced."""
    rows = [sft(f"{CANARY} question {number}") for number in range(29)]
    shell.write("data/rows.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    shell.change("stack.yaml", "metadata: {name: meds}", "metadata: {name: meds, description: '@all <img src=x>'}")
    shell.change("stack.yaml", "text: 吉非替尼", "text: 'w@rd'")
    assert shell("plan", "--out", "plan.json").code == 0
    before = [shell("report", "plan.json", "-o", form) for form in ("markdown", "text", "json")]
    assert "[duplicates]" in before[0].out
    assert shell("apply", "plan.json").code == 0
    wrong = {"messages": [{"role": CANARY, CANARY: 1}, *sft(CANARY)["messages"]], CANARY: CANARY}
    shell.write("data/rows.jsonl", json.dumps(wrong) + "\n" + f"{{{CANARY}\n" + f'{{"{CANARY}": 1, "{CANARY}": 2}}\n')
    after = [shell("report", "plan.json", "-o", form) for form in ("markdown", "text", "json")]
    for told in (*before, *after):
        assert told.code == 0
        assert CANARY not in told.out
        assert CANARY not in told.err
    for told in (before[0], after[0]):
        free = "".join(told.out.split("```")[::2])
        assert "@" not in free
        assert "<img" not in free


# After the apply ------------------------------------------------------------------------------------------------------


def test_after_the_apply_it_tells_what_it_came_to(carried_out: Shell) -> None:
    told = carried_out("report", "plan.json")
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines()[1].startswith("**applied: 4 done · bought 0.0")
    for part in ("What it came to", "Loss", "The bill", "The plan"):
        assert f"<summary>{part}</summary>" in told.out
    assert carried_out("report", "plan.json", "--applied").out == told.out
    assert "applied: 4 done" in carried_out("report", "plan.json", "-o", "text").out
    data = json.loads(carried_out("report", "plan.json", "-o", "json").out)
    assert {one["ending"] for one in data["applied"]["outcomes"]} == {"done"}
    assert data["applied"]["bought"][0]["tokens_billed"] > 0
    cost = json.loads(carried_out("cost", "-o", "json").out)
    assert data["applied"]["bought_cny"] == cost["bought_cny"]


def test_a_plan_that_was_not_begun_here_has_no_aftermath(saved: Shell) -> None:
    refused = saved("report", "plan.json", "--applied")
    assert (refused.code, refused.out) == (64, "")
    assert refused.err.startswith("error: this plan was not begun here")


def test_where_the_service_cannot_be_asked_the_record_is_told_unless_more_is_insisted_on(carried_out: Shell) -> None:
    away = {"DASHSCOPE_HTTP_BASE_URL": "http://127.0.0.1:1"}
    told = carried_out("report", "plan.json", env=away)
    assert told.code == 0
    assert told.err.startswith("the report is of what is recorded alone: ")
    assert "applied: 4 done" in told.out
    assert "the service was not asked" in told.out
    assert carried_out("report", "plan.json", "--applied", env=away).code == 1


def test_the_loss_as_a_picture(carried_out: Shell) -> None:
    """It stands alone: it runs nothing and loads nothing."""
    told = carried_out("report", "plan.json", "--picture", "loss.svg")
    assert told.code == 0
    assert "as a picture: loss.svg" in told.out
    path = carried_out.folder / "loss.svg"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    drawn = minidom.parseString(path.read_text(encoding="utf-8"))
    assert drawn.documentElement.tagName == "svg"
    assert drawn.getElementsByTagName("script").length == 0
    texts = [node.firstChild.data for node in drawn.getElementsByTagName("text") if node.firstChild]
    assert {"loss, tiny", "step", "loss"} <= set(texts)
    names = [node.firstChild.data for node in drawn.getElementsByTagName("title") if node.firstChild]
    assert any(one.startswith("FineTuneJob/tuned ft-") for one in (*texts, *names))
    for node in drawn.getElementsByTagName("*"):
        assert not {"href", "xlink:href", "onload", "src"} & set(node.attributes.keys())


def test_without_the_library_the_picture_says_how_to_get_it(
    carried_out: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygal", None)
    refused = carried_out("report", "plan.json", "--picture", "loss.svg")
    assert (refused.code, refused.out) == (1, "")
    assert "pip install 'bailian-reconciler[report]'" in refused.err
    assert carried_out("report", "plan.json").code == 0, "it is for the picture alone"


def test_a_picture_of_nothing_is_not_drawn(saved: Shell) -> None:
    told = saved("report", "plan.json", "--picture", "loss.svg")
    assert told.code == 0
    assert "nothing was drawn" in told.err
    assert not (saved.folder / "loss.svg").exists()
    assert saved("report", "plan.json", "--picture", "stack.yaml").code == 64
    assert saved("report", "plan.json", "--picture", "loss.png").code == 64


# Posted ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["github", "gitlab"])
def forge(request: pytest.FixtureRequest) -> Iterator[tuple[str, Comments, FarEnd]]:
    comments = Comments(gitlab=request.param == "gitlab")
    with far_end(comments) as end:
        yield request.param, comments, end


def of_job(forge: str, end: FarEnd) -> dict[str, str]:
    """What the forge's CI sets in the job of a pull request."""
    if forge == "github":
        job = {"GITHUB_API_URL": end.origin, "GITHUB_REPOSITORY": "team/models", "GITHUB_REF": "refs/pull/5/merge"}
        return {**job, "GITHUB_TOKEN": TOKEN}
    job = {"CI_API_V4_URL": f"{end.origin}/api/v4", "CI_PROJECT_ID": "42", "CI_MERGE_REQUEST_IID": "5"}
    return {**job, "CI_JOB_TOKEN": "other", "GITLAB_TOKEN": TOKEN}


def test_the_plan_is_posted_and_its_apply_edits_the_same_comment(
    saved: Shell, forge: tuple[str, Comments, FarEnd]
) -> None:
    name, comments, end = forge
    job = of_job(name, end)
    first = saved("report", "plan.json", "--post", name, env=job)
    assert (first.code, first.err.lower()) == (0, f"{name}: comment 100 made\n")
    assert comments.kept[0]["body"] == first.out.rstrip("\n")
    assert saved("report", "plan.json", "--post", name, env=job).err.endswith("comment 100 unchanged\n")
    assert saved("apply", "plan.json").code == 0
    comments.write("<!-- reconciler report: tiny -->\nnot ours")
    second = saved("report", "plan.json", "--post", name, "-o", "json", env=job)
    assert second.err.splitlines() == [
        f"{first.err.split(':')[0]}: comment 100 edited",
        "  1 comment begins like ours and was not written by this token: left alone",
    ]
    assert json.loads(second.out)["applied"], "the comment is Markdown, whatever is printed"
    assert comments.kept[0]["body"].splitlines()[1].startswith("**applied: 4 done")
    assert len(comments.kept) == 2
    assert TOKEN not in first.out + first.err + second.out + second.err


def test_a_refusal_of_the_forge_is_told_with_what_to_do(saved: Shell, forge: tuple[str, Comments, FarEnd]) -> None:
    name, comments, end = forge
    comments.odd["POST"] = [refusal(403, f"no\x1b[31m ::error::{TOKEN}")]
    refused = saved("report", "plan.json", "--post", name, env=of_job(name, end))
    assert refused.code == 8
    assert "the token needs" in refused.err
    for bad in (TOKEN, "\x1b", " ::error"):
        assert bad not in refused.err


def test_without_a_token_of_its_own_a_gitlab_job_is_told_that_its_own_cannot(saved: Shell) -> None:
    comments = Comments(gitlab=True)
    with far_end(comments) as end:
        job = of_job("gitlab", end) | {"GITLAB_TOKEN": "", "CI_JOB_TOKEN": TOKEN}
        comments.odd["POST"] = [refusal(401, "401 Unauthorized")]
        refused = saved("report", "plan.json", "--post", "gitlab", env=job)
        assert refused.code == 8
        assert "a job token reads comments and writes none: set GITLAB_TOKEN" in refused.err
        assert {one.headers.get("job-token") for one in end.received} == {TOKEN}


@pytest.mark.parametrize(
    ("forge", "changed", "words", "code"),
    [
        ("github", {"GITHUB_TOKEN": "", "GITHUB_REPOSITORY": ""}, "not set: GITHUB_REPOSITORY, GITHUB_TOKEN", 64),
        (
            "github",
            {"GITHUB_REF": "refs/heads/main"},
            "GITHUB_REF names no pull request\n  say which one with --pull N",
            64,
        ),
        ("github", {"GITHUB_REPOSITORY": "team/../other"}, "GITHUB_REPOSITORY names no repository", 64),
        ("github", {"GITHUB_API_URL": "http://evil.example"}, "GITHUB_API_URL cannot be used: http is for this", 64),
        ("github", {"GITHUB_API_URL": "https://a:b@evil.example"}, "it holds a user or a password", 64),
        ("github", {"GITHUB_TOKEN": f"{TOKEN}\nX: y"}, "GITHUB_TOKEN holds a character that no token has", 8),
        ("gitlab", {"CI_PROJECT_ID": "", "CI_API_V4_URL": ""}, "not set: CI_PROJECT_ID, CI_API_V4_URL", 64),
        ("gitlab", {"CI_MERGE_REQUEST_IID": ""}, "CI_MERGE_REQUEST_IID names no merge request", 64),
        ("gitlab", {"GITLAB_TOKEN": "", "CI_JOB_TOKEN": ""}, "neither GITLAB_TOKEN nor CI_JOB_TOKEN is set", 64),
        ("gitlab", {"CI_API_V4_URL": "http://gitlab.example/api/v4"}, "http is for this computer only", 64),
    ],
)
def test_what_the_job_does_not_say_is_asked_for_before_anything_is_sent(
    empty: Shell, forge: str, changed: dict[str, str], words: str, code: int
) -> None:
    with far_end(Comments(gitlab=forge == "gitlab")) as end:
        refused = empty("report", "plan.json", "--post", forge, env=of_job(forge, end) | changed)
        assert refused.code == code
        assert words in refused.err
        assert TOKEN not in refused.err
        assert end.received == []


def test_a_job_that_is_about_no_pull_request_may_name_one(saved: Shell, forge: tuple[str, Comments, FarEnd]) -> None:
    """As the one that applies after the merge."""
    name, comments, end = forge
    job = of_job(name, end) | {"GITHUB_REF": "refs/heads/main", "CI_MERGE_REQUEST_IID": ""}
    assert saved("report", "plan.json", "--post", name, "--pull", "5", env=job).code == 0
    assert len(comments.kept) == 1
    assert saved("report", "plan.json", "--pull", "5").code == 64
