"""The wording of error responses: one body for each kind of problem, in golden/problems.json.

Run with UPDATE_GOLDEN=1 to write the file after a change of wording. Other tests check status, type and
pointers only.
"""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.errors import INTERNAL, KIND_BY_ERROR, KINDS, HTTPProblem, ProblemKind
from service.settings import ServiceSettings
from studies import errors
from studies.store import Store

__all__: list[str] = []

GOLDEN = Path(__file__).parent / "golden" / "problems.json"
ERRORS: dict[str, Exception] = {
    "spec-invalid": errors.SpecInvalid(
        [errors.SpecProblem("/arms/0/optimizer", "there is no optimizer 'adamq'; did you mean 'adamp'?")]
    ),
    "notes-invalid": errors.NotesInvalid(
        [errors.SpecProblem("/text", "expected at most 20,000 characters, got 20,001")]
    ),
    "webhook-invalid": errors.WebhookInvalid(
        [
            errors.SpecProblem(
                "/url", "expected a URL such as https://hooks.example/tangent, got 'hooks.example'"
            )
        ]
    ),
    "study-not-found": errors.StudyNotFound("k3f9x2db"),
    "arm-not-found": errors.ArmNotFound("k3f9x2db", "adam", ["adamp", "adamw"]),
    "trial-not-found": errors.TrialNotFound("k3f9x2db.adamp.99"),
    "artifact-not-found": errors.ArtifactNotFound("5f0c3c2e9d7b4a51b7f1a0c9d2e4f680"),
    "suite-not-found": errors.SuiteNotFound("vision"),
    "token-not-found": errors.TokenNotFound("alice"),
    "webhook-not-found": errors.WebhookNotFound("k3f9x2db"),
    "illegal-move": errors.IllegalMove(
        KINDS["illegal-move"].example, state="completed", allowed=("confirm", "extend")
    ),
    "catalog-empty": errors.CatalogEmpty(),
    "internal-error": ZeroDivisionError("division by zero"),
}
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "not-found": ("GET", "/v1/studys", {}),
    "method-not-allowed": ("DELETE", "/v1/studies/k3f9x2db/arms", {}),
    "not-json": (
        "POST",
        "/v1/studies",
        {"content": b"{\n\n1234", "headers": {"content-type": "application/json"}},
    ),
    "body-too-large": (
        "POST",
        "/v1/studies",
        {"content": b" " * (2**20 + 1), "headers": {"content-type": "application/json"}},
    ),
    "unsupported-media-type": (
        "POST",
        "/v1/studies",
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
    ),
    "host-refused": ("GET", "/v1/studies", {"headers": {"host": "example.com"}}),
    "cross-site": ("POST", "/v1/studies", {"headers": {"origin": "http://example.com"}}),
    "parameter-invalid": ("GET", "/v1/studies?page_size=9999", {}),
}


def error_of(kind: ProblemKind) -> Exception:
    """Return an error that is answered with this kind of problem."""
    if kind.slug in ERRORS:
        return ERRORS[kind.slug]
    for error, its_kind in KIND_BY_ERROR.items():
        if its_kind is kind:
            return error(kind.example)
    return HTTPProblem(kind, kind.example)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}


@pytest.fixture
def client(
    settings: ServiceSettings, store: Store, client_of: Callable[..., AbstractContextManager[httpx.Client]]
) -> Any:
    """A client of a service that raises one error of each kind under /raise/SLUG."""
    app = create_app(settings, store)

    async def fail(slug: str) -> None:
        raise error_of(KINDS[slug])

    app.add_api_route("/raise/{slug}", fail, methods=["POST"])
    with client_of(app) as client:
        yield client


def test_each_kind_of_problem_has_the_golden_body_and_advice(
    client: httpx.Client, golden: dict[str, Any]
) -> None:
    found: dict[str, Any] = {}
    for slug, kind in KINDS.items():
        if slug in REQUESTS:
            method, path, arguments = REQUESTS[slug]
            response = client.request(method, path, **arguments)
        else:
            response = client.post(f"/raise/{slug}")
        body = response.json()
        assert response.status_code == body["status"] == kind.status, slug
        assert body["type"] == f"/problems/{slug}"
        if kind is INTERNAL:
            assert body.pop("instance").startswith("urn:uuid:")
        found[slug] = {"body": body, "advice": client.get(f"/problems/{slug}").json()["advice"]}
    if "UPDATE_GOLDEN" in os.environ:
        GOLDEN.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    assert found == golden or "UPDATE_GOLDEN" in os.environ
