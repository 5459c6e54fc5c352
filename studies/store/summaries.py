"""Cheap reads that lists, event streams and caches make many times a second, without plans and trials."""

__all__ = [
    "best_values",
    "change_stamps",
    "closed_study_stamp",
    "finished_trials",
    "state",
]

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from studies.errors import StudyNotFound
from studies.states import CLOSED_STUDY_STATES, FINISHED_TRIAL_STATES, StudyState, TrialState
from studies.store import tables
from studies.store.progress import ProgressCache
from studies.views import BestValue

_S = tables.study.c
# Built once, because most requests send one of them.
_CLOSED_STAMP = select(
    _S.state,
    _S.version,
    _S.last_event,
    # An arm shows its stack width on a device, which workers of other studies may measure later.
    select(func.max(tables.stack_width.c.measured_at)).scalar_subquery().label("at"),
).where(_S.id == bindparam("study_id"), _S.state.in_(sorted(state.value for state in CLOSED_STUDY_STATES)))
# Nothing that is computed of a study depends on its notes.
_CHANGE_STAMPS = select(
    _S.id, _S.version, (_S.last_event - _S.notes_version).label("events_without_notes"), _S.state
).where(_S.id.in_(bindparam("study_ids", expanding=True)))
_STATE = select(_S.state).where(_S.id == bindparam("study_id"))


def state(connection: Connection, study_id: str) -> StudyState:
    """Return a study's state.

    Raises:
        StudyNotFound: the study does not exist.
    """
    found = connection.execute(_STATE, {"study_id": study_id}).scalar_one_or_none()
    if found is None:
        raise StudyNotFound(study_id)
    return StudyState(found)


def finished_trials(connection: Connection, study_id: str) -> int:
    """Return how many trials of a study's search and its confirmation have ended."""
    t = tables.trial.c
    has_ended = t.state.in_([state.value for state in FINISHED_TRIAL_STATES])
    query = select(func.count()).where(t.study_id == study_id, has_ended)
    return connection.execute(query).scalar_one()


def closed_study_stamp(connection: Connection, study_id: str) -> tuple[int, int, Any] | None:
    """Return a value that changes whenever anything that can be read of a closed study changes.

    None if the study is open or does not exist.
    """
    row = connection.execute(_CLOSED_STAMP, {"study_id": study_id}).one_or_none()
    if row is None or StudyState(row.state) not in CLOSED_STUDY_STATES:
        return None
    return row.version, row.last_event, row.at


def change_stamps(connection: Connection, study_ids: Sequence[str]) -> dict[str, tuple[int, int, bool]]:
    """Return version, number of events without notes and whether it is closed, of each study, by id.

    They change with everything in a study except its notes. A study that does not exist is absent.
    """
    rows = connection.execute(_CHANGE_STAMPS, {"study_ids": list(study_ids)})
    return {
        row.id: (row.version, row.events_without_notes, StudyState(row.state) in CLOSED_STUDY_STATES)
        for row in rows
    }


def best_values(
    connection: Connection, study_ids: Sequence[str], *, cache: ProgressCache
) -> dict[str, tuple[BestValue, ...]]:
    """Return the best validation values of each study's arms, by study id, in the order of the arms.

    An arm without a value and a study that does not exist are absent.
    """
    t, a = tables.trial.c, tables.arm.c

    def count(some: Sequence[Any]) -> dict[str, tuple[BestValue, ...]]:
        ids = [row.id for row in some]
        has_value = (t.phase == "search", t.state == TrialState.COMPLETED.value, t.value.is_not(None))
        grouped = select(t.study_id, t.arm, func.max(t.value).label("most"), func.min(t.value).label("least"))
        of_arms = grouped.where(t.study_id.in_(ids), *has_value).group_by(t.study_id, t.arm).subquery()
        query = select(a.study_id, a.name, a.optimizer, of_arms.c.most, of_arms.c.least)
        query = query.join(of_arms, (of_arms.c.study_id == a.study_id) & (of_arms.c.arm == a.name)).order_by(
            a.study_id, a.position
        )
        found: dict[str, list[BestValue]] = {study_id: [] for study_id in ids}
        for row in connection.execute(query):
            found[row.study_id].append(
                BestValue(arm=row.name, optimizer=row.optimizer, highest=row.most, lowest=row.least)
            )
        return {study_id: tuple(best) for study_id, best in found.items()}

    rows = connection.execute(select(_S.id, _S.state, _S.version).where(_S.id.in_(study_ids))).all()
    return cache.get_or_count("best", rows, count)
