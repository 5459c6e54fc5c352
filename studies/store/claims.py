"""Claims: which dispatcher answers for which study, and what becomes of trials whose run was lost."""

__all__ = ["Claim", "PendingTrial", "claim_next", "give_back", "release", "settle_lost"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update

from studies.space import Parameters
from studies.states import CLOSED_STUDY_STATES, StudyMove, StudyState, TrialMove, TrialState, move_study, move_trial
from studies.store import events, submissions, tables
from studies.views import EventKind


@dataclass(frozen=True)
class Claim:
    """A study that a dispatcher now answers for, and the number of this attempt at it."""

    study_id: str
    attempt: int


@dataclass(frozen=True)
class PendingTrial:
    """A trial that waits for a worker."""

    id: str
    arm: str
    number: int
    attempt: int
    parameters: Parameters
    seed: int


def claim_next(connection: Connection, *, dispatcher: str, lease_s: float) -> Claim | None:
    """Claim the study that has waited longest and that no living run works on; None when there is none.

    What runs have left behind is settled first.
    """
    settle_lost(connection)
    s = tables.study.c
    wanted = s.state.in_((StudyState.QUEUED.value, StudyState.RUNNING.value))
    is_free = or_(s.lease_expires_at.is_(None), s.lease_expires_at < datetime.now(UTC))
    query = select(tables.study).where(wanted, is_free).order_by(s.created_at, s.id).limit(1)
    row = connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return None
    attempt = row.attempt + 1
    until = datetime.now(UTC) + timedelta(seconds=lease_s)
    claimed = {"lease_owner": dispatcher, "lease_expires_at": until, "attempt": attempt}
    connection.execute(update(tables.study).where(s.id == row.id).values(**claimed))
    submissions.change_state(connection, row, move_study(StudyState(row.state), StudyMove.START), reason=None)
    return Claim(row.id, attempt)


def settle_lost(connection: Connection) -> None:
    """Settle the studies whose lease has lapsed: trials in flight are queued again, and what was to be stopped or cancelled is closed.

    Nobody holds the lease from here on: a run that only seemed to be dead is refused.
    """
    s = tables.study.c
    is_open = s.state.not_in([state.value for state in CLOSED_STUDY_STATES])
    query = select(tables.study).where(is_open, s.lease_expires_at < datetime.now(UTC)).order_by(s.id)
    for row in connection.execute(query.with_for_update(skip_locked=True)).all():
        connection.execute(update(tables.study).where(s.id == row.id).values(lease_owner=None, lease_expires_at=None))
        _settle(connection, row)


def _settle(connection: Connection, row: Any) -> None:
    """Leave no trial running in a study that has no run, and close it if that is what its owner wants."""
    if StudyState(row.state) in {StudyState.STOPPING, StudyState.CANCELLING}:
        submissions.close_study(connection, row, StudyMove.FINISH, reason=None)
    else:
        _requeue_in_flight(connection, row)


def _requeue_in_flight(connection: Connection, row: Any) -> None:
    """Queue the trials again that a run of this study, which is over, left in flight."""
    t = tables.trial.c
    in_flight = connection.execute(select(t.id, t.attempt).where(t.study_id == row.id, t.state == TrialState.RUNNING.value)).all()
    lost = [(trial.id, trial.attempt) for trial in in_flight]
    give_back(connection, row.id, lost, reason="its run was lost", max_retries=row.spec["max_retries"], is_charged=True)


def release(connection: Connection, claim: Claim, *, failure: str | None = None) -> None:
    """Give a study back after its run has ended: at once to whoever claims next, or as failed for good.

    Does nothing when the study is closed or another attempt has it: a run that closed its own study has nothing left to give.
    """
    row = events.lock_study(connection, claim.study_id)
    if row.attempt != claim.attempt or StudyState(row.state) in CLOSED_STUDY_STATES:
        return
    connection.execute(update(tables.study).where(tables.study.c.id == claim.study_id).values(lease_owner=None, lease_expires_at=None))
    if failure is not None:
        submissions.close_study(connection, row, StudyMove.FAIL, reason=failure)
    else:
        _settle(connection, row)


def give_back(
    connection: Connection, study_id: str, trials: Sequence[tuple[str, int]], *, reason: str, max_retries: int, is_charged: bool
) -> tuple[PendingTrial, ...]:
    """Queue trials again at their next attempt, or fail those whose retries are used up; see `RunWriter.give_back`."""
    t = tables.trial.c
    reason = tables.storable(reason)
    again: list[PendingTrial] = []
    said: list[tuple[EventKind, Mapping[str, Any]]] = []
    for trial_id, attempt in trials:
        row = connection.execute(select(tables.trial).where(t.id == trial_id, t.attempt == attempt)).one_or_none()
        if row is None or row.state not in {TrialState.RUNNING.value, TrialState.QUEUED.value}:
            continue
        if is_charged and row.retries >= max_retries:
            why = reason if max_retries == 0 else f"{reason}; given up after {row.retries + 1} tries"
            values: dict[str, Any] = {"state": move_trial(TrialState(row.state), TrialMove.FAIL).value, "reason": why, "ended_at": datetime.now(UTC)}
            said.append(("trial.finished", events.trial_finished(row, TrialState.FAILED, value=None, reason=why)))
        else:
            # The next attempt starts from nothing, so what the last one measured must not stand beside it.
            connection.execute(delete(tables.measurement).where(tables.measurement.c.trial_id == trial_id))
            values = {
                "state": move_trial(TrialState(row.state), TrialMove.REQUEUE).value,
                "attempt": attempt + 1,
                "retries": row.retries + int(is_charged),
                "epochs_done": 0,
                "cost_s": 0.0,
                "started_at": None,
            }
            again.append(PendingTrial(row.id, row.arm, row.number, attempt + 1, row.parameters, row.seed))
            said.append(("trial.requeued", {"trial": row.id, "attempt": attempt + 1, "reason": reason}))
        connection.execute(update(tables.trial).where(t.id == trial_id).values(**values))
    events.append(connection, study_id, said)
    return tuple(again)
