"""The switch between the light and the dark theme: the cookie, the pages that follow it, and print."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from trained_studies import Trained

from studies.store import Store

__all__: list[str] = []

PAPER = "getComputedStyle(document.documentElement).backgroundColor"
TICKS = "getComputedStyle(document.querySelector('#budget-curves .xtick text')).fill"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(16, 20, 26)"
INK, DARK_INK = "rgb(26, 31, 38)", "rgb(230, 234, 239)"


def chosen(http: httpx.Client, theme: str, **headers: str) -> httpx.Response:
    return http.post("/theme", data={"theme": theme}, headers=headers)


def test_a_choice_is_kept_in_a_cookie_and_every_page_is_rendered_with_it(
    http: httpx.Client, store: Store
) -> None:
    http.headers["accept"] = "text/html"
    dark_sheet = 'media="screen" id="dark"'
    for path in ("/", "/help/statistics", "/nothing", "/login"):
        assert 'data-theme="auto"' in http.get(path, follow_redirects=True).text
    answer = chosen(http, "dark", referer="http://127.0.0.1:8780/help?q=holm")
    assert (answer.status_code, answer.headers["location"]) == (303, "/help?q=holm")
    cookie = answer.headers["set-cookie"].lower()
    assert ("samesite=lax" in cookie, "httponly" in cookie, "path=/;" in cookie) == (True, False, True)
    for path in ("/", "/help/statistics", "/nothing"):
        page = http.get(path).text
        assert ('data-theme="dark"' in page, dark_sheet in page) == (True, True), path
    study = Trained(store).train().close().id
    report = http.get(f"/v1/studies/{study}/report?format=html")
    assert "@media screen {" in report.text
    assert "cookie" in report.headers["vary"].lower()
    assert 'media="not all" id="dark"' in _after(http, "light")
    assert "@media not all {" in http.get(f"/v1/studies/{study}/report?format=html").text
    assert 'media="screen and (prefers-color-scheme: dark)" id="dark"' in _after(http, "auto")
    assert not http.cookies


def test_an_answer_to_a_form_has_no_switch_without_a_script(http: httpx.Client) -> None:
    http.headers["accept"] = "text/html"
    assert 'action="/theme" id="theme">' in http.get("/new").text
    answer = http.post("/new", data={"spec": "{}"})
    assert (answer.status_code, 'action="/theme" id="theme" hidden>' in answer.text) == (422, True)


def _after(http: httpx.Client, theme: str) -> str:
    """Return the first page after a choice."""
    assert chosen(http, theme).status_code == 303
    return http.get("/").text


@pytest.mark.parametrize(
    ("referer", "to"),
    [
        ("", "/"),
        ("http://127.0.0.1:8780//evil.example/x", "/"),
        ("http://127.0.0.1:8780/login?next=/x", "/"),
        ("http://127.0.0.1:8780/studies/abc", "/studies/abc"),
        ("not an address", "/"),
        ("http://[", "/"),
    ],
)
def test_a_choice_leads_back_to_a_page_of_the_service(http: httpx.Client, referer: str, to: str) -> None:
    assert chosen(http, "dark", referer=referer).headers["location"] == to


def test_an_unknown_theme_is_refused_and_an_unknown_cookie_is_ignored(http: httpx.Client) -> None:
    answer = chosen(http, "blue", accept="application/json")
    assert answer.status_code == 422
    assert "expected theme to be light, dark or auto, got 'blue'" in answer.json()["detail"]
    page = http.get("/", headers={"accept": "text/html", "cookie": 'tangent-theme="><script>'})
    assert 'data-theme="auto"' in page.text


def eventually(page: Page, script: str, value: Any) -> None:
    """Wait until a JavaScript expression has a value."""
    for _ in range(400):
        if page.evaluate(script) == value:
            return
        page.wait_for_timeout(50)
    assert page.evaluate(script) == value


@pytest.mark.browser
def test_a_page_changes_its_theme_without_a_reload_and_prints_in_the_light_one(
    browser: Browser, live: str, store: Store
) -> None:
    study = Trained(store, budget={"trials_per_arm": 4, "epochs": 2}).train().close().id
    page = browser.new_page(color_scheme="light")
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"{live}/studies/{study}")
    page.locator("#budget-curves").scroll_into_view_if_needed()
    expect(page.locator("#budget-curves .main-svg").first).to_be_visible()
    assert (page.evaluate(PAPER), page.evaluate(TICKS)) == (LIGHT, INK)
    page.evaluate("document.title = 'not reloaded'")
    dark = page.get_by_role("button", name="Dark")
    dark.focus()
    page.keyboard.press("Enter")
    eventually(page, PAPER, DARK)
    eventually(page, TICKS, DARK_INK)
    expect(dark).to_be_focused()
    expect(dark).to_have_attribute("aria-pressed", "true")
    assert page.title() == "not reloaded"
    # Print: the page, and the charts, whose colours are written into them.
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert (page.evaluate(PAPER), page.evaluate(TICKS)) == (LIGHT, INK)
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    eventually(page, TICKS, DARK_INK)
    page.goto(f"{live}/help/statistics")
    assert page.evaluate(PAPER) == DARK
    page.get_by_role("button", name="As the browser says").click()
    eventually(page, PAPER, LIGHT)
    page.emulate_media(color_scheme="dark")
    eventually(page, PAPER, DARK)
    page.get_by_role("button", name="Light").click()
    eventually(page, PAPER, LIGHT)
    assert errors == []
    page.close()


@pytest.mark.browser
def test_the_switch_needs_no_script(browser: Browser, live: str) -> None:
    page = browser.new_page(java_script_enabled=False, viewport={"width": 390, "height": 800})
    page.goto(f"{live}/help?q=holm")
    page.get_by_role("button", name="Dark").click()
    assert page.url == f"{live}/help?q=holm"
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    page.close()
