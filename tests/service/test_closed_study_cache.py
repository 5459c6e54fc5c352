"""Responses about closed studies are read and written once, and are never stale."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.closed_study_cache import ClosedStudyCache
from studies.extension import Extension
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Play = Callable[..., str]
PARTS = ("", "/arms", "/best", "/curves", "/trials", "/trials?order=value&page_size=2")


@pytest.mark.parametrize("part", PARTS)
def test_a_closed_study_is_read_once(
    http: httpx.Client, store: Store, body: Body, play: Play, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = play(body)
    first = http.get(f"/v1/studies/{study}{part}")
    assert first.status_code == 200
    for name in ("study", "arms", "curves", "trials"):
        monkeypatch.setattr(store, name, None)
    again = http.get(f"/v1/studies/{study}{part}")
    assert again.json() == first.json()
    assert again.headers["content-type"] == "application/json"


def test_a_reopened_study_is_read_again(http: httpx.Client, store: Store, body: Body, play: Play) -> None:
    study = play(body)
    before = http.get(f"/v1/studies/{study}/arms").json()["items"][0]["progress"]
    store.extend(study, Extension(trials_per_arm=body["budget"]["trials_per_arm"] + 3))
    open_again = http.get(f"/v1/studies/{study}/arms").json()["items"][0]["progress"]
    assert open_again["trials"] == before["trials"] + 3
    store.move(study, StudyMove.CANCEL)
    closed_again = http.get(f"/v1/studies/{study}/arms").json()["items"][0]["progress"]
    assert closed_again["trials"] == before["trials"] + 3


def test_a_change_of_another_study_is_seen_in_a_closed_one(
    http: httpx.Client, store: Store, body: Body, play: Play
) -> None:
    study = play(body)
    assert http.get(f"/v1/studies/{study}/arms").json()["items"][0]["fit"] is None
    store.submit(parse_spec(body))
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    batch_size = store.study(study).batch_size
    card = {
        "workload": body["workload"],
        "optimizer": "adamp",
        "batch_size": batch_size,
        "device": "cpu",
        "width": 8,
    }
    store.run_writer(claim, lease_s=60.0).record_stack_width(card)
    found = {arm["name"]: arm["fit"] for arm in http.get(f"/v1/studies/{study}/arms").json()["items"]}
    assert found["adamp"]["width"] == 8


def test_the_cache_is_bounded_by_bytes(store: Store, body: Body, play: Play) -> None:
    study = play(body)
    answers, written = ClosedStudyCache(store, max_bytes=5000), list[int]()

    def answer(n: int) -> bytes:
        def write() -> bytes:
            written.append(n)
            return bytes(100)

        return answers.get_or_write(study, n, write)

    for n in (1, 2, 1, 3, 1, 2):
        assert len(answer(n)) == 100
    # The third entry evicted the second, the least recently used.
    assert written == [1, 2, 3, 2]


def test_an_open_study_is_read_every_time(store: Store, body: Body) -> None:
    study, answers, written = store.submit(parse_spec(body)).id, ClosedStudyCache(store), list[bytes]()
    for _ in range(2):
        answers.get_or_write(study, "any", lambda: written.append(b"") or b"")
    assert len(written) == 2
