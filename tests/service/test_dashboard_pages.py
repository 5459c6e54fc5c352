import itertools
import json
import re
import time
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from catalogs import catalog
from pruned_studies import Pruned
from trained_studies import Trained

from service.dashboard.theme import CONTENT_SECURITY_POLICY
from studies.spec import parse_spec
from studies.states import StudyMove, TrialState
from studies.store import Store

BROWSER = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def pages(http: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """A browser's view of a service with these tests' catalogue, whose pages wait for their analysis."""
    monkeypatch.setattr("service.dashboard.study_page._PAGE_WAIT_S", 30.0)
    store.announce(catalog(), dispatcher="here")
    http.headers.update(BROWSER)
    return http


def completed(store: Store) -> str:
    fields = {
        "arms": ["adamp", "adamw", "sgdp", "stepper"],
        "budget": {"trials_per_arm": 6, "epochs": 3},
        "confirmation": {"seeds": 3},
    }
    return Trained(store, width=8, **fields).train().confirm().close().id


def unconfirmed(store: Store) -> str:
    return (
        Trained(store, arms=["adamp", "adamw", "sgdp"], budget={"trials_per_arm": 4, "epochs": 2})
        .train()
        .close()
        .id
    )


def replicated(store: Store) -> str:
    fields = {"budget": {"trials_per_arm": 3, "epochs": 2, "replicates": 2}, "confirmation": {"seeds": 2}}
    return Trained(store, width=8, **fields).train().confirm().close().id


def confirming(store: Store) -> str:
    return Trained(store, confirmation={"seeds": 2}, width=2).train().id


def minimized(store: Store) -> str:
    return Trained(store, workload="char-lm").train().close().id


def stopped(store: Store) -> str:
    half = Trained(store).train(3)
    store.move(half.id, StudyMove.STOP)
    return half.close().id


def cancelled(store: Store) -> str:
    begun = Trained(store).train(1)
    store.move(begun.id, StudyMove.CANCEL)
    return begun.close().id


def failed(store: Store) -> str:
    return (
        Trained(store)
        .train(3)
        .close(StudyMove.FAIL, reason="the worker process died four times: killed by signal 9 <oom>")
        .id
    )


def running(store: Store) -> str:
    return Trained(store).train(3).id


def begun(store: Store) -> str:
    return Trained(store).train(1).id


def paused(store: Store) -> str:
    half = Trained(store).train(3)
    store.move(half.id, StudyMove.PAUSE)
    return half.id


def queued(store: Store) -> str:
    return store.submit(
        parse_spec({"workload": "digits-mlp", "arms": ["adamp", "stepper"], "budget": {"trials_per_arm": 3}})
    ).id


def all_diverged(store: Store) -> str:
    hot = {"optimizer": "adamp", "space": {"lr": {"low": 0.09, "high": 0.1, "log": True}}}
    fixed = {"optimizer": "adamp", "name": "fixed", "space": {"lr": 0.1}}
    return Trained(store, arms=[hot, fixed], budget={"trials_per_arm": 2, "epochs": 2}).train().close().id


def pruned(store: Store) -> str:
    return Pruned(store, pruner="hyperband", workload="char-lm").train().close().id


def at_rungs(store: Store) -> str:
    return Pruned(store).fit("adamp", width=8, w1=900.0, w8=5670.0).train(2).id


KINDS: list[Callable[[Store], str]] = [
    completed,
    minimized,
    stopped,
    cancelled,
    failed,
    running,
    begun,
    paused,
    queued,
    all_diverged,
]
KINDS += [pruned, at_rungs, unconfirmed, replicated, confirming]


class Page(HTMLParser):
    """The parsed elements and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def figures(self) -> dict[str, Any]:
        return {
            str(a["id"]).removesuffix("-data"): json.loads(text)
            for a, text in self.scripts
            if a.get("type") == "application/json"
        }


def read(pages: httpx.Client, path: str) -> str:
    answer = pages.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    return answer.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_in_any_state_has_a_valid_and_accessible_page(
    pages: httpx.Client, store: Store, kind: Callable[[Store], str]
) -> None:
    study_id = kind(store)
    paths = [
        "/",
        f"/studies/{study_id}",
        *(f"/trials/{trial.id}" for trial in store.every_trial(study_id, phase=None)[-2:]),
    ]
    for path in paths:
        html = read(pages, path)
        page = Page(html)
        assert_is_accessible(page, html)
        assert_nothing_is_inline(page)
        assert not re.search(
            r"\bNaN\b|\bnan\b %|\bNone\b|\bundefined\b",
            re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL),
        ), path
        [twin] = [link for link in page.every("link") if link.get("rel") == "alternate"]
        assert f'href="{twin["href"]}"' in html.split("<footer")[1]
        assert pages.get(str(twin["href"])).headers["content-type"] == "application/json"


def assert_is_accessible(page: Page, html: str) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)), "ids must be unique"
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) is None or attributes[name] in ids
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    assert page.every("html")[0]["lang"] == "en"
    assert len(page.every("main")) == 1
    assert 'class="skip" href="#main"' in html
    assert all("aria-labelledby" in figure for figure in page.every("figure"))
    assert all("title" not in attributes for _, attributes in page.elements), (
        "no fact may be visible only on hover"
    )


def assert_nothing_is_inline(page: Page) -> None:
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith(("on", "hx-on"))]
    for attributes, text in page.scripts:
        assert str(attributes.get("src")).startswith("/static/") or (
            attributes["type"] == "application/json" and json.loads(text)
        )
    assert not page.every("style")
    for tag, name in (("link", "href"), ("script", "src"), ("img", "src"), ("a", "href"), ("form", "action")):
        assert all(str(a.get(name, "/")).startswith(("/", "#")) for a in page.every(tag)), (
            "the page must not load anything from other hosts"
        )


def test_charts_of_a_study_are_all_there_and_svg(pages: httpx.Client, store: Store) -> None:
    html = read(pages, f"/studies/{completed(store)}")
    figures = Page(html).figures()
    runs = {
        "validation-metric",
        "train-loss",
        "validation-loss",
        "weight-norm",
        "effective-step",
        "projected-fraction",
        "gradient-cosine",
    }
    layers = {
        *(f"layers-{kind}" for kind in ("growth-by-epoch", "growth-by-layer", "projected-by-layer")),
        *(f"layers-{kind}" for kind in ("step-by-epoch", "step-by-layer")),
    }
    assert set(figures) == runs | layers | {
        "confirmed-runs",
        "budget-curves",
        "by-lr",
        "parallel-coordinates",
        "by-weight-decay",
        "by-delta",
        "by-wd-ratio",
        "by-momentum",
        "by-k",
    }
    for name, figure in figures.items():
        assert {trace["type"] for trace in figure["data"]} == {"scatter"}, name
        caption = re.search(rf'id="{name}-caption">(.*?)</p>', html)
        assert caption is not None
        assert re.search(r"\d", caption[1]), "a caption must state numbers"
        assert f'id="{name}-numbers"' in html


def test_a_page_shows_its_results_without_charts(pages: httpx.Client, store: Store) -> None:
    html = re.sub(r"<script.*?</script>", "", read(pages, f"/studies/{completed(store)}"), flags=re.DOTALL)
    best = max(t.value for t in store.every_trial(store.studies().items[0].id) if t.value is not None)
    assert f"{100 * best:.2f}\N{NO-BREAK SPACE}%" in html
    assert "from optimizers import AdamP" in html


def test_text_from_users_is_escaped(pages: httpx.Client, store: Store) -> None:
    name = '<script>alert(1)</script> & "quotes"'
    study_id = Trained(store, name=name).train(3).close(StudyMove.FAIL, reason="</script><b>").id
    for path in ("/", f"/studies/{study_id}"):
        html = read(pages, path)
        assert "<script>alert" not in html
        assert "<b>" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;quotes&#34;" in html


def test_an_empty_service_shows_how_to_submit_a_study(http: httpx.Client) -> None:
    html = read(http, "/")
    assert "tangent submit examples/digits.json" in html
    assert "/v1/studies -H" in html


def test_a_page_tells_intervals_of_steps_from_epochs(pages: httpx.Client, store: Store) -> None:
    budget = {"trials_per_arm": 3, "steps": 6000, "evaluate_every": 500}
    searched = {"space": {"training.batch_size": {"choices": [16, 32]}}}
    spec = parse_spec({"workload": "digits-mlp", "arms": ["adamp"], "budget": budget, **searched})
    html = read(pages, f"/studies/{store.submit(spec).id}").replace("\N{NO-BREAK SPACE}", " ")
    assert "12, each an interval of 500 steps" in html
    assert "Budgets count steps" in html


def test_the_list_is_filtered_and_paged(pages: httpx.Client, store: Store) -> None:
    for n in range(26):
        store.submit(
            parse_spec(
                {
                    "name": f"study {n}",
                    "workload": "digits-mlp",
                    "arms": ["adamp"],
                    "budget": {"trials_per_arm": 1},
                }
            )
        )
    other = store.submit(
        parse_spec({"workload": "char-lm", "arms": ["adamp"], "budget": {"trials_per_arm": 1}})
    ).id
    first = read(pages, "/?state=queued")
    assert "25 of 27 studies" in first
    following = re.search(r'href="([^"]+)">Next page', first)
    assert following is not None
    second = read(pages, following[1].replace("&amp;", "&"))
    assert "2 of 27 studies" in second
    assert "study 0" in second
    assert f"/studies/{other}" in read(pages, "/?workload=char-lm")
    assert "No failed studies on char-lm" in read(pages, "/?state=failed&workload=char-lm")


def test_trials_are_filtered_sorted_and_paged(pages: httpx.Client, store: Store) -> None:
    study_id = (
        Trained(store, arms=["adamp", "adamw"], budget={"trials_per_arm": 20, "epochs": 1}).train().close().id
    )
    every = store.every_trial(study_id)
    lost = [t.id for t in every if t.state is TrialState.DIVERGED]
    table = read(pages, f"/studies/{study_id}").split('id="trials"')[1]
    assert "25 of 40 trials" in table
    table = read(pages, f"/studies/{study_id}?arm=&state=diverged").split('id="trials"')[1]
    assert set(re.findall(r'/trials/([^"]+)"', table)) == set(lost)
    table = read(pages, f"/studies/{study_id}?arm=adamw&order=-value").split('id="trials"')[1]
    shown = [store.trial(trial_id).value for trial_id in re.findall(r'/trials/([^"]+)"', table)]
    values = [value for value in shown if value is not None]
    assert values == sorted(values)
    assert 'aria-sort="ascending"' in table


def test_buttons_are_plain_forms_that_lead_back(pages: httpx.Client, store: Store) -> None:
    study_id = running(store)
    actions = {
        form.get("action")
        for form in Page(read(pages, f"/studies/{study_id}")).every("form")
        if form.get("method") == "post"
    }
    verbs = ("pause", "stop", "cancel", "notes")
    assert actions == {"/theme", *(f"/studies/{study_id}/{verb}" for verb in verbs)}
    answer = pages.post(f"/studies/{study_id}/pause", headers={"sec-fetch-site": "same-origin"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{study_id}")
    assert store.study(study_id).state == "paused"


def test_another_site_cannot_submit_our_forms(pages: httpx.Client, store: Store) -> None:
    study_id = running(store)
    answer = pages.post(
        f"/studies/{study_id}/cancel",
        headers={"sec-fetch-site": "cross-site", "origin": "http://example.com"},
    )
    assert answer.status_code == 403
    assert store.study(study_id).state == "running"


def test_a_viewer_can_read_but_not_change_a_study(http: httpx.Client, store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    study_id = running(store)
    secret = store.create_token("eve", role="viewer")
    assert http.get(f"/studies/{study_id}", headers=BROWSER).status_code == 401
    http.auth = ("", secret)
    assert http.get(f"/studies/{study_id}", headers=BROWSER).status_code == 200
    assert http.post(f"/studies/{study_id}/stop", headers=BROWSER).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/studies/nosuch", 404),
        ("GET", "/trials/nosuch.adamp.0", 404),
        ("GET", "/nowhere", 404),
        ("POST", "/studies/STUDY/pause", 409),
        ("GET", "/studies/STUDY?order=luck", 422),
        ("GET", "/studies/STUDY?arm=adam", 404),
        ("GET", "/?state=asleep", 422),
    ],
)
def test_an_error_has_an_html_page_with_the_title_of_its_problem(
    pages: httpx.Client, store: Store, method: str, path: str, status: int
) -> None:
    path = path.replace("STUDY", completed(store))
    answer = pages.request(method, path)
    assert answer.status_code == status
    problem = pages.request(method, path, headers={"accept": "application/json"}).json()
    assert problem["status"] == status
    assert f"<h1>{problem['title']}</h1>" in unescape(answer.text)
    assert '<link rel="stylesheet" href="/static/style.' in answer.text


def test_only_a_live_page_polls(pages: httpx.Client, store: Store) -> None:
    study_id = running(store)
    assert 'hx-trigger="every 2s"' in read(pages, f"/studies/{study_id}")
    assert 'hx-trigger="every 2s"' in read(pages, f"/trials/{study_id}.adamp.1")
    closed = completed(store)
    assert "every 2s" not in read(pages, f"/studies/{closed}")
    assert "every 2s" not in read(pages, f"/trials/{closed}.adamp.1")


def update_url(html: str) -> str:
    found = re.search(r'hx-get="([^"]*/live[^"]*)"', html)
    assert found is not None
    return found[1].replace("&amp;", "&")


def redrawn(pages: httpx.Client, ask: str) -> str:
    """Return an update with new charts: the analysis of an open study gets only a share of a core."""
    deadline = time.monotonic() + 60
    while 'id="charts" hx-swap-oob="morph"' not in (update := pages.get(ask).text):
        assert time.monotonic() < deadline, "no update has new charts"
        time.sleep(0.1)
    return update


def test_an_update_has_only_what_has_changed(pages: httpx.Client, store: Store) -> None:
    run = Trained(store, budget={"trials_per_arm": 3, "epochs": 4}, width=1).train(4)
    ask = update_url(read(pages, f"/studies/{run.id}"))
    assert pages.get(ask).status_code == 204, "an update without changes must be empty"
    run.train(1)
    update = read(pages, ask)
    assert 'id="status" hx-swap-oob="morph"' in update
    assert 'id="charts"' not in update, "no trial has finished, so no figure of results has changed"
    run.train(3)
    update = redrawn(pages, update_url(update))
    assert set(Page(update).figures()) > {"budget-curves", "by-lr"}


def test_a_large_study_is_redrawn_only_every_few_trials(pages: httpx.Client, store: Store) -> None:
    run = Trained(
        store, arms=["adamw", "stepper"], budget={"trials_per_arm": 300, "epochs": 1}, width=1
    ).train(3)
    ask = update_url(read(pages, f"/studies/{run.id}"))
    run.train(2)
    assert 'id="charts"' not in read(pages, ask)
    run.train(1)
    redrawn(pages, ask)


def test_the_last_update_of_a_study_stops_polling(pages: httpx.Client, store: Store) -> None:
    run = Trained(store).train(3)
    ask = update_url(read(pages, f"/studies/{run.id}"))
    run.train().close()
    update = read(pages, ask)
    assert "every 2s" not in update
    assert "completed" in update


def test_an_update_keeps_the_filter_of_its_page(pages: httpx.Client, store: Store) -> None:
    run = Trained(store).train(3)
    ask = update_url(read(pages, f"/studies/{run.id}?arm=adamw"))
    run.train(1)
    table = read(pages, ask).split('id="trials"')[1].split('id="charts"')[0]
    assert set(re.findall(r"/trials/[a-z0-9]+\.([a-z]+)\.", table)) == {"adamw"}


def test_a_trial_in_training_updates_its_page(pages: httpx.Client, store: Store) -> None:
    run = Trained(store, budget={"trials_per_arm": 1, "epochs": 4}).train(1)
    ask = update_url(read(pages, f"/trials/{run.id}.adamp.0"))
    assert pages.get(ask).status_code == 204
    run.train(1)
    assert "In training: 2 of 4 epochs done." in read(pages, ask)
    run.take_steps(120)
    page = read(pages, f"/trials/{run.id}.adamp.0")
    assert "In training: 2 of 4 epochs done, and 120 steps of the next." in page
    assert "Last heard of" in page


def test_a_retried_trial_says_why(pages: httpx.Client, store: Store) -> None:
    run = Trained(store, budget={"trials_per_arm": 1, "epochs": 4}).train(1)
    page = f"/trials/{run.id}.adamp.0"
    assert "Attempt 1 ended" not in read(pages, page)
    run._writer.requeue([(f"{run.id}.adamp.0", 1)], reason="its worker was lost", max_retries=3)
    assert re.search(r"<li>Attempt 1 ended <time.*</time>: its worker was lost\.</li>", read(pages, page))


def test_an_arm_has_one_style_in_tables_key_and_charts(pages: httpx.Client, store: Store) -> None:
    html = read(pages, f"/studies/{completed(store)}")
    [position] = {arm.position for arm in store.arms(store.studies().items[0].id) if arm.name == "sgdp"}
    assert html.count(f'<svg class="swatch arm-{position}"') > 3
    colours = {
        trace["line"]["color"]
        for figure in Page(html).figures().values()
        for trace in figure["data"]
        if trace.get("meta", {}).get("arm") == "sgdp" and "line" in trace
    }
    assert colours == {f"var(--arm-{position})"}


def test_static_files_are_cached_under_names_with_their_hash(pages: httpx.Client, store: Store) -> None:
    html = read(pages, f"/studies/{running(store)}")
    served = [
        str(a[name])
        for tag, name in (("script", "src"), ("link", "href"))
        for a in Page(html).every(tag)
        if str(a.get(name)).startswith("/static/")
    ]
    assert len(served) == 11
    for path in served:
        answer = pages.get(path)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert re.search(r"\.[0-9a-f]{10}\.", path)
    assert pages.get("/static/style.css").status_code == 404
    assert pages.get("/static/..%2ftheme.py").status_code == 404


def test_htmx_may_not_evaluate_code(pages: httpx.Client, store: Store) -> None:
    [config] = [
        meta["content"]
        for meta in Page(read(pages, f"/studies/{running(store)}")).every("meta")
        if meta.get("name") == "htmx-config"
    ]
    settings = json.loads(str(config))
    assert settings["allowEval"] is False
    assert settings["includeIndicatorStyles"] is False
