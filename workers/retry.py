"""Waiting for a database that is away: a restart of it costs no trial."""

__all__ = ["DatabaseRetry"]

import time
from collections.abc import Callable
from typing import TypeVar

from studies.errors import StoreUnavailable

T = TypeVar("T")
_TRY_AGAIN_AFTER_S = 0.5


class DatabaseRetry:
    """Tries writes and reads again while the database is away.

    Attributes:
        outages: how often it was away so far. Of a write that an outage came upon nobody can tell whether it
            took place before it was tried again.
    """

    def __init__(self, seconds: float) -> None:
        """Wait so many seconds, for each write anew."""
        self._seconds = seconds
        self.outages = 0

    def persist(self, write: Callable[[], T]) -> T:
        """Return what a write returns.

        Raises:
            StoreUnavailable: the database was away for longer than was to be waited.
        """
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return write()
            except StoreUnavailable:
                self.outages += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(_TRY_AGAIN_AFTER_S)
