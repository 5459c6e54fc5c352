"""Reads of studies and arms as views; each function makes one or two queries."""

__all__ = ["arms", "best_rows", "progress", "resolved", "studies", "study", "study_row", "total_progress"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, and_, bindparam, exists, func, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql

from studies.arm_styles import style_numbers
from studies.direction import Direction, sign
from studies.errors import StudyNotFound
from studies.recipe import call
from studies.resolve import ResolvedArm, ResolvedStudy
from studies.states import StudyState, TrialState, allowed_verbs
from studies.store import plans, stack_widths, tables
from studies.store.pagination import page
from studies.store.plans import Planned
from studies.store.progress import ProgressCache, arm_progress
from studies.store.trial_rows import IS_SEARCH
from studies.study_filter import StudyFilter, StudyOrder
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

_S, _T = tables.study.c, tables.trial.c
# A study's plan, with its cards and spaces, is a hundred times as long as the rest of its row.
_SUMMARY = tuple(column for column in _S if column.name not in {"spec", "resolved", "environment"})
# Statements without values are built once, because building one takes as long as sending it.
_ROW = select(*_SUMMARY, _S.environment, plans.STAMP[-1]).where(_S.id == bindparam("study_id"))


_LARGEST = (
    select(_T.arm, func.max(_T.memory_bytes), func.max(_T.device_memory_bytes))
    .where(_T.study_id == bindparam("study_id"))
    .group_by(_T.arm)
)


def study_row(connection: Connection, study_id: str) -> Any:
    """Return all columns of a study except its spec and its plan, with the stamp of these.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = connection.execute(_ROW, {"study_id": study_id}).one_or_none()
    if row is None:
        raise StudyNotFound(study_id)
    return row


def resolved(connection: Connection, study_id: str) -> ResolvedStudy:
    """Return a study as it was resolved at submission.

    Raises:
        StudyNotFound: the study does not exist.
    """
    return plans.of_study(connection, study_id).plan


def _total(parts: Iterable[Progress]) -> Progress:
    listed = list(parts)
    return Progress(**{name: sum(getattr(part, name) for part in listed) for name in Progress.model_fields})


def total_progress(connection: Connection, row: Any) -> Progress:
    """Return the progress of all arms of a study together.

    Args:
        connection: an open transaction.
        row: the study, as `study_row` returns it.
    """
    return _total(arm_progress(connection, [row])[row.id].values())


def _summary_fields(
    row: Any, arms: tuple[str, ...], tags: tuple[str, ...], progress: Progress
) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "state": StudyState(row.state),
        "state_reason": row.state_reason,
        "workload": row.workload,
        "suite": row.suite,
        "arms": arms,
        "tags": tags,
        "owner": row.owner,
        "progress": progress,
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
    planned = plans.planned(connection, row)
    plan, spec = planned.plan, planned.spec
    progress = arm_progress(connection, [row])[study_id]
    return StudyView(
        **_summary_fields(row, tuple(progress), spec.tags, _total(progress.values())),
        version=row.version,
        notes_version=row.notes_version,
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
    chosen: StudyFilter,
    page_size: int,
    page_token: str | None,
    cache: ProgressCache,
) -> Page[StudySummary]:
    """Return a page of the studies that pass a filter, in its order.

    Counts of closed studies come from the cache.

    Raises:
        SpecInvalid: the page token is invalid or belongs to another query.
    """
    query = select(*_SUMMARY).where(
        *_conditions(chosen, is_postgresql=connection.dialect.name == "postgresql")
    )
    order = (*_ORDERS[chosen.order], _S.created_at.desc(), _S.id)
    rows, token, total = page(connection, query.order_by(*order), [chosen], page_size, page_token)

    def count(some: Sequence[Any]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...], Progress]]:
        stamped = select(*plans.STAMP, _S.state).where(_S.id.in_([row.id for row in some]))
        stamps = connection.execute(stamped).all()
        counted, planned = arm_progress(connection, stamps), plans.planned_studies(connection, stamps)
        return {
            study_id: (tuple(of_arms), planned[study_id].spec.tags, _total(of_arms.values()))
            for study_id, of_arms in counted.items()
        }

    counted = cache.get_or_count("progress", rows, count)
    items = tuple(StudySummary(**_summary_fields(row, *counted[row.id])) for row in rows)
    return Page[StudySummary](items=items, next_page_token=token, total=total)


_ORDERS: Mapping[StudyOrder, tuple[ColumnElement[Any], ...]] = {
    "newest": (),
    "oldest": (_S.created_at.asc(),),
    "name": (func.lower(_S.name).asc(),),
    "ended": (_S.ended_at.desc().nulls_last(),),
    "state": (_S.state.asc(),),
}


def _conditions(chosen: StudyFilter, *, is_postgresql: bool) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter."""
    found: list[ColumnElement[bool]] = [
        _S.archived_at.is_not(None) if chosen.is_archived else _S.archived_at.is_(None)
    ]
    for column, value in (
        (_S.state, None if chosen.state is None else chosen.state.value),
        (_S.workload, chosen.workload),
        (_S.suite, chosen.suite),
        (_S.owner, chosen.owner),
    ):
        if value is not None:
            found.append(column == value)
    for word in chosen.words:
        in_any = [func.lower(column).contains(word, autoescape=True) for column in _SEARCHED]
        found.append(or_(*in_any, _has_tag(word, is_postgresql=is_postgresql)))
    if chosen.tag is not None:
        found.append(_has_tag(chosen.tag, is_postgresql=is_postgresql))
    return found


_SEARCHED = (_S.name, _S.id, _S.workload, _S.suite, _S.owner)


def _has_tag(tag: str, *, is_postgresql: bool) -> ColumnElement[bool]:
    """Return the condition that a study's spec has a tag."""
    tags = _S.spec["tags"]
    if is_postgresql:
        return sql_cast(tags, postgresql.JSONB).contains([tag])
    each = func.json_each(sql_cast(tags, Text)).table_valued("value")
    return exists(select(each.c.value).where(each.c.value == tag))


def arms(connection: Connection, study_id: str) -> tuple[ArmView, ...]:
    """Return a study's arms in order, each with its progress and its best trial.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = study_row(connection, study_id)
    planned = plans.planned(connection, row)
    plan = planned.plan
    progress = arm_progress(connection, [row])[study_id]
    measured = stack_widths.read(connection, plan.workload.name)
    memory = {arm: sizes for arm, *sizes in connection.execute(_LARGEST, {"study_id": study_id})}
    best = _best_rows(connection, study_id, plan.workload.direction)
    styles = style_numbers([part.card.name for part in plan.arms])
    return tuple(
        ArmView(
            name=part.name,
            position=position,
            style=styles[position],
            optimizer=part.card,
            further_hyperparameters=part.further_hyperparameters,
            overrides=part.overrides,
            space=part.space,
            defaults=part.defaults,
            progress=progress[part.name],
            best=None if part.name not in best else _best(best[part.name], part, planned),
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
    direction = plans.planned(connection, row).plan.workload.direction
    of_arms = arm_progress(connection, [row])[study_id]
    best = {name: row.value for name, row in _best_rows(connection, study_id, direction).items()}
    each = {name: {**arm.model_dump(), "best": best.get(name)} for name, arm in of_arms.items()}
    return {"study": _total(of_arms.values()).model_dump(), "arms": each}


def _best_query(best: Callable[[ColumnElement[Any]], ColumnElement[Any]]) -> Select[Any]:
    """Return the query of each arm's best trial, by a function of SQL that chooses the best value."""
    t = tables.trial.c
    is_of_study = t.study_id == bindparam("study_id")
    has_value = (is_of_study, IS_SEARCH, t.state == TrialState.COMPLETED.value, t.value.is_not(None))
    values = select(t.arm, best(t.value).label("value")).where(*has_value).group_by(t.arm).subquery()
    is_best = and_(t.arm == values.c.arm, t.value == values.c.value)
    firsts = select(t.arm, func.min(t.number).label("number")).join(values, is_best).where(*has_value)
    first = firsts.group_by(t.arm).subquery()
    is_first = and_(t.arm == first.c.arm, t.number == first.c.number)
    return select(tables.trial).join(first, is_first).where(is_of_study, IS_SEARCH)


_BEST = {1: _best_query(func.max), -1: _best_query(func.min)}


def best_rows(connection: Connection, study_id: str, planned: Planned) -> tuple[Any, ...]:
    """Return the row of the best completed trial of each arm's search, in the order of the arms."""
    found = _best_rows(connection, study_id, planned.plan.workload.direction)
    return tuple(found[arm.name] for arm in planned.plan.arms if arm.name in found)


def _best_rows(connection: Connection, study_id: str, direction: Direction) -> dict[str, Any]:
    """Return the row of the best completed trial of each arm's search (the first of equals), by arm.

    An arm without a completed trial is absent.
    """
    rows = connection.execute(_BEST[sign(direction)], {"study_id": study_id})
    return {row.arm: row for row in rows}


def _best(row: Any, part: ResolvedArm, planned: Planned) -> Best:
    """Return an arm's best trial with the program that repeats it."""
    plan, training = planned.plan, planned.spec.training
    if row.id not in planned.programs:
        program = training_program(
            part.card,
            row.parameters,
            training.settings(batch_size=plan.batch_size),
            workload=plan.workload,
            epochs=plan.epochs,
            interval_steps=plan.interval_steps,
        )
        planned.programs[row.id] = program, call(part.card, row.parameters, decay_1d=training.decay_1d)
    program, call_text = planned.programs[row.id]
    return Best(
        trial_id=row.id,
        number=row.number,
        value=row.value,
        test_value=row.test_value,
        test_metrics=row.test_metrics or {},
        epoch=row.best_epoch,
        parameters=row.parameters,
        python=program,
        call=call_text,
    )
