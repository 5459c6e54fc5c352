"""The OpenAPI description is complete: clients need nothing else to send requests and read responses."""

import html
import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.errors import KINDS
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []


@pytest.fixture(scope="session")
def described(open_app: FastAPI) -> dict[str, Any]:
    return json.loads(json.dumps(open_app.openapi()))


def operations(described: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in described["paths"].items()
        for method, operation in item.items()
    ]


def test_every_operation_has_a_name_and_a_description(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(described)]
    assert len(names) == len(set(names))
    for where, operation in operations(described):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), where
        assert operation["summary"], where
        assert operation["description"], where
        assert len(operation["tags"]) == 1, where


def test_every_parameter_is_described_and_bounded(described: dict[str, Any]) -> None:
    for where, operation in operations(described):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (where, parameter["name"])
            schema = parameter["schema"]
            if schema.get("type") == "array":
                assert "maxItems" in schema, (where, parameter["name"])
                schema = schema["items"]
            shapes = [shape for shape in schema.get("anyOf", [schema]) if shape.get("type") != "null"]
            for shape in shapes:
                is_bounded = {"pattern", "enum", "$ref", "maxLength", "maximum", "exclusiveMaximum"} & set(
                    shape
                ) or shape.get("type") == "boolean"
                assert is_bounded, (where, parameter["name"], shape)


def test_no_parameter_accepts_null(described: dict[str, Any]) -> None:
    # A query or a header cannot express null, and the word "null" is rejected.
    for where, operation in operations(described):
        for parameter in operation.get("parameters", []):
            assert '"null"' not in json.dumps(parameter["schema"]), (where, parameter["name"])


def test_the_response_to_a_checked_extension_is_described(described: dict[str, Any]) -> None:
    operation = described["paths"]["/v1/studies/{study_id}:extend"]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert [shape["$ref"].rpartition("/")[2] for shape in schema["anyOf"]] == ["StudyView", "StudyPlan"]
    assert "$ref" not in schema, "a sibling keyword would also have to hold"
    assert operation["requestBody"]["required"]


def test_every_response_is_described_and_problems_have_examples(described: dict[str, Any]) -> None:
    for where, operation in operations(described):
        for status, answer in operation["responses"].items():
            assert answer["description"], (where, status)
            if int(status) < 400:
                continue
            content = answer["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for slug, example in content["examples"].items():
                assert example["value"]["status"] == int(status) == KINDS[slug].status
                assert example["value"]["type"] == f"/problems/{slug}"


def test_every_field_is_described(described: dict[str, Any]) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in described["components"]["schemas"].items()
        for field, shape in schema.get("properties", {}).items()
        # The discriminator of dimensions is explained by its single value.
        if field != "kind" and not shape.get("description")
    ]
    assert bare == []


def test_every_reference_resolves(described: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)))
    assert named <= set(described["components"]["schemas"])


def test_examples_of_studies_can_be_submitted(described: dict[str, Any], http: httpx.Client) -> None:
    content = described["paths"]["/v1/studies"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert http.post("/v1/studies", json=example["value"]).status_code == 201


def test_examples_of_follow_ups_can_be_sent(
    described: dict[str, Any], http: httpx.Client, play: Any, body: dict[str, Any]
) -> None:
    for verb, status in (("confirm", 200), ("extend", 200), ("clone", 201)):
        content = described["paths"][f"/v1/studies/{{study_id}}:{verb}"]["post"]["requestBody"]["content"]
        for kind, described_body in content.items():
            for name, example in described_body["examples"].items():
                study = play(body | {"arms": ["adamw"]})
                answer = http.post(
                    f"/v1/studies/{study}:{verb}",
                    content=json.dumps(example["value"]),
                    headers={"content-type": kind},
                )
                assert answer.status_code == status, (verb, name, answer.text)
                # The simulated run would claim this queued study next.
                http.post(
                    f"{answer.headers.get('location', f'/v1/studies/{study}')}:cancel"
                ).raise_for_status()


def test_the_body_of_a_submission_may_use_shorthands(described: dict[str, Any]) -> None:
    arms = described["components"]["schemas"]["StudySpec-Input"]["properties"]["arms"]["items"]
    assert {"type": "string"} in [{"type": shape.get("type")} for shape in arms["anyOf"]]


def test_every_problem_type_resolves_to_its_explanation(http: httpx.Client) -> None:
    for slug, kind in KINDS.items():
        explained = http.get(kind.type).json()
        assert (explained["type"], explained["status"], explained["title"]) == (
            f"/problems/{slug}",
            kind.status,
            kind.title,
        )
        assert kind.title in html.unescape(http.get(kind.type, headers={"accept": "text/html"}).text)
    assert len(http.get("/problems").json()) == len(KINDS)


def test_all_response_statuses_are_described(
    described: dict[str, Any], http: httpx.Client, store: Store, body: dict[str, Any]
) -> None:
    study = store.submit(parse_spec(body)).id
    sent = {
        "/v1/studies/{study_id}:resume": http.post(f"/v1/studies/{study}:resume"),
        "/v1/studies/{study_id}:pause": http.post(f"/v1/studies/{study}:pause", headers={"if-match": '"9"'}),
        "/v1/studies": http.post("/v1/studies", content="{", headers={"content-type": "application/json"}),
        "/v1/studies/{study_id}/trials": http.get(f"/v1/studies/{study}/trials?page_size=0"),
        "/v1/trials/{trial_id}": http.get("/v1/trials/nothing"),
    }
    for path, answer in sent.items():
        method = answer.request.method.lower()
        assert str(answer.status_code) in described["paths"][path][method]["responses"], path
