"""Where analyses and figures are worked out: in processes of their own, or in this one's threads.

Python runs one thread of a process at a time. One that computes for a second takes turns from all that answer
requests meanwhile, and each of these needs many turns: a service that computes in its threads is slow for
everybody.
"""

__all__ = ["AnalysisPool", "Job", "ProcessAnalysisPool", "ThreadAnalysisPool", "Timed"]

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from studies.store import Store

_T = TypeVar("_T")
_AT_ONCE = 2
_ATTEMPTS = 2

Job = Callable[[Store], _T]
"""Works something out of a store.

To be done in another process it has to be picklable: a function of a module, or a `partial` of one.
"""


@dataclass(frozen=True)
class Timed(Generic[_T]):
    """What was worked out.

    Attributes:
        value: the result.
        seconds: processor time that it took.
    """

    value: _T
    seconds: float


class AnalysisPool(Protocol):
    """Works things out, two at a time. Safe to share between threads."""

    def run(self, work: Job[_T]) -> Timed[_T]:
        """Return what some work returns; raise what it raises."""
        ...

    def close(self) -> None:
        """End, and with it what is being worked out."""
        ...


def _timed(work: Job[_T], store: Store) -> Timed[_T]:
    began = time.thread_time()
    return Timed(work(store), time.thread_time() - began)


class ThreadAnalysisPool:
    """A workshop in the threads of those who ask.

    For a service that lives in another program, a test's for example.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns = threading.Semaphore(_AT_ONCE)

    def run(self, work: Job[_T]) -> Timed[_T]:
        """Return what some work returns."""
        with self._turns:
            return _timed(work, self._store)

    def close(self) -> None:
        """Nothing is left behind."""


class ProcessAnalysisPool:
    """A workshop in processes of its own, which are started when there is something to do.

    They end with this one however it ends.

    Args:
        database_url: where they read.
        prepare: called in each when it begins; picklable.
    """

    def __init__(self, database_url: str, *, prepare: Callable[[], None] | None = None) -> None:
        self._url = database_url
        self._prepare = prepare
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._is_closed = False

    def run(self, work: Job[_T]) -> Timed[_T]:
        """Return what some work returns; it is done once more where the system has killed its process.

        Raises:
            BrokenProcessPool: that was killed as well, or the workshop is closed.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            pool = self._running()
            try:
                # The executor knows nothing of its function's types.
                return cast("Timed[_T]", pool.submit(_done, work).result())
            except BrokenProcessPool:
                self._drop(pool)
                if attempt == _ATTEMPTS or self._is_closed:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._is_closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            _end(pool)

    def _running(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._is_closed:
                raise BrokenProcessPool("the workshop is closed")
            if self._pool is None:
                # Not forked: a copy of a process with threads may wait for ever for locks that these have
                # held.
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(
                    _AT_ONCE, mp_context=context, initializer=_open, initargs=(self._url, self._prepare)
                )
            return self._pool

    def _drop(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = None
        broken.shutdown(wait=False)


def _end(pool: ProcessPoolExecutor) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        # Nobody waits for what it is about any more.
        child.terminate()


_store: Store | None = None


def _open(database_url: str, prepare: Callable[[], None] | None) -> None:
    """Make this process a workshop's."""
    global _store  # noqa: PLW0603 # a pool hands its tasks nothing else
    # The terminal's Ctrl-C is for the service, which then ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_service, daemon=True).start()
    if prepare is not None:
        prepare()
    _store = Store.open(database_url, migrate=False)


def _end_with_service() -> None:
    service = multiprocessing.parent_process()
    assert service is not None, "a pool's process has one"
    service.join()
    os._exit(0)


def _done(work: Job[Any]) -> Timed[Any]:
    assert _store is not None, "opened when the process began"
    return _timed(work, _store)
