"""Webhooks over REST and on the command line."""

import json
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from auth_headers import bearer
from fastapi import FastAPI
from typer.testing import CliRunner, Result
from webhook_receiver import Receiver, receiver

from service.app import create_app
from service.cli.app import app as command
from service.settings import ServiceSettings, SettingsInvalid
from service.webhooks.deliveries import DeliverySettings
from studies.spec import parse_spec
from studies.store import Store
from studies.webhooks import AttemptResult, WebhookPayload

__all__: list[str] = []

ServeApp = Callable[..., AbstractContextManager[str]]
URL = {"url": "https://hooks.example/tangent"}


@pytest.fixture
def hook() -> Generator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def tangent(settings: ServiceSettings, store: Store, serve_app: ServeApp) -> Generator[Callable[..., Result]]:
    """Run `tangent` against a service that may call this machine."""
    pace = DeliverySettings(poll_s=0.03, timeout_s=2.0, grace_s=0.2)
    app = create_app(
        settings.model_copy(update={"webhook_allow": ("127.0.0.0/8",)}), store, delivery_settings=pace
    )
    with serve_app(app) as url:

        def ran(*arguments: str) -> Result:
            result = CliRunner(env={"TANGENT_URL": url, "COLUMNS": "200"}).invoke(command, list(arguments))
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            return result

        yield ran


def test_a_webhook_can_be_created_read_and_removed(http: httpx.Client) -> None:
    made = http.post("/v1/webhooks", json=URL | {"events": ["study.failed"], "suite": "small"})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    webhook, path = made.json(), made.headers["location"]
    assert path == f"/v1/webhooks/{webhook['id']}"
    assert webhook["secret"].startswith("whsec_")
    seen = http.get(path).json()
    assert {
        name: seen[name]
        for name in ("url", "events", "studies", "suite", "owner", "disabled_at", "deliveries")
    } == {
        **URL,
        "events": ["study.failed"],
        "studies": "own",
        "suite": "small",
        "owner": None,
        "disabled_at": None,
        "deliveries": [],
    }
    listed = http.get("/v1/webhooks")
    assert [each["id"] for each in listed.json()["items"]] == [webhook["id"]]
    assert (
        webhook["secret"]
        not in listed.text + json.dumps(seen) + http.post(f"{path}:enable").text + http.get("/v1/audit").text
    )
    removed = http.delete(path)
    assert (removed.status_code, removed.content) == (204, b"")
    gone = http.get(path)
    assert (gone.status_code, gone.json()["type"]) == (404, "/problems/webhook-not-found")


def test_users_see_their_own_webhooks_and_an_admin_all(http: httpx.Client, secrets: dict[str, str]) -> None:
    paths = {
        name: http.post("/v1/webhooks", json=URL, headers=bearer(secrets[name])).headers["location"]
        for name in ("alice", "bob", "root")
    }
    for name, count in (("alice", 1), ("bob", 1), ("root", 3), ("vera", 0)):
        assert http.get("/v1/webhooks", headers=bearer(secrets[name])).json()["total"] == count
    for asked, path in (("GET", ""), ("DELETE", ""), ("POST", ":test"), ("POST", ":enable")):
        answer = http.request(asked, paths["alice"] + path, headers=bearer(secrets["bob"]))
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/webhook-not-found")
    assert http.get(paths["alice"], headers=bearer(secrets["vera"])).status_code == 404
    for asked, path in (
        ("POST", "/v1/webhooks"),
        ("DELETE", paths["alice"]),
        ("POST", f"{paths['alice']}:test"),
    ):
        answer = http.request(asked, path, headers=bearer(secrets["vera"]), json=URL)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    everybodys = URL | {"studies": "all"}
    assert (
        http.post("/v1/webhooks", json=everybodys, headers=bearer(secrets["alice"])).json()["type"]
        == "/problems/forbidden"
    )
    assert http.post("/v1/webhooks", json=everybodys, headers=bearer(secrets["root"])).status_code == 201
    assert http.delete(paths["alice"], headers=bearer(secrets["root"])).status_code == 204


def test_too_many_webhooks_are_refused(http: httpx.Client) -> None:
    answers = [http.post("/v1/webhooks", json=URL) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [201] * 20 + [403]
    assert answers[-1].json()["type"] == "/problems/quota-exceeded"


@pytest.mark.parametrize(
    ("body", "pointer", "named"),
    [
        ({}, "/url", "required"),
        ({"url": "http://hooks.example/"}, "/url", "TANGENT_WEBHOOK_ALLOW"),
        ({"url": "https://127.0.0.1/"}, "/url", "127.0.0.1"),
        ({"url": "https://localhost:9/"}, "/url", "localhost"),
        ({"url": "https://a.example", "events": ["progress"]}, "/events/0", "'study.queued'"),
        ({"url": 7}, "/url", "string"),
        ({"url": "https://a.example", "hook": 1}, "/hook", "url, events, studies, suite"),
    ],
)
def test_a_webhook_that_cannot_be_called_is_refused_with_every_fault(
    http: httpx.Client, body: Any, pointer: str, named: str
) -> None:
    answer = http.post("/v1/webhooks", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/webhook-invalid")
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["where"]) == (pointer, "body")
    assert named in fault["detail"]


def test_a_body_that_is_not_json_is_refused(http: httpx.Client) -> None:
    for content, kind, status in (
        (b"{", "application/json", 400),
        (b"url=x", "application/x-www-form-urlencoded", 415),
        (b"[]", "application/json", 422),
    ):
        assert (
            http.post("/v1/webhooks", content=content, headers={"content-type": kind}).status_code == status
        )


def test_unknown_webhooks_and_methods_are_refused(http: httpx.Client) -> None:
    assert http.get("/v1/webhooks/NO%20ID").json()["type"] == "/problems/webhook-not-found"
    refused = http.put("/v1/webhooks/w7k3f9x2")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, DELETE")
    assert http.get("/v1/webhooks/w7k3f9x2:test").status_code in {404, 405}
    assert http.get("/v1/webhooks?page_size=0").json()["type"] == "/problems/parameter-invalid"


def test_a_page_of_another_site_cannot_create_or_remove_webhooks(http: httpx.Client) -> None:
    path = http.post("/v1/webhooks", json=URL).headers["location"]
    for asked, at in (("POST", "/v1/webhooks"), ("DELETE", path), ("POST", f"{path}:test")):
        answer = http.request(asked, at, json=URL, headers={"sec-fetch-site": "cross-site"})
        assert answer.json()["type"] == "/problems/cross-site"


def test_outcomes_of_deliveries_can_be_read(http: httpx.Client, store: Store, body: dict[str, Any]) -> None:
    path = http.post("/v1/webhooks", json=URL).headers["location"]
    http.post("/v1/studies", json=body).raise_for_status()
    (delivery,) = store.claim_deliveries(lease_s=60.0)
    store.settle_delivery(delivery, AttemptResult(status_code=500, error="the receiver answered 500"))
    ping = http.post(f"{path}:test")
    assert (ping.status_code, ping.json()["state"]) == (202, "pending")
    seen = http.get(path).json()
    assert seen["failing_since"] is not None
    assert [
        (each["event"], each["state"], each["attempts"], each["status_code"], each["error"])
        for each in seen["deliveries"]
    ] == [
        ("webhook.ping", "pending", 0, None, None),
        ("study.queued", "pending", 1, 500, "the receiver answered 500"),
    ]
    (claimed,) = store.claim_deliveries(lease_s=60.0)
    store.settle_delivery(claimed, AttemptResult(status_code=410, error="gone"))
    conflict = http.post(f"{path}:test")
    assert (conflict.status_code, conflict.json()["type"]) == (409, "/problems/conflict")
    assert http.post(f"{path}:enable").json()["disabled_at"] is None
    verbs = [entry["verb"] for entry in http.get("/v1/audit").json()["items"]]
    assert verbs == ["webhook.enable", "webhook.test", "submit", "webhook.create"]


def test_payloads_are_described(open_app: FastAPI, store: Store) -> None:
    described = json.loads(json.dumps(open_app.openapi()))
    assert set(described["webhooks"]) == {"study", "ping"}
    for item in described["webhooks"].values():
        headers = {each["name"] for each in item["post"]["parameters"]}
        assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}
        assert set(item["post"]["responses"]) == {"200"}
    store.create_webhook(parse(URL))
    store.submit(parse_spec({"workload": "digits-mlp", "arms": ["adamp"], "budget": {"trials_per_arm": 1}}))
    (delivery,) = store.claim_deliveries(lease_s=60.0)
    fields = described["components"]["schemas"]["StudyEventData"]["properties"]
    assert set(json.loads(delivery.body)["data"]) == set(fields)
    assert WebhookPayload.model_validate_json(delivery.body).type == "study.queued"


def parse(body: Any) -> Any:
    from studies.webhooks import parse_webhook

    return parse_webhook(body)


def test_allowed_networks_are_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_WEBHOOK_ALLOW", "127.0.0.0/8, fd00::/8")
    assert ServiceSettings.load().webhook_allow == ("127.0.0.0/8", "fd00::/8")
    monkeypatch.setenv("TANGENT_WEBHOOK_ALLOW", "example.com")
    with pytest.raises(SettingsInvalid, match="TANGENT_WEBHOOK_ALLOW: expected addresses or networks"):
        ServiceSettings.load()


def test_the_command_line_creates_tests_and_removes_a_webhook(
    tangent: Callable[..., Result], hook: Receiver
) -> None:
    assert "There are no webhooks" in tangent("webhook", "list").stdout
    made = tangent(
        "webhook",
        "create",
        hook.url,
        "--event",
        "study.completed",
        "--event",
        "study.failed",
        "--suite",
        "small",
    )
    secret = made.stdout.strip()
    assert secret.startswith("whsec_")
    assert secret not in made.stderr
    (webhook,) = json.loads(tangent("webhook", "list", "--json").stdout)
    assert (webhook["events"], webhook["suite"]) == (["study.completed", "study.failed"], "small")
    tried = tangent("webhook", "test", webhook["id"])
    assert (tried.exit_code, tried.stdout) == (0, "delivered: the receiver answered 204\n")
    assert hook.received[0].verified(secret)["type"] == "webhook.ping"
    hook.status = 503
    refused = tangent("webhook", "test", webhook["id"])
    assert (refused.exit_code, "503" in refused.stderr) == (1, True)
    shown = tangent("webhook", "show", webhook["id"]).stdout
    for expected in (
        hook.url,
        "study.completed, study.failed",
        "own, in suite small",
        "failing since",
        "delivered",
        "503 Service Unavailable",
    ):
        assert expected in shown
    assert secret not in shown
    assert tangent("webhook", "enable", webhook["id"]).stdout == f"{webhook['id']} is enabled\n"
    assert hook.url in tangent("webhook", "list").stdout
    assert tangent("webhook", "remove", webhook["id"]).stdout == f"{webhook['id']} is removed\n"
    gone = tangent("webhook", "show", webhook["id"])
    assert (gone.exit_code, webhook["id"] in gone.stderr) == (1, True)


def test_a_faulty_webhook_is_bad_input_on_the_command_line(tangent: Callable[..., Result]) -> None:
    refused = tangent("webhook", "create", "ftp://hooks.example")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: /url: ")
    assert tangent("webhook", "create", "https://hooks.example", "--event", "trial.finished").exit_code == 2
    everybodys = json.loads(tangent("webhook", "create", "https://hooks.example", "--all", "--json").stdout)
    assert (everybodys["studies"], everybodys["events"]) == ("all", ["study.*"])


def test_the_account_page_shows_the_users_webhooks(http: httpx.Client, secrets: dict[str, str]) -> None:
    for name in ("alice", "bob"):
        http.post(
            "/v1/webhooks", json={"url": f"https://{name}.example/<b>"}, headers=bearer(secrets[name])
        ).raise_for_status()
    page = http.get("/account", headers={"accept": "text/html", **bearer(secrets["alice"])}).text
    assert "https://alice.example/&lt;b&gt;" in page
    assert "bob.example" not in page
