"""Reads of studies, arms and trials as views; each function makes one or two queries."""

__all__ = [
    "arms",
    "curves",
    "every_trial",
    "measurements",
    "progress",
    "resolved",
    "rung_values",
    "studies",
    "study",
    "study_record",
    "trial",
    "trials",
]

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from studies.direction import Direction, best_value, sign
from studies.errors import ArmNotFound, SpecInvalid, SpecProblem, StudyNotFound, TrialNotFound
from studies.promotion import brackets, rungs
from studies.recipe import call, recipe
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.spec import StudySpec
from studies.states import StudyState, TrialFilter, TrialState, allowed_verbs
from studies.store import stack_widths, summaries, tables
from studies.store.exports import measurements_of
from studies.store.pagination import page
from studies.store.progress import ProgressCache, arm_progress
from studies.store.trial_rows import IS_WAITING
from studies.trials import Measurement, Phase
from studies.views import (
    ArmView,
    Best,
    Curve,
    CurvePoint,
    Page,
    Progress,
    StudyRecord,
    StudySummary,
    StudyView,
    TrialView,
)

_TRIAL_ORDERS = ("created", "number", "value", "cost", "ended")
# Breaks ties between trials that were created together, by number: by id, number 10 would precede number 2.
_TIES = (tables.trial.c.number, tables.trial.c.id)


_IS_SEARCH = tables.trial.c.phase == "search"
_S = tables.study.c
# A study's plan, with its cards and spaces, is a hundred times as long as the rest of its row.
_PLANNED = (_S.id, _S.state, _S.spec, _S.resolved)
_SUMMARY = tuple(column for column in _S if column.name not in {"spec", "resolved", "environment"})


def _of_phase(query: Select[Any], phase: Phase | None) -> Select[Any]:
    """Return a query of trials, restricted to a phase if one is given."""
    return query if phase is None else query.where(tables.trial.c.phase == phase)


def _study_row(connection: Connection, study_id: str) -> Any:
    row = connection.execute(select(tables.study).where(tables.study.c.id == study_id)).one_or_none()
    if row is None:
        raise StudyNotFound(study_id)
    return row


def resolved(connection: Connection, study_id: str) -> ResolvedStudy:
    """Return a study as it was resolved at submission.

    Raises:
        StudyNotFound: the study does not exist.
    """
    return ResolvedStudy.model_validate(_study_row(connection, study_id).resolved)


def _total(parts: Iterable[Progress]) -> Progress:
    listed = list(parts)
    return Progress(**{name: sum(getattr(part, name) for part in listed) for name in Progress.model_fields})


def _summary_fields(row: Any, progress: dict[str, Progress]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "state": StudyState(row.state),
        "state_reason": row.state_reason,
        "workload": row.workload,
        "suite": row.suite,
        "arms": tuple(progress),
        "owner": row.owner,
        "progress": _total(progress.values()),
        "created_at": row.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }


def study(connection: Connection, study_id: str) -> StudyView:
    """Return a study with its spec and progress.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = _study_row(connection, study_id)
    plan, spec = ResolvedStudy.model_validate(row.resolved), StudySpec.model_validate(row.spec)
    progress = arm_progress(connection, [row])[study_id]
    return StudyView(
        **_summary_fields(row, progress),
        version=row.version,
        verbs=allowed_verbs(StudyState(row.state)),
        workload_card=plan.workload,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        spec=spec,
        environment=row.environment or {},
    )


def studies(
    connection: Connection,
    *,
    state: StudyState | None,
    workload: str | None,
    suite: str | None,
    page_size: int,
    page_token: str | None,
    cache: ProgressCache,
) -> Page[StudySummary]:
    """Return a page of studies, newest first; counts of closed studies come from the cache.

    Raises:
        SpecInvalid: the page token is invalid or belongs to another query.
    """
    s = tables.study.c
    query = select(*_SUMMARY)
    query = query if state is None else query.where(s.state == state.value)
    query = query if workload is None else query.where(s.workload == workload)
    query = query if suite is None else query.where(s.suite == suite)
    rows, token, total = page(
        connection, query.order_by(s.created_at.desc(), s.id), [state, workload, suite], page_size, page_token
    )

    def count(some: Sequence[Any]) -> dict[str, dict[str, Progress]]:
        return arm_progress(
            connection, connection.execute(select(*_PLANNED).where(s.id.in_([row.id for row in some]))).all()
        )

    progress = cache.get_or_count("progress", rows, count)
    items = tuple(StudySummary(**_summary_fields(row, progress[row.id])) for row in rows)
    return Page[StudySummary](items=items, next_page_token=token, total=total)


def arms(connection: Connection, study_id: str) -> tuple[ArmView, ...]:
    """Return a study's arms in order, each with its progress and its best trial.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = _study_row(connection, study_id)
    plan, spec = ResolvedStudy.model_validate(row.resolved), StudySpec.model_validate(row.spec)
    progress = arm_progress(connection, [row])[study_id]
    measured = stack_widths.read(connection, plan.workload.name)
    return tuple(
        ArmView(
            name=part.name,
            position=position,
            optimizer=part.card,
            space=part.space,
            defaults=part.defaults,
            progress=progress[part.name],
            best=_best(
                connection, study_id, part, direction=plan.workload.direction, decay_1d=spec.training.decay_1d
            ),
            fit=next(
                (
                    fit
                    for fit in measured
                    if (fit.optimizer, fit.batch_size) == (part.card.name, plan.batch_size)
                ),
                None,
            ),
        )
        for position, part in enumerate(plan.arms)
    )


def progress(connection: Connection, study_id: str) -> dict[str, Any]:
    """Return the data of a `progress` event: the study's progress, and each arm's with its best value.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = _study_row(connection, study_id)
    direction = ResolvedStudy.model_validate(row.resolved).workload.direction
    of_arms = arm_progress(connection, [row])[study_id]
    best = {name: _best_row(connection, study_id, name, direction=direction) for name in of_arms}
    each = {
        name: {**arm.model_dump(), "best": None if best[name] is None else best[name].value}
        for name, arm in of_arms.items()
    }
    return {"study": _total(of_arms.values()).model_dump(), "arms": each}


def _best_row(connection: Connection, study_id: str, arm: str, *, direction: Direction) -> Any:
    """Return the row of the best completed trial of an arm's search (the first of equals), or None."""
    t = tables.trial.c
    query = (
        select(tables.trial)
        .where(
            t.study_id == study_id,
            t.arm == arm,
            _IS_SEARCH,
            t.state == TrialState.COMPLETED.value,
            t.value.is_not(None),
        )
        .order_by(t.value.desc() if sign(direction) == 1 else t.value, t.number)
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _best(
    connection: Connection, study_id: str, part: ResolvedArm, *, direction: Direction, decay_1d: bool
) -> Best | None:
    row = _best_row(connection, study_id, part.name, direction=direction)
    if row is None:
        return None
    return Best(
        trial_id=row.id,
        number=row.number,
        value=row.value,
        test_value=row.test_value,
        epoch=row.best_epoch,
        parameters=row.parameters,
        python=recipe(part.card, row.parameters, decay_1d=decay_1d),
        call=call(part.card, row.parameters, decay_1d=decay_1d),
    )


_TRIAL_FIELDS = tuple(TrialView.model_fields)


def _trial_view(row: Any) -> TrialView:
    return TrialView(**{name: getattr(row, name) for name in _TRIAL_FIELDS})


def trial(connection: Connection, trial_id: str) -> TrialView:
    """Return a trial.

    Raises:
        TrialNotFound: the trial does not exist.
    """
    row = connection.execute(select(tables.trial).where(tables.trial.c.id == trial_id)).one_or_none()
    if row is None:
        raise TrialNotFound(trial_id)
    return _trial_view(row)


def every_trial(connection: Connection, study_id: str, *, phase: Phase | None) -> tuple[TrialView, ...]:
    """Return all trials of one phase of a study, or of both phases (None), oldest first.

    Raises:
        StudyNotFound: the study does not exist.
    """
    _study_row(connection, study_id)
    t = tables.trial.c
    query = _of_phase(select(tables.trial).where(t.study_id == study_id), phase).order_by(
        t.created_at, *_TIES
    )
    return tuple(_trial_view(row) for row in connection.execute(query))


def trials(
    connection: Connection,
    study_id: str,
    *,
    arm: str | None,
    state: TrialFilter | None,
    phase: Phase | None,
    order: str,
    page_size: int,
    page_token: str | None,
) -> Page[TrialView]:
    """Return a page of a study's trials.

    Args:
        connection: an open transaction.
        study_id: the study.
        arm: only this arm's trials.
        state: only trials in this state, or trials that wait at a rung.
        phase: only trials of the search, or of the confirmation.
        order: created, number, value (best first), cost or ended; a leading `-` reverses it. Missing values
            come last.
        page_size: number of trials at most.
        page_token: the `next_page_token` of the previous page.

    Raises:
        StudyNotFound, ArmNotFound: the study or the arm does not exist.
        SpecInvalid: the order is unknown, or the page token is invalid.
    """
    direction, names = summaries.direction(connection, study_id), summaries.arm_names(connection, study_id)
    if arm is not None and arm not in names:
        raise ArmNotFound(study_id, arm, names)
    t = tables.trial.c
    key = order.removeprefix("-")
    if key not in _TRIAL_ORDERS:
        known = ", ".join(_TRIAL_ORDERS)
        raise SpecInvalid(
            [
                SpecProblem(
                    "/order", f"expected one of {known}, with a leading '-' for the reverse, got {order!r}"
                )
            ]
        )
    columns: dict[str, ColumnElement[Any]] = {
        "created": t.created_at,
        "number": t.number,
        "value": t.value,
        "cost": t.cost_s,
        "ended": t.ended_at,
    }
    column = columns[key]
    is_descending = order.startswith("-") != (key == "value" and sign(direction) == 1)
    query = _of_phase(select(tables.trial).where(t.study_id == study_id), phase)
    query = query if arm is None else query.where(t.arm == arm)
    query = (
        query
        if state is None
        else query.where(IS_WAITING if state is TrialFilter.WAITING else t.state == state.value)
    )
    query = query.order_by(
        (column.desc() if is_descending else column.asc()).nulls_last(), t.created_at, *_TIES
    )
    rows, token, total = page(connection, query, [study_id, arm, state, phase, order], page_size, page_token)
    return Page[TrialView](items=tuple(_trial_view(row) for row in rows), next_page_token=token, total=total)


def measurements(connection: Connection, trial_id: str) -> tuple[Measurement, ...]:
    """Return a trial's measurements in order of their epochs.

    Raises:
        TrialNotFound: the trial does not exist.
    """
    trial(connection, trial_id)
    m = tables.measurement.c
    query = select(tables.measurement).where(m.trial_id == trial_id).order_by(m.epoch)
    names = tuple(Measurement.model_fields)
    return tuple(
        Measurement(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)
    )


def study_record(connection: Connection, study_id: str) -> StudyRecord:
    """Return everything that an analysis of a study reads.

    Raises:
        StudyNotFound: the study does not exist.
    """
    found = study(connection, study_id)
    of_arms = arms(connection, study_id)
    both = every_trial(connection, study_id, phase=None)
    confirmations = tuple(trial for trial in both if trial.phase == "confirmation")
    best = [arm.best.trial_id for arm in of_arms if arm.best is not None]
    measured_ids = (*best, *(trial.id for trial in confirmations))
    measured = measurements_of(connection, measured_ids)
    return StudyRecord(
        study=found,
        arms=of_arms,
        trials=tuple(trial for trial in both if trial.phase == "search"),
        confirmations=confirmations,
        measurements={trial_id: measured.get(trial_id, ()) for trial_id in measured_ids},
    )


def curves(connection: Connection, study_id: str) -> tuple[Curve, ...]:
    """Return each arm's best value so far, after every trial of the search that completed or diverged.

    The seconds of pruned trials count too.

    Raises:
        StudyNotFound: the study does not exist.
    """
    direction, names = summaries.direction(connection, study_id), summaries.arm_names(connection, study_id)
    t = tables.trial.c
    spent = (TrialState.COMPLETED.value, TrialState.DIVERGED.value, TrialState.PRUNED.value)
    query = (
        select(t.arm, t.state, t.value, t.cost_s)
        .where(t.study_id == study_id, _IS_SEARCH, t.state.in_(spent))
        .order_by(t.ended_at, *_TIES)
    )
    points: dict[str, list[CurvePoint]] = {name: [] for name in names}
    elapsed_s = dict.fromkeys(points, 0.0)
    for row in connection.execute(query):
        elapsed_s[row.arm] += row.cost_s
        if row.state == TrialState.PRUNED.value:
            continue
        line = points[row.arm]
        before = line[-1].value if line else None
        values = [
            value
            for value in (before, row.value if row.state == TrialState.COMPLETED.value else None)
            if value is not None
        ]
        line.append(
            CurvePoint(
                trials=len(line) + 1,
                elapsed_s=elapsed_s[row.arm],
                value=best_value(values, direction) if values else None,
            )
        )
    return tuple(Curve(arm=name, points=tuple(line)) for name, line in points.items())


def rung_values(connection: Connection, study_id: str) -> dict[str, dict[int, float | None]]:
    """Return the objective at the rungs that trials of the search have reached, by trial id, then epoch.

    A value that was not finite is None. If a trial's best epoch counts, its value at the last checkpoint is
    included, because the trial resumes with that value.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = _study_row(connection, study_id)
    plan, spec = ResolvedStudy.model_validate(row.resolved), StudySpec.model_validate(row.spec)
    rungs_of = [
        frozenset(rungs(spec.pruner, plan.epochs, bracket=bracket))
        for bracket in range(brackets(spec.pruner, plan.epochs))
    ]
    if not rungs_of[0]:
        return {}
    t, m = tables.trial.c, tables.measurement.c
    value: ColumnElement[Any] = m.validation_metric
    if spec.objective.at == "best":
        best = func.max if sign(plan.workload.direction) == 1 else func.min
        value = best(value).over(partition_by=m.trial_id, order_by=m.epoch)
    query = select(m.trial_id, m.epoch, t.bracket, t.checkpoint_epoch, value.label("value")).join(
        tables.trial, t.id == m.trial_id
    )
    query = query.where(t.study_id == study_id, _IS_SEARCH)
    found: dict[str, dict[int, float | None]] = {}
    for measured in connection.execute(query):
        is_checkpoint = spec.objective.at == "best" and measured.epoch == measured.checkpoint_epoch
        if is_checkpoint or measured.epoch in rungs_of[measured.bracket]:
            found.setdefault(measured.trial_id, {})[measured.epoch] = measured.value
    return found
