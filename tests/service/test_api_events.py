"""Event streams over real connections: each event once, heartbeats, an end, and no leaks."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.event_streams import EventStreams, StreamSettings, encode_event
from service.settings import ServiceSettings
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.views import EventView

__all__: list[str] = []

Body = dict[str, Any]
Play = Callable[..., str]
ServeApp = Callable[..., AbstractContextManager[str]]
STREAM = {"accept": "text/event-stream"}


@pytest.fixture
def app(settings: ServiceSettings, store: Store, pace: StreamSettings) -> FastAPI:
    return create_app(settings, store, stream_settings=pace)


@pytest.fixture
def url(app: FastAPI, serve_app: ServeApp) -> Generator[str]:
    with serve_app(app) as url:
        yield url


def parsed(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield each event's fields as in the stream; comments have the field name ''."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            yield fields
            fields = {}
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()


def read(url: str, study: str, **headers: str) -> list[dict[str, str]]:
    """Return all events of a stream that ends by itself."""
    given = {**STREAM, **{name.replace("_", "-"): value for name, value in headers.items()}}
    with httpx.stream("GET", f"{url}/v1/studies/{study}/events", headers=given, timeout=10) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        return [fields for fields in parsed(answer.iter_lines()) if "id" in fields]


def test_the_stream_of_a_closed_study_sends_all_events_and_ends(
    url: str, store: Store, body: Body, play: Play
) -> None:
    study = play(body)
    events = read(url, study)
    stored = store.events(study)
    assert (
        [int(event["id"]) for event in events]
        == [event.id for event in stored]
        == list(range(1, len(stored) + 1))
    )
    assert [event["event"] for event in events] == [event.kind for event in stored]
    assert [json.loads(event["data"])["data"] for event in events] == [event.data for event in stored]
    assert json.loads(events[-1]["data"])["data"]["to"] == "completed"


@pytest.mark.parametrize("way", ["header", "query", "both"])
def test_a_reader_continues_after_a_disconnect(url: str, body: Body, play: Play, way: str) -> None:
    study = play(body)
    whole = read(url, study)
    headers = {} if way == "query" else {"last_event_id": "5"}
    # A browser repeats its first URL and adds the header, which is newer.
    query = {"header": "", "query": "?after=5", "both": "?after=2"}[way]
    with httpx.stream(
        "GET",
        f"{url}/v1/studies/{study}/events{query}",
        headers=STREAM | {name.replace("_", "-"): value for name, value in headers.items()},
    ) as answer:
        rest = [fields for fields in parsed(answer.iter_lines()) if "id" in fields]
    assert rest == whole[5:]


def test_a_reader_with_all_events_of_a_closed_study_gets_204(
    url: str, store: Store, body: Body, play: Play
) -> None:
    study = play(body)
    last = store.events(study)[-1].id
    answer = httpx.get(f"{url}/v1/studies/{study}/events", headers={**STREAM, "last-event-id": str(last)})
    assert (answer.status_code, answer.content) == (204, b"")


def test_events_arrive_while_the_study_runs(url: str, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    with httpx.stream("GET", f"{url}/v1/studies/{study}/events", headers=STREAM, timeout=10) as answer:
        events = (fields for fields in parsed(answer.iter_lines()) if "id" in fields)
        assert next(events)["event"] == "study.submitted"
        store.move(study, StudyMove.PAUSE)
        began = time.monotonic()
        assert json.loads(next(events)["data"])["data"]["to"] == "paused"
        assert time.monotonic() - began < 2
        store.move(study, StudyMove.CANCEL)
        assert [
            json.loads(event["data"])["data"]["to"] for event in events if event["event"] == "study.state"
        ] == ["cancelling", "cancelled"]


def test_a_quiet_stream_sends_heartbeats(url: str, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    with httpx.stream("GET", f"{url}/v1/studies/{study}/events", headers=STREAM, timeout=10) as answer:
        comments = (fields for fields in parsed(answer.iter_lines()) if "" in fields)
        assert [next(comments)[""] for _ in range(2)] == ["heartbeat", "heartbeat"]


def test_a_reader_beyond_the_last_event_still_sees_the_study_close(
    url: str, store: Store, body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    with httpx.stream(
        "GET", f"{url}/v1/studies/{study}/events?after=1000", headers=STREAM, timeout=10
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        store.move(study, StudyMove.CANCEL)
        assert not [fields for fields in parsed(lines) if "id" in fields]


def test_a_stream_is_closed_when_its_reader_disconnects(
    app: FastAPI, url: str, store: Store, body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    streams: EventStreams = app.state.streams
    with httpx.Client(timeout=10) as client:
        for _ in range(3):
            with client.stream("GET", f"{url}/v1/studies/{study}/events", headers=STREAM) as answer:
                lines = answer.iter_lines()
                next(lines)
                assert streams.open == 1
            wait_until(lambda: streams.open == 0)


def test_a_reader_that_is_lost_while_events_are_sent_leaves_nothing_in_the_log(
    app: FastAPI,
    url: str,
    store: Store,
    body: Body,
    play: Play,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    study, encode = play(body), encode_event
    host, port = url.removeprefix("http://").split(":")
    reader = socket.create_connection((host, int(port)))
    # Closing resets the connection, as the network does when the reader's machine is gone.
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sent: list[int] = []

    def lose_reader(event: EventView) -> bytes:
        if not sent:
            reader.close()
            # In the event loop, which therefore does not notice the reset before it writes.
            time.sleep(0.1)
        sent.append(event.id)
        return encode(event)

    monkeypatch.setattr("service.event_streams.encode_event", lose_reader)
    head = [f"GET /v1/studies/{study}/events HTTP/1.1", f"Host: {host}", "Accept: text/event-stream"]
    reader.sendall("\r\n".join([*head, "", ""]).encode())
    deadline = time.monotonic() + 10
    while app.state.streams.open or not sent:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(sent) == len(store.events(study)) > 10
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_streams_above_the_limit_are_refused(app: FastAPI, url: str, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    streams: EventStreams = app.state.streams
    streams.limit = 1
    with httpx.stream("GET", f"{url}/v1/studies/{study}/events", headers=STREAM, timeout=10) as answer:
        # Kept referenced, because closing the reader would end its stream.
        lines = answer.iter_lines()
        next(lines)
        refused = httpx.get(f"{url}/v1/studies/{study}/events", headers=STREAM)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/too-many-streams")
        assert (
            httpx.get(f"{url}/v1/studies/{study}/events", headers={"accept": "application/json"}).status_code
            == 200
        )
        del lines
    wait_until(lambda: streams.open == 0)
    with httpx.stream("GET", f"{url}/v1/studies/{study}/events", headers=STREAM, timeout=10) as answer:
        assert answer.status_code == 200


def test_many_readers_see_the_same(url: str, body: Body, store: Store) -> None:
    study = store.submit(parse_spec(body)).id
    seen: list[list[dict[str, str]]] = []
    readers = [threading.Thread(target=lambda: seen.append(read(url, study))) for _ in range(20)]
    for reader in readers:
        reader.start()
    store.move(study, StudyMove.CANCEL)
    for reader in readers:
        reader.join(10)
    assert len(seen) == 20
    assert [int(event["id"]) for event in seen[0]] == [event.id for event in store.events(study)]
    assert all(one == seen[0] for one in seen)


def test_readers_of_the_same_events_share_each_read(
    store: Store, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, events, looks = store.submit(parse_spec(body)).id, store.events, [0]

    def counted(study_id: str, *, after: int, limit: int) -> Any:
        looks[0] += 1
        return events(study_id, after=after, limit=limit)

    monkeypatch.setattr(store, "events", counted)
    streams = EventStreams(settings=StreamSettings(poll_s=0.2, max_poll_s=0.2, heartbeat_s=30.0))
    frames: list[bytes] = []

    async def read() -> None:
        async for frame in streams.frames(store, study, after=0, is_closed=False):
            # Appended one by one, so that the events of a reader that disconnects are kept.
            frames.append(frame)  # noqa: PERF401

    async def main() -> None:
        readers = [asyncio.create_task(read()) for _ in range(30)]
        await asyncio.sleep(1.1)
        # A reader that disconnects does not affect the others.
        readers[0].cancel()
        streams.close()
        await asyncio.gather(*readers, return_exceptions=True)

    asyncio.run(main())
    assert sum(frame.startswith(b"id: 1\n") or b"\nid: 1\n" in frame for frame in frames) == 30
    assert looks[0] < 30


def test_shutdown_ends_all_streams(app: FastAPI, serve_app: ServeApp, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    ended = threading.Event()

    def watch(url: str) -> None:
        with httpx.stream("GET", f"{url}/v1/studies/{study}/events", headers=STREAM, timeout=10) as answer:
            for _ in answer.iter_lines():
                pass
        ended.set()

    with serve_app(app) as url:
        threading.Thread(target=watch, args=(url,), daemon=True).start()
        wait_until(lambda: app.state.streams.open == 1)
        began = time.monotonic()
    assert ended.wait(5)
    assert time.monotonic() - began < 5


def test_events_are_available_as_json(http: httpx.Client, store: Store, body: Body, play: Play) -> None:
    study = play(body)
    path = f"/v1/studies/{study}/events"
    whole = http.get(path, headers={"accept": "application/json"}).json()
    assert [event["id"] for event in whole["items"]] == [event.id for event in store.events(study)]
    assert (whole["after"], whole["is_last"]) == (len(whole["items"]), True)
    first = http.get(path, params={"page_size": 3}, headers={"accept": "application/json"}).json()
    assert ([event["id"] for event in first["items"]], first["after"], first["is_last"]) == (
        [1, 2, 3],
        3,
        False,
    )


def test_an_open_study_has_no_last_event(http: httpx.Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    found = http.get(
        f"/v1/studies/{study}/events", params={"after": 1}, headers={"accept": "application/json"}
    ).json()
    assert found == {"items": [], "after": 1, "is_last": False}


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail after five seconds."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
