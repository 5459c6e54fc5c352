"""Reads of trials and measurements as views; each function makes a few queries."""

__all__ = [
    "curves",
    "every_trial",
    "listed_trials",
    "measurements_of",
    "pair",
    "rung_values",
    "study_record",
    "trial",
    "trials",
    "trials_by_id",
]

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select

from studies.direction import best_value, sign
from studies.errors import ArmNotFound, SpecInvalid, SpecProblem, TrialNotFound
from studies.promotion import brackets, rungs
from studies.states import TrialFilter, TrialState
from studies.store import plans, study_queries, tables
from studies.store.pagination import page
from studies.store.trial_rows import IS_SEARCH, IS_WAITING
from studies.trials import Measurement, Phase
from studies.views import Curve, CurvePoint, Page, StudyRecord, TrialList, TrialView

_TRIAL_ORDERS = ("created", "number", "value", "cost", "ended")
# Breaks ties between trials that were created together, by number: by id, number 10 would precede number 2.
_TIES = (tables.trial.c.number, tables.trial.c.id)
_TRIAL_FIELDS = tuple(TrialView.model_fields)
_TRIAL_COLUMNS = tuple(tables.trial.c[name] for name in _TRIAL_FIELDS)
_TRIAL = select(*_TRIAL_COLUMNS).where(tables.trial.c.id == bindparam("trial_id"))
_MEASUREMENT_FIELDS = tuple(Measurement.model_fields)
# SQLite takes 32,766 parameters in a statement, PostgreSQL's driver twice as many.
_MAX_IDS = 10_000


def _of_phase(query: Select[Any], phase: Phase | None) -> Select[Any]:
    """Return a query of trials, restricted to a phase if one is given."""
    return query if phase is None else query.where(tables.trial.c.phase == phase)


def _is_in(state: TrialFilter) -> ColumnElement[bool]:
    """Return the condition that a trial passes a filter, as `TrialView.matches` tests it."""
    return IS_WAITING if state is TrialFilter.WAITING else tables.trial.c.state == state.value


def _trial_view(row: Any) -> TrialView:
    """Return the view of a row of `_TRIAL_COLUMNS`."""
    fields: dict[str, Any] = dict(zip(_TRIAL_FIELDS, row, strict=True))
    fields["state"] = TrialState(fields["state"])
    measured: dict[str, float | None] = fields["test_metrics"] or {}
    fields["test_metrics"] = {
        name: None if value is None else float(value) for name, value in measured.items()
    }
    # Everything was validated when it was written; validation would double the time of reading many trials.
    return TrialView.model_construct(**fields)


def trial(connection: Connection, trial_id: str) -> TrialView:
    """Return a trial.

    Raises:
        TrialNotFound: the trial does not exist.
    """
    row = connection.execute(_TRIAL, {"trial_id": trial_id}).one_or_none()
    if row is None:
        raise TrialNotFound(trial_id)
    return _trial_view(row)


def every_trial(connection: Connection, study_id: str, *, phase: Phase | None) -> tuple[TrialView, ...]:
    """Return all trials of one phase of a study, or of both phases (None), oldest first.

    Raises:
        StudyNotFound: the study does not exist.
    """
    study_queries.study_row(connection, study_id)
    t = tables.trial.c
    query = _of_phase(select(*_TRIAL_COLUMNS).where(t.study_id == study_id), phase).order_by(
        t.created_at, *_TIES
    )
    return tuple(_trial_view(row) for row in connection.execute(query))


def listed_trials(
    connection: Connection, study_id: str, *, arm: str | None, state: TrialFilter | None, phase: Phase
) -> TrialList:
    """Return the ids of a study's trials, oldest first, and the names of everything that they have.

    Raises:
        StudyNotFound: the study does not exist.
    """
    study_queries.study_row(connection, study_id)
    t = tables.trial.c
    query = select(t.id, t.test_metrics, t.parameters).where(t.study_id == study_id, t.phase == phase)
    query = query if arm is None else query.where(t.arm == arm)
    query = query if state is None else query.where(_is_in(state))
    ids: list[str] = []
    metrics, parameters = dict[str, None](), dict[str, None]()
    for trial_id, measured, configuration in connection.execute(query.order_by(t.created_at, *_TIES)):
        ids.append(trial_id)
        metrics.update(dict.fromkeys(measured or ()))
        parameters.update(dict.fromkeys(configuration))
    return TrialList(ids=tuple(ids), metrics=tuple(metrics), parameters=tuple(parameters))


def trials_by_id(connection: Connection, ids: Sequence[str]) -> tuple[TrialView, ...]:
    """Return trials in the order of these ids, at most `_MAX_IDS`; a trial that does not exist is absent."""
    query = select(*_TRIAL_COLUMNS).where(tables.trial.c.id.in_(ids))
    found = {row.id: row for row in connection.execute(query)}
    return tuple(_trial_view(found[trial_id]) for trial_id in ids if trial_id in found)


def defaults(connection: Connection, study_id: str) -> tuple[TrialView, ...]:
    """Return the trials of each arm's defaults in the search, one of each replicate, by arm and number."""
    t = tables.trial.c
    query = select(*_TRIAL_COLUMNS).where(t.study_id == study_id, IS_SEARCH, t.origin == "default")
    return tuple(_trial_view(row) for row in connection.execute(query.order_by(t.arm, t.number)))


def pair(connection: Connection, trial: TrialView) -> tuple[TrialView, ...]:
    """Return the trials of a paired trial's pair, one of each arm, itself among them, by arm."""
    t = tables.trial.c
    query = select(*_TRIAL_COLUMNS).where(
        t.study_id == trial.study_id,
        t.phase == "search",
        t.replicate == trial.replicate,
        t.pair_index == trial.pair_index,
    )
    return tuple(_trial_view(row) for row in connection.execute(query.order_by(t.arm)))


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
    plan = plans.of_study(connection, study_id).plan
    names = [each.name for each in plan.arms]
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
    is_descending = order.startswith("-") != (key == "value" and sign(plan.workload.direction) == 1)
    query = _of_phase(select(*_TRIAL_COLUMNS).where(t.study_id == study_id), phase)
    query = query if arm is None else query.where(t.arm == arm)
    query = query if state is None else query.where(_is_in(state))
    query = query.order_by(
        (column.desc() if is_descending else column.asc()).nulls_last(), t.created_at, *_TIES
    )
    rows, token, total = page(connection, query, [study_id, arm, state, phase, order], page_size, page_token)
    return Page[TrialView](items=tuple(_trial_view(row) for row in rows), next_page_token=token, total=total)


def study_record(connection: Connection, study_id: str) -> StudyRecord:
    """Return everything that an analysis of a study reads.

    Raises:
        StudyNotFound: the study does not exist.
    """
    found = study_queries.study(connection, study_id)
    of_arms = study_queries.arms(connection, study_id)
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
    plan = plans.of_study(connection, study_id).plan
    direction = plan.workload.direction
    t = tables.trial.c
    spent = (TrialState.COMPLETED.value, TrialState.DIVERGED.value, TrialState.PRUNED.value)
    query = (
        select(t.arm, t.state, t.value, t.cost_s)
        .where(t.study_id == study_id, IS_SEARCH, t.state.in_(spent))
        .order_by(t.ended_at, *_TIES)
    )
    points: dict[str, list[CurvePoint]] = {arm.name: [] for arm in plan.arms}
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
    row = study_queries.study_row(connection, study_id)
    planned = plans.planned(connection, row)
    plan, spec = planned.plan, planned.spec
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
    query = query.where(t.study_id == study_id, IS_SEARCH)
    found: dict[str, dict[int, float | None]] = {}
    for measured in connection.execute(query):
        is_checkpoint = spec.objective.at == "best" and measured.epoch == measured.checkpoint_epoch
        if is_checkpoint or measured.epoch in rungs_of[measured.bracket]:
            found.setdefault(measured.trial_id, {})[measured.epoch] = measured.value
    return found


def measurements_of(connection: Connection, trial_ids: Sequence[str]) -> dict[str, tuple[Measurement, ...]]:
    """Return the measurements of these trials in order of their epochs, by trial id.

    A trial without a measurement is absent.
    """
    m = tables.measurement.c
    columns = [m[name] for name in _MEASUREMENT_FIELDS]
    found: dict[str, list[Measurement]] = {}
    for first in range(0, len(trial_ids), _MAX_IDS):
        query = (
            select(m.trial_id, *columns)
            .where(m.trial_id.in_(trial_ids[first : first + _MAX_IDS]))
            .order_by(m.trial_id, m.epoch)
        )
        for trial_id, *values in connection.execute(query):
            measured: dict[str, Any] = dict(zip(_MEASUREMENT_FIELDS, values, strict=True))
            measured["metrics"] = measured["metrics"] or {}
            found.setdefault(trial_id, []).append(Measurement(**measured))
    return {trial_id: tuple(epochs) for trial_id, epochs in found.items()}
