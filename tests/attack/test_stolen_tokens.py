"""A token's owner can do only what its role allows: every verb of the API is tried with a stolen token."""

import json
import socket
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from populated_store import AttackTarget

from studies.store import Store

__all__: list[str] = []

METHODS = ("POST", "PUT", "PATCH", "DELETE")
# The description has the bodies of the API; the dashboard's forms are not described.
FORMS = [
    f"/studies/{{study_id}}/{verb}" for verb in ("pause", "resume", "stop", "cancel", "confirm", "extend")
] + ["/new"]


def rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return the whole database without the times of the last use of tokens."""
    with store._database.read() as connection:
        names = [
            name
            for (name,) in connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
        ]
        connection.exec_driver_sql("SELECT 1")
        return {
            name: [
                tuple(
                    value for column, value in zip(found.keys(), row, strict=True) if column != "last_used_at"
                )
                for found in [connection.exec_driver_sql(f"SELECT * FROM {name}")]  # names of our own tables
                for row in found
            ]
            for name in names
        }


def unsafe(attacked: AttackTarget) -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and a valid body of every changing request, with existing ids."""
    described = json.loads(json.dumps(attacked.app.openapi()))
    for template, item in described["paths"].items():
        for method, operation in item.items():
            if method.upper() not in METHODS:
                continue
            content = operation.get("requestBody", {}).get("content", {})
            examples = [
                example["value"] for kind in content.values() for example in kind.get("examples", {}).values()
            ] or [None]
            studies = (
                (attacked.data.completed[0], attacked.data.queued) if "{study_id}" in template else ("",)
            )
            for study in studies:
                path = template.replace("{study_id}", study).replace("{webhook_id}", "w7k3f9x2")
                assert "{" not in path, f"no ids to fill in {template}"
                yield method.upper(), path, examples[0]


@pytest.mark.parametrize("way", ["bearer", "basic", "cookie"])
def test_a_stolen_viewers_token_changes_nothing_by_any_verb(attacked: AttackTarget, way: str) -> None:
    secret = attacked.data.secrets["vera"]
    with attacked.client("vera" if way == "bearer" else None) as client:
        if way == "basic":
            client.auth = ("anybody", secret)
        if way == "cookie":
            client.post("/login", data={"token": secret})
            assert client.get("/v1/account").json()["role"] == "viewer"
        before = rows(attacked.store)
        tried = 0
        for method, path, body in unsafe(attacked):
            answer = client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), (
                method,
                path,
                answer.text,
            )
            tried += 1
        for study in (attacked.data.completed[0], attacked.data.queued):
            for form in FORMS:
                answer = client.post(
                    form.format(study_id=study), data={"spec": "{}", "trials_per_arm": "9", "seeds": "9"}
                )
                assert answer.status_code == 403, (form, answer.text)
        assert tried > 15
        for path in attacked.app.openapi()["paths"]:
            known = path.replace("{study_id}", attacked.data.queued).replace(
                "{trial_id}", attacked.data.trials[0]
            )
            for method in ("DELETE", "PATCH", "pOsT"):
                answer = client.request(method, known)
                assert answer.status_code in {400, 403, 404, 405, 422}, (method, known, answer.status_code)
        for name in ("x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"):
            client.get(f"/v1/studies/{attacked.data.queued}", headers={name: "DELETE"})
        assert rows(attacked.store) == before


def test_without_a_token_nothing_can_be_read_or_changed(attacked: AttackTarget) -> None:
    # Readiness depends on the dispatcher's last heartbeat, and needs no token.
    public = {"/healthz": {200}, "/readyz": {200, 503}, "/problems": {200}, "/problems/{slug}": {200}}
    before = rows(attacked.store)
    with attacked.client() as client:
        for method, path, body in unsafe(attacked):
            assert client.request(method, path, json=body).status_code == 401, (method, path)
        for path, item in attacked.app.openapi()["paths"].items():
            known = (
                path.replace("{study_id}", attacked.data.queued)
                .replace("{trial_id}", attacked.data.trials[0])
                .replace("{slug}", "not-json")
            )
            for method in item:
                if method == "get":
                    assert client.get(known).status_code in public.get(path, {401}), path
        for page in (
            "/",
            "/studies/" + attacked.data.queued,
            "/new",
            "/account",
            "/suites",
            "/compare",
            "/optimizers",
            "/workloads",
        ):
            for accept in ("text/html", "application/json"):
                answer = client.get(page, headers={"accept": accept})
                assert answer.status_code == 401
                assert attacked.data.queued not in answer.text.replace(
                    f'value="/studies/{attacked.data.queued}"', ""
                )
    assert rows(attacked.store) == before


def test_a_submitter_cannot_change_other_users_studies_or_use_their_keys(attacked: AttackTarget) -> None:
    body = {"workload": "digits-mlp", "arms": ["adamw"], "budget": {"trials_per_arm": 1}}
    with attacked.client("alice") as alice, attacked.client("bob") as bob:
        original = alice.post("/v1/studies", json=body, headers={"idempotency-key": "k"}).json()
        path = f"/v1/studies/{original['id']}"
        for verb, sent in (
            ("pause", None),
            ("resume", None),
            ("stop", None),
            ("cancel", None),
            ("confirm", {}),
            ("extend", {"seeds": 9}),
        ):
            for headers in ({}, {"if-match": "*"}, {"if-match": '"1"'}, {"idempotency-key": "k"}):
                answer = bob.post(f"{path}:{verb}", json=sent, headers=headers)
                assert (answer.status_code, answer.json()["type"]) == (403, "/problems/not-owner"), verb
        assert alice.get(path).json()["version"] == 1
        theirs = bob.post("/v1/studies", json=body, headers={"idempotency-key": "k"})
        assert theirs.status_code == 201
        assert theirs.json()["id"] != original["id"], "idempotency keys are per user"
        assert theirs.json()["owner"] == "bob"
        other = alice.post("/v1/studies", json=body | {"seed": 1}, headers={"idempotency-key": "k"})
        assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")
        clone = bob.post(f"{path}:clone", headers={"idempotency-key": "k"})
        assert clone.json().get("id") != original["id"]
        for sent in ({"owner": "alice"}, {"resources": {"priority": "high"}}):
            refused = bob.post("/v1/studies", json=body | sent)
            assert refused.status_code in {403, 422}


class Reader:
    """A reader of an event stream in its own thread, which records the time of its end."""

    def __init__(self, client: httpx.Client, study: str) -> None:
        self.lines: list[str] = []
        self.began, self.ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read, args=(client, study), daemon=True)
        self._thread.start()
        assert self.began.wait(10)

    def _read(self, client: httpx.Client, study: str) -> None:
        with client.stream(
            "GET", f"/v1/studies/{study}/events", headers={"accept": "text/event-stream"}
        ) as answer:
            assert answer.status_code == 200
            self.began.set()
            self.lines += answer.iter_lines()
        self.ended.set()


@pytest.mark.parametrize("way", ["bearer", "cookie"])
def test_a_stream_does_not_outlive_its_token(attacked: AttackTarget, way: str) -> None:
    name = f"leaver-{way}"
    secret = attacked.store.create_token(name, role="viewer")
    with attacked.client() as client:
        if way == "bearer":
            client.headers["authorization"] = f"Bearer {secret}"
        else:
            client.post("/login", data={"token": secret})
        reader = Reader(client, attacked.data.running)
        assert not reader.ended.wait(0.6), "the stream must continue while the token is valid"
        attacked.store.revoke_token(name)
        assert reader.ended.wait(5), "the stream continued after its token was revoked"
        assert client.get("/v1/account").status_code == 401


def test_a_stream_ends_with_its_session(attacked: AttackTarget) -> None:
    with attacked.client() as client:
        client.post("/login", data={"token": attacked.data.secrets["vera"]})
        reader = Reader(client, attacked.data.running)
        client.post("/logout")
        assert reader.ended.wait(5)


@pytest.mark.parametrize("parameter", ["token", "access_token", "api_key", "authorization", "auth"])
def test_a_token_in_the_url_is_ignored_and_not_logged(
    attacked: AttackTarget, parameter: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = attacked.data.secrets["root"]
    with attacked.client() as client, caplog.at_level(0):
        for path in (
            "/v1/studies",
            "/v1/account",
            "/",
            "/metrics",
            f"/v1/studies/{attacked.data.running}/events",
        ):
            answer = client.get(path, params={parameter: secret})
            assert answer.status_code == 401
            assert secret not in answer.text
    assert attacked.data.queued or caplog.records
    assert secret not in "".join(
        record.getMessage() + str(record.__dict__)
        for record in caplog.records
        if record.name.startswith(("tangent", "uvicorn"))
    )


MADE_UP = [
    "",
    " ",
    "x",
    "Bearer",
    "null",
    "undefined",
    "' OR '1'='1",
    "tangent_" + "x" * 43,
    "*",
    "%",
    "_" * 51,
    "é" * 20,
    "\x00",
    "a" * 10_000,
]


@pytest.mark.parametrize("secret", MADE_UP)
def test_invalid_tokens_are_refused(attacked: AttackTarget, secret: str) -> None:
    with attacked.client() as client:
        for scheme in (b"Bearer ", b"bearer ", b"Basic ", b"Token ", b"Digest ", b""):
            raw = scheme + secret.encode("utf-8")
            try:
                answer = client.get("/v1/account", headers=[(b"authorization", raw)])
            except httpx.LocalProtocolError:
                # It is not valid in a header.
                continue
            assert answer.status_code in {400, 401}, raw


def test_token_digests_are_compared_by_the_database() -> None:
    # The SHA-256 of the token is looked up, so timing reveals nothing about the secret.
    source = (Path(__file__).parents[2] / "studies" / "store" / "tokens.py").read_text(encoding="utf-8")
    assert "sha256" in source
    assert "digest ==" in source


@pytest.fixture
def session(attacked: AttackTarget) -> Generator[httpx.Client]:
    """A browser that has logged in as root."""
    with attacked.client() as client:
        client.post("/login", data={"token": attacked.data.secrets["root"]})
        yield client


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
    {"sec-fetch-site": "nonsense"},
    {"sec-fetch-site": ""},
    {"origin": ""},
]
KINDS = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json",
)


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_cross_site_form_with_the_cookie_changes_nothing(
    attacked: AttackTarget, session: httpx.Client, headers: dict[str, str]
) -> None:
    before = rows(attacked.store)
    forms = [
        ("POST", path, None)
        for path in ("/login", "/logout", "/new", f"/studies/{attacked.data.queued}/cancel")
    ]
    for n, (method, path, body) in enumerate([*unsafe(attacked), *forms]):
        answer = session.request(
            method, path, content=json.dumps(body), headers={**headers, "content-type": KINDS[n % len(KINDS)]}
        )
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/cross-site"), (
            path,
            answer.text,
        )
    assert rows(attacked.store) == before


def test_no_other_origin_may_read_a_response(session: httpx.Client) -> None:
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://evil.example", "access-control-request-method": "POST"},
    ):
        for method in ("GET", "OPTIONS", "HEAD"):
            answer = session.request(method, "/v1/studies", headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "[::2]",
        "127.0.0.1@evil.example",
        "0",
    ],
)
def test_a_foreign_host_name_reaches_nothing(attacked: AttackTarget, host: str) -> None:
    with attacked.client("root") as client:
        answer = client.get("/v1/studies", headers={"host": host})
        assert (answer.status_code, answer.json()["type"]) == (421, "/problems/host-refused")


def test_two_hosts_or_none_are_refused(attacked: AttackTarget) -> None:
    for head in (b"Host: localhost\r\nHost: evil.example\r\n", b"X: y\r\n"):
        with socket.create_connection(("127.0.0.1", attacked.port), timeout=5) as one:
            one.sendall(b"GET /v1/studies HTTP/1.1\r\n" + head + b"\r\n")
            assert one.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))


def test_a_login_never_reuses_the_clients_session(attacked: AttackTarget) -> None:
    planted = "A" * 43
    with attacked.client() as client:
        answer = client.post(
            "/login", data={"token": attacked.data.secrets["vera"]}, headers={"cookie": f"tangent={planted}"}
        )
        given = answer.cookies["tangent"]
        assert given != planted
        client.cookies.clear()
        assert client.get("/v1/account", headers={"cookie": f"tangent={planted}"}).status_code == 401
        assert client.get("/v1/account", headers={"cookie": f"__Host-tangent={given}"}).status_code == 401, (
            "over HTTP the cookie has another name"
        )
        attributes = answer.headers["set-cookie"].lower()
        assert "httponly" in attributes
        assert "samesite=strict" in attributes


TO = [
    "//evil.example",
    "https://evil.example",
    "/\\evil.example",
    "/\t/evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    "/%0d%0aset-cookie:x=1",
]


@pytest.mark.parametrize(
    "to",
    [
        *TO,
        "/\r\nset-cookie: x=1",
        "/%5cevil.example",
        "http:evil.example",
        "/login?next=//evil.example",
        "https:/evil.example",
    ],
)
def test_a_login_redirects_only_within_the_service(attacked: AttackTarget, to: str) -> None:
    with attacked.client() as client:
        answer = client.post("/login", data={"token": attacked.data.secrets["vera"], "next": to})
        assert answer.status_code == 303
        led = httpx.URL(attacked.url).join(answer.headers["location"])
        assert f"{led.scheme}://{led.netloc.decode()}" == attacked.url
        assert answer.headers["location"].startswith("/")
        assert answer.headers.get_list("set-cookie")[1:] == []
        page = client.get("/login", params={"next": to}).text
        assert "evil.example" not in page or "/%" in to
