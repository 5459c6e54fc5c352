"""Keep the notes of studies, with every version of them."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of notes, which no study has yet, and the number of the newest."""
    op.add_column("study", sa.Column("notes_version", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "notes",
        sa.Column(
            "study_id",
            sa.String(16),
            sa.ForeignKey("study.id", name="fk_notes_study_id_study", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("author", sa.String(64)),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "version", name="pk_notes"),
    )


def downgrade() -> None:
    """Drop both, with the events and deliveries that an older version cannot read."""
    op.drop_table("notes")
    op.drop_column("study", "notes_version")
    op.execute("DELETE FROM event WHERE kind = 'study.noted'")
    op.execute("DELETE FROM delivery WHERE event = 'study.noted'")
