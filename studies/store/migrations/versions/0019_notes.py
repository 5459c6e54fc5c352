"""Keep the notes of studies, with every version of them."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_WEBHOOK = sa.table("webhook", sa.column("id", sa.String), sa.column("events", sa.JSON))
_DELIVERY = sa.table("delivery", sa.column("webhook_id", sa.String))


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
    """Drop both, with all rows that an older version cannot read.

    Labels are audited since the same time as notes. A webhook that reports nothing else is deleted.
    """
    op.drop_table("notes")
    op.drop_column("study", "notes_version")
    op.execute("DELETE FROM event WHERE kind = 'study.noted'")
    op.execute("DELETE FROM delivery WHERE event = 'study.noted'")
    op.execute("DELETE FROM audit WHERE verb IN ('note', 'label')")
    connection = op.get_bind()
    for row in connection.execute(sa.select(_WEBHOOK)).all():
        events = [event for event in row.events if event != "study.noted"]
        is_this = _WEBHOOK.c.id == row.id
        if not events:
            connection.execute(sa.delete(_DELIVERY).where(_DELIVERY.c.webhook_id == row.id))
            connection.execute(sa.delete(_WEBHOOK).where(is_this))
        elif len(events) < len(row.events):
            connection.execute(sa.update(_WEBHOOK).where(is_this).values(events=events))
