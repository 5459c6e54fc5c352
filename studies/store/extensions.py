"""Extensions: a completed study gets more arms, trials, replicates or fresh seeds, and is queued again."""

__all__ = ["extend", "plan_trials", "planned"]

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from studies.actors import Actor
from studies.catalog import Catalog
from studies.extension import Extension, extended, with_actual_budget, with_judged_pairs
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.states import StudyMove, StudyState, move_study
from studies.store import audit, clock, events, quotas, study_queries, submissions, tables


def extend(
    connection: Connection,
    study_id: str,
    extension: Extension,
    catalog: Catalog,
    *,
    by: Actor,
    if_version: int | None,
) -> None:
    """Store a study's extended spec and plan, and queue the study again; its trials stay as they are.

    Raises:
        StudyNotFound: the study does not exist.
        Unauthenticated, Forbidden, NotOwner: the actor may not change the study.
        QuotaExceeded: the extended study exceeds its owner's quota.
        VersionConflict: the study changed since `if_version`.
        IllegalMove: the study has not completed.
        CatalogEmpty, SpecInvalid: as `studies.extension.extended` does.
    """
    row = submissions.lock_version(connection, study_id, by=by, if_version=if_version)
    spec, plan = planned(connection, study_id, extension, catalog)
    quotas.check(connection, quotas.lock(connection, row.owner), spec, plan)
    _write(connection, study_id, spec, plan)
    data = extension.model_dump(mode="json", exclude_none=True, exclude=None if extension.arms else {"arms"})
    events.append(connection, study_id, [("study.extended", data)])
    submissions.change_state(
        connection, row, move_study(StudyState(row.state), StudyMove.EXTEND), reason=None
    )
    audit.record(connection, by, submissions.AUDITED[StudyMove.EXTEND], study_id=study_id)


def planned(
    connection: Connection, study_id: str, extension: Extension, catalog: Catalog
) -> tuple[StudySpec, ResolvedStudy]:
    """Return a study's spec and plan as an extension would make them, without storing anything.

    Raises:
        StudyNotFound: the study does not exist.
        IllegalMove: the study has not completed.
        CatalogEmpty, SpecInvalid: as `studies.extension.extended` does.
    """
    now = study_queries.study(connection, study_id)
    move_study(now.state, StudyMove.EXTEND)
    search, t = now.spec.search, tables.trial.c
    begun = _counts(connection, study_id)
    judged = _counts(connection, study_id, t.pair_index < search.paired, t.replicate < search.replicates)
    added = _counts(connection, study_id, t.pair_index >= search.paired)
    as_run = with_actual_budget(
        with_judged_pairs(now.spec, _of_each(begun, sum), _of_each(judged, sum)),
        study_queries.resolved(connection, study_id),
        _of_each(begun, max),
        _of_each(added, max),
    )
    return extended(*as_run, extension, catalog)


def plan_trials(connection: Connection, study_id: str, trials: Mapping[str, int]) -> None:
    """Store how many trials each arm runs in a replicate, by its name."""
    plan = study_queries.resolved(connection, study_id)
    replicates = study_queries.study(connection, study_id).spec.budget.replicates
    arms = tuple(arm.model_copy(update={"trials": trials.get(arm.name, arm.trials)}) for arm in plan.arms)
    resolved = plan.model_copy(update={"arms": arms}).model_dump(mode="json")
    connection.execute(update(tables.study).where(tables.study.c.id == study_id).values(resolved=resolved))
    a = tables.arm.c
    for name, count in trials.items():
        connection.execute(
            update(tables.arm).where(a.study_id == study_id, a.name == name).values(trials=count * replicates)
        )


def _counts(connection: Connection, study_id: str, *conditions: ColumnElement[bool]) -> dict[str, list[int]]:
    """Return how many trials of each arm's search meet all conditions, in each replicate that has any."""
    t = tables.trial.c
    counted = (
        select(t.arm, func.count().label("trials"))
        .where(t.study_id == study_id, t.phase == "search", *conditions)
        .group_by(t.arm, t.replicate)
    )
    found: dict[str, list[int]] = {}
    for row in connection.execute(counted):
        found.setdefault(row.arm, []).append(row.trials)
    return found


def _of_each(counts: Mapping[str, list[int]], total: Callable[[list[int]], int]) -> dict[str, int]:
    return {arm: total(of_replicates) for arm, of_replicates in counts.items()}


def _write(connection: Connection, study_id: str, spec: StudySpec, plan: ResolvedStudy) -> None:
    a, s = tables.arm.c, tables.study.c
    # The run that closed the study may still be alive: a new attempt rejects its writes.
    values: dict[str, Any] = {"attempt": s.attempt + 1, "queued_at": clock.now(connection)}
    # It is open again.
    values["archived_at"] = None
    values |= {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "resolved": plan.model_dump(mode="json"),
    }
    connection.execute(update(tables.study).where(s.id == study_id).values(**values))
    stored = connection.execute(select(func.count()).where(a.study_id == study_id)).scalar_one()
    rows = [submissions.arm_row(study_id, n, arm, spec) for n, arm in enumerate(plan.arms)]
    for arm in rows[:stored]:
        connection.execute(
            update(tables.arm)
            .where(a.study_id == study_id, a.position == arm["position"])
            .values(trials=arm["trials"])
        )
    if rows[stored:]:
        connection.execute(insert(tables.arm), rows[stored:])
