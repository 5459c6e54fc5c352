"""Archiving and deleting studies.

A study's rows are deleted in one transaction, which leaves a row in the table `deletion`. Whatever lies
elsewhere has the study's id in its name: copies in Optuna's tables, and folders and logs of dispatchers, of
which there may be several on other machines. Each removes what belongs to a study that has such a row, when
it can, and again after a crash.
"""

__all__ = ["contents", "deleted_ids", "newest", "remove", "set_archived"]

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from studies.actors import Actor
from studies.deletion import StudyContents
from studies.errors import IllegalMove
from studies.states import CLOSED_STUDY_STATES, StudyState, allowed_verbs
from studies.store import audit, clock, quotas, submissions, tables
from studies.store.study_queries import study_row

_SUBJECT = 64


def set_archived(
    connection: Connection, study_id: str, *, is_archived: bool, by: Actor, if_version: int | None
) -> None:
    """Archive a closed study, or return it to the list; nothing happens if it is so already.

    Raises:
        StudyNotFound: the study does not exist.
        Unauthenticated, Forbidden, NotOwner: the actor may not change the study.
        VersionConflict: the study changed since `if_version`.
        IllegalMove: the study is open.
    """
    row = submissions.lock_version(connection, study_id, by=by, if_version=if_version)
    _check_closed(row, "archive" if is_archived else "unarchive")
    if (row.archived_at is not None) == is_archived:
        return
    # Caches know a closed study by its version.
    values = {"archived_at": clock.now(connection) if is_archived else None, "version": row.version + 1}
    connection.execute(update(tables.study).where(tables.study.c.id == study_id).values(**values))
    audit.record(connection, by, "archive" if is_archived else "unarchive", study_id=study_id)


def contents(connection: Connection, study_id: str) -> StudyContents:
    """Return what deleting a study would remove.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = study_row(connection, study_id)
    t, m, a, d = (table.c for table in (tables.trial, tables.measurement, tables.artifact, tables.delivery))

    def number(table: Table, *conditions: Any) -> int:
        query = select(func.count()).select_from(table).where(table.c.study_id == study_id, *conditions)
        return connection.execute(query).scalar_one()

    measured = select(func.count()).select_from(tables.measurement.join(tables.trial, t.id == m.trial_id))
    is_kept = a.url.is_not(None)
    size = select(func.sum(a.size)).where(a.study_id == study_id, is_kept)
    s = tables.study.c
    others = select(func.count()).select_from(tables.study).where(s.suite == row.suite, s.id != study_id)
    return StudyContents(
        study_id=study_id,
        name=row.name,
        state=StudyState(row.state),
        trials=number(tables.trial),
        measurements=connection.execute(measured.where(t.study_id == study_id)).scalar_one(),
        outputs=number(tables.pack_output),
        events=number(tables.event),
        notes=row.notes_version,
        artifacts=number(tables.artifact, is_kept),
        artifact_bytes=int(connection.execute(size).scalar_one() or 0),
        copies=number(tables.trial, t.copy_state != 0),
        deliveries=number(tables.delivery),
        pending_deliveries=number(tables.delivery, d.state == "pending"),
        suite=row.suite,
        left_in_suite=0 if row.suite is None else connection.execute(others).scalar_one(),
    )


def remove(connection: Connection, study_id: str, *, by: Actor, if_version: int | None) -> StudyContents:
    """Delete all rows of a closed study, and return what they were.

    Raises:
        StudyNotFound, Unauthenticated, Forbidden, NotOwner, VersionConflict, IllegalMove: as `set_archived`.
    """
    row = submissions.lock_version(connection, study_id, by=by, if_version=if_version)
    _check_closed(row, "delete")
    removed = contents(connection, study_id)
    gpu_s = quotas.gpu_seconds(connection, study_id)
    t = tables.trial.c
    spent = select(func.sum(t.epochs_done), func.sum(t.retries)).where(t.study_id == study_id)
    epochs, retries = connection.execute(spent).one()
    d = tables.delivery.c
    connection.execute(delete(tables.delivery).where(d.study_id == study_id))
    # Everything else of the study refers to this row, and is deleted with it.
    connection.execute(delete(tables.study).where(tables.study.c.id == study_id))
    connection.execute(
        insert(tables.deletion).values(
            study_id=study_id,
            owner=row.owner,
            gpu_s=gpu_s,
            epochs=epochs or 0,
            retries=retries or 0,
            deleted_at=clock.now(connection),
        )
    )
    audit.record(connection, by, "delete", study_id=study_id, subject=row.name[:_SUBJECT])
    return removed


def deleted_ids(connection: Connection, study_ids: Collection[str]) -> frozenset[str]:
    """Return which of these studies were deleted."""
    d = tables.deletion.c
    return frozenset(connection.scalars(select(d.study_id).where(d.study_id.in_(study_ids))))


def newest(connection: Connection) -> datetime | None:
    """Return the time of the newest deletion; None without one."""
    return connection.scalar(select(func.max(tables.deletion.c.deleted_at)))


def _check_closed(row: Any, verb: Literal["archive", "unarchive", "delete"]) -> None:
    state = StudyState(row.state)
    if state not in CLOSED_STUDY_STATES:
        verbs = allowed_verbs(state)
        raise IllegalMove(
            f"cannot {verb} a study that is {state.value}: it must have ended; stop or cancel it first",
            state=state.value,
            allowed=verbs,
        )
