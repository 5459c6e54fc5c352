"""Submitting studies: shorthands, idempotency keys and validation."""

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from service.app import create_app
from service.client import Client, ProblemError
from service.settings import ServiceSettings
from studies.states import StudyState
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


def test_a_submitted_study_is_stored_and_located(http: httpx.Client, store: Store, body: Body) -> None:
    answer = http.post("/v1/studies", json=body)
    assert answer.status_code == 201
    study = answer.json()
    assert answer.headers["location"] == f"/v1/studies/{study['id']}"
    assert answer.headers["etag"] == http.get(answer.headers["location"]).headers["etag"]
    assert study["state"] == "queued"
    assert study["verbs"] == ["pause", "stop", "cancel"]
    assert store.study(study["id"]).state is StudyState.QUEUED


def test_shorthands_are_expanded(http: httpx.Client, body: Body) -> None:
    arm = {
        "optimizer": "adamp",
        "space": {
            "lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "betas": [0.9, 0.99],
            "weight_decay": "tune",
            "delta": 0.2,
        },
    }
    spec = http.post("/v1/studies", json=body | {"arms": ["adamw", arm]}).json()["spec"]
    assert spec["arms"][0] == {"optimizer": "adamw", "name": "adamw", "space": {}}
    assert {name: entry["kind"] for name, entry in spec["arms"][1]["space"].items()} == {
        "lr": "range",
        "betas": "pair",
        "weight_decay": "tune",
        "delta": "fixed",
    }


def test_a_stored_spec_can_be_submitted_again(http: httpx.Client, body: Body) -> None:
    spec = http.post("/v1/studies", json=body).json()["spec"]
    assert http.post("/v1/studies", json=spec).json()["spec"] == spec


def test_validating_returns_a_plan_and_stores_nothing(http: httpx.Client, body: Body) -> None:
    answer = http.post("/v1/studies", params={"validate_only": "true"}, json=body)
    assert answer.status_code == 200
    plan = answer.json()
    # Six trials, then the best and the defaults of two arms on five seeds; two epochs of 0.1 s each.
    assert (plan["trials"], plan["confirmations"], plan["epochs"], round(plan["estimate_cpu_s"], 6)) == (
        6,
        20,
        52,
        5.2,
    )
    assert [arm["name"] for arm in plan["study"]["arms"]] == ["adamp", "adamw"]
    assert http.get("/v1/studies").json()["total"] == 0


def test_validating_shows_what_it_costs_to_add_pairs_until_arms_are_decided(
    http: httpx.Client, body: Body
) -> None:
    body |= {"budget": {"trials_per_arm": 21}, "search": {"paired": 16, "until": {"max_pairs": 64}}}
    plan = http.post("/v1/studies", params={"validate_only": "true"}, json=body).json()
    assert (plan["trials"], plan["paired"], plan["most_trials"]) == (42, 32, 42 + 2 * 48)
    costs = plan["decision_costs"]
    assert [cost["gap"] for cost in costs] == [0.5, 1.0, 2.0, 5.0]
    trials = [cost["trials"] for cost in costs]
    assert 42 <= trials[-1] < trials[0] <= plan["most_trials"]
    assert sorted(cost["decided"] for cost in costs) == [cost["decided"] for cost in costs]


def test_validating_refuses_the_same_studies_as_submitting(http: httpx.Client, body: Body) -> None:
    answer = http.post("/v1/studies", params={"validate_only": "true"}, json=body | {"workload": "digits"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/workload"


def test_a_key_creates_one_study(http: httpx.Client, body: Body) -> None:
    first, second = (
        http.post("/v1/studies", json=body, headers={"idempotency-key": "one"}) for _ in range(2)
    )
    other = http.post("/v1/studies", json=body, headers={"idempotency-key": "two"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"] != other.json()["id"]
    assert http.get("/v1/studies").json()["total"] == 2


def test_a_key_with_another_body_is_refused(http: httpx.Client, body: Body) -> None:
    http.post("/v1/studies", json=body, headers={"idempotency-key": "one"})
    answer = http.post("/v1/studies", json=body | {"seed": 2}, headers={"idempotency-key": "one"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-conflict")
    assert http.get("/v1/studies").json()["total"] == 1


def test_a_key_accepts_the_same_study_in_shorthand(http: httpx.Client, body: Body) -> None:
    long = body | {"arms": [{"optimizer": "adamp"}, {"optimizer": "adamw", "name": "adamw"}]}
    first, second = (
        http.post("/v1/studies", json=given, headers={"idempotency-key": "one"}) for given in (body, long)
    )
    assert first.json()["id"] == second.json()["id"]


def test_names_in_any_script_are_kept(http: httpx.Client, body: Body) -> None:
    name = "Δ größer als 勾配 🙂"
    study = http.post("/v1/studies", json=body | {"name": name}).json()
    assert http.get(f"/v1/studies/{study['id']}").json()["name"] == name


def test_without_a_catalogue_nothing_can_be_submitted(
    settings: ServiceSettings, empty_store: Store, body: Body, client_of: ClientOf
) -> None:
    with client_of(create_app(settings, empty_store)) as client:
        answer = client.post("/v1/studies", json=body)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/catalog-empty")
        assert "tangent up" in answer.json()["detail"]
        assert answer.headers["retry-after"]


def test_a_key_in_concurrent_requests_creates_one_study(live: str, store: Store, body: Body) -> None:
    def submit() -> None:
        answer = httpx.post(f"{live}/v1/studies", json=body, headers={"idempotency-key": "one"}, timeout=30)
        made.append((answer.status_code, answer.json()["id"]))

    made: list[tuple[int, str]] = []
    senders = [threading.Thread(target=submit) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(made) == 8
    assert len(set(made)) == store.studies().total == 1


def test_api_form_command_line_and_client_refuse_resources_that_ray_cannot_reserve(
    live: str, run: Callable[..., Result], body: Body, tmp_path: Path
) -> None:
    asked = body | {"resources": {"cpus_per_pack": 1e-5, "gpus_per_pack": 1.5}}
    pointers = ["/resources/cpus_per_pack", "/resources/gpus_per_pack"]
    with httpx.Client(base_url=live) as http:
        answer = http.post("/v1/studies", json=asked)
        assert (answer.status_code, [fault["pointer"] for fault in answer.json()["errors"]]) == (
            422,
            pointers,
        )
        page = http.post("/new", data={"spec": json.dumps(asked)}, headers={"accept": "text/html"})
        assert (page.status_code, [pointer in page.text for pointer in pointers]) == (422, [True, True])
    file = tmp_path / "study.json"
    file.write_text(json.dumps(asked), encoding="utf-8")
    refused = run("submit", str(file))
    assert (refused.exit_code, [pointer in refused.stderr for pointer in pointers]) == (2, [True, True])
    with Client(live) as client, pytest.raises(ProblemError) as error:
        client.submit(asked)
    assert [fault.pointer for fault in error.value.errors] == pointers
