"""Keep files of trials: the weights of the best."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of artifacts."""
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("study_id", sa.String(16), nullable=False),
        sa.Column("trial_id", sa.String(96), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("weights_of", sa.String(16), nullable=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_artifact_study_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name="fk_artifact_trial_id", ondelete="CASCADE"),
    )
    op.create_index("ix_artifact_study_id", "artifact", ["study_id"])
    op.create_index("ix_artifact_trial_id", "artifact", ["trial_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("artifact")
