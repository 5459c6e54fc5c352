"""Number the pairs of paired trials; the studies stored so far have none."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_STUDY = sa.table("study", sa.column("id", sa.String), sa.column("spec", sa.JSON))


def upgrade() -> None:
    """Add the column of a trial's pair, and say in every spec that its search is not paired."""
    op.add_column("trial", sa.Column("pair_index", sa.Integer()))
    for study_id, spec in _specs():
        replicates = spec.get("budget", {}).get("replicates", 1)
        _store(study_id, {**spec, "search": {"paired": 0, "replicates": replicates, "verdict_at": None}})


def downgrade() -> None:
    """Drop the column, and what specs say of pairs."""
    for study_id, spec in _specs():
        _store(study_id, {name: value for name, value in spec.items() if name != "search"})
    op.drop_column("trial", "pair_index")


def _specs() -> Iterator[tuple[str, dict[str, Any]]]:
    # One at a time: a database may have many large specs.
    for study_id in op.get_bind().execute(sa.select(_STUDY.c.id)).scalars().all():
        spec = op.get_bind().execute(sa.select(_STUDY.c.spec).where(_STUDY.c.id == study_id)).scalar_one()
        yield study_id, spec


def _store(study_id: str, spec: dict[str, Any]) -> None:
    op.get_bind().execute(sa.update(_STUDY).where(_STUDY.c.id == study_id).values(spec=spec))
