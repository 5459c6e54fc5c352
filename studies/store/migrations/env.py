"""Alembic's entry: runs on the connection it is handed, in that connection's transaction."""

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
