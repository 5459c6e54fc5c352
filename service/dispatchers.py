"""Which dispatchers live: those that were heard of a moment ago."""

__all__ = ["alive"]

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

_HEARD_WITHIN: Final = timedelta(seconds=30)


def alive(dispatchers: Mapping[str, datetime], *, now: datetime | None = None) -> int:
    """Return how many dispatchers were heard of in the last 30 seconds.

    Args:
        dispatchers: when each was heard of last.
        now: by default the present moment.
    """
    moment = now or datetime.now(UTC)
    return sum(moment - seen < _HEARD_WITHIN for seen in dispatchers.values())
