"""Users' changes to studies: submit, pause, resume, stop and cancel."""

__all__ = ["AUDITED", "arm_row", "change_state", "close_study", "lock_version", "move", "submit"]

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from studies.actors import Actor, check_may_change, check_role
from studies.errors import IdempotencyConflict, IllegalMove, VersionConflict
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.spec import StudySpec
from studies.states import (
    CLOSED_STUDY_STATES,
    OWNER_MOVES,
    StudyMove,
    StudyState,
    TrialMove,
    TrialState,
    allowed_verbs,
    move_study,
    move_trial,
)
from studies.store import audit, clock, events, fair_share, quotas, study_queries, tables, token_validity
from studies.store.trial_rows import IN_ORDER, NO_CHECKPOINT, change_trials, is_waiting
from studies.views import AuditVerb, EventKind

AUDITED: dict[StudyMove, AuditVerb] = {
    StudyMove.PAUSE: "pause",
    StudyMove.RESUME: "resume",
    StudyMove.STOP: "stop",
    StudyMove.CANCEL: "cancel",
    StudyMove.EXTEND: "extend",
}
"""The audit log's name of each verb."""

# No vowels and no look-alikes: an id is read aloud and typed.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"


def submit(
    connection: Connection,
    spec: StudySpec,
    resolve: Callable[[], ResolvedStudy],
    *,
    by: Actor,
    idempotency_key: str | None,
) -> str:
    """Store a study as queued and return its id.

    A repeated request with the same key and the same spec returns the id of the existing study.

    Args:
        connection: an open write transaction.
        spec: the study.
        resolve: resolves the spec against the current catalogue; its exceptions pass through. Not called for
            a repeated request.
        by: who submits the study.
        idempotency_key: identifies the request.

    Raises:
        Unauthenticated: the actor's token was revoked during the request.
        Forbidden: the actor's role is too low for studies, or for this priority.
        QuotaExceeded: the study exceeds the actor's quota.
        IdempotencyConflict: the key was used before with another spec.
    """
    check_role(by, "submitter")
    fair_share.check_priority(spec, by)
    owner = by.name
    quota = quotas.lock(connection, owner)
    token_validity.check_valid(connection, by)
    # Keys are per owner, and hashed, so that a key may have any length and any characters.
    key = None if idempotency_key is None else _digest(json.dumps([owner, idempotency_key]))
    digest = _digest(spec.model_dump_json())
    existing = _existing_study(connection, key, digest)
    if existing is not None:
        return existing
    plan = resolve()
    quotas.check(connection, quota, spec, plan)
    study_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    row = {
        "id": study_id,
        "name": spec.name,
        "workload": spec.workload,
        "suite": spec.suite,
        "spec": spec.model_dump(mode="json"),
        "resolved": plan.model_dump(mode="json"),
        "state": StudyState.QUEUED.value,
        "version": 1,
        "last_event": 0,
        "attempt": 0,
        "owner": owner,
        "priority": fair_share.PRIORITIES[spec.resources.priority],
        "idempotency_key": key,
        "idempotency_digest": digest,
        "created_at": clock.now(connection),
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(tables.study).values(row))
    except IntegrityError:
        # The same request was sent twice at once, and the other one was stored first.
        existing = _existing_study(connection, key, digest)
        if existing is None:
            raise
        return existing
    connection.execute(
        insert(tables.arm), [arm_row(study_id, n, arm, spec) for n, arm in enumerate(plan.arms)]
    )
    events.append(
        connection,
        study_id,
        [("study.submitted", {"name": spec.name, "arms": [arm.name for arm in plan.arms]})],
    )
    audit.record(connection, by, "submit", study_id=study_id)
    return study_id


def arm_row(study_id: str, position: int, arm: ResolvedArm, spec: StudySpec) -> dict[str, Any]:
    """Return an arm as a row of its table."""
    trials = arm.trials * spec.budget.replicates
    return {
        "study_id": study_id,
        "position": position,
        "name": arm.name,
        "optimizer": arm.card.name,
        "trials": trials,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _existing_study(connection: Connection, key: str | None, digest: str) -> str | None:
    """Return the id of the study that was submitted with this key, or None.

    Raises:
        IdempotencyConflict: it was submitted with another spec.
    """
    if key is None:
        return None
    s = tables.study.c
    existing = connection.execute(
        select(s.id, s.idempotency_digest).where(s.idempotency_key == key)
    ).one_or_none()
    if existing is not None and existing.idempotency_digest != digest:
        raise IdempotencyConflict(
            f"this Idempotency-Key was used for study {existing.id!r} with another body; "
            "use a new key for a new study"
        )
    return None if existing is None else existing.id


def move(
    connection: Connection, study_id: str, verb: StudyMove, *, by: Actor, if_version: int | None
) -> None:
    """Pause, resume, stop or cancel a study; without a run, a stop or cancel takes full effect at once.

    Raises:
        StudyNotFound: the study does not exist.
        Unauthenticated, Forbidden, NotOwner: the actor may not change the study.
        QuotaExceeded: the study is to be resumed, and its owner's GPU-hours are used up.
        VersionConflict: the study changed since `if_version`.
        IllegalMove: the study's state does not allow the verb, or users may not use it.
    """
    row = lock_version(connection, study_id, by=by, if_version=if_version)
    state = StudyState(row.state)
    if verb not in OWNER_MOVES:
        verbs = allowed_verbs(state)
        raise IllegalMove(
            f"expected one of {', '.join(sorted(OWNER_MOVES))}, got {verb.value!r}",
            state=state.value,
            allowed=verbs,
        )
    after = move_study(state, verb)
    if verb is StudyMove.RESUME:
        quotas.check_gpu_hours(
            connection, quotas.read(connection, row.owner), StudySpec.model_validate(row.spec)
        )
    change_state(connection, row, after, reason=None)
    audit.record(connection, by, AUDITED[verb], study_id=study_id)
    has_run = row.lease_expires_at is not None and row.lease_expires_at > clock.now(connection)
    if after in {StudyState.STOPPING, StudyState.CANCELLING} and not has_run:
        close_study(connection, events.lock_study(connection, study_id), StudyMove.FINISH, reason=None)


def lock_version(connection: Connection, study_id: str, *, by: Actor, if_version: int | None) -> Any:
    """Return the study's row, locked as by `events.lock_study`, if the actor may change the study.

    Raises:
        StudyNotFound: the study does not exist.
        Unauthenticated: the actor's token was revoked during the request.
        Forbidden, NotOwner: the actor may not change the study.
        VersionConflict: the study changed since `if_version`.
    """
    row = events.lock_study(connection, study_id)
    token_validity.check_valid(connection, by)
    check_may_change(by, study_id, row.owner)
    if if_version is not None and row.version != if_version:
        raise VersionConflict(
            f"study {study_id!r} is at version {row.version}, not {if_version}; read it again, then retry"
        )
    return row


def change_state(connection: Connection, row: Any, after: StudyState, *, reason: str | None) -> None:
    """Store a study's new state and its event, unless the study is in that state already."""
    if row.state == after.value:
        return
    now = clock.now(connection)
    values: dict[str, Any] = {"state": after.value, "state_reason": reason, "version": row.version + 1}
    if after is StudyState.RUNNING and row.started_at is None:
        values["started_at"] = now
    if after in CLOSED_STUDY_STATES:
        values |= {"ended_at": now, "lease_owner": None, "lease_expires_at": None}
    elif row.ended_at is not None:
        values["ended_at"] = None
    connection.execute(update(tables.study).where(tables.study.c.id == row.id).values(**values))
    data: Mapping[str, Any] = {"from": row.state, "to": after.value, "reason": reason}
    events.append(connection, row.id, [("study.state", data)])


def close_study(connection: Connection, row: Any, outcome: StudyMove, *, reason: str | None) -> StudyState:
    """Close a study and return its final state.

    Queued and running trials are cancelled. Trials that wait at a rung are pruned if the study has spent its
    budget. A last `progress` event is added.

    Args:
        connection: an open write transaction.
        row: the study's row, locked.
        outcome: `finish` or `fail`.
        reason: why the study failed; None otherwise.

    Raises:
        IllegalMove: the study is closed already.
    """
    before = StudyState(row.state)
    after = move_study(before, outcome)
    reason = None if reason is None else tables.storable(reason)
    t = tables.trial.c
    unfinished = (TrialState.QUEUED.value, TrialState.RUNNING.value)
    cancelled_because = {
        StudyState.STOPPING: "the study was stopped",
        StudyState.CANCELLING: "the study was cancelled",
    }.get(before, reason or "the study ended")
    is_early = before in {StudyState.STOPPING, StudyState.CANCELLING}
    columns = (t.id, t.arm, t.phase, t.number, t.state, t.epochs_done, t.to_epoch)
    changes: dict[str, dict[str, Any]] = {}
    ended: list[tuple[EventKind, Mapping[str, Any]]] = []
    now = clock.now(connection)
    for trial in connection.execute(
        select(*columns).where(t.study_id == row.id, t.state.in_(unfinished)).order_by(t.arm, *IN_ORDER)
    ).all():
        # A trial that waits at a rung when the budget is spent was not good enough to be promoted.
        move = (
            TrialMove.PRUNE
            if is_waiting(trial) and outcome is StudyMove.FINISH and not is_early
            else TrialMove.CANCEL
        )
        state = move_trial(TrialState(trial.state), move)
        trial_reason = cancelled_because if move is TrialMove.CANCEL else None
        changes[trial.id] = {"state": state.value, "reason": trial_reason, "ended_at": now, **NO_CHECKPOINT}
        ended.append(("trial.finished", events.trial_finished(trial, state, value=None, reason=trial_reason)))
    change_trials(connection, changes)
    events.append(connection, row.id, [*ended, ("progress", study_queries.progress(connection, row.id))])
    study_reason = reason or (
        "stopped before its budget was spent"
        if before is StudyState.STOPPING
        else None
        if not is_early
        else "cancelled by its owner"
    )
    change_state(connection, row, after, reason=study_reason)
    return after
