"""Every invalid request gets a problem with a stable type and pointers, and stores nothing."""

import gzip
import json
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
ARM = {"optimizer": "adamp"}
BUDGET = {"trials_per_arm": 2}


def whole(**changed: Any) -> Body:
    return {"workload": "digits-mlp", "arms": ["adamp"], "budget": BUDGET} | changed


def arm(**space: Any) -> Body:
    return whole(arms=[{"optimizer": "adamp", "space": space}])


# The body, the pointer to the fault, and part of its message.
FAULTY_STUDIES: dict[str, tuple[Any, str, str]] = {
    "unknown optimizer": (whole(arms=["adampp"]), "/arms/0/optimizer", "did you mean 'adamp'?"),
    "unknown workload": (whole(workload="digits-mpl"), "/workload", "did you mean 'digits-mlp'?"),
    "unknown hyperparameter": (
        arm(weight_decai=0.1),
        "/arms/0/space/weight_decai",
        "did you mean 'weight_decay'?",
    ),
    "unknown sampler": (whole(sampler="cma-es"), "/sampler", "'cmaes'"),
    "unknown field": (whole(optimizers=["adamp"]), "/optimizers", "workload"),
    "no arms": (whole(arms=[]), "/arms", "at least 1"),
    "two arms of one name": (whole(arms=["adamp", "adamp"]), "/arms", "'adamp'"),
    "low above high": (arm(lr={"low": 1.0, "high": 0.1}), "/arms/0/space/lr", "low < high"),
    "low equal to high": (arm(lr={"low": 0.1, "high": 0.1}), "/arms/0/space/lr", "low < high"),
    "log at 0": (arm(lr={"low": 0, "high": 0.1, "log": True}), "/arms/0/space/lr", "low > 0"),
    "no choices": (arm(lr={"choices": []}), "/arms/0/space/lr/choices", "at least 1"),
    "value outside its bounds": (arm(lr=-1), "/arms/0/space/lr", "-1"),
    "list that is not a pair": (arm(betas=[0.9]), "/arms/0/space/betas", "two numbers"),
    "negative budget": (
        whole(budget={"trials_per_arm": -1}),
        "/budget/trials_per_arm",
        "expected a number above 0",
    ),
    "no budget": ({"workload": "digits-mlp", "arms": ["adamp"]}, "/budget", "required"),
    "budget in words": (whole(budget={"trials_per_arm": "ten"}), "/budget/trials_per_arm", "whole number"),
    "huge integer for a count": (whole(seed=10**30), "/seed", "whole number"),
    "huge integer for a size": (
        whole(budget={"trials_per_arm": 10**400}),
        "/budget/trials_per_arm",
        "finite",
    ),
    "huge integer for a value": (arm(lr=10**400), "/arms/0/space/lr", "finite"),
    "huge number for a value": (arm(lr=1e308), "/arms/0/space", "no configuration"),
    "NUL in a name": (whole(name="a\0b"), "/name", "NUL"),
    "lone surrogate in a name": (whole(name="a\ud800b"), "/name", "surrogate"),
    "lone surrogate in the name of a field": (whole(**{"na\udfffme": 1}), "", "surrogate"),
    "line break in a name": (whole(name="a\nb"), "/name", "matches"),
    "name too long": (whole(name="a" * 201), "/name", "200"),
    "number for a name": (whole(name=1), "/name", "string"),
    "dimension under training": (
        whole(training={"batch_size": {"choices": [8, 1001]}}),
        "/training/batch_size",
        "[1, 1000]",
    ),
    "null for an arm": (whole(arms=[None]), "/arms/0", "object"),
    "array for the whole": ([whole()], "", "expected an object"),
    "text for the whole": ("digits-mlp", "", "expected an object"),
}


@pytest.fixture(autouse=True)
def _nothing_is_stored(store: Store) -> Generator[None]:
    yield
    assert store.studies().total == 0


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Return the problem in a response, after checking the fields that every problem has."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, body["status"], body["type"]) == (status, status, f"/problems/{slug}")
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize("name", FAULTY_STUDIES)
def test_a_faulty_study_is_answered_with_a_pointer_to_its_fault(http: httpx.Client, name: str) -> None:
    body, pointer, words = FAULTY_STUDIES[name]
    answer = http.post("/v1/studies", content=json.dumps(body), headers={"content-type": "application/json"})
    faults = problem(answer, 422, "spec-invalid")["errors"]
    assert [fault["pointer"] for fault in faults] == [pointer]
    assert words in faults[0]["detail"]
    assert {fault["where"] for fault in faults} == {"body"}


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_not_finite_are_refused_with_a_pointer(http: httpx.Client, literal: str) -> None:
    text = json.dumps(arm(lr={"low": 0.1, "high": 0.2})).replace("0.2", literal)
    answer = http.post("/v1/studies", content=text, headers={"content-type": "application/json"})
    faults = problem(answer, 422, "spec-invalid")["errors"]
    assert [fault["pointer"] for fault in faults] == ["/arms/0/space/lr/high"]
    assert "finite" in faults[0]["detail"]


def test_all_faults_are_reported_at_once(http: httpx.Client) -> None:
    body = whole(
        workload="nothing", arms=["adampp", {"optimizer": "adamw", "space": {"lr": -1, "momentum": 0.9}}]
    )
    faults = problem(http.post("/v1/studies", json=body), 422, "spec-invalid")["errors"]
    assert [fault["pointer"] for fault in faults] == [
        "/workload",
        "/arms/0/optimizer",
        "/arms/1/space/momentum",
        "/arms/1/space/lr",
    ]


def test_unknown_names_are_reported_together_with_all_other_faults(http: httpx.Client) -> None:
    arms = [
        "AdamP",
        {"optimizer": "Adam P", "space": {"lr": -1}},
        {"optimizer": "adamw", "space": {"momentum": 0.9, "lr": -1}},
        {"optimizer": "adamp", "spaec": {}, "name": "b"},
        {"optimizer": 5},
    ]
    body = whole(workload="Digits", arms=arms, seed=-1, bugdet={})
    expected = {
        "/workload",
        "/arms/0/optimizer",
        "/arms/1/optimizer",
        "/arms/2/space/momentum",
        "/arms/2/space/lr",
        "/arms/3/spaec",
        "/arms/4/optimizer",
        "/seed",
        "/bugdet",
    }
    faults = problem(http.post("/v1/studies", json=body), 422, "spec-invalid")["errors"]
    found = {fault["pointer"]: fault["detail"] for fault in faults}
    assert set(found) == expected
    assert len(faults) == len(expected)
    for pointer, hint in (
        ("/arms/0/optimizer", "'adamp'"),
        ("/arms/1/optimizer", "'adamp'"),
        ("/arms/3/spaec", "'space'"),
        ("/bugdet", "'budget'"),
    ):
        assert f"did you mean {hint}?" in found[pointer]
    page = http.post("/new", data={"spec": json.dumps(body)}).text
    assert [pointer for pointer in expected if pointer not in page] == []


def test_a_thousand_faults_are_summarised(http: httpx.Client) -> None:
    arms = [{"optimizer": "adamp", **{f"field{n}": n for n in range(50)}} for _ in range(20)]
    body = problem(http.post("/v1/studies", json=whole(arms=arms)), 422, "spec-invalid")
    assert (len(body["errors"]), body["omitted_errors"]) == (100, 900)
    assert body["detail"].endswith("and 995 more")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"{", "line 1, column 2"),
        (b"{'workload': 1}", "line 1, column 2"),
        (b"workload: digits-mlp\narms: [adamp]\n", "line 1, column 1"),
        (b"{}{}", "extra data"),
        (b'{"name": "\xff"}', "UTF-8"),
        (b"\x80\x81", "UTF-8"),
        (b"[" * 500 + b"]" * 500, "32 levels"),
        (b'{"arms": ' * 40 + b"1" + b"}" * 40, "32 levels"),
        (b"[" * 200_000, "32 levels"),
    ],
    ids=[
        "empty",
        "blank",
        "cut off",
        "single quotes",
        "YAML",
        "two values",
        "not UTF-8",
        "binary",
        "500 levels",
        "40 levels",
        "endless",
    ],
)
def test_a_body_that_is_not_valid_json_is_refused_with_the_position(
    http: httpx.Client, text: bytes, words: str
) -> None:
    answer = http.post("/v1/studies", content=text, headers={"content-type": "application/json"})
    assert words in problem(answer, 400, "not-json")["detail"]


@pytest.mark.parametrize(
    "given",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "nonsense",
        None,
    ],
)
def test_a_body_of_another_type_is_refused(http: httpx.Client, body: Body, given: str | None) -> None:
    headers = {} if given is None else {"content-type": given}
    answer = http.post("/v1/studies", content=json.dumps(body).encode(), headers=headers)
    assert "application/json" in problem(answer, 415, "unsupported-media-type")["detail"]


def test_a_compressed_body_is_refused(http: httpx.Client, body: Body) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = http.post("/v1/studies", content=gzip.compress(json.dumps(body).encode()), headers=headers)
    assert "gzip" in problem(answer, 415, "unsupported-media-type")["detail"]


def test_a_body_of_10_megabytes_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/studies", content=b" " * 10_000_000, headers={"content-type": "application/json"})
    problem(answer, 413, "body-too-large")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_of_10_megabytes_is_refused_over_the_wire(live: str, is_chunked: bool) -> None:
    def chunks() -> Generator[bytes]:
        for _ in range(100):
            yield b" " * 100_000

    content = chunks() if is_chunked else b" " * 10_000_000
    with httpx.Client(base_url=live) as client:
        answer = client.post("/v1/studies", content=content, headers={"content-type": "application/json"})
        problem(answer, 413, "body-too-large")
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("size", ["-1", "1e3", "nonsense", "9" * 40])
def test_an_invalid_content_length_is_refused(http: httpx.Client, size: str) -> None:
    answer = http.post(
        "/v1/studies", content=b"{}", headers={"content-type": "application/json", "content-length": size}
    )
    problem(answer, 413, "body-too-large")


PARAMETERS = {
    "page size 0": ("/v1/studies?page_size=0", "/page_size"),
    "page size negative": ("/v1/studies?page_size=-1", "/page_size"),
    "page size huge": ("/v1/studies?page_size=501", "/page_size"),
    "page size beyond 64 bits": (f"/v1/studies?page_size={10**30}", "/page_size"),
    "page size in words": ("/v1/studies?page_size=many", "/page_size"),
    "page token of ours no more": ("/v1/studies?page_token=bm9uc2Vuc2U", "/page_token"),
    "page token too long": (f"/v1/studies?page_token={'a' * 600}", "/page_token"),
    "page token with NUL": ("/v1/studies?page_token=%00", "/page_token"),
    "page token empty": ("/v1/studies?page_token=", "/page_token"),
    "unknown state": ("/v1/studies?state=done", "/state"),
    "workload with a space": ("/v1/studies?workload=a%20b", "/workload"),
    "misspelt parameter": ("/v1/studies?page_sise=1", "/page_sise"),
    "unknown order": ("/v1/studies/{id}/trials?order=best", "/order"),
    "arm with a slash": ("/v1/studies/{id}/trials?arm=a%2Fb", "/arm"),
    "events after less than nothing": ("/v1/studies/{id}/events?after=-1", "/after"),
    "events after 2^63": (f"/v1/studies/{{id}}/events?after={2**63}", "/after"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_faulty_parameter_is_named(http: httpx.Client, name: str) -> None:
    path, pointer = PARAMETERS[name]
    faults = problem(http.get(path.replace("{id}", "abc23456")), 422, "parameter-invalid")["errors"]
    assert [(fault["pointer"], fault["where"]) for fault in faults] == [(pointer, "query")]


@pytest.mark.parametrize(
    ("name", "value"), [("last-event-id", "seven"), ("last-event-id", "-1"), ("last-event-id", str(2**40))]
)
def test_a_faulty_header_is_named(http: httpx.Client, name: str, value: str) -> None:
    faults = problem(
        http.get("/v1/studies/abc23456/events", headers={name: value}), 422, "parameter-invalid"
    )["errors"]
    assert [(fault["pointer"].lower(), fault["where"]) for fault in faults] == [(f"/{name}", "header")]


@pytest.mark.parametrize("key", ["", "a b", "ü".encode().decode("latin-1"), "a" * 129])
def test_a_faulty_idempotency_key_is_refused(http: httpx.Client, body: Body, key: str) -> None:
    answer = http.post("/v1/studies", json=body, headers=[(b"idempotency-key", key.encode("latin-1"))])
    faults = problem(answer, 422, "parameter-invalid")["errors"]
    assert [(fault["pointer"], fault["where"]) for fault in faults] == [("/idempotency-key", "header")]


MISSING = {
    "study": ("/v1/studies/zzzzzzzz", "study-not-found"),
    "study in capitals": ("/v1/studies/ABC", "study-not-found"),
    "study too long": (f"/v1/studies/{'a' * 5000}", "study-not-found"),
    "study with NUL": ("/v1/studies/%00", "study-not-found"),
    "study with a broken letter": ("/v1/studies/%ff%fe", "study-not-found"),
    "study that climbs": ("/v1/studies/..%2f..%2fetc", "not-found"),
    "arms": ("/v1/studies/zzzzzzzz/arms", "study-not-found"),
    "best": ("/v1/studies/zzzzzzzz/best", "study-not-found"),
    "curves": ("/v1/studies/zzzzzzzz/curves", "study-not-found"),
    "trials": ("/v1/studies/zzzzzzzz/trials", "study-not-found"),
    "events": ("/v1/studies/zzzzzzzz/events", "study-not-found"),
    "trial": ("/v1/trials/zzzzzzzz.adamp.0", "trial-not-found"),
    "trial with a huge number": (f"/v1/trials/zzzzzzzz.adamp.{10**30}", "trial-not-found"),
    "trial by number alone": ("/v1/trials/7", "trial-not-found"),
    "measurements": ("/v1/trials/zzzzzzzz.adamp.0/measurements", "trial-not-found"),
    "optimizer": ("/v1/optimizers/adam", "not-found"),
    "optimizer with a quote": ("/v1/optimizers/'", "not-found"),
    "workload": ("/v1/workloads/imagenet", "not-found"),
    "verb": ("POST /v1/studies/abc23456:explode", "not-found"),
    "version": ("/v2/studies", "not-found"),
    "slash at the end": ("/v1/studies/", "not-found"),
    "kind of problem": ("/problems/nothing", "not-found"),
}


@pytest.mark.parametrize("name", MISSING)
def test_unknown_resources_are_not_found(http: httpx.Client, name: str) -> None:
    path, slug = MISSING[name]
    method, _, path = path.rpartition(" ")
    problem(http.request(method or "GET", path), 404, slug)


@pytest.mark.parametrize("verb", ["pause", "resume", "stop", "cancel"])
def test_a_verb_of_an_unknown_study_is_refused(http: httpx.Client, verb: str) -> None:
    problem(http.post(f"/v1/studies/zzzzzzzz:{verb}"), 404, "study-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/studies/abc23456", "GET, HEAD, DELETE"),
        ("PUT", "/v1/studies", "GET, HEAD, POST"),
        ("PATCH", "/v1/studies", "GET, HEAD, POST"),
        ("PUT", "/v1/studies/abc23456:stop", "POST"),
        ("TRACE", "/v1/optimizers", "GET, HEAD"),
        ("POST", "/v1/studies/abc23456/notes", "GET, HEAD, PUT"),
    ],
)
def test_an_unknown_method_is_refused_with_the_allowed_ones(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = http.request(method, path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_names_cannot_contain_c1_control_characters(http: httpx.Client, body: dict[str, Any]) -> None:
    answer = http.post("/v1/studies", json=body | {"name": "a\x9b2Jb"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/name")


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", ("2", "16", "0")),
        ("study=a", ("2", "16", "1")),
        ("&".join(["study=a"] * 100), ("16", "100")),
    ],
)
def test_a_comparison_of_too_few_or_too_many_studies_is_refused_with_the_limit(
    http: httpx.Client, query: str, numbers: tuple[str, ...]
) -> None:
    fault = problem(http.get(f"/v1/comparison?{query}"), 422, "parameter-invalid")["errors"][0]
    assert (fault["pointer"], fault["where"]) == ("/study", "query")
    assert tuple(word for word in fault["detail"].replace(",", "").split() if word.isdecimal()) == numbers


@pytest.mark.parametrize(("arms", "words"), [("sgd", ("list", "'sgd'")), (["adamw"] * 65, ("64", "65"))])
def test_a_list_of_arms_must_be_a_list_of_at_most_64(
    http: httpx.Client, body: dict[str, Any], arms: Any, words: tuple[str, ...]
) -> None:
    (fault,) = problem(http.post("/v1/studies", json=body | {"arms": arms}), 422, "spec-invalid")["errors"]
    assert fault["pointer"] == "/arms"
    assert [word for word in words if word not in fault["detail"]] == []
