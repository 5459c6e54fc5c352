"""Results of checks of workloads, so that one version of a workload that has no errors is checked once."""

__all__ = ["of_workload", "read", "record"]

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from studies.store import clock, tables
from studies.trials import CheckResult, WorkloadVersion
from studies.workload_records import MOST_CHECKS, WorkloadCheck


def record(
    connection: Connection,
    study_id: str,
    results: Sequence[CheckResult],
    *,
    checked: WorkloadVersion | None,
) -> None:
    """Store what the check of a study's workload found.

    Args:
        connection: an open write transaction.
        study_id: the study.
        results: what was found.
        checked: the version that other studies need not check again; None if the check did not end, or
            found an error.
    """
    stored = [
        {name: tables.storable(value) for name, value in asdict(result).items() if value is not None}
        for result in results
    ]
    connection.execute(update(tables.study).where(tables.study.c.id == study_id).values(check_results=stored))
    if checked is None:
        return
    key = asdict(checked)
    values = {"results": stored, "checked_at": clock.now(connection)}
    # In one statement: two studies of the same workload may check it at the same time.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = insert(tables.workload_check).values(**key, **values)
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=values))


def of_workload(connection: Connection, workload: str) -> tuple[WorkloadCheck, ...]:
    """Return the newest checks of the versions of a workload, the newest first."""
    c = tables.workload_check.c
    rows = connection.execute(
        select(tables.workload_check)
        .where(c.workload == workload)
        .order_by(c.checked_at.desc(), c.package, c.batch_size, c.device, c.optimizer, c.budget)
        .limit(MOST_CHECKS)
    )
    return tuple(
        WorkloadCheck(**{name: getattr(row, name) for name in WorkloadCheck.model_fields}) for row in rows
    )


def read(connection: Connection, checked: WorkloadVersion) -> tuple[CheckResult, ...] | None:
    """Return the stored results of a version; None if it has not been checked."""
    c = tables.workload_check.c
    stored = connection.execute(
        select(c.results).where(*(c[name] == value for name, value in asdict(checked).items()))
    ).scalar_one_or_none()
    return None if stored is None else tuple(CheckResult(**result) for result in stored)
