"""Fits: what workers have measured of packs on their devices.

The next run need not measure it again.
"""

__all__ = ["read", "remember"]

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from studies.store import clock, tables
from studies.views import StackWidthView

_KEY = ("workload", "optimizer", "batch_size", "device")


def remember(connection: Connection, card: Mapping[str, Any]) -> None:
    """Store a fit in place of the one before; `card` has the fields of `StackWidthView`, but for the time."""
    fit = StackWidthView.model_validate({**card, "measured_at": clock.now(connection)})
    values = {
        "card": fit.model_dump(mode="json", exclude={*_KEY, "measured_at"}),
        "measured_at": fit.measured_at,
    }
    # In one statement: two studies of one workload may measure at once.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    put = insert(tables.fit).values(**fit.model_dump(include=set(_KEY)), **values)
    connection.execute(put.on_conflict_do_update(index_elements=list(_KEY), set_=values))


def read(connection: Connection, workload: str) -> tuple[StackWidthView, ...]:
    """Return all fits of a workload, the newest first."""
    f = tables.fit.c
    rows = connection.execute(
        select(tables.fit)
        .where(f.workload == workload)
        .order_by(f.measured_at.desc(), f.optimizer, f.batch_size, f.device)
    )
    return tuple(
        StackWidthView(**{name: getattr(row, name) for name in _KEY}, **row.card, measured_at=row.measured_at)
        for row in rows
    )
