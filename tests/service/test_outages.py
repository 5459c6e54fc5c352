"""A service whose PostgreSQL is frozen, killed and restarted responds within eight seconds."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from postgres_server import PostgresServer, postgres_server

from service.app import create_app
from service.client import Client
from service.settings import ServiceSettings
from studies.catalog import Catalog
from studies.store import Store

__all__: list[str] = []

pytestmark = pytest.mark.postgres

CALLERS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this module only, which the tests freeze and kill."""
    with postgres_server() as started:
        yield started


@pytest.fixture
def url(
    server: PostgresServer,
    settings: ServiceSettings,
    catalog: Catalog,
    serve_app: Callable[[FastAPI], AbstractContextManager[str]],
) -> Iterator[str]:
    """The URL of a real service on that server."""
    store = Store.open(server.url(server.create()))
    store.announce(catalog, dispatcher="here")
    with serve_app(create_app(settings, store)) as address:
        yield address
    store.close()


def ask(url: str) -> tuple[int, float]:
    """Return the status of a response and its duration in seconds."""
    began = time.monotonic()
    status = httpx.get(url, timeout=30).status_code
    return status, time.monotonic() - began


def test_a_frozen_database_is_reported_to_forty_callers_within_eight_seconds(
    server: PostgresServer, url: str
) -> None:
    places = ["/v1/studies", "/v1/optimizers", "/", "/readyz"]
    with ThreadPoolExecutor(CALLERS + 1) as pool:
        asked = [f"{url}{places[n % len(places)]}" for n in range(CALLERS)]
        assert {status for status, _ in pool.map(ask, asked[: len(places)])} == {200}
        server.freeze()
        try:
            stuck = [pool.submit(ask, each) for each in asked]
            time.sleep(1.0)
            assert not any(each.done() for each in stuck), (
                "callers must wait for a server that may only be slow"
            )
            alive = [ask(f"{url}/healthz") for _ in range(5)]
            answers = [each.result() for each in stuck]
        finally:
            server.thaw()
        assert {status for status, _ in alive} == {200}
        assert max(waited for _, waited in alive) < 2
        assert {status for status, _ in answers} == {503}
        assert max(waited for _, waited in answers) < 8
        assert {status for status, _ in pool.map(ask, asked[: len(places)])} == {200}, (
            "callers must be answered at once when the server is back"
        )
    server.kill()
    status, waited = ask(f"{url}/v1/studies")
    assert (status, waited < 2) == (503, True)
    server.start()
    assert ask(f"{url}/v1/studies")[0] == 200


def test_a_submission_during_a_database_restart_creates_one_study(
    server: PostgresServer, url: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.transport._MAX_RETRY_AFTER_S", 1.0)
    # The tests' server keeps recent writes in memory.
    server.run("CHECKPOINT")
    server.kill()
    with Client(url) as client, ThreadPoolExecutor(1) as pool:
        submitted = pool.submit(client.submit, body)
        time.sleep(0.3)
        assert not submitted.done(), "the request must wait for the database to return"
        server.start()
        study = submitted.result(10)
        assert [found.id for found in client.studies().items] == [study.id]
