"""Rate limits: token buckets, one for each API token and one for each address that sends no valid token.

Each service counts for itself, without the database: a limit protects the process that enforces it. With
several services on one database, a caller may make that many times the requests.
"""

__all__ = ["RateLimits"]

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_BURST_S: Final = 4.0
# The buckets unused for longest are dropped first: they are full again, or nearly.
_MAX_BUCKETS: Final = 10_000


class RateLimits:
    """Buckets by key. Safe to share between threads."""

    def __init__(self, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the limits; every bucket starts full.

        Args:
            per_s: sustained requests per second of each key, with bursts of four seconds' worth. 0 sets no
                limit.
            clock: a monotonic clock, in seconds.
        """
        self._per_s = per_s
        self._burst = max(1.0, per_s * _BURST_S)
        self._clock = clock
        self._lock = threading.Lock()
        # Requests left in each bucket, and when that was so.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> int:
        """Take a request from a bucket and return 0, or return the whole seconds until one is left."""
        if self._per_s <= 0:
            return 0
        with self._lock:
            now = self._clock()
            left = self._left(key, now)
            wait_s = self._wait_s(left)
            self._buckets[key] = (left if wait_s else left - 1.0, now)
            self._buckets.move_to_end(key)
            while len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        return wait_s

    def wait_s(self, key: str) -> int:
        """Return the whole seconds until a request is left in a bucket, 0 if there is one; take none."""
        if self._per_s <= 0:
            return 0
        with self._lock:
            return self._wait_s(self._left(key, self._clock()))

    def _left(self, key: str, now: float) -> float:
        left, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, left + (now - at) * self._per_s)

    def _wait_s(self, left: float) -> int:
        return 0 if left >= 1.0 else max(1, math.ceil((1.0 - left) / self._per_s))
