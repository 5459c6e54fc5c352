"""The report in a real browser, from the service and from a file: its style applies, and it loads nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import sync_playwright

__all__: list[str] = []


@pytest.mark.browser
def test_the_page_shows_its_charts_under_its_policy(
    live: str, play: Callable[..., str], body: dict[str, Any], tmp_path: Path
) -> None:
    address = f"{live}/v1/studies/{play(body, confirm=5)}/report?format=html"
    file = tmp_path / "report.html"
    file.write_text(httpx.get(address, timeout=60).text, encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for where in (address, file.as_uri()):
            page = browser.new_page()
            messages: list[str] = []
            requests: list[str] = []
            page.on("console", lambda message, messages=messages: messages.append(message.text))
            page.on("request", lambda request, requests=requests: requests.append(request.url))
            page.goto(where)
            assert page.get_by_role("img").count() == 2
            stroke = page.locator("svg .line.arm-0").first.evaluate("line => getComputedStyle(line).stroke")
            assert stroke == "rgb(0, 114, 178)", "the style sheet must apply"
            assert [url for url in requests if not url.endswith("favicon.ico")] == [where]
            assert [line for line in messages if "favicon" not in line] == []
        browser.close()
