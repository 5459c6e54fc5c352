"""What the Python client accepts as a study, and its immediate errors for arguments that make no request."""

import datetime as dt
import json
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ports import free_port

from service.client import ArgumentInvalid, Client, ProblemError
from service.documents import DocumentInvalid
from studies.errors import SpecInvalid, TangentError
from studies.space import Choices, Fixed
from studies.spec import parse_spec
from studies.states import StudyMove

__all__: list[str] = []

Body = dict[str, Any]


@pytest.fixture
def client(live: str) -> Generator[Client]:
    with Client(live) as client:
        yield client


@pytest.fixture
def nowhere() -> Generator[Client]:
    """A client of a service that does not exist: an error that needs no service comes first."""
    with Client(f"http://127.0.0.1:{free_port()}") as client:
        yield client


def forms(data: Body, folder: Path) -> list[Any]:
    """Return a document in every form that the client accepts."""
    as_json, as_yaml = folder / "s.json", folder / "s.yaml"
    as_json.write_text(json.dumps(data), encoding="utf-8")
    as_yaml.write_text(yaml.safe_dump(data), encoding="utf-8")
    return [data, as_json, str(as_yaml), as_json.read_text(), as_yaml.read_text(), f"\n{json.dumps(data)}"]


def test_a_study_may_be_a_mapping_a_path_or_text(client: Client, body: Body, tmp_path: Path) -> None:
    expected = parse_spec(body)
    for form in (*forms(body, tmp_path), expected):
        assert client.submit(form).spec == expected
        assert client.validate(form) == client.validate(expected)


def test_patches_and_extensions_may_be_paths_and_text_too(
    client: Client, body: Body, tmp_path: Path, play: Callable[..., str]
) -> None:
    study = play(body)
    for form in forms({"seed": 3}, tmp_path):
        assert client.clone(study, form).spec.seed == 3
        assert client.validate_clone(study, form).trials == 6
    for form in forms({"trials_per_arm": 5}, tmp_path):
        assert client.validate_extension(study, form).trials == 10
    assert client.extend(study, tmp_path / "s.yaml").spec.budget.trials_per_arm == 5


def test_numpy_numbers_and_arrays_are_numbers_and_lists(client: Client, body: Body) -> None:
    rates = np.logspace(-4, -1, 4)
    arm = {
        "optimizer": "adamp",
        "space": {
            "lr": {"choices": rates},
            "weight_decay": rates[1],
            "delta": np.float32(0.5),
            "nesterov": np.bool_(True),
            "beta1": np.array(0.5),
        },
    }
    budget = {"trials_per_arm": np.int64(3), "epochs": np.uint8(2)}
    spec = client.submit(body | {"arms": (arm,), "budget": budget, "seed": np.arange(8)[7]}).spec
    space = spec.arms[0].space
    assert (spec.budget.trials_per_arm, spec.budget.epochs, spec.seed) == (3, 2, 7)
    assert space["lr"] == Choices(choices=tuple(rates.tolist()))
    assert [space[name] for name in ("weight_decay", "delta", "nesterov", "beta1")] == [
        Fixed(value=value) for value in (rates[1].item(), 0.5, True, 0.5)
    ]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (float("nan"), ""),
        (np.float64("inf"), ""),
        ({"choices": np.array([0.1, np.nan])}, "/choices/1"),
        ({"low": 0.1, "high": float("inf")}, "/high"),
        ({1, 2}, ""),
        (b"0.1", ""),
        (dt.date(2026, 1, 1), ""),
        (object(), ""),
        ({1: 0.1}, ""),
        ({"choices": [np.array([0.1, None, 1j], dtype=object)]}, "/choices/0/2"),
        ("a\0b", ""),
    ],
)
def test_a_value_that_json_lacks_is_refused_with_a_pointer(
    nowhere: Client, body: Body, value: Any, pointer: str
) -> None:
    study = body | {"arms": ["adamw", {"optimizer": "adamp", "space": {"lr": value}}]}
    for ask in (nowhere.submit, nowhere.validate):
        with pytest.raises(SpecInvalid) as raised:
            ask(study)
        assert [fault.pointer for fault in raised.value.problems] == [f"/arms/1/space/lr{pointer}"]


def test_a_mapping_that_contains_itself_is_refused(nowhere: Client) -> None:
    study: Body = {}
    study["study"] = study
    with pytest.raises(SpecInvalid, match="levels"):
        nowhere.submit(study)


@pytest.mark.parametrize(
    "given", [None, 5, ["adamp"], b"a: 1", object(), "a: 1\n- b", "[1]\n", "no/such.yaml"]
)
def test_what_is_no_study_is_refused_at_once(nowhere: Client, given: Any) -> None:
    for ask in (nowhere.submit, nowhere.validate):
        with pytest.raises(SpecInvalid):
            ask(given)


def test_a_file_that_cannot_be_read_is_named(nowhere: Client, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("workload: x\nname: 2026-01-01", encoding="utf-8")
    for given, found in ((path, ("/name", "line 2")), (tmp_path / "none.yaml", ("", "cannot be read"))):
        with pytest.raises(DocumentInvalid) as raised:
            nowhere.submit(given)
        (fault,) = raised.value.problems
        assert raised.value.source == str(given)
        assert (fault.pointer, fault.message.partition(":")[0]) == found


REQUESTS: dict[str, Callable[[Client], object]] = {
    "empty key": lambda client: client.submit({}, idempotency_key=""),
    "key with a space": lambda client: client.submit({}, idempotency_key="a b"),
    "key with a line break": lambda client: client.submit({}, idempotency_key="a\nb"),
    "key not in ASCII": lambda client: client.submit({}, idempotency_key="ü"),
    "long key": lambda client: client.submit({}, idempotency_key="a" * 129),
    "number as key": lambda client: client.submit({}, idempotency_key=5),  # pyright: ignore[reportArgumentType]
    "key of a clone": lambda client: client.clone("abcdefgh", idempotency_key="a b"),
    "number as id": lambda client: client.study(5),  # pyright: ignore[reportArgumentType]
    "no id": lambda client: next(client.watch(None)),  # pyright: ignore[reportArgumentType]
    "unknown verb": lambda client: client.move("abcdefgh", "explode"),  # pyright: ignore[reportArgumentType]
    "version with a line break": lambda client: client.pause("abcdefgh", if_version="1\n2"),  # pyright: ignore[reportArgumentType]
    "one id to compare": lambda client: client.comparison("abcdefgh"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_an_argument_that_makes_no_request_is_refused_at_once(nowhere: Client, name: str) -> None:
    began = time.monotonic()
    with pytest.raises(ArgumentInvalid) as raised:
        REQUESTS[name](nowhere)
    assert isinstance(raised.value, TangentError)
    assert time.monotonic() - began < 1.0


def test_a_verb_may_be_its_name(client: Client, body: Body) -> None:
    study = client.submit(body)
    assert client.move(study.id, "pause").verbs == client.study(study.id).verbs  # pyright: ignore[reportArgumentType]
    assert client.move(study.id, StudyMove.CANCEL).verbs == ()


def test_seeds_may_be_numpy_numbers_and_a_wrong_one_has_a_pointer(
    client: Client, body: Body, play: Callable[..., str]
) -> None:
    study = play(body)
    assert client.confirm(study, seeds=np.int64(7)).spec.confirmation.seeds == 7  # pyright: ignore[reportArgumentType]
    for wrong, kind in ((float("nan"), SpecInvalid), ("many", ProblemError)):
        with pytest.raises(kind) as raised:
            client.confirm(study, seeds=wrong)  # pyright: ignore[reportArgumentType]
        faults = raised.value.problems if isinstance(raised.value, SpecInvalid) else raised.value.errors  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        assert [fault.pointer for fault in faults] == ["/seeds"]


@pytest.mark.parametrize("token", ["ü", "a\nb", "\x00"])
def test_a_token_that_no_header_can_carry_is_refused(live: str, token: str) -> None:
    with pytest.raises(TangentError, match="token"):
        Client(live, token)
