"""/docs: the page has everything that the OpenAPI description has, and its commands work."""

import json
import re
import shlex
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import expect, sync_playwright

from studies.store import Store

__all__: list[str] = []


class Docs(HTMLParser):
    """The ids, the links and the loaded files of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.links += [str(given[name]) for name in ("href", "src") if name in given]
        assert "style" not in given
        assert tag != "script" or "src" in given


@pytest.fixture
def page(http: httpx.Client) -> str:
    answer = http.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.text


def test_the_page_has_every_request_and_every_schema_and_all_its_links_lead_somewhere(
    http: httpx.Client, open_app: FastAPI, page: str
) -> None:
    described: dict[str, Any] = open_app.openapi()
    found = Docs(page)
    assert len(found.ids) == len(set(found.ids))
    operations = [
        operation
        for paths in (described["paths"], described["webhooks"])
        for item in paths.values()
        for operation in item.values()
    ]
    assert {operation["operationId"] for operation in operations} <= set(found.ids)
    assert {f"schema-{name}" for name in described["components"]["schemas"]} <= set(found.ids)
    assert [link for link in found.links if link.startswith("#") and link[1:] not in found.ids] == []
    for link in {link for link in found.links if link.startswith("/static/")}:
        assert http.get(link).status_code == 200
    assert [link for link in found.links if not link.startswith(("/", "#"))] == []


def test_studies_come_first_and_parameters_have_their_limits(page: str) -> None:
    sections = re.findall(r'<section id="tag-(\w+)"', page)
    assert sections[:3] == ["studies", "analysis", "trials"]
    listing = page[page.index('id="list_studies"') :]
    listing = unescape(re.sub(r"<[^>]+>", "", listing[: listing.index("</details>")]))
    assert "whole number, at least 1, at most 500, by default 50" in " ".join(listing.split())


def test_the_commands_of_the_page_can_be_sent(http: httpx.Client, page: str, store: Store) -> None:
    commands = [unescape(found) for found in re.findall(r"<code>(curl .*?)</code>", page, flags=re.DOTALL)]
    assert len(commands) > 40
    known = [shlex.split(command.replace("\\\n", " ")) for command in commands]
    [submit] = [words for words in known if words[-1].startswith('{"workload": "digits-mlp", "arms"')]
    assert submit[:2] == ["curl", "$TANGENT_URL/v1/studies"]
    assert "Content-Type: application/json" in submit
    made = http.post("/v1/studies", json=json.loads(submit[-1]))
    assert made.status_code == 201
    [pause] = [words for words in known if any(word.endswith(":pause") for word in words)]
    assert pause[:3] == ["curl", "-X", "POST"]
    path = pause[3].removeprefix("$TANGENT_URL").replace("k3f9x2db", made.json()["id"])
    assert http.post(path).json()["state"] == "paused"
    assert [summary.state for summary in store.studies().items] == ["paused"]
    other = http.post("/v1/studies", json=json.loads(submit[-1])).json()["id"]
    addresses = [
        words[1].removeprefix("$TANGENT_URL") for words in known if words[1].startswith("$TANGENT_URL")
    ]
    asked = [address for address in addresses if "?" in address]
    assert {address.partition("?")[0] for address in asked} == {"/v1/comparison", "/v1/verdicts"}
    for address in asked:
        known_ids = address.replace("k3f9x2db", made.json()["id"]).replace("w7c4m9zt", other)
        assert http.get(known_ids).status_code == 200, known_ids
    opened = re.findall(r'<a href="(/[^"#]*)">Open <code>', page)
    assert len(opened) > 8
    assert not {"/v1/comparison", "/v1/verdicts"} & {*opened}


@pytest.mark.browser
def test_a_link_to_a_request_opens_it(live: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(java_script_enabled=False)
        page.goto(f"{live}/docs#submit_study")
        expect(page.locator("#submit_study").get_by_role("heading", name="Body")).to_be_visible()
        page.locator("#submit_study").get_by_role("link", name="StudySpec (sent)").first.click()
        expect(page.locator("[id='schema-StudySpec-Input']")).to_be_in_viewport()
        browser.close()
