"""Threads for requests that change something, apart from those that read.

A writer may have to wait for another writer's lock. Requests that only read must not wait behind it for a
thread.
"""

__all__ = ["LOCK_WAIT_S", "WriteRoute", "WriteThreads"]

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from studies.errors import StoreUnavailable

LOCK_WAIT_S = 4.0
"""How long the service's store waits for a lock: with the wait for a thread, less than eight seconds."""

_T = TypeVar("_T")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_THREADS = 8
_WAIT_S = 3.0


class WriteThreads:
    """A few threads, for which requests wait a few seconds at most.

    Args:
        count: number of threads.
        wait_s: the longest wait for one of them.
    """

    def __init__(self, *, count: int = _THREADS, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._free = asyncio.Semaphore(count)
        self._limiter: anyio.CapacityLimiter | None = None
        self._count = count

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run work in one of the threads and return its result.

        Raises:
            StoreUnavailable: no thread became free in time, because the database accepts no writes.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"{self._count} changes have waited for the database for {self._wait_s:g} s, and others "
                "cannot begin"
            ) from None
        try:
            self._limiter = self._limiter or anyio.CapacityLimiter(self._count)
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._free.release()


class WriteRoute(APIRoute):
    """A route whose function runs in `app.state.write_threads`, unless it only reads or is asynchronous.

    With `validate_only`, it only reads.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        changes = not _SAFE_METHODS.issuperset(given.get("methods") or {"GET"})
        if changes and not inspect.iscoroutinefunction(endpoint):
            endpoint = _in_write_threads(endpoint)
        super().__init__(path, endpoint, **given)


def _in_write_threads(endpoint: Callable[..., _T]) -> Callable[..., Coroutine[Any, Any, _T]]:
    assert "request" in inspect.signature(endpoint).parameters, "the request leads to the threads"

    @functools.wraps(endpoint)
    async def run(*, request: Request, **values: Any) -> _T:
        work = partial(endpoint, request=request, **values)
        if values.get("validate_only"):
            return await run_in_threadpool(work)
        threads: WriteThreads = request.app.state.write_threads
        return await threads.run(work)

    return run
