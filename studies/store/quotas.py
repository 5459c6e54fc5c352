"""Quotas: how much each token may use, and the errors for requests that exceed it."""

__all__ = [
    "Quota",
    "check",
    "check_gpu_hours",
    "count_open_studies",
    "gpu_hours",
    "gpu_seconds",
    "lock",
    "read",
]

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from studies.confirmation import most_runs
from studies.errors import QuotaExceeded
from studies.extension import most_search_trials
from studies.formatting import plural
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES
from studies.store import tables
from studies.views import Quotas

_SECONDS_PER_HOUR = 3600.0
_ASK = "or ask an admin for more (`tangent token quota`)"


@dataclass(frozen=True)
class Quota:
    """A token and its bounds.

    Attributes:
        owner: name of the token.
        quotas: its bounds.
    """

    owner: str
    quotas: Quotas


def read(connection: Connection, owner: str | None) -> Quota | None:
    """Return a token's quota, or None if there is no token and so no bound."""
    return _of(connection, owner, is_locked=False)


def lock(connection: Connection, owner: str | None) -> Quota | None:
    """Return a token's quota, and lock the token's row until the transaction ends.

    Without the lock two studies that are submitted at the same moment, to two services, could both take the
    last place.
    """
    return _of(connection, owner, is_locked=True)


def _of(connection: Connection, owner: str | None, *, is_locked: bool) -> Quota | None:
    if owner is None:
        return None
    t = tables.token.c
    query = select(*(t[name] for name in Quotas.model_fields)).where(t.name == owner)
    row = connection.execute(query.with_for_update() if is_locked else query).one_or_none()
    return (
        None
        if row is None
        else Quota(owner, Quotas(**{name: getattr(row, name) for name in Quotas.model_fields}))
    )


def check(connection: Connection, quota: Quota | None, spec: StudySpec, plan: ResolvedStudy) -> None:
    """Raise QuotaExceeded unless a new or extended study fits into its owner's quota.

    An arm with fewer configurations than the budget gives it trials counts with its configurations.

    Raises:
        QuotaExceeded: the message names the bound, what was requested and what to do.
    """
    if quota is None:
        return
    most = quota.quotas.max_trials
    trials = _most_trials(spec, plan)
    if most is not None and trials > most:
        raise QuotaExceeded(
            f"token {quota.owner!r} may run at most {plural(most, 'trial')} per study (max_trials), and this "
            f"study has {trials}, confirmation runs included; lower its budget, {_ASK}"
        )
    most = quota.quotas.max_studies
    if most is not None and (open_now := count_open_studies(connection, quota.owner)) >= most:
        raise QuotaExceeded(
            f"token {quota.owner!r} may have at most {plural(most, 'open study', 'open studies')} "
            f"(max_studies) and has {open_now}; wait until one closes, stop one, {_ASK}"
        )
    check_gpu_hours(connection, quota, spec)


def check_gpu_hours(connection: Connection, quota: Quota | None, spec: StudySpec) -> None:
    """Raise QuotaExceeded if a study needs GPUs and its owner's GPU-hours are used up."""
    if quota is None or quota.quotas.max_gpu_hours is None or spec.resources.gpus_per_pack == 0:
        return
    used = gpu_hours(connection, quota.owner)
    if used >= quota.quotas.max_gpu_hours:
        raise QuotaExceeded(
            f"token {quota.owner!r} may use {quota.quotas.max_gpu_hours:g} GPU-hours (max_gpu_hours) and has "
            f"used {used:.3g}; run the study on CPUs (`gpus_per_pack: 0`), {_ASK}"
        )


def count_open_studies(connection: Connection, owner: str) -> int:
    """Return how many of a token's studies are not closed."""
    s = tables.study.c
    is_open = s.state.not_in([state.value for state in CLOSED_STUDY_STATES])
    return connection.execute(select(func.count()).where(s.owner == owner, is_open)).scalar_one()


def gpu_hours(connection: Connection, owner: str) -> float:
    """Return the GPU-hours that a token's studies have used, also those that were deleted.

    A trial uses its share of the wall time of all its packs, times the GPUs of a pack. Evaluation, measuring
    stack widths, compiling and epochs that were lost and trained again all count.
    """
    d = tables.deletion.c
    deleted = connection.execute(select(func.sum(d.gpu_s)).where(d.owner == owner)).scalar_one() or 0.0
    return (_gpu_seconds(connection, tables.study.c.owner == owner) + deleted) / _SECONDS_PER_HOUR


def gpu_seconds(connection: Connection, study_id: str) -> float:
    """Return the GPU-seconds that a study has used."""
    return _gpu_seconds(connection, tables.study.c.id == study_id)


def _gpu_seconds(connection: Connection, condition: ColumnElement[bool]) -> float:
    s, t = tables.study.c, tables.trial.c
    gpus = s.spec["resources"]["gpus_per_pack"].as_float()
    used = (
        select(func.sum(t.charged_s * gpus)).join(tables.study, s.id == t.study_id).where(condition, gpus > 0)
    )
    return connection.execute(used).scalar_one() or 0.0


def _most_trials(spec: StudySpec, plan: ResolvedStudy) -> int:
    """Return the largest number of trials that a study can have: of its searches and its confirmation."""
    confirmations = most_runs(replicates=spec.budget.replicates, seeds=spec.confirmation.seeds)
    return most_search_trials(spec, plan) + len(plan.arms) * confirmations
