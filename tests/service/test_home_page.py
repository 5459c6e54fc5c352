"""The list of studies: search, order, filters, verdicts, the queue and the machines, kept up to date."""

import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from catalogs import catalog
from playwright.sync_api import expect, sync_playwright
from sqlalchemy import update
from trained_studies import Trained

from service.analysis_cache import AnalysisCache
from service.app import create_app
from service.settings import ServiceSettings
from service.verdict_phrases import VerdictPhrases
from studies.analysis.views import StudyAnalysis
from studies.cluster_views import MachineView, NodesView
from studies.errors import StudyNotFound
from studies.extension import more_seeds
from studies.states import StudyMove
from studies.store import Store, tables
from studies.study_filter import StudyFilter

__all__: list[str] = []

_LIVE = re.compile(r'hx-get="([^"]+)"')
_SHOWN = re.compile(r'<tr id="study-([a-z0-9]+)"')
_MACHINE = MachineView(
    cpus=8,
    cpu_share=0.5,
    memory_bytes=64 * 10**9,
    memory_used_bytes=16 * 10**9,
    workers=2,
    warm_workers=3,
    warm_bytes=10**9,
)


def trained(store: Store, **fields: Any) -> Trained:
    """Return a study that has ended."""
    return Trained(store, **{"budget": {"trials_per_arm": 3, "epochs": 2}, **fields}).train().close()


def test_search_filters_and_order_stay_in_the_address(http: httpx.Client, store: Store) -> None:
    first = trained(store, name="Warm restarts", tags=["thesis", "chapter-3"]).id
    second = trained(store, name="adam sweep", workload="char-lm", tags=["thesis"]).id
    assert _SHOWN.findall(http.get("/").text) == [second, first]
    for query, expected in (
        ("order=oldest", [first, second]),
        ("order=name", [second, first]),
        ("tag=thesis&order=oldest", [first, second]),
        ("tag=chapter-3", [first]),
        ("q=WARM+digits", [first]),
        ("q=chapter-3", [first]),
        ("q=100%25", []),
        ("q=warm&workload=char-lm", []),
        ("state=&owner=&page_token=", [second, first]),
    ):
        page = http.get(f"/?{query}")
        assert _SHOWN.findall(page.text) == expected, query
        listed = http.get(f"/v1/studies?{query.replace('state=&owner=&page_token=', '')}").json()
        assert [study["id"] for study in listed["items"]] == expected, query
    token = http.get("/v1/studies?order=oldest&page_size=1").json()["next_page_token"]
    second_page = http.get("/", params={"order": "oldest", "page_token": token}).text
    twin = unescape(re.findall(r'href="(/v1/studies\?[^"]+)"', second_page)[0])
    assert (
        [study["id"] for study in http.get(twin).json()["items"]] == _SHOWN.findall(second_page) == [second]
    )
    page = http.get("/?q=thesis&order=name").text
    assert 'href="/?q=thesis&amp;state=completed&amp;order=name"' in page
    assert 'href="/?q=thesis&amp;tag=thesis&amp;order=name"' in page
    assert 'name="q" id="home-q" value="thesis"' in page
    assert http.get("/v1/studies?tag=thesis&order=oldest").json()["items"][0]["tags"] == [
        "thesis",
        "chapter-3",
    ]


def test_the_list_is_live_and_gets_the_verdicts_from_the_background(http: httpx.Client, store: Store) -> None:
    run = Trained(store, budget={"trials_per_arm": 4, "epochs": 2}, confirmation={"seeds": 5})
    page = http.get("/").text
    assert "<title>1 running" in page
    ask = _LIVE.findall(page)[0].replace("&amp;", "&")
    assert http.get(ask).status_code == 204
    run.train().confirm().close()
    update = http.get(ask).text
    assert 'id="home-list" hx-swap-oob="morph"' in update
    assert 'id="home-filters" hx-swap-oob="morph"' in update
    deadline = time.monotonic() + 60
    while "being analysed" in update:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        answer = http.get(_LIVE.findall(update)[0].replace("&amp;", "&"))
        update = answer.text or update
    shown = re.search(r'<td class="verdict">(undecided|\w+ better than \w+)</td>', update)
    assert shown is not None
    twin = http.get("/v1/verdicts", params={"study": [run.id, "unknown"]}).json()
    assert twin["items"] == [{"study_id": run.id, "verdict": shown[1]}]


def test_the_list_shows_the_queue_the_machines_and_what_is_wrong(http: httpx.Client, store: Store) -> None:
    Trained(store, budget={"trials_per_arm": 3, "epochs": 2}).train(1)
    store.heartbeat("here", machine=_MACHINE)
    store.heartbeat("there", problem="Ray has ended")
    waiting = store.submit(store.study(store.studies().items[0].id).spec.model_copy(update={"name": "Next"}))
    cluster = http.get("/v1/cluster").json()
    assert [study["id"] for study in cluster["queue"]] == [waiting.id]
    assert (cluster["studies"], cluster["trials_running"]) == ({"running": 1, "queued": 1}, 2)
    assert [each["machine"] for each in cluster["dispatchers"] if each["machine"]] == [_MACHINE.model_dump()]
    assert cluster["problems"] == ["A dispatcher can start no run: Ray has ended."]
    page = http.get("/").text
    page = page.replace("\N{NO-BREAK SPACE}", " ")
    for shown in ("16 GB of 64 GB", "50 %", "Ray has ended", f'href="/studies/{waiting.id}">Next</a>'):
        assert shown in page


def test_the_list_is_sent_again_after_a_change_that_it_shows_and_only_then(
    http: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cluster_status._FRESH_FOR_S", 0.0)
    run = Trained(store, budget={"trials_per_arm": 3, "epochs": 4}).train(1)
    nodes = NodesView(machines=1, cpus=8, cpus_used=2)
    store.heartbeat("here", machine=_MACHINE)
    store.heartbeat("killed")
    store.report_nodes(nodes, cluster="head:6379")
    _set_age(store, "killed", 3.2)

    def version() -> str:
        return _LIVE.findall(http.get("/").text)[0].partition("seen=")[2]

    first = version()
    run.train(1)
    _set_age(store, "killed", 3.8)
    store.heartbeat("here", machine=_MACHINE.model_copy(update={"cpu_share": 0.51}))
    assert http.get("/live", params={"seen": first}).status_code == 204
    store.report_nodes(nodes.model_copy(update={"cpus_used": 4}), cluster="head:6379")
    lent = version()
    _set_age(store, "killed", 25)
    forgotten = version()
    store.submit(run.study.spec)
    assert len({first, lent, forgotten, version()}) == 4
    assert len(http.get("/v1/cluster").json()["dispatchers"]) == 1


def test_a_study_whose_analysis_fails_is_not_analysed_again_until_it_changes(store: Store) -> None:
    run, asked = trained(store), list[str]()

    def analyse(study_id: str) -> StudyAnalysis:
        asked.append(study_id)
        raise ValueError(study_id)

    phrases, deadline = VerdictPhrases(store, analyse), time.monotonic() + 20
    while phrases.of([run.id]) != {run.id: ""}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert phrases.of([run.id]) == {run.id: ""}
    assert asked == [run.id]


def test_the_verdicts_of_closed_studies_outlive_the_service(store: Store) -> None:
    run, asked = Trained(store, confirmation={"seeds": 5}), list[str]()
    run.train().confirm().close()
    phrases, deadline = AnalysisCache(store).phrases, time.monotonic() + 60
    while not (found := phrases.of([run.id])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    phrase = found[run.id]
    assert phrase

    def never(study_id: str) -> StudyAnalysis:
        asked.append(study_id)
        raise StudyNotFound(study_id)

    asked.clear()
    # It is stored after it is shown.
    deadline = time.monotonic() + 20
    while VerdictPhrases(store, never).of([run.id]) != {run.id: phrase}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    asked.clear()
    store.archive(run.id)
    store.set_notes(run.id, "undecided")
    assert VerdictPhrases(store, never).of([run.id]) == {run.id: phrase}, "they change no verdict"
    assert asked == []
    other = VerdictPhrases(store, never)
    other._program = "another version"  # pyright: ignore[reportPrivateUsage]
    assert other.of([run.id]) == {}
    store.extend(run.id, more_seeds(run.study.spec, seeds=6))
    assert VerdictPhrases(store, never).of([run.id]) == {}


def _set_age(store: Store, dispatcher: str, hours: float) -> None:
    """Let a dispatcher's last heartbeat be some hours old."""
    at = datetime.now(UTC) - timedelta(hours=hours)
    with store._database.write() as connection:  # pyright: ignore[reportPrivateUsage]
        row = tables.offer.c.name == dispatcher
        connection.execute(update(tables.offer).where(row).values(seen_at=at))


@pytest.mark.browser
def test_an_update_of_the_list_keeps_what_the_reader_has_typed_and_chosen(
    settings: ServiceSettings, store: Store, serve_app: Callable[..., AbstractContextManager[str]]
) -> None:
    store.announce(catalog(), dispatcher="here")
    first = trained(store)
    with serve_app(create_app(settings, store)) as url, sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_context(timezone_id="Asia/Tokyo", locale="en-GB").new_page()
        page.goto(url)
        page.locator(f"#compare-{first.id}").check()
        page.locator("#home-q").press_sequentially("adam")
        submitted = first.study.created_at.astimezone(ZoneInfo("Asia/Tokyo"))
        expect(page.locator(f"#study-{first.id} time")).to_contain_text(f"{submitted:%H:%M:%S}")
        second = store.submit(first.study.spec)
        expect(page.locator(f"#study-{second.id}")).to_be_visible(timeout=20_000)
        expect(page.locator(f"#compare-{first.id}")).to_be_checked()
        expect(page.locator(f"#compare-{second.id}")).not_to_be_checked()
        expect(page.locator("#home-q")).to_be_focused()
        expect(page.locator("#home-q")).to_have_value("adam")
        browser.close()


def test_a_list_of_1000_studies_takes_as_many_queries_and_bytes_as_one_of_25(
    http: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cluster_status._FRESH_FOR_S", 0.0)
    run = trained(store)
    store.move(store.submit(run.study.spec).id, StudyMove.CANCEL)
    _copy_studies(store, run.id, 30)
    few = _cost(http, store)
    _copy_studies(store, run.id, 970, first=30)
    assert store.studies(StudyFilter(), page_size=1).total == 1002
    many = _cost(http, store)
    assert many[0] <= few[0] <= 30
    assert many[1] <= few[1] + 1000 < 20_000


def _cost(http: httpx.Client, store: Store) -> tuple[int, int]:
    """Return the queries and the compressed bytes of the list."""
    deadline = time.monotonic() + 30
    while "being analysed" in http.get("/").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sent: list[str] = []

    def watch(statement: str) -> Callable[[BaseException | None], None]:
        sent.append(statement)
        return lambda _error: None

    store.on_statement(watch)
    page = http.get("/", headers={"accept-encoding": "gzip"})
    return len(sent), int(page.headers["content-length"])


def _copy_studies(store: Store, study_id: str, copies: int, *, first: int = 0) -> None:
    """Store copies of a closed study without its trials."""
    with store._database.write() as connection:  # pyright: ignore[reportPrivateUsage]
        for table in ("study", "arm"):
            columns = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")]
            key = "id" if table == "study" else "study_id"
            chosen = ", ".join(
                f"'s' || n AS {name}" if name == key else "NULL" if name == "idempotency_key" else name
                for name in columns
            )
            connection.exec_driver_sql(
                f"WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c "
                f"WHERE n < {first + copies - 1}) "
                f"INSERT INTO {table} SELECT {chosen} FROM {table}, c WHERE {table}.{key} = ?",
                (study_id,),
            )
