"""Follow-ups over REST: confirm on more seeds, extend, clone."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import ServiceSettings
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Play = Callable[..., str]
ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


def test_a_completed_study_is_confirmed_on_five_more_seeds_by_default(
    http: httpx.Client, body: Body, play: Play
) -> None:
    study = play(body)
    assert http.get(f"/v1/studies/{study}").json()["verbs"] == ["confirm", "extend"]
    answer = http.post(f"/v1/studies/{study}:confirm")
    assert answer.status_code == 200
    after = answer.json()
    assert (after["state"], after["ended_at"], after["spec"]["confirmation"]["seeds"]) == ("queued", None, 10)
    assert answer.headers["etag"] == http.get(f"/v1/studies/{study}").headers["etag"]
    assert "study.extended" in [
        event["kind"]
        for event in http.get(f"/v1/studies/{study}/events", headers={"accept": "application/json"}).json()[
            "items"
        ]
    ]


@pytest.mark.parametrize("given", [{}, {"seeds": None}])
def test_the_number_of_seeds_of_a_confirmation_is_optional(
    http: httpx.Client, body: Body, play: Play, given: Body
) -> None:
    study = play(body | {"confirmation": {"seeds": 0}})
    assert http.post(f"/v1/studies/{study}:confirm", json=given).json()["spec"]["confirmation"]["seeds"] == 5


def test_the_seeds_of_a_confirmation_are_the_new_total(http: httpx.Client, body: Body, play: Play) -> None:
    assert (
        http.post(f"/v1/studies/{play(body)}:confirm", json={"seeds": 7}).json()["spec"]["confirmation"][
            "seeds"
        ]
        == 7
    )


@pytest.mark.parametrize("seeds", [0, -1, 4, 5, 1001, 10**30, 1e300, 2.5, "ten", True, [], {}])
def test_seeds_that_add_nothing_or_are_not_a_number_are_refused(
    http: httpx.Client, body: Body, play: Play, seeds: Any
) -> None:
    study = play(body)
    answer = http.post(f"/v1/studies/{study}:confirm", json={"seeds": seeds})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/spec-invalid")
    assert {fault["pointer"] for fault in answer.json()["errors"]} <= {"/seeds", ""}
    assert http.get(f"/v1/studies/{study}").json()["state"] == "completed"


def test_a_study_with_the_maximum_of_seeds_cannot_have_five_more(
    http: httpx.Client, body: Body, play: Play
) -> None:
    answer = http.post(f"/v1/studies/{play(body | {'confirmation': {'seeds': 1000}})}:confirm")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/spec-invalid")


def test_an_extension_adds_arms_trials_replicates_and_seeds(
    http: httpx.Client, body: Body, play: Play
) -> None:
    study = play(body)
    extension = {
        "arms": [{"optimizer": "adamw", "name": "adamw-2"}],
        "trials_per_arm": 5,
        "replicates": 2,
        "seeds": 8,
    }
    answer = http.post(f"/v1/studies/{study}:extend", json=extension)
    assert answer.status_code == 200
    spec = answer.json()["spec"]
    assert [arm["name"] for arm in spec["arms"]] == ["adamp", "adamw", "adamw-2"]
    assert (
        spec["budget"]["trials_per_arm"],
        spec["budget"]["replicates"],
        spec["confirmation"]["seeds"],
    ) == (5, 2, 8)
    arms = http.get(f"/v1/studies/{study}/arms").json()["items"]
    assert [(arm["progress"]["trials"], arm["progress"]["finished"]) for arm in arms] == [
        (10, 3),
        (10, 3),
        (10, 0),
    ]


def test_an_arm_may_be_added_by_its_name_alone(http: httpx.Client, body: Body, play: Play) -> None:
    answer = http.post(f"/v1/studies/{play(body | {'arms': ['adamp']})}:extend", json={"arms": ["adamw"]})
    assert answer.json()["arms"] == ["adamp", "adamw"]


def test_validating_an_extension_returns_its_size_and_stores_nothing(
    http: httpx.Client, body: Body, play: Play
) -> None:
    study = play(body)
    before = http.get(f"/v1/studies/{study}").json()
    answer = http.post(
        f"/v1/studies/{study}:extend",
        params={"validate_only": "true"},
        json={"trials_per_arm": 4, "seeds": 6},
    )
    assert answer.status_code == 200
    plan = answer.json()
    # Two arms of four trials, their best and their defaults on six seeds, two epochs each.
    assert (plan["trials"], plan["confirmations"], plan["epochs"]) == (8, 24, 64)
    assert plan["spec"]["budget"]["trials_per_arm"] == 4
    assert http.get(f"/v1/studies/{study}").json() == before


@pytest.mark.parametrize(
    ("extension", "pointer"),
    [
        ({}, ""),
        ([], ""),
        (7, ""),
        ({"arms": []}, ""),
        ({"arms": ["adamp"]}, "/arms/0/name"),
        ({"arms": ["adamq"]}, "/arms/0/optimizer"),
        ({"arms": "adamp"}, "/arms"),
        ({"arms": [7]}, "/arms/0"),
        ({"arms": [{"optimizer": "adamw", "name": "b", "space": {"lr": -1}}]}, "/arms/0/space/lr"),
        ({"arms": [{"optimizer": "adamw", "name": f"a{n}"} for n in range(70)]}, "/arms"),
        ({"trials_per_arm": 2}, "/trials_per_arm"),
        ({"trials_per_arm": 10**9}, "/trials_per_arm"),
        ({"trials_per_arm": 10**40}, "/trials_per_arm"),
        ({"trials_per_arm": 3.5}, "/trials_per_arm"),
        ({"trials_per_arm": "many"}, "/trials_per_arm"),
        ({"replicates": 0}, "/replicates"),
        ({"replicates": 1001}, "/replicates"),
        ({"replicates": 1000, "trials_per_arm": 100_000}, None),
        ({"seeds": 4}, "/seeds"),
        ({"seeds": -(10**30)}, "/seeds"),
        ({"seeds": 1000, "replicates": 1000}, None),
        ({"seeds": True}, "/seeds"),
        ({"trials": 5}, "/trials"),
        ({"sampler": "random"}, "/sampler"),
    ],
)
def test_an_invalid_extension_is_refused_with_a_pointer(
    http: httpx.Client, body: Body, play: Play, extension: Any, pointer: str | None
) -> None:
    study = play(body)
    for validate_only in ("true", "false"):
        answer = http.post(
            f"/v1/studies/{study}:extend", json=extension, params={"validate_only": validate_only}
        )
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/spec-invalid")
        if pointer is not None:
            assert answer.json()["errors"][0]["pointer"] == pointer
    assert http.get(f"/v1/studies/{study}").json()["state"] == "completed"


@pytest.mark.parametrize("verb", ["confirm", "extend"])
def test_only_a_completed_study_can_be_extended(
    http: httpx.Client, store: Store, body: Body, verb: str
) -> None:
    study = store.submit(parse_spec(body)).id
    sent, detail = {"seeds": 9}, ""
    for state in ("queued", "cancelled"):
        for params in ({}, {"validate_only": "true"}) if verb == "extend" else ({},):
            answer = http.post(f"/v1/studies/{study}:{verb}", json=sent, params=params)
            assert (answer.status_code, answer.json()["type"], answer.json()["state"]) == (
                409,
                "/problems/illegal-move",
                state,
            )
            detail = answer.json()["detail"]
        if state == "queued":
            store.move(study, StudyMove.CANCEL)
    assert "clone" in detail


@pytest.mark.parametrize("verb", ["confirm", "extend"])
def test_an_extension_is_refused_on_another_version(
    http: httpx.Client, body: Body, play: Play, verb: str
) -> None:
    study = play(body)
    etag = http.get(f"/v1/studies/{study}").headers["etag"]
    refused = http.post(f"/v1/studies/{study}:{verb}", json={"seeds": 9}, headers={"if-match": '"1"'})
    assert (refused.status_code, refused.json()["type"]) == (412, "/problems/version-conflict")
    assert (
        http.post(f"/v1/studies/{study}:{verb}", json={"seeds": 9}, headers={"if-match": etag}).status_code
        == 200
    )


@pytest.mark.parametrize("verb", ["confirm", "extend", "clone"])
def test_follow_ups_of_an_unknown_study_are_not_found(http: httpx.Client, verb: str) -> None:
    answer = http.post(f"/v1/studies/zzzzzzzz:{verb}", json={"seeds": 9})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/study-not-found")


@pytest.mark.parametrize("verb", ["confirm", "extend", "clone"])
@pytest.mark.parametrize(
    ("content", "kind", "status", "slug"),
    [
        (b"{", "application/json", 400, "not-json"),
        (b"\xff\xfe", "application/json", 400, "not-json"),
        (b"[" * 100_000, "application/json", 400, "not-json"),
        (b'{"seeds": NaN}', "application/json", 422, "spec-invalid"),
        (b'{"seeds": 1e999}', "application/json", 422, "spec-invalid"),
        (b'{"name": "\\u0000"}', "application/json", 422, "spec-invalid"),
        (b'{"\\ud800": 1}', "application/json", 422, "spec-invalid"),
        (b'"text"', "application/json", 422, "spec-invalid"),
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b'{"seeds": 9}', "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b" " * 2_000_000, "application/json", 413, "body-too-large"),
    ],
)
def test_an_invalid_body_is_refused(
    http: httpx.Client, body: Body, play: Play, verb: str, content: bytes, kind: str, status: int, slug: str
) -> None:
    study = play(body)
    answer = http.post(f"/v1/studies/{study}:{verb}", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert http.get("/v1/studies").json()["total"] == 1


def test_an_extension_needs_a_body(http: httpx.Client, body: Body, play: Play) -> None:
    answer = http.post(f"/v1/studies/{play(body)}:extend", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/not-json")


def test_a_clone_is_a_new_study_that_differs_by_its_patch(
    http: httpx.Client, store: Store, body: Body, play: Play
) -> None:
    study = play(body | {"suite": "small"})
    answer = http.post(f"/v1/studies/{study}:clone", json={"seed": 4, "suite": None, "budget": {"epochs": 3}})
    assert answer.status_code == 201
    clone = answer.json()
    assert answer.headers["location"] == f"/v1/studies/{clone['id']}"
    assert answer.headers["etag"] == http.get(answer.headers["location"]).headers["etag"]
    assert (clone["state"], clone["suite"]) == ("queued", None)
    expected = store.study(study).spec.model_dump(mode="json") | {"seed": 4, "suite": None}
    assert clone["spec"] == expected | {"budget": expected["budget"] | {"epochs": 3}}
    assert store.study(study).state.value == "completed"


def test_a_clone_without_a_patch_has_the_same_spec(http: httpx.Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body))
    assert http.post(f"/v1/studies/{study.id}:clone").json()["spec"] == study.spec.model_dump(mode="json")


def test_a_patch_may_have_the_media_type_of_merge_patches(
    http: httpx.Client, store: Store, body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    answer = http.post(
        f"/v1/studies/{study}:clone",
        content=b'{"seed": 3}',
        headers={"content-type": "application/merge-patch+json"},
    )
    assert (answer.status_code, answer.json()["spec"]["seed"]) == (201, 3)


def test_validating_a_clone_returns_its_size_and_stores_nothing(
    http: httpx.Client, store: Store, body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    patch = {"confirmation": {"seeds": 0}, "budget": {"replicates": 2}}
    answer = http.post(f"/v1/studies/{study}:clone", params={"validate_only": "true"}, json=patch)
    assert (
        answer.status_code,
        answer.json()["trials"],
        answer.json()["confirmations"],
        answer.json()["epochs"],
    ) == (200, 12, 0, 24)
    assert http.get("/v1/studies").json()["total"] == 1


def test_a_key_creates_one_clone(http: httpx.Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    path, headers = f"/v1/studies/{study}:clone", {"idempotency-key": "one"}
    first, second = (http.post(path, json={"seed": 3}, headers=headers).json()["id"] for _ in range(2))
    assert first == second != study
    other = http.post(path, json={"seed": 4}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"workload": "nothing"}, "/workload"),
        ({"arms": ["adamq"]}, "/arms/0/optimizer"),
        ({"seed": 10**30}, "/seed"),
        ({"budget": {"trials_per_arm": "many"}}, "/budget/trials_per_arm"),
        ({"suite": "no slug!"}, "/suite"),
        ({"colour": "red"}, "/colour"),
        ({"workload": None}, "/workload"),
        ([{"op": "replace"}], ""),
        (None, ""),
    ],
)
def test_a_clone_that_cannot_be_run_is_refused_with_a_pointer(
    http: httpx.Client, store: Store, body: Body, patch: Any, pointer: str
) -> None:
    study = store.submit(parse_spec(body)).id
    answer = http.post(
        f"/v1/studies/{study}:clone", content=json.dumps(patch), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize("verb", ["confirm", "extend", "clone"])
def test_a_viewer_may_not_extend_studies(
    settings: ServiceSettings, store: Store, body: Body, play: Play, client_of: ClientOf, verb: str
) -> None:
    study = play(body)
    secrets = {role: store.create_token(role, role=role) for role in ("viewer", "admin")}
    for role, status in (("viewer", 403), ("admin", 201 if verb == "clone" else 200)):
        with client_of(
            create_app(settings, store), headers={"authorization": f"Bearer {secrets[role]}"}
        ) as client:
            sent = {"seeds": 9} if verb != "clone" else {"seed": 9}
            assert client.post(f"/v1/studies/{study}:{verb}", json=sent).status_code == status


@pytest.mark.parametrize(
    ("verb", "changed", "pointer"),
    [("clone", {"seed": -1}, "/seed"), ("extend", {"seeds": -1}, "/seeds")],
)
def test_unknown_optimizers_are_reported_together_with_all_other_faults(
    http: httpx.Client, play: Play, body: Body, verb: str, changed: Body, pointer: str
) -> None:
    arms = ["AdamP", {"optimizer": "adamw", "space": {"momentum": 0.9}}]
    answer = http.post(f"/v1/studies/{play(body)}:{verb}", json={"arms": arms, **changed})
    found = {fault["pointer"] for fault in answer.json()["errors"]}
    assert found == {"/arms/0/optimizer", "/arms/1/space/momentum", pointer}
