"""Keep the values of a workload's further metrics."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns of further metrics: of epochs on the validation split, of trials on the test split."""
    op.add_column("measurement", sa.Column("metrics", sa.JSON(none_as_null=True)))
    op.add_column("trial", sa.Column("test_metrics", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Drop both columns."""
    op.drop_column("trial", "test_metrics")
    op.drop_column("measurement", "metrics")
