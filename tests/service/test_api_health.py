"""Health and readiness: what is missing is named, and neither question needs a token."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from service.app import create_app
from service.settings import Settings
from studies.catalog import Catalog
from studies.store import Store

__all__: list[str] = []

ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


def test_a_service_with_everything_is_ready(http: httpx.Client) -> None:
    assert http.get("/readyz").json() == {"status": "ready", "optimizers": 2, "workloads": 2, "dispatchers": 1}
    assert http.get("/healthz").json()["status"] == "up"


def test_a_service_without_dispatcher_says_so(http: httpx.Client, store: Store) -> None:
    store.sign_off("here")
    answer = http.get("/readyz")
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (503, "/problems/not-ready")
    assert len(problem["missing"]) == 1
    assert "dispatcher" in problem["missing"][0]
    assert http.get("/healthz").status_code == 200


def test_a_service_without_catalogue_says_so(settings: Settings, empty_store: Store, client_of: ClientOf) -> None:
    empty_store.announce(Catalog(), dispatcher="here")
    with client_of(create_app(settings, empty_store)) as client:
        missing = client.get("/readyz").json()["missing"]
        assert len(missing) == 1
        assert missing[0].startswith("a catalogue")


def test_a_service_without_database_says_so_and_not_where_it_was(http: httpx.Client, settings: Settings, store: Store) -> None:
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


def test_neither_needs_a_token(http: httpx.Client, store: Store) -> None:
    store.create_token("alice", role="viewer")
    assert http.get("/v1").status_code == 401
    assert (http.get("/healthz").status_code, http.get("/readyz").status_code) == (200, 200)
