"""Claims: which dispatcher answers for which study, and what becomes of trials whose run was lost."""

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
    """Return a trial's row, after `changed`, as one that is queued."""
    return PendingTrial(
        **{name: changed.get(name, getattr(row, name)) for name in PendingTrial.__dataclass_fields__}
    )


def claim_next(connection: Connection, *, dispatcher: str, lease_s: float) -> Claim | None:
    """Claim the study whose turn it is, of those that no living run works on; None when there is none.

    What runs have left behind is settled first.
    """
    settle_lapsed_leases(connection)
    s = tables.study.c
    row = next(
        (
            row
            for each in fair_share.waiting(connection)
            if (row := _lock_free(connection, each.id)) is not None
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


def _lock_free(connection: Connection, study_id: str) -> Any:
    """Return a study's row, locked, where it still can be claimed.

    None where another dispatcher has it, or is taking it just now.

    A lease that has lapsed since the others were settled, or could not be then, is not free: trials of its
    run would stay running.
    """
    s = tables.study.c
    query = select(tables.study).where(
        s.id == study_id,
        s.state.in_((StudyState.QUEUED.value, StudyState.RUNNING.value)),
        s.lease_expires_at.is_(None),
    )
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none()


def settle_lapsed_leases(connection: Connection) -> None:
    """Settle the studies whose lease has lapsed.

    Trials in flight are queued again, and what was to be stopped or cancelled is closed.

    Nobody holds the lease from here on: a run that only seemed to be dead is refused.
    """
    s = tables.study.c
    query = select(tables.study).where(_is_lost(connection)).order_by(s.id)
    for row in connection.execute(query.with_for_update(skip_locked=True)).all():
        connection.execute(
            update(tables.study).where(s.id == row.id).values(lease_owner=None, lease_expires_at=None)
        )
        _settle(connection, row)


def has_lapsed_leases(connection: Connection) -> bool:
    """Return whether there is anything for `settle_lapsed_leases` to do."""
    return bool(connection.execute(select(exists().where(_is_lost(connection)))).scalar_one())


def _is_lost(connection: Connection) -> ColumnElement[bool]:
    """Return whether a study's lease has lapsed."""
    s = tables.study.c
    return and_(
        s.state.not_in([state.value for state in CLOSED_STUDY_STATES]),
        s.lease_expires_at < clock.now(connection),
    )


def overdue_claims(
    connection: Connection, claims: Collection[Claim], *, closed_for_s: float
) -> tuple[Claim, ...]:
    """Return those of some claims whose runs should have ended.

    Another attempt has the study, or nobody has it: the lease has lapsed, and what such a run says is
    refused. Or the study was closed so long ago that nothing is left to tidy up.
    """
    s, now = tables.study.c, clock.now(connection)
    query = select(s.id, s.attempt, s.state, s.lease_expires_at, s.ended_at).where(
        s.id.in_({claim.study_id for claim in claims})
    )
    rows = {row.id: row for row in connection.execute(query)}

    def is_overdue(claim: Claim) -> bool:
        row = rows[claim.study_id]
        if StudyState(row.state) in CLOSED_STUDY_STATES:
            return now - row.ended_at > timedelta(seconds=closed_for_s)
        return row.attempt != claim.attempt or row.lease_expires_at is None

    return tuple(claim for claim in claims if is_overdue(claim))


def _settle(connection: Connection, row: Any) -> None:
    """Leave no trial running in a study that has no run, and close it if that is what its owner wants."""
    if StudyState(row.state) in {StudyState.STOPPING, StudyState.CANCELLING}:
        submissions.close_study(connection, row, StudyMove.FINISH, reason=None)
    else:
        _requeue_in_flight(connection, row)


def _requeue_in_flight(connection: Connection, row: Any) -> None:
    """Queue the trials again that a run of this study, which is over, left in flight."""
    t = tables.trial.c
    in_flight = connection.execute(
        select(t.id, t.attempt).where(t.study_id == row.id, t.state == TrialState.RUNNING.value)
    ).all()
    lost = [(trial.id, trial.attempt) for trial in in_flight]
    requeue(
        connection,
        row.id,
        lost,
        reason="its run was lost",
        max_retries=row.spec["max_retries"],
        is_charged=True,
    )


def release(connection: Connection, claim: Claim, *, failure: str | None = None) -> None:
    """Give a study back after its run has ended: at once to whoever claims next, or as failed for good.

    Does nothing when the study is closed or another attempt has it: a run that closed its own study has
    nothing left to give.
    """
    row = events.lock_study(connection, claim.study_id)
    if row.attempt != claim.attempt or StudyState(row.state) in CLOSED_STUDY_STATES:
        return
    given_back = {"lease_owner": None, "lease_expires_at": None, "turn_at": clock.now(connection)}
    connection.execute(update(tables.study).where(tables.study.c.id == claim.study_id).values(**given_back))
    if failure is not None:
        submissions.close_study(connection, row, StudyMove.FAIL, reason=failure)
    else:
        _settle(connection, row)


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
) -> tuple[PendingTrial, ...]:
    """Queue trials again at their next attempt, or fail those whose retries are used up.

    See `RunWriter.requeue`.
    """
    reason = tables.storable(reason)
    again: list[PendingTrial] = []
    changes: dict[str, dict[str, Any]] = {}
    said: list[tuple[EventKind, Mapping[str, Any]]] = []
    rows = trial_rows(connection, study_id, [trial_id for trial_id, _ in trials])
    in_hand = [
        row
        for trial_id, attempt in trials
        if (row := rows.pop(trial_id, None)) is not None and row.attempt == attempt and _is_in_hand(row)
    ]
    cost_s, now = _cost_at_checkpoint(connection, in_hand), clock.now(connection)
    for row in in_hand:
        if is_charged and row.retries >= max_retries:
            why = reason if max_retries == 0 else f"{reason}; given up after {row.retries + 1} tries"
            after = move_trial(TrialState(row.state), TrialMove.FAIL)
            changes[row.id] = {
                "state": after.value,
                "reason": why,
                "ended_at": now,
                "charged_s": row.charged_s + charged_s,
                **NO_CHECKPOINT,
            }
            said.append(("trial.finished", events.trial_finished(row, after, value=None, reason=why)))
            continue
        # Without a checkpoint the next attempt starts from nothing.
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
        said.append(("trial.requeued", {"trial": row.id, "attempt": row.attempt + 1, "reason": reason}))
    m = tables.measurement.c
    if again:
        # What this attempt measured beyond its checkpoint must not stand beside what the next one will.
        lost = delete(tables.measurement).where(
            m.trial_id == bindparam("of_trial"), m.epoch > bindparam("epochs_kept")
        )
        connection.execute(
            lost, [{"of_trial": trial.id, "epochs_kept": trial.epochs_done} for trial in again]
        )
    change_trials(connection, changes)
    events.append(connection, study_id, said)
    return tuple(again)


def _is_in_hand(row: Any) -> bool:
    """Return whether a worker can have lost a trial: it is running, or queued for one and not at a rung."""
    return row.state in {TrialState.QUEUED.value, TrialState.RUNNING.value} and not is_waiting(row)


def _cost_at_checkpoint(connection: Connection, rows: Sequence[Any]) -> dict[str, float]:
    """Return what each trial that has a checkpoint had cost by then, in seconds."""
    m = tables.measurement.c
    found: dict[str, float] = {}
    for epoch in {row.checkpoint_epoch for row in rows if row.checkpoint is not None}:
        ids = [row.id for row in rows if row.checkpoint_epoch == epoch]
        query = select(m.trial_id, m.elapsed_s).where(m.trial_id.in_(ids), m.epoch == epoch)
        found |= {row.trial_id: row.elapsed_s for row in connection.execute(query)}
    return found
