import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from catalogs import catalog
from setuptools import Distribution
from trained_studies import Trained

from service.dashboard.manual_pages import manual_pages
from service.dashboard.theme import CONTENT_SECURITY_POLICY
from studies.analysis.views import CheckKind
from studies.store import Store

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
        there = at(target._replace(fragment="").geturl())
        if target.fragment and target.fragment not in there.all_of("id"):
            broken.append(href)
    return broken


def test_every_link_of_the_manual_leads_to_a_page_and_an_anchor(pages: httpx.Client) -> None:
    known: dict[str, Page] = {}
    contents = read(pages, "/help").all_of("href")
    assert {f"/help/{name}" for name in DOCUMENTS} <= set(contents)
    paths = [path for path in contents if path.startswith("/help")]
    assert [broken for path in paths for broken in broken_links(pages, path, known)] == []
    assert (
        re.findall(r'<a href="/help/([^"#]+)">[^<]*</a></dt><dd class="soft"></dd>', pages.get("/help").text)
        == []
    )
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
    labels = page.all_of("aria-label")
    assert len(labels) == len(set(labels)), "landmarks have different names"
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


@pytest.mark.parametrize("text", ['"', "NEAR(", "-* ^ :", "\ud800x", "<b>zzzzqq</b>", "zzzzqq", "\0a\x1b"])
def test_any_text_can_be_searched_for(pages: httpx.Client, text: str) -> None:
    answer = pages.get("/help?q=" + "".join(f"%{b:02x}" for b in text.encode("utf-8", "surrogatepass")))
    assert answer.status_code in {200, 422}
    assert "<b>zzzzqq" not in answer.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", answer.text)


def test_a_document_that_does_not_exist_is_not_found(pages: httpx.Client) -> None:
    assert pages.get("/help/no-such").status_code == 404


def test_an_installed_package_contains_the_manual() -> None:
    distribution = Distribution({"name": "tangent-studies"})
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    package_data: dict[str, Any] = distribution.package_data or {}
    folder = ROOT / "service" / "dashboard"
    packed = {path.stem for pattern in package_data["service.dashboard"] for path in folder.glob(pattern)}
    assert set(DOCUMENTS) <= packed


@pytest.fixture
def results(store: Store) -> list[str]:
    """Pages with verdicts by seeds, by budget, of a suite and of a comparison, and the page of a trial."""
    store.announce(catalog(), dispatcher="here")
    fields = {"confirmation": {"seeds": 3}, "suite": "small-nets", "width": 8}
    arms = ["adamp", "adamw", "sgdp", "stepper"]
    confirmed = Trained(store, arms=arms, budget={"trials_per_arm": 6, "epochs": 3}, **fields)
    paired = Trained(
        store,
        arms=["adamp", "adamw", "stepper"],
        budget={"trials_per_arm": 20, "epochs": 3},
        search={"paired": 16},
        **fields,
    )
    ids = [run.train().confirm().close().id for run in (confirmed, paired)]
    compared = "&".join(f"study={study_id}" for study_id in ids)
    studies = [f"/studies/{study_id}" for study_id in ids]
    return [*studies, "/suites/small-nets", f"/compare?{compared}", f"/trials/{ids[0]}.adamp.1"]


def test_figures_words_and_checks_of_a_verdict_link_to_their_definitions(
    pages: httpx.Client, results: list[str]
) -> None:
    known: dict[str, Page] = {}
    for path in results:
        assert broken_links(pages, path, known) == [], path
        html = pages.get(path).text
        assert not re.search(r'<(?!a )[a-z]+ class="word', html), path
        charts = re.findall(r'<h3 id="([a-z0-9-]+)-title"><a class="means" href="([^"]+)"', html)
        assert len(charts) == html.count("<figure")
        assert [chart for chart, href in charts if "#" not in href] == []
    verdict = pages.get(results[1]).text.partition('id="verdict"')[2].partition('id="search"')[0]
    headers = re.findall(
        r"<th scope=\"col\"[^>]*>(.*?)</th>", re.sub(r"(?s)<figcaption.*?</figcaption>", "", verdict)
    )
    plain = {header for header in headers if "href" not in header}
    # The names of the arms need no definition.
    assert plain <= {"Arm", '<span class="unseen">Arm</span>', "AdamP", "AdamW", "Stepper"}


def test_every_kind_of_check_is_defined() -> None:
    defined = manual_pages()["statistics"].anchors
    assert {kind for kind in get_args(CheckKind) if f"checks.{kind}" not in defined} == set()
