"""How each arm's result depends on its hyperparameters, and what tuning them gained."""

__all__ = ["arm_importances", "sensitivities"]

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.views import ArmSensitivity, GoodRange, IsolationPoint, Tunability
from studies.space import Fixed, Range, Scalar
from studies.statistics.importances import importances
from studies.statistics.sensitivity import Bucket, good_range, isolation
from studies.statistics.tunability import chance_to_beat, defaults_place
from studies.views import TrialView

_WITHIN: Final = 0.01
_BUDGETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def arm_importances(results: StudyResults) -> dict[str, dict[str, float]]:
    """Return the importances of each arm's searched hyperparameters, largest first; empty with few trials."""
    return {
        arm.name: importances(
            arm.view.space,
            [trial.parameters for trial in arm.spent],
            results.values(arm.spent),
            direction=results.direction,
            conditions=arm.view.conditions,
        )
        for arm in results.arms
    }


def sensitivities(
    results: StudyResults, importances_of: Mapping[str, dict[str, float]]
) -> tuple[ArmSensitivity, ...]:
    """Return every arm's sensitivity, in order.

    Args:
        results: the study.
        importances_of: the result of `arm_importances`.
    """
    return tuple(_sensitivity(results, arm, importances_of[arm.name]) for arm in results.arms)


def _sensitivity(results: StudyResults, arm: ArmResults, importance: dict[str, float]) -> ArmSensitivity:
    buckets, trials = _buckets(results, arm)
    near_best = good_range(buckets, direction=results.direction, within=_WITHIN)
    good = None
    if near_best is not None:
        factor = near_best.high / near_best.low if near_best.low > 0 else None
        good = GoodRange(within=_WITHIN, low=near_best.low, high=near_best.high, factor=factor)
    return ArmSensitivity(
        arm=arm.name,
        lr=tuple(
            IsolationPoint(
                low=each.low,
                high=each.high,
                trials=each.trials,
                diverged=each.diverged,
                best=each.best,
                number=None if each.index is None else trials[each.index].number,
            )
            for each in buckets
        ),
        good_range=good,
        importances=importance,
        tunability=_tunability(results, arm),
    )


def _buckets(results: StudyResults, arm: ArmResults) -> tuple[tuple[Bucket, ...], tuple[TrialView, ...]]:
    """Return the learning rate's isolation curve, and the trials that its buckets refer to.

    A dimension of choices has a bucket for each choice.
    """
    dimension = arm.view.space.get("lr", Fixed(value=0))
    if isinstance(dimension, Fixed):
        return (), ()
    # The defaults may lie outside the searched range.
    inside = tuple(trial for trial in arm.spent if dimension.contains(trial.parameters.get("lr", "")))
    x = np.array([_number(trial.parameters["lr"]) for trial in inside])
    values = results.values(inside)
    if isinstance(dimension, Range):
        if not inside:
            return (), ()
        return isolation(
            x, values, direction=results.direction, low=dimension.low, high=dimension.high, log=dimension.log
        ), inside
    return tuple(
        _choice(results, value, x, values)
        for value in sorted(_number(choice) for choice in dimension.choices)
    ) if inside else (), inside


def _choice(results: StudyResults, value: float, x: np.ndarray, values: np.ndarray) -> Bucket:
    members = np.flatnonzero((x == value) & ~np.isnan(values))
    finite = members[np.isfinite(values[members])]
    index = int(finite[np.argmax(results.sign * values[finite])]) if finite.size else None
    best = None if index is None else float(values[index])
    return Bucket(
        low=value,
        high=value,
        trials=int(members.size),
        diverged=int(members.size - finite.size),
        best=best,
        index=index,
    )


def _tunability(results: StudyResults, arm: ArmResults) -> Tunability:
    defaults = math.nan if arm.defaults is None else float(results.values([arm.defaults.trial])[0])
    first = results.arms[0].defaults
    baseline = math.nan if first is None else float(results.values([first.trial])[0])
    drawn = results.values([trial for trial in arm.spent if trial.origin != "default"])
    place = defaults_place(defaults, drawn, direction=results.direction)
    known = int(np.count_nonzero(~np.isnan(drawn)))
    chances: dict[int, float] = {}
    if results.is_exchangeable and known and not math.isnan(baseline):
        trials = [*(k for k in _BUDGETS if k < known), known]
        found = chance_to_beat(drawn, trials, baseline=baseline, direction=results.direction)
        chances = {k: float(chance) for k, chance in zip(trials, found, strict=True)}
    return Tunability(
        defaults_value=defaults if math.isfinite(defaults) else None,
        defaults_rank=place.rank,
        gain=place.gain,
        baseline=None if math.isnan(baseline) else results.arms[0].name,
        chance_to_beat=chances,
    )


def _number(value: Scalar) -> float:
    return math.nan if isinstance(value, bool | str) else float(value)
