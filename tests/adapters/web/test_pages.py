"""What the pages show over HTTP, to people and to programs, and what becomes of an approval."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html.parser import HTMLParser
from xml.dom import minidom

import httpx
import pytest

from reconciler.adapters.stack import Opened
from reconciler.adapters.web import chain
from reconciler.adapters.web.chain import Card
from reconciler.adapters.web.live import KEPT_S, WAITING_MAX, Busy, Live, Watched
from reconciler.adapters.web.sights import EVENTS_MAX
from reconciler.conditions import Condition, Happened, Health, Report, Sync
from reconciler.errors import ReconcilerError
from tests.adapters.web.conftest import CHIEF, READER, Site

HTML = {"Accept": "text/html"}
OBJECTS = ("Dataset/rows", "FineTuneJob/tuned", "Deployment/prod", "HotwordTable/meds")
PAGES = ("/stacks", "/stack?stack=.", "/plan?stack=.", *(f"/object?stack=.&address={name}" for name in OBJECTS))
HOSTILE = "<script>alert(1)</script>\x1b[31m\x00‮\"'javascript:alert(1)"


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def got(site: Site, path: str, **headers: str) -> httpx.Response:
    with site.client(**{**HTML, **headers}) as client:
        return client.get(path)


def twin(path: str) -> str:
    name, _, query = path.partition("?")
    return f"{name}.json?{query}".rstrip("?")


# What is shown ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_twin_for_programs(site: Site, path: str) -> None:
    page, data = got(site, path), got(site, twin(path))
    assert (page.status_code, data.status_code) == (200, 200)
    assert page.headers["content-type"].startswith("text/html")
    assert data.headers["content-type"] == "application/json"
    assert got(site, path, Accept="application/json").json().keys() == data.json().keys()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("path", [*PAGES, "/login", "/nowhere", "/stack?stack=nowhere"])
def test_no_page_holds_code_style_or_a_link_to_elsewhere(site: Site, path: str, language: str) -> None:
    """The policy would refuse the first two; nothing on a page needs the third."""
    tags = Tags(got(site, path, **{"Accept-Language": language}).text)
    assert tags.all("script") == [{"src": "/static/page.js", "defer": None}]
    assert not tags.all("style")
    for tag, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "src", "action", "srcset", "formaction"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), (tag, attributes)
            assert not (attributes.get(name) or "").startswith("//")


@pytest.mark.parametrize("path", PAGES)
def test_whoever_reads_with_a_screen_reader_finds_a_way(site: Site, path: str) -> None:
    tags = Tags(got(site, path).text)
    assert tags.all("html")[0]["lang"] == "en"
    assert len(tags.all("h1")) == len(tags.all("main")) == 1
    assert tags.found[[tag for tag, _ in tags.found].index("body") + 1][1]["href"] == "#content"
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes.get("alt") for attributes in tags.all("img"))
    labels = {attributes.get("for") for attributes in tags.all("label")}
    assert {one["id"] for one in tags.all("input") if one.get("type") != "hidden"} <= labels


def test_the_overview_shows_how_each_stack_is_what_it_costs_and_when_it_is_looked_at(own_site: Site) -> None:
    own_site.report(Report("team/care", looked_at="2026-11-26 16:00:00", hour="10", limit="20", mode="apply"))
    own_site.report(Report("team/new"))
    with own_site.client() as client:
        page = client.get("/stacks", headers=HTML).text
        data = client.get("/stacks.json").json()
    text = " ".join(Tags(page).text.split())
    assert "226.00 CNY/h" in text  # of both together
    assert "164,980.00 CNY" in text
    assert "20.00 CNY/h" in text
    assert "≠ OutOfSync" in text
    assert re.search("in (9 h 59|10 h 0) min", text)
    by_name = {one["stack"]: one for one in data["stacks"]}
    assert by_name["team/care"]["limit"] == "20"
    assert by_name["team/new"]["sync"] == "Unknown"
    assert by_name["."]["proposal"] in own_site.digest()
    assert data["hour_cny"] == "226"


def test_a_rate_that_nobody_knows_is_not_left_out_of_the_sum(own_site: Site) -> None:
    own_site.report(Report("team", looked_at="2026-11-26 16:00:00", hour=None))
    with own_site.client(**HTML) as client:
        assert "unknown (at least 216.00 CNY/h)" in client.get("/stacks").text
        assert client.get("/stacks.json").json()["hour_cny"] is None


def test_the_overview_opens_nothing(own_site: Site) -> None:
    with own_site.client() as client:
        client.get("/stacks")
        client.get("/stacks.json")
    assert own_site.opened == []


def test_a_stack_is_a_chain_from_data_to_what_is_deployed(site: Site) -> None:
    tags = Tags(got(site, "/stack?stack=.").text)
    order = ["Dataset", "FineTuneJob", "Deployment", "HotwordTable"]
    assert [one["aria-label"] for one in tags.all("section")] == order
    assert len(tags.all("path")) == 2  # rows to tuned, tuned to prod; the table stands alone
    assert got(site, "/stack.json?stack=.").json()["edges"] == [
        ["FineTuneJob/tuned", "Deployment/prod"],
        ["Dataset/rows", "FineTuneJob/tuned"],
    ]


def test_only_what_is_looked_for_is_shown(site: Site) -> None:
    tags = Tags(got(site, "/stack?stack=.&find=MEDS").text)
    assert [one["href"] for one in tags.all("a") if one.get("class") == "name"] == [
        "/object?stack=.&address=HotwordTable%2Fmeds"
    ]


def test_an_object_shows_what_is_declared_beside_what_is_there(site: Site) -> None:
    page = got(site, "/object?stack=.&address=Deployment/prod").text
    row = re.search(r'<tr class="moved"><th scope="row">capacity</th>(.*?)</tr>', page)
    assert row
    assert Tags(row[1]).text.split() == ["8", "4", "≠", "differs"]
    data = got(site, "/object.json?stack=.&address=Deployment/prod").json()
    assert data["spec"]["capacity"] == 8
    assert data["objects"][0]["fields"]["capacity"] == 4
    assert data["cost"]["hour_cny"] == "216"
    assert data["conditions"][0]["sync"] == "OutOfSync"
    assert any(node["sort"] == "data" for node in data["lineage"]["nodes"])


def test_what_is_as_it_was_at_the_last_look_has_been_so_since_then(site: Site) -> None:
    """Also what waits for approval, which the page itself does not hold back in the plan."""
    known = {one["slot"]: one for one in got(site, "/stacks.json").json()["stacks"][0]["conditions"]}
    (now,) = got(site, "/object.json?stack=.&address=Deployment/prod").json()["conditions"]
    assert now == known["Deployment/prod"]


def test_a_run_shows_its_loss_its_log_and_what_it_cost(site: Site) -> None:
    path = "/object?stack=.&address=FineTuneJob/tuned"
    tags = Tags(got(site, path).text)
    assert "FT_COMPLETE" in tags.text
    (image,) = tags.all("img")
    assert "loss" in str(image["alt"])
    data = got(site, twin(path)).json()
    assert data["measurements"]
    assert float(data["cost"]["bought_cny"]) > 0


@pytest.mark.parametrize("narrow", ["", "&narrow=1"])
def test_the_curve_is_a_picture_that_runs_nothing(site: Site, narrow: str) -> None:
    answer = got(site, f"/curve.svg?stack=.&address=FineTuneJob/tuned{narrow}")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in answer.headers["content-security-policy"]
    drawn = minidom.parseString(answer.text)
    assert not drawn.getElementsByTagName("script")
    assert drawn.documentElement.getAttribute("width") == ("360" if narrow else "900")


@pytest.mark.parametrize("address", ["Deployment/prod", "FineTuneJob/nobody", "", "../../etc/passwd"])
def test_what_has_no_curve_has_no_picture(site: Site, address: str) -> None:
    assert got(site, f"/curve.svg?stack=.&address={address}").status_code == 404


def test_a_plan_shows_its_money_and_what_waits(site: Site) -> None:
    text = " ".join(Tags(got(site, "/plan?stack=.").text).text.split())
    digest = site.digest()
    assert f"Waits for approval {digest[:12]}" in text
    assert "432.00 CNY/h" in text
    data = got(site, "/plan.json?stack=.").json()
    assert data["proposals"][0]["digest"] == digest
    assert data["format_version"].startswith("1.")
    assert data["totals"]["hour_after_cny"] == "432"


@pytest.mark.parametrize(
    "path", ["/stack?stack=x", "/plan?stack=", "/object?stack=.&address=Deployment/x", "/news?stack=x"]
)
def test_what_is_not_there_is_said_to_be_missing(site: Site, path: str) -> None:
    assert got(site, path).status_code == 404
    if not path.startswith("/news"):
        assert got(site, twin(path)).json()["status"] == 404


def test_a_stack_that_cannot_be_opened_shows_why_and_what_was_known(own_site: Site) -> None:
    own_site.report(Report("away", looked_at="2026-11-26 16:00:00", hour="5"))
    with own_site.client(**HTML) as client:
        page = client.get("/stack?stack=away")
        data = client.get("/stack.json?stack=away").json()
        plan = client.get("/plan?stack=away")
    assert page.status_code == 200
    assert "there is nothing to open in away" in page.text
    assert "5.00 CNY/h" in page.text
    assert "nothing to open" in data["seen_error"]
    assert plan.status_code == 502
    assert "Traceback" not in plan.text


@pytest.mark.parametrize("path", ["/%5Cevil.example", "//evil.example", "/%09/evil.example"])
def test_no_path_becomes_a_link_to_elsewhere(site: Site, path: str) -> None:
    """A browser takes a backslash for a slash, and two slashes for another host."""
    answer = got(site, f"{site.origin}{path}")
    assert answer.status_code == 404
    assert {one["href"].partition("?")[0] for one in Tags(answer.text).all("a")} == {"#content", "/stacks"}


# Languages ----------------------------------------------------------------------------------------------------------


def test_the_page_speaks_the_language_of_the_browser_until_another_is_chosen(site: Site) -> None:
    with site.client(**HTML, **{"Accept-Language": "zh-CN,zh;q=0.9"}) as client:
        chinese = client.get("/stack?stack=.")
        assert 'lang="zh-CN"' in chinese.text
        assert "≠ OutOfSync 未同步" in chinese.text
        assert "216.00 元/小时" in chinese.text
        assert 'lang="en"' in client.get("/stack?stack=.&lang=en").text.splitlines()[1]
        assert "Run rate" in client.get("/stacks").text  # it stays chosen


# Hostile content ----------------------------------------------------------------------------------------------------


def hostile(name: str = HOSTILE) -> Report:
    return Report(
        name,
        revision=HOSTILE,
        looked_at="2026-11-26 16:00:00",
        error=f"{HOSTILE}\n{HOSTILE}",
        mode=HOSTILE,
        proposal=HOSTILE,
        held=(HOSTILE,),
        conditions=(Condition(HOSTILE, Sync.SYNCED, Health.READY, "", HOSTILE, HOSTILE),),
        events=tuple(Happened(HOSTILE, HOSTILE, HOSTILE, HOSTILE) for _ in range(10_000)),
    )


@pytest.mark.parametrize("path", ["/stacks", "/stack"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_came_from_outside_is_text_and_nothing_else(own_site: Site, path: str, language: str) -> None:
    own_site.report(hostile())
    with own_site.client(**HTML, **{"Accept-Language": language}) as client:
        answer = client.get(path, params={"stack": HOSTILE})
    assert answer.status_code == 200
    tags = Tags(answer.text)
    assert len(tags.all("script")) == 1
    assert "alert(1)" in tags.text  # shown
    assert not set(answer.text) & set("\x1b\x00‮")
    for _, attributes in tags.found:
        assert not (attributes.get("href") or "").lower().strip().startswith("javascript")
        assert not [name for name in attributes if name.startswith("on")]


def test_ten_thousand_events_are_no_ten_thousand_rows(own_site: Site) -> None:
    own_site.report(hostile("many"))
    with own_site.client(**HTML) as client:
        page = client.get("/stack?stack=many")
        overview = client.get("/stacks")
    assert len(Tags(page.text).all("tr")) == EVENTS_MAX + 1
    assert len(overview.content) < 50_000


def test_hundreds_of_stacks_are_one_page_and_what_needs_somebody_comes_first(own_site: Site) -> None:
    for number in range(30):
        own_site.report(Report(f"s{number:03}", looked_at="2026-11-26 16:00:00"))
    own_site.report(Report("z-broken", error="no manifest"))
    with own_site.client(**HTML) as client:
        text = Tags(client.get("/stacks").text).text
    assert text.index("z-broken") < text.index("s000")


# A storm ------------------------------------------------------------------------------------------------------------


def test_a_storm_of_reloads_is_one_look(own_site: Site) -> None:
    with own_site.client() as client, ThreadPoolExecutor(12) as hands:
        codes = list(hands.map(lambda _: client.get("/plan.json?stack=.").status_code, range(24)))
    assert codes == [200] * 24
    assert own_site.opened == ["."]


def test_who_cannot_be_served_at_once_does_not_hold_up_everybody_else(own_site: Site) -> None:
    """Threads that wait for one slow stack are not there for any other, nor for the probes of a cluster."""
    begun, release = threading.Event(), threading.Event()

    @contextmanager
    def slow(name: str, *, writes: bool = False) -> Iterator[Opened]:
        begun.set()
        release.wait(30)
        with own_site.open(name, writes=writes) as opened:
            yield opened

    live = Live(Watched(lambda: ["."], slow, own_site.fleet))
    with ThreadPoolExecutor(WAITING_MAX + 1) as hands:
        first = hands.submit(live.stack, ".")
        assert begun.wait(30)
        waiting = [hands.submit(live.stack, ".") for _ in range(WAITING_MAX)]
        while live.waiting < WAITING_MAX:
            threading.Event().wait(0.01)
        with pytest.raises(Busy):
            live.stack(".")
        release.set()
        assert {one.result(30).at for one in waiting} == {first.result(30).at}


def test_what_was_seen_before_is_shown_while_somebody_looks_anew(own_site: Site) -> None:
    now, begun, release = [0.0], threading.Event(), threading.Event()

    @contextmanager
    def slow(name: str, *, writes: bool = False) -> Iterator[Opened]:
        if now[0]:
            begun.set()
            release.wait(30)
        with own_site.open(name, writes=writes) as opened:
            yield opened

    live = Live(Watched(lambda: ["."], slow, own_site.fleet), clock=lambda: now[0])
    before = live.stack(".")
    now[0] = KEPT_S + 1
    with ThreadPoolExecutor(1) as hands:
        anew = hands.submit(live.stack, ".")
        assert begun.wait(30)
        assert live.stack(".") is before
        release.set()
        assert anew.result(30) is not before


def test_a_look_is_kept_for_seconds_and_so_is_its_failure() -> None:
    now, opened = [0.0], []

    @contextmanager
    def broken(name: str, *, writes: bool = False):  # type: ignore[no-untyped-def]
        opened.append(name)
        raise ReconcilerError("away")
        yield

    live = Live(Watched(lambda: ["a"], broken), clock=lambda: now[0])
    for at in (0.0, KEPT_S / 2, KEPT_S + 1):
        now[0] = at
        with pytest.raises(ReconcilerError, match="away"):
            live.stack("a")
    assert opened == ["a", "a"]
    assert live.reports()["a"].error


# Approving ----------------------------------------------------------------------------------------------------------


def test_an_approval_is_recorded_with_who_and_when_and_the_loop_hurries(own_site: Site) -> None:
    digest = own_site.digest()
    own_site.rest()
    assert own_site.fleet.due_in_s()["."] > 0
    with own_site.browser() as client:
        answer = client.post("/approve", json={"stack": ".", "digest": digest}, headers=own_site.asked)
        assert answer.status_code == 200, answer.text
        assert "proposal" not in Tags(client.get("/plan?stack=.", headers=HTML).text).text
    approved = own_site.state().approvals[digest]
    assert approved.by == "chief on the page"
    assert approved.approved_at == answer.json()["approved_at"]
    assert own_site.fleet.due_in_s()["."] == 0


@pytest.mark.parametrize("cut", [12, 63])
def test_an_approval_names_the_whole_digest(own_site: Site, cut: int) -> None:
    with own_site.browser() as client:
        answer = client.post("/approve", json={"stack": ".", "digest": own_site.digest()[:cut]}, headers=own_site.asked)
    assert answer.status_code == 409
    assert not any(one.approved_at for one in own_site.state().approvals.values())


def test_what_was_shown_and_is_no_longer_proposed_is_not_approved(own_site: Site) -> None:
    with own_site.browser() as client:
        answer = client.post("/approve", json={"stack": ".", "digest": "0" * 64}, headers=own_site.asked)
        assert answer.status_code == 409
        missing = client.post("/approve", json={"stack": "other", "digest": "0" * 64}, headers=own_site.asked)
        assert missing.status_code == 404


def test_a_token_that_only_reads_sees_how_else_and_cannot_approve(own_site: Site) -> None:
    digest = own_site.digest()
    with own_site.browser(READER) as client:
        page = client.get("/plan?stack=.", headers=HTML).text
        answer = client.post("/approve", json={"stack": ".", "digest": digest}, headers=own_site.asked)
    assert answer.status_code == 403
    assert not Tags(page).all("dialog")
    assert f"reconciler approve {digest[:12]}" in page
    assert not any(one.approved_at for one in own_site.state().approvals.values())


# News ---------------------------------------------------------------------------------------------------------------


def test_a_new_report_is_news_at_once(own_site: Site) -> None:
    own_site.report(Report("team", looked_at="2026-11-26 16:00:00"))
    seen: list[str] = []
    with own_site.client() as client, client.stream("GET", "/news?stack=team") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("event:"):
                seen.append(line)
                if line == "event: open":
                    threading.Thread(
                        target=lambda: own_site.report(Report("team", looked_at="2026-11-26 16:01:00"))
                    ).start()
                else:
                    break
    assert seen == ["event: open", "event: changed"]


# The chain ----------------------------------------------------------------------------------------------------------


def card(address: str, *made_from: str) -> Card:
    return Card(address, Sync.SYNCED, Health.READY, (), "0", "", (), made_from, ())


def test_lines_go_from_the_edge_of_a_card_to_the_edge_of_the_next() -> None:
    drawn = chain.columns([card("Dataset/a"), card("FineTuneJob/b", "Dataset/a")])
    (path,) = chain.lines(drawn)
    assert path.startswith("M47.00 4.50H47.00C")  # two columns of 47 % and a gap of 6 %
    assert path.endswith("53.00 4.50")
    assert chain.height(drawn) == 9.0


def test_a_card_lies_beside_what_it_is_made_from() -> None:
    data = [card(f"Dataset/{name}") for name in "abc"]
    jobs = [card("FineTuneJob/x", "Dataset/c"), card("FineTuneJob/y", "Dataset/a")]
    _, column = chain.columns([*data, *jobs])
    assert [one.name for one in column.cards] == ["y", "x"]


def test_a_long_column_is_cut_and_says_so() -> None:
    (column,) = chain.columns([card(f"Dataset/{number:05}") for number in range(10_000)])
    assert (len(column.cards), column.hidden) == (chain.CARDS_MAX, 10_000 - chain.CARDS_MAX)


def test_a_token_never_reaches_a_page(site: Site) -> None:
    for path in PAGES:
        assert CHIEF.secret not in got(site, path).text
