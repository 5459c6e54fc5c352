"""Give trials rungs and checkpoints, and store the stack widths that workers measure."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table; existing trials are trained to their last epoch."""
    op.create_table(
        "fit",
        sa.Column("workload", sa.String(length=64), nullable=False),
        sa.Column("optimizer", sa.String(length=64), nullable=False),
        sa.Column("batch_size", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device", sa.String(length=128), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workload", "optimizer", "batch_size", "device", name=op.f("pk_fit")),
    )
    # Added one by one: recreating the table on SQLite would drop the old one, and every measurement with it.
    op.add_column("trial", sa.Column("to_epoch", sa.Integer(), server_default="0", nullable=False))
    op.add_column("trial", sa.Column("bracket", sa.Integer(), server_default="0", nullable=False))
    op.add_column("trial", sa.Column("checkpoint", sa.Text(), nullable=True))
    op.add_column("trial", sa.Column("checkpoint_epoch", sa.Integer(), nullable=True))
    op.add_column("trial", sa.Column("pack_size", sa.Integer(), nullable=True))
    study = sa.table("study", sa.column("id", sa.String), sa.column("resolved", sa.JSON))
    trial = sa.table("trial", sa.column("study_id", sa.String), sa.column("to_epoch", sa.Integer))
    connection = op.get_bind()
    for row in connection.execute(sa.select(study.c.id, study.c.resolved)).all():
        connection.execute(
            sa.update(trial).where(trial.c.study_id == row.id).values(to_epoch=row.resolved["epochs"])
        )


def downgrade() -> None:
    """Drop the columns and the table."""
    for name in ("pack_size", "checkpoint_epoch", "checkpoint", "bracket", "to_epoch"):
        op.drop_column("trial", name)
    op.drop_table("fit")
