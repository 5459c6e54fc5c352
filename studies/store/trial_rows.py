"""Reads and writes of many trials' rows at once.

A pack's report, or the decisions at a rung, take a handful of statements, whatever the number of trials.
"""

__all__ = [
    "IN_ORDER",
    "IS_SEARCH",
    "IS_WAITING",
    "NO_CHECKPOINT",
    "change_trials",
    "is_waiting",
    "outcome_columns",
    "trial_id",
    "trial_rows",
]

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, and_, bindparam, select, update

from studies.states import TrialMove, TrialState, move_trial
from studies.store import tables
from studies.trials import NewTrial, Report

NO_CHECKPOINT: Mapping[str, None] = MappingProxyType({"checkpoint": None, "checkpoint_epoch": None})
"""The columns of a trial without a checkpoint."""

_T = tables.trial.c
IS_SEARCH: ColumnElement[bool] = _T.phase == "search"
"""The condition that a trial belongs to a search."""

IS_WAITING: ColumnElement[bool] = and_(
    _T.state == TrialState.QUEUED.value, _T.epochs_done > 0, _T.epochs_done == _T.to_epoch
)
"""The condition that a trial waits at a rung, as `is_waiting` tests it."""

IN_ORDER = (_T.phase.desc(), _T.number)
"""The order of an arm's trials: the search before its confirmation, each by number."""

# Both databases allow at least 32,766 parameters in a statement.
_IDS_AT_ONCE = 1000

_MOVES = {
    "completed": TrialMove.COMPLETE,
    "pruned": TrialMove.PRUNE,
    "diverged": TrialMove.DIVERGE,
    "failed": TrialMove.FAIL,
}


def trial_rows(
    connection: Connection, study_id: str, ids: Iterable[str], *columns: Column[Any]
) -> dict[str, Any]:
    """Return the rows of a study's trials with these ids, by id; ids of other studies are left out.

    Args:
        connection: an open transaction.
        study_id: the study.
        ids: ids of trials.
        columns: the columns to read, `id` among them; all by default.
    """
    t = tables.trial.c
    # Without a condition on the study: SQLite would use its index and scan all of the study's trials.
    query = select(*((*columns, t.study_id) if columns else t))
    wanted = list(ids)
    parts = [wanted[start : start + _IDS_AT_ONCE] for start in range(0, len(wanted), _IDS_AT_ONCE)]
    rows = (row for part in parts for row in connection.execute(query.where(t.id.in_(part))))
    return {row.id: row for row in rows if row.study_id == study_id}


def is_waiting(row: Any) -> bool:
    """Return whether a trial has reached a rung and waits to be promoted or pruned."""
    return row.state == TrialState.QUEUED.value and 0 < row.epochs_done == row.to_epoch


def change_trials(connection: Connection, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Update columns of trials, `{trial id: {column: value}}`, with one statement for each set of columns."""
    alike: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for trial_id, values in changes.items():
        alike[tuple(values)].append(
            {"changed_id": trial_id, **{f"new_{name}": value for name, value in values.items()}}
        )
    for names, rows in alike.items():
        if names:
            change = update(tables.trial).where(tables.trial.c.id == bindparam("changed_id"))
            connection.execute(change.values({name: bindparam(f"new_{name}") for name in names}), rows)


def trial_id(study_id: str, trial: NewTrial) -> str:
    """Return the id of a new trial, which follows from its place in its arm and phase."""
    return f"{study_id}.{trial.arm}.{'c' if trial.phase == 'confirmation' else ''}{trial.number}"


def outcome_columns(report: Report) -> dict[str, Any] | None:
    """Return the columns of a trial that ends with this report, or None if the trial goes on.

    Only a completed trial has a value.
    """
    if report.ended is None:
        return None
    ended, value, reason = report.ended, _finite(report.value), report.reason
    if ended == "completed" and value is None:
        ended, reason = "diverged", reason or "its validation value is not finite"
    is_completed = ended == "completed"
    return {
        "state": move_trial(TrialState.RUNNING, _MOVES[ended]).value,
        "value": value if is_completed else None,
        "best_epoch": report.best_epoch if is_completed else None,
        "test_value": _finite(report.test_value) if is_completed else None,
        "test_metrics": (
            {name: _finite(test) for name, test in report.test_metrics.items()} or None
            if is_completed
            else None
        ),
        "reason": None if reason is None else tables.storable(reason),
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
