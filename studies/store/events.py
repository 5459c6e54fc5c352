"""A study's events, numbered without gaps, so that a reader that lost its connection can resume."""

__all__ = ["append", "lock_study", "place_of", "read_events", "requeue_events", "trial_finished"]

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from studies.errors import StudyNotFound
from studies.states import TrialState
from studies.store import clock, outbox, tables
from studies.views import EventKind, EventView


def lock_study(connection: Connection, study_id: str) -> Any:
    """Return the study's row, locked until the transaction ends (on SQLite the whole database is locked).

    The row lacks `resolved`: every report takes this lock, and reading those cards would be most of its cost.

    Raises:
        StudyNotFound: the study does not exist.
    """
    columns = [column for column in tables.study.c if column.name != "resolved"]
    row = connection.execute(
        select(*columns).where(tables.study.c.id == study_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise StudyNotFound(study_id)
    return row


def append(
    connection: Connection, study_id: str, events: Sequence[tuple[EventKind, Mapping[str, Any]]]
) -> None:
    """Add events to a study, and queue deliveries for the webhooks that ask for them.

    The counter is in the study's own row, so writers of one study wait for each other: a reader never sees
    number 8 before number 7.
    """
    if not events:
        return
    counted = (
        update(tables.study)
        .where(tables.study.c.id == study_id)
        .values(last_event=tables.study.c.last_event + len(events))
        .returning(tables.study.c.last_event)
    )
    last = connection.execute(counted).scalar_one()
    now = clock.now(connection)
    first = last - len(events) + 1
    rows = [
        {"study_id": study_id, "number": first + n, "kind": kind, "at": now, "data": dict(data)}
        for n, (kind, data) in enumerate(events)
    ]
    connection.execute(insert(tables.event), rows)
    outbox.enqueue_events(connection, study_id, rows)


def read_events(connection: Connection, study_id: str, *, after: int, limit: int) -> tuple[EventView, ...]:
    """Return the study's events numbered above `after`, oldest first, at most `limit` of them."""
    query = (
        select(tables.event)
        .where(tables.event.c.study_id == study_id, tables.event.c.number > after)
        .order_by(tables.event.c.number)
        .limit(limit)
    )
    return tuple(
        EventView(id=row.number, kind=row.kind, at=row.at, data=row.data) for row in connection.execute(query)
    )


def requeue_events(connection: Connection, study_id: str, trial_id: str) -> tuple[EventView, ...]:
    """Return the events that say why a trial was requeued, oldest first."""
    e = tables.event.c
    query = select(tables.event).where(e.study_id == study_id, e.kind == "trial.requeued").order_by(e.number)
    # Filtered here: the two databases query JSON differently, and a study has few of these events.
    rows = [row for row in connection.execute(query) if row.data["trial"] == trial_id]
    return tuple(EventView(id=row.number, kind=row.kind, at=row.at, data=row.data) for row in rows)


def place_of(row: Any) -> dict[str, Any]:
    """Return the fields of an event that identify its trial."""
    return {"trial": row.id, "arm": row.arm, "phase": row.phase, "number": row.number}


def trial_finished(row: Any, state: TrialState, *, value: float | None, reason: str | None) -> dict[str, Any]:
    """Return the data of a `trial.finished` event."""
    return {**place_of(row), "state": state.value, "value": value, "reason": reason}
