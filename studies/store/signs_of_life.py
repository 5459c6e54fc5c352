"""When the trials in training were last heard of, and which step they were at."""

__all__ = ["note", "of_report"]

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from studies.states import TrialState
from studies.store import clock, tables
from studies.store.trial_rows import change_trials, trial_rows


def of_report(now: datetime) -> dict[str, Any]:
    """Return the columns of a trial that has just begun, or just reported an epoch."""
    return {"heard_at": now, "step": None}


def note(
    connection: Connection, study_id: str, attempts: Mapping[str, int], steps: Mapping[str, int | None]
) -> None:
    """Store that trials go on, if they are running at these attempts.

    Args:
        connection: an open write transaction.
        study_id: the study.
        attempts: the attempt of each trial by id.
        steps: the steps that some of them have taken since their last epoch, by id.
    """
    t, now = tables.trial.c, clock.now(connection)
    rows = trial_rows(connection, study_id, attempts, t.id, t.state, t.attempt)
    change_trials(
        connection,
        {
            row.id: {"heard_at": now, **({"step": steps[row.id]} if row.id in steps else {})}
            for row in rows.values()
            if row.state == TrialState.RUNNING.value and row.attempt == attempts[row.id]
        },
    )
