"""Remove the warm-up from studies whose schedule ignored it."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STUDY = sa.table("study", sa.column("id", sa.String), sa.column("spec", sa.JSON))


def upgrade() -> None:
    """Keep `warmup_fraction` only with the one schedule that used it; every study stored one."""
    for study_id, spec in _specs():
        training = spec.get("training", {})
        if training.get("schedule") != "warmup-cosine" and "warmup_fraction" in training:
            kept = {name: value for name, value in training.items() if name != "warmup_fraction"}
            _store(study_id, {**spec, "training": kept})


def downgrade() -> None:
    """Give every study a `warmup_fraction` again."""
    for study_id, spec in _specs():
        training = spec.get("training", {})
        if training and training.get("warmup_fraction") is None:
            _store(study_id, {**spec, "training": {**training, "warmup_fraction": 0.05}})


def _specs() -> list[tuple[str, dict[str, Any]]]:
    rows = op.get_bind().execute(sa.select(_STUDY.c.id, _STUDY.c.spec)).all()
    return [(row.id, row.spec) for row in rows]


def _store(study_id: str, spec: dict[str, Any]) -> None:
    op.get_bind().execute(sa.update(_STUDY).where(_STUDY.c.id == study_id).values(spec=spec))
