"""Keep the end of what workers print while they train."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of packs' output and of the trials that it belongs to."""
    op.create_table(
        "pack_output",
        sa.Column("pack_id", sa.String(32), nullable=False),
        sa.Column("study_id", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("pack_id", name="pk_pack_output"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_pack_output_study_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_pack_output_study_id", "pack_output", ["study_id"])
    op.create_table(
        "trial_output",
        sa.Column("trial_id", sa.String(96), nullable=False),
        sa.Column("pack_id", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("trial_id", name="pk_trial_output"),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["trial.id"], name="fk_trial_output_trial_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["pack_id"], ["pack_output.pack_id"], name="fk_trial_output_pack_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_trial_output_pack_id", "trial_output", ["pack_id"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("trial_output")
    op.drop_table("pack_output")
