"""Keep what the check of a workload finds before a study's first trial."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of checked versions, and the column of a study's results."""
    op.add_column("study", sa.Column("check_results", sa.JSON(none_as_null=True)))
    op.create_table(
        "workload_check",
        sa.Column("workload", sa.String(64), nullable=False),
        sa.Column("package", sa.String(255), nullable=False),
        sa.Column("batch_size", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device", sa.String(128), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workload", "package", "batch_size", "device", name="pk_workload_check"),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("workload_check")
    op.drop_column("study", "check_results")
