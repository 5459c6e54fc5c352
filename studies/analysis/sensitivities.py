"""How each arm's result hangs on its hyperparameters, and what tuning them was worth."""

__all__ = ["sensitivities", "shares"]

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


def shares(reading: StudyResults) -> dict[str, dict[str, float]]:
    """Return the importances of each arm's searched hyperparameters, largest first.

    Empty with too few trials.
    """
    return {
        arm.name: importances(
            arm.view.space,
            [trial.parameters for trial in arm.spent],
            reading.values(arm.spent),
            direction=reading.direction,
            conditions=arm.view.optimizer.conditions,
        )
        for arm in reading.arms
    }


def sensitivities(
    reading: StudyResults, importances_of: Mapping[str, dict[str, float]]
) -> tuple[ArmSensitivity, ...]:
    """Return every arm's sensitivity, in order.

    Args:
        reading: the study.
        importances_of: what `shares` returned.
    """
    return tuple(_sensitivity(reading, arm, importances_of[arm.name]) for arm in reading.arms)


def _sensitivity(reading: StudyResults, arm: ArmResults, importance: dict[str, float]) -> ArmSensitivity:
    buckets, trials = _buckets(reading, arm)
    stretch = good_range(buckets, direction=reading.direction, within=_WITHIN)
    good = None
    if stretch is not None:
        factor = stretch.high / stretch.low if stretch.low > 0 else None
        good = GoodRange(within=_WITHIN, low=stretch.low, high=stretch.high, factor=factor)
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
        tunability=_tunability(reading, arm),
    )


def _buckets(reading: StudyResults, arm: ArmResults) -> tuple[tuple[Bucket, ...], tuple[TrialView, ...]]:
    """Return the learning rate's isolation curve and the trials that it indexes.

    A choice of values has a bucket for each.
    """
    dimension = arm.view.space.get("lr", Fixed(value=0))
    if isinstance(dimension, Fixed):
        return (), ()
    # The defaults may lie outside of what was searched.
    inside = tuple(trial for trial in arm.spent if dimension.contains(trial.parameters.get("lr", "")))
    x = np.array([_number(trial.parameters["lr"]) for trial in inside])
    values = reading.values(inside)
    if isinstance(dimension, Range):
        if not inside:
            return (), ()
        return isolation(
            x, values, direction=reading.direction, low=dimension.low, high=dimension.high, log=dimension.log
        ), inside
    return tuple(
        _choice(reading, value, x, values)
        for value in sorted(_number(choice) for choice in dimension.choices)
    ) if inside else (), inside


def _choice(reading: StudyResults, value: float, x: np.ndarray, values: np.ndarray) -> Bucket:
    told = np.flatnonzero((x == value) & ~np.isnan(values))
    finite = told[np.isfinite(values[told])]
    index = int(finite[np.argmax(reading.sign * values[finite])]) if finite.size else None
    best = None if index is None else float(values[index])
    return Bucket(
        low=value,
        high=value,
        trials=int(told.size),
        diverged=int(told.size - finite.size),
        best=best,
        index=index,
    )


def _tunability(reading: StudyResults, arm: ArmResults) -> Tunability:
    defaults = math.nan if arm.defaults is None else float(reading.values([arm.defaults.trial])[0])
    first = reading.arms[0].defaults
    baseline = math.nan if first is None else float(reading.values([first.trial])[0])
    drawn = reading.values([trial for trial in arm.spent if trial.origin != "default"])
    place = defaults_place(defaults, drawn, direction=reading.direction)
    results = int(np.count_nonzero(~np.isnan(drawn)))
    chances: dict[int, float] = {}
    if reading.is_exchangeable and results and not math.isnan(baseline):
        trials = [*(k for k in _BUDGETS if k < results), results]
        found = chance_to_beat(drawn, trials, baseline=baseline, direction=reading.direction)
        chances = {k: float(chance) for k, chance in zip(trials, found, strict=True)}
    return Tunability(
        defaults_value=defaults if math.isfinite(defaults) else None,
        defaults_rank=place.rank,
        gain=place.gain,
        baseline=None if math.isnan(baseline) else reading.arms[0].name,
        chance_to_beat=chances,
    )


def _number(value: Scalar) -> float:
    return math.nan if isinstance(value, bool | str) else float(value)
