"""/metrics: its numbers match the database and the requests. A scrape is cheap, and works while the database
is down.
"""

import socket
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from auth_headers import bearer
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.settings import ServiceSettings
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState, TrialState
from studies.store import Store
from studies.trials import Measurement, NewTrial, Report

__all__: list[str] = []

Body = dict[str, Any]
ClientOf = Callable[..., AbstractContextManager[httpx.Client]]
ServeApp = Callable[..., AbstractContextManager[str]]
Play = Callable[..., str]
Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture
def app(settings: ServiceSettings, store: Store) -> FastAPI:
    """A new service for each test, whose counters start at zero."""
    return create_app(settings, store)


@pytest.fixture
def http(app: FastAPI, client_of: ClientOf) -> Generator[httpx.Client]:
    with client_of(app) as client:
        yield client


def scraped(http: httpx.Client, *, is_again: bool = False, **given: Any) -> dict[Sample, float]:
    """Return every sample of a scrape.

    A repeated scrape waits until the service reads the database again.
    """
    time.sleep(1.01 if is_again else 0)
    answer = http.get("/metrics", **given)
    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: dict[Sample, float], name: str, **labels: str) -> float | None:
    """Return the value of a sample; None if it is absent."""
    return samples.get((name, tuple(sorted(labels.items()))))


def lose_database(settings: ServiceSettings, store: Store) -> None:
    store.close()
    for part in settings.home.glob("tangent.db*"):
        part.unlink()
    (settings.home / "tangent.db").mkdir()


def test_the_first_scrape_has_every_state(http: httpx.Client) -> None:
    found = scraped(http)
    assert {value(found, "tangent_studies", state=state.value) for state in StudyState} == {0}
    assert {value(found, "tangent_trials", state=state.value) for state in TrialState} == {0}
    assert value(found, "tangent_queue_age_seconds") == 0
    assert value(found, "tangent_epochs_total") == 0
    assert value(found, "tangent_dispatchers_alive") == 1
    assert value(found, "tangent_database_up") == 1


def test_studies_are_counted_from_the_database(
    http: httpx.Client, store: Store, play: Play, body: Body
) -> None:
    play(body)
    store.submit(parse_spec(body))
    found = scraped(http)
    assert (
        value(found, "tangent_studies", state="completed"),
        value(found, "tangent_studies", state="queued"),
    ) == (1, 1)
    assert (
        value(found, "tangent_trials", state="completed"),
        value(found, "tangent_trials", state="diverged"),
    ) == (4, 2)
    assert value(found, "tangent_epochs_total") == 2 * 3 * 2
    assert value(found, "tangent_packs_in_flight") == 0
    assert 0 < (value(found, "tangent_queue_age_seconds") or 0) < 60
    assert value(found, "tangent_event_lag_seconds") == 0


def test_a_running_study_has_packs_in_flight_and_a_lag(
    http: httpx.Client, store: Store, play: Play, body: Body
) -> None:
    study = play(body, close=False)
    store.submit(parse_spec(body))
    claim = store.claim_next(dispatcher="here", lease_s=60)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60)
    arm = store.arms(claim.study_id)[0]
    writer.start(writer.create([NewTrial(arm.name, n, "sampled", arm.defaults, seed=7) for n in range(2)]))
    found = scraped(http)
    assert value(found, "tangent_packs_in_flight") == 1
    assert value(found, "tangent_trials", state="running") == 2
    assert 0 < (value(found, "tangent_event_lag_seconds") or 0) < 60
    assert store.study(study).state is StudyState.RUNNING


def test_the_count_of_epochs_never_falls(http: httpx.Client, store: Store, body: Body) -> None:
    store.submit(parse_spec(body))
    claim = store.claim_next(dispatcher="here", lease_s=60)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60)
    arm = store.arms(claim.study_id)[0]
    (trial,) = writer.create([NewTrial(arm.name, 0, "default", arm.defaults, seed=7)])
    writer.start([trial])
    writer.record([Report(trial.id, 1, Measurement(epoch=1, elapsed_s=0.5))])
    assert value(scraped(http), "tangent_epochs_total") == 1
    writer.requeue([(trial.id, 1)], reason="its worker was lost", max_retries=2)
    lost = scraped(http, is_again=True)
    assert (value(lost, "tangent_epochs_total"), value(lost, "tangent_trial_retries_total")) == (1, 1)
    again = writer.queued_trials()
    writer.start(again)
    writer.record(
        [
            Report(trial.id, 2, Measurement(epoch=1, elapsed_s=0.5)),
            Report(trial.id, 2, Measurement(epoch=2, elapsed_s=1.0)),
        ]
    )
    writer.close(StudyMove.FINISH)
    assert value(scraped(http, is_again=True), "tangent_epochs_total") == 2


def test_requests_are_counted_by_template_method_and_status(
    http: httpx.Client, play: Play, body: Body
) -> None:
    study = play(body)
    for _ in range(3):
        http.get(f"/v1/studies/{study}")
    http.get("/v1/studies/nothing")
    http.get(f"/studies/{study}")
    http.post(f"/v1/studies/{study}:pause")
    http.get("/static/no-such-file.css")
    http.delete(f"/v1/studies/{study}")
    found = scraped(http)
    counted = {
        labels: count for (name, labels), count in found.items() if name == "tangent_http_requests_total"
    }

    def requests(method: str, route: str, status: int) -> float | None:
        return counted.get((("method", method), ("route", route), ("status", str(status))))

    assert requests("GET", "/v1/studies/{study_id}", 200) == 3
    assert requests("GET", "/v1/studies/{study_id}", 404) == 1
    assert requests("GET", "/studies/{study_id}", 200) == 1
    assert (
        requests("POST", "/v1/studies/{study_id}:{verb}", 409) == 1
        or requests("POST", "/v1/studies/{study_id}:pause", 409) == 1
    )
    assert requests("GET", "/static/*", 404) == 1
    assert sum(counted.values()) == 8
    assert (
        value(found, "tangent_http_request_seconds_count", method="GET", route="/v1/studies/{study_id}") == 4
    )
    assert (
        value(found, "tangent_http_request_seconds_sum", method="GET", route="/v1/studies/{study_id}") or 0
    ) > 0


def test_unknown_paths_create_no_series(http: httpx.Client) -> None:
    for path in ("/a", "/b", "/wp-login.php", "/v2/studies", "/%0a%00", "/v1/nothing/at/all"):
        http.get(path)
    http.request("BREW", "/coffee")
    found = scraped(http)
    routes = {
        dict(labels)["route"]: dict(labels)["method"]
        for (name, labels) in found
        if name == "tangent_http_requests_total"
    }
    assert set(routes) == {"unmatched"}
    assert value(found, "tangent_http_requests_total", method="other", route="unmatched", status="404") == 1


def test_transactions_are_timed_by_kind(http: httpx.Client, store: Store) -> None:
    before = scraped(http)
    store.heartbeat("here")
    store.catalog()
    after = scraped(http, is_again=True)

    def grown(kind: str) -> float:
        name = "tangent_database_transaction_seconds_count"
        return (value(after, name, kind=kind) or 0) - (value(before, name, kind=kind) or 0)

    assert grown("write") == 1
    # The reads above, and those of the scrape itself: the database's counts and the token.
    assert 2 <= grown("read") <= 4


def test_an_open_stream_is_counted(live_app: FastAPI, live: str, play: Play, body: Body) -> None:
    study = play(body, close=False)
    with httpx.Client(base_url=live, timeout=10) as client:
        assert value(scraped(client), "tangent_event_stream_clients") == 0
        with client.stream(
            "GET", f"/v1/studies/{study}/events", headers={"accept": "text/event-stream"}
        ) as answer:
            assert answer.status_code == 200, answer.read()
            lines = answer.iter_lines()
            next(lines)
            assert live_app.state.streams.open == 1
            found = scraped(client)
            assert value(found, "tangent_event_stream_clients") == 1
            # The other one is the scrape itself.
            assert value(found, "tangent_http_requests_in_flight") == 2
            # Only the time to its start counts, however long it is read.
            events = {"method": "GET", "route": "/v1/studies/{study_id}/events"}
            assert value(found, "tangent_http_request_seconds_count", **events) == 1
            assert value(found, "tangent_http_requests_total", status="200", **events) == 1
        deadline = time.monotonic() + 10
        while live_app.state.streams.open and time.monotonic() < deadline:
            time.sleep(0.02)
        found = scraped(client)
        assert value(found, "tangent_event_stream_clients") == 0
        assert value(found, "tangent_http_requests_total", status="200", **events) == 1


def test_the_database_is_read_once_a_second_at_most(http: httpx.Client, store: Store) -> None:
    scraped(http)
    reads: list[float] = []
    store.on_transaction(lambda _kind, seconds: reads.append(seconds))
    http.get("/metrics")
    of_one_cached = len(reads)
    reads.clear()
    for _ in range(5):
        http.get("/metrics")
    assert len(reads) <= 5 * of_one_cached
    reads.clear()
    scraped(http, is_again=True)
    assert len(reads) == of_one_cached + 1


def test_each_service_counts_for_itself(settings: ServiceSettings, store: Store, client_of: ClientOf) -> None:
    with client_of(create_app(settings, store)) as one, client_of(create_app(settings, store)) as other:
        one.get("/healthz")
        assert (
            value(scraped(one), "tangent_http_requests_total", method="GET", route="/healthz", status="200")
            == 1
        )
        assert (
            value(scraped(other), "tangent_http_requests_total", method="GET", route="/healthz", status="200")
            is None
        )


def test_once_tokens_exist_a_scrape_needs_a_viewers_token(http: httpx.Client, store: Store) -> None:
    secret = store.create_token("prometheus", role="viewer")
    refused = http.get("/metrics")
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert http.get("/metrics", headers=bearer("wrong")).status_code == 401
    assert value(scraped(http, headers=bearer(secret)), "tangent_database_up") == 1
    store.revoke_token("prometheus")
    assert http.get("/metrics", headers=bearer(secret)).status_code == 401


def test_recent_scrapers_see_that_the_database_is_down(
    http: httpx.Client, settings: ServiceSettings, store: Store
) -> None:
    secret = store.create_token("prometheus", role="viewer")
    scraped(http, headers=bearer(secret))
    lose_database(settings, store)
    found = scraped(http, is_again=True, headers=bearer(secret))
    assert value(found, "tangent_database_up") == 0
    assert (value(found, "process_resident_memory_bytes") or 0) > 1e6
    # Unknown values are absent: an old value would look like a current one.
    assert not [
        name
        for name, _ in found
        if name in {"tangent_studies", "tangent_epochs_total", "tangent_dispatchers_alive"}
    ]
    for stranger in ({}, bearer("wrong")):
        answer = http.get("/metrics", headers=stranger)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
        assert str(Path(settings.home)) not in answer.text


def test_a_token_that_was_refused_stays_refused_without_the_database(
    http: httpx.Client, settings: ServiceSettings, store: Store
) -> None:
    secret = store.create_token("prometheus", role="viewer")
    scraped(http, headers=bearer(secret))
    store.revoke_token("prometheus")
    assert http.get("/metrics", headers=bearer(secret)).status_code == 401
    lose_database(settings, store)
    assert http.get("/metrics", headers=bearer(secret)).status_code == 503


def test_metrics_contain_only_counts_of_studies(http: httpx.Client, play: Play, body: Body) -> None:
    study = play(body | {"name": "a secret of ours"})
    http.get(f"/v1/studies/{study}")
    text = http.get("/metrics").text
    assert study not in text
    assert "secret" not in text


def test_a_client_that_disconnects_during_its_body_is_not_an_error(app: FastAPI, serve_app: ServeApp) -> None:
    with serve_app(app) as url:
        head = (
            "POST /v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
            "application/json\r\nContent-Length: 500\r\n\r\n{"
        )
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as line:
            line.sendall(head.encode())
            time.sleep(0.2)
        deadline = time.monotonic() + 10
        with httpx.Client(base_url=url) as http:
            while not (
                counts := {
                    key: n
                    for key, n in scraped(http).items()
                    if key[0] == "tangent_http_requests_total" and ("method", "POST") in key[1]
                }
            ):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert counts == {
        ("tangent_http_requests_total", (("method", "POST"), ("route", "/v1/studies"), ("status", "499"))): 1
    }
