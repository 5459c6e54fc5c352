"""Authentication and roles: open and local without tokens, locked once a token exists."""

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from auth_headers import bearer
from fastapi import FastAPI

from service.app import create_app
from service.auth import check_exposure
from service.settings import ServiceSettings
from studies.actors import Actor
from studies.errors import NotPermitted
from studies.spec import parse_spec
from studies.store import Store
from studies.views import Role

__all__: list[str] = []

Body = dict[str, Any]
ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


def basic(secret: str, user: str = "anyone") -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}"}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Return each method and path under /v1, its parameters filled in."""
    described = app.openapi()["paths"]
    filled = {"{study_id}": "abc23456", "{trial_id}": "abc23456.adamp.0", "{name}": "adamp"}
    found: list[tuple[str, str]] = []
    for path, item in described.items():
        if path.startswith("/v1"):
            for old, new in filled.items():
                path = path.replace(old, new)
            found += [(method.upper(), path) for method in item]
    return found


def test_without_tokens_local_callers_may_do_everything(http: httpx.Client, body: Body) -> None:
    study = http.post("/v1/studies", json=body).json()
    assert study["owner"] is None
    assert http.post(f"/v1/studies/{study['id']}:cancel").status_code == 200


def test_one_token_locks_every_route(http: httpx.Client, open_app: FastAPI, store: Store) -> None:
    store.create_token("alice", role="viewer")
    asked = routes(open_app)
    assert len(asked) >= 18
    for method, path in asked:
        answer = http.request(method, path)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated"), (
            method,
            path,
        )
        assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(
    "path", ["/", "/optimizers", "/workloads", "/studies/abc23456", "/trials/abc23456.adamp.0", "/account"]
)
def test_one_token_locks_every_page_and_shows_the_login(http: httpx.Client, store: Store, path: str) -> None:
    store.create_token("alice", role="viewer")
    answer = http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer "), (
        "with Basic a browser would show its own prompt"
    )
    assert f'name="next" value="{path}"' in answer.text
    assert "alice" not in answer.text


@pytest.mark.parametrize("scheme", [bearer, basic])
def test_a_token_is_accepted_as_bearer_and_basic(
    http: httpx.Client, store: Store, scheme: Callable[[str], dict[str, str]]
) -> None:
    secret = store.create_token("alice", role="viewer")
    assert http.get("/v1/studies", headers=scheme(secret)).status_code == 200
    assert http.get("/", headers={"accept": "text/html", **scheme(secret)}).status_code == 200


@pytest.mark.parametrize(
    ("role", "may_read", "may_change"),
    [("viewer", True, False), ("submitter", True, True), ("admin", True, True)],
)
def test_each_role_has_its_permissions(
    http: httpx.Client, store: Store, body: Body, role: Role, may_read: bool, may_change: bool
) -> None:
    secret = store.create_token("alice", role=role)
    study = store.submit(parse_spec(body), by=Actor(name="alice", role="submitter")).id
    assert (http.get(f"/v1/studies/{study}", headers=bearer(secret)).status_code == 200) is may_read
    for path in ("/v1/studies", f"/v1/studies/{study}:pause", f"/studies/{study}/cancel"):
        answer = http.post(path, json=body, headers=bearer(secret))
        assert (answer.status_code != 403) is may_change
        if not may_change:
            assert answer.json()["type"] == "/problems/forbidden"
            assert "'alice'" in answer.json()["detail"]
    assert (store.study(study).version > 1) is may_change


def test_a_study_belongs_to_the_token_that_submitted_it(http: httpx.Client, store: Store, body: Body) -> None:
    secret = store.create_token("alice", role="submitter")
    assert http.post("/v1/studies", json=body, headers=bearer(secret)).json()["owner"] == "alice"


def test_idempotency_keys_are_separate_for_each_token(http: httpx.Client, store: Store, body: Body) -> None:
    secrets = [store.create_token(name, role="submitter") for name in ("alice", "bob")]
    made = {
        http.post("/v1/studies", json=body, headers={**bearer(secret), "idempotency-key": "one"}).json()["id"]
        for secret in secrets
    }
    assert len(made) == 2


def test_a_revoked_token_is_refused_and_does_not_reopen_the_service(http: httpx.Client, store: Store) -> None:
    secret = store.create_token("alice", role="admin")
    store.revoke_token("alice")
    assert http.get("/v1/studies", headers=bearer(secret)).status_code == 401
    assert http.get("/v1/studies").status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer nothing",
        "Bearer \x00",
        "Bearer " + "a" * 10_000,
        "Basic",
        "Basic !!!",
        "Basic /w==",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"user:").decode(),
        "Negotiate abc",
        "nonsense",
        "Bearer ' OR 1=1 --",
        "Bearer \xff\xfe",
    ],
)
def test_an_invalid_token_is_refused(http: httpx.Client, store: Store, authorization: str) -> None:
    store.create_token("alice", role="admin")
    answer = http.get("/v1/studies", headers=[(b"authorization", authorization.encode("latin-1"))])
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")


def test_the_token_is_checked_before_the_body(http: httpx.Client, store: Store) -> None:
    store.create_token("alice", role="submitter")
    answer = http.post("/v1/studies", content="{", headers={"content-type": "application/json"})
    assert answer.status_code == 401


def test_an_open_service_ignores_tokens(http: httpx.Client) -> None:
    assert http.get("/v1/studies", headers=bearer("left over in the environment")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "tangent.example"])
def test_an_exposed_service_needs_a_token(settings: ServiceSettings, store: Store, host: str) -> None:
    exposed = settings.model_copy(update={"host": host})
    with pytest.raises(NotPermitted, match="tangent token create"):
        check_exposure(exposed, store)
    store.create_token("alice", role="admin")
    check_exposure(exposed, store)
    store.revoke_token("alice")
    with pytest.raises(NotPermitted):
        check_exposure(exposed, store)


def test_a_local_service_needs_no_token(settings: ServiceSettings, store: Store) -> None:
    check_exposure(settings, store)


def test_an_exposed_service_is_never_open(
    settings: ServiceSettings, store: Store, client_of: ClientOf
) -> None:
    with client_of(create_app(settings.model_copy(update={"host": "0.0.0.0"}), store)) as client:
        assert client.get("/v1/studies", headers={"host": "tangent.example"}).status_code == 401
