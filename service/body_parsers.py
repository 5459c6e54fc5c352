"""The threads that parse request bodies: few, because parsing a hostile body takes much memory and time."""

__all__ = ["BodyParsers", "body_parsers"]

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

_T = TypeVar("_T")
# Parsing holds the interpreter's lock, so more threads would not be faster.
_THREADS = 2


class BodyParsers:
    """A limit on the bodies that are parsed at once; the others wait their turn."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_THREADS)

    async def run(self, parse: Callable[[], _T]) -> _T:
        """Return the result of `parse`, called in a thread so that the event loop stays free."""
        return await anyio.to_thread.run_sync(parse, limiter=self._limiter)


def body_parsers(request: Request) -> BodyParsers:
    """Return the app's parsers."""
    return request.app.state.body_parsers
