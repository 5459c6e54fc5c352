"""Suites: studies of several workloads that share a label."""

__all__ = ["set_suite", "study_ids_of_suite", "suites"]

from sqlalchemy import Connection, func, select, update

from studies.actors import Actor
from studies.errors import SuiteNotFound
from studies.store import audit, submissions, tables
from studies.views import SuiteSummary


def suites(connection: Connection) -> tuple[SuiteSummary, ...]:
    """Return all suites, ordered by their newest study, latest first."""
    s = tables.study.c
    workloads: dict[str, set[str]] = {}
    for row in connection.execute(select(s.suite, s.workload).where(s.suite.is_not(None)).distinct()):
        workloads.setdefault(row.suite, set()).add(row.workload)
    last_at = func.max(s.created_at)
    counted = (
        select(s.suite, func.count().label("studies"), last_at.label("last_at"))
        .where(s.suite.is_not(None))
        .group_by(s.suite)
    )
    return tuple(
        SuiteSummary(
            name=row.suite,
            studies=row.studies,
            workloads=tuple(sorted(workloads[row.suite])),
            last_at=row.last_at,
        )
        for row in connection.execute(counted.order_by(last_at.desc(), s.suite))
    )


def set_suite(
    connection: Connection, study_id: str, suite: str | None, *, by: Actor, if_version: int | None
) -> None:
    """Change the suite of a study, in its spec too; nothing happens if it is in it already.

    Raises:
        StudyNotFound: the study does not exist.
        Unauthenticated, Forbidden, NotOwner: the actor may not change the study.
        VersionConflict: the study changed since `if_version`.
    """
    row = submissions.lock_version(connection, study_id, by=by, if_version=if_version)
    if row.suite == suite:
        return
    # Caches know a closed study by its version.
    values = {"suite": suite, "spec": {**row.spec, "suite": suite}, "version": row.version + 1}
    connection.execute(update(tables.study).where(tables.study.c.id == study_id).values(**values))
    audit.record(connection, by, "label", study_id=study_id, subject=suite)


def study_ids_of_suite(connection: Connection, suite: str) -> tuple[str, ...]:
    """Return the ids of a suite's studies, oldest first.

    Raises:
        SuiteNotFound: no study has this label.
    """
    s = tables.study.c
    found = tuple(
        connection.execute(select(s.id).where(s.suite == suite).order_by(s.created_at, s.id)).scalars()
    )
    if not found:
        raise SuiteNotFound(suite)
    return found
