"""Keep what each layer of a model measures in confirmation runs and trials of the defaults."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a study's scale-invariant layers, and the tables of its trials' layers."""
    op.add_column("study", sa.Column("scale_invariance", sa.JSON(none_as_null=True)))
    op.create_table(
        "trial_layers",
        sa.Column(
            "trial_id",
            sa.String(96),
            sa.ForeignKey("trial.id", name="fk_trial_layers_trial_id_trial", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("initial_norms", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("trial_id", name="pk_trial_layers"),
    )
    op.create_table(
        "layer_measurement",
        sa.Column(
            "trial_id",
            sa.String(96),
            sa.ForeignKey("trial.id", name="fk_layer_measurement_trial_id_trial", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("measured", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("trial_id", "epoch", name="pk_layer_measurement"),
    )


def downgrade() -> None:
    """Drop all of it."""
    op.drop_table("layer_measurement")
    op.drop_table("trial_layers")
    op.drop_column("study", "scale_invariance")
