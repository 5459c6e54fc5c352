"""Webhook deliveries over real connections: signatures, retries, several services and refused addresses."""

import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from fastapi import FastAPI
from postgres_server import PostgresServer
from sqlalchemy import update
from standardwebhooks.webhooks import WebhookVerificationError
from webhook_receiver import Receiver, receiver

from service.app import create_app
from service.settings import ServiceSettings
from service.webhooks.addresses import AddressRefused
from service.webhooks.deliveries import DeliverySettings
from service.webhooks.sending import Sender
from studies.catalog import Catalog
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store, tables
from studies.webhooks import (
    AttemptResult,
    Delivery,
    DeliveryView,
    WebhookWithSecret,
    new_secret,
    parse_webhook,
)

__all__: list[str] = []

Body = dict[str, Any]
ServeApp = Callable[..., AbstractContextManager[str]]
LOOPBACK = ("127.0.0.0/8",)
PACE = DeliverySettings(poll_s=0.03, pause_s=0.1, timeout_s=10.0, grace_s=0.2)


@pytest.fixture
def hook() -> Generator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def allowed(settings: ServiceSettings) -> ServiceSettings:
    """Settings that allow webhooks to call this machine."""
    return settings.model_copy(update={"webhook_allow": LOOPBACK})


@pytest.fixture
def service(allowed: ServiceSettings, store: Store, serve_app: ServeApp) -> Generator[str]:
    """The URL of a service that may call this machine."""
    with serve_app(create_app(allowed, store, delivery_settings=PACE)) as found:
        yield found


def make(store: Store, url: str, **fields: Any) -> WebhookWithSecret:
    return store.create_webhook(parse_webhook({"url": url, **fields}))


def newest(
    store: Store, webhook: WebhookWithSecret, *, until: str = "delivered", within_s: float = 10.0
) -> DeliveryView:
    """Wait until the newest delivery of a webhook is in a state, and return it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = store.webhook(webhook.id).deliveries
        if found and found[0].state == until:
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f"not {until}: {store.webhook(webhook.id).deliveries}")


def make_due(store: Store) -> None:
    """Make scheduled retries due now."""
    with store._database.write() as connection:
        connection.execute(
            update(tables.delivery)
            .where(tables.delivery.c.state == "pending")
            .values(due_at=tables.delivery.c.created_at)
        )


def try_once(url: str, *, allow: tuple[str, ...] = LOOPBACK, timeout_s: float = 2.0) -> AttemptResult:
    """Return the result of one attempt."""
    delivery = Delivery("msg_1", "wh", None, "webhook.ping", url, new_secret(), "{}", 1)

    async def send() -> AttemptResult:
        async with Sender(allow=allow, version="1", lookups=4, timeout_s=timeout_s) as sender:
            return await sender.send(delivery)

    return anyio.run(send)


@pytest.mark.usefixtures("service")
def test_a_receiver_gets_signed_events(store: Store, hook: Receiver, body: Body) -> None:
    webhook = make(store, hook.url + "?from=tangent", events=["study.queued", "study.cancelled"])
    study = store.submit(parse_spec(body)).id
    (first,) = hook.wait_for(1)
    payload = first.verified(webhook.secret)
    assert (
        payload["type"],
        payload["data"]["study_id"],
        payload["data"]["state"],
        payload["data"]["path"],
    ) == (
        "study.queued",
        study,
        "queued",
        f"/v1/studies/{study}",
    )
    assert first.path == "/hook?from=tangent"
    assert (first.headers["content-type"], first.headers["host"]) == (
        "application/json",
        hook.url.split("/")[2],
    )
    assert first.headers["user-agent"].startswith("Tangent/")
    store.move(study, StudyMove.CANCEL)
    second = hook.wait_for(2)[1]
    assert second.verified(webhook.secret)["data"]["state_reason"] == "cancelled by its owner"
    assert second.headers["webhook-id"] != first.headers["webhook-id"]
    delivered = newest(store, webhook)
    assert (delivered.id, delivered.status_code, delivered.attempts, delivered.error) == (
        second.headers["webhook-id"],
        204,
        1,
        None,
    )
    assert store.webhook(webhook.id).delivered_at is not None
    for forged in (
        replace(first, body=first.body.replace(b"queued", b"failed")),
        replace(first, headers=first.headers | {"webhook-id": "msg_x"}),
    ):
        with pytest.raises(WebhookVerificationError):
            forged.verified(webhook.secret)
    with pytest.raises(WebhookVerificationError):
        first.verified(new_secret())


@pytest.mark.usefixtures("service")
def test_a_retry_has_the_same_message_id(store: Store, hook: Receiver, body: Body) -> None:
    hook.status = 500
    webhook = make(store, hook.url)
    store.submit(parse_spec(body))
    hook.wait_for(1)
    while store.webhook(webhook.id).deliveries[0].error is None:
        time.sleep(0.01)
    waiting = store.webhook(webhook.id).deliveries[0]
    assert (waiting.state, waiting.status_code, waiting.error) == (
        "pending",
        500,
        "the receiver answered 500 Internal Server Error",
    )
    hook.status = 200
    make_due(store)
    first, again = hook.wait_for(2)
    assert (again.headers["webhook-id"], again.body) == (first.headers["webhook-id"], first.body)
    assert again.verified(webhook.secret)["type"] == "study.queued"
    assert newest(store, webhook).attempts == 2


def test_two_services_send_each_delivery_once(
    allowed: ServiceSettings, database_url: str, hook: Receiver, serve_app: ServeApp, body: Body
) -> None:
    hook.delay_s = 0.02
    stores = [Store.open(database_url, migrate=False) for _ in range(2)]
    apps = [create_app(allowed, store, delivery_settings=PACE) for store in stores]
    webhooks = [make(stores[0], f"{hook.url}/{n}") for n in range(3)]
    with serve_app(apps[0]), serve_app(apps[1]):
        for _ in range(8):
            stores[0].submit(parse_spec(body))
        hook.wait_for(24, within_s=30)
        for webhook in webhooks:
            newest(stores[1], webhook)
        # Longer than the poll interval of both services.
        time.sleep(0.2)
    ids = [each.headers["webhook-id"] for each in hook.received]
    assert (len(ids), len(set(ids))) == (24, 24)
    sent = [sent_by(app) for app in apps]
    assert sum(sent) == 24
    assert {each.state for webhook in webhooks for each in stores[0].webhook(webhook.id).deliveries} == {
        "delivered"
    }
    for store in stores:
        store.close()


def sent_by(app: FastAPI) -> float:
    return app.state.metrics._deliveries.labels("delivered")._value.get()


def test_events_without_a_running_service_are_sent_by_the_next_one(
    allowed: ServiceSettings, database_url: str, hook: Receiver, serve_app: ServeApp, body: Body
) -> None:
    store = Store.open(database_url, migrate=False)
    webhook = make(store, hook.url)
    store.submit(parse_spec(body))
    # One service claimed the delivery and was killed before it sent it, so the claim was not released.
    (lost,) = store.claim_deliveries(lease_s=0.5)
    with serve_app(create_app(allowed, store, delivery_settings=PACE)):
        (came,) = hook.wait_for(1)
        assert came.headers["webhook-id"] == lost.id
        assert newest(store, webhook).attempts == 2
    store.close()


def test_shutdown_releases_running_deliveries(
    allowed: ServiceSettings, store: Store, hook: Receiver, serve_app: ServeApp, body: Body
) -> None:
    hook.delay_s = 8.0
    webhook = make(store, hook.url)
    with serve_app(create_app(allowed, store, delivery_settings=PACE)):
        store.submit(parse_spec(body))
        hook.wait_for(1)
        began = time.monotonic()
    assert time.monotonic() - began < 7.0
    (left,) = store.webhook(webhook.id).deliveries
    assert (left.state, left.attempts) == ("pending", 1)
    hook.delay_s = 0.0
    with serve_app(create_app(allowed, store, delivery_settings=PACE)):
        first, again = hook.wait_for(2)
        assert first.headers["webhook-id"] == again.headers["webhook-id"]
        newest(store, webhook)


def test_slow_receivers_delay_neither_requests_nor_other_receivers(
    store: Store, service: str, hook: Receiver, body: Body
) -> None:
    hook.delay_s = 8.0
    slow = [make(store, hook.url) for _ in range(10)]
    with receiver() as quick, httpx.Client(base_url=service) as client:
        make(store, quick.url)
        for _ in range(3):
            client.post("/v1/studies", json=body).raise_for_status()
        hook.wait_for(10)
        for _ in range(10):
            assert client.get("/v1/studies").status_code == 200
        quick.wait_for(3)
    under_way = [each for webhook in slow for each in store.webhook(webhook.id).deliveries]
    assert {(each.state, each.error) for each in under_way} == {("pending", None)}
    assert sum(each.attempts for each in under_way) <= 20, (
        "at most two deliveries per webhook may run at a time"
    )


def test_an_attempt_times_out(hook: Receiver) -> None:
    hook.delay_s = 8.0
    began = time.monotonic()
    assert try_once(hook.url, timeout_s=0.2) == AttemptResult(error="no answer within 0.2 s")
    assert time.monotonic() - began < 7.0


@contextmanager
def dripping(at_once: bytes, then: bytes) -> Generator[str]:
    """Yield the URL of a receiver that sends a first part at once and then byte by byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            line, _ = listener.accept()
            with line, suppress(OSError):
                line.sendall(at_once)
                for letter in then:
                    time.sleep(0.05)
                    line.sendall(bytes([letter]))

        threading.Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_trickling_response_does_not_extend_the_timeout() -> None:
    with dripping(b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100) as url:
        began = time.monotonic()
        assert try_once(url, timeout_s=0.4).error == "no answer within 0.4 s"
        assert time.monotonic() - began < 10.0


def test_a_response_counts_even_if_its_body_never_ends() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"x" * 1000) as url:
        assert try_once(url, timeout_s=0.3).is_delivered


def test_only_a_few_kilobytes_of_a_response_are_read(hook: Receiver) -> None:
    hook.body = b"x" * 50_000_000
    assert try_once(hook.url).is_delivered
    assert hook.was_cut_off.wait(10)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, "the receiver answered 301 Moved Permanently; redirects are not followed"),
        (307, "the receiver answered 307 Temporary Redirect; redirects are not followed"),
        (404, "the receiver answered 404 Not Found"),
        (599, "the receiver answered 599"),
    ],
)
def test_failures_are_reported_and_redirects_are_not_followed(
    hook: Receiver, status: int, error: str
) -> None:
    with receiver() as elsewhere:
        hook.status, hook.headers = status, {"location": elsewhere.url, "retry-after": "120"}
        answer = try_once(hook.url)
        assert (answer.is_delivered, answer.status_code, answer.retry_after_s) == (False, status, 120.0)
        assert (answer.error or "").startswith(error)
        assert elsewhere.received == []


def test_loopback_is_called_only_if_allowed(hook: Receiver) -> None:
    port = hook.url.split(":")[2]
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]"):
        for url, allow in ((f"http://{host}:{port}", ("10.0.0.0/8",)), (f"https://{host}:{port}", ())):
            answer = try_once(url, allow=allow, timeout_s=0.3)
            assert answer.error == str(AddressRefused(host.strip("[]"))), url
    assert hook.received == []


def test_an_internal_name_an_unknown_one_and_a_silent_name_server_have_the_same_result_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()

    def look_up(host: Any, *_: object, **__: object) -> list[object]:
        match str(host):
            case "silent.lab":
                released.wait(10)
            case "unknown.lab":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            case _:
                pass
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.0.9", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        for host in ("internal.lab", "unknown.lab", "silent.lab"):
            began = time.monotonic()
            answer = try_once(f"https://{host}/", timeout_s=1.0)
            assert answer == AttemptResult(error=str(AddressRefused(host)))
            assert time.monotonic() - began >= 0.6, "the time must not depend on the lookup"
    finally:
        released.set()


def test_a_name_is_resolved_once_and_the_checked_address_is_called(
    hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding has no effect."""
    looked_up: list[str] = []
    genuine = socket.getaddrinfo
    with receiver() as inner:
        answers = iter(["127.0.0.1", "127.0.0.2"])

        def rebinding(host: Any, *given: Any, **named: Any) -> Any:
            if host in {"hooks.example", b"hooks.example"}:
                looked_up.append(str(host))
                host = next(answers)
            return genuine(host, *given, **named)

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        port = hook.url.split(":")[2].partition("/")[0]
        assert try_once(f"http://hooks.example:{port}/x", allow=("127.0.0.1",)).is_delivered
        assert inner.received == []
    assert looked_up == ["hooks.example"]
    assert hook.received[0].headers["host"] == f"hooks.example:{port}"


def test_proxies_from_the_environment_are_not_used(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/hook"))
        assert try_once(hook.url).is_delivered
        assert proxy.received == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of hooks.example with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs Debian's package 'openssl'")
    path = tmp_path_factory.mktemp("tls") / "hooks.example.pem"
    asked = ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example", "-days", "2"]
    key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        path,
        "-out",
        f"{path}.crt",
    ]
    subprocess.run(["openssl", "req", "-x509", *key, *asked], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_the_certificate_must_match_the_host_name(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    genuine = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *given, **named: genuine(
            "127.0.0.1" if "example" in str(host) else host, *given, **named
        ),
    )
    with receiver(tls=tls) as hook:
        port = hook.url.split(":")[2].partition("/")[0]
        unknown = try_once(f"https://hooks.example:{port}/")
        assert "self-signed certificate" in (unknown.error or "")
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert try_once(f"https://hooks.example:{port}/").is_delivered
        for other in ("other.example", "127.0.0.1"):
            answer = try_once(f"https://{other}:{port}/")
            assert "mismatch" in (answer.error or ""), other
        assert len(hook.received) == 1


def test_an_unreachable_receiver_is_reported_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert (try_once(f"http://127.0.0.1:{port}/").error or "").startswith("cannot connect: ")


@pytest.mark.usefixtures("service")
def test_a_410_disables_the_webhook(store: Store, hook: Receiver, body: Body) -> None:
    hook.status = 410
    webhook = make(store, hook.url)
    store.submit(parse_spec(body))
    assert newest(store, webhook, until="failed").error == "the receiver answered 410 Gone"
    assert store.webhook(webhook.id).disabled_reason == "its receiver answered 410 Gone"


def test_the_log_contains_no_secret_and_no_path_of_a_url(
    allowed: ServiceSettings,
    store: Store,
    hook: Receiver,
    serve_app: ServeApp,
    body: Body,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "tangent"):
        webhooks = [make(store, f"{url}?key=hidden") for url in (hook.url, "http://127.0.0.1:9/hook")]
        with serve_app(create_app(allowed, store, delivery_settings=PACE)):
            store.submit(parse_spec(body))
            newest(store, webhooks[0])
            while store.webhook(webhooks[1].id).deliveries[0].error is None:
                time.sleep(0.01)
    lines = [record.getMessage() for record in caplog.records if record.name == "tangent.webhooks"]
    assert f"study.queued to webhook {webhooks[0].id}, attempt 1: delivered" in lines
    assert any(
        line.startswith(f"study.queued to webhook {webhooks[1].id}, attempt 1: retried, cannot connect")
        for line in lines
    )
    for webhook in webhooks:
        assert webhook.secret not in caplog.text
    assert "hidden" not in "".join(lines)


def test_attempts_are_counted_by_outcome(store: Store, service: str, hook: Receiver, body: Body) -> None:
    webhook = make(store, hook.url)
    store.submit(parse_spec(body))
    newest(store, webhook)
    metrics = httpx.get(f"{service}/metrics").text
    assert 'tangent_webhook_deliveries_total{outcome="delivered"} 1.0' in metrics
    assert 'tangent_webhook_deliveries_total{outcome="retried"} 0.0' in metrics


@pytest.mark.postgres
def test_deliveries_resume_when_the_database_is_back(
    allowed: ServiceSettings,
    postgres_url: str,
    postgres: PostgresServer,
    hook: Receiver,
    catalog: Catalog,
    serve_app: ServeApp,
    body: Body,
) -> None:
    store = Store.open(postgres_url)
    store.announce(catalog, dispatcher="here")
    make(store, hook.url)
    name = urlsplit(postgres_url).path.removeprefix("/")
    with serve_app(create_app(allowed, store, delivery_settings=PACE)):
        postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        time.sleep(0.3)
        postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        store.submit(parse_spec(body))
        hook.wait_for(1)
    store.close()
