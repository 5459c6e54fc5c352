"""Note when a study was archived, and which studies were deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time, which no study has yet, and the table of deletions."""
    op.add_column("study", sa.Column("archived_at", sa.DateTime(timezone=True)))
    op.create_table(
        "deletion",
        sa.Column("study_id", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("gpu_s", sa.Float(), nullable=False),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_deletion"),
    )
    op.create_index("ix_deletion_owner", "deletion", ["owner"])
    op.create_index("ix_deletion_deleted_at", "deletion", ["deleted_at"])


def downgrade() -> None:
    """Drop both; archived studies are in the list again."""
    op.drop_table("deletion")
    op.drop_column("study", "archived_at")
