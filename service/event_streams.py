"""Event streams: a study's events, read from the store as they happen, for a bounded number of readers."""

__all__ = ["EventStreams", "StreamSettings", "encode_event"]

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi.sse import format_sse_event

from studies.errors import StoreUnavailable
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store
from studies.views import EventView

_BATCH = 500
_THREADS = 8
_CLOSED = frozenset(state.value for state in CLOSED_STUDY_STATES)
_T = TypeVar("_T")


@dataclass(frozen=True)
class StreamSettings:
    """The intervals of a stream, in seconds.

    Attributes:
        poll_s: between two reads of the store while events come.
        max_poll_s: the same without events; the interval grows from `poll_s` to this.
        heartbeat_s: the longest silence, because proxies close silent connections.
        recheck_s: between two checks whether the reader is still authorized.
    """

    poll_s: float = 0.3
    max_poll_s: float = 2.0
    heartbeat_s: float = 15.0
    recheck_s: float = 10.0


class EventStreams:
    """All open event streams of one service.

    Args:
        settings: the intervals of each.
        limit: the most streams at once; one token gets a quarter of them.
    """

    def __init__(self, *, settings: StreamSettings | None = None, limit: int = 200) -> None:
        self.limit = limit
        self._settings = settings or StreamSettings()
        self._open: Counter[str | None] = Counter()
        self._closing = asyncio.Event()
        self._threads: anyio.CapacityLimiter | None = None
        self._reads: dict[tuple[str, int], asyncio.Task[tuple[EventView, ...] | None]] = {}

    @property
    def open(self) -> int:
        """The number of open streams."""
        return self._open.total()

    def refusal_reason(self, reader: str | None) -> str | None:
        """Return why a reader may not open another stream; None if they may.

        Args:
            reader: name of the reader's token; None on an open service, which cannot tell readers apart.
        """
        if self.open >= self.limit:
            return f"{self.open} event streams are open already"
        own = self._open[reader]
        return (
            f"{own} event streams of token {reader!r} are open already"
            if reader is not None and own >= max(1, self.limit // 4)
            else None
        )

    def close(self) -> None:
        """End every stream, so that the service can shut down. Call it from the event loop.

        Readers reconnect with the last id they received.
        """
        self._closing.set()

    @contextmanager
    def count_open(self, reader: str | None) -> Generator[None]:
        """Count a reader's stream as open within the context."""
        self._open[reader] += 1
        try:
            yield
        finally:
            self._open -= Counter([reader])

    async def frames(
        self,
        store: Store,
        study_id: str,
        *,
        after: int,
        is_closed: bool,
        may_read: Callable[[], bool] = lambda: True,
    ) -> AsyncIterator[bytes]:
        """Yield the events numbered above `after` as server-sent events, until a closed study's last event.

        Args:
            store: the store.
            study_id: the study.
            after: number of the last event that the reader has.
            is_closed: whether the study is known to be closed, so that no further events can follow.
            may_read: whether the reader is still authorized; checked regularly, and False ends the stream.
        """
        settings = self._settings
        yield b"retry: 2000\n\n"
        delay_s, sent_at, checked_at = settings.poll_s, time.monotonic(), time.monotonic()
        while not self._closing.is_set():
            if time.monotonic() - checked_at >= settings.recheck_s:
                if not await self._is_true(may_read):
                    return
                checked_at = time.monotonic()
            batch = await self._read_shared(store, study_id, after=after)
            for event in batch or ():
                after, is_closed = event.id, closes_study(event) if event.kind == "study.state" else is_closed
            if batch:
                # In one piece: between two writes without a pause the server cannot notice that the reader
                # has gone, and asyncio would log each write after that.
                yield b"".join(map(encode_event, batch))
                delay_s, sent_at = settings.poll_s, time.monotonic()
            if batch is not None and is_closed and len(batch) < _BATCH:
                return
            if batch is not None and len(batch) == _BATCH:
                continue
            if time.monotonic() - sent_at >= settings.heartbeat_s:
                yield b": heartbeat\n\n"
                sent_at = time.monotonic()
                # A reader with an `after` beyond the last event would never see the study close.
                is_closed = await self._is_closed(store, study_id)
            with suppress(TimeoutError):
                # At multiples of the interval, so that readers of a study share each read of the store.
                await asyncio.wait_for(
                    self._closing.wait(), min(delay_s - time.monotonic() % delay_s, settings.heartbeat_s)
                )
            delay_s = min(delay_s * 1.5, settings.max_poll_s)

    async def _read_shared(self, store: Store, study_id: str, *, after: int) -> tuple[EventView, ...] | None:
        """Return the next events, or None while the database does not answer.

        Concurrent readers of the same events share one read.
        """
        key = (study_id, after)
        if key not in self._reads:
            self._reads[key] = asyncio.create_task(self._read(store, study_id, after=after))
            self._reads[key].add_done_callback(lambda _: self._reads.pop(key, None))
        # Shielded: a reader that disconnects must not cancel the read of the others.
        return await asyncio.shield(self._reads[key])

    async def _read(self, store: Store, study_id: str, *, after: int) -> tuple[EventView, ...] | None:
        # The reader is not told: the database may soon be back.
        try:
            return await self._in_thread(lambda: store.events(study_id, after=after, limit=_BATCH))
        except StoreUnavailable:
            return None

    async def _is_true(self, may_read: Callable[[], bool]) -> bool:
        try:
            return await self._in_thread(may_read)
        except StoreUnavailable:
            # No events are sent meanwhile either.
            return True

    async def _is_closed(self, store: Store, study_id: str) -> bool:
        try:
            return await self._in_thread(lambda: store.state(study_id)) in CLOSED_STUDY_STATES
        except StoreUnavailable:
            return False

    async def _in_thread(self, look: Callable[[], _T]) -> _T:
        # Its own threads: streams that wait for a slow database must not delay requests.
        self._threads = self._threads or anyio.CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(look, limiter=self._threads)


def encode_event(event: EventView) -> bytes:
    """Return an event as a server-sent event: `id`, `event` (its kind) and `data` (the event as JSON)."""
    return format_sse_event(data_str=event.model_dump_json(), event=event.kind, id=str(event.id))


def closes_study(event: EventView) -> bool:
    """Return whether an event closes its study.

    Unless the study is extended, only changes of its notes follow.
    """
    return event.kind == "study.state" and event.data.get("to") in _CLOSED
