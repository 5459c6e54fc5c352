"""Rate limits of tokens and addresses."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.client import Client
from service.client_address import client_address, neighbourhood
from service.rate_limits import RateLimits
from service.settings import ServiceSettings, SettingsInvalid
from service.transport import Transport
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

ClientOf = Callable[..., AbstractContextManager[httpx.Client]]
ServeApp = Callable[..., AbstractContextManager[str]]
Body = dict[str, Any]


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(limits: RateLimits, key: str, tries: int) -> int:
    return sum(limits.take(key) == 0 for _ in range(tries))


def test_a_burst_of_four_seconds_passes_and_then_the_sustained_rate() -> None:
    clock = Clock()
    limits = RateLimits(5.0, clock=clock)
    assert taken(limits, "a", 100) == 20
    clock.now += 2.0
    assert taken(limits, "a", 100) == 10
    clock.now += 3600.0
    assert taken(limits, "a", 100) == 20, "the bucket must not grow beyond the burst"


def test_a_caller_that_waits_for_retry_after_is_accepted() -> None:
    clock = Clock()
    limits = RateLimits(0.2, clock=clock)
    assert limits.take("a") == 0
    wait_s = limits.take("a")
    assert wait_s == 5
    clock.now += wait_s
    assert limits.take("a") == 0


def test_refused_requests_do_not_extend_the_wait() -> None:
    clock = Clock()
    limits = RateLimits(1.0, clock=clock)
    assert taken(limits, "a", 1000) == 4
    clock.now += 1.0
    assert limits.take("a") == 0


def test_buckets_are_independent() -> None:
    limits = RateLimits(1.0, clock=Clock())
    assert (taken(limits, "a", 9), taken(limits, "b", 9)) == (4, 4)


def test_zero_is_no_limit() -> None:
    assert taken(RateLimits(0.0, clock=Clock()), "a", 1000) == 1000


def test_the_number_of_buckets_is_bounded() -> None:
    limits = RateLimits(1.0, clock=Clock())
    for n in range(20_000):
        limits.take(str(n))
    assert len(limits._buckets) == 10_000


@pytest.fixture
def slow(settings: ServiceSettings) -> ServiceSettings:
    """Settings of a service that allows a burst of four requests."""
    return settings.model_copy(update={"rate_per_s": 1.0})


def test_a_token_over_its_limit_gets_429_with_retry_after(
    slow: ServiceSettings, store: Store, client_of: ClientOf
) -> None:
    alice, bob = (
        {"authorization": f"Bearer {store.create_token(name, role='viewer')}"} for name in ("alice", "bob")
    )
    with client_of(create_app(slow, store)) as client:
        answers = [client.get("/v1/studies", headers=alice) for _ in range(10)]
        refused = answers[-1]
        assert [answer.status_code for answer in answers[:4]] == [200] * 4
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert refused.json()["type"] == "/problems/rate-limited"
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/v1/studies", headers=bob).status_code == 200, "bob's limit must not be affected"
        assert client.get("/healthz").status_code == 200


def guess(client: httpx.Client, *, times: int) -> list[int]:
    """Send invalid tokens and return the statuses of the responses."""
    return [
        client.get("/v1/studies", headers={"authorization": f"Bearer guess-{n}"}).status_code
        for n in range(times)
    ]


def test_invalid_tokens_are_counted_by_address(
    slow: ServiceSettings, store: Store, client_of: ClientOf
) -> None:
    headers = {"authorization": f"Bearer {store.create_token('alice', role='viewer')}"}
    with client_of(create_app(slow, store)) as client:
        assert client.get("/v1/studies", headers=headers).status_code == 200
        statuses = guess(client, times=10)
        assert (statuses[:4], statuses[-1]) == ([401] * 4, 429)
        assert client.get("/v1/studies", headers=headers).status_code == 200, (
            "a token that was accepted before must not be locked out"
        )


def test_a_flood_of_invalid_tokens_is_refused_without_a_database_query(
    slow: ServiceSettings, store: Store, client_of: ClientOf
) -> None:
    store.create_token("alice", role="viewer")
    statements: list[str] = []

    def note(statement: str) -> Callable[[BaseException | None], None]:
        statements.append(statement)
        return lambda _error: None

    with client_of(create_app(slow.model_copy(update={"rate_per_s": 0.1}), store)) as client:
        assert guess(client, times=5)[-1] == 429
        store.on_statement(note)
        assert guess(client, times=20) == [429] * 20
        assert client.get("/v1/studies", headers={"cookie": f"tangent={'x' * 43}"}).status_code == 429
        assert client.get("/v1/studies").status_code == 429
    assert not [statement for statement in statements if "tokens" in statement or "sessions" in statement]


def test_an_open_service_has_no_rate_limit(slow: ServiceSettings, store: Store, client_of: ClientOf) -> None:
    with client_of(create_app(slow, store)) as client:
        assert {client.get("/v1/account").status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%\u202e<script>"], "fe80::1"),
        ("10.0.0.1", ["198.51.100.1, x, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        # A dual-stack socket reports IPv4 addresses like this.
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        (None, ["198.51.100.1"], None),
        ("testclient", ["198.51.100.1"], "testclient"),
    ],
)
def test_only_trusted_proxies_may_name_the_client_address(
    peer: str | None, forwarded: list[str], found: str | None
) -> None:
    assert client_address(peer, forwarded, trusted=("10.0.0.0/8", "::1")) == found


@pytest.mark.parametrize(
    ("one", "other", "is_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:ff::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:102::1", False),
        ("fe80::1%eth0", "fe80::1%=cmd", True),
        ("198.51.100.1", "198.51.100.2", False),
        ("198.51.100.1", "::ffff:198.51.100.1", True),
        ("testclient", "testclient", True),
        (None, None, True),
    ],
)
def test_ipv6_addresses_of_one_56_network_count_as_one(
    one: str | None, other: str | None, *, is_one: bool
) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is is_one


def test_addresses_behind_a_trusted_proxy_are_counted_separately(
    slow: ServiceSettings, store: Store, client_of: ClientOf
) -> None:
    store.create_token("alice", role="viewer")
    for trusted, last in ((("127.0.0.1",), 401), ((), 429)):
        with client_of(create_app(slow.model_copy(update={"trusted_proxies": trusted}), store)) as client:
            answers = [
                client.get("/v1/studies", headers={"x-forwarded-for": f"198.51.100.{n}"}).status_code
                for n in range(10)
            ]
            assert answers[-1] == last


def test_a_trusted_proxy_must_be_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_TRUSTED_PROXIES", "10.0.0.1,proxy")
    with pytest.raises(SettingsInvalid, match=r"^TANGENT_TRUSTED_PROXIES: .*'proxy'"):
        ServiceSettings.load()
    assert ServiceSettings.load(trusted_proxies="10.0.0.1, ::1").trusted_proxies == ("10.0.0.1", "::1")


def test_the_client_respects_retry_after(slow: ServiceSettings, store: Store, serve_app: ServeApp) -> None:
    secret = store.create_token("alice", role="viewer")
    with serve_app(create_app(slow, store)) as url, Client(url, secret) as client:
        assert [client.studies().total for _ in range(6)] == [0] * 6


def test_downloads_and_watches_respect_retry_after(
    slow: ServiceSettings, store: Store, body: Body, serve_app: ServeApp
) -> None:
    study = store.submit(parse_spec(body)).id
    secret, app = store.create_token("alice", role="viewer"), create_app(slow, store)
    limits: RateLimits = app.state.rate_limits
    with serve_app(app) as url:
        line, into = Transport(url, secret, timeout_s=5.0), io.BytesIO()
        taken(limits, "token 'alice'", 4)
        line.download(f"/v1/studies/{study}", into, timeout_s=5.0)
        line.close()
        assert study in into.getvalue().decode()
        taken(limits, "token 'alice'", 4)
        with Client(url, secret) as client:
            assert next(client.watch(study)).kind == "study.submitted"
