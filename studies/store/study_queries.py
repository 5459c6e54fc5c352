"""Reads of studies and arms as views; each function makes one or two queries."""

__all__ = ["arms", "progress", "resolved", "studies", "study", "study_row"]

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from studies.direction import Direction, sign
from studies.errors import StudyNotFound
from studies.recipe import call
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.spec import StudySpec, Training
from studies.states import StudyState, TrialState, allowed_verbs
from studies.store import stack_widths, tables
from studies.store.pagination import page
from studies.store.progress import ProgressCache, arm_progress
from studies.store.trial_rows import IS_SEARCH
from studies.training_program import training_program
from studies.trials import CardDifference, CheckResult
from studies.views import (
    ArmView,
    Best,
    Page,
    Progress,
    StudySummary,
    StudyView,
)

_S = tables.study.c
# A study's plan, with its cards and spaces, is a hundred times as long as the rest of its row.
_PLANNED = (_S.id, _S.state, _S.spec, _S.resolved)
_SUMMARY = tuple(column for column in _S if column.name not in {"spec", "resolved", "environment"})


def study_row(connection: Connection, study_id: str) -> Any:
    """Return all columns of a study.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = connection.execute(select(tables.study).where(tables.study.c.id == study_id)).one_or_none()
    if row is None:
        raise StudyNotFound(study_id)
    return row


def resolved(connection: Connection, study_id: str) -> ResolvedStudy:
    """Return a study as it was resolved at submission.

    Raises:
        StudyNotFound: the study does not exist.
    """
    return ResolvedStudy.model_validate(study_row(connection, study_id).resolved)


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
        "archived_at": row.archived_at,
    }


def study(connection: Connection, study_id: str) -> StudyView:
    """Return a study with its spec and progress.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = study_row(connection, study_id)
    plan, spec = ResolvedStudy.model_validate(row.resolved), StudySpec.model_validate(row.spec)
    progress = arm_progress(connection, [row])[study_id]
    return StudyView(
        **_summary_fields(row, progress),
        version=row.version,
        verbs=allowed_verbs(StudyState(row.state)),
        workload_card=plan.workload,
        epochs=plan.epochs,
        interval_steps=plan.interval_steps,
        batch_size=plan.batch_size,
        spec=spec,
        environment=row.environment or {},
        card_differences=tuple(CardDifference.model_validate(each) for each in row.card_differences or ()),
        check_results=tuple(CheckResult(**each) for each in row.check_results or ()),
    )


def studies(
    connection: Connection,
    *,
    state: StudyState | None,
    workload: str | None,
    suite: str | None,
    is_archived: bool,
    page_size: int,
    page_token: str | None,
    cache: ProgressCache,
) -> Page[StudySummary]:
    """Return a page of studies, newest first: either those that are archived or those that are not.

    Counts of closed studies come from the cache.

    Raises:
        SpecInvalid: the page token is invalid or belongs to another query.
    """
    s = tables.study.c
    query = select(*_SUMMARY)
    query = query if state is None else query.where(s.state == state.value)
    query = query if workload is None else query.where(s.workload == workload)
    query = query if suite is None else query.where(s.suite == suite)
    query = query.where(s.archived_at.is_not(None) if is_archived else s.archived_at.is_(None))
    key = [state, workload, suite, is_archived]
    rows, token, total = page(
        connection, query.order_by(s.created_at.desc(), s.id), key, page_size, page_token
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
    row = study_row(connection, study_id)
    plan, spec = ResolvedStudy.model_validate(row.resolved), StudySpec.model_validate(row.spec)
    progress = arm_progress(connection, [row])[study_id]
    measured = stack_widths.read(connection, plan.workload.name)
    t = tables.trial.c
    largest = select(t.arm, func.max(t.memory_bytes), func.max(t.device_memory_bytes))
    memory = {
        arm: sizes
        for arm, *sizes in connection.execute(largest.where(t.study_id == study_id).group_by(t.arm))
    }
    return tuple(
        ArmView(
            name=part.name,
            position=position,
            optimizer=part.card,
            further_hyperparameters=part.further_hyperparameters,
            overrides=part.overrides,
            space=part.space,
            defaults=part.defaults,
            progress=progress[part.name],
            best=_best(connection, study_id, part, plan=plan, training=spec.training),
            memory_bytes=memory[part.name][0] if part.name in memory else None,
            device_memory_bytes=memory[part.name][1] if part.name in memory else None,
            fit=next(
                (
                    width
                    for width in measured
                    if (width.optimizer, width.batch_size) == (part.card.name, plan.batch_size)
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
    row = study_row(connection, study_id)
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
            IS_SEARCH,
            t.state == TrialState.COMPLETED.value,
            t.value.is_not(None),
        )
        .order_by(t.value.desc() if sign(direction) == 1 else t.value, t.number)
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _best(
    connection: Connection, study_id: str, part: ResolvedArm, *, plan: ResolvedStudy, training: Training
) -> Best | None:
    row = _best_row(connection, study_id, part.name, direction=plan.workload.direction)
    if row is None:
        return None
    return Best(
        trial_id=row.id,
        number=row.number,
        value=row.value,
        test_value=row.test_value,
        test_metrics=row.test_metrics or {},
        epoch=row.best_epoch,
        parameters=row.parameters,
        python=training_program(
            part.card,
            row.parameters,
            training.settings(batch_size=plan.batch_size),
            workload=plan.workload,
            epochs=plan.epochs,
            interval_steps=plan.interval_steps,
        ),
        call=call(part.card, row.parameters, decay_1d=training.decay_1d),
    )
