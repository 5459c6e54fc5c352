"""Computes analyses and figures in a pool of processes, or in the threads of the callers.

Python runs one thread of a process at a time. A thread that computes for a second delays every thread that
answers requests, so a service that computes in its own threads is slow for all callers.
"""

__all__ = ["AnalysisPool", "Job", "ProcessAnalysisPool", "ThreadAnalysisPool", "Timed"]

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, Protocol, TypeVar, cast

from studies.store import Store

_T = TypeVar("_T")
_WORKERS = 2
_ATTEMPTS = 2

Job = Callable[[Store], _T]
"""Computes a value from a store. For a pool of processes it must be picklable: a function of a module, or a
`partial` of one."""


@dataclass(frozen=True)
class Timed(Generic[_T]):
    """The result of a job.

    Attributes:
        value: the result.
        seconds: the processor time that it took.
        further: other values of a cache that were computed for it, by key.
    """

    value: _T
    seconds: float
    further: Mapping[tuple[str, ...], Any] = field(default_factory=dict[tuple[str, ...], Any])


class AnalysisPool(Protocol):
    """Runs jobs, two at a time. Safe to share between threads."""

    def run(self, job: Job[_T]) -> Timed[_T]:
        """Return the result of a job, or raise its exception."""
        ...

    def close(self) -> None:
        """End the pool and the jobs that are running."""
        ...


def _run_timed(job: Job[_T], store: Store) -> Timed[_T]:
    began = time.thread_time()
    return Timed(job(store), time.thread_time() - began)


class ThreadAnalysisPool:
    """Runs jobs in the threads of the callers, for a service embedded in another program or in a test."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._slots = threading.Semaphore(_WORKERS)

    def run(self, job: Job[_T]) -> Timed[_T]:
        """Return the result of a job."""
        with self._slots:
            return _run_timed(job, self._store)

    def close(self) -> None:
        """Do nothing: the pool has no threads of its own."""


class _SafePath:
    """Lets interpreters that start in a `with` block import nothing from the working directory.

    Otherwise a new interpreter would find multiprocessing itself there first. Python has only this variable
    for it, since multiprocessing starts its programs with the environment and the options of this process.
    """

    _VARIABLE = "PYTHONSAFEPATH"
    _lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._before = os.environ.get(self._VARIABLE)
        os.environ[self._VARIABLE] = "1"

    def __exit__(self, *error: object) -> None:
        if self._before is None:
            del os.environ[self._VARIABLE]
        else:
            os.environ[self._VARIABLE] = self._before
        self._lock.release()


class _SafeProcess(SpawnProcess):
    """A process of a pool."""

    def start(self) -> None:
        """Start a new interpreter."""
        with _SafePath():
            super().start()


class _SafeSpawnContext(SpawnContext):
    """Starts new interpreters: the copy of a process with threads may wait for ever for their locks."""

    Process = _SafeProcess


class ProcessAnalysisPool:
    """Runs jobs in two processes, which start with the first job and end with this process.

    Args:
        database_url: the database that the processes read.
        prepare: called in each process when it starts; picklable.
    """

    def __init__(self, database_url: str, *, prepare: Callable[[], None] | None = None) -> None:
        self._url = database_url
        self._prepare = prepare
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._is_closed = False

    def run(self, job: Job[_T]) -> Timed[_T]:
        """Return the result of a job; run it once more if its process was killed.

        Raises:
            BrokenProcessPool: the second process was killed as well, or the pool is closed.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            pool = self._start()
            try:
                # The executor does not keep the types of its function.
                return cast("Timed[_T]", pool.submit(_run_in_process, job).result())
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
            _terminate(pool)

    def _start(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._is_closed:
                raise BrokenProcessPool("the pool is closed")
            if self._pool is None:
                # The executor's locks start multiprocessing's resource tracker.
                with _SafePath():
                    self._pool = ProcessPoolExecutor(
                        _WORKERS,
                        mp_context=_SafeSpawnContext(),
                        initializer=_init_process,
                        initargs=(self._url, self._prepare),
                    )
            return self._pool

    def _drop(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = None
        broken.shutdown(wait=False)


def _terminate(pool: ProcessPoolExecutor) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        child.terminate()


_store: Store | None = None


def _init_process(database_url: str, prepare: Callable[[], None] | None) -> None:
    """Prepare a process of the pool."""
    global _store  # noqa: PLW0603 # the only way to pass it to the pool's tasks
    # Ctrl-C in the terminal is for the service, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_service, daemon=True).start()
    if prepare is not None:
        prepare()
    _store = Store.open(database_url, migrate=False)


def _exit_with_service() -> None:
    service = multiprocessing.parent_process()
    assert service is not None, "a process of a pool has a parent"
    service.join()
    os._exit(0)


def _run_in_process(job: Job[Any]) -> Timed[Any]:
    assert _store is not None, "opened when the process started"
    return _run_timed(job, _store)
