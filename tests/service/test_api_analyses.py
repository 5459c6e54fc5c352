"""Analyses of a study, of a suite and of several studies over REST."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from service.analysis_cache import AnalysisCache
from service.app import create_app
from service.settings import ServiceSettings
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Play = Callable[..., str]
ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


def test_a_confirmed_study_has_a_verdict(http: httpx.Client, body: Body, play: Play) -> None:
    study = play(body, confirm=5)
    answer = http.get(f"/v1/studies/{study}/analysis")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["study_id"], found["arms"], found["finding"]["winner"]) == (
        study,
        ["adamp", "adamw"],
        "adamw",
    )
    assert [(one["arm"], one["configuration"], one["completed"]) for one in found["confirmed"]] == [
        (arm, configuration, 5) for arm in ("adamp", "adamw") for configuration in ("best", "defaults")
    ]
    assert [(pair["first"], pair["word"], pair["second"], pair["n"]) for pair in found["pairs"]] == [
        ("adamp", "worse", "adamw", 5)
    ]


@pytest.mark.parametrize("state", ["queued", "running", "stopped", "cancelled"])
def test_a_study_has_an_analysis_in_every_state(
    http: httpx.Client, store: Store, body: Body, play: Play, state: str
) -> None:
    study = play(body, close=False) if state == "running" else store.submit(parse_spec(body)).id
    if state in {"stopped", "cancelled"}:
        store.move(study, StudyMove.STOP if state == "stopped" else StudyMove.CANCEL)
    found = http.get(f"/v1/studies/{study}/analysis")
    assert found.status_code == 200
    assert found.json()["finding"]["winner"] is None
    assert {pair["word"] for pair in found.json()["pairs"]} <= {"undecided"}


def test_a_study_that_was_not_confirmed_gets_no_verdict(http: httpx.Client, body: Body, play: Play) -> None:
    found = http.get(f"/v1/studies/{play(body)}/analysis").json()
    assert found["finding"]["winner"] is None
    assert [one for one in found["confirmed"] if one["completed"]] == []


def test_api_and_dashboard_share_the_analyses(
    settings: ServiceSettings, store: Store, body: Body, client_of: ClientOf
) -> None:
    app = create_app(settings, store)
    assert isinstance(app.state.analyses, AnalysisCache)
    study = store.submit(parse_spec(body)).id
    kept = app.state.analyses.study(study)
    with client_of(app) as client:
        assert client.get(f"/v1/studies/{study}/analysis").json() == kept.model_dump(mode="json")


def test_trials_are_those_of_the_search_by_default(http: httpx.Client, body: Body, play: Play) -> None:
    study = play(body, confirm=2)
    path = f"/v1/studies/{study}/trials"
    assert http.get(path).json()["total"] == 6
    confirming = http.get(path, params={"phase": "confirmation", "order": "number"}).json()
    assert (confirming["total"], {trial["phase"] for trial in confirming["items"]}) == (8, {"confirmation"})
    assert {trial["confirms"] for trial in confirming["items"]} == {0, 1}
    assert http.get(path, params={"phase": "all"}).json()["total"] == 14
    one = confirming["items"][0]
    assert one["id"] == f"{study}.{one['arm']}.c{one['number']}"
    assert http.get(f"/v1/trials/{one['id']}").json() == one
    assert [row["epoch"] for row in http.get(f"/v1/trials/{one['id']}/measurements").json()["items"]] == [
        1,
        2,
    ]


@pytest.mark.parametrize(
    "trial", ["adamp.c99", "adamp.cc1", "adamp.c", "adamp.c-1", f"adamp.c{10**12}", "c1", "sgd.c0"]
)
def test_confirmation_runs_of_an_unknown_study_are_not_found(
    http: httpx.Client, body: Body, play: Play, trial: str
) -> None:
    answer = http.get(f"/v1/trials/{play(body, confirm=2)}.{trial}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/trial-not-found")


def test_a_suite_is_listed_and_analysed(http: httpx.Client, body: Body, play: Play, store: Store) -> None:
    assert http.get("/v1/suites").json() == {"items": [], "next_page_token": None, "total": 0}
    first = play(body | {"suite": "small"}, confirm=3)
    second = play(body | {"suite": "small", "workload": "char-lm"}, confirm=3)
    store.submit(parse_spec(body | {"suite": "other"}))
    listed = http.get("/v1/suites").json()
    assert [(suite["name"], suite["studies"], suite["workloads"]) for suite in listed["items"]] == [
        ("other", 1, ["digits-mlp"]),
        ("small", 2, ["char-lm", "digits-mlp"]),
    ]
    found = http.get("/v1/suites/small").json()
    assert [study["study_id"] for study in found["studies"]] == [first, second]
    assert {arm["arm"] for arm in found["arms"]} == {"adamp", "adamw"}
    assert [study["id"] for study in http.get("/v1/studies", params={"suite": "small"}).json()["items"]] == [
        second,
        first,
    ]
    assert http.get(f"/v1/studies/{first}").json()["suite"] == "small"


@pytest.mark.parametrize(
    "name", ["none", "No-Slug", "a b", "ü", "%00", "a" * 65, "a" * 5000, "'; drop table study; --", "-a"]
)
def test_an_unknown_suite_is_not_found(http: httpx.Client, name: str) -> None:
    answer = http.get(f"/v1/suites/{name}")
    assert answer.status_code == 404
    assert answer.json()["type"] in {"/problems/suite-not-found", "/problems/not-found"}


def test_studies_of_one_workload_are_compared(http: httpx.Client, body: Body, play: Play) -> None:
    first, second = play(body, confirm=3), play(body | {"arms": ["adamw"], "seed": 1}, confirm=3)
    found = http.get("/v1/comparison", params={"study": [first, second]})
    assert found.status_code == 200
    assert {(arm["study_id"], arm["arm"]) for arm in found.json()["arms"]} == {
        (first, "adamp"),
        (first, "adamw"),
        (second, "adamw"),
    }
    assert len({arm["label"] for arm in found.json()["arms"]}) == 3


def test_single_arms_are_compared_with_their_curves_and_configurations(
    http: httpx.Client, body: Body, play: Play
) -> None:
    first, second = play(body, confirm=3), play(body, confirm=3)
    found = http.get("/v1/comparison", params={"arm": [f"{first}.adamp", f"{second}.adamw"]}).json()
    arms = {(arm["study_id"], arm["arm"]): arm for arm in found["arms"]}
    assert set(arms) == {(first, "adamp"), (second, "adamw")}
    assert [(pair["first"], pair["second"], pair["n"]) for pair in found["pairs"]] == [("adamp", "adamw", 3)]
    assert {(curve["arm"], bool(curve["points"])) for curve in found["curves"]} == {
        ("adamp", True),
        ("adamw", True),
    }
    [drawn] = [arm for arm in found["arms"] if arm["arm"] == "adamw"]
    assert drawn["defaults"]["lr"] != drawn["parameters"]["lr"]
    assert len(drawn["trials_drawn"]) == 3
    for trial in drawn["trials_drawn"]:
        assert http.get(f"/v1/trials/{trial}/measurements").json()["total"] == 2
    assert any("Only some arms of" in caution for caution in found["cautions"])
    own = http.get("/v1/comparison", params={"arm": [f"{first}.adamp", f"{first}.adamw"]}).json()
    assert own["pairs"][0]["word"] == found["pairs"][0]["word"]
    assert own["why_no_budget_verdict"].startswith(
        "There is no budget verdict, because it needs paired trials"
    )
    unknown = http.get("/v1/comparison", params={"arm": [f"{first}.adamp", f"{first}.lion"]})
    assert (unknown.status_code, "has no arm 'lion'" in unknown.json()["detail"]) == (422, True)


def test_studies_of_different_workloads_are_not_compared(
    http: httpx.Client, store: Store, body: Body
) -> None:
    studies = [
        store.submit(parse_spec(body | {"workload": workload})).id for workload in ("digits-mlp", "char-lm")
    ]
    answer = http.get("/v1/comparison", params={"study": studies})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/parameter-invalid")
    assert "workload" in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "study=",
        "study=abc23456",
        "study=abc23456&study=abc23456",
        "study=abc23456&study=No!",
        "study=abc23456&study=%00",
        "study=abc23456&study=abc23457&other=1",
        "study[]=abc23456",
        "arm=abc23456.adamp",
        "arm=abc23456.adamp&arm=abc23456.adamp",
        "arm=abc23456&arm=abc23457",
        "&".join(f"arm=abc23456.arm{n}" for n in range(65)),
        "&".join(f"study=study{n:03}" for n in range(17)),
        "&".join(f"study=study{n:03}" for n in range(1000)),
        "study=" + "a" * 5000 + "&study=abc23456",
    ],
    ids=[
        "none",
        "empty",
        "one",
        "twice",
        "no id",
        "NUL",
        "unknown parameter",
        "brackets",
        "one arm",
        "one arm twice",
        "arms without names",
        "65 arms",
        "17",
        "1000",
        "too long",
    ],
)
def test_an_invalid_comparison_is_refused(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/v1/comparison?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/parameter-invalid")
    assert len(answer.content) < 20_000


def test_a_comparison_with_an_unknown_study_names_it(http: httpx.Client, store: Store, body: Body) -> None:
    answer = http.get("/v1/comparison", params={"study": [store.submit(parse_spec(body)).id, "zzzzzzzz"]})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/study-not-found")
    assert "zzzzzzzz" in answer.json()["detail"]


@pytest.mark.parametrize("asked", [{"phase": "both"}, {"phase": ""}, {"phase": "search,confirmation"}])
def test_an_unknown_phase_is_refused(http: httpx.Client, body: Body, play: Play, asked: Body) -> None:
    answer = http.get(f"/v1/studies/{play(body)}/trials", params=asked)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/phase")


@pytest.mark.parametrize("suite", ["No-Slug", "a b", "a" * 65, "%00"])
def test_a_label_that_no_suite_can_have_is_refused(http: httpx.Client, suite: str) -> None:
    answer = http.get(f"/v1/studies?suite={suite}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/suite")


def test_a_viewer_may_read_analyses(
    settings: ServiceSettings, store: Store, body: Body, play: Play, client_of: ClientOf
) -> None:
    studies = [play(body | {"suite": "small"}), play(body)]
    secret = store.create_token("alice", role="viewer")
    app = create_app(settings, store)
    for path in (
        f"/v1/studies/{studies[0]}/analysis",
        "/v1/suites",
        "/v1/suites/small",
        f"/v1/comparison?study={studies[0]}&study={studies[1]}",
    ):
        with client_of(app, headers={"authorization": f"Bearer {secret}"}) as client:
            assert client.get(path).status_code == 200
        with client_of(app) as client:
            assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    "path", ["/v1/studies/{study}/report", "/v1/studies/{study}/bundle", "/new?study={study}&check=0"]
)
def test_requests_that_wait_for_an_analysis_do_not_delay_others(
    settings: ServiceSettings,
    store: Store,
    serve_app: Callable[..., AbstractContextManager[str]],
    body: Body,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    study, record, may_go_on = store.submit(parse_spec(body)).id, store.study_record, threading.Event()

    def waiting(study_id: str) -> Any:
        assert may_go_on.wait(30)
        return record(study_id)

    monkeypatch.setattr(store, "study_record", waiting)
    with (
        serve_app(create_app(settings, store)) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(30) as pool,
    ):
        # More than a service has threads.
        asked = [pool.submit(client.get, path.format(study=study)) for _ in range(30)]
        time.sleep(0.5)
        assert client.get("/v1/optimizers", timeout=5).status_code == 200
        assert not any(each.done() for each in asked)
        may_go_on.set()
        assert {each.result().status_code for each in asked} <= {200, 404}
