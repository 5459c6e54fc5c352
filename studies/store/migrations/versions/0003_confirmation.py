"""Distinguish trials of the search from confirmation runs, and give studies a suite and an environment."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; existing studies were submitted without a confirmation, and get none."""
    # Added one by one: recreating the table on SQLite would drop the old one, and every measurement with it.
    op.add_column("trial", sa.Column("phase", sa.String(length=16), server_default="search", nullable=False))
    op.add_column("trial", sa.Column("confirms", sa.Integer(), nullable=True))
    op.drop_index(op.f("ix_trial_study_id_arm_number"), table_name="trial")
    op.create_index(
        op.f("ix_trial_study_id_arm_phase_number"),
        "trial",
        ["study_id", "arm", "phase", "number"],
        unique=True,
    )
    op.add_column("study", sa.Column("environment", sa.JSON(), nullable=True))
    op.add_column("study", sa.Column("suite", sa.String(length=64), nullable=True))
    op.add_column("study", sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_study_suite"), "study", ["suite"], unique=False)
    study = sa.table("study", sa.column("id", sa.String), sa.column("spec", sa.JSON))
    connection = op.get_bind()
    for row in connection.execute(sa.select(study.c.id, study.c.spec)).all():
        spec = {**row.spec, "confirmation": {"seeds": 0, "solo": False}}
        connection.execute(sa.update(study).where(study.c.id == row.id).values(spec=spec))


def downgrade() -> None:
    """Drop the columns, and delete the confirmation runs."""
    trial = sa.table("trial", sa.column("phase", sa.String))
    op.execute(sa.delete(trial).where(trial.c.phase == "confirmation"))
    op.drop_index(op.f("ix_study_suite"), table_name="study")
    op.drop_column("study", "queued_at")
    op.drop_column("study", "suite")
    op.drop_column("study", "environment")
    op.drop_index(op.f("ix_trial_study_id_arm_phase_number"), table_name="trial")
    op.create_index(op.f("ix_trial_study_id_arm_number"), "trial", ["study_id", "arm", "number"], unique=True)
    op.drop_column("trial", "confirms")
    op.drop_column("trial", "phase")
