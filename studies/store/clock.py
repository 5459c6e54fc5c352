"""The database's clock. Leases and heartbeats are compared across machines, whose own clocks differ."""

__all__ = ["now"]

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
