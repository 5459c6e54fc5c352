"""Rate limits: a bucket of requests for each token, and one for each address that shows none.

It refills steadily.

Each service counts for itself, without a word to the database: a limit protects the process that keeps it,
and with several of them a caller may have so many times as much.
"""

__all__ = ["RateLimits"]

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_BURST_S: Final = 4.0
# Of buckets that nobody has taken from for longest the oldest go: they are full again, or nearly so.
_MOST_BUCKETS: Final = 10_000


class RateLimits:
    """Buckets by key. Safe to share between threads."""

    def __init__(self, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Make the buckets, all full.

        Args:
            per_s: requests that each may make in a second, lastingly; four seconds' worth of them at once. 0
                sets no limit.
            clock: seconds that only grow.
        """
        self._per_s = per_s
        self._burst = max(1.0, per_s * _BURST_S)
        self._clock = clock
        self._lock = threading.Lock()
        # What is left in each bucket, and when that was so.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> int:
        """Take a request out of a bucket and return 0.

        Or, when none is left, the whole seconds until there is one.
        """
        if self._per_s <= 0:
            return 0
        with self._lock:
            now = self._clock()
            left, at = self._buckets.pop(key, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._per_s)
            is_free = left >= 1.0
            self._buckets[key] = (left - 1.0 if is_free else left, now)
            while len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        return 0 if is_free else max(1, math.ceil((1.0 - left) / self._per_s))
