"""What a study does at the moment: a handful of queries, of which two read a few columns of every trial."""

__all__ = ["live"]

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, func, select

from studies.formatting import NO_REASON, without_numbers
from studies.live_views import EpochsDone, LiveFailure, LivePack, LiveStudy, LiveTrial, TrialsByEpochs
from studies.pruner import NoPruner
from studies.states import FINISHED_TRIAL_STATES, StudyState, TrialState
from studies.store import clock, plans, study_queries, tables
from studies.store.plans import Planned
from studies.store.trial_rows import IS_WAITING
from studies.time_left import time_left
from studies.views import Progress

_MOST_TRIALS: Final = 24
_MOST_POINTS: Final = 100
_MOST_PACKS: Final = 120
_MOST_REASONS: Final = 5
# Of these, many differ only by a number.
_REASONS_READ: Final = 100
_OUTPUT_LINES: Final = 12
_T, _M, _P, _O = tables.trial.c, tables.measurement.c, tables.pack_output.c, tables.trial_output.c
_PARTS: Final[tuple[EpochsDone, ...]] = ("none", "first half", "second half", "all")
_OF_STUDY = _T.study_id == bindparam("study_id")
_RUNNING = _T.state == TrialState.RUNNING.value
_WAITING = case((IS_WAITING, 1), else_=0)
_PART = case(
    (_T.epochs_done == 0, 0),
    (_T.epochs_done * 2 <= bindparam("epochs"), 1),
    (_T.epochs_done < bindparam("epochs"), 2),
    else_=3,
)
_TRIAL_FIELDS = ("id", "arm", "phase", "number", "epochs_done", "to_epoch")
_STATES = (
    select(
        _T.phase,
        _T.state,
        _WAITING.label("waiting"),
        _PART.label("part"),
        func.count().label("trials"),
        func.sum(_T.epochs_done).label("epochs_done"),
        func.sum(_T.retries).label("retries"),
    )
    .where(_OF_STUDY)
    .group_by(_T.phase, _T.state, "waiting", "part")
)
_IN_TRAINING = (
    select(*(_T[name] for name in _TRIAL_FIELDS))
    .where(_OF_STUDY, _RUNNING)
    .order_by(_T.epochs_done.desc(), _T.number, _T.arm)
    .limit(_MOST_TRIALS)
)
_VALUES = (
    select(_M.trial_id, _M.epoch, _M.validation_metric)
    .where(_M.trial_id.in_(bindparam("ids", expanding=True)))
    .order_by(_M.trial_id, _M.epoch)
)
# A worker trains one pack at a time, whose trials start together. Rows of older versions have no pack.
_STARTED = func.coalesce(_T.pack_started_at, _T.started_at).label("started_at")
_PACKS = (
    select(
        _T.worker,
        _T.arm,
        _T.phase,
        _STARTED,
        func.count().label("trials"),
        func.sum(case((_RUNNING, 1), else_=0)).label("running"),
        # A trial that waits at a rung has no end, but its pack has.
        func.max(func.coalesce(_T.ended_at, _T.heard_at)).label("ended_at"),
        func.sum(_T.epochs_done - func.coalesce(_T.pack_epochs, 0)).label("epochs_done"),
        func.max(case((_RUNNING, _T.to_epoch - _T.epochs_done), else_=0)).label("epochs_left"),
    )
    .where(_OF_STUDY, _T.started_at.is_not(None))
    .group_by(_T.worker, _T.arm, _T.phase, _STARTED)
    .order_by(_STARTED.desc(), _T.worker)
    .limit(_MOST_PACKS)
)
_REASONS = (
    select(_T.reason, func.count().label("trials"), func.max(_T.ended_at).label("last_at"))
    .where(_OF_STUDY, _T.state == TrialState.FAILED.value)
    .group_by(_T.reason)
    .order_by(func.max(_T.ended_at).desc())
    .limit(_REASONS_READ)
)


def live(connection: Connection, study_id: str) -> LiveStudy:
    """Return what a study does at the moment.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = study_queries.study_row(connection, study_id)
    planned = plans.planned(connection, row)
    progress = study_queries.total_progress(connection, row)
    given = {"study_id": study_id, "epochs": planned.plan.epochs}
    states = connection.execute(_STATES, given).all()
    state, now = StudyState(row.state), clock.now(connection)
    of_packs = connection.execute(_PACKS, {"study_id": study_id})
    packs = tuple(_pack(each) for each in of_packs.mappings())
    is_moving = state in {StudyState.QUEUED, StudyState.RUNNING} and any(pack.running for pack in packs)
    left = _epochs_left(states, progress, planned)
    return LiveStudy(
        study_id=study_id,
        state=state,
        at=now,
        in_training=sum(each.trials for each in states if each.state == TrialState.RUNNING.value),
        trials=_with_values(connection, connection.execute(_IN_TRAINING, {"study_id": study_id}).all()),
        best=_with_values(connection, study_queries.best_rows(connection, study_id, planned)),
        packs=packs,
        states=tuple(
            TrialsByEpochs(
                phase=each.phase,
                state=TrialState(each.state),
                is_waiting=bool(each.waiting),
                epochs_done=_PARTS[int(each.part)],
                trials=each.trials,
            )
            for each in sorted(states, key=lambda each: (each.phase, each.state, each.waiting, -each.part))
        ),
        failures=_failures(connection, study_id),
        attempts_lost=sum(each.retries for each in states),
        time_left=time_left(packs, left, now=now) if is_moving and left > 0 else None,
    )


def _with_values(connection: Connection, rows: Sequence[Any]) -> tuple[LiveTrial, ...]:
    """Return trials from their rows, with the validation values of their epochs."""
    values: dict[str, list[tuple[int, float | None]]] = {row.id: [] for row in rows}
    if values:
        for trial_id, epoch, value in connection.execute(_VALUES, {"ids": list(values)}):
            values[trial_id].append((epoch, value))
    found: list[LiveTrial] = []
    for row in rows:
        points = _thinned(values[row.id])
        epochs, measured = zip(*points, strict=True) if points else ((), ())
        fields = {name: getattr(row, name) for name in _TRIAL_FIELDS}
        found.append(LiveTrial(**fields, epochs=epochs, values=measured))
    return tuple(found)


def _thinned(points: Sequence[tuple[int, float | None]]) -> Sequence[tuple[int, float | None]]:
    """Return every n-th point, and the last, so that at most about `_MOST_POINTS` are left."""
    every = -(-len(points) // _MOST_POINTS) or 1
    return [point for n, point in enumerate(points, 1) if n % every == 0 or n == len(points)]


def _pack(row: Mapping[Any, Any]) -> LivePack:
    fields: dict[str, Any] = {name: row[name] for name in LivePack.model_fields}
    if row["running"]:
        fields["ended_at"] = None
    return LivePack(**fields)


def _failures(connection: Connection, study_id: str) -> tuple[LiveFailure, ...]:
    groups: dict[str, list[Any]] = {}
    for row in connection.execute(_REASONS, {"study_id": study_id}).all():
        groups.setdefault(without_numbers(row.reason or NO_REASON), []).append(row)
    found: list[LiveFailure] = []
    for shared, rows in list(groups.items())[:_MOST_REASONS]:
        newest = rows[0]
        is_reason = _T.reason.is_(None) if newest.reason is None else _T.reason == newest.reason
        failed = and_(_T.study_id == study_id, _T.state == TrialState.FAILED.value, is_reason)
        last = select(_T.id, _P.text).outerjoin(tables.trial_output, _O.trial_id == _T.id)
        last = last.outerjoin(tables.pack_output, _P.pack_id == _O.pack_id).where(failed)
        trial_id, text = connection.execute(last.order_by(_T.ended_at.desc(), _T.id).limit(1)).one()
        found.append(
            LiveFailure(
                reason=(newest.reason or NO_REASON) if len(rows) == 1 else shared,
                trials=sum(row.trials for row in rows),
                last_trial=trial_id,
                last_at=newest.last_at,
                output="\n".join((text or "").rstrip().splitlines()[-_OUTPUT_LINES:]),
            )
        )
    return tuple(found)


def _epochs_left(states: Sequence[Any], progress: Progress, planned: Planned) -> float:
    """Return about how many epochs a study's trials and confirmation runs have still to train."""
    ended = {state.value for state in FINISHED_TRIAL_STATES}
    epochs = planned.plan.epochs

    def begun(phase: str) -> int:
        return sum(each.epochs_done for each in states if each.phase == phase and each.state not in ended)

    unfinished = progress.trials - progress.finished
    if not unfinished:
        search = 0
    elif isinstance(planned.spec.pruner, NoPruner):
        search = unfinished * epochs - begun("search")
    else:
        search = progress.epochs - progress.epochs_done
    runs = (progress.confirmations - progress.confirmations_finished) * epochs - begun("confirmation")
    return max(0, search) + max(0, runs)
