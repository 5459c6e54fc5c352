"""Credentials that were accepted recently, so that callers can be told apart without asking the database."""

__all__ = ["RecentCredentials"]

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request


class RecentCredentials:
    """Remembers the credentials of requests as digests. Safe to share between threads.

    Args:
        max_entries: the most credentials that are remembered; the oldest are dropped first.
        trusted_for_s: how long each is remembered.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        max_entries: int,
        trusted_for_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._trusted_for_s = trusted_for_s
        self._clock = clock
        self._lock = threading.Lock()
        self._expires_at: OrderedDict[bytes, float] = OrderedDict()

    def add(self, request: Request) -> None:
        """Remember the credentials of a request that was accepted."""
        with self._lock:
            digest = _digest(request)
            self._expires_at[digest] = self._clock() + self._trusted_for_s
            self._expires_at.move_to_end(digest)
            if len(self._expires_at) > self._max_entries:
                self._expires_at.popitem(last=False)

    def discard(self, request: Request) -> None:
        """Forget the credentials of a request that was refused."""
        with self._lock:
            self._expires_at.pop(_digest(request), None)

    def __contains__(self, request: Request) -> bool:
        """Return whether the credentials of a request were accepted recently."""
        with self._lock:
            return self._expires_at.get(_digest(request), 0.0) > self._clock()


def _digest(request: Request) -> bytes:
    # A digest cannot be replayed by someone who reads the memory of the process.
    credentials = "\0".join(request.headers.get(name, "") for name in ("authorization", "cookie"))
    return hashlib.sha256(credentials.encode("utf-8", "replace")).digest()
