"""What each arm's search reaches with a given budget, and the budgets at which the lead changes."""

__all__ = ["budget_curves", "flips"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from studies.analysis.noise import run_noise
from studies.analysis.paired_trials import PairedArm, PairedTrials
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.views import BudgetCurve, BudgetPoint, RankFlip
from studies.formatting import percent
from studies.states import TrialState
from studies.statistics.bands import median_band
from studies.statistics.best_of_k import budgets, expected_best
from studies.statistics.best_so_far import best_so_far
from studies.statistics.budget_verdict import LEAST_PAIRS, TRIALS_PER_BUDGET
from studies.statistics.flips import lead_changes
from studies.statistics.replicates import ReplicateCurve, across_replicates
from studies.trial_values import has_value
from studies.views import TrialView

_MOST_POINTS: Final = 200
_SearchMethod = Literal["expected best of k", "best so far", "median of replicates"]
_Floats = NDArray[np.float64]
_Whole = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The trials of one arm's search.

    Attributes:
        method: how its curve is computed.
        drawn: trials with a result, in any order, without the defaults.
        given: the trial of the defaults, with which the search begins; None if it has no result.
        lines: the trials of each replicate, in the order in which they ended.
        most: the largest budget of the curve; 0 without any trial.
    """

    method: _SearchMethod
    drawn: tuple[TrialView, ...]
    given: TrialView | None
    lines: tuple[tuple[TrialView, ...], ...]
    most: int


def _search(results: StudyResults, arm: ArmResults) -> _Search:
    lines = tuple(
        line
        for r in range(len(arm.bests))
        if (line := tuple(trial for trial in arm.spent if trial.replicate == r))
    )
    known = [trial for trial in arm.spent if has_value(trial) or trial.state is TrialState.DIVERGED]
    given = next((trial for trial in known if trial.origin == "default"), None)
    drawn = tuple(trial for trial in known if trial.origin != "default")
    if len(arm.bests) > 1:
        method: _SearchMethod = "median of replicates"
    else:
        method = "expected best of k" if results.is_exchangeable else "best so far"
    most = (
        len(drawn) + int(given is not None)
        if method == "expected best of k"
        else min((len(line) for line in lines), default=0)
    )
    return _Search(method=method, drawn=drawn, given=given, lines=lines, most=most)


def budget_curves(results: StudyResults, paired: PairedTrials | None) -> tuple[BudgetCurve, ...]:
    """Return a curve for each arm in order; it has no points before a trial has ended.

    With enough paired trials they are the curves that the budget verdict compares.

    Args:
        results: the study.
        paired: its paired trials.
    """
    if paired is None or paired.primary is None:
        return tuple(_curve(results, arm) for arm in results.arms)
    counts = [len(arm.known) for arm in paired.arms]
    # An arm without enough results takes nothing from the curves of the others.
    most = min([n for n in counts if n >= LEAST_PAIRS] or counts) // TRIALS_PER_BUDGET
    trials = budgets(most, points=_MOST_POINTS) if most else np.empty(0, dtype=np.int64)
    return tuple(
        _paired_curve(paired, arm, trials[trials <= n // TRIALS_PER_BUDGET])
        for arm, n in zip(paired.arms, counts, strict=True)
    )


def flips(results: StudyResults) -> tuple[RankFlip, ...]:
    """Return the budgets at which another arm takes the lead by validation.

    The budgets end where the shortest search with a result does. Leads smaller than the standard deviation of
    one configuration's value over seeds do not count. There are none where the budget verdict says which
    lead holds.
    """
    if results.has_enough_pairs:
        return ()
    searches = {arm.name: search for arm in results.arms if (search := _search(results, arm)).most}
    if len(searches) < 2:
        return ()
    trials = budgets(min(search.most for search in searches.values()), points=_MOST_POINTS)
    curves = {name: _values(results, search, trials) for name, search in searches.items()}
    found = lead_changes(curves, trials, direction=results.direction, margin=run_noise(results))
    return tuple(RankFlip(trials=flip.trials, before=flip.before, after=flip.after) for flip in found)


def _values(results: StudyResults, search: _Search, trials: _Whole) -> _Floats:
    """Return an arm's value at each budget, [K]; NaN before it has one."""
    match search.method:
        case "median of replicates":
            return _median(results, search).median[trials - 1]
        case "expected best of k":
            return expected_best(
                results.values(search.drawn),
                trials,
                direction=results.direction,
                given=_given(results, search),
            )
        case "best so far":
            return _so_far(results, search.lines[0])[trials - 1]


def _paired_curve(paired: PairedTrials, arm: PairedArm, trials: _Whole) -> BudgetCurve:
    values = paired.reached(arm, trials) if trials.size else np.empty(0)
    epochs, seconds = (
        float(np.mean([cost(trial) for trial in arm.known])) if arm.known else 0.0
        for cost in (_epochs, _seconds)
    )
    return BudgetCurve(
        arm=arm.name,
        method="expected test value of the choice",
        band=None,
        points=tuple(
            BudgetPoint(trials=int(k), epochs=int(k) * epochs, elapsed_s=int(k) * seconds, value=_known(v))
            for k, v in zip(trials, values, strict=True)
        ),
    )


def _curve(results: StudyResults, arm: ArmResults) -> BudgetCurve:
    search = _search(results, arm)
    if not search.most:
        return BudgetCurve(arm=arm.name, method=search.method, band=None, points=())
    is_step = search.method == "best so far"
    trials = (
        _steps(_so_far(results, search.lines[0])) if is_step else budgets(search.most, points=_MOST_POINTS)
    )
    low, high, description = _band(results, search, trials)
    epochs, seconds = (_spent(search, trials, cost=cost) for cost in (_epochs, _seconds))
    columns = (trials, epochs, seconds, _values(results, search, trials), low, high)
    return BudgetCurve(
        arm=arm.name,
        method=search.method,
        band=description,
        points=tuple(
            BudgetPoint(
                trials=int(k),
                epochs=float(e),
                elapsed_s=float(s),
                value=_known(v),
                low=_known(lo),
                high=_known(hi),
            )
            for k, e, s, v, lo, hi in zip(*columns, strict=True)
        ),
    )


def _band(results: StudyResults, search: _Search, trials: _Whole) -> tuple[_Floats, _Floats, str | None]:
    """Return the ends of the band at each budget, [K], NaN where there is none, and its description."""
    if search.method == "median of replicates":
        spread = _median(results, search)
        if spread.confidence is not None:
            description = f"{percent(spread.confidence)} interval of the median search, pointwise"
            return spread.low[trials - 1], spread.high[trials - 1], description
    elif search.method == "expected best of k":
        band = median_band(
            results.values(search.drawn), trials, direction=results.direction, given=_given(results, search)
        )
        if band is not None:
            return (
                band.low,
                band.high,
                f"{percent(0.95)} band of the median best of k, simultaneous over all budgets",
            )
    nothing = np.full(len(trials), math.nan)
    return nothing, nothing, None


def _given(results: StudyResults, search: _Search) -> float | None:
    return None if search.given is None else float(results.values([search.given])[0])


def _so_far(results: StudyResults, line: Sequence[TrialView]) -> _Floats:
    return best_so_far(
        [trial.value if has_value(trial) and trial.value is not None else math.nan for trial in line],
        results.direction,
    )


def _median(results: StudyResults, search: _Search) -> ReplicateCurve:
    return across_replicates([_so_far(results, line) for line in search.lines], direction=results.direction)


def _epochs(trial: TrialView) -> float:
    return float(trial.epochs_done)


def _seconds(trial: TrialView) -> float:
    return trial.cost_s


def _spent(search: _Search, trials: _Whole, *, cost: Callable[[TrialView], float]) -> _Floats:
    """Return the cost of each budget, [K].

    For exchangeable trials it is the average; otherwise it is summed in order and averaged over replicates.
    """
    if search.method == "expected best of k":
        mean = float(np.mean([cost(trial) for trial in search.drawn])) if search.drawn else 0.0
        first = mean if search.given is None else cost(search.given)
        return first + (trials.astype(np.float64) - 1) * mean
    lines = np.array(
        [np.cumsum([cost(trial) for trial in line[: search.most]])[trials - 1] for line in search.lines],
        dtype=np.float64,
    )
    return lines.sum(axis=0) / len(lines)


def _steps(values: _Floats) -> _Whole:
    """Return the budgets at which a best-so-far curve changes, and its ends.

    If there are too many, a selection evenly spaced on a log scale.
    """
    # NaN is not equal to itself.
    filled = np.nan_to_num(values, nan=math.inf)
    changed = np.flatnonzero(filled[1:] != filled[:-1]) + 2
    every = np.unique(np.concatenate([[1], changed, [len(values)]]))
    return every if len(every) <= _MOST_POINTS else every[budgets(len(every), points=_MOST_POINTS) - 1]


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
