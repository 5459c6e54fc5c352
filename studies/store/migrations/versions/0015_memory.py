"""Keep the memory that trials have needed."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns of a trial's memory; it is not known of earlier trials."""
    for name in ("memory_bytes", "device_memory_bytes"):
        op.add_column("trial", sa.Column(name, sa.BigInteger()))


def downgrade() -> None:
    """Drop both columns."""
    for name in ("device_memory_bytes", "memory_bytes"):
        op.drop_column("trial", name)
