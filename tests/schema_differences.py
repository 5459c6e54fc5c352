"""Compares a database's tables with those of the code."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from studies.store.database import VERSION_TABLE, Database
from studies.store.tables import metadata

__all__ = ["differences"]


def differences(database: Database) -> list[object]:
    """Return the differences between the database's tables and the code's."""
    with database.read() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
