"""A study's page while it runs: what an update sends, and what it leaves as it is."""

import gzip
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from catalogs import catalog
from playwright.sync_api import Browser, expect
from trained_studies import Trained

from service.app import create_app
from service.settings import ServiceSettings
from studies.live_views import LivePack
from studies.store import Store
from studies.time_left import time_left

__all__: list[str] = []

_LIVE = re.compile(r'hx-get="([^"]*/live[^"]*)"')
_NOW = datetime(2026, 12, 1, tzinfo=UTC)
_FIELDS = {"budget": {"trials_per_arm": 16, "epochs": 6}, "search": {"paired": 15, "verdict_at": 2}}


def pack(start_s: float, end_s: float | None, epochs: int, *, left: int = 0) -> LivePack:
    """Return a pack that trained from and to these seconds before now."""
    return LivePack(
        worker="here:1",
        arm="adamp",
        phase="search",
        started_at=_NOW - timedelta(seconds=start_s),
        ended_at=None if end_s is None else _NOW - timedelta(seconds=end_s),
        trials=4,
        running=0 if end_s is not None else 4,
        epochs_done=epochs,
        epochs_left=left,
    )


def test_the_time_left_follows_from_the_rate_of_the_packs_and_leaves_out_pauses() -> None:
    steady = [pack(10.0 * n, 10.0 * (n - 1), 40) for n in range(1, 9)]
    left = time_left(steady, 400, now=_NOW)
    assert left is not None
    assert left.seconds == pytest.approx(100)
    assert 30 < left.low_s < 50 < 200 < left.high_s < 330
    paused = [pack(10.0 * n + 3600 * (n > 4), 10.0 * (n - 1) + 3600 * (n > 4), 40) for n in range(1, 9)]
    assert time_left(paused, 400, now=_NOW) == left
    assert time_left([pack(5, None, 0)], 400, now=_NOW) is None


def test_no_study_ends_before_the_pack_that_has_longest_to_train() -> None:
    left = time_left([pack(100, None, 40, left=30)], 40, now=_NOW)
    assert left is not None
    assert left.seconds == pytest.approx(300)
    assert left.low_s < left.seconds < left.high_s


def test_an_update_has_the_verdict_and_what_trains_now(http: httpx.Client, store: Store) -> None:
    run = Trained(store, arms=["adamp", "adamw"], width=8, **_FIELDS).train(2)
    page = http.get(f"/studies/{run.id}").text
    assert 'id="live-curves-data"' in page, "from the first epoch on"
    assert "<title>8.3" in page
    run.train(1)
    update = http.get(_LIVE.findall(page)[-1].replace("&amp;", "&")).text
    assert 'id="finding" hx-swap-oob="morph"' in update
    assert 'id="running" hx-swap-oob="morph"' not in update, "it has a title of its own"
    assert 'id="running" aria-labelledby="running-title" hx-swap-oob="morph"' in update
    live = http.get(f"/v1/studies/{run.id}/live").json()
    assert live["in_training"] == len(live["trials"]) == 8
    assert {tuple(trial["epochs"]) for trial in live["trials"]} <= {(1, 2), (1, 2, 3)}
    first_half = {"phase": "search", "state": "running", "is_waiting": False, "epochs_done": "first half"}
    assert {**first_half, "trials": 8} in live["states"]
    run.train(60)
    deadline = time.monotonic() + 30
    while 'id="narrowing-data"' not in http.get(f"/studies/{run.id}").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    narrowed = http.get(f"/v1/studies/{run.id}/analysis").json()["narrowing"]
    assert [{each["arm"], each["leader"]} for each in narrowed] == [{"adamp", "adamw"}] * len(narrowed)
    assert all(each["low"] < each["difference"] < each["high"] for each in narrowed)
    closed = run.train().close()
    assert http.get(f"/v1/studies/{run.id}/analysis").json()["narrowing"] == []
    page = http.get(f"/studies/{closed.id}").text
    assert '<section id="running" hidden></section>' in page.replace("\n", "")
    assert "<title>Completed" in page
    assert "icon-completed" in page


def test_failures_are_grouped_by_reason_with_the_last_log_tail(http: httpx.Client, store: Store) -> None:
    run = Trained(store, width=8, budget={"trials_per_arm": 4, "epochs": 3}).train(1)
    failed = [trial for trial in store.every_trial(run.id) if trial.state == "running"]
    lines = "\n".join(f"line <{n}>" for n in range(40))
    writer = run._writer  # pyright: ignore[reportPrivateUsage]
    writer.record_output("pack", {trial.id: 1 for trial in failed}, text=lines, size=400)
    for reason, some in (("out of memory", failed[:3]), ("no such file", failed[3:4])):
        for n, trial in enumerate(some):
            of_trial = f"{reason}: {n + 2} GB at 0x{n:x}" if reason == "out of memory" else reason
            writer.requeue([(trial.id, 1)], reason=of_trial, max_retries=0)
    found = http.get(f"/v1/studies/{run.id}/live").json()["failures"]
    assert [(each["reason"], each["trials"]) for each in found] == [
        ("no such file", 1),
        ("out of memory: … GB at …", 3),
    ]
    assert found[0]["last_trial"] == failed[3].id
    assert found[0]["output"].splitlines() == [f"line <{n}>" for n in range(28, 40)]
    groups = http.get(f"/v1/studies/{run.id}/analysis").json()["failures"]
    shown = [(each["state"], each["reason"], each["trials"], len(each["examples"])) for each in groups]
    assert shown[:2] == [
        ("failed", "out of memory: … GB at …", 3, 3),
        ("failed", "no such file", 1, 1),
    ]
    assert {state for state, *_ in shown[2:]} <= {"diverged"}
    assert sum(groups[0]["arms"].values()) == 3
    page = http.get(f"/studies/{run.id}").text
    assert "out of memory" in page
    assert "line &lt;39&gt;" in page
    # An update changes the element that has its id.
    twice = [name for name, number in Counter(re.findall(r'\sid="([^"]+)"', page)).items() if number > 1]
    assert twice == []


def test_an_update_of_10000_trials_takes_as_many_queries_and_bytes_as_one_of_few(
    http: httpx.Client, store: Store
) -> None:
    run = Trained(store, arms=["adamp", "adamw"], width=8, budget={"trials_per_arm": 5000, "epochs": 4})
    run.train(9)
    small = _cost(http, store, run)
    _copy_trials(store, run.id, 9_900)
    large = _cost(http, store, run)
    assert large[0] <= small[0] <= 90, "with a new analysis"
    assert large[1] <= 1.3 * small[1] + 4096
    assert large[1] < 40_000


def _cost(http: httpx.Client, store: Store, run: Trained) -> tuple[int, int]:
    """Return the queries and the compressed bytes of the update after one epoch."""
    page = http.get(f"/studies/{run.id}").text
    while 'class="soft small behind"' in page or 'id="pending"' in page:
        time.sleep(0.1)
        page = http.get(f"/studies/{run.id}").text
    run.train(1)
    sent: list[str] = []

    def watch(statement: str) -> Callable[[BaseException | None], None]:
        sent.append(statement)
        return lambda _error: None

    store.on_statement(watch)
    update = http.get(_LIVE.findall(page)[-1].replace("&amp;", "&"), headers={"accept-encoding": "identity"})
    assert update.status_code == 200
    assert 'id="running"' in update.text
    return len(sent), len(gzip.compress(update.content, 5))


def _copy_trials(store: Store, study_id: str, copies: int) -> None:
    """Store copies of a completed trial, quicker than a run could."""
    trial = next(t for t in store.every_trial(study_id) if t.value is not None)
    with store._database.write() as connection:  # pyright: ignore[reportPrivateUsage]
        columns = [str(row[1]) for row in connection.exec_driver_sql("PRAGMA table_info(trial)")]
        changed = {"id": "? || n", "number": "1000 + n"}
        chosen = ", ".join(changed.get(name, name) for name in columns)
        connection.exec_driver_sql(
            f"WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {copies}) "
            f"INSERT INTO trial SELECT {chosen} FROM trial, c WHERE id = ?",
            (f"{study_id}.{trial.arm}.9", trial.id),
        )


@pytest.mark.browser
def test_an_update_keeps_focus_scroll_selection_menus_fields_and_zoom(
    browser: Browser,
    settings: ServiceSettings,
    store: Store,
    serve_app: Callable[..., AbstractContextManager[str]],
) -> None:
    store.announce(catalog(), dispatcher="here")
    run = Trained(store, arms=["adamp", "adamw"], width=8, **_FIELDS).train(8)
    with serve_app(create_app(settings, store)) as url:
        context = browser.new_context(viewport={"width": 1280, "height": 700})
        page, errors = context.new_page(), list[str]()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}/studies/{run.id}")
        expect(page.locator("#live-curves .main-svg").first).to_be_visible()
        # Ticks of time have the unit that fits what is in view.
        expect(page.locator("#packs .main-svg").first).to_be_visible()
        assert page.evaluate("document.getElementById('packs').layout.xaxis.ticktext.at(-1)").endswith(" s")
        page.evaluate("Plotly.relayout('packs', {'xaxis.range[0]': 0, 'xaxis.range[1]': 14400})")
        assert page.evaluate("document.getElementById('packs').layout.xaxis.ticktext").count("1 h") == 1
        page.locator("#confirm-cancel summary").click()
        page.locator("#live-curves-numbers summary").click()
        page.locator("#edit-notes summary").click()
        page.locator("#notes-text").fill("being *written*")
        page.locator("#trials-title").scroll_into_view_if_needed()
        row = page.locator("#trials tbody tr").first
        row.locator("a").first.focus()
        page.locator("#trials .scroll").first.evaluate("e => { e.scrollLeft = 40 }")
        page.evaluate(
            """() => {
              Plotly.relayout("live-curves", {"xaxis.range[0]": 2, "xaxis.range[1]": 4});
              getSelection().selectAllChildren(document.querySelector("#trials-title"));
            }"""
        )
        before = page.evaluate(_READER)
        assert before["focus"].endswith(row.locator("a").first.get_attribute("href") or "?")
        title = page.title()
        run.train(1)
        expect(page.locator("#status")).to_contain_text("8 trials in training")
        page.wait_for_function("title => document.title !== title", arg=title)
        assert page.evaluate(_READER) == before
        run.train().close()
        page.wait_for_function("() => document.title.startsWith('Completed')")
        assert "icon-completed" in (page.locator("#icon").get_attribute("href") or "")
        after = page.evaluate(_READER)
        kept = ("focus", "selected", "notes")
        assert [after[name] for name in kept] == [before[name] for name in kept]
        page.get_by_label("Text in Markdown").press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#notes .prose em")).to_have_text("written")
        assert errors == []
        context.close()


_READER = """() => ({
  focus: document.activeElement.href ?? document.activeElement.id,
  scroll: Math.round(document.querySelector("#trials-title").getBoundingClientRect().top),
  inTable: document.querySelector("#trials .scroll").scrollLeft,
  selected: getSelection().toString(),
  notes: document.querySelector("#notes-text").value,
  menus: [...document.querySelectorAll("details[open]")].map((each) => each.id),
  zoom: document.querySelector("#live-curves")?.layout?.xaxis.range,
})"""
