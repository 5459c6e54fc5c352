"""Two services on one database act as one: keys, ETags, sessions and quotas hold across them."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from auth_headers import bearer

from service.app import create_app
from service.settings import ServiceSettings
from studies.store import Store
from studies.views import Quotas

__all__: list[str] = []

Body = dict[str, Any]
ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


@pytest.fixture
def replicas(
    settings: ServiceSettings, database_url: str, client_of: ClientOf
) -> Generator[tuple[httpx.Client, httpx.Client]]:
    """Clients of two services with a shared database, each with its own store."""
    stores = [Store.open(database_url, migrate=False) for _ in range(2)]
    first, second = (create_app(settings, store) for store in stores)
    with client_of(first) as one, client_of(second) as two:
        # FastAPI prepares its routes at the first request. Here, unlike behind a server, several event loops
        # would do that at the same time.
        assert [client.get("/nothing").status_code for client in (one, two)] == [404, 404]
        yield one, two
    for store in stores:
        store.close()


def test_a_key_sent_to_two_replicas_creates_one_study(
    replicas: tuple[httpx.Client, httpx.Client], body: Body
) -> None:
    headers = {"idempotency-key": "once"}
    first, again = (client.post("/v1/studies", json=body, headers=headers) for client in replicas)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    other = replicas[1].post("/v1/studies", json={**body, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")


def test_a_key_sent_to_two_replicas_at_once_creates_one_study(
    replicas: tuple[httpx.Client, httpx.Client], body: Body
) -> None:
    def send(n: int) -> httpx.Response:
        return replicas[n % 2].post("/v1/studies", json=body, headers={"idempotency-key": "at-once"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert replicas[0].get("/v1/studies").json()["total"] == 1


def test_replicas_share_etags(replicas: tuple[httpx.Client, httpx.Client], body: Body) -> None:
    one, two = replicas
    made = one.post("/v1/studies", json=body)
    path, tag = f"/v1/studies/{made.json()['id']}", made.headers["etag"]
    assert two.get(path).headers["etag"] == tag
    assert two.get(path, headers={"if-none-match": tag}).status_code == 304
    assert one.post(f"{path}:pause", headers={"if-match": tag}).status_code == 200
    late = two.post(f"{path}:cancel", headers={"if-match": tag})
    assert (late.status_code, late.json()["type"]) == (412, "/problems/version-conflict")
    assert two.get(path, headers={"if-none-match": tag}).status_code == 200


def test_only_one_of_two_changes_with_the_same_etag_succeeds(
    replicas: tuple[httpx.Client, httpx.Client], body: Body
) -> None:
    for _ in range(3):
        made = replicas[0].post("/v1/studies", json=body)

        def pause(n: int, of: httpx.Response = made) -> int:
            path = f"/v1/studies/{of.json()['id']}:{'pause' if n % 2 else 'cancel'}"
            return replicas[n % 2].post(path, headers={"if-match": of.headers["etag"]}).status_code

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(pause, range(4))) == [200, 412, 412, 412]


def test_replicas_share_logins(replicas: tuple[httpx.Client, httpx.Client], database_url: str) -> None:
    one, two = replicas
    store = Store.open(database_url, migrate=False)
    secret = store.create_token("alice", role="viewer")
    one.post("/login", data={"token": secret})
    cookie = {"cookie": f"tangent={one.cookies['tangent']}"}
    assert two.get("/v1/account", headers=cookie).json()["token"]["name"] == "alice"
    two.post("/logout", headers=cookie)
    assert one.get("/v1/account").status_code == 401
    store.close()


def test_replicas_share_quotas(
    replicas: tuple[httpx.Client, httpx.Client], database_url: str, body: Body
) -> None:
    store = Store.open(database_url, migrate=False)
    secret = store.create_token("alice", role="submitter", quotas=Quotas(max_studies=3))

    def send(n: int) -> httpx.Response:
        return replicas[n % 2].post("/v1/studies", json=body, headers=bearer(secret))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [403] * 7
    assert {answer.json()["type"] for answer in answers if answer.status_code == 403} == {
        "/problems/quota-exceeded"
    }
    found = replicas[0].get("/v1/account", headers=bearer(secret)).json()["token"]
    assert (found["open_studies"], found["quotas"]["max_studies"]) == (3, 3)
    store.close()
