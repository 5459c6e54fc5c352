"""Tell checks of a workload with different optimizers apart."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of checked versions anew: each is checked again before its next study."""
    _create_anew("optimizer")


def downgrade() -> None:
    """Create the table without the optimizers."""
    _create_anew()


def _create_anew(*further: str) -> None:
    op.drop_table("workload_check")
    key = ["workload", "package", "batch_size", "device", *further]
    op.create_table(
        "workload_check",
        sa.Column("workload", sa.String(64), nullable=False),
        sa.Column("package", sa.String(255), nullable=False),
        sa.Column("batch_size", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device", sa.String(128), nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in further),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_workload_check"),
    )
