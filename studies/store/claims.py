"""Claims of dispatchers on studies, and the recovery of studies and trials whose run was lost."""

__all__ = [
    "claim_next",
    "has_lapsed_leases",
    "overdue_claims",
    "pending",
    "release",
    "requeue",
    "settle_lapsed_leases",
]

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, select, update

from studies.errors import StudyNotFound
from studies.states import (
    CLOSED_STUDY_STATES,
    StudyMove,
    StudyState,
    TrialMove,
    TrialState,
    move_study,
    move_trial,
)
from studies.store import clock, events, fair_share, submissions, summaries, tables
from studies.store.trial_rows import NO_CHECKPOINT, change_trials, is_waiting, trial_rows
from studies.trials import Claim, PendingTrial
from studies.views import EventKind


def pending(row: Any, **changed: Any) -> PendingTrial:
    """Return a queued trial from its row, with the fields in `changed` replaced."""
    return PendingTrial(
        **{name: changed.get(name, getattr(row, name)) for name in PendingTrial.__dataclass_fields__}
    )


def claim_next(connection: Connection, *, dispatcher: str, lease_s: float) -> Claim | None:
    """Claim the first study in the queue, or return None if the queue is empty."""
    s = tables.study.c
    row = next(
        (
            row
            for each in fair_share.claim_queue(connection)
            if (row := _lock_claimable(connection, each.id)) is not None
        ),
        None,
    )
    if row is None:
        return None
    attempt = row.attempt + 1
    now = clock.now(connection)
    until = now + timedelta(seconds=lease_s)
    claimed = {
        "lease_owner": dispatcher,
        "lease_expires_at": until,
        "attempt": attempt,
        "turn_at": now,
        "machines": None,
        "packs_wanted": None,
    }
    connection.execute(update(tables.study).where(s.id == row.id).values(**claimed))
    submissions.change_state(connection, row, move_study(StudyState(row.state), StudyMove.START), reason=None)
    # Counted in this transaction: were a later read to fail, the study would wait for its lease to lapse.
    return Claim(row.id, attempt, finished_trials=summaries.finished_trials(connection, row.id))


def _lock_claimable(connection: Connection, study_id: str) -> Any:
    """Return a study's row, locked, or None if another dispatcher has claimed it or is about to.

    A study whose lease has lapsed but was not recovered yet cannot be claimed: trials of its run would stay
    running.
    """
    s = tables.study.c
    query = select(tables.study).where(
        s.id == study_id,
        s.state.in_((StudyState.QUEUED.value, StudyState.RUNNING.value)),
        s.lease_expires_at.is_(None),
    )
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none()


def settle_lapsed_leases(connection: Connection) -> None:
    """Recover the studies whose lease has lapsed: requeue their running trials, or close them.

    A study is closed if it was being stopped or cancelled. The lease is withdrawn, so that writes of a run
    that only seemed to be dead are rejected.
    """
    s = tables.study.c
    query = select(tables.study).where(_is_lost(connection)).order_by(s.id)
    for row in connection.execute(query.with_for_update(skip_locked=True)).all():
        connection.execute(
            update(tables.study).where(s.id == row.id).values(lease_owner=None, lease_expires_at=None)
        )
        _recover(connection, row)


def has_lapsed_leases(connection: Connection) -> bool:
    """Return whether any study's lease has lapsed."""
    return bool(connection.execute(select(exists().where(_is_lost(connection)))).scalar_one())


def _is_lost(connection: Connection) -> ColumnElement[bool]:
    """Return the condition that a study's lease has lapsed."""
    s = tables.study.c
    return and_(
        s.state.not_in([state.value for state in CLOSED_STUDY_STATES]),
        s.lease_expires_at < clock.now(connection),
    )


def overdue_claims(
    connection: Connection, claims: Collection[Claim], *, closed_for_s: float
) -> tuple[Claim, ...]:
    """Return the claims whose runs should have ended.

    Either another attempt has the study, or the lease has lapsed and the run's writes are rejected, or the
    study closed more than `closed_for_s` ago, and its run has had the time to clean up, or it was deleted.
    """
    s, now = tables.study.c, clock.now(connection)
    query = select(s.id, s.attempt, s.state, s.lease_expires_at, s.ended_at).where(
        s.id.in_({claim.study_id for claim in claims})
    )
    rows = {row.id: row for row in connection.execute(query)}

    def is_overdue(claim: Claim) -> bool:
        row = rows.get(claim.study_id)
        if row is None:
            # It was deleted.
            return True
        if StudyState(row.state) in CLOSED_STUDY_STATES:
            return now - row.ended_at > timedelta(seconds=closed_for_s)
        return row.attempt != claim.attempt or row.lease_expires_at is None

    return tuple(claim for claim in claims if is_overdue(claim))


def _recover(connection: Connection, row: Any) -> None:
    """Requeue the running trials of a study without a run; close it if it was being stopped or cancelled."""
    if StudyState(row.state) in {StudyState.STOPPING, StudyState.CANCELLING}:
        submissions.close_study(connection, row, StudyMove.FINISH, reason=None)
    else:
        _requeue_in_flight(connection, row)


def _requeue_in_flight(connection: Connection, row: Any) -> None:
    """Requeue the running trials of a study without a run."""
    t = tables.trial.c
    in_flight = connection.execute(
        select(t.id, t.attempt).where(t.study_id == row.id, t.state == TrialState.RUNNING.value)
    ).all()
    requeue(
        connection,
        row.id,
        [(trial.id, trial.attempt) for trial in in_flight],
        reason="its run was lost",
        max_retries=row.spec["max_retries"],
        is_charged=True,
    )


def release(connection: Connection, claim: Claim, *, failure: str | None = None) -> None:
    """Return a study to the queue after its run has ended or, with a `failure`, close it as failed.

    Does nothing if the study is closed or deleted, or another attempt has claimed it.
    """
    try:
        row = events.lock_study(connection, claim.study_id)
    except StudyNotFound:
        return
    if row.attempt != claim.attempt or StudyState(row.state) in CLOSED_STUDY_STATES:
        return
    released = {"lease_owner": None, "lease_expires_at": None, "turn_at": clock.now(connection)}
    connection.execute(update(tables.study).where(tables.study.c.id == claim.study_id).values(**released))
    if failure is not None:
        submissions.close_study(connection, row, StudyMove.FAIL, reason=failure)
    else:
        _recover(connection, row)


def requeue(
    connection: Connection,
    study_id: str,
    trials: Sequence[tuple[str, int]],
    *,
    reason: str,
    max_retries: int,
    is_charged: bool,
    from_start: bool = False,
    charged_s: float = 0.0,
    traceback: str | None = None,
) -> tuple[PendingTrial, ...]:
    """Requeue trials at their next attempt; fail those whose retries are used up. See `RunWriter.requeue`."""
    reason = tables.storable(reason)
    again: list[PendingTrial] = []
    changes: dict[str, dict[str, Any]] = {}
    new_events: list[tuple[EventKind, Mapping[str, Any]]] = []
    rows = trial_rows(connection, study_id, [trial_id for trial_id, _ in trials])
    in_flight = [
        row
        for trial_id, attempt in trials
        if (row := rows.pop(trial_id, None)) is not None and row.attempt == attempt and _is_in_flight(row)
    ]
    cost_s, now = _cost_at_checkpoint(connection, in_flight), clock.now(connection)
    for row in in_flight:
        if is_charged and row.retries >= max_retries:
            why = reason if max_retries == 0 else f"{reason}; given up after {row.retries + 1} attempts"
            after = move_trial(TrialState(row.state), TrialMove.FAIL)
            changes[row.id] = {
                "state": after.value,
                "reason": why,
                "traceback": None if traceback is None else tables.storable(traceback),
                "ended_at": now,
                "charged_s": row.charged_s + charged_s,
                **NO_CHECKPOINT,
            }
            new_events.append(("trial.finished", events.trial_finished(row, after, value=None, reason=why)))
            continue
        # Without a checkpoint the next attempt starts from the first epoch.
        checkpoint, epochs_done = (
            (None, 0) if from_start or row.checkpoint is None else (row.checkpoint, row.checkpoint_epoch)
        )
        changes[row.id] = {
            "state": move_trial(TrialState(row.state), TrialMove.REQUEUE).value,
            "attempt": row.attempt + 1,
            "retries": row.retries + int(is_charged),
            "epochs_done": epochs_done,
            "cost_s": 0.0 if checkpoint is None else cost_s[row.id],
            "charged_s": row.charged_s + charged_s,
            "started_at": None,
            "checkpoint": checkpoint,
            "checkpoint_epoch": None if checkpoint is None else epochs_done,
        }
        again.append(pending(row, attempt=row.attempt + 1, epochs_done=epochs_done, checkpoint=checkpoint))
        new_events.append(("trial.requeued", {"trial": row.id, "attempt": row.attempt + 1, "reason": reason}))
    if again:
        # The next attempt repeats the epochs after the checkpoint and measures them again.
        kept = [{"of_trial": trial.id, "epochs_kept": trial.epochs_done} for trial in again]
        for table in (tables.measurement, tables.layer_measurement):
            repeated = delete(table).where(
                table.c.trial_id == bindparam("of_trial"), table.c.epoch > bindparam("epochs_kept")
            )
            connection.execute(repeated, kept)
    change_trials(connection, changes)
    events.append(connection, study_id, new_events)
    return tuple(again)


def _is_in_flight(row: Any) -> bool:
    """Return whether a trial is running, or queued for a worker and not waiting at a rung."""
    return row.state in {TrialState.QUEUED.value, TrialState.RUNNING.value} and not is_waiting(row)


def _cost_at_checkpoint(connection: Connection, rows: Sequence[Any]) -> dict[str, float]:
    """Return the training seconds of each trial up to its checkpoint, by trial id."""
    m = tables.measurement.c
    found: dict[str, float] = {}
    for epoch in {row.checkpoint_epoch for row in rows if row.checkpoint is not None}:
        ids = [row.id for row in rows if row.checkpoint_epoch == epoch]
        query = select(m.trial_id, m.elapsed_s).where(m.trial_id.in_(ids), m.epoch == epoch)
        found |= {row.trial_id: row.elapsed_s for row in connection.execute(query)}
    return found
