"""A controller that is watched: its log holds what became of stacks and no secret; its webhook hears each once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import engine
from reconciler.adapters.looking import Looker
from reconciler.adapters.watching import Watch, webhook
from reconciler.approvals import Mode, open_proposals
from reconciler.conditions import EVENTS_MAX, Happened, News, Reason, Report, after_error
from reconciler.controller import Controller, Look, Pace, Verdict
from reconciler.errors import UsageError
from reconciler.render.controller import NOTICES, event_text, look_text, notices
from reconciler.source import Folder
from reconciler.store.fleet import SqliteFleet
from tests.desk import DATASET, JOB, Desk, document, texts
from tests.far_end import FarEnd, far_end, reply, scripted

REPOSITORY = Path(__file__).parent.parent.parent
PAGE = (REPOSITORY / "docs/watching.md").read_text(encoding="utf-8")
LONG_S = 60.0
KEY = "sk-0123456789abcdef0123456789abcdef"
DEPLOYMENT = document(
    "Deployment", "p", {"model": {"fineTuneJob": "j"}, "plan": "mu", "deploySpec": "MU1", "capacity": 4}
)


def words(weight: int) -> dict[str, Any]:
    spec = {"targetModel": "paraformer-v2", "words": [{"text": "热词", "weight": weight}]}
    return document("HotwordTable", "w", spec)


@dataclass
class Room:
    """A desk, a controller of its one stack, and somebody who watches it."""

    desk: Desk
    fleet: SqliteFleet
    out: Callable[[], str]
    watch: Watch = field(default_factory=lambda: Watch("json"))
    mode: Mode = Mode.APPLY

    def look(self) -> list[dict[str, Any]]:
        """One look, and the lines it wrote."""
        looker = Looker(Folder(self.desk.root), self.mode, endpoint=self.desk.emulator.origin)
        looker = replace(looker, called=self.watch.tally.called)
        loop = Controller(self.fleet, lambda: ["."], self.watch.over(looker), Pace(), looked=self.watch.looked)
        self.fleet.hurry(["."])
        self.out()
        assert loop.once() == 1
        return [json.loads(line) for line in self.out().splitlines()]


@pytest.fixture
def room(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    desk.rows("d.jsonl", texts(40))
    desk.declare(DATASET, JOB, DEPLOYMENT, words(4), stack={"budget": {"hourlyCny": 220}})
    return Room(desk, SqliteFleet(tmp_path / "fleet.db", "me"), lambda: capsys.readouterr().out)


def kinds(end: FarEnd) -> list[str]:
    return [" ".join(filter(None, (told.json["kind"], told.json["object"]))) for told in end.received]


def agree(desk: Desk) -> None:
    with desk.session() as session:
        engine.agree(session, open_proposals(session.store.load().approvals)[0].digest, by="ada")


def test_a_life_is_logged_and_told_each_thing_once(room: Room) -> None:
    """From the first proposal over a run that ends, drift that is put right and a broken manifest to its recovery."""
    with far_end(scripted(reply())) as end:
        room.watch = Watch("json", notify=f"{end.origin}/hook?key=0123456789abcdef")
        with room.watch:
            first = room.look()
            assert (first[0]["event"], first[0]["verdict"], first[0]["held"]) == ("look", "busy", 2)
            assert room.look()[0]["proposal"] == first[0]["proposal"]
            agree(room.desk)
            for _ in range(8):
                room.look()
                room.desk.clock.sleep(3600)
            (row,) = [row for row in room.desk.state().owned.values() if row.collection == "vocabularies"]
            other = {
                "action": "update_vocabulary",
                "vocabulary_id": row.id,
                "vocabulary": [{"text": "别的", "weight": 1}],
            }
            body = {"model": "speech-biasing", "input": other}
            room.desk.emulator.call("POST", "/services/audio/asr/customization", body)
            drifted = room.look()
            room.desk.write("stack.yaml", "apiVersion: nonsense\n")
            broken, again = room.look(), room.look()
            room.desk.declare(DATASET, JOB, DEPLOYMENT, words(4), stack={"budget": {"hourlyCny": 220}})
            back = room.look()
            notifier = room.watch._notifier
            assert notifier is not None
            assert notifier.settle(LONG_S)
    assert [line["event"] for line in drifted[1:]] == ["Drifted", "UpdateDone"]
    assert [line["event"] for line in broken] == ["look", "LookFailed"]
    assert (broken[0]["level"], broken[0]["cause"], broken[0]["verdict"]) == ("warning", "ManifestError", "stuck")
    assert [line["event"] for line in again] == ["look"]
    assert [line["event"] for line in back] == ["look", "Recovered"]
    assert kinds(end) == [
        "approval-needed",
        "finished FineTuneJob/j",
        "finished Deployment/p",
        "budget-near",
        "drift HotwordTable/w",
        "look-failed",
        "recovered",
    ]
    assert len({told.json["id"] for told in end.received}) == 7
    counts = {(sample.name, sample.labels): sample.value for sample in room.watch.tally.samples()}
    assert counts["reconciler_notifications_total", ("sent",)] == 7
    assert counts["reconciler_look_errors_total", ("ManifestError",)] == 2
    assert counts["reconciler_api_calls_total", ("jobs.create", "ok")] == 1
    assert counts["reconciler_api_calls_total", ("jobs.list", "ok")] > 5


def test_what_somebody_deleted_is_told_although_the_same_look_made_it_again(room: Room) -> None:
    room.look()
    (row,) = [row for row in room.desk.state().owned.values() if row.collection == "vocabularies"]
    gone = {"model": "speech-biasing", "input": {"action": "delete_vocabulary", "vocabulary_id": row.id}}
    room.desk.emulator.call("POST", "/services/audio/asr/customization", gone)
    room.desk.clock.sleep(3600)
    lines = room.look()
    told = [(line["event"], line["object"]) for line in lines[1:] if "object" in line]
    assert told == [("Gone", "HotwordTable/w"), ("CreateDone", "HotwordTable/w")]
    assert lines[0]["sync"] == "OutOfSync", "the paid ones still wait"


def test_a_state_that_another_run_holds_is_counted_as_a_wait(room: Room) -> None:
    with room.desk.session() as session, session.store.lease():
        (line, _) = room.look()
    assert (line["level"], line["cause"]) == ("warning", "StateLocked")
    counts = {sample.name: sample.value for sample in room.watch.tally.samples()}
    assert counts["reconciler_lease_waits_total"] == 1


def test_a_slow_webhook_holds_no_look(room: Room) -> None:
    """The look is over, and so is the next, while the webhook has not answered the first notice."""
    asked, let_go = threading.Event(), threading.Event()

    def respond(request: Any) -> Any:
        asked.set()
        let_go.wait(LONG_S)
        return reply()

    with far_end(respond) as end:
        room.watch = Watch("json", notify=end.origin)
        with room.watch:
            assert room.look()
            assert asked.wait(LONG_S)
            assert room.look()
            assert len(end.received) == 1
            let_go.set()


SECRETS = [KEY, "sk-abcdefgh", "hook-0123456789abcdefghij", "0123456789-query", "the-other-secret"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_and_no_control_character_is_in_a_line(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a look quotes: the values hold none, and this is the net below them."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    url = f"https://example.com/{SECRETS[2]}?{SECRETS[3]}"
    watch = Watch(form, notify=url, secrets=(SECRETS[4],))
    hostile = " ".join(SECRETS) + f" {url} \x1b[2J\u202e\n::error::x"
    report = after_error(Report(hostile), hostile, at="2026-11-26 08:00:00")
    watch.looked(hostile, Look(report, Verdict.FAILED))
    event = Happened("2026-11-26 08:00:00", hostile, hostile, hostile)
    watch.looked("a", Look(replace(report, error="", events=(event,), fresh=1), Verdict.QUIET))
    watch.say(hostile)
    out = capsys.readouterr().out
    assert [secret for secret in SECRETS if secret in out] == []
    assert not any(letter in out for letter in "\x1b\u202e")
    assert len(out.splitlines()) == (6 if form == "text" else 5), (
        "an error of two lines is two, the second one indented"
    )
    assert "***" in out
    if form == "json":
        assert {json.loads(line)["level"] for line in out.splitlines()} == {"info", "warning"}
    else:
        assert "\n::" not in out


def test_a_key_is_struck_out_even_where_an_escape_would_split_it(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch("json", secrets=('quo"te-secret',))
    watch.say('it said quo"te-secret')
    assert 'quo\\"te' not in capsys.readouterr().out


def test_text_lines_are_those_of_before_and_events_follow(capsys: pytest.CaptureFixture[str]) -> None:
    report = after_error(Report("teams/护理"), "away", at="2026-11-26 08:00:00")
    Watch("text").looked("teams/护理", Look(report, Verdict.FAILED))
    out = capsys.readouterr().out.splitlines()
    assert out == [look_text("teams/护理", report), f"    {event_text('teams/护理', report.events[0])}"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "ftp://example.com",
        "https://user:pass@example.com/",
        "https://example.com/#x",
        "nonsense",
        "http://127.0.0.1.example.com/",
        "https://exa mple.com/",
    ],
)
def test_an_address_that_a_secret_may_not_go_to_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        webhook(url)
    assert url not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    "url", ["", "https://example.com/hook?key=1&x=%2F", "http://127.0.0.1:8080/x", "http://[::1]/"]
)
def test_an_https_address_or_this_computer_is_taken(url: str) -> None:
    assert webhook(url) == url


def test_the_page_names_every_word_that_is_told() -> None:
    told = {*map(str, Reason), *map(str, News), *NOTICES.values()} - {""}
    assert sorted(word for word in told if f"`{word}`" not in PAGE) == []


def test_a_notice_has_the_members_that_the_page_shows() -> None:
    example = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])
    report = after_error(Report("s"), "away", at="2026-11-26 08:00:00")
    (notice,) = notices("s", report)
    assert {**notice, "dropped": 0}.keys() == example.keys()
    assert notice["status"].keys() == example["status"].keys()
    assert (notice["version"], notice["at"]) == (1, "2026-11-26T08:00:00Z")


def test_a_stack_that_left_its_source_is_no_drift() -> None:
    report = after_error(Report("s"), "there is no such stack any more", at="2026-11-26 08:00:00", reason="Gone")
    assert [notice["kind"] for notice in notices("s", report)] == ["look-failed"]


def test_only_what_the_last_look_brought_is_told() -> None:
    old = tuple(Happened("2026-11-26 07:00:00", "", News.LOOK_FAILED, str(number)) for number in range(EVENTS_MAX))
    report = after_error(Report("s", events=old), "away", at="2026-11-26 08:00:00")
    assert [notice["message"] for notice in notices("s", report)] == ["away"]
