"""Compressed responses: which, when, and with which ETag."""

import csv
import gzip
import io
import json
from collections.abc import Generator
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers
from trained_studies import Trained

from service.compression import accepts_gzip
from service.dashboard.assets import assets
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
GZIP = {"accept-encoding": "gzip"}
PLAIN = {"accept-encoding": "identity"}


@pytest.mark.parametrize(
    ("accepted", "is_accepted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("br;q=1, *;q=0", False),
        ("gzip;q=x", False),
        ("notgzip", False),
    ],
)
def test_gzip_is_used_only_if_the_client_accepts_it(accepted: str, is_accepted: bool) -> None:
    assert accepts_gzip(Headers({"accept-encoding": accepted})) is is_accepted


@pytest.fixture
def wire(live: str) -> Generator[httpx.Client]:
    """A client that can read bytes as they were sent."""
    with httpx.Client(base_url=live) as client:
        yield client


def raw(client: httpx.Client, path: str, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
    """Return a response and its bytes as they were sent."""
    with client.stream("GET", path, headers=headers) as answer:
        return answer, b"".join(answer.iter_raw())


@pytest.fixture
def study(store: Store, body: Body) -> str:
    return store.submit(parse_spec(body | {"name": "x" * 200})).id


def test_json_and_text_are_compressed_on_request(
    wire: httpx.Client, store: Store, body: Body, study: str
) -> None:
    for n in range(30):
        store.submit(parse_spec(body | {"seed": n}))
    for path, read in (
        ("/v1/studies", json.loads),
        (f"/v1/studies/{study}/arms", json.loads),
        (f"/v1/studies/{study}/report?format=markdown", str),
        ("/openapi.json", json.loads),
    ):
        plain, content = raw(wire, path, PLAIN)
        assert "content-encoding" not in plain.headers
        answer, sent = raw(wire, path, GZIP)
        assert answer.headers["content-encoding"] == "gzip", path
        assert int(answer.headers["content-length"]) == len(sent) < len(content) / 2
        assert read(gzip.decompress(sent).decode()) == read(content.decode())
        for each in (plain, answer):
            assert "accept-encoding" in each.headers["vary"].lower()


def test_a_table_of_trials_is_compressed_on_request(wire: httpx.Client, store: Store) -> None:
    study = Trained(store, budget={"trials_per_arm": 20, "epochs": 3}).train().close().id
    answer, sent = raw(wire, f"/studies/{study}/trials.csv", GZIP)
    _, plain = raw(wire, f"/studies/{study}/trials.csv", PLAIN)
    assert (answer.headers["content-encoding"], gzip.decompress(sent)) == ("gzip", plain)
    assert len(list(csv.DictReader(io.StringIO(plain.decode())))) == 40


def test_a_compressed_representation_has_a_weak_etag_that_still_matches(
    http: httpx.Client, study: str
) -> None:
    path = f"/v1/studies/{study}"
    strong = http.get(path, headers=PLAIN).headers["etag"]
    weak = http.get(path, headers=GZIP).headers["etag"]
    assert weak == f"W/{strong}"
    for tag in (strong, weak):
        for headers in (PLAIN, GZIP):
            answer = http.get(path, headers={**headers, "if-none-match": tag})
            assert (answer.status_code, answer.content) == (304, b"")
            assert "accept-encoding" in answer.headers["vary"].lower()
    assert http.post(f"{path}:pause", headers={"if-match": weak}).status_code == 200


def test_secrets_streams_small_responses_and_compressed_files_are_not_compressed(
    http: httpx.Client, study: str
) -> None:
    secret = http.post("/v1/webhooks", json={"url": f"https://hooks.example/{'x' * 1900}"}, headers=GZIP)
    assert (secret.status_code, "content-encoding" in secret.headers) == (201, False)
    for path in ("/healthz", f"/v1/studies/{study}/bundle", "/v1/studies/zzzzzzzz", "/login"):
        assert "content-encoding" not in http.get(path, headers=GZIP).headers, path
    script = http.get(assets().url("plotly-basic.min.js"), headers=GZIP)
    assert script.headers["content-encoding"] == "gzip"
