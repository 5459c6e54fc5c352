"""Pruning over REST: validation, plans, fields and events."""

import json
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from catalogs import catalog
from fastapi import FastAPI
from pruned_studies import Pruned

from service.client import Client
from studies.states import TrialFilter
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
ServeApp = Callable[..., AbstractContextManager[str]]
NINE = {"trials_per_arm": 9, "epochs": 9}


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


@pytest.fixture
def client(live_app: FastAPI, known: Store, serve_app: ServeApp) -> Generator[Client]:
    """A client of a service with these tests' catalogue."""
    assert known is not None
    with serve_app(live_app) as url, Client(url) as made:
        yield made


@pytest.mark.parametrize(
    ("pruner", "pointer", "words"),
    [
        ("asah", "/pruner", "expected 'none', 'asha', 'hyperband' or 'median', or an object such as"),
        ({"min_epochs": 1}, "/pruner", "got {'min_epochs': 1}"),
        (
            {"kind": "asha", "min_epochs": 9},
            "/pruner/min_epochs",
            "expected fewer than the 9 epochs of a trial",
        ),
        (
            {"kind": "hyperband", "reduction_factor": 1},
            "/pruner/reduction_factor",
            "expected at least 2, got 1",
        ),
        (
            {"kind": "asha", "eta": 3},
            "/pruner/eta",
            "unknown field; the fields are min_epochs, reduction_factor, kind",
        ),
        (None, "/pruner", 'or an object such as {"kind": "asha", "min_epochs": 1}, got None'),
        ({"kind": "median", "reduction_factor": 3}, "/pruner/reduction_factor", "unknown field"),
        ({"kind": "median", "min_trials": 0}, "/pruner/min_trials", "expected a number above 0, got 0"),
    ],
)
def test_an_invalid_pruner_is_refused_with_a_pointer(
    http: httpx.Client, body: Body, pruner: Any, pointer: str, words: str
) -> None:
    answer = http.post("/v1/studies", json=body | {"budget": NINE, "pruner": pruner})
    assert answer.status_code == 422
    [fault] = answer.json()["errors"]
    assert fault["pointer"] == pointer
    assert words in fault["detail"]


@pytest.mark.parametrize(
    ("pruner", "epochs"),
    [
        ("none", 162),
        ("median", 162),
        ("asha", 42),
        ({"kind": "asha", "reduction_factor": 9}, 34),
        ("hyperband", 74),
    ],
)
def test_a_plan_has_the_epochs_that_remain_after_pruning(
    http: httpx.Client, body: Body, pruner: Any, epochs: int
) -> None:
    plan = http.post(
        "/v1/studies",
        params={"validate_only": "true"},
        json=body | {"budget": NINE, "pruner": pruner, "confirmation": {"seeds": 0}},
    ).json()
    assert (plan["trials"], plan["epochs"]) == (18, epochs)
    assert plan["estimate_cpu_s"] == pytest.approx(0.1 * epochs)


def test_a_pruner_by_name_is_expanded_and_can_be_submitted_again(http: httpx.Client, body: Body) -> None:
    spec = http.post("/v1/studies", json=body | {"budget": NINE, "pruner": "asha"}).json()["spec"]
    assert spec["pruner"] == {"kind": "asha", "min_epochs": 1, "reduction_factor": 3}
    assert http.post("/v1/studies", json=spec).json()["spec"] == spec


def test_trials_have_their_next_rung_and_can_be_filtered_by_state(client: Client, known: Store) -> None:
    run = Pruned(known).train(1)
    raw = httpx.get(f"{client.url}/v1/studies/{run.id}/trials?state=queued").json()
    assert {(t["epochs_done"], t["to_epoch"], t["bracket"], t["pack_size"]) for t in raw["items"]} == {
        (1, 1, 0, 3),
        (1, 3, 0, 3),
    }
    assert raw["total"] == 6
    waiting = list(client.every_trial(run.id, state=TrialFilter.WAITING))
    assert waiting == [trial for trial in client.every_trial(run.id) if trial.is_waiting]
    assert (
        len(waiting),
        client.study(run.id).progress.waiting,
        [arm.progress.waiting for arm in client.arms(run.id)],
    ) == (4, 4, [2, 2])
    assert client.trials(run.id, arm="adamp", state=TrialFilter.WAITING, page_size=1).total == 2
    run.train().close()
    pruned = httpx.get(f"{client.url}/v1/studies/{run.id}/trials?state=pruned").json()
    progress = client.study(run.id).progress
    assert pruned["total"] == progress.pruned == 14
    assert all(trial["value"] is None for trial in pruned["items"])
    assert (progress.epochs_done, progress.waiting) == (progress.epochs, 0) == (42, 0)


def test_an_arm_has_its_stack_widths(client: Client, known: Store) -> None:
    run = Pruned(known).fit("adamp", width=8, w1=900.0, w8=5670.0)
    fitted, unknown = client.arms(run.id)
    assert fitted.fit is not None
    assert (fitted.fit.width, fitted.fit.device, fitted.fit.trial_steps_per_s) == (
        8,
        "cpu",
        {1: 900.0, 8: 5670.0},
    )
    assert unknown.fit is None


def test_a_watcher_sees_each_promotion_and_each_end(client: Client, known: Store) -> None:
    run = Pruned(known, arms=["adamw"]).train().close()
    events = list(client.watch(run.id))
    promoted = [
        (event.data["from_epoch"], event.data["to_epoch"])
        for event in events
        if event.kind == "trial.promoted"
    ]
    assert sorted(promoted) == [(1, 3), (1, 3), (1, 3), (3, 9)]
    ends = [event.data["state"] for event in events if event.kind == "trial.finished"]
    assert (ends.count("pruned"), ends.count("completed"), len(ends)) == (7, 1, 9)
    with httpx.stream(
        "GET", f"{client.url}/v1/studies/{run.id}/events", headers={"accept": "text/event-stream"}, timeout=10
    ) as stream:
        assert "event: trial.promoted" in list(stream.iter_lines())


def test_the_description_documents_pruning(http: httpx.Client) -> None:
    described = http.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert {
        "Asha-Input",
        "Hyperband-Input",
        "Median-Input",
        "NoPruner-Input",
        "Asha",
        "StackWidthView",
    } <= set(schemas)
    assert {"type": "string", "enum": ["none", "asha", "hyperband", "median"]} in schemas["StudySpec-Input"][
        "properties"
    ]["pruner"]["anyOf"]
    assert "trial.promoted" in json.dumps(schemas["EventView"]["properties"]["kind"])
    parameters = described["paths"]["/v1/studies/{study_id}/trials"]["get"]["parameters"]
    assert "`waiting` is a filter, not a state" in next(
        p["description"] for p in parameters if p["name"] == "state"
    )
    assert "waiting" in schemas["Progress"]["properties"]
    assert "waiting" not in schemas["TrialState"]["enum"]
