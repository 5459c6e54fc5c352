"""Keep the verdicts of closed studies in a phrase."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their table, which the service fills when it has analysed a study."""
    op.create_table(
        "verdict_phrase",
        sa.Column(
            "study_id",
            sa.String(16),
            sa.ForeignKey("study.id", name="fk_verdict_phrase_study_id_study", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("program", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_verdict_phrase"),
    )


def downgrade() -> None:
    """Drop it; they are computed again."""
    op.drop_table("verdict_phrase")
