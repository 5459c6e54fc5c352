"""Retries while the database is away, so that restarting it costs no trial."""

__all__ = ["DatabaseRetry"]

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from studies.errors import StoreUnavailable

T = TypeVar("T")
_WAIT_S = 0.5


class DatabaseRetry:
    """Retries reads and writes while the database is unavailable.

    Attributes:
        outages: how often a call was retried so far.
    """

    def __init__(self, seconds: float) -> None:
        """Retry each call for up to `seconds`."""
        self.outages = 0
        self._retrying = Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            stop=stop_after_delay(seconds),
            wait=wait_fixed(_WAIT_S),
            before_sleep=self._count_outage,
            reraise=True,
        )

    def persist(self, call: Callable[[], T], *, read_back: Callable[[], T] | None = None) -> T:
        """Return what `call` returns; if it was retried, what `read_back` returns.

        A write that was retried may have been committed the first time, with only its answer lost. The second
        time it then changes nothing, so its return value is wrong: `read_back` reads the right one.

        Raises:
            StoreUnavailable: the database was unavailable for too long.
        """
        outages = self.outages
        returned = self._retrying(call)
        if read_back is None or self.outages == outages:
            return returned
        return self._retrying(read_back)

    def _count_outage(self, _state: RetryCallState) -> None:
        self.outages += 1
