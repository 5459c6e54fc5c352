"""Stack widths that workers have measured on their devices, so that later runs need not measure again."""

__all__ = ["read", "write"]

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from studies.store import clock, tables
from studies.views import StackWidthView

_KEY = ("workload", "optimizer", "batch_size", "device")


def write(connection: Connection, card: Mapping[str, Any]) -> None:
    """Store a measurement, replacing the previous one of the same key.

    Args:
        connection: an open write transaction.
        card: the fields of `StackWidthView` except `measured_at`.
    """
    measured = StackWidthView.model_validate({**card, "measured_at": clock.now(connection)})
    values = {
        "card": measured.model_dump(mode="json", exclude={*_KEY, "measured_at"}),
        "measured_at": measured.measured_at,
    }
    # In one statement: two studies of the same workload may measure at the same time.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = insert(tables.stack_width).values(**measured.model_dump(include=set(_KEY)), **values)
    connection.execute(row.on_conflict_do_update(index_elements=list(_KEY), set_=values))


def read(connection: Connection, workload: str) -> tuple[StackWidthView, ...]:
    """Return all measured stack widths of a workload, the newest first."""
    w = tables.stack_width.c
    rows = connection.execute(
        select(tables.stack_width)
        .where(w.workload == workload)
        .order_by(w.measured_at.desc(), w.optimizer, w.batch_size, w.device)
    )
    return tuple(
        StackWidthView(**{name: getattr(row, name) for name in _KEY}, **row.card, measured_at=row.measured_at)
        for row in rows
    )
