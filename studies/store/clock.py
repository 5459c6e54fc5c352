"""The database's clock. Leases and heartbeats are compared across machines, whose own clocks differ."""

__all__ = ["JumpDetector", "now"]

import threading
import time
from datetime import UTC, datetime

from sqlalchemy import Connection


def now(connection: Connection) -> datetime:
    """Return the current time by PostgreSQL's clock, or by this machine's for SQLite, which has none.

    It is not the time at which the transaction began: callers read the clock after they waited for a lock.
    """
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    moment: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return moment.astimezone(UTC)


# No clock is slewed by so much between two looks at it.
_JUMP_S = 2.0
# Time for every run to renew its lease, which each does twice a second.
_SETTLES_IN_S = 5.0


class JumpDetector:
    """Detects that the database's clock was set forward, or that the machine was suspended.

    All leases have lapsed then, although their runs are alive and are about to renew them.
    """

    def __init__(self) -> None:
        """Make a detector that has not seen the clock yet."""
        self._lock = threading.Lock()
        self._offset_s: float | None = None
        self._jumped_at: float | None = None

    def has_jumped(self, moment: datetime) -> bool:
        """Return whether the clock has jumped forward in the last seconds.

        Args:
            moment: the database's current time.
        """
        with self._lock:
            monotonic_s = time.monotonic()
            offset_s = moment.timestamp() - monotonic_s
            if self._offset_s is not None and offset_s - self._offset_s > _JUMP_S:
                self._jumped_at = monotonic_s
            self._offset_s = offset_s
            return self._jumped_at is not None and monotonic_s - self._jumped_at < _SETTLES_IN_S
