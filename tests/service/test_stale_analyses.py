"""Pages and answers about a running study whose analysis is being computed: they show the last one."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from simulated_dispatch import SimulatedDispatcher, SimulatedRun
from typer.testing import Result

from service.analysis_cache import AnalysisCache
from service.client import Client
from studies.extension import parse_extension
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

LIVE = re.compile(r'hx-get="(/studies/[^"]*/live[^"]*)"')
PENDING = 'id="pending"'
REFRESH = '<noscript><meta http-equiv="refresh"'
BEHIND = '<p class="soft small behind">'


@pytest.fixture
def running(store: Store) -> SimulatedRun:
    """A study in training with a finished trial in each arm."""
    started = SimulatedDispatcher(store).run(budget={"trials_per_arm": 4, "epochs": 2})
    for arm in ("adamp", "adamw"):
        started.complete(started.begin(0, arm=arm)[0], 0.5)
    return started


@pytest.fixture
def hold(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Callable[[], None]]:
    """`hold()`: let analyses wait from now on, until the returned function is called."""

    def held() -> Callable[[], None]:
        may_go_on, record = threading.Event(), store.study_record

        def wait(study_id: str) -> Any:
            assert may_go_on.wait(30)
            return record(study_id)

        monkeypatch.setattr(store, "study_record", wait)
        return may_go_on.set

    return held


def live_address(page: str) -> str:
    """Return the address at which a page asks for its next update."""
    found = LIVE.search(page)
    assert found is not None
    return found[1].replace("&amp;", "&")


def updated(http: httpx.Client, address: str, until: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Ask for an update of a page until it has what is expected, as a browser does."""
    deadline = time.monotonic() + 20
    while True:
        answer = http.get(address)
        assert answer.status_code in {200, 204}
        if until(answer):
            return answer
        assert time.monotonic() < deadline
        address = live_address(answer.text) if answer.status_code == 200 else address
        time.sleep(0.05)


def test_a_page_shows_the_last_analysis_with_its_age_and_updates_itself(
    http: httpx.Client, running: SimulatedRun, hold: Callable[[], Callable[[], None]]
) -> None:
    study = running.claim.study_id
    first = http.get(f"/studies/{study}")
    assert (BEHIND in first.text, "age" in first.headers) == (False, False)
    release = hold()
    running.complete(running.begin(1)[0], 0.9)
    behind = http.get(f"/studies/{study}")
    assert (behind.status_code, BEHIND in behind.text) == (200, True)
    assert int(behind.headers["age"]) >= 1
    # The trials are current, only the analysis and its charts are not.
    assert f"/trials/{study}.adamp.1" in behind.text
    update = http.get(live_address(first.text))
    assert 'id="evidence"' not in update.text, "the page shows the last analysis already"
    assert f"/trials/{study}.adamp.1" in update.text
    assert http.get(live_address(update.text)).status_code == 204
    release()
    last = updated(http, live_address(behind.text), lambda answer: 'id="evidence"' in answer.text)
    assert (BEHIND in last.text, "age" in last.headers) == (False, False)
    assert http.get(live_address(last.text)).status_code == 204


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_page_without_an_analysis_shows_everything_else_and_then_gets_it(
    http: httpx.Client,
    running: SimulatedRun,
    hold: Callable[[], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_closed: bool,
) -> None:
    study = running.claim.study_id
    if is_closed:
        running.writer.close(StudyMove.FINISH)
    monkeypatch.setattr("service.dashboard.study_page._PAGE_WAIT_S", 0.0)
    monkeypatch.setattr("service.dashboard.study_page._UPDATE_WAIT_S", 0.0)
    release = hold()
    page = http.get(f"/studies/{study}").text
    assert (PENDING in page, REFRESH in page, 'id="sensitivity"' in page) == (True, True, False)
    assert (f"/trials/{study}.adamp.0" in page, 'hx-trigger="load, every 2s"' in page) == (True, True)
    assert http.get(live_address(page)).status_code == 204
    release()
    monkeypatch.setattr("service.dashboard.study_page._UPDATE_WAIT_S", 30.0)
    update = http.get(live_address(page)).text
    assert (PENDING in update, 'id="sensitivity"' in update, 'id="contents"' in update) == (False, True, True)
    assert (LIVE.search(update) is None) == is_closed
    page = http.get(f"/studies/{study}").text
    assert (PENDING in page, REFRESH in page, 'id="sensitivity"' in page) == (False, False, True)


def test_the_answers_of_the_api_state_their_age(
    http: httpx.Client, running: SimulatedRun, hold: Callable[[], Callable[[], None]], store: Store
) -> None:
    other = SimulatedDispatcher(store).run()
    study = running.claim.study_id
    paths = [f"/v1/studies/{study}/analysis", f"/v1/comparison?study={study}&study={other.claim.study_id}"]
    for path in paths:
        current = http.get(path)
        assert (current.json()["age_s"], "age" in current.headers) == (0, False)
    release = hold()
    running.complete(running.begin(1)[0], 0.9)
    for path in paths:
        behind = http.get(path)
        assert 0 < behind.json()["age_s"] <= int(behind.headers["age"])
    release()
    deadline = time.monotonic() + 20
    while "age" in http.get(paths[0]).headers:
        assert time.monotonic() < deadline


def test_the_last_update_of_a_page_shows_the_closed_study(
    http: httpx.Client, running: SimulatedRun, hold: Callable[[], Callable[[], None]]
) -> None:
    study = running.claim.study_id
    first = http.get(f"/studies/{study}")
    release = hold()
    running.complete(running.begin(1)[0], 0.9)
    behind = http.get(f"/studies/{study}")
    running.writer.close(StudyMove.FINISH)
    threading.Timer(0.5, release).start()
    for seen in (first, behind):
        last = http.get(live_address(seen.text))
        assert ('id="evidence"' in last.text, BEHIND in last.text, "age" in last.headers) == (
            True,
            False,
            False,
        )
        assert LIVE.search(last.text) is None
    assert http.get(f"/v1/studies/{study}/analysis").json()["state"] == "completed"


def test_a_study_that_was_extended_is_shown_with_its_last_analysis(
    http: httpx.Client,
    running: SimulatedRun,
    hold: Callable[[], Callable[[], None]],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = running.claim.study_id
    running.writer.close(StudyMove.FINISH)
    http.get(f"/studies/{study}")
    release = hold()
    monkeypatch.setattr("service.refreshing_cache._PATIENT_S", 0.3)
    store.extend(study, parse_extension({"arms": [{"optimizer": "adamw", "name": "another"}]}))
    # Its analysis does not know the new arm yet.
    page = http.get(f"/studies/{study}")
    assert (page.status_code, BEHIND in page.text, "another" in page.text) == (200, True, True)
    release()
    last = updated(http, live_address(page.text), lambda answer: 'id="evidence"' in answer.text)
    assert BEHIND not in last.text


def test_the_client_waits_for_a_first_analysis(
    live_app: FastAPI,
    live: str,
    running: SimulatedRun,
    hold: Callable[[], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.refreshing_cache._MAX_WAIT_S", 0.2)
    monkeypatch.setattr("service.transport._MAX_RETRY_AFTER_S", 0.1)
    assert isinstance(live_app.state.analyses, AnalysisCache)
    release = hold()
    threading.Timer(0.5, release).start()
    with Client(live) as client:
        assert client.analysis(running.claim.study_id).age_s == 0


def test_the_command_line_states_the_age(
    running: SimulatedRun,
    hold: Callable[[], Callable[[], None]],
    run: Callable[..., Result],
) -> None:
    study = running.claim.study_id
    run("verdict", study)
    release = hold()
    running.complete(running.begin(1)[0], 0.9)
    shown = run("verdict", study)
    release()
    assert "old. A newer one is being computed." in shown.stdout
