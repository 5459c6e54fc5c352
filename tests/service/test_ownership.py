"""Ownership: a submitter changes their own studies, an admin all, a viewer none; each change is audited."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from auth_headers import bearer
from fastapi import FastAPI

from studies.actors import Actor
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.views import Quotas

__all__: list[str] = []

Body = dict[str, Any]
Play = Callable[..., str]

ALICE = Actor(name="alice", role="submitter")
# Every request that changes an existing study, over REST and from the page.
VERBS = ("pause", "resume", "stop", "cancel", "confirm", "extend", "archive", "unarchive")
CHANGES = [f"/v1/studies/{{}}:{verb}" for verb in (*VERBS, "label")]
FORMS = [f"/studies/{{}}/{verb}" for verb in VERBS]


def test_the_list_of_changing_requests_is_complete(open_app: FastAPI) -> None:
    described = {
        path for path, item in open_app.openapi()["paths"].items() if "post" in item and "{study_id}" in path
    }
    assert described == {path.replace("{}", "{study_id}") for path in CHANGES} | {
        "/v1/studies/{study_id}:clone"
    }


@pytest.mark.parametrize("path", [*CHANGES, *FORMS])
def test_only_its_owner_and_an_admin_may_change_a_study(
    http: httpx.Client, store: Store, secrets: dict[str, str], body: Body, path: str
) -> None:
    study = store.submit(parse_spec(body), by=ALICE)
    given = ({"suite": None} if path.endswith(":label") else {}) if path.startswith("/v1") else None
    for name, kind in (("vera", "forbidden"), ("bob", "not-owner")):
        answer = http.post(path.format(study.id), headers=bearer(secrets[name]), json=given)
        assert (answer.status_code, answer.json()["type"]) == (403, f"/problems/{kind}")
        assert name in answer.json()["detail"]
    assert store.study(study.id) == study
    for name in ("alice", "root"):
        answer = http.post(path.format(study.id), headers=bearer(secrets[name]), json=given)
        assert answer.status_code != 403, answer.text


def test_only_admins_may_change_a_study_without_an_owner(
    http: httpx.Client, store: Store, secrets: dict[str, str], body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    refused = http.post(f"/v1/studies/{study}:pause", headers=bearer(secrets["bob"])).json()
    assert "has no owner" in refused["detail"]
    assert http.post(f"/v1/studies/{study}:pause", headers=bearer(secrets["root"])).status_code == 200


def test_a_submitter_may_clone_any_study_and_owns_the_clone(
    http: httpx.Client, store: Store, secrets: dict[str, str], body: Body
) -> None:
    study = store.submit(parse_spec(body), by=ALICE).id
    clone = http.post(f"/v1/studies/{study}:clone", json={"seed": 1}, headers=bearer(secrets["bob"])).json()
    assert clone["owner"] == "bob"
    assert http.post(f"/v1/studies/{clone['id']}:cancel", headers=bearer(secrets["bob"])).status_code == 200


def test_an_unknown_study_is_not_found_for_every_role(http: httpx.Client, secrets: dict[str, str]) -> None:
    assert http.post("/v1/studies/nothere2:pause", headers=bearer(secrets["bob"])).status_code == 404


def test_the_audit_log_has_actor_verb_study_and_address(
    http: httpx.Client, secrets: dict[str, str], body: Body
) -> None:
    study = http.post("/v1/studies", json=body, headers=bearer(secrets["alice"])).json()["id"]
    http.post(f"/v1/studies/{study}:pause", headers=bearer(secrets["bob"]))
    http.post(f"/v1/studies/{study}:pause", headers=bearer(secrets["root"]))
    http.post(f"/v1/studies/{study}:resume", headers=bearer(secrets["alice"]))
    page = http.get("/v1/audit", params={"study_id": study}, headers=bearer(secrets["root"])).json()
    assert [(entry["actor"], entry["verb"]) for entry in page["items"]] == [
        ("alice", "resume"),
        ("root", "pause"),
        ("alice", "submit"),
    ]
    assert all(entry["address"] for entry in page["items"])
    assert page["total"] == 3
    newest = http.get(
        "/v1/audit", params={"actor": "alice", "page_size": 1}, headers=bearer(secrets["root"])
    ).json()
    older = http.get(
        "/v1/audit",
        params={"actor": "alice", "page_token": newest["next_page_token"]},
        headers=bearer(secrets["root"]),
    ).json()
    assert [entry["verb"] for entry in (*newest["items"], *older["items"])] == ["resume", "submit"]
    made = http.get("/v1/audit", params={"verb": "token.create"}, headers=bearer(secrets["root"])).json()
    assert [entry["subject"] for entry in made["items"]] == ["root", "vera", "bob", "alice"]


@pytest.mark.parametrize("name", ["alice", "vera"])
def test_only_an_admin_may_read_the_audit_log(http: httpx.Client, secrets: dict[str, str], name: str) -> None:
    answer = http.get("/v1/audit", headers=bearer(secrets[name]))
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


def test_an_extension_by_an_admin_is_audited_and_keeps_the_owner(
    http: httpx.Client, store: Store, secrets: dict[str, str], body: Body, play: Play
) -> None:
    study = play(body)
    assert (
        http.post(
            f"/v1/studies/{study}:extend", json={"trials_per_arm": 4}, headers=bearer(secrets["root"])
        ).status_code
        == 200
    )
    assert [(entry.actor, entry.verb) for entry in store.audit(study_id=study).items] == [
        ("root", "extend"),
        (None, "submit"),
    ]


def test_an_open_service_audits_without_a_name(http: httpx.Client, store: Store, body: Body) -> None:
    study = http.post("/v1/studies", json=body).json()["id"]
    store.move(study, StudyMove.CANCEL)
    assert [(entry.actor, entry.verb) for entry in store.audit().items] == [
        (None, "cancel"),
        (None, "submit"),
    ]
    assert http.get("/v1/audit").json()["total"] == 2
    assert http.get("/v1/account").json() == {"role": "admin", "token": None}


def test_a_viewer_sees_no_form_for_submissions(
    http: httpx.Client, store: Store, secrets: dict[str, str], body: Body
) -> None:
    study = store.submit(parse_spec(body), by=ALICE).id
    for name, offered in (("bob", True), ("vera", False)):
        page = {"accept": "text/html", **bearer(secrets[name])}
        for path in ("/", f"/studies/{study}", f"/studies/{study}/live"):
            assert ('href="/new' in http.get(path, headers=page).text) is offered, (name, path)
        assert http.get("/new", headers=page).status_code == (200 if offered else 403)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "may have at most 0 open studies"),
        ({"resources": {"priority": "high"}}, "only an admin may submit studies of high priority"),
    ],
)
def test_a_refused_study_stays_in_the_form(
    http: httpx.Client, store: Store, body: Body, more: Body, why: str
) -> None:
    secret = store.create_token("ann", role="submitter", quotas=Quotas(max_studies=0))
    text = json.dumps(body | more | {"name": "written at length"})
    answer = http.post("/new", data={"spec": text}, headers={"accept": "text/html", **bearer(secret)})
    assert answer.status_code == 403
    assert why in answer.text
    assert "written at length" in answer.text
    assert store.studies().total == 0


def test_the_page_offers_only_permitted_changes(
    http: httpx.Client, store: Store, secrets: dict[str, str], body: Body
) -> None:
    study = store.submit(parse_spec(body), by=ALICE).id
    for name, offered in (("alice", True), ("root", True), ("bob", False), ("vera", False)):
        for path in (f"/studies/{study}", f"/studies/{study}/live"):
            page = http.get(path, headers={"accept": "text/html", **bearer(secrets[name])}).text
            assert (f'action="/studies/{study}/pause"' in page) is offered, (name, path)
