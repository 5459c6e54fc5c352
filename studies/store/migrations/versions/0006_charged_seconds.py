"""Record the wall time that quotas charge for each trial."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; stored trials are charged the training seconds that were recorded for them."""
    op.add_column("trial", sa.Column("charged_s", sa.Float(), server_default="0", nullable=False))
    op.execute("UPDATE trial SET charged_s = cost_s")


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("trial", "charged_s")
