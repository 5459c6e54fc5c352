"""Event streams: a study's events as they happen, told to each reader from the store.

There is a bound on how many readers there are.
"""

__all__ = ["EventStreams", "StreamSettings"]

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
    """How often a stream looks and speaks, in seconds.

    Attributes:
        poll_s: between two looks at the store while events come.
        max_poll_s: the same while none come; it grows from the one to the other.
        heartbeat_s: at most so long without a word, for proxies cut off whoever is silent.
        recheck_s: between two looks whether the reader may still read.
    """

    poll_s: float = 0.3
    max_poll_s: float = 2.0
    heartbeat_s: float = 15.0
    recheck_s: float = 10.0


class EventStreams:
    """All open event streams of one service.

    Args:
        pace: how often each looks and speaks.
        limit: at most so many at once; of them a quarter for one token.
    """

    def __init__(self, *, settings: StreamSettings | None = None, limit: int = 200) -> None:
        self.limit = limit
        self._settings = settings or StreamSettings()
        self._open: Counter[str | None] = Counter()
        self._closing = asyncio.Event()
        self._threads: anyio.CapacityLimiter | None = None
        self._looks: dict[tuple[str, int], asyncio.Task[tuple[EventView, ...] | None]] = {}

    @property
    def open(self) -> int:
        """How many readers watch now."""
        return self._open.total()

    def refusal_reason(self, reader: str | None) -> str | None:
        """Return why no further stream is opened for a reader; None where one is.

        Args:
            reader: name of the reader's token; None on an open service, whose readers all look alike.
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
        """End every stream soon, so that the service can; to be called from the event loop.

        Readers come back with the last id they saw.
        """
        self._closing.set()

    @contextmanager
    def count_open(self, reader: str | None) -> Generator[None]:
        """Count a reader's stream as open while it lasts."""
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
        """Yield the events numbered above `after` as server-sent events.

        They go on until the study has closed and its last event is told.

        Args:
            store: where they stand.
            study_id: the study.
            after: number of the last event that the reader has.
            is_closed: whether the study is known to be closed, so that no event can follow those that stand
                there.
            may_read: asked now and then; the stream ends once it says no.
        """
        settings = self._settings
        yield b"retry: 2000\n\n"
        delay_s, said_at, asked_at = settings.poll_s, time.monotonic(), time.monotonic()
        while not self._closing.is_set():
            if time.monotonic() - asked_at >= settings.recheck_s:
                if not await self._is_true(may_read):
                    return
                asked_at = time.monotonic()
            batch = await self._look(store, study_id, after=after)
            for event in batch or ():
                yield encode_event(event)
                after, is_closed = event.id, closes_study(event) if event.kind == "study.state" else is_closed
            if batch:
                delay_s, said_at = settings.poll_s, time.monotonic()
            if batch is not None and is_closed and len(batch) < _BATCH:
                return
            if batch is not None and len(batch) == _BATCH:
                continue
            if time.monotonic() - said_at >= settings.heartbeat_s:
                yield b": heartbeat\n\n"
                said_at = time.monotonic()
                # A reader that asks for what lies beyond the last event would never see the study close.
                is_closed = await self._is_closed(store, study_id)
            with suppress(TimeoutError):
                # On the beat of a common clock, so that readers of one study look together.
                await asyncio.wait_for(
                    self._closing.wait(), min(delay_s - time.monotonic() % delay_s, settings.heartbeat_s)
                )
            delay_s = min(delay_s * 1.5, settings.max_poll_s)

    async def _look(self, store: Store, study_id: str, *, after: int) -> tuple[EventView, ...] | None:
        """Return the next events, or None while the database does not answer.

        Whoever asks for the same meanwhile waits for the same answer.
        """
        key = (study_id, after)
        if key not in self._looks:
            self._looks[key] = asyncio.create_task(self._read(store, study_id, after=after))
            self._looks[key].add_done_callback(lambda _: self._looks.pop(key, None))
        # A reader that goes away takes nothing from the others.
        return await asyncio.shield(self._looks[key])

    async def _read(self, store: Store, study_id: str, *, after: int) -> tuple[EventView, ...] | None:
        # None is nothing that a reader need know of: the database is back soon.
        try:
            return await self._in_thread(lambda: store.events(study_id, after=after, limit=_BATCH))
        except StoreUnavailable:
            return None

    async def _is_true(self, may_read: Callable[[], bool]) -> bool:
        try:
            return await self._in_thread(may_read)
        except StoreUnavailable:
            # Nothing is told meanwhile either.
            return True

    async def _is_closed(self, store: Store, study_id: str) -> bool:
        try:
            return await self._in_thread(lambda: store.state(study_id)) in CLOSED_STUDY_STATES
        except StoreUnavailable:
            return False

    async def _in_thread(self, look: Callable[[], _T]) -> _T:
        # Threads of their own: readers who wait for a slow database must not keep others from being served.
        self._threads = self._threads or anyio.CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(look, limiter=self._threads)


def encode_event(event: EventView) -> bytes:
    """Return an event as it goes over the wire.

    `id`, `event` (its kind) and `data` (the whole event as JSON).
    """
    return format_sse_event(data_str=event.model_dump_json(), event=event.kind, id=str(event.id))


def closes_study(event: EventView) -> bool:
    """Return whether a study is closed after this event: nothing follows, unless it is extended."""
    return event.kind == "study.state" and event.data.get("to") in _CLOSED
