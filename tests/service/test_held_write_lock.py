"""A service on SQLite while another process holds the write lock: changes are refused, reads go on."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from service.app import create_app
from service.settings import ServiceSettings
from service.write_threads import LOCK_WAIT_S, WriteThreads
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

WRITERS = 40
READERS = 4
READS = ("/v1/studies", "/v1/optimizers", "/", "/login", "/v1/account", "/metrics")


@contextmanager
def held_lock(settings: ServiceSettings) -> Iterator[None]:
    """Hold the database's write lock, as another process's long transaction does."""
    other = sqlite3.connect(settings.home / "tangent.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def test_reads_go_on_and_changes_are_refused_within_eight_seconds(
    store: Store,
    settings: ServiceSettings,
    body: dict[str, Any],
    serve_app: Callable[[FastAPI], AbstractContextManager[str]],
) -> None:
    secret = store.create_token("ada", role="submitter")
    unlimited = settings.model_copy(update={"rate_per_s": 0.0})
    service = Store.open(settings.database_url, lock_wait_s=LOCK_WAIT_S)
    with (
        serve_app(create_app(unlimited, service)) as url,
        httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {secret}"},
            timeout=60,
            limits=httpx.Limits(max_connections=None),
        ) as http,
        ThreadPoolExecutor(WRITERS + READERS) as pool,
    ):

        def submit() -> tuple[httpx.Response, float]:
            began = time.monotonic()
            return http.post("/v1/studies", json=body), time.monotonic() - began

        def read_until(done: Callable[[], bool]) -> list[tuple[int, float]]:
            found: list[tuple[int, float]] = []
            while not done():
                for path in READS:
                    began = time.monotonic()
                    status = http.get(path, headers={"accept": "text/html"}).status_code
                    found.append((status, time.monotonic() - began))
            return found

        with held_lock(settings):
            waiting = [pool.submit(submit) for _ in range(WRITERS)]
            reading = [
                pool.submit(read_until, lambda: all(one.done() for one in waiting)) for _ in range(READERS)
            ]
            answers = [one.result() for one in waiting]
            reads = [read for one in reading for read in one.result()]
        assert {(answer.status_code, answer.headers["retry-after"]) for answer, _ in answers} == {(503, "5")}
        assert max(waited for _, waited in answers) < 8
        assert {status for status, _ in reads} == {200}
        # Unaffected, but measured on a machine that is busy with other tests.
        assert max(waited for _, waited in reads) < 5
        assert submit()[0].status_code == 201
        assert http.get("/v1/studies").json()["total"] == 1
        assert store.token("ada").last_used_at is not None
    service.close()


def test_every_change_has_threads_of_its_own(
    store: Store,
    settings: ServiceSettings,
    body: dict[str, Any],
    serve_app: Callable[[FastAPI], AbstractContextManager[str]],
) -> None:
    study = store.submit(parse_spec(body)).id
    app = create_app(settings, store)
    app.state.write_threads = WriteThreads(count=0, wait_s=0.0)
    bodies: dict[str, Any] = {
        "/v1/studies": body,
        "/v1/studies/{study_id}:extend": {"seeds": 7},
        "/v1/studies/{study_id}:label": {"suite": "small-nets"},
        "/v1/studies/{study_id}/notes": {"text": "Better than the last one."},
        "/v1/webhooks": {"url": "https://example.org/", "events": ["study.completed"]},
    }
    operations = [
        (method.upper(), path, bodies.get(path))
        for path, item in app.openapi()["paths"].items()
        for method in item
        if method != "get"
    ]
    assert len(operations) > 8
    with serve_app(app) as url, httpx.Client(base_url=url) as http:
        for method, path, content in operations:
            place = path.replace("{study_id}", study).replace("{webhook_id}", "x")
            status = http.request(method, place, json=content).status_code
            assert (method, path, status) == (method, path, 503)
        moves = [f"/studies/{study}/{verb}" for verb in ("confirm", "extend", "pause")]
        for place in ("/new", "/login", "/logout", *moves):
            form = {"spec": json.dumps(body), "token": "x", "trials_per_arm": "7"}
            assert (place, http.post(place, data=form).status_code) == (place, 503)
        assert http.get("/v1/studies").status_code == 200
        # A check changes nothing.
        for way in ({"do": "redraw"}, {"check": "1"}):
            assert http.post("/new", data={"spec": json.dumps(body)} | way).status_code == 200
        assert http.post("/v1/studies", json=body, params={"validate_only": "true"}).status_code == 200
