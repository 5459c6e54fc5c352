"""The threads that parse request bodies: few, because parsing a hostile body takes much memory and time."""

__all__ = ["BodyParsers", "body_parsers"]

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from fastapi import Request

_T = TypeVar("_T")
# Parsing holds the interpreter's lock, so more threads would not be faster.
_THREADS = 2


class BodyParsers:
    """Two threads; further bodies wait their turn."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="body-parser")

    async def run(self, parse: Callable[[], _T]) -> _T:
        """Return the result of `parse`, called in a thread so that the event loop stays free."""
        call = partial(contextvars.copy_context().run, parse)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def body_parsers(request: Request) -> BodyParsers:
    """Return the app's parsers."""
    return request.app.state.body_parsers
