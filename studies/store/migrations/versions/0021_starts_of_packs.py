"""Keep when the last pack of a trial started, and after which of its epochs."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; of older trials they are not known."""
    op.add_column("trial", sa.Column("pack_started_at", sa.DateTime(timezone=True)))
    op.add_column("trial", sa.Column("pack_epochs", sa.Integer()))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("trial", "pack_epochs")
    op.drop_column("trial", "pack_started_at")
