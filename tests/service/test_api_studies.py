"""Reading and moving studies: pages, ETags and the state machine."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Play = Callable[..., str]


def test_a_list_pages_through_every_study_once_newest_first(
    http: httpx.Client, store: Store, body: Body
) -> None:
    made = [store.submit(parse_spec(body | {"seed": seed})).id for seed in range(5)]
    found: list[str] = []
    token: str | None = None
    for _ in range(3):
        page = http.get(
            "/v1/studies", params={"page_size": 2} | ({"page_token": token} if token else {})
        ).json()
        assert page["total"] == 5
        found += [study["id"] for study in page["items"]]
        token = page["next_page_token"]
    assert token is None
    assert found == made[::-1]


def test_studies_can_be_filtered_by_state_and_workload(http: httpx.Client, store: Store, body: Body) -> None:
    store.submit(parse_spec(body))
    other = store.submit(parse_spec(body | {"workload": "char-lm"})).id
    http.post(f"/v1/studies/{other}:pause").raise_for_status()
    for asked in ({"state": "paused"}, {"workload": "char-lm"}, {"state": "paused", "workload": "char-lm"}):
        assert [study["id"] for study in http.get("/v1/studies", params=asked).json()["items"]] == [other]
    assert http.get("/v1/studies", params={"state": "running"}).json()["items"] == []


def test_a_page_token_of_another_query_is_refused(http: httpx.Client, store: Store, body: Body) -> None:
    for seed in range(2):
        store.submit(parse_spec(body | {"seed": seed}))
    token = http.get("/v1/studies", params={"page_size": 1}).json()["next_page_token"]
    answer = http.get("/v1/studies", params={"page_size": 1, "page_token": token, "state": "queued"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/parameter-invalid")
    assert [(fault["pointer"], fault["where"]) for fault in answer.json()["errors"]] == [
        ("/page_token", "query")
    ]


def test_an_unchanged_study_is_answered_with_304(http: httpx.Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    tag = http.get(f"/v1/studies/{study}").headers["etag"].removeprefix("W/")
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = http.get(f"/v1/studies/{study}", headers={"if-none-match": given})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == (given if given.startswith("W/") else tag)
    store.move(study, StudyMove.PAUSE)
    answer = http.get(f"/v1/studies/{study}", headers={"if-none-match": tag})
    assert (answer.status_code, answer.json()["state"]) == (200, "paused")


def test_progress_changes_the_etag_but_not_the_version(http: httpx.Client, body: Body, play: Play) -> None:
    study = play(body, close=False)
    before = http.get(f"/v1/studies/{study}")
    # The version is the same as when the run began, the progress is not.
    stale = f'"{before.json()["version"]}-0123456789abcdef"'
    assert http.get(f"/v1/studies/{study}", headers={"if-none-match": stale}).status_code == 200
    assert http.post(f"/v1/studies/{study}:pause", headers={"if-match": stale}).status_code == 200


def test_a_study_can_be_paused_resumed_and_cancelled(http: httpx.Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    for verb, state, verbs in (
        ("pause", "paused", ["resume", "stop", "cancel"]),
        ("resume", "queued", ["pause", "stop", "cancel"]),
        ("cancel", "cancelled", []),
    ):
        answer = http.post(f"/v1/studies/{study}:{verb}")
        assert (answer.status_code, answer.json()["state"], answer.json()["verbs"]) == (200, state, verbs)
        assert answer.headers["etag"] == http.get(f"/v1/studies/{study}").headers["etag"]


def test_an_illegal_move_is_refused_with_the_allowed_ones(
    http: httpx.Client, store: Store, body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    answer = http.post(f"/v1/studies/{study}:resume")
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["state"]) == (
        409,
        "/problems/illegal-move",
        "queued",
    )
    assert problem["allowed"] == ["pause", "stop", "cancel"]
    assert store.study(study).version == 1


def test_a_completed_study_can_only_be_confirmed_or_extended(
    http: httpx.Client, body: Body, play: Play
) -> None:
    study = play(body)
    problem = http.post(f"/v1/studies/{study}:stop").json()
    assert (problem["status"], problem["state"], problem["allowed"]) == (
        409,
        "completed",
        ["confirm", "extend"],
    )


def test_a_cancelled_study_cannot_be_moved(http: httpx.Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    store.move(study, StudyMove.CANCEL)
    problem = http.post(f"/v1/studies/{study}:resume").json()
    assert (problem["status"], problem["state"], problem["allowed"]) == (409, "cancelled", [])


@pytest.mark.parametrize("tag", ['"1"', '"{now}"', "{etag}", "*"])
def test_a_move_succeeds_on_the_version_in_if_match(
    http: httpx.Client, store: Store, body: Body, tag: str
) -> None:
    study = store.submit(parse_spec(body)).id
    etag = http.get(f"/v1/studies/{study}").headers["etag"]
    answer = http.post(
        f"/v1/studies/{study}:pause", headers={"if-match": tag.replace("{now}", "1").replace("{etag}", etag)}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("tag", ['"2"', '"0"', '"2-0123456789abcdef"', 'W/"999999999"'])
def test_a_move_on_another_version_is_refused(http: httpx.Client, store: Store, body: Body, tag: str) -> None:
    study = store.submit(parse_spec(body)).id
    answer = http.post(f"/v1/studies/{study}:pause", headers={"if-match": tag})
    assert (answer.status_code, answer.json()["type"]) == (412, "/problems/version-conflict")
    assert store.study(study).version == 1


@pytest.mark.parametrize("tag", ["1", '"one"', '"1", "2"', '"99999999999999999999"', '""', '"1-short"', ""])
def test_an_invalid_if_match_is_refused(http: httpx.Client, store: Store, body: Body, tag: str) -> None:
    study = store.submit(parse_spec(body)).id
    answer = http.post(f"/v1/studies/{study}:pause", headers={"if-match": tag})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/parameter-invalid")
    assert [(fault["pointer"], fault["where"]) for fault in answer.json()["errors"]] == [
        ("/if-match", "header")
    ]
    assert store.study(study).version == 1


def test_arms_are_in_order_with_progress_and_best(http: httpx.Client, body: Body, play: Play) -> None:
    study = play(body)
    page = http.get(f"/v1/studies/{study}/arms").json()
    assert [(arm["name"], arm["position"], arm["progress"]["diverged"]) for arm in page["items"]] == [
        ("adamp", 0, 1),
        ("adamw", 1, 1),
    ]
    assert (page["total"], page["next_page_token"]) == (2, None)
    assert page["items"][0]["space"]["lr"]["kind"] == "range"


def test_the_best_of_each_arm_comes_as_python_code(http: httpx.Client, body: Body, play: Play) -> None:
    first = http.get(f"/v1/studies/{play(body)}/best").json()["items"][0]
    assert (first["arm"], first["optimizer"], first["best"]["number"]) == ("adamp", "adamp", 1)
    assert first["best"]["test_value"] == pytest.approx(first["best"]["value"] - 0.02)
    assert "lr=0.002" in first["best"]["call"]
    compile(first["best"]["python"], "pasted", "exec")


def test_an_arm_without_a_completed_trial_has_no_best(http: httpx.Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    assert [item["best"] for item in http.get(f"/v1/studies/{study}/best").json()["items"]] == [None, None]


def test_curves_have_the_best_value_so_far(http: httpx.Client, body: Body, play: Play) -> None:
    curves = http.get(f"/v1/studies/{play(body)}/curves").json()["items"]
    assert [curve["arm"] for curve in curves] == ["adamp", "adamw"]
    assert [point["value"] for point in curves[0]["points"]] == pytest.approx([0.52, 0.62, 0.62])


def test_trials_can_be_filtered_ordered_and_paged(http: httpx.Client, body: Body, play: Play) -> None:
    path = f"/v1/studies/{play(body)}/trials"
    diverged = http.get(path, params={"state": "diverged"}).json()["items"]
    assert [(trial["arm"], trial["reason"]) for trial in diverged] == [
        ("adamp", "the loss is nan"),
        ("adamw", "the loss is nan"),
    ]
    best_first = http.get(path, params={"arm": "adamw", "order": "value"}).json()["items"]
    assert [trial["number"] for trial in best_first] == [1, 0, 2]
    page = http.get(path, params={"page_size": 4}).json()
    rest = http.get(path, params={"page_size": 4, "page_token": page["next_page_token"]}).json()
    assert (len(page["items"]), len(rest["items"]), rest["next_page_token"], rest["total"]) == (4, 2, None, 6)
    assert not {trial["id"] for trial in page["items"]} & {trial["id"] for trial in rest["items"]}


def test_an_unknown_arm_is_refused_with_the_known_ones(http: httpx.Client, body: Body, play: Play) -> None:
    answer = http.get(f"/v1/studies/{play(body)}/trials", params={"arm": "sgd"})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/arm-not-found")
    assert "adamp, adamw" in answer.json()["detail"]


def test_a_trial_and_its_measurements_can_be_read(http: httpx.Client, body: Body, play: Play) -> None:
    study = play(body)
    trial = http.get(f"/v1/trials/{study}.adamp.2").json()
    assert (trial["study_id"], trial["state"], trial["value"]) == (study, "diverged", None)
    measured = http.get(f"/v1/trials/{study}.adamp.1/measurements").json()
    assert [row["epoch"] for row in measured["items"]] == [1, 2]
    assert measured["items"][1]["validation_metric"] == pytest.approx(0.62)
    # A value that is not finite is null in JSON.
    assert (
        http.get(f"/v1/trials/{study}.adamp.2/measurements").json()["items"][0]["validation_metric"] is None
    )


def test_every_entry_point_exists(http: httpx.Client) -> None:
    links = http.get("/v1").json()
    for name, path in links.items():
        if "{" not in path:
            assert http.get(path).status_code == 200, name


def test_the_catalogue_is_listed_by_name(http: httpx.Client) -> None:
    assert [card["name"] for card in http.get("/v1/optimizers").json()["items"]] == ["adamp", "adamw"]
    assert [card["name"] for card in http.get("/v1/workloads").json()["items"]] == ["char-lm", "digits-mlp"]
    assert http.get("/v1/optimizers/adamp").json()["pairs"] == {"betas": ["beta1", "beta2"]}
    assert http.get("/v1/workloads/char-lm").json()["direction"] == "minimize"
