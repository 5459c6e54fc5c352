"""Middleware: security headers, host names, cross-site requests and internal errors."""

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.dashboard.theme import CONTENT_SECURITY_POLICY as PAGE_POLICY
from service.middleware import CONTENT_SECURITY_POLICY
from service.settings import ServiceSettings
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/studies/zzzzzzzz",
        "/docs",
        "/nothing",
        "/healthz",
        "/problems/cross-site",
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_every_response_has_the_security_headers(http: httpx.Client, path: str, accept: str) -> None:
    headers = http.get(path, headers={"accept": accept}).headers
    assert headers["content-security-policy"] in {CONTENT_SECURITY_POLICY, PAGE_POLICY}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"]


@pytest.mark.parametrize("policy", [CONTENT_SECURITY_POLICY, PAGE_POLICY], ids=["API", "pages"])
def test_the_content_security_policy_allows_only_the_service_itself(policy: str) -> None:
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    assert parts["script-src"] == "'self'"
    assert {parts["frame-ancestors"], parts["base-uri"]} == {"'none'"}
    assert "unsafe" not in policy
    assert not [source for source in policy.split() if source.startswith("http") or source == "*"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8780", "127.0.0.1", "127.9.9.9:1", "[::1]:8780", "LOCALHOST"]
)
def test_loopback_names_are_accepted(http: httpx.Client, host: str) -> None:
    assert http.get("/v1/studies", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "192.168.1.2",
        "",
        "a b",
        "[::1",
        "localhost@example.com",
        "example.com/localhost",
    ],
)
def test_an_unknown_host_name_is_refused(http: httpx.Client, host: str) -> None:
    answer = http.get("/v1/studies", headers={"host": host})
    assert (answer.status_code, answer.json()["type"]) == (421, "/problems/host-refused")


def test_a_configured_host_name_is_accepted(
    settings: ServiceSettings, store: Store, client_of: ClientOf
) -> None:
    named = settings.model_copy(update={"allowed_hosts": ("Tangent.example",)})
    with client_of(create_app(named, store)) as client:
        assert client.get("/v1", headers={"host": "tangent.example:8780"}).status_code == 200
        assert client.get("/v1", headers={"host": "other.example"}).status_code == 421


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/v1", 421), ("/", 421), ("/healthz/", 421)],
)
def test_probes_and_scrapers_may_use_any_host_name(
    settings: ServiceSettings, store: Store, client_of: ClientOf, path: str, status: int
) -> None:
    store.create_token("first", role="admin")
    guarded = settings.model_copy(update={"host": "0.0.0.0", "allowed_hosts": ("tangent.example",)})
    with client_of(create_app(guarded, store)) as client:
        assert client.get(path, headers={"host": "10.0.0.7:8780"}).status_code == status


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_dns_rebinding_reveals_nothing(http: httpx.Client, path: str) -> None:
    assert http.get(path, headers={"host": "evil.example"}).status_code == 421


FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8780"},
    {"origin": "http://example.com"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "null"},
    {"origin": "http://[::1"},
    {"origin": "127.0.0.1:8780"},
]
OWN: list[dict[str, str]] = [
    {},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
    {"origin": "http://127.0.0.1:8780"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_cannot_change_anything(
    http: httpx.Client, store: Store, body: Body, headers: dict[str, str]
) -> None:
    study = store.submit(parse_spec(body)).id
    for path in ("/v1/studies", f"/v1/studies/{study}:cancel", f"/studies/{study}/cancel"):
        answer = http.post(path, json=body, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["type"] == "/problems/cross-site"
    assert store.study(study).version == 1
    assert store.studies().total == 1


@pytest.mark.parametrize("headers", OWN)
def test_programs_and_pages_of_the_service_may_change_things(
    http: httpx.Client, body: Body, headers: dict[str, str]
) -> None:
    assert http.post("/v1/studies", json=body, headers=headers).status_code == 201


def test_cross_site_reads_are_not_refused(http: httpx.Client) -> None:
    # No header allows another origin to read the response.
    answer = http.get("/v1/studies", headers={"origin": "http://example.com", "sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_is_not_granted(http: httpx.Client) -> None:
    answer = http.options(
        "/v1/studies", headers={"origin": "http://example.com", "access-control-request-method": "POST"}
    )
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


class _Broken(Store):
    """A store with a bug."""

    def studies(self, *_asked: object, **_named: object) -> Any:
        """Raise an unexpected exception."""
        raise ZeroDivisionError("the secret is 42")


@pytest.fixture
def broken(settings: ServiceSettings, client_of: ClientOf) -> Generator[httpx.Client]:
    app: FastAPI = create_app(settings, _Broken.open(settings.database_url))
    with client_of(app) as client:
        yield client
    app.state.store.close()


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_an_internal_error_is_logged_and_not_revealed(
    broken: httpx.Client, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = broken.get("/" if accept == "text/html" else "/v1/studies", headers={"accept": accept})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "ZeroDivision" not in answer.text
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    if accept == "application/json":
        problem = answer.json()
        assert (problem["type"], answer.headers["content-type"]) == (
            "/problems/internal-error",
            "application/problem+json",
        )
        assert problem["instance"] in caplog.text
    assert "the secret is 42" in caplog.text
    assert len(caplog.records) == 1


def test_browsers_get_a_page_and_programs_a_problem(http: httpx.Client) -> None:
    page = http.get("/nothing", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<p>There is nothing at /nothing" in page.text
    assert "<h1>Not found</h1>" in page.text
    under_v1 = http.get("/v1/nothing", headers={"accept": "text/html"})
    assert under_v1.headers["content-type"] == "application/problem+json"


def test_quoted_requests_are_escaped_in_pages(http: httpx.Client) -> None:
    page = http.get("/<script>alert(1)</script>", headers={"accept": "text/html"})
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;" in page.text
