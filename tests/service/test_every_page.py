"""Every page in each state: accessible in both themes and widths, whole without scripts, and in print."""

import re
from collections.abc import Generator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import pytest
from catalogs import catalog
from live_servers import serving
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize
from pruned_studies import Pruned
from trained_studies import Trained

from service.app import create_app
from service.rate_limits import RateLimits
from service.settings import ServiceSettings
from studies.states import StudyMove
from studies.store import Store
from studies.trials import CheckResult, WorkloadVersion

pytestmark = pytest.mark.browser

__all__: list[str] = []

DESK: Final[ViewportSize] = {"width": 1440, "height": 900}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
AXE: Final = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# Targets of 24 pixels are not among the rules that axe checks by default.
VIOLATIONS: Final = """async (rules) => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"], ...rules });
  const shown = (nodes) => nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)).join(" | ");
  return violations.map(({ id, nodes }) => `${id}: ${shown(nodes)}`);
}"""
EVERY_RULE: Final = {"rules": {"target-size": {"enabled": True}}}
# What a theme alone can change.
OF_COLOURS: Final = {"runOnly": ["color-contrast", "link-in-text-block"]}
# A sheet of A4 without its margins, in CSS pixels, and the width for which charts are drawn.
SHEET: Final[ViewportSize] = {"width": 718, "height": 1047}


@dataclass(frozen=True)
class Service:
    """A service with a study in each state.

    Attributes:
        url: its address.
        secret: the token of an admin.
        pages: the path of each page, by what it shows.
        statuses: the status of pages that show a problem.
    """

    url: str
    secret: str
    pages: dict[str, str]
    statuses: dict[str, int]


def furnish(store: Store) -> dict[str, str]:
    """Fill a store; return the path of every page, by what it shows."""
    store.announce(catalog(), dispatcher="here")
    budget = {"trials_per_arm": 4, "epochs": 3}
    small: dict[str, Any] = {
        "budget": budget,
        "confirmation": {"seeds": 3},
        "suite": "small-nets",
        "width": 8,
    }
    arms = ["adamp", "adamw", "stepper"]
    one, other = (
        Trained(store, workload=workload, arms=arms, **small).train().confirm().close().id
        for workload in ("digits-mlp", "char-lm")
    )
    again = Trained(store, arms=["adamp", "sgdp"], **small).train().confirm().close().id
    paired = Trained(
        store,
        name="AdamP, AdamW and Stepper on digits",
        arms=arms,
        budget={"trials_per_arm": 20, "epochs": 3},
        search={"paired": 16},
        confirmation={"seeds": 3},
        tags=["paper"],
        width=8,
    )
    completed = paired.train().confirm().close().id
    for text in (
        "Why?",
        "## Why\n\n* **AdamP** projects, see [the paper](https://arxiv.org/abs/2006.08217).",
    ):
        store.set_notes(completed, text)
    failed = Trained(store).train(3).close(StudyMove.FAIL, reason="the dataset is not readable").id
    running = Pruned(store, name="still training").fit("adamp", width=8, w1=900.0, w8=5670.0).train(2)
    checked = WorkloadVersion("digits-mlp", "nets 1.0", batch_size=32, device="cpu", optimizer="adamw")
    running.writer.record_check(
        [CheckResult("loss", "warning", "the loss is a sum", where="nets.py:7")], checked=checked
    )
    trials = [trial for trial in store.every_trial(completed) if trial.arm == "adamp"]
    return {
        "home": "/",
        "home, nothing found": "/?q=nothing",
        "archive": "/?archived=true",
        "running study": f"/studies/{running.id}",
        "completed study": f"/studies/{completed}",
        "study without pairs": f"/studies/{one}",
        "failed study": f"/studies/{failed}",
        "notes": f"/studies/{completed}/notes",
        "trial": f"/trials/{trials[1].id}",
        "running trial": f"/trials/{running.id}.adamp.0",
        "comparison of studies": f"/compare?study={one}&study={again}",
        "comparison of arms": f"/compare?arm={completed}.adamp&arm={completed}.adamw",
        "several workloads": f"/compare?study={completed}&study={other}",
        "layers of an arm": f"/studies/{completed}/layers/adamp",
        "comparison of trials": f"/compare?trial={trials[1].id}&trial={trials[2].id}",
        "suites": "/suites",
        "suite": "/suites/small-nets",
        "optimizers": "/optimizers",
        "optimizers, nothing found": "/optimizers?q=nothing",
        "optimizer": "/optimizers/adamp",
        "workloads": "/workloads",
        "workload": "/workloads/digits-mlp",
        "new study": "/new",
        "new study as text": "/new?as=text",
        "clone": f"/new?study={other}",
        "deletion": f"/studies/{completed}/delete",
        "help": "/help",
        "search in the manual": "/help?q=holm",
        "document of the manual": "/help/statistics",
        "API": "/docs#submit_study",
        "login": "/login",
        "account": "/account",
        "problem": "/studies/zzzzzzzz",
    }


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.dashboard.study_page._PAGE_WAIT_S", 30.0)
        settings = ServiceSettings.load(home=tmp_path_factory.mktemp("every-page"), rate_per_s=0)
        store = Store.open(settings.database_url)
        pages = furnish(store)
        app = create_app(settings, store)
        app.state.login_limits = RateLimits(0)
        secret = store.create_token("root", role="admin")
        with serving(app) as url:
            yield Service(url, secret, pages, {"problem": 404})
        store.close()


def logged_in(browser: Browser, service: Service, **options: Any) -> BrowserContext:
    """Return a context of the browser whose user has logged in."""
    context = browser.new_context(viewport=DESK, **options)
    answer = context.request.post(
        f"{service.url}/login", form={"token": service.secret}, headers={"origin": service.url}
    )
    assert answer.ok
    return context


def violations(page: Page, rules: dict[str, Any]) -> list[str]:
    """Return what axe finds wrong with a page."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    return page.evaluate(VIOLATIONS, rules)


def test_every_page_is_accessible_in_both_themes_at_both_widths(browser: Browser, service: Service) -> None:
    page = logged_in(browser, service, color_scheme="light").new_page()
    messages: list[str] = []
    page.on(
        "console",
        lambda message: messages.append(message.text) if message.type in {"error", "warning"} else None,
    )
    page.on("pageerror", lambda error: messages.append(str(error)))
    found: dict[tuple[str, str], list[str]] = {}
    for name, path in service.pages.items():
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light")
        page.goto(service.url + path)
        found[name, "desk, light"] = violations(page, EVERY_RULE)
        page.emulate_media(color_scheme="dark")
        found[name, "desk, dark"] = violations(page, OF_COLOURS)
        page.set_viewport_size(PHONE)
        found[name, "phone, dark"] = violations(page, EVERY_RULE)
        page.emulate_media(color_scheme="light")
        found[name, "phone, light"] = violations(page, OF_COLOURS)
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
            found[name, "phone"] = ["the page itself scrolls sideways"]
    page.context.close()
    faults = [f"{page}, {mode}: {fault}" for (page, mode), listed in found.items() for fault in listed]
    assert not faults, "\n".join(faults)
    # The browser reports the status of the page that shows a problem.
    assert [text for text in messages if "404" not in text] == []


def test_every_page_is_whole_without_scripts(browser: Browser, service: Service) -> None:
    page = logged_in(browser, service, java_script_enabled=False).new_page()
    for name, path in service.pages.items():
        answer = page.goto(service.url + path)
        assert answer is not None
        assert answer.status == service.statuses.get(name, 200), name
        assert page.locator("h1").count() == 1, name
        assert page.locator("h1").is_visible(), name
        # Code and the manual may have these words.
        texts = page.locator("h1, h2, h3, p, td, th, dd, dt, li").all_inner_texts()
        marks = [text for text in texts if re.search(r"\{\{|\{%|\[object|undefined|\bNone\b", text)]
        assert name in {"document of the manual", "API"} or not marks, (name, marks)
        # Each chart has its numbers as a table, and no button waits for a script.
        charts = page.locator("figure:has(.plot)").count()
        assert page.locator("figure:has(.plot) details table").count() == charts, name
        idle = page.locator("button[type=button]:visible").all_inner_texts()
        assert idle == [], name
    page.context.close()


def test_a_study_is_printed_on_white_without_cut_charts(browser: Browser, service: Service) -> None:
    page = logged_in(browser, service, color_scheme="dark").new_page()
    page.set_viewport_size(SHEET)
    page.goto(service.url + service.pages["completed study"])
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("figure:has(.plot)")].flatMap((figure) => {
          if (!figure.checkVisibility()) return [];
          const { right, height } = figure.getBoundingClientRect();
          const drawn = figure.querySelector(".main-svg")?.getBoundingClientRect().right ?? Infinity;
          return [{ id: figure.querySelector(".plot").id, right: Math.max(right, drawn), height }];
        })"""
    )
    assert len(sizes) > 5
    buttons = "[...document.querySelectorAll('button')].filter((one) => one.checkVisibility()).length"
    assert page.evaluate(buttons) == 0
    cut = [size for size in sizes if size["right"] > SHEET["width"] + 1 or size["height"] > SHEET["height"]]
    assert cut == []
    # Chromium shrinks what is wider than the sheet.
    assert page.evaluate("document.documentElement.scrollWidth") <= 1.25 * SHEET["width"]
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))
    assert 3 <= pages <= 40
    page.context.close()
