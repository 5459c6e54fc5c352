"""Tell checks in epochs and in steps apart, and note when a trial in training was last heard of."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of checked versions anew, so that each is checked again, and add columns of trials."""
    _create_anew(sa.Column("budget", sa.String(16), nullable=False))
    op.add_column("trial", sa.Column("heard_at", sa.DateTime(timezone=True)))
    op.add_column("trial", sa.Column("step", sa.Integer()))


def downgrade() -> None:
    """Create the table without the budgets, and drop the columns."""
    op.drop_column("trial", "step")
    op.drop_column("trial", "heard_at")
    _create_anew()


def _create_anew(*further: sa.Column[str]) -> None:
    op.drop_table("workload_check")
    key = ["workload", "package", "batch_size", "device", "optimizer", *(column.name for column in further)]
    op.create_table(
        "workload_check",
        sa.Column("workload", sa.String(64), nullable=False),
        sa.Column("package", sa.String(255), nullable=False),
        sa.Column("batch_size", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device", sa.String(128), nullable=False),
        sa.Column("optimizer", sa.String(64), nullable=False),
        *further,
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_workload_check"),
    )
