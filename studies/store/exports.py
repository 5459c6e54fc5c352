"""Bulk reads, for files that hold a whole study."""

__all__ = ["measurements_of"]

from collections.abc import Sequence

from sqlalchemy import Connection, select

from studies.store import tables
from studies.trials import Measurement

_FIELDS = tuple(Measurement.model_fields)
# SQLite takes 32,766 parameters in a statement, PostgreSQL's driver twice as many.
_MAX_IDS = 10_000


def measurements_of(connection: Connection, trial_ids: Sequence[str]) -> dict[str, tuple[Measurement, ...]]:
    """Return the measurements of these trials in order of their epochs, by trial id.

    A trial without a measurement is absent.
    """
    m = tables.measurement.c
    columns = [m[name] for name in _FIELDS]
    found: dict[str, list[Measurement]] = {}
    for first in range(0, len(trial_ids), _MAX_IDS):
        query = (
            select(m.trial_id, *columns)
            .where(m.trial_id.in_(trial_ids[first : first + _MAX_IDS]))
            .order_by(m.trial_id, m.epoch)
        )
        for trial_id, *values in connection.execute(query):
            found.setdefault(trial_id, []).append(Measurement(**dict(zip(_FIELDS, values, strict=True))))
    return {trial_id: tuple(epochs) for trial_id, epochs in found.items()}
