import re
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from catalogs import catalog
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect
from pruned_studies import Pruned
from trained_studies import Trained

from service.app import create_app
from service.settings import ServiceSettings
from studies.errors import StoreUnavailable
from studies.space import Range
from studies.states import StudyMove
from studies.store import Store
from studies.views import StudyRecord, StudyView

pytestmark = pytest.mark.browser

_ARMS = ["adamp", "adamw", "sgdp", "stepper"]
_WAIT_S = 20


@pytest.fixture(scope="module")
def browser(browser: Browser) -> Browser:
    """One Chromium for all of these tests, with patience."""
    # The first analysis of a page, in a process that is still starting, takes seconds on a busy machine.
    expect.set_options(timeout=_WAIT_S * 1000)
    return browser


@pytest.fixture
def url(
    settings: ServiceSettings, store: Store, serve_app: Callable[..., AbstractContextManager[str]]
) -> Generator[str]:
    """The address of a service with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    with serve_app(create_app(settings, store)) as address:
        yield address


@dataclass
class Reader:
    """A page in a browser, with its errors and warnings."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        """Record an error or a warning, such as a violation of the content security policy."""
        if message.type in {"error", "warning", "trace"}:
            self.errors.append(message.text)


@pytest.fixture
def reader(browser: Browser) -> Generator[Reader]:
    """A reader with a wide screen."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    reading = Reader(context.new_page())
    reading.page.on("console", reading.note)
    reading.page.on("pageerror", lambda error: reading.errors.append(str(error)))
    yield reading
    context.close()


def eventually(page: Page, claim: str) -> None:
    """Wait until a JavaScript expression is true.

    Playwright's own way to wait evaluates text as code, which the page's policy forbids.
    """
    deadline = time.monotonic() + _WAIT_S
    while not page.evaluate(claim):
        assert time.monotonic() < deadline, claim
        page.wait_for_timeout(50)


def within(chart: Locator, share: float) -> tuple[float, float]:
    """Return a point in a chart, at this fraction of its width."""
    chart.scroll_into_view_if_needed()
    frame = chart.locator(".nsewdrag").first.bounding_box()
    assert frame is not None
    return frame["x"] + share * frame["width"], frame["y"] + frame["height"] / 2


@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_page_that_was_shown_before_its_analysis_gets_it_by_itself(
    browser: Browser, url: str, store: Store, monkeypatch: pytest.MonkeyPatch, *, has_scripts: bool
) -> None:
    run = Trained(store, arms=_ARMS[:2], budget={"trials_per_arm": 4, "epochs": 3}).train().close()
    monkeypatch.setattr("service.dashboard.study_page._PAGE_WAIT_S", 0.0)
    may_go_on, record = threading.Event(), store.study_record

    def wait(study_id: str) -> StudyRecord:
        assert may_go_on.wait(30)
        return record(study_id)

    monkeypatch.setattr(store, "study_record", wait)
    context = browser.new_context(java_script_enabled=has_scripts)
    page = context.new_page()
    reading = Reader(page)
    page.on("console", reading.note)
    page.goto(f"{url}/studies/{run.id}#sensitivity", wait_until="commit")
    expect(page.locator("#pending")).to_be_visible()
    expect(page.locator("#trials tbody tr").first).to_be_visible()
    may_go_on.set()
    expect(page.locator("#pending")).to_have_count(0, timeout=60_000)
    if has_scripts:
        expect(page.locator("#by-lr .main-svg").first).to_be_visible()
        eventually(page, "document.querySelector('#sensitivity').getBoundingClientRect().top < innerHeight")
    expect(page.locator("nav.contents a[href='#sensitivity']")).to_have_count(1)
    assert reading.errors == []
    context.close()


def test_every_chart_is_drawn_in_every_theme_and_width_without_errors(
    reader: Reader, url: str, store: Store
) -> None:
    fields = {
        "budget": {"trials_per_arm": 4, "epochs": 3},
        "confirmation": {"seeds": 3},
        "suite": "small-nets",
    }
    run = Trained(store, arms=_ARMS, width=4, **fields).train().confirm().close()
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    for more in page.locator("details.more").all():
        more.locator("summary").first.click()
    layers = page.locator("#more-layers-adamp")
    layers.scroll_into_view_if_needed()
    expect(layers.locator(".plot")).to_have_count(3)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    charts = page.locator(".plot")
    assert charts.count() >= 16
    for n in range(charts.count()):
        expect(charts.nth(n).locator(".main-svg").first).to_be_visible()
    ink = "getComputedStyle(document.querySelector('#by-lr .xtick text')).fill"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    eventually(page, f"{ink} !== '{light}'")
    page.set_viewport_size({"width": 380, "height": 800})
    eventually(page, "document.querySelector('#by-lr .main-svg').getBoundingClientRect().width < 380")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380, (
        "the page itself must not scroll sideways"
    )
    page.goto(f"{url}/trials/{run.id}.adamp.1")
    assert page.locator("#gradient-cosine .main-svg").count() == 0, (
        "charts far below the viewport are drawn later"
    )
    page.locator("#gradient-cosine").scroll_into_view_if_needed()
    expect(page.locator("#gradient-cosine .main-svg").first).to_be_visible()
    assert reader.errors == []


def test_a_live_page_updates_and_keeps_what_the_reader_has_changed(
    reader: Reader, url: str, store: Store
) -> None:
    run = Trained(store, budget={"trials_per_arm": 3, "epochs": 2}, width=2).train(2)
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    expect(page.locator("#progress .facts")).to_contain_text("2 of 6 completed")
    chart = page.locator("#budget-curves")
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".main-svg").first).to_be_visible()
    last = "Math.max(...document.getElementById('budget-curves').data.flatMap(trace => trace.x))"
    assert page.evaluate(last) == 1
    # The reader opens a <details>, zooms, hides an arm and focuses a button.
    page.locator("#python-adamp summary").click()
    page.mouse.move(*within(chart, 0.2))
    page.mouse.down()
    page.mouse.move(*within(chart, 0.7), steps=4)
    page.mouse.up()
    shown = "document.getElementById('budget-curves').layout.xaxis.range"
    eventually(page, f"{shown}[0] > 0.6")
    zoomed = page.evaluate(shown)
    page.locator("#show-adamw").uncheck()
    page.locator("#do-pause").focus()
    run.train(2)
    expect(page.locator("#progress .facts")).to_contain_text("4 of 6 completed")
    eventually(page, f"{last} === 2")
    assert page.evaluate(shown) == zoomed
    assert page.evaluate("document.getElementById('budget-curves').data.map(trace => trace.visible)") == [
        True,
        False,
    ]
    expect(page.locator("#python-adamp")).to_have_attribute("open", "")
    expect(page.locator("#do-pause")).to_be_focused()
    page.mouse.dblclick(*within(chart, 0.5))
    eventually(page, f"{shown}[0] === 0")
    run.train().close()
    expect(page.locator("#status .state")).to_have_text("completed")
    expect(page.locator("#announcement")).to_have_text("Now completed")
    expect(page.locator("#live")).not_to_have_attribute("hx-trigger", "every 2s")
    assert reader.errors == []


def test_a_live_page_shows_promotions_at_rungs(reader: Reader, url: str, store: Store) -> None:
    run = Pruned(store, arms=["adamp", "adamw"]).fit("adamp", width=8, w1=900.0, w8=5670.0).train(1)
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    expect(page.locator("#status .title")).to_contain_text("4 waiting at a rung")
    expect(page.locator("#rungs")).to_contain_text("1 of 3 (2 waiting)")
    run.train(2)
    expect(page.locator("#rungs")).to_contain_text("2 of 6 (4 waiting)")
    run.train().close()
    expect(page.locator("#progress .facts")).to_contain_text("14 pruned")
    expect(page.locator("#rungs")).to_contain_text("Pruned: 14 of 18 trials.")
    page.locator("#by-lr").scroll_into_view_if_needed()
    expect(page.locator("#by-lr .main-svg").first).to_be_visible()
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 380, "height": 800})
    eventually(page, "document.documentElement.scrollWidth <= 380")
    assert reader.errors == []


def test_charts_appear_when_the_first_trial_has_finished(reader: Reader, url: str, store: Store) -> None:
    run = Trained(store).train(1)
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    # Trials in training have charts of their own: their curves and their layers.
    expect(page.locator("#live-curves")).to_be_attached()
    expect(page.locator("#pending")).to_have_count(0)
    assert page.locator("#by-lr").count() == 0
    run.train(1)
    expect(page.locator("#by-lr")).to_be_attached()
    page.locator("#by-lr").scroll_into_view_if_needed()
    expect(page.locator("#by-lr .main-svg").first).to_be_visible()
    assert reader.errors == []


def test_what_is_hidden_zoomed_and_rescaled_is_in_the_address_and_charts_are_saved(
    reader: Reader, url: str, store: Store, tmp_path: Path
) -> None:
    budget = {"trials_per_arm": 4, "epochs": 3}
    run = Trained(store, budget=budget, confirmation={"seeds": 2}, width=4).train().confirm().close()
    page = reader.page
    page.goto(f"{url}/studies/{run.id}?hide=adamw&zoom=by-lr_xaxis_-3_-2&x=step&y=log")
    for name in ("by-lr", "validation-metric"):
        page.locator(f"#{name}").scroll_into_view_if_needed()
        expect(page.locator(f"#{name} .main-svg").first).to_be_visible()
    assert page.evaluate("document.getElementById('by-lr').layout.xaxis.range") == [-3, -2]
    curves = "document.getElementById('validation-metric')"
    assert page.evaluate(f"{curves}.layout.yaxis.type") == "log"
    # 1000 examples in batches of 32.
    assert page.evaluate(f"{curves}.data[0].x") == [32, 64, 96]
    expect(page.locator("#show-adamw")).not_to_be_checked()
    page.locator("#show-adamp").uncheck()
    eventually(page, "location.search.startsWith('?hide=adamp&hide=adamw&zoom=by-lr_xaxis_-3_-2')")
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("csv", b"arm,")):
        with page.expect_download() as saved:
            page.locator(f"button[data-save={kind}][data-chart=by-lr]").click()
        saved.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(start)
    assert reader.errors == []


def test_collapsed_charts_are_drawn_when_they_are_opened(reader: Reader, url: str, store: Store) -> None:
    run = Trained(store).train().close()
    page = reader.page
    page.goto(f"{url}/studies/{run.id}#sensitivity")
    assert page.locator("#weight-norm .main-svg").count() == 0
    page.locator("#more-probes summary").first.click()
    expect(page.locator("#weight-norm .main-svg").first).to_be_visible()
    width = page.locator("#weight-norm .main-svg").first.bounding_box()
    assert width is not None
    assert width["width"] > 200
    assert reader.errors == []


def test_a_study_can_be_confirmed_and_cloned_with_the_mouse(reader: Reader, url: str, store: Store) -> None:
    run = Trained(store, confirmation={"seeds": 2}, width=4).train().confirm().close()
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    page.locator("#ask-confirm summary").click()
    page.get_by_role("button", name="Confirm", exact=True).click()
    expect(page.locator("#status .state")).to_have_text("queued")
    assert store.study(run.id).spec.confirmation.seeds == 7
    page.get_by_role("link", name="Clone …").click()
    page.get_by_role("button", name="Submit study").click()
    expect(page.locator("#status .state")).to_have_text("queued")
    assert store.studies().total == 2
    assert reader.errors == []


def test_a_suite_and_a_comparison_fit_a_phone_and_draw_their_charts(
    reader: Reader, url: str, store: Store
) -> None:
    fields = {"arms": ["adamp", "adamw"], "confirmation": {"seeds": 3}, "suite": "small-nets", "width": 8}
    ids = [
        Trained(store, workload=workload, **fields).train().confirm().close().id
        for workload in ("digits-mlp", "char-lm", "digits-mlp")
    ]
    page = reader.page
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto(f"{url}/suites/small-nets")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".plot").count() == 3
    for n in range(3):
        expect(page.locator(".plot").nth(n).locator(".main-svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.goto(f"{url}/")
    for study_id in (ids[0], ids[2]):
        page.locator(f"input[value='{study_id}']").check()
    page.get_by_role("button", name="Compare selected studies").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Comparison on digits-mlp")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.goto(f"{url}/studies/{ids[0]}")
    for arm in ("adamp", "adamw"):
        page.locator(f"#pick-arm-{arm}").check()
    page.get_by_role("button", name="Compare selected arms").click()
    page.locator("#compared-curves").scroll_into_view_if_needed()
    expect(page.locator("#compared-curves .main-svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert reader.errors == []


def test_the_keyboard_reaches_the_content_and_the_buttons(reader: Reader, url: str, store: Store) -> None:
    run = Trained(store).train(1)
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pause")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#status .state")).to_have_text("paused")
    assert store.study(run.id).state == "paused"
    # Actions that cannot be undone need a confirmation.
    page.locator("#confirm-cancel summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Cancel this study")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#status .state")).to_have_text("cancelling")
    run.close(StudyMove.FINISH)
    expect(page.locator("#status .state")).to_have_text("cancelled")
    assert reader.errors == []


def test_a_verdict_by_budget_is_drawn_in_every_theme_on_a_phone_and_in_print(
    reader: Reader, url: str, store: Store
) -> None:
    run = _paired(store).train().confirm().close()
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    chart = page.locator("#budget-curves")
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".main-svg").first).to_be_visible()
    assert chart.locator(".subplot").count() == 2
    expect(chart.locator(".annotation")).to_contain_text("k = 2")
    mark = "getComputedStyle(document.querySelector('#budget-curves .shapelayer path')).stroke"
    light = page.evaluate(mark)
    page.emulate_media(color_scheme="dark")
    eventually(page, f"{mark} !== '{light}'")
    page.set_viewport_size({"width": 390, "height": 800})
    eventually(page, "document.querySelector('#budget-curves .main-svg').getBoundingClientRect().width < 390")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#show-adamw").uncheck()
    eventually(
        page,
        "document.getElementById('budget-curves').data.every(t => t.visible === (t.meta.arm !== 'adamw'))",
    )
    page.emulate_media(media="print")
    expect(page.get_by_role("heading", name="Which configuration should I ship?")).to_be_visible()
    expect(chart.locator(".main-svg").first).to_be_visible()
    assert reader.errors == []


def test_a_verdict_by_budget_needs_neither_script_nor_mouse(browser: Browser, url: str, store: Store) -> None:
    run = _paired(store).train().confirm().close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/studies/{run.id}")
    expect(page.locator(".finding").nth(1)).to_be_visible()
    section = page.locator("#budget")
    expect(section.locator(".word")).to_have_count(1)
    expect(page.locator("#budget-curves")).to_be_hidden()
    numbers = page.locator("#budget-curves-numbers")
    expect(numbers.locator("table")).to_be_hidden()
    numbers.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(numbers.locator("tbody tr")).to_have_count(2 * 4)
    section.get_by_role("link", name="by seconds").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#budget-curves-title")).to_contain_text("seconds")
    context.close()


def test_a_word_leads_to_its_definition_and_the_manual_is_searched_without_script(
    browser: Browser, url: str, store: Store
) -> None:
    budget = {"trials_per_arm": 4, "epochs": 2}
    run = Trained(store, arms=["adamp", "stepper"], budget=budget, confirmation={"seeds": 3})
    study_id = run.train().confirm().close().id
    context = browser.new_context(viewport={"width": 390, "height": 800}, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/studies/{study_id}#pairs")
    page.get_by_role("link", name="p (Holm)").click()
    assert page.url == f"{url}/help/statistics#a-pair-of-arms.p_holm"
    expect(page.locator("[id='a-pair-of-arms.p_holm']")).to_be_in_viewport()
    page.get_by_label("Search the manual").fill("edge of space")
    page.get_by_label("Search the manual").press("Enter")
    page.locator(".found a").first.click()
    assert page.url == f"{url}/help/statistics#checks.edge-of-space"
    expect(page.locator("[id='checks.edge-of-space']")).to_be_in_viewport()
    context.close()


def test_a_live_page_gives_its_words_once_all_pairs_have_ended(
    reader: Reader, url: str, store: Store
) -> None:
    run = _paired(store).train(8)
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    section = page.locator("#budget")
    expect(section).to_contain_text("16 pairs")
    expect(section.locator(".word")).to_have_count(0)
    run.train()
    expect(section.locator(".word")).to_have_count(1)
    run.close()
    expect(page.locator("#status .state")).to_have_text("completed")
    assert reader.errors == []


def _paired(store: Store) -> Trained:
    """A study of two arms of 16 pairs."""
    budget = {"trials_per_arm": 18, "epochs": 2}
    return Trained(
        store,
        arms=["adamp", "adamw"],
        budget=budget,
        search={"paired": 16},
        confirmation={"seeds": 3},
        width=4,
    )


def test_the_page_says_that_the_service_is_not_responding(
    reader: Reader,
    settings: ServiceSettings,
    store: Store,
    serve_app: Callable[..., AbstractContextManager[str]],
) -> None:
    store.announce(catalog(), dispatcher="here")
    run = Trained(store).train(1)
    with serve_app(create_app(settings, store)) as address:
        reader.page.goto(f"{address}/studies/{run.id}")
        expect(reader.page.locator("#connection")).to_be_hidden()
    expect(reader.page.locator("#connection")).to_be_visible()


def test_the_page_says_that_the_database_does_not_answer_until_it_does(
    reader: Reader, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Trained(store).train(1)
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")

    def fail(_study_id: str) -> StudyView:
        raise StoreUnavailable("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(store, "study", fail)
        with page.expect_response(lambda answer: answer.status == 503):
            pass
        expect(page.locator("#connection")).to_be_visible()
    expect(page.locator("#connection")).to_be_hidden()
    expect(page.locator("#gone")).to_be_hidden()


def test_the_page_of_a_study_that_was_deleted_meanwhile_says_so_and_stops_asking(
    reader: Reader, url: str, store: Store
) -> None:
    run = Trained(store).train(1)
    page = reader.page
    page.goto(f"{url}/studies/{run.id}")
    page.context.set_offline(True)
    run.train().close()
    store.delete(run.id)
    page.context.set_offline(False)
    expect(page.locator("#gone")).to_be_visible()
    expect(page.locator("#connection")).to_be_hidden()
    expect(page.locator("[data-live]")).to_have_count(0)


def test_the_form_adds_fields_and_dimensions_to_the_study(reader: Reader, url: str, store: Store) -> None:
    page = reader.page
    page.goto(f"{url}/new?as=text")
    page.locator("#fields summary").click()
    page.locator("#searchable summary").click()
    for text in ("evaluate_every", '"objective": {"at"', '"verdict_at"', '"keep"', '"check_workload"'):
        page.locator("#fields tr", has_text=text).get_by_role("button").click()
    for name in ("training.batch_size", "groups.norms.lr"):
        page.get_by_role("button", name=f"Add {name}", exact=True).click()
    expect(page.locator("#added")).to_have_text("Added: space")
    page.get_by_role("button", name="Check without submitting").click()
    expect(page.get_by_role("status").first).to_contain_text("This study is valid: 2 arms")
    assert store.studies().total == 0
    page.get_by_role("button", name="Submit study").click()
    page.wait_for_url(f"{url}/studies/*")
    [summary] = store.studies().items
    spec = store.study(summary.id).spec
    assert (spec.budget.steps, spec.objective.at, spec.keep.weights) == (2000, "best", "best")
    assert not spec.check_workload
    assert (spec.search.paired, spec.search.verdict_at) == (12, 3)
    assert list(spec.space) == ["training.batch_size", "groups.norms.lr"]
    page.goto(f"{url}/new?as=text")
    page.locator("#spec-text").fill("workload: digits-mlp")
    page.locator("#fields summary").click()
    page.locator("#fields button").first.click()
    expect(page.locator("#added")).to_contain_text("not JSON")
    assert reader.errors == []


def test_a_study_is_written_in_the_form_with_the_keyboard_alone(
    reader: Reader, url: str, store: Store
) -> None:
    page = reader.page
    page.goto(f"{url}/new")
    findings = page.locator("#findings")

    def type_in(label: str, text: str) -> None:
        page.get_by_label(label, exact=True).focus()
        page.keyboard.press("Control+A")
        page.keyboard.type(text)

    expect(findings).to_contain_text("This study is valid: 2 arms, 32 trials")
    type_in("Name", "By keyboard")
    type_in("Trials per arm", "many")
    expect(findings).to_contain_text("1 fault")
    trials = page.get_by_label("Trials per arm", exact=True)
    expect(trials).to_have_attribute("aria-invalid", "true")
    expect(trials).to_have_value("many")
    findings.get_by_role("link", name="/budget/trials_per_arm").press("Enter")
    expect(trials).to_be_focused()
    type_in("Trials per arm", "12")
    expect(findings).to_contain_text("This study is valid: 2 arms, 24 trials")
    rate = page.locator("#arm-1").get_by_label("lr", exact=True)
    rate.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    low = page.locator("#arm-1").get_by_label("from (lr)")
    expect(low).to_have_value("1e-05")
    expect(low).to_be_visible()
    low.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("1e-4")
    page.get_by_label("Another arm").focus()
    page.keyboard.type("SGDP")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#arm-2 legend").first).to_have_text("Arm 3: sgdp")
    expect(page.locator("#same-json code")).to_contain_text('"trials_per_arm": 12')
    page.locator("#same-yaml summary").press("Enter")
    expect(page.locator("#same-yaml code")).to_contain_text("name: By keyboard")
    page.locator("#arm-1").get_by_label("lr", exact=True).focus()
    page.keyboard.press("ArrowUp")
    value = page.locator("#arm-1").get_by_label("value (lr)")
    expect(value).to_have_value("0.001")
    value.fill("")
    expect(findings).to_contain_text("1 fault")
    expect(value).to_have_value("")
    page.locator("#arm-1").get_by_label("lr", exact=True).focus()
    page.keyboard.press("ArrowDown")
    expect(findings).to_contain_text("This study is valid: 3 arms")
    expect(low).to_have_value("1e-4")
    page.reload()
    expect(page.locator("#draft")).to_be_visible()
    expect(page.locator("#arm-2 legend").first).to_have_text("Arm 3: sgdp")
    expect(findings).to_contain_text("This study is valid: 3 arms")
    page.get_by_role("button", name="Edit as text").press("Enter")
    expect(page.locator("#spec-text")).to_have_value(re.compile('"low": 0.0001'))
    page.get_by_role("button", name="Edit in the form").press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_have_value("By keyboard")
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.get_by_role("button", name="Submit study").press("Enter")
    page.wait_for_url(f"{url}/studies/*")
    [summary] = store.studies().items
    spec = store.study(summary.id).spec
    assert (spec.name, spec.budget.trials_per_arm) == ("By keyboard", 12)
    assert spec.arms[1].space == {"lr": Range(low=1e-4, high=0.1, log=True)}
    page.goto(f"{url}/new")
    expect(findings).to_contain_text("This study is valid")
    expect(page.locator("#draft")).to_be_hidden()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    type_in("Name", "Not after all")
    page.route("**/new", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    page.reload()
    expect(page.locator("#unchecked")).to_be_visible()
    expect(page.locator("#draft")).to_be_hidden()
    type_in("Name", "Another one")
    page.unroute("**/new")
    reader.errors.clear()
    page.reload()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Not after all")
    page.get_by_role("button", name="Discard draft").press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    expect(page.locator("#draft")).to_be_hidden()
    assert reader.errors == []
