"""Give tokens quotas and sessions and studies fair shares of machines, and add an audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and tables; existing tokens get no quotas, existing studies the priority `normal`."""
    # Added one by one: recreating the table on SQLite would drop the old one, and every measurement with it.
    op.add_column("token", sa.Column("max_studies", sa.Integer(), nullable=True))
    op.add_column("token", sa.Column("max_trials", sa.Integer(), nullable=True))
    op.add_column("token", sa.Column("max_gpu_hours", sa.Float(), nullable=True))
    op.add_column("study", sa.Column("turn_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("study", sa.Column("priority", sa.Integer(), server_default="1", nullable=False))
    op.add_column("study", sa.Column("machines", sa.String(length=128), nullable=True))
    op.add_column("study", sa.Column("packs_wanted", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_study_owner_turn_at"), "study", ["owner", "turn_at"], unique=False)
    op.create_table(
        "session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["token"], ["token.name"], name=op.f("fk_session_token"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_expires_at"), "session", ["expires_at"], unique=False)
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=True),
        sa.Column("verb", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.String(length=16), nullable=True),
        sa.Column("subject", sa.String(length=64), nullable=True),
        sa.Column("address", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_actor"), "audit", ["actor"], unique=False)
    op.create_index(op.f("ix_audit_study_id"), "audit", ["study_id"], unique=False)


def downgrade() -> None:
    """Drop the columns and the tables."""
    op.drop_table("audit")
    op.drop_table("session")
    op.drop_index(op.f("ix_study_owner_turn_at"), table_name="study")
    for name in ("packs_wanted", "machines", "priority", "turn_at"):
        op.drop_column("study", name)
    for name in ("max_gpu_hours", "max_trials", "max_studies"):
        op.drop_column("token", name)
