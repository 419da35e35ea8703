"""The page in a real browser: with the keyboard, in Chinese, on a phone, and while it updates itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.conditions import Report
from tests.adapters.web.conftest import CHIEF, READER, Site, served
from tests.adapters.web.test_pages import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
TABS_MAX = 60


def missing(what: str) -> None:
    """Nothing is installed by the tests; in CI everything must be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not on this machine: {what}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Playwright's own is never fetched."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright (pip install 'bailian-reconciler[browser]')")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        missing("chromium (apt-get install chromium fonts-noto-cjk)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the browser complained about: nothing."""
    complaints: list[str] = []
    yield complaints
    assert complaints == []


@pytest.fixture
def opened(browser: Browser, said: list[str]) -> Iterator[Any]:
    """Opens a page of a site, signed in, as a browser of some language and size."""
    contexts = []

    def open_(site: Site, *, token: Any = CHIEF, language: str = "en-US", width: int = 1280, height: int = 900) -> Page:
        context = browser.new_context(locale=language, viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{site.origin}/login#{token.secret}")
        page.wait_for_url("**/stacks")
        return page

    yield open_
    for context in contexts:
        context.close()


def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until something has the focus, as somebody without a mouse does; it must be seen to have it."""
    for _ in range(TABS_MAX):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", selector
            return
    raise AssertionError(f"Tab never comes to {selector}")


def test_from_the_overview_to_an_approval_with_the_keyboard(own_site: Site, opened: Any) -> None:
    from playwright.sync_api import expect

    digest = own_site.digest()
    page = opened(own_site)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to(page, 'a[href="/stack?stack=."]')
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Stack root folder")
    tab_to(page, ".card .name[href*='FineTuneJob']")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("FineTuneJob/tuned")
    expect(page.locator("img.curve")).to_be_visible()
    expect(page.locator("img.curve")).to_have_js_property("naturalWidth", 900)  # it was drawn
    tab_to(page, 'nav a[href="/plan?stack=."]')
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Plan of root folder")
    tab_to(page, "main button.approve")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert not own_site.state().approvals[digest].approved_at
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # the dialog's first button has the focus
    expect(page.get_by_role("alert").first).to_contain_text("Approved")
    assert own_site.state().approvals[digest].by == "chief on the page"


def test_who_only_reads_finds_no_button(site: Site, opened: Any) -> None:
    page = opened(site, token=READER)
    page.goto(f"{site.origin}/plan?stack=.")
    assert page.locator("main button.approve").count() == 0


def test_the_token_does_not_stay_in_the_address_nor_where_a_script_could_read_it(site: Site, opened: Any) -> None:
    page = opened(site)
    assert CHIEF.secret not in page.url
    assert page.evaluate("document.cookie") == ""
    page.go_back()
    assert CHIEF.secret not in page.url


def test_a_wrong_token_is_said_to_be_wrong(site: Site, opened: Any, said: list[str]) -> None:
    from playwright.sync_api import expect

    page = opened(site)
    page.context.clear_cookies()
    page.goto(f"{site.origin}/login#nonsense")
    expect(page.get_by_role("alert")).to_have_text("This token is not valid.")
    page.get_by_label("Token").fill(READER.secret)
    page.get_by_label("Token").press("Enter")
    page.wait_for_url("**/stacks")
    assert [one for one in said if "401" not in one] == []
    said.clear()  # the browser tells of the refusal that was meant


def test_a_new_report_appears_by_itself_and_the_focus_stays(own_site: Site, opened: Any) -> None:
    from playwright.sync_api import expect

    own_site.report(Report("team", looked_at="2026-11-26 16:00:00", hour="1"))
    page = opened(own_site)
    expect(page.locator("#live")).to_have_text("Updates by itself")
    page.locator('a[href="/stack?stack=team"]').focus()
    own_site.report(Report("team", looked_at="2026-11-26 16:01:00", hour="777"))
    expect(page.locator("tbody")).to_contain_text("777.00 CNY/h", timeout=20_000)
    assert page.evaluate("document.activeElement.getAttribute('href')") == "/stack?stack=team"
    expect(page.locator("#live")).to_contain_text("Updated")


def test_a_page_whose_controller_went_away_says_so(looked_once: Path, opened: Any, said: list[str]) -> None:
    from playwright.sync_api import expect

    with served(looked_once) as site:
        page = opened(site)
        expect(page.locator("#live")).to_have_text("Updates by itself")
    expect(page.locator("#live")).to_have_text("Not connected; trying again")
    assert all("ERR_CONNECTION" in one or "ERR_INCOMPLETE" in one for one in said)
    said.clear()  # the browser tells that it cannot connect


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    site: Site, opened: Any, said: list[str], language: str
) -> None:
    page = opened(site, language=language, width=360, height=740)
    for path in (*PAGES, "/login", "/nowhere"):
        page.goto(f"{site.origin}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    assert [one for one in said if "404" not in one] == []
    said.clear()  # the browser tells of the page that is not there


def test_chinese_is_drawn_and_no_boxes(site: Site, opened: Any) -> None:
    """A font that lacks a character draws the same box for every one of them."""
    if "CJK" not in subprocess.run(["fc-list", ":lang=zh-cn"], capture_output=True, text=True).stdout:
        missing("a Chinese font (apt-get install fonts-noto-cjk)")
    page = opened(site, language="zh-CN")
    assert page.locator("h1").inner_text() == "全部栈"
    drawn = page.evaluate(
        """() => {
            const font = getComputedStyle(document.body).font;
            return [..."全部栈健康\\u{10FFFE}\\u{10FFFD}"].map((letter) => {
                const canvas = new OffscreenCanvas(40, 40), pen = canvas.getContext("2d");
                pen.font = font; pen.fillText(letter, 5, 28);
                return pen.getImageData(0, 0, 40, 40).data.join();
            });
        }"""
    )
    assert len(set(drawn[:5])) == 5
    assert not set(drawn[:5]) & set(drawn[5:])


COLORS = """() => {
    const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
    const ground = (one) => {
        for (; one; one = one.parentElement) {
            const color = parse(getComputedStyle(one).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const one of document.querySelectorAll("body *")) {
        if (![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
        if (!one.checkVisibility() || one.closest("noscript")) continue;
        const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) poor.push(`${one.tagName} ${one.className} ${one.textContent.slice(0, 30)} ${ratio}`);
    }
    return poor;
}"""


def test_every_text_stands_out_from_its_ground(site: Site, opened: Any) -> None:
    """WCAG 2.2 AA: 4.5 to 1."""
    page = opened(site)
    for path in PAGES:
        page.goto(f"{site.origin}{path}")
        assert page.evaluate(COLORS) == [], path


def test_lines_of_the_chain_meet_the_cards(site: Site, opened: Any) -> None:
    """They are drawn by numbers that the style sheet has to keep to."""
    page = opened(site)
    page.goto(f"{site.origin}/stack?stack=.")
    boxes = page.evaluate("[...document.querySelectorAll('.card')].map((one) => one.getBoundingClientRect().toJSON())")
    lines = page.evaluate(
        "[...document.querySelectorAll('.lines path')].map((one) => one.getBoundingClientRect().toJSON())"
    )
    assert lines
    for line in lines:
        assert any(abs(line["left"] - box["right"]) < 3 and box["top"] < line["top"] < box["bottom"] for box in boxes)
        assert any(abs(line["right"] - box["left"]) < 3 and box["top"] < line["top"] < box["bottom"] for box in boxes)


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS=FOLDER keeps a picture of every page")
@pytest.mark.parametrize(("language", "width"), [("en-US", 1280), ("zh-CN", 1280), ("en-US", 360), ("zh-CN", 360)])
def test_pictures_for_whoever_wants_to_look(site: Site, opened: Any, language: str, width: int) -> None:
    folder = Path(os.environ["SCREENSHOTS"])
    page = opened(site, language=language, width=width)
    for path in PAGES:
        page.goto(f"{site.origin}{path}")
        name = re.sub(r"\W+", "-", path).strip("-")
        page.screenshot(path=folder / f"{name}-{language}-{width}.png", full_page=True)
