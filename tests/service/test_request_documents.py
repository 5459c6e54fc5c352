"""Bodies over REST and in the form: JSON and YAML, byte order marks and repeated fields."""

import json
from typing import Any

import httpx
import pytest
import yaml

from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
YAML = {"content-type": "application/yaml"}
JSON = {"content-type": "application/json"}
BOM = b"\xef\xbb\xbf"
TEXT = """
workload: digits-mlp  # small
arms:
  - adamp
  - optimizer: adamw
    space: {lr: {low: 1e-4, high: 1e-1, log: true}}
budget: {trials_per_arm: 2, epochs: 2}
"""


def pointers(answer: httpx.Response) -> list[str]:
    return [fault["pointer"] for fault in answer.json()["errors"]]


@pytest.mark.parametrize(
    "kind", ["application/yaml", "application/yaml; charset=utf-8", "application/x-yaml", "text/yaml"]
)
def test_a_yaml_body_is_the_same_study_as_in_json(http: httpx.Client, kind: str) -> None:
    made = http.post("/v1/studies", content=TEXT, headers={"content-type": kind})
    assert made.status_code == 201
    same = http.post("/v1/studies", json=yaml.safe_load(TEXT.replace("e-", ".0e-")))
    assert made.json()["spec"] == same.json()["spec"]


def test_follow_ups_and_webhooks_accept_yaml(http: httpx.Client, body: Body, settings: Any) -> None:
    del settings
    study = http.post("/v1/studies", json=body).json()["id"]
    clone = http.post(f"/v1/studies/{study}:clone", content="seed: 7\nname: null", headers=YAML)
    assert (clone.status_code, clone.json()["spec"]["seed"]) == (201, 7)
    extension = http.post(f"/v1/studies/{study}:extend", content="trials_per_arm: x", headers=YAML)
    assert (extension.status_code, pointers(extension)) == (422, ["/trials_per_arm"])
    assert http.post(f"/v1/studies/{study}:confirm", content="seeds: 9", headers=YAML).status_code == 409
    webhook = http.post("/v1/webhooks", content="url: https://hooks.example/x", headers=YAML)
    assert webhook.status_code == 201
    refused = http.post("/v1/webhooks", content="url: 2026-11-30", headers=YAML)
    assert (refused.json()["type"], pointers(refused)) == ("/problems/webhook-invalid", ["/url"])


@pytest.mark.parametrize(
    ("text", "status", "slug"),
    [
        ("a: [1", 400, "not-yaml"),
        ("", 400, "not-yaml"),
        ("[" * 40, 400, "not-yaml"),
        ("a: &a [1,1,1,1,1,1,1,1]\n" + "".join(f"b{n}: &b{n} [{'*a,' * 9}]\n" for n in range(9)), 422, None),
        (
            "a: &a0 x\n" + "".join(f"k{n}: &a{n + 1} [{f'*a{n},' * 9}]\n" for n in range(8)),
            413,
            "body-too-large",
        ),
        ("seed: 2026-11-30", 422, "spec-invalid"),
        ("seed: !!python/object/apply:os.system ['true']", 422, "spec-invalid"),
        ("seed: 1\nseed: 2", 422, "spec-invalid"),
        ("- adamp", 422, "spec-invalid"),
        ("arms: [" + "adamp," * 200 + "]", 422, "spec-invalid"),
    ],
    ids=[
        "cut off",
        "empty",
        "deep",
        "harmless aliases",
        "alias bomb",
        "date",
        "tag",
        "twice",
        "list",
        "200 arms",
    ],
)
def test_yaml_has_the_limits_of_json(http: httpx.Client, text: str, status: int, slug: str | None) -> None:
    answer = http.post("/v1/studies", content=text, headers=YAML)
    assert answer.status_code == status
    assert answer.json()["type"] in {f"/problems/{slug}", "/problems/spec-invalid"}


IN_BRACES = "{workload: digits-mlp, arms: [adamp, adamw], budget: {trials_per_arm: 2}}"


@pytest.mark.parametrize(
    "text", [TEXT, IN_BRACES, f"\ufeff{TEXT}", "\ufeff" + json.dumps({"workload": "x"}), "  {]"]
)
def test_the_form_accepts_yaml_and_json(http: httpx.Client, store: Store, text: str) -> None:
    answer = http.post("/new", data={"spec": text}, headers={"accept": "text/html"})
    is_study = "adamw" in text
    assert answer.status_code == (303 if is_study else 422)
    assert store.studies().total == (1 if is_study else 0)
    if "]" in text and not is_study:
        assert "not valid JSON" in answer.text


def test_a_byte_order_mark_is_skipped(http: httpx.Client, body: Body) -> None:
    for headers in (JSON, YAML):
        answer = http.post("/v1/studies", content=BOM + json.dumps(body).encode(), headers=headers)
        assert answer.status_code == 201


@pytest.mark.parametrize("headers", [JSON, YAML], ids=["JSON", "YAML"])
def test_a_field_that_appears_twice_is_refused_with_its_pointer(http: httpx.Client, headers: Body) -> None:
    text = (
        '{"workload": "digits-mlp", "seed": 1, "arms": ["adamw", {"optimizer": "adamp", '
        '"space": {"lr": 0.1, "a/b": 1, "lr": 0.2, "a/b": 2, "a/b": 3}}], "budget": {"trials_per_arm": 1}, '
        '"seed": 1}'
    )
    answer = http.post("/v1/studies", content=text, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/spec-invalid")
    assert set(pointers(answer)) == {"/seed", "/arms/1/space/lr", "/arms/1/space/a~1b"}


@pytest.mark.parametrize("verb", ["pause", "resume", "stop", "cancel", "confirm", "extend", "clone"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_verb_after_a_slash_is_not_found_with_a_hint(http: httpx.Client, method: str, verb: str) -> None:
    answer = http.request(method, f"/v1/studies/abc23456/{verb}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert f"POST /v1/studies/abc23456:{verb}" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/studies/abc23456/explode", "/v1/webhooks", "/v2/cancel", "/cancel"])
def test_only_verbs_that_exist_are_suggested(http: httpx.Client, path: str) -> None:
    answer = http.post(path)
    assert "did you mean" not in answer.json()["detail"]


def test_the_verbs_of_webhooks_are_suggested_too(http: httpx.Client) -> None:
    for verb in ("test", "enable"):
        detail = http.post(f"/v1/webhooks/abc23456/{verb}").json()["detail"]
        assert f"POST /v1/webhooks/abc23456:{verb}" in detail
