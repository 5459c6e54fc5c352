"""Keep the traceback of trials that fail, and the differences between a workload's card and its data."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; they stay empty for stored studies."""
    op.add_column("trial", sa.Column("traceback", sa.Text()))
    op.add_column("study", sa.Column("card_differences", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("study", "card_differences")
    op.drop_column("trial", "traceback")
