"""The time that counts: the database's.

Leases and signs of life are compared across machines, and their clocks differ.
"""

__all__ = ["now"]

from datetime import UTC, datetime

from sqlalchemy import Connection


def now(connection: Connection) -> datetime:
    """Return the present moment.

    By PostgreSQL's clock, and by this machine's where the database is SQLite, which has no other.

    It is not the moment at which the transaction began: who has waited for a lock asks after that.
    """
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    moment: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return moment.astimezone(UTC)
