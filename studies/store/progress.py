"""Progress of arms: trials of the search by state and, counted apart, confirmation runs."""

__all__ = ["ProgressCache", "arm_progress"]

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, case, func, select

from studies.confirmation import REPEATED_STATES, confirms, missing_runs, most_runs
from studies.direction import sign
from studies.promotion import planned_epochs
from studies.resolve import ResolvedArm
from studies.seeds import confirmation_seeds
from studies.space import configuration_key
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES, FINISHED_TRIAL_STATES, StudyState, TrialState
from studies.store import plans, tables
from studies.store.plans import Planned
from studies.store.trial_rows import IS_WAITING
from studies.views import Progress

# In these states an arm whose search ends goes on to be confirmed; a search that was cut off is not.
_CONFIRMING = frozenset({StudyState.QUEUED.value, StudyState.RUNNING.value, StudyState.PAUSED.value})
_CLOSED = frozenset(state.value for state in CLOSED_STUDY_STATES)
_T = tables.trial.c
_Count = TypeVar("_Count")
# An entry takes a few hundred bytes per arm.
_MAX_ENTRIES = 20_000


_COUNTED = (
    select(
        _T.study_id,
        _T.arm,
        _T.phase,
        _T.state,
        func.count().label("trials"),
        func.sum(_T.epochs_done).label("epochs"),
        func.sum(case((IS_WAITING, 1), else_=0)).label("waiting"),
    )
    .where(_T.study_id.in_(bindparam("ids", expanding=True)))
    .group_by(_T.study_id, _T.arm, _T.phase, _T.state)
)


class ProgressCache:
    """Caches counts of closed studies, which change only with a study's version.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        """Make an empty cache."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str, int], Any] = OrderedDict()

    def get_or_count(
        self, kind: str, rows: Sequence[Any], count: Callable[[Sequence[Any]], Mapping[str, _Count]]
    ) -> dict[str, _Count]:
        """Return the counts of these studies by id, from the cache where they are there.

        Args:
            kind: what is counted.
            rows: the studies' rows, each with id, state and version.
            count: counts for some of these rows, and returns the counts by study id.
        """
        with self._lock:
            found: dict[str, _Count] = {
                row.id: self._entries[key]
                for row in rows
                if (key := (kind, row.id, row.version)) in self._entries
            }
        missing = [row for row in rows if row.id not in found]
        counted: Mapping[str, _Count] = count(missing) if missing else {}
        with self._lock:
            self._entries.update(
                {
                    (kind, row.id, row.version): counted[row.id]
                    for row in rows
                    if row.id in counted and row.state in _CLOSED
                }
            )
            while len(self._entries) > _MAX_ENTRIES:
                self._entries.popitem(last=False)
        return {**found, **counted}


def arm_progress(connection: Connection, rows: Sequence[Any]) -> dict[str, dict[str, Progress]]:
    """Return the progress of every arm: study id, then arm name, in the order of the arms.

    Args:
        connection: an open transaction.
        rows: the studies' rows, each with its state and the columns of `plans.STAMP`.
    """
    planned = plans.planned_studies(connection, rows)
    searched, confirmed = _counts(connection, [row.id for row in rows])
    found: dict[str, dict[str, Progress]] = {}
    for row in rows:
        spec, plan = planned[row.id].spec, planned[row.id].plan
        replicates, seeds = spec.budget.replicates, spec.confirmation.seeds
        found[row.id] = {}
        for arm in plan.arms:
            count, runs = searched[row.id, arm.name], confirmed[row.id, arm.name]
            finished = sum(count[state] for state in FINISHED_TRIAL_STATES)
            is_confirmed = seeds > 0 and row.state in _CONFIRMING
            missing = (
                _count_missing_runs(
                    connection, row.id, arm, planned[row.id], search=count, runs=runs["trials"]
                )
                if is_confirmed
                else 0
            )
            found[row.id][arm.name] = Progress(
                trials=arm.trials * replicates,
                finished=finished,
                waiting=count["waiting"],
                epochs_done=count["epochs"],
                epochs=replicates
                * planned_epochs(
                    spec.pruner,
                    plan.epochs,
                    trials=arm.trials,
                    paired=_pairs_by_now(spec, arm.trials),
                ),
                confirmations=runs["trials"] + missing,
                confirmations_finished=sum(runs[state] for state in FINISHED_TRIAL_STATES),
                confirmations_running=runs[TrialState.RUNNING],
                **{state: count[state] for state in (*FINISHED_TRIAL_STATES, TrialState.RUNNING)},
            )
    return found


def _pairs_by_now(spec: StudySpec, trials: int) -> int:
    """Return how many of an arm's trials in a replicate are pairs, with those that were added."""
    paired = spec.search.paired
    if spec.search.until is None:
        return paired
    return max(paired, trials - (spec.budget.trials_per_arm - paired))


def _count_missing_runs(
    connection: Connection,
    study_id: str,
    arm: ResolvedArm,
    planned: Planned,
    *,
    search: Mapping[str, int],
    runs: int,
) -> int:
    """Return how many confirmation runs of an arm are still to be made.

    The largest possible number while the search lasts, and the exact number afterwards.

    Args:
        connection: an open transaction.
        study_id: the study.
        arm: the arm.
        planned: the study's spec and plan.
        search: number of trials of the arm's search in each state.
        runs: number of confirmation runs that exist.
    """
    spec = planned.spec
    replicates = spec.budget.replicates
    is_over = sum(search[state] for state in FINISHED_TRIAL_STATES) >= arm.trials * replicates
    if is_over and not confirms(state for state in FINISHED_TRIAL_STATES if search[state]):
        return 0
    if not is_over and not runs:
        return most_runs(replicates=replicates, seeds=spec.confirmation.seeds)
    t = tables.trial.c
    of_arm = (t.study_id == study_id, t.arm == arm.name)
    is_made = (t.phase == "confirmation", t.state.not_in([state.value for state in REPEATED_STATES]))
    made = {
        (configuration_key(run.parameters), run.seed)
        for run in connection.execute(select(t.parameters, t.seed).where(*of_arm, *is_made))
    }
    seeds = confirmation_seeds(spec.seed, spec.confirmation.seeds)
    if not is_over:
        of_bests = most_runs(replicates=replicates, seeds=len(seeds)) - len(seeds)
        return sum(1 for _ in missing_runs([arm.defaults], seeds, made)) + of_bests
    value = t.value.desc() if sign(planned.plan.workload.direction) == 1 else t.value
    place = func.row_number().over(partition_by=t.replicate, order_by=(value, t.number)).label("place")
    has_value = (t.phase == "search", t.state == TrialState.COMPLETED.value, t.value.is_not(None))
    ranked = select(t.parameters, place).where(*of_arm, *has_value).subquery()
    best = connection.execute(select(ranked.c.parameters).where(ranked.c.place == 1)).scalars()
    return sum(1 for _ in missing_runs([arm.defaults, *best], seeds, made))


def _counts(
    connection: Connection, ids: Sequence[str]
) -> tuple[dict[tuple[str, str], dict[str, int]], dict[tuple[str, str], dict[str, int]]]:
    """Return counts by (study, arm) of searches, and of confirmations.

    A search's are trials by state, `epochs` and `waiting`; a confirmation's trials by state and `trials`.
    """
    searched: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    confirmed: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in connection.execute(_COUNTED, {"ids": ids}):
        if row.phase == "search":
            count = searched[row.study_id, row.arm]
            count["epochs"] += row.epochs
            count["waiting"] += row.waiting
        else:
            count = confirmed[row.study_id, row.arm]
            count["trials"] += row.trials
        count[row.state] = row.trials
    return searched, confirmed
