import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from setuptools import Distribution

from service.dashboard.theme import CONTENT_SECURITY_POLICY

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


class Page(HTMLParser):
    """The start tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all_of(self, name: str) -> list[str]:
        """Return the values of an attribute, in the order of the page."""
        return [str(attributes[name]) for _, attributes in self.elements if name in attributes]


@pytest.fixture
def pages(http: httpx.Client) -> httpx.Client:
    """A browser's view of a service."""
    http.headers["accept"] = "text/html"
    return http


def read(pages: httpx.Client, path: str) -> Page:
    answer = pages.get(path)
    assert answer.status_code == 200, (path, answer.text)
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    return Page(answer.text)


def broken_links(pages: httpx.Client, path: str, known: dict[str, Page]) -> list[str]:
    """Return the links to the manual, and within a page, that lead nowhere; `known` keeps what was read."""

    def at(path: str) -> Page:
        if path not in known:
            known[path] = read(pages, path)
        return known[path]

    page = at(path)
    broken: list[str] = []
    for href in page.all_of("href"):
        target = urlsplit(urljoin(path, href))
        if target.netloc or not (target.path.startswith("/help") or href.startswith("#")):
            continue
        there = at(target.path)
        if target.fragment and target.fragment not in there.all_of("id"):
            broken.append(href)
    return broken


def test_every_link_of_the_manual_leads_to_a_page_and_an_anchor(pages: httpx.Client) -> None:
    known: dict[str, Page] = {}
    contents = read(pages, "/help").all_of("href")
    assert {f"/help/{name}" for name in DOCUMENTS} <= set(contents)
    paths = [path for path in contents if path.startswith("/help")]
    assert [broken for path in paths for broken in broken_links(pages, path, known)] == []
    # Links to other files of the repository became their paths.
    hrefs = {href for page in known.values() for href in page.all_of("href")}
    assert {href for href in hrefs if not href.startswith(("#", "/", "https://"))} == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_valid_accessible_and_within_the_content_security_policy(
    pages: httpx.Client, name: str
) -> None:
    page = read(pages, f"/help/{name}")
    ids = page.all_of("id")
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    assert [a for tag, a in page.elements if tag in {"h2", "h3", "h4"} and "id" not in a] == []
    assert page.all_of("style") == []
    assert not [tag for tag, _ in page.elements if tag in {"img", "style", "iframe"}]
    assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("p_holm", "/help/statistics#a-pair-of-arms.p_holm"),
        ("edge of space", "/help/statistics#checks.edge-of-space"),
        ("Backup, restore", "/help/cluster#backup-and-restore"),
        ("clip_no", "/help/study#training.clip_norm"),
    ],
)
def test_a_search_finds_the_passage_that_defines_a_term(pages: httpx.Client, text: str, first: str) -> None:
    html = pages.get("/help", params={"q": text}).text
    found = [href for href in Page(html.partition("<ol")[2]).all_of("href") if "#" in href]
    assert found[0] == first
    assert "<mark>" in html


@pytest.mark.parametrize("text", ['"', "NEAR(", "-* ^ :", "\ud800x", "<b>zzzzqq</b>", "zzzzqq"])
def test_any_text_can_be_searched_for(pages: httpx.Client, text: str) -> None:
    answer = pages.get("/help?q=" + "".join(f"%{b:02x}" for b in text.encode("utf-8", "surrogatepass")))
    assert answer.status_code in {200, 422}
    assert "<b>zzzzqq" not in answer.text


def test_a_document_that_does_not_exist_is_not_found(pages: httpx.Client) -> None:
    assert pages.get("/help/no-such").status_code == 404


def test_an_installed_package_contains_the_manual() -> None:
    distribution = Distribution({"name": "tangent-studies"})
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    package_data: dict[str, Any] = distribution.package_data or {}
    folder = ROOT / "service" / "dashboard"
    packed = {path.stem for pattern in package_data["service.dashboard"] for path in folder.glob(pattern)}
    assert set(DOCUMENTS) <= packed
