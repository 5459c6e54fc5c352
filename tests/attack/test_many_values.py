"""Bodies, forms and queries with very many values take little memory, however many come at once."""

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from populated_store import AttackTarget
from starlette.types import Message, Receive, Scope, Send

from service.errors import HTTPProblem
from service.middleware import BodyLimit
from service.strict_json import MAX_MEMBERS, read_json

__all__: list[str] = []

JSON = {"content-type": "application/json"}
STUDY: dict[str, Any] = {"workload": "digits-mlp", "arms": ["adamp"], "budget": {"trials_per_arm": 1}}
ALLOWED_MB = 150


def unknown_fields(count: int) -> bytes:
    return json.dumps(STUDY | {f"k{n}": 1 for n in range(count)}, separators=(",", ":")).encode()


def bad_arms(count: int) -> bytes:
    """Return a study of 60 arms with as many unknown fields, each of which is a fault of its own."""
    arm = {"optimizer": "adamp"} | {f"k{n}": 1 for n in range(count // 60 - 2)}
    return json.dumps(STUDY | {"arms": [arm] * 60}).encode()


def bad_choices(count: int) -> bytes:
    """Return a study of 5 arms, 60 hyperparameters and as many choices, each of which is a fault."""
    space = {f"h{n}": {"choices": [None] * (count // 300 - 5)} for n in range(60)}
    return json.dumps(STUDY | {"arms": [{"optimizer": "adamp", "space": space}] * 5}).encode()


def memory_mb(what: str) -> int:
    """Return `VmRSS`, the memory of this process now, or `VmHWM`, its peak."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) // 1024


def peak_mb(attack: Callable[[], None]) -> int:
    """Return by how much the memory of this process, which runs the service, rises during an attack."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory_mb("VmRSS")
    attack()
    return memory_mb("VmHWM") - before


@pytest.mark.parametrize(
    ("body", "clients", "status"),
    [
        (unknown_fields(90_000), 16, 413),
        (b"[" + b"[]," * 340_000 + b"1]", 16, 413),
        (unknown_fields(MAX_MEMBERS - 100), 16, 422),
        (bad_choices(MAX_MEMBERS), 3, 422),
    ],
    ids=["unknown fields", "lists", "as many unknown fields as allowed", "as many bad choices"],
)
def test_clients_that_send_very_many_values_take_little_memory(
    attacked: AttackTarget, body: bytes, clients: int, status: int
) -> None:
    def attack() -> None:
        with attacked.client("alice") as client, ThreadPoolExecutor(clients) as threads:
            answers = list(
                threads.map(lambda _: client.post("/v1/studies", content=body, headers=JSON), range(clients))
            )
        assert {answer.status_code for answer in answers} == {status}

    assert peak_mb(attack) < ALLOWED_MB


@pytest.mark.parametrize(
    "path",
    [
        "/v1/studies",
        "/v1/studies?validate_only=true",
        "/v1/studies/{}:clone",
        "/v1/studies/{}:extend",
        "/v1/studies/{}:confirm",
        "/v1/studies/{}:label",
        "/v1/webhooks",
    ],
)
def test_every_body_has_the_same_limit_of_values(attacked: AttackTarget, path: str) -> None:
    with attacked.client("root") as client:
        for body in (unknown_fields(MAX_MEMBERS), b"[" + b"{}," * MAX_MEMBERS + b"{}]"):
            answer = client.post(path.format(attacked.data.completed[0]), content=body, headers=JSON)
            assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")
        answer = client.post(
            path.format(attacked.data.completed[0]), content=unknown_fields(200), headers=JSON
        )
        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert (fault["pointer"], "203" in fault["detail"]) == ("", True)


def test_the_form_has_the_same_limit_and_its_page_lists_a_hundred_faults(attacked: AttackTarget) -> None:
    with attacked.client("root") as client:
        for body, listed in ((unknown_fields(MAX_MEMBERS), 0), (bad_arms(5_000), 100)):
            page = client.post("/new", data={"spec": body.decode()}, headers={"accept": "text/html"})
            assert page.status_code == 422
            assert page.text.count("unknown field;") == listed


FULL = [[1] * 100] * 100


@pytest.mark.parametrize(
    ("data", "is_refused"),
    [
        ([FULL] * 2, False),
        ([FULL] * 3, True),
        # Commas and brackets in texts are not values.
        (["," * 50_000, "[{" * 50_000, '\\"' * 50_000, '",' * 50_000], False),
        ({'"\\' * 500: "\\" * 1000}, False),
        ([[["\\", '"'] * 50] * 100] * 4, True),
    ],
    ids=["20,000 values", "30,000 values", "separators in texts", "quotes in names", "40,000 texts"],
)
def test_only_fields_and_entries_count_as_values(data: Any, is_refused: bool) -> None:
    if is_refused:
        with pytest.raises(HTTPProblem) as refused:
            read_json(json.dumps(data).encode())
        assert refused.value.status_code == 413
    else:
        assert read_json(json.dumps(data).encode()) == data


@pytest.mark.parametrize("piece", ['"', '\\"', '"\\', "\\", "]", '""', '",', "[]"])
def test_a_malformed_body_of_a_megabyte_is_refused_in_linear_time(piece: str) -> None:
    text = '"' + piece * (1_000_000 // len(piece))
    began = time.process_time()
    with pytest.raises(HTTPProblem) as refused:
        read_json(text.encode())
    assert refused.value.status_code in {400, 413}
    # Quadratic time would be hours.
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize("path", ["/v1/studies", "/v1/studies/{}/trials", "/", "/studies/{}", "/login"])
def test_a_query_of_very_many_parameters_is_refused(attacked: AttackTarget, path: str) -> None:
    query = "&".join(f"p{n}" for n in range(5_000))
    with attacked.client("vera") as client:
        answer = client.get(f"{path.format(attacked.data.completed[0])}?{query}")
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/parameter-invalid")


def test_a_login_form_must_be_small(attacked: AttackTarget) -> None:
    with attacked.client() as client:
        answer = client.post("/login", data={"token": "x" * 20_000})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


def test_large_bodies_wait_for_each_other_and_small_ones_do_not() -> None:
    finished: list[int] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        finished.append(size)

    async def upload(limit: BodyLimit, size: int, *, is_complete: anyio.Event) -> None:
        parts: list[Message] = [{"type": "http.request", "body": b"x" * size, "more_body": True}]

        async def receive() -> Message:
            if parts:
                return parts.pop()
            await is_complete.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            raise AssertionError(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
        await limit(scope, receive, send)

    async def scenario() -> None:
        limit, slow, done = BodyLimit(app, wait_s=0.1), anyio.Event(), anyio.Event()
        done.set()
        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(lambda: upload(limit, 100_000, is_complete=slow))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(HTTPProblem) as refused:
                await upload(limit, 100_000, is_complete=done)
            assert (refused.value.kind.slug, refused.value.headers) == (
                "too-many-bodies",
                {"retry-after": "5"},
            )
            await upload(limit, 60_000, is_complete=done)
            assert finished == [60_000]
            slow.set()
        await upload(limit, 100_000, is_complete=done)
        assert finished == [60_000, *[100_000] * 17]

    anyio.run(scenario)
