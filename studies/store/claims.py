"""Claims: which dispatcher answers for which study, and what becomes of trials whose run was lost."""

__all__ = ["Claim", "PendingTrial", "claim_next", "give_back", "release", "trial_finished"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, update

from studies.space import Parameters
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES, StudyMove, StudyState, TrialState, move_study
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

    Trials that the last run left in flight are queued again. A study whose owner has since paused, stopped or cancelled it is settled here
    instead: there is nothing to run.
    """
    while (row := _next_without_run(connection)) is not None:
        claim = _take(connection, row, dispatcher=dispatcher, lease_s=lease_s)
        if claim is not None:
            return claim
    return None


def _next_without_run(connection: Connection) -> Any:
    """Return the oldest study that a claim has to look at, locked, or None; those that another dispatcher looks at just now are passed over."""
    s = tables.study.c
    now = datetime.now(UTC)
    lapsed = or_(s.lease_expires_at.is_(None), s.lease_expires_at < now)
    wanted = (StudyState.QUEUED.value, StudyState.RUNNING.value, StudyState.STOPPING.value, StudyState.CANCELLING.value)
    # A paused study keeps its lease while its last trials drain; one that has lapsed was lost before they ended.
    is_lost_pause = and_(s.state == StudyState.PAUSED.value, s.lease_expires_at.is_not(None))
    query = select(tables.study).where(or_(s.state.in_(wanted), is_lost_pause), lapsed).order_by(s.created_at, s.id).limit(1)
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none()


def _take(connection: Connection, row: Any, *, dispatcher: str, lease_s: float) -> Claim | None:
    """Claim a study that no run works on; one that needs no run any more is settled, and None returned."""
    s = tables.study.c
    state = StudyState(row.state)
    if state in {StudyState.STOPPING, StudyState.CANCELLING}:
        # Its run died before it could close the study; there is nothing left to run.
        submissions.close_study(connection, row, StudyMove.FINISH, reason=None)
        return None
    attempt = row.attempt + 1
    _requeue_in_flight(connection, row)
    if state is StudyState.PAUSED:
        connection.execute(update(tables.study).where(s.id == row.id).values(lease_owner=None, lease_expires_at=None, attempt=attempt))
        return None
    until = datetime.now(UTC) + timedelta(seconds=lease_s)
    claimed = {"lease_owner": dispatcher, "lease_expires_at": until, "attempt": attempt}
    connection.execute(update(tables.study).where(s.id == row.id).values(**claimed))
    submissions.change_state(connection, row, move_study(state, StudyMove.START), reason=None)
    return Claim(row.id, attempt)


def _requeue_in_flight(connection: Connection, row: Any) -> None:
    """Queue the trials again that a run of this study, which is over, left in flight."""
    t = tables.trial.c
    in_flight = connection.execute(select(t.id, t.attempt).where(t.study_id == row.id, t.state == TrialState.RUNNING.value)).all()
    lost = [(trial.id, trial.attempt) for trial in in_flight]
    spec = StudySpec.model_validate(row.spec)
    give_back(connection, row.id, lost, reason="its run was lost", max_retries=spec.max_retries, is_charged=True)


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
        # A paused study is claimed by nobody: what its run left in flight would seem to be running for as long as the pause lasts.
        _requeue_in_flight(connection, row)


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
            values: dict[str, Any] = {"state": TrialState.FAILED.value, "reason": why, "ended_at": datetime.now(UTC)}
            said.append(("trial.finished", trial_finished(row, TrialState.FAILED, value=None, reason=why)))
        else:
            # The next attempt starts from nothing, so what the last one measured must not stand beside it.
            connection.execute(delete(tables.measurement).where(tables.measurement.c.trial_id == trial_id))
            values = {
                "state": TrialState.QUEUED.value,
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


def trial_finished(row: Any, state: TrialState, *, value: float | None, reason: str | None) -> dict[str, Any]:
    """Return the data of a `trial.finished` event."""
    return {"trial": row.id, "arm": row.arm, "number": row.number, "state": state.value, "value": value, "reason": reason}
