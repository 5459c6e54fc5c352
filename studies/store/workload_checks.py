"""Results of checks of workloads, so that one version of a workload is checked once."""

__all__ = ["read", "write"]

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from studies.store import clock, tables
from studies.trials import CheckResult, WorkloadVersion


def write(connection: Connection, checked: WorkloadVersion, results: Sequence[CheckResult]) -> None:
    """Store the results of a check, replacing earlier ones of the same version."""
    key = asdict(checked)
    values = {
        "results": [asdict(result) for result in results],
        "checked_at": clock.now(connection),
    }
    # In one statement: two studies of the same workload may check it at the same time.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = insert(tables.workload_check).values(**key, **values)
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=values))


def read(connection: Connection, checked: WorkloadVersion) -> tuple[CheckResult, ...] | None:
    """Return the stored results of a version; None if it has not been checked."""
    c = tables.workload_check.c
    stored = connection.execute(
        select(c.results).where(*(c[name] == value for name, value in asdict(checked).items()))
    ).scalar_one_or_none()
    return None if stored is None else tuple(CheckResult(**result) for result in stored)
