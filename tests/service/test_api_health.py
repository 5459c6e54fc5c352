"""Health and readiness: everything that is missing is listed, and neither endpoint needs a token."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from postgres_server import PostgresServer

from service.app import create_app
from service.client import Client
from service.settings import ServiceSettings
from studies.catalog import Catalog
from studies.store import Store

__all__: list[str] = []

ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


def change(settings: ServiceSettings, statement: str, *values: str) -> None:
    """Change the database without the service's store."""
    connection = sqlite3.connect(settings.home / "tangent.db")
    with connection:
        connection.execute(statement, values)
    connection.close()


def missing(http: httpx.Client) -> list[str]:
    """Return what is missing from a service that is not ready."""
    answer = http.get("/readyz")
    assert (answer.status_code, answer.headers["content-type"], answer.json()["type"]) == (
        503,
        "application/problem+json",
        "/problems/not-ready",
    )
    assert answer.headers["retry-after"] == "5"
    return answer.json()["missing"]


def test_a_service_with_everything_is_ready(http: httpx.Client, store: Store) -> None:
    ready = http.get("/readyz").json()
    assert ready["status"] == "ready"
    assert (ready["optimizers"], ready["workloads"], ready["dispatchers"]) == (2, 2, 1)
    assert (ready["revision"], ready["revision"]) == store.revisions()
    assert datetime.now(UTC) - datetime.fromisoformat(ready["dispatcher_seen_at"]) < timedelta(seconds=30)
    assert http.get("/healthz").json()["status"] == "up"


def test_the_client_reads_readiness(live: str) -> None:
    with Client(live) as client:
        assert client.readiness().dispatchers == 1


def test_a_service_without_a_dispatcher_is_not_ready(http: httpx.Client, store: Store) -> None:
    store.sign_off("here")
    (what,) = missing(http)
    assert what.startswith("a dispatcher: ")
    assert http.get("/healthz").status_code == 200


def test_a_silent_dispatcher_is_reported_with_its_age_and_without_its_machine(
    http: httpx.Client, settings: ServiceSettings
) -> None:
    earlier = (datetime.now(UTC) - timedelta(seconds=75)).replace(tzinfo=None).isoformat(" ")
    change(settings, "UPDATE offer SET seen_at = ?, name = 'node-7:4711' WHERE kind = 'dispatcher'", earlier)
    (what,) = missing(http)
    assert what.startswith("a dispatcher: ")
    assert "1 min 1" in what
    assert "node-7" not in what


def test_a_problem_of_every_live_dispatcher_is_reported_and_of_some_is_only_listed(
    http: httpx.Client, store: Store
) -> None:
    store.heartbeat("here", problem="Ray has ended")
    store.heartbeat("there", problem="ImportError: no module named numba")
    (what,) = missing(http)
    assert what.startswith("a dispatcher that can start runs: ")
    assert "Ray has ended" in what
    assert "ImportError: no module named numba" in what
    store.heartbeat("there")
    ready = http.get("/readyz").json()
    assert (ready["dispatchers"], ready["dispatcher_problems"]) == (2, ["Ray has ended"])


def test_a_service_without_a_catalogue_is_not_ready(
    settings: ServiceSettings, empty_store: Store, client_of: ClientOf
) -> None:
    empty_store.announce(Catalog(), dispatcher="here")
    with client_of(create_app(settings, empty_store)) as client:
        (what,) = missing(client)
        assert what.startswith("a catalogue")


def test_everything_that_is_missing_is_listed(
    settings: ServiceSettings, empty_store: Store, client_of: ClientOf
) -> None:
    with client_of(create_app(settings, empty_store)) as client:
        assert [what.partition(":")[0] for what in missing(client)] == ["a catalogue", "a dispatcher"]


@pytest.mark.parametrize(
    ("revision", "lacks"),
    [("0001", "the tables of this version: "), ("9999", "a service of the database's version: ")],
)
def test_the_older_one_of_database_and_service_is_reported(
    http: httpx.Client, settings: ServiceSettings, revision: str, lacks: str
) -> None:
    change(settings, "UPDATE tangent_version SET version_num = ?", revision)
    (what,) = missing(http)
    assert what.startswith(lacks)
    assert revision in what


def test_a_database_without_tables_is_not_ready(tmp_path: Path, client_of: ClientOf) -> None:
    settings = ServiceSettings.load(home=tmp_path)
    store = Store.open(settings.database_url, migrate=False)
    with client_of(create_app(settings, store)) as client:
        (what,) = missing(client)
    store.close()
    assert "has no tables yet" in what


def test_a_service_without_a_database_is_not_ready_and_hides_its_address(
    http: httpx.Client, settings: ServiceSettings, store: Store
) -> None:
    store.close()
    path = settings.home / "tangent.db"
    for part in settings.home.glob("tangent.db*"):
        part.unlink()
    path.mkdir()
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["a database that answers"])
    assert http.get("/healthz").status_code == 200
    other = http.get("/v1/studies")
    assert (other.status_code, other.json()["type"]) == (503, "/problems/store-unavailable")
    assert str(Path(settings.home)) not in answer.text + other.text


@pytest.mark.postgres
def test_a_lost_postgresql_is_reported_within_eight_seconds(
    settings: ServiceSettings, postgres: PostgresServer, client_of: ClientOf, catalog: Catalog
) -> None:
    name = postgres.create()
    store = Store.open(postgres.url(name))
    store.announce(catalog, dispatcher="here")
    with client_of(create_app(settings, store)) as client:
        assert client.get("/readyz").status_code == 200
        # Dropped under its connections; the next connection finds no such database.
        postgres.drop(name)
        began = time.monotonic()
        assert missing(client) == ["a database that answers"]
        assert time.monotonic() - began < 8
    store.close()


def test_probes_need_no_token(http: httpx.Client, store: Store) -> None:
    store.create_token("alice", role="viewer")
    assert http.get("/v1").status_code == 401
    assert (http.get("/healthz").status_code, http.get("/readyz").status_code) == (200, 200)
