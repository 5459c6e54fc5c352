"""The pages of the catalogue: lists with a search, a page for each card, and the ways that lead there."""

import re
from html import unescape

import httpx
import pytest
from catalogs import catalog, study_body
from playwright.sync_api import expect, sync_playwright
from trained_studies import Trained

from studies.catalog import PublishedResult
from studies.catalog_search import search_cards
from studies.spec import parse_spec
from studies.store import Store
from studies.trials import CheckResult, WorkloadVersion

__all__: list[str] = []

PAPER = "Heo et al., AdamP, ICLR 2021, arXiv:2006.08217; https://clovaai.github.io/AdamP."


@pytest.fixture
def pages(http: httpx.Client, store: Store) -> httpx.Client:
    """A browser's view of a service whose cards name papers, published results and a check's findings."""
    known = catalog()
    adamp = known.optimizers["adamp"].model_copy(
        update={"reference": PAPER, "findings": ("Upstream divides by zero.",)}
    )
    published = PublishedResult(optimizer="adamp", value=0.7257, source="Table 1 of arXiv:2006.08217")
    digits = known.workloads["digits-mlp"].model_copy(update={"published": (published,)})
    store.announce(
        known.model_copy(
            update={
                "optimizers": known.optimizers | {"adamp": adamp},
                "workloads": known.workloads | {"digits-mlp": digits},
            }
        ),
        dispatcher="here",
    )
    http.headers["accept"] = "text/html"
    return http


def read(pages: httpx.Client, path: str) -> str:
    answer = pages.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer.text


def listed(page: str) -> list[str]:
    """Return the names in a list, in its order."""
    return re.findall(r'<tr id="([^"]+)">', page)


def test_a_search_finds_cards_by_every_word_and_names_come_first(pages: httpx.Client) -> None:
    assert listed(read(pages, "/optimizers")) == ["adamp", "adamw", "sgdp", "stepper"]
    assert listed(read(pages, "/optimizers?q=MOMENTUM")) == ["sgdp"]
    assert listed(read(pages, "/optimizers?q=heo+2021")) == ["adamp"]
    found = read(pages, "/optimizers?q=nesterov+%3Cb%3E")
    assert listed(found) == []
    assert "No optimizer matches “nesterov &lt;b&gt;”" in found
    assert listed(read(pages, "/workloads?q=nats")) == []
    assert listed(read(pages, "/workloads?q=adamp")) == ["digits-mlp"], "by a published result"
    twin = pages.get("/v1/workloads?q=loss").json()
    assert [card["name"] for card in twin["items"]] == listed(read(pages, "/workloads?q=loss")) == ["char-lm"]
    cards = catalog().optimizers
    other = cards["adamw"].model_copy(update={"description": "Not stepper."})
    assert [card.name for card in search_cards([other, cards["stepper"]], "stepper")] == ["stepper", "adamw"]


def test_an_optimizers_page_has_its_card_its_paper_and_what_was_checked(pages: httpx.Client) -> None:
    page = read(pages, "/optimizers/adamp")
    assert 'href="https://arxiv.org/abs/2006.08217">arXiv:2006.08217</a>' in page
    assert 'href="https://clovaai.github.io/AdamP">' in page, "without the full stop"
    assert '<a href="/optimizers/adamw">AdamW</a>' in page, "what it contains"
    assert "Upstream divides by zero." in page
    assert "from optimizers import AdamP" in page
    assert 'href="/help/optimizers#what-is-checked.adamp"' in page
    assert "72.57" in page[page.index("Published results") :]
    assert "made up" in page, "where its ranges come from"
    assert 'href="/new?optimizer=adamp"' in page
    assert '<a href="/v1/optimizers/adamp">' in page, "its JSON twin"
    assert "lr * weight_decay &lt; 1 - momentum" in read(pages, "/optimizers/sgdp")
    missing = pages.get("/optimizers/adam")
    assert (missing.status_code, "did you mean" in missing.text) == (404, True)


def test_a_workloads_page_has_its_target_its_check_and_its_stack_widths(
    pages: httpx.Client, store: Store
) -> None:
    page = read(pages, "/workloads/char-lm")
    assert "loss (nats per character), lower is better" in page
    assert "tangent check char-lm" in page
    store.submit(parse_spec(study_body(workload="char-lm")))
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60.0)
    for package, sentence in (("nets 1.0", "old"), ("nets 1.1", "the loss is a <sum>")):
        version = WorkloadVersion("char-lm", package, batch_size=16, device="cpu", optimizer="adamw")
        writer.record_check([CheckResult("loss", "warning", sentence, where="nets.py:7")], checked=version)
    card = {"workload": "char-lm", "optimizer": "sgdp", "batch_size": 16, "device": "cpu", "width": 8}
    writer.record_stack_width(card | {"trial_steps_per_s": {1: 100.0, 8: 400.0}})
    page = unescape(read(pages, "/workloads/char-lm"))
    assert "nets 1.1, batches of 16 on a CPU" in page
    assert "the loss is a <sum>" in page
    assert "nets.py:7" in page
    assert "old" not in re.findall(r'<td class="reason">(\w+)', page)
    assert "Trained 8 at a time on the CPU: 4× the steps per second." in page
    record = pages.get("/v1/workloads/char-lm/record").json()
    assert [check["package"] for check in record["checks"]] == ["nets 1.1", "nets 1.0"]
    assert record["checks"][0]["results"][0]["status"] == "warning"
    assert [width["optimizer"] for width in record["stack_widths"]] == ["sgdp"]
    assert pages.get("/v1/workloads/nothing/record").status_code == 404


def test_a_card_leads_to_a_new_study_and_a_study_leads_to_its_cards(
    pages: httpx.Client, store: Store
) -> None:
    spec = unescape(read(pages, "/new?workload=char-lm&optimizer=stepper"))
    assert '"workload": "char-lm"' in spec
    assert '"stepper"' in spec
    assert pages.get("/new?workload=nothing").status_code == 404
    study = read(pages, f"/studies/{Trained(store).train().close().id}")
    assert '<a href="/workloads/digits-mlp">' in study
    assert {"/optimizers/adamp", "/optimizers/adamw"} <= set(re.findall(r'href="([^"]+)"', study))


def test_readers_who_may_not_submit_see_no_link_to_a_new_study(pages: httpx.Client, store: Store) -> None:
    secret = store.create_token("vera", role="viewer")
    for path in ("/optimizers/adamp", "/workloads/digits-mlp"):
        answer = pages.get(path, headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
        assert "/new?" not in answer.text


@pytest.mark.browser
def test_the_list_follows_what_is_typed_and_the_address_keeps_it(live: str, store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{live}/optimizers")
        field = page.get_by_label("Search optimizers")
        field.press_sequentially("stepper", delay=20)
        expect(page.locator("#found tbody tr")).to_have_count(1)
        expect(page.locator("#found-count")).to_have_text("1 of 4 optimizers")
        expect(field).to_be_focused()
        expect(page).to_have_url(f"{live}/optimizers?q=stepper")
        page.get_by_role("link", name="Stepper").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Stepper")
        page.go_back()
        expect(page.locator("#found tbody tr")).to_have_count(1)
        expect(page.get_by_label("Search optimizers")).to_have_value("stepper")
        browser.close()
