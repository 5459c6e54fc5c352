"""The login: a browser sends its token once, and then a cookie."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.rate_limits import RateLimits
from service.session_cookie import safe_redirect_path
from service.settings import ServiceSettings
from studies.store import Store

__all__: list[str] = []

ClientOf = Callable[..., AbstractContextManager[httpx.Client]]

PAGE = {"accept": "text/html"}


@pytest.fixture
def secret(store: Store) -> str:
    """The secret of a submitter's token."""
    return store.create_token("alice", role="submitter")


def log_in(http: httpx.Client, secret: str, *, to: str = "/", **headers: str) -> httpx.Response:
    return http.post("/login", data={"token": secret, "next": to}, headers={**PAGE, **headers})


def test_a_user_who_has_logged_in_needs_no_token(
    http: httpx.Client, secret: str, body: dict[str, Any]
) -> None:
    assert http.get("/", headers=PAGE).status_code == 401
    answer = log_in(http, f" {secret}\n", to="/workloads?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/workloads?x=1")
    assert http.get("/workloads", headers=PAGE).status_code == 200
    study = http.post("/v1/studies", json=body, headers={"sec-fetch-site": "same-origin"}).json()
    assert study["owner"] == "alice"
    page = http.get("/account", headers=PAGE)
    assert "alice" in page.text
    assert 'action="/logout"' in page.text
    assert http.get("/v1/account").json()["token"]["name"] == "alice"


def test_scripts_and_other_sites_cannot_read_the_cookie(http: httpx.Client, secret: str) -> None:
    answer = log_in(http, secret)
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (cookie.key, cookie["path"], cookie["samesite"], cookie["httponly"], cookie["secure"]) == (
        "tangent",
        "/",
        "strict",
        True,
        "",
    )
    assert cookie["max-age"] == str(12 * 3600)
    assert secret not in answer.headers["set-cookie"]
    assert answer.headers["cache-control"] == "no-store"


def test_behind_tls_the_cookie_is_secure_and_for_this_host_only(
    http: httpx.Client, settings: ServiceSettings, store: Store, secret: str, client_of: ClientOf
) -> None:
    behind = settings.model_copy(update={"url": "https://tangent.example"})
    with client_of(create_app(behind, store)) as other:
        for answer in (log_in(http, secret, **{"x-forwarded-proto": "https"}), log_in(other, secret)):
            (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
            assert (cookie.key, cookie["path"], cookie["secure"], cookie["domain"]) == (
                "__Host-tangent",
                "/",
                True,
                "",
            )
        planted = {"cookie": f"tangent={cookie.value}"}
        other.cookies.clear()
        assert other.get("/v1/account", headers=planted).status_code == 401, (
            "another host of the domain could have set a cookie with this name"
        )
        assert (
            other.get("/v1/account", headers={"cookie": f"__Host-tangent={cookie.value}"}).status_code == 200
        )


@pytest.mark.parametrize(
    ("forwarded", "is_secure"),
    [("https, http", True), ("HTTPS", True), ("http, https", False), ("http", False), ("", False)],
)
def test_the_first_of_several_proxies_decides_whether_the_cookie_is_secure(
    http: httpx.Client, secret: str, forwarded: str, *, is_secure: bool
) -> None:
    assert (
        "Secure" in log_in(http, secret, **{"x-forwarded-proto": forwarded}).headers["set-cookie"]
    ) is is_secure


def test_logging_out_ends_the_session_everywhere(http: httpx.Client, store: Store, secret: str) -> None:
    log_in(http, secret)
    cookie = {"cookie": f"tangent={http.cookies['tangent']}"}
    answer = http.post("/logout", headers=PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert http.cookies.get("tangent") is None
    assert http.get("/v1/account", headers=cookie).status_code == 401, "a cookie that was kept must not work"
    assert [(entry.actor, entry.verb) for entry in store.audit().items][:2] == [
        ("alice", "logout"),
        ("alice", "login"),
    ]
    assert http.post("/logout", headers=PAGE).status_code == 303


def test_a_revoked_token_ends_its_sessions(http: httpx.Client, store: Store, secret: str) -> None:
    log_in(http, secret)
    assert http.get("/v1/account").status_code == 200
    store.revoke_token("alice")
    assert http.get("/v1/account").status_code == 401


def test_a_session_expires(http: httpx.Client, store: Store, secret: str) -> None:
    begun = store.log_in(secret, lifetime=timedelta(seconds=-1), address=None)
    assert http.get("/v1/account", headers={"cookie": f"tangent={begun}"}).status_code == 401
    log_in(http, secret)
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM session").scalar_one() == 1, (
            "expired sessions are removed"
        )


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("given", ["", "nothing", "tangent_" + "x" * 43, "\0", "é" * 50, "x" * 10_000])
def test_an_unknown_token_starts_no_session(http: httpx.Client, store: Store, given: str) -> None:
    answer = log_in(http, given)
    assert answer.status_code == 401
    assert "not valid" in answer.text
    assert "set-cookie" not in answer.headers
    assert [entry.verb for entry in store.audit().items] == (
        ["login.refused", "token.create"] if given else ["token.create"]
    )


@pytest.mark.usefixtures("secret")
def test_only_refused_logins_are_deleted_from_the_audit_log(http: httpx.Client, store: Store) -> None:
    log_in(http, "nothing")
    assert store.delete_refused_logins(older_than=timedelta(days=30)) == 0
    assert store.delete_refused_logins(older_than=timedelta(seconds=-1)) == 1
    assert [entry.verb for entry in store.audit().items] == ["token.create"]


@pytest.mark.parametrize(
    "cookie",
    ["tangent=", "tangent=x", "tangent=" + "x" * 43, "tangent=" + "x" * 4000, 'tangent="\\"', "=;=;"],
)
def test_an_unknown_cookie_gives_no_access(http: httpx.Client, secret: str, cookie: str) -> None:
    assert http.get("/v1/account", headers={"cookie": cookie}).status_code == 401
    assert (
        http.get("/v1/account", headers={"cookie": cookie, "authorization": f"Bearer {secret}"}).status_code
        == 200
    )


def test_a_token_takes_precedence_over_the_cookie(http: httpx.Client, store: Store, secret: str) -> None:
    log_in(http, secret)
    root = store.create_token("root", role="admin")
    assert (
        http.get("/v1/account", headers={"authorization": f"Bearer {root}"}).json()["token"]["name"] == "root"
    )
    assert http.get("/v1/account", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_a_page_of_another_site_cannot_log_in_log_out_or_change_anything(
    http: httpx.Client, secret: str, body: dict[str, Any]
) -> None:
    log_in(http, secret)
    for foreign in (
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null"},
    ):
        answers = [
            http.post("/login", data={"token": secret}, headers=foreign),
            http.post("/logout", headers=foreign),
            http.post("/v1/studies", json=body, headers=foreign),
            http.post("/new", data={"spec": "{}"}, headers=foreign),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/cross-site")
    assert http.get("/v1/account").status_code == 200


@pytest.mark.usefixtures("secret")
def test_a_link_from_another_site_makes_the_page_reload_once(http: httpx.Client) -> None:
    followed = http.get("/optimizers", headers={**PAGE, "sec-fetch-site": "cross-site"})
    assert '<meta http-equiv="refresh" content="0">' in followed.text, "the browser did not send its cookie"
    again = http.get("/optimizers", headers={**PAGE, "sec-fetch-site": "same-origin"})
    assert "refresh" not in again.text


@pytest.mark.usefixtures("secret")
def test_a_form_after_the_session_leads_back_to_its_page(http: httpx.Client) -> None:
    for path, to in (("/new", "/new"), ("/studies/abc23456/notes",) * 2, ("/studies/abc23456/pause", "/")):
        answer = http.post(path, data={"spec": "{}"}, headers=PAGE)
        assert (answer.status_code, f'name="next" value="{to}"' in answer.text) == (401, True), path


@pytest.mark.usefixtures("secret")
def test_a_live_page_reloads_when_its_session_has_ended(http: httpx.Client) -> None:
    answer = http.get("/studies/abc23456/live", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-refresh"]) == (401, "true")


@pytest.mark.parametrize(
    ("requested", "redirect"),
    [
        ("/studies/k3f9x2db?arm=adamp", "/studies/k3f9x2db?arm=adamp"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nset-cookie: x", "/"),
        ("", "/"),
        ("/login", "/"),
        ("/é", "/"),
    ],
)
def test_a_login_redirects_only_within_this_service(requested: str, redirect: str) -> None:
    assert safe_redirect_path(requested) == redirect


@pytest.mark.usefixtures("secret")
def test_the_redirect_of_a_login_is_escaped(http: httpx.Client) -> None:
    page = http.get('/optimizers?x="><script>alert(1)</script>', headers=PAGE).text
    assert "<script>alert" not in page


def test_an_open_service_has_no_login(http: httpx.Client) -> None:
    answer = http.get("/login", headers=PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "requires no token" in http.get("/account", headers=PAGE).text


BURST = 8


def guess(
    app: FastAPI, client_of: ClientOf, headers: Callable[[int], dict[str, str]], *, times: int
) -> list[httpx.Response]:
    """Log in with invalid tokens from several threads and return the responses."""
    with client_of(app) as client, ThreadPoolExecutor(4) as threads:
        return list(
            threads.map(
                lambda n: client.post("/login", data={"token": f"guess-{n}"}, headers=headers(n)),
                range(times),
            )
        )


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("trusted", "forwarded"),
    [
        ((), None),
        ((), "198.51.100.{0}"),
        (("127.0.0.1",), "203.0.113.{0}, 198.51.100.7"),
        (("127.0.0.1",), "2001:db8:0:{0:x}::{0:x}"),
    ],
    ids=["one address", "made-up addresses", "made-up addresses before the proxy", "one IPv6 network"],
)
def test_a_brute_force_of_one_sender_is_stopped_after_a_burst(
    settings: ServiceSettings,
    store: Store,
    client_of: ClientOf,
    trusted: tuple[str, ...],
    forwarded: str | None,
) -> None:
    app = create_app(settings.model_copy(update={"trusted_proxies": trusted}), store)
    # Practically no time passes for these buckets.
    app.state.login_limits = RateLimits(2.0, clock=lambda: 0.0)
    answers = guess(
        app,
        client_of,
        lambda n: {} if forwarded is None else {"x-forwarded-for": forwarded.format(n)},
        times=60,
    )
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(answers) - len(refused) == BURST
    assert refused[0].json()["type"] == "/problems/rate-limited"
    assert int(refused[0].headers["retry-after"]) >= 1


def test_a_brute_force_from_many_addresses_locks_no_one_out_and_fills_no_audit_log(
    settings: ServiceSettings, store: Store, client_of: ClientOf, secret: str
) -> None:
    app = create_app(settings.model_copy(update={"trusted_proxies": ("127.0.0.1",)}), store)
    app.state.refusal_limits = RateLimits(10.0, clock=lambda: 0.0)
    answers = guess(app, client_of, lambda n: {"x-forwarded-for": f"198.51.100.{n}"}, times=100)
    assert {answer.status_code for answer in answers} == {401}
    assert store.audit(verb="login.refused").total == 40
    with client_of(app) as client:
        answer = log_in(client, secret, **{"x-forwarded-for": "203.0.113.1"})
        assert (answer.status_code, store.audit(verb="login").total) == (303, 1)
