"""The login in a real browser: the form, the cookie, and links from other sites."""

import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from service.app import create_app
from service.settings import ServiceSettings
from studies.store import Store

pytestmark = pytest.mark.browser

__all__: list[str] = []

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def page() -> Generator[Page]:
    """A page of a browser without cookies."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        yield chromium.new_context(viewport={"width": 380, "height": 800}).new_page()
        chromium.close()


@pytest.fixture
def url(
    settings: ServiceSettings, store: Store, serve_app: Callable[..., AbstractContextManager[str]]
) -> Generator[str]:
    """The address of a service."""
    with serve_app(create_app(settings, store)) as address:
        yield address


def test_a_user_logs_in_follows_links_and_logs_out(page: Page, url: str, store: Store) -> None:
    secret = store.create_token("alice", role="submitter")
    page.goto(f"{url}/optimizers")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.get_by_label("API token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("API token").fill(secret)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{url}/optimizers")
    expect(page.get_by_role("heading", level=1)).to_contain_text("ptimizers")
    assert page.evaluate("document.cookie") == "", "scripts cannot read the cookie"
    (cookie,) = page.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
    for path in ("/account", "/"):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, path
    page.goto(f'data:text/html,<a href="{url}/workloads">elsewhere</a>')
    page.get_by_role("link", name="elsewhere").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("orkloads")
    page.get_by_role("link", name="Account").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.goto(f"{url}/workloads")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    assert [entry.verb for entry in store.audit().items] == [
        "logout",
        "login",
        "login.refused",
        "token.create",
    ]


def test_a_study_stays_in_its_form_when_the_session_ends(page: Page, url: str, store: Store) -> None:
    secret = store.create_token("alice", role="submitter")

    def log_in(tab: Page) -> None:
        tab.get_by_label("API token").fill(secret)
        tab.get_by_role("button", name="Log in").click()

    page.goto(f"{url}/new")
    log_in(page)
    name = page.get_by_label("Name", exact=True)
    expect(name).to_be_visible()
    page.context.clear_cookies()
    name.fill("Long work")
    page.get_by_role("button", name="Submit study").click()
    expect(page.locator("#logged-out")).to_be_visible()
    expect(page.locator("#unchecked")).to_be_hidden()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Log in in another tab").click()
    log_in(opened.value)
    expect(opened.value).to_have_url(f"{url}/")
    page.get_by_role("button", name="Submit study").click()
    page.wait_for_url(f"{url}/studies/*")
    assert [summary.name for summary in store.studies().items] == ["Long work"]


def test_a_form_of_another_site_cannot_use_the_cookie(page: Page, url: str, store: Store) -> None:
    secret = store.create_token("alice", role="submitter")
    page.goto(url)
    page.get_by_label("API token").fill(secret)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{url}/")
    page.goto(f'data:text/html,<form method="post" action="{url}/logout"><button>win</button></form>')
    page.get_by_role("button", name="win").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cross-site")
    page.goto(f"{url}/account")
    expect(page.get_by_role("heading", level=1)).to_have_text("Account")
