"""Studies are archived and deleted over REST, by the client, on the command line and on the page."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import Result

from service.cli.errors import BAD_INPUT
from service.client import Client, ProblemError
from studies.errors import StudyNotFound
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Run = Callable[..., Result]
Play = Callable[..., str]
BROWSER = {"accept": "text/html"}


def test_an_archived_study_leaves_the_list_until_it_is_returned(
    http: httpx.Client, body: Body, play: Play
) -> None:
    study_id = play(body)

    def lists() -> list[list[str]]:
        answers = [http.get("/v1/studies"), http.get("/v1/studies?archived=true")]
        return [[study["id"] for study in answer.json()["items"]] for answer in answers]

    answer = http.post(f"/v1/studies/{study_id}:archive")
    assert (answer.status_code, answer.json()["archived_at"] is None) == (200, False)
    assert lists() == [[], [study_id]]
    assert http.get(f"/v1/studies/{study_id}").json() == answer.json(), "no cache has the version before"
    assert "It is archived." in http.get(f"/studies/{study_id}", headers=BROWSER).text
    assert http.post(f"/v1/studies/{study_id}:unarchive").json()["archived_at"] is None
    assert lists() == [[study_id], []]


def test_a_deleted_study_is_gone_from_every_route(http: httpx.Client, body: Body, play: Play) -> None:
    study_id = play(body)
    paths = [
        f"/v1/studies/{study_id}{part}"
        for part in ("", "/arms", "/analysis", "/trials", "/events", "/contents", "/report")
    ] + [f"/studies/{study_id}", f"/v1/trials/{study_id}.adamp.0"]
    for path in paths:
        assert http.get(path).status_code == 200, path
    announced = http.get(f"/v1/studies/{study_id}/contents").json()
    stale = {"if-match": '"1"'}
    assert http.delete(f"/v1/studies/{study_id}", headers=stale).status_code == 412
    answer = http.delete(f"/v1/studies/{study_id}")
    assert (answer.status_code, answer.json()) == (200, announced)
    assert announced["trials"] > 0
    for path in paths:
        assert http.get(path).status_code == 404, path
    assert http.delete(f"/v1/studies/{study_id}").status_code == 404
    assert http.get("/v1/audit").json()["items"][0]["verb"] == "delete"


def test_a_study_is_put_into_a_suite_over_rest_by_the_client_and_by_a_command(
    run: Run, live: str, store: Store, body: Body
) -> None:
    study_id = store.submit(parse_spec(body)).id
    with Client(live) as client:
        assert client.label(study_id, "small-nets").suite == "small-nets"
        with pytest.raises(ProblemError) as refused:
            client.label(study_id, "Not A Label")
        assert [fault.pointer for fault in refused.value.problem.errors or ()] == ["/suite"]
    assert store.study_ids_of_suite("small-nets") == (study_id,)
    assert "in the suite other" in run("label", study_id, "other").stdout
    assert run("label", "last").exit_code == BAD_INPUT
    assert run("label", "last", "other", "--none").exit_code == BAD_INPUT
    assert "in no suite" in run("label", "last", "--none").stdout
    assert store.suites() == ()
    answer = httpx.post(f"{live}/v1/studies/{study_id}:label", json={})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/suite")


def test_an_open_study_is_neither_archived_nor_deleted(http: httpx.Client, store: Store, body: Body) -> None:
    study_id = store.submit(parse_spec(body)).id
    for answer in (http.post(f"/v1/studies/{study_id}:archive"), http.delete(f"/v1/studies/{study_id}")):
        assert (answer.status_code, answer.json()["state"]) == (409, "queued")
    assert f'action="/studies/{study_id}/delete"' not in http.get(f"/studies/{study_id}/delete").text


def test_the_client_archives_and_deletes(live: str, store: Store, body: Body, play: Play) -> None:
    study_id, other = play(body), play(body)
    with Client(live) as client:
        assert client.archive(study_id).archived_at is not None
        assert [study.id for study in client.every_study()] == [other]
        assert [study.id for study in client.every_study(archived=True)] == [study_id]
        assert client.unarchive(study_id).archived_at is None
        assert client.delete(study_id) == client_contents(store, other, study_id)
        with pytest.raises(ProblemError) as refused:
            client.delete(study_id)
        assert refused.value.slug == "study-not-found"


def client_contents(store: Store, like: str, study_id: str) -> object:
    """Return the contents of one of two equal studies, from the other."""
    return store.contents(like).model_copy(update={"study_id": study_id})


def test_the_command_line_says_what_it_deletes_and_asks(
    run: Run, store: Store, body: Body, play: Play
) -> None:
    study_id = play(body)
    assert run("archive", study_id[:4]).exit_code == 0
    assert json.loads(run("list", "--json").stdout) == []
    assert json.loads(run("list", "--archived", "--json").stdout)[0]["id"] == study_id
    trials = store.contents(study_id).trials
    refused = run("delete", study_id[:4])
    assert refused.exit_code == 2
    assert f"{trials} trials" in refused.stderr
    assert "--yes" in refused.stderr
    assert store.study(study_id).id == study_id
    deleted = run("delete", study_id, "--yes", "--json")
    assert (deleted.exit_code, json.loads(deleted.stdout)["trials"]) == (0, trials)
    with pytest.raises(StudyNotFound):
        store.study(study_id)


def test_the_page_deletes_only_what_was_typed(
    http: httpx.Client, store: Store, body: Body, play: Play
) -> None:
    studies = [play(body | {"name": f"Digits & <{n}>"}) for n in range(2)]
    for study_id, text in zip(studies, (studies[0], " Digits & <1> "), strict=True):
        page = http.get(f"/studies/{study_id}/delete", headers=BROWSER)
        assert (page.status_code, f'action="/studies/{study_id}/delete"' in page.text) == (200, True)
        version = store.study(study_id).version
        for wrong in ({}, {"confirm": "digits"}):
            refused = http.post(f"/studies/{study_id}/delete", data=wrong, headers=BROWSER)
            assert refused.status_code == 422
            assert 'role="alert"' in refused.text
        form = {"confirm": text, "version": str(version)}
        for wrong in ("1.5", "x", "9" * 30):
            bad = http.post(f"/studies/{study_id}/delete", data=form | {"version": wrong}, headers=BROWSER)
            assert bad.status_code == 422
        stale = http.post(f"/studies/{study_id}/delete", data=form | {"version": "1"}, headers=BROWSER)
        assert stale.status_code == 412
        answer = http.post(f"/studies/{study_id}/delete", data=form, headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert store.studies().total == 0


def test_the_page_archives_and_filters(http: httpx.Client, body: Body, play: Play) -> None:
    study_id = play(body)
    link = f'href="/studies/{study_id}"'
    archive = 'href="/?archived=true"'
    offer = f'action="/studies/{study_id}/archive"'
    assert offer in http.get(f"/studies/{study_id}/delete", headers=BROWSER).text
    assert archive in http.get("/", headers=BROWSER).text
    assert http.post(f"/studies/{study_id}/archive", headers=BROWSER).status_code == 303
    assert link not in http.get("/?workload=digits-mlp", headers=BROWSER).text
    assert offer not in http.get(f"/studies/{study_id}/delete", headers=BROWSER).text
    assert archive in http.get("/", headers=BROWSER).text, "also if nothing else is left"
    assert link in http.get("/?archived=true", headers=BROWSER).text
    assert http.post(f"/studies/{study_id}/unarchive", headers=BROWSER).status_code == 303
    assert link in http.get("/", headers=BROWSER).text


def test_only_the_owner_or_an_admin_sees_the_page_that_deletes(
    http: httpx.Client, store: Store, body: Body
) -> None:
    secrets = {name: store.create_token(name, role="submitter") for name in ("ada", "bob")}
    study_id = None
    for name, status in (("ada", 200), ("bob", 403)):
        http.headers["authorization"] = f"Bearer {secrets[name]}"
        if study_id is None:
            study_id = http.post("/v1/studies", json=body).json()["id"]
            store.move(study_id, StudyMove.CANCEL)
        assert http.get(f"/studies/{study_id}/delete", headers=BROWSER).status_code == status
        shown = f'href="/studies/{study_id}/delete"' in http.get(f"/studies/{study_id}").text
        assert shown == (status == 200)
    assert http.delete(f"/v1/studies/{study_id}").status_code == 403
