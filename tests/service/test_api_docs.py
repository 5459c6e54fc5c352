"""/docs in a real browser, under the service's content security policy."""

import pytest
from playwright.sync_api import sync_playwright

__all__: list[str] = []


@pytest.mark.browser
def test_the_api_documentation_works_in_a_browser(live: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{live}/docs")
        page.get_by_text("Submit a study", exact=True).click()
        page.locator("#operations-index-get_index button.opblock-summary-control").click()
        page.locator("#operations-index-get_index").get_by_role("button", name="Try it out").click()
        page.locator("#operations-index-get_index").get_by_role("button", name="Execute").click()
        answer = page.locator("#operations-index-get_index .live-responses-table")
        answer.wait_for()
        assert "/v1/studies/{study_id}" in answer.inner_text()
        browser.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((live, "data:", "blob:"))] == []
