"""Alembic's entry point: runs the migrations in the transaction of the connection that it is given."""

from alembic import context

from studies.store.database import VERSION_TABLE
from studies.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
